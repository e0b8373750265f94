//! accept(2): what waits at a listener.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{SockFlag, accept4};

use super::Result;
use super::error::Named;

/// What [`accept`] had.
#[derive(Debug)]
pub enum Waiting {
    Connection(OwnedFd),
    /// One that has failed before it was accepted; another may wait behind it.
    Failed,
    Nobody,
}

/// The next connection, non-blocking and close-on-exec.
pub fn accept(listener: BorrowedFd<'_>) -> Result<Waiting> {
    match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK) {
        // SAFETY: accept4 has just given us this descriptor and nobody else owns it.
        Ok(fd) => Ok(Waiting::Connection(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(Errno::EAGAIN) => Ok(Waiting::Nobody),
        Err(errno) if is_of_one_connection(errno) => Ok(Waiting::Failed),
        Err(errno) => Err(errno).named(|| "accept4()".to_owned()),
    }
}

/// Errors of the connection that would have been the next: accept(2) hands them on and asks to go on. EPERM, which it names,
/// too, is not among them: a security module says it before anything was taken (net/socket.c), and would say it again.
fn is_of_one_connection(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EINTR
            | Errno::ECONNABORTED
            | Errno::ENETDOWN
            | Errno::EPROTO
            | Errno::ENOPROTOOPT
            | Errno::EHOSTDOWN
            | Errno::ENONET
            | Errno::EHOSTUNREACH
            | Errno::EOPNOTSUPP
            | Errno::ENETUNREACH
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_that_failed_is_no_exhaustion() {
        for errno in [Errno::ECONNABORTED, Errno::EPROTO, Errno::EHOSTUNREACH, Errno::ENETDOWN, Errno::ENOPROTOOPT] {
            assert!(is_of_one_connection(errno), "{errno}");
        }
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM, Errno::EPERM, Errno::EACCES] {
            assert!(!is_of_one_connection(errno), "{errno}");
        }
    }
}
