//! The life of a pod as a pure machine: events in, actions out; no clock, no process, no file.
//!
//! The supervisor's loop tells it what happened, with the time on a monotonic clock, and does what comes back, in
//! order. Actions are requests: what came of them arrives as a later event, never as a return value. A signal that the
//! user sends to a container (`kill`) changes nothing here; its consequence, an exit, does.
//!
//! The pod's course, each step taken once:
//!
//! ```text
//! starting (one container after the other) → running → ending (asked, failed, or pause died) → finished
//! ```

#![deny(clippy::disallowed_methods)]

mod backoff;
mod container;
mod event;
pub mod network;
pub mod program;
mod status;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::plan::{LifecyclePlan, PodPlan, RestartPolicy};
use crate::report::exit_code;
use crate::state::{EVICTED, Phase};
use crate::sys::process::Exit;
use container::{Container, START_ERROR};

pub use event::{Action, Cause, Event, Outcome};
pub use status::{ContainerStatus, ContainerView, TerminatedReason, WaitingReason};

/// Between SIGTERM and SIGKILL of a pod that is evicted: the kubelet's `immediateEvictionGracePeriodSeconds`.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// A grace period longer than a year is a year: every kind of timer can still hold it.
const LONGEST_GRACE: Duration = Duration::from_secs(365 * 24 * 3600);

#[derive(Debug)]
enum Course {
    Starting,
    Running,
    Ending(Ending),
    Finished(Outcome),
}

#[derive(Debug)]
struct Ending {
    /// When to send SIGKILL; `None`: sent, and sent at once to whatever still comes up.
    kill_at: Option<Duration>,
    /// Why the pod has failed whatever its containers say.
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    /// The pod's exit code, where it is not the main container's.
    code: Option<i32>,
}

/// One pod. `run` ends with its main container's exit code.
#[derive(Debug)]
pub struct Pod {
    containers: Vec<Container>,
    main: usize,
    policy: RestartPolicy,
    grace: Duration,
    course: Course,
    /// Every container has been started once, or its command could not be executed.
    came_up: bool,
    /// Kept apart from the course so that it outlives the end.
    failure_code: Option<i32>,
}

impl Pod {
    #[must_use]
    pub fn new(plan: &PodPlan) -> Pod {
        let containers = plan.containers.iter().map(|container| (container.name.clone(), container.stop_signal));
        let main = plan.containers.iter().position(|container| container.name == plan.main).unwrap_or(0);
        Pod { main, ..Pod::of(containers, &plan.lifecycle) }
    }

    /// `containers`: name and stop signal of each.
    fn of(containers: impl Iterator<Item = (String, i32)>, lifecycle: &LifecyclePlan) -> Pod {
        Pod {
            containers: containers.map(|(name, stop_signal)| Container::new(name, stop_signal)).collect(),
            main: 0,
            policy: lifecycle.restart_policy,
            grace: lifecycle.termination_grace_period,
            course: Course::Starting,
            came_up: false,
            failure_code: None,
        }
    }

    /// Takes one event at `now` (any origin, never going back) and says what to do. An event that cannot be (an exit of
    /// what does not run, an index that does not exist) is ignored; after [`Action::Finish`] every event is.
    pub fn handle(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if matches!(self.course, Course::Finished(_)) {
            return actions;
        }
        match event {
            Event::SandboxReady => self.start_next(&mut actions),
            Event::ContainerStarted { index } => self.started(index, now, &mut actions),
            Event::StartFailed { index, exit_code } => self.start_failed(index, exit_code, now, &mut actions),
            Event::ContainerExited { index, exit, cause } => self.exited(index, exit, cause, now, &mut actions),
            Event::StopRequested { grace } => self.stop(grace.unwrap_or(self.grace), now, &mut actions),
            Event::Frozen { index } => self.set_paused(index, true),
            Event::Thawed { index } => {
                self.set_paused(index, false);
                self.restart_due(now, &mut actions);
            }
            Event::Evicted { why } => self.evict(&why, now, &mut actions),
            Event::PauseDied => self.fail("pause died".to_owned(), None, &mut actions),
            Event::TimerFired => self.timer(now, &mut actions),
        }
        self.finish_if_over(&mut actions);
        actions
    }

    /// When to send [`Event::TimerFired`]; `None`: nothing to wait for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        match &self.course {
            Course::Ending(ending) => ending.kill_at,
            Course::Finished(_) => None,
            Course::Starting | Course::Running => {
                self.containers.iter().filter_map(|container| container.restart_at()).min()
            }
        }
    }

    /// What the record says about the pod.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.course {
            Course::Starting => Phase::Starting,
            Course::Running => Phase::Running,
            Course::Ending(_) => Phase::Stopping,
            Course::Finished(outcome) => outcome.clone().into(),
        }
    }

    /// What the record says about each container, in the plan's order.
    pub fn containers(&self) -> impl ExactSizeIterator<Item = ContainerView<'_>> {
        self.containers.iter().map(Container::view)
    }

    /// True from the moment when every container has been started once.
    #[must_use]
    pub fn is_up(&self) -> bool {
        matches!(self.course, Course::Running)
    }

    /// True for a pod that has been up, also after its end. One that ended without a single command executed never was.
    #[must_use]
    pub fn came_up(&self) -> bool {
        let is_over = matches!(self.course, Course::Finished(_));
        self.came_up && (!is_over || self.containers.iter().any(Container::has_run))
    }

    /// Whether the container is paused.
    #[must_use]
    pub fn is_paused(&self, index: usize) -> bool {
        self.containers.get(index).is_some_and(Container::is_paused)
    }

    /// The code `wait` ends with for a container that has ended for good; `None`: it has not.
    #[must_use]
    pub fn code_of(&self, index: usize) -> Option<i32> {
        self.containers.get(index)?.code()
    }

    /// The code `run` and `wait` end with, once the pod has finished: what ended the pod as a whole, else the main
    /// container's own, else [`exit_code::FAILURE`] where that never ran. A main container that ended well does not hide
    /// that another one could never be started.
    #[must_use]
    pub fn main_exit(&self) -> Option<i32> {
        if !matches!(self.course, Course::Finished(_)) {
            return None;
        }
        let code = self.failure_code.or_else(|| self.code_of(self.main)).unwrap_or(i32::from(exit_code::FAILURE));
        let not_started = || self.containers.iter().find_map(|container| container.view().start_code);
        Some(if code == 0 { not_started().unwrap_or(0) } else { code })
    }

    /// The next container's first start; when there is none left, the pod is up.
    fn start_next(&mut self, actions: &mut Vec<Action>) {
        // One at a time, in the manifest's order, as kubelet does: a second SandboxReady must not start a second one.
        if !matches!(self.course, Course::Starting) || self.containers.iter().any(Container::is_first_starting) {
            return;
        }
        match self.containers.iter().position(Container::is_pending) {
            Some(index) => {
                self.containers[index].start();
                actions.push(Action::Start { index });
            }
            None => {
                self.course = Course::Running;
                self.came_up = true;
            }
        }
    }

    fn started(&mut self, index: usize, now: Duration, actions: &mut Vec<Action>) {
        let Some(container) = self.containers.get_mut(index) else { return };
        if !container.is_starting() {
            return;
        }
        container.started(now);
        match &self.course {
            Course::Starting => self.start_next(actions),
            // It was on its way up when the end was decided.
            Course::Ending(Ending { kill_at: None, .. }) => actions.push(Action::Kill { index }),
            Course::Ending(_) => {
                actions.push(Action::Signal { index, signal: self.containers[index].stop_signal() });
            }
            Course::Running | Course::Finished(_) => {}
        }
    }

    fn start_failed(&mut self, index: usize, exit_code: i32, now: Duration, actions: &mut Vec<Action>) {
        let Some(container) = self.containers.get_mut(index) else { return };
        if !container.is_starting() {
            return;
        }
        // A mount or a cgroup that cannot be made is this host's, and no restart helps. A command that cannot be executed
        // is the container's own failure, as with containerd: the others go on, and the restart policy decides.
        let is_command = [exit_code::NOT_FOUND, exit_code::CANNOT_EXECUTE].map(i32::from).contains(&exit_code);
        let ends_the_pod = container.is_first_starting() && !is_command;
        container.start_failed(exit_code);
        let restart = !ends_the_pod && self.policy != RestartPolicy::Never && !matches!(self.course, Course::Ending(_));
        if restart {
            container.wait_for_restart(START_ERROR, TerminatedReason::StartError, now);
        } else {
            container.terminate(START_ERROR, TerminatedReason::StartError);
        }
        if ends_the_pod && matches!(self.course, Course::Starting) {
            let reason = format!("container `{}` could not be started", container.name());
            return self.fail(reason, Some(exit_code), actions);
        }
        self.start_next(actions);
        self.restart_due(now, actions);
    }

    fn exited(&mut self, index: usize, exit: Exit, cause: Cause, now: Duration, actions: &mut Vec<Action>) {
        let Some(container) = self.containers.get_mut(index) else { return };
        if container.is_starting() {
            // The end overtook the news of the start.
            container.started(now);
        }
        if !container.is_running() {
            return;
        }
        let restart = !matches!(self.course, Course::Ending(_))
            && match self.policy {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => exit != Exit::Code(0),
                RestartPolicy::Never => false,
            };
        let reason = match (cause, exit) {
            (_, Exit::Code(0)) => TerminatedReason::Completed,
            (Cause::OomKiller, _) => TerminatedReason::OomKilled,
            (Cause::Itself, _) => TerminatedReason::Error,
        };
        if restart {
            container.wait_for_restart(exit, reason, now);
            self.restart_due(now, actions);
        } else {
            container.terminate(exit, reason);
        }
        self.start_next(actions);
    }

    fn stop(&mut self, grace: Duration, now: Duration, actions: &mut Vec<Action>) {
        let kill_at = now.saturating_add(grace.min(LONGEST_GRACE));
        match &mut self.course {
            Course::Starting | Course::Running => {
                self.course = Course::Ending(Ending { kill_at: Some(kill_at), failure: None });
                self.cancel_restarts();
                if !grace.is_zero() {
                    self.each_running(|index, container| {
                        actions.push(Action::Signal { index, signal: container.stop_signal() });
                    });
                }
            }
            Course::Ending(ending) => {
                ending.kill_at = ending.kill_at.map(|before| before.min(kill_at));
            }
            Course::Finished(_) => return,
        }
        if grace.is_zero() {
            self.kill_if_due(now, actions);
        }
    }

    /// A pod that ends already frees its disk sooner than this would.
    fn evict(&mut self, why: &str, now: Duration, actions: &mut Vec<Action>) {
        if !matches!(self.course, Course::Starting | Course::Running) {
            return;
        }
        self.stop(EVICTION_GRACE, now, actions);
        if let Course::Ending(ending) = &mut self.course {
            ending.failure = Some(Failure { reason: format!("{EVICTED}: {why}"), code: None });
        }
    }

    /// Ends the pod at once, and says that it failed. The first reason stays.
    fn fail(&mut self, reason: String, code: Option<i32>, actions: &mut Vec<Action>) {
        let failure = Some(Failure { reason, code });
        let killed = match &mut self.course {
            Course::Ending(ending) => {
                if ending.failure.is_none() {
                    ending.failure = failure;
                }
                ending.kill_at.take().is_none()
            }
            Course::Starting | Course::Running => {
                self.course = Course::Ending(Ending { kill_at: None, failure });
                self.cancel_restarts();
                false
            }
            Course::Finished(_) => true,
        };
        if !killed {
            self.each_running(|index, _| actions.push(Action::Kill { index }));
        }
    }

    fn timer(&mut self, now: Duration, actions: &mut Vec<Action>) {
        match self.course {
            Course::Ending(_) => self.kill_if_due(now, actions),
            Course::Starting | Course::Running => self.restart_due(now, actions),
            Course::Finished(_) => {}
        }
    }

    fn kill_if_due(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Course::Ending(ending) = &mut self.course else { return };
        if ending.kill_at.is_some_and(|kill_at| kill_at <= now) {
            ending.kill_at = None;
            self.each_running(|index, _| actions.push(Action::Kill { index }));
        }
    }

    fn restart_due(&mut self, now: Duration, actions: &mut Vec<Action>) {
        for (index, container) in self.containers.iter_mut().enumerate() {
            if container.restart_at().is_some_and(|at| at <= now) {
                container.start();
                actions.push(Action::Start { index });
            }
        }
    }

    fn set_paused(&mut self, index: usize, paused: bool) {
        if let Some(container) = self.containers.get_mut(index) {
            container.set_paused(paused);
        }
    }

    fn cancel_restarts(&mut self) {
        self.containers.iter_mut().for_each(Container::cancel_restart);
    }

    fn each_running(&self, mut act: impl FnMut(usize, &Container)) {
        let running = self.containers.iter().enumerate().filter(|(_, container)| container.is_running());
        running.for_each(|(index, container)| act(index, container));
    }

    fn finish_if_over(&mut self, actions: &mut Vec<Action>) {
        let failure = match &mut self.course {
            Course::Running if self.containers.iter().all(Container::is_terminated) => None,
            Course::Ending(ending) if !self.containers.iter().any(Container::is_alive) => ending.failure.take(),
            _ => return,
        };
        let outcome = match failure {
            Some(Failure { reason, code }) => {
                // A pod that was killed while its main container was between two lives has not done what the last one did.
                let good = self.code_of(self.main) == Some(0);
                self.failure_code = code.or(good.then_some(i32::from(exit_code::FAILURE)));
                Outcome::Failed { reason }
            }
            None => match self.containers.iter().find_map(Container::shortcoming) {
                Some(reason) => Outcome::Failed { reason },
                None => Outcome::Succeeded,
            },
        };
        self.course = Course::Finished(outcome.clone());
        actions.push(Action::Finish { outcome });
    }
}
