//! Processes as `/proc` shows them: command line, parent, namespaces.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

/// The directory entries of `/proc/PID/ns` that say which namespaces a process is in (namespaces(7)), the owner of the
/// others first.
pub const NAMESPACES: [&str; 7] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"];

/// Enough to know a process by; a command line can have megabytes.
const MOST_OF_COMMAND: u64 = 4096;

/// The number in `net:[4026531840]`; `None` where the link may not be read (ptrace access mode, proc_pid_ns(5)).
#[must_use]
pub fn namespace(pid: i32, kind: &str) -> Option<u64> {
    let target = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    target.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

/// Who is killed first when memory runs out (proc_pid_oom_score_adj(5)), as it is now.
#[must_use]
pub fn oom_score_adj(pid: i32) -> Option<i32> {
    fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).ok()?.trim_end().parse().ok()
}

/// Its name, which it may change itself (proc_pid_comm(5)).
#[must_use]
pub fn name(pid: i32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

/// The program that it executes (proc_pid_exe(5)).
///
/// # Errors
/// EACCES of a process that may not be looked into.
pub fn program(pid: i32) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe"))
}

/// Its arguments with blanks between them, or `[name]` for one without; `None`: it has gone. A fork of a supervisor has that
/// one's arguments, and a name of its own (`sandpod:ports`).
#[must_use]
pub fn command(pid: i32) -> Option<String> {
    let mut line = Vec::new();
    fs::File::open(format!("/proc/{pid}/cmdline")).ok()?.take(MOST_OF_COMMAND).read_to_end(&mut line).ok()?;
    if line.iter().all(|byte| *byte == 0) {
        // A zombie, or a process that has cleared its arguments.
        return Some(format!("[{}]", name(pid)?));
    }
    if let Some(fork) = name(pid).filter(|name| name.starts_with("sandpod:")) {
        return Some(fork);
    }
    let text = String::from_utf8_lossy(&line);
    Some(text.trim_end_matches('\0').replace('\0', " "))
}

/// Every process that is no zombie, and its parent.
#[must_use]
pub fn parents() -> BTreeMap<i32, i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| Some((pid, parent(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

/// Field 4 of proc_pid_stat(5), unless field 3 says that the process has ended. The command name (field 2) may hold
/// blanks and parentheses: count from its last `)`.
fn parent(stat: &str) -> Option<i32> {
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.next()?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespaces_have_numbers() {
        let me = std::process::id().cast_signed();
        for kind in NAMESPACES {
            assert!(namespace(me, kind).is_some_and(|inode| inode > 0), "{kind}");
        }
    }

    #[test]
    fn we_have_a_parent_and_a_command() {
        let me = std::process::id().cast_signed();
        assert_eq!(parents().get(&me), Some(&std::os::unix::process::parent_id().cast_signed()));
        let program = std::env::args().next().expect("a program has a name");
        assert!(command(me).expect("we run").starts_with(&program));
        assert_eq!(command(i32::MAX), None);
    }

    #[test]
    fn our_score_is_one_of_the_kernels() {
        assert!(oom_score_adj(std::process::id().cast_signed()).is_some_and(|score| (-1000..=1000).contains(&score)));
        assert_eq!(oom_score_adj(i32::MAX), None);
    }

    #[test]
    fn the_parent_of_an_oddly_named_process() {
        assert_eq!(parent("42 (a) Z 1 (b)) S 7 42 42 0 -1"), Some(7));
        assert_eq!(parent("42 (sh) Z 7 42 42 0 -1"), None);
    }
}
