//! What containers see of files, whose they are, and what they can change.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt as _};
use std::os::unix::net::UnixListener;

use crate::support::{Home, and, busybox_root, fingerprint, idle, is_root, once, sh};
use serde_json::{Value, json};

fn mounts(container: Value, mounts: Value) -> Value {
    and(container, json!({ "volumeMounts": mounts }))
}

#[test]
fn volumes_in_memory_are_shared_and_bounded() {
    let Some(home) = Home::new("volumes_in_memory") else { return };
    let volume = json!([{ "name": "v", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }]);
    let one = mounts(idle("one"), json!([{ "name": "v", "mountPath": "/v" }]));
    let two = mounts(idle("two"), json!([{ "name": "v", "mountPath": "/deep/er/v", "readOnly": true }]));
    let pod = home.start(&json!({ "volumes": volume, "containers": [one, two] }));
    pod.sh("one", "echo hello > /v/file");
    assert_eq!(pod.sh("two", "cat /deep/er/v/file"), "hello");
    pod.exec("two", &["busybox", "touch", "/deep/er/v/no"]).ends_with(1).complains("Read-only file system");
    let full = pod.exec("one", &["busybox", "dd", "if=/dev/zero", "of=/v/big", "bs=64k", "count=17"]);
    full.ends_with(1).complains("No space left on device");
    assert_eq!(pod.sh("one", "busybox stat -c %a /v; busybox stat -f -c %T /v"), "777\ntmpfs");
}

#[test]
fn volumes_on_disk() {
    let Some(home) = Home::new("volumes_on_disk") else { return };
    let volumes = json!([{ "name": "v", "emptyDir": {} }]);
    let mount = json!([{ "name": "v", "mountPath": "/v" }]);
    let user = json!({ "securityContext": { "runAsUser": 1000, "runAsGroup": 1000 } });
    let one = mounts(and(idle("one"), user), mount.clone());
    let two = mounts(idle("two"), mount);
    let pod = home.start(&json!({ "volumes": volumes, "containers": [one, two] }));
    assert_eq!(pod.sh("two", "busybox stat -c %a /v"), "777");
    pod.sh("one", "echo mine > /v/file");
    assert_eq!(pod.sh("two", "busybox stat -c %u:%g /v/file; cat /v/file"), "1000:1000\nmine");
}

/// runAsUser writes closed directories into volumes and the root; `rm` of an ordinary user removes them all.
#[test]
fn rm_removes_what_subordinate_ids_own() {
    let Some(home) = Home::new("rm_removes") else { return };
    let dig = "mkdir -p $d/a/b && touch $d/a/b/c && chmod 0 $d/a/b && chmod 700 $d/a && mkdir -m 0 $d/z";
    let script = format!("for d in /v /tmp /var/tmp; do {dig} || exit 1; done");
    let one = and(sh("one", &script), json!({ "securityContext": { "runAsUser": 1000, "runAsGroup": 2000 } }));
    let one = mounts(one, json!([{ "name": "v", "mountPath": "/v" }]));
    let spec = and(once([one]), json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }));
    for userns in ["root-is-you", "isolated"] {
        let pod = home.start_with("rm-removes", &spec, &["--userns", userns]);
        home.sandpod(&["wait", &pod.name]).ends_with(0).says("0\n");
        assert_eq!(home.remains().len(), 2, "runtime and data directory");
        pod.does(&["rm"]);
        assert!(home.remains().is_empty(), "{:?}", home.remains());
    }
}

#[test]
fn host_paths_of_every_type() {
    let Some(home) = Home::new("host_paths") else { return };
    home.directory("dir", 0o755);
    home.file("dir/file", "from the host", 0o644);
    let _listener = UnixListener::bind(home.path().join("socket")).expect("bind");
    let path = |name: &str| home.path().join(name).to_str().expect("UTF-8").to_owned();
    let spec = |path: &str, kind: &str, script: &str, read_only: bool| {
        let mount = json!([{ "name": "v", "mountPath": "/v", "readOnly": read_only }]);
        let volumes = json!([{ "name": "v", "hostPath": { "path": path, "type": kind } }]);
        and(once([mounts(sh("main", script), mount)]), json!({ "volumes": volumes }))
    };
    let works = [
        ("dir", "Directory", "cat /v/file"),
        ("dir", "", "cat /v/file"),
        ("dir", "DirectoryOrCreate", "cat /v/file"),
        ("dir/file", "File", "cat /v"),
        ("dir/file", "FileOrCreate", "cat /v"),
        ("dir/file", "", "cat /v"),
        ("new/deep/dir", "DirectoryOrCreate", "touch /v/made && echo from the host"),
        ("new/file", "FileOrCreate", "echo from the host > /v; cat /v"),
        ("socket", "Socket", "[ -S /v ] && echo from the host"),
    ];
    for (name, kind, script) in works {
        let said = home.run(&spec(&path(name), kind, script, false)).ends_with(0);
        assert_eq!(said.stdout.trim(), "from the host", "{name} {kind}: {}", said.explain());
    }
    let device = spec("/dev/null", "CharDevice", "[ -c /v ] && echo x > /v && echo done", false);
    let said = home.run(&device);
    assert!(said.code == Some(0) || said.stdout.is_empty(), "{}", said.explain());
    for (name, kind) in [
        ("dir", "File"),
        ("dir/file", "Directory"),
        ("dir/file", "DirectoryOrCreate"),
        ("dir", "FileOrCreate"),
        ("dir/file", "Socket"),
        ("dir/file", "BlockDevice"),
        ("dir/file", "CharDevice"),
        ("missing", "Directory"),
        ("missing", "File"),
        ("missing", "Socket"),
        ("missing", ""),
        ("missing/dir/file", "FileOrCreate"),
    ] {
        let said = home.run(&spec(&path(name), kind, "true", false)).ends_with(125);
        assert_eq!(said.stdout, "");
        said.complains("volume `v`: hostPath ").complains(&path(name));
        assert!(home.remains().is_empty(), "{name} {kind} left {:?}", home.remains());
        assert!(!home.path().join("missing").exists(), "{name} {kind}");
    }
    // Written with your own id (root-is-you), and not at all where it is read-only.
    assert_eq!(fs::metadata(home.path().join("new/deep/dir/made")).expect("made").uid(), home.user.uid);
    let said = home.run(&spec(&path("dir"), "Directory", "echo no > /v/file", true));
    said.ends_with(1).complains("Read-only file system");
    let said = home.run(&spec(&path("dir/file"), "File", "echo no > /v", true));
    said.ends_with(1).complains("Read-only file system");
    assert_eq!(fs::read_to_string(home.path().join("dir/file")).expect("read"), "from the host");
}

/// Whose files they are outside, for each map.
#[test]
fn owners_outside() {
    let Some(home) = Home::new("owners_outside") else { return };
    let root = busybox_root(&home, "root-fs");
    let image = format!("rootfs:{}", root.display());
    let (user, script) = (home.user.clone(), "echo x > /v/root; echo x > /v/user; chown 1000:1000 /v/user || :");
    let container = json!({ "name": "main", "image": image, "command": ["/bin/busybox", "sh", "-c", script] });
    let container = mounts(container, json!([{ "name": "v", "mountPath": "/v" }]));
    let spec = and(once([container]), json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }));
    for (mode, root, other) in [
        ("root-is-you", (user.uid, user.gid), (user.subuid + 999, user.subgid + 999)),
        ("isolated", (user.subuid, user.subgid), (user.subuid + 1000, user.subgid + 1000)),
        ("single", (user.uid, user.gid), (user.uid, user.gid)),
    ] {
        let pod = home.start_with("owners-outside", &spec, &["--userns", mode]);
        home.sandpod(&["wait", &pod.name]).ends_with(0).says("0\n");
        let data = pod.inspect()["dirs"]["data"].as_str().expect("a path").to_owned();
        let owner = |name: &str| {
            // The directories above are 0700 and the user's: only root and the user get through.
            let found = fs::metadata(format!("{data}/volumes/v/{name}")).expect("stat");
            (found.uid(), found.gid())
        };
        assert_eq!((owner("root"), owner("user")), (root, other), "{mode}");
        pod.does(&["rm"]);
    }
}

/// As `debootstrap` by root below a umask of 077 leaves it.
#[test]
fn a_root_file_system_that_is_closed_to_the_pod_is_named() {
    let Some(home) = Home::new("a_closed_rootfs") else { return };
    let root = busybox_root(&home, "root-fs");
    fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).expect("chmod");
    // Yours is closed to the subordinate ids; one that only root can make is closed to everybody.
    let mut modes = vec!["isolated"];
    if is_root() {
        std::os::unix::fs::chown(&root, Some(0), Some(0)).expect("chown");
        modes.extend(["root-is-you", "single"]);
    }
    let image = format!("rootfs:{}", root.display());
    let container = json!({ "name": "main", "image": image, "command": ["/bin/busybox", "true"] });
    for mode in modes {
        let said = home.run_with(&once([container.clone()]), &["--userns", mode]).ends_with(125);
        said.complains("Permission denied (EACCES)").complains("hint: the root directory is closed to the pod's ids");
    }
}

#[test]
fn a_root_file_system_is_never_changed() {
    let Some(home) = Home::new("a_rootfs_is_never_changed") else { return };
    let root = busybox_root(&home, "root-fs");
    let before = fingerprint(&root);
    let image = format!("rootfs:{}", root.display());
    let script =
        "echo x > /etc/passwd; rm /bin/sh; mkdir /made; chmod 777 /root; touch /root/new; cat /etc/group; exit 3";
    let container = json!({ "name": "main", "image": image, "command": ["/bin/busybox", "sh", "-c", script] });
    let container = mounts(container, json!([{ "name": "v", "mountPath": "/new-place" }]));
    let spec = and(once([container]), json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }));
    for mode in ["root-is-you", "isolated", "single"] {
        home.run_with(&spec, &["--userns", mode]).ends_with(3).says("more:x:3000");
        assert_eq!(fingerprint(&root), before, "{mode}");
    }
    // `host:` is copy-on-write as well.
    let said = home.script("for f in /etc/sandpod-test /usr/sandpod-test; do echo x > $f && ls $f; done");
    assert_eq!(said, "/etc/sandpod-test\n/usr/sandpod-test\n");
    for name in ["/etc/sandpod-test", "/usr/sandpod-test"] {
        assert!(!std::path::Path::new(name).exists(), "{name}");
    }
}

/// overlayfs marks a layer that is mounted without syncs; we take the mark away and the layer works on.
#[test]
fn a_layer_has_no_mark_of_its_volatile_mount() {
    let Some(home) = Home::new("a_layer_has_no_mark") else { return };
    let pod = home.start_with("no-mark", &json!({ "containers": [idle("main")] }), &["--userns", "root-is-you"]);
    let layers = home.path().join("share/sandpod/pods");
    let find = |what: &str| {
        let script = format!("find {} {what}", layers.display());
        home.said(home.program("/bin/sh", &["-c", &script]), b"").ends_with(0).stdout
    };
    // They have mode 000.
    let opened = find("-path '*/work/work' -prune -exec chmod 700 {} + -print");
    assert!(!opened.is_empty());
    crate::support::until("no mark", || find("-name incompat").is_empty().then_some(()));
    assert_eq!(pod.sh("main", "echo x > /usr/new && cat /usr/new"), "x");
}

#[test]
fn a_restart_begins_afresh() {
    let Some(home) = Home::new("a_restart_begins_afresh") else { return };
    let script = "[ -e /v/second ] || { touch /v/second /tmp/left /etc/left; exit 1; }
        ls /tmp /etc/left 2>&1; exec sleep 1000";
    let main = mounts(sh("main", script), json!([{ "name": "v", "mountPath": "/v" }]));
    let pod = home.start(&json!({ "volumes": [{ "name": "v", "emptyDir": {} }], "containers": [main] }));
    let logged = crate::support::until("the second life", || {
        Some(pod.logs("main")).filter(|text| text.contains("No such file"))
    });
    assert!(!logged.lines().any(|line| line == "left"), "{logged}");
    assert_eq!(pod.restarts("main"), 1);
}

#[test]
fn a_read_only_root() {
    let Some(home) = Home::new("a_read_only_root") else { return };
    let script =
        "for f in /x /etc/x /usr/x /etc/hosts /tmp/x; do (echo x > $f) 2>/dev/null && echo \"$f is writable\"; done
        echo x > /v/x && echo x > /dev/shm/x && echo x > /dev/null && echo done";
    let main = and(sh("main", script), json!({ "securityContext": { "readOnlyRootFilesystem": true } }));
    let main = mounts(main, json!([{ "name": "v", "mountPath": "/v" }]));
    let spec = and(once([main]), json!({ "volumes": [{ "name": "v", "emptyDir": {} }] }));
    assert_eq!(home.run(&spec).ends_with(0).stdout, "done\n");
}

#[test]
fn the_devices_of_a_container() {
    let Some(home) = Home::new("the_devices") else { return };
    let listed = home.script("cd /dev && for f in *; do echo \"$f $(busybox stat -c '%F' $f)\"; done");
    let listed: Vec<_> = listed.lines().collect();
    let expected = [
        "core symbolic link",
        "fd symbolic link",
        "full character special file",
        "mqueue directory",
        "null character special file",
        "ptmx symbolic link",
        "pts directory",
        "random character special file",
        "shm directory",
        "stderr symbolic link",
        "stdin symbolic link",
        "stdout symbolic link",
        "termination-log regular empty file",
        "tty character special file",
        "urandom character special file",
        "zero character special file",
    ];
    assert_eq!(listed, expected);
    let works = home.script(
        "echo x > /dev/null; head -c 3 /dev/zero | wc -c; head -c 5 /dev/urandom | wc -c; echo x > /dev/full || :
         echo out > /dev/stdout; echo err > /dev/stderr; ls /dev/pts; busybox stat -f -c %T /sys /proc /dev/mqueue
         touch /sys/x 2>/dev/null || echo read-only",
    );
    let works: Vec<_> = works.split_whitespace().collect();
    assert_eq!(works[..4], ["3", "5", "out", "ptmx"], "{works:?}");
    assert_eq!(works.last(), Some(&"read-only"));
}

#[test]
fn only_three_descriptors_and_a_session_of_ones_own() {
    let Some(home) = Home::new("only_three_descriptors") else { return };
    // Ours leak into sandpod on purpose; a lock held by one must be free as soon as `run -d` has returned.
    let lock = home.file("lock", "", 0o644);
    let manifest = home.manifest(&json!({ "containers": [idle("main")] }));
    let script = format!(
        "exec 7<>{} && flock -n 7 && exec 8</etc 9<{} && {} run -d -q {}",
        lock.display(),
        home.path().display(),
        env!("CARGO_BIN_EXE_sandpod"),
        manifest.display()
    );
    home.said(home.program("/bin/sh", &["-c", &script]), b"").ends_with(0);
    let free = format!("exec 7<>{} && flock -n 7", lock.display());
    home.said(home.program("/bin/sh", &["-c", &free]), b"").ends_with(0);
    let pod = crate::support::Pod { home: &home, name: home.test.clone() };
    assert_eq!(pod.sh("main", "ls /proc/1/fd").split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"]);
    // The listing's own descriptor is the fourth.
    assert_eq!(pod.exec("main", &["busybox", "ls", "/proc/self/fd"]).stdout.lines().count(), 4);
    // pid, pgrp and session are one (proc_pid_stat(5), fields 1, 5, 6).
    assert_eq!(pod.sh("main", "cut -d' ' -f1,5,6,7 /proc/1/stat"), "1 1 1 0");
    let supervisor = pod.inspect()["supervisor"].as_u64().expect("it runs");
    if is_root() {
        for entry in fs::read_dir(format!("/proc/{supervisor}/fd")).expect("fds") {
            let target = fs::read_link(entry.expect("entry").path()).expect("readlink");
            assert!(!target.ends_with("lock") || target.starts_with(home.path().join("run")), "{}", target.display());
        }
    }
}
