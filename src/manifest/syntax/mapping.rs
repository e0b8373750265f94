//! A mapping while its keys and values come one by one: no key twice, and `<<` merged.

use std::collections::HashMap;

use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::tree::{Entry, Key, Node, Position, Scalar, Value};

pub(super) struct MappingBuilder {
    pub(super) entries: Vec<Entry>,
    first_positions: HashMap<String, Position>,
    /// From `<<`, in order: an earlier one wins, and the mapping's own entries win over all.
    merged: Vec<Entry>,
    next: Next,
}

enum Next {
    Key,
    Value(Key),
    /// The key was refused, and its value with it.
    Skip,
}

impl MappingBuilder {
    pub(super) fn new() -> MappingBuilder {
        MappingBuilder { entries: Vec::new(), first_positions: HashMap::new(), merged: Vec::new(), next: Next::Key }
    }

    pub(super) fn attach(&mut self, node: Node, problems: &mut Problems) {
        match std::mem::replace(&mut self.next, Next::Key) {
            Next::Key => self.next = self.key(node, problems),
            Next::Value(key) if key.is_merge() => self.merge(node, problems),
            Next::Value(key) => self.entries.push(Entry { key, value: node }),
            Next::Skip => {}
        }
    }

    fn key(&mut self, node: Node, problems: &mut Problems) -> Next {
        let Value::Scalar(Scalar { text, kind }) = node.value else {
            problems.add(
                node.position,
                "",
                "a key must be a text, not a list or mapping; is a `{{ }}` template left in here?",
            );
            return Next::Skip;
        };
        if let Some(first) = self.first_positions.get(&text) {
            let message = format!("the key `{}` is already set at {first}; keep one of them", excerpt(&text));
            problems.add(node.position, "", message);
            return Next::Skip;
        }
        self.first_positions.insert(text.clone(), node.position);
        Next::Value(Key { position: node.position, text, kind })
    }

    /// `<<: *defaults`, YAML 1.1's merge key, which kubectl follows too.
    fn merge(&mut self, node: Node, problems: &mut Problems) {
        let sources = match node.value {
            Value::Sequence(items) => items,
            Value::Mapping(_) | Value::Scalar(_) => vec![node],
        };
        for source in sources {
            match source.value {
                Value::Mapping(entries) => self.merged.extend(entries),
                Value::Sequence(_) | Value::Scalar(_) => {
                    problems.add(
                        source.position,
                        "",
                        "`<<` must be given a mapping, or a list of mappings, to merge in",
                    );
                }
            }
        }
    }

    /// The last entry, or the key that has no value yet.
    pub(super) fn forget_last(&mut self) {
        if let Next::Key = std::mem::replace(&mut self.next, Next::Key) {
            self.entries.pop();
        }
    }

    pub(super) fn into_entries(mut self) -> Vec<Entry> {
        for entry in self.merged {
            if !self.first_positions.contains_key(&entry.key.text) {
                self.first_positions.insert(entry.key.text.clone(), entry.key.position);
                self.entries.push(entry);
            }
        }
        self.entries
    }
}

impl Key {
    fn is_merge(&self) -> bool {
        self.text == "<<"
    }
}
