//! `cgroup.freeze`, and the wait until it holds: the kernel says so in `cgroup.events` (cgroup-v2.rst).

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use cgroups_rs::fs::freezer::FreezerController;

use super::leaf::number;
use super::{STEP, file};
use crate::engine::failure::{Failure, Result};

/// A process in an uninterruptible wait (a dead NFS server) keeps its cgroup from being frozen.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a cgroup is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freezer {
    Frozen,
    Thawed,
}

impl fmt::Display for Freezer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Freezer::Frozen => "frozen",
            Freezer::Thawed => "thawed",
        })
    }
}

pub(super) fn set(cgroup: &Path, state: Freezer) -> Result<()> {
    let freezer = FreezerController::new(cgroup.to_owned(), cgroup.to_owned(), true);
    let done = match state {
        Freezer::Frozen => freezer.freeze(),
        Freezer::Thawed => freezer.thaw(),
    };
    done.map_err(|error| Failure::because(STEP, cgroup.display().to_string(), error.to_string()))?;
    let wanted = u64::from(state == Freezer::Frozen);
    let deadline = Instant::now() + DEADLINE;
    while number(&file::read(cgroup, "cgroup.events")?, "frozen") != Some(wanted) {
        if Instant::now() >= deadline {
            let why = format!("not {state} after {} s: a process in it waits inside the kernel", DEADLINE.as_secs());
            return Err(Failure::because(STEP, cgroup.display().to_string(), why));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
