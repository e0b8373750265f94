//! This test executable as a program inside a pod. It is static, so it runs on any root.
//!
//! A file that uses this has a test that does nothing unless [`role`] names something to do.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Home;

const ROLE: &str = "SANDPOD_TEST_ROLE";
/// Before each line of the program's own, among those of the test harness.
const MARK: &str = "@ ";

/// What this process is to do; `None` where it is an ordinary test run.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Says a line that [`said_inside`] finds.
pub(crate) fn say(line: &str) {
    println!("\n{MARK}{line}");
}

/// The lines of a program's output that [`say`] has made.
pub(crate) fn said_inside(stdout: &str) -> Vec<&str> {
    stdout.lines().filter_map(|line| line.strip_prefix(MARK)).collect()
}

/// A directory with this executable in it, for a hostPath.
pub(crate) fn directory(home: &Home) -> PathBuf {
    let directory = home.directory("inside", 0o755);
    let bytes = std::fs::read(std::env::current_exe().expect("our own path")).expect("read");
    home.file("inside/program", bytes, 0o755);
    directory
}

/// The command line that runs the test `test` of this executable as `role` in a container that has the directory at /inside.
pub(crate) fn command(test: &str, role: &str) -> [String; 7] {
    let words =
        ["/usr/bin/env", &format!("{ROLE}={role}"), "/inside/program", "--exact", test, "--nocapture", "--quiet"];
    words.map(str::to_owned)
}

/// The volume and the mount of that directory.
pub(crate) fn volume(home: &Home) -> (Value, Value) {
    let directory = directory(home);
    (
        json!({ "name": "inside", "hostPath": { "path": directory } }),
        json!({ "name": "inside", "mountPath": "/inside" }),
    )
}
