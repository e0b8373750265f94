//! The end of a pod is the end of all its processes, whatever they do meanwhile.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::lab_support::{Cgroup, Lab, marked, perl, vanished};

/// Forks for ever; each child soon ends or forks itself, so that no list of processes is ever true.
const FORKS: &str = "$SIG{CHLD} = 'IGNORE'; \
    while (1) { my $pid = fork; if (defined $pid && !$pid) { exit if rand() < 0.7 } select(undef, undef, undef, 0.03) }";

/// Daemons: sessions of their own (setsid is system call 112), parents that have ended, signals ignored.
const DAEMONS: &str = "$SIG{$_} = 'IGNORE' for qw(TERM INT HUP CHLD); \
    for (1 .. 3) { next if fork; syscall 112; exit if fork; while (1) { sleep 1000 } } \
    while (1) { my $pid = fork; if (defined $pid && !$pid) { syscall 112; exit if fork; select(undef, undef, undef, 0.3); exit } \
    select(undef, undef, undef, 0.05) }";

/// What is to be killed in the `number`th try: one kind after the other, all of them in one of ten. (Starting three
/// containers each time takes longer than all the killing.)
fn spec(mark: &str, number: usize) -> Value {
    // A user and a pid namespace of its own inside the container's.
    let nested = json!({ "name": "nested", "image": "host:", "command": [
        "unshare", "--user", "--map-root-user", "--pid", "--fork", "perl", "-e", FORKS, mark,
    ] });
    let mut kinds = vec![perl("forks", FORKS, mark), perl("daemons", DAEMONS, mark), nested];
    if !number.is_multiple_of(10) {
        kinds = vec![kinds.swap_remove(number % 3)];
    }
    let mut spec = json!({ "terminationGracePeriodSeconds": 0, "containers": kinds });
    if number.is_multiple_of(2) {
        spec["shareProcessNamespace"] = json!(true);
    }
    spec
}

/// `rm -f`: afterwards no process and no cgroup, in every single try.
#[test]
fn rm_leaves_no_process() {
    let Some(lab) = Lab::enter("rm_leaves_no_process") else { return };
    let tries = lab.rounds("rm_leaves_no_process", 30, 300);
    for number in 0..tries {
        let mark = format!("lab-kill-{number}-");
        // A network of its own takes longer to start than all the rest: one pod in ten has it.
        let network: &[&str] = if number % 10 == 0 { &[] } else { &["--network", "none"] };
        let pod = lab.start_with(&json!({ "sandpod.dev/pids-limit": "20" }), &spec(&mark, number), network);
        let trees = lab.trees();
        // The pod's, and its supervisor's beside it.
        assert_eq!(trees.len(), 2, "try {number}: {trees:?}");
        assert!(!marked(&mark).is_empty(), "try {number}: nothing runs: {}", pod.inspect()["record"]);
        pod.does(&["rm", "-f"]);
        // No waiting here: when rm has ended, so has the pod.
        assert_eq!(marked(&mark), Vec::<u32>::new(), "try {number} of {tries}");
        assert_eq!(lab.trees(), Vec::<PathBuf>::new(), "try {number} of {tries}");
    }
}

/// One container's end, by `kill`, takes what it has forked away, and nothing of its neighbours.
#[test]
fn a_container_of_daemons_is_killed() {
    let Some(lab) = Lab::enter("a_container_of_daemons_is_killed") else { return };
    for shared in [false, true] {
        let mark = format!("lab-one-{shared}-");
        let mut spec = json!({
            "restartPolicy": "Never", "shareProcessNamespace": shared,
            "containers": [perl("daemons", DAEMONS, &mark), perl("other", "sleep 1000", "lab-other-")],
        });
        spec["terminationGracePeriodSeconds"] = json!(0);
        let pod = lab.start_with(&json!({ "sandpod.dev/pids-limit": "20" }), &spec, &[]);
        let leaf = Cgroup::of_container(&pod, "daemons");
        lab.home.sandpod(&["kill", "-s", "KILL", "-c", "daemons", &pod.name]).ends_with(0);
        assert_eq!(vanished(|| marked(&mark)), Vec::<u32>::new(), "shared: {shared}");
        assert_eq!(vanished(|| leaf.pids()), Vec::<u32>::new(), "shared: {shared}");
        assert_eq!(marked("lab-other-").len(), 1, "shared: {shared}");
        pod.does(&["rm", "-f"]);
    }
}
