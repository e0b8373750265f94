//! Finding the delegated cgroup subtree on a real host: `scripts/test` runs this inside a guest (scripts/lab) with systemd
//! as pid 1, as an ordinary user in a scope with `Delegate=yes`. Elsewhere it skips.
//!
//! What each test asks for has to be seen by a process that is in the right cgroup or namespace, so this test binary runs
//! itself again and prints the facts as a line of JSON.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sandpod::host::{
    Asked, CgroupFacts, CgroupQuery, Delegation, Hierarchy, Membership, NoDelegation, NoSystemd, probe,
};

use crate::lab_support::in_a_session;

const PRINT: &str = "SANDPOD_TEST_PRINT_CGROUPS";
const BELOW: &str = "SANDPOD_TEST_CGROUP_PARENT";
const MARK: &str = "cgroups: ";
const MOUNT: &str = "/sys/fs/cgroup";

/// The other side of [`facts_in`]; a test without anything to test otherwise.
#[test]
fn print_what_is_found() {
    if std::env::var_os(PRINT).is_none() {
        return;
    }
    let cgroup = std::env::var_os(BELOW).map_or(CgroupQuery::Find, |path| CgroupQuery::Below(PathBuf::from(path)));
    let facts = probe(&Asked { cgroup, ..Asked::default() }).expect("there is a /proc");
    println!("\n{MARK}{}", serde_json::to_string(&facts.cgroup).expect("facts are JSON"));
}

/// The facts of a process that a shell script becomes: `exec "$@"` is its last line.
fn facts_in(script: &str, environment: &[(&str, &str)]) -> CgroupFacts {
    let output = Command::new("sh")
        .args(["-euc", &format!("{script}\nexec \"$@\""), "sh"])
        .arg(std::env::current_exe().expect("our path"))
        .args(["--exact", "delegation::print_what_is_found", "--nocapture"])
        .env(PRINT, "1")
        .envs(environment.iter().copied())
        .output()
        .expect("sh starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let json = text.lines().find_map(|line| line.strip_prefix(MARK)).unwrap_or_else(|| panic!("{text}{errors}"));
    serde_json::from_str(json).expect("facts come back from JSON")
}

fn here() -> CgroupFacts {
    facts_in("", &[])
}

fn uid() -> u32 {
    std::fs::metadata("/proc/self").expect("proc").uid()
}

/// The directory of our cgroup.
fn own() -> PathBuf {
    let text = std::fs::read_to_string("/proc/self/cgroup").expect("proc");
    let path = text.trim().strip_prefix("0::/").expect("cgroup2 alone");
    Path::new(MOUNT).join(path)
}

fn controllers(facts: &CgroupFacts) -> Vec<&str> {
    match &facts.delegation {
        Delegation::Directory { controllers, .. } | Delegation::SystemdScope { controllers } => {
            controllers.iter().map(String::as_str).collect()
        }
        Delegation::None(why) => panic!("{}", why.reason()),
    }
}

/// What the guest's user@.service delegates, as far as its kernel has it: User-Mode Linux has no cpuset.
fn delegated() -> Vec<String> {
    let all = std::fs::read_to_string(format!("{MOUNT}/cgroup.controllers")).expect("cgroup v2");
    let mut all: Vec<String> = all.split_whitespace().map(str::to_owned).collect();
    all.retain(|name| ["cpu", "cpuset", "io", "memory", "pids"].contains(&name.as_str()));
    all.sort();
    assert!(all.len() >= 4, "{all:?}");
    all
}

fn no_systemd(facts: CgroupFacts) -> NoSystemd {
    match facts.delegation {
        Delegation::None(NoDelegation::NotOurs { why_no_systemd, .. }) => why_no_systemd,
        other => panic!("{other:?}\n{:#?}", facts.passed_over),
    }
}

#[test]
fn an_occupied_scope_and_the_users_systemd() {
    if !in_a_session("an_occupied_scope_and_the_users_systemd") {
        return;
    }
    let facts = here();
    assert_eq!(facts.hierarchy, Hierarchy::Unified { mount: PathBuf::from(MOUNT) });
    assert_eq!(facts.own, Some(own()));
    assert!(matches!(facts.delegation, Delegation::SystemdScope { .. }), "{facts:#?}");
    assert_eq!(controllers(&facts), delegated());
    let scope = facts.passed_over.first().expect("our own");
    assert!(scope.candidate.ends_with(".scope") && scope.why.contains("other processes"), "{scope:?}");
    assert!(facts.passed_over.iter().any(|passed| passed.why.contains("to your systemd, not to you")), "{facts:#?}");
    // logind gives each user a TasksMax.
    let above = &facts.capacity.ancestors;
    assert!(
        above.iter().any(|one| one.pids_max.is_some() && one.path.ends_with(format!("user-{}.slice", uid()))),
        "{above:?}"
    );
    assert!(facts.capacity.memory_total > facts.capacity.memory_available);
}

#[test]
fn a_scope_that_is_ours_alone() {
    if !in_a_session("a_scope_that_is_ours_alone") {
        return;
    }
    let facts = facts_in("set -- systemd-run --user --scope -q -p Delegate=yes \"$@\"", &[]);
    let Delegation::Directory { path, ours: Membership::Inside, .. } = &facts.delegation else {
        panic!("{facts:#?}");
    };
    assert!(path.extension().is_some_and(|kind| kind == "scope"));
    assert_eq!(controllers(&facts), delegated());
    let undelegated = facts_in("set -- systemd-run --user --scope -q \"$@\"", &[]);
    assert!(matches!(undelegated.delegation, Delegation::SystemdScope { .. }));
    assert!(undelegated.passed_over[0].why.contains("no Delegate=yes"), "{:?}", undelegated.passed_over);
}

#[test]
fn a_leaf_of_ones_own() {
    if !in_a_session("a_leaf_of_ones_own") {
        return;
    }
    let leaf = own().join("leaf");
    let enter = format!("mkdir {0}; echo 0 >{0}/cgroup.procs", leaf.display());
    let facts = facts_in(&enter, &[]);
    let Delegation::Directory { path, ours, .. } = facts.delegation else { panic!("{facts:#?}") };
    assert_eq!((path, ours), (leaf.clone(), Membership::Inside));
    // The same asked for: the way there from our cgroup is below what is ours.
    let shown = leaf.to_str().expect("UTF-8");
    for typed in [shown, &shown[MOUNT.len()..]] {
        let asked = facts_in("", &[(BELOW, typed)]);
        let Delegation::Directory { path, ours: Membership::Outside, .. } = asked.delegation else {
            panic!("{asked:#?}");
        };
        assert_eq!(path, leaf);
    }
    std::fs::remove_dir(&leaf).expect("it is empty again");
}

#[test]
fn parents_that_cannot_be_had() {
    if !in_a_session("parents_that_cannot_be_had") {
        return;
    }
    let why = |path: &str| match facts_in("", &[(BELOW, path)]).delegation {
        Delegation::None(NoDelegation::Asked { why, .. }) => why,
        other => panic!("{path}: {other:?}"),
    };
    assert!(why("/nowhere").contains("no such cgroup"));
    assert!(why("/system.slice").contains("not yours"));
    assert!(why(&format!("/user.slice/user-{0}.slice/user@{0}.service", uid())).contains("to your systemd"));
    assert!(why(own().to_str().expect("UTF-8")).contains("other processes"));
}

/// What a shell of su(1) has: no XDG_RUNTIME_DIR.
#[test]
fn a_shell_without_a_session() {
    if !in_a_session("a_shell_without_a_session") {
        return;
    }
    // Our own scope would do as well, if it were not occupied; then it is the better answer.
    let Delegation::None(why) = facts_in("unset XDG_RUNTIME_DIR", &[]).delegation else { panic!("nobody to ask") };
    assert!(matches!(why, NoDelegation::Occupied { .. }), "{why:?}");
    let in_scope = |script: &str| {
        let again = format!("set -- systemd-run --user --scope -q sh -euc '{script}\nexec \"$@\"' sh \"$@\"");
        facts_in(&again, &[])
    };
    let runtime_dir = PathBuf::from(format!("/run/user/{}", uid()));
    assert_eq!(no_systemd(in_scope("unset XDG_RUNTIME_DIR")), NoSystemd::RuntimeDirUnset { runtime_dir });
    let elsewhere = PathBuf::from(format!("/run/user/{}", uid() + 1));
    let gone = format!("export XDG_RUNTIME_DIR={}", elsewhere.display());
    assert_eq!(no_systemd(in_scope(&gone)), NoSystemd::NotRunning { runtime_dir: elsewhere });
    // The fix, done.
    let fixed = in_scope(&format!("unset XDG_RUNTIME_DIR; export XDG_RUNTIME_DIR=/run/user/{}", uid()));
    assert!(matches!(fixed.delegation, Delegation::SystemdScope { .. }), "{fixed:#?}");
}

/// Typed as it is printed, in a delegated scope with two processes and nobody to ask.
#[test]
fn the_fix_for_an_occupied_cgroup() {
    if !in_a_session("the_fix_for_an_occupied_cgroup") {
        return;
    }
    let unit = "sandpod-lab-occupied.scope";
    let path = own().with_file_name(unit);
    let fix = NoDelegation::Occupied { path: path.clone(), pids: Vec::new() }.fix();
    let command = fix.split('`').nth(1).expect("a command");
    let in_scope = |script: &str| {
        let inner = format!("sleep 1000 >/dev/null 2>&1 & unset XDG_RUNTIME_DIR; {script}; \"$@\"; kill $!");
        let outer =
            format!("set -- systemd-run --user --scope -q --unit={unit} -p Delegate=yes sh -uc '{inner}' sh \"$@\"");
        facts_in(&outer, &[])
    };
    let facts = in_scope(":");
    let Delegation::None(NoDelegation::Occupied { path: found, pids }) = facts.delegation else { panic!("{facts:#?}") };
    assert_eq!((found, pids.len()), (path.clone(), 2));
    let facts = in_scope(command);
    let Delegation::Directory { path: found, ours: Membership::Outside, .. } = facts.delegation else {
        panic!("{facts:#?}")
    };
    assert_eq!(found, path);
}

#[test]
fn a_read_only_mount_and_a_cgroup_namespace() {
    if !in_a_session("a_read_only_mount_and_a_cgroup_namespace") {
        return;
    }
    let inside = |flags: &str, script: &str| {
        facts_in(&format!("set -- unshare {flags} sh -euc '{script}\nexec \"$@\"' sh \"$@\""), &[])
    };
    let facts = inside("-Ur --mount", "mount -o remount,bind,ro /sys/fs/cgroup");
    assert_eq!(
        facts.delegation,
        Delegation::None(NoDelegation::ReadOnly { mount: PathBuf::from(MOUNT), container: None }),
        "{:#?}",
        facts.passed_over
    );
    let facts = inside("-Ur --cgroup", "");
    assert_eq!(
        facts.delegation,
        Delegation::None(NoDelegation::OutOfSight { own: "/".to_owned(), mount: PathBuf::from(MOUNT) })
    );
    // The fix, done: the namespace's own part of the tree, mounted beside the other.
    let anew = "mount -t tmpfs none /mnt && mkdir /mnt/cg && mount -t cgroup2 none /mnt/cg";
    let facts = inside("-Ur --cgroup --mount", anew);
    assert_eq!(facts.own, Some(PathBuf::from("/mnt/cg")), "{facts:#?}");
    assert!(facts.passed_over.iter().any(|passed| passed.candidate.starts_with("/mnt/cg")), "{facts:#?}");
    // A user namespace changes who we are for ourselves, not for systemd.
    let facts = inside("-Ur", "");
    assert!(matches!(facts.delegation, Delegation::SystemdScope { .. }), "{facts:#?}");
    let facts = inside("-Ur --pid --fork --mount-proc", "");
    let why = facts.passed_over.iter().find(|passed| passed.candidate == "the user's systemd").expect("asked last");
    assert!(why.why.contains("another pid namespace"), "{why:?}");
}
