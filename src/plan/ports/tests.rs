use super::*;
use crate::plan::Request;
use crate::plan::fixtures::{container, facts_for_tests, pod, request};

fn published(text: &str, container: &str) -> PublishedPort {
    let mappings = parse(text).expect("parses");
    assert_eq!(mappings.len(), 1, "{text}");
    mappings[0].published_for(container)
}

#[test]
fn every_way_to_write_one_port() {
    for (text, ip, host, container, protocol) in [
        ("8080:80", None, 8080, 80, Protocol::Tcp),
        ("80", None, 0, 80, Protocol::Tcp),
        (":80", None, 0, 80, Protocol::Tcp),
        ("5353:53/udp", None, 5353, 53, Protocol::Udp),
        ("8080:80/tcp", None, 8080, 80, Protocol::Tcp),
        ("8080:80/TCP", None, 8080, 80, Protocol::Tcp),
        ("53/UDP", None, 0, 53, Protocol::Udp),
        ("127.0.0.1:8080:80", Some("127.0.0.1"), 8080, 80, Protocol::Tcp),
        ("127.0.0.1::80", Some("127.0.0.1"), 0, 80, Protocol::Tcp),
        ("[::1]:8080:80/udp", Some("::1"), 8080, 80, Protocol::Udp),
        ("[::]::80", Some("::"), 0, 80, Protocol::Tcp),
        ("[::ffff:127.0.0.1]:8080:80", Some("127.0.0.1"), 8080, 80, Protocol::Tcp),
    ] {
        let host_ip = ip.map(|ip| ip.parse().expect("an address"));
        let expected = Mapping { host_ip, host_port: host, container_port: container, protocol };
        assert_eq!(parse(text).expect(text), [expected], "{text}");
    }
}

#[test]
fn a_range_is_one_port_for_each() {
    let ports: Vec<(u16, u16)> = parse("8000-8002:80-82/udp")
        .expect("parses")
        .iter()
        .map(|mapping| (mapping.host_port, mapping.container_port))
        .collect();
    assert_eq!(ports, [(8000, 80), (8001, 81), (8002, 82)]);
    assert_eq!(parse("80-81").expect("parses").len(), 2);
    assert_eq!(parse("1-65535:1-65535").expect("parses").len(), 65535);
}

#[test]
fn what_is_wrong_is_said() {
    for (text, reason) in [
        ("", "`` is no port"),
        ("8080:", "`` is no port"),
        ("http:80", "`http` is no port"),
        ("0:80", "nothing in its place, as in `:80`"),
        ("127.0.0.1:0:80", "nothing in its place"),
        ("8081:80:tcp", "behind a slash: `8081:80/tcp`"),
        ("127.0.0.1:8081:80:UDP", "behind a slash: `127.0.0.1:8081:80/UDP`"),
        ("8081:80,8082:81", "`8081:80`, `8082:81` are to be written one by one"),
        ("65536:80", "`65536` is no port"),
        ("+80:80", "`+80` is no port"),
        ("8000-8001:80", "2 ports of the host for 1"),
        ("8001-8000:80-81", "downwards"),
        ("8080:80/sctp", "`sctp` is neither tcp nor udp"),
        ("8080:80/", "neither tcp nor udp"),
        ("::1:8080:80", "in brackets"),
        ("[::1:8080:80", "not closed"),
        ("[::1]8080:80", "after the address"),
        ("[::1]:80", "two ports"),
        ("localhost:8080:80", "`localhost` is no IP address"),
    ] {
        let refused = parse(text).expect_err(text);
        assert_eq!(refused.exit_code, exit_code::USAGE);
        assert!(refused.chain[0].contains(reason), "{text}: {refused:?}");
    }
}

#[test]
fn the_same_port_twice_is_refused_with_both_names() {
    let web = published("8080:80", "web");
    for (other, collides) in [
        ("8080:81", true),
        ("127.0.0.1:8080:81", true),
        ("[::1]:8080:81", true),
        ("8080:80/udp", false),
        ("8081:80", false),
    ] {
        let both = [web.clone(), published(other, "api")];
        assert_eq!(check(&both, 1024).is_err(), collides, "{other}");
    }
    let refused = check(&[web, published("127.0.0.1:8080:81", "api")], 1024).expect_err("twice");
    assert_eq!(refused.chain, ["container `web`: 8080->80/tcp", "container `api`: 127.0.0.1:8080->81/tcp"]);
    assert!(refused.hint.expect("hint").contains("every address"));
    for (a, b, collides) in [
        ("0.0.0.0:8080:80", "127.0.0.1:8080:80", true),
        ("0.0.0.0:8080:80", "[::1]:8080:80", false),
        ("[::]:8080:80", "[::1]:8080:80", true),
        ("127.0.0.1:8080:80", "127.0.0.2:8080:80", false),
        ("80", "80", false),
    ] {
        assert_eq!(check(&[published(a, "a"), published(b, "b")], 1024).is_err(), collides, "{a} {b}");
    }
}

/// With a comparison of each with each this is minutes.
#[test]
fn all_ports_of_two_addresses_are_checked_at_once() {
    let all = |ip: &str| parse(&format!("{ip}:1-65535:1-65535")).expect("parses");
    let mut ports: Vec<_> =
        [all("127.0.0.1"), all("127.0.0.2")].concat().into_iter().map(|mapping| mapping.published_for("web")).collect();
    check(&ports, 0).expect("no two are the same");
    ports.push(published("40000:1", "api"));
    let refused = check(&ports, 0).expect_err("the last one");
    assert_eq!(refused.what, "port 40000 of the host is published twice");
}

#[test]
fn a_port_of_roots_names_the_sysctl_and_the_way_out() {
    let low = [published("80:80", "web")];
    let refused = check(&low, 1024).expect_err("privileged");
    assert_eq!(refused.exit_code, exit_code::FAILURE);
    assert!(refused.chain[1].contains("net.ipv4.ip_unprivileged_port_start is 1024"), "{refused:?}");
    let hint = refused.hint.expect("hint");
    assert!(hint.contains("8080->80") && hint.contains("sysctl -w net.ipv4.ip_unprivileged_port_start=80"), "{hint}");
    check(&low, 80).expect("allowed");
    check(&low, 0).expect("allowed");
    check(&[published("80", "web")], 1024).expect("the kernel chooses none of those");
}

#[test]
fn a_datagram_has_no_header() {
    let port = PublishedPort { proxy_protocol: true, ..published("5353:53/udp", "dns") };
    assert!(check(&[port], 1024).is_err());
}

#[test]
fn what_is_bound() {
    let bound =
        |text: &str| published(text, "web").host_addresses().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(bound("8080:80"), ["0.0.0.0:8080", "[::]:8080"]);
    assert_eq!(bound("[::1]:8080:80"), ["[::1]:8080"]);
    assert_eq!(published("[::1]:8080:80", "web").shown(), "[::1]:8080->80/tcp");
}

#[test]
fn p_is_for_the_whole_pod_and_not_for_one_on_the_hosts_network() {
    let mut pod = pod(vec![container("nginx"), container("helper")]);
    let request = Request { publish: parse("8080-8081:80-81").expect("parses"), ..request() };
    let plan = crate::plan::plan(&pod, &facts_for_tests(), &request).expect("planned");
    let shown: Vec<String> = plan.sandbox.ports.iter().map(PublishedPort::shown).collect();
    assert_eq!(shown, ["8080->80/tcp", "8081->81/tcp"]);
    assert!(crate::plan::render::Text(&plan).to_string().contains("port 8080 of every address to 80/tcp (nginx)\n"));
    pod.spec.host_network = true;
    let refused = crate::plan::plan(&pod, &facts_for_tests(), &request).expect_err("no proxy there");
    assert!(refused.chain[0].contains("hostNetwork"), "{refused:?}");
}
