//! Settings of the kernel that the pod's own namespaces have of their own: ours, then those that are asked for.

use std::path::Path;

use super::idmap::IdMapPlan;
use super::network::NetworkPlan;
use super::{NamespaceMode, SandboxNamespaces, Sysctl};
use crate::manifest::{self, SysctlNamespace};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

const FIELD: &str = "spec.securityContext.sysctls";

pub(super) fn decide(
    asked: &[manifest::Sysctl],
    namespaces: &SandboxNamespaces,
    network: &NetworkPlan,
    idmap: &IdMapPlan,
) -> Result<Vec<Sysctl>, Report> {
    let mut sysctls = defaults(network, idmap);
    sysctls.retain(|ours| asked.iter().all(|theirs| theirs.file != ours.file));
    for (index, manifest::Sysctl { name, file, namespace, value }) in asked.iter().enumerate() {
        let field = format!("{FIELD}[{index}]");
        let (mode, whose) = match namespace {
            SysctlNamespace::Network => (namespaces.net, "network"),
            SysctlNamespace::Ipc => (namespaces.ipc, "ipc namespace"),
        };
        if mode == NamespaceMode::Node {
            return Err(Report::new(exit_code::USAGE, format!("{field}: {name} would be set for this host"))
                .because(format!("the pod is to have the host's {whose}"))
                .hint("remove the sysctl, or give the pod one of its own"));
        }
        if let (NetworkPlan::Joined(joined), SysctlNamespace::Network) = (network, namespace) {
            return Err(Report::new(
                exit_code::USAGE,
                format!("{field}: {name} would be set for pod `{}`", joined.name),
            )
            .because("its network is joined")
            .hint("set it in that pod"));
        }
        if let NetworkPlan::UserMode(user_mode) = network
            && let Some(parent) = of_interface(file, &user_mode.interface)
        {
            let (parent, last) = (parent.display(), file.file_name().unwrap_or_default().display());
            return Err(Report::new(exit_code::USAGE, format!("{field}: {name} cannot be set"))
                .because(format!("{} is made after the sysctls are written", user_mode.interface))
                .hint(format!("set {parent}/default/{last}, which every new interface begins with")));
        }
        if matches!(network, NetworkPlan::UserMode(_)) && file.ends_with("disable_xfrm") {
            return Err(Report::new(exit_code::USAGE, format!("{field}: {name} cannot be set"))
                .because(
                    "a policy of the kernel's keeps the pod from this host's loopback, and this would switch it off",
                )
                .hint("remove it; --allow-host-loopback is the way to the host's loopback"));
        }
        sysctls.push(Sysctl { file: file.clone(), value: value.clone(), asked_by: Some(field) });
    }
    Ok(sysctls)
}

/// The file that switches IPv6 off for the interface to come, which begins with `default`; `all` sets that, too
/// (ip-sysctl.rst). The last one counts.
pub(super) fn ipv6_off<'a>(asked: impl DoubleEndedIterator<Item = (&'a Path, &'a str)>) -> Option<&'a Path> {
    let files = ["net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6"].map(Path::new);
    let (file, value) = asked.rev().find(|(file, _)| files.contains(file))?;
    (value.trim() != "0").then_some(file)
}

/// `net/ipv6/conf` of `net/ipv6/conf/eth0/mtu`.
fn of_interface<'a>(file: &'a Path, interface: &str) -> Option<&'a Path> {
    let directory = file.parent()?;
    (directory.file_name()? == interface).then(|| directory.parent()).flatten()
}

/// What makes a network namespace of one's own pleasant: root's ports for everybody (the kernel's own limit protects a
/// host that many share), ping without a capability (icmp(7)), an IPv6 address that can be used at once (nobody else is
/// there who could have it), many short connections from the pod to itself: the port proxy's clients have one address
/// together, whose ports would be used up by those that wait for stray packets (TIME_WAIT; tcp(7)), and TCP that does not
/// pace itself: every connection of the pod ends on this machine, in the pod, the port proxy, slirp4netns or pasta, where
/// there is no path to be measured. Of the host's choice (`bbr`) the timers would remain. `reno` is in every kernel.
fn defaults(network: &NetworkPlan, idmap: &IdMapPlan) -> Vec<Sysctl> {
    if matches!(network, NetworkPlan::Host | NetworkPlan::Joined(_)) {
        return Vec::new();
    }
    // Ids that are not mapped are refused (EINVAL).
    let last_gid = idmap.gids.iter().map(|entry| entry.inside.0 + (entry.count - 1)).max().unwrap_or(0);
    [
        ("net/ipv4/ip_unprivileged_port_start", "0".to_owned()),
        ("net/ipv4/ping_group_range", format!("0 {last_gid}")),
        ("net/ipv6/conf/default/accept_dad", "0".to_owned()),
        ("net/ipv4/tcp_tw_reuse", "1".to_owned()),
        ("net/ipv4/tcp_congestion_control", "reno".to_owned()),
    ]
    .map(|(file, value)| Sysctl { file: file.into(), value, asked_by: None })
    .into()
}
