//! Capabilities that a container asks for and that do little or nothing outside of the initial user namespace.

use super::{POWERLESS_CAPABILITIES, named};
use crate::manifest::Container;
use crate::plan::{Degradation, NamespaceMode, SandboxPlan};

/// The kernel checks these against the initial user namespace alone (`capable()`; user_namespaces(7)): what they are
/// for belongs to no namespace.
const WITHOUT_EFFECT: [&str; 18] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "PERFMON",
    "SYSLOG",
    "SYS_MODULE",
    "SYS_PACCT",
    "SYS_RAWIO",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// They have a lesser effect there: what is most often wanted of them does not work.
const IN_PART: [(&str, &str); 3] = [
    ("IPC_LOCK", "mlock(2) stays within RLIMIT_MEMLOCK"),
    ("SYS_NICE", "no priority can be raised"),
    ("SYS_RESOURCE", "no limit can be raised"),
];

/// The host's network belongs to the initial user namespace.
const OF_NETWORK: [&str; 3] = ["NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW"];

/// Of those that `capabilities.add` names: `ALL` means all that the pod's user namespace can give.
pub(in crate::plan) fn powerless_capabilities(containers: &[Container], sandbox: &SandboxPlan) -> Option<Degradation> {
    let on_host = sandbox.namespaces.net == NamespaceMode::Node;
    let lacks = |name: &str| {
        if WITHOUT_EFFECT.contains(&name) {
            return Some(format!("{name} has no effect"));
        }
        if on_host && OF_NETWORK.contains(&name) {
            return Some(format!("{name} has no effect on the host's network"));
        }
        IN_PART.iter().find(|(partial, _)| *partial == name).map(|(_, lack)| format!("{name}: {lack}"))
    };
    let of = |container: &Container| {
        let lacks: Vec<String> =
            container.security_context.capabilities_add.iter().filter_map(|name| lacks(name)).collect();
        (!lacks.is_empty()).then(|| format!("container `{}`: {}", container.name, lacks.join(", ")))
    };
    let found: Vec<String> = containers.iter().filter_map(of).collect();
    if found.is_empty() {
        return None;
    }
    let meaning = format!("{} (a pod has a user namespace of its own, user_namespaces(7))", found.join("; "));
    Some(named(
        POWERLESS_CAPABILITIES,
        meaning,
        "leave them out of capabilities.add; what needs them fails in any pod here",
    ))
}
