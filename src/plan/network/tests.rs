use super::*;
use crate::host::Tun;
use crate::plan::annotations::Annotations;
use crate::plan::idmap::UsernsChoice;

fn host() -> NetworkFacts {
    NetworkFacts {
        slirp4netns: Some("/usr/bin/slirp4netns".into()),
        pasta: Some("/usr/bin/pasta".into()),
        pasta_udp: UdpSockets::Connected,
        tun: Tun::Usable,
        ipv4_routes: vec![Ipv4Network { address: [192, 0, 2, 0].into(), prefix_length: 24 }],
        ipv6: Ipv6Routes::None,
        policies: true,
    }
}

fn backend(wish: Wish<'_>, facts: &NetworkFacts) -> Option<Backend> {
    match decide(wish, facts).expect("a network").0 {
        NetworkPlan::UserMode(user_mode) => Some(user_mode.backend),
        NetworkPlan::Host | NetworkPlan::Loopback | NetworkPlan::Joined(_) => None,
    }
}

fn names(degradations: &[Degradation]) -> Vec<&str> {
    degradations.iter().map(|degradation| degradation.name.as_str()).collect()
}

fn asked(choice: NetworkChoice) -> Wish<'static> {
    Wish { choice: Some(choice), ..Wish::default() }
}

#[test]
fn whatever_is_installed() {
    assert_eq!(backend(Wish::default(), &host()), Some(Backend::Slirp4netns));
    assert_eq!(backend(Wish::default(), &NetworkFacts { slirp4netns: None, ..host() }), Some(Backend::Pasta));
    assert_eq!(backend(asked(NetworkChoice::Pasta), &host()), Some(Backend::Pasta));
}

#[test]
fn nothing_installed_is_a_degradation_unless_it_was_asked_for_by_name() {
    let bare = NetworkFacts { slirp4netns: None, pasta: None, ..host() };
    let (plan, degraded) = decide(Wish::default(), &bare).expect("lo");
    assert_eq!(plan, NetworkPlan::Loopback);
    assert_eq!(names(&degraded), [degradation::NO_NETWORK]);
    for choice in [NetworkChoice::Private, NetworkChoice::Slirp4netns, NetworkChoice::Pasta] {
        assert_eq!(decide(asked(choice), &bare).expect_err("refused").exit_code, exit_code::FAILURE);
    }
    let (_, degraded) = decide(asked(NetworkChoice::None), &bare).expect("lo");
    assert_eq!(degraded, []);
}

#[test]
fn no_tun_names_the_device_and_the_fix() {
    let tun = Tun::Refused { why: "Permission denied (EACCES)".into(), fix: "sudo chmod".into() };
    let (plan, degraded) = decide(Wish::default(), &NetworkFacts { tun, ..host() }).expect("lo");
    let [degraded] = &degraded[..] else { panic!("{degraded:?}") };
    assert_eq!(plan, NetworkPlan::Loopback);
    assert!(degraded.meaning.contains("/dev/net/tun: Permission denied"), "{degraded:?}");
    assert!(degraded.fix.contains("sudo chmod"), "{degraded:?}");
}

#[test]
fn host_network_and_another_one_contradict_each_other() {
    let wish = |choice, annotated| Wish { choice, annotated, host_network: true, ..Wish::default() };
    assert_eq!(decide(wish(None, None), &host()).expect("host").0, NetworkPlan::Host);
    assert_eq!(decide(wish(Some(NetworkChoice::Host), None), &host()).expect("host").0, NetworkPlan::Host);
    decide(wish(Some(NetworkChoice::None), None), &host()).expect_err("--network none");
    decide(wish(None, Some(NetworkChoice::Pasta)), &host()).expect_err("the annotation");
}

#[test]
fn the_command_line_decides_over_the_annotation() {
    let wish = Wish { choice: Some(NetworkChoice::Pasta), annotated: Some(NetworkChoice::None), ..Wish::default() };
    assert_eq!(backend(wish, &host()), Some(Backend::Pasta));
    let wish = Wish { annotated: Some(NetworkChoice::None), ..Wish::default() };
    assert_eq!(backend(wish, &host()), None);
}

#[test]
fn the_hosts_loopback_is_opened_only_where_there_is_a_gateway() {
    let open = |choice| Wish { choice, host_loopback: HostLoopback::Open, ..Wish::default() };
    for choice in [NetworkChoice::None, NetworkChoice::Host] {
        assert_eq!(decide(open(Some(choice)), &host()).expect_err("refused").exit_code, exit_code::USAGE);
    }
    let bare = NetworkFacts { slirp4netns: None, pasta: None, ..host() };
    assert_eq!(decide(open(None), &bare).expect_err("refused").exit_code, exit_code::FAILURE);
}

fn route(address: [u8; 4], prefix_length: u8) -> Ipv4Network {
    Ipv4Network { address: address.into(), prefix_length }
}

#[test]
fn the_pods_network_is_none_of_the_hosts() {
    let free = |routes: &[Ipv4Network]| {
        let (plan, overlap) = ipv4(routes);
        assert_eq!(overlap, None, "{routes:?}");
        plan
    };
    assert_eq!(free(&[]).address, Ipv4Addr::new(10, 0, 2, 100));
    let in_qemu = free(&[route([10, 0, 2, 0], 24)]);
    assert_eq!((in_qemu.gateway, in_qemu.dns), (Ipv4Addr::new(10, 202, 2, 2), Ipv4Addr::new(10, 202, 2, 3)));
    assert_eq!(free(&[route([10, 0, 0, 0], 8)]).address, Ipv4Addr::new(172, 29, 202, 100));
    assert_eq!(free(&[route([10, 0, 0, 0], 8), route([172, 16, 0, 0], 12)]).address, Ipv4Addr::new(192, 168, 202, 100));
}

#[test]
fn where_no_network_is_free_it_is_the_one_that_loses_least_by_name() {
    // A VPN to a company that has all of RFC 1918, from a guest of QEMU.
    let private = [route([10, 0, 0, 0], 8), route([172, 16, 0, 0], 12), route([192, 168, 0, 0], 16)];
    let taken = [&private[..], &[route([10, 0, 2, 0], 24)]].concat();
    let (plan, overlap) = ipv4(&taken);
    assert_eq!((plan.address, overlap), (Ipv4Addr::new(10, 202, 2, 100), Some(private[0])));
    for backend in [NetworkChoice::Slirp4netns, NetworkChoice::Pasta] {
        let facts = NetworkFacts { ipv4_routes: taken.clone(), policies: false, ..host() };
        let (_, degraded) = decide(asked(backend), &facts).expect("a network");
        let last = degraded.last().expect("by name");
        assert_eq!(last.name, degradation::NETWORK_OVERLAP);
        assert!(last.meaning.contains("10.202.2.0/24") && last.meaning.contains("10.0.0.0/8"), "{last:?}");
        // Neither of two takes the other's place.
        assert_eq!(degraded.len(), if backend == NetworkChoice::Pasta { 2 } else { 1 }, "{degraded:?}");
    }
}

#[test]
fn ipv6_where_the_host_has_it() {
    let addresses = |choice, ipv6| {
        let (plan, _) = decide(asked(choice), &NetworkFacts { ipv6, ..host() }).expect("a network");
        let NetworkPlan::UserMode(user_mode) = &plan else { panic!("a network") };
        assert_eq!(user_mode.prohibited.len(), plan.addresses().len());
        plan.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let (four, both) = ("10.0.2.100", "10.0.2.100 fd00::ff:fe00:64");
    for (ipv6, slirp4netns, pasta) in
        [(Ipv6Routes::Default, both, both), (Ipv6Routes::InParts, both, four), (Ipv6Routes::None, four, four)]
    {
        assert_eq!(addresses(NetworkChoice::Slirp4netns, ipv6), slirp4netns, "{ipv6:?}");
        assert_eq!(addresses(NetworkChoice::Pasta, ipv6), pasta, "{ipv6:?}");
    }
}

#[test]
fn a_pasta_that_opens_udp_ports_says_so() {
    let open = NetworkFacts { pasta_udp: UdpSockets::Open, ..host() };
    let degraded = |choice, facts: &NetworkFacts| decide(asked(choice), facts).expect("a network").1;
    assert_eq!(names(&degraded(NetworkChoice::Pasta, &open)), [degradation::OPEN_UDP_PORTS]);
    assert_eq!(degraded(NetworkChoice::Pasta, &host()), []);
    assert_eq!(degraded(NetworkChoice::Slirp4netns, &open), []);
}

#[test]
fn without_policies_pasta_is_a_way_to_the_hosts_loopback() {
    let degraded = |choice, policies, host_loopback| {
        let wish = Wish { host_loopback, ..asked(choice) };
        let (plan, degraded) = decide(wish, &NetworkFacts { policies, ..host() }).expect("a network");
        let NetworkPlan::UserMode(plan) = plan else { panic!("a network") };
        assert_eq!(plan.prohibition == Prohibition::RuleAndPolicy, policies);
        names(&degraded).join(" ")
    };
    let (named, none) = (degradation::LOOPBACK_DATAGRAMS, "");
    assert_eq!(degraded(NetworkChoice::Pasta, false, HostLoopback::Closed), named);
    assert_eq!(degraded(NetworkChoice::Pasta, false, HostLoopback::Open), none);
    assert_eq!(degraded(NetworkChoice::Pasta, true, HostLoopback::Closed), none);
    assert_eq!(degraded(NetworkChoice::Slirp4netns, false, HostLoopback::Closed), none);
}

#[test]
fn with_host_pid_the_program_stays_out_of_the_pods_reach() {
    let sandboxing = |choice, host_pid| {
        let wish = Wish { choice: Some(choice), host_pid, ..Wish::default() };
        let NetworkPlan::UserMode(plan) = decide(wish, &host()).expect("a network").0 else { panic!("a network") };
        plan.sandboxing
    };
    assert_eq!(sandboxing(NetworkChoice::Slirp4netns, false), Sandboxing::On);
    assert_eq!(sandboxing(NetworkChoice::Slirp4netns, true), Sandboxing::Off);
    // It locks itself up elsewhere.
    assert_eq!(sandboxing(NetworkChoice::Pasta, true), Sandboxing::On);

    let (network, _) = decide(Wish::default(), &host()).expect("a network");
    let idmap =
        super::super::fixtures::planned(&super::super::fixtures::pod(vec![super::super::fixtures::container("a")]))
            .sandbox
            .idmap;
    let of = |network: NetworkPlan| Join {
        joined: Joined { id: "0".into(), name: "other".into(), pause: (1, 1), network: Box::new(network) },
        idmap: idmap.clone(),
        host_pid: false,
        host_paths: vec!["/srv/data".into()],
    };
    let procfs = ["/proc".into(), "/srv/root/proc".into()];
    let joining_with = |join: Join, host_pid, userns: &idmap::Wish| {
        super::join(Wish { host_pid, ..Wish::default() }, &join, userns, &procfs)
            .map(|(plan, _)| plan.addresses().len())
            .map_err(|refused| refused.exit_code)
    };
    let joining = |join: Join, host_pid| {
        joining_with(join, host_pid, &idmap::Wish::new(UsernsChoice::Auto, &Annotations::default()))
    };
    assert_eq!(joining(of(network.clone()), false), Ok(1));
    // A user namespace of its own that is asked for, in the manifest as on the command line.
    let annotated = Annotations { userns: Some(UsernsChoice::Isolated), ..Annotations::default() };
    for asked in [
        idmap::Wish::new(UsernsChoice::Auto, &annotated),
        idmap::Wish::new(UsernsChoice::Single, &Annotations::default()),
    ] {
        assert_eq!(joining_with(of(network.clone()), false, &asked), Err(exit_code::USAGE));
    }
    for network in [network, NetworkPlan::Loopback] {
        assert_eq!(joining(of(network.clone()), true), Err(exit_code::USAGE));
        assert_eq!(joining(Join { host_pid: true, ..of(network.clone()) }, false), Err(exit_code::USAGE));
        for shown in ["/", "/proc", "/proc/1", "/srv", "/srv/root/proc/sys"] {
            let host_paths = vec!["/etc".into(), shown.into()];
            assert_eq!(joining(Join { host_paths, ..of(network.clone()) }, false), Err(exit_code::USAGE), "{shown}");
        }
    }
}

#[test]
fn with_host_pid_nobody_who_may_trace_sees_the_program_start() {
    let decided = |choice, host_pid, tracer| decide(Wish { choice, host_pid, tracer, ..Wish::default() }, &host());
    let has_one = |decided: Result<(NetworkPlan, Vec<Degradation>), Report>| {
        decided.is_ok_and(|(network, degraded)| matches!(network, NetworkPlan::UserMode(_)) && degraded.is_empty())
    };
    assert!(has_one(decided(None, false, Some("debugger"))) && has_one(decided(None, true, None)));
    let (network, degraded) = decided(None, true, Some("debugger")).expect("lo");
    assert_eq!(network, NetworkPlan::Loopback);
    assert_eq!(names(&degraded), [degradation::NO_NETWORK]);
    assert!(degraded[0].meaning.contains("`debugger`"), "{degraded:?}");
    for choice in [NetworkChoice::Private, NetworkChoice::Slirp4netns, NetworkChoice::Pasta] {
        let refused = decided(Some(choice), true, Some("debugger")).expect_err("asked for, and not to be had");
        assert_eq!(refused.exit_code, exit_code::FAILURE);
    }
    decided(Some(NetworkChoice::None), true, Some("debugger")).expect("no network, no program");
}
