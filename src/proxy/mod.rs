//! The port proxy: accepts on the host, connects inside the pod, and moves the bytes.
//!
//! A socket belongs to the network namespace in which it was made, for good. So listeners are made on the host, then this
//! process joins the pod's network namespace (`engine/ports.rs`), and from then on it holds both ends: what it accepts is
//! the host's, what it connects is the pod's. TCP is spliced, through pipes that exist only while bytes are on their way.
//!
//! One thread, one epoll loop; nothing ticks. It asks nothing of the pod but a connection, and decides nothing: which
//! port leads where is in the plan.

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

mod header;
mod pipes;
mod shares;
mod slab;
mod stream;
mod tcp;
mod token;
mod udp;

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::sys::event::{Interest, Poller, Ready};
use crate::sys::{Errno, Result, memfd, process, stdio};
use tcp::{Accepted, Connections};
use token::Token;
use udp::Flows;

/// A listener and where its connections go.
#[derive(Debug)]
pub struct TcpPort {
    pub listener: OwnedFd,
    /// Tried in order, until one accepts.
    pub targets: Vec<SocketAddr>,
    pub client_address: ClientAddress,
}

/// Whether the pod is told who its client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAddress {
    /// The pod sees the proxy's own address.
    Hidden,
    /// By a PROXY protocol header, version 2, in front of everything else.
    ProxyHeader,
}

/// A bound socket and where its datagrams go.
#[derive(Debug)]
pub struct UdpPort {
    /// From [`crate::sys::inet::bind_udp`].
    pub socket: OwnedFd,
    /// The first; the next, when the system says that nobody listens there.
    pub targets: Vec<SocketAddr>,
}

/// A proxy that has not begun, or is at work.
#[derive(Debug)]
pub struct Proxy {
    poller: Poller,
    connections: Connections,
    flows: Flows,
    /// Since when no connections are accepted, and how many had ended then.
    paused: Option<(Instant, u64)>,
}

/// Descriptors for what the process has anyhow, and for a connection that is being refused.
const RESERVED: usize = 64;
/// Of the descriptors, in pipes. Readers that are slow, or have stopped, keep theirs; a connection that gets none is served
/// through a buffer, so what they take is speed, and no port dies of another's clients.
const IN_PIPES: usize = 4;
/// The most UDP flows; fewer where descriptors are few.
const MOST_FLOWS: usize = 4096;
/// When descriptors or memory have run out, and no connection ends: how long until the next look.
const PAUSE: Duration = Duration::from_millis(200);
/// Silence after which a proxy is idle.
const SETTLE: Duration = Duration::from_secs(1);

impl Proxy {
    /// Takes the ports over, and as many descriptors as this process may have (RLIMIT_NOFILE is raised to its hard limit).
    /// From here on the process ignores SIGPIPE: it splices, and no client's end may be everybody's.
    ///
    /// # Errors
    /// A kernel call; nothing was accepted then.
    pub fn new(tcp: Vec<TcpPort>, udp: Vec<UdpPort>) -> Result<Proxy> {
        stdio::ignore_broken_pipes()?;
        let descriptors = usize::try_from(process::raise_descriptor_limit()?).unwrap_or(usize::MAX);
        let left = descriptors.saturating_sub(RESERVED + tcp.len() + udp.len());
        let flows = if udp.is_empty() { 0 } else { (left / 8).clamp(1, MOST_FLOWS) };
        // Two descriptors each, as a connection has two sockets.
        let pipes = left / IN_PIPES / 2;
        let connections = (left.saturating_sub(flows + 2 * pipes) / 2).max(1);
        let proxy = Proxy {
            poller: Poller::new()?,
            connections: Connections::new(tcp, connections, pipes),
            flows: Flows::new(udp, flows),
            paused: None,
        };
        proxy.watch_listeners()?;
        let first = proxy.connections.ports().len();
        for (index, port) in proxy.flows.ports().iter().enumerate() {
            proxy.poller.add(port.socket.as_fd(), port_token(first + index), Interest::Readable)?;
        }
        Ok(proxy)
    }

    /// Works until one of `stop` can be read or has ended; gives its place.
    ///
    /// # Errors
    /// A kernel call of the loop itself; what happens to a connection is that connection's affair.
    pub fn run(&mut self, stop: &[BorrowedFd<'_>]) -> Result<usize> {
        for (index, fd) in stop.iter().enumerate() {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            self.poller.add(*fd, Token::Stop(index).to_bits(), Interest::Readable)?;
        }
        let stopped = self.turn();
        for fd in stop {
            self.poller.remove(*fd)?;
        }
        stopped
    }

    fn turn(&mut self) -> Result<usize> {
        let mut ready = Vec::new();
        let mut settled = false;
        loop {
            self.poller.wait_into(self.patience(settled), &mut ready)?;
            for event in &ready {
                if let Some(stopped) = self.dispatch(*event) {
                    return Ok(stopped);
                }
            }
            self.connections.take_turns();
            let now = Instant::now();
            self.connections.on_time(&self.poller, now);
            self.flows.on_time(now);
            self.resume(now);
            if !ready.is_empty() {
                settled = false;
            } else if !settled && !self.connections.has_work() {
                settled = true;
                self.shrink();
            }
        }
    }

    /// How long the loop may sleep.
    fn patience(&self, settled: bool) -> Option<Duration> {
        if self.connections.has_work() {
            return Some(Duration::ZERO);
        }
        let now = Instant::now();
        let deadlines =
            [self.connections.deadline(), self.flows.deadline(), self.paused.map(|(since, _)| since + PAUSE)];
        let next = deadlines.into_iter().flatten().min().map(|at| at.saturating_duration_since(now));
        // epoll counts milliseconds, and rounds down: without this it would be asked again and again until then.
        let next = next.map(|left| left + Duration::from_millis(1));
        next.into_iter().chain((!settled).then_some(SETTLE)).min()
    }

    fn dispatch(&mut self, ready: Ready) -> Option<usize> {
        match Token::from_bits(ready.token)? {
            Token::Stop(index) => return usize::try_from(index).ok(),
            Token::Port(index) => {
                let (index, tcp) = (usize::try_from(index).ok()?, self.connections.ports().len());
                if index >= tcp {
                    self.flows.on_port(&self.poller, index - tcp);
                } else if self.paused.is_none() && self.connections.accept(&self.poller, index) == Accepted::Exhausted {
                    self.pause();
                }
            }
            Token::Client(key) => self.connections.on_client(key, ready),
            Token::Pod(key) => self.connections.on_pod(&self.poller, key, ready),
            Token::Flow(key) => self.flows.on_flow(&self.poller, key),
        }
        None
    }

    /// Stops accepting: what cannot be accepted would be told of again and again. Clients wait in the backlog.
    fn pause(&mut self) {
        for port in self.connections.ports() {
            // Not watched just now: nothing to do.
            let _ = self.poller.remove(port.listener.as_fd());
        }
        self.paused = Some((Instant::now(), self.connections.ended()));
    }

    /// Accepts again, when a connection has ended since or some time has passed.
    fn resume(&mut self, now: Instant) {
        let Some((since, ended)) = self.paused else { return };
        if self.connections.ended() == ended && now < since + PAUSE {
            return;
        }
        self.paused = None;
        // A watch is kernel memory, too (ENOMEM, or ENOSPC of fs.epoll.max_user_watches, epoll(7)). One of those that were
        // watched before it would wake us up in vain until all are.
        if self.watch_listeners().is_err() {
            self.pause();
        }
    }

    fn watch_listeners(&self) -> Result<()> {
        let mut ports = self.connections.ports().iter().enumerate();
        ports.try_for_each(|(index, port)| {
            match self.poller.add(port.listener.as_fd(), port_token(index), Interest::Readable) {
                // It has been all the time.
                Err(error) if error.errno == Errno::EEXIST => Ok(()),
                added => added,
            }
        })
    }

    /// Nothing to do for now: keep only what waiting needs.
    fn shrink(&mut self) {
        self.connections.shrink();
        self.flows.shrink();
        memfd::trim_heap();
        memfd::forget_program_pages();
    }
}

fn port_token(index: usize) -> u64 {
    Token::Port(u32::try_from(index).unwrap_or(u32::MAX)).to_bits()
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::sys::inet;

    /// A paused proxy of these listeners, whose pause is over.
    fn paused(listeners: Vec<OwnedFd>) -> Proxy {
        let port = |listener| TcpPort { listener, targets: Vec::new(), client_address: ClientAddress::Hidden };
        Proxy {
            poller: Poller::new().expect("epoll_create1"),
            connections: Connections::new(listeners.into_iter().map(port).collect(), 9, 1),
            flows: Flows::new(Vec::new(), 0),
            paused: Some((Instant::now(), 0)),
        }
    }

    /// A listener at which somebody waits.
    fn asked() -> (OwnedFd, TcpStream) {
        let listener = inet::listen_tcp("127.0.0.1:0".parse().expect("an address")).expect("listen");
        let client = TcpStream::connect(inet::local_address(listener.as_fd()).expect("bound")).expect("connect");
        (listener, client)
    }

    #[test]
    fn who_cannot_be_watched_keeps_all_waiting_and_ends_nothing() {
        let (listener, _client) = asked();
        // epoll has EPERM for a file, in the place of the ENOMEM that cannot be had here.
        let file = std::fs::File::open("/proc/self/stat").expect("open");
        let mut proxy = paused(vec![listener, file.into()]);
        let over = Instant::now() + PAUSE;
        proxy.resume(over);
        assert!(proxy.paused.is_some_and(|(since, _)| since + PAUSE > over), "it is not asked again at once");
        assert!(proxy.poller.wait(Some(Duration::ZERO)).expect("epoll_wait").is_empty(), "it would spin");
    }

    #[test]
    fn who_is_watched_already_is_no_obstacle() {
        let ((first, _one), (second, _two)) = (asked(), asked());
        let mut proxy = paused(vec![first, second]);
        let first = proxy.connections.ports()[0].listener.as_fd();
        proxy.poller.add(first, port_token(0), Interest::Readable).expect("epoll_ctl");
        proxy.resume(Instant::now() + PAUSE);
        assert_eq!(proxy.paused, None);
        assert_eq!(proxy.poller.wait(Some(Duration::ZERO)).expect("epoll_wait").len(), 2);
    }
}
