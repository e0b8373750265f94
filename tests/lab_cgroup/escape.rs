//! From inside, nobody raises a limit: tried as root of a container, with more and more power, and compared outside.

use serde_json::{Value, json};

use crate::lab_support::support::{Pod, and, idle};
use crate::lab_support::{Cgroup, Lab, limits};

/// Tries every door to a cgroup file: the mount that is there, the same made writable, new mounts, other processes'
/// roots; at each door every cgroup that can be seen. Prints `ALLOWED what` for each that opened.
const ATTACK: &str = r#"
try() { if sh -c "$2" >/dev/null 2>&1; then echo "ALLOWED $1"; fi; }
write() { # DIR: every file that limits or moves, in DIR, above and below
  for file in $(find $1/.. $1 -maxdepth 2 \( -name memory.max -o -name memory.swap.max -o -name cpu.max -o -name pids.max \) 2>/dev/null); do
    try "$2: max into $file" "echo max >$file"
  done
  for file in $(find $1/.. $1 -maxdepth 2 -name cgroup.subtree_control 2>/dev/null); do
    try "$2: $file" "echo -memory -pids -cpu >$file"
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

/// The tree's limits without what the attacker may do with what it already has: nothing of it changes them.
fn tried(lab: &Lab, userns: &str, security: &Value, shared: bool) {
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
        let (ours, others): (Vec<_>, Vec<_>) =
            changes(&before, &tree.limits()).into_iter().partition(|line| line.contains(&own));
        assert_eq!(others, Vec::<String>::new(), "limits of others were changed; {why}");
        // The copies in the cgroup that it sees are its to change, and limit nothing (docs/decisions/0008).
        let copies = format!("{own}/container/");
        let ours: Vec<String> = ours.into_iter().filter(|line| !line.contains(&copies)).collect();
        assert_eq!(ours, Vec::<String>::new(), "its own limits were changed; {why}");
        let stayed = pod.sh("victim", "busybox cat /sys/fs/cgroup/memory.max");
        assert_eq!(stayed, (32 << 20).to_string(), "{why}");
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
    for userns in ["isolated", "root-is-you"] {
        for shared in [false, true] {
            tried(&lab, userns, &json!({}), shared);
        }
    }
}

#[test]
fn as_root_that_may_mount() {
    let Some(lab) = Lab::enter("as_root_that_may_mount") else { return };
    let security =
        json!({ "securityContext": { "capabilities": { "add": ["SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE"] } } });
    for userns in ["isolated", "root-is-you"] {
        for shared in [false, true] {
            tried(&lab, userns, &security, shared);
        }
    }
}
