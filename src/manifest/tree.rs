//! The manifest as a tree whose nodes know where they stand. Aliases and merge keys are already expanded.

use std::fmt;

use serde::Serialize;

use super::scalar::ScalarKind;

/// A place in the manifest's text. Both count from 1; columns are characters, not bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Position {
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) value: Value,
}

#[derive(Debug, Clone)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

#[derive(Debug, Clone)]
pub(super) struct Scalar {
    /// After YAML's escapes: what the user means, not how it was quoted.
    pub(super) text: String,
    pub(super) kind: ScalarKind,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) value: Node,
}

#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) position: Position,
    pub(super) text: String,
    /// What the key would be as a value: Kubernetes turns a plain `yes:` into `"true":`.
    pub(super) kind: ScalarKind,
}

/// What a node costs besides its text; about the size of one in memory, so that a budget in bytes means something.
const NODE_COST: usize = 64;

impl Node {
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.kind == ScalarKind::Null)
    }

    /// `""`, `[]` or `{}`.
    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Scalar(scalar) => scalar.kind == ScalarKind::String && scalar.text.is_empty(),
            Value::Sequence(items) => items.is_empty(),
            Value::Mapping(entries) => entries.is_empty(),
        }
    }

    pub(super) fn field(&self, name: &str) -> Option<&Node> {
        let Value::Mapping(entries) = &self.value else { return None };
        entries.iter().find(|entry| entry.key.text == name).map(|entry| &entry.value)
    }

    pub(super) fn items(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            Value::Scalar(_) | Value::Mapping(_) => None,
        }
    }

    /// Of a string.
    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) if scalar.kind == ScalarKind::String => Some(&scalar.text),
            _ => None,
        }
    }

    /// The node at a path like `spec.containers[0].name`. A key may have dots in it (`metadata.annotations.example.com/a`):
    /// the longest one that fits is taken.
    pub(super) fn at(&self, path: &str) -> Option<&Node> {
        if path.is_empty() {
            return Some(self);
        }
        let path = path.strip_prefix('.').unwrap_or(path);
        match &self.value {
            Value::Scalar(_) => None,
            Value::Sequence(items) => {
                let (index, rest) = path.strip_prefix('[')?.split_once(']')?;
                items.get(index.parse::<usize>().ok()?)?.at(rest)
            }
            Value::Mapping(entries) => {
                let fits = |entry: &&Entry| {
                    let rest = path.strip_prefix(entry.key.text.as_str());
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                };
                let entry = entries.iter().filter(fits).max_by_key(|entry| entry.key.text.len())?;
                entry.value.at(&path[entry.key.text.len()..])
            }
        }
    }

    /// Bytes that a copy of this node takes, roughly.
    pub(super) fn cost(&self) -> usize {
        let below = match &self.value {
            Value::Scalar(scalar) => scalar.text.len(),
            Value::Sequence(items) => items.iter().map(Node::cost).sum(),
            Value::Mapping(entries) => entries.iter().map(Entry::cost).sum(),
        };
        NODE_COST + below
    }

    /// 1 for a scalar, one more for each level of nesting.
    pub(super) fn height(&self) -> usize {
        let below = match &self.value {
            Value::Scalar(_) => 0,
            Value::Sequence(items) => items.iter().map(Node::height).max().unwrap_or(0),
            Value::Mapping(entries) => entries.iter().map(|entry| entry.value.height()).max().unwrap_or(0),
        };
        1 + below
    }
}

impl Entry {
    pub(super) fn cost(&self) -> usize {
        NODE_COST + self.key.text.len() + self.value.cost()
    }
}
