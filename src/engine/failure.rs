//! A step that failed, as data: it crosses from a child to the supervisor and on to the command line unchanged.

use serde::{Deserialize, Serialize};

use crate::report::{Report, exit_code};
use crate::step::Step;
use crate::sys;

/// What was being done, on what, which call failed and with which errno.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{}", self.cause())]
pub struct Failure {
    pub step: Step,
    /// A path, a container, a program; empty where the step says it all.
    pub on: String,
    /// The call as a reader would write it; a whole sentence where `errno` is 0.
    pub call: String,
    /// 0 when no kernel call of ours failed: a tool's own message, say.
    pub errno: i32,
    /// The way out, where it depends on more than step and errno.
    #[serde(default)]
    pub hint: Option<String>,
}

pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(step: Step, on: impl Into<String>, error: &sys::Error) -> Failure {
        Failure { on: on.into(), ..Failure::of_call(step, error.call.clone(), error.number()) }
    }

    /// A failure that no errno describes.
    pub fn because(step: Step, on: impl Into<String>, sentence: impl Into<String>) -> Failure {
        Failure { on: on.into(), ..Failure::of_call(step, sentence, 0) }
    }

    /// A call that failed, where the step says on what.
    pub fn of_call(step: Step, call: impl Into<String>, errno: i32) -> Failure {
        Failure { step, on: String::new(), call: call.into(), errno, hint: None }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// The same with its words cut in the middle where they are too long for a message and for a reader: the name of a
    /// command may have 128 KiB.
    #[must_use]
    pub fn shortened(self) -> Failure {
        Failure { on: shortened(&self.on), call: shortened(&self.call), ..self }
    }

    fn cause(&self) -> String {
        if self.errno == 0 { self.call.clone() } else { format!("{}: {}", self.call, sys::describe(self.errno)) }
    }

    /// 127 and 126 as a shell gives them for a command that is not there or cannot be executed; else 125.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match (self.step, sys::Errno::from_raw(self.errno)) {
            (Step::ExecuteCommand, sys::Errno::ENOENT | sys::Errno::ENOTDIR) => exit_code::NOT_FOUND,
            (Step::ExecuteCommand, _) => exit_code::CANNOT_EXECUTE,
            _ => exit_code::FAILURE,
        }
    }

    /// The failure as the user reads it; `what` is the outermost line.
    #[must_use]
    pub fn into_report(self, what: impl Into<String>) -> Report {
        let doing = self.step.doing();
        let doing = if self.on.is_empty() { doing.to_owned() } else { format!("{doing}: {}", self.on) };
        let mut report = Report::new(self.exit_code(), what).because(doing).because(self.to_string());
        report.cause = (self.errno != 0).then_some((self.step, self.errno));
        report.hint = self.hint;
        report
    }
}

fn shortened(text: &str) -> String {
    const ENDS: usize = 500;
    let count = text.chars().count();
    if count <= 2 * ENDS {
        return text.to_owned();
    }
    let (head, tail): (String, String) = (text.chars().take(ENDS).collect(), text.chars().skip(count - ENDS).collect());
    format!("{head}[… {} more …]{tail}", count - 2 * ENDS)
}

/// Says of a kernel call which step it belonged to.
pub trait During<T> {
    fn during(self, step: Step, on: impl std::fmt::Display) -> Result<T>;
}

impl<T> During<T> for sys::Result<T> {
    fn during(self, step: Step, on: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(step, on.to_string(), &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_what_on_what_and_why() {
        let failure = Failure { on: "pid 7".into(), ..Failure::of_call(Step::WriteIdMaps, "open(\"x\")", 13) };
        assert_eq!(failure.to_string(), "open(\"x\"): Permission denied (EACCES)");
        let report = failure.into_report("could not start pod `web`");
        assert_eq!(report.chain, ["writing the id maps: pid 7", "open(\"x\"): Permission denied (EACCES)"]);
        assert_eq!(report.cause, Some((Step::WriteIdMaps, 13)));
    }

    #[test]
    fn words_without_end_are_cut_in_the_middle() {
        let failure = Failure { on: "x".repeat(1000), ..Failure::of_call(Step::ExecuteCommand, "y".repeat(5000), 36) };
        let short = failure.clone().shortened();
        assert_eq!(short.on, failure.on);
        assert_eq!(short.call, format!("{0}[… 4000 more …]{0}", "y".repeat(500)));
    }

    #[test]
    fn without_an_errno_the_sentence_stands_alone() {
        let failure = Failure::because(Step::WriteIdMaps, "", "newuidmap: not allowed");
        assert_eq!(failure.to_string(), "newuidmap: not allowed");
        let report = failure.into_report("no");
        assert_eq!(report.chain, ["writing the id maps", "newuidmap: not allowed"]);
        assert_eq!(report.cause, None);
    }
}
