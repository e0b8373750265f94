//! What a command costs does not depend on how many other pods there are: it opens none of them.

use std::fs::{self, File};

use crate::support::{Home, and, idle, until};
use serde_json::{Value, json};

const MANY: usize = 30;

/// One idle container that says something.
fn spec() -> Value {
    json!({ "terminationGracePeriodSeconds": 0, "containers": [idle("main")] })
}

/// Claims something, so that a start is measured against the others.
fn claiming() -> Value {
    let container = and(idle("main"), json!({ "resources": { "requests": { "cpu": "1m" } } }));
    json!({ "terminationGracePeriodSeconds": 0, "containers": [container] })
}

const OPTIONS: [&str; 3] = ["--network=none", "--cgroups=disabled", "--overcommit"];

/// The system calls of `sandpod ARGUMENTS` that name a file, but those of its children.
fn calls(home: &Home, arguments: &[&str]) -> Vec<String> {
    let trace = home.path().join("trace");
    let options = ["-qq", "-e", "trace=%file", "-e", "signal=none", "-o", trace.to_str().expect("UTF-8"), "--"];
    let words = [&options[..], &[env!("CARGO_BIN_EXE_sandpod")], arguments].concat();
    home.said(home.program("strace", &words), b"").ends_with(0);
    fs::read_to_string(&trace).expect("strace wrote it").lines().map(str::to_owned).collect()
}

fn ids(home: &Home) -> Vec<String> {
    home.sandpod(&["ps", "-a", "-q"]).ends_with(0).stdout.lines().map(str::to_owned).collect()
}

#[test]
fn no_command_opens_another_pod() {
    let Some(home) = Home::with("no_command_opens_another_pod", &["strace"]) else { return };
    home.start_with("mine", &spec(), &OPTIONS);
    let claiming = home.manifest_of("late", &claiming());
    let host_ports = json!({ "hostNetwork": true, "containers": [
        and(idle("main"), json!({ "ports": [{ "containerPort": 1, "hostPort": 1 }] }))] });
    let host_ports = home.manifest_of("ports", &host_ports);
    let [claiming, host_ports] = [&claiming, &host_ports].map(|path| path.to_str().expect("UTF-8"));
    let mine = ids(&home).remove(0);
    let commands: [&[&str]; 13] = [
        &["exec", "mine", "--", "true"],
        &["logs", "mine"],
        &["inspect", "mine"],
        &["inspect", &mine],
        &["inspect", &mine[..8]],
        &["inspect", "pod/mine"],
        &["port", "mine"],
        &["run", "-d", "-q", "--network=none", "--cgroups=disabled", claiming],
        &["plan", "--cgroups=disabled", host_ports],
        &["stop", "late"],
        &["wait", "late"],
        &["rm", "late"],
        &["run", "--rm", "-q", "--network=none", "--image", "host:", "--", "true"],
    ];
    let alone: Vec<usize> = commands.iter().map(|command| calls(&home, command).len()).collect();
    for number in 0..MANY {
        let spec = if number % 2 == 0 { spec() } else { self::claiming() };
        home.start_with(&format!("other-{number}"), &spec, &OPTIONS);
    }
    let others: Vec<String> = ids(&home).into_iter().filter(|id| *id != mine).collect();
    assert_eq!(others.len(), MANY);
    for (command, alone) in commands.iter().zip(alone) {
        let beside = calls(&home, command);
        // The beginning of an id is no name and no id: the index is compared with the pods, entry by entry.
        let (entries, beside): (Vec<String>, Vec<String>) = beside
            .into_iter()
            .partition(|call| command[1] == &mine[..8] && call.contains("/share/sandpod/names/other-"));
        let opened: Vec<&String> = beside.iter().filter(|call| others.iter().any(|id| call.contains(id))).collect();
        assert!(opened.is_empty(), "{command:?} looks at other pods: {opened:#?}");
        assert!(entries.len() <= MANY, "{command:?} reads an entry more than once: {entries:#?}");
        // A few may depend on who was faster: a wait in steps, for the lock.
        assert!(beside.len() < alone + MANY / 2, "{command:?}: {alone} calls alone, {} beside {MANY}", beside.len());
    }
}

#[test]
fn rm_of_all_opens_each_pod_as_often_as_rm_of_one() {
    let Some(home) = Home::with("rm_of_all_opens_each_pod", &["strace"]) else { return };
    let of = |calls: &[String], id: &str| calls.iter().filter(|call| call.contains(id)).count();
    let ended = |name: &str| {
        home.start_with(name, &spec(), &OPTIONS);
        home.sandpod(&["stop", name]).ends_with(0);
        // It has let go of its lock: `rm` need not wait for it, which would take calls.
        let pods = fs::read_dir(home.path().join("run/sandpod/pods")).expect("readdir");
        for lock in pods.map(|pod| pod.expect("an entry").path().join("lock")) {
            until("the supervisor leaves", || File::open(&lock).expect("open").try_lock_shared().ok());
        }
    };
    ended("one");
    let one = ids(&home).remove(0);
    let alone = of(&calls(&home, &["rm", "-a"]), &one);
    for number in 0..MANY {
        ended(&format!("pod-{number}"));
    }
    let all = ids(&home);
    let calls = calls(&home, &["rm", "-a"]);
    for id in &all {
        let found = of(&calls, id);
        // Whether its supervisor has left its last file may differ.
        assert!(found <= alone + 4, "{found} calls for {id}, {alone} for a pod alone");
    }
    assert_eq!(ids(&home), Vec::<String>::new());
}
