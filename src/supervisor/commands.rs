//! Commands of clients in running containers (`sandpod exec`): from the request to the exit.
//!
//! A command belongs to its client: it gets the client's signals, and SIGHUP when the client has gone, as a process whose
//! terminal is closed; then SIGKILL after the pod's grace period. A detached one belongs to the container.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::clients::{not_running, refuse};
use super::event_loop::Supervisor;
use super::protocol::ExecRequest;
use super::starts::Progress;
use super::watch::Source;
use crate::engine::exec::{self, Streams};
use crate::engine::pending::{Pending, Started};
use crate::engine::{Failure, process::Stdio};
use crate::plan::process;
use crate::report::Report;
use crate::sys::event::Interest;
use crate::sys::process::{Exit, PidFd, ProcessId};
use crate::sys::signals::{SIGHUP, SIGKILL};

/// By the number of the client that asked.
#[derive(Debug, Default)]
pub(super) struct Commands(BTreeMap<u64, Command>);

#[derive(Debug)]
struct Command {
    /// The container that it runs in.
    index: usize,
    /// The first process of that container's present life.
    init: Option<ProcessId>,
    terminal: bool,
    detached: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Starting(Pending),
    Running {
        pid: i32,
        process: PidFd,
        /// Its client has gone; it is killed at this time.
        kill_at: Option<Instant>,
    },
}

impl Commands {
    pub(super) fn starting(&self) -> impl Iterator<Item = &Pending> {
        self.0.values().filter_map(|command| match &command.stage {
            Stage::Starting(pending) => Some(pending),
            Stage::Running { .. } => None,
        })
    }

    pub(super) fn starting_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.0.values_mut().filter_map(|command| match &mut command.stage {
            Stage::Starting(pending) => Some(pending),
            Stage::Running { .. } => None,
        })
    }

    /// Whether the command of this client has begun.
    pub(super) fn has_begun(&self, client: u64) -> bool {
        self.0.get(&client).is_some_and(|command| matches!(command.stage, Stage::Running { .. }))
    }

    fn kill_times(&self) -> impl Iterator<Item = Instant> {
        self.0.values().filter_map(|command| match command.stage {
            Stage::Running { kill_at, .. } => kill_at,
            Stage::Starting(_) => None,
        })
    }
}

impl Supervisor<'_> {
    /// Sends a client's command on its way.
    pub(super) fn exec(&mut self, id: u64, request: &ExecRequest, fds: Vec<OwnedFd>) -> Result<(), Report> {
        let index = self.running_container(&request.container)?;
        if self.pod.is_paused(index) {
            let hint = format!("`sandpod unpause {}` first", self.plan.sandbox.name);
            let refusal = refuse(format!("could not run a command in container `{}`", request.container));
            return Err(refusal.because("it is paused: a new process in it would not run either").hint(hint));
        }
        let streams = if request.tty {
            Streams::Terminal(request.window.unwrap_or_default())
        } else {
            let given = <[OwnedFd; 3]>::try_from(fds);
            Streams::Given(given.map_err(|_| refuse("exec takes three descriptors".to_owned()))?)
        };
        let plan = &self.plan.containers[index];
        let Some(running) = &self.containers[index].running else { return Err(not_running(&plan.name)) };
        let init = running.identity;
        let asked =
            process::Another { argv: &request.argv, env: &request.env, cwd: request.cwd.as_deref(), tty: request.tty };
        let entry = exec::Entry {
            pod: &self.plan.sandbox,
            container: &plan.name,
            pid: plan.pid,
            init: &running.process,
            leaf: self.containers[index].leaf.as_ref(),
            process: &process::another(&plan.process, &asked),
            user: request.user.as_deref(),
        };
        let pending = exec::start(&entry, &self.programs, streams);
        let pending = pending.map_err(|failure| self.command_failed(index, init, failure))?;
        self.watch.add(pending.as_fd(), Source::CommandStarting(id), Interest::Readable);
        let (terminal, detached) = (request.tty, request.detach);
        self.commands.0.insert(id, Command { index, init, terminal, detached, stage: Stage::Starting(pending) });
        self.waits_for_command(id);
        Ok(())
    }

    /// A command on its way has sent something, or its time is up.
    pub(super) fn on_command_starting(&mut self, id: u64) {
        let Some(Command { index, init, terminal, detached, stage }) = self.commands.0.remove(&id) else { return };
        let Stage::Starting(pending) = stage else {
            self.commands.0.insert(id, Command { index, init, terminal, detached, stage });
            return;
        };
        match self.advance(pending, Source::CommandStarting(id)) {
            Progress::OnItsWay(pending) => {
                let stage = Stage::Starting(pending);
                self.commands.0.insert(id, Command { index, init, terminal, detached, stage });
            }
            Progress::Over(Ok(Started { pid, process, stdio, exit, mark: _ })) => {
                let master = match &stdio {
                    Stdio::Terminal { master } => Some(master.as_fd()),
                    Stdio::Pipes { .. } | Stdio::Passed => None,
                };
                self.command_started(id, pid, master);
                if detached {
                    // From here on it is a process of the container like any other.
                    return self.drop_client(id);
                }
                let stage = Stage::Running { pid, process, kill_at: None };
                self.commands.0.insert(id, Command { index, init, terminal, detached, stage });
                if let Some(exit) = exit {
                    self.command_ended(pid, exit);
                }
            }
            Progress::Over(Err(failure)) => {
                let report = self.command_failed(index, init, failure);
                self.refuse_client(id, report);
            }
        }
    }

    pub(super) fn advance_commands(&mut self) {
        for id in self.commands.0.keys().copied().collect::<Vec<u64>>() {
            self.on_command_starting(id);
        }
    }

    /// True when the process was a client's command.
    pub(super) fn command_ended(&mut self, pid: i32, exit: Exit) -> bool {
        let is_meant = |command: &Command| matches!(command.stage, Stage::Running { pid: known, .. } if known == pid);
        let Some(id) = self.commands.0.iter().find(|(_, command)| is_meant(command)).map(|(id, _)| *id) else {
            return false;
        };
        self.commands.0.remove(&id);
        self.command_exited(id, exit);
        true
    }

    /// A client passes on a signal that it got. Before the exec a process has none of the command's handlers yet: there
    /// the signal does what it does by default.
    pub(super) fn signal_command(&mut self, id: u64, signal: i32) {
        // It may have begun since we looked.
        self.on_command_starting(id);
        match self.commands.0.get(&id).map(|command| &command.stage) {
            Some(Stage::Running { process, .. }) => drop(process.signal(signal)),
            Some(Stage::Starting(_)) => {
                self.forget_starting(id);
                self.command_exited(id, Exit::Signal(signal));
            }
            None => {}
        }
    }

    /// The client has gone: a command that has not begun is not wanted any more, one that runs is asked to end.
    pub(super) fn client_left(&mut self, id: u64) {
        // It may have begun since we looked.
        self.on_command_starting(id);
        let grace = self.plan.lifecycle.termination_grace_period;
        match self.commands.0.get_mut(&id) {
            Some(Command { stage: Stage::Running { process, kill_at, .. }, terminal, .. }) => {
                // Of a terminal the client had the master: the kernel has sent SIGHUP as that was closed.
                if !*terminal {
                    let _ = process.signal(SIGHUP);
                }
                *kill_at = Some(Instant::now() + grace);
            }
            Some(Command { stage: Stage::Starting(_), .. }) => self.forget_starting(id),
            None => {}
        }
    }

    fn forget_starting(&mut self, id: u64) {
        if let Some(Command { stage: Stage::Starting(pending), .. }) = self.commands.0.remove(&id) {
            self.watch.remove(pending.as_fd(), Source::CommandStarting(id));
        }
    }

    /// Until the first command without a client is killed.
    pub(super) fn commands_deadline(&self) -> Option<Duration> {
        self.commands.kill_times().min().map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub(super) fn kill_overdue_commands(&mut self) {
        let now = Instant::now();
        for command in self.commands.0.values_mut() {
            if let Stage::Running { process, kill_at, .. } = &mut command.stage
                && kill_at.take_if(|at| *at <= now).is_some()
            {
                let _ = process.signal(SIGKILL);
            }
        }
    }

    /// Why a command did not begin. When its container or the pod is just ending, that is the reason, whatever the call
    /// was that failed: a pid namespace without its first process takes no other (ENOMEM, fork(2)), and what is in it
    /// is killed (pid_namespaces(7)).
    fn command_failed(&self, index: usize, init: Option<ProcessId>, failure: Failure) -> Report {
        let name = &self.plan.containers[index].name;
        let ends = |process: Option<ProcessId>| process.is_some_and(ProcessId::is_ending);
        if ends(self.record.pause) {
            return self.pod_ended_first();
        }
        if ends(init) {
            return refuse(format!("container `{name}` ended while the command was starting"));
        }
        failure.into_report(format!("could not run a command in container `{name}`"))
    }

    pub(super) fn pod_ended_first(&self) -> Report {
        refuse(format!("pod `{}` ended while the command was starting", self.plan.sandbox.name))
    }
}
