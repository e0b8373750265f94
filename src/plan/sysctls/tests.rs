use super::super::fixtures::*;
use super::*;
use crate::plan::Request;
use crate::plan::network::NetworkChoice;

fn asked(file: &str, value: &str) -> manifest::Sysctl {
    let namespace = if file.starts_with("net/") { SysctlNamespace::Network } else { SysctlNamespace::Ipc };
    manifest::Sysctl { name: file.replace('/', "."), file: file.into(), namespace, value: value.into() }
}

fn pod_with(sysctls: &[manifest::Sysctl]) -> manifest::Pod {
    let mut pod = pod(vec![container("a")]);
    pod.spec.security_context.sysctls = sysctls.to_vec();
    pod
}

#[test]
fn what_is_asked_for_takes_the_place_of_ours() {
    let sysctls =
        planned(&pod_with(&[asked("net/ipv4/ip_unprivileged_port_start", "1024"), asked("kernel/msgmax", "4096")]))
            .sandbox
            .sysctls;
    let shown: Vec<_> =
        sysctls.iter().map(|s| (s.file.to_str().unwrap(), s.value.as_str(), s.asked_by.as_deref())).collect();
    assert_eq!(
        shown,
        [
            ("net/ipv4/ping_group_range", "0 65535", None),
            ("net/ipv6/conf/default/accept_dad", "0", None),
            ("net/ipv4/tcp_tw_reuse", "1", None),
            ("net/ipv4/tcp_congestion_control", "reno", None),
            ("net/ipv4/ip_unprivileged_port_start", "1024", Some("spec.securityContext.sysctls[0]")),
            ("kernel/msgmax", "4096", Some("spec.securityContext.sysctls[1]")),
        ]
    );
}

#[test]
fn the_hosts_own_are_not_touched() {
    // The manifest refuses hostNetwork and hostIPC by line; the command line can ask for the host's network, too.
    let web = pod_with(&[asked("net/core/somaxconn", "1024")]);
    let request = Request { network: Some(NetworkChoice::Host), ..request() };
    let report = super::super::plan(&web, &facts_for_tests(), &request).expect_err("refused");
    assert_eq!(report.exit_code, exit_code::USAGE);
    assert!(report.chain[0].contains("the host's network"), "{report:?}");

    let mut web = pod_with(&[asked("kernel/sem", "1 1 1 1")]);
    web.spec.host_ipc = true;
    assert_eq!(refused(&web).exit_code, exit_code::USAGE);
}

#[test]
fn what_closes_the_hosts_loopback_cannot_be_switched_off() {
    for name in ["net/ipv4/conf/default/disable_xfrm", "net/ipv4/conf/all/disable_xfrm"] {
        let report = refused(&pod_with(&[asked(name, "1")]));
        assert!(report.chain[0].contains("host's loopback"), "{report:?}");
    }
}

#[test]
fn an_interface_that_is_not_there_yet_is_refused_with_what_to_write() {
    let report = refused(&pod_with(&[asked("net/ipv4/conf/eth0/rp_filter", "0")]));
    assert!(report.hint.as_deref().unwrap_or_default().contains("net/ipv4/conf/default/rp_filter"), "{report:?}");
    planned(&pod_with(&[asked("net/ipv4/conf/lo/rp_filter", "0")]));
}

#[test]
fn without_ipv6_the_pod_has_no_address_of_it_to_name() {
    let sandbox = |sysctls: &[manifest::Sysctl]| {
        let mut facts = facts_for_tests();
        facts.network.ipv6 = crate::host::Ipv6Routes::Default;
        let plan = plan_on(&pod_with(sysctls), &facts).expect("a plan");
        let shown = crate::plan::render::Text(&plan).to_string();
        (plan.sandbox.network.addresses().len(), shown)
    };
    let (all, default) = ("net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6");
    for off in [&[asked(all, "1")][..], &[asked(default, "1")], &[asked(default, "0"), asked(all, "1")]] {
        let (addresses, shown) = sandbox(off);
        assert_eq!(addresses, 1, "{off:?}");
        assert!(!shown.contains("fd00:") && shown.contains("disable_ipv6 switches it off"), "{shown}");
    }
    // Of other interfaces: nothing of eth0's.
    assert_eq!(sandbox(&[asked("net/ipv6/conf/lo/disable_ipv6", "1")]).0, 2);
    // eth0 is made afterwards, and begins with what `default` is then.
    for on in [&[][..], &[asked(all, "0")], &[asked(all, "1"), asked(default, "0")]] {
        assert_eq!(sandbox(on).0, 2, "{on:?}");
    }
}
