//! `sandpod rm`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::arguments::RmArguments;
use super::client::{self, Connected};
use super::{Failure, Outcome, print, store};
use crate::engine::cgroup;
use crate::engine::remove::remove_pod;
use crate::host::{self, holds_lock, processes};
use crate::plan::idmap::{self, IdMapPlan, MapWriter};
use crate::report::{Report, exit_code};
use crate::state::{Liveness, Phase, Status, StoredPod, wait_released};
use crate::supervisor::protocol::Request;
use crate::sys::probe;
use crate::sys::process::ProcessId;
use crate::sys::signals::SIGKILL;

/// The kernel ends a killed process at once unless it hangs in a device or a network file system.
const DEATH: Duration = Duration::from_secs(10);

/// How long a supervisor may take to end its pod itself before it is killed: it answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a supervisor is called (proc_pid_comm(5)).
const SANDPOD: &str = "sandpod";
/// What the processes that it starts are called, or how their names begin.
const HELPERS: [&str; 4] = ["sandpod:", "slirp4netns", "pasta", "passt"];
/// The programs that are pause (`engine/programs.rs`), as /proc/PID/exe shows them. Its name does not say it on every kernel:
/// before Linux 6.14 and its backports it is the number of the descriptor that was executed (execveat(2)).
const PAUSES: [&str; 2] = ["/memfd:pause", "/memfd:sandpod"];

/// Removes every named pod, names each that is gone, and goes on after a failure.
pub(crate) fn rm(asked: &RmArguments) -> Outcome {
    let store = store()?;
    if !asked.all {
        return super::each(&asked.pods, |name| {
            let pod = store.find(name)?;
            if !asked.force && !has_ended(&pod) {
                return Err(still_runs(&pod).into());
            }
            remove_and_name(&pod)
        });
    }
    // Each is read when its turn comes: of many, the last one's state is old by then.
    super::each(&store.list_ids()?, |id| match store.by_id(id) {
        Some(pod) if asked.force || has_ended(&pod) => remove_and_name(&pod),
        // It runs; or another `rm` was faster, or its own supervisor.
        Some(_) | None => Ok(()),
    })
}

fn remove_and_name(pod: &StoredPod) -> Result<(), Failure> {
    let failed = remove(pod);
    if !failed.is_empty() {
        return Err(Failure::Reports(failed));
    }
    print::text(&format!("{}\n", print::escape(&pod.name))).map_err(Failure::from)
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
    if let Some(data) = pod.data_elsewhere() {
        return vec![files_elsewhere(pod, data)];
    }
    let failed = take_down(pod);
    // Two commands may remove it at once, and what fails for the one is what the other has done already.
    if pod.exists() { failed } else { Vec::new() }
}

fn take_down(pod: &StoredPod) -> Vec<Report> {
    if let Err(report) = end(pod) {
        return vec![report];
    }
    let remove = |idmap: &IdMapPlan| remove_pod(&pod.dirs, &pod.entries(), idmap, &[], own_cgroup(pod).as_deref());
    match idmap_of(pod) {
        Some(idmap) => remove(idmap),
        // The widest map this user can have holds every id that the pod can have used.
        None => match host::probe(&host::Asked::default()) {
            Ok(facts) => remove(&idmap::widest(&facts)),
            Err(report) => vec![report],
        },
    }
}

/// `None`: the plan cannot be read, or names other programs than newuidmap and newgidmap: those would be executed.
fn idmap_of(pod: &StoredPod) -> Option<&IdMapPlan> {
    let idmap = &pod.plan.as_ref()?.sandbox.idmap;
    let trusted = match &idmap.writer {
        MapWriter::Direct | MapWriter::Privileged => true,
        MapWriter::Tools { newuidmap, newgidmap } => host::are_idmap_tools(newuidmap, newgidmap),
    };
    trusted.then_some(idmap)
}

/// Where the pod says that its cgroup is, if that is a cgroup at all. The pod's own may be gone already and its
/// supervisor's, beside it, not.
fn own_cgroup(pod: &StoredPod) -> Option<PathBuf> {
    pod.cgroup().filter(|cgroup| cgroup.parent().is_some_and(probe::is_cgroup2))
}

/// Its record would be removed and its files would stay for ever.
fn files_elsewhere(pod: &StoredPod, data: &Path) -> Report {
    let shown = data.ancestors().nth(3).unwrap_or(data).display();
    Report::new(
        exit_code::FAILURE,
        format!("could not remove pod `{}`: its files are in another data directory", pod.name),
    )
    .because(format!("they are in {}", data.display()))
    .because("it was started with another $XDG_DATA_HOME (or $HOME)")
    .hint(format!("`XDG_DATA_HOME={shown} sandpod rm -f {}`", pod.name))
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
        let supervisor = supervisor(pod);
        if let Some(supervisor) = supervisor {
            kill(supervisor).map_err(failed)?;
        }
        // It starts nothing any more. A child of its that is on its way into a container holds on to the lock, also after
        // another `rm` has killed the supervisor; if it is frozen there, the kernel finds it in the pod's cgroups.
        if let Some(cgroup) = own_cgroup(&pod.reload()) {
            cgroup::kill(&cgroup);
        }
        match supervisor {
            Some(supervisor) if !wait_released(&pod.dirs, DEATH) => {
                return Err(Report::new(exit_code::FAILURE, what())
                    .because(format!("process {} was killed but has not gone", supervisor.pid)));
            }
            None if !wait_released(&pod.dirs, PATIENCE) => {
                return Err(Report::new(exit_code::FAILURE, what())
                    .because("it is supervised, but its record does not say by which process")
                    .hint(format!("`fuser -k {}` kills what holds it", pod.dirs.data.join("plan.json").display())));
            }
            Some(_) | None => {}
        }
    }
    // The lock may have been deleted (a cleaner of /tmp): what the record names is killed all the same.
    // The port proxy dies with the supervisor, but holds the ports until it has.
    // Read again, since it may have been replaced until its supervisor was killed.
    let latest = (!leaves).then(|| pod.reload());
    let Some(record) = latest.as_ref().unwrap_or(pod).record() else { return Ok(()) };
    let supervisor = record.supervisor.filter(|process| !leaves && is_supervisor(*process, &pod.id));
    let network = record.network.as_ref().and_then(|network| network.program);
    let proxy = record.publishing.as_ref().and_then(|publishing| publishing.proxy);
    let others = [record.pause, network, proxy].into_iter().flatten();
    let others = others.filter(|process| is_helper(*process, supervisor));
    for process in supervisor.into_iter().chain(others) {
        kill(process).map_err(failed)?;
    }
    Ok(())
}

/// Whether it holds a lock of this pod, as the kernel has it. Others may have written the record, and who is named in it
/// is killed.
fn is_supervisor(process: ProcessId, id: &str) -> bool {
    let locks = ["lock", "plan.json"].map(|name| format!("/pods/{id}/{name}"));
    // The file may have been deleted under it.
    let is_lock = |target: &Path| {
        let shown = target.to_string_lossy();
        locks.iter().any(|lock| shown.strip_suffix(" (deleted)").unwrap_or(&shown).ends_with(lock))
    };
    holds_lock(process.pid, is_lock) && process.is_alive()
}

/// Whether it is one of the processes that a supervisor starts, and not of the supervisor of another pod. `supervisor` is
/// this pod's, where it lives: what the record says of it is not believed.
fn is_helper(process: ProcessId, supervisor: Option<ProcessId>) -> bool {
    let name = |pid: i32| processes::name(pid).unwrap_or_default();
    let parent = process.parent();
    let is_anothers = parent
        .is_some_and(|parent| Some(parent) != supervisor.map(|supervisor| supervisor.pid) && name(parent) == SANDPOD);
    let program = processes::program(process.pid);
    let begins = |begin: &str| program.as_ref().is_ok_and(|program| program.to_string_lossy().starts_with(begin));
    let is_pause = PAUSES.iter().any(|pause| begins(pause));
    // Each is executed from memory, or cannot be looked into: another program's slirp4netns is neither.
    let is_closed = program.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    let is_named = HELPERS.iter().any(|helper| name(process.pid).starts_with(helper));
    (is_pause || (is_named && (begins("/memfd:") || is_closed))) && !is_anothers
}

/// Asks the supervisor to end the pod at once: it reaps what it kills, which is quicker than leaving that to pid 1.
fn stops_by_itself(pod: &StoredPod) -> bool {
    let request = Request::Stop { grace_seconds: Some(0) };
    let asked = serde_json::to_vec(&request).ok().and_then(|bytes| {
        let Ok(Connected::ToSupervisor(channel)) = client::connect(pod) else { return None };
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
        if let Ok(Connected::ToSupervisor(channel)) = client::connect(pod)
            && let Ok((pid, _)) = channel.peer()
        {
            found = ProcessId::of(pid);
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        found = pod.reload().record().and_then(|record| record.supervisor);
    }
    found.filter(|process| is_supervisor(*process, &pod.id)).or_else(|| holder(&pod.dirs.data.join("plan.json")))
}

/// The process of ours that holds a file's lock: where the runtime directory was deleted under a living pod, this is all that
/// is left to find its supervisor by.
fn holder(file: &Path) -> Option<ProcessId> {
    host::lock_holder(file).and_then(ProcessId::of)
}

fn kill(process: ProcessId) -> crate::sys::Result<()> {
    let Some(pidfd) = process.open()? else { return Ok(()) };
    pidfd.signal(SIGKILL)?;
    pidfd.wait_gone(DEATH).map(drop)
}
