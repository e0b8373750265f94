//! `sandpod port`, and what is said when a port of the host cannot be had.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use super::arguments::PortArguments;
use super::{Outcome, client, networks, print, store};
use crate::engine::ports::{self, BindFailure, Sockets};
use crate::host::{self, Facts, Transport, processes};
use crate::plan::ports::{
    Mapping, PublishedPort, Wrong, declared, mappings, named, of_the_hosts_network, out_of_reach, protocol_name,
};
use crate::plan::{NamespaceMode, PodPlan, PortPlan, Protocol, SandboxPlan};
use crate::report::{Report, exit_code};
use crate::state::{Store, StoredPod};
use crate::step::Step;
use crate::sys::{Errno, privileges};

/// EMFILE, of ports.
pub(super) const TOO_MANY_FILES: &str = "this process may have no more files open, and each port takes a socket or two: \
     `ulimit -n` says how many there may be; raise it (`ulimit -n 65536`), or leave out some ports";

/// Behind ports that are the host's own: no proxy of ours leads to them, the containers bind them.
pub(super) const HOST_NETWORK: &str = " (host network)";

/// The published ports of a running pod, as docker prints them; on the host's network those that it declares.
pub(crate) fn port(asked: &PortArguments) -> Outcome {
    let pod = store()?.find(&asked.pod)?;
    if !pod.status().is_live() {
        return Err(client::not_running(&pod).into());
    }
    let declared = pod.plan.as_ref().map(declared).unwrap_or_default();
    let wanted = asked.port.as_deref().map(|text| container_port(text, &declared)).transpose()?;
    let own = pod.plan.as_ref().map(of_the_hosts_network).unwrap_or_default();
    let published: Vec<&PublishedPort> = pod
        .plan
        .iter()
        .flat_map(|plan| &plan.sandbox.ports)
        .chain(&own)
        .filter(|port| wanted.is_none_or(|wanted| wanted == (port.container_port, port.protocol)))
        .collect();
    if let (Some(text), true) = (&asked.port, published.is_empty()) {
        let report = Report::new(exit_code::FAILURE, format!("pod `{}` does not publish port {text}", pod.name));
        return Err(report.hint(other_ways(&pod, text, wanted)).into());
    }
    if let Some(down) = networks::ports_down(&pod)
        && !published.is_empty()
    {
        let why = down.trouble.as_deref().unwrap_or("the port proxy has not started yet");
        print::notice("ports down", &format!("nobody answers at them just now: {why}; it is started again"));
    }
    if asked.json {
        print::json(&published.into_iter().map(|port| row_json(port, !own.is_empty())).collect::<Vec<Value>>())?;
        return Ok(0);
    }
    let whose = if own.is_empty() { "" } else { HOST_NETWORK };
    for port in published {
        for address in port.host_addresses() {
            print::text(&if wanted.is_some() { format!("{address}\n") } else { row(port, address, whose) })?;
        }
    }
    Ok(0)
}

/// To a port that is not published.
fn other_ways(pod: &StoredPod, text: &str, wanted: Option<(u16, Protocol)>) -> String {
    let sandbox = pod.plan.as_ref().map(|plan| &plan.sandbox);
    let number = wanted.map(|(number, _)| number).unwrap_or_default();
    if sandbox.is_some_and(|sandbox| sandbox.namespaces.net == NamespaceMode::Node) {
        return format!("it is on this host's network: what it listens on is the host's own, at 127.0.0.1:{number}");
    }
    let same_number = sandbox.and_then(|sandbox| sandbox.ports.iter().find(|port| port.container_port == number));
    match same_number {
        Some(port) => format!("it publishes {number}/{}", protocol_name(port.protocol)),
        None => format!(
            "`sandpod port {0}` lists what it publishes; `sandpod port-forward {0} {text}` needs none",
            pod.name
        ),
    }
}

/// `0.0.0.0:8080->80/tcp`, as `docker ps` has it; one for each address.
pub(crate) fn arrows(port: &PublishedPort) -> impl Iterator<Item = String> {
    let inside = format!("{}/{}", port.container_port, protocol_name(port.protocol));
    port.host_addresses().into_iter().map(move |address| format!("{address}->{inside}"))
}

/// [`arrows`] of all ports; of neighbours that lead to neighbours one for them all, as `docker ps` has it.
pub(crate) fn folded(ports: &[PublishedPort]) -> Vec<String> {
    let next_to = |a: &PublishedPort, b: &PublishedPort| {
        a.host_port.checked_add(1) == Some(b.host_port)
            && a.container_port.checked_add(1) == Some(b.container_port)
            && (a.host_ip, a.protocol) == (b.host_ip, b.protocol)
    };
    let range = |shown: String, (first, last): (u16, u16)| match first == last {
        true => shown,
        false => format!("{shown}-{last}"),
    };
    let runs = ports.chunk_by(next_to).filter_map(|run| Some((run.first()?, run.last()?)));
    let of_run = |(first, last): (&PublishedPort, &PublishedPort)| {
        let inside = range(first.container_port.to_string(), (first.container_port, last.container_port));
        let outside = |address: SocketAddr| range(address.to_string(), (first.host_port, last.host_port));
        let arrow = |address| format!("{}->{inside}/{}", outside(address), protocol_name(first.protocol));
        first.host_addresses().into_iter().map(arrow).collect::<Vec<String>>()
    };
    runs.flat_map(of_run).collect()
}

fn row(port: &PublishedPort, address: SocketAddr, whose: &str) -> String {
    format!("{}/{} -> {address}{whose}\n", port.container_port, protocol_name(port.protocol))
}

fn row_json(port: &PublishedPort, host_network: bool) -> Value {
    let PublishedPort { host_ip, host_port, container_port, protocol, proxy_protocol, container } = port;
    json!({
        "container": container,
        "containerPort": container_port,
        "protocol": protocol_name(*protocol).to_uppercase(),
        "hostIP": host_ip,
        "hostPort": host_port,
        "proxyProtocol": proxy_protocol,
        "hostNetwork": host_network,
    })
}

/// `80`, `80/udp` or `http`.
fn container_port(text: &str, declared: &[PortPlan]) -> Result<(u16, Protocol), Report> {
    let read = || match mappings(text, |name| named(name, declared))?[..] {
        [Mapping { host_ip: _, host_port: _, container_port, protocol }] if !text.contains(':') => {
            Ok((container_port, protocol))
        }
        _ => Err(Wrong::from(format!("`{text}` is not one port of the pod"))),
    };
    read().map_err(|Wrong { why, hint }| {
        let hint = hint.unwrap_or("write the pod's port, like 80 or 53/udp, or the name that its manifest gives it");
        Report::new(exit_code::USAGE, why).hint(hint)
    })
}

/// Binds the pod's published ports, before anything of the pod exists.
pub(super) fn bind(sandbox: &mut SandboxPlan, store: &Store) -> Result<Sockets, Report> {
    let SandboxPlan { ports, name, .. } = sandbox;
    ports::bind(ports).map_err(|failure| {
        let what = format!("could not start pod `{name}`: port {} of the host cannot be bound", failure.address.port());
        let mut report = Report::new(exit_code::FAILURE, what)
            .because(format!("{}: {}", Step::BindPorts.doing(), failure.port.shown()))
            .because(failure.error.to_string());
        report.cause = Some((Step::BindPorts, failure.error.number()));
        report.hint(hint(&failure, store))
    })
}

fn hint(failure: &BindFailure, store: &Store) -> String {
    let BindFailure { port, address, error } = failure;
    match error.errno {
        Errno::EADDRINUSE => {
            format!("{}; end it, or publish another port", holder(store, port, *address))
        }
        Errno::EADDRNOTAVAIL => format!("{} is no address of this host: `ip address` lists them", address.ip()),
        Errno::EMFILE => TOO_MANY_FILES.to_owned(),
        _ => "publish another port, or leave this one out".to_owned(),
    }
}

/// Which of the ports could not be bound just now, and who has them. Looked up and not tried: a plan binds nothing.
pub(super) fn taken(ports: &[PublishedPort], store: &Store) -> Vec<String> {
    let numbered = ports.iter().filter(|port| port.host_port != 0);
    // Other pods are read only where somebody has the port: a pod that publishes it has a socket there.
    let mut pods = None;
    let taken = numbered.filter_map(|port| {
        let seen = port.host_addresses().into_iter().find_map(|address| seen(address, port.protocol))?;
        let pods = pods.get_or_insert_with(|| store.list().unwrap_or_default());
        let holder = pod_with(pods, port).unwrap_or(seen);
        Some(format!("port {} of the host ({}) is taken: {holder}", port.host_port, port.shown()))
    });
    taken.collect()
}

/// What stands in the way of ports that the pod's containers bind themselves, on the host's network.
pub(super) fn in_the_way(plan: &PodPlan, facts: &Facts, store: &Store) -> Vec<String> {
    let own = of_the_hosts_network(plan);
    let low = own.iter().filter_map(|port| out_of_reach(port, facts.unprivileged_port_start));
    low.chain(taken(&own, store)).collect()
}

/// Another pod of ours that publishes it.
fn pod_with(pods: &[StoredPod], port: &PublishedPort) -> Option<String> {
    pods.iter().filter(|pod| pod.status().is_live()).find_map(|pod| {
        let taken = pod.plan.as_ref()?.sandbox.ports.iter().find(|taken| taken.collides(port))?;
        Some(format!("pod `{}` has it ({})", pod.name, taken.shown()))
    })
}

/// Who has the port at `address`, as far as it is to be seen. A pod of ours first: its process is its supervisor, and nobody
/// is to end that for a port.
pub(super) fn holder(store: &Store, port: &PublishedPort, address: SocketAddr) -> String {
    let pods = store.list().unwrap_or_default();
    let unseen = || "somebody has it who is not to be seen here: `ss -ltunp` as root may show more".to_owned();
    pod_with(&pods, port).or_else(|| seen(address, port.protocol)).unwrap_or_else(unseen)
}

fn seen(address: SocketAddr, protocol: Protocol) -> Option<String> {
    let transport = match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
    };
    let found = host::port_holder(transport, address)?;
    let of_uid = || match found.uid {
        uid if uid == privileges::uid() => {
            forwarding(address.port()).unwrap_or_else(|| "a process of yours that cannot be looked into".to_owned())
        }
        uid => format!("a process of another user (uid {uid})"),
    };
    let who = found.pid.and_then(|pid| Some(format!("process {pid} (`{}`)", processes::command(pid)?)));
    Some(format!("{} has it, at {}", who.unwrap_or_else(of_uid), found.address))
}

/// Which `sandpod port-forward` of the user's it may be: what one has open is hidden ([`ports::enter`]), its arguments are not.
fn forwarding(port: u16) -> Option<String> {
    let forwards = |pid: i32| {
        let process = format!("/proc/{pid}");
        let ours = std::fs::metadata(&process).is_ok_and(|process| process.uid() == privileges::uid());
        let hidden = std::fs::read_dir(format!("{process}/fd")).is_err();
        let command = processes::command(pid).filter(|_| ours && hidden)?;
        (command.split(' ').nth(1) == Some("port-forward")).then(|| (format!("process {pid} (`{command}`)"), command))
    };
    let (all, commands): (Vec<String>, Vec<String>) = processes::parents().into_keys().filter_map(forwards).unzip();
    let number = port.to_string();
    let names_it = |command: &String| command.split(' ').any(|word| word.split([':', '/']).next() == Some(&number));
    let named = all.iter().zip(&commands).filter(|(_, command)| names_it(command)).map(|(shown, _)| shown.clone());
    // A port that the kernel chose, or one of a range, is not among the arguments.
    let found = Some(named.collect::<Vec<_>>()).filter(|named| !named.is_empty()).unwrap_or(all);
    (!found.is_empty()).then(|| found.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_range() {
        let published = |text: &str| {
            let mappings = crate::plan::ports::parse(text).expect(text);
            mappings.into_iter().map(|mapping| mapping.published_for("web")).collect::<Vec<_>>()
        };
        let folded = |texts: &[&str]| folded(&texts.iter().flat_map(|text| published(text)).collect::<Vec<_>>());
        assert_eq!(folded(&["127.0.0.1:8000-8010:9000-9010"]), ["127.0.0.1:8000-8010->9000-9010/tcp"]);
        assert_eq!(folded(&["8080:80"]), ["0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp"]);
        // Other protocol, other address, a gap on either side: no neighbours.
        let apart = ["1.2.3.4:1:1", "1.2.3.4:2:2/udp", "1.2.3.5:3:3/udp", "1.2.3.5:4:5/udp", "1.2.3.5:6:6/udp"];
        assert_eq!(folded(&apart).len(), 5);
        assert_eq!(folded(&["1.2.3.4:65535:1", "1.2.3.4::2"]).len(), 2);
    }

    #[test]
    fn a_port_of_a_container() {
        let port =
            |name: &str, container_port, protocol| PortPlan { name: Some(name.to_owned()), container_port, protocol };
        let (dns, twice) = (port("dns", 53, Protocol::Udp), [1, 2].map(|number| port("twice", number, Protocol::Tcp)));
        let declared = [&[dns][..], &twice].concat();
        for (text, expected) in [
            ("80", (80, Protocol::Tcp)),
            ("80/tcp", (80, Protocol::Tcp)),
            ("53/udp", (53, Protocol::Udp)),
            ("dns", (53, Protocol::Udp)),
        ] {
            assert_eq!(container_port(text, &declared).expect(text), expected);
        }
        for text in
            ["", "x", "0", "+80", " 80", "80/sctp", "80/", "80/tcp/tcp", "65536", "udp", "80:80", ":80", "80-81"]
        {
            assert_eq!(container_port(text, &declared).expect_err(text).exit_code, exit_code::USAGE);
        }
        let report = container_port("twice", &declared).expect_err("two ports");
        assert!(report.what.contains("several containers have a port `twice`: `twice` (1/tcp), `twice` (2/tcp)"));
    }

    #[test]
    fn a_process_of_ours_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
        let text = seen(taken.local_addr().expect("bound"), Protocol::Tcp).expect("a socket of ours");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    }
}
