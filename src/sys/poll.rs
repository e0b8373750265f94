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

/// What a descriptor of [`any`] is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    Read,
    Write,
}

/// Waits until at least one descriptor can be read (or has ended), or written (or is in error). One answer for each, in
/// order; all false when the time is up or a signal came. `None` waits as long as it takes.
pub fn any(watched: &[(BorrowedFd<'_>, Want)], timeout: Option<Duration>) -> Result<Vec<bool>> {
    let mut fds: Vec<PollFd<'_>> = watched
        .iter()
        .map(|(fd, want)| PollFd::new(*fd, if *want == Want::Read { PollFlags::POLLIN } else { PollFlags::POLLOUT }))
        .collect();
    let timeout = timeout.map_or(PollTimeout::NONE, |left| {
        PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut fds, timeout) {
        Ok(_) => Ok(fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect()),
        Err(nix::errno::Errno::EINTR) => Ok(vec![false; watched.len()]),
        Err(errno) => Err(errno).named(|| "poll()".to_owned()),
    }
}
