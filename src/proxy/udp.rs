//! UDP: for each client that sends to a port, a flow with a socket of its own in the pod, so that answers find their way
//! back. A flow ends when nobody has said anything for a while, since UDP does not say when it ends.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::UdpPort;
use super::slab::Slab;
use super::token::{Key, Token};
use crate::sys::event::{Interest, Poller};
use crate::sys::inet::{self, LocalAddress};

/// A flow without a datagram for so long is over: what docker's proxy uses (UDPConnTrackTimeout in moby's
/// udp_proxy_linux.go), between the 30 s and 120 s of nf_conntrack_udp_timeout and its _stream.
const IDLE: Duration = Duration::from_secs(90);
/// Datagrams of one socket in a row.
const IN_A_ROW: usize = 64;
/// The longest datagram (udp(7)): 65,535 bytes less the headers.
const LONGEST: usize = 65_536;

/// Who talks to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Pair {
    port: usize,
    client: SocketAddr,
    /// The address of ours that the client sends to, and has its answers from.
    host: LocalAddress,
}

#[derive(Debug)]
struct Flow {
    pair: Pair,
    /// In the pod, connected to one of the port's targets.
    socket: OwnedFd,
    target: usize,
    /// Seconds since the proxy's start.
    last_used: u64,
}

#[derive(Debug)]
pub(super) struct Flows {
    ports: Vec<UdpPort>,
    all: Slab<Flow>,
    by_pair: HashMap<Pair, Key>,
    /// For each port its flows by [`Flow::last_used`]: the first has been idle the longest.
    by_age: Vec<BTreeSet<(u64, Key)>>,
    limit: usize,
    origin: Instant,
    buffer: Vec<u8>,
}

impl Flows {
    /// At most `limit` at a time: see [`make_room`](Self::make_room).
    pub(super) fn new(ports: Vec<UdpPort>, limit: usize) -> Flows {
        Flows {
            by_age: ports.iter().map(|_| BTreeSet::new()).collect(),
            ports,
            all: Slab::new(),
            by_pair: HashMap::new(),
            limit: limit.max(1),
            origin: Instant::now(),
            buffer: Vec::new(),
        }
    }

    pub(super) fn ports(&self) -> &[UdpPort] {
        &self.ports
    }

    /// Datagrams of clients.
    pub(super) fn on_port(&mut self, poller: &Poller, port: usize) {
        let mut buffer = self.take_buffer();
        for _ in 0..IN_A_ROW {
            let received = inet::receive_from(self.ports[port].socket.as_fd(), &mut buffer);
            let Ok(Some(datagram)) = received else { break };
            let pair = Pair { port, client: datagram.from, host: datagram.to };
            if let Some(key) = self.flow_of(poller, pair) {
                self.send_to_pod(poller, key, &buffer[..datagram.length]);
            }
        }
        self.buffer = buffer;
    }

    /// Datagrams of the pod.
    pub(super) fn on_flow(&mut self, poller: &Poller, key: Key) {
        let mut buffer = self.take_buffer();
        for _ in 0..IN_A_ROW {
            let Some(flow) = self.all.get_mut(key) else { break };
            match inet::receive(flow.socket.as_fd(), &mut buffer) {
                Ok(Some(length)) => {
                    let Pair { port, client, host } = flow.pair;
                    // A client that is gone, or a full buffer: datagrams may be lost.
                    let _ = inet::send_from(self.ports[port].socket.as_fd(), &buffer[..length], host, client);
                    self.touch(key);
                }
                Ok(None) => break,
                // Nobody listens there (an ICMP message says so, udp(7)).
                Err(_) => {
                    self.try_next_target(poller, key);
                    break;
                }
            }
        }
        self.buffer = buffer;
    }

    fn flow_of(&mut self, poller: &Poller, pair: Pair) -> Option<Key> {
        if let Some(key) = self.by_pair.get(&pair) {
            return Some(*key);
        }
        self.make_room(pair.port);
        let (target, socket) = first_open(&self.ports[pair.port].targets, 0)?;
        let key = self.all.next_key();
        poller.add(socket.as_fd(), Token::Flow(key).to_bits(), Interest::Readable).ok()?;
        let last_used = self.now();
        self.all.insert(Flow { pair, socket, target, last_used });
        self.by_pair.insert(pair, key);
        self.by_age[pair.port].insert((last_used, key));
        Some(key)
    }

    /// For one more flow of `port`, where there are as many as may be: the port that has the most gives its oldest, this one
    /// before others that have as many. So a port may use what others leave, and a flood of clients at one (a client's address
    /// is easily forged) ends no flow of a port that has fewer.
    fn make_room(&mut self, port: usize) {
        if self.all.len() < self.limit {
            return;
        }
        let most = (0..self.by_age.len()).max_by_key(|&other| (self.by_age[other].len(), other == port));
        if let Some((_, oldest)) = most.and_then(|most| self.by_age[most].first().copied()) {
            self.end(oldest);
        }
    }

    fn send_to_pod(&mut self, poller: &Poller, key: Key, bytes: &[u8]) {
        self.touch(key);
        let Some(flow) = self.all.get_mut(key) else { return };
        // The error is that of an earlier datagram, and this one was not sent.
        if inet::send_some(flow.socket.as_fd(), bytes).is_err() {
            self.try_next_target(poller, key);
            if let Some(flow) = self.all.get_mut(key) {
                let _ = inet::send_some(flow.socket.as_fd(), bytes);
            }
        }
    }

    /// The server may be at another of the addresses. After the last comes the first again: it may be back.
    fn try_next_target(&mut self, poller: &Poller, key: Key) {
        let Some(flow) = self.all.get_mut(key) else { return };
        let targets = &self.ports[flow.pair.port].targets;
        if targets.len() < 2 {
            return;
        }
        let Some((target, socket)) = first_open(targets, flow.target + 1) else { return };
        if poller.add(socket.as_fd(), Token::Flow(key).to_bits(), Interest::Readable).is_ok() {
            flow.socket = socket;
            flow.target = target;
        }
    }

    fn touch(&mut self, key: Key) {
        let now = self.now();
        let Some(flow) = self.all.get_mut(key) else { return };
        if flow.last_used != now {
            let by_age = &mut self.by_age[flow.pair.port];
            by_age.remove(&(flow.last_used, key));
            flow.last_used = now;
            by_age.insert((now, key));
        }
    }

    fn end(&mut self, key: Key) {
        let Some(flow) = self.all.remove(key) else { return };
        self.by_age[flow.pair.port].remove(&(flow.last_used, key));
        self.by_pair.remove(&flow.pair);
    }

    /// Ends what has been idle for too long.
    pub(super) fn on_time(&mut self, now: Instant) {
        while let Some((last_used, key)) = self.oldest()
            && self.over_at(last_used) <= now
        {
            self.end(key);
        }
    }

    /// When [`on_time`](Self::on_time) is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.oldest().map(|(last_used, _)| self.over_at(last_used))
    }

    /// Of all ports.
    fn oldest(&self) -> Option<(u64, Key)> {
        self.by_age.iter().filter_map(|flows| flows.first().copied()).min()
    }

    fn over_at(&self, last_used: u64) -> Instant {
        // `last_used` was rounded down.
        self.origin + Duration::from_secs(last_used + 1) + IDLE
    }

    fn now(&self) -> u64 {
        self.origin.elapsed().as_secs()
    }

    fn take_buffer(&mut self) -> Vec<u8> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(LONGEST, 0);
        buffer
    }

    /// Gives back what only a crowd needed.
    pub(super) fn shrink(&mut self) {
        self.buffer = Vec::new();
        self.all.shrink();
        self.by_pair.shrink_to_fit();
    }
}

/// A socket to the first target from `first` on, in a circle, to which there is a way.
fn first_open(targets: &[SocketAddr], first: usize) -> Option<(usize, OwnedFd)> {
    (first..first + targets.len()).find_map(|number| {
        let target = number % targets.len();
        let socket = inet::connect_udp(targets[target]).ok()?;
        // The kernel may give our end the very port that it is to go to: it would talk to itself, and keep a server from it.
        let is_itself = inet::local_address(socket.as_fd()).ok() == Some(targets[target]);
        (!is_itself).then_some((target, socket))
    })
}
