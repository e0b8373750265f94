//! Names, addresses and settings of a pod's network, as asked for.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `dnsPolicy`. Nothing said is [`DnsPolicy::Default`] here, though `ClusterFirst` in Kubernetes: there is no cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DnsPolicy {
    /// The host's own settings.
    #[default]
    Default,
    /// Of a cluster's DNS, which is not here: [`DnsPolicy::Default`], as for a kubelet that knows no cluster DNS.
    ClusterFirst,
    ClusterFirstWithHostNet,
    /// [`DnsConfig`] alone.
    None,
}

impl DnsPolicy {
    pub const ALL: [DnsPolicy; 4] =
        [DnsPolicy::Default, DnsPolicy::ClusterFirst, DnsPolicy::ClusterFirstWithHostNet, DnsPolicy::None];

    /// As Kubernetes writes it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            DnsPolicy::Default => "Default",
            DnsPolicy::ClusterFirst => "ClusterFirst",
            DnsPolicy::ClusterFirstWithHostNet => "ClusterFirstWithHostNet",
            DnsPolicy::None => "None",
        }
    }
}

/// `dnsConfig`: what is added to the policy's own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// At most [`MOST_NAMESERVERS`].
    pub nameservers: Vec<IpAddr>,
    /// At most [`MOST_SEARCHES`], of [`MOST_SEARCH_CHARACTERS`] together.
    pub searches: Vec<String>,
    pub options: Vec<DnsOption>,
}

/// Name servers that a resolver asks (MAXNS of resolv.conf(5)).
pub const MOST_NAMESERVERS: usize = 3;
/// Kubernetes' limits since KEP-2595; glibc has had none since 2.26.
pub const MOST_SEARCHES: usize = 32;
/// With a space between each two.
pub const MOST_SEARCH_CHARACTERS: usize = 2048;

/// `ndots:5`, or without a value `rotate`. Neither part holds space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsOption {
    pub name: String,
    pub value: Option<String>,
}

/// A line of /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAlias {
    pub ip: IpAddr,
    /// DNS-1123 subdomains.
    pub hostnames: Vec<String>,
}

/// A setting of the kernel that the pod's own namespaces have of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sysctl {
    /// As written: `net.ipv4.tcp_syncookies`.
    pub name: String,
    /// Below /proc/sys.
    pub file: PathBuf,
    pub namespace: SysctlNamespace,
    pub value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SysctlNamespace {
    Network,
    Ipc,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPort {
    /// Unique within the container.
    pub name: Option<String>,
    pub container_port: u16,
    pub protocol: Protocol,
    /// To be published; with hostNetwork the same as `container_port`. No two of a pod collide.
    pub host_port: Option<u16>,
    /// Only with `host_port`; `None` is every address of the host.
    pub host_ip: Option<IpAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
}
