use std::path::PathBuf;

use super::*;

/// One of each, and what its two texts must say.
fn all() -> Vec<(NoDelegation, &'static str, &'static str)> {
    let mount = || PathBuf::from("/sys/fs/cgroup");
    let run = || PathBuf::from("/run/user/1000");
    let in_v1 = || ["cpu", "memory"].map(str::to_owned).into();
    let read_only = |container| NoDelegation::ReadOnly { mount: mount(), container };
    let not_ours = |why| NoDelegation::NotOurs { own: PathBuf::from("/sys/fs/cgroup/a.scope"), why_no_systemd: why };
    let other_init = |container| not_ours(NoSystemd::OtherInit { container });
    vec![
        (NoDelegation::NotMounted, "no cgroup file system", "sudo mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
        (NoDelegation::Version1, "version 1", "systemd.unified_cgroup_hierarchy=1"),
        (NoDelegation::Hybrid { in_v1: in_v1() }, "controllers cpu, memory", "systemd.unified_cgroup_hierarchy=1"),
        (read_only(None), "/sys/fs/cgroup is mounted read-only", "remount,rw /sys/fs/cgroup"),
        (read_only(Some(Container::Docker)), "a Docker container", "--security-opt writable-cgroups=true"),
        (read_only(Some(Container::Podman)), "a Podman container", "--security-opt unmask=/sys/fs/cgroup"),
        (read_only(Some(Container::Kubernetes)), "a Kubernetes pod", "cgroup_writable = true"),
        (read_only(Some(Container::Sandpod)), "a sandpod pod", "outer"),
        (NoDelegation::OutOfSight { own: "/".to_owned(), mount: mount() }, "`/` in /proc/self", "mount -t cgroup2"),
        (not_ours(NoSystemd::RuntimeDirUnset { runtime_dir: run() }), "su(1)", "XDG_RUNTIME_DIR=/run/user/1000`"),
        (not_ours(NoSystemd::NotRunning { runtime_dir: run() }), "/run/user/1000/bus", "loginctl enable-linger"),
        (not_ours(NoSystemd::NoBus { runtime_dir: run() }), "no user's bus", "dbus-user-session"),
        (not_ours(NoSystemd::NoBusctl), "busctl(1) is not", "part of systemd"),
        (not_ours(NoSystemd::OtherPidNamespace { pid1: "sh".to_owned() }), "pid 1 here is `sh`", "outside"),
        (not_ours(NoSystemd::OutOfSight { unit: "user@7.service".to_owned() }), "user@7.service", "outside"),
        (other_init(None), "not the init here", "cgroup.subtree_control"),
        (other_init(Some(Container::Docker)), "a Docker container", "the container's root"),
        (
            NoDelegation::Occupied { path: mount().join("my tests"), pids: vec![7, 8] },
            "(7, 8)",
            "cd '/sys/fs/cgroup/my tests' ",
        ),
        (
            NoDelegation::Asked { path: mount().join("x"), why: "because".to_owned() },
            "--cgroup-parent /sys/fs/cgroup/x: because",
            "yours",
        ),
    ]
}

#[test]
fn each_says_what_and_what_to_do() {
    for (why, reason, fix) in all() {
        assert!(why.reason().contains(reason), "{why:?}: {}", why.reason());
        assert!(why.fix().contains(fix), "{why:?}: {}", why.fix());
    }
}

#[test]
fn no_two_say_the_same_and_none_is_a_sentence_of_its_own() {
    let reasons: BTreeSet<String> = all().iter().map(|(why, ..)| why.reason()).collect();
    assert_eq!(reasons.len(), all().len());
    for (why, ..) in all() {
        for text in [why.reason(), why.fix()] {
            // Both become parts of a longer line.
            assert!(!text.ends_with('.') && !text.contains('\n') && !text.contains("  "), "{text}");
            assert_eq!(text.matches('`').count() % 2, 0, "{text}");
        }
    }
}
