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

fn id(number: u32) -> IdOrName {
    IdOrName::Id(ContainerId(number))
}

#[test]
fn who_the_process_is() {
    let user = |pod: &Pod| {
        let process = &planned(pod).containers[0].process;
        (process.uid.clone(), process.gid.clone())
    };
    let mut pod = with(|_| {});
    assert_eq!(user(&pod), (id(0), None));
    pod.spec.security_context.run_as_user = Some(1000);
    pod.spec.security_context.run_as_group = Some(2000);
    assert_eq!(user(&pod), (id(1000), Some(id(2000))));
    pod.spec.containers[0].security_context.run_as_user = Some(33);
    assert_eq!(user(&pod), (id(33), Some(id(2000))));
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

/// The kubelet's determineEffectiveSecurityContext: the manifest's user takes the place of the image's, with its group.
#[test]
fn the_image_says_who_the_process_is_where_the_manifest_does_not() {
    let name = |text: &str| IdOrName::Name(text.to_owned());
    let user = |user: &str, asked: (Option<u32>, Option<u32>)| {
        let config = crate::image::ImageConfig {
            user: user.to_owned(),
            entrypoint: vec!["/run".to_owned()],
            ..Default::default()
        };
        let mut pod = pod(vec![of_nginx()]);
        let security = &mut pod.spec.containers[0].security_context;
        (security.run_as_user, security.run_as_group) = asked;
        let process =
            plan(&pod, &facts_for_tests(), &request_with(config)).expect("valid").containers.remove(0).process;
        (process.uid, process.gid)
    };
    let nothing = (None, None);
    for (text, expected) in [
        ("", (id(0), None)),
        ("101", (id(101), None)),
        ("101:0", (id(101), Some(id(0)))),
        ("www-data", (name("www-data"), None)),
        ("www-data:adm", (name("www-data"), Some(name("adm")))),
        ("33:adm", (id(33), Some(name("adm")))),
        (":adm", (id(0), Some(name("adm")))),
        ("33:", (id(33), None)),
        ("+0", (name("+0"), None)),
        ("4294967295", (name("4294967295"), None)),
    ] {
        assert_eq!(user(text, nothing), expected, "{text}");
    }
    assert_eq!(user("www-data:adm", (Some(7), None)), (id(7), None), "its group is that of its user");
    assert_eq!(user("www-data:adm", (None, Some(8))), (name("www-data"), Some(id(8))));
}

#[test]
fn run_as_non_root_is_checked_against_the_image() {
    let verdict = |user: &str, asked: Option<u32>| {
        let config = crate::image::ImageConfig {
            user: user.to_owned(),
            entrypoint: vec!["/run".to_owned()],
            ..Default::default()
        };
        let mut pod = pod(vec![of_nginx()]);
        let security = &mut pod.spec.containers[0].security_context;
        (security.run_as_non_root, security.run_as_user) = (Some(true), asked);
        plan(&pod, &facts_for_tests(), &request_with(config)).map(drop).map_err(|report| report.chain.join("; "))
    };
    let by_name = "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root";
    assert_eq!(verdict("web", None), Err(by_name.to_owned()));
    assert_eq!(verdict("root", Some(1)), Ok(()));
    assert_eq!(verdict("101", None), Ok(()));
    for root in ["", "0", "0:101"] {
        let refused = Err("container has runAsNonRoot and image will run as root".to_owned());
        assert_eq!(verdict(root, None), refused, "{root}");
    }
}

#[test]
fn an_id_of_the_image_that_the_pod_lacks_is_the_images() {
    let config = crate::image::ImageConfig {
        user: "70000".to_owned(),
        entrypoint: vec!["/run".to_owned()],
        ..Default::default()
    };
    let report = plan(&pod(vec![of_nginx()]), &facts_for_tests(), &request_with(config)).expect_err("not mapped");
    assert!(report.what.contains("the image's user 70000 has no id"), "{}", report.what);
}
