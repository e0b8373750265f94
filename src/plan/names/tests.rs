use super::super::PodPlan;
use super::super::fixtures::*;
use super::super::network::NetworkChoice;
use crate::host::Facts;

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
    assert!(text(&on_host, "hosts").ends_with("\n127.0.1.1\tworkstation\n"));
    assert_eq!(text(&on_host, "resolv.conf"), "nameserver 192.0.2.1\n");

    let alone = super::super::Request { network: NetworkChoice::None, ..request() };
    let alone = super::super::plan(&web, &facts_for_tests(), &alone).expect("a plan");
    assert!(text(&alone, "hosts").ends_with("\n127.0.0.1\tweb\n"));
}

#[test]
fn a_user_mode_network_answers_for_the_hosts_name_server() {
    let resolv_conf =
        "# by hand\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch example.org\noptions edns0\n".into();
    let facts = Facts { resolv_conf, ..facts_for_tests() };
    let plan = super::super::plan(&pod(vec![container("a")]), &facts, &request()).expect("a plan");
    assert_eq!(text(&plan, "resolv.conf"), "nameserver 10.0.2.3\nsearch example.org\noptions edns0\n");
}
