//! Processes, as /proc knows them.

use std::fs;
use std::process::Child;

/// True while a process has memory. A dead one without (a zombie, or one that waits for its pid namespace to be
/// reaped) is none that runs.
pub(crate) fn is_live(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.contains("VmRSS") && !status.contains("State:\tZ")
}

/// A field of /proc/PID/status: `VmRSS`, in kB.
pub(crate) fn memory_kb(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Kills and reaps at the end of a test, whatever happened.
pub(crate) struct Reaped(pub(crate) Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
