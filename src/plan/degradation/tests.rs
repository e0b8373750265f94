use super::super::fixtures::*;
use super::*;
use crate::host::{MapLine, OverlaySupport};
use crate::manifest::{Image, Pod};

fn names(pod: &Pod, facts: &Facts) -> Vec<String> {
    let degradations = plan_on(pod, facts).unwrap().degradations;
    for Degradation { name, meaning, fix } in &degradations {
        assert!(NAMES.contains(&name.as_str()), "{name} is not in the list of all");
        assert!(!meaning.is_empty() && !fix.is_empty(), "{name}");
    }
    degradations.into_iter().map(|degradation| degradation.name).collect()
}

fn of_image(image: Image) -> Pod {
    let mut only = container("only");
    only.image = image;
    pod(vec![only])
}

#[test]
fn the_usual_host_has_none() {
    assert!(names(&of_image(Image::Host), &facts_for_tests()).is_empty());
}

#[test]
fn each_lack_has_its_name() {
    type Case = (&'static str, fn(&mut Facts));
    let cases: [Case; 8] = [
        (MASKED_SYS, |facts| facts.sysfs = ProcVisibility::Masked { by: vec!["/sys/firmware".into()] }),
        (NO_SUBIDS, |facts| facts.subuids.clear()),
        (NO_NEWUIDMAP, |facts| facts.newgidmap = IdMapTool::Missing),
        (HOST_ROOT, |facts| facts.user.uid = 0),
        (NO_RUNTIME_DIR, |facts| facts.runtime_dir.fallback = Some("not set".into())),
        (NO_DATA_DIR, |facts| facts.data_dir.fallback = Some("read-only".into())),
        (MASKED_PROC, |facts| facts.procfs = ProcVisibility::Masked { by: vec!["/proc/kcore".into()] }),
        (NO_OVERLAY, |facts| facts.overlay = OverlaySupport::Missing { why: "Linux 5.10".into() }),
    ];
    for (name, lose) in cases {
        let mut facts = facts_for_tests();
        lose(&mut facts);
        assert_eq!(names(&of_image(Image::Host), &facts), [name]);
    }
}

#[test]
fn read_only_directories_matter_to_host_images_only() {
    let mut facts = facts_for_tests();
    facts.host_root.as_mut().unwrap().dirs[0].mounts_below = vec!["/usr/local".into()];
    assert_eq!(names(&of_image(Image::Host), &facts), [USR_READ_ONLY]);
    assert!(names(&of_image(Image::Rootfs(ROOTFS.into())), &facts).is_empty());
}

#[test]
fn host_pid_loosens_the_kill_chain_and_needs_no_proc_of_its_own() {
    let mut pod = of_image(Image::Host);
    pod.spec.host_pid = true;
    let mut facts = facts_for_tests();
    facts.procfs = ProcVisibility::Masked { by: vec!["/proc/kcore".into()] };
    assert_eq!(names(&pod, &facts), [HOSTPID_KILL_CHAIN]);
}

#[test]
fn root_of_an_inner_namespace_is_not_the_hosts() {
    let mut facts = facts_for_tests();
    facts.user.uid = 0;
    facts.own_map.uids = vec![MapLine { inside: 0, outside: 1000, count: 1 }];
    assert!(names(&of_image(Image::Host), &facts).is_empty());
}

fn adding(capabilities: &[&str]) -> Pod {
    let mut pod = of_image(Image::Host);
    pod.spec.containers[0].security_context.capabilities_add = capabilities.iter().map(|it| (*it).to_owned()).collect();
    pod
}

#[test]
fn capabilities_that_a_user_namespace_makes_powerless_are_named() {
    let pod = adding(&["SYS_TIME", "NET_BIND_SERVICE", "SYS_NICE", "SYS_ADMIN"]);
    let found = plan_on(&pod, &facts_for_tests()).unwrap().degradations;
    assert_eq!(names(&pod, &facts_for_tests()), [POWERLESS_CAPABILITIES]);
    let expected = "container `only`: SYS_TIME has no effect, SYS_NICE: no priority can be raised (a pod has a user \
                    namespace of its own, user_namespaces(7))";
    assert_eq!(found[0].meaning, expected);
    assert!(names(&adding(&["ALL"]), &facts_for_tests()).iter().all(|name| name != POWERLESS_CAPABILITIES));
    assert!(names(&adding(&["CHOWN", "SYS_PTRACE"]), &facts_for_tests()).is_empty());
}

#[test]
fn on_the_hosts_network_its_capabilities_are_powerless_too() {
    let mut pod = adding(&["NET_BIND_SERVICE"]);
    assert!(names(&pod, &facts_for_tests()).is_empty());
    pod.spec.host_network = true;
    assert_eq!(names(&pod, &facts_for_tests()), [POWERLESS_CAPABILITIES]);
}
