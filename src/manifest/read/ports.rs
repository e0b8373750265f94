//! `ports` of a container, and what those of all containers say together.

use std::net::IpAddr;

use super::metadata::named;
use super::spec::UniqueNames;
use crate::bind_conflict::in_conflict;
use crate::manifest::names;
use crate::manifest::object::{Object, Slot};
use crate::manifest::pod::{ContainerPort, Protocol};
use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::schema;
use crate::manifest::tree::Position;

const PROTOCOLS: [(&str, Protocol); 2] = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp)];

/// Ports of the host that the pod has already, with where they stand.
#[derive(Debug, Default)]
pub(super) struct HostPorts(Vec<(ContainerPort, Position)>);

impl HostPorts {
    /// Nobody needs more, and each is compared with all before it.
    const MOST: usize = 10_000;

    fn add(&mut self, port: &ContainerPort, slot: &Slot<'_>, problems: &mut Problems) {
        if let Some((_, first)) = self.0.iter().find(|(taken, _)| collide(taken, port)) {
            slot.invalid(problems, format!("the same port of the host is already asked for at {first}"));
        } else if self.0.len() < Self::MOST {
            self.0.push((port.clone(), slot.position()));
        } else {
            slot.invalid(problems, format!("more than {} host ports", Self::MOST));
        }
    }
}

fn collide(a: &ContainerPort, b: &ContainerPort) -> bool {
    let host = |port: &ContainerPort| (port.host_ip, port.host_port.unwrap_or(0));
    a.protocol == b.protocol && in_conflict(host(a), host(b))
}

pub(super) fn read<'t>(
    slot: &Slot<'t>,
    host_network: bool,
    taken: &mut HostPorts,
    problems: &mut Problems,
) -> Vec<ContainerPort> {
    let mut names = UniqueNames::default();
    let mut read = |object: &mut Object<'t>, problems: &mut Problems| port(object, &mut names, problems);
    let mut ports = Vec::new();
    for item in slot.list(problems) {
        let Some((port, at)) = item.object(&schema::PORT, problems, &mut read) else { continue };
        if let Some(host_port) = &at.host_port {
            if host_network && port.host_port != Some(port.container_port) {
                // ValidatePodSpec (validateHostNetwork).
                let message = format!(
                    "must be the containerPort, {}, where hostNetwork is true: there is nothing between the two",
                    port.container_port
                );
                host_port.invalid(problems, message);
            }
            taken.add(&port, host_port, problems);
        }
        if let Some(host_ip) = &at.host_ip {
            check_host_ip(host_ip, at.host_port.is_some(), host_network, problems);
        }
        ports.push(port);
    }
    ports
}

/// Where the parts of a port stand that were understood.
struct Places<'t> {
    host_port: Option<Slot<'t>>,
    host_ip: Option<Slot<'t>>,
}

fn port<'t>(object: &mut Object<'t>, names: &mut UniqueNames, problems: &mut Problems) -> (ContainerPort, Places<'t>) {
    let name = object.take_text("name").and_then(|slot| {
        let name = named(&slot, names::port_name, problems)?;
        names.add(&name, "port name", &slot, problems);
        Some(name)
    });
    let container_port = object
        .require("containerPort", "a number from 1 to 65535", problems)
        .and_then(|slot| slot.integer(1..=65535, problems));
    let protocol = object.take_text("protocol").and_then(|slot| {
        if slot.is_text("SCTP") {
            problems.unsupported(slot.position(), &slot.path, "SCTP is not supported; use TCP or UDP");
            return None;
        }
        slot.choice(&PROTOCOLS, problems)
    });
    // 0 and "" are none.
    let host_port = object.take("hostPort").filter(|slot| !slot.is_number(0));
    let host_port = host_port.and_then(|slot| Some((slot.integer(1..=65535, problems)?, slot)));
    let host_ip = object.take_text("hostIP");
    let port = ContainerPort {
        name,
        container_port: container_port.and_then(|number| u16::try_from(number).ok()).unwrap_or_default(),
        protocol: protocol.unwrap_or(Protocol::Tcp),
        host_port: host_port.as_ref().and_then(|(number, _)| u16::try_from(*number).ok()),
        host_ip: host_ip.as_ref().and_then(|slot| ip_address(slot, problems)),
    };
    let readable = container_port.is_some();
    let host_port = host_port.map(|(_, slot)| slot).filter(|_| readable);
    (port, Places { host_port, host_ip: host_ip.filter(|_| readable) })
}

fn check_host_ip(slot: &Slot<'_>, has_port: bool, host_network: bool, problems: &mut Problems) {
    if host_network {
        slot.invalid(problems, "says nothing where hostNetwork is true: the container itself binds; remove it");
    } else if !has_port {
        slot.invalid(problems, "says nothing without hostPort; add that, or remove it");
    }
}

/// In its usual spelling; `::ffff:192.0.2.1` is the IPv4 address in it.
pub(super) fn ip_address(slot: &Slot<'_>, problems: &mut Problems) -> Option<IpAddr> {
    let text = slot.string(problems)?;
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(ip.to_canonical()),
        Err(_) => {
            slot.invalid(problems, format!("`{}` must be an IP address, as 192.0.2.1 or 2001:db8::1", excerpt(text)));
            None
        }
    }
}
