//! The pod's network as the supervisor holds it: the program, the gate before the containers, and what `ps` shows.

use std::os::fd::AsFd;
use std::time::Duration;

use super::event_loop::Supervisor;
use super::lifecycle::Event;
use super::lifecycle::network::{End, Network};
use super::lifecycle::program::{Order, START_TIMEOUT, State};
use super::watch::{Source, Watch};
use crate::engine::network::{self, Attachment, Gate, Refusal};
use crate::engine::{During, Failure, Result};
use crate::plan::network::{Backend, NetworkPlan, Sandboxing, UserMode};
use crate::state::{NetworkRecord, NetworkState};
use crate::step::Step;
use crate::sys::event::Interest;
use crate::sys::process::{Exit, PidFd, ProcessId, signal_name};

/// What followers are told.
const DOWN: &str = "network down";

/// What went wrong, and what would mend it.
#[derive(Debug, Clone)]
struct Trouble {
    why: String,
    fix: Option<String>,
}

impl Trouble {
    fn in_a_line(&self) -> String {
        match &self.fix {
            Some(fix) => format!("{} (fix: {fix})", self.why),
            None => self.why.clone(),
        }
    }
}

/// Of a pod with a user-mode network.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    plan: &'a UserMode,
    machine: Network,
    attachment: Option<Attachment>,
    gate: Gate,
    /// Why it is not up.
    trouble: Option<Trouble>,
    /// Why it is up without its sandbox.
    unsandboxed: Option<Trouble>,
}

impl<'a> Connection<'a> {
    /// Not started yet; `None` where the plan has no user-mode network.
    pub(super) fn new(plan: &'a NetworkPlan, now: Duration) -> Result<Option<Connection<'a>>> {
        let NetworkPlan::UserMode(plan) = plan else { return Ok(None) };
        let gate = Gate::closed()?;
        Ok(Some(Connection {
            plan,
            machine: Network::new(plan.sandboxing, now),
            attachment: None,
            gate,
            trouble: None,
            unsandboxed: None,
        }))
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.machine.program.next_deadline()
    }

    pub(super) fn record(&self) -> NetworkRecord {
        let state = match self.machine.program.state() {
            State::Starting { .. } | State::Killed => NetworkState::Attaching,
            State::Up { .. } => NetworkState::Up,
            State::Down { .. } | State::Failed => NetworkState::Down,
        };
        NetworkRecord {
            state,
            trouble: self.trouble.as_ref().map(Trouble::in_a_line),
            sandboxed: self.machine.sandboxing() == Sandboxing::On,
            unsandboxed: match (&self.unsandboxed, self.plan.sandboxing) {
                (Some(trouble), _) => Some(trouble.why.clone()),
                (None, Sandboxing::Off) => Some("with hostPID the pod could reach into its sandbox".to_owned()),
                (None, Sandboxing::On) => None,
            },
            restarts: self.machine.program.restarts(),
            program: self.attachment.as_ref().and_then(Attachment::program),
        }
    }
}

/// The network of another pod, which ends with that pod: nothing can bring it back.
#[derive(Debug)]
pub(super) struct JoinedNetwork<'a> {
    name: &'a str,
    pause: PidFd,
    ended: bool,
}

impl<'a> JoinedNetwork<'a> {
    /// `None` where the plan joins none.
    pub(super) fn new(plan: &'a NetworkPlan, watch: &mut Watch) -> Result<Option<JoinedNetwork<'a>>> {
        let NetworkPlan::Joined(joined) = plan else { return Ok(None) };
        let (pid, start_time) = joined.pause;
        let ended = || Failure::because(Step::AttachNetwork, "", format!("pod `{}` has ended", joined.name));
        let pause = ProcessId { pid, start_time }.open().during(Step::AttachNetwork, "")?.ok_or_else(ended)?;
        watch.add(pause.as_fd(), Source::JoinedPod, Interest::Readable);
        Ok(Some(JoinedNetwork { name: &joined.name, pause, ended: false }))
    }

    pub(super) fn record(&self) -> NetworkRecord {
        let trouble = self.ended.then(|| format!("pod `{}`, whose network this is, has ended", self.name));
        let state = if self.ended { NetworkState::Down } else { NetworkState::Up };
        NetworkRecord { state, trouble, sandboxed: true, unsandboxed: None, restarts: 0, program: None }
    }
}

impl Supervisor<'_> {
    /// What is wrong now, for somebody who begins to follow the pod.
    pub(super) fn network_troubles(&self) -> Vec<(&'static str, String)> {
        let own = self.connection.as_ref().and_then(|connection| connection.trouble.as_ref()).map(Trouble::in_a_line);
        let joined = self.joined.as_ref().and_then(|joined| joined.record().trouble);
        own.into_iter().chain(joined).map(|why| (DOWN, why)).collect()
    }

    pub(super) fn on_joined_pod_ended(&mut self) {
        if let Some(joined) = &mut self.joined {
            joined.ended = true;
            self.watch.remove(joined.pause.as_fd(), Source::JoinedPod);
        }
        if let Some(why) = self.joined.as_ref().and_then(|joined| joined.record().trouble) {
            self.tell(DOWN, &why);
        }
        self.commit();
    }

    /// As soon as pause can be entered. The containers are prepared meanwhile.
    pub(super) fn connect(&mut self) {
        self.obey(Some(Order::Start));
    }

    fn obey(&mut self, order: Option<Order>) {
        let Some(connection) = &mut self.connection else { return };
        match order {
            None => {}
            Some(Order::Kill) => {
                connection.attachment.iter_mut().for_each(Attachment::kill);
            }
            Some(Order::Start) => {
                if connection.machine.looks_first()
                    && let Some(refused) = network::sandbox::refusal(&self.sandbox.process)
                {
                    let why = format!("its sandbox is refused here: {}", refused);
                    return self.network_ended(End::NoSandbox, Trouble { why, fix: None });
                }
                let sandboxing = connection.machine.sandboxing();
                let directory = &self.plan.sandbox.dirs.runtime;
                match Attachment::start(connection.plan, self.sandbox.pid, sandboxing, directory) {
                    Ok(attachment) => {
                        self.watch.add(attachment.ready(), Source::NetworkReady, Interest::Readable);
                        self.watch.add(attachment.stderr(), Source::NetworkStderr, Interest::Readable);
                        connection.attachment = Some(attachment);
                    }
                    Err(failure) => self.network_ended(End::Refused, Trouble { why: failure.to_string(), fix: None }),
                }
            }
            Some(Order::Fail) => self.never_connected(),
        }
    }

    /// Its byte, or its end: then its exit follows.
    pub(super) fn on_network_ready(&mut self) {
        let now = self.now();
        let Some(connection) = &mut self.connection else { return };
        let Some(attachment) = &mut connection.attachment else { return };
        self.watch.remove(attachment.ready(), Source::NetworkReady);
        if attachment.is_up() {
            connection.machine.program.came_up(now);
            connection.trouble = None;
            connection.gate.open();
            if connection.machine.program.restarts() > 0 {
                self.tell("network up", "it was started again");
            }
            self.commit();
        }
    }

    pub(super) fn on_network_stderr(&mut self) {
        let attachment = self.connection.as_mut().and_then(|connection| connection.attachment.as_mut());
        if let Some(attachment) = attachment
            && !attachment.read_stderr()
        {
            self.watch.remove(attachment.stderr(), Source::NetworkStderr);
        }
    }

    /// True when the process was the network's.
    pub(super) fn note_network_exit(&mut self, pid: i32, exit: Exit) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let Some(mut attachment) = connection.attachment.take_if(|attachment| attachment.pid == pid) else {
            return false;
        };
        self.watch.remove(attachment.ready(), Source::NetworkReady);
        attachment.read_stderr();
        self.watch.remove(attachment.stderr(), Source::NetworkStderr);
        let hung = connection.machine.program.state() == State::Killed;
        let end = match exit {
            // It has no wrapper that could look closer: a second attempt would be the same.
            _ if connection.plan.backend == Backend::Pasta => End::Refused,
            Exit::Code(code) if Refusal::of(code).is_some() => End::Refused,
            Exit::Code(_) | Exit::Signal(_) => End::Failed,
        };
        let trouble = trouble(connection.plan.backend, hung, exit, attachment.stderr_lines());
        self.network_ended(end, trouble);
        true
    }

    fn network_ended(&mut self, end: End, trouble: Trouble) {
        let now = self.now();
        let Some(connection) = &mut self.connection else { return };
        let order = connection.machine.ended(end, now);
        if order == Some(Order::Start) && connection.machine.sandboxing() == Sandboxing::Off {
            connection.unsandboxed = Some(trouble);
        } else {
            // Once, and not again at each restart that fails in the same way.
            let why = trouble.in_a_line();
            let before = connection.trouble.replace(trouble);
            if before.is_none_or(|before| before.in_a_line() != why) {
                self.tell(DOWN, &why);
            }
        }
        self.obey(order);
        self.commit();
    }

    pub(super) fn network_timer(&mut self) {
        let now = self.now();
        let order = self.connection.as_mut().and_then(|connection| connection.machine.program.timer_fired(now));
        self.obey(order);
    }

    /// Containers on their way wait for it in vain.
    fn never_connected(&mut self) {
        let Some(Trouble { why, fix }) = self.connection.as_ref().and_then(|it| it.trouble.clone()) else { return };
        let failure = Failure::because(Step::AttachNetwork, "", why);
        for index in 0..self.containers.len() {
            let Some(pending) = self.containers[index].starting.take() else { continue };
            self.watch.remove(pending.as_fd(), Source::Starting(index));
            drop(pending);
            let is_reason = self.start_failure.is_none();
            let event: Event = self.start_failed(index, failure.clone());
            if let Some(report) = self.start_failure.as_mut().filter(|_| is_reason) {
                report.hint.clone_from(&fix);
            }
            self.handle(event);
        }
    }
}

/// The wrapper says what is lacking, and ends with `fix: …`; of any other program the end is what is known for sure.
fn trouble(backend: Backend, hung: bool, exit: Exit, mut lines: Vec<String>) -> Trouble {
    let program = backend.word();
    if let Some(fix) = lines.last().and_then(|last| last.strip_prefix("fix: ")).map(str::to_owned) {
        lines.pop();
        return Trouble { why: lines.join("; "), fix: Some(fix) };
    }
    let (end, fix) = match exit {
        _ if hung => (
            format!("gave no sign for {} s and was killed", START_TIMEOUT.as_secs()),
            Some(
                "see with `top` what keeps this machine busy, and start the pod again; or use --network none"
                    .to_owned(),
            ),
        ),
        // The minder's word: the program itself was never there.
        Exit::Code(code) if backend == Backend::Pasta && code == Refusal::CannotRun.status() => (
            "could not be started".to_owned(),
            Some(
                "correct SANDPOD_PASTA or unset it, or install pasta again (Debian, Ubuntu: apt install passt)"
                    .to_owned(),
            ),
        ),
        Exit::Code(code) => (format!("ended with status {code}"), None),
        Exit::Signal(signal) => (format!("was ended by {}", signal_name(signal)), None),
    };
    lines.insert(0, format!("{program} {end}"));
    Trouble { why: lines.join("; "), fix }
}
