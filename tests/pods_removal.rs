//! `rm` beside another `rm`, and where it cannot remove everything.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

mod cli_support;
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use support::{Home, idle, is_live};

fn spec() -> Value {
    json!({ "terminationGracePeriodSeconds": 0, "containers": [idle("main")] })
}

#[test]
fn several_rm_at_once_all_succeed() {
    let home = cli_support::Home::new();
    for round in 0..5 {
        for number in 0..40 {
            drop(home.pod(&format!("{round:02}{number:010}"), &format!("pod-{number}"), &["main"]));
        }
        let commands: Vec<_> = (0..4)
            .map(|_| {
                let mut command = home.command(&["rm", "-f", "-a"]);
                command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
                command.spawn().expect("it starts")
            })
            .collect();
        for command in commands {
            let said = cli_support::Said::from("rm -f -a".to_owned(), command.wait_with_output().expect("wait"));
            said.ends_with(0);
        }
        for directory in [home.runtime().join("pods"), home.data().join("pods"), home.data().join("names")] {
            assert_eq!(fs::read_dir(&directory).expect("readdir").count(), 0, "{}", directory.display());
        }
    }
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
