//! `sandpod inspect`

use serde_json::{Map, Value, json};

use super::arguments::InspectArguments;
use super::{Outcome, print, store};
use crate::state::{ContainerRecord, ContainerState, StoredPod, StoredRecord};
use crate::sys::process::ProcessId;

/// The directory entries of `/proc/PID/ns` that say which namespaces a process is in (namespaces(7)).
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];

/// Plan, record, and what is looked up now. Always JSON.
pub(crate) fn inspect(asked: &InspectArguments) -> Outcome {
    print::json(&describe(&store()?.find(&asked.pod)?))?;
    Ok(0)
}

fn describe(pod: &StoredPod) -> Value {
    let status = pod.status();
    let record = pod.record();
    let containers: Map<String, Value> = record
        .map(|record| record.containers.iter().map(|c| (c.name.clone(), container(c))).collect())
        .unwrap_or_default();
    json!({
        "id": pod.id,
        "name": pod.name,
        "status": status.word(),
        "reason": status.reason(),
        "dirs": pod.dirs,
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

fn container(container: &ContainerRecord) -> Value {
    match &container.state {
        ContainerState::Running { process: running, .. } => match living(*running) {
            Some(running) => process(running),
            None => json!({ "pid": null, "exit": null, "namespaces": null }),
        },
        ContainerState::Terminated { exit, .. } => json!({ "pid": null, "exit": exit.code(), "namespaces": null }),
        ContainerState::Waiting { .. } => json!({ "pid": null, "exit": null, "namespaces": null }),
    }
}

fn living(process: ProcessId) -> Option<ProcessId> {
    process.is_alive().then_some(process)
}

fn process(process: ProcessId) -> Value {
    let namespaces: Map<String, Value> =
        NAMESPACES.iter().map(|kind| ((*kind).to_owned(), json!(namespace(process.pid, kind)))).collect();
    json!({ "pid": process.pid, "exit": null, "namespaces": namespaces })
}

/// The number in `net:[4026531840]`; `None` where the link may not be read (ptrace access mode, proc_pid_ns(5)).
fn namespace(pid: i32, kind: &str) -> Option<u64> {
    let target = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    target.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespaces_have_numbers() {
        let me = ProcessId::of_self().expect("/proc");
        let shown = process(me);
        for kind in NAMESPACES {
            assert!(shown["namespaces"][kind].as_u64().is_some_and(|id| id > 0), "{kind}: {shown}");
        }
    }
}
