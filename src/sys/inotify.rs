//! inotify(7) of one directory: something in it was written, made or renamed.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Result;
use super::error::Named;

/// Readable whenever a file of the directory changed. What changed is not told: the reader looks for itself, so a full
/// event queue loses nothing.
#[derive(Debug)]
pub struct DirectoryWatch(Inotify);

impl DirectoryWatch {
    pub fn new(directory: &Path) -> Result<DirectoryWatch> {
        let inotify =
            Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).named(|| "inotify_init1()".to_owned())?;
        let events = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        inotify
            .add_watch(directory, events | AddWatchFlags::IN_ONLYDIR)
            .named(|| format!("inotify_add_watch({})", directory.display()))?;
        Ok(DirectoryWatch(inotify))
    }

    /// Takes note of everything up to now. Call it *before* looking at the files, or a change in between is missed.
    pub fn acknowledge(&self) -> Result<()> {
        loop {
            match self.0.read_events() {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno).named(|| "read(inotify)".to_owned()),
            }
        }
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_write_is_told_once() {
        let dir = tempfile::tempdir().expect("tempdir");
        let watch = DirectoryWatch::new(dir.path()).expect("watch");
        let waiting = |ms| crate::sys::poll::readable(watch.as_fd(), Duration::from_millis(ms)).expect("poll");
        assert!(!waiting(1));
        std::fs::write(dir.path().join("x.log"), "a").expect("write");
        assert!(waiting(5000));
        watch.acknowledge().expect("acknowledge");
        assert!(!waiting(1));
    }
}
