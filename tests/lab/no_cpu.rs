//! A guest whose systemd delegates memory and pids only.

use std::path::PathBuf;

use serde_json::json;

use crate::lab_support::support::{and, idle};
use crate::lab_support::{Lab, limits};

#[test]
fn a_cpu_limit_is_refused_by_name() {
    let Some(lab) = Lab::enter("a_cpu_limit_is_refused_by_name") else { return };
    let main = and(idle("main"), limits(&[("cpu", "500m"), ("memory", "64Mi")]));
    let manifest = lab.home.manifest(&json!({ "containers": [main] }));
    let said = lab.home.sandpod(&["run", "-d", manifest.to_str().expect("UTF-8")]);
    assert_eq!(said.code, Some(125), "{}", said.explain());
    // The controller, the file that lacks it, who asked for it, and the drop-in that gives it.
    let said =
        said.complains("cpu").complains("cgroup.controllers").complains("spec.containers[0].resources.limits.cpu");
    said.complains("/etc/systemd/system/user@.service.d").complains("Delegate=");
    assert_eq!(lab.home.remains(), Vec::<PathBuf>::new());
    assert_eq!(lab.trees(), Vec::<PathBuf>::new());
}

#[test]
fn what_is_delegated_works() {
    let Some(lab) = Lab::enter("what_is_delegated_works") else { return };
    let main = and(idle("main"), limits(&[("memory", "64Mi")]));
    let pod = lab.start(&json!({ "containers": [main] }));
    assert_eq!(crate::lab_support::Cgroup::of_container(&pod, "main").number("memory.max"), 64 << 20);
}
