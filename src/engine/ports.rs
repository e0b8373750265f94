//! Published ports: their sockets on the host, and the process that joins the pod with them. `plan/ports.rs` decides which,
//! `proxy/` moves the bytes.
//!
//! The sockets are bound before anything else of the pod exists and stay with the supervisor: the kernel keeps clients in
//! the backlog until the proxy runs, and while it is replaced.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use super::failure::{During, Result};
use super::message::{Heard, KillOnDrop, Listener, Speaker, died};
use crate::plan::Protocol;
use crate::plan::ports::PublishedPort;
use crate::proxy::{ClientAddress, Proxy, TcpPort, UdpPort};
use crate::step::Step;
use crate::sys::process::PidFd;
use crate::sys::socket::Channel;
use crate::sys::{self, Errno, Namespaces, clone, inet, privileges, process, stdio};

/// A port of the plan and one of the sockets that it has on the host.
#[derive(Debug)]
struct Bound {
    port: PublishedPort,
    socket: OwnedFd,
}

/// All sockets of a pod's published ports.
#[derive(Debug, Default)]
pub struct Sockets(Vec<Bound>);

/// One port could not be bound, so none is.
#[derive(Debug)]
pub struct BindFailure {
    pub port: PublishedPort,
    pub address: SocketAddr,
    pub error: sys::Error,
}

/// An address of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostAddress {
    pub ip: IpAddr,
    /// Left out without a word where the host has no IPv6.
    pub only_if_possible: bool,
}

/// Ports for "whichever is free" that are tried before it is given up: the port that the kernel chose for IPv4 may be
/// taken for IPv6.
const TRIES: usize = 16;

/// Binds everything, or nothing; gives the sockets in the ports' order. Writes into the plan what turns out here: the ports that
/// the kernel chose, and where there is no IPv6 that "every address" is those of IPv4.
///
/// # Errors
/// The first that could not be bound.
pub fn bind(ports: &mut [PublishedPort]) -> std::result::Result<Sockets, BindFailure> {
    // The kernel may choose a port that is asked for further on: those with a number come first.
    let (numbered, free): (Vec<_>, Vec<_>) = ports.iter_mut().enumerate().partition(|(_, port)| port.host_port != 0);
    let mut bound = Vec::new();
    for (place, port) in numbered.into_iter().chain(free) {
        let every = |ip: IpAddr| HostAddress { ip, only_if_possible: ip.is_ipv6() };
        let wanted: Vec<HostAddress> = match port.host_ip {
            Some(ip) => vec![HostAddress { ip, only_if_possible: false }],
            None => [IpAddr::from([0; 4]), IpAddr::from([0_u16; 8])].map(every).into(),
        };
        let sockets = bind_port(&wanted, port.host_port, port.protocol).map_err(|(address, error)| BindFailure {
            port: port.clone(),
            address,
            error,
        })?;
        let addresses: Vec<SocketAddr> = sockets.iter().map(|(address, _)| *address).collect();
        if let [only] = addresses[..] {
            port.host_ip = Some(only.ip());
        }
        port.host_port = addresses.first().map_or(port.host_port, SocketAddr::port);
        bound.extend(sockets.into_iter().map(|(_, socket)| (place, Bound { port: port.clone(), socket })));
    }
    bound.sort_by_key(|(place, _)| *place);
    Ok(Sockets(bound.into_iter().map(|(_, bound)| bound).collect()))
}

/// The sockets of one port, and where they are bound; or where it failed.
type BoundPort = std::result::Result<Vec<(SocketAddr, OwnedFd)>, (SocketAddr, sys::Error)>;

/// Binds the same port at several addresses; 0 is one that is free at all of them.
///
/// # Errors
/// The address that could not be bound, and why.
pub fn bind_port(wanted: &[HostAddress], number: u16, protocol: Protocol) -> BoundPort {
    let settled =
        |tried: &BoundPort| number != 0 || !matches!(tried, Err((_, error)) if error.errno == Errno::EADDRINUSE);
    let mut tries = std::iter::repeat_with(|| try_port(wanted, number, protocol)).take(TRIES);
    tries.find(settled).unwrap_or_else(|| try_port(wanted, number, protocol))
}

fn try_port(wanted: &[HostAddress], mut number: u16, protocol: Protocol) -> BoundPort {
    let mut sockets = Vec::new();
    for HostAddress { ip, only_if_possible } in wanted {
        let address = SocketAddr::new(*ip, number);
        let socket = match protocol {
            Protocol::Tcp => inet::listen_tcp(address),
            Protocol::Udp => inet::bind_udp(address),
        };
        match socket {
            Ok(socket) => {
                let address = inet::local_address(socket.as_fd()).map_err(|error| (address, error))?;
                number = address.port();
                sockets.push((address, socket));
            }
            // Built without IPv6, or switched off by net.ipv6.conf.*.disable_ipv6.
            Err(error) if *only_if_possible && matches!(error.errno, Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {}
            Err(error) => return Err((address, error)),
        }
    }
    Ok(sockets)
}

impl Sockets {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Another socket on the host for a port of the pod.
    pub fn add(&mut self, port: PublishedPort, socket: OwnedFd) {
        self.0.push(Bound { port, socket });
    }

    /// For those that close everything else.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(|bound| bound.socket.as_fd())
    }

    /// What the proxy works with. `targets` are the pod's addresses, in the order in which they are tried.
    #[must_use]
    pub fn into_proxy_ports(self, targets: &[IpAddr]) -> (Vec<TcpPort>, Vec<UdpPort>) {
        let (mut tcp, mut udp) = (Vec::new(), Vec::new());
        for Bound { port, socket } in self.0 {
            let targets = targets.iter().map(|ip| SocketAddr::new(*ip, port.container_port)).collect();
            match port.protocol {
                Protocol::Udp => udp.push(UdpPort { socket, targets }),
                Protocol::Tcp => {
                    let client_address =
                        if port.proxy_protocol { ClientAddress::ProxyHeader } else { ClientAddress::Hidden };
                    tcp.push(TcpPort { listener: socket, targets, client_address });
                }
            }
        }
        (tcp, udp)
    }

    fn duplicate(&self) -> sys::Result<Sockets> {
        let copies = self
            .0
            .iter()
            .map(|Bound { port, socket }| Ok(Bound { port: port.clone(), socket: inet::duplicate(socket.as_fd())? }));
        copies.collect::<sys::Result<_>>().map(Sockets)
    }
}

/// A running port proxy.
#[derive(Debug)]
pub struct PortProxy {
    pub pid: i32,
    pub process: PidFd,
}

impl PortProxy {
    /// SIGKILL: its connections are reset.
    pub fn kill(&self) {
        // Gone already: just as well.
        let _ = self.process.signal(9);
    }
}

/// The supervisor waits for it, and with it everybody else. It takes a millisecond, and could be stopped by a container
/// with hostPID.
const DEADLINE: Duration = Duration::from_secs(2);

/// Starts the proxy of a pod. `network` is the pod's network namespace, as [`clone::namespace_of`] opens it once pause is a
/// program of its own.
///
/// # Errors
/// What the process could not do on its way; it has ended then.
pub fn start(sockets: &Sockets, network: BorrowedFd<'_>, targets: &[IpAddr]) -> Result<PortProxy> {
    let step = Step::StartPortProxy;
    let (ours, theirs) = Channel::pair().during(step, "")?;
    let listener = Listener::new(ours, DEADLINE)?;
    let supervisor = std::process::id().cast_signed();
    match clone::fork_into(Namespaces::empty(), clone::Parent::Caller).during(step, "")? {
        clone::Fork::Child => {
            drop(listener);
            let speaker = Speaker::new(theirs);
            match become_proxy(sockets, network, targets, &speaker, supervisor) {
                Err(failure) => speaker.say_failed(failure),
                Ok(mut proxy) => {
                    // Its end is the word that the proxy is up.
                    drop(speaker);
                    // What keeps the loop from going on keeps us from saying so; the supervisor sees our end.
                    let _ = proxy.run(&[]);
                }
            }
            clone::exit_now(125);
        }
        clone::Fork::Parent { pid, pidfd } => {
            drop(theirs);
            let child = KillOnDrop::new(pidfd);
            while !matches!(listener.hear(step, "")?, Heard::End) {}
            let process = child.disarm().ok_or_else(|| died(step, ""))?;
            if process.wait_gone(std::time::Duration::ZERO).during(step, "")? {
                return Err(died(step, ""));
            }
            Ok(PortProxy { pid, process })
        }
    }
}

/// Who: a child of the supervisor, in its cgroup and in the host's pid namespace. Why: one process must hold sockets of
/// both network namespaces. Ends: at the supervisor's death, or when it is killed at the pod's end.
fn become_proxy(
    sockets: &Sockets,
    network: BorrowedFd<'_>,
    targets: &[IpAddr],
    speaker: &Speaker,
    supervisor: i32,
) -> Result<Proxy> {
    let step = Step::StartPortProxy;
    stdio::reset_signals().during(step, "")?;
    // The originals are closed with everything else that is the supervisor's. Until then there are twice as many.
    process::raise_descriptor_limit().during(step, "")?;
    let sockets = sockets.duplicate().during(step, "")?;
    // The supervisor's lock and sockets above all, and before anybody in the pod's user namespace could reach in.
    let kept: Vec<_> = sockets.descriptors().chain([speaker.as_fd(), network]).collect();
    stdio::close_all_but(&kept).during(step, "")?;
    enter(network)?;
    // After the change of credentials that joining a user namespace is, which clears it.
    if !clone::die_with_parent(Some(supervisor)).during(step, "")? {
        clone::exit_now(125);
    }
    let kept: Vec<_> = sockets.descriptors().chain([speaker.as_fd()]).collect();
    stdio::close_all_but(&kept).during(step, "")?;
    process::set_name(c"sandpod:ports").during(step, "")?;
    let (tcp, udp) = sockets.into_proxy_ports(targets);
    Proxy::new(tcp, udp).during(step, "")
}

/// Joins a network namespace, by way of the user namespace that owns it, and gives up every right that this brings: from
/// here on this process can only make sockets there.
///
/// # Errors
/// It is not ours to join.
pub fn enter(network: BorrowedFd<'_>) -> Result<()> {
    let step = Step::StartPortProxy;
    // First: from the moment of joining it belongs to the pod's user namespace, where somebody may have CAP_SYS_PTRACE.
    privileges::hide_from_ptrace().during(step, "")?;
    let owner = clone::owner_of(network).during(step, "the pod's network")?;
    clone::join(owner.as_fd(), Namespaces::CLONE_NEWUSER).during(step, "the pod's network")?;
    clone::join(network, Namespaces::CLONE_NEWNET).during(step, "the pod's network")?;
    privileges::limit_bounding_set(&[]).during(step, "")?;
    privileges::limit_capabilities(&[]).during(step, "")?;
    privileges::no_new_privileges().during(step, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::ports::parse;

    fn published(text: &str) -> Vec<PublishedPort> {
        parse(text).expect("parses").into_iter().map(|mapping| mapping.published_for("web")).collect()
    }

    #[test]
    fn a_port_that_the_kernel_chose_is_in_the_plan() {
        let mut ports = published("80");
        let sockets = bind(&mut ports).expect("some port is free");
        assert_ne!(ports[0].host_port, 0);
        let bound: Vec<u16> =
            sockets.0.iter().map(|b| inet::local_address(b.socket.as_fd()).expect("bound").port()).collect();
        assert!(bound.iter().all(|port| *port == ports[0].host_port), "{bound:?}");
        // What `sandpod port` shows is what is there.
        assert_eq!(bound.len(), ports[0].host_addresses().len());
    }

    #[test]
    fn one_port_in_use_leaves_none_bound() {
        let taken = inet::listen_tcp("127.0.0.1:0".parse().expect("an address")).expect("listen");
        let taken = inet::local_address(taken.as_fd()).map(|address| (address, taken)).expect("bound");
        let mut free = published("127.0.0.1::80");
        drop(bind(&mut free).expect("free"));
        let mut both = free.clone();
        both.extend(published(&format!("127.0.0.1:{}:81", taken.0.port())));
        let refused = bind(&mut both).expect_err("in use");
        assert_eq!((refused.address, refused.error.errno), (taken.0, Errno::EADDRINUSE));
        bind(&mut free).expect("the first was let go");
    }

    #[test]
    fn ports_with_a_number_are_bound_first_and_stay_in_their_place() {
        let taken = inet::listen_tcp("127.0.0.1:0".parse().expect("an address")).expect("listen");
        let taken = inet::local_address(taken.as_fd()).map(|address| (address, taken)).expect("bound");
        let numbered = published(&format!("127.0.0.1:{}:81", taken.0.port()));
        // Neither can be had: the failure is that of the first that was tried. 192.0.2.1 is nobody's (RFC 5737).
        let mut both = [published("192.0.2.1::80"), numbered.clone()].concat();
        assert_eq!(bind(&mut both).expect_err("in use").address, taken.0);
        let mut both = [published("127.0.0.1::80"), numbered].concat();
        drop(taken);
        let sockets = bind(&mut both).expect("free");
        let order: Vec<u16> = sockets.0.iter().map(|bound| bound.port.container_port).collect();
        assert_eq!((order, both[0].container_port), (vec![80, 81], 80));
    }

    #[test]
    fn each_port_leads_to_every_address_of_the_pod() {
        let mut ports = published("127.0.0.1::80");
        ports.extend(published("127.0.0.1::53/udp"));
        ports[0].proxy_protocol = true;
        let sockets = bind(&mut ports).expect("free");
        let (tcp, udp) = sockets
            .into_proxy_ports(&["10.0.2.100".parse().expect("an address"), "fd00::1".parse().expect("an address")]);
        let shown: Vec<String> = tcp[0].targets.iter().chain(&udp[0].targets).map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.2.100:80", "[fd00::1]:80", "10.0.2.100:53", "[fd00::1]:53"]);
        assert_eq!(tcp[0].client_address, ClientAddress::ProxyHeader);
    }
}
