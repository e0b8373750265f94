//! The network of a pod, as its plan and its record have it: what `ps` and `inspect` show.

use serde_json::{Value, json};

use super::ports;
use crate::plan::degradation::NO_NETWORK;
use crate::plan::network::{Join, Joined, NetworkPlan};
use crate::plan::ports::of_the_hosts_network;
use crate::plan::{NamespaceMode, PodPlan};
use crate::report::{Report, exit_code};
use crate::state::{NetworkRecord, NetworkState, PortsRecord, PortsState, Record, Status, Store, StoredPod};

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
    let joined = match &plan.sandbox.network {
        NetworkPlan::Host => {
            return Err(refuse("it is on the host's network").hint("so can this one be: --network host"));
        }
        // Joined itself: the pod whose network it is decides how long there is one.
        NetworkPlan::Joined(joined) => {
            if owner(&owners(store, &pod), joined).is_none() {
                return Err(refuse(&format!("its network was that of pod `{}`, which has ended", joined.name)));
            }
            joined.clone()
        }
        network @ (NetworkPlan::Loopback | NetworkPlan::UserMode(_)) => Joined {
            id: pod.id.clone(),
            name: pod.name.clone(),
            pause: (pause.pid, pause.start_time),
            network: Box::new(network.clone()),
        },
    };
    let host_pid = plan.sandbox.namespaces.pid == NamespaceMode::Node;
    let host_paths = plan.sandbox.host_paths.iter().map(|host| host.path.clone()).collect();
    Ok(Join { joined, idmap: plan.sandbox.idmap.clone(), host_pid, host_paths })
}

/// The pod whose network `pod` has joined, if there is one: all that [`describe`] has to know of other pods.
pub(crate) fn owners(store: &Store, pod: &StoredPod) -> Vec<StoredPod> {
    match pod.plan.as_ref().map(|plan| &plan.sandbox.network) {
        Some(NetworkPlan::Joined(joined)) => store.by_id(&joined.id).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// The pod whose network was joined, while it runs.
fn owner<'a>(pods: &'a [StoredPod], joined: &Joined) -> Option<&'a StoredPod> {
    let pod = pods.iter().find(|pod| pod.id == joined.id)?;
    let pause = pod.record().and_then(|record| record.pause)?;
    ((pause.pid, pause.start_time) == joined.pause && pod.status().is_live()).then_some(pod)
}

/// What a running pod lacks of its network just now, or altogether. `pods` has the one whose network it has joined.
pub(crate) fn trouble(pods: &[StoredPod], pod: &StoredPod) -> Option<&'static str> {
    if pod.status() != Status::Running {
        return None;
    }
    let (record, plan) = (pod.record()?, pod.plan.as_ref()?);
    let owner = match &plan.sandbox.network {
        NetworkPlan::Joined(joined) => owner(pods, joined),
        NetworkPlan::Host | NetworkPlan::Loopback | NetworkPlan::UserMode(_) => None,
    };
    let is_down = |record: &Record| record.network.as_ref().is_some_and(|network| network.state != NetworkState::Up);
    if is_down(record) || owner.and_then(StoredPod::record).is_some_and(is_down) {
        return Some("network down");
    }
    if ports_down(pod).is_some() {
        return Some("ports down");
    }
    let plans = [Some(plan), owner.and_then(|owner| owner.plan.as_ref())];
    let wanted_one = |plan: &PodPlan| plan.degradations.iter().any(|degradation| degradation.name == NO_NETWORK);
    plans.into_iter().flatten().any(wanted_one).then_some("no network")
}

/// A running pod whose published ports nobody answers at just now.
pub(crate) fn ports_down(pod: &StoredPod) -> Option<&PortsRecord> {
    let publishing = pod.record().filter(|_| pod.status() == Status::Running)?.publishing.as_ref();
    publishing.filter(|publishing| publishing.state == PortsState::Down)
}

/// The plan of a pod that is there: an ended one has its addresses and ports no longer.
fn live_plan(pod: &StoredPod) -> Option<&PodPlan> {
    pod.plan.as_ref().filter(|_| pod.status().is_live())
}

/// IPv4 first; `host` for a pod on the host's network.
pub(crate) fn addresses(pod: &StoredPod) -> String {
    match live_plan(pod).map(|plan| &plan.sandbox.network) {
        None => "-".to_owned(),
        Some(NetworkPlan::Host) => "host".to_owned(),
        Some(network) => {
            let own: Vec<String> = network.addresses().iter().map(ToString::to_string).collect();
            if own.is_empty() { "-".to_owned() } else { own.join(",") }
        }
    }
}

/// `0.0.0.0:8080->80/tcp`, and `0.0.0.0:8000-8010->8000-8010/tcp` where they follow upon each other; whether they are down, or
/// the host's own.
pub(crate) fn published(pod: &StoredPod) -> String {
    let Some(plan) = live_plan(pod) else { return "-".to_owned() };
    let own = ports::folded(&of_the_hosts_network(plan)).join(",");
    if !own.is_empty() {
        return own + ports::HOST_NETWORK;
    }
    match ports::folded(&plan.sandbox.ports).join(",") {
        none if none.is_empty() => "-".to_owned(),
        ports if ports_down(pod).is_some() => format!("{ports} (down)"),
        ports => ports,
    }
}

/// `pods`: as [`trouble`] has them.
pub(crate) fn describe(pods: &[StoredPod], pod: &StoredPod) -> Value {
    let Some(plan) = &pod.plan else { return Value::Null };
    let network = &plan.sandbox.network;
    let (kind, by) = match network {
        NetworkPlan::Host => ("host", None),
        NetworkPlan::Loopback => ("none", None),
        NetworkPlan::UserMode(user_mode) => ("private", Some(user_mode.backend.word())),
        NetworkPlan::Joined(joined) => ("pod", Some(joined.name.as_str())),
    };
    let record = pod.record().and_then(|record| record.network.as_ref());
    let live = record.map(|NetworkRecord { state, trouble, sandboxed, unsandboxed, restarts, program: _ }| {
        json!({ "state": state, "trouble": trouble, "sandboxed": sandboxed, "unsandboxed": unsandboxed, "restarts": restarts })
    });
    json!({
        "kind": kind,
        "by": by,
        "addresses": plan.sandbox.network.addresses(),
        "published": plan.sandbox.ports.iter().flat_map(ports::arrows).collect::<Vec<String>>(),
        "ports": pod.record().and_then(|record| record.publishing.as_ref()).map(ports_now),
        "lacks": trouble(pods, pod),
        "now": live,
    })
}

fn ports_now(PortsRecord { state, trouble, restarts, proxy: _ }: &PortsRecord) -> Value {
    json!({ "state": state, "trouble": trouble, "restarts": restarts })
}
