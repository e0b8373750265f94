//! An open TCP connection: two sockets, and what is on its way between them.
//!
//! Both sockets are watched for changes only (`Interest::Changes`): what can be read or written is remembered here until
//! the kernel says EAGAIN, so nothing is asked twice and a half-closed connection does not wake anybody.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::pipes::Pipes;
use crate::sys::event::Ready;
use crate::sys::inet;
use crate::sys::splice::{self, Moved, Passed, Pipe};

/// Rounds of fill and drain for one direction, and bytes, before it is another connection's turn.
const ROUNDS: usize = 64;
const BYTES: usize = 4 << 20;
/// For as long as this a client may take nothing of what a server said before it failed. Nobody else waits for it then, and two
/// sockets and a pipe are not to be had by not reading.
const LAST_WORDS: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

/// One of the two sockets.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) socket: OwnedFd,
    readable: bool,
    writable: bool,
    /// It was reset, or the like: what it still holds can be read, nothing can be written.
    failed: bool,
}

impl Side {
    pub(super) fn new(socket: OwnedFd) -> Side {
        Side { socket, readable: true, writable: true, failed: false }
    }

    pub(super) fn note(&mut self, ready: Ready) {
        self.readable |= ready.readable || ready.ended;
        self.writable |= ready.writable || ready.ended;
        if ready.ended && inet::take_error(self.socket.as_fd()).is_some() {
            self.failed = true;
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed
    }

    /// What it had said before can be read, though the event that says so may be still to come.
    fn fail(&mut self) {
        self.failed = true;
        self.readable = true;
    }
}

/// Bytes in one direction.
#[derive(Debug, Default)]
struct Flow {
    /// Only while it holds something.
    pipe: Option<Pipe>,
    held: usize,
    course: Course,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Course {
    #[default]
    Open,
    /// The source has ended; what the pipe holds is still to be given on.
    Ended,
    /// The sink has been told of the end.
    Done,
}

/// What [`Stream::pump`] leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Until one of the sockets changes.
    Wait,
    /// There is more to do at once, when others have had their turn.
    Again,
    /// Both directions ended in order.
    Ended,
    /// One side was reset, so the other is to be, too.
    Broken,
}

/// The pod's socket, and the bytes between it and the client's.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) pod: Side,
    up: Flow,
    down: Flow,
}

impl Stream {
    pub(super) fn new(pod: Side) -> Stream {
        Stream { pod, up: Flow::default(), down: Flow::default() }
    }

    /// Moves what can be moved in both directions.
    pub(super) fn pump(&mut self, client: &mut Side, pipes: &mut Pipes) -> Outcome {
        let Stream { pod, up, down } = self;
        let outcomes = [up.advance(client, pod, pipes), down.advance(pod, client, pipes)];
        // Nobody wants the rest of an upload whose client has gone.
        if client.failed && outcomes[0] != Outcome::Again {
            return Outcome::Broken;
        }
        // What was taken from a server before it failed is its client's, however slow: when a reset comes, a receiver keeps
        // what it has and the sender's kernel drops what it has not sent. Without us that would be the server's.
        if pod.failed && outcomes[1] != Outcome::Again {
            // Without a pipe what is not given on is still where it came from.
            let taken = down.held == 0 && (down.course != Course::Open || !pod.readable);
            if taken && inet::is_all_sent(client.socket.as_fd()) {
                return Outcome::Broken;
            }
            inet::end_when_stuck(client.socket.as_fd(), LAST_WORDS);
            return Outcome::Wait;
        }
        if up.course == Course::Done && down.course == Course::Done {
            return Outcome::Ended;
        }
        if outcomes.contains(&Outcome::Again) { Outcome::Again } else { Outcome::Wait }
    }

    /// Gives the pipes back; those that still hold bytes go with them.
    pub(super) fn give_back(&mut self, pipes: &mut Pipes) {
        for flow in [&mut self.up, &mut self.down] {
            match flow.pipe.take() {
                Some(pipe) if flow.held > 0 => pipes.close(pipe),
                Some(pipe) => pipes.give_back(pipe),
                None => {}
            }
        }
    }
}

impl Flow {
    /// Fills and drains until a socket says EAGAIN.
    fn advance(&mut self, from: &mut Side, to: &mut Side, pipes: &mut Pipes) -> Outcome {
        let mut taken = 0;
        for _ in 0..ROUNDS {
            if taken >= BYTES && self.held == 0 {
                break;
            }
            if self.held > 0 {
                if to.failed {
                    // It can go nowhere any more, and others want the pipe.
                    self.pipe.take().into_iter().for_each(|pipe| pipes.close(pipe));
                    (self.held, self.course) = (0, Course::Done);
                    return Outcome::Wait;
                }
                if !to.writable {
                    return Outcome::Wait;
                }
                self.drain(to);
                continue;
            }
            match self.course {
                Course::Open if from.readable => {}
                // A source that failed has not said that it is done: its sink hears of the failure instead.
                Course::Ended if !from.failed && !to.failed => {
                    self.rest(pipes);
                    self.course = Course::Done;
                    // It has gone in this moment; its own event says so.
                    let _ = inet::shut_down_writing(to.socket.as_fd());
                    return Outcome::Wait;
                }
                Course::Open | Course::Ended | Course::Done => {
                    self.rest(pipes);
                    return Outcome::Wait;
                }
            }
            if self.pipe.is_none() {
                self.pipe = pipes.take();
            }
            let Some(pipe) = &self.pipe else {
                match splice::pass_on(from.socket.as_fd(), to.socket.as_fd(), pipes.buffer()) {
                    Passed::Bytes(count) => taken += count,
                    Passed::End => self.course = Course::Ended,
                    Passed::Nothing => from.readable = false,
                    Passed::NoRoom => {
                        to.writable = false;
                        return Outcome::Wait;
                    }
                    Passed::SourceFailed => {
                        from.failed = true;
                        self.course = Course::Ended;
                    }
                    Passed::SinkFailed => {
                        to.fail();
                        self.course = Course::Done;
                    }
                }
                continue;
            };
            match pipe.fill(from.socket.as_fd()) {
                Ok(Moved::Bytes(count)) => {
                    self.held = count;
                    taken += count;
                }
                Ok(Moved::End) => self.course = Course::Ended,
                // The pipe is empty, so it is the socket that has nothing.
                Ok(Moved::Later) => from.readable = false,
                Err(_) => {
                    from.failed = true;
                    self.course = Course::Ended;
                }
            }
        }
        Outcome::Again
    }

    fn drain(&mut self, to: &mut Side) {
        let Some(pipe) = &self.pipe else { return };
        match pipe.drain(to.socket.as_fd(), self.held) {
            Ok(Moved::Bytes(count)) => self.held = self.held.saturating_sub(count),
            Ok(Moved::Later) => to.writable = false,
            // An empty pipe has no end while we hold its other side, so this is not to be seen.
            Ok(Moved::End) => to.fail(),
            Err(_) => to.fail(),
        }
    }

    /// An empty pipe goes back.
    fn rest(&mut self, pipes: &mut Pipes) {
        if let Some(pipe) = self.pipe.take() {
            pipes.give_back(pipe);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpStream;
    use std::time::Instant;

    use super::*;
    use crate::sys::inet::Waiting;

    /// The proxy's end of a connection, and the other.
    fn connected() -> (Side, TcpStream) {
        let listener = inet::listen_tcp("127.0.0.1:0".parse().expect("an address")).expect("listen");
        let other = TcpStream::connect(inet::local_address(listener.as_fd()).expect("bound")).expect("connect");
        let Ok(Waiting::Connection(socket)) = inet::accept(listener.as_fd()) else { panic!("nobody") };
        (Side::new(socket), other)
    }

    fn eventually(mut holds: impl FnMut() -> bool) {
        let until = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < until, "not within a minute");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn who_never_reads_the_last_words_of_a_server_that_reset_does_not_stay() {
        let ((mut client, reader), (pod, mut server)) = (connected(), connected());
        let (mut stream, mut pipes) = (Stream::new(pod), Pipes::new(2));
        let happens = |ended| Ready { token: 0, readable: true, writable: true, ended };
        server.set_nonblocking(true).expect("O_NONBLOCK");
        eventually(|| {
            let _ = server.write(&[7; 1 << 16]);
            stream.pod.note(happens(false));
            client.note(happens(false));
            stream.pump(&mut client, &mut pipes);
            stream.down.held > 0
        });
        inet::reset_when_closed(server.as_fd());
        drop(server);
        eventually(|| {
            stream.pod.note(happens(true));
            stream.pod.failed
        });
        assert_eq!(stream.pump(&mut client, &mut pipes), Outcome::Wait, "it may still be read");
        eventually(|| {
            client.note(happens(true));
            client.failed
        });
        assert_eq!(stream.pump(&mut client, &mut pipes), Outcome::Broken);
        assert!(stream.down.pipe.is_none());
        drop(reader);
    }
}
