//! `kill -9` of the supervisor at any moment: no process stays, and `rm` removes the cgroups.
//!
//! Moments are random; a failure prints the seed, and `CRASH_SEED=N` (uml-run -e) rolls the same ones.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde_json::json;

use crate::lab_support::support::{Reaped, once, sh, until};
use crate::lab_support::{Cgroup, Lab, command_line, marked, perl, vanished};

const MARK: &str = "lab-crash-";

/// Leaves its session and its parent, so that only the kernel can find what it leaves behind.
const DAEMON: &str = "exit if fork; syscall 112; exit if fork; sleep 1000";

/// The processes of `run` other than the command itself: they are forks of it, with its command line, until they become
/// something else. The first is the supervisor, whose parent is none of them.
fn supervisor(command: &Child, manifest: &str) -> Option<u32> {
    let is_other = |pid: &u32| *pid != command.id();
    let forks: Vec<u32> = marked(manifest).into_iter().filter(is_other).collect();
    let parent = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("PPid:\t")?.parse::<u32>().ok())
    };
    // In a session of its own, unlike the fork that tries, on a guest whose root is an overlay, whether one more may lie over it.
    let session = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(3)?.parse::<u32>().ok())
    };
    let own = session(command.id());
    let is_first = |pid: u32| parent(pid).is_some_and(|parent| !forks.contains(&parent));
    forks.iter().copied().find(|pid| is_first(*pid) && session(*pid) != own)
}

fn kill(pid: u32) {
    let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
}

fn end_of(mut command: Reaped) {
    until("the command ends", || command.0.try_wait().expect("waitpid"));
}

#[test]
fn at_random_moments() {
    let Some(lab) = Lab::enter("at_random_moments") else { return };
    let given = std::env::var("CRASH_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or(UNIX_EPOCH.elapsed().map_or(1, |since| since.as_micros() as u64 % 1_000_003)) | 1;
    let mut state = seed;
    let containers = json!([perl("daemon", DAEMON, MARK), perl("main", "sleep 1000", MARK)]);
    let manifest = lab.manifest("crash", &json!({}), &json!({ "restartPolicy": "Always", "containers": containers }));
    let manifest = manifest.to_str().expect("UTF-8");
    let next = lab.manifest("next", &json!({}), &once([sh("main", ":")]));
    let next = next.to_str().expect("UTF-8");
    let run = || {
        let mut command = lab.home.command(&["run", "-d", "-q", manifest]);
        Reaped(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"))
    };
    let start = Instant::now();
    end_of(run());
    let whole = start.elapsed();
    lab.home.sandpod(&["rm", "-f", "crash"]).ends_with(0);

    for round in 0..lab.rounds("at_random_moments", 15, 200) {
        // Numerical Recipes' generator: its high bits are good enough to choose a moment.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_micros((state >> 33) % u64::try_from(whole.as_micros() * 3 / 2).expect("short"));
        let why = format!("CRASH_SEED={seed}, round {round}, killed {moment:?} into a start of {whole:?}");
        let command = run();
        std::thread::sleep(moment);
        let supervisor = supervisor(&command.0, manifest);
        kill(supervisor.unwrap_or(command.0.id()));
        end_of(command);
        if supervisor.is_none() {
            // It was too early or too late, and it was the command that died: a supervisor may be there by now, and lives.
            lab.home.sandpod(&["rm", "-f", "-a"]).ends_with(0);
        }
        let left = vanished(|| [marked(MARK), marked(manifest)].concat());
        let shown: Vec<String> = left.iter().map(|pid| command_line(&pid.to_string())).collect();
        assert!(shown.is_empty(), "processes are left: {shown:?}; {why}");
        let inside = vanished(|| lab.trees().into_iter().flat_map(|tree| Cgroup(tree).pids()).collect());
        let shown: Vec<String> = inside.iter().map(|pid| format!("{pid} {}", command_line(&pid.to_string()))).collect();
        assert!(shown.is_empty(), "processes are left in cgroups: {shown:?}; {why}");
        // Killed before its record, it never was.
        if !lab.home.remains().is_empty() {
            lab.home.sandpod(&["rm", "crash"]).ends_with(0);
        }
        // systemd may make the scope that was asked for after the supervisor's death; the next pod takes it along.
        if !vanished(|| lab.trees()).is_empty() {
            lab.home.sandpod(&["run", "--rm", "-q", next]).ends_with(0);
        }
        lab.no_tree_stays(&why);
        assert_eq!(lab.home.remains(), Vec::<std::path::PathBuf>::new(), "{why}");
    }
}
