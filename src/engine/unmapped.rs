//! `enter` as a file whose owner has no id in the pod: the kernel then lets no process of the pod trace it, with whatever
//! capability (docs/decisions/0002-enter.md).
//!
//! The file is on a tmpfs of the pod's user namespace, seen through an idmapped mount (mount_setattr(2)): the map of the mount
//! is that of a user namespace which lacks the pod's root, who owns the file.

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::failure::{During, Failure, Result};
use super::idmap;
use super::message::{START_DEADLINE, died};
use crate::step::Step;
use crate::sys::mount::{Attributes, DetachedMount};
use crate::sys::socket::Channel;
use crate::sys::{Namespaces, clone, path, privileges, process};

const STEP: Step = Step::SetUpSandbox;
const ON: &str = "the file of `enter`";
const NAME: &str = "enter";
/// What the file takes is rounded up to pages.
const SPARE: usize = 64 << 10;

/// The program in such a file, to be executed by descriptor. Called in the pod's user namespace, with your ids and every
/// capability.
pub(super) fn program(bytes: &[u8]) -> Result<OwnedFd> {
    let map = other_user_namespace()?;
    let size = (bytes.len() + SPARE).to_string();
    // Everybody may pass through: through the mount, its owner is nobody of the pod's.
    let options = [("mode", Some("0711")), ("size", Some(size.as_str()))];
    let attributes = Attributes::NO_SUID | Attributes::NO_DEV;
    let tmpfs = DetachedMount::create("tmpfs", &options, attributes).during(STEP, ON)?;
    path::write_file(tmpfs.as_fd(), Path::new(NAME), bytes).during(STEP, ON)?;
    let file = path::open_below(tmpfs.as_fd(), Path::new(NAME)).during(STEP, ON)?;
    path::change_mode(file.as_fd(), 0o111).during(STEP, ON)?;
    tmpfs.map_ids(map.as_fd(), Attributes::READ_ONLY).during(STEP, ON)?;
    Ok(file)
}

/// A user namespace below ours that has one id, which is not 0. Only a process of it can make its map.
fn other_user_namespace() -> Result<OwnedFd> {
    let (ours, theirs) = Channel::pair().during(STEP, ON)?;
    match clone::fork_into(Namespaces::CLONE_NEWUSER, clone::Parent::Caller).during(STEP, ON)? {
        clone::Fork::Child => {
            drop(ours);
            let Err(failure) = make_map(&theirs);
            let _ = theirs.send(&serde_json::to_vec(&failure).unwrap_or_default(), &[]);
            clone::exit_now(125);
        }
        clone::Fork::Parent { pid, pidfd: _ } => {
            drop(theirs);
            let message = ours.receive_within(START_DEADLINE).during(STEP, ON)?;
            process::wait_for(pid).during(STEP, ON)?;
            let mut message = message.ok_or_else(|| died(STEP, ON))?;
            message
                .fds
                .pop()
                .ok_or_else(|| serde_json::from_slice::<Failure>(&message.bytes).unwrap_or_else(|_| died(STEP, ON)))
        }
    }
}

/// Who: a process that is alone in a user namespace. Ends: when it has handed that over.
fn make_map(to: &Channel) -> Result<Infallible> {
    // The files of a process that is closed to ptrace belong to the host's root.
    privileges::show_to_ptrace().during(STEP, ON)?;
    for (file, text) in [("setgroups", "deny"), ("uid_map", "1 0 1"), ("gid_map", "1 0 1")] {
        idmap::write_file("self", file, text)?;
    }
    let namespace = clone::own_namespace("user").during(STEP, ON)?;
    to.send(b"user", &[namespace.as_fd()]).during(STEP, ON)?;
    clone::exit_now(0)
}
