//! The one way down: a failed start, `rm`, and the cleaning after a crash all come here, as often as they like.
//!
//! First the processes, then the pod's directory on disk, then its entries in the index (its name, its claim), then the
//! runtime directory with the record. So whatever interrupts this, `rm` still finds the pod and can begin again.
//!
//! Most of what containers write belongs to subordinate ids, which we may not touch as ourselves but which root of a
//! user namespace with the same map may: a child of ours becomes that for a moment. With an isolated map that root is a
//! stranger to our own directories. **Therefore a directory that takes a container's files is made with mode 0777, below
//! parents of ours with 0700**: nobody else gets there by path, and the child works from a descriptor that it inherits.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::failure::{During as _, Failure};
use super::idmap::write_maps;
use super::layers;
use super::sandbox::root_of;
use super::tree::{empty_directory, remove_tree};
use crate::plan::dirs::id_of_target;
use crate::plan::idmap::{IdMapPlan, UsernsMode};
use crate::plan::{LayerPlace, PodDirs, PodPlan, container_root};
use crate::report::{Report, exit_code};
use crate::step::Step;
use crate::sys::clone::{Fork, Parent, die_with_parent, exit_now, fork_into};
use crate::sys::own_dir::OwnDir;
use crate::sys::privileges::become_identity;
use crate::sys::process::{PidFd, ProcessId, wait_for};
use crate::sys::signals::SIGKILL;
use crate::sys::socket::Channel;
use crate::sys::tree::open_directory;
use crate::sys::{Errno, Error, Namespaces};

/// SIGKILL takes effect at once, unless the kernel itself is stuck.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// For a tree of millions of files.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(600);
/// Reports for one directory; the rest is counted.
const MAX_REPORTS: usize = 10;

/// Ends `processes` (in this order: supervisor, then pause, which takes the containers with it) and removes what the
/// pod has on disk. What is already gone is no error. As long as something stays, so does the record.
///
/// The caller has a single thread (see [`fork_into`]) and may be traced by its own uid: newuidmap(1) looks at the owner
/// of `/proc/PID`, which a process that is not dumpable gives to root.
pub fn remove_pod(
    dirs: &PodDirs,
    entries: &[PathBuf],
    idmap: &IdMapPlan,
    processes: &[ProcessId],
    cgroup: Option<&Path>,
) -> Vec<Report> {
    let alive = end_processes(processes);
    if !alive.is_empty() {
        // They could still write what we remove.
        return alive;
    }
    // What no process of ours has taken along.
    let alive = cgroup.map_or_else(Vec::new, |cgroup| super::cgroup::remove(cgroup, idmap));
    if !alive.is_empty() {
        return alive;
    }
    // Without a runtime directory (it goes with the boot) the data directory is the last by which the pod is found.
    let is_last = !dirs.runtime.exists();
    let left = if is_last { remove_entries(dirs, entries) } else { Vec::new() };
    if !left.is_empty() {
        return left;
    }
    for directory in layers::directories(dirs).into_iter().chain([dirs.data.clone()]) {
        let left = remove_data(&directory, idmap);
        if !left.is_empty() {
            return left;
        }
    }
    let left = if is_last { Vec::new() } else { remove_entries(dirs, entries) };
    if !left.is_empty() {
        return left;
    }
    remove_runtime(&dirs.runtime)
}

/// Those of `entries` that are of the pod: its name may be another's by now.
fn remove_entries(dirs: &PodDirs, entries: &[PathBuf]) -> Vec<Report> {
    let id = dirs.data.file_name().unwrap_or_default();
    let is_its = |directory: &OwnDir, entry: &OsStr| match directory.link_target(entry) {
        Ok(target) => id_of_target(&target).is_some_and(|of| of == id),
        // A claim: its file name has the id.
        Err(error) => error.errno == Errno::EINVAL,
    };
    let remove = |entry: &PathBuf| {
        let (directory, name) = entry.parent().zip(entry.file_name())?;
        let removed = OwnDir::in_store(directory).and_then(|directory| match is_its(&directory, name) {
            true => directory.remove(name),
            false => Ok(()),
        });
        let error = removed.err().filter(|error| error.errno != Errno::ENOENT)?;
        Some(Report::new(exit_code::FAILURE, not_removed(entry)).because(error.to_string()))
    };
    entries.iter().filter_map(remove).collect()
}

/// What containers wrote outside volumes, as far as we can remove it as ourselves, when none of them runs any more and
/// [`remove_pod`] is to follow: there is time for it while pause dies. What it leaves is for that.
pub fn remove_layers(plan: &PodPlan) {
    for container in &plan.containers {
        let directory = match plan.sandbox.place_of(&container.root) {
            LayerPlace::Data => &plan.sandbox.dirs.data,
            LayerPlace::Directory(directory) => directory,
            // Gone with the last process that could see it.
            LayerPlace::Memory { .. } => continue,
        };
        let Ok(directory) = OwnDir::of_pod(directory) else { continue };
        let _ = remove_tree(directory.as_fd(), OsStr::new(&container_root(&container.name)));
    }
}

fn end_processes(processes: &[ProcessId]) -> Vec<Report> {
    let what = |process: &ProcessId| format!("could not end process {}", process.pid);
    let report =
        |process: &ProcessId, error: &Error| Report::new(exit_code::FAILURE, what(process)).because(error.to_string());
    let deadline = Instant::now() + KILL_DEADLINE;
    let mut reports = Vec::new();
    let mut ending = Vec::new();
    for process in processes {
        match process.open() {
            Ok(None) => {}
            Ok(Some(pidfd)) => match pidfd.signal(SIGKILL) {
                Ok(()) => ending.push((process, pidfd)),
                Err(error) => reports.push(report(process, &error)),
            },
            Err(error) => reports.push(report(process, &error)),
        }
    }
    for (process, pidfd) in ending {
        match pidfd.wait_gone(deadline.saturating_duration_since(Instant::now())) {
            Ok(true) => {}
            Ok(false) => reports.push(
                Report::new(exit_code::FAILURE, what(process))
                    .because(format!("it still lives {} s after SIGKILL", KILL_DEADLINE.as_secs()))
                    .hint("it is stuck inside the kernel: see /proc/PID/stack and `dmesg`"),
            ),
            Err(error) => reports.push(report(process, &error)),
        }
    }
    reports
}

/// First as ourselves, which is enough for a pod that wrote little; then what is left as the pod's own ids; then again
/// as ourselves the directories that this has emptied.
fn remove_data(path: &Path, idmap: &IdMapPlan) -> Vec<Report> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else { return Vec::new() };
    let parent = match OwnDir::in_store(parent) {
        Ok(parent) => parent,
        Err(error) if error.errno == Errno::ENOENT => return Vec::new(),
        Err(error) => return reports(path, vec![error]),
    };
    let errors = remove_tree(parent.as_fd(), name);
    // A map of one id has no rights that we lack.
    if errors.is_empty() || idmap.mode == UsernsMode::Single {
        return reports(path, errors);
    }
    let inside = remove_in_userns(parent.as_fd(), name, idmap, empty_directory);
    let errors = remove_tree(parent.as_fd(), name);
    match inside {
        _ if errors.is_empty() => Vec::new(),
        Ok(inside) if inside.is_empty() => reports(path, errors),
        Ok(inside) => reports(path, inside),
        Err(failure) => vec![failure.into_report(not_removed(path))],
    }
}

/// The record goes last but for the lock: without it nobody would find the pod again.
fn remove_runtime(path: &Path) -> Vec<Report> {
    let Some((parent, name)) = path.parent().zip(path.file_name()) else { return Vec::new() };
    let (parent, directory) =
        match OwnDir::in_store(parent).and_then(|parent| Ok((open_directory(parent.as_fd(), name)?, parent))) {
            Ok((directory, parent)) => (parent, directory),
            Err(error) if error.errno == Errno::ENOENT => return Vec::new(),
            Err(error) => return reports(path, vec![error]),
        };
    let mut errors = Vec::new();
    let listed = crate::sys::tree::for_each_entry(directory.as_fd(), |entry, _| {
        if entry != "record.json" && entry != "lock" {
            errors.extend(remove_tree(directory.as_fd(), &entry));
        }
        true
    });
    errors.extend(listed.err());
    if errors.is_empty() {
        errors = remove_tree(directory.as_fd(), OsStr::new("record.json"));
    }
    if errors.is_empty() {
        errors = remove_tree(parent.as_fd(), name);
    }
    reports(path, errors)
}

fn not_removed(path: &Path) -> String {
    format!("could not remove {}", path.display())
}

fn reports(path: &Path, errors: Vec<Error>) -> Vec<Report> {
    let more = errors.len().saturating_sub(MAX_REPORTS);
    let report = |line: String| Report::new(exit_code::FAILURE, not_removed(path)).because(line);
    let shown = errors.iter().take(MAX_REPORTS).map(|error| report(error.to_string()));
    shown.chain((more > 0).then(|| report(format!("and {more} more like these")))).collect()
}

/// What the child says; the end of the stream without `Done` is its death.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// Something stays.
    Stays {
        call: String,
        errno: i32,
    },
    Failed(Failure),
    Done,
}

/// How a directory is emptied. Errors: what stays.
pub(super) type Empty = fn(BorrowedFd<'_>) -> Vec<Error>;

/// Empties the directory `name` in `parent` as root of a new user namespace with the pod's map. Errors: what stays.
pub(super) fn remove_in_userns(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    idmap: &IdMapPlan,
    empty: Empty,
) -> Result<Vec<Error>, Failure> {
    // Opened by us: the parents' 0700 keeps out the ids that the child is about to take on.
    let directory = match open_directory(parent, name) {
        Ok(directory) => directory,
        Err(error) if error.errno == Errno::ENOENT => return Ok(Vec::new()),
        other => other.during(Step::CreateNamespaces, name.display())?,
    };
    let (ours, childs) = Channel::pair().during(Step::CreateNamespaces, "")?;
    match fork_into(Namespaces::CLONE_NEWUSER, Parent::Caller).during(Step::CreateNamespaces, "")? {
        Fork::Child => {
            // Or it would never see our end close.
            drop(ours);
            exit_now(i32::from(empty_as_root(&childs, directory.as_fd(), idmap, empty).is_none()))
        }
        Fork::Parent { pid, pidfd } => {
            drop(childs);
            let child = Child { pid, pidfd };
            write_maps(child.pid, idmap)?;
            ours.send(b"go", &[]).during(Step::BecomeRoot, "")?;
            collect(&ours)
        }
    }
}

fn collect(channel: &Channel) -> Result<Vec<Error>, Failure> {
    const STEP: Step = Step::BecomeRoot;
    let deadline = Instant::now() + REMOVAL_DEADLINE;
    let mut errors = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(message) = channel.receive_within(left).during(STEP, "")? else {
            return Err(Failure::because(STEP, "", "the process that removes files as the pod's ids has died"));
        };
        match serde_json::from_slice(&message.bytes) {
            Ok(Word::Stays { call, errno }) => errors.push(Error { call, errno: Errno::from_raw(errno) }),
            Ok(Word::Failed(failure)) => return Err(failure),
            Ok(Word::Done) => return Ok(errors),
            Err(error) => return Err(Failure::because(STEP, "", format!("not understood: {error}"))),
        }
    }
}

/// The child: exists because only root of the pod's map may remove what the pod's ids own; ends when that is done, or
/// with its parent. `None`: nobody listens.
fn empty_as_root(channel: &Channel, directory: BorrowedFd<'_>, idmap: &IdMapPlan, empty: Empty) -> Option<()> {
    let say = |word: &Word| channel.send(&serde_json::to_vec(word).ok()?, &[]).ok();
    // Until the maps are written it has no id that it could take on.
    channel.receive().ok()??;
    if let Err(failure) = become_identity(&root_of(idmap)).during(Step::BecomeRoot, "") {
        return say(&Word::Failed(failure));
    }
    // After the change of ids, which clears it. A parent that died before has closed the channel: the words fail.
    die_with_parent(None).ok()?;
    for error in empty(directory) {
        say(&Word::Stays { errno: error.number(), call: error.call })?;
    }
    say(&Word::Done)
}

/// The child, from outside: dropped, it is killed and reaped.
struct Child {
    pid: i32,
    pidfd: PidFd,
}

impl Drop for Child {
    fn drop(&mut self) {
        // It has said its last word, or we do not want to hear it: either way nothing is lost.
        let _ = self.pidfd.signal(SIGKILL);
        // ECHILD where the supervisor's loop was faster.
        let _ = wait_for(self.pid);
    }
}

#[cfg(test)]
mod tests;
