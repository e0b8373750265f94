//! The network of a pod, as its plan and its record have it: what `ps` and `inspect` show.

use serde_json::{Value, json};

use super::ports;
use crate::plan::network::{Join, Joined, NetworkPlan};
use crate::report::{Report, exit_code};
use crate::state::{NetworkRecord, NetworkState, PortsState, Status, Store, StoredPod};

/// What joining a pod's network takes.
pub(crate) fn join(store: &Store, name: &str) -> Result<Join, Report> {
    let pod = store.find(name)?;
    let refuse = |why: &str| {
        Report::new(exit_code::FAILURE, format!("the network of pod `{}` cannot be joined", pod.name)).because(why)
    };
    let pause = pod.record().filter(|_| pod.status().is_live()).and_then(|record| record.pause);
    let (Some(pause), Some(plan)) = (pause, &pod.plan) else {
        return Err(refuse("it does not run"));
    };
    let network = plan.sandbox.network.inside().clone();
    if network == NetworkPlan::Host {
        return Err(refuse("it is on the host's network").hint("so can this one be: --network host"));
    }
    let joined = Joined {
        id: pod.id.clone(),
        name: pod.name.clone(),
        pause: (pause.pid, pause.start_time),
        network: Box::new(network),
    };
    Ok(Join { joined, idmap: plan.sandbox.idmap.clone() })
}

/// What a running pod lacks of its network just now.
pub(crate) fn trouble(pod: &StoredPod) -> Option<&'static str> {
    if pod.status() != Status::Running {
        return None;
    }
    let record = pod.record()?;
    if record.network.as_ref().is_some_and(|network| network.state != NetworkState::Up) {
        return Some("network down");
    }
    (record.ports == Some(PortsState::Lost)).then_some("ports down")
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

/// `0.0.0.0:8080->80/tcp`, and `0.0.0.0:8000-8010->8000-8010/tcp` where they follow upon each other.
pub(crate) fn published(pod: &StoredPod) -> String {
    let shown = pod.plan.as_ref().map(|plan| ports::folded(&plan.sandbox.ports)).unwrap_or_default();
    if shown.is_empty() { "-".to_owned() } else { shown.join(",") }
}

pub(crate) fn describe(pod: &StoredPod) -> Value {
    let Some(plan) = &pod.plan else { return Value::Null };
    let network = &plan.sandbox.network;
    let (kind, by) = match network {
        NetworkPlan::Host => ("host", None),
        NetworkPlan::Loopback => ("none", None),
        NetworkPlan::UserMode(user_mode) => ("private", Some(user_mode.backend.word())),
        NetworkPlan::Joined(joined) => ("pod", Some(joined.name.as_str())),
    };
    let record = pod.record().and_then(|record| record.network.as_ref());
    let live = record.map(|NetworkRecord { state, trouble, sandboxed, unsandboxed, restarts }| {
        json!({ "state": state, "trouble": trouble, "sandboxed": sandboxed, "unsandboxed": unsandboxed, "restarts": restarts })
    });
    json!({
        "kind": kind,
        "by": by,
        "addresses": plan.sandbox.network.addresses(),
        "published": plan.sandbox.ports.iter().flat_map(ports::arrows).collect::<Vec<String>>(),
        "ports": pod.record().and_then(|record| record.ports),
        "now": live,
    })
}
