use super::super::fixtures::*;
use super::super::network::{HostLoopback, NetworkChoice};
use super::super::{PodPlan, Request};
use crate::host::Facts;
use crate::manifest::{HostAlias, Pod};
use crate::report::{Report, exit_code};

fn text(plan: &PodPlan, name: &str) -> String {
    plan.sandbox.etc_files.iter().find(|file| file.name == name).expect("the file").text.clone()
}

#[test]
fn the_pods_own_etc_files() {
    let web = pod(vec![container("a")]);
    let plan = planned(&web);
    assert_eq!(text(&plan, "hostname"), "web\n");
    let hosts = text(&plan, "hosts");
    assert!(hosts.starts_with("# Written by sandpod.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-"), "{hosts}");
    assert!(hosts.ends_with("\n10.0.2.100\tweb\n"), "{hosts}");

    let mut on_host = web.clone();
    on_host.spec.host_network = true;
    let on_host = planned(&on_host);
    let hosts = text(&on_host, "hosts");
    assert_eq!(hosts, "# Written by sandpod (host network).\n127.0.0.1\tlocalhost\n127.0.1.1\tworkstation\n");
    assert_eq!(text(&on_host, "resolv.conf"), "nameserver 192.0.2.1\n");

    let alone = super::super::Request { network: Some(NetworkChoice::None), ..request() };
    let alone = super::super::plan(&web, &facts_for_tests(), &alone).expect("a plan");
    assert!(text(&alone, "hosts").ends_with("\n127.0.0.1\tweb\n"));
}

#[test]
fn hostname_as_the_kubelet_makes_it() {
    let of = |name: &str, asked: Option<&str>, host_network| {
        let mut pod = pod(vec![container("a")]);
        pod.metadata.name = name.into();
        pod.spec.hostname = asked.map(Into::into);
        pod.spec.host_network = host_network;
        planned(&pod).sandbox.hostname
    };
    assert_eq!(of("web", None, false), "web");
    assert_eq!(of("web.example", None, false), "web.example");
    assert_eq!(of("web", Some("front"), false), "front");
    assert_eq!(of("web", None, true), "workstation");
    assert_eq!(of("web", Some("front"), true), "front");
    assert_eq!(of(&"a".repeat(64), None, false), "a".repeat(63));
    assert_eq!(of(&format!("{}-.-bcd", "a".repeat(60)), None, false), "a".repeat(60));
}

/// A pod `web` in namespace `team`.
fn in_team(change: impl Fn(&mut Pod)) -> Result<PodPlan, Report> {
    let mut pod = pod(vec![container("a")]);
    pod.metadata.namespace = Some("team".into());
    change(&mut pod);
    plan_on(&pod, &facts_for_tests())
}

#[test]
fn a_subdomain_makes_a_full_name() {
    let plan = in_team(|pod| pod.spec.subdomain = Some("db".into())).expect("a plan");
    assert_eq!(plan.sandbox.hostname, "web");
    assert!(text(&plan, "hosts").ends_with("\n10.0.2.100\tweb.db.team.svc.cluster.local\tweb\n"));

    let as_fqdn = |pod: &mut Pod| (pod.spec.subdomain, pod.spec.set_hostname_as_fqdn) = (Some("db".into()), true);
    let plan = in_team(as_fqdn).expect("a plan");
    assert_eq!(plan.sandbox.hostname, "web.db.team.svc.cluster.local");
    assert_eq!(text(&plan, "hostname"), "web.db.team.svc.cluster.local\n");
    assert!(text(&plan, "hosts").ends_with("\n10.0.2.100\tweb.db.team.svc.cluster.local\tweb\n"));

    // Without a subdomain there is no full name.
    let plan = in_team(|pod| pod.spec.set_hostname_as_fqdn = true).expect("a plan");
    assert_eq!(plan.sandbox.hostname, "web");

    let on_host = in_team(|pod| {
        as_fqdn(pod);
        pod.spec.host_network = true;
    });
    let on_host = on_host.expect("a plan");
    assert_eq!(on_host.sandbox.hostname, "web.db.team.svc.cluster.local");
    assert!(text(&on_host, "hosts").ends_with("\n127.0.1.1\tweb.db.team.svc.cluster.local\tweb\n"));
}

#[test]
fn a_full_name_that_the_kernel_would_not_keep_is_refused() {
    let with = |length: usize| {
        in_team(|pod| {
            pod.spec.hostname = Some("h".repeat(length));
            (pod.spec.subdomain, pod.spec.set_hostname_as_fqdn) = (Some("db".into()), true);
        })
    };
    // `.db.team.svc.cluster.local` has 26.
    assert_eq!(with(38).expect("64 characters").sandbox.hostname.len(), 64);
    let report = with(39).expect_err("65 characters");
    assert_eq!(report.exit_code, exit_code::USAGE);
    assert!(report.chain[0].ends_with("has 65 characters, and the kernel keeps 64"), "{report:?}");
}

#[test]
fn aliases_come_last_in_any_network() {
    let alias = |ip: &str, names: &[&str]| HostAlias {
        ip: ip.parse().unwrap(),
        hostnames: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    for host_network in [false, true] {
        let plan = in_team(|pod| {
            pod.spec.host_network = host_network;
            pod.spec.host_aliases = vec![alias("192.0.2.1", &["db", "db.example.org"]), alias("2001:db8::1", &["v6"])];
        });
        let hosts = text(&plan.expect("a plan"), "hosts");
        let end = "\n\n# Entries added by HostAliases.\n192.0.2.1\tdb\tdb.example.org\n2001:db8::1\tv6\n";
        assert!(hosts.ends_with(end), "{hosts}");
    }
}

#[test]
fn the_host_has_a_name_where_its_loopback_is_open() {
    let hosts = |pod: &Pod, loopback| {
        let request = Request { host_loopback: loopback, ..request() };
        text(&super::super::plan(pod, &facts_for_tests(), &request).expect("a plan"), "hosts")
    };
    let mut web = pod(vec![container("web")]);
    assert!(!hosts(&web, HostLoopback::Closed).contains("internal"));
    let open = hosts(&web, HostLoopback::Open);
    assert!(open.ends_with("\n10.0.2.100\tweb\n10.0.2.2\thost.containers.internal\thost.docker.internal\n"), "{open}");
    let ip = "192.0.2.1".parse().expect("an address");
    web.spec.host_aliases = vec![HostAlias { ip, hostnames: vec!["host.docker.internal".to_owned()] }];
    let given = hosts(&web, HostLoopback::Open);
    assert!(given.contains("\n10.0.2.2\thost.containers.internal\n"), "{given}");
}

#[test]
fn a_name_that_the_hosts_own_file_knows_is_not_added() {
    let mut on_host = pod(vec![container("a")]);
    on_host.spec.host_network = true;
    let of = |hosts: &str| {
        let facts = Facts { hosts: hosts.into(), ..facts_for_tests() };
        text(&plan_on(&on_host, &facts).expect("a plan"), "hosts").replacen(
            "# Written by sandpod (host network).\n",
            "",
            1,
        )
    };
    for known in ["127.0.1.1 workstation.example.org workstation\n", "192.0.2.1\tworkstation # mine\n"] {
        assert_eq!(of(known), known);
    }
    for unknown in ["127.0.0.1 localhost # workstation\n", "127.0.0.1 workstation-2", ""] {
        assert!(of(unknown).ends_with("127.0.1.1\tworkstation\n"), "{unknown:?}");
    }
}
