//! Reading the tree by type: a slot is a value with its place and path, an object a mapping whose fields are taken one
//! by one. What nobody took when an object is finished is refused, so accepting a field takes code that reads it.

use std::ops::RangeInclusive;

use super::problem::{Problems, excerpt};
use super::scalar::ScalarKind;
use super::schema::Schema;
use super::tree::{Entry, Key, Node, Position, Scalar, Value};
use crate::nearest::nearest;

mod refusal;

/// A value, and how to speak of it.
#[derive(Debug, Clone)]
pub(super) struct Slot<'t> {
    node: &'t Node,
    pub(super) path: String,
}

/// A mapping that is being read.
#[derive(Debug)]
pub(super) struct Object<'t> {
    entries: &'t [Entry],
    taken: Vec<bool>,
    pub(super) position: Position,
    path: String,
    schema: &'static Schema,
}

impl<'t> Slot<'t> {
    /// `path`: empty for a document, `items[0]` for an item of a List.
    pub(super) fn at(node: &'t Node, path: String) -> Slot<'t> {
        Slot { node, path }
    }

    pub(super) fn position(&self) -> Position {
        self.node.position
    }

    pub(super) fn invalid(&self, problems: &mut Problems, message: impl Into<String>) {
        problems.add(self.position(), &self.path, message);
    }

    /// Reads a mapping; fields that `read` leaves are refused.
    pub(super) fn object<T>(
        &self,
        schema: &'static Schema,
        problems: &mut Problems,
        read: impl FnOnce(&mut Object<'t>, &mut Problems) -> T,
    ) -> Option<T> {
        let Value::Mapping(entries) = &self.node.value else {
            let message =
                format!("must be a mapping, not {}; its fields: {}", self.describe(), schema.supported.join(", "));
            self.invalid(problems, message);
            return None;
        };
        let taken = vec![false; entries.len()];
        let mut object = Object { entries, taken, position: self.position(), path: self.path.clone(), schema };
        let result = read(&mut object, problems);
        object.finish(problems);
        Some(result)
    }

    /// The items of a list; none when it is something else.
    pub(super) fn list(&self, problems: &mut Problems) -> Vec<Slot<'t>> {
        if let Value::Sequence(items) = &self.node.value {
            let slot = |(index, node)| Slot { node, path: format!("{}[{index}]", self.path) };
            return items.iter().enumerate().map(slot).collect();
        }
        let message = format!("must be a list, not {}; {}", self.describe(), self.as_list());
        self.invalid(problems, message);
        Vec::new()
    }

    /// How what is no list would be written as one.
    fn as_list(&self) -> String {
        let field = self.path.rsplit('.').next().unwrap_or_default();
        match &self.node.value {
            Value::Mapping(_) if field == "env" => "write `- name: NAME` and below it `value: \"VALUE\"`".to_owned(),
            Value::Scalar(scalar) if matches!(field, "command" | "args") => words_of_a_command(field, &scalar.text),
            Value::Scalar(scalar) => format!("write [\"{}\"]", excerpt(&scalar.text)),
            Value::Mapping(_) | Value::Sequence(_) => "start each item with `- `".to_owned(),
        }
    }

    pub(super) fn strings(&self, problems: &mut Problems) -> Vec<String> {
        let items = self.list(problems);
        items.iter().filter_map(|item| item.string(problems)).map(str::to_owned).collect()
    }

    /// The entries of a mapping from names to strings: labels, annotations.
    pub(super) fn string_map(&self, problems: &mut Problems) -> Vec<(&'t Key, Slot<'t>)> {
        let Value::Mapping(entries) = &self.node.value else {
            self.invalid(problems, format!("must be a mapping of names to strings, not {}", self.describe()));
            return Vec::new();
        };
        let slot =
            |entry: &'t Entry| Slot { node: &entry.value, path: format!("{}.{}", self.path, excerpt(&entry.key.text)) };
        entries.iter().map(|entry| (&entry.key, slot(entry))).collect()
    }

    pub(super) fn string(&self, problems: &mut Problems) -> Option<&'t str> {
        match &self.node.value {
            // Neither exec(2) nor mount(2) can be given a NUL, and no name may hold one.
            Value::Scalar(scalar) if scalar.kind == ScalarKind::String && scalar.text.contains('\0') => {
                self.invalid(problems, "must not contain a NUL character");
                None
            }
            Value::Scalar(scalar) if scalar.kind == ScalarKind::String => Some(&scalar.text),
            Value::Scalar(scalar) if scalar.kind != ScalarKind::Null => {
                let message = format!(
                    "must be a string, not {}; it must be quoted: \"{}\"",
                    self.describe(),
                    excerpt(&scalar.text)
                );
                self.invalid(problems, message);
                None
            }
            _ => {
                self.invalid(problems, format!("must be a string, not {}", self.describe()));
                None
            }
        }
    }

    pub(super) fn boolean(&self, problems: &mut Problems) -> Option<bool> {
        if let Some(Scalar { kind: ScalarKind::Bool(value), .. }) = self.scalar() {
            return Some(*value);
        }
        let meant = self.scalar().and_then(|scalar| match ScalarKind::of_plain(&scalar.text) {
            ScalarKind::Bool(value) | ScalarKind::LegacyBool(value) => Some(value),
            _ => None,
        });
        let fix = meant.map_or("write true or false".to_owned(), |value| format!("write {value}, without quotes"));
        self.invalid(problems, format!("must be a bool, not {}; {fix}", self.describe()));
        None
    }

    pub(super) fn integer(&self, range: RangeInclusive<i64>, problems: &mut Problems) -> Option<i64> {
        let allowed = format!("from {} to {}", range.start(), range.end());
        match self.scalar() {
            Some(Scalar { kind: ScalarKind::Integer(value), .. }) if range.contains(value) => Some(*value),
            Some(Scalar { kind: ScalarKind::Integer(_) | ScalarKind::HugeInteger, text }) => {
                self.invalid(problems, format!("must be a whole number {allowed}, not {}", excerpt(text)));
                None
            }
            Some(Scalar { kind: ScalarKind::String, text })
                if matches!(ScalarKind::of_plain(text), ScalarKind::Integer(_)) =>
            {
                self.invalid(
                    problems,
                    format!("must be a whole number {allowed}, not a string; write {}, without quotes", excerpt(text)),
                );
                None
            }
            _ => {
                self.invalid(problems, format!("must be a whole number {allowed}, not {}", self.describe()));
                None
            }
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)], problems: &mut Problems) -> Option<T> {
        let word = self.string(problems)?;
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return Some(*value);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let shown: Vec<&str> = names.iter().map(|name| if name.is_empty() { "\"\"" } else { name }).collect();
        let mut message = format!("`{}` is not one of {}", excerpt(word), shown.join(", "));
        if let Some((name, _)) = nearest(word, names) {
            message.push_str(&format!("; did you mean `{name}`?"));
        }
        self.invalid(problems, message);
        None
    }

    /// A quantity as written: a string or a number.
    pub(super) fn quantity_text(&self, problems: &mut Problems) -> Option<&'t str> {
        match self.scalar() {
            Some(Scalar { kind: ScalarKind::Integer(_) | ScalarKind::HugeInteger | ScalarKind::Float, text }) => {
                Some(text)
            }
            Some(Scalar { kind: ScalarKind::String, .. }) => self.string(problems),
            _ => {
                self.invalid(problems, format!("must be a quantity, as 64Mi or 0.5, not {}", self.describe()));
                None
            }
        }
    }

    /// The string that a field of this mapping has; a look ahead, which takes nothing.
    pub(super) fn text_of(&self, field: &str) -> Option<&'t str> {
        self.node.field(field)?.text()
    }

    pub(super) fn node_at(&self, path: &str) -> Option<&'t Node> {
        self.node.at(path)
    }

    pub(super) fn is_text(&self, text: &str) -> bool {
        self.scalar().is_some_and(|scalar| scalar.kind == ScalarKind::String && scalar.text == text)
    }

    pub(super) fn is_number(&self, number: i64) -> bool {
        self.scalar().is_some_and(|scalar| scalar.kind == ScalarKind::Integer(number))
    }

    /// `""`, `[]` or `{}`.
    pub(super) fn is_empty(&self) -> bool {
        self.node.is_empty()
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.node.value, Value::Sequence(_))
    }

    fn scalar(&self) -> Option<&'t Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    fn describe(&self) -> String {
        let Some(Scalar { text, kind }) = self.scalar() else {
            return if matches!(self.node.value, Value::Sequence(_)) { "a list" } else { "a mapping" }.to_owned();
        };
        let text = excerpt(text);
        match kind {
            ScalarKind::Null => "null".to_owned(),
            ScalarKind::Bool(_) => format!("the bool {text}"),
            ScalarKind::LegacyBool(value) => format!("{text} (which YAML 1.1, and so kubectl, reads as {value})"),
            ScalarKind::Integer(_) | ScalarKind::HugeInteger | ScalarKind::Float => format!("the number {text}"),
            ScalarKind::String => format!("the string \"{text}\""),
        }
    }
}

/// No shell takes a command apart here, so each word is an item.
fn words_of_a_command(field: &str, text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(|word| format!("\"{}\"", excerpt(word))).collect();
    // With these a shell would not split it at its spaces alone, or would do more.
    let is_for_a_shell = text.contains(|letter: char| "\"'\\$`|&;<>()*?[]{}~#".contains(letter) || letter.is_control());
    let split = match is_for_a_shell {
        true => "each word as an item".to_owned(),
        false => format!("[{}]", words.join(", ")),
    };
    if field != "command" || (words.len() < 2 && !is_for_a_shell) {
        return format!("write {split}");
    }
    let can_be_quoted = !text.contains(|letter: char| matches!(letter, '"' | '\\') || letter.is_control());
    let script = if can_be_quoted { format!("\"{}\"", excerpt(text)) } else { "'…'".to_owned() };
    format!("write {split}, or for a shell to read it [\"sh\", \"-c\", {script}]")
}

impl<'t> Object<'t> {
    /// The field's value; null is as good as absent, as in Kubernetes.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Slot<'t>> {
        debug_assert!(self.schema.supports(name), "{}.{name} is missing in schema", self.schema.place);
        let index = self.entries.iter().position(|entry| entry.key.text == name)?;
        self.taken[index] = true;
        let node = &self.entries[index].value;
        (!node.is_null()).then(|| Slot { node, path: self.path_of(name) })
    }

    /// [`Object::take`] of a string that is as good as absent when it is empty: Kubernetes' types cannot tell the two apart.
    pub(super) fn take_text(&mut self, name: &'static str) -> Option<Slot<'t>> {
        self.take(name).filter(|slot| !slot.is_text(""))
    }

    /// The fields whose names are a family of which the schema can list only examples: `hugepages-2Mi`.
    pub(super) fn take_where(&mut self, belongs: impl Fn(&str) -> bool) -> Vec<(&'t Key, Slot<'t>)> {
        let mut found = Vec::new();
        for (entry, taken) in self.entries.iter().zip(&mut self.taken) {
            if belongs(&entry.key.text) {
                *taken = true;
                found.push(entry);
            }
        }
        found.retain(|entry| !entry.value.is_null());
        let slot = |entry: &&'t Entry| Slot { node: &entry.value, path: self.path_of(&entry.key.text) };
        found.iter().map(|entry| (&entry.key, slot(entry))).collect()
    }

    /// [`Object::take`] of a field that must be there.
    pub(super) fn require(&mut self, name: &'static str, why: &str, problems: &mut Problems) -> Option<Slot<'t>> {
        let slot = self.take(name);
        // Where it was meant but mistyped, the unknown field's own error says all.
        let mistyped = |entry: &Entry| {
            let typed = entry.key.text.as_str();
            !self.schema.knows(typed) && nearest(typed, [name]).is_some()
        };
        if slot.is_none() && !self.entries.iter().any(mistyped) {
            problems.absent(self.position, &self.path_of(name), format!("is required: {why}"));
        }
        slot
    }

    /// Nothing stands in it, or only null.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.iter().all(|entry| entry.value.is_null())
    }

    /// Refuses nothing of what was not taken: an error that was reported explains it all.
    pub(super) fn leave_rest(&mut self) {
        self.taken.fill(true);
    }

    /// Fields of such names that are there but null.
    pub(super) fn null_fields(&self, is_meant: impl Fn(&str) -> bool) -> Vec<&'t Key> {
        let is_one = |entry: &&Entry| is_meant(&entry.key.text) && entry.value.is_null();
        self.entries.iter().filter(is_one).map(|entry| &entry.key).collect()
    }

    pub(super) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { excerpt(name) } else { format!("{}.{}", self.path, excerpt(name)) }
    }
}
