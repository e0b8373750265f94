//! What is wrong with a manifest, where, and how it reaches the user.

use std::fmt;

use serde::Serialize;

use super::tree::Position;
use crate::report::{Report, exit_code};

mod printed;

/// More than this many are counted, not kept: a megabyte of typos needs no megabytes of messages.
const MAX_KEPT: usize = 1000;
/// Characters of the manifest's own text that a message repeats.
const MAX_EXCERPT: usize = 60;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// `None` when it concerns the manifest as a whole.
    pub position: Option<Position>,
    /// `spec.containers[0].comand`; empty when it concerns the text or the whole document.
    pub path: String,
    /// What is wrong, what is allowed, how to fix it. Free of control characters.
    pub message: String,
    pub class: ProblemClass,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProblemClass {
    Invalid,
    /// Correct for Kubernetes, refused here.
    Unsupported,
}

/// All that is wrong with one manifest, in the order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a Pod that sandpod can run ({} error{})", escaped(source_name), self.count(), if self.count() == 1 { "" } else { "s" })]
pub struct ManifestErrors {
    source_name: String,
    problems: Vec<Problem>,
    /// Found but not kept.
    unkept: usize,
}

impl ManifestErrors {
    /// At most a thousand, in the order of their lines.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many there are in all.
    #[must_use]
    pub fn count(&self) -> usize {
        self.problems.len() + self.unkept
    }

    /// The file's name as the user gave it.
    #[must_use]
    pub fn source_name(&self) -> &str {
        &self.source_name
    }

    /// `web.yaml:7:5: spec.containers[0].comand: unknown field; did you mean `command`?`, one line each. Of many of one
    /// kind the first few, and the positions of the others. The file's name is never cut, so that an editor can open it.
    #[must_use]
    pub fn into_report(self) -> Report {
        let mut report = Report::new(exit_code::USAGE, self.to_string());
        for line in printed::lines(&escaped(&self.source_name), &self.problems, self.unkept) {
            report = report.because(line);
        }
        if self.problems.iter().any(|problem| problem.class == ProblemClass::Unsupported) {
            report = report.hint(
                "sandpod does what a field says or refuses it, it never ignores one; docs/manifest.md lists which are \
                 supported",
            );
        }
        report
    }
}

/// `7:5: path: message`, after the colon of a file's name.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(f, "{position}:")?;
        }
        if !self.path.is_empty() {
            write!(f, " {}:", self.path)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Whether what was not found may still stand in the part that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Coverage {
    #[default]
    Whole,
    /// The text ends in a syntax error: "missing" and "not declared" would be guesses.
    Partial,
}

/// Collects problems on the way through a manifest.
#[derive(Debug, Default)]
pub(super) struct Problems {
    kept: Vec<Problem>,
    unkept: usize,
    pub(super) coverage: Coverage,
}

impl Problems {
    /// Something wrong that is plain from the value alone.
    pub(super) fn add(&mut self, position: Position, path: &str, message: impl Into<String>) {
        self.push(Some(position), path, message.into(), ProblemClass::Invalid);
    }

    /// Kubernetes knows it, sandpod does not do it.
    pub(super) fn unsupported(&mut self, position: Position, path: &str, message: impl Into<String>) {
        self.push(Some(position), path, message.into(), ProblemClass::Unsupported);
    }

    /// Something that is not there, which only a whole document proves.
    pub(super) fn absent(&mut self, position: Position, path: &str, message: impl Into<String>) {
        if self.coverage == Coverage::Whole {
            self.add(position, path, message);
        }
    }

    /// About the manifest as a whole.
    pub(super) fn general(&mut self, message: impl Into<String>) {
        self.push(None, "", message.into(), ProblemClass::Invalid);
    }

    fn push(&mut self, position: Option<Position>, path: &str, message: String, class: ProblemClass) {
        if self.is_full() {
            self.unkept += 1;
        } else {
            self.kept.push(Problem { position, path: path.to_owned(), message, class });
        }
    }

    /// No more problems are kept; what makes a message costly may be skipped.
    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= MAX_KEPT
    }

    /// Few of those that are still to come will be printed: they need no advice that takes time.
    pub(super) fn are_many(&self) -> bool {
        self.kept.len() >= 2 * printed::MAX_LINES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(super) fn into_errors(mut self, source_name: &str) -> ManifestErrors {
        // Stable: at one place the order of discovery stays.
        self.kept.sort_by_key(|problem| problem.position);
        ManifestErrors { source_name: source_name.to_owned(), problems: self.kept, unkept: self.unkept }
    }
}

/// A piece of the user's text for a message: short, on one line, and without anything that a terminal obeys or that
/// changes how the rest of the line reads (control characters, bidirectional overrides, invisible ones).
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(MAX_EXCERPT) {
        Some((end, _)) => escaped(&text[..end]) + "…",
        None => escaped(text),
    }
}

/// [`excerpt`] in full length, for texts that are not the user's.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            safe.extend(character.escape_default());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// Format characters (Unicode Cf) that hide or reorder text, and the two line separators.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(count: usize) -> ManifestErrors {
        let mut problems = Problems::default();
        for line in (1..=count).rev() {
            problems.add(Position { line, column: 3 }, "spec.x", "unknown field");
        }
        problems.into_errors("web.yaml")
    }

    #[test]
    fn one_line_each_in_the_order_of_the_text() {
        let report = errors(2).into_report();
        assert_eq!(report.exit_code, 2);
        assert_eq!(report.what, "web.yaml is not a Pod that sandpod can run (2 errors)");
        assert_eq!(report.chain, ["web.yaml:1:3: spec.x: unknown field", "web.yaml:2:3: spec.x: unknown field"]);
        assert_eq!(report.hint, None);
        assert_eq!(errors(1).to_string(), "web.yaml is not a Pod that sandpod can run (1 error)");
    }

    #[test]
    fn excerpts_cannot_steer_a_terminal() {
        assert_eq!(excerpt("a\u{1b}[31m\n\u{7f}\u{9b}\u{202e}b"), "a\\u{1b}[31m\\n\\u{7f}\\u{9b}\\u{202e}b");
        assert_eq!(excerpt("größe"), "größe");
        assert_eq!(excerpt(&"x".repeat(1000)).chars().count(), MAX_EXCERPT + 1);
    }
}
