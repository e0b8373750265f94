//! A pod whose files are damaged, whose disk is full, whose pids are somebody else's, and which many commands want at
//! once: the next command tells the truth, `rm` leaves nothing, and no stranger is killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::crash_support::{Dice, Ground, Said, processes, skip};
use crate::rounds::rounds;
use sandpod::sys::process::PidFd;
use serde_json::Value;

/// For processes that end by themselves on any machine.
const SOON: Duration = Duration::from_secs(20);

fn manifest(ground: &Ground) -> String {
    ground.write(
        "pod.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: pod}\nspec:\n  terminationGracePeriodSeconds: 0\n  \
         volumes: [{name: v, emptyDir: {}}]\n  containers:\n  - name: a\n    image: \"host:\"\n    \
         volumeMounts: [{name: v, mountPath: /v}]\n    command: [sh, -c, \"mkdir /v/d; touch /v/d/f; sleep 1000\"]\n  \
         - {name: b, image: \"host:\", command: [sleep, \"1000\"]}\n",
    )
}

/// Starts the pod; its id.
fn start(ground: &Ground, manifest: &str) -> String {
    ground.run(&["run", "-d", manifest]).ends_with(0).stdout.trim().to_owned()
}

fn record(ground: &Ground, id: &str) -> PathBuf {
    ground.runtime().join("pods").join(id).join("record.json")
}

type Damage = fn(runtime: &Path, data: &Path);

fn truncate(path: &Path, text: &str) {
    fs::write(path, text).expect("damage");
}

const DAMAGES: &[(&str, Damage)] = &[
    ("record.json is empty", |runtime, _| truncate(&runtime.join("record.json"), "")),
    ("record.json is cut off", |runtime, _| truncate(&runtime.join("record.json"), "{\"id\": \"")),
    ("record.json is of another kind", |runtime, _| truncate(&runtime.join("record.json"), "[1, {}, null]")),
    ("record.json is gone", |runtime, _| fs::remove_file(runtime.join("record.json")).expect("damage")),
    ("plan.json is empty", |_, data| truncate(&data.join("plan.json"), "")),
    ("plan.json is garbage", |_, data| truncate(&data.join("plan.json"), "\0\u{1b}[2J")),
    ("plan.json is gone", |_, data| fs::remove_file(data.join("plan.json")).expect("damage")),
    ("neither record nor plan", |runtime, data| {
        truncate(&runtime.join("record.json"), "x");
        truncate(&data.join("plan.json"), "x");
    }),
    ("the socket is gone", |runtime, _| fs::remove_file(runtime.join("control.sock")).expect("damage")),
    ("a directory called record.json", |runtime, _| {
        fs::remove_file(runtime.join("record.json")).expect("damage");
        fs::create_dir(runtime.join("record.json")).expect("damage");
    }),
    ("unfinished replacements", |runtime, data| {
        truncate(&runtime.join("record.tmp"), "{");
        truncate(&data.join("plan.tmp"), "{");
    }),
    ("nothing may be read", |runtime, data| {
        for file in [runtime.join("record.json"), data.join("plan.json")] {
            fs::set_permissions(file, fs::Permissions::from_mode(0o000)).expect("damage");
        }
    }),
    ("no logs", |_, data| {
        for container in ["a", "b"] {
            fs::remove_file(data.join(format!("{container}.log"))).expect("damage");
        }
    }),
];

fn dirs(ground: &Ground, id: &str) -> (PathBuf, PathBuf) {
    (ground.runtime().join("pods").join(id), ground.data().join("pods").join(id))
}

#[track_caller]
fn rm_leaves_nothing(ground: &Ground, id: &str, why: &str) {
    let said = ground.run(&["rm", "-f", id]);
    assert_eq!(said.code, Some(0), "{why}: {}", said.explain());
    ground.no_process_stays(SOON, why);
    ground.is_empty(why);
}

#[test]
fn damaged_while_it_runs() {
    let Some(ground) = Ground::with_subids("damaged_while_it_runs") else { return };
    let manifest = manifest(&ground);
    for (why, damage) in DAMAGES {
        let id = start(&ground, &manifest);
        let (runtime, data) = dirs(&ground, &id);
        damage(&runtime, &data);
        // Alive all the same, and shown so.
        let listed = ground.run(&["ps", "-a"]).ends_with(0);
        assert!(listed.stdout.contains(&id) && listed.stdout.contains("Running"), "{why}: {}", listed.explain());
        let refused = ground.run(&["rm", &id]).ends_with(125);
        assert!(refused.stderr.contains("is running"), "{why}: {}", refused.explain());
        rm_leaves_nothing(&ground, &id, why);
    }
}

#[test]
fn damaged_at_rest() {
    let Some(ground) = Ground::with_subids("damaged_at_rest") else { return };
    let manifest = manifest(&ground);
    for (why, damage) in DAMAGES {
        let id = start(&ground, &manifest);
        let (runtime, data) = dirs(&ground, &id);
        ground.run(&["stop", &id]).ends_with(0);
        // `stop` returns with the pod's last word, a moment before the supervisor has tidied up.
        ground.no_process_stays(SOON, why);
        if *why != "the socket is gone" {
            damage(&runtime, &data);
        }
        let listed = ground.run(&["ps", "-a"]).ends_with(0);
        assert!(listed.stdout.contains(&id) && !listed.stdout.contains("Running"), "{why}: {}", listed.explain());
        ground.run(&["inspect", &id]);
        rm_leaves_nothing(&ground, &id, why);
    }
}

#[test]
fn recorded_pids_of_others_are_never_signalled() {
    let Some(ground) = Ground::with_subids("recorded_pids_of_others_are_never_signalled") else { return };
    let manifest = manifest(&ground);
    let mut innocent = {
        let mut sleep = ground.program("sleep");
        sleep.arg("1000").stdout(Stdio::null()).stderr(Stdio::null());
        sleep.spawn().expect("sleep")
    };
    for force in [false, true] {
        let id = start(&ground, &manifest);
        let path = record(&ground, &id);
        let parse = || -> Value { serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON") };
        let supervisor = parse()["supervisor"]["pid"].as_i64().expect("pid");
        let supervisor = processes::descendants().into_iter().find(|it| i64::from(it.pid) == supervisor).expect("ours");
        let ended = PidFd::open(supervisor.pid).expect("it lives");
        assert!(processes::kill(&supervisor));
        assert!(ended.wait_gone(SOON).expect("poll"), "it has not ended");
        let mut found = parse();
        for role in ["supervisor", "pause"] {
            found[role]["pid"] = innocent.id().into();
            found[role]["start_time"] = 1.into();
        }
        for container in found["containers"].as_array_mut().expect("containers") {
            container["state"]["Running"]["process"]["pid"] = innocent.id().into();
        }
        fs::write(&path, found.to_string()).expect("write");
        let arguments: &[&str] = if force { &["rm", "-f", &id] } else { &["rm", &id] };
        ground.run(arguments).ends_with(0);
        ground.is_empty("its pids were another's");
        assert!(innocent.try_wait().expect("waitpid").is_none(), "an innocent process was killed");
    }
    innocent.kill().and_then(|()| innocent.wait()).expect("our own");
    ground.no_process_stays(SOON, "its pids were another's");
}

#[test]
fn a_runtime_directory_that_became_read_only() {
    let Some(ground) = Ground::with_subids("a_runtime_directory_that_became_read_only") else { return };
    let id = start(&ground, &manifest(&ground));
    let (runtime, _) = dirs(&ground, &id);
    let mode = |mode| fs::set_permissions(&runtime, fs::Permissions::from_mode(mode)).expect("chmod");
    mode(0o500);
    ground.run(&["ps"]).ends_with(0).says("Running");
    ground.run(&["exec", &id, "-c", "a", "--", "true"]).ends_with(0);
    let said = ground.run(&["rm", "-f", &id]);
    if said.code != Some(0) {
        let said = said.ends_with(125).complains(runtime.to_str().expect("UTF-8"));
        // Its processes have ended all the same, and it is still found.
        ground.no_process_stays(SOON, &said.explain());
        ground.run(&["ps", "-a"]).ends_with(0).says(&id);
        mode(0o700);
    }
    let said = ground.run(&["rm", "-f", "-a"]);
    assert_eq!(said.code, Some(0), "{}", said.explain());
    ground.no_process_stays(SOON, "read-only");
    ground.is_empty("read-only");
}

/// A user and mount namespace of our own, where the data directory is a tmpfs of a few inodes and kilobytes.
#[test]
fn a_full_disk_at_every_stage() {
    let Some(ground) = Ground::new("a_full_disk_at_every_stage") else { return };
    let binary = env!("CARGO_BIN_EXE_sandpod");
    let manifest = manifest(&ground);
    let inside = |limit: &str| {
        let script = format!(
            "mount -t tmpfs -o {limit} tmpfs share || exit 99
            {binary} run -d -q {manifest}
            code=$?
            {binary} ps -a >ps 2>&1 || exit 98
            {binary} rm -f -a 2>rm || {{ cat rm >&2; exit 97; }}
            find run/sandpod share -path '*/pods/*' >left
            exit $code"
        );
        let mut command = ground.program("unshare");
        command.args(["-rm", "sh", "-c", &script]);
        Said::by(command)
    };
    let probe = inside("size=10m");
    if probe.code != Some(0) {
        return skip("a_full_disk_at_every_stage", &format!("unshare -rm: {}", probe.explain()));
    }
    let (mut failed, mut worked) = (0, 0);
    let inodes = (2..40).map(|count| format!("size=10m,nr_inodes={count}"));
    let pages = (1..12).map(|count| format!("size={}k", 4 * count));
    for limit in inodes.chain(pages) {
        let said = inside(&limit);
        match said.code {
            Some(0) => worked += 1,
            Some(125) => {
                assert!(said.stderr.contains("No space left on device"), "{limit}: {}", said.explain());
                failed += 1;
            }
            _ => panic!("{limit}: {}", said.explain()),
        }
        let left = fs::read_to_string(ground.path().join("left")).expect("find");
        assert_eq!(left, "", "{limit} left files: {}", said.explain());
        ground.no_process_stays(SOON, &limit);
    }
    assert!(failed > 5 && worked > 5, "{failed} failed, {worked} worked");
}

#[test]
fn of_many_runs_of_one_name_one_wins() {
    let Some(ground) = Ground::with_subids("of_many_runs_of_one_name_one_wins") else { return };
    let manifest = manifest(&ground);
    for _ in 0..rounds("of_many_runs_of_one_name_one_wins", 5, 100) {
        let running: Vec<_> =
            (0..8).map(|_| crate::crash_support::Running::start(ground.command(&["run", "-d", &manifest]))).collect();
        let said: Vec<Said> = running.into_iter().map(|it| Said::of(it, "run -d".to_owned())).collect();
        let winners: Vec<&Said> = said.iter().filter(|said| said.code == Some(0)).collect();
        assert_eq!(winners.len(), 1, "{said:#?}");
        for loser in said.iter().filter(|said| said.code != Some(0)) {
            assert_eq!(loser.code, Some(125), "{}", loser.explain());
            assert!(loser.stderr.contains("there is already a pod `pod`"), "{}", loser.explain());
        }
        rm_leaves_nothing(&ground, winners[0].stdout.trim(), "one of eight");
    }
}

/// Four threads start, stop and remove one name at once.
#[test]
fn commands_that_race_for_one_pod() {
    let Some(ground) = Ground::with_subids("commands_that_race_for_one_pod") else { return };
    let manifest = manifest(&ground);
    let seed = Dice::new().seed;
    let commands = rounds("commands_that_race_for_one_pod", 25, 500);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (ground, manifest) = (&ground, manifest.as_str());
            scope.spawn(move || {
                let mut dice = Dice::from(seed + thread * 7919);
                for _ in 0..commands {
                    let said = match dice.below(5) {
                        0 | 1 => ground.run(&["run", "-d", manifest]),
                        2 => ground.run(&["stop", "pod"]),
                        3 => ground.run(&["rm", "pod"]),
                        _ => ground.run(&["rm", "-f", "pod"]),
                    };
                    let words = [
                        "there is already a pod",
                        "there is no pod",
                        "is running",
                        "is not running",
                        "has ended",
                        "ended before all its containers ran",
                        "supervisor",
                        "it is Failed",
                    ];
                    let known = said.code == Some(0) || words.iter().any(|word| said.stderr.contains(word));
                    assert!(matches!(said.code, Some(0 | 125)) && known, "CRASH_SEED={seed}: {}", said.explain());
                    assert!(!said.stderr.contains("panicked"), "CRASH_SEED={seed}: {}", said.explain());
                }
            });
        }
    });
    let why = format!("a race, CRASH_SEED={seed}");
    let said = ground.run(&["rm", "-f", "-a"]);
    assert_eq!(said.code, Some(0), "{why}: {}", said.explain());
    ground.no_process_stays(SOON, &why);
    ground.is_empty(&why);
    let id = start(&ground, &manifest);
    rm_leaves_nothing(&ground, &id, &why);
}

/// Someone else's tool looks in while a pod runs.
#[test]
fn what_is_not_a_pod_is_left_alone() {
    let Some(ground) = Ground::with_subids("what_is_not_a_pod_is_left_alone") else { return };
    let id = start(&ground, &manifest(&ground));
    for directory in [ground.runtime().join("pods"), ground.data().join("pods")] {
        ground.make(&directory.join("lost+found"));
        fs::write(directory.join(".nfs0001"), "").expect("write");
        fs::write(directory.join("0123456789ab.bak"), "").expect("write");
    }
    let listed = ground.run(&["ps", "-a"]).ends_with(0);
    assert_eq!(listed.stdout.lines().count(), 2, "{}", listed.explain());
    ground.run(&["rm", "-f", "-a"]).ends_with(0);
    ground.no_process_stays(SOON, "strangers");
    assert!(ground.data().join("pods/.nfs0001").exists() && !dirs(&ground, &id).1.exists());
}

/// systemd empties `$XDG_RUNTIME_DIR` at logout; what was started there lives on if it may linger.
#[test]
fn a_runtime_directory_that_was_deleted_under_a_living_pod() {
    let Some(ground) = Ground::new("runtime_deleted") else { return };
    let manifest = manifest(&ground);
    start(&ground, &manifest);
    fs::remove_dir_all(ground.runtime()).expect("rm -r");
    let listed = ground.run(&["ps", "-a"]).ends_with(0).stdout;
    assert!(listed.contains("Running"), "{listed}");
    ground.run(&["rm", "pod"]).ends_with(125).complains("is running");
    ground.run(&["rm", "-f", "pod"]).ends_with(0);
    ground.no_process_stays(SOON, "rm -f");
    ground.is_empty("rm -f");
}
