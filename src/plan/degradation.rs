//! What this host cannot give, by stable names: what it means for the pod, and what would fix it.
//!
//! A degradation never weakens what the manifest asks for; that is a [`Report`](crate::report::Report).

use std::collections::BTreeSet;
use std::path::Path;

use super::network::NetworkPlan;
use super::{ContainerPlan, Degradation, MountKind, NamespaceMode, SandboxPlan};
use crate::TINY_PROGRAMS;
use crate::host::{Dir, Facts, IdMapTool, NoDelegation, ProcVisibility, SubIdRange};

mod powerless;
#[cfg(test)]
mod tests;

pub(super) use powerless::powerless_capabilities;

pub const NO_SUBIDS: &str = "no-subids";
pub const NO_NEWUIDMAP: &str = "no-newuidmap";
pub const HOST_ROOT: &str = "host-root";
pub const NO_RUNTIME_DIR: &str = "no-runtime-dir";
pub const NO_DATA_DIR: &str = "no-data-dir";
pub const MASKED_PROC: &str = "masked-proc";
pub const MASKED_SYS: &str = "masked-sys";
pub const NO_OVERLAY: &str = "no-overlay";
pub const USR_READ_ONLY: &str = "usr-read-only";
pub const LAYERS_ELSEWHERE: &str = "layers-elsewhere";
pub const LAYERS_IN_MEMORY: &str = "layers-in-memory";
pub const HOSTPID_KILL_CHAIN: &str = "hostpid-kill-chain";
pub const NO_TINY_PROGRAMS: &str = "no-tiny-programs";
pub const NO_CGROUP: &str = "no-cgroup";
pub const NO_LIMITS: &str = "no-limits";
pub const NO_NETWORK: &str = "no-network";
pub const LOOPBACK_DATAGRAMS: &str = "loopback-datagrams";
pub const OPEN_UDP_PORTS: &str = "open-udp-ports";
pub const NETWORK_OVERLAP: &str = "network-overlap";
pub const RAW_PACKETS: &str = "raw-packets";
pub const POWERLESS_CAPABILITIES: &str = "powerless-capabilities";
pub const NETWORK_UNSANDBOXED: &str = "network-unsandboxed";

/// Those that leave the pod or what serves it less locked up: never hidden, not by `--quiet` either.
const OF_SECURITY: &[&str] = &[NETWORK_UNSANDBOXED, RAW_PACKETS, LOOPBACK_DATAGRAMS, OPEN_UDP_PORTS];

/// What [`NO_CGROUP`] means, wherever the reason is not asked for.
pub const NOTHING_MEASURED: &str = "the pod has no cgroup: no stats, pause or update";
pub const IMAGE_VOLUMES: &str = "image-volumes";
pub const DNS_LIMITS: &str = "dns-limits";

/// Every name that a plan can hold; docs/security.md lists them, too.
pub const NAMES: &[&str] = &[
    NO_SUBIDS,
    NO_NEWUIDMAP,
    HOST_ROOT,
    NO_RUNTIME_DIR,
    NO_DATA_DIR,
    MASKED_PROC,
    MASKED_SYS,
    NO_OVERLAY,
    USR_READ_ONLY,
    LAYERS_ELSEWHERE,
    LAYERS_IN_MEMORY,
    HOSTPID_KILL_CHAIN,
    NO_TINY_PROGRAMS,
    NO_CGROUP,
    NO_LIMITS,
    NO_NETWORK,
    NETWORK_UNSANDBOXED,
    RAW_PACKETS,
    LOOPBACK_DATAGRAMS,
    OPEN_UDP_PORTS,
    NETWORK_OVERLAP,
    DNS_LIMITS,
    POWERLESS_CAPABILITIES,
    IMAGE_VOLUMES,
];

/// useradd(8)'s SUB_UID_MIN, where a first range usually starts.
const FIRST_SUBID: u32 = 100_000;

/// What covers parts of /proc and /sys is the container around us.
const UNMASK: &str = "run outside this container, or start it with both unmasked (docker: --security-opt \
                      systempaths=unconfined; podman: --security-opt unmask=ALL; Kubernetes: securityContext.procMount: \
                      Unmasked with hostUsers: false)";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdKind {
    Uid,
    Gid,
}

/// All but those of the id map and of the cgroups, which are known where they are decided.
pub(super) fn of_pod(sandbox: &SandboxPlan, containers: &[ContainerPlan], facts: &Facts) -> Vec<Degradation> {
    [
        host_root(facts),
        directory(NO_RUNTIME_DIR, "locks and sockets", "XDG_RUNTIME_DIR", &facts.runtime_dir),
        directory(NO_DATA_DIR, "logs and volumes", "XDG_DATA_HOME", &facts.data_dir),
        masked_proc(containers, facts),
        masked_sys(sandbox, facts),
        hostpid_kill_chain(sandbox),
        no_tiny_programs(),
        raw_packets(sandbox, containers),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Is it about the pod's security?
#[must_use]
pub fn is_of_security(name: &str) -> bool {
    OF_SECURITY.contains(&name)
}

pub(super) fn named(name: &str, meaning: impl Into<String>, fix: impl Into<String>) -> Degradation {
    Degradation { name: name.to_owned(), meaning: meaning.into(), fix: fix.into() }
}

/// slirp4netns and pasta connect to whatever a packet is addressed to, 127.0.0.1 of the host included; the kernel sends no such
/// packet to them, but who makes packets by hand, or changes routing rules, does.
fn raw_packets(sandbox: &SandboxPlan, containers: &[ContainerPlan]) -> Option<Degradation> {
    let NetworkPlan::UserMode(_) = sandbox.network.inside() else { return None };
    let may = |container: &&ContainerPlan| {
        container.process.capabilities.iter().any(|name| ["NET_RAW", "NET_ADMIN"].contains(&name.as_str()))
    };
    let names: Vec<String> = containers.iter().filter(may).map(|c| format!("`{}`", c.name)).collect();
    if names.is_empty() {
        return None;
    }
    let meaning = format!("with NET_RAW or NET_ADMIN {} can reach this host's loopback", names.join(", "));
    let fix = "leave those capabilities out (ping needs none), or use --network none";
    Some(named(RAW_PACKETS, meaning, fix))
}

/// Known only once the network program has tried: `why` is what it said.
#[must_use]
pub fn network_unsandboxed(why: &str) -> Degradation {
    let meaning = format!("the network program runs without its sandbox: {why}");
    let fix = "where this is a container: let it mount in namespaces of its own (docker: --security-opt \
               seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined)";
    named(NETWORK_UNSANDBOXED, meaning, fix)
}

/// `lacking`: of which kind there is no range.
pub(super) fn no_subids(facts: &Facts, lacking: &[IdKind]) -> Degradation {
    let files: Vec<_> = lacking.iter().map(|kind| kind.file()).collect();
    let meaning = format!(
        "no subordinate ids for {} in {}: the pod has one id, root, which is you outside",
        account(facts),
        files.join(" and ")
    );
    named(NO_SUBIDS, meaning, add_subids(facts, lacking))
}

impl IdKind {
    fn file(self) -> &'static str {
        match self {
            IdKind::Uid => "/etc/subuid",
            IdKind::Gid => "/etc/subgid",
        }
    }

    fn option(self, first: u32, last: u32) -> String {
        match self {
            IdKind::Uid => format!("--add-subuids {first}-{last}"),
            IdKind::Gid => format!("--add-subgids {first}-{last}"),
        }
    }
}

/// The command that gives the caller a further range of one kind.
pub(super) fn more_subids_fix(facts: &Facts, kind: IdKind) -> String {
    format!("add a range to {}: {}", kind.file(), add_subids(facts, &[kind]))
}

fn add_subids(facts: &Facts, kinds: &[IdKind]) -> String {
    if !facts.own_map.is_initial() {
        return "this runs inside another user namespace: give that one more ids (/proc/self/uid_map), then a range of \
                them to this user in its /etc/subuid and /etc/subgid"
            .to_owned();
    }
    let end = |range: &SubIdRange| range.start.saturating_add(range.count);
    let first = facts.subuids.iter().chain(&facts.subgids).map(end).fold(FIRST_SUBID, u32::max);
    let last = first.saturating_add(super::idmap::MAX_IDS - 1);
    let options: Vec<_> = kinds.iter().map(|kind| kind.option(first, last)).collect();
    format!("sudo usermod {} {}", options.join(" "), account(facts))
}

fn account(facts: &Facts) -> String {
    facts.user.name.clone().unwrap_or_else(|| format!("uid {}", facts.user.uid))
}

pub(super) fn no_newuidmap(facts: &Facts) -> Degradation {
    let mut lacks = Vec::new();
    let mut fixes = Vec::new();
    for (name, tool) in [("newuidmap", &facts.newuidmap), ("newgidmap", &facts.newgidmap)] {
        let (lack, fix) = match tool {
            IdMapTool::Privileged(_) => continue,
            IdMapTool::Missing => (
                format!("{name} is not installed"),
                "install the package `uidmap` (Debian, Ubuntu) or `shadow-utils` (Fedora)".to_owned(),
            ),
            IdMapTool::Unprivileged { path, why, fix } => {
                (format!("{} cannot write maps: {why}", path.display()), fix.clone())
            }
        };
        lacks.push(lack);
        fixes.push(fix);
    }
    fixes.dedup();
    let fix = fixes.join("; ");
    let meaning = format!("{}: the pod has one id, root, which is you outside", lacks.join("; "));
    named(NO_NEWUIDMAP, meaning, fix)
}

/// Uid 0 of a user namespace below the initial one is an ordinary user of the host.
fn no_tiny_programs() -> Option<Degradation> {
    (!TINY_PROGRAMS).then(|| {
        named(
            NO_TINY_PROGRAMS,
            "pause and the last program before a command are copies of sandpod on this architecture: more memory for a pod",
            "nothing to do: only x86-64 has small programs of its own for them yet",
        )
    })
}

fn host_root(facts: &Facts) -> Option<Degradation> {
    (facts.user.uid == 0 && facts.own_map.is_initial()).then(|| {
        named(
            HOST_ROOT,
            "sandpod was started by the host's root: the supervisor and what reads hostPaths have all its rights",
            "run sandpod as an ordinary user; it needs no root",
        )
    })
}

fn directory(name: &str, what: &str, variable: &str, dir: &Dir) -> Option<Degradation> {
    let Dir { path, fallback } = dir;
    let why = fallback.as_ref()?;
    let meaning = format!("{what} are kept in {} instead of the usual place: {why}", path.display());
    Some(named(name, meaning, format!("set {variable} to a directory that belongs to you and can be written")))
}

fn masked_proc(containers: &[ContainerPlan], facts: &Facts) -> Option<Degradation> {
    let ProcVisibility::Masked { by } = &facts.procfs else { return None };
    let wants_own = |container: &&ContainerPlan| container.pid != NamespaceMode::Node;
    let bound = |container: &ContainerPlan| container.mounts.iter().any(|mount| mount.kind == MountKind::ProcBind);
    containers.iter().filter(wants_own).any(bound).then(|| {
        let meaning = format!(
            "the kernel refuses a new /proc here, since mounts cover parts of every one in sight ({}): containers see \
             the /proc of the namespace outside, whose process ids are not theirs",
            list(by)
        );
        named(MASKED_PROC, meaning, UNMASK)
    })
}

fn masked_sys(sandbox: &SandboxPlan, facts: &Facts) -> Option<Degradation> {
    let ProcVisibility::Masked { by } = &facts.sysfs else { return None };
    (sandbox.namespaces.net != NamespaceMode::Node).then(|| {
        let meaning = format!(
            "the kernel refuses a new /sys here, since mounts cover parts of every one in sight ({}): containers see the \
             /sys that is there, with the network devices of the namespace outside",
            list(by)
        );
        named(MASKED_SYS, meaning, UNMASK)
    })
}

pub(super) fn no_cgroup(why: &NoDelegation) -> Degradation {
    let meaning = format!("{NOTHING_MEASURED}: {}", why.reason());
    named(NO_CGROUP, meaning, why.fix())
}

/// `waived`: the controllers of what `--cgroups=disabled` keeps from being enforced.
pub(super) fn no_limits(waived: &BTreeSet<&str>) -> Degradation {
    let waived: Vec<&str> = waived.iter().copied().collect();
    let meaning = format!("--cgroups=disabled: its limits and requests of {} are not enforced", waived.join(", "));
    named(NO_LIMITS, meaning, "leave out --cgroups=disabled")
}

fn hostpid_kill_chain(sandbox: &SandboxPlan) -> Option<Degradation> {
    (sandbox.namespaces.pid == NamespaceMode::Node).then(|| {
        named(
            HOSTPID_KILL_CHAIN,
            "hostPID: no pid namespace ties the containers' processes to pause, so one that daemonizes can outlive a \
             kill -9 of the supervisor",
            "leave hostPID out, or end such a pod by `sandpod rm -f`",
        )
    })
}

pub(super) fn list(paths: &[impl AsRef<Path>]) -> String {
    paths.iter().map(|path| path.as_ref().display().to_string()).collect::<Vec<_>>().join(", ")
}
