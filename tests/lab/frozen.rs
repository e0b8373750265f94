//! Who stands still, or cannot be brought to, holds up nobody else.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::lab_support::support::{Pod, Reaped, idle, is_live, until};
use crate::lab_support::{Cgroup, Lab, marked};

/// Waits for ever in a way that only SIGKILL ends: for a file system in user space (FUSE) that never answers.
const STUCK: &str = r#"
open(my $device, '+<', '/dev/fuse') or die "fuse: $!";
my ($none, $at, $kind) = ('none', '/mnt', 'fuse'); # syscall takes no constants
my $options = 'fd=' . fileno($device) . ',rootmode=40000,user_id=0,group_id=0';
syscall(165, $none, $at, $kind, 0, $options) == 0 or die "mount: $!";
$| = 1;
print "mounted\n";
stat('/mnt/file');
"#;

fn spawn(lab: &Lab, words: &[&str]) -> Child {
    let mut command = lab.home.command(words);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// A process of ours in a container's cgroup that no freezer catches.
fn stuck_in(lab: &Lab, leaf: &Cgroup) -> Reaped {
    let script =
        "echo 0 >$1/container/cgroup.procs; exec unshare --user --map-root-user --mount perl -e \"$2\" lab-stuck";
    let mut command = lab.home.program("sh", &["-c", script, "sh", leaf.0.to_str().expect("UTF-8"), STUCK]);
    let mut stuck = Reaped(command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("sh"));
    // Before that it may wait for a disk, and only for a moment.
    let mut word = String::new();
    let said = BufReader::new(stuck.0.stdout.take().expect("piped")).read_line(&mut word);
    assert_eq!((said.expect("read"), word.as_str()), (8, "mounted\n"));
    until("it waits for the file system", || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", stuck.0.id())).unwrap_or_default();
        status.contains("State:\tD").then_some(())
    });
    stuck
}

#[test]
fn a_pause_that_cannot_be_holds_up_nobody() {
    let Some(lab) = Lab::enter("a_pause_that_cannot_be_holds_up_nobody") else { return };
    let pod = lab.start(&json!({ "containers": [idle("main"), idle("other")] }));
    let leaf = Cgroup::of_container(&pod, "main");
    let stuck = stuck_in(&lab, &leaf);
    let start = Instant::now();
    let mut pause = spawn(&lab, &["pause", "-c", "main", &pod.name]);
    until("the freezer is at work", || (leaf.read("cgroup.freeze") == "1").then_some(()));
    // Meanwhile the pod answers, and does not start what would stand still.
    assert_eq!(pod.sh("other", "echo alive"), "alive");
    pod.exec("main", &["true"]).ends_with(125).complains("it is paused");
    assert!(pause.try_wait().expect("waitpid").is_none(), "the pause waits: {:?}", start.elapsed());
    // When the first is given up and thaws the container, the second learns why it cannot be paused.
    let second = spawn(&lab, &["pause", "-c", "main", &pod.name]);
    let said = pause.wait_with_output().expect("waitpid");
    let complaint = String::from_utf8_lossy(&said.stderr);
    assert!(said.status.code() == Some(125) && complaint.contains("`main` is not frozen"), "{complaint}");
    let second = second.wait_with_output().expect("waitpid");
    assert!(String::from_utf8_lossy(&second.stderr).contains("let go on meanwhile"), "{second:?}");
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    // All or nothing: it goes on.
    assert_eq!(leaf.read("cgroup.freeze"), "0");
    assert_eq!(pod.sh("main", "echo alive"), "alive");
    // Who lets it go on while somebody waits for it to stand still is heard at once.
    let pause = spawn(&lab, &["pause", &pod.name]);
    until("the freezer is at work", || (leaf.read("cgroup.freeze") == "1").then_some(()));
    pod.does(&["unpause"]);
    let said = pause.wait_with_output().expect("waitpid");
    assert!(String::from_utf8_lossy(&said.stderr).contains("let go on meanwhile"), "{said:?}");
    drop(stuck);
    pod.does(&["pause"]);
    assert_eq!(leaf.field("cgroup.events", "frozen"), 1);
}

/// Somebody else freezes a container, so that a command stands still on its way there: its first process has a copy of
/// all that the supervisor holds, the pod's lock too.
fn a_command_on_its_way(lab: &Lab, pod: &Pod) -> Child {
    let leaf = Cgroup::of_container(pod, "main");
    leaf.write("cgroup.freeze", "1").expect("we own it");
    until("it stands still", || (leaf.field("cgroup.events", "frozen") == 1).then_some(()));
    let before = leaf.pids().len();
    let command = spawn(lab, &["exec", "-c", "main", &pod.name, "--", "echo", "lab-frozen"]);
    until("the command is on its way", || (leaf.pids().len() > before).then_some(()));
    command
}

#[test]
fn a_command_that_stands_still_ends_with_the_pod() {
    let Some(lab) = Lab::enter("a_command_that_stands_still_ends_with_the_pod") else { return };
    for stopped in [false, true] {
        let pod = lab.start(&json!({ "containers": [idle("main"), idle("other")] }));
        let command = a_command_on_its_way(&lab, &pod);
        assert_eq!(pod.sh("other", "echo alive"), "alive");
        let supervisor = u32::try_from(pod.inspect()["supervisor"].as_u64().expect("it runs")).expect("a pid");
        if stopped {
            // Then `rm` has to do all of it by itself.
            let _ = std::process::Command::new("kill").args(["-STOP", &supervisor.to_string()]).status();
        }
        let start = Instant::now();
        pod.does(&["rm", "-f"]);
        let took = start.elapsed();
        eprintln!("rm -f of a frozen pod: {took:.1?}, supervisor stopped: {stopped}");
        assert!(took < Duration::from_secs(if stopped { 8 } else { 3 }), "{took:?}");
        assert!(!is_live(supervisor) && marked("lab-frozen").iter().all(|pid| *pid == command.id()), "{stopped}");
        let said = command.wait_with_output().expect("waitpid");
        assert_ne!(said.status.code(), Some(0), "{said:?}");
        assert_eq!(lab.trees(), Vec::<std::path::PathBuf>::new());
    }
}
