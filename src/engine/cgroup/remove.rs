//! The end of a pod's cgroups: everything in them is killed, then they are removed from the leaves up.
//!
//! What a container has made below its own cgroup may belong to other ids of the pod, or be closed to its owner (mode 0).
//! Root of a user namespace with the pod's map can remove that, and is asked only then: a map costs milliseconds.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::leaf::number;
use super::{file, leftovers};
use crate::engine::remove::remove_in_userns;
use crate::plan::cgroup::of_supervisor;
use crate::plan::idmap::IdMapPlan;
use crate::report::{Report, exit_code};
use crate::sys::path::open_host_path;
use crate::sys::process::PidFd;
use crate::sys::tree::{EntryKind, for_each_entry, open_directory, remove_directory};
use crate::sys::{Errno, Error};

/// For processes that die, and for the kernel to let go of them.
const DEADLINE: Duration = Duration::from_secs(5);
/// More than a container can make (`DEEPEST_CGROUP`): it ends the walk where that limit could not be set.
const DEEPEST_WALK: usize = 64;
/// Lines of one report; as many say enough.
const MAX_LINES: usize = 10;

/// Kills and removes the pod's subtree and the supervisor's leaf beside it; what is gone is no error. A caller that is in
/// one of them (the supervisor) is spared, and then that stays for the next.
pub fn remove(pod: &Path, idmap: &IdMapPlan) -> Vec<Report> {
    let deadline = Instant::now() + DEADLINE;
    let mut failed = Vec::new();
    for top in tops(pod).filter(|top| top.exists()) {
        let what = || Report::new(exit_code::FAILURE, format!("could not remove {}", top.display()));
        if !is_empty_by(&top, deadline) {
            failed.push(what().because("processes in it live after SIGKILL: see `dmesg` and /proc/PID/stack"));
            continue;
        }
        let stays = remove_tree(&top, idmap, deadline);
        if !stays.is_empty() {
            failed.push(stays.iter().take(MAX_LINES).fold(what(), |report, error| report.because(error.to_string())));
        }
    }
    if let Some(parent) = pod.parent() {
        leftovers::sweep(parent);
    }
    failed
}

/// SIGKILL to everything in them, at once; their end is not waited for. It reaches who stands still there, too.
pub fn kill(pod: &Path) {
    tops(pod).for_each(|top| kill_now(&top));
}

/// The pod's cgroup and that of its supervisor, without the one that the calling process is in.
fn tops(pod: &Path) -> impl Iterator<Item = PathBuf> {
    let ours = file::own().unwrap_or_default();
    // Each has the pod's id in its name: no other cgroup has the same.
    let contains_us = move |top: &PathBuf| ours.iter().any(|part| Some(part) == top.file_name());
    [pod.to_owned(), of_supervisor(pod)].into_iter().filter(move |top| !contains_us(top))
}

/// SIGKILL to all, and the wait for their end. False: some live on.
fn is_empty_by(top: &Path, deadline: Instant) -> bool {
    while is_populated(top) {
        // Written again in each round: a container thaws nothing and forks nothing meanwhile, but before Linux 5.14 there
        // is no cgroup.kill, and then it is a race that only many rounds win.
        kill_now(top);
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Whether a process is in it or below it.
pub(super) fn is_populated(cgroup: &Path) -> bool {
    file::read(cgroup, "cgroup.events").is_ok_and(|events| number(&events, "populated") == Some(1))
}

fn kill_now(top: &Path) {
    if file::write(top, "cgroup.kill", "1").is_err() {
        kill_each(top);
    }
}

fn kill_each(top: &Path) {
    let mut ahead = vec![top.to_owned()];
    while let Some(here) = ahead.pop() {
        let listed = |here: &Path| -> BTreeSet<i32> {
            file::read(here, "cgroup.procs").unwrap_or_default().lines().filter_map(|pid| pid.parse().ok()).collect()
        };
        for pid in listed(&here) {
            // Opened first and looked for again second, so that no pid is somebody else's by the time it is signalled.
            if let Ok(process) = PidFd::open(pid)
                && listed(&here).contains(&pid)
            {
                let _ = process.signal(9);
            }
        }
        // Who hides in a cgroup that cannot be listed keeps the top populated, and that is what the caller reports.
        let entries = std::fs::read_dir(&here).into_iter().flatten().flatten();
        ahead.extend(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
    }
}

/// Removes a cgroup without processes and all below it. What stays, and why: nothing, if it is not there.
pub(super) fn remove_tree(top: &Path, idmap: &IdMapPlan, deadline: Instant) -> Vec<Error> {
    let Some((parent, name)) = top.parent().zip(top.file_name()) else { return Vec::new() };
    let parent = match open_host_path(parent) {
        Ok(parent) => parent,
        Err(error) if error.errno == Errno::ENOENT => return Vec::new(),
        Err(error) => return vec![error],
    };
    let mut stays = remove_by(parent.as_fd(), name, deadline);
    if stays.iter().any(|error| matches!(error.errno, Errno::EACCES | Errno::EPERM)) {
        let inside = remove_in_userns(parent.as_fd(), name, idmap, |directory| remove_below(directory, 0));
        stays = remove_by(parent.as_fd(), name, deadline);
        if let Err(failure) = inside
            && !stays.is_empty()
        {
            let errno = if failure.errno == 0 { Errno::EACCES } else { Errno::from_raw(failure.errno) };
            stays.push(Error { call: format!("as root of the pod: {}", failure.call), errno });
        }
    }
    stays
}

/// As [`remove_tree`] with the rights that we have; what stays is somebody else's to report.
pub(super) fn remove_empty_tree(top: &Path) {
    if let Some((parent, name)) = top.parent().zip(top.file_name())
        && let Ok(parent) = open_host_path(parent)
    {
        let _ = remove_one(parent.as_fd(), name, 0);
    }
}

/// As ourselves, and for as long as the kernel says EBUSY: it does for a moment after the last process has gone.
fn remove_by(parent: BorrowedFd<'_>, name: &OsStr, deadline: Instant) -> Vec<Error> {
    loop {
        let stays = remove_one(parent, name, 0);
        if !stays.iter().any(|error| error.errno == Errno::EBUSY) || Instant::now() >= deadline {
            return stays;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn remove_one(parent: BorrowedFd<'_>, name: &OsStr, depth: usize) -> Vec<Error> {
    let removed = |result: crate::sys::Result<()>| match result {
        Err(error) if error.errno != Errno::ENOENT => vec![error],
        _ => Vec::new(),
    };
    match remove_directory(parent, name) {
        // It has cgroups below it, or processes (and then nothing is removed). Only in tests it is of another file system.
        Err(error) if matches!(error.errno, Errno::EBUSY | Errno::ENOTEMPTY) => {}
        other => return removed(other),
    }
    if depth >= DEEPEST_WALK {
        return vec![Error { call: format!("unlinkat({}), too deep", name.display()), errno: Errno::ELOOP }];
    }
    let stays = match open_directory(parent, name) {
        Ok(directory) => remove_below(directory.as_fd(), depth + 1),
        Err(error) => removed(Err(error)),
    };
    if stays.is_empty() {
        return removed(remove_directory(parent, name));
    }
    let within = |error: Error| Error { call: format!("{} in {}", error.call, name.display()), ..error };
    stays.into_iter().map(within).collect()
}

/// Removes every cgroup below an open one, the deepest first.
fn remove_below(directory: BorrowedFd<'_>, depth: usize) -> Vec<Error> {
    let mut names = Vec::new();
    let listed = for_each_entry(directory, |name, kind| {
        if kind == EntryKind::Directory {
            names.push(name);
        }
        true
    });
    names.iter().flat_map(|name| remove_one(directory, name, depth)).chain(listed.err()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn single() -> IdMapPlan {
        use crate::plan::idmap::{ContainerId, HostId, MapEntry, MapWriter, UsernsMode};
        let me = |id| vec![MapEntry { inside: ContainerId(0), outside: HostId(id), count: 1 }];
        let (uids, gids) = (me(crate::sys::privileges::uid()), me(crate::sys::privileges::gid()));
        IdMapPlan { mode: UsernsMode::Single, why: String::new(), uids, gids, writer: MapWriter::Direct }
    }

    /// Directories of another file system behave alike, but for their files.
    #[test]
    fn a_tree_goes_and_what_is_not_empty_stays_by_name() {
        let dir = tempfile::tempdir().expect("tempdir");
        let top = dir.path().join("top");
        let make = |path: &str| fs::create_dir_all(top.join(path)).expect("mkdir");
        make("a/b/c/d");
        make("a/x");
        make("y");
        assert_eq!(remove_tree(&top, &single(), Instant::now()), []);
        assert!(!top.exists());
        assert_eq!(remove_tree(&top, &single(), Instant::now()), [], "nothing is there any more");
        make("a/b");
        make("a/x");
        fs::write(top.join("a/b/file"), "").expect("write");
        let stays = remove_tree(&top, &single(), Instant::now());
        let [error] = &stays[..] else { panic!("{stays:?}") };
        assert_eq!(error.call, "unlinkat(b, AT_REMOVEDIR) in a in top");
        assert!(top.join("a/b").exists() && !top.join("a/x").exists());
    }
}
