//! `-p` beside a manifest: names of its ports, and which of its `hostPort`s the command line takes the place of.

use super::arguments::NetworkArguments;
use crate::manifest::{self, ContainerPort, Pod};
use crate::plan::network::NetworkChoice;
use crate::plan::ports::{self, Mapping, cannot_publish, protocol_name};
use crate::plan::{NETWORK_ANNOTATION as NETWORK, PortPlan};
use crate::report::{Report, exit_code};

pub(crate) struct Published {
    pub(crate) mappings: Vec<Mapping>,
    /// One line for each `hostPort` of the manifest that is not published, since `-p` publishes its `containerPort`.
    pub(crate) replaced: Vec<String>,
}

/// Reads each `-p`, and takes from `pod` the host ports that they replace: who types where port 80 is to be found does not
/// want it at the manifest's place, too, which may be why it was typed.
pub(crate) fn publish(typed: &[String], pod: &mut Pod) -> Result<Published, Report> {
    let mut published = Published { mappings: Vec::new(), replaced: Vec::new() };
    let plain = |port: &ContainerPort| PortPlan {
        name: port.name.clone(),
        container_port: port.container_port,
        protocol: port.protocol,
    };
    let declared: Vec<PortPlan> = ports_of(pod).map(|(_, _, port)| plain(port)).collect();
    for text in typed {
        let mappings = ports::parse_with_names(text, |name| ports::named(name, &declared))?;
        for (place, container, port) in ports_of(pod) {
            if let Some(host_port) = port.host_port.filter(|_| leads_to(&mappings, port)) {
                published.replaced.push(format!(
                    "`-p {text}` takes the place of {place}.hostPort, {host_port}->{}/{} of container `{container}`",
                    port.container_port,
                    protocol_name(port.protocol)
                ));
            }
        }
        published.mappings.extend(&mappings);
    }
    for port in pod.spec.containers.iter_mut().flat_map(|container| &mut container.ports) {
        if leads_to(&published.mappings, port) {
            (port.host_port, port.host_ip) = (None, None);
        }
    }
    Ok(published)
}

fn leads_to(mappings: &[Mapping], port: &ContainerPort) -> bool {
    let to = |mapping: &Mapping| (mapping.container_port, mapping.protocol);
    mappings.iter().any(|mapping| to(mapping) == (port.container_port, port.protocol))
}

/// Every port of the manifest with its place there and its container's name.
fn ports_of(pod: &Pod) -> impl Iterator<Item = (String, &str, &ContainerPort)> {
    pod.spec.containers.iter().enumerate().flat_map(|(index, container)| {
        let place = move |port: usize| format!("spec.containers[{index}].ports[{port}]");
        container.ports.iter().enumerate().map(move |(port, found)| (place(port), container.name.as_str(), found))
    })
}

/// On the host's network a port of the pod is the same port of the host: what contradicts that is said here, where it is
/// known who wrote it. `source` is the manifest's bytes and name.
pub(crate) fn check_host_network(
    asked: &NetworkArguments,
    pod: &Pod,
    source: Option<&(Vec<u8>, String)>,
) -> Result<(), Report> {
    let annotated = || pod.metadata.annotations.get(NETWORK).is_some_and(|word| word == NetworkChoice::Host.word());
    let by = match asked.choice() {
        Some(NetworkChoice::Host) => "--network host".to_owned(),
        None if asked.of_pod().is_none() && annotated() => {
            format!("metadata.annotations.{NETWORK}, which is `host`")
        }
        _ => return Ok(()),
    };
    let because =
        format!("by {by} the pod is on this host's network: what it listens on is a port of the host already");
    if let Some(text) = asked.publish.first() {
        return Err(Report::new(exit_code::USAGE, cannot_publish(text))
            .because(because)
            .hint(format!("leave out -p, or {by}")));
    }
    let elsewhere = |port: &ContainerPort| port.host_port.is_some_and(|host_port| host_port != port.container_port);
    let Some((place, container, port)) = ports_of(pod).find(|(_, _, port)| elsewhere(port)) else { return Ok(()) };
    let (field, host_port) = (format!("{place}.hostPort"), port.host_port.unwrap_or_default());
    let at = source.and_then(|(bytes, name)| Some(format!("{name}:{}: ", manifest::position(bytes, &field)?)));
    Err(Report::new(
        exit_code::USAGE,
        format!("port {host_port} of the host cannot lead to port {}", port.container_port),
    )
    .because(format!("{}{field} of container `{container}` is {host_port}", at.unwrap_or_default()))
    .because(because)
    .hint(format!("leave out {by}; or set that hostPort to {}, or remove it", port.container_port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Protocol;

    const WEB: &str = r#"{ apiVersion: v1, kind: Pod, metadata: { name: web }, spec: { containers: [
        { name: proxy, image: "host:", ports: [
            { name: http, containerPort: 80, hostPort: 8880, hostIP: 127.0.0.1 },
            { name: dns, containerPort: 53, protocol: UDP, hostPort: 8853 } ] },
        { name: app, image: "host:", ports: [{ name: api, containerPort: 80 }, { name: twice, containerPort: 1 }] },
        { name: more, image: "host:", ports: [{ name: twice, containerPort: 2 }] } ] } }"#;

    fn pod() -> Pod {
        manifest::parse(WEB, "web.yaml").expect("a pod")
    }

    fn read(text: &str) -> Result<Mapping, Report> {
        publish(&[text.to_owned()], &mut pod()).map(|published| published.mappings[0])
    }

    #[test]
    fn a_port_may_be_named_and_brings_its_protocol_along() {
        for (text, expected) in [
            ("8080:http", (8080, 80, Protocol::Tcp)),
            ("http", (0, 80, Protocol::Tcp)),
            ("127.0.0.1::dns", (0, 53, Protocol::Udp)),
            ("[::1]:5353:dns", (5353, 53, Protocol::Udp)),
            ("5353:dns/tcp", (5353, 53, Protocol::Tcp)),
            ("5353:dns/TCP", (5353, 53, Protocol::Tcp)),
            ("8080:80/TCP", (8080, 80, Protocol::Tcp)),
            ("53:53/Udp", (53, 53, Protocol::Udp)),
        ] {
            let Mapping { host_ip: _, host_port, container_port, protocol } = read(text).expect(text);
            assert_eq!((host_port, container_port, protocol), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_name_of_a_port() {
        for (text, words) in [
            ("8080:htpt", "`http` (80/tcp), `dns` (53/udp), `api` (80/tcp)"),
            ("8080:twice", "several containers have a port `twice`: `twice` (1/tcp), `twice` (2/tcp)"),
            ("8080:80/sctp", "sctp"),
            ("x:http", "`x` is no port"),
            ("8080-8081:http", "2 ports of the host for 1"),
            ("127.0.0.1:http", "`127.0.0.1` is no port"),
            ("::1:8080:http", "in brackets"),
        ] {
            let report = read(text).expect_err(text);
            assert_eq!((report.exit_code, report.what.as_str()), (2, format!("cannot publish `{text}`").as_str()));
            assert!(report.chain[0].contains(words), "{report:?}");
        }
    }

    #[test]
    fn the_command_line_takes_the_place_of_the_same_port_alone() {
        let mut pod = pod();
        let typed = ["9090:80", "9091:80", "53:53"].map(str::to_owned);
        let Published { mappings, replaced } = publish(&typed, &mut pod).expect("published");
        assert_eq!(mappings.len(), 3);
        assert_eq!(replaced.len(), 2, "{replaced:?}");
        assert!(
            replaced[0].contains("`-p 9090:80` takes the place of spec.containers[0].ports[0].hostPort, 8880->80/tcp")
        );
        let left: Vec<_> = ports_of(&pod).map(|(_, _, port)| (port.host_port, port.host_ip)).collect();
        // 53 over TCP is not 53 over UDP.
        assert_eq!(left, [(None, None), (Some(8853), None), (None, None), (None, None), (None, None)]);
    }
}
