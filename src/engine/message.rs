//! What a child says to the supervisor while it sets itself up, in this order; the end of the stream is a successful exec
//! (every socket is close-on-exec) or a death.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::failure::{During, Failure, Result};
use crate::step::Step;
use crate::sys::process::PidFd;
use crate::sys::socket::{self, Channel};
use crate::sys::{Errno, Error};

/// A start that takes longer than this has been stuck: a root file system on a dead NFS server, say. The kubelet gives a
/// runtime two minutes for a request.
pub const START_DEADLINE: Duration = Duration::from_secs(120);
/// For one that copies a whole root file system first (`no-overlay`).
pub const COPY_DEADLINE: Duration = Duration::from_secs(3600);

#[derive(Debug, Serialize, Deserialize)]
pub enum Message {
    /// pause, with the mount namespace in which launchers work (`sandbox.rs`), and `enter` where that is a file of the pod's
    /// (`unmapped.rs`).
    Workshop,
    /// A container's first process exists; the kernel says which pid, in the supervisor's numbers.
    Born,
    /// Pipes: stdout, stderr, and stdin's write end where the container has one.
    Pipes,
    /// The master of the container's terminal.
    Terminal,
    Failed(Failure),
}

/// The child's end.
#[derive(Debug)]
pub struct Speaker {
    channel: Channel,
    /// Where the last program of ours before the user's command writes an errno. Who gets at that program gets this pipe, and
    /// no way to send messages or descriptors.
    report: Option<OwnedFd>,
}

impl Speaker {
    #[must_use]
    pub fn new(channel: Channel) -> Speaker {
        Speaker { channel, report: None }
    }

    /// For a child that executes a command.
    #[must_use]
    pub fn with_report(channel: Channel, report: OwnedFd) -> Speaker {
        Speaker { channel, report: Some(report) }
    }

    #[must_use]
    pub fn report(&self) -> Option<BorrowedFd<'_>> {
        self.report.as_ref().map(AsFd::as_fd)
    }

    pub fn say(&self, step: Step, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = serde_json::to_vec(message).unwrap_or_default();
        self.channel.send(&bytes, fds).during(step, "telling the supervisor")
    }

    /// The last word of a child that gives up. If nobody listens any more, nobody needs to know.
    pub fn say_failed(&self, failure: Failure) {
        let _ = self.say(failure.step, &Message::Failed(failure.shortened()), &[]);
    }

    /// Waits until the id maps are written; the directory of the pod's volumes comes along. The supervisor's death ends
    /// us, too.
    pub fn wait_for_maps(&self) -> Result<Option<OwnedFd>> {
        match self.channel.receive().during(Step::WriteIdMaps, "")? {
            Some(mut message) => Ok(message.fds.pop()),
            None => crate::sys::clone::exit_now(125),
        }
    }

    /// False when the supervisor has gone.
    #[must_use]
    pub fn has_listener(&self) -> bool {
        match self.channel.try_receive() {
            Ok(None) => false,
            Ok(Some(_)) => true,
            Err(error) => error.errno == Errno::EAGAIN,
        }
    }
}

impl AsFd for Speaker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

/// The supervisor's end.
#[derive(Debug)]
pub struct Listener {
    channel: Channel,
    deadline: Instant,
}

/// A message, or how the stream ended.
#[derive(Debug)]
pub enum Heard {
    Workshop {
        workshop: OwnedFd,
        enter: Option<OwnedFd>,
    },
    /// With its mount namespace, where that is what marks a container's processes.
    Born {
        pid: i32,
        namespace: Option<OwnedFd>,
    },
    Stdio {
        terminal: bool,
        fds: Vec<OwnedFd>,
    },
    End,
}

impl Listener {
    pub fn new(channel: Channel, patience: Duration) -> Result<Listener> {
        channel.pass_credentials().during(Step::StartSupervisor, "")?;
        Ok(Listener { channel, deadline: Instant::now() + patience })
    }

    /// Until the child is given up.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The next message. A failure that the child reports is this function's error.
    pub fn hear(&self, step: Step, on: &str) -> Result<Heard> {
        let message = self.channel.receive_within(self.time_left()).during(step, on)?;
        understand(message, step, on)
    }

    /// As [`hear`](Self::hear), but `None` when there is nothing to hear yet.
    pub fn try_hear(&self, step: Step, on: &str) -> Result<Option<Heard>> {
        let message = match self.channel.try_receive() {
            Err(Error { errno: Errno::EAGAIN, .. }) if !self.time_left().is_zero() => return Ok(None),
            Err(Error { errno: Errno::EAGAIN, .. }) => {
                let call = "nothing was heard of it for too long".to_owned();
                return Err(Failure::new(step, on, &Error { call, errno: Errno::ETIMEDOUT }));
            }
            other => other.during(step, on)?,
        };
        understand(message, step, on).map(Some)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

fn understand(message: Option<socket::Message>, step: Step, on: &str) -> Result<Heard> {
    let Some(message) = message else { return Ok(Heard::End) };
    let garbled = |what: &str| Failure::new(step, on, &Error { call: what.to_owned(), errno: Errno::EPROTO });
    let mut fds = message.fds;
    match serde_json::from_slice(&message.bytes).map_err(|_| garbled("a message from the child"))? {
        Message::Failed(failure) => Err(failure),
        Message::Workshop => {
            let mut fds = fds.into_iter();
            let workshop = fds.next().ok_or_else(|| garbled("no mount namespace came"))?;
            Ok(Heard::Workshop { workshop, enter: fds.next() })
        }
        Message::Born => {
            let namespace = fds.pop();
            message.sender.map(|pid| Heard::Born { pid, namespace }).ok_or_else(|| garbled("no credentials came"))
        }
        Message::Pipes => Ok(Heard::Stdio { terminal: false, fds }),
        Message::Terminal => Ok(Heard::Stdio { terminal: true, fds }),
    }
}

/// The failure of a child that ended without a word: killed, or crashed.
#[must_use]
pub fn died(step: Step, on: &str) -> Failure {
    let error = Error { call: "the process died before it could say why".to_owned(), errno: Errno::ECHILD };
    Failure::new(step, on, &error)
}

/// A child that is killed unless its start succeeds.
#[derive(Debug)]
pub struct KillOnDrop(Option<PidFd>);

impl KillOnDrop {
    #[must_use]
    pub fn new(process: PidFd) -> KillOnDrop {
        KillOnDrop(Some(process))
    }

    /// The start succeeded.
    #[must_use]
    pub fn disarm(mut self) -> Option<PidFd> {
        self.0.take()
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(process) = &self.0 {
            // Nothing can be done about a failure here; the pod's teardown looks for the process again.
            // Not waited for: it may be the first process of a pid namespace, which ends only after its children have
            // been reaped by the supervisor's loop.
            let _ = process.signal(9);
        }
    }
}
