//! What is looked at and changed while a pod runs: `stats`, `tree`, `pause`, `update`.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::lab_support::support::{Pod, and, idle, is_live, sh, until};
use crate::lab_support::{Cgroup, Lab, limits};

fn row<'a>(rows: &'a Value, part: &str, container: &Value) -> &'a Value {
    let found = rows.as_array().expect("rows").iter().find(|row| row["part"] == part && row["container"] == *container);
    found.unwrap_or_else(|| panic!("no {part} {container}: {rows}"))
}

#[test]
fn a_pod_is_measured() {
    let Some(lab) = Lab::enter("a_pod_is_measured") else { return };
    let busy = and(sh("busy", "while :; do :; done"), limits(&[("cpu", "200m"), ("memory", "32Mi")]));
    let pod = lab.start(&json!({ "containers": [busy, idle("idle")] }));
    let measured = lab.home.sandpod(&["stats", "--json", &pod.name]).ends_with(0);
    let rows: Value = serde_json::from_str(&measured.stdout).expect("JSON");
    let (busy, idle) = (row(&rows, "container", &json!("busy")), row(&rows, "container", &json!("idle")));
    let percent = |row: &Value| row["cpuPercent"].as_f64().expect("measured");
    assert!((10.0..=30.0).contains(&percent(busy)), "a fifth of a cpu: {busy}");
    assert!(
        percent(idle) < percent(busy) / 2.0 && percent(row(&rows, "pod", &Value::Null)) >= percent(busy) - 5.0,
        "{rows}"
    );
    assert_eq!((&busy["memory"]["maxBytes"], &busy["pids"]["current"]), (&json!(32 << 20), &json!(1)));
    assert!(busy["memory"]["currentBytes"].as_u64().is_some_and(|bytes| bytes > 0), "{busy}");
    assert!(row(&rows, "supervisor", &Value::Null)["memory"]["currentBytes"].is_u64(), "{rows}");
    assert!(row(&rows, "pause", &Value::Null)["pids"]["current"] == 1, "{rows}");
    // The table says the same.
    lab.home.sandpod(&["stats", &pod.name]).ends_with(0).says("/ 32Mi");
}

#[test]
fn a_tree_has_every_process_in_its_place() {
    let Some(lab) = Lab::enter("a_tree_has_every_process_in_its_place") else { return };
    // Without a network of its own, whose helper would be beside the supervisor.
    let spec = json!({ "containers": [sh("a", "sleep 1000 & sleep 1000"), idle("b")] });
    let pod = lab.start_with(&json!({}), &spec, &["--network", "none"]);
    let said = lab.home.sandpod(&["tree", "--json", &pod.name]).ends_with(0);
    let tree: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let groups = tree[0]["groups"].as_array().expect("groups");
    let pids = |name: &str| -> Vec<u64> {
        let group = groups.iter().find(|group| group["name"] == name).unwrap_or_else(|| panic!("{name}: {tree}"));
        let inner = group["groups"].as_array().expect("groups").iter();
        let all = [group].into_iter().chain(inner).flat_map(|group| group["processes"].as_array().expect("processes"));
        all.filter_map(|process| process["pid"].as_u64()).collect()
    };
    assert!(pids("a.1").len() >= 2 && pids("a.1").contains(&u64::from(pod.pid("a"))), "{tree}");
    assert!(pids("b.1").contains(&u64::from(pod.pid("b"))) && pids("pause").len() == 1, "{tree}");
    // Beside it its helpers, as that of the network.
    let supervisor = pod.inspect()["supervisor"].as_u64().expect("it lives");
    assert!(pids("supervisor").contains(&supervisor), "{tree}");
    let namespaces = tree[0]["namespaces"].as_array().expect("namespaces");
    let shared = |kind: &str| -> Vec<&Value> {
        namespaces
            .iter()
            .filter(|namespace| namespace["type"] == kind)
            .map(|namespace| &namespace["sharedBy"])
            .collect()
    };
    assert_eq!(shared("net"), [&json!(["pause", "a", "b"])]);
    assert_eq!(shared("pid"), [&json!(["pause"]), &json!(["a"]), &json!(["b"])]);
    lab.home.sandpod(&["tree", &pod.name]).ends_with(0).says("a.1\n").says("SHARED BY");
}

#[test]
fn who_stands_still_takes_no_command_and_wakes_for_a_signal() {
    let Some(lab) = Lab::enter("who_stands_still_takes_no_command_and_wakes_for_a_signal") else { return };
    let main = sh("main", "trap 'echo heard' USR1; echo ready; while :; do sleep 0.1; done");
    let pod = lab.start(&json!({ "containers": [main, idle("other")] }));
    until("its trap is set", || pod.logs("main").contains("ready").then_some(()));
    pod.does(&["pause", "-c", "main"]);
    let listed = lab.home.sandpod(&["ps"]).ends_with(0);
    assert!(listed.stdout.contains("Running (main paused)"), "{}", listed.explain());
    pod.exec("main", &["true"]).ends_with(125).complains("it is paused").complains("sandpod unpause");
    assert_eq!(pod.sh("other", "echo alive"), "alive");
    pod.does(&["pause"]);
    lab.home.sandpod(&["ps"]).ends_with(0).says("Paused");
    pod.does(&["kill", "-s", "USR1", "-c", "main"]);
    until("the signal is heard", || pod.logs("main").contains("heard").then_some(()));
    pod.does(&["unpause"]);
    let listed = lab.home.sandpod(&["ps"]).ends_with(0);
    assert!(!listed.stdout.contains("aused"), "{}", listed.explain());
}

/// Killed while it stands still; its next life begins when somebody lets it.
#[test]
fn a_paused_container_is_not_restarted() {
    let Some(lab) = Lab::enter("a_paused_container_is_not_restarted") else { return };
    let pod = lab.start(&json!({ "containers": [idle("main"), idle("other")] }));
    let first = pod.pid("main");
    pod.does(&["pause"]);
    pod.does(&["kill", "-c", "main"]);
    until("it has died", || (!is_live(first)).then_some(()));
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(pod.restarts("main"), 0, "{}", pod.inspect()["record"]);
    pod.does(&["unpause"]);
    until("its second life", || (pod.restarts("main") == 1).then_some(()));
    until("it runs", || pod.inspect()["containers"]["main"]["pid"].is_u64().then_some(()));
    assert_eq!(pod.sh("main", "echo alive"), "alive");
}

fn memory_max(pod: &Pod, container: &str) -> u64 {
    Cgroup::of_container(pod, container).number("memory.max")
}

#[test]
fn an_update_is_kept_for_the_next_life_and_for_who_asks() {
    let Some(lab) = Lab::enter("an_update_is_kept_for_the_next_life_and_for_who_asks") else { return };
    let main = and(idle("main"), limits(&[("memory", "64Mi")]));
    let side = and(idle("side"), limits(&[("memory", "32Mi")]));
    let pod = lab.start(&json!({ "containers": [main, side] }));
    lab.home
        .sandpod(&["update", "-c", "main", "--memory", "96Mi", "--cpus", "0.5", "--pids", "50", &pod.name])
        .ends_with(0);
    let leaf = Cgroup::of_container(&pod, "main");
    assert_eq!((leaf.read("cpu.max"), leaf.number("pids.max")), ("50000 100000".to_owned(), 50));
    assert_eq!(Cgroup::of(&pod).number("memory.max"), 128 << 20);
    // What a runtime inside sees follows.
    assert_eq!(pod.sh("main", "busybox cat /sys/fs/cgroup/memory.max"), (96 << 20).to_string());
    let inspected = pod.inspect();
    assert_eq!(inspected["containers"]["main"]["cgroup"]["memoryMaxBytes"], 96 << 20);
    let written = inspected["plan"]["containers"][0]["resources"]["limits"]["memory"].clone();
    assert_eq!(written, 96 << 20, "{}", inspected["plan"]);
    // The pod's own, above them.
    lab.home.sandpod(&["update", "--pids", "70", &pod.name]).ends_with(0);
    assert_eq!((Cgroup::of(&pod).number("pids.max"), leaf.number("pids.max")), (70, 50));
    let first = pod.pid("main");
    pod.does(&["kill", "-c", "main"]);
    until("its second life", || {
        let inspected = pod.inspect();
        inspected["containers"]["main"]["pid"].as_u64().filter(|pid| *pid != u64::from(first)).map(drop)
    });
    assert_eq!(memory_max(&pod, "main"), 96 << 20);
    assert_eq!(Cgroup::of_container(&pod, "main").number("pids.max"), 50);
    // The pod's lock has moved along with its plan: it still counts as alive without its runtime directory's help.
    lab.home.sandpod(&["ps"]).ends_with(0).says("Running");
    lab.home.sandpod(&["rm", &pod.name]).ends_with(125).complains("is running");
}

#[test]
fn an_update_that_cannot_be_changes_nothing() {
    let Some(lab) = Lab::enter("an_update_that_cannot_be_changes_nothing") else { return };
    // Memory that is in use and cannot be dropped.
    let script = "my $m = 'x' x (24 << 20); $| = 1; print \"ready\\n\"; sleep 1000";
    let main = json!({ "name": "main", "image": "host:", "command": ["perl", "-e", script] });
    let pod = lab.start(&json!({ "containers": [and(main, limits(&[("memory", "64Mi")]))] }));
    until("it has its memory", || pod.logs("main").contains("ready").then_some(()));
    let before = Cgroup::of(&pod).limits();
    let refused = |words: &[&str], why: &str| {
        let said = lab.home.sandpod(&[&["update", "-c", "main"], words, &[&pod.name]].concat());
        assert_ne!(said.code, Some(0), "{}", said.explain());
        said.complains(why);
        assert_eq!(Cgroup::of(&pod).limits(), before, "{words:?}");
    };
    refused(&["--memory", "16Mi"], "of memory now, more than the limit of 16Mi");
    refused(&["--memory", "64Mi", "--memory-request", "80Mi"], "more than its limit of 64Mi");
    refused(&["--pids", "0"], "--pids");
    refused(&["--cpus", "lots"], "is not a quantity");
    refused(&["--memory", "900Gi"], "more than there is");
    refused(&["--cpus", "0.5"], "would change from Burstable to Guaranteed");
    refused(&["--pids", "40", "--cpus", "1e12", "--overcommit"], "--cpus");
    // What the kernel has taken is set back when it does not take the rest.
    let pids_max = Cgroup::of_container(&pod, "main").0.join("pids.max");
    std::fs::set_permissions(&pids_max, Permissions::from_mode(0o444)).expect("chmod");
    refused(&["--memory", "80Mi", "--cpus", "0.5", "--cpu-request", "0.1", "--pids", "40"], "nothing was changed");
    std::fs::set_permissions(&pids_max, Permissions::from_mode(0o644)).expect("chmod");
    // Forced, the kernel kills what does not fit.
    lab.home.sandpod(&["update", "-c", "main", "--memory", "12Mi", "--force", &pod.name]).ends_with(0);
    until("the OOM killer has been", || (pod.restarts("main") >= 1).then_some(()));
    assert_eq!(memory_max(&pod, "main"), 12 << 20);
}
