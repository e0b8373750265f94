//! One container's part of the machine: what it may do next, and what is told about it.

use std::time::Duration;

use super::backoff::BackOff;
use super::{ContainerStatus, ContainerView, TerminatedReason, WaitingReason};
use crate::sys::process::Exit;

#[derive(Debug, Clone, Copy)]
enum Life {
    /// Its first start has not been asked for.
    Pending,
    /// Asked for, not answered.
    Starting,
    Running {
        since: Duration,
    },
    BackingOff {
        restart_at: Duration,
        reason: WaitingReason,
    },
    Terminated {
        exit: Exit,
        reason: TerminatedReason,
    },
}

/// What a container that never ran is shown with: `errorStartExitCode` of containerd's CRI plugin.
pub(super) const START_ERROR: Exit = Exit::Code(128);

#[derive(Debug)]
pub(super) struct Container {
    name: String,
    /// What asks it to end.
    stop_signal: i32,
    life: Life,
    starts: u32,
    last: Option<(Exit, TerminatedReason)>,
    /// What `run` ends with for a start that failed, as a shell would; `None` after a start that did not.
    start_code: Option<i32>,
    backoff: BackOff,
    paused: bool,
    has_run: bool,
}

impl Container {
    pub(super) fn new(name: String, stop_signal: i32) -> Container {
        Container {
            name,
            stop_signal,
            life: Life::Pending,
            starts: 0,
            last: None,
            start_code: None,
            backoff: BackOff::default(),
            paused: false,
            has_run: false,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn stop_signal(&self) -> i32 {
        self.stop_signal
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(self.life, Life::Pending)
    }

    pub(super) fn is_starting(&self) -> bool {
        matches!(self.life, Life::Starting)
    }

    pub(super) fn is_first_starting(&self) -> bool {
        self.is_starting() && self.starts == 1
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    /// A process is there, or may be in a moment.
    pub(super) fn is_alive(&self) -> bool {
        self.is_starting() || self.is_running()
    }

    pub(super) fn is_terminated(&self) -> bool {
        matches!(self.life, Life::Terminated { .. })
    }

    /// Paused: whatever it was about to become, it stays what it is.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(super) fn restart_at(&self) -> Option<Duration> {
        match self.life {
            Life::BackingOff { restart_at, .. } if !self.paused => Some(restart_at),
            _ => None,
        }
    }

    pub(super) fn start(&mut self) {
        self.life = Life::Starting;
        self.starts = self.starts.saturating_add(1);
    }

    pub(super) fn started(&mut self, now: Duration) {
        self.life = Life::Running { since: now };
        self.start_code = None;
        self.has_run = true;
    }

    pub(super) fn has_run(&self) -> bool {
        self.has_run
    }

    pub(super) fn start_failed(&mut self, code: i32) {
        self.start_code = Some(code);
    }

    /// What `run` and `wait` end with once it has ended for good. [`START_ERROR`] is for Kubernetes' tools; a shell's user
    /// expects 127 or 126.
    pub(super) fn code(&self) -> Option<i32> {
        match self.life {
            Life::Terminated { exit, .. } => Some(self.start_code.unwrap_or(exit.code())),
            Life::Pending | Life::Starting | Life::Running { .. } | Life::BackingOff { .. } => None,
        }
    }

    pub(super) fn wait_for_restart(&mut self, exit: Exit, ended: TerminatedReason, now: Duration) {
        let lived = match self.life {
            Life::Running { since } => now.saturating_sub(since),
            _ => Duration::ZERO,
        };
        self.last = Some((exit, ended));
        let reason = match ended {
            TerminatedReason::StartError => WaitingReason::RunContainerError,
            TerminatedReason::Completed | TerminatedReason::Error | TerminatedReason::OomKilled => {
                WaitingReason::CrashLoopBackOff
            }
        };
        self.life = Life::BackingOff { restart_at: now.saturating_add(self.backoff.after(lived)), reason };
    }

    /// The pod ends: a container in back-off has lived its last life.
    pub(super) fn cancel_restart(&mut self) {
        let Life::BackingOff { .. } = self.life else { return };
        let Some((exit, reason)) = self.last.take() else { return };
        self.terminate(exit, reason);
    }

    pub(super) fn terminate(&mut self, exit: Exit, reason: TerminatedReason) {
        self.life = Life::Terminated { exit, reason };
    }

    /// Why this container keeps its pod from having succeeded.
    pub(super) fn shortcoming(&self) -> Option<String> {
        let name = &self.name;
        match self.life {
            Life::Terminated { exit: Exit::Code(0), .. } => None,
            Life::Terminated { reason: TerminatedReason::StartError, .. } => {
                Some(format!("container `{name}` could not be started"))
            }
            Life::Terminated { reason: TerminatedReason::OomKilled, .. } => {
                Some(format!("container `{name}` was ended by the OOM killer: it needed more memory than its limit"))
            }
            Life::Terminated { exit: Exit::Code(code), .. } => {
                Some(format!("container `{name}` ended with exit code {code}"))
            }
            Life::Terminated { exit: Exit::Signal(signal), .. } => {
                Some(format!("container `{name}` was ended by signal {signal}"))
            }
            _ => Some(format!("container `{name}` was never started")),
        }
    }

    pub(super) fn view(&self) -> ContainerView<'_> {
        let status = match self.life {
            Life::Pending | Life::Starting => ContainerStatus::Waiting(WaitingReason::ContainerCreating),
            Life::BackingOff { reason, .. } => ContainerStatus::Waiting(reason),
            Life::Running { .. } => ContainerStatus::Running,
            Life::Terminated { exit, reason } => ContainerStatus::Terminated { exit, reason },
        };
        let (last_exit, last_reason) = self.last.unzip();
        ContainerView {
            name: &self.name,
            status,
            restarts: self.starts.saturating_sub(1),
            last_exit,
            last_reason,
            start_code: self.start_code,
        }
    }
}
