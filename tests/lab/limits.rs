//! What the manifest asks for is what the kernel enforces.

use std::time::{Duration, Instant};

use sandpod::plan::PodPlan;
use serde_json::{Value, json};

use crate::lab_support::support::{and, idle, sh, until};
use crate::lab_support::{Cgroup, Lab, limits, perl};

/// The pod that the project began with: Kubernetes' own example of limits, with a sidecar.
#[test]
fn the_pod_foo() {
    let Some(lab) = Lab::enter("the_pod_foo") else { return };
    let app = and(idle("app"), limits(&[("memory", "256Mi")]));
    let sidecar = and(idle("sidecar"), limits(&[("memory", "128Mi")]));
    let pod = lab.start(&json!({ "containers": [app, sidecar] }));
    assert_eq!(Cgroup::of_container(&pod, "app").read("memory.max"), "268435456");
    assert_eq!(Cgroup::of_container(&pod, "sidecar").read("memory.max"), "134217728");
    assert_eq!(Cgroup::of(&pod).read("memory.max"), "402653184");
    // Born in their leaves: every process of each.
    for container in ["app", "sidecar"] {
        let leaf = Cgroup::of_container(&pod, container);
        assert!(leaf.pids().contains(&pod.pid(container)), "{container}: {:?}", leaf.pids());
    }
    assert_eq!(Cgroup::of(&pod).read("cgroup.procs"), "", "processes are in leaves only");
    // The cgroup namespace hides all of it, and the view is read-only.
    assert_eq!(pod.sh("app", "busybox cat /proc/self/cgroup"), "0::/");
    assert_eq!(pod.sh("app", "busybox cat /sys/fs/cgroup/memory.max"), "268435456");
    let written = pod.exec("app", &["busybox", "sh", "-c", "echo max >/sys/fs/cgroup/memory.max"]);
    assert_ne!(written.code, Some(0), "{}", written.explain());
}

#[test]
fn half_a_cpu_and_512_megabytes() {
    let Some(lab) = Lab::enter("half_a_cpu_and_512_megabytes") else { return };
    let main = and(idle("main"), limits(&[("memory", "512M"), ("cpu", "0.5")]));
    let pod = lab.start(&json!({ "containers": [main] }));
    let leaf = Cgroup::of_container(&pod, "main");
    assert_eq!(leaf.read("memory.max"), (512_000_000 / 4096 * 4096).to_string());
    assert_eq!(leaf.read("cpu.max"), "50000 100000");
}

/// Whatever the plan says of cgroups is in the kernel's files, to the letter.
#[test]
fn every_value_of_the_plan() {
    let Some(lab) = Lab::enter("every_value_of_the_plan") else { return };
    let resources = json!({ "resources": {
        "requests": { "cpu": "250m", "memory": "32Mi" }, "limits": { "cpu": "1500m", "memory": "100000k" },
    } });
    let pod = lab.start_with(
        &json!({ "sandpod.dev/pids-limit": "77" }),
        &json!({ "containers": [and(idle("a"), resources), idle("b")] }),
        &["--overcommit"],
    );
    let plan: PodPlan = serde_json::from_value(pod.inspect()["plan"].clone()).expect("a plan");
    let sandpod::plan::cgroup::CgroupPlan::Tree(tree) = &plan.sandbox.cgroup else { panic!("{:?}", plan.sandbox) };
    let mut compared = 0;
    let mut compare = |cgroup: &Cgroup, settings: &[sandpod::plan::cgroup::Setting]| {
        for setting in settings {
            let (file, planned) = (setting.value.file(), setting.value.to_string());
            let found = cgroup.read(&file);
            // Amounts of memory are kept in whole pages.
            let page =
                |text: &str| text.parse::<u64>().map_or(text.to_owned(), |bytes| (bytes / 4096 * 4096).to_string());
            let wanted =
                if file.starts_with("memory.") && file != "memory.oom.group" { page(&planned) } else { planned };
            assert_eq!(found, wanted, "{}/{file}", cgroup.0.display());
            compared += 1;
        }
    };
    compare(&Cgroup::of(&pod), &tree.settings);
    for container in &plan.containers {
        compare(&Cgroup::of_container(&pod, &container.name), &container.cgroup);
    }
    assert!(compared >= 6, "{compared} values only: {tree:?}");
    assert_eq!(Cgroup::of_container(&pod, "a").read("memory.max"), (100_000_000 / 4096 * 4096).to_string());
    assert_eq!(Cgroup::of_container(&pod, "a").read("cpu.max"), "150000 100000");
}

/// Killed in its own leaf, as a whole; everybody else lives on as if nothing had been.
#[test]
fn a_memory_hog() {
    let Some(lab) = Lab::enter("a_memory_hog") else { return };
    // The shell would survive its child, were the leaf not killed as a whole, as Kubernetes does it.
    let hog = and(sh("hog", "perl -e '$m = q(x) x (64 << 20)'; sleep 1000"), limits(&[("memory", "24Mi")]));
    let neighbour = and(idle("neighbour"), limits(&[("memory", "24Mi")]));
    let pod = lab.start(&json!({ "restartPolicy": "Never", "containers": [neighbour, hog] }));
    let neighbour = pod.pid("neighbour");
    let ended = until("the hog is killed", || {
        let state = pod.recorded("hog")["state"]["Terminated"].clone();
        (!state.is_null()).then_some(state)
    });
    assert_eq!(ended["reason"], "OOMKilled", "{ended}");
    let inspected = pod.inspect();
    assert_eq!(inspected["containers"]["hog"]["exit"], 137, "{}", inspected["record"]);
    assert_eq!(inspected["status"], "Running", "{}", inspected["record"]);
    let listed = lab.home.sandpod(&["ps", "--json"]).ends_with(0);
    assert!(listed.stdout.contains("OOMKilled"), "{}", listed.explain());
    assert_eq!(pod.pid("neighbour"), neighbour);
    assert_eq!(Cgroup::of_container(&pod, "neighbour").field("memory.events", "oom_kill"), 0);
    assert_eq!(pod.sh("neighbour", "echo alive"), "alive");
}

/// Under `Always` it is started again, in a leaf that knows nothing of the first.
#[test]
fn a_memory_hog_is_started_again() {
    let Some(lab) = Lab::enter("a_memory_hog_is_started_again") else { return };
    let script = "[ -e /v/again ] && while :; do sleep 1; done; : >/v/again; exec perl -e '$m = q(x) x (64 << 20)'";
    let mounts = json!({ "volumeMounts": [{ "name": "v", "mountPath": "/v" }] });
    let hog = and(and(sh("hog", script), limits(&[("memory", "24Mi")])), mounts);
    let pod = lab.start(&json!({
        "containers": [idle("neighbour"), hog], "volumes": [{ "name": "v", "emptyDir": {} }],
    }));
    let (neighbour, beside) = (pod.pid("neighbour"), Cgroup::of_container(&pod, "neighbour").0);
    until("the second life", || {
        (pod.restarts("hog") == 1 && pod.inspect()["containers"]["hog"]["pid"].is_u64()).then_some(())
    });
    let leaf = Cgroup::of_container(&pod, "hog");
    assert_eq!(pod.recorded("hog")["leaf"], "hog.2", "{}", pod.inspect()["record"]);
    assert_eq!(leaf.number("memory.max"), 24 << 20);
    assert_eq!(leaf.field("memory.events", "oom_kill"), 0);
    assert!(!leaf.0.with_file_name("hog.1").exists(), "the first life's leaf");
    assert_eq!((pod.pid("neighbour"), Cgroup::of_container(&pod, "neighbour").0), (neighbour, beside));
}

/// Two processes that want all there is get a fifth of one processor together.
#[test]
fn a_fifth_of_a_cpu() {
    let Some(lab) = Lab::enter("a_fifth_of_a_cpu") else { return };
    let spin = and(sh("spin", "while :; do :; done & while :; do :; done"), limits(&[("cpu", "200m")]));
    let pod = lab.start(&json!({ "containers": [spin] }));
    let leaf = Cgroup::of_container(&pod, "spin");
    let used = || Duration::from_micros(leaf.field("cpu.stat", "usage_usec"));
    until("both spin", || (used() > Duration::from_millis(100)).then_some(()));
    let (before, start) = (used(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    let (spent, passed) = (used() - before, start.elapsed());
    let share = spent.as_secs_f64() / passed.as_secs_f64() * 100.0;
    eprintln!("cpu 200m: {share:.1} % over {passed:.1?}");
    assert!(
        (17.0..=23.0).contains(&share),
        "{share:.1} % of a cpu: {spent:?} in {passed:?}\n{}",
        leaf.read("cpu.stat")
    );
}

/// Each process forks for ever, and stays when it may not.
const BOMB: &str = "while (1) { my $pid = fork; select(undef, undef, undef, 0.2) unless defined $pid }";

#[test]
fn a_fork_bomb() {
    let Some(lab) = Lab::enter("a_fork_bomb") else { return };
    let bomb = perl("bomb", BOMB, "lab-bomb");
    let pod = lab.start_with(
        &json!({ "sandpod.dev/pids-limit": "50" }),
        &json!({ "containers": [idle("other"), bomb] }),
        &[],
    );
    let leaf = Cgroup::of_container(&pod, "bomb");
    // Counted where the limit was met, or (before Linux 6.11) where the process is.
    let inner = Cgroup(leaf.0.join("container"));
    let refused = || leaf.field("pids.events", "max") + inner.field("pids.events", "max");
    until("forks are refused", || (refused() > 20).then_some(()));
    assert_eq!(leaf.number("pids.max"), 50);
    assert!(leaf.number("pids.current") >= 40, "{}", leaf.read("pids.current"));
    assert_eq!(pod.sh("other", "busybox id -u; echo alive | busybox cat"), "0\nalive");
    assert_eq!(pod.restarts("bomb") + pod.restarts("other"), 0, "{}", pod.inspect()["record"]);
}

/// Pressure is told where the kernel has it: not by User-Mode Linux.
#[test]
fn what_the_pod_uses() {
    let Some(lab) = Lab::enter("what_the_pod_uses") else { return };
    let pod = lab.start(&json!({ "containers": [idle("main")] }));
    let said = pod.does(&["stats", "--json"]);
    let stats: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let shown = stats.to_string();
    assert!(shown.contains("main"), "{shown}");
    let has_pressure = std::path::Path::new("/proc/pressure/memory").exists();
    let leaf = Cgroup::of_container(&pod, "main");
    assert_eq!(leaf.0.join("memory.pressure").exists(), has_pressure);
    let tree = pod.does(&["tree"]).stdout;
    for word in ["main", "pause", "supervisor"] {
        assert!(tree.contains(word), "{tree}");
    }
}
