//! `sandpod inspect`

use std::path::Path;

use serde_json::{Map, Value, json};

use super::arguments::InspectArguments;
use super::{Outcome, cgroups, networks, print, store};
use crate::host::processes::{NAMESPACES, namespace, oom_score_adj};
use crate::host::usage;
use crate::state::{ContainerRecord, ContainerState, StoredPod, StoredRecord};
use crate::sys::process::{Exit, ProcessId};

/// Plan, record, and what is looked up now. Always JSON.
pub(crate) fn inspect(asked: &InspectArguments) -> Outcome {
    let store = store()?;
    let pod = store.find(&asked.pod)?;
    print::json(&describe(&networks::owners(&store, &pod), &pod))?;
    Ok(0)
}

fn describe(pods: &[StoredPod], pod: &StoredPod) -> Value {
    let status = pod.status();
    let record = pod.record();
    let containers: Map<String, Value> = record
        .map(|record| record.containers.iter().map(|c| (c.name.clone(), container(pod, c))).collect())
        .unwrap_or_default();
    json!({
        "id": pod.id,
        "name": pod.name,
        "status": cgroups::status(pod).0,
        "reason": status.reason(),
        "network": networks::describe(pods, pod),
        "dirs": pod.dirs,
        "qosClass": pod.plan.as_ref().map(|plan| plan.sandbox.qos),
        "cgroup": cgroups::of_pod(pod).map(cgroup),
        "supervisor": record.and_then(|record| record.supervisor).and_then(living).map(|process| process.pid),
        "pause": record.and_then(|record| record.pause).and_then(living).map(process),
        "containers": containers,
        "record": match &pod.record {
            StoredRecord::Read(record) => json!(record),
            StoredRecord::Damaged(reason) => json!({ "damaged": reason }),
            StoredRecord::Missing => Value::Null,
        },
        "plan": pod.plan,
    })
}

fn container(pod: &StoredPod, container: &ContainerRecord) -> Value {
    let (running, exit, reason) = match &container.state {
        ContainerState::Running { process, .. } => (living(*process), None, None),
        ContainerState::Terminated { exit, reason, .. } => (None, Some(exit.code()), Some(reason)),
        ContainerState::Waiting { reason } => (None, None, Some(reason)),
    };
    let mut shown = running.map_or_else(|| json!({ "pid": null, "namespaces": null, "oomScoreAdj": null }), process);
    shown["exit"] = json!(exit);
    shown["reason"] = json!(reason);
    shown["lastExit"] = json!(container.last_exit.map(Exit::code));
    shown["lastReason"] = json!(container.last_reason);
    shown["message"] = json!(container.message);
    shown["lastMessage"] = json!(container.last_message);
    shown["cgroup"] = json!(cgroups::of_container(pod, container).as_deref().map(cgroup));
    shown["paused"] = json!(cgroups::is_paused(pod, container));
    shown
}

/// Its path and what its files say now; `null` for what is not measured or limited there, or where it is gone.
fn cgroup(path: &Path) -> Value {
    let Some(usage) = usage::usage(path) else { return Value::Null };
    json!({
        "path": path,
        "cpuMax": usage.cpu.and_then(|cpu| cpu.max),
        "memoryMaxBytes": usage.memory.max_bytes,
        "swapMaxBytes": usage.memory.swap_max_bytes,
        "pidsMax": usage.pids.max,
        "oomKills": usage.memory.events.map(|events| events.oom_kill),
    })
}

fn living(process: ProcessId) -> Option<ProcessId> {
    process.is_alive().then_some(process)
}

fn process(process: ProcessId) -> Value {
    let namespaces: Map<String, Value> =
        NAMESPACES.iter().map(|kind| ((*kind).to_owned(), json!(namespace(process.pid, kind)))).collect();
    json!({ "pid": process.pid, "namespaces": namespaces, "oomScoreAdj": oom_score_adj(process.pid) })
}
