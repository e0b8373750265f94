//! The network, as `sandpod plan` shows it.

use std::fmt::{self, Formatter};

use super::super::network::{
    Backend, HostLoopback, IPV6_GATEWAY, Ipv4Plan, NetworkPlan, Prohibition, Sandboxing, UserMode,
};
use super::super::sysctls::ipv6_off;
use super::super::{SandboxPlan, Sysctl};
use super::{path, row, word};

pub(super) fn network(f: &mut Formatter<'_>, sandbox: &SandboxPlan) -> fmt::Result {
    writeln!(f, "\nnetwork")?;
    match &sandbox.network {
        NetworkPlan::Host => {
            row(
                f,
                "kind",
                "the host's own: the pod reaches every service of its loopback, and the abstract sockets of",
            )?;
            row(f, "", "whoever runs here (X11, D-Bus, containerd: unix(7)); its ports are the host's")?;
        }
        NetworkPlan::Loopback => row(f, "kind", "lo only")?,
        NetworkPlan::UserMode(user_mode) => connected(f, user_mode, &sandbox.sysctls)?,
        NetworkPlan::Joined(joined) => {
            row(
                f,
                "kind",
                format_args!("that of pod {} ({}), with its user namespace", word(&joined.name), joined.id),
            )?;
            let own: Vec<String> = joined.network.addresses().iter().map(ToString::to_string).collect();
            row(f, "addresses", if own.is_empty() { "lo only".to_owned() } else { own.join(", ") })?;
            if let NetworkPlan::UserMode(user_mode) = joined.network.inside() {
                host_loopback(f, user_mode)?;
            }
        }
    }
    for Sysctl { file, value, asked_by } in &sandbox.sysctls {
        let by = asked_by.as_ref().map(|by| format!(", asked for by {by}")).unwrap_or_default();
        row(f, "sysctl", format_args!("{} = {}{by}", path(file), word(value)))?;
    }
    Ok(())
}

fn connected(f: &mut Formatter<'_>, user_mode: &UserMode, sysctls: &[Sysctl]) -> fmt::Result {
    let UserMode {
        backend,
        program,
        interface,
        mac,
        mtu,
        ipv4,
        ipv6,
        host_loopback: _, // by `host_loopback`
        prohibited,
        prohibition,
        sandboxing,
    } = user_mode;
    let Ipv4Plan { network, gateway, dns, address } = ipv4;
    row(f, "kind", format_args!("the pod's own, through {} ({})", backend.word(), path(program)))?;
    row(f, "interface", format_args!("{} {mac}, MTU {mtu}", word(interface)))?;
    row(f, "IPv4", format_args!("{address}/{}, gateway {gateway}, DNS {dns}", network.prefix_length))?;
    match ipv6 {
        Some(ipv6) => row(f, "IPv6", format_args!("{}/64", ipv6.address))?,
        None => match ipv6_off(sysctls.iter().map(|sysctl| (sysctl.file.as_path(), sysctl.value.as_str()))) {
            Some(file) => row(f, "IPv6", format_args!("none: {} switches it off", path(file)))?,
            None => row(f, "IPv6", "none: this host has no default route")?,
        },
    }
    host_loopback(f, user_mode)?;
    let prohibited: Vec<String> = prohibited.iter().map(|(address, length)| format!("{address}/{length}")).collect();
    let how = match prohibition {
        Prohibition::Rule => "a rule",
        Prohibition::RuleAndPolicy => "a rule and a policy",
    };
    row(f, "prohibited", format_args!("{} by way of {}, by {how}", prohibited.join(" "), word(interface)))?;
    match sandboxing {
        Sandboxing::On => row(f, "sandbox", "the program locks itself up"),
        Sandboxing::Off => row(f, "sandbox", "none: with hostPID the pod could reach into it"),
    }
}

/// Each address with what it leads to: they are not the same for both families.
fn host_loopback(f: &mut Formatter<'_>, user_mode: &UserMode) -> fmt::Result {
    if user_mode.host_loopback == HostLoopback::Closed {
        return row(f, "host loopback", "not reachable");
    }
    let gateway = user_mode.ipv4.gateway;
    row(
        f,
        "host loopback",
        format_args!("REACHABLE (--allow-host-loopback): every service of 127.0.0.1 here, as {gateway}"),
    )?;
    match (user_mode.ipv6, user_mode.backend) {
        (None, _) => Ok(()),
        (Some(_), Backend::Slirp4netns) => row(f, "", format_args!("and of ::1, as {IPV6_GATEWAY}")),
        (Some(_), Backend::Pasta) => row(f, "", "and of ::1, as the router's address (`ip -6 route` in the pod)"),
    }
}
