//! `cgroup.freeze`. What is asked for holds when the kernel has caught every process, which can take: one in an
//! uninterruptible wait (a dead NFS server) is caught when that ends. Nobody waits here: `cgroup.events` tells
//! (cgroup-v2.rst, "cgroup.freeze").

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use cgroups_rs::fs::freezer::FreezerController;

use super::leaf::number;
use super::{STEP, file};
use crate::engine::failure::{Failure, Result};

/// A cgroup that is to stand still. Its descriptor has news for poll(2) (POLLPRI) when [`is_done`](Self::is_done) may
/// answer otherwise than the last time.
#[derive(Debug)]
pub struct Freezing {
    cgroup: PathBuf,
    events: File,
}

impl Freezing {
    pub(super) fn begin(cgroup: &Path) -> Result<Freezing> {
        let path = cgroup.join("cgroup.events");
        let opened = File::open(&path);
        let events = opened.map_err(|error| file::failed(&format!("open({})", path.display()), &error))?;
        write(cgroup, FreezerController::freeze)?;
        Ok(Freezing { cgroup: cgroup.to_owned(), events })
    }

    /// Whether every process in it stands still.
    pub fn is_done(&self) -> Result<bool> {
        // The kernel's flat keyed files of this kind have two short lines. Read from their start, they are made anew.
        let mut bytes = [0; 256];
        let length = self.events.read_at(&mut bytes, 0);
        let length = length.map_err(|error| file::failed(&format!("read({})", self.cgroup.display()), &error))?;
        Ok(number(&String::from_utf8_lossy(&bytes[..length]), "frozen") == Some(1))
    }
}

impl AsFd for Freezing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// In force when the write returns, unless a cgroup above is frozen, too.
pub(super) fn thaw(cgroup: &Path) -> Result<()> {
    write(cgroup, FreezerController::thaw)?;
    match number(&file::read(cgroup, "cgroup.events")?, "frozen") {
        Some(1) => Err(Failure::because(STEP, cgroup.display().to_string(), "a cgroup above it is frozen")),
        _ => Ok(()),
    }
}

fn write(cgroup: &Path, state: fn(&FreezerController) -> cgroups_rs::fs::error::Result<()>) -> Result<()> {
    let freezer = FreezerController::new(cgroup.to_owned(), cgroup.to_owned(), true);
    state(&freezer).map_err(|error| Failure::because(STEP, cgroup.display().to_string(), error.to_string()))
}
