//! `sandpod port-forward`: the port proxy in this very process, between the host's loopback and the pod's.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use super::arguments::PortForwardArguments;
use super::{Failure, Outcome, client, ports, print, store};
use crate::bind_conflict::in_conflict;
use crate::engine::ports::{HostAddress, Sockets, bind_port, enter};
use crate::host;
use crate::plan::ports::{Mapping, PublishedPort, Wrong, declared, mappings, named, port_number, protocol_name};
use crate::plan::{NamespaceMode, PortPlan, Protocol};
use crate::proxy::Proxy;
use crate::report::{Report, exit_code};
use crate::state::{Store, StoredPod};
use crate::sys::Errno;
use crate::sys::clone;
use crate::sys::process::PidFd;
use crate::sys::terminal::{ForegroundSignals, Sent};

/// In the pod: what listens on 127.0.0.1 only is reached, too. IPv6 where nobody is there.
const TARGETS: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// `localhost` of this host.
const LOCALHOST: [IpAddr; 2] = TARGETS;

/// Forwards until Ctrl-C, or until the pod ends.
pub(crate) fn port_forward(asked: &PortForwardArguments) -> Outcome {
    let store = store()?;
    let pod = store.find(&asked.pod).map_err(|report| or_its_port(report, asked))?;
    if !pod.status().is_live() {
        return Err(client::not_running(&pod).into());
    }
    let plan = pod
        .plan
        .as_ref()
        .ok_or_else(|| Report::new(exit_code::FAILURE, format!("pod `{}`: its plan cannot be read", pod.name)))?;
    let addresses = addresses(&asked.address)?;
    let declared = declared(plan);
    let forwards = asked.ports.iter().map(|text| parse(text, &declared)).collect::<Result<Vec<_>, _>>()?.concat();
    refuse_twice(&forwards)?;
    let on_the_hosts = plan.sandbox.namespaces.net == NamespaceMode::Node;
    if on_the_hosts {
        refuse_circle(&forwards, &asked_for(&forwards, &addresses))?;
    }
    // A Ctrl-C from here on is the loop's.
    let signals = ForegroundSignals::block()?;
    let mut sockets = Sockets::default();
    let mut bound = Vec::new();
    let mut lines = String::new();
    for (forward, address, socket) in bind_all(&store, &forwards, &addresses)? {
        lines.push_str(&line(address, forward));
        bound.push((address, forward.protocol));
        sockets.add(forward.at(address, &pod.name), socket);
    }
    let (pause, network) = open(&pod)?;
    if on_the_hosts {
        // Again: the kernel may have chosen the very port that is to be reached.
        refuse_circle(&forwards, &bound)?;
    } else {
        enter(network.as_fd()).map_err(|failure| failure.into_report(could_not(&pod)))?;
    }
    drop(network);
    let (tcp, udp) = sockets.into_proxy_ports(&TARGETS);
    let mut proxy = Proxy::new(tcp, udp)?;
    // Now, and not before, a connection is answered.
    print::text(&lines)?;
    loop {
        if proxy.run(&[signals.as_fd(), pause.as_fd()])? == 1 {
            let ended = Report::new(exit_code::FAILURE, format!("pod `{}` has ended", pod.name));
            return Err(ended.because("its ports are no longer forwarded").into());
        }
        if let Some(Sent::End { .. }) = signals.next() {
            return Ok(0);
        }
    }
}

fn could_not(pod: &StoredPod) -> String {
    format!("could not forward ports of pod `{}`", pod.name)
}

/// Pause, whose end is the pod's, and the pod's network namespace.
fn open(pod: &StoredPod) -> Result<(PidFd, OwnedFd), Failure> {
    let gone = || Failure::from(client::not_running(&pod.reload()));
    let process = pod.record().and_then(|record| record.pause).ok_or_else(gone)?;
    let pause = process.open()?.ok_or_else(gone)?;
    let network = clone::namespace_of(process.pid, "net")
        .map_err(|error| Report::new(exit_code::FAILURE, could_not(pod)).because(error.to_string()))?;
    // Opened by number: it was pause's if pause is still there.
    if process.is_alive() { Ok((pause, network)) } else { Err(gone()) }
}

/// There is no such pod: a port in its place is a slip.
fn or_its_port(report: Report, asked: &PortForwardArguments) -> Report {
    let PortForwardArguments { pod: typed, ports, .. } = asked;
    match ports.first() {
        Some(first) if typed.contains(':') || port_number(typed).is_ok() => {
            report.hint(format!("the pod comes first: `sandpod port-forward {first} {typed}`"))
        }
        _ => report,
    }
}

/// One `[LOCAL:]REMOTE`, or a part of its range.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Forward {
    typed: String,
    /// 0: whichever is free.
    local: u16,
    remote: u16,
    protocol: Protocol,
}

impl Forward {
    fn at(&self, address: SocketAddr, pod: &str) -> PublishedPort {
        PublishedPort {
            host_ip: Some(address.ip()),
            host_port: address.port(),
            container_port: self.remote,
            protocol: self.protocol,
            proxy_protocol: false,
            container: pod.to_owned(),
        }
    }
}

fn line(address: SocketAddr, forward: &Forward) -> String {
    let protocol = match forward.protocol {
        Protocol::Tcp => String::new(),
        Protocol::Udp => format!("/{}", protocol_name(forward.protocol)),
    };
    format!("Forwarding from {address} -> {}{protocol}\n", forward.remote)
}

/// `REMOTE`, `LOCAL:REMOTE`, `:REMOTE`, as `-p` has them without its address; `REMOTE` alone is both.
fn parse(text: &str, declared: &[PortPlan]) -> Result<Vec<Forward>, Report> {
    let wrong = |Wrong { why, hint }: Wrong| {
        let grammar = "write it as [LOCAL:]REMOTE, with /udp at its end for UDP: 8080:80, 80, :80, 8080:http";
        Report::new(exit_code::USAGE, cannot_forward(text)).because(why).hint(hint.unwrap_or(grammar))
    };
    let mappings = match text.matches(':').count() {
        0 | 1 => mappings(text, |name| named(name, declared)).map_err(wrong)?,
        _ => return Err(wrong("it is one local port and one of the pod: an address comes with --address".into())),
    };
    let of = |Mapping { host_ip: _, host_port, container_port, protocol }| Forward {
        typed: text.to_owned(),
        local: if text.contains(':') { host_port } else { container_port },
        remote: container_port,
        protocol,
    };
    Ok(mappings.into_iter().map(of).collect())
}

fn cannot_forward(text: &str) -> String {
    format!("cannot forward `{text}`")
}

/// The kernel would say of the second that the port is in use, by this very process.
fn refuse_twice(forwards: &[Forward]) -> Result<(), Report> {
    let mut taken = HashMap::new();
    for forward in forwards.iter().filter(|forward| forward.local != 0) {
        let Forward { typed, local, remote, protocol } = forward;
        if let Some(earlier) = taken.insert((local, protocol_name(*protocol)), typed) {
            return Err(Report::new(exit_code::USAGE, cannot_forward(typed))
                .because(format!("port {local} of this host is forwarded by `{earlier}` already"))
                .hint(format!("leave it out, or give it another local port: :{remote} is any that is free")));
        }
    }
    Ok(())
}

/// Where this command is to listen; port 0 is whichever is free.
fn asked_for(forwards: &[Forward], addresses: &[HostAddress]) -> Vec<(SocketAddr, Protocol)> {
    let at = |forward: &Forward, address: &HostAddress| (SocketAddr::new(address.ip, forward.local), forward.protocol);
    forwards.iter().flat_map(|forward| addresses.iter().map(move |address| at(forward, address))).collect()
}

/// The localhost of a pod on the host's network is the one on which this command listens: of a port that leads to one which
/// it has itself, each connection makes the next one, until no descriptor is left.
fn refuse_circle(forwards: &[Forward], listening: &[(SocketAddr, Protocol)]) -> Result<(), Report> {
    // Ranges can be long: a port is only compared with those of the same number.
    let mut of_number: HashMap<u16, Vec<(SocketAddr, Protocol)>> = HashMap::new();
    listening.iter().for_each(|here| of_number.entry(here.0.port()).or_default().push(*here));
    for forward in forwards {
        let remote = forward.remote;
        let reached = |(address, protocol): &&(SocketAddr, Protocol)| {
            let here = (Some(address.ip()), address.port());
            *protocol == forward.protocol && TARGETS.iter().any(|target| in_conflict(here, (Some(*target), remote)))
        };
        if let Some((address, _)) = of_number.get(&remote).and_then(|same| same.iter().find(reached)) {
            return Err(Report::new(exit_code::USAGE, cannot_forward(&forward.typed))
                .because(format!(
                    "the pod is on this host's network: its port {remote} is the host's 127.0.0.1:{remote}"
                ))
                .because(format!("listening on {address}, this command would connect to itself without end"))
                .hint(format!("connect to 127.0.0.1:{remote} itself, or forward a local port that is not the pod's")));
        }
    }
    Ok(())
}

/// `--address`: `localhost` is both loopback addresses, as far as there are two. Each once, however often it is said, and none
/// that is included in every address of its family.
fn addresses(asked: &[String]) -> Result<Vec<HostAddress>, Report> {
    let mut addresses: Vec<HostAddress> = Vec::new();
    for text in asked {
        if text == "localhost" {
            let missing = LOCALHOST.iter().filter(|ip| addresses.iter().all(|known| known.ip != **ip));
            let missing: Vec<IpAddr> = missing.copied().collect();
            addresses.extend(missing.into_iter().map(|ip| HostAddress { ip, only_if_possible: ip.is_ipv6() }));
            continue;
        }
        let ip: IpAddr = text.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| {
            Report::new(exit_code::USAGE, format!("--address: `{text}` is neither an IP address nor `localhost`"))
        })?;
        match addresses.iter_mut().find(|known| known.ip == ip) {
            Some(known) => known.only_if_possible = false,
            None => addresses.push(HostAddress { ip, only_if_possible: false }),
        }
    }
    // The kernel would say of 127.0.0.1 that it is in use, by the 0.0.0.0 of this very process.
    let every: Vec<IpAddr> = addresses.iter().map(|address| address.ip).filter(IpAddr::is_unspecified).collect();
    let included = |ip: IpAddr| every.iter().any(|every| *every != ip && every.is_ipv4() == ip.is_ipv4());
    addresses.retain(|address| !included(address.ip));
    Ok(addresses)
}

/// In the order in which they were asked for.
fn bind_all<'a>(
    store: &Store,
    forwards: &'a [Forward],
    addresses: &[HostAddress],
) -> Result<Vec<(&'a Forward, SocketAddr, OwnedFd)>, Report> {
    // The kernel may choose a port that is asked for further on: those with a number come first.
    let (numbered, free): (Vec<_>, Vec<_>) = forwards.iter().enumerate().partition(|(_, forward)| forward.local != 0);
    let mut bound = Vec::new();
    for (place, forward) in numbered.into_iter().chain(free) {
        let sockets = bind(store, forward, addresses)?;
        bound.extend(sockets.into_iter().map(|(address, socket)| (place, (forward, address, socket))));
    }
    bound.sort_by_key(|(place, _)| *place);
    Ok(bound.into_iter().map(|(_, bound)| bound).collect())
}

fn bind(store: &Store, forward: &Forward, addresses: &[HostAddress]) -> Result<Vec<(SocketAddr, OwnedFd)>, Report> {
    bind_port(addresses, forward.local, forward.protocol).map_err(|(address, error)| {
        let remote = forward.remote;
        let report = Report::new(exit_code::FAILURE, cannot_forward(&forward.typed))
            .because(format!("listening on {address} of this host, for port {remote} of the pod"))
            .because(error.to_string());
        let any = format!(":{remote} takes any that is free");
        match error.errno {
            Errno::EADDRINUSE => report.hint(format!(
                "{}; end it, or forward another local port: {any}",
                ports::holder(store, &forward.at(address, ""), address)
            )),
            Errno::EACCES => {
                let first = host::probe(&host::Asked::default()).map_or(1024, |facts| facts.unprivileged_port_start);
                report.hint(format!(
                    "only root may bind ports below {first} here (net.ipv4.ip_unprivileged_port_start): forward another \
                     local port, like {}:{remote}; {any}",
                    forward.local.saturating_add(8000),
                ))
            }
            Errno::EMFILE => report.hint(ports::TOO_MANY_FILES),
            Errno::EADDRNOTAVAIL => {
                report.hint(format!("{} is no address of this host: `ip address` lists them", address.ip()))
            }
            _ => report,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_both_and_names_are_none() {
        let found =
            addresses(&["localhost".to_owned(), "192.0.2.1".to_owned(), "[::2]".to_owned()]).expect("addresses");
        let shown: Vec<String> = found.iter().map(|address| address.ip.to_string()).collect();
        assert_eq!(shown, ["127.0.0.1", "::1", "192.0.2.1", "::2"]);
        assert_eq!(found.iter().filter(|address| address.only_if_possible).count(), 1);
        assert_eq!(addresses(&["example.org".to_owned()]).expect_err("a name").exit_code, exit_code::USAGE);
    }

    #[test]
    fn an_address_that_is_said_twice_is_bound_once() {
        let found = |asked: &[&str]| {
            let asked: Vec<String> = asked.iter().map(|word| (*word).to_owned()).collect();
            let found = addresses(&asked).expect("addresses").into_iter();
            found.map(|address| (address.ip.to_string(), address.only_if_possible)).collect::<Vec<_>>()
        };
        let (four, six) = (("127.0.0.1".to_owned(), false), "::1".to_owned());
        assert_eq!(found(&["127.0.0.1", "localhost", "localhost"]), [four.clone(), (six.clone(), true)]);
        assert_eq!(found(&["localhost", "::1"]), [four.clone(), (six.clone(), false)], "asked for by itself");
        let every = ("0.0.0.0".to_owned(), false);
        assert_eq!(found(&["127.0.0.1", "0.0.0.0", "localhost"]), [every, (six, true)], "included in every address");
        assert_eq!(found(&["localhost", "::"]), [four, ("::".to_owned(), false)]);
    }

    #[test]
    fn what_is_forwarded_is_written_as_for_kubectl() {
        let udp = |name: &str, container_port| PortPlan {
            name: Some(name.to_owned()),
            container_port,
            protocol: Protocol::Udp,
        };
        let declared = [udp("dns", 53), udp("two", 53), udp("two", 54)];
        let all = |text: &str| {
            let meant = |forward: Forward| (forward.local, forward.remote, forward.protocol);
            parse(text, &declared).map(|forwards| forwards.into_iter().map(meant).collect::<Vec<_>>())
        };
        let of = |text: &str| all(text).map(|forwards| forwards[0]);
        let tcp = Protocol::Tcp;
        assert_eq!(all("9000-9001:80-81").expect("a range"), [(9000, 80, tcp), (9001, 81, tcp)]);
        assert_eq!(all("53-54").expect("a range"), [(53, 53, tcp), (54, 54, tcp)]);
        for (text, why) in [
            ("9003:dsn", "its named ports are `dns` (53/udp), `two` (53/udp), `two` (54/udp)"),
            ("two", "several containers have a port `two`"),
            ("127.0.0.1:9000:80", "an address comes with --address"),
        ] {
            let report = of(text).expect_err(text);
            assert!(report.chain[0].contains(why), "{report:?}");
        }
        for (text, meant) in [
            ("8080:80", (8080, 80, Protocol::Tcp)),
            ("80", (80, 80, Protocol::Tcp)),
            (":80", (0, 80, Protocol::Tcp)),
            ("5353:53/udp", (5353, 53, Protocol::Udp)),
            ("5353:dns", (5353, 53, Protocol::Udp)),
            ("dns", (53, 53, Protocol::Udp)),
        ] {
            assert_eq!(of(text).expect(text), meant, "{text}");
        }
        for text in ["", ":", "80:", "0", "8080:0", "65536", "http", "1:2:3", "80/sctp", "-1"] {
            let report = of(text).expect_err(text);
            assert_eq!((report.exit_code, report.what.clone()), (exit_code::USAGE, format!("cannot forward `{text}`")));
        }
    }

    #[test]
    fn a_local_port_is_forwarded_once_for_each_protocol() {
        let forward = |local, protocol| Forward { typed: format!("{local}:80"), local, remote: 80, protocol };
        let (tcp, udp) = (forward(8080, Protocol::Tcp), forward(8080, Protocol::Udp));
        refuse_twice(&[tcp, udp, forward(0, Protocol::Tcp), forward(0, Protocol::Tcp)]).expect("four ports");
        let report = refuse_twice(&[forward(1, Protocol::Tcp), forward(1, Protocol::Tcp)]).expect_err("one port");
        assert_eq!((report.exit_code, report.what.as_str()), (exit_code::USAGE, "cannot forward `1:80`"));
    }

    #[test]
    fn on_the_hosts_network_nothing_leads_back_to_this_command() {
        let circle = |forwards: &[(u16, u16, Protocol)], listening: &str| {
            let of =
                |(local, remote, protocol)| Forward { typed: format!("{local}:{remote}"), local, remote, protocol };
            let forwards: Vec<Forward> = forwards.iter().copied().map(of).collect();
            let addresses = addresses(&[listening.to_owned()]).expect("an address");
            refuse_circle(&forwards, &asked_for(&forwards, &addresses))
        };
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        for (forwards, listening) in [
            (vec![(80, 80, tcp)], "localhost"),
            (vec![(53, 53, udp)], "127.0.0.1"),
            (vec![(80, 80, tcp)], "::1"),
            (vec![(80, 80, tcp)], "0.0.0.0"),
            (vec![(80, 80, udp)], "::"),
            (vec![(8080, 8081, tcp), (8081, 8080, tcp)], "localhost"),
            (vec![(0, 8081, tcp), (8081, 80, tcp)], "localhost"),
        ] {
            let report = circle(&forwards, listening).expect_err(listening);
            assert_eq!(report.exit_code, exit_code::USAGE, "{forwards:?}");
            let remote = forwards[0].1;
            assert!(report.hint.is_some_and(|hint| hint.contains(&format!("connect to 127.0.0.1:{remote} itself"))));
        }
        for (forwards, listening) in [
            (vec![(8080, 80, tcp), (0, 80, tcp)], "localhost"),
            (vec![(53, 80, tcp), (80, 53, udp)], "localhost"),
            (vec![(80, 80, tcp)], "192.0.2.1"),
            (vec![(80, 80, tcp)], "127.0.0.2"),
        ] {
            circle(&forwards, listening).expect(listening);
        }
        let any = Forward { typed: ":80".to_owned(), local: 0, remote: 80, protocol: tcp };
        let chosen = |port: u16| [(SocketAddr::from((Ipv6Addr::LOCALHOST, port)), tcp)];
        refuse_circle(std::slice::from_ref(&any), &chosen(80)).expect_err("the kernel chose the pod's own");
        refuse_circle(&[any], &chosen(81)).expect("another");
    }

    #[test]
    fn a_line_for_each_address() {
        let forward = Forward { typed: "8080:80".to_owned(), local: 8080, remote: 80, protocol: Protocol::Tcp };
        let shown = |address: &str| line(address.parse().expect("an address"), &forward);
        assert_eq!(shown("127.0.0.1:8080"), "Forwarding from 127.0.0.1:8080 -> 80\n");
        assert_eq!(shown("[::1]:8080"), "Forwarding from [::1]:8080 -> 80\n");
    }
}
