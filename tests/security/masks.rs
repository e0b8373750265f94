//! What a container sees of the kernel: masks that nothing in a root file system or a volume takes away, and mounts that
//! allow no more than they have to.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::{Home, and, busybox_root, idle, once, sh};
use serde_json::{Value, json};

/// A container on `rootfs:` that says `ran`, with the emptyDir `v` at `mount_path`.
fn on_root(root: &std::path::Path, mount_path: Option<&str>) -> Value {
    let mounts: Vec<Value> = mount_path.iter().map(|path| json!({ "name": "v", "mountPath": path })).collect();
    let main = json!({ "name": "main", "image": format!("rootfs:{}", root.display()),
        "command": ["/bin/busybox", "sh", "-c", "echo ran; cat /proc/keys"], "volumeMounts": mounts });
    and(once([main]), json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }))
}

/// CVE-2019-16884, CVE-2019-19921: a link in the image carries a volume over /proc, and masks and sysctls become fakes.
#[test]
fn a_link_in_the_root_carries_no_volume_over_the_kernels_mounts() {
    let Some(home) = Home::new("a_link_carries_no_volume") else { return };
    let targets = [
        "/proc",
        "/proc/sys",
        "/proc/keys",
        "proc",
        "../../proc/self/..",
        "/sys",
        "/sys/fs/cgroup",
        "/sys/kernel/x/y",
        "/dev",
        "/dev/pts",
        "/dev/shm",
        "/dev/new",
        "/",
        ".",
        "again",
    ];
    for (number, target) in targets.into_iter().enumerate() {
        let root = busybox_root(&home, &format!("root-{number}"));
        symlink(target, root.join("data")).expect("symlink");
        symlink("proc", root.join("again")).expect("symlink");
        for userns in ["root-is-you", "isolated"] {
            let said = home.run_with(&on_root(&root, Some("/data")), &["--userns", userns]);
            let said = said.ends_with(125).complains("symbolic link");
            assert_eq!(said.stdout, "", "{target}: it ran");
        }
    }
    // A link elsewhere is followed, as always.
    let root = busybox_root(&home, "root-run");
    home.directory("root-run/run", 0o755);
    symlink("/run", root.join("data")).expect("symlink");
    home.run_with(&on_root(&root, Some("/data/below")), &["--userns", "root-is-you"]).ends_with(0).says("ran\n");
}

/// A /proc, /sys or /dev of the image that is a link: what we mount there would be somewhere else, and its own be used.
#[test]
fn a_root_whose_proc_is_a_link_is_refused() {
    let Some(home) = Home::new("a_root_whose_proc") else { return };
    for name in ["proc", "sys", "dev"] {
        let root = busybox_root(&home, &format!("root-{name}"));
        home.directory(&format!("root-{name}/fake"), 0o755);
        symlink("/fake", root.join(name)).expect("symlink");
        let said = home.run_with(&on_root(&root, None), &["--userns", "root-is-you"]).ends_with(125);
        let said = said.complains(&format!("/{name}, or a directory on the way to it, is a symbolic link"));
        assert_eq!(said.stdout, "");
    }
}

/// CVE-2025-31133: masks come from the host's null device, whatever is at the container's /dev/null.
#[test]
fn masks_do_not_come_from_the_containers_dev_null() {
    let Some(home) = Home::new("masks_do_not_come") else { return };
    let fake = home.file("fake", "a fake\n", 0o666);
    let script = "cat /dev/null; for f in /proc/keys /proc/kcore /proc/timer_list; do [ ! -e $f ] || { stat -c %F $f; cat $f; }; done";
    let main = and(sh("main", script), json!({ "volumeMounts": [{ "name": "n", "mountPath": "/dev/null" }] }));
    let volumes = json!({ "volumes": [{ "name": "n", "hostPath": { "path": fake, "type": "File" } }] });
    let said = home.run(&and(once([main]), volumes)).ends_with(0);
    let mut lines = said.stdout.lines();
    assert_eq!(lines.next(), Some("a fake"), "the manifest asks for it there, and there alone");
    let rest: Vec<_> = lines.collect();
    assert!(!rest.is_empty() && rest.iter().all(|line| *line == "character special file"), "{}", said.explain());
}

/// What manifests legitimately mount near the kernel's file systems: node-exporter's hostPaths of /proc and /sys, shared memory,
/// a single device.
#[test]
fn volumes_beside_the_kernels_mounts_stay_possible() {
    let Some(home) = Home::new("volumes_beside") else { return };
    let mounts = json!([
        { "name": "proc", "mountPath": "/host/proc", "readOnly": true },
        { "name": "sys", "mountPath": "/host/sys", "readOnly": true },
        { "name": "shm", "mountPath": "/dev/shm" },
        { "name": "zero", "mountPath": "/dev/random" },
        { "name": "shm", "mountPath": "/dev/deep/er" },
    ]);
    let volumes = json!({ "volumes": [
        { "name": "proc", "hostPath": { "path": "/proc" } },
        { "name": "sys", "hostPath": { "path": "/sys" } },
        { "name": "shm", "emptyDir": { "medium": "Memory" } },
        { "name": "zero", "hostPath": { "path": "/dev/zero" } },
    ] });
    let script =
        "test -d /host/proc/1 && test -d /host/sys/kernel && echo seen; echo x > /dev/shm/x; cat /dev/deep/er/x
        head -c 1 /dev/random | od -An -tx1";
    let main = and(sh("main", script), json!({ "volumeMounts": mounts }));
    home.run(&and(once([main]), volumes)).ends_with(0).says("seen\nx\n 00\n");
}

/// Of what a container does not need to know of the host, nothing is shown.
#[test]
fn the_host_is_masked() {
    let Some(home) = Home::new("the_host_is_masked") else { return };
    let files = ["/proc/cmdline", "/proc/config.gz", "/proc/kallsyms", "/sys/kernel/notes", "/sys/kernel/vmcoreinfo"];
    let directories = ["/sys/dev/block", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/slab"];
    let script = "for f in $FILES; do [ ! -e $f ] || { echo $f; head -c 100 $f; }; done
        for d in $DIRECTORIES; do [ ! -e $d ] || { echo $d; ls -A $d; }; done";
    let env = json!([
        { "name": "FILES", "value": files.join(" ") },
        { "name": "DIRECTORIES", "value": directories.join(" ") },
    ]);
    let said = home.run(&once([and(sh("main", script), json!({ "env": env }))])).ends_with(0);
    let there = |path: &&&str| fs::symlink_metadata(path).is_ok();
    let expected: Vec<&str> = files.iter().chain(&directories).filter(there).copied().collect();
    assert_eq!(said.stdout.lines().collect::<Vec<_>>(), expected);
    assert!(expected.contains(&"/proc/cmdline"));
}

/// (mount point, options) of each mount, as mountinfo has them (proc_pid_mountinfo(5)).
fn options(mountinfo: &str) -> Vec<(String, Vec<String>)> {
    let words = mountinfo.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    words.map(|words| (words[4].to_owned(), words[5].split(',').map(str::to_owned).collect())).collect()
}

/// Set-user-id programs count only where allowPrivilegeEscalation says so; /dev/shm holds no programs unless a volume is there.
#[test]
fn mounts_allow_no_more_than_they_have_to() {
    let Some(home) = Home::new("mounts_allow") else { return };
    let host = home.directory("host", 0o755);
    let volumes = json!([
        { "name": "v", "emptyDir": {} },
        { "name": "m", "emptyDir": { "medium": "Memory" } },
        { "name": "h", "hostPath": { "path": host } },
    ]);
    let mounts = ["v", "m", "h"].map(|name| json!({ "name": name, "mountPath": format!("/{name}") }));
    let root = busybox_root(&home, "root-fs");
    let image = format!("rootfs:{}", root.display());
    for image in ["host:", &image] {
        let main = json!({ "name": "main", "image": image, "command": ["/bin/busybox", "cat", "/proc/self/mountinfo"],
            "volumeMounts": mounts });
        let spec = and(once([main.clone()]), json!({ "volumes": volumes }));
        let said = home.run_with(&spec, &["--userns", "root-is-you"]).ends_with(0);
        for (place, options) in options(&said.stdout) {
            assert!(options.contains(&"nosuid".to_owned()), "{image}: {place} {options:?}");
            assert!(place != "/dev/shm" || options.contains(&"noexec".to_owned()), "{options:?}");
        }
        let escalates = and(main, json!({ "securityContext": { "allowPrivilegeEscalation": true } }));
        let spec = and(once([escalates]), json!({ "volumes": volumes }));
        let said = home.run_with(&spec, &["--userns", "root-is-you"]).ends_with(0);
        let (_, root) = options(&said.stdout).into_iter().find(|(place, _)| place == "/").expect("a root");
        assert!(!root.contains(&"nosuid".to_owned()), "{root:?}");
    }
    let shared = and(idle("main"), json!({ "volumeMounts": [{ "name": "m", "mountPath": "/dev/shm" }] }));
    let pod = home.start(&json!({ "containers": [shared], "volumes": volumes }));
    assert_eq!(pod.sh("main", "cp /bin/busybox /dev/shm/busybox && /dev/shm/busybox echo runs"), "runs");
}

/// pause holds no right of the pod's, and cannot be traced by a container that has more than it.
#[test]
fn pause_has_no_capabilities() {
    let Some(home) = Home::new("pause_has_no_capabilities") else { return };
    let pod = home.start(&json!({ "shareProcessNamespace": true, "containers": [idle("main")] }));
    let pause = pod.inspect()["pause"]["pid"].as_u64().expect("a pid");
    let status = fs::read_to_string(format!("/proc/{pause}/status")).expect("it runs");
    let found: Vec<_> =
        status.lines().filter(|l| ["Cap", "NoNewPrivs", "Seccomp:"].iter().any(|start| l.starts_with(start))).collect();
    let none = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(|set| format!("{set}:\t0000000000000000"));
    assert_eq!(found, none.iter().map(String::as_str).chain(["NoNewPrivs:\t1", "Seccomp:\t2"]).collect::<Vec<_>>());
    // Not dumpable: its directory in /proc belongs to root of the pod's user namespace, and only CAP_SYS_PTRACE there opens it.
    let said = pod.sh("main", "readlink /proc/1/exe || echo closed");
    assert_eq!(said, "closed");
}
