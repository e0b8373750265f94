//! Signals that a process passes on instead of acting on them (signal(7), signalfd(2)).

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::Result;
use super::error::Named;

/// signal(7), for modules that must not reach for libc.
pub const SIGHUP: i32 = libc::SIGHUP;
pub const SIGINT: i32 = libc::SIGINT;
pub const SIGQUIT: i32 = libc::SIGQUIT;
pub const SIGKILL: i32 = libc::SIGKILL;
pub const SIGTERM: i32 = libc::SIGTERM;
pub const SIGCHLD: i32 = libc::SIGCHLD;

/// Signals by which a user or a script asks a command to end, or to do what its handler does.
const FOR_A_COMMAND: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2, read as events. While this lives they do not end the process.
#[derive(Debug)]
pub struct PassedSignals {
    fd: SignalFd,
    before: SigSet,
}

impl PassedSignals {
    /// What the caller ignores stays ignored: SIGHUP below nohup(1), SIGINT and SIGQUIT of a shell's background job.
    pub fn block() -> Result<PassedSignals> {
        let set: SigSet = FOR_A_COMMAND.into_iter().filter(|signal| !is_ignored(*signal)).collect();
        let before = SigSet::thread_get_mask().named(|| "sigprocmask()".to_owned())?;
        set.thread_block().named(|| "sigprocmask(SIG_BLOCK)".to_owned())?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .named(|| "signalfd()".to_owned())?;
        Ok(PassedSignals { fd, before })
    }

    /// The next one's number; `None` when there is none.
    #[must_use]
    pub fn next(&self) -> Option<i32> {
        self.fd.read_signal().ok().flatten().and_then(|signal| i32::try_from(signal.ssi_signo).ok())
    }
}

impl AsFd for PassedSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for PassedSignals {
    fn drop(&mut self) {
        // Restoring a mask that was valid before cannot fail.
        let _ = self.before.thread_set_mask();
    }
}

pub(super) fn is_ignored(signal: Signal) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action nothing is changed; the kernel writes one sigaction, which outlives the call.
    unsafe { libc::sigaction(signal as i32, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: all zeroes is a valid sigaction, and what the kernel has written is one.
    let action = unsafe { action.assume_init() };
    action.sa_sigaction == libc::SIG_IGN
}
