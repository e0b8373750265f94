//! Which ports of the host lead into the pod: `hostPort` of the manifest and `-p` of the command line, checked against
//! each other and against what an unprivileged user may bind. Whether a port is free only the binding tells
//! (`engine/ports.rs`).

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::{NamespaceMode, PodPlan, PortPlan};
use crate::bind_conflict::in_conflict;
use crate::host::Facts;
use crate::manifest::Protocol;
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// One port of the host, and where in the pod it leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPort {
    /// `hostIP`. `None` is every address: `0.0.0.0`, and `::` where the host has IPv6 (where it has not, the binding writes
    /// `0.0.0.0` here).
    pub host_ip: Option<IpAddr>,
    /// 0 is whichever the kernel chooses: the binding writes it here, before the pod's record is made.
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
    /// Each connection begins with a PROXY protocol header that says who the client is. TCP only.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// Who declares it. The port is the whole pod's, whichever container listens there.
    pub container: String,
}

impl PublishedPort {
    /// Where it is bound.
    #[must_use]
    pub fn host_addresses(&self) -> Vec<SocketAddr> {
        let every = || vec![IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])];
        let ips = self.host_ip.map_or_else(every, |ip| vec![ip]);
        ips.into_iter().map(|ip| SocketAddr::new(ip, self.host_port)).collect()
    }

    /// `127.0.0.1:8080->80/tcp`, `8080->80/tcp`.
    #[must_use]
    pub fn shown(&self) -> String {
        let PublishedPort { host_ip, host_port, container_port, protocol, .. } = self;
        let host = host_ip.map_or_else(|| host_port.to_string(), |ip| SocketAddr::new(ip, *host_port).to_string());
        format!("{host}->{container_port}/{}", protocol_name(*protocol))
    }

    /// Would the kernel refuse the second of them?
    #[must_use]
    pub fn collides(&self, other: &PublishedPort) -> bool {
        self.protocol == other.protocol && in_conflict((self.host_ip, self.host_port), (other.host_ip, other.host_port))
    }
}

/// `tcp` or `udp`.
#[must_use]
pub fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// The pod's ports, checked.
pub(super) fn plan(
    asked: impl Iterator<Item = PublishedPort>,
    net: NamespaceMode,
    facts: &Facts,
) -> Result<Vec<PublishedPort>, Report> {
    let ports: Vec<PublishedPort> = asked.collect();
    if let (Some(first), NamespaceMode::Node) = (ports.first(), net) {
        let shown = format!("{}/{}", first.container_port, protocol_name(first.protocol));
        return Err(Report::new(exit_code::USAGE, format!("port {shown} cannot be published"))
            .because("hostNetwork is true: whatever the pod listens on is a port of the host already")
            .hint("leave out -p, or hostNetwork"));
    }
    check(&ports, facts.unprivileged_port_start)?;
    Ok(ports)
}

/// Checks all ports of one pod. `unprivileged_start`: `net.ipv4.ip_unprivileged_port_start`, for IPv6 too.
///
/// # Errors
/// Two that are the same for the kernel, by name; one that only root may bind, with the sysctl; a PROXY header on UDP.
pub fn check(ports: &[PublishedPort], unprivileged_start: u16) -> Result<(), Report> {
    // Ranges can be long: a port is only compared with those of the same number.
    let mut of_number: HashMap<u16, Vec<&PublishedPort>> = HashMap::new();
    for port in ports {
        if port.host_port != 0 {
            let same = of_number.entry(port.host_port).or_default();
            if let Some(earlier) = same.iter().find(|earlier| earlier.collides(port)) {
                return Err(twice(earlier, port));
            }
            same.push(port);
        }
        if port.host_port != 0 && port.host_port < unprivileged_start {
            return Err(privileged(port, unprivileged_start));
        }
        if port.proxy_protocol && port.protocol == Protocol::Udp {
            return Err(Report::new(exit_code::USAGE, format!("port {} cannot have a PROXY header", port.shown()))
                .because("it is UDP: a header at the beginning of a connection needs a connection"));
        }
    }
    Ok(())
}

fn twice(earlier: &PublishedPort, port: &PublishedPort) -> Report {
    let what = format!("port {} of the host is published twice", port.host_port);
    let named = |port: &PublishedPort| format!("container `{}`: {}", port.container, port.shown());
    let report = Report::new(exit_code::USAGE, what).because(named(earlier)).because(named(port));
    match (earlier.host_ip, port.host_ip) {
        (a, b) if a == b => report.hint("give one of them another host port"),
        _ => report.hint("one of them is for every address of the host, so it includes the other"),
    }
}

const SYSCTL: &str = "net.ipv4.ip_unprivileged_port_start";

fn only_root(start: u16) -> String {
    format!("only root may bind ports below {start} here ({SYSCTL} is {start})")
}

fn for_all_programs(port: u16) -> String {
    format!(
        "for all programs, run `sudo sysctl -w {SYSCTL}={port}`, and put `{SYSCTL}={port}` into \
         /etc/sysctl.d/99-sandpod.conf to keep it"
    )
}

fn privileged(port: &PublishedPort, start: u16) -> Report {
    let PublishedPort { host_port, container_port, container, .. } = port;
    let above = host_port.saturating_add(8000).max(start);
    Report::new(exit_code::FAILURE, format!("port {host_port} of the host cannot be published"))
        .because(format!("container `{container}`: {}", port.shown()))
        .because(only_root(start))
        .hint(format!("publish a higher one, like {above}->{container_port}; or, {}", for_all_programs(*host_port)))
}

/// What the containers of a pod on the host's network say that they listen on. These are ports of the host, and nobody binds
/// them but the containers themselves, at whichever address they like.
#[must_use]
pub fn of_the_hosts_network(plan: &PodPlan) -> Vec<PublishedPort> {
    let mut known = HashSet::new();
    let on_it = plan.containers.iter().filter(|_| plan.sandbox.namespaces.net == NamespaceMode::Node);
    on_it
        .flat_map(|container| container.ports.iter().map(|port| (&container.name, port)))
        .filter(|(_, port)| known.insert((port.container_port, protocol_name(port.protocol))))
        .map(|(container, port)| PublishedPort {
            host_ip: Some(IpAddr::from([0; 4])),
            host_port: port.container_port,
            container_port: port.container_port,
            protocol: port.protocol,
            proxy_protocol: false,
            container: container.clone(),
        })
        .collect()
}

/// Why a container cannot bind one of [`of_the_hosts_network`]; whether it tries is its own affair.
#[must_use]
pub fn out_of_reach(port: &PublishedPort, unprivileged_start: u16) -> Option<String> {
    let PublishedPort { host_port, container, .. } = port;
    (*host_port < unprivileged_start).then(|| {
        format!(
            "port {host_port} of the host is out of reach for container `{container}`, which is on its network: {}; have it \
             listen on a higher one, leave out hostNetwork, or, {}",
            only_root(unprivileged_start),
            for_all_programs(*host_port)
        )
    })
}

/// One `-p`, or a part of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    pub host_ip: Option<IpAddr>,
    /// 0: whichever is free.
    pub host_port: u16,
    pub container_port: u16,
    pub protocol: Protocol,
}

impl Mapping {
    #[must_use]
    pub fn published_for(self, container: &str) -> PublishedPort {
        let Mapping { host_ip, host_port, container_port, protocol } = self;
        let container = container.to_owned();
        PublishedPort { host_ip, host_port, container_port, protocol, proxy_protocol: false, container }
    }
}

/// Why a text is no port to publish, and how it is to be written.
#[derive(Debug)]
pub struct Wrong {
    pub why: String,
    /// `None`: as the option or verb has it.
    pub hint: Option<&'static str>,
}

impl From<String> for Wrong {
    fn from(why: String) -> Wrong {
        Wrong { why, hint: None }
    }
}

impl From<&str> for Wrong {
    fn from(why: &str) -> Wrong {
        Wrong::from(why.to_owned())
    }
}

/// `[IP:]HOST:CONTAINER[/udp]`, `[IP:]:CONTAINER`, `CONTAINER`; ports may be ranges of the same length, an IPv6 address
/// stands in brackets. CONTAINER may be a name, of which `named` knows the port and its protocol.
///
/// # Errors
/// Which part of it is wrong.
pub fn parse_with_names(
    text: &str,
    named: impl Fn(&str) -> Result<(u16, Protocol), Wrong>,
) -> Result<Vec<Mapping>, Report> {
    const GRAMMAR: &str =
        "write it as [IP:]HOST:CONTAINER, with /udp at its end for UDP: 8080:80, 127.0.0.1:8080:80, [::1]:8080:80";
    mappings(text, named).map_err(|Wrong { why, hint }| {
        Report::new(exit_code::USAGE, cannot_publish(text)).because(why).hint(hint.unwrap_or(GRAMMAR))
    })
}

/// The ports that the pod's containers declare.
#[must_use]
pub fn declared(plan: &PodPlan) -> Vec<PortPlan> {
    plan.containers.iter().flat_map(|container| container.ports.clone()).collect()
}

/// The port that all containers mean by a name.
///
/// # Errors
/// None of them has it, or several have and mean different ones.
pub fn named(name: &str, declared: &[PortPlan]) -> Result<(u16, Protocol), Wrong> {
    let what = |port: &PortPlan| (port.container_port, port.protocol);
    let shown = |port: &PortPlan| {
        let name = port.name.as_deref()?;
        Some(format!("`{name}` ({}/{})", port.container_port, protocol_name(port.protocol)))
    };
    let is_meant = |port: &&PortPlan| port.name.as_deref() == Some(name);
    let meant: Vec<&PortPlan> = declared.iter().filter(is_meant).collect();
    match meant.first() {
        Some(first) if meant.iter().all(|port| what(port) == what(first)) => Ok(what(first)),
        Some(_) => {
            let all = meant.into_iter().filter_map(shown).collect::<Vec<_>>().join(", ");
            let hint = Some("write the number of the one that is meant");
            Err(Wrong { why: format!("several containers have a port `{name}`: {all}"), hint })
        }
        None => {
            let there = match declared.iter().filter_map(shown).collect::<Vec<_>>().join(", ") {
                none if none.is_empty() => "none of its ports has a name".to_owned(),
                names => format!("its named ports are {names}"),
            };
            Err(format!("the pod has no port `{name}`; {there}").into())
        }
    }
}

/// Where no port has a name.
#[cfg(test)]
pub(crate) fn parse(text: &str) -> Result<Vec<Mapping>, Report> {
    parse_with_names(text, |name| Ok((port_number(name)?, Protocol::Tcp)))
}

/// `text`: what was typed behind `-p`.
#[must_use]
pub fn cannot_publish(text: &str) -> String {
    format!("cannot publish `{text}`")
}

/// [`parse_with_names`], for whatever else is written so.
///
/// # Errors
/// Which part of it is wrong.
pub fn mappings(text: &str, named: impl Fn(&str) -> Result<(u16, Protocol), Wrong>) -> Result<Vec<Mapping>, Wrong> {
    if text.contains(',') {
        let each = text.split(',').collect::<Vec<_>>().join("`, `");
        return Err(format!("there is a comma in it: `{each}` are to be written one by one").into());
    }
    let (addresses, protocol) = protocol_of(text)?;
    let (host_ip, ports) = address_of(addresses).map_err(|why| match addresses.rsplit_once(':') {
        Some((rest, word)) if protocol_called(word).is_some() => {
            format!("the protocol stands behind a slash: `{rest}/{word}`")
        }
        _ => why,
    })?;
    let (host, container) = match ports.split_once(':') {
        Some((host, container)) => (host, container),
        None if host_ip.is_some() => return Err("after an address come two ports, or `:` and one".into()),
        None => ("", ports),
    };
    let (container, declared) = if is_name(container) {
        let (number, declared) = named(container)?;
        (number..=number, declared)
    } else {
        (range(container)?, Protocol::Tcp)
    };
    let protocol = protocol.unwrap_or(declared);
    if host == "0" {
        return Err("`0` is no port (1 to 65535): nothing in its place, as in `:80`, is any that is free".into());
    }
    let host = if host.is_empty() { None } else { Some(range(host)?) };
    if let Some(host) = &host
        && host.len() != container.len()
    {
        return Err(format!("{} ports of the host for {} of the pod", host.len(), container.len()).into());
    }
    let host_ports = host.into_iter().flatten().chain(std::iter::repeat(0));
    Ok(host_ports
        .zip(container)
        .map(|(host_port, container_port)| Mapping { host_ip, host_port, container_port, protocol })
        .collect())
}

/// Kubernetes wants a letter in it, so that it is never a number or a range.
fn is_name(text: &str) -> bool {
    text.bytes().any(|byte| byte.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The address in front, and the rest.
fn address_of(text: &str) -> Result<(Option<IpAddr>, &str), String> {
    let parsed = |ip: &str| ip.parse::<IpAddr>().map_err(|_| format!("`{ip}` is no IP address"));
    if let Some(bracketed) = text.strip_prefix('[') {
        let (ip, rest) = bracketed.split_once(']').ok_or("the bracket is not closed")?;
        let ports = rest.strip_prefix(':').ok_or("after the address comes `:` and the ports")?;
        // `::ffff:192.0.2.1` is an IPv4 address: a socket for IPv6 alone cannot have it.
        return Ok((Some(parsed(ip)?.to_canonical()), ports));
    }
    match text.match_indices(':').nth(1) {
        None => Ok((None, text)),
        Some(_) => {
            let (ip, rest) = text.split_once(':').ok_or("no port")?;
            match rest.matches(':').count() {
                1 => Ok((Some(parsed(ip)?), rest)),
                _ => Err("an IPv6 address stands in brackets".to_owned()),
            }
        }
    }
}

/// What stands before `/tcp` or `/udp`, and which of them it is, if it says so; in upper case, too, as manifests spell it.
fn protocol_of(text: &str) -> Result<(&str, Option<Protocol>), String> {
    let Some((rest, word)) = text.split_once('/') else { return Ok((text, None)) };
    match protocol_called(word) {
        Some(protocol) => Ok((rest, Some(protocol))),
        None => Err(format!("the protocol `{word}` is neither tcp nor udp")),
    }
}

fn protocol_called(word: &str) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp].into_iter().find(|known| word.eq_ignore_ascii_case(protocol_name(*known)))
}

/// A port as it is typed: digits, and not 0.
///
/// # Errors
/// What it is instead.
pub fn port_number(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("`{text}` is no port (1 to 65535)")),
    }
}

/// `80` or `8000-8010`.
fn range(text: &str) -> Result<std::ops::RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port_number(first)?, port_number(last)?);
    if first > last {
        return Err(format!("the range {text} goes downwards"));
    }
    Ok(first..=last)
}
