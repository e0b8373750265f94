//! Ends what a container's first process leaves behind when it has no pid namespace of its own.
//!
//! In its own pid namespace the kernel does it (pid_namespaces(7)). With `shareProcessNamespace` or `hostPID` there are
//! only two marks of who belongs to a container: its cgroup, where there is one, and its mount namespace. A
//! process that makes a user namespace of its own can leave that; until it is closed by seccomp or ended by a cgroup, it
//! lives until the pod ends (docs/security.md).

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use crate::sys::process::PidFd;

/// A mount namespace, held open: the number by which `/proc/PID/ns/mnt` shows it goes to a new one as soon as it is gone,
/// and that one's processes may be another pod's.
#[derive(Debug)]
pub struct MountNamespace {
    _held: File,
    number: u64,
}

impl MountNamespace {
    /// As the container's first process sent it, which may have ended by now.
    #[must_use]
    pub fn held(namespace: OwnedFd) -> Option<MountNamespace> {
        let held = File::from(namespace);
        let number = held.metadata().ok()?.ino();
        Some(MountNamespace { _held: held, number })
    }

    fn has(&self, pid: i32) -> bool {
        std::fs::metadata(format!("/proc/{pid}/ns/mnt")).is_ok_and(|namespace| namespace.ino() == self.number)
    }
}

/// Rounds: one that forks faster than we read /proc is out of hand for everything but a cgroup.
const MAX_ROUNDS: usize = 50;

/// SIGKILL to every process in the mount namespace, until a look at all processes finds none. False: it gave up.
#[must_use]
pub fn kill_all(namespace: &MountNamespace) -> bool {
    (0..MAX_ROUNDS).any(|_| {
        let members = members(namespace);
        for process in &members {
            // Gone in between: just as well.
            let _ = process.signal(9);
        }
        members.is_empty()
    })
}

/// Opened first and compared second, so that no pid is somebody else's by the time it is signalled. Zombies have no
/// namespaces any more and are not seen.
fn members(namespace: &MountNamespace) -> Vec<PidFd> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| namespace.has(*pid))
        .filter_map(|pid| {
            let process = PidFd::open(pid).ok()?;
            namespace.has(pid).then_some(process)
        })
        .collect()
}
