//! `cgroup.freeze`, and the wait until it holds: the kernel says so in `cgroup.events` (cgroup-v2.rst).

use std::path::Path;
use std::time::{Duration, Instant};

use cgroups_rs::fs::freezer::FreezerController;

use super::leaf::number;
use super::{STEP, file};
use crate::engine::failure::{Failure, Result};

/// A process in an uninterruptible wait (a dead NFS server) keeps its cgroup from being frozen.
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Frozen,
    Thawed,
}

pub(super) fn set(cgroup: &Path, state: State) -> Result<()> {
    let freezer = FreezerController::new(cgroup.to_owned(), cgroup.to_owned(), true);
    let done = match state {
        State::Frozen => freezer.freeze(),
        State::Thawed => freezer.thaw(),
    };
    done.map_err(|error| Failure::because(STEP, cgroup.display().to_string(), error.to_string()))?;
    let wanted = u64::from(state == State::Frozen);
    let deadline = Instant::now() + DEADLINE;
    while number(&file::read(cgroup, "cgroup.events")?, "frozen") != Some(wanted) {
        if Instant::now() >= deadline {
            let why = format!("not frozen after {} s: a process in it waits inside the kernel", DEADLINE.as_secs());
            return Err(Failure::because(STEP, cgroup.display().to_string(), why));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}
