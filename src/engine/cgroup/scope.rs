//! A transient scope of the user's systemd: the one way to a delegated cgroup for a process in a login session, whose own
//! cgroup belongs to root (systemd.scope(5), <https://systemd.io/CGROUP_DELEGATION>).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{CGROUP2, STEP};
use crate::engine::failure::{Failure, Result};

/// For systemd to do what it has agreed to; it takes a few milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);

/// Puts the calling process into a scope of this name and gives the scope's directory.
///
/// By busctl(1), since a D-Bus library would be larger than sandpod. `CollectMode` lets systemd forget the unit when its
/// last process has gone, however that ended.
pub(super) fn enter(unit: &str, pod: &str) -> Result<PathBuf> {
    let before = super::file::own()?;
    // Not `--user`: that follows DBUS_SESSION_BUS_ADDRESS, which may lead elsewhere.
    let runtime_dir = std::env::var("XDG_RUNTIME_DIR").unwrap_or_default();
    let bus = format!("--address=unix:path={runtime_dir}/bus");
    let pid = std::process::id().to_string();
    let description = format!("sandpod pod {pod}");
    let call = [
        &bus,
        "--quiet",
        "call",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "StartTransientUnit",
        "ssa(sv)a(sa(sv))",
        unit,
        "fail",
        "4",
        "PIDs",
        "au",
        "1",
        &pid,
        "Delegate",
        "b",
        "true",
        "CollectMode",
        "s",
        "inactive-or-failed",
        "Description",
        "s",
        &description,
        "0",
    ];
    let failed = |why: String| Failure::because(STEP, format!("scope {unit} of your systemd"), why);
    let output = Command::new("busctl").args(call).stdin(Stdio::null()).output();
    let output =
        output.map_err(|error| failed(format!("could not run busctl: {}", crate::sys::describe_io(&error))))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("busctl: {}: {}", output.status, said.trim())));
    }
    // The answer is a job; it is done when we are there.
    let deadline = Instant::now() + DEADLINE;
    loop {
        let now = super::file::own()?;
        if now != before && now.ends_with(unit) {
            return Ok(Path::new(CGROUP2).join(now.strip_prefix("/").unwrap_or(&now)));
        }
        if Instant::now() >= deadline {
            return Err(failed(format!(
                "not there after {} s: see `systemctl --user status {unit}`",
                DEADLINE.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
