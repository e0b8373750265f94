//! `spec`: what concerns the Pod as a whole, and the rules between its containers and volumes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::container::{self, Siblings, Surroundings};
use super::metadata::named;
use super::network::{self, OfTheHost};
use super::resources::{self, Level};
use super::{security, volume};
use crate::manifest::names;
use crate::manifest::object::{Object, Slot};
use crate::manifest::pod::{Container, PodSpec, RestartPolicy, Volume};
use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::tree::Position;

const RESTART_POLICIES: [(&str, RestartPolicy); 3] =
    [("Always", RestartPolicy::Always), ("OnFailure", RestartPolicy::OnFailure), ("Never", RestartPolicy::Never)];

/// Seconds; Kubernetes' default.
const DEFAULT_GRACE: i64 = 30;

/// `userns`: the mode that the annotation `sandpod.dev/userns` asks for.
pub(super) fn read(object: &mut Object<'_>, userns: Option<&str>, problems: &mut Problems) -> PodSpec {
    // Volumes and the pod's security first, wherever they stand: containers are checked against them.
    let volumes = object.take("volumes").map(|slot| volumes(&slot, problems)).unwrap_or_default();
    let host = OfTheHost { network: flag(object, "hostNetwork", problems), ipc: flag(object, "hostIPC", problems) };
    let (security_context, pod_security) = match object.take("securityContext") {
        Some(slot) => security::pod(&slot, host, problems),
        None => Default::default(),
    };
    let surroundings = Surroundings { volumes: &volumes.declared, security: &pod_security, host };
    let containers = object
        .require("containers", "a Pod has at least one container", problems)
        .map(|slot| containers(&slot, &surroundings, problems))
        .unwrap_or_default();
    let resources = object.take("resources").map(|slot| resources::read(&slot, Level::Pod, problems));
    let resources = resources.unwrap_or_default();
    resources::check_pod(&resources, &containers, problems);

    let host_pid = flag(object, "hostPID", problems);
    let share_process_namespace = object.take("shareProcessNamespace").and_then(|slot| {
        let share = slot.boolean(problems)?;
        if share && host_pid {
            slot.invalid(
                problems,
                "must not be true together with hostPID, which already shares all processes; remove one",
            );
        }
        Some(share)
    });
    let shared = Shared { network: host.network, ipc: host.ipc, pid: host_pid };
    host_users(object, &shared, userns, problems);
    let (dns_policy, dns_config) = network::dns(object, problems);
    let grace = object
        .take("terminationGracePeriodSeconds")
        .and_then(|slot| slot.integer(0..=i64::from(i32::MAX), problems))
        .unwrap_or(DEFAULT_GRACE);
    PodSpec {
        containers,
        volumes: volumes.readable,
        restart_policy: object
            .take_text("restartPolicy")
            .and_then(|slot| slot.choice(&RESTART_POLICIES, problems))
            .unwrap_or(RestartPolicy::Always),
        termination_grace_period: Duration::from_secs(grace.unsigned_abs()),
        share_process_namespace: share_process_namespace.unwrap_or(false),
        host_network: host.network,
        host_ipc: host.ipc,
        host_pid,
        hostname: object.take_text("hostname").and_then(|slot| named(&slot, names::dns_label, problems)),
        subdomain: object.take_text("subdomain").and_then(|slot| named(&slot, names::dns_label, problems)),
        set_hostname_as_fqdn: flag(object, "setHostnameAsFQDN", problems),
        host_aliases: object.take("hostAliases").map(|slot| network::host_aliases(&slot, problems)).unwrap_or_default(),
        dns_policy,
        dns_config,
        security_context,
        resources: resources.resources(),
    }
}

/// `hostNetwork`, `hostIPC` and `hostPID`.
struct Shared {
    network: bool,
    ipc: bool,
    pid: bool,
}

/// A pod always has a user namespace of its own, so `false` says what is so. `true`, Kubernetes' default, means here what
/// leaving it out means: `sandpod.dev/userns` decides which host ids the pod's ids are.
fn host_users(object: &mut Object<'_>, shared: &Shared, userns: Option<&str>, problems: &mut Problems) {
    let Some(slot) = object.take("hostUsers") else { return };
    let Some(host_users) = slot.boolean(problems) else { return };
    let Shared { network, ipc, pid } = *shared;
    let shared = [("hostNetwork", network), ("hostIPC", ipc), ("hostPID", pid)].into_iter().find(|(_, shared)| *shared);
    if let (false, Some((name, _))) = (host_users, shared) {
        let message = format!("must not be false together with {name} (Kubernetes says so too); remove one");
        slot.invalid(problems, message);
    }
    if let (true, Some(mode)) = (host_users, userns.filter(|mode| *mode != "auto")) {
        let message = format!(
            "must not be true beside the annotation sandpod.dev/userns, which asks for the user namespace `{}`; remove one",
            excerpt(mode)
        );
        slot.invalid(problems, message);
    }
}

fn flag(object: &mut Object<'_>, name: &'static str, problems: &mut Problems) -> bool {
    object.take(name).and_then(|slot| slot.boolean(problems)).unwrap_or(false)
}

/// Notes each name's first place and refuses it a second time.
#[derive(Debug, Default)]
pub(super) struct UniqueNames(HashMap<String, Position>);

impl UniqueNames {
    pub(super) fn add(&mut self, name: &str, what: &str, slot: &Slot<'_>, problems: &mut Problems) {
        if let Some(first) = self.0.get(name) {
            slot.invalid(
                problems,
                format!("the {what} `{}` is already used at {first}; give each its own", excerpt(name)),
            );
        } else {
            self.0.insert(name.to_owned(), slot.position());
        }
    }
}

#[derive(Debug, Default)]
struct Volumes {
    readable: Vec<Volume>,
    /// Also the names of volumes that have errors, so that their mounts are not reported as well.
    declared: BTreeSet<String>,
}

fn volumes(slot: &Slot<'_>, problems: &mut Problems) -> Volumes {
    let mut volumes = Volumes::default();
    let mut names = UniqueNames::default();
    for item in slot.list(problems) {
        let Some(read) = volume::read(&item, problems) else { continue };
        if let Some((name, slot)) = read.name {
            names.add(&name, "volume name", &slot, problems);
            volumes.declared.insert(name.clone());
            volumes.readable.extend(read.source.map(|source| Volume { name, source }));
        }
    }
    volumes
}

fn containers(slot: &Slot<'_>, surroundings: &Surroundings<'_>, problems: &mut Problems) -> Vec<Container> {
    let items = slot.list(problems);
    let mut siblings = Siblings::default();
    let containers: Vec<_> =
        items.iter().filter_map(|item| container::read(item, surroundings, &mut siblings, problems)).collect();
    siblings.check_refs(&containers, problems);
    if items.is_empty() && slot.is_list() {
        slot.invalid(problems, "is empty; a Pod has at least one container");
    }
    containers
}
