//! What the pod is called, and who answers it about names: its own /etc/hostname, hosts and resolv.conf.

use std::net::{IpAddr, Ipv4Addr};

use super::EtcFile;
use super::network::NetworkPlan;
use crate::host::Facts;

#[cfg(test)]
mod tests;

pub(super) fn etc_files(hostname: &str, network: &NetworkPlan, facts: &Facts) -> Vec<EtcFile> {
    let file = |name: &str, text: String| EtcFile { name: name.to_owned(), text };
    vec![
        file("hostname", format!("{hostname}\n")),
        file("hosts", hosts(hostname, network)),
        file("resolv.conf", resolv_conf(network, &facts.resolv_conf)),
    ]
}

/// The kubelet's format: its last lines have the pod's own addresses. A pod with only `lo` has 127.0.0.1. On the host's
/// network it is 127.0.1.1, Debian's address for a host's own name that no resolver has to know.
fn hosts(hostname: &str, network: &NetworkPlan) -> String {
    let mut own = network.addresses();
    if own.is_empty() {
        let on_the_host = *network == NetworkPlan::Host;
        own.push(IpAddr::V4(if on_the_host { Ipv4Addr::new(127, 0, 1, 1) } else { Ipv4Addr::LOCALHOST }));
    }
    let own: String = own.iter().map(|address| format!("{address}\t{hostname}\n")).collect();
    format!(
        "# Written by sandpod.\n\
         127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         fe00::0\tip6-mcastprefix\n\
         fe00::1\tip6-allnodes\n\
         fe00::2\tip6-allrouters\n\
         {own}"
    )
}

/// The host's own (`dnsPolicy: Default`), but the name server of a user-mode network is its forwarder: the host's may
/// listen on the host's loopback, which a pod cannot reach (systemd-resolved's 127.0.0.53).
fn resolv_conf(network: &NetworkPlan, of_the_host: &str) -> String {
    let NetworkPlan::UserMode(user_mode) = network else { return of_the_host.to_owned() };
    let kept = |line: &&str| !line.trim_start().is_empty() && !line.trim_start().starts_with(['#', ';']);
    let is_server = |line: &&str| line.split_whitespace().next() == Some("nameserver");
    let rest: String =
        of_the_host.lines().filter(kept).filter(|line| !is_server(line)).map(|line| format!("{line}\n")).collect();
    format!("nameserver {}\n{rest}", user_mode.ipv4.dns)
}
