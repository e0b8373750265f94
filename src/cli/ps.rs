//! `sandpod ps`

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::arguments::{PsArguments, PsOutput};
use super::table::{age, table};
use super::verdicts::{OOM_KILLED, is_killed};
use super::{Outcome, cgroups, networks, print, store};
use crate::state::{ContainerRecord, ContainerState, EVICTED, Liveness, Record, Status, StoredPod};
use crate::sys::process::{Exit, signal_name};

/// Of a container that is only coming up: nothing went wrong.
const CREATING: &str = "ContainerCreating";

/// Living pods, or with `--all` also what is left of others.
pub(crate) fn ps(asked: &PsArguments) -> Outcome {
    let all = store()?.list()?;
    let pods: Vec<&StoredPod> = all.iter().filter(|pod| asked.all || pod.status().is_live()).collect();
    let named = asked.output == Some(PsOutput::Name);
    if asked.quiet || named {
        let line = |pod: &&StoredPod| format!("{}\n", print::escape(if named { &pod.name } else { &pod.id }));
        print::text(&pods.iter().map(line).collect::<String>())?;
        return Ok(0);
    }
    if asked.json {
        print::json(&pods.iter().map(|pod| row_json(&all, pod)).collect::<Vec<Value>>())?;
        return Ok(0);
    }
    let now = Timestamp::now();
    let wide = asked.output == Some(PsOutput::Wide);
    let heading = ["NAME", "ID", "STATUS", "READY", "RESTARTS", "AGE", "CONTAINERS"];
    let more: &[&str] = if wide { &["IP", "PORTS"] } else { &[] };
    let mut rows = vec![heading.iter().chain(more).map(|word| (*word).to_owned()).collect()];
    rows.extend(pods.iter().map(|pod| {
        let mut row = row(&all, pod, now);
        if wide {
            row.extend([networks::addresses(pod), networks::published(pod)]);
        }
        row
    }));
    print::text(&table(&rows))?;
    Ok(0)
}

fn row(all: &[StoredPod], pod: &StoredPod, now: Timestamp) -> Vec<String> {
    let (ready, total) = ready(pod);
    let restarts = pod.record().map(restarts).map_or_else(|| "-".to_owned(), |count| count.to_string());
    let age =
        pod.record().map_or_else(|| "-".to_owned(), |record| age(now.as_second() - record.created_at.as_second()));
    vec![
        pod.name.clone(),
        pod.id.clone(),
        status(all, pod),
        format!("{ready}/{total}"),
        restarts,
        age,
        shown(pod).join(","),
    ]
}

fn row_json(all: &[StoredPod], pod: &StoredPod) -> Value {
    let (ready, total) = ready(pod);
    let status = pod.status();
    json!({
        "name": pod.name,
        "id": pod.id,
        "status": cgroups::status(pod).0,
        "reason": status.reason(),
        "paused": cgroups::paused(pod),
        "network": networks::describe(all, pod),
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
        shown["message"] = json!(container.message);
        shown["lastMessage"] = json!(container.last_message);
        (container.name.clone(), shown)
    };
    record.containers.iter().map(with_last).collect()
}

/// In a word or two. As kubectl has it, the reason why a container waits for its next start comes before `Running`. What a
/// container's own cell says is not said twice; `inspect` has it all.
fn status(all: &[StoredPod], pod: &StoredPod) -> String {
    let (word, status) = cgroups::status(pod);
    let containers = pod.record().map(|record| record.containers.as_slice()).unwrap_or_default();
    if status == Status::Running.word()
        && let Some(reason) = containers.iter().find_map(waits)
    {
        return reason.to_owned();
    }
    if let Some(trouble) = networks::trouble(all, pod) {
        return format!("{word} ({trouble})");
    }
    let found = pod.status();
    if found.reason().is_some_and(|why| why.starts_with(EVICTED)) {
        return EVICTED.to_owned();
    }
    let names = |container: &ContainerRecord| {
        mark(container).is_some() && found.reason().is_some_and(|why| why.contains(&format!("`{}`", container.name)))
    };
    if containers.iter().any(names) { word.to_owned() } else { status }
}

/// Why it does not run just now, where it has run before.
fn waits(container: &ContainerRecord) -> Option<&str> {
    match &container.state {
        ContainerState::Waiting { reason } if reason != CREATING => Some(reason),
        ContainerState::Waiting { .. } | ContainerState::Running { .. } | ContainerState::Terminated { .. } => None,
    }
}

/// What went wrong with a container: that its memory ran out also when that was in the life before.
fn mark(container: &ContainerRecord) -> Option<String> {
    if is_killed(container) {
        return Some(OOM_KILLED.to_owned());
    }
    match &container.state {
        ContainerState::Terminated { exit: Exit::Code(0), .. } | ContainerState::Running { .. } => None,
        ContainerState::Terminated { exit, reason, .. } => match (reason.as_str(), exit) {
            ("Error" | "Completed", Exit::Code(code)) => Some(format!("exit {code}")),
            ("Error" | "Completed", Exit::Signal(signal)) => Some(signal_name(*signal)),
            (reason, _) => Some(reason.to_owned()),
        },
        ContainerState::Waiting { .. } => waits(container).map(str::to_owned),
    }
}

/// The containers, each with what went wrong.
fn shown(pod: &StoredPod) -> Vec<String> {
    let Some(record) = pod.record() else { return containers(pod) };
    let one = |container: &ContainerRecord| match mark(container) {
        Some(mark) => format!("{} ({mark})", container.name),
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
