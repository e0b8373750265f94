//! From inside, nobody raises a limit: tried as root of a container, with more and more power, and compared outside.

use serde_json::{Value, json};

use crate::lab_support::support::{Pod, and, idle};
use crate::lab_support::{Cgroup, Lab, limits};

/// Tries every door to a cgroup file: the mount that is there, the same made writable, new mounts, other processes'
/// roots; at each door every cgroup that can be seen. Prints `ALLOWED what` for each that opened.
const ATTACK: &str = r#"
try() { if (eval "$2") >/dev/null 2>&1; then echo "ALLOWED $1"; fi; }
write() { # DIR NAME: every file that limits or moves, in DIR and below; above DIR there is no cgroup
  for file in $1/memory.max $1/memory.swap.max $1/cpu.max $1/pids.max $1/*/memory.max $1/*/cpu.max; do
    [ ! -e $file ] || try "$2: max into $file" "echo max >$file"
  done
  for file in $1/cgroup.subtree_control $1/*/cgroup.subtree_control; do
    [ ! -e $file ] || try "$2: $file" "echo -memory -pids -cpu >$file"
  done
}
mkdir -p /tmp/mnt
door() { # DIR NAME
  write $1 "$2"
  try "$2: remount" "mount -o remount,rw $1 || mount -o remount,bind,rw $1"
  write $1 "$2, remounted"
  # A cgroup below our own, from which our own is no longer the namespace's root (kernel cgroup-v2.rst, nsdelegate).
  try "$2: a child" "mkdir $1/child"
  sh -c "echo 0 >$1/child/cgroup.procs && exec unshare --cgroup sh -c 'echo max >$1/memory.max'" >/dev/null 2>&1 &&
    echo "ALLOWED $2: memory.max from a child"
  rmdir $1/child 2>/dev/null
}
door /sys/fs/cgroup 'the mount'
try 'a new mount' 'mount -t cgroup2 none /tmp/mnt' && door /tmp/mnt 'a new mount'
try 'the host by version 1' 'mount -t cgroup -o memory none /tmp/mnt'
umount /tmp/mnt 2>/dev/null
for pid in $(ls /proc | grep '^[0-9]*$'); do
  [ "$pid" = $$ ] || [ ! -e /proc/$pid/root/sys/fs/cgroup/memory.max ] || write /proc/$pid/root/sys/fs/cgroup "root of $pid"
  try "join $pid" "nsenter --target $pid --cgroup --mount sh -c 'mount -o remount,bind,rw /sys/fs/cgroup; echo max >/sys/fs/cgroup/memory.max'"
done
echo done
"#;

/// The attack with this much power over the container's namespaces.
fn attack(pod: &Pod, prefix: &[&str]) -> String {
    let said = pod.exec("attacker", &[prefix, &["sh", "-c", ATTACK]].concat());
    assert!(said.stdout.trim_end().ends_with("done"), "the attack itself failed: {}", said.explain());
    said.stdout
}

/// Whose `container/memory.max` and the like an attacker may reach: copies, which limit nothing (docs/decisions/0008).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copies {
    Own,
    /// Of all whose processes it may trace.
    All,
}

/// No limit changes, whatever the attacker does with what it has.
fn tried(lab: &Lab, userns: &str, security: &Value, shared: bool, reached: Copies) {
    let attacker = and(and(idle("attacker"), limits(&[("memory", "64Mi"), ("cpu", "500m")])), security.clone());
    let victim = and(idle("victim"), limits(&[("memory", "32Mi"), ("cpu", "250m")]));
    let spec = json!({ "containers": [victim, attacker], "shareProcessNamespace": shared, "terminationGracePeriodSeconds": 1 });
    let pod = lab.start_with(&json!({}), &spec, &["--userns", userns]);
    let tree = Cgroup::of(&pod);
    let own = Cgroup::of_container(&pod, "attacker").0.display().to_string();
    let before = tree.limits();
    assert!(before.len() > 10, "{before:?}");
    for prefix in [&[][..], &["unshare", "--user", "--map-root-user", "--mount", "--cgroup"]] {
        let opened = attack(&pod, prefix);
        let why = format!("userns {userns}, {security}, shared {shared}, {prefix:?}:\n{opened}");
        let copies = if reached == Copies::Own { format!("{own}/container/") } else { "/container/".to_owned() };
        let mut changed = changes(&before, &tree.limits());
        changed.retain(|line| !line.contains(&copies));
        assert_eq!(changed, Vec::<String>::new(), "{why}");
    }
    lab.home.sandpod(&["rm", "-f", &pod.name]).ends_with(0);
}

fn changes(before: &[String], after: &[String]) -> Vec<String> {
    let gone = before.iter().filter(|line| !after.contains(line)).map(|line| format!("- {line}"));
    let come = after.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(come).collect()
}

#[test]
fn as_root_with_default_capabilities() {
    let Some(lab) = Lab::enter("as_root_with_default_capabilities") else { return };
    // Of the four, these: who sees the victim's processes tries all that others can and more, and the other test does that
    // to an isolated pod with more power than this.
    for (userns, shared) in [("isolated", false), ("root-is-you", true)] {
        tried(&lab, userns, &json!({}), shared, Copies::Own);
    }
}

#[test]
fn as_root_that_may_mount() {
    let Some(lab) = Lab::enter("as_root_that_may_mount") else { return };
    let security =
        json!({ "securityContext": { "capabilities": { "add": ["SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE"] } } });
    // Where it sees the victim's processes it has all that it has elsewhere, and more.
    for userns in ["isolated", "root-is-you"] {
        tried(&lab, userns, &security, true, Copies::All);
    }
}
