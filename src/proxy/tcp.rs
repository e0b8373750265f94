//! All TCP connections: accepting, connecting to the pod, taking turns.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::header;
use super::pipes::Pipes;
use super::shares::{Holder, Shares};
use super::slab::Slab;
use super::stream::{Outcome, Side, Stream};
use super::token::{Key, Token};
use super::{ClientAddress, TcpPort};
use crate::sys::event::{Interest, Poller, Ready};
use crate::sys::inet::{self, Connecting, Waiting};

/// How long a server in the pod may take to accept. It answers at once unless its backlog is full; then the kernel asks
/// again after 1, 3 and 7 seconds (tcp_syn_retries, tcp(7)).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections of one listener that are accepted in a row.
const ACCEPTED_IN_A_ROW: usize = 64;

/// A connection from its accept to its end.
#[derive(Debug)]
struct Connection {
    client: Side,
    holder: Holder,
    stage: Stage,
    /// It waits in the queue for its turn.
    queued: bool,
}

#[derive(Debug)]
enum Stage {
    /// The pod has not answered yet.
    Connecting(Attempt),
    Open(Stream),
}

/// One of the port's targets, being tried.
#[derive(Debug)]
struct Attempt {
    target: usize,
    /// `None`: not begun.
    socket: Option<OwnedFd>,
    until: Instant,
}

/// What became of a try to accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accepted {
    /// None waits any more, or enough were taken for this turn.
    Enough,
    /// No descriptor, or no memory, for another.
    Exhausted,
}

#[derive(Debug)]
pub(super) struct Connections {
    ports: Vec<TcpPort>,
    all: Slab<Connection>,
    pipes: Pipes,
    /// Who has more to do at once.
    queue: VecDeque<Key>,
    /// When whose attempt has taken too long, in order.
    deadlines: VecDeque<(Instant, Key)>,
    shares: Shares,
    ended: u64,
}

impl Connections {
    /// At most `limit` connections and `pipes` at a time.
    pub(super) fn new(ports: Vec<TcpPort>, limit: usize, pipes: usize) -> Connections {
        Connections {
            shares: Shares::new(limit, ports.len()),
            ports,
            all: Slab::new(),
            pipes: Pipes::new(pipes),
            queue: VecDeque::new(),
            deadlines: VecDeque::new(),
            ended: 0,
        }
    }

    pub(super) fn ports(&self) -> &[TcpPort] {
        &self.ports
    }

    /// How many have ended so far: whoever waits for descriptors looks again when it has changed.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }

    /// Accepts what waits at a listener.
    pub(super) fn accept(&mut self, poller: &Poller, port: usize) -> Accepted {
        for _ in 0..ACCEPTED_IN_A_ROW {
            if self.shares.is_full() {
                return Accepted::Exhausted;
            }
            match inet::accept(self.ports[port].listener.as_fd()) {
                Ok(Waiting::Connection(client)) => self.begin(poller, port, client),
                Ok(Waiting::Failed) => {}
                Ok(Waiting::Nobody) => return Accepted::Enough,
                // EMFILE, ENOMEM and the like; and what nobody knows is better not asked again and again.
                Err(_) => return Accepted::Exhausted,
            }
        }
        Accepted::Enough
    }

    fn begin(&mut self, poller: &Poller, port: usize, client: OwnedFd) {
        // Without an address: it was reset before it was accepted.
        let address = inet::peer_address(client.as_fd()).map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.ip());
        let holder = Holder::new(port, address);
        if !self.shares.take(holder) {
            return inet::reset_when_closed(client.as_fd());
        }
        inet::hurry_if_local(client.as_fd());
        let attempt = Attempt { target: 0, socket: None, until: Instant::now() };
        let client = Side::new(client);
        let key = self.all.insert(Connection { client, holder, stage: Stage::Connecting(attempt), queued: false });
        let Some(connection) = self.all.get_mut(key) else { return };
        // Watched from its first moment: a client that gives up is no longer waited for.
        let token = Token::Client(key).to_bits();
        match poller.add(connection.client.socket.as_fd(), token, Interest::Changes) {
            Ok(()) => self.connect(poller, key),
            Err(_) => self.end(key, Outcome::Broken),
        }
    }

    /// Tries the port's targets from the attempt's on; the client hears of it when none takes it.
    fn connect(&mut self, poller: &Poller, key: Key) {
        let Some(Connection { holder, stage: Stage::Connecting(attempt), .. }) = self.all.get_mut(key) else { return };
        while let Some(address) = self.ports[holder.port].targets.get(attempt.target) {
            let (socket, connected) = match inet::connect_tcp(*address) {
                Ok(Connecting::Connected(socket)) => (socket, true),
                Ok(Connecting::Waiting(socket)) => (socket, false),
                // Refused, or no way there: the next.
                Err(_) => {
                    attempt.target += 1;
                    continue;
                }
            };
            if poller.add(socket.as_fd(), Token::Pod(key).to_bits(), Interest::Changes).is_err() {
                break;
            }
            attempt.socket = Some(socket);
            if connected {
                return self.open(poller, key);
            }
            attempt.until = Instant::now() + CONNECT_TIMEOUT;
            self.deadlines.push_back((attempt.until, key));
            return;
        }
        self.end(key, Outcome::Broken);
    }

    /// The pod has accepted.
    fn open(&mut self, poller: &Poller, key: Key) {
        let Some(connection) = self.all.get_mut(key) else { return };
        let Stage::Connecting(attempt) = &mut connection.stage else { return };
        let Some(socket) = attempt.socket.take() else { return };
        // Nobody listens there, and the kernel has given our end the very port: a connection to itself (RFC 9293, 3.5:
        // simultaneous open), which would keep a server of the pod from its port.
        let port = connection.holder.port;
        let target = self.ports[port].targets.get(attempt.target).copied();
        if target.is_some() && inet::local_address(socket.as_fd()).ok() == target {
            inet::reset_when_closed(socket.as_fd());
            drop(socket);
            return self.try_next(poller, key);
        }
        let introduced = introduce(&connection.client, &socket, self.ports[port].client_address);
        connection.stage = Stage::Open(Stream::new(Side::new(socket)));
        if introduced { self.pump(key) } else { self.end(key, Outcome::Broken) }
    }

    /// Something happened at one of the two sockets of a connection.
    pub(super) fn on_client(&mut self, key: Key, ready: Ready) {
        // None: ended by an earlier event of the same round.
        let Some(connection) = self.all.get_mut(key) else { return };
        connection.client.note(ready);
        match connection.stage {
            Stage::Open(_) => self.pump(key),
            Stage::Connecting(_) if connection.client.has_failed() => self.end(key, Outcome::Broken),
            Stage::Connecting(_) => {}
        }
    }

    pub(super) fn on_pod(&mut self, poller: &Poller, key: Key, ready: Ready) {
        let Some(connection) = self.all.get_mut(key) else { return };
        match &mut connection.stage {
            Stage::Open(stream) => {
                stream.pod.note(ready);
                self.pump(key);
            }
            Stage::Connecting(attempt) => {
                let Some(socket) = &attempt.socket else { return };
                if inet::take_error(socket.as_fd()).is_some() {
                    self.try_next(poller, key);
                } else if ready.writable {
                    self.open(poller, key);
                }
            }
        }
    }

    fn try_next(&mut self, poller: &Poller, key: Key) {
        let Some(Connection { stage: Stage::Connecting(attempt), .. }) = self.all.get_mut(key) else { return };
        attempt.socket = None;
        attempt.target += 1;
        self.connect(poller, key);
    }

    fn pump(&mut self, key: Key) {
        let Some(connection) = self.all.get_mut(key) else { return };
        let Stage::Open(stream) = &mut connection.stage else { return };
        let outcome = stream.pump(&mut connection.client, &mut self.pipes);
        match outcome {
            Outcome::Wait => {}
            Outcome::Again => {
                if !std::mem::replace(&mut connection.queued, true) {
                    self.queue.push_back(key);
                }
            }
            Outcome::Ended | Outcome::Broken => self.end(key, outcome),
        }
    }

    fn end(&mut self, key: Key, outcome: Outcome) {
        let Some(Connection { client, holder, stage, .. }) = self.all.remove(key) else { return };
        self.shares.give_back(holder);
        self.ended += 1;
        if outcome == Outcome::Broken {
            inet::reset_when_closed(client.socket.as_fd());
        }
        if let Stage::Open(mut stream) = stage {
            if outcome == Outcome::Broken {
                inet::reset_when_closed(stream.pod.socket.as_fd());
            }
            stream.give_back(&mut self.pipes);
        }
    }

    /// Somebody has more to do at once.
    pub(super) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// One turn for everybody who has more to do.
    pub(super) fn take_turns(&mut self) {
        if self.queue.is_empty() {
            return;
        }
        let turns: Vec<Key> = self.queue.drain(..).collect();
        for key in turns {
            if let Some(connection) = self.all.get_mut(key) {
                connection.queued = false;
                self.pump(key);
            }
        }
    }

    /// Gives up what has waited too long, or tries the next target.
    pub(super) fn on_time(&mut self, poller: &Poller, now: Instant) {
        while let Some((until, key)) = self.deadlines.front().copied() {
            let waits = match self.all.get_mut(key) {
                Some(Connection { stage: Stage::Connecting(attempt), .. }) => attempt.until == until,
                Some(_) | None => false,
            };
            if waits && until > now {
                return;
            }
            self.deadlines.pop_front();
            if waits {
                self.try_next(poller, key);
            }
        }
    }

    /// When [`on_time`](Self::on_time) is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.front().map(|(until, _)| *until)
    }

    /// Gives back what only a crowd needed.
    pub(super) fn shrink(&mut self) {
        self.pipes.shrink();
        self.shares.shrink();
        self.all.shrink();
        self.queue.shrink_to_fit();
        self.deadlines.shrink_to_fit();
    }
}

/// Says first who the client is, where the port asks for it. False: not possible, the connection is of no use.
fn introduce(client: &Side, pod: &OwnedFd, wanted: ClientAddress) -> bool {
    if wanted == ClientAddress::Hidden {
        return true;
    }
    let addresses = inet::peer_address(client.socket.as_fd())
        .and_then(|from| Ok((from, inet::local_address(client.socket.as_fd())?)));
    let Ok((from, to)) = addresses else { return false };
    let header = header::header(from, to);
    // The buffer of a new socket has room for it.
    inet::send_some(pod.as_fd(), &header).is_ok_and(|sent| sent == Some(header.len()))
}
