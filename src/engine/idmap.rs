//! Writes `/proc/PID/{uid,gid}_map` of a process in a new user namespace (user_namespaces(7)).
//!
//! The caller keeps that process waiting meanwhile: until its maps are there it is nobody (the overflow ids).

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::failure::Failure;
use crate::plan::idmap::{IdMapPlan, MapEntry, MapWriter};
use crate::step::Step;
use crate::sys;
use crate::sys::process::PidFd;

/// They take about 1.5 ms; what takes longer than this hangs (a user database over a dead network, say).
const TOOL_DEADLINE: Duration = Duration::from_secs(10);
const STEP: Step = Step::WriteIdMaps;

/// Gives the user namespace of `pid`, a child of ours, its maps. Each can be written only once.
pub fn write_maps(pid: i32, map: &IdMapPlan) -> Result<(), Failure> {
    MapsInProgress::begin(pid, map)?.finish()
}

/// Maps that are being written while the caller does something else. Dropped, the tools are killed.
pub struct MapsInProgress {
    /// newuidmap and newgidmap; nothing where we wrote the maps ourselves.
    tools: Option<[Tool; 2]>,
    deadline: Instant,
}

impl MapsInProgress {
    pub fn begin(pid: i32, map: &IdMapPlan) -> Result<MapsInProgress, Failure> {
        let deadline = Instant::now() + TOOL_DEADLINE;
        let tools = match &map.writer {
            // Both at once: each is an exec of its own and together they are the largest single cost of a start.
            MapWriter::Tools { newuidmap, newgidmap } => {
                Some([Tool::start(newuidmap, pid, &map.uids)?, Tool::start(newgidmap, pid, &map.gids)?])
            }
            MapWriter::Privileged => {
                write_file(pid, "uid_map", &lines(&map.uids))?;
                write_file(pid, "gid_map", &lines(&map.gids))?;
                None
            }
            MapWriter::Direct => {
                // Without CAP_SETGID outside, the kernel takes a gid_map only once setgroups(2) is denied for good.
                write_file(pid, "setgroups", "deny")?;
                write_file(pid, "uid_map", &lines(&map.uids))?;
                write_file(pid, "gid_map", &lines(&map.gids))?;
                None
            }
        };
        Ok(MapsInProgress { tools, deadline })
    }

    /// Waits for the tools.
    pub fn finish(self) -> Result<(), Failure> {
        let Some([uids, gids]) = self.tools else { return Ok(()) };
        let uids = uids.finish(self.deadline);
        gids.finish(self.deadline).and(uids)
    }
}

fn lines(entries: &[MapEntry]) -> String {
    let line = |entry: &MapEntry| format!("{} {} {}\n", entry.inside.0, entry.outside.0, entry.count);
    entries.iter().map(line).collect()
}

/// In one write(2): the kernel refuses a map that comes in pieces.
pub(super) fn write_file(pid: impl std::fmt::Display, name: &str, text: &str) -> Result<(), Failure> {
    let path = format!("/proc/{pid}/{name}");
    let written =
        std::fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let call = format!("write({path}, {:?})", text.trim_end());
        Failure::of_call(STEP, call, error.raw_os_error().unwrap_or_default())
    })
}

/// A running `newuidmap` or `newgidmap`. Dropped, it is killed and reaped.
struct Tool {
    child: Child,
    /// As a reader would type it.
    command: String,
}

impl Tool {
    fn start(program: &Path, pid: i32, entries: &[MapEntry]) -> Result<Tool, Failure> {
        let numbers = entries.iter().flat_map(|entry| [entry.inside.0, entry.outside.0, entry.count]);
        let arguments: Vec<String> = std::iter::once(pid.to_string()).chain(numbers.map(|n| n.to_string())).collect();
        let name = program.file_name().unwrap_or(OsStr::new("?")).to_string_lossy();
        let command = format!("{name} {}", arguments.join(" "));
        let child = Command::new(program)
            .args(&arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| {
                let call = format!("execve({})", program.display());
                Failure::of_call(STEP, call, error.raw_os_error().unwrap_or_default())
            })?;
        Ok(Tool { child, command })
    }

    fn finish(mut self, deadline: Instant) -> Result<(), Failure> {
        let failed = |error: &sys::Error| Failure::new(STEP, "", error);
        let pidfd = PidFd::open(self.child.id().cast_signed()).map_err(|error| failed(&error))?;
        let left = deadline.saturating_duration_since(Instant::now());
        if !pidfd.wait_gone(left).map_err(|error| failed(&error))? {
            let sentence = format!("{}: no answer within {} s, killed", self.command, TOOL_DEADLINE.as_secs());
            return Err(Failure::because(STEP, "", sentence));
        }
        let status = self.child.wait().map_err(|error| {
            Failure::because(
                STEP,
                "",
                format!("{}: its exit status was lost: {}", self.command, sys::describe_io(&error)),
            )
        })?;
        if status.success() {
            return Ok(());
        }
        let said = self.stderr();
        let said = if said.is_empty() { status.to_string() } else { said };
        Err(Failure::because(STEP, "", format!("{}: {said}", self.command)))
    }

    /// What it said, in one line. Never waits: whoever inherited its stderr may hold it open for ever.
    fn stderr(&mut self) -> String {
        let mut bytes = [0; 4096];
        let Some(stderr) = &mut self.child.stderr else { return String::new() };
        let ready = sys::poll::readable(stderr.as_fd(), Duration::ZERO).unwrap_or(false);
        let count = if ready { stderr.read(&mut bytes).unwrap_or_default() } else { 0 };
        let text = String::from_utf8_lossy(&bytes[..count]);
        text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // A setuid program keeps our real uid, so that we may kill it (kill(2)). Both are no-ops once it was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::idmap::{ContainerId, HostId, UsernsMode};

    fn entry(inside: u32, outside: u32, count: u32) -> MapEntry {
        MapEntry { inside: ContainerId(inside), outside: HostId(outside), count }
    }

    fn plan(writer: MapWriter) -> IdMapPlan {
        let entries = vec![entry(0, 1000, 1), entry(1, 100_000, 65_536)];
        IdMapPlan { mode: UsernsMode::RootIsYou, why: String::new(), uids: entries.clone(), gids: entries, writer }
    }

    fn with_tool(script: &str) -> Result<(), Failure> {
        let dir = tempfile::tempdir().expect("a directory");
        let tool = dir.path().join("tool");
        // Written by another process: a test that forks in another thread would inherit our descriptor, and then nobody
        // can execute the file (ETXTBSY).
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
            .arg(&tool)
            .arg(script);
        assert!(shell.status().expect("sh runs").success());
        write_maps(7, &plan(MapWriter::Tools { newuidmap: tool.clone(), newgidmap: tool }))
    }

    #[test]
    fn a_map_is_one_line_per_entry() {
        assert_eq!(lines(&[entry(0, 1000, 1), entry(1, 100_000, 65_536)]), "0 1000 1\n1 100000 65536\n");
    }

    #[test]
    fn the_tools_get_the_pid_and_the_map() {
        assert_eq!(with_tool(r#"test "$*" = "7 0 1000 1 1 100000 65536""#), Ok(()));
    }

    #[test]
    fn a_failing_tool_is_quoted() {
        let failure = with_tool("echo 'uid range [0-1) not allowed' >&2; exit 1").expect_err("it fails");
        assert_eq!(failure.to_string(), "tool 7 0 1000 1 1 100000 65536: uid range [0-1) not allowed");
        let failure = with_tool("exit 3").expect_err("it fails");
        assert_eq!(failure.to_string(), "tool 7 0 1000 1 1 100000 65536: exit status: 3");
    }

    #[test]
    fn a_missing_tool_is_named() {
        let gone = Path::new("/nowhere/newuidmap").to_owned();
        let failure = write_maps(7, &plan(MapWriter::Tools { newuidmap: gone.clone(), newgidmap: gone }));
        assert_eq!(
            failure.expect_err("it is not there").to_string(),
            "execve(/nowhere/newuidmap): No such file or directory (ENOENT)"
        );
    }

    #[test]
    fn a_tool_that_hangs_is_killed_and_reaped_also_when_its_stderr_stays_open() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 2 & exec sleep 1000"]).stderr(Stdio::piped());
        let tool = Tool { child: command.spawn().expect("sh"), command: "tool".to_owned() };
        let pid = tool.child.id();
        let failure = tool.finish(Instant::now() + Duration::from_millis(50)).expect_err("it hangs");
        assert_eq!(failure.to_string(), "tool: no answer within 10 s, killed");
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "a zombie is left");
    }
}
