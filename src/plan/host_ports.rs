//! Which ports of the pod are published: `hostPort` of the manifest, then `-p` of the command line; and which of them
//! begin with a PROXY header, and where in the pod they lead. Whether they can be is for `ports`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::NamespaceMode;
use super::annotations::{self, PROXY_PROTOCOL};
use super::network::NetworkPlan;
use super::ports::{self, Mapping, PublishedPort};
use crate::host::Facts;
use crate::manifest::{ChosenPort, Container, ContainerPort, Protocol, ProxyProtocol};
use crate::nearest::nearest;
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

pub(super) struct Wish<'a> {
    pub(super) containers: &'a [Container],
    pub(super) publish: &'a [Mapping],
    /// The container to which `-p` is put down.
    pub(super) main: &'a str,
    pub(super) proxy_protocol: Option<&'a ProxyProtocol>,
}

pub(super) fn decide(wish: &Wish<'_>, net: NamespaceMode, facts: &Facts) -> Result<Vec<PublishedPort>, Report> {
    let declared = wish
        .containers
        .iter()
        .flat_map(|container| container.ports.iter().filter_map(|port| declared(port, &container.name)));
    // On the host's network a port is the host's by itself, if it is the same.
    let there_already = |port: &PublishedPort| net == NamespaceMode::Node && port.host_port == port.container_port;
    let declared = declared.filter(|port| !there_already(port));
    let mut asked: Vec<PublishedPort> =
        declared.chain(wish.publish.iter().map(|mapping| mapping.published_for(wish.main))).collect();
    match wish.proxy_protocol {
        None => {}
        Some(ProxyProtocol::Every) => asked.iter_mut().for_each(|port| port.proxy_protocol = is_tcp(port)),
        Some(ProxyProtocol::Some(chosen)) => {
            chosen.iter().try_for_each(|chosen| add_header(chosen, &mut asked, wish.containers))?;
        }
    }
    ports::plan(asked.into_iter(), net, facts)
}

/// Where in the pod its published ports lead: to its own addresses, as in Kubernetes, IPv4 first. What listens on
/// localhost alone is meant for the pod alone, and may trust whoever comes from there. A pod that has nothing but localhost
/// has no such secrets.
pub(super) fn targets(ports: &[PublishedPort], network: &NetworkPlan) -> Vec<IpAddr> {
    let own = network.addresses();
    match (ports, own.is_empty()) {
        ([], _) => Vec::new(),
        (_, true) => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        (_, false) => own,
    }
}

fn declared(port: &ContainerPort, container: &str) -> Option<PublishedPort> {
    let ContainerPort { name: _, container_port, protocol, host_port, host_ip } = port;
    Some(PublishedPort {
        host_ip: *host_ip,
        host_port: (*host_port)?,
        container_port: *container_port,
        protocol: *protocol,
        proxy_protocol: false,
        container: container.to_owned(),
    })
}

fn is_tcp(port: &PublishedPort) -> bool {
    port.protocol == Protocol::Tcp
}

/// A choice that means no published port would do nothing, in silence.
fn add_header(chosen: &ChosenPort, asked: &mut [PublishedPort], containers: &[Container]) -> Result<(), Report> {
    let (shown, numbers) = match chosen {
        ChosenPort::Number(number) => (number.to_string(), vec![*number]),
        ChosenPort::Named(name) => {
            let ports = containers.iter().flat_map(|container| &container.ports);
            let named = ports.filter(|port| port.name.as_ref() == Some(name));
            (name.clone(), named.map(|port| port.container_port).collect())
        }
    };
    let mut meant = asked.iter_mut().filter(|port| is_tcp(port) && numbers.contains(&port.container_port)).peekable();
    if meant.peek().is_none() {
        let field = annotations::path(PROXY_PROTOCOL);
        return Err(Report::new(exit_code::USAGE, format!("{field}: `{shown}` is no published port of the pod"))
            .because("it is to be the name or the number of a containerPort that is published over TCP")
            .hint(instead_of(&shown, containers)));
    }
    meant.for_each(|port| port.proxy_protocol = true);
    Ok(())
}

fn instead_of(shown: &str, containers: &[Container]) -> String {
    let names = containers.iter().flat_map(|container| &container.ports).filter_map(|port| port.name.as_deref());
    match (shown, nearest(shown, names).filter(|(name, _)| *name != shown)) {
        ("v2", _) => "write `v2` alone: it is every published TCP port".to_owned(),
        ("v1" | "true" | "all", _) => {
            "write `v2`, for every published TCP port: it is the version that is spoken".to_owned()
        }
        (_, Some((name, _))) => format!("did you mean `{name}`?"),
        (_, None) => "publish it, with hostPort or -p; or remove it; `v2` alone is every published TCP port".to_owned(),
    }
}
