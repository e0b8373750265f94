//! Every process below this one, as /proc shows them.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use sandpod::sys::process::PidFd;

#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) state: char,
    /// comm, which follows execve(2).
    pub(crate) name: String,
    /// Its pids from the outermost pid namespace inwards.
    pub(crate) pids: Vec<i32>,
    /// It still has an address space: a killed one that is being taken down has none.
    pub(crate) has_memory: bool,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Process { pid, parent, state, name, pids, has_memory } = self;
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        write!(f, "pid {pid} parent {parent} state {state} memory {has_memory} pids {pids:?} {name}: {command}")
    }
}

fn read(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(Process {
        pid,
        parent: field("PPid:")?.parse().ok()?,
        state: field("State:")?.chars().next()?,
        name: field("Name:")?.to_owned(),
        pids: field("NSpid:")?.split_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        has_memory: field("VmRSS:").is_some(),
    })
}

/// Children of children included, zombies, too.
pub(crate) fn descendants() -> Vec<Process> {
    below(std::process::id().cast_signed())
}

pub(crate) fn below(root: i32) -> Vec<Process> {
    let mut found: Vec<Process> = children(root);
    let mut at = 0;
    while at < found.len() {
        found.extend(children(found[at].pid));
        at += 1;
    }
    found
}

/// proc_pid_task_children(5): far quicker than reading every process of the machine. Of every thread: each has those that
/// it forked.
fn children(parent: i32) -> Vec<Process> {
    let Ok(threads) = fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let lists = threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| read(pid.parse().ok()?)).collect::<Vec<_>>())
        .collect()
}

/// SIGKILL through a pidfd; waits until the process has no open files any more, and so no lock. False: it had gone.
pub(crate) fn kill(process: &Process) -> bool {
    let Ok(fd) = PidFd::open(process.pid) else { return false };
    // The pid may have been given to another since we looked.
    let same = read(process.pid).is_some_and(|now| now.parent == process.parent);
    let killed = same && fd.signal(9).is_ok();
    let deadline = Instant::now() + Duration::from_secs(20);
    while killed && read(process.pid).is_some_and(|now| now.state != 'Z') && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
    killed
}

/// Reaps what came to us, and leaves alone the children that somebody waits for.
pub(crate) fn reap_but(awaited: &BTreeSet<i32>) {
    let me = std::process::id().cast_signed();
    for zombie in descendants().iter().filter(|process| process.state == 'Z' && process.parent == me) {
        if !awaited.contains(&zombie.pid) {
            let _ = waitpid(Pid::from_raw(zombie.pid), Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// Waits until nothing is below us, and reaps what comes to us. What is still there in the end.
pub(crate) fn left_after(within: Duration) -> Vec<String> {
    let deadline = Instant::now() + within;
    loop {
        let found = descendants();
        for zombie in found.iter().filter(|process| process.state == 'Z') {
            // Not ours yet: its parent is about to be reaped itself.
            let _ = waitpid(Pid::from_raw(zombie.pid), Some(WaitPidFlag::WNOHANG));
        }
        if found.is_empty() {
            return Vec::new();
        }
        if Instant::now() >= deadline {
            return found.iter().map(Process::to_string).collect();
        }
        std::thread::sleep(Duration::from_millis(4));
    }
}

/// For the end of a failed test.
pub(crate) fn end_all() {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let found = descendants();
        if found.is_empty() {
            return;
        }
        for process in &found {
            kill(process);
            let _ = waitpid(Pid::from_raw(process.pid), Some(WaitPidFlag::WNOHANG));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
