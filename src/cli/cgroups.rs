//! The cgroups of a pod, as its record names them: what `stats`, `tree`, `ps`, `inspect` and `update` look at.

use std::path::{Path, PathBuf};

use crate::host::usage::{self, Frozen};
use crate::plan::cgroup::CgroupPlan;
use crate::plan::degradation;
use crate::report::{Report, exit_code};
use crate::state::{ContainerRecord, ContainerState, Liveness, Status, StoredPod};

/// The pod's own cgroup. `None`: it was started without one, or has ended.
pub(crate) fn of_pod(pod: &StoredPod) -> Option<&Path> {
    let cgroup = pod.record()?.cgroup.as_deref()?;
    // A path of a pod that has ended may be another's by now.
    (pod.liveness == Liveness::Supervised).then_some(cgroup)
}

/// The leaf of a container in this life or its last; it may be gone.
pub(crate) fn of_container(pod: &StoredPod, container: &ContainerRecord) -> Option<PathBuf> {
    Some(of_pod(pod)?.join(container.leaf.as_deref()?))
}

/// The running containers that are frozen, or on their way there. Looked up, never stored: the kernel knows.
pub(crate) fn paused(pod: &StoredPod) -> Vec<&str> {
    running(pod).filter(|container| is_paused(pod, container)).map(|container| container.name.as_str()).collect()
}

pub(crate) fn is_paused(pod: &StoredPod, container: &ContainerRecord) -> bool {
    let state = of_container(pod, container).and_then(|leaf| usage::frozen(&leaf));
    state.is_some_and(|state| state != Frozen::No)
}

/// The pod's status in a word or two, with what the cgroups say: `Paused`, `Running (nginx paused)`.
pub(crate) fn status(pod: &StoredPod) -> (&'static str, String) {
    let status = pod.status();
    let paused = if status == Status::Running { paused(pod) } else { Vec::new() };
    if paused.is_empty() {
        (status.word(), status.to_string())
    } else if paused.len() == running(pod).count() {
        ("Paused", "Paused".to_owned())
    } else {
        (status.word(), format!("{status} ({} paused)", paused.join(", ")))
    }
}

fn running(pod: &StoredPod) -> impl Iterator<Item = &ContainerRecord> {
    let containers = pod.record().map(|record| record.containers.as_slice()).unwrap_or_default();
    containers.iter().filter(|container| matches!(container.state, ContainerState::Running { .. }))
}

/// `what` cannot be done because the pod has no cgroup; why, and what would give it one.
pub(crate) fn lacking(pod: &StoredPod, what: impl Into<String>) -> Report {
    let report = Report::new(exit_code::FAILURE, what);
    let Some(plan) = &pod.plan else {
        return report.because("its plan cannot be read").hint("`sandpod ps -a` shows what is left of it");
    };
    match plan.degradations.iter().find(|found| found.name == degradation::NO_CGROUP) {
        Some(found) => report.because(found.meaning.clone()).hint(found.fix.clone()),
        // Where the host could give one, only the waiver leaves a pod without.
        None if plan.sandbox.cgroup == CgroupPlan::Inherited => report
            .because("it has no cgroup of its own: it was started with --cgroups=disabled")
            .hint("start it again without that option"),
        None => report.because("it is only starting, or has just ended").hint("`sandpod ps -a` shows which"),
    }
}
