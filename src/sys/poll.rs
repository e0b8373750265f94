//! poll(2) for one descriptor, with a deadline that a signal does not stretch.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Result;
use super::error::Named;

/// True once `fd` is readable, at end of file, or in error; false when the time is up.
pub fn readable(fd: BorrowedFd<'_>, timeout: Duration) -> Result<bool> {
    wait(fd, PollFlags::POLLIN, timeout)
}

/// True once `fd` takes bytes, or is in error; false when the time is up.
pub fn writable(fd: BorrowedFd<'_>, timeout: Duration) -> Result<bool> {
    wait(fd, PollFlags::POLLOUT, timeout)
}

fn wait(fd: BorrowedFd<'_>, events: PollFlags, timeout: Duration) -> Result<bool> {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a wait of 0.4 ms must not spin.
        let millis = left.as_nanos().div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, events)], timeout) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno).named(|| "poll()".to_owned()),
        }
    }
}
