//! What nobody can remove at the time is removed by whoever comes next.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::json;

use crate::lab_support::support::{Reaped, idle, once, sh, until};
use crate::lab_support::{Cgroup, Lab, vanished};

/// Nobody waits for this pod, and no process can remove the cgroup that it is in.
#[test]
fn a_pod_that_removes_itself_leaves_nothing() {
    let Some(lab) = Lab::enter("a_pod_that_removes_itself_leaves_nothing") else { return };
    let manifest = lab.home.manifest(&once([sh("main", "sleep 0.1")]));
    for _ in 0..3 {
        lab.home.sandpod(&["run", "-d", "--rm", "-q", manifest.to_str().expect("UTF-8")]).ends_with(0);
        assert_eq!(vanished(|| lab.home.remains()), Vec::<PathBuf>::new());
        lab.no_tree_stays("run -d --rm");
    }
}

#[test]
fn what_is_dead_goes_and_what_lives_stays() {
    let Some(lab) = Lab::enter("what_is_dead_goes_and_what_lives_stays") else { return };
    let pod = lab.start(&json!({ "containers": [idle("main")] }));
    let beside = Cgroup::of(&pod).0.parent().expect("the delegated directory").to_owned();
    // As somebody leaves them who is killed between two steps of a start, or at the end of one that failed.
    let dead =
        ["sandpod-a-00000000000a", "sandpod-b-00000000000b.supervisor", "sandpod-c-00000000000c", "sandpod-clients"]
            .map(|name| beside.join(name));
    let held = beside.join("sandpod-d-00000000000d");
    let make = |path: &PathBuf| fs::create_dir_all(path).expect("mkdir");
    dead.iter().for_each(make);
    make(&dead[0].join("main.1/container/deep"));
    make(&beside.join("sandpod-c-00000000000c.supervisor"));
    make(&held);
    let script = format!("echo 0 >{}/cgroup.procs; exec sleep 1000", held.display());
    let mut command = lab.home.program("sh", &["-c", &script]);
    let sleeper = Reaped(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("sh"));
    until("it is there", || (!Cgroup(held.clone()).pids().is_empty()).then_some(()));
    // Everybody may read the directory, and so lock it: nobody may keep us from anything by that.
    let stranger = fs::File::open(&beside).expect("open");
    stranger.lock().expect("flock");
    let mode = fs::metadata(dead[0].join("cgroup.kill")).expect("Linux 5.14").permissions().mode();
    assert_eq!(mode & 0o777, 0o200);
    let manifest = lab.home.manifest_of("next", &once([sh("main", ":")]));
    lab.home.sandpod(&["run", "--rm", "-q", manifest.to_str().expect("UTF-8")]).ends_with(0);
    let left: Vec<&PathBuf> = dead.iter().filter(|path| path.exists()).collect();
    assert_eq!(left, Vec::<&PathBuf>::new());
    assert_eq!(pod.sh("main", "echo alive"), "alive");
    assert!(held.exists(), "somebody is in it");
    drop(sleeper);
    pod.does(&["rm", "-f"]);
    assert!(!held.exists(), "rm takes it along, too");
}
