//! An error as the user reads it, as data: it crosses process boundaries and is printed in one place (`cli`).

use serde::{Deserialize, Serialize};

use crate::step::Step;

/// sandpod's own exit codes; a container's code passes through unchanged.
pub mod exit_code {
    /// sandpod itself failed.
    pub const FAILURE: u8 = 125;
    /// The command is there but cannot be executed.
    pub const CANNOT_EXECUTE: u8 = 126;
    /// The command is not there.
    pub const NOT_FOUND: u8 = 127;
    /// Bad usage, or a bad manifest.
    pub const USAGE: u8 = 2;
}

/// ```text
/// error: could not start pod `web`        what
///   creating the pod's namespaces         doing, outermost first
///   clone3(CLONE_NEWUSER|…): No space …   the last line is the cause
/// hint: this is a kernel limit, not disk space …
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{what}")]
pub struct Report {
    pub exit_code: u8,
    /// One line without `error:`.
    pub what: String,
    /// What was being done and on what, outermost first; the last is the cause.
    pub chain: Vec<String>,
    /// Where it happened and the errno, for [`crate::host::advice`]; `None` when no kernel call failed.
    pub cause: Option<(Step, i32)>,
    pub hint: Option<String>,
    /// The field of the manifest that it is about (`spec.containers[0].args[1]`), where a plan was refused for one.
    #[serde(default)]
    pub field: Option<String>,
}

impl Report {
    #[must_use]
    pub fn new(exit_code: u8, what: impl Into<String>) -> Report {
        Report { exit_code, what: what.into(), chain: Vec::new(), cause: None, hint: None, field: None }
    }

    /// Adds one line below: what was being done, or the cause.
    #[must_use]
    pub fn because(mut self, line: impl Into<String>) -> Report {
        self.chain.push(line.into());
        self
    }

    /// Names the field of the manifest that it is about, unless a more exact one is named already.
    #[must_use]
    pub fn about(mut self, field: impl Into<String>) -> Report {
        self.field.get_or_insert_with(|| field.into());
        self
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Report {
        self.hint = Some(hint.into());
        self
    }
}
