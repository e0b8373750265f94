//! Pause, kill and start again.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::lab_support::support::{Pod, and, idle, is_live, sh, until};
use crate::lab_support::{Cgroup, Lab, marked, vanished};

/// Counts into a file for as long as it lives.
fn counting(lab: &Lab) -> Pod<'_> {
    let script =
        "i=0; while :; do i=$((i + 1)); echo $i >/v/new; busybox mv /v/new /v/count; busybox usleep 20000; done";
    let counter = and(sh("counter", script), json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] }));
    let pod = lab.start(&json!({ "containers": [counter], "volumes": [{ "name": "v", "emptyDir": {} }] }));
    until("it counts", || (count(&pod) > 2).then_some(()));
    pod
}

fn count(pod: &Pod) -> u64 {
    let data = PathBuf::from(pod.inspect()["dirs"]["data"].as_str().expect("a path"));
    let text = std::fs::read_to_string(data.join("volumes/v/count"));
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn paused_is_without_progress() {
    let Some(lab) = Lab::enter("paused_is_without_progress") else { return };
    let pod = counting(&lab);
    pod.does(&["pause"]);
    let paused = count(&pod);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(count(&pod), paused);
    // What only looks goes on working.
    lab.home.sandpod(&["ps"]).ends_with(0).says(&pod.name);
    let leaf = Cgroup::of_container(&pod, "counter");
    assert_eq!(leaf.field("cgroup.events", "frozen"), 1, "{}", leaf.read("cgroup.events"));
    pod.does(&["unpause"]);
    until("it counts again", || (count(&pod) > paused + 2).then_some(()));
    assert_eq!(leaf.field("cgroup.events", "frozen"), 0);
    assert_eq!(pod.restarts("counter"), 0);
}

#[test]
fn a_paused_pod_can_be_stopped() {
    let Some(lab) = Lab::enter("a_paused_pod_can_be_stopped") else { return };
    let pod = counting(&lab);
    let first = pod.pid("counter");
    pod.does(&["pause"]);
    pod.does(&["stop", "-t", "1"]);
    until("it has ended", || (!is_live(first)).then_some(()));
    pod.does(&["rm"]);
    lab.no_tree_stays("stop of a paused pod");
}

#[test]
fn a_paused_pod_can_be_removed() {
    let Some(lab) = Lab::enter("a_paused_pod_can_be_removed") else { return };
    let pod = counting(&lab);
    let first = pod.pid("counter");
    pod.does(&["pause"]);
    pod.does(&["rm", "-f"]);
    assert!(!is_live(first));
    lab.no_tree_stays("rm -f of a paused pod");
}

/// On many kernels (Debian 6.12, 6.1 of User-Mode Linux) whoever is born by CLONE_INTO_CGROUP into a cgroup that was ever
/// killed is killed at birth. Each life has a leaf of its own.
#[test]
fn a_killed_leaf_is_followed_by_another() {
    let Some(lab) = Lab::enter("a_killed_leaf_is_followed_by_another") else { return };
    let pod = lab.start(&json!({ "containers": [idle("neighbour"), idle("main")] }));
    let neighbour = pod.pid("neighbour");
    let (first, leaf) = (pod.pid("main"), Cgroup::of_container(&pod, "main"));
    leaf.write("cgroup.kill", "1").expect("we own it");
    let second = until("the second life", || {
        let inspected = pod.inspect();
        let pid = u32::try_from(inspected["containers"]["main"]["pid"].as_u64()?).ok()?;
        (pid != first && pod.restarts("main") == 1).then_some(pid)
    });
    std::thread::sleep(Duration::from_millis(500));
    assert!(is_live(second), "killed at birth: {}", pod.inspect()["record"]);
    assert_eq!(pod.sh("main", "echo alive"), "alive");
    assert_eq!(pod.restarts("main"), 1);
    assert_eq!(pod.pid("neighbour"), neighbour);
    assert_ne!(Cgroup::of_container(&pod, "main").0, leaf.0);
}

/// Somebody kills the whole tree: the supervisor, too.
#[test]
fn a_killed_tree_is_removed() {
    let Some(lab) = Lab::enter("a_killed_tree_is_removed") else { return };
    let pod = lab.start(&json!({ "containers": [sh("main", "busybox sleep 7654321 & busybox sleep 7654321")] }));
    let tree = Cgroup::of(&pod);
    let supervisor = u32::try_from(pod.inspect()["supervisor"].as_u64().expect("it runs")).expect("a pid");
    assert!(
        Cgroup(PathBuf::from(format!("{}.supervisor", tree.0.display()))).pids().contains(&supervisor),
        "{:?}",
        tree.pids()
    );
    tree.write("cgroup.kill", "1").expect("we own it");
    assert_eq!(vanished(|| marked("7654321")), Vec::<u32>::new());
    // The supervisor is beside it, sees pause die, and ends.
    assert_eq!(vanished(|| [supervisor].into_iter().filter(|pid| is_live(*pid)).collect()), Vec::<u32>::new());
    pod.does(&["rm"]);
    lab.no_tree_stays("rm of a killed pod");
    // The name is free, and nothing of the dead tree is in the way of the next.
    let again = lab.start(&json!({ "containers": [idle("main")] }));
    assert_eq!(again.sh("main", "echo alive"), "alive");
}

/// A waiver, which `inspect` shows.
#[test]
fn without_cgroups() {
    let Some(lab) = Lab::enter("without_cgroups") else { return };
    let main = and(idle("main"), crate::lab_support::limits(&[("memory", "64Mi")]));
    let pod = lab.start_with(&json!({}), &json!({ "containers": [main] }), &["--cgroups=disabled"]);
    let inspected = pod.inspect();
    assert!(inspected["record"]["cgroup"].is_null(), "{}", inspected["record"]);
    assert_eq!(lab.trees(), Vec::<PathBuf>::new());
    let degradations = inspected["plan"]["degradations"].to_string();
    assert!(degradations.contains("cgroup"), "{degradations}");
}

/// Limits are changed in place: the same process goes on, in the same leaf.
#[test]
fn limits_are_changed_in_place() {
    let Some(lab) = Lab::enter("limits_are_changed_in_place") else { return };
    let main = and(idle("main"), crate::lab_support::limits(&[("memory", "64Mi")]));
    let pod = lab.start(&json!({ "containers": [main] }));
    let (pid, leaf) = (pod.pid("main"), Cgroup::of_container(&pod, "main"));
    lab.home.sandpod(&["update", "--memory", "96Mi", "-c", "main", &pod.name]).ends_with(0);
    assert_eq!(leaf.number("memory.max"), 96 << 20);
    assert_eq!(Cgroup::of(&pod).number("memory.max"), 96 << 20);
    assert_eq!((pod.pid("main"), pod.restarts("main")), (pid, 0));
}
