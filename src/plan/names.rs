//! What the pod is called, and who answers it about names: its own /etc/hostname, hosts and resolv.conf.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use super::network::{HostLoopback, NetworkPlan, UserMode};
use super::{Degradation, EtcFile, dns};
use crate::host::Facts;
use crate::manifest::{DnsConfig, DnsPolicy, HostAlias, PodSpec};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// A DNS label (RFC 1035), and where the kubelet cuts a pod's hostname.
const HOSTNAME_MAX: usize = 63;
/// `__NEW_UTS_LEN`: a name that the kernel keeps (uname(2)).
const NODENAME_MAX: usize = 64;
/// Where a pod's full name ends in nearly every cluster (the kubelet's `clusterDomain`, kubeadm's default). No DNS knows
/// it here; the pod's own /etc/hosts does.
const CLUSTER_DOMAIN: &str = "cluster.local";
/// Kubernetes', where `metadata.namespace` says nothing.
pub(super) const DEFAULT_NAMESPACE: &str = "default";

/// What podman and docker call the host, in its containers.
const NAMES_OF_THE_HOST: [&str; 2] = ["host.containers.internal", "host.docker.internal"];

pub(super) struct Wish<'a> {
    pub(super) pod: &'a str,
    pub(super) namespace: Option<&'a str>,
    pub(super) hostname: Option<&'a str>,
    pub(super) subdomain: Option<&'a str>,
    /// `setHostnameAsFQDN`
    pub(super) as_fqdn: bool,
    pub(super) aliases: &'a [HostAlias],
    pub(super) dns_policy: DnsPolicy,
    pub(super) dns_config: &'a DnsConfig,
}

impl<'a> Wish<'a> {
    pub(super) fn of(pod: &'a str, namespace: Option<&'a str>, spec: &'a PodSpec) -> Wish<'a> {
        Wish {
            pod,
            namespace,
            hostname: spec.hostname.as_deref(),
            subdomain: spec.subdomain.as_deref(),
            as_fqdn: spec.set_hostname_as_fqdn,
            aliases: &spec.host_aliases,
            dns_policy: spec.dns_policy,
            dns_config: &spec.dns_config,
        }
    }
}

#[derive(Debug)]
pub(super) struct Names {
    /// The kernel's, in the pod's uts namespace.
    pub(super) hostname: String,
    pub(super) etc_files: Vec<EtcFile>,
    pub(super) degradations: Vec<Degradation>,
}

pub(super) fn decide(wish: &Wish<'_>, network: &NetworkPlan, facts: &Facts) -> Result<Names, Report> {
    let domain = wish
        .subdomain
        .map(|subdomain| format!("{subdomain}.{}.svc.{CLUSTER_DOMAIN}", wish.namespace.unwrap_or(DEFAULT_NAMESPACE)));
    let as_fqdn = domain.as_ref().filter(|_| wish.as_fqdn);
    let short = match (wish.hostname, network) {
        (Some(asked), _) => cut(asked)?,
        // A pod on the host's network has the host's name there; what is asked for is still given, since the uts
        // namespace is the pod's own.
        (None, NetworkPlan::Host) if as_fqdn.is_none() => facts.hostname.clone(),
        (None, _) => cut(wish.pod)?,
    };
    let full = domain.as_ref().map(|domain| format!("{short}.{domain}"));
    let hostname = match full.as_ref().filter(|_| wish.as_fqdn) {
        Some(full) => checked(full)?,
        None => short.clone(),
    };
    let lines = [full.as_deref(), Some(&short)].into_iter().flatten().collect::<Vec<_>>().join("\t");
    let own = OwnLine { names: &lines, hostname: &hostname };
    let (resolv_conf, degradations) = dns::resolv_conf(wish.dns_policy, wish.dns_config, network, &facts.resolv_conf);
    let file = |name: &str, text: String| EtcFile { name: name.to_owned(), text };
    let etc_files = vec![
        file("hostname", format!("{hostname}\n")),
        file("hosts", hosts(&own, network, wish.aliases, &facts.hosts)),
        file("resolv.conf", resolv_conf),
    ];
    Ok(Names { hostname, etc_files, degradations })
}

/// As the kubelet does (`truncatePodHostnameIfNeeded`).
fn cut(wanted: &str) -> Result<String, Report> {
    let cut = wanted.char_indices().nth(HOSTNAME_MAX).map_or(wanted, |(end, _)| &wanted[..end]);
    // Only a cut can leave these at the end; the manifest's own rules forbid them.
    let hostname = cut.trim_end_matches(['-', '.']);
    if hostname.is_empty() {
        return Err(Report::new(exit_code::USAGE, format!("no hostname can be made of `{wanted}`")));
    }
    Ok(hostname.to_owned())
}

/// The kubelet refuses it, too (`GetNodenameForKernel`): a name that is cut is another one.
fn checked(full: &str) -> Result<String, Report> {
    let length = full.len();
    if length > NODENAME_MAX {
        return Err(Report::new(exit_code::USAGE, "spec.setHostnameAsFQDN: the full name is too long for a hostname")
            .because(format!("`{full}` has {length} characters, and the kernel keeps {NODENAME_MAX}"))
            .hint("shorten hostname (or the pod's name), subdomain or namespace; or remove setHostnameAsFQDN"));
    }
    Ok(full.to_owned())
}

/// The pod's own in /etc/hosts.
struct OwnLine<'a> {
    /// The full name first, as hostname(1) wants it.
    names: &'a str,
    hostname: &'a str,
}

/// The kubelet's format (`pkg/kubelet/kubelet_pods.go`): the pod's own addresses, then the aliases. A pod with only `lo`
/// has 127.0.0.1. On the host's network it is the host's own file; a name of the pod that is not in there has 127.0.1.1,
/// Debian's address for a host's own name that no resolver has to know.
fn hosts(own: &OwnLine<'_>, network: &NetworkPlan, aliases: &[HostAlias], of_the_host: &str) -> String {
    let mut text = String::new();
    if *network == NetworkPlan::Host {
        text.push_str("# Written by sandpod (host network).\n");
        text.push_str(of_the_host);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        if !mentions(of_the_host, own.hostname) {
            let _ = writeln!(text, "{}\t{}", Ipv4Addr::new(127, 0, 1, 1), own.names);
        }
    } else {
        text.push_str(
            "# Written by sandpod.\n\
             127.0.0.1\tlocalhost\n\
             ::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\n\
             fe00::0\tip6-mcastprefix\n\
             fe00::1\tip6-allnodes\n\
             fe00::2\tip6-allrouters\n",
        );
        for address in addresses(network) {
            let _ = writeln!(text, "{address}\t{}", own.names);
        }
    }
    if let Some(line) = line_of_the_host(network, aliases) {
        text.push_str(&line);
    }
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for HostAlias { ip, hostnames } in aliases {
        let _ = writeln!(text, "{ip}\t{}", hostnames.join("\t"));
    }
    text
}

/// Only where the gateway's address leads to the host's loopback: a name without a service behind it would be found, and
/// then time out or be refused, with no word about why. One that the manifest gives is the manifest's.
fn line_of_the_host(network: &NetworkPlan, aliases: &[HostAlias]) -> Option<String> {
    let NetworkPlan::UserMode(UserMode { ipv4, host_loopback: HostLoopback::Open, .. }) = network else { return None };
    let given = |name: &str| aliases.iter().any(|alias| alias.hostnames.iter().any(|given| given == name));
    let names: Vec<&str> = NAMES_OF_THE_HOST.into_iter().filter(|name| !given(name)).collect();
    (!names.is_empty()).then(|| format!("{}\t{}\n", ipv4.gateway, names.join("\t")))
}

/// Those by which the pod reaches itself, where the network is its own.
pub(super) fn addresses(network: &NetworkPlan) -> Vec<IpAddr> {
    let own = network.addresses();
    if own.is_empty() { vec![IpAddr::V4(Ipv4Addr::LOCALHOST)] } else { own }
}

/// Whether a line of hosts(5) has an address for the name.
fn mentions(hosts: &str, name: &str) -> bool {
    let without_comment = |line: &'_ str| line.split('#').next().unwrap_or_default().to_owned();
    hosts.lines().map(without_comment).any(|line| line.split_whitespace().skip(1).any(|known| known == name))
}
