//! The network of a pod, as its plan and its record have it: what `ps` and `inspect` show.

use serde_json::{Value, json};

use super::ports;
use crate::plan::network::NetworkPlan;
use crate::state::{NetworkRecord, NetworkState, Status, StoredPod};

/// What a running pod lacks of its network just now.
pub(crate) fn trouble(pod: &StoredPod) -> Option<&'static str> {
    if pod.status() != Status::Running {
        return None;
    }
    let network = pod.record()?.network.as_ref()?;
    (network.state != NetworkState::Up).then_some("network down")
}

/// IPv4 first; `host` for a pod on the host's network.
pub(crate) fn addresses(pod: &StoredPod) -> String {
    match pod.plan.as_ref().map(|plan| &plan.sandbox.network) {
        None => "-".to_owned(),
        Some(NetworkPlan::Host) => "host".to_owned(),
        Some(network) => {
            let own: Vec<String> = network.addresses().iter().map(ToString::to_string).collect();
            if own.is_empty() { "-".to_owned() } else { own.join(",") }
        }
    }
}

/// `0.0.0.0:8080->80/tcp`
pub(crate) fn published(pod: &StoredPod) -> String {
    let ports = pod.plan.iter().flat_map(|plan| &plan.sandbox.ports);
    let shown: Vec<String> = ports.flat_map(ports::arrows).collect();
    if shown.is_empty() { "-".to_owned() } else { shown.join(",") }
}

pub(crate) fn describe(pod: &StoredPod) -> Value {
    let Some(plan) = &pod.plan else { return Value::Null };
    let (kind, program) = match &plan.sandbox.network {
        NetworkPlan::Host => ("host", None),
        NetworkPlan::Loopback => ("none", None),
        NetworkPlan::UserMode(user_mode) => ("private", Some(user_mode.backend.word())),
    };
    let record = pod.record().and_then(|record| record.network.as_ref());
    let live = record.map(|NetworkRecord { state, trouble, sandboxed, restarts }| {
        json!({ "state": state, "trouble": trouble, "sandboxed": sandboxed, "restarts": restarts })
    });
    json!({
        "kind": kind,
        "program": program,
        "addresses": plan.sandbox.network.addresses(),
        "published": plan.sandbox.ports.iter().flat_map(ports::arrows).collect::<Vec<String>>(),
        "now": live,
    })
}
