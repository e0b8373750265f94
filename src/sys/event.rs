//! The supervisor's event loop: epoll(7), signalfd(2), timerfd_create(2). One thread, nothing ticks.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use nix::sys::timer::TimerSetTimeFlags;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags};

use super::Result;
use super::error::Named;

/// What a descriptor is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    Readable,
    Writable,
    /// News of another kind than bytes (EPOLLPRI): a file of the kernel that says something else than when it was read.
    News,
    /// Only its end (EPOLLHUP, EPOLLERR), which epoll always tells.
    End,
    /// Both directions, and only when something has changed (EPOLLET): whoever is told goes on until EAGAIN, and is not
    /// told again of what it left.
    Changes,
}

/// Something happened on the descriptor that was added with this token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    pub token: u64,
    pub readable: bool,
    pub writable: bool,
    pub ended: bool,
}

/// An epoll instance.
#[derive(Debug)]
pub struct Poller(Epoll);

/// For another instance, or poll(2): readable while there are events.
impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

impl Poller {
    pub fn new() -> Result<Poller> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Poller).named(|| "epoll_create1()".to_owned())
    }

    pub fn add(&self, fd: BorrowedFd<'_>, token: u64, interest: Interest) -> Result<()> {
        self.0.add(fd, EpollEvent::new(flags(interest), token)).named(|| "epoll_ctl(ADD)".to_owned())
    }

    /// Must come before the descriptor is closed while a copy of it is open elsewhere (epoll(7), Q6).
    pub fn remove(&self, fd: BorrowedFd<'_>) -> Result<()> {
        self.0.delete(fd).named(|| "epoll_ctl(DEL)".to_owned())
    }

    /// Waits until something happens; nothing at all when the time is up first.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Vec<Ready>> {
        let mut found = Vec::new();
        self.wait_into(timeout, &mut found)?;
        Ok(found)
    }

    /// As [`wait`](Self::wait), in the place of what `found` held: for a loop that turns so often that an allocation for
    /// each turn would count.
    pub fn wait_into(&self, timeout: Option<Duration>, found: &mut Vec<Ready>) -> Result<()> {
        let timeout = timeout.and_then(|time| EpollTimeout::try_from(time).ok()).unwrap_or(EpollTimeout::NONE);
        let mut events = [EpollEvent::empty(); 64];
        let count = loop {
            match self.0.wait(&mut events, timeout) {
                Err(Errno::EINTR) => {}
                other => break other.named(|| "epoll_wait()".to_owned())?,
            }
        };
        found.clear();
        found.extend(events[..count].iter().map(ready));
        Ok(())
    }
}

fn flags(interest: Interest) -> EpollFlags {
    match interest {
        Interest::Readable => EpollFlags::EPOLLIN,
        Interest::Writable => EpollFlags::EPOLLOUT,
        Interest::News => EpollFlags::EPOLLPRI,
        Interest::End => EpollFlags::empty(),
        Interest::Changes => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET,
    }
}

fn ready(event: &EpollEvent) -> Ready {
    let flags = event.events();
    Ready {
        token: event.data(),
        readable: flags.contains(EpollFlags::EPOLLIN),
        writable: flags.contains(EpollFlags::EPOLLOUT),
        ended: flags.intersects(EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR),
    }
}

/// An eventfd(2) that is readable once it has been raised, for everybody who holds it and for good: nobody reads it.
#[derive(Debug)]
pub struct Flag(EventFd);

impl Flag {
    pub fn new() -> Result<Flag> {
        EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map(Flag)
            .named(|| "eventfd()".to_owned())
    }

    pub fn raise(&self) -> Result<()> {
        self.0.write(1).map(drop).named(|| "write(eventfd)".to_owned())
    }
}

impl AsFd for Flag {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The signals of a supervisor, read as events instead of interrupting it.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks SIGCHLD, SIGTERM, SIGINT, SIGHUP and SIGQUIT for this process and its children until
    /// [`reset_signals`](super::stdio::reset_signals).
    pub fn block() -> Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            set.add(signal);
        }
        set.thread_block().named(|| "sigprocmask(SIG_BLOCK)".to_owned())?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        SignalFd::with_flags(&set, flags).map(Signals).named(|| "signalfd()".to_owned())
    }

    /// The next signal's number; `None` when there is none.
    pub fn next(&self) -> Option<i32> {
        self.0.read_signal().ok().flatten().and_then(|signal| i32::try_from(signal.ssi_signo).ok())
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One alarm, in time since boot without suspend (CLOCK_MONOTONIC).
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    pub fn new() -> Result<Timer> {
        TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)
            .map(Timer)
            .named(|| "timerfd_create()".to_owned())
    }

    /// Rings once after `delay`; `None` disarms it.
    pub fn set(&self, delay: Option<Duration>) -> Result<()> {
        let call = || "timerfd_settime()".to_owned();
        match delay {
            None => self.0.unset().named(call),
            Some(delay) => {
                // A delay of zero would disarm it.
                let delay = delay.max(Duration::from_nanos(1));
                let expiration = Expiration::OneShot(TimeSpec::from_duration(delay));
                self.0.set(expiration, TimerSetTimeFlags::empty()).named(call)
            }
        }
    }

    /// Takes note of the ring, so that it is not told again.
    pub fn acknowledge(&self) {
        // EAGAIN: disarmed since; there is nothing to take note of.
        let _ = nix::unistd::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
