//! A process between its first fork and the exec of the user's command.
//!
//! What happens on that way lies partly in the pod's hand: in a shared pid namespace a container can stop a process that
//! is about to join it, and a root file system can hang. So nobody waits for it: the supervisor's loop asks when there is
//! something to hear, and gives up at a deadline.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::failure::{During, Failure, Result};
use super::message::{Heard, KillOnDrop, Listener, Speaker, died};
use super::process::Stdio;
use super::sweep::MountNamespace;
use crate::plan::ProcessPlan;
use crate::step::Step;
use crate::sys::event::{Interest, Poller};
use crate::sys::memfd::{self, ProgramId};
use crate::sys::process::{Exit, PidFd};
use crate::sys::socket::Channel;
use crate::sys::{Errno, Error, stdio};

/// How long a process that holds the pipe may delay the end of the report before we look which program runs.
const LOOK: Duration = Duration::from_millis(50);

/// The supervisor's ends of what a child says: messages until it executes `enter`, then the report of that.
#[derive(Debug)]
pub(super) struct Hearing {
    listener: Listener,
    /// An errno if the user's command could not be executed, and the end when it was.
    report: OwnedFd,
    /// Of the one of the two whose turn it is.
    poller: Poller,
}

impl Hearing {
    /// Before the fork: what is sent to a socket that does not ask for credentials yet comes without them (pid 0).
    pub(super) fn connect(step: Step, name: &str, patience: Duration) -> Result<(Hearing, Speaker)> {
        let (ours, theirs) = Channel::pair().during(step, name)?;
        let listener = Listener::new(ours, patience)?;
        let (report, theirs_too) = stdio::pipe().during(step, name)?;
        stdio::set_nonblocking(report.as_fd()).during(step, name)?;
        let poller = Poller::new().during(step, name)?;
        poller.add(listener.as_fd(), 0, Interest::Readable).during(step, name)?;
        Ok((Hearing { listener, report, poller }, Speaker::with_report(theirs, theirs_too)))
    }

    /// The child has become `enter`, or has died.
    fn turn_to_report(&self) -> crate::sys::Result<()> {
        self.poller.remove(self.listener.as_fd())?;
        self.poller.add(self.report.as_fd(), 0, Interest::Readable)
    }
}

/// A process that executes the user's command.
#[derive(Debug)]
pub struct Started {
    pub pid: i32,
    pub process: PidFd,
    pub stdio: Stdio,
    /// It has ended already.
    pub exit: Option<Exit>,
    /// Where it has no pid namespace of its own: what marks its processes.
    pub mark: Option<MountNamespace>,
}

/// The stdio that a child is still to make and to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Pipes,
    Terminal,
    Nothing,
}

impl Expected {
    /// A container's own.
    #[must_use]
    pub fn of(process: &ProcessPlan) -> Expected {
        if process.tty { Expected::Terminal } else { Expected::Pipes }
    }

    fn is(self, terminal: bool) -> bool {
        self == if terminal { Expected::Terminal } else { Expected::Pipes }
    }
}

/// Dropped before its time, everything that was forked for it is killed.
#[derive(Debug)]
pub struct Pending {
    hearing: Hearing,
    /// Once it has become `enter`: when to look whether it is still that.
    look: Option<Instant>,
    enter: ProgramId,
    launcher: KillOnDrop,
    /// The container.
    on: String,
    /// What it is to execute.
    command: String,
    born: Option<(i32, KillOnDrop)>,
    expected: Expected,
    stdio: Stdio,
    exit: Option<Exit>,
    mark: Option<MountNamespace>,
}

impl Pending {
    pub(super) fn new(
        hearing: Hearing,
        launcher: PidFd,
        on: &str,
        process: &ProcessPlan,
        expected: Expected,
        enter: BorrowedFd<'_>,
    ) -> Result<Pending> {
        let launcher = KillOnDrop::new(launcher);
        Ok(Pending {
            hearing,
            look: None,
            enter: memfd::program_id(enter).during(Step::CreateContainer, on)?,
            launcher,
            on: on.to_owned(),
            command: process.argv.first().cloned().unwrap_or_default(),
            born: None,
            expected,
            stdio: Stdio::Passed,
            exit: None,
            mark: None,
        })
    }

    /// Takes note of the end of a child of ours, if it is this one. A command can be over before the launcher is, whose
    /// copy of the socket keeps the stream from ending.
    pub fn note_exit(&mut self, pid: i32, exit: Exit) -> bool {
        let ours = self.born.as_ref().is_some_and(|(born, _)| *born == pid);
        if ours {
            self.exit = Some(exit);
        }
        ours
    }

    /// Takes in what there is to hear. True once the command is executing: [`finish`](Self::finish) then.
    pub fn advance(&mut self) -> Result<bool> {
        let step = Step::CreateContainer;
        while self.look.is_none() {
            match self.hearing.listener.try_hear(step, &self.on)? {
                None => return Ok(false),
                Some(Heard::Born { pid, namespace }) if self.born.is_none() => {
                    self.mark = namespace.and_then(MountNamespace::held);
                    // A child of ours that nobody has waited for: its pid cannot be anybody else's yet.
                    self.born = Some((pid, KillOnDrop::new(PidFd::open(pid).during(step, &self.on)?)));
                }
                Some(Heard::Stdio { terminal, fds }) if self.expected.is(terminal) => {
                    self.expected = Expected::Nothing;
                    self.stdio = Stdio::from_child(terminal, fds);
                }
                // Each thing is said once. Whoever says more is not our child but somebody who got at its socket.
                Some(Heard::Born { .. } | Heard::Stdio { .. } | Heard::Workshop { .. }) => {
                    let call = "a message that nobody waits for".to_owned();
                    return Err(Failure::new(step, &*self.on, &Error { call, errno: Errno::EPROTO }));
                }
                Some(Heard::End) => {
                    self.hearing.turn_to_report().during(step, &self.on)?;
                    self.look = Some(Instant::now() + LOOK);
                }
            }
        }
        self.read_report()
    }

    /// True once the user's command is executing, or the process has ended.
    fn read_report(&mut self) -> Result<bool> {
        let step = Step::CreateContainer;
        let Some(bytes) = stdio::read_some(self.hearing.report.as_fd(), 8).during(step, &self.on)? else {
            return self.look_at_program();
        };
        if bytes.is_empty() {
            return Ok(true);
        }
        match <[u8; 4]>::try_from(bytes.as_slice()).map(i32::from_ne_bytes) {
            // As many as there are (asm-generic/errno.h, and what the kernel takes for an error).
            Ok(errno @ 1..4096) => {
                let call = format!("execve({})", self.command);
                let failure = Failure::of_call(Step::ExecuteCommand, call, errno);
                let failure = Failure { on: self.command.clone(), ..failure }.shortened();
                Err(match why_not_executed(errno) {
                    Some(why) => failure.hint(why),
                    None => failure,
                })
            }
            _ => {
                let call = "the report of the last program before the command".to_owned();
                Err(Failure::new(step, &*self.on, &Error { call, errno: Errno::EPROTO }))
            }
        }
    }

    /// Nothing is reported, and not the end either: it is being executed, or a process in the container has got the pipe and
    /// keeps it open. So look which program runs.
    fn look_at_program(&mut self) -> Result<bool> {
        let now = Instant::now();
        if self.look.is_none_or(|look| now < look) {
            return Ok(false);
        }
        self.look = Some(now + LOOK);
        let program = self.born.as_ref().and_then(|(pid, _)| memfd::program_of(*pid).ok());
        if program.is_some_and(|program| program != self.enter) {
            return Ok(true);
        }
        if self.hearing.listener.time_left().is_zero() {
            let call = "its command did not begin in time".to_owned();
            let error = Error { call, errno: Errno::ETIMEDOUT };
            return Err(Failure::new(Step::CreateContainer, &*self.on, &error));
        }
        Ok(false)
    }

    /// What became of it, once [`advance`](Self::advance) has said so.
    pub fn finish(self) -> Result<Started> {
        let nobody = || died(Step::CreateContainer, &self.on);
        let (pid, process) = self.born.ok_or_else(nobody)?;
        let process = process.disarm().ok_or_else(nobody)?;
        // It has done its work and ends by itself; its exit is reaped with the others.
        let _ = self.launcher.disarm();
        Ok(Started { pid, process, stdio: self.stdio, exit: self.exit, mark: self.mark })
    }

    /// Until it is to be looked at again, or given up.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        let left = self.hearing.listener.time_left();
        self.look.map_or(left, |look| left.min(look.saturating_duration_since(Instant::now())))
    }
}

/// What execve(2) means by an errno for a file that is there.
fn why_not_executed(errno: i32) -> Option<String> {
    match Errno::from_raw(errno) {
        Errno::ENOEXEC => Some(format!(
            "the file is for another kind of processor than this machine's ({}), or a script without a `#!` line",
            std::env::consts::ARCH
        )),
        Errno::ENOENT => Some(
            "the file is there; what is missing is the interpreter that it needs: the one of its `#!` line, or the \
             dynamic loader"
                .to_owned(),
        ),
        _ => None,
    }
}

impl AsFd for Pending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.hearing.poller.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A command that runs, and whose report has an end that somebody else keeps open.
    fn running(program: ProgramId, pid: i32) -> (Pending, OwnedFd) {
        let (hearing, speaker) =
            Hearing::connect(Step::CreateContainer, "c", Duration::from_secs(60)).expect("sockets");
        let held = speaker.report().expect("a report").try_clone_to_owned().expect("dup");
        drop(speaker);
        let process = PidFd::open(pid).expect("it runs");
        let pending = Pending {
            hearing,
            look: None,
            enter: program,
            launcher: KillOnDrop::new(PidFd::open(pid).expect("it runs")),
            on: "c".to_owned(),
            command: "sleep".to_owned(),
            born: Some((pid, KillOnDrop::new(process))),
            expected: Expected::Nothing,
            stdio: Stdio::Passed,
            exit: None,
            mark: None,
        };
        (pending, held)
    }

    #[test]
    fn whoever_keeps_the_report_open_does_not_keep_a_command_from_having_begun() {
        let mut child = std::process::Command::new("sleep").arg("600").spawn().expect("sleep");
        let pid = child.id().cast_signed();
        let enter = memfd::sealed_program("enter", b"enter").expect("memfd");
        let enter = memfd::program_id(enter.as_fd()).expect("fstat");
        let begun = |pending: &mut Pending| {
            let deadline = Instant::now() + Duration::from_secs(30);
            while Instant::now() < deadline {
                if pending.advance().expect("no failure") {
                    return true;
                }
                std::thread::sleep(pending.time_left().min(LOOK));
            }
            false
        };
        let (mut pending, held) = running(enter, pid);
        assert!(begun(&mut pending));
        drop((pending.finish().expect("a process"), held));
        // The same while it is still `enter`: only the end of the report says otherwise.
        let (mut pending, held) = running(memfd::program_of(pid).expect("its program"), pid);
        for _ in 0..3 {
            assert!(!pending.advance().expect("no failure"));
            std::thread::sleep(LOOK);
        }
        drop(held);
        assert!(begun(&mut pending));
        drop(pending);
        child.wait().expect("it was killed");
    }
}
