//! The end of a pod's cgroups: everything in them is killed, then they are removed from the leaves up.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file;
use super::leaf::number;
use crate::plan::cgroup::of_supervisor;
use crate::report::{Report, exit_code};
use crate::sys::process::PidFd;

/// For processes that die, and for the kernel to let go of them.
const DEADLINE: Duration = Duration::from_secs(5);

/// Kills and removes the pod's subtree and the supervisor's leaf beside it; what is gone is no error. A caller that is in
/// one of them (the supervisor) is spared, and then that stays for the next.
pub fn remove(pod: &Path) -> Vec<Report> {
    let failed =
        |why: String| vec![Report::new(exit_code::FAILURE, format!("could not remove {}", pod.display())).because(why)];
    let deadline = Instant::now() + DEADLINE;
    let tops = [pod.to_owned(), of_supervisor(pod)];
    if let Some(clients) = pod.parent().map(|parent| parent.join(super::CLIENTS)) {
        // Refused while somebody is in it.
        let _ = remove_empty(&clients);
    }
    for top in tops.iter().filter(|top| top.exists() && !contains_us(top)) {
        if !kill(top, deadline) {
            return failed(format!(
                "processes in {} live after SIGKILL: see `dmesg` and /proc/PID/stack",
                top.display()
            ));
        }
        if let Err(error) = remove_tree(top, deadline) {
            return failed(error.to_string());
        }
    }
    Vec::new()
}

/// Whether the calling process is in this cgroup or below it.
fn contains_us(cgroup: &Path) -> bool {
    let me = std::process::id().to_string();
    let mut ahead = vec![cgroup.to_owned()];
    while let Some(here) = ahead.pop() {
        if file::read(&here, "cgroup.procs").is_ok_and(|pids| pids.lines().any(|pid| pid == me)) {
            return true;
        }
        ahead.extend(children(&here));
    }
    false
}

/// SIGKILL to all, and the wait for their end. False: some live on.
fn kill(top: &Path, deadline: Instant) -> bool {
    loop {
        let populated = file::read(top, "cgroup.events").ok().and_then(|events| number(&events, "populated"));
        if populated != Some(1) {
            return true;
        }
        // Written again in each round: a container thaws nothing and forks nothing meanwhile, but before Linux 5.14 there
        // is no cgroup.kill, and then it is a race that only many rounds win.
        if file::write(top, "cgroup.kill", "1").is_err() {
            kill_each(top);
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
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
        ahead.extend(children(&here));
    }
}

/// Containers may have made cgroups of their own below their leaf.
fn remove_tree(top: &Path, deadline: Instant) -> io::Result<()> {
    let mut found = vec![top.to_owned()];
    let mut next = 0;
    while let Some(here) = found.get(next) {
        found.extend(children(here));
        next += 1;
    }
    for cgroup in found.iter().rev() {
        // EBUSY for a moment after the last process has gone.
        while let Err(error) = remove_empty(cgroup) {
            if error.kind() != ErrorKind::ResourceBusy || Instant::now() >= deadline {
                return Err(io::Error::new(error.kind(), format!("rmdir({}): {error}", cgroup.display())));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

pub(super) fn remove_empty(cgroup: &Path) -> io::Result<()> {
    match std::fs::remove_dir(cgroup) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn children(cgroup: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(cgroup) else { return Vec::new() };
    let directories = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.path()).collect()
}
