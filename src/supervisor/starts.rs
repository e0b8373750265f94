//! Containers on their way: those that the lifecycle machine wants started.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::container::Running;
use super::event_loop::Supervisor;
use super::lifecycle::{Cause, Event};
use super::network::Connection;
use super::watch::Source;
use crate::engine::cgroup::oom_kills;
use crate::engine::pending::{Pending, Started};
use crate::engine::{Failure, launcher, termination};
use crate::report::Report;
use crate::sys::event::Interest;
use crate::sys::process::{Exit, ProcessId};

/// How far a process has come.
pub(super) enum Progress {
    OnItsWay(Pending),
    Over(Result<Started, Failure>),
}

impl Supervisor<'_> {
    /// Sends a container on its way. The event, where it is over already.
    pub(super) fn start(&mut self, index: usize) -> Option<Event> {
        let name = &self.plan.containers[index].name;
        let prepared = termination::prepare(&self.plan.sandbox.dirs, name).and_then(|()| self.fresh_leaf(index));
        let started = prepared.and_then(|()| {
            let plan = &self.plan_now().containers[index];
            let leaf = self.containers[index].leaf.as_ref();
            let gate = self.connection.as_ref().map(Connection::gate);
            launcher::start(&launcher::Start {
                sandbox: &self.sandbox,
                programs: &self.programs,
                pinned: &self.pinned,
                pod: &self.plan.sandbox,
                container: plan,
                leaf,
                gate,
                window: self.containers[index].window,
            })
        });
        match started {
            Ok(pending) => {
                self.watch.add(pending.as_fd(), Source::Starting(index), Interest::Readable);
                self.containers[index].starting = Some(pending);
                None
            }
            Err(failure) => Some(self.start_failed(index, failure)),
        }
    }

    /// A cgroup for the next life of a container; that of the last one goes.
    fn fresh_leaf(&mut self, index: usize) -> Result<(), Failure> {
        let Some(cgroups) = &self.cgroups else { return Ok(()) };
        let plan = self.changed.as_ref().unwrap_or(self.plan);
        let container = &mut self.containers[index];
        container.starts = container.starts.saturating_add(1);
        container.leaf = Some(cgroups.leaf(&plan.containers[index], container.starts)?);
        if container.starts > 1 {
            let stays = cgroups.remove_before(&plan.containers[index], container.starts, &plan.sandbox.idmap);
            stays
                .iter()
                .for_each(|error| container.output.note(&format!("a cgroup of an earlier life stays: {error}")));
        }
        Ok(())
    }

    /// Something was heard of a container on its way, or its time is up.
    pub(super) fn on_starting(&mut self, index: usize) {
        let Some(pending) = self.containers[index].starting.take() else { return };
        let outcome = match self.advance(pending, Source::Starting(index)) {
            Progress::OnItsWay(pending) => {
                self.containers[index].starting = Some(pending);
                return;
            }
            Progress::Over(outcome) => outcome,
        };
        let exited = outcome.as_ref().ok().and_then(|started| Some((started.pid, started.exit?)));
        let event = match outcome {
            Ok(started) => self.started(index, started),
            Err(failure) => self.start_failed(index, failure),
        };
        self.handle(event);
        if let Some((pid, exit)) = exited {
            self.on_exit(pid, exit);
        }
    }

    pub(super) fn advance(&mut self, mut pending: Pending, source: Source) -> Progress {
        let advanced = pending.advance();
        if matches!(advanced, Ok(false)) {
            return Progress::OnItsWay(pending);
        }
        self.watch.remove(pending.as_fd(), source);
        Progress::Over(advanced.and_then(|_| pending.finish()))
    }

    fn started(&mut self, index: usize, started: Started) -> Event {
        let plan = &self.plan.containers[index];
        let Started { pid, process, stdio, exit: _, mark } = started;
        let identity = ProcessId::of(pid);
        let started_at = Timestamp::now();
        self.containers[index].running = Some(Running { pid, process, identity, started_at, mark });
        self.containers[index].has_run = true;
        self.containers[index].start_failure = None;
        self.open_output(index, stdio);
        if plan.name == self.plan.main && self.starter.is_some() {
            self.first_master = self.containers[index].output.terminal();
        }
        self.freeze_if_paused(index);
        Event::ContainerStarted { index }
    }

    pub(super) fn start_failed(&mut self, index: usize, failure: Failure) -> Event {
        let mut report =
            failure.into_report(format!("could not start container `{}`", self.plan.containers[index].name));
        if self.containers[index].cause_of_end() == Cause::OomKiller {
            report = with_oom_hint(report);
        }
        self.containers[index].ended = Some((None, Timestamp::now()));
        let message = format!("{report}: {}", report.chain.join(": "));
        self.containers[index].output.note(&message);
        // Until the caller has its answer, that says so.
        if self.starter.is_none() {
            self.tell("not started", &message);
        }
        self.containers[index].life_ended(Some(message));
        let exit_code = i32::from(report.exit_code);
        self.containers[index].start_failure = Some(report.clone());
        self.start_failure.get_or_insert(report);
        Event::StartFailed { index, exit_code }
    }

    /// Hears everything that has been said by processes on their way: before the exit of one is taken note of, and when
    /// the time of one is up.
    pub(super) fn advance_pending(&mut self) {
        for index in 0..self.containers.len() {
            self.on_starting(index);
        }
        self.advance_commands();
    }

    /// True when a process on its way has ended; it is told when the rest of its story has been heard.
    pub(super) fn note_exit(&mut self, pid: i32, exit: Exit) -> bool {
        let containers = self.containers.iter_mut().filter_map(|container| container.starting.as_mut());
        let mut pending = containers.chain(self.commands.starting_mut());
        pending.any(|pending| pending.note_exit(pid, exit))
    }

    /// Until the first of them has to be given up.
    pub(super) fn start_deadline(&self) -> Option<Duration> {
        let containers = self.containers.iter().filter_map(|container| container.starting.as_ref());
        containers.chain(self.commands.starting()).map(Pending::time_left).min()
    }
}

/// A start that failed; with the reason, where some process in the pod's cgroup found no room in its memory.
pub(super) fn with_oom_kills(pod: Option<&Path>, report: Report) -> Report {
    if pod.is_some_and(|pod| oom_kills(pod) > 0) { with_oom_hint(report) } else { report }
}

fn with_oom_hint(report: Report) -> Report {
    report
        .because("the kernel's OOM killer ended it before any program of yours began: the memory limit is too small")
        .hint("a start takes some hundred kilobytes, what your program needs comes on top: raise limits.memory")
}
