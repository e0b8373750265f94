//! The pod's port proxy: started when pause runs, and again when it dies. The sockets are here as long as the pod lives, so
//! no client is refused meanwhile, and nobody else gets the ports.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::event_loop::Supervisor;
use super::lifecycle::program::{Order, Program, State};
use crate::engine::ports::{self, PortProxy, Sockets};
use crate::engine::{During, Result};
use crate::state::{PortsRecord, PortsState};
use crate::step::Step;
use crate::sys::clone;
use crate::sys::process::{Exit, PidFd, ProcessId, signal_name};

/// What followers are told.
const DOWN: &str = "ports down";

/// What the pod publishes, and who does it.
#[derive(Debug)]
pub(super) struct Publishing {
    sockets: Sockets,
    machine: Program,
    proxy: Option<(PortProxy, Option<ProcessId>)>,
    /// Why there is none.
    trouble: Option<String>,
    /// The pod's network namespace, from the first start on.
    network: Option<OwnedFd>,
}

impl Publishing {
    /// `None` where the pod publishes nothing.
    pub(super) fn new(sockets: Sockets, now: Duration) -> Option<Publishing> {
        let machine = Program::new(now);
        (!sockets.is_empty()).then_some(Publishing { sockets, machine, proxy: None, trouble: None, network: None })
    }

    pub(super) fn record(&self) -> PortsRecord {
        PortsRecord {
            state: match self.machine.state() {
                // Its first start is part of the pod's own.
                State::Up { .. } => PortsState::Open,
                State::Starting { .. } | State::Killed | State::Down { .. } | State::Failed => PortsState::Down,
            },
            trouble: self.trouble.clone(),
            restarts: self.machine.restarts(),
            proxy: self.proxy.as_ref().and_then(|(_, identity)| *identity),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.machine.next_deadline()
    }

    /// Nobody can be reached any more. The ports are free when the proxy has gone.
    pub(super) fn end(&mut self) {
        self.proxy.iter().for_each(|(proxy, _)| proxy.kill());
        self.sockets = Sockets::default();
    }

    /// Those to wait for after [`end`](Self::end).
    pub(super) fn processes(&self) -> impl Iterator<Item = &PidFd> {
        self.proxy.iter().map(|(proxy, _)| &proxy.process)
    }
}

impl Supervisor<'_> {
    /// Once pause is a program of its own: until then its namespaces are closed to everybody.
    pub(super) fn start_port_proxy(&mut self) -> Result<()> {
        let Some(publishing) = &mut self.publishing else { return Ok(()) };
        let network = match publishing.network.take() {
            Some(network) => network,
            None => clone::namespace_of(self.sandbox.pid, "net").during(Step::StartPortProxy, "")?,
        };
        let proxy = ports::start(&publishing.sockets, network.as_fd(), &self.plan.sandbox.port_targets);
        publishing.network = Some(network);
        let proxy = proxy?;
        let identity = ProcessId::of(proxy.pid);
        publishing.proxy = Some((proxy, identity));
        publishing.trouble = None;
        publishing.machine.came_up(self.origin.elapsed());
        if publishing.machine.restarts() > 0 {
            self.tell("ports up", "the port proxy was started again");
        }
        // Whoever finds us killed ends it by what is written here.
        self.commit();
        Ok(())
    }

    /// True: `pid` was the proxy. Another one takes its place in a moment.
    pub(super) fn port_proxy_ended(&mut self, pid: i32, exit: Exit) -> bool {
        let Some(publishing) = &mut self.publishing else { return false };
        if publishing.proxy.take_if(|(proxy, _)| proxy.pid == pid).is_none() {
            return false;
        }
        let end = match exit {
            Exit::Code(code) => format!("ended with status {code}"),
            Exit::Signal(signal) => format!("was ended by {}", signal_name(signal)),
        };
        self.ports_are_down(format!("the port proxy {end}"));
        true
    }

    /// What is wrong now, for somebody who begins to follow the pod.
    pub(super) fn ports_trouble(&self) -> Option<(&'static str, String)> {
        Some((DOWN, self.publishing.as_ref()?.trouble.clone()?))
    }

    pub(super) fn ports_timer(&mut self) {
        let now = self.now();
        let order = self.publishing.as_mut().and_then(|publishing| publishing.machine.timer_fired(now));
        if order == Some(Order::Start)
            && let Err(failure) = self.start_port_proxy()
        {
            self.ports_are_down(format!("{}: {failure}", failure.step.doing()));
        }
    }

    fn ports_are_down(&mut self, why: String) {
        let now = self.now();
        let Some(publishing) = &mut self.publishing else { return };
        // It has been up: the machine only says when to try again.
        let _ = publishing.machine.ended(now);
        let before = publishing.trouble.replace(why.clone());
        if before.as_ref() != Some(&why) {
            self.tell(DOWN, &why);
        }
        self.commit();
    }
}
