//! Tries whether the kernel mounts an overlay over a directory, in a process and namespaces that end at once.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;

use super::clone::{Fork, Parent, exit_now, fork_into};
use super::mount::{Attributes, DetachedMount};
use super::process::{Exit, wait_for};
use super::{Namespaces, Result, path};

/// What the kernel answers to an overlay with `directory` as a lower layer; `None` where it mounts one, or could not be
/// asked. Two lower layers and no upper one: the depth is checked all the same, and nothing is written.
///
/// The caller has a single thread, as for [`fork_into`].
#[must_use]
pub fn refusal(directory: &Path) -> Option<Errno> {
    match fork_into(Namespaces::CLONE_NEWUSER | Namespaces::CLONE_NEWNS, Parent::Caller).ok()? {
        Fork::Child => exit_now(stack(directory).err().map_or(0, |error| error.number())),
        Fork::Parent { pid, .. } => match wait_for(pid).ok()? {
            Exit::Code(code) if code != 0 => Some(Errno::from_raw(code)),
            _ => None,
        },
    }
}

fn stack(directory: &Path) -> Result<()> {
    let lower = path::open_host_path(directory)?;
    let empty = DetachedMount::create("tmpfs", &[("size", Some("4k"))], Attributes::NO_DEV)?;
    // A layer has to be a mount of this namespace.
    empty.attach(lower.as_fd(), directory)?;
    let layers = format!("{}:{}", path::through_proc(empty.as_fd()), path::through_proc(lower.as_fd()));
    DetachedMount::create("overlay", &[("lowerdir", Some(&layers)), ("userxattr", None)], Attributes::NO_DEV).map(drop)
}
