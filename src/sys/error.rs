//! The one error of this module.

use nix::errno::Errno;

/// A kernel call that failed: what was called, on what, and the errno.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {} ({:?})", .errno.desc(), .errno)]
pub struct Error {
    /// `mount("proc", "/proc")`: the call as a reader would write it.
    pub call: String,
    pub errno: Errno,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The number, for crossing a process boundary.
    #[must_use]
    pub fn number(&self) -> i32 {
        self.errno as i32
    }

    /// Of a call that std has made.
    #[must_use]
    pub fn of_io(call: &str, error: &std::io::Error) -> Error {
        Error { call: call.to_owned(), errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
    }
}

/// Names the call of a failed nix function.
pub(crate) trait Named<T> {
    fn named(self, call: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Named<T> for nix::Result<T> {
    fn named(self, call: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error { call: call(), errno })
    }
}

impl<T> Named<T> for std::io::Result<T> {
    fn named(self, call: impl FnOnce() -> String) -> Result<T> {
        // A std error without an errno (a short write, an interior NUL) is reported as EIO: the call's name says which.
        self.map_err(|error| Error { call: call(), errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) })
    }
}

/// The error of a raw `libc::syscall` that returned -1.
pub(crate) fn last(call: impl FnOnce() -> String) -> Error {
    Error { call: call(), errno: Errno::last() }
}

/// `No such file or directory (ENOENT)`.
#[must_use]
pub fn describe(errno: i32) -> String {
    let errno = Errno::from_raw(errno);
    format!("{} ({errno:?})", errno.desc())
}

/// The same of an error of std, whose own words have a number in the place of the name; those where no call failed.
#[must_use]
pub fn describe_io(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), describe)
}
