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
use crate::step::Step;
use crate::sys::process::PidFd;

/// A process that executes the user's command.
#[derive(Debug)]
pub struct Started {
    pub pid: i32,
    pub process: PidFd,
    pub stdio: Stdio,
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
    stdio: Stdio,
}

impl Pending {
    pub(super) fn new(listener: Listener, launcher: PidFd, on: &str, argv: &[String]) -> Pending {
        Pending {
            listener,
            launcher: KillOnDrop::new(launcher),
            on: on.to_owned(),
            command: argv.first().cloned().unwrap_or_default(),
            born: None,
            stdio: Stdio::Passed,
        }
    }

    /// Takes in what there is to hear. True once the command is executing: [`finish`](Self::finish) then.
    pub fn advance(&mut self) -> Result<bool> {
        let step = Step::CreateContainer;
        loop {
            match self.listener.try_hear(step, &self.on)? {
                None => return Ok(false),
                Some(Heard::Born { pid }) => {
                    // A child of ours that nobody has waited for: its pid cannot be anybody else's yet.
                    self.born = Some((pid, KillOnDrop::new(PidFd::open(pid).during(step, &self.on)?)));
                }
                Some(Heard::Stdio { terminal, fds }) => self.stdio = Stdio::from_child(terminal, fds),
                Some(Heard::Workshop(_)) => {}
                Some(Heard::NotExecuted { errno }) => {
                    let call = format!("execve({})", self.command);
                    return Err(Failure { step: Step::ExecuteCommand, on: self.command.clone(), call, errno });
                }
                Some(Heard::End) => return Ok(true),
            }
        }
    }

    /// What became of it, once [`advance`](Self::advance) has said so.
    pub fn finish(self) -> Result<Started> {
        // It has done its work and ends by itself; its exit is reaped with the others.
        let _ = self.launcher.disarm();
        let nobody = || died(Step::CreateContainer, &self.on);
        let (pid, process) = self.born.ok_or_else(nobody)?;
        let process = process.disarm().ok_or_else(nobody)?;
        Ok(Started { pid, process, stdio: self.stdio })
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
