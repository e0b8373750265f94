//! `rm` where it cannot remove everything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::{Home, idle, is_live};
use serde_json::{Value, json};

fn spec() -> Value {
    json!({ "terminationGracePeriodSeconds": 0, "containers": [idle("main")] })
}

#[test]
fn rm_refuses_a_pod_whose_files_are_elsewhere() {
    let Some(home) = Home::new("rm_refuses_a_pod_whose_files_are_elsewhere") else { return };
    let other = home.directory("other", 0o700);
    let elsewhere = |arguments: &[&str]| {
        let mut command = home.command(arguments);
        command.env("XDG_DATA_HOME", &other);
        home.said(command, b"")
    };
    let pod = home.start_with("pod", &spec(), &["--network=none"]);
    let pid = pod.pid("main");
    let data = home.path().join("share");
    for force in ["-f", "-fa"] {
        let words: &[&str] = if force == "-f" { &["rm", force, "pod"] } else { &["rm", force] };
        let said = elsewhere(words).ends_with(125);
        assert!(said.stdout.is_empty(), "{}", said.explain());
        assert!(said.stderr.contains("its files are in another data directory"), "{}", said.explain());
        let hint = format!("`XDG_DATA_HOME={} sandpod rm -f pod`", data.display());
        assert!(said.stderr.contains(&hint), "{}", said.explain());
        assert!(is_live(pid), "it was killed, and its files were left");
    }
    home.sandpod(&["rm", "-f", "pod"]).ends_with(0);
}

#[test]
fn rm_that_cannot_remove_the_files_says_so_and_keeps_the_pod() {
    let Some(home) = Home::new("rm_that_cannot_remove_the_files") else { return };
    home.start_with("pod", &spec(), &["--network=none"]);
    let pods = home.path().join("share/sandpod/pods");
    let mode = |mode| fs::set_permissions(&pods, fs::Permissions::from_mode(mode)).expect("chmod");
    mode(0o500);
    let said = home.sandpod(&["rm", "-f", "pod"]).ends_with(125);
    mode(0o700);
    assert!(said.stdout.is_empty() && said.stderr.contains("could not remove"), "{}", said.explain());
    let listed = home.sandpod(&["ps", "-a", "-o", "name"]).ends_with(0).stdout;
    assert_eq!(listed, "pod\n");
    assert_eq!(home.sandpod(&["rm", "-f", "pod"]).ends_with(0).stdout, "pod\n");
    assert_eq!(home.remains(), Vec::<std::path::PathBuf>::new());
}
