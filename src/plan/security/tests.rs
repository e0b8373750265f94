use proptest::prelude::*;

use super::super::fixtures::*;
use super::super::{PodPlan, Request, idmap::UsernsChoice, plan};
use super::*;
use crate::manifest::Pod;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn with(change: impl Fn(&mut ContainerSecurityContext)) -> Pod {
    let mut only = container("only");
    change(&mut only.security_context);
    pod(vec![only])
}

#[test]
fn capability_lists() {
    let without = |dropped: &str| -> Vec<&str> {
        LINUX_CAPABILITIES
            .iter()
            .copied()
            .filter(|name| DEFAULT_CAPABILITIES.contains(name) && *name != dropped)
            .collect()
    };
    type Case = (&'static [&'static str], &'static [&'static str], Vec<&'static str>);
    let cases: &[Case] = &[
        (&[], &[], without("")),
        (&[], &["SETFCAP"], without("SETFCAP")),
        (&[], &["ALL"], vec![]),
        (&["KILL", "NET_ADMIN"], &["ALL"], vec!["KILL", "NET_ADMIN"]),
        (&["ALL"], &[], LINUX_CAPABILITIES.to_vec()),
        (&["ALL"], &["ALL"], vec![]),
        (&["KILL"], &["KILL"], without("KILL")),
    ];
    for (add, drop, expected) in cases {
        assert_eq!(capabilities(&names(add), &names(drop)), *expected, "add {add:?}, drop {drop:?}");
    }
    assert_eq!(LINUX_CAPABILITIES.len(), 41);
    assert_eq!(without("").len(), 11);
}

#[test]
fn who_the_process_is() {
    let user = |pod: &Pod| {
        let process = &planned(pod).containers[0].process;
        (process.uid.0, process.gid.map(|gid| gid.0))
    };
    let mut pod = with(|_| {});
    assert_eq!(user(&pod), (0, None));
    pod.spec.security_context.run_as_user = Some(1000);
    pod.spec.security_context.run_as_group = Some(2000);
    assert_eq!(user(&pod), (1000, Some(2000)));
    pod.spec.containers[0].security_context.run_as_user = Some(33);
    assert_eq!(user(&pod), (33, Some(2000)));
}

#[test]
fn no_new_privs_unless_escalation_is_allowed() {
    for (said, expected) in [(None, true), (Some(false), true), (Some(true), false)] {
        let plan = planned(&with(|security| security.allow_privilege_escalation = said));
        assert_eq!(plan.containers[0].process.no_new_privs, expected, "{said:?}");
    }
}

#[test]
fn run_as_non_root_is_enforced() {
    let absent = refused(&with(|security| security.run_as_non_root = Some(true)));
    assert_eq!(absent.exit_code, exit_code::USAGE);
    assert_eq!(absent.chain, ["container has runAsNonRoot and image will run as root"]);
    let zero = refused(&with(|s| (s.run_as_non_root, s.run_as_user) = (Some(true), Some(0))));
    assert_eq!(zero.chain, ["container's runAsUser breaks non-root policy"]);
    planned(&with(|s| (s.run_as_non_root, s.run_as_user) = (Some(true), Some(1))));

    let mut of_pod = with(|_| {});
    of_pod.spec.security_context.run_as_non_root = Some(true);
    assert!(refused(&of_pod).what.contains("`only`"));
    of_pod.spec.containers[0].security_context.run_as_non_root = Some(false);
    planned(&of_pod);
}

#[test]
fn an_id_outside_the_map_is_refused_with_its_fix() {
    let mut facts = facts_for_tests();
    facts.subuids[0].count = 500;
    let report = plan_on(&with(|security| security.run_as_user = Some(1000)), &facts).unwrap_err();
    assert_eq!(report.exit_code, exit_code::FAILURE);
    assert_eq!(report.what, "container `only`: runAsUser 1000 has no id in this pod");
    assert!(report.chain[0].contains("0 to 499"), "{report:?}");
    let hint = "add a range to /etc/subuid: sudo usermod --add-subuids 165536-231071 alice";
    assert_eq!(report.hint.as_deref(), Some(hint));

    let report = plan_on(&with(|security| security.run_as_group = Some(70_000)), &facts).unwrap_err();
    assert!(report.hint.unwrap().contains("at most 65536"));

    facts.subgids.clear();
    let report = plan_on(&with(|security| security.run_as_group = Some(5)), &facts).unwrap_err();
    assert_eq!(report.hint.as_deref(), Some("sudo usermod --add-subgids 100500-166035 alice"));
}

#[test]
fn asked_single_is_why_an_id_is_missing() {
    let request = Request { userns: UsernsChoice::Single, ..request() };
    let report = plan(&with(|security| security.run_as_user = Some(1)), &facts_for_tests(), &request).unwrap_err();
    assert_eq!(report.hint.as_deref(), Some("use another mode: --userns=auto"));
}

fn any_capabilities() -> impl Strategy<Value = Vec<String>> {
    let mut known = names(&LINUX_CAPABILITIES);
    known.push("ALL".into());
    prop::collection::vec(prop::sample::select(known), 0..6)
}

proptest! {
    #[test]
    fn capabilities_never_exceed_what_is_asked(add in any_capabilities(), drop in any_capabilities()) {
        let plan = planned(&with(|security| {
            security.capabilities_add.clone_from(&add);
            security.capabilities_drop.clone_from(&drop);
        }));
        let PodPlan { containers, .. } = plan;
        let has = |list: &[String], name: &str| list.iter().any(|asked| asked == name);
        for name in &containers[0].process.capabilities {
            let is_default = DEFAULT_CAPABILITIES.contains(&name.as_str()) && !has(&drop, "ALL");
            let is_added = has(&add, name) || (has(&add, "ALL") && !has(&drop, "ALL"));
            prop_assert!(is_default || is_added, "{} was not asked for", name);
            prop_assert!(!has(&drop, name), "{} was to be dropped", name);
        }
    }
}
