//! What the user is told when a limit has been met.

use serde_json::json;

use crate::lab_support::support::{and, once, sh};
use crate::lab_support::{Cgroup, Lab, limits};

const HOG: &str = "$m = q(x) x (64 << 20)";

#[test]
fn whoever_stays_hears_of_the_oom_killer() {
    let Some(lab) = Lab::enter("whoever_stays_hears_of_the_oom_killer") else { return };
    let hog = and(sh("hog", &format!("exec perl -e '{HOG}'")), limits(&[("memory", "24Mi")]));
    let said = lab.home.run(&once([hog])).ends_with(137);
    said.complains("OOMKilled: container `hog` needed more memory than its limit of 24Mi")
        .complains("to raise it: spec.containers[0].resources.limits.memory");
    let words = ["run", "--rm", "--image", "host:", "--memory", "24Mi", "--", "perl", "-e", HOG];
    lab.home.sandpod(&words).ends_with(137).complains("than its limit of 24Mi; to raise it: --memory\n");
}

#[test]
fn a_command_without_room_names_the_limit() {
    let Some(lab) = Lab::enter("a_command_without_room_names_the_limit") else { return };
    let full = sh("main", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done; echo full; wait");
    let pod = lab.start_with(&json!({ "sandpod.dev/pids-limit": "10" }), &json!({ "containers": [full] }), &[]);
    crate::lab_support::support::until("it is full", || pod.logs("main").contains("full").then_some(()));
    assert_eq!(Cgroup::of_container(&pod, "main").number("pids.current"), 10);
    let said = pod.exec("main", &["true"]).ends_with(125);
    let update = format!("`sandpod update -c main --pids COUNT {}`", pod.name);
    said.complains("container `main` is at its limit of 10 processes").complains(&update);
    lab.home.sandpod(&["update", "-c", "main", "--pids", "20", &pod.name]).ends_with(0);
    pod.exec("main", &["true"]).ends_with(0);
}
