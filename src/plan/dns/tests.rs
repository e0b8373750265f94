use super::super::fixtures::planned;
use super::super::fixtures::{container, pod};
use super::super::network::Ipv6Plan;
use super::*;

const HOST: &str = "# by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\ndomain ignored\nsearch example.org a.\n\
                    options edns0 ndots:1\nsortlist 192.0.2.0\n";

fn config(servers: &[&str], searches: &[&str], options: &[(&str, Option<&str>)]) -> DnsConfig {
    DnsConfig {
        nameservers: servers.iter().map(|ip| ip.parse().unwrap()).collect(),
        searches: searches.iter().map(|domain| (*domain).to_owned()).collect(),
        options: options
            .iter()
            .map(|(name, value)| DnsOption { name: (*name).to_owned(), value: value.map(str::to_owned) })
            .collect(),
    }
}

/// The usual host has a user-mode network.
fn user_mode() -> NetworkPlan {
    planned(&pod(vec![container("a")])).sandbox.network
}

#[test]
fn the_hosts_own_is_left_as_it_is() {
    let none = DnsConfig::default();
    for network in [NetworkPlan::Host, NetworkPlan::Loopback] {
        assert_eq!(resolv_conf(DnsPolicy::Default, &none, &network, HOST), (HOST.to_owned(), Vec::new()));
    }
    let (text, _) = resolv_conf(DnsPolicy::Default, &none, &user_mode(), HOST);
    assert_eq!(text, "nameserver 10.0.2.3\nsearch example.org a\noptions edns0 ndots:1\nsortlist 192.0.2.0\n");
}

#[test]
fn a_cluster_first_policy_says_what_it_is() {
    for policy in [DnsPolicy::ClusterFirst, DnsPolicy::ClusterFirstWithHostNet] {
        let (text, _) = resolv_conf(policy, &DnsConfig::default(), &NetworkPlan::Host, HOST);
        assert_eq!(text, format!("# dnsPolicy: {} is Default here: there is no cluster DNS.\n{HOST}", policy.word()));
    }
}

#[test]
fn what_is_asked_for_comes_after_the_hosts_and_options_instead_of_them() {
    let asked = config(
        &["192.0.2.9", "2001:db8::1", "192.0.2.9"],
        &["b", "example.org"],
        &[("ndots", Some("5")), ("rotate", None), ("edns0", None)],
    );
    let (text, degraded) = resolv_conf(DnsPolicy::Default, &asked, &user_mode(), HOST);
    assert_eq!(
        text,
        "nameserver 10.0.2.3\nnameserver 192.0.2.9\nnameserver 2001:db8::1\nsearch example.org a b\n\
         options edns0 ndots:5 rotate\nsortlist 192.0.2.0\n"
    );
    assert_eq!(degraded, []);
}

#[test]
fn a_copy_of_the_hosts_local_server_is_nobody_in_the_pod() {
    for server in ["127.0.0.53", "::1", "::ffff:127.0.0.1", "0.0.0.0"] {
        let asked = config(&["192.0.2.9", server], &[], &[]);
        let (_, degraded) = resolv_conf(DnsPolicy::None, &asked, &user_mode(), HOST);
        assert_eq!(degraded.len(), 1, "{server}");
        assert!(
            degraded[0].name == degradation::DNS_LIMITS && degraded[0].meaning.contains("localhost"),
            "{degraded:?}"
        );
        assert_eq!(resolv_conf(DnsPolicy::None, &asked, &NetworkPlan::Host, HOST).1, []);
    }
    // The host's own, which nobody asked for, is in front of it and replaced by the forwarder.
    assert_eq!(resolv_conf(DnsPolicy::Default, &config(&["192.0.2.9"], &[], &[]), &user_mode(), HOST).1, []);
}

#[test]
fn a_pod_with_lo_alone_reaches_no_name_server_that_it_is_given() {
    let degraded = |servers: &[&str]| {
        let (_, degraded) = resolv_conf(DnsPolicy::None, &config(servers, &[], &[]), &NetworkPlan::Loopback, HOST);
        degraded.iter().map(|lost| format!("{}: {}", lost.name, lost.meaning)).collect::<Vec<_>>().join("\n")
    };
    assert!(degraded(&["192.0.2.9"]).starts_with("dns-limits: the pod has `lo` alone"), "{}", degraded(&["192.0.2.9"]));
    assert!(degraded(&["127.0.0.1"]).contains("localhost"));
    let (_, unasked) = resolv_conf(DnsPolicy::Default, &DnsConfig::default(), &NetworkPlan::Loopback, HOST);
    assert_eq!(unasked, []);
}

#[test]
fn none_is_what_is_asked_for_alone() {
    let asked = config(&["192.0.2.9"], &["b"], &[("ndots", Some("2"))]);
    for network in [NetworkPlan::Host, NetworkPlan::Loopback, user_mode()] {
        let (text, _) = resolv_conf(DnsPolicy::None, &asked, &network, HOST);
        assert_eq!(text, "nameserver 192.0.2.9\nsearch b\noptions ndots:2\n");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let asked = config(&["192.0.2.7", "192.0.2.8"], &[], &[]);
    let (text, degraded) = resolv_conf(DnsPolicy::Default, &asked, &NetworkPlan::Host, HOST);
    assert_eq!(text.matches("nameserver").count(), 3);
    let [degraded] = &degraded[..] else { panic!("{degraded:?}") };
    assert_eq!(degraded.name, degradation::DNS_LIMITS);
    assert!(degraded.meaning.ends_with(": 192.0.2.8"), "{degraded:?}");

    let host = format!("search {}\n", "a ".to_owned() + &(0..31).map(|n| format!("d{n} ")).collect::<String>());
    let (text, degraded) = resolv_conf(DnsPolicy::Default, &config(&[], &["more"], &[]), &NetworkPlan::Host, &host);
    assert!(!text.contains("more") && degraded[0].meaning.ends_with(": more"));

    let long = |n: u32| format!("{n}{}", "x".repeat(252));
    let host = format!("search {}\n", (0..8).map(|n| long(n) + " ").collect::<String>());
    // 8 of 253 with 7 spaces are 2031: room for 16 more, and a space.
    for (more, fits) in [("y".repeat(16), true), ("y".repeat(17), false)] {
        let (text, _) = resolv_conf(DnsPolicy::Default, &config(&[], &[&more], &[]), &NetworkPlan::Host, &host);
        assert_eq!(text.contains(&more), fits);
    }
}

#[test]
fn name_servers_of_ipv6_alone_are_asked_by_ipv6() {
    use Backend::{Pasta, Slirp4netns};
    let ipv6 = Some(Ipv6Plan { address: "fd00::ff:fe00:64".parse().expect("an address") });
    for (backend, ipv6, host, servers) in [
        // One with IPv4 is enough.
        (Slirp4netns, ipv6, "nameserver 2001:db8::53\nnameserver 127.0.0.53\n", Some("10.0.2.3")),
        (Slirp4netns, ipv6, "search example.org\n", Some("10.0.2.3")),
        (Slirp4netns, ipv6, "nameserver ::1\n", Some("fd00::3")),
        (Slirp4netns, ipv6, "nameserver fe80::1%eth0\n", Some("fd00::3")),
        (Slirp4netns, None, "nameserver 2001:db8::53\n", None),
        (Pasta, ipv6, "nameserver ::1\nnameserver 2001:db8::53\n", Some("2001:db8::53")),
        (Pasta, ipv6, "nameserver fe80::1%eth0\n", None),
        (Pasta, None, "nameserver 2001:db8::53\n", None),
    ] {
        let NetworkPlan::UserMode(user_mode) = user_mode() else { panic!("the usual host has one") };
        let network = NetworkPlan::UserMode(UserMode { backend, ipv6, ..user_mode });
        let (text, degraded) = resolv_conf(DnsPolicy::Default, &DnsConfig::default(), &network, host);
        match servers {
            Some(server) => {
                assert_eq!(text.lines().next(), Some(format!("nameserver {server}").as_str()), "{host}");
                assert_eq!((text.matches("nameserver").count(), degraded), (1, Vec::new()), "{host}");
            }
            None => {
                assert!(degraded.iter().map(|found| &found.name).eq([degradation::DNS_LIMITS]), "{host}: {degraded:?}")
            }
        }
    }
}

#[test]
fn who_cannot_be_asked_and_what_does_not_fit_are_two_things() {
    let host = "nameserver 2001:db8::53\nsearch example.org\n";
    let asked = config(&["2001:db8::1", "2001:db8::2", "2001:db8::3"], &[], &[]);
    let (text, degraded) = resolv_conf(DnsPolicy::Default, &asked, &user_mode(), host);
    assert_eq!(text.matches("nameserver").count(), 3);
    let [unheard, left_out] = &degraded[..] else { panic!("{degraded:?}") };
    assert!(unheard.meaning.contains("by IPv6 alone (2001:db8::53)"), "{unheard:?}");
    assert!(left_out.meaning.ends_with(": 2001:db8::3"), "{left_out:?}");
}
