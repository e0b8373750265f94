//! The pod's network as the supervisor holds it: the program, the gate before the containers, and what `ps` shows.

use std::os::fd::AsFd;
use std::time::Duration;

use super::event_loop::Supervisor;
use super::lifecycle::Event;
use super::lifecycle::network::{End, Network, Order, State};
use super::watch::Source;
use crate::engine::network::{Attachment, Gate};
use crate::engine::{Failure, Result};
use crate::plan::network::{NetworkPlan, Sandboxing, UserMode};
use crate::state::{NetworkRecord, NetworkState};
use crate::step::Step;
use crate::sys::event::Interest;
use crate::sys::process::{Exit, signal_name};

/// The wrapper's own exit statuses, each of which names what is lacking (`--help`).
const REFUSALS: std::ops::RangeInclusive<i32> = 64..=83;

/// Of a pod with a user-mode network.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    plan: &'a UserMode,
    machine: Network,
    attachment: Option<Attachment>,
    gate: Gate,
    /// Why it is not up.
    trouble: Option<String>,
}

impl<'a> Connection<'a> {
    /// Not started yet; `None` where the plan has no user-mode network.
    pub(super) fn new(plan: &'a NetworkPlan, now: Duration) -> Result<Option<Connection<'a>>> {
        let NetworkPlan::UserMode(plan) = plan else { return Ok(None) };
        let gate = Gate::closed()?;
        Ok(Some(Connection { plan, machine: Network::new(now), attachment: None, gate, trouble: None }))
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.machine.next_deadline()
    }

    pub(super) fn record(&self) -> NetworkRecord {
        let state = match self.machine.state() {
            State::Attaching { .. } => NetworkState::Attaching,
            State::Up { .. } => NetworkState::Up,
            State::Down { .. } | State::Failed => NetworkState::Down,
        };
        NetworkRecord {
            state,
            trouble: self.trouble.clone(),
            sandboxed: self.machine.sandboxing() == Sandboxing::On,
            restarts: self.machine.restarts(),
        }
    }
}

impl Supervisor<'_> {
    /// As soon as pause can be entered. The containers are prepared meanwhile.
    pub(super) fn connect(&mut self) {
        if self.connection.is_some() {
            self.obey(Some(Order::Start(Sandboxing::On)));
        }
    }

    fn obey(&mut self, order: Option<Order>) {
        let Some(connection) = &mut self.connection else { return };
        match order {
            None => {}
            Some(Order::Kill) => {
                connection.attachment.iter().for_each(Attachment::kill);
            }
            Some(Order::Start(sandboxing)) => match Attachment::start(connection.plan, self.sandbox.pid, sandboxing) {
                Ok(attachment) => {
                    self.watch.add(attachment.ready(), Source::NetworkReady, Interest::Readable);
                    self.watch.add(attachment.words(), Source::NetworkWords, Interest::Readable);
                    connection.attachment = Some(attachment);
                }
                Err(failure) => self.network_ended(End::Refused, failure.to_string()),
            },
            Some(Order::Fail) => self.never_connected(),
        }
    }

    /// Its byte, or its end: then its exit follows.
    pub(super) fn on_network_ready(&mut self) {
        let now = self.now();
        let Some(connection) = &mut self.connection else { return };
        let Some(attachment) = &connection.attachment else { return };
        self.watch.remove(attachment.ready(), Source::NetworkReady);
        if attachment.is_up() {
            connection.machine.came_up(now);
            connection.trouble = None;
            connection.gate.open();
            self.commit();
        }
    }

    pub(super) fn on_network_words(&mut self) {
        let attachment = self.connection.as_mut().and_then(|connection| connection.attachment.as_mut());
        if let Some(attachment) = attachment
            && !attachment.listen()
        {
            self.watch.remove(attachment.words(), Source::NetworkWords);
        }
    }

    /// True when the process was the network's.
    pub(super) fn note_network_exit(&mut self, pid: i32, exit: Exit) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        let Some(mut attachment) = connection.attachment.take_if(|attachment| attachment.pid == pid) else {
            return false;
        };
        self.watch.remove(attachment.ready(), Source::NetworkReady);
        attachment.listen();
        self.watch.remove(attachment.words(), Source::NetworkWords);
        let program = connection.plan.backend.word();
        let mut words = attachment.last_words();
        let refused = matches!(exit, Exit::Code(code) if REFUSALS.contains(&code));
        if words.is_empty() || !refused {
            words.insert(
                0,
                match exit {
                    Exit::Code(code) => format!("{program} ended with status {code}"),
                    Exit::Signal(signal) => format!("{program} was ended by {}", signal_name(signal)),
                },
            );
        }
        self.network_ended(if refused { End::Refused } else { End::Other }, words.join("; "));
        true
    }

    fn network_ended(&mut self, end: End, trouble: String) {
        let now = self.now();
        let Some(connection) = &mut self.connection else { return };
        let order = connection.machine.ended(end, now);
        // What the first attempt said is what is wrong; the second one only lacked a sandbox.
        connection.trouble.get_or_insert(trouble);
        self.obey(order);
        self.commit();
    }

    pub(super) fn network_timer(&mut self) {
        let now = self.now();
        let order = self.connection.as_mut().and_then(|connection| connection.machine.timer_fired(now));
        self.obey(order);
    }

    /// Containers on their way wait for it in vain.
    fn never_connected(&mut self) {
        let trouble = self.connection.as_ref().and_then(|connection| connection.trouble.clone()).unwrap_or_default();
        let failure = Failure::because(Step::AttachNetwork, "", trouble);
        for index in 0..self.containers.len() {
            if let Some(pending) = self.containers[index].starting.take() {
                self.watch.remove(pending.as_fd(), Source::Starting(index));
                drop(pending);
                let event: Event = self.start_failed(index, failure.clone());
                self.handle(event);
            }
        }
    }
}
