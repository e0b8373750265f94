//! `stats`, `tree`, `ps` and `inspect` beside cgroups made by hand: directories with the files that the kernel would
//! show. What the kernel itself does is tried in the lab.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::support::cli_support::Home;
use sandpod::plan::Degradation;
use sandpod::state::{ContainerState, CreatedPod, Phase, commit};
use sandpod::sys::process::ProcessId;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn files(cgroup: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(cgroup).expect("mkdir");
    for (name, text) in files {
        fs::write(cgroup.join(name), text).expect("write");
    }
}

/// `web` with nginx (us, so that it lives) in a cgroup, and a sidecar that is between two lives.
fn web(home: &Home) -> (CreatedPod, PathBuf) {
    let mut pod = home.pod("0123456789ab", "web", &["nginx", "sidecar"]);
    let top = home.path().join("sandpod-web-0123456789ab");
    let me = ProcessId::of_self().expect("/proc");
    pod.record.phase = Phase::Running;
    pod.record.cgroup = Some(top.clone());
    pod.record.supervisor = Some(me);
    pod.record.containers[0].state = ContainerState::Running { process: me, started_at: jiff::Timestamp::now() };
    pod.record.containers[0].leaf = Some("nginx.1".to_owned());
    pod.record.containers[1].leaf = Some("sidecar.3".to_owned());
    commit(&pod.dirs, &pod.record).expect("commit");
    let cgroup = [("cgroup.events", "populated 1\nfrozen 0\n"), ("cgroup.freeze", "0\n"), ("cgroup.procs", "")];
    for leaf in ["", "nginx.1", "../sandpod-web-0123456789ab.supervisor", "pause"] {
        files(&top.join(leaf), &cgroup);
        files(
            &top.join(leaf),
            &[("cpu.stat", "usage_usec 1000\nuser_usec 0\nsystem_usec 0\n"), ("memory.current", "4096\n")],
        );
    }
    files(&top, &[("memory.max", "402653184\n"), ("memory.events", "max 0\noom 1\noom_kill 3\n")]);
    let nginx =
        [("memory.max", "268435456\n"), ("pids.current", "2\n"), ("pids.max", "100\n"), ("cpu.max", "20000 100000\n")];
    files(&top.join("nginx.1"), &nginx);
    fs::write(top.join("nginx.1/cgroup.procs"), format!("{}\n", me.pid)).expect("write");
    (pod, top)
}

#[test]
fn stats_of_what_is_there() {
    let home = Home::new();
    let (_held, top) = web(&home);
    let said = home.run(&["stats", "web"]).ends_with(0).says("4Ki / 256Mi").says("2 / 100").says("(all)");
    // Heading, pod, nginx: the sidecar's leaf is gone, and sandpod's own are in the pod's.
    assert_eq!(said.stdout.lines().count(), 3, "{}", said.explain());
    let rows = json(&home.run(&["stats", "--json"]).ends_with(0).stdout);
    let parts: Vec<&str> = rows.as_array().expect("rows").iter().filter_map(|row| row["part"].as_str()).collect();
    assert_eq!(parts, ["pod", "container", "supervisor", "pause"]);
    assert_eq!((&rows[0]["memory"]["events"]["oomKill"], &rows[1]["container"]), (&3.into(), &"nginx".into()));
    assert_eq!((&rows[1]["memory"]["maxBytes"], &rows[1]["cpuPercent"]), (&268_435_456.into(), &0.0.into()));
    assert_eq!(rows[1]["cpu"]["max"]["quotaMicroseconds"], 20_000);
    assert!(rows[1]["pressure"]["cpu"].is_null() && rows[1]["io"].is_null(), "{rows}");

    // With --watch a stream; work done between two looks is seen in the second.
    let mut watch =
        home.command(&["stats", "--watch", "--json", "web"]).stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
    let mut next = || json(&lines.next().expect("a line").expect("UTF-8"));
    assert_eq!(next()[1]["cpuPercent"], 0.0);
    fs::write(top.join("nginx.1/cpu.stat"), "usage_usec 501000\nuser_usec 0\nsystem_usec 0\n").expect("write");
    let percent = (0..3).map(|_| next()[1]["cpuPercent"].as_f64().expect("a number")).fold(0.0, f64::max);
    assert!((10.0..=51.0).contains(&percent), "half a second of cpu in about one: {percent} %");
    watch.kill().expect("kill");
    watch.wait().expect("wait");
}

#[test]
fn a_pod_without_cgroups_is_not_measured_and_says_why() {
    let home = Home::new();
    let mut plan = home.plan("0123456789ab", "web", &["nginx"]);
    plan.degradations.push(Degradation {
        name: "no-cgroup".to_owned(),
        meaning: "this host has cgroup v1".to_owned(),
        fix: "boot with systemd.unified_cgroup_hierarchy=1".to_owned(),
    });
    let mut pod = home.store().create(&plan, jiff::Timestamp::now()).expect("created");
    pod.record.phase = Phase::Running;
    pod.record.supervisor = ProcessId::of_self();
    commit(&pod.dirs, &pod.record).expect("commit");
    home.run(&["stats", "web"])
        .ends_with(125)
        .silently()
        .complains("could not measure pod `web`")
        .complains("this host has cgroup v1")
        .complains("hint: boot with systemd.unified");
    for verb in ["pause", "unpause"] {
        let said = home.run(&[verb, "web"]).ends_with(125).silently().complains("this host has cgroup v1");
        said.complains(&format!("could not {verb} pod `web`"));
    }
    home.run(&["update", "--cpus", "1", "web"]).ends_with(125).complains("this host has cgroup v1");
    home.run(&["tree", "web"]).ends_with(0).says("without a cgroup").says(&std::process::id().to_string());
    home.run(&["stats", "wbe"]).ends_with(125).complains("did you mean `web`?");
}

#[test]
fn what_is_shown_is_measured_and_the_rest_named() {
    let home = Home::new();
    let (_web, _) = web(&home);
    let mut bare = home.pod("ba9876543210", "bare", &["main"]);
    bare.record.phase = Phase::Running;
    commit(&bare.dirs, &bare.record).expect("commit");
    home.run(&["stats"]).ends_with(125).says("nginx").complains("could not measure pod `bare`");
    drop(bare);
    home.run(&["stats", "bare"]).ends_with(125).complains("pod `bare` is not running");
    home.run(&["tree", "bare"]).ends_with(125).complains("pod `bare` is not running");
}

#[test]
fn without_pods_there_is_nothing_to_measure_and_nothing_hangs() {
    let home = Home::new();
    let said = home.run(&["stats"]).ends_with(0).says("POD");
    assert_eq!(said.stdout.lines().count(), 1, "{}", said.explain());
    assert_eq!(home.run(&["stats", "--json"]).ends_with(0).stdout, "[]\n");
    let mut watch = home.command(&["stats", "--watch"]).stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("UTF-8");
    assert!(next().starts_with("POD"));
    assert_eq!(next(), "no pod is running; Ctrl-C ends this");
    watch.kill().expect("kill");
    watch.wait().expect("wait");
}

#[test]
fn whoever_waived_cgroups_is_told_so() {
    let home = Home::new();
    let mut bare = home.pod("ba9876543210", "bare", &["main"]);
    bare.record.phase = Phase::Running;
    commit(&bare.dirs, &bare.record).expect("commit");
    let verbs: [&[&str]; 4] = [&["stats"], &["pause"], &["unpause"], &["update", "--memory", "64Mi"]];
    for words in verbs {
        let said = home.run(&[words, &["bare"]].concat()).ends_with(125).silently();
        said.complains("it was started with --cgroups=disabled").complains("hint: start it again without that option");
    }
}

#[test]
fn a_tree_of_cgroups_and_namespaces() {
    let home = Home::new();
    let (_held, top) = web(&home);
    let me = std::process::id();
    let said = home.run(&["tree"]).ends_with(0);
    let drawn: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(drawn[0], format!("web 0123456789ab {}", top.display()));
    assert!(drawn[1..4] == ["├─supervisor", "├─pause", "└─nginx.1"], "{}", said.explain());
    assert!(drawn[4].starts_with(&format!("  └─{me} ")), "{}", said.explain());
    said.says("SHARED BY").says("host, nginx");
    let shown = json(&home.run(&["tree", "--json", "web"]).ends_with(0).stdout);
    assert_eq!(shown[0]["groups"][2]["processes"][0]["pid"], me);
    assert_eq!(shown[0]["namespaces"][0]["type"], "user");
}

#[test]
fn a_frozen_container_is_a_paused_pod() {
    let home = Home::new();
    let (_held, top) = web(&home);
    home.run(&["ps"]).ends_with(0).says("Running");
    files(&top.join("nginx.1"), &[("cgroup.freeze", "1\n"), ("cgroup.events", "populated 1\nfrozen 1\n")]);
    home.run(&["ps"]).ends_with(0).says("Paused");
    let row = json(&home.run(&["ps", "--json"]).stdout);
    assert_eq!((&row[0]["status"], &row[0]["paused"][0]), (&"Paused".into(), &"nginx".into()));
    home.run(&["tree"]).ends_with(0).says("nginx.1 (frozen)");
    let inspected = json(&home.run(&["inspect", "web"]).ends_with(0).stdout);
    assert_eq!((&inspected["status"], &inspected["qosClass"]), (&"Paused".into(), &"BestEffort".into()));
    assert_eq!(
        (&inspected["cgroup"]["oomKills"], &inspected["cgroup"]["memoryMaxBytes"]),
        (&3.into(), &402_653_184.into())
    );
    let nginx = &inspected["containers"]["nginx"];
    assert_eq!((&nginx["paused"], &nginx["cgroup"]["pidsMax"]), (&true.into(), &100.into()));
    assert!(inspected["containers"]["sidecar"]["cgroup"].is_null(), "{inspected}");
}
