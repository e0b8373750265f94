//! A process between its first fork and the exec of the user's command.
//!
//! What happens on that way lies partly in the pod's hand: in a shared pid namespace a container can stop a process that
//! is about to join it, and a root file system can hang. So nobody waits for it: the supervisor's loop asks when there is
//! something to hear, and gives up at a deadline.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::failure::{During, Failure, Result};
use super::message::{Heard, KillOnDrop, Listener, died};
use super::process::Stdio;
use super::sweep::MountNamespace;
use crate::plan::ProcessPlan;
use crate::step::Step;
use crate::sys::process::{Exit, PidFd};
use crate::sys::{Errno, Error};

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
    listener: Listener,
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
        listener: Listener,
        launcher: PidFd,
        on: &str,
        process: &ProcessPlan,
        expected: Expected,
    ) -> Pending {
        Pending {
            listener,
            launcher: KillOnDrop::new(launcher),
            on: on.to_owned(),
            command: process.argv.first().cloned().unwrap_or_default(),
            born: None,
            expected,
            stdio: Stdio::Passed,
            exit: None,
            mark: None,
        }
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
        loop {
            match self.listener.try_hear(step, &self.on)? {
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
                Some(Heard::Born { .. } | Heard::Stdio { .. } | Heard::Workshop(_)) => {
                    let call = "a message that nobody waits for".to_owned();
                    return Err(Failure::new(step, &*self.on, &Error { call, errno: Errno::EPROTO }));
                }
                Some(Heard::NotExecuted { errno }) => {
                    let call = format!("execve({})", self.command);
                    return Err(
                        Failure { step: Step::ExecuteCommand, on: self.command.clone(), call, errno }.shortened()
                    );
                }
                Some(Heard::End) => return Ok(true),
            }
        }
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

    /// Until it is given up.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.listener.time_left()
    }
}

impl AsFd for Pending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
