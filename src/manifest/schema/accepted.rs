//! Values of a field that say what is so anyway, and so are accepted without effect.

use std::fmt;

use crate::manifest::scalar::ScalarKind;
use crate::manifest::tree::{Entry, Node, Value};

/// Which values a field may have though sandpod does not support it.
#[derive(Debug)]
pub(in crate::manifest) enum Accepted {
    /// `null` alone: that the field is there says something, as with a volume's source.
    Null,
    /// `null`, `""`, `[]` and `{}`: they ask for nothing. The variants below accept these, too.
    Empty,
    Words(&'static [&'static str]),
    Bools(&'static [bool]),
    Number(i64),
    /// A mapping of these fields, each optional.
    Fields(&'static [(&'static str, Accepted)]),
    /// A list of such items.
    Each(&'static Accepted),
}

impl Accepted {
    pub(in crate::manifest) fn takes(&self, node: &Node) -> bool {
        if node.is_null() || (!matches!(self, Accepted::Null) && node.is_empty()) {
            return true;
        }
        match (self, &node.value) {
            (Accepted::Words(words), Value::Scalar(scalar)) => {
                scalar.kind == ScalarKind::String && words.contains(&scalar.text.as_str())
            }
            (Accepted::Bools(bools), Value::Scalar(scalar)) => {
                bools.iter().any(|value| scalar.kind == ScalarKind::Bool(*value))
            }
            (Accepted::Number(number), Value::Scalar(scalar)) => scalar.kind == ScalarKind::Integer(*number),
            (Accepted::Fields(fields), Value::Mapping(entries)) => {
                let takes = |entry: &Entry| {
                    fields.iter().any(|(name, accepted)| *name == entry.key.text && accepted.takes(&entry.value))
                };
                entries.iter().all(takes)
            }
            (Accepted::Each(item), Value::Sequence(items)) => items.iter().all(|node| item.takes(node)),
            _ => false,
        }
    }

    /// Whether it has more to name than what is empty.
    pub(in crate::manifest) fn is_named(&self) -> bool {
        !matches!(self, Accepted::Null | Accepted::Empty)
    }
}

/// As it is written in a manifest, alternatives by `or`.
impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Accepted::Null => f.write_str("null"),
            Accepted::Empty => f.write_str("empty"),
            Accepted::Words(words) => f.write_str(&words.join(" or ")),
            Accepted::Bools(bools) => {
                f.write_str(&bools.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "))
            }
            Accepted::Number(number) => number.fmt(f),
            Accepted::Fields(fields) => {
                let fields: Vec<_> = fields.iter().map(|(name, accepted)| format!("{name}: {accepted}")).collect();
                write!(f, "{{{}}}", fields.join(", "))
            }
            Accepted::Each(item) => write!(f, "[{item}, …]"),
        }
    }
}
