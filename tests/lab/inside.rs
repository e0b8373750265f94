//! Cgroups that a container makes below its own, where root is you: they change nothing for others, and go with it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::lab_support::support::{Pod, idle, until};
use crate::lab_support::{Cgroup, Lab};

/// Becomes root of a user namespace with the container's whole map, and of a cgroup namespace, with cgroup2 on /tmp/mnt:
/// a container's own mount is read-only. Its argument is a script for there.
const ENTER: &str = r#"
unlink '/tmp/mapped'; unlink '/tmp/ready';
sub there { for (1 .. 1000) { return if -e $_[0]; select(undef, undef, undef, 0.02) } die "no $_[0]" }
sub make { open(my $file, '>', $_[0]) or die "$_[0]: $!"; print $file $_[1] // ''; close($file) or die "$_[0]: $!" }
mkdir '/tmp/mnt';
my $child = fork;
if (!$child) {
  syscall(272, 0x10000000 | 0x20000 | 0x2000000) == 0 or die "unshare: $!";
  make('/tmp/ready'); there('/tmp/mapped');
  exec 'sh', '-euc', "mount -t cgroup2 none /tmp/mnt && cd /tmp/mnt\n$ARGV[0]";
}
there('/tmp/ready');
# Each line within one of the container's own map (user_namespaces(7)).
make("/proc/$child/${_}_map", "0 0 1\n1 1 60000\n") for qw(uid gid);
make('/tmp/mapped'); waitpid($child, 0); exit($? >> 8);
"#;

/// As many as it may make, as deep as it may; some closed, some another user's.
const MANY: &str = r#"
mkdir -p other/below && mkdir other/below/deep && chmod 700 other/below && chown -R 1000:1000 other && chmod 0 other
mkdir -p closed/in && chmod 0 closed/in closed
d=.; while mkdir $d/x 2>/dev/null; do d=$d/x; done
mkdir $(seq -f y%g 400) 2>/dev/null || :
echo $d $(ls -d y* | wc -l)
"#;

/// Every process goes to a child, and the container's own cgroup then takes none.
const NO_PLACE: &str = r#"
mkdir child; for pid in $(cat cgroup.procs); do echo $pid >child/cgroup.procs 2>/dev/null || :; done
echo +pids >cgroup.subtree_control; cat cgroup.subtree_control
"#;

fn inside(pod: &Pod, script: &str) -> String {
    pod.exec("main", &["perl", "-e", ENTER, script]).ends_with(0).stdout
}

fn start(lab: &Lab) -> Pod<'_> {
    let spec: Value = json!({ "containers": [idle("other"), idle("main")], "terminationGracePeriodSeconds": 1 });
    lab.start_with(&json!({}), &spec, &["--userns", "root-is-you"])
}

/// Waits for another life of the container, whose leaf it gives.
fn next_life(pod: &Pod, before: &Path) -> PathBuf {
    until("its next life", || {
        let runs = pod.inspect()["containers"]["main"]["pid"].is_u64();
        let leaf = Cgroup::of_container(pod, "main").0;
        (runs && leaf != before).then_some(leaf)
    })
}

#[test]
fn many_and_deep_ones_go_with_the_container() {
    let Some(lab) = Lab::enter("many_and_deep_ones_go_with_the_container") else { return };
    let fill = |pod: &Pod| {
        let said = inside(pod, MANY);
        // The bounds of `cgroup.max.depth` and `cgroup.max.descendants`, its own among them.
        let (deepest, broad) = said.trim().split_once(' ').expect("two words");
        assert_eq!(deepest.matches('x').count(), 7, "{said}");
        assert_eq!(broad.parse::<usize>().expect("a number"), 256 - 1 - 3 - 2 - 7, "{said}");
    };
    let pod = start(&lab);
    fill(&pod);
    let first = Cgroup::of_container(&pod, "main").0;
    pod.does(&["kill", "-c", "main"]);
    let second = next_life(&pod, &first);
    assert!(!first.exists(), "the first life's: {}", pod.logs("main"));
    fill(&pod);
    pod.does(&["stop"]);
    pod.does(&["rm"]);
    assert!(!second.exists());
    lab.no_tree_stays("stop and rm");
    let pod = start(&lab);
    fill(&pod);
    pod.does(&["rm", "-f"]);
    assert_eq!(lab.trees(), Vec::<PathBuf>::new(), "rm -f");
}

/// `exec` has nowhere to go, and says so; nobody else notices, and the next life is as new.
#[test]
fn one_that_takes_no_process() {
    let Some(lab) = Lab::enter("one_that_takes_no_process") else { return };
    let pod = start(&lab);
    let supervisors = || Cgroup(PathBuf::from(format!("{}.supervisor", Cgroup::of(&pod).0.display()))).pids();
    let before = supervisors();
    assert!(!before.is_empty());
    assert_eq!(inside(&pod, NO_PLACE).trim(), "pids");
    let refused = pod.exec("main", &["true"]).ends_with(125);
    refused.complains("takes no further process");
    assert_eq!(supervisors(), before, "it is the supervisor's child that failed, and it has gone");
    assert_eq!(pod.sh("other", "echo alive"), "alive");
    assert_eq!(pod.restarts("main"), 0);
    let first = Cgroup::of_container(&pod, "main").0;
    pod.does(&["kill", "-c", "main"]);
    next_life(&pod, &first);
    assert_eq!(pod.sh("main", "echo again"), "again");
    assert_eq!(inside(&pod, NO_PLACE).trim(), "pids");
    pod.does(&["rm", "-f"]);
    assert_eq!(lab.trees(), Vec::<PathBuf>::new());
}

/// The supervisor has the file open since before the container could touch it.
#[test]
fn one_whose_files_are_closed() {
    let Some(lab) = Lab::enter("one_whose_files_are_closed") else { return };
    let pod = start(&lab);
    inside(&pod, "chmod 0 cgroup.procs cgroup.kill cgroup.events cgroup.freeze; chmod 0 .");
    assert_eq!(pod.sh("main", "echo alive"), "alive");
    pod.does(&["pause", "-c", "main"]);
    pod.does(&["unpause", "-c", "main"]);
    let first = Cgroup::of_container(&pod, "main").0;
    pod.does(&["kill", "-c", "main"]);
    next_life(&pod, &first);
    assert!(!first.exists(), "the first life's: {}", pod.logs("main"));
    inside(&pod, "chmod 0 cgroup.procs; chmod 0 .");
    pod.does(&["rm", "-f"]);
    assert_eq!(lab.trees(), Vec::<PathBuf>::new());
}
