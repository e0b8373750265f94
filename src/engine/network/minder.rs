//! What ties a program to the supervisor's life that does not do so itself: pasta has no exit-fd, and its changes of
//! credentials clear what prctl(PR_SET_PDEATHSIG) set.

use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};

use super::{Ends, Refusal, STEP};
use crate::engine::failure::{During, Result};
use crate::sys::poll::{self, Want};
use crate::sys::process::{self, PidFd};
use crate::sys::{Namespaces, clone, memfd, stdio};

/// Starts `command` below a process of its own, which gives its exit status as its own. The program is killed when the
/// other end of the lifeline closes.
pub(super) fn start(command: &mut Command, ends: &Ends) -> Result<(i32, PidFd)> {
    match clone::fork_into(Namespaces::empty(), clone::Parent::Caller).during(STEP, "")? {
        clone::Fork::Parent { pid, pidfd } => Ok((pid, pidfd)),
        clone::Fork::Child => clone::exit_now(mind(command, ends).unwrap_or(Refusal::CannotRun.status())),
    }
}

/// Who: a child of the supervisor, with its rights. Why: see above. Ends: with the program, or with the supervisor.
fn mind(command: &mut Command, ends: &Ends) -> Option<i32> {
    // The supervisor's lock above all: whoever holds it is taken for the pod's life.
    stdio::close_all_but(&ends.all()).ok()?;
    process::set_name(c"sandpod:minder").ok()?;
    let mut child = match ends.spawn(command) {
        Ok(child) => child,
        Err(failure) => {
            let _ = stdio::write_some(ends.stderr.as_fd(), failure.to_string().as_bytes());
            return None;
        }
    };
    memfd::trim_heap();
    memfd::forget_program_pages();
    let code = attend(&mut child, ends);
    if code.is_none() {
        // It may be gone already.
        let _ = child.kill();
    }
    code
}

/// The program's exit status; `None` when it is to end.
fn attend(child: &mut Child, ends: &Ends) -> Option<i32> {
    let program = PidFd::open(child.id().cast_signed()).ok()?;
    loop {
        let woken = poll::any(&[(ends.lifeline.as_fd(), Want::Read), (program.as_fd(), Want::Read)], None).ok()?;
        if woken[1] {
            let status = child.wait().ok()?;
            return Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
        }
        if woken[0] {
            return None;
        }
    }
}
