//! Processes by identity: a pid alone may have been given to somebody else by now.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::error::{Named, last};
use super::{Error, Result};

/// A process that cannot be confused with a later one of the same pid: pid and start time (field 22 of
/// `/proc/PID/stat`, clock ticks since boot; proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    pub pid: i32,
    pub start_time: u64,
}

impl ProcessId {
    /// The identity of a process that exists now, zombies included.
    #[must_use]
    pub fn of(pid: i32) -> Option<ProcessId> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(ProcessId { pid, start_time: parse_stat(&stat)?.1 })
    }

    #[must_use]
    pub fn of_self() -> Option<ProcessId> {
        ProcessId::of(std::process::id().cast_signed())
    }

    /// True while this very process runs; a zombie no longer does.
    #[must_use]
    pub fn is_alive(self) -> bool {
        std::fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .ok()
            .and_then(|stat| parse_stat(&stat))
            .is_some_and(|(state, start_time)| start_time == self.start_time && state != 'Z' && state != 'X')
    }

    /// True when it has gone, is on its way out (PF_EXITING of linux/sched.h), or has been killed and does not know yet: of
    /// the first process of a pid namespace, that the kernel ends all others in it.
    #[must_use]
    pub fn is_ending(self) -> bool {
        const PF_EXITING: u64 = 4;
        const KILLED: u64 = 1 << (libc::SIGKILL - 1);
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.pid));
        // Before the flags: a fatal signal to the whole process stays pending until the process is a zombie.
        let status = read("status").unwrap_or_default();
        let Ok(stat) = read("stat") else { return true };
        if parse_stat(&stat).is_none_or(|(state, start_time)| start_time != self.start_time || state == 'Z') {
            return true;
        }
        // Field 9, the seventh behind the command name (proc_pid_stat(5)).
        let flags = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(6)?.parse().ok());
        // Of the thread, and of the process (proc_pid_status(5)).
        let is_killed = |line: &str| {
            let pending = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"));
            pending.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).is_some_and(|bits| bits & KILLED != 0)
        };
        flags.is_some_and(|flags: u64| flags & PF_EXITING != 0) || status.lines().any(is_killed)
    }

    /// The pid of its parent now; `None` when it is gone.
    #[must_use]
    pub fn parent(self) -> Option<i32> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).ok()?;
        let (_, start_time) = parse_stat(&stat)?;
        // Field 4, the second behind the command name.
        let parent = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
        (start_time == self.start_time).then_some(parent)
    }

    /// A pidfd of this very process; `None` when it is gone or its pid is somebody else's now.
    pub fn open(self) -> Result<Option<PidFd>> {
        match PidFd::open(self.pid) {
            // Opened first, compared second: what the pidfd refers to can no longer change under us.
            Ok(fd) if self.is_alive() => Ok(Some(fd)),
            Ok(_) => Ok(None),
            // EINVAL: the number lives on only as that of a session or of a process group.
            Err(error) if matches!(error.errno, nix::errno::Errno::ESRCH | nix::errno::Errno::EINVAL) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// State letter and start time. The command name (field 2) may hold spaces and parentheses: count from its last `)`.
fn parse_stat(stat: &str) -> Option<(char, u64)> {
    let rest = stat.get(stat.rfind(')')? + 2..)?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// pidfd_open(2).
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    pub fn open(pid: i32) -> Result<PidFd> {
        let call = || format!("pidfd_open({pid})");
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let Ok(fd @ 0..) = i32::try_from(fd) else { return Err(last(call)) };
        // SAFETY: the kernel has just given us this descriptor and nobody else owns it.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Its pid as the mounted /proc counts; -1 when it has been reaped, 0 when it is not seen there (proc_pid_fdinfo(5)).
    pub fn pid(&self) -> Result<i32> {
        let path = format!("/proc/self/fdinfo/{}", self.0.as_raw_fd());
        let text = std::fs::read_to_string(&path).named(|| format!("read({path})"))?;
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
        pid.ok_or_else(|| Error { call: format!("read({path})"), errno: nix::errno::Errno::EINVAL })
    }

    /// pidfd_send_signal(2); a process that has gone in between is no error.
    pub fn signal(&self, signal: i32) -> Result<()> {
        // SAFETY: a null siginfo is allowed (the kernel fills it in as kill(2) does); the other arguments are integers.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if rc == 0 {
            return Ok(());
        }
        let error = last(|| format!("pidfd_send_signal({})", signal_name(signal)));
        if error.errno == nix::errno::Errno::ESRCH { Ok(()) } else { Err(error) }
    }

    /// Waits until the process has ended (a pidfd polls readable then). False: the time ran out.
    pub fn wait_gone(&self, timeout: std::time::Duration) -> Result<bool> {
        super::poll::readable(self.as_fd(), timeout)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for PidFd {
    /// `fd` must be a pidfd, as clone3 gives it.
    fn from(fd: OwnedFd) -> PidFd {
        PidFd(fd)
    }
}

impl From<PidFd> for OwnedFd {
    fn from(fd: PidFd) -> OwnedFd {
        fd.0
    }
}

/// `SIGTERM` of 15; the number where it has no name.
#[must_use]
pub fn signal_name(signal: i32) -> String {
    Signal::try_from(signal).map_or_else(|_| signal.to_string(), |signal| signal.as_str().to_owned())
}

/// 15 of `SIGTERM`, `TERM`, `term` or `15`; `None` for what is no signal. Real-time signals go by number, or from either end
/// (`SIGRTMIN+3`, which systemd's images ask for).
#[must_use]
pub fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    if let Some(real_time) = full.strip_prefix("SIGRT") {
        // What the C library leaves of 32 to 64 (signal(7)).
        let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
        let above = |rest: &str| if rest.is_empty() { Some(0) } else { rest.strip_prefix('+')?.parse::<u8>().ok() };
        let below = |rest: &str| if rest.is_empty() { Some(0) } else { rest.strip_prefix('-')?.parse::<u8>().ok() };
        let number = match (real_time.strip_prefix("MIN"), real_time.strip_prefix("MAX")) {
            (Some(rest), _) => first + i32::from(above(rest)?),
            (_, Some(rest)) => last - i32::from(below(rest)?),
            (None, None) => return None,
        };
        return (first..=last).contains(&number).then_some(number);
    }
    full.parse::<Signal>().ok().map(|signal| signal as i32)
}

/// Spawns a program with its signals as it expects them: std hands on the mask of the caller, who may have blocked them to
/// read them from a descriptor (signalfd(2)).
pub fn spawn(command: &mut std::process::Command) -> std::io::Result<std::process::Child> {
    use std::os::unix::process::CommandExt;
    let reset = || super::stdio::reset_signals().map_err(|error| std::io::Error::from_raw_os_error(error.number()));
    // SAFETY: `reset` runs in the forked child, where it makes system calls only; the caller has one thread, so that even
    // what it allocates for an error is safe.
    unsafe { command.pre_exec(reset) }.spawn()
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

impl Exit {
    /// The shell's convention: 128+n for a signal.
    #[must_use]
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// One ended child of ours, if there is one; never blocks.
pub fn reap_any() -> Option<(i32, Exit)> {
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(pid, code)) => return Some((pid.as_raw(), Exit::Code(code))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => return Some((pid.as_raw(), Exit::Signal(signal as i32))),
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// A child of ours that has ended and that nobody has waited for; it stays so. Never blocks.
#[must_use]
pub fn next_dead() -> Option<i32> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
    match nix::sys::wait::waitid(nix::sys::wait::Id::All, flags) {
        Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => Some(pid.as_raw()),
        _ => None,
    }
}

/// Waits for one child of ours.
pub fn wait_for(pid: i32) -> Result<Exit> {
    loop {
        match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Exit::Code(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Exit::Signal(signal as i32)),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error { call: format!("waitpid({pid})"), errno }),
        }
    }
}

/// How many threads this process has; anything that forks or makes a user namespace wants one.
pub fn thread_count() -> Result<usize> {
    std::fs::read_dir("/proc/self/task").named(|| "readdir(\"/proc/self/task\")".to_owned()).map(Iterator::count)
}

/// What `ps` shows for a fork that is a program of its own in all but its file (PR_SET_NAME); at most 15 bytes.
pub fn set_name(name: &std::ffi::CStr) -> Result<()> {
    nix::sys::prctl::set_name(name).named(|| format!("prctl(PR_SET_NAME, {name:?})"))
}

/// Bytes of arguments and environment that a child of ours may be executed with: a quarter of the stack limit, within what
/// the kernel grants always and at most (execve(2), `bprm_stack_limits`).
#[must_use]
pub fn longest_command_line() -> u64 {
    let soft = getrlimit(Resource::RLIMIT_STACK).map_or(u64::MAX, |(soft, _)| soft);
    (soft / 4).clamp(128 << 10, 6 << 20)
}

/// Bytes that a file may have which this process or a child writes (RLIMIT_FSIZE, getrlimit(2)); `None`: no limit.
pub fn file_size_limit() -> Result<Option<u64>> {
    let (soft, _) = getrlimit(Resource::RLIMIT_FSIZE).named(|| "getrlimit(RLIMIT_FSIZE)".to_owned())?;
    Ok((soft != libc::RLIM_INFINITY).then_some(soft))
}

/// The soft limit of open files that this process had, or the one that it was forked from, before it was raised.
static DESCRIPTOR_LIMIT_BEFORE: OnceLock<u64> = OnceLock::new();

/// Lets this process and its later children open as many descriptors as it may at most (RLIMIT_NOFILE, getrlimit(2));
/// gives that number.
pub fn raise_descriptor_limit() -> Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).named(|| "getrlimit(RLIMIT_NOFILE)".to_owned())?;
    // Only the first time: what was raised before is not what the caller had.
    DESCRIPTOR_LIMIT_BEFORE.get_or_init(|| soft);
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).named(|| format!("setrlimit(RLIMIT_NOFILE, {hard})"))?;
    }
    Ok(hard)
}

/// Undoes [`raise_descriptor_limit`] in a child that becomes a program of the user's. Programs that use select(2), or close
/// every descriptor that there may be, count on a low soft limit.
pub fn restore_descriptor_limit() -> Result<()> {
    let Some(soft) = DESCRIPTOR_LIMIT_BEFORE.get().copied() else { return Ok(()) };
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).named(|| "getrlimit(RLIMIT_NOFILE)".to_owned())?;
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(hard), hard).named(|| format!("setrlimit(RLIMIT_NOFILE, {soft})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let fields = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 777 20";
        assert_eq!(parse_stat(&format!("42 (a) b (c)) {fields}")), Some(('S', 777)));
    }

    #[test]
    fn we_are_alive_and_our_pid_with_another_start_time_is_not() {
        let me = ProcessId::of_self().expect("/proc is mounted");
        assert!(me.is_alive());
        assert!(!ProcessId { start_time: me.start_time + 1, ..me }.is_alive());
    }

    #[test]
    fn a_process_that_was_killed_is_ending_and_we_are_not() {
        assert!(!ProcessId::of_self().expect("/proc is mounted").is_ending());
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("sleep");
        let sleep = ProcessId::of(child.id().cast_signed()).expect("it runs");
        assert!(!sleep.is_ending());
        child.kill().expect("kill");
        // At once: whether the signal is pending, or the process on its way out, or a zombie.
        assert!(sleep.is_ending());
        child.wait().expect("wait");
        assert!(sleep.is_ending());
    }

    #[test]
    fn signals_by_every_usual_spelling() {
        for name in ["SIGTERM", "TERM", "term", "15"] {
            assert_eq!(signal_number(name), Some(15), "{name}");
        }
        for name in ["", "0", "65", "-1", "SIGNOPE", "TERM "] {
            assert_eq!(signal_number(name), None, "{name}");
        }
    }
}
