//! What is said of fields that no reader took.

use super::Object;
use crate::manifest::problem::Problems;
use crate::manifest::schema::{self, Field, Standing, rightful_place};
use crate::manifest::tree::Entry;
use crate::nearest::{Closeness, nearest};

impl Object<'_> {
    pub(super) fn finish(self, problems: &mut Problems) {
        for (entry, _) in self.entries.iter().zip(&self.taken).filter(|(_, taken)| !**taken) {
            self.refuse(entry, problems);
        }
    }

    fn refuse(&self, entry: &Entry, problems: &mut Problems) {
        let name = entry.key.text.as_str();
        let (position, path) = (entry.key.position, self.path_of(name));
        match self.schema.standing(name) {
            // Null asks for nothing; another value is left only where an error made the reader stop early.
            Standing::Supported if entry.value.is_null() => {}
            Standing::Supported => problems.unsupported(position, &path, "not read, because of the other errors"),
            Standing::Other(field) if field.accepted.takes(&entry.value) => {}
            Standing::Other(field) => problems.unsupported(position, &path, refusal(field)),
            Standing::Unknown => {
                let advice = if problems.is_full() { String::new() } else { self.advice(name) };
                problems.add(position, &path, format!("unknown field; {advice}"));
            }
        }
    }

    /// A slip of the finger first, then the right name at the wrong place, then what is merely similar.
    fn advice(&self, name: &str) -> String {
        // Of docker compose and of a Service; `port` alone is nearer to `hostPort` by its letters.
        let other_words = [("port", "containerPort"), ("targetPort", "containerPort"), ("published", "hostPort")];
        if self.schema.place == schema::PORT.place
            && let Some((_, meant)) = other_words.iter().find(|(word, _)| *word == name)
        {
            return format!("did you mean `{meant}`?");
        }
        let similar = nearest(name, self.schema.names());
        match (similar, rightful_place(name)) {
            (Some((meant, Closeness::Slip)), _) | (Some((meant, _)), None) => format!("did you mean `{meant}`?"),
            (_, Some(place)) => format!(
                "it belongs to {}",
                if place == "the top level" { place.to_owned() } else { format!("`{place}`") }
            ),
            (None, None) => {
                let variable = if self.schema.place == schema::ENV.place {
                    "; a variable is `- name: NAME` and below it `value: \"VALUE\"`"
                } else {
                    ""
                };
                format!("allowed here: {}{variable}", self.schema.supported.join(", "))
            }
        }
    }
}

/// Why, what to do instead, and which values are accepted all the same.
fn refusal(field: &Field) -> String {
    let Field { name: _, reason, accepted, advice } = field;
    let accepted = if accepted.is_named() { format!("; accepted without effect: {accepted}") } else { String::new() };
    format!("{}; {advice}{accepted}", reason.words())
}
