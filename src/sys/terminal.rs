//! The terminal of the user who runs a command: raw mode, window size, and the signals it sends (termios(3),
//! ioctl_tty(2), signalfd(2)).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use serde::{Deserialize, Serialize};

use super::error::{Named, last};
use super::signals::is_ignored;
use super::{Error, Result};

/// A terminal in raw mode: every key goes to the program as a byte. Dropping it puts back what was before.
pub struct RawMode {
    terminal: OwnedFd,
    before: Termios,
}

impl RawMode {
    pub fn enter(terminal: BorrowedFd<'_>) -> Result<RawMode> {
        let terminal = terminal.try_clone_to_owned().named(|| "dup(terminal)".to_owned())?;
        let before = tcgetattr(&terminal).named(|| "tcgetattr()".to_owned())?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSADRAIN, &raw).named(|| "tcsetattr(raw)".to_owned())?;
        Ok(RawMode { terminal, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone (SIGHUP); then there is nothing to put back.
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }
}

/// Rows and columns of characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
}

impl Default for WindowSize {
    /// That of a VT100, which programs assume where a terminal has no size.
    fn default() -> WindowSize {
        WindowSize { rows: 24, columns: 80 }
    }
}

/// TIOCGWINSZ.
pub fn window_size(terminal: BorrowedFd<'_>) -> Result<WindowSize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one winsize, which outlives the call.
    let rc = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    if rc != 0 {
        return Err(last(|| "ioctl(TIOCGWINSZ)".to_owned()));
    }
    Ok(WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// TIOCSWINSZ, which sends SIGWINCH to the terminal's foreground processes. `terminal` may be the master.
pub fn set_window_size(terminal: BorrowedFd<'_>, size: WindowSize) -> Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    let rc = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if rc == 0 { Ok(()) } else { Err(last(|| format!("ioctl(TIOCSWINSZ, {}x{})", size.ws_row, size.ws_col))) }
}

/// What a terminal or its owner sends to a command in the foreground.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// SIGINT, SIGTERM or SIGHUP, by number.
    End {
        signal: i32,
        /// A person pressed Ctrl-C (or closed the terminal): the kernel itself sent it. False for kill(2).
        by_terminal: bool,
    },
    /// The window has another size.
    Resized,
    /// A signal that says nothing to us.
    Other(i32),
}

impl Sent {
    /// True for SIGHUP.
    #[must_use]
    pub fn is_hangup(self) -> bool {
        matches!(self, Sent::End { signal, .. } if signal == Signal::SIGHUP as i32)
    }

    /// True for Ctrl-C on a terminal.
    #[must_use]
    pub fn is_key(self) -> bool {
        matches!(self, Sent::End { signal, by_terminal: true } if signal == Signal::SIGINT as i32)
    }
}

/// The signals of a command in the foreground, read as events. While this lives they do not end the process, so that
/// it can put the terminal back and end its pod.
#[derive(Debug)]
pub struct ForegroundSignals {
    fd: SignalFd,
    before: SigSet,
}

impl ForegroundSignals {
    /// SIGINT, SIGTERM, SIGHUP and SIGWINCH.
    pub fn block() -> Result<ForegroundSignals> {
        Self::block_these(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGWINCH])
    }

    /// The same, and SIGQUIT, SIGUSR1, SIGUSR2 and SIGALRM, which would end this process, as [`Sent::Other`].
    pub fn block_all() -> Result<ForegroundSignals> {
        let end = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGWINCH];
        let other = [Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGALRM];
        Self::block_these(&[end, other].concat())
    }

    /// What the caller ignores stays ignored: SIGHUP below nohup(1), SIGINT and SIGQUIT of a shell's background job. The
    /// kernel queues a blocked signal also where it is ignored.
    fn block_these(signals: &[Signal]) -> Result<ForegroundSignals> {
        let set: SigSet = signals.iter().copied().filter(|signal| !is_ignored(*signal)).collect();
        let before = SigSet::thread_get_mask().named(|| "sigprocmask()".to_owned())?;
        set.thread_block().named(|| "sigprocmask(SIG_BLOCK)".to_owned())?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(|errno| Error { call: "signalfd()".to_owned(), errno })?;
        Ok(ForegroundSignals { fd, before })
    }

    /// The next one; `None` when there is none.
    #[must_use]
    pub fn next(&self) -> Option<Sent> {
        let sent = self.fd.read_signal().ok().flatten()?;
        let signal = i32::try_from(sent.ssi_signo).ok()?;
        let by_terminal = sent.ssi_code == libc::SI_KERNEL;
        Some(match Signal::try_from(signal).ok()? {
            Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP => Sent::End { signal, by_terminal },
            Signal::SIGWINCH if by_terminal => Sent::Resized,
            _ => Sent::Other(signal),
        })
    }
}

impl AsFd for ForegroundSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for ForegroundSignals {
    fn drop(&mut self) {
        // Restoring a mask that was valid before cannot fail.
        let _ = self.before.thread_set_mask();
    }
}

/// Makes reads and writes return EAGAIN instead of waiting. For descriptors that nobody else shares: the flag belongs
/// to the open file, not to the descriptor (open(2)).
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let call = || "fcntl(O_NONBLOCK)".to_owned();
    let flags = fcntl(fd, FcntlArg::F_GETFL).named(call)?;
    fcntl(fd, FcntlArg::F_SETFL(OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK)).named(call).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::termios::LocalFlags;

    #[test]
    fn raw_mode_ends_with_its_guard() {
        let pty = nix::pty::openpty(None, None).expect("openpty");
        let echo = || tcgetattr(&pty.slave).expect("tcgetattr").local_flags.contains(LocalFlags::ECHO);
        assert!(echo());
        let raw = RawMode::enter(pty.slave.as_fd()).expect("raw");
        assert!(!echo());
        drop(raw);
        assert!(echo());
    }

    #[test]
    fn a_size_set_on_the_master_is_the_slaves() {
        let pty = nix::pty::openpty(None, None).expect("openpty");
        let size = WindowSize { rows: 33, columns: 77 };
        set_window_size(pty.master.as_fd(), size).expect("TIOCSWINSZ");
        assert_eq!(window_size(pty.slave.as_fd()).expect("TIOCGWINSZ"), size);
    }
}
