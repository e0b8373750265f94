//! How the pod reaches the outside: which user-mode network, with which addresses; or none, or the host's.
//!
//! A user-mode network is a process of yours that turns the packets of the pod's interface into sockets of the host
//! (slirp4netns(1), pasta(1)). Every pod has the same addresses: they mean something inside its own network namespace
//! only, and what is published is reached by the host's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::degradation::{self, named};
use super::idmap::{self, IdMapPlan};
use super::{Degradation, annotations};
use crate::host::{Ipv4Network, Ipv6Routes, NetworkFacts, UdpSockets};
use crate::report::{Report, exit_code};
use program::{Lack, any, one, refused, untraced};

mod program;
#[cfg(test)]
mod tests;

/// `--network`, and the annotation `sandpod.dev/network`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkChoice {
    /// Of the pod's own, through whichever user-mode network there is.
    Private,
    Slirp4netns,
    Pasta,
    /// `lo` alone.
    None,
    Host,
}

impl NetworkChoice {
    pub const ALL: [NetworkChoice; 5] = [
        NetworkChoice::Private,
        NetworkChoice::Slirp4netns,
        NetworkChoice::Pasta,
        NetworkChoice::None,
        NetworkChoice::Host,
    ];

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            NetworkChoice::Private => "private",
            NetworkChoice::Slirp4netns => "slirp4netns",
            NetworkChoice::Pasta => "pasta",
            NetworkChoice::None => "none",
            NetworkChoice::Host => "host",
        }
    }
}

/// `--allow-host-loopback`: whether the gateway's address leads to 127.0.0.1 of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum HostLoopback {
    #[default]
    Closed,
    Open,
}

/// Whether the program locks itself up: in a mount namespace of its own, without capabilities, with seccomp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sandboxing {
    On,
    /// Where an outer container forbids it, or with hostPID.
    Off,
}

/// Its default is for plans of before there were networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkPlan {
    /// The host's own: `hostNetwork`.
    Host,
    /// `lo` alone.
    #[default]
    Loopback,
    UserMode(UserMode),
    /// Another pod's: `--network pod:NAME`.
    Joined(Joined),
}

/// A pod of yours that runs, and whose network another one joins. A network namespace belongs to a user namespace, and only
/// from within that can it be entered: so the two share the user namespace, and with it the id map.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    pub id: String,
    pub name: String,
    /// Its pause, as /proc knows it: the pid alone may be another's tomorrow.
    pub pause: (i32, u64),
    /// What it has; never `Host` or `Joined`.
    pub network: Box<NetworkPlan>,
}

/// What joining takes of the other pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    pub joined: Joined,
    pub idmap: IdMapPlan,
    /// Whether it has hostPID.
    pub host_pid: bool,
    /// Of its volumes.
    pub host_paths: Vec<PathBuf>,
}

/// Everything the wrapper or pasta is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMode {
    pub backend: Backend,
    pub program: PathBuf,
    /// Inside.
    pub interface: String,
    /// Fixed, and with it the IPv6 address, which the kernel makes of it (RFC 4291, appendix A).
    pub mac: String,
    /// Bytes. The greatest that both programs take: a packet is a system call for them.
    pub mtu: u32,
    pub ipv4: Ipv4Plan,
    /// `None` where the host has no way out with it.
    pub ipv6: Option<Ipv6Plan>,
    pub host_loopback: HostLoopback,
    /// Where nothing may be sent by way of the interface: the program would send it on to the host's own loopback.
    pub prohibited: Vec<(IpAddr, u8)>,
    pub prohibition: Prohibition,
    pub sandboxing: Sandboxing,
}

/// How something is prohibited. For IPv4 a rule alone leaves what the interface's network answers for, which with pasta is
/// every address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prohibition {
    Rule,
    /// A policy of the kernel's, too, for IPv4.
    RuleAndPolicy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    Slirp4netns,
    Pasta,
}

impl Backend {
    /// The program's name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Backend::Slirp4netns => "slirp4netns",
            Backend::Pasta => "pasta",
        }
    }
}

/// slirp4netns's own layout, which pasta is told to follow: network.2, .3 and .100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv4Plan {
    pub network: Ipv4Network,
    pub gateway: Ipv4Addr,
    /// A forwarder to the host's own name server, also where that listens on the host's loopback.
    pub dns: Ipv4Addr,
    pub address: Ipv4Addr,
}

/// libslirp's: fd00::/64, with the router at fe80::2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv6Plan {
    pub address: Ipv6Addr,
}

impl NetworkPlan {
    /// As it looks from inside: a joined one is like that of the pod which it belongs to.
    #[must_use]
    pub fn inside(&self) -> &NetworkPlan {
        match self {
            NetworkPlan::Joined(joined) => joined.network.inside(),
            NetworkPlan::Host | NetworkPlan::Loopback | NetworkPlan::UserMode(_) => self,
        }
    }

    /// The pod's own, beside `lo`'s; IPv4 first, as in `status.podIPs`.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        match self.inside() {
            NetworkPlan::Host | NetworkPlan::Loopback | NetworkPlan::Joined(_) => Vec::new(),
            NetworkPlan::UserMode(UserMode { ipv4, ipv6, .. }) => {
                [IpAddr::V4(ipv4.address)].into_iter().chain(ipv6.map(|ipv6| IpAddr::V6(ipv6.address))).collect()
            }
        }
    }
}

const INTERFACE: &str = "eth0";
const MAC: &str = "02:00:00:00:00:64";
/// fd00::/64 and MAC as a modified EUI-64.
const IPV6_ADDRESS: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0xff, 0xfe00, 0x64);
/// What leads to the host's ::1 where that is open (libslirp; slirp4netns(1) about --disable-host-loopback).
pub(super) const IPV6_GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const MTU: u32 = 65520;
/// slirp4netns's default, then others of the private ranges (RFC 1918), for a host that is in the default itself: a guest
/// of QEMU or VirtualBox is.
const NETWORKS: [[u8; 4]; 4] = [[10, 0, 2, 0], [10, 202, 2, 0], [172, 29, 202, 0], [192, 168, 202, 0]];

/// What is asked for, from everywhere.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wish<'a> {
    pub(super) choice: Option<NetworkChoice>,
    pub(super) annotated: Option<NetworkChoice>,
    pub(super) host_network: bool,
    pub(super) host_pid: bool,
    /// One of its host paths shows the host's processes ([`shows_processes`]).
    pub(super) host_procfs: bool,
    /// A container that may trace (SYS_PTRACE) whatever is in the pod's user namespace.
    pub(super) tracer: Option<&'a str>,
    /// A sysctl of the manifest's: an address that no interface has is none to name.
    pub(super) ipv6_off: bool,
    pub(super) host_loopback: HostLoopback,
}

/// Whether a directory of the host is a procfs, lies in one, or has one mounted below it: `/proc/PID` in it leads to the
/// files and the memory of every process that ptrace(2) may be used on.
pub(super) fn shows_processes<'a>(mut paths: impl Iterator<Item = &'a Path>, procfs: &[PathBuf]) -> bool {
    paths.any(|path| procfs.iter().any(|point| path.starts_with(point) || point.starts_with(path)))
}

/// With the id map of the pod that is joined, where one is.
pub(super) fn join(
    wish: Wish<'_>,
    join: &Join,
    userns: &idmap::Wish,
    procfs: &[PathBuf],
) -> Result<(NetworkPlan, IdMapPlan), Report> {
    let name = &join.joined.name;
    let refuse = |why: &str| {
        Err(Report::new(exit_code::USAGE, format!("the pod cannot join the network of pod `{name}`")).because(why))
    };
    if wish.host_network {
        return refuse("spec.hostNetwork is true");
    }
    if wish.host_loopback == HostLoopback::Open {
        return refuse("--allow-host-loopback is decided by the pod whose network it is");
    }
    // A capability in the user namespace that the two would share counts for every process in it (ptrace(2), "Ptrace access
    // mode checking"), those that start the pod among them; hostPID and a procfs of the host show them.
    if wish.host_pid {
        return refuse("with hostPID it could reach into that pod's processes");
    }
    if join.host_pid {
        return refuse("that pod has hostPID, and could reach into this one's processes");
    }
    if wish.host_procfs {
        return refuse("a hostPath volume shows it the host's processes, and it could reach into that pod's");
    }
    if shows_processes(join.host_paths.iter().map(PathBuf::as_path), procfs) {
        return refuse("a hostPath volume shows that pod the host's processes, and it could reach into this one's");
    }
    if let Some(by) = userns.asked_by() {
        return refuse(&format!("it would share that pod's user namespace, and {by} asks for one of its own"));
    }
    let why = format!("it joins the network of pod `{name}`, and with it its user namespace");
    Ok((NetworkPlan::Joined(join.joined.clone()), IdMapPlan { why, ..join.idmap.clone() }))
}

pub(super) fn decide(wish: Wish<'_>, facts: &NetworkFacts) -> Result<(NetworkPlan, Vec<Degradation>), Report> {
    let choice = choose(wish)?;
    let open = wish.host_loopback == HostLoopback::Open;
    let meaningless =
        |why: &str| Err(Report::new(exit_code::USAGE, "--allow-host-loopback means nothing here").because(why));
    let found = match choice {
        Some(NetworkChoice::None) if open => return meaningless("the pod is to have no network"),
        Some(NetworkChoice::None) => return Ok((NetworkPlan::Loopback, Vec::new())),
        Some(NetworkChoice::Host) if open => {
            return meaningless("the pod is on the host's network and has its loopback anyway");
        }
        Some(NetworkChoice::Host) => return Ok((NetworkPlan::Host, Vec::new())),
        Some(NetworkChoice::Slirp4netns) => untraced(wish).and_then(|()| one(Backend::Slirp4netns, facts)),
        Some(NetworkChoice::Pasta) => untraced(wish).and_then(|()| one(Backend::Pasta, facts)),
        Some(NetworkChoice::Private) | None => untraced(wish).and_then(|()| any(facts)),
    };
    let (backend, program) = match (found, choice) {
        (Ok(found), _) => found,
        // Nobody has asked for one.
        (Err(lack), None) if !open => return Ok((NetworkPlan::Loopback, vec![no_network(lack)])),
        (Err(lack), asked) => return Err(refused(asked.map_or("--allow-host-loopback", NetworkChoice::word), lack)),
    };
    let (ipv4, overlap) = ipv4(&facts.ipv4_routes);
    let user_mode = user_mode(backend, program, ipv4, wish, facts);
    let pasta = backend == Backend::Pasta;
    let degradations = [
        (pasta && !facts.policies && !open).then(loopback_datagrams),
        (pasta && facts.pasta_udp == UdpSockets::Open).then(open_udp_ports),
        overlap.map(|route| network_overlap(ipv4.network, route)),
    ];
    Ok((NetworkPlan::UserMode(user_mode), degradations.into_iter().flatten().collect()))
}

fn user_mode(backend: Backend, program: PathBuf, ipv4: Ipv4Plan, wish: Wish<'_>, facts: &NetworkFacts) -> UserMode {
    let ipv6 = match backend {
        Backend::Slirp4netns => facts.ipv6 != Ipv6Routes::None,
        // It takes the interface of the default route, and without one no IPv6.
        Backend::Pasta => facts.ipv6 == Ipv6Routes::Default,
    } && !wish.ipv6_off;
    UserMode {
        backend,
        program,
        interface: INTERFACE.to_owned(),
        mac: MAC.to_owned(),
        mtu: MTU,
        ipv4,
        ipv6: ipv6.then_some(Ipv6Plan { address: IPV6_ADDRESS }),
        host_loopback: wish.host_loopback,
        prohibited: prohibited(ipv6),
        prohibition: if facts.policies { Prohibition::RuleAndPolicy } else { Prohibition::Rule },
        // Its sandbox is made in the pod's user namespace, where a container that sees it could take it over.
        sandboxing: if wish.host_pid && backend == Backend::Slirp4netns { Sandboxing::Off } else { Sandboxing::On },
    }
}

fn no_network(Lack { why, fix }: Lack) -> Degradation {
    let meaning = format!("{why}: the pod has `lo` alone, and no way out");
    named(degradation::NO_NETWORK, meaning, format!("{fix}; or say that you want none: --network none"))
}

fn loopback_datagrams() -> Degradation {
    let meaning = format!(
        "this kernel has no policies (CONFIG_XFRM_USER), or net.ipv4.conf.*.disable_xfrm turns them off: what a container sends by way of {INTERFACE} to 127.0.0.1 \
         (SO_BINDTODEVICE) arrives at this host's loopback, also the first packet of a connection; no answer comes back"
    );
    let fix = "sudo modprobe xfrm_user; or use slirp4netns: --network slirp4netns";
    named(degradation::LOOPBACK_DATAGRAMS, meaning, fix)
}

fn open_udp_ports() -> Degradation {
    let meaning = "this pasta listens on every address of the host at each UDP port that the pod sends from: what anybody \
                   sends there is the pod's, also in the place of a program of the host's that shares it (SO_REUSEADDR)";
    let fix = "use slirp4netns: --network slirp4netns; or a pasta of August 2024 or later";
    named(degradation::OPEN_UDP_PORTS, meaning, fix)
}

fn network_overlap(own: Ipv4Network, route: Ipv4Network) -> Degradation {
    let meaning = format!(
        "each network that a pod can have overlaps one of this host's: the pod has {own}, and does not reach what the host \
         finds there by its route to {route}"
    );
    named(
        degradation::NETWORK_OVERLAP,
        meaning,
        "nothing to do, unless the pod needs one of those: then --network host",
    )
}

/// `None`: nobody says anything. The command line decides over the annotation. `hostNetwork` is the manifest's own word,
/// and neither can take it back: a pod that was written for the host's network means its ports and its names.
fn choose(Wish { choice, annotated, host_network, .. }: Wish<'_>) -> Result<Option<NetworkChoice>, Report> {
    let (asked, by) = match (choice, annotated) {
        (None, None) => return Ok(host_network.then_some(NetworkChoice::Host)),
        (None, Some(annotated)) => (annotated, annotations::path(annotations::NETWORK)),
        (Some(typed), _) => (typed, "--network".to_owned()),
    };
    if host_network && asked != NetworkChoice::Host {
        return Err(Report::new(exit_code::USAGE, format!("{by} says `{}`, spec.hostNetwork is true", asked.word()))
            .because("a pod is either on the host's network or on one of its own")
            .hint("remove one of the two"));
    }
    Ok(Some(asked))
}

/// Without IPv6 the program takes none, and a kernel may know no rules for it.
fn prohibited(ipv6: bool) -> Vec<(IpAddr, u8)> {
    let four = (IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
    let six = ipv6.then_some((IpAddr::V6(Ipv6Addr::UNSPECIFIED), 80));
    [four].into_iter().chain(six).collect()
}

/// The first network that is none of the host's. Where all are, the one that loses least, and the route of the host's that it
/// overlaps: a route that leads to more is less likely to mean somebody at these addresses.
fn ipv4(routes: &[Ipv4Network]) -> (Ipv4Plan, Option<Ipv4Network>) {
    let narrowest = |network: Ipv4Network| {
        let overlap = routes.iter().filter(|route| route.overlaps(&network)).max_by_key(|route| route.prefix_length);
        (network, overlap.copied())
    };
    let [first, others @ ..] =
        NETWORKS.map(|address| narrowest(Ipv4Network { address: address.into(), prefix_length: 24 }));
    let lost = |overlap: Option<Ipv4Network>| overlap.map_or(0, |route| route.prefix_length);
    let (network, overlap) =
        others.into_iter().fold(first, |best, other| if lost(other.1) < lost(best.1) { other } else { best });
    let [a, b, c, _] = network.address.octets();
    let host = |last: u8| Ipv4Addr::new(a, b, c, last);
    (Ipv4Plan { network, gateway: host(2), dns: host(3), address: host(100) }, overlap)
}
