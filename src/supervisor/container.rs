//! A container as the supervisor holds it.

use jiff::Timestamp;

use super::lifecycle::{Cause, ContainerStatus, WaitingReason};
use super::output::Output;
use crate::engine::cgroup::Leaf;
use crate::engine::pending::Pending;
use crate::engine::sweep::{self, MountNamespace};
use crate::report::Report;
use crate::state::ContainerState;
use crate::sys::process::{PidFd, ProcessId};
use crate::sys::terminal::WindowSize;

/// One life of a container.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) pid: i32,
    pub(super) process: PidFd,
    pub(super) identity: Option<ProcessId>,
    pub(super) started_at: Timestamp,
    /// Where it has no pid namespace of its own: what marks its processes.
    pub(super) mark: Option<MountNamespace>,
}

#[derive(Debug)]
pub(super) struct Container {
    pub(super) starting: Option<Pending>,
    pub(super) running: Option<Running>,
    pub(super) output: Output,
    /// When it last ended, and when that life had begun.
    pub(super) ended: Option<(Option<Timestamp>, Timestamp)>,
    /// Its cgroup, in this life or the last.
    pub(super) leaf: Option<Leaf>,
    pub(super) starts: u32,
    /// Its command has been executed at least once.
    pub(super) has_run: bool,
    /// Why it could not be started, until it is.
    pub(super) start_failure: Option<Report>,
    /// What it said of its last end, and of the end before that.
    pub(super) messages: [Option<String>; 2],
    /// What its terminal, if it has one, is as large as at every start.
    pub(super) window: WindowSize,
}

impl Container {
    /// Ends every process of the container, also of one whose first process does not take the others along.
    pub(super) fn sweep(&self, running: &Running) {
        if self.leaf.as_ref().is_some_and(Leaf::kill) {
            return;
        }
        if let Some(mark) = &running.mark {
            // One that forks faster than we look stays until the pod ends.
            let _ = sweep::kill_all(mark);
        }
    }

    pub(super) fn life_ended(&mut self, message: Option<String>) {
        let [last, _] = std::mem::take(&mut self.messages);
        self.messages = [message, last];
    }

    /// Of its state, and of the life before that: a container that waits or runs is between two ends.
    pub(super) fn messages(&self, status: ContainerStatus) -> [Option<String>; 2] {
        let [last, before] = self.messages.clone();
        match status {
            ContainerStatus::Terminated { .. } => [last, before],
            ContainerStatus::Waiting(WaitingReason::RunContainerError) => [last.clone(), last],
            ContainerStatus::Waiting(_) | ContainerStatus::Running => [None, last],
        }
    }

    /// Asked while its cgroup is still that of the life which has ended.
    pub(super) fn cause_of_end(&self) -> Cause {
        if self.leaf.as_ref().is_some_and(|leaf| leaf.oom_kills() > 0) { Cause::OomKiller } else { Cause::Itself }
    }

    pub(super) fn state(&self, status: ContainerStatus) -> ContainerState {
        match (status, &self.running) {
            (ContainerStatus::Waiting(reason), _) => ContainerState::Waiting { reason: reason.as_str().to_owned() },
            (ContainerStatus::Running, Some(Running { identity: Some(process), started_at, .. })) => {
                ContainerState::Running { process: *process, started_at: *started_at }
            }
            // Started, and gone before anybody could look: its exit is on its way.
            (ContainerStatus::Running, _) => ContainerState::Waiting { reason: "ContainerCreating".to_owned() },
            (ContainerStatus::Terminated { exit, reason }, _) => {
                let (started_at, finished_at) = self.ended.unwrap_or((None, Timestamp::now()));
                ContainerState::Terminated { exit, reason: reason.as_str().to_owned(), started_at, finished_at }
            }
        }
    }
}
