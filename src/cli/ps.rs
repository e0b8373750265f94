//! `sandpod ps`

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::arguments::PsArguments;
use super::table::{age, table};
use super::{Outcome, cgroups, print, store};
use crate::state::{ContainerRecord, ContainerState, Liveness, Record, StoredPod};
use crate::sys::process::Exit;

/// The reason that the supervisor writes down (Kubernetes' word).
const OOM_KILLED: &str = "OOMKilled";

/// Living pods, or with `--all` also what is left of others.
pub(crate) fn ps(asked: &PsArguments) -> Outcome {
    let mut pods = store()?.list()?;
    pods.retain(|pod| asked.all || pod.status().is_live());
    if asked.json {
        print::json(&pods.iter().map(row_json).collect::<Vec<Value>>())?;
        return Ok(0);
    }
    let now = Timestamp::now();
    let heading = ["NAME", "ID", "STATUS", "READY", "RESTARTS", "AGE", "CONTAINERS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    rows.extend(pods.iter().map(|pod| row(pod, now)));
    print::text(&table(&rows))?;
    Ok(0)
}

fn row(pod: &StoredPod, now: Timestamp) -> Vec<String> {
    let (ready, total) = ready(pod);
    let restarts = pod.record().map(restarts).map_or_else(|| "-".to_owned(), |count| count.to_string());
    let age =
        pod.record().map_or_else(|| "-".to_owned(), |record| age(now.as_second() - record.created_at.as_second()));
    let (_, status) = cgroups::status(pod);
    vec![pod.name.clone(), pod.id.clone(), status, format!("{ready}/{total}"), restarts, age, shown(pod).join(",")]
}

fn row_json(pod: &StoredPod) -> Value {
    let (ready, total) = ready(pod);
    let status = pod.status();
    json!({
        "name": pod.name,
        "id": pod.id,
        "status": cgroups::status(pod).0,
        "reason": status.reason(),
        "paused": cgroups::paused(pod),
        "ready": ready,
        "total": total,
        "restarts": pod.record().map(restarts),
        "createdAt": pod.record().map(|record| record.created_at),
        "containers": containers(pod),
        "states": pod.record().map(states),
    })
}

/// Of each container: what it is, why, and how the life before ended.
fn states(record: &Record) -> Map<String, Value> {
    let state = |container: &ContainerRecord| match &container.state {
        ContainerState::Waiting { reason } => json!({ "state": "Waiting", "reason": reason }),
        ContainerState::Running { .. } => json!({ "state": "Running" }),
        ContainerState::Terminated { exit, reason, .. } => {
            json!({ "state": "Terminated", "reason": reason, "exit": exit.code() })
        }
    };
    let with_last = |container: &ContainerRecord| {
        let mut shown = state(container);
        shown["lastExit"] = json!(container.last_exit.map(Exit::code));
        shown["lastReason"] = json!(container.last_reason);
        (container.name.clone(), shown)
    };
    record.containers.iter().map(with_last).collect()
}

/// The containers; one whose memory ran out, now or in the life before, says so.
fn shown(pod: &StoredPod) -> Vec<String> {
    let Some(record) = pod.record() else { return containers(pod) };
    let reason = |container: &ContainerRecord| match &container.state {
        ContainerState::Terminated { reason, .. } => Some(reason.clone()),
        ContainerState::Waiting { .. } | ContainerState::Running { .. } => container.last_reason.clone(),
    };
    let one = |container: &ContainerRecord| match reason(container).filter(|reason| reason == OOM_KILLED) {
        Some(reason) => format!("{} ({reason})", container.name),
        None => container.name.clone(),
    };
    record.containers.iter().map(one).collect()
}

/// (running, all). What a dead supervisor's record calls running is not.
fn ready(pod: &StoredPod) -> (usize, usize) {
    let running = |record: &Record| {
        record.containers.iter().filter(|c| matches!(c.state, ContainerState::Running { .. })).count()
    };
    let running = pod.record().filter(|_| pod.liveness == Liveness::Supervised).map_or(0, running);
    (running, containers(pod).len())
}

fn restarts(record: &Record) -> u32 {
    record.containers.iter().map(|container| container.restarts).sum()
}

fn containers(pod: &StoredPod) -> Vec<String> {
    match (pod.record(), &pod.plan) {
        (Some(record), _) => record.containers.iter().map(|container| container.name.clone()).collect(),
        (None, Some(plan)) => plan.containers.iter().map(|container| container.name.clone()).collect(),
        (None, None) => Vec::new(),
    }
}
