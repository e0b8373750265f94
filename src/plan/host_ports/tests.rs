use super::super::fixtures::*;
use super::super::network::NetworkChoice;
use super::super::{PodPlan, Request};
use super::*;
use crate::host::Ipv6Routes;
use crate::manifest::Pod;

fn port(name: Option<&str>, container_port: u16, protocol: Protocol, host_port: Option<u16>) -> ContainerPort {
    ContainerPort { name: name.map(str::to_owned), container_port, protocol, host_port, host_ip: None }
}

fn web() -> Pod {
    let mut proxy = container("proxy");
    proxy.ports = vec![
        port(Some("http"), 80, Protocol::Tcp, Some(8880)),
        port(Some("dns"), 53, Protocol::Udp, Some(8853)),
        port(None, 9000, Protocol::Tcp, None),
    ];
    pod(vec![proxy, container("app")])
}

fn plan(pod: &Pod, change: impl Fn(&mut Request)) -> Result<PodPlan, Report> {
    let mut request = request();
    change(&mut request);
    super::super::plan(pod, &facts_for_tests(), &request)
}

fn shown(plan: &PodPlan) -> Vec<String> {
    plan.sandbox.ports.iter().map(PublishedPort::shown).collect()
}

#[test]
fn what_has_a_host_port_is_published_then_the_command_lines() {
    let typed = ports::parse("8000:9000").expect("a mapping");
    let plan = plan(&web(), |request| request.publish.clone_from(&typed)).expect("a plan");
    assert_eq!(shown(&plan), ["8880->80/tcp", "8853->53/udp", "8000->9000/tcp"]);
    assert_eq!(plan.sandbox.ports[0].container, "proxy");
    assert!(plan.sandbox.ports.iter().all(|port| !port.proxy_protocol));
}

#[test]
fn on_the_hosts_network_there_is_nothing_to_do() {
    let mut same = web();
    same.spec.host_network = true;
    same.spec.containers[0].ports = vec![port(None, 8080, Protocol::Tcp, Some(8080))];
    same.spec.containers[1].ports = vec![port(None, 8080, Protocol::Tcp, None), port(None, 80, Protocol::Udp, None)];
    let planned = plan(&same, |_| ()).expect("a plan");
    assert_eq!(shown(&planned), Vec::<String>::new());
    let own = ports::of_the_hosts_network(&planned);
    let listed: Vec<String> = own.iter().map(PublishedPort::shown).collect();
    assert_eq!(listed, ["0.0.0.0:8080->8080/tcp", "0.0.0.0:80->80/udp"]);
    assert_eq!(ports::out_of_reach(&own[0], 1024), None);
    let low = ports::out_of_reach(&own[1], 1024).expect("root's");
    assert!(low.contains("container `app`") && low.contains("ip_unprivileged_port_start is 1024"), "{low}");
    let private = plan(&web(), |_| ()).expect("a plan");
    assert_eq!(ports::of_the_hosts_network(&private), []);
    plan(&web(), |request| request.network = Some(NetworkChoice::Host)).expect_err("8880 is not 80");
}

#[test]
fn headers_are_for_tcp_and_for_what_is_published() {
    let with = |choice: &str| {
        let mut web = web();
        web.metadata.annotations.insert(PROXY_PROTOCOL.into(), choice.into());
        plan(&web, |_| ()).map(|plan| plan.sandbox.ports.iter().map(|port| port.proxy_protocol).collect::<Vec<_>>())
    };
    for choice in ["v2", "http", "80", "80, http"] {
        assert_eq!(with(choice).expect("a plan"), [true, false], "{choice}");
    }
    // Not published, UDP, not there, not a port.
    for choice in ["9000", "dns", "53", "web", "80,81", "-"] {
        assert_eq!(with(choice).expect_err(choice).exit_code, exit_code::USAGE);
    }
    for (choice, hint) in
        [("v1", "write `v2`,"), ("v2,http", "`v2` alone"), ("htp", "did you mean `http`?"), ("dns", "publish it")]
    {
        let refused = with(choice).expect_err(choice);
        assert!(refused.what.starts_with("metadata.annotations.sandpod.dev/proxy-protocol: "), "{refused:?}");
        assert!(refused.hint.as_ref().is_some_and(|said| said.contains(hint)), "{choice}: {refused:?}");
    }
}

#[test]
fn ports_lead_to_the_pods_own_addresses_or_else_to_its_localhost() {
    let targets = |choice, ipv6| {
        let mut facts = facts_for_tests();
        facts.network.ipv6 = if ipv6 { Ipv6Routes::Default } else { Ipv6Routes::None };
        let request = Request { network: choice, ..request() };
        let plan = super::super::plan(&web(), &facts, &request).expect("a plan");
        plan.sandbox.port_targets.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(targets(None, false), ["10.0.2.100"]);
    assert_eq!(targets(None, true), ["10.0.2.100", "fd00::ff:fe00:64"]);
    assert_eq!(targets(Some(NetworkChoice::None), true), ["127.0.0.1", "::1"]);
    let unpublished = plan(&pod(vec![container("app")]), |_| ()).expect("a plan");
    assert_eq!(unpublished.sandbox.port_targets, Vec::<IpAddr>::new());
}

#[test]
fn the_plan_says_where_they_lead() {
    let text = super::super::render::Text(&plan(&web(), |_| ()).expect("a plan")).to_string();
    assert!(text.contains("  published    port 8880 of every address to 80/tcp (proxy)\n"), "{text}");
    assert!(text.contains("  led to       10.0.2.100\n"), "{text}");
}
