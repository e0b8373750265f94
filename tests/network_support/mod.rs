//! What the tests of a pod's network share.

#![allow(dead_code, reason = "each test executable uses its part")]

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::{Home, Pod, is_live, skip};

pub(crate) const BACKENDS: [&str; 2] = ["slirp4netns", "pasta"];

/// A home where pods can have a network; `None` after a SKIP.
pub(crate) fn connected(test: &str, backend: &str) -> Option<Home> {
    let home = Home::with(test, &[backend])?;
    let opened = home.said(home.program("/bin/sh", &["-c", ": <>/dev/net/tun"]), b"");
    if opened.code != Some(0) {
        skip(test, "the user cannot open /dev/net/tun");
        return None;
    }
    Some(home)
}

/// For a PATH with neither slirp4netns nor pasta in it.
pub(crate) fn only_newuidmap(home: &Home) -> PathBuf {
    let programs = home.directory("programs", 0o755);
    for name in ["newuidmap", "newgidmap"] {
        std::os::unix::fs::symlink(format!("/usr/bin/{name}"), programs.join(name)).expect("symlink");
    }
    programs
}

pub(crate) fn record(pod: &Pod<'_>) -> Value {
    pod.inspect()["record"]["network"].clone()
}

/// Processes of this program that belong to the network of this pod: they name the pid of its pause.
pub(crate) fn of_pod(program: &str, pause: u64) -> Vec<u32> {
    let listed = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let named = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        let is_program = words.first().is_some_and(|first| first.ends_with(program.as_bytes()));
        is_program && words.contains(&pause.to_string().as_bytes())
    };
    pids.filter(named).filter(|pid| is_live(*pid)).collect()
}

pub(crate) fn pause(pod: &Pod<'_>) -> u64 {
    pod.inspect()["pause"]["pid"].as_u64().expect("pause")
}
