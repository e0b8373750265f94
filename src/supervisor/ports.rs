//! The pod's port proxy: started when pause runs, and again when it dies. The sockets are here, so no client is refused
//! meanwhile.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::event_loop::Supervisor;
use crate::engine::ports::{self, PortProxy, Sockets};
use crate::engine::{During, Result};
use crate::state::PortsState;
use crate::step::Step;
use crate::sys::clone;

/// A proxy that ends within this time of its start would end again.
const EARLY_EXIT: Duration = Duration::from_secs(1);
/// So often in a row such a one is replaced.
const MAX_EARLY_EXITS: u32 = 5;

/// What the pod publishes, and who does it.
#[derive(Debug, Default)]
pub(super) struct Publishing {
    sockets: Sockets,
    proxy: Option<(PortProxy, Instant)>,
    early_exits: u32,
    given_up: bool,
    /// The pod's network namespace, from the first start on.
    network: Option<OwnedFd>,
}

impl Publishing {
    pub(super) fn new(sockets: Sockets) -> Publishing {
        Publishing { sockets, ..Publishing::default() }
    }

    pub(super) fn state(&self) -> Option<PortsState> {
        if self.given_up {
            return Some(PortsState::Lost);
        }
        (!self.sockets.is_empty()).then_some(PortsState::Open)
    }

    /// Nobody can be reached any more: the proxy goes, and the ports are free.
    pub(super) fn end(&mut self) {
        if let Some((proxy, _)) = self.proxy.take() {
            proxy.kill();
        }
        self.sockets = Sockets::default();
    }
}

impl Supervisor<'_> {
    /// Once pause is a program of its own: until then its namespaces are closed to everybody.
    pub(super) fn start_port_proxy(&mut self) -> Result<()> {
        if self.publishing.sockets.is_empty() {
            return Ok(());
        }
        let network = match self.publishing.network.take() {
            Some(network) => network,
            None => clone::namespace_of(self.sandbox.pid, "net").during(Step::StartPortProxy, "")?,
        };
        let proxy = ports::start(&self.publishing.sockets, network.as_fd(), &self.plan.sandbox.port_targets);
        self.publishing.network = Some(network);
        let proxy = proxy?;
        self.publishing.proxy = Some((proxy, Instant::now()));
        Ok(())
    }

    /// True: `pid` was the proxy, and another has taken its place. One that does not live is given up, with its ports:
    /// a refusal is better than a connection that nobody answers.
    pub(super) fn port_proxy_ended(&mut self, pid: i32) -> bool {
        let Some((_, since)) = self.publishing.proxy.take_if(|(proxy, _)| proxy.pid == pid) else { return false };
        let early = since.elapsed() < EARLY_EXIT;
        self.publishing.early_exits = if early { self.publishing.early_exits + 1 } else { 0 };
        if self.publishing.early_exits > MAX_EARLY_EXITS || self.start_port_proxy().is_err() {
            self.publishing.end();
            self.publishing.given_up = true;
            self.commit();
        }
        true
    }
}
