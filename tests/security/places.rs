//! Links in the place of sandpod's own files and directories: a container with a writable hostPath above them can put them
//! there at any moment. Nothing is written, read or removed where they lead.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::{Home, Pod, and, fingerprint, idle, sh, until};
use serde_json::json;

/// A directory of the user's, with a file in it for each name.
fn victim(home: &Home, names: &[&str]) -> (PathBuf, Vec<String>) {
    let top = home.directory("victim", 0o700);
    for name in names {
        home.file(&format!("victim/{name}"), "precious", 0o600);
    }
    let before = fingerprint(&top);
    (top, before)
}

fn place(pod: &Pod<'_>, top: &str) -> PathBuf {
    let id = pod.inspect()["id"].as_str().expect("an id").to_owned();
    pod.home.path().join(top).join("sandpod/pods").join(id)
}

/// Puts a link there, where something may be.
fn replace(path: &Path, target: &Path) {
    if fs::symlink_metadata(path).is_ok() {
        fs::rename(path, path.with_extension("aside")).expect("rename");
    }
    symlink(target, path).expect("symlink");
}

/// Back to what was there.
fn restore(path: &Path) {
    fs::remove_file(path).expect("unlink");
    fs::rename(path.with_extension("aside"), path).expect("rename");
}

#[test]
fn nothing_is_written_where_links_lead() {
    let Some(home) = Home::new("nothing_is_written") else { return };
    // Its first life fills the log, so that it is rotated; the second ends with a message.
    let script = "echo begins; while [ ! -e /go/on ]; do sleep 0.05; done; head -c 12000000 /dev/zero | tr '\\0' 'x' | fold -w 1000;
        echo $? > /dev/termination-log; exit 3";
    let container = and(sh("main", script), json!({ "volumeMounts": [{ "name": "go", "mountPath": "/go" }] }));
    let go = home.directory("go", 0o755);
    let volume = json!({ "name": "go", "hostPath": { "path": go } });
    let spec = json!({ "restartPolicy": "Never", "containers": [container], "volumes": [volume] });
    let pod = home.start(&spec);
    let (data, runtime) = (place(&pod, "share"), place(&pod, "run"));
    let (victim, before) = victim(&home, &["a", "b", "c", "d", "e", "f"]);
    until("it has begun", || pod.logs("main").contains("begins").then_some(()));
    for (path, file) in [
        (runtime.join("record.tmp"), "a"),
        (runtime.join("record.spare"), "b"),
        (data.join("plan.tmp"), "c"),
        (data.join("main.log"), "d"),
        (data.join("main.log.index.tmp"), "e"),
        (data.join("panic.txt"), "f"),
    ] {
        replace(&path, &victim.join(file));
    }
    home.file("go/on", "", 0o644);
    assert_eq!(home.sandpod(&["wait", &pod.name]).ends_with(0).stdout, "3\n");
    assert_eq!(fingerprint(&victim), before);
    pod.does(&["rm", "-f"]);
    assert_eq!(fingerprint(&victim), before);
}

#[test]
fn a_container_that_is_started_again_gets_nothing_that_links_lead_to() {
    let Some(home) = Home::new("started_again") else { return };
    for below in ["victim", "victim/docs", "victim/upper", "victim/root", "victim/layers", "victim/work"] {
        home.directory(below, 0o755);
    }
    let (victim, before) = victim(&home, &["docs/letter", "upper/file", "root/file", "layers/file", "work/file"]);
    let mounts = json!({ "volumeMounts": [{ "name": "docs", "mountPath": "/docs" }] });
    let main = and(sh("main", "cat /docs/letter; echo begun; sleep 1000"), mounts);
    let spec = json!({ "containers": [main], "volumes": [{ "name": "docs", "emptyDir": {} }] });
    for (name, pod) in [("volumes", "first"), ("main.root", "second")] {
        let pod = home.start_with(pod, &spec, &[]);
        until("it has begun", || pod.logs("main").contains("begun").then_some(()));
        let path = place(&pod, "share").join(name);
        replace(&path, &victim);
        pod.does(&["kill", "--signal", "KILL"]);
        let state = until("its start is refused", || {
            assert_eq!(pod.logs("main").matches("begun").count(), 1, "{name}: it was started again");
            let state = pod.recorded("main")["state"].to_string();
            state.contains("RunContainerError").then_some(state)
        });
        assert_eq!(fingerprint(&victim), before, "{name}: {state}");
        restore(&path);
        pod.does(&["rm", "-f"]);
        assert_eq!(fingerprint(&victim), before);
    }
}

#[test]
fn rm_removes_nothing_where_links_lead() {
    let Some(home) = Home::new("rm_and_links") else { return };
    let pod = home.start(&json!({ "containers": [idle("main")] }));
    let id = pod.inspect()["id"].as_str().expect("an id").to_owned();
    pod.does(&["stop"]);
    home.directory("victim", 0o700);
    home.directory(&format!("victim/{id}"), 0o700);
    let (victim, before) = victim(&home, &[&pod.name, &format!("{id}/letter")]);
    for directory in ["share/sandpod/pods", "share/sandpod/names", "run/sandpod/pods", "share/sandpod", "run/sandpod"] {
        let path = home.path().join(directory);
        let target = if directory.ends_with("sandpod") { home.directory("victim2", 0o700) } else { victim.clone() };
        replace(&path, &target);
        let _ = home.sandpod(&["rm", "-f", &pod.name]);
        assert_eq!(fingerprint(&victim), before, "{directory}");
        restore(&path);
    }
    home.sandpod(&["rm", "-f", &pod.name]);
    assert_eq!(fingerprint(&victim), before);
    let left = home.path().join("share/sandpod/pods").join(&id);
    assert!(!left.exists(), "{}", left.display());
}

/// What is in the place of a pod's directories or logs is neither read nor talked to.
#[test]
fn nothing_is_read_where_links_lead() {
    let Some(home) = Home::new("nothing_is_read") else { return };
    let pod = home.start(&json!({ "containers": [sh("main", "echo begun; exec sleep 1000")] }));
    until("it has begun", || pod.logs("main").contains("begun").then_some(()));
    let (data, runtime) = (place(&pod, "share"), place(&pod, "run"));
    let private = "2026-11-21T12:00:00.000000000Z stdout F precious\n";
    home.directory("victim", 0o700);
    home.file("victim/main.log", private, 0o600);

    for (path, target) in [(data.join("main.log"), "victim/main.log"), (data.clone(), "victim")] {
        replace(&path, &home.path().join(target));
        let said = home.sandpod(&["logs", &pod.name]);
        assert!(!said.stdout.contains("precious") && said.code != Some(0), "{}: {}", path.display(), said.explain());
        restore(&path);
    }
    // Also where it leads to the real one: what is behind it could be another one by now.
    for directory in [&runtime, &runtime.parent().expect("pods").to_owned()] {
        replace(directory, &directory.with_extension("aside"));
        let said = home.sandpod(&["exec", &pod.name, "--", "busybox", "true"]);
        assert_ne!(said.code, Some(0), "{}: {}", directory.display(), said.explain());
        restore(directory);
    }
    pod.exec("main", &["busybox", "true"]).ends_with(0);
}
