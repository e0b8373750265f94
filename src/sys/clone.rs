//! clone3(2), setns(2), unshare(2), and how a child is tied to its parent's life.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::CloneFlags;

use super::Result;
use super::error::{Error, Named, last};
use super::process::PidFd;

/// Which side of a fork this is.
#[derive(Debug)]
pub enum Fork {
    Parent { pid: i32, pidfd: PidFd },
    Child,
}

/// Who becomes the parent of the new process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parent {
    Caller,
    /// The caller's own parent (CLONE_PARENT): whoever started the launcher gets the exit status.
    CallersParent,
}

/// clone(2); libc has it with a type that is too small (rust-lang/libc#3584).
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Where a child is born (CLONE_INTO_CGROUP, Linux 5.7).
#[derive(Debug, Clone, Copy)]
pub struct Cgroup<'a> {
    pub directory: BorrowedFd<'a>,
    /// `cgroup.procs`, open for writing: a child that could not be born in it moves itself.
    pub procs: BorrowedFd<'a>,
}

/// As [`fork_into`], and into a cgroup. A child that cannot get there ends at once with 125.
pub fn fork_into_cgroup(namespaces: CloneFlags, parent: Parent, cgroup: Option<Cgroup<'_>>) -> Result<Fork> {
    let Some(Cgroup { directory, procs }) = cgroup else { return fork_into(namespaces, parent) };
    match fork(namespaces, parent, Some(directory)) {
        // Not ours to write to with the ids that we have taken on, or a kernel that does not know the flag.
        Err(Error { errno: Errno::EACCES | Errno::EPERM | Errno::E2BIG | Errno::EINVAL, .. }) => {
            let forked = fork(namespaces, parent, None)?;
            // The child never comes back with an error: its caller would go on as a second self of the parent. Its silent
            // death is what the parent learns of.
            if matches!(forked, Fork::Child) && nix::unistd::write(procs, b"0").is_err() {
                exit_now(125);
            }
            Ok(forked)
        }
        other => other,
    }
}

/// clone3(2) with `namespaces`, without sharing anything else: a fork that may start in new namespaces. The kernel makes
/// the user namespace first and it owns all the others (user_namespaces(7)).
///
/// Only a process with a single thread may call this and go on without exec: another thread could hold a lock (malloc's)
/// that the child would wait for for ever. The supervisor asserts that at its start.
pub fn fork_into(namespaces: CloneFlags, parent: Parent) -> Result<Fork> {
    fork(namespaces, parent, None)
}

fn fork(namespaces: CloneFlags, parent: Parent, cgroup: Option<BorrowedFd<'_>>) -> Result<Fork> {
    let mut pidfd: libc::c_int = -1;
    let mut flags = namespaces.bits().cast_unsigned() as u64 | libc::CLONE_PIDFD as u64;
    if parent == Parent::CallersParent {
        flags |= libc::CLONE_PARENT as u64;
    }
    // SAFETY: clone_args is a plain struct of integers for which all zeroes is valid ("not used").
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    if let Some(cgroup) = cgroup {
        flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd().cast_unsigned().into();
    }
    arguments.flags = flags;
    arguments.pidfd = (&raw mut pidfd) as u64;
    // With CLONE_PARENT the kernel wants 0 here and takes the caller's own exit signal.
    arguments.exit_signal = if parent == Parent::CallersParent { 0 } else { libc::SIGCHLD as u64 };
    // SAFETY: no CLONE_VM: the child gets a copy of the address space, its stack included. `pidfd` outlives the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
    match pid {
        0 => Ok(Fork::Child),
        1.. => {
            // SAFETY: the kernel has just stored a new descriptor here (CLONE_PIDFD) and nobody else owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Fork::Parent { pid: i32::try_from(pid).unwrap_or(i32::MAX), pidfd: PidFd::from(fd) })
        }
        _ => Err(last(|| format!("clone3({})", names(namespaces)))),
    }
}

/// Ends this process without running anything of the parent's (no destructors, no atexit).
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

/// setns(2) with a pidfd: joins several of that process's namespaces in one step (Linux 5.8).
pub fn join_all(process: &PidFd, namespaces: CloneFlags) -> Result<()> {
    nix::sched::setns(process.as_fd(), namespaces).named(|| format!("setns(pidfd, {})", names(namespaces)))
}

/// The user namespace that owns a namespace (NS_GET_USERNS, ioctl_ns(2)).
pub fn owner_of(namespace: BorrowedFd<'_>) -> Result<OwnedFd> {
    // _IO(0xb7, 1) of linux/nsfs.h.
    const NS_GET_USERNS: libc::Ioctl = 0xb701;
    // SAFETY: this request takes no argument and writes no memory of ours.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_USERNS) };
    if fd < 0 {
        return Err(last(|| "ioctl(NS_GET_USERNS)".to_owned()));
    }
    // SAFETY: the kernel has just made this descriptor and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// setns(2) with a namespace's own descriptor.
pub fn join(namespace: BorrowedFd<'_>, kind: CloneFlags) -> Result<()> {
    nix::sched::setns(namespace, kind).named(|| format!("setns({})", names(kind)))
}

/// unshare(2).
pub fn unshare(namespaces: CloneFlags) -> Result<()> {
    nix::sched::unshare(namespaces).named(|| format!("unshare({})", names(namespaces)))
}

/// Has the kernel kill us when our parent's thread ends (PR_SET_PDEATHSIG). A change of credentials clears it, so this
/// comes after the last of those. False: the parent had already gone. `parent` is its pid as we see it, `None` when it
/// is outside our pid namespace: then the caller must learn of its death in another way (end of file on a socket).
pub fn die_with_parent(parent: Option<i32>) -> Result<bool> {
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).named(|| "prctl(PR_SET_PDEATHSIG)".to_owned())?;
    Ok(parent.is_none_or(|pid| nix::unistd::getppid().as_raw() == pid))
}

/// `CLONE_NEWUSER|CLONE_NEWPID`, for errors.
fn names(flags: CloneFlags) -> String {
    let names: Vec<&str> = flags.iter_names().map(|(name, _)| name).collect();
    if names.is_empty() { "0".to_owned() } else { names.join("|") }
}

/// Opens one of our own namespaces: `mnt`, `net`, …
pub fn own_namespace(name: &str) -> Result<OwnedFd> {
    let path = format!("/proc/self/ns/{name}");
    std::fs::File::open(&path).map(OwnedFd::from).named(|| format!("open({path})"))
}

/// Opens a namespace of another process: `net`, `user`, … Whoever has only a number compares afterwards whose it is.
pub fn namespace_of(pid: i32, name: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{name}");
    std::fs::File::open(&path).map(OwnedFd::from).named(|| format!("open({path})"))
}

/// The descriptor of a pidfd, for poll.
impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.as_fd().as_raw_fd()
    }
}
