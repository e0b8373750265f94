//! Whether slirp4netns's sandbox is refused here, as where an outer container forbids mounts.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use super::STEP;
use crate::engine::failure::{During, Failure, Result};
use crate::engine::message::KillOnDrop;
use crate::sys::process::PidFd;
use crate::sys::{self, Errno, Namespaces, clone, mount, poll, privileges, stdio};

/// Some mounts.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why it is; `None` when it is not. What is wrong otherwise, as for lack of memory, may go right the next time: so may ENOSPC,
/// since all of your namespaces count for one limit, and another pod may have the last of them for a moment.
pub fn refusal(pause: &PidFd) -> Option<Failure> {
    let failure = try_it(pause).err()?;
    let refused = [Errno::EPERM, Errno::EACCES, Errno::ENOSYS].iter().any(|errno| *errno as i32 == failure.errno);
    refused.then_some(failure)
}

fn try_it(pause: &PidFd) -> Result<()> {
    let (heard, said) = stdio::pipe().during(STEP, "")?;
    match clone::fork_into(Namespaces::empty(), clone::Parent::Caller).during(STEP, "")? {
        clone::Fork::Child => {
            if let Err(error) = stdio::close_all_but(&[said.as_fd(), pause.as_fd()]).and_then(|()| its_mounts(pause)) {
                let _ = stdio::write_some(said.as_fd(), format!("{} {}", error.number(), error.call).as_bytes());
            }
            clone::exit_now(0);
        }
        clone::Fork::Parent { pidfd, .. } => {
            drop(said);
            // Ended, if it has not ended yet: what it would still say nobody hears.
            let _child = KillOnDrop::new(pidfd);
            if poll::readable(heard.as_fd(), PATIENCE).during(STEP, "")? { what_it_said(heard.as_fd()) } else { Ok(()) }
        }
    }
}

/// Nothing, where all went well.
fn what_it_said(heard: BorrowedFd<'_>) -> Result<()> {
    let said = stdio::read_some(heard, 4096).during(STEP, "")?.unwrap_or_default();
    match String::from_utf8_lossy(&said).split_once(' ') {
        None => Ok(()),
        Some((errno, call)) => Err(Failure::of_call(STEP, call, errno.parse().unwrap_or_default())),
    }
}

/// Who: a child of the supervisor. Why: it does what slirp4netns begins its sandbox with (create_sandbox in its sandbox.c), in
/// the same user namespace and by the same calls. Ends: at once, and its mounts with it.
fn its_mounts(pause: &PidFd) -> sys::Result<()> {
    // In the pod's user namespace a container's capabilities count for this process, too, which sees the host's files.
    privileges::hide_from_ptrace()?;
    clone::join_all(pause, Namespaces::CLONE_NEWUSER)?;
    clone::unshare(Namespaces::CLONE_NEWNS)?;
    mount::make_private()?;
    mount::bind(Path::new("/etc"), Path::new("/tmp"))?;
    mount::cover_with_tmpfs(Path::new("/tmp"))
}
