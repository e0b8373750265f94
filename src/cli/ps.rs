//! `sandpod ps`

use jiff::Timestamp;
use serde_json::{Value, json};

use super::arguments::PsArguments;
use super::table::{age, table};
use super::{Outcome, cgroups, print, store};
use crate::state::{ContainerState, Liveness, StoredPod};

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
    vec![pod.name.clone(), pod.id.clone(), status, format!("{ready}/{total}"), restarts, age, containers(pod).join(",")]
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
    })
}

/// (running, all). What a dead supervisor's record calls running is not.
fn ready(pod: &StoredPod) -> (usize, usize) {
    let running = |record: &crate::state::Record| {
        record.containers.iter().filter(|c| matches!(c.state, ContainerState::Running { .. })).count()
    };
    let running = pod.record().filter(|_| pod.liveness == Liveness::Supervised).map_or(0, running);
    (running, containers(pod).len())
}

fn restarts(record: &crate::state::Record) -> u32 {
    record.containers.iter().map(|container| container.restarts).sum()
}

fn containers(pod: &StoredPod) -> Vec<String> {
    match (pod.record(), &pod.plan) {
        (Some(record), _) => record.containers.iter().map(|container| container.name.clone()).collect(),
        (None, Some(plan)) => plan.containers.iter().map(|container| container.name.clone()).collect(),
        (None, None) => Vec::new(),
    }
}
