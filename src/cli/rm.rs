//! `sandpod rm`

use std::path::Path;
use std::time::{Duration, Instant};

use super::arguments::RmArguments;
use super::{Failure, Outcome, print, store};
use crate::engine::cgroup;
use crate::engine::remove::remove_pod;
use crate::host;
use crate::plan::idmap;
use crate::report::{Report, exit_code};
use crate::state::{Liveness, Phase, Status, Store, StoredPod, wait_released};
use crate::supervisor::protocol::Request;
use crate::sys::process::ProcessId;
use crate::sys::socket::Channel;

/// SIGKILL (signal(7)).
const KILL: i32 = 9;
/// The kernel ends a killed process at once unless it hangs in a device or a network file system.
const DEATH: Duration = Duration::from_secs(10);

/// How long a supervisor may take to end its pod itself before it is killed: it answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Removes every named pod, names each that is gone, and goes on after a failure.
pub(crate) fn rm(asked: &RmArguments) -> Outcome {
    let store = store()?;
    let names = if asked.all { all(&store, asked.force)? } else { asked.pods.clone() };
    super::each(&names, |name| {
        let pod = store.find(name)?;
        if !asked.force && !has_ended(&pod) {
            return Err(still_runs(&pod).into());
        }
        let failed = remove(&pod);
        if !failed.is_empty() {
            return Err(Failure::Reports(failed));
        }
        print::text(&format!("{}\n", print::escape(&pod.name))).map_err(Failure::from)
    })
}

/// By id: a damaged pod may have no name, and two may claim the same.
fn all(store: &Store, force: bool) -> Result<Vec<String>, Report> {
    let mut pods = store.list()?;
    pods.retain(|pod| force || has_ended(pod));
    Ok(pods.into_iter().map(|pod| pod.id).collect())
}

/// A supervisor outlives its pod by the moment that the teardown takes; `remove` waits for it.
fn has_ended(pod: &StoredPod) -> bool {
    pod.liveness == Liveness::Unsupervised || matches!(pod.status(), Status::Succeeded | Status::Failed { .. })
}

fn still_runs(pod: &StoredPod) -> Report {
    Report::new(exit_code::FAILURE, format!("pod `{}` is running", pod.name))
        .because(format!("it is {}", pod.status()))
        .hint(format!("`sandpod stop {0}` first, or `sandpod rm -f {0}`", pod.name))
}

/// Kills what lives of the pod and removes what it left; the same for a pod that ended, was killed, or half exists.
pub(crate) fn remove(pod: &StoredPod) -> Vec<Report> {
    if let Err(report) = end(pod) {
        return vec![report];
    }
    match &pod.plan {
        Some(plan) => remove_pod(&pod.dirs, &plan.sandbox.idmap, &[], pod.cgroup().as_deref()),
        // Its plan cannot be read: the widest map this user can have holds every id that it can have used.
        None => match host::probe(&host::Asked::default()) {
            Ok(facts) => remove_pod(&pod.dirs, &idmap::widest(&facts), &[], pod.cgroup().as_deref()),
            Err(report) => vec![report],
        },
    }
}

/// Supervisor first, so that it restarts nothing; its death takes pause along, and pause's every process of the pod.
pub(crate) fn end(pod: &StoredPod) -> Result<(), Report> {
    let what = || format!("could not end pod `{}`", pod.name);
    let failed = |error: crate::sys::Error| Report::new(exit_code::FAILURE, what()).because(error.to_string());
    let leaves = match pod.liveness {
        Liveness::Supervised => stops_by_itself(pod),
        // It has let go of the pod when it had written how that ended, and tells others so.
        Liveness::Unsupervised => {
            pod.record().is_some_and(|record| matches!(record.phase, Phase::Succeeded | Phase::Failed { .. }))
        }
    };
    if pod.liveness == Liveness::Supervised && !leaves {
        match supervisor(pod) {
            Some(supervisor) => {
                kill(supervisor).map_err(failed)?;
                // It starts nothing any more. A child of its that was on its way into a container and stands still there
                // (frozen) holds on to the lock; in the pod's cgroups the kernel finds it.
                if let Some(cgroup) = pod.reload().cgroup() {
                    cgroup::kill(&cgroup);
                }
                if !wait_released(&pod.dirs, DEATH) {
                    return Err(Report::new(exit_code::FAILURE, what())
                        .because(format!("process {} was killed but has not gone", supervisor.pid)));
                }
            }
            // Another `rm`, or its own end, was faster.
            None if wait_released(&pod.dirs, Duration::ZERO) => {}
            None => {
                return Err(Report::new(exit_code::FAILURE, what())
                    .because("it is supervised, but its record does not say by which process")
                    .hint(format!("`fuser -k {}` kills whoever holds it", pod.dirs.data.join("plan.json").display())));
            }
        }
    }
    // The lock may have been deleted (a cleaner of /tmp): what the record names is killed all the same.
    // The port proxy dies with the supervisor, but holds the ports until it has.
    // Read again, since it may have been replaced until its supervisor was killed.
    let latest = (!leaves).then(|| pod.reload());
    let recorded = latest.as_ref().unwrap_or(pod).record().map(|record| {
        let network = record.network.as_ref().and_then(|network| network.program);
        let proxy = record.publishing.as_ref().and_then(|publishing| publishing.proxy);
        [record.supervisor.filter(|_| !leaves), record.pause, network, proxy]
    });
    for process in recorded.into_iter().flatten().flatten() {
        kill(process).map_err(failed)?;
    }
    Ok(())
}

/// Asks the supervisor to end the pod at once: it reaps what it kills, which is quicker than leaving that to pid 1.
fn stops_by_itself(pod: &StoredPod) -> bool {
    let request = Request::Stop { grace_seconds: Some(0) };
    let asked = serde_json::to_vec(&request).ok().and_then(|bytes| {
        let channel = Channel::connect(&pod.control_socket()).ok()?;
        channel.send(&bytes, &[]).ok()?;
        channel.receive_within(PATIENCE).ok()
    });
    asked.is_some() && wait_released(&pod.dirs, PATIENCE)
}

/// A supervisor writes who it is as its first act: give one that was born a moment ago the time for it.
fn supervisor(pod: &StoredPod) -> Option<ProcessId> {
    let deadline = Instant::now() + Duration::from_secs(1);
    let mut found = pod.record().and_then(|record| record.supervisor);
    while found.is_none() && Instant::now() < deadline {
        // With a damaged record it is still known to the kernel: whoever listens on the socket.
        if let Ok(listener) = Channel::connect(&pod.control_socket()).and_then(|channel| channel.peer()) {
            return ProcessId::of(listener.0);
        }
        std::thread::sleep(Duration::from_millis(5));
        found = pod.reload().record().and_then(|record| record.supervisor);
    }
    found.or_else(|| holder(&pod.dirs.data.join("plan.json")))
}

/// The process of ours that holds a file's lock: where the runtime directory was deleted under a living pod, this is all that
/// is left to find its supervisor by.
fn holder(file: &Path) -> Option<ProcessId> {
    let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // Who only reads it has no lock, or a shared one ("READ"; proc_pid_fdinfo(5)). Others cannot be looked into.
    let locks_it = |pid: i32, fd: &std::fs::DirEntry| {
        let number = fd.file_name();
        std::fs::read_link(fd.path()).is_ok_and(|target| target == file)
            && std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", number.display()))
                .is_ok_and(|text| text.lines().any(|line| line.starts_with("lock:") && line.contains("WRITE")))
    };
    let has_it = |pid: &i32| {
        let mut open = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.any(|fd| locks_it(*pid, &fd))
    };
    pids.into_iter().find(has_it).and_then(ProcessId::of)
}

fn kill(process: ProcessId) -> crate::sys::Result<()> {
    let Some(pidfd) = process.open()? else { return Ok(()) };
    pidfd.signal(KILL)?;
    pidfd.wait_gone(DEATH).map(drop)
}
