//! The whole of sandpod on another kernel: `scripts/test` runs this inside a guest (scripts/lab) with Debian 12's kernel,
//! systemd as pid 1 and a login session of an ordinary user. Elsewhere it skips.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::lab_support::in_a_session;
use crate::lab_support::support::until;

fn home() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").expect("a user has a home"))
}

fn sandpod(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandpod")).args(words).output().expect("sandpod starts")
}

/// Stdout of a command that must succeed.
fn says(words: &[&str]) -> String {
    let output = sandpod(words);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{words:?}: {}\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

#[test]
fn the_example_with_nginx() {
    if !in_a_session("the_example_with_nginx") {
        return;
    }
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/nginx-busybox.yaml");
    says(&["run", "-d", example]);
    let page = ["exec", "-c", "busybox", "nginx-busybox", "--", "busybox", "wget", "-qO-", "localhost"];
    until("the page", || sandpod(&page).status.success().then_some(()));
    assert!(says(&page).contains("Hello"));
    let processes = says(&["exec", "-c", "busybox", "nginx-busybox", "--", "busybox", "ps"]);
    assert!(processes.contains("nginx: master") && processes.contains("pause"), "{processes}");
    let log = says(&["exec", "-c", "busybox", "nginx-busybox", "--", "cat", "/var/log/nginx/access.log"]);
    assert!(log.contains("GET / HTTP"), "{log}");
    says(&["rm", "-f", "nginx-busybox"]);
    assert!(!says(&["ps", "-a"]).contains("nginx-busybox"));
}

/// Overlayfs in a user namespace (`userxattr`, `volatile`), with directories that are replaced.
#[test]
fn a_root_file_system_of_ones_own() {
    if !in_a_session("a_root_file_system_of_ones_own") {
        return;
    }
    let root = home().join("lab-root");
    std::fs::create_dir_all(root.join("bin")).expect("mkdir");
    std::fs::create_dir_all(root.join("d/sub")).expect("mkdir");
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let image = format!("rootfs:{}", root.display());
    let script = "busybox rm -r /d && busybox mkdir /d && echo new > /d/f && busybox cat /d/f && busybox ls /d";
    let said = says(&["run", "--rm", "-q", "--image", &image, "--", "busybox", "sh", "-c", script]);
    assert_eq!(said, "new\nf\n");
    assert!(root.join("d/sub").is_dir(), "the directory itself is never written to");
    std::fs::remove_dir_all(root).expect("rm");
}

#[test]
fn each_id_map() {
    if !in_a_session("each_id_map") {
        return;
    }
    for userns in ["root-is-you", "isolated", "single"] {
        let said = says(&["run", "--rm", "-q", "--userns", userns, "--image", "host:", "--", "id", "-u"]);
        assert_eq!(said, "0\n", "{userns}");
    }
}

#[test]
fn a_killed_supervisor_takes_the_pod_along() {
    if !in_a_session("a_killed_supervisor_takes_the_pod_along") {
        return;
    }
    let words =
        ["run", "-d", "-q", "--name", "lab-kill", "--image", "host:", "--", "sh", "-c", "sleep 4321 & sleep 4321"];
    says(&words);
    let inspected: serde_json::Value = serde_json::from_str(&says(&["inspect", "lab-kill"])).expect("JSON");
    let supervisor = inspected["supervisor"].as_u64().expect("it runs").to_string();
    assert!(Command::new("kill").args(["-9", &supervisor]).status().expect("kill").success());
    let sleeps = || Command::new("pgrep").args(["-f", "sleep 4321"]).status().expect("pgrep").success();
    until("every process is gone", || (!sleeps()).then_some(()));
    assert!(says(&["ps", "-a"]).contains("Failed"));
    says(&["rm", "lab-kill"]);
}
