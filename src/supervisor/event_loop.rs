//! The supervisor's loop: waits for anything to happen, tells the lifecycle machine, does what it says.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::clients::{self, Client, Clients};
use super::commands::Commands;
use super::container::Container;
use super::lifecycle::{self, Action, Event};
use super::network::{Connection, JoinedNetwork};
use super::pausing::Pausing;
use super::ports::Publishing;
use super::protocol::{Reply, StartReply};
use super::storage::Storage;
use super::watch::{Source, Watch};
use super::{AtEnd, starts};
use crate::engine::cgroup::{Cgroups, Leaf};
use crate::engine::programs::Programs;
use crate::engine::sandbox::Sandbox;
use crate::engine::volumes::Pinned;
use crate::engine::{Failure, Result, termination};
use crate::plan::PodPlan;
use crate::report::Report;
use crate::state::{self, Record};
use crate::sys::event::{Interest, Ready, Signals, Timer};
use crate::sys::memfd;
use crate::sys::process::{self, Exit};
use crate::sys::signals::{SIGCHLD, SIGKILL};
use crate::sys::socket::{Channel, Listener};

pub(super) struct Supervisor<'a> {
    pub(super) plan: &'a PodPlan,
    pub(super) sandbox: Sandbox,
    pub(super) programs: Programs,
    pub(super) pinned: Pinned,
    pub(super) pod: lifecycle::Pod,
    pub(super) containers: Vec<Container>,
    pub(super) clients: Clients,
    pub(super) commands: Commands,
    pub(super) signals: Signals,
    pub(super) timer: Timer,
    /// control.sock
    /// `None` when the pod has ended and everybody was answered.
    pub(super) control: Option<Listener>,
    pub(super) watch: Watch,
    pub(super) cgroups: Option<Cgroups>,
    pub(super) connection: Option<Connection<'a>>,
    pub(super) joined: Option<JoinedNetwork<'a>>,
    pub(super) publishing: Option<Publishing>,
    /// The plan after an update, and the lock on the file that says so.
    pub(super) changed: Option<PodPlan>,
    pub(super) plan_lock: Option<File>,
    pub(super) storage: Storage,
    /// What clients wait for to stand still.
    pub(super) pausing: Vec<Pausing>,
    pub(super) record: Record,
    pub(super) origin: Instant,
    pub(super) at_end: AtEnd,
    /// Whoever started us, until it has its answer.
    pub(super) starter: Option<Channel>,
    /// The same, afterwards, where it is to remove the pod.
    pub(super) caller: Option<Channel>,
    /// The terminal of the main container, for the command that started us.
    pub(super) first_master: Option<OwnedFd>,
    /// Why the first start of a container failed.
    pub(super) start_failure: Option<Report>,
    pub(super) finished: bool,
}

impl Supervisor<'_> {
    /// Sends the containers on their way, and makes what pause alone has to be there for.
    pub(super) fn bring_up(&mut self) -> Result<()> {
        self.handle(Event::SandboxReady);
        self.sandbox.finish_start()?;
        // First, since it takes longest.
        self.connect();
        self.start_port_proxy()
    }

    /// Why is for [`end`](Self::end) to tell.
    pub(super) fn did_not_come_up(&mut self, failure: Failure, cgroup: Option<&Path>) {
        self.containers.iter_mut().for_each(|container| container.starting = None);
        self.start_failure = Some(starts::with_oom_kills(cgroup, failure.into_report("the pod did not come up")));
    }

    /// Until the pod has ended.
    pub(super) fn run(&mut self) {
        while !self.finished {
            let network = self.connection.as_ref().and_then(Connection::next_deadline);
            let ports = self.publishing.as_ref().and_then(Publishing::next_deadline);
            let next = self.pod.next_deadline().into_iter().chain(network).chain(ports).min();
            let next = next.map(|at| at.saturating_sub(self.now()));
            let own = [
                self.start_deadline(),
                self.storage_deadline(),
                self.pause_deadline(),
                self.silence_deadline(),
                self.commands_deadline(),
            ];
            let delay = next.into_iter().chain(own.into_iter().flatten()).min();
            // A timer that cannot be set would be a bug of ours; without it the pod still reacts to everything else.
            let _ = self.timer.set(delay);
            let Ok(ready) = self.wait() else { return };
            for event in ready {
                self.dispatch(event);
            }
        }
    }

    /// Waits for events. A pod that is quiet keeps only what waiting needs: so it waits on at once, since all code that runs
    /// in between comes back into memory (the kernel maps 64 KiB around each page that is touched).
    fn wait(&self) -> crate::sys::Result<Vec<Ready>> {
        let ready = self.watch.poller.wait(Some(SETTLE))?;
        if !ready.is_empty() {
            return Ok(ready);
        }
        memfd::trim_heap();
        memfd::forget_program_pages();
        self.watch.poller.wait(None)
    }

    fn dispatch(&mut self, ready: Ready) {
        // Removed by an earlier event of the same round.
        let Some(source) = self.watch.sources.get(&ready.token).copied() else { return };
        match source {
            Source::Signals => self.on_signals(),
            Source::Timer => {
                self.timer.acknowledge();
                self.advance_pending();
                self.measure_storage_if_due();
                self.look_at_pauses();
                self.write_silent_lines();
                self.kill_overdue_commands();
                self.network_timer();
                self.ports_timer();
                self.handle(Event::TimerFired);
            }
            Source::Storage => self.on_storage(),
            Source::Control => drop(self.accept()),
            Source::NetworkReady => self.on_network_ready(),
            Source::NetworkStderr => self.on_network_stderr(),
            Source::JoinedPod => self.on_joined_pod_ended(),
            Source::Client(id) => self.on_client(id),
            Source::Starting(index) => self.on_starting(index),
            Source::CommandStarting(id) => self.on_command_starting(id),
            Source::Freezing(..) => self.look_at_pauses(),
            Source::Container(index, side) => self.pump(index, side),
            Source::ContainerStdin(index) => self.feed(index),
            Source::Attached(index, id, side) => self.resume(index, id, side),
            Source::AttachedInput(index, id) => self.on_attached_input(index, id, ready),
        }
    }

    fn on_signals(&mut self) {
        let mut stop = false;
        while let Some(signal) = self.signals.next() {
            stop |= signal != SIGCHLD;
        }
        while let Some(pid) = process::next_dead() {
            // What it said before it died has arrived: who it was must be known before its pid is free again.
            self.advance_pending();
            if let Ok(exit) = process::wait_for(pid) {
                self.on_exit(pid, exit);
            }
        }
        if stop {
            self.handle(Event::StopRequested { grace: None });
        }
    }

    pub(super) fn on_exit(&mut self, pid: i32, exit: Exit) {
        if pid == self.sandbox.pid {
            return self.handle(Event::PauseDied);
        }
        if self.note_exit(pid, exit) || self.command_ended(pid, exit) {
            return;
        }
        if self.note_network_exit(pid, exit) || self.port_proxy_ended(pid, exit) {
            return;
        }
        // Launchers and bridges end here, too, and mean nothing.
        let index = self.containers.iter().position(|c| c.running.as_ref().is_some_and(|r| r.pid == pid));
        let Some(index) = index else { return };
        let ended = self.containers[index].running.take();
        let cause = self.containers[index].cause_of_end();
        if let Some(running) = &ended {
            self.containers[index].sweep(running);
        }
        let started_at = ended.map(|running| running.started_at);
        self.containers[index].ended = Some((started_at, Timestamp::now()));
        self.close_output(index);
        let plan = &self.plan.containers[index];
        let message = termination::message(&self.plan.sandbox.dirs, plan, exit != Exit::Code(0));
        self.containers[index].life_ended(message);
        self.handle(Event::ContainerExited { index, exit, cause });
    }

    /// Tells the machine what happened, does what it says, and writes down what has become of it.
    pub(super) fn handle(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.pod.handle(event, self.now()) {
                events.extend(self.act(action));
            }
        }
        self.commit();
        if self.pod.came_up() {
            self.tell_starter();
        }
        self.answer_waiting();
    }

    fn act(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Start { index } => self.start(index),
            Action::Signal { index, signal } => {
                self.signal(index, signal);
                self.thaw_for_signal(index)
            }
            Action::Kill { index } => {
                self.signal(index, SIGKILL);
                let container = &self.containers[index];
                if let Some(running) = &container.running {
                    container.sweep(running);
                }
                None
            }
            Action::Finish { .. } => {
                self.finished = true;
                None
            }
        }
    }

    /// To the container's first process; one that has gone has been told already.
    pub(super) fn signal(&self, index: usize, signal: i32) {
        if let Some(running) = self.containers.get(index).and_then(|container| container.running.as_ref()) {
            let _ = running.process.signal(signal);
        }
    }

    /// On the clock of the machines.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    pub(super) fn commit(&mut self) {
        self.record.phase = self.pod.phase();
        let joined = || self.joined.as_ref().map(JoinedNetwork::record);
        self.record.network = self.connection.as_ref().map(Connection::record).or_else(joined);
        self.record.publishing = self.publishing.as_ref().map(Publishing::record);
        for (view, (container, record)) in
            self.pod.containers().zip(self.containers.iter().zip(&mut self.record.containers))
        {
            record.restarts = view.restarts;
            record.last_exit = view.last_exit;
            record.last_reason = view.last_reason.map(|reason| reason.as_str().to_owned());
            record.leaf = container.leaf.as_ref().map(Leaf::name);
            record.state = container.state(view.status);
            [record.message, record.last_message] = container.messages(view.status);
            record.start_code = view.start_code;
        }
        // A runtime directory that cannot be written must not end a running pod; `ps` then shows an older state.
        let _ = state::commit(&self.plan.sandbox.dirs, &self.record);
    }

    /// Every container has been started, or its command could not be executed: the command that started us may go.
    fn tell_starter(&mut self) {
        let Some(starter) = self.starter.take() else { return };
        // A restart that failed meanwhile is not for the caller: the container has run.
        let failures = self.containers.iter().filter(|container| !container.has_run);
        let failures: Vec<Report> = failures.filter_map(|container| container.start_failure.clone()).collect();
        let reply = if failures.is_empty() { StartReply::Ready } else { StartReply::ReadyBut(failures) };
        let reply = serde_json::to_vec(&reply).unwrap_or_default();
        let master = self.first_master.take();
        let fds: Vec<BorrowedFd<'_>> = master.iter().map(AsFd::as_fd).collect();
        let _ = starter.send(&reply, &fds);
        self.caller = (self.at_end == AtEnd::KeepForCaller).then_some(starter);
    }

    pub(super) fn accept(&mut self) -> Accepted {
        let waiting = self.control.as_ref().map_or(Ok(None), Listener::accept);
        let Ok(Some(channel)) = waiting else { return Accepted::Nobody };
        let refusal = refuse_stranger(&channel);
        let client = Client::new(channel);
        if let Some(report) = refusal {
            client.reply(&Reply::Failed(report), &[]);
            return Accepted::Refused;
        }
        let id = self
            .clients
            .reserve()
            .filter(|id| self.watch.add(client.as_fd(), Source::Client(*id), Interest::Readable).is_some());
        let Some(id) = id else {
            // Before it has asked: it finds the answer when it does.
            client.reply(&Reply::Failed(self.too_many_clients()), &[]);
            return Accepted::Refused;
        };
        self.clients.insert(id, client);
        Accepted::Client(id)
    }
}

/// What waited at the control socket.
pub(super) enum Accepted {
    Client(u64),
    /// It has been answered. Another one may wait behind it.
    Refused,
    Nobody,
}

/// 0600 keeps other users out already; this keeps out who was given the descriptor, and the root of a container that reaches
/// the socket (by a hostPath of the runtime directory, say), which may have our uid.
fn refuse_stranger(channel: &Channel) -> Option<Report> {
    let ours = crate::sys::privileges::uid();
    // The host's root may do anything anyhow, and we may not look at its processes. No container has that id.
    let is_host_root = ours != 0 && channel.peer().is_ok_and(|(_, uid)| uid == 0);
    if is_host_root || channel.is_peer_ours() {
        return None;
    }
    let report = clients::refuse("the supervisor of the pod takes no requests from this process".to_owned());
    Some(report.because("it belongs to another user, or to another user namespace"))
}

/// A pod that has been quiet for this long is idle. Once for each time it falls silent; nothing ticks.
const SETTLE: Duration = Duration::from_secs(1);
