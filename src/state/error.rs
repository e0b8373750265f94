//! What can go wrong with a file of ours, and how the user reads it.

use std::io;
use std::path::Path;

use crate::report::{Report, exit_code};
use crate::step::Step;
use crate::sys;

/// A file operation that failed: what was done, on which path, and what the kernel said.
#[derive(Debug, thiserror::Error)]
#[error("{doing}")]
pub struct Error {
    /// `write(/run/…/record.json)`.
    pub doing: String,
    #[source]
    pub source: io::Error,
}

impl From<sys::Error> for Error {
    fn from(error: sys::Error) -> Error {
        let source = io::Error::from_raw_os_error(error.number());
        Error { doing: error.call, source }
    }
}

impl Error {
    /// As the user reads it; `what` names the pod.
    #[must_use]
    pub fn into_report(self, what: impl Into<String>) -> Report {
        let mut report =
            Report::new(exit_code::FAILURE, what).because(Step::CreateRecord.doing()).because(self.cause());
        report.cause = self.errno().map(|errno| (Step::CreateRecord, errno));
        report
    }

    /// `None`: no kernel call failed.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    fn cause(&self) -> String {
        format!("{}: {}", self.doing, sys::describe_io(&self.source))
    }
}

/// Names what was done to a path.
pub(super) trait Doing<T> {
    fn doing(self, call: &str, path: &Path) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, call: &str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error { doing: format!("{call}({})", path.display()), source })
    }
}
