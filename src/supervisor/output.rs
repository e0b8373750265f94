//! A container's stdin, stdout and stderr: into its log, and to and from attached clients.
//!
//! Memory is bounded by holding back, not by dropping: while a client has not taken what it was sent, its container's
//! pipe is not read, and the kernel makes that container wait. Others go on; so does the loop.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::event_loop::Supervisor;
use super::log::{LogFile, Stream};
use super::watch::Source;
use crate::engine::process::Stdio;
use crate::plan::LogPlan;
use crate::sys::event::{Interest, Ready};
use crate::sys::{poll, stdio};

/// One read: a fair share of a turn of the loop.
const CHUNK: usize = 64 * 1024;
/// What a pipe can still hold when its container has gone, on both sides (pipe(7): at most 1 MiB each by default).
const MAX_DRAIN: usize = 2 * 1024 * 1024;
/// For all clients of a container that has ended, together: the loop waits for them.
const LAST_WORDS: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Out,
    Err,
}

#[derive(Debug)]
pub(super) struct Output {
    log: LogFile,
    ends: Option<Ends>,
    attached: BTreeMap<u64, Attached>,
}

/// The supervisor's ends of one life's stdio.
#[derive(Debug)]
struct Ends {
    out: Option<OwnedFd>,
    /// None for a terminal, which has one stream.
    err: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    /// What stdin has not taken yet.
    stdin_pending: Vec<u8>,
    /// The client that sent it has no more: stdin closes when it is empty.
    stdin_closing: bool,
    terminal: bool,
}

/// A client that reads and writes along.
#[derive(Debug)]
struct Attached {
    input: OwnedFd,
    /// It has closed its writing half: only its going is waited for.
    input_ended: bool,
    out: Sink,
    err: Sink,
}

/// One direction to a client, with what it has not taken yet.
#[derive(Debug)]
struct Sink {
    fd: OwnedFd,
    pending: Vec<u8>,
    gone: bool,
}

impl Sink {
    fn new(fd: OwnedFd) -> Sink {
        Sink { fd, pending: Vec::new(), gone: false }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        self.flush();
    }

    fn flush(&mut self) {
        while !self.pending.is_empty() && !self.gone {
            match stdio::write_some(self.fd.as_fd(), &self.pending) {
                Ok(Some(count)) => drop(self.pending.drain(..count)),
                Ok(None) => return,
                Err(_) => self.gone = true,
            }
        }
        self.pending.shrink_to(0);
    }

    fn is_full(&self) -> bool {
        !self.pending.is_empty() && !self.gone
    }
}

impl Attached {
    fn sink(&mut self, side: Side) -> &mut Sink {
        match side {
            Side::Out => &mut self.out,
            Side::Err => &mut self.err,
        }
    }
}

impl Output {
    pub(super) fn open(plan: &LogPlan) -> crate::sys::Result<Output> {
        Ok(Output { log: LogFile::open(plan)?, ends: None, attached: BTreeMap::new() })
    }

    pub(super) fn log(&mut self) -> &mut LogFile {
        &mut self.log
    }

    /// A line of ours in the container's log.
    pub(super) fn note(&mut self, text: &str) {
        self.log.write_chunk(Stream::Stderr, format!("sandpod: {text}\n").as_bytes(), Timestamp::now());
    }

    fn end(&self, side: Side) -> Option<BorrowedFd<'_>> {
        let ends = self.ends.as_ref()?;
        let end = match side {
            Side::Out => &ends.out,
            Side::Err => &ends.err,
        };
        end.as_ref().map(AsFd::as_fd)
    }

    /// Logs a chunk and passes it on. True while a client holds back.
    fn take(&mut self, side: Side, bytes: &[u8]) -> bool {
        let stream = match side {
            Side::Out => Stream::Stdout,
            Side::Err => Stream::Stderr,
        };
        self.log.write_chunk(stream, bytes, Timestamp::now());
        for client in self.attached.values_mut() {
            client.sink(side).send(bytes);
        }
        self.is_held_back(side)
    }

    fn is_held_back(&mut self, side: Side) -> bool {
        self.attached.values_mut().any(|client| client.sink(side).is_full())
    }
}

impl Supervisor<'_> {
    /// A life begins.
    pub(super) fn open_output(&mut self, index: usize, stdio: Stdio) {
        let (out, err, stdin, terminal) = match stdio {
            Stdio::Pipes { stdout, stderr, stdin } => (stdout, Some(stderr), stdin, false),
            Stdio::Terminal { master } => {
                let stdin = master.try_clone().ok();
                (master, None, stdin, true)
            }
            Stdio::Passed => return,
        };
        for fd in [Some(&out), err.as_ref(), stdin.as_ref()].into_iter().flatten() {
            // A descriptor of our own making: this cannot fail.
            let _ = stdio::set_nonblocking(fd.as_fd());
        }
        self.watch.add(out.as_fd(), Source::Container(index, Side::Out), Interest::Readable);
        if let Some(err) = &err {
            self.watch.add(err.as_fd(), Source::Container(index, Side::Err), Interest::Readable);
        }
        let ends = Ends { out: Some(out), err, stdin, stdin_pending: Vec::new(), stdin_closing: false, terminal };
        self.containers[index].output.ends = Some(ends);
    }

    /// A life is over: what it has still said is taken, its clients get the rest and are let go.
    pub(super) fn close_output(&mut self, index: usize) {
        for side in [Side::Out, Side::Err] {
            let mut left = MAX_DRAIN;
            while left > 0 {
                let output = &mut self.containers[index].output;
                let Some(Ok(Some(bytes))) = output.end(side).map(|fd| stdio::read_some(fd, CHUNK)) else { break };
                if bytes.is_empty() {
                    break;
                }
                left = left.saturating_sub(bytes.len());
                output.take(side, &bytes);
            }
            self.unwatch_end(index, side);
        }
        self.unwatch_stdin(index);
        let output = &mut self.containers[index].output;
        output.ends = None;
        output.log.write_unfinished(Timestamp::now());
        let clients: Vec<u64> = output.attached.keys().copied().collect();
        let deadline = Instant::now() + LAST_WORDS;
        for id in clients {
            self.let_go(index, id, deadline);
        }
    }

    /// stdout, stderr or the terminal has something, or has ended.
    pub(super) fn pump(&mut self, index: usize, side: Side) {
        let output = &mut self.containers[index].output;
        let Some(fd) = output.end(side) else { return };
        match stdio::read_some(fd, CHUNK) {
            Ok(None) => {}
            Ok(Some(bytes)) if !bytes.is_empty() => {
                if output.take(side, &bytes) {
                    self.hold_back(index, side);
                }
            }
            // The end of a pipe; EIO is how a terminal's master says it (its last slave was closed).
            Ok(Some(_)) | Err(_) => self.unwatch_end(index, side),
        }
    }

    /// Reads no more from this side until every client has taken what it was sent.
    fn hold_back(&mut self, index: usize, side: Side) {
        let output = &mut self.containers[index].output;
        if let Some(fd) = output.end(side) {
            self.watch.remove(fd, Source::Container(index, side));
        }
        for (id, client) in &mut output.attached {
            let sink = client.sink(side);
            if sink.is_full() {
                self.watch.add(sink.fd.as_fd(), Source::Attached(index, *id, side), Interest::Writable);
            }
        }
    }

    /// A client takes bytes again.
    pub(super) fn resume(&mut self, index: usize, id: u64, side: Side) {
        let output = &mut self.containers[index].output;
        let Some(client) = output.attached.get_mut(&id) else { return };
        let sink = client.sink(side);
        sink.flush();
        if sink.is_full() {
            return;
        }
        self.watch.remove(sink.fd.as_fd(), Source::Attached(index, id, side));
        self.listen_again(index, side);
    }

    /// Watches a side that was held back, if nobody holds it back any more.
    fn listen_again(&mut self, index: usize, side: Side) {
        let output = &mut self.containers[index].output;
        if output.is_held_back(side) {
            return;
        }
        if let Some(fd) = output.end(side) {
            let source = Source::Container(index, side);
            self.watch.remove(fd, source);
            self.watch.add(fd, source, Interest::Readable);
        }
    }

    /// A client joins: `streams` are its two sockets. The terminal's master for its size, where there is one.
    pub(super) fn attach(&mut self, index: usize, id: u64, streams: [OwnedFd; 2]) -> Option<Option<OwnedFd>> {
        let [out, err] = streams;
        let output = &mut self.containers[index].output;
        let ends = output.ends.as_ref()?;
        let master = if ends.terminal { ends.out.as_ref().and_then(|fd| fd.try_clone().ok()) } else { None };
        let input = out.try_clone().ok()?;
        for fd in [&out, &err] {
            stdio::set_nonblocking(fd.as_fd()).ok()?;
        }
        self.watch.add(input.as_fd(), Source::AttachedInput(index, id), Interest::Readable);
        output.attached.insert(id, Attached { input, input_ended: false, out: Sink::new(out), err: Sink::new(err) });
        Some(master)
    }

    /// A client typed something, has no more to type, or has gone.
    pub(super) fn on_attached_input(&mut self, index: usize, id: u64, ready: Ready) {
        let output = &mut self.containers[index].output;
        let Some(client) = output.attached.get_mut(&id) else { return };
        match stdio::read_some(client.input.as_fd(), CHUNK) {
            Ok(None) => {}
            Ok(Some(bytes)) if !bytes.is_empty() => {
                if let Some(ends) = &mut output.ends {
                    ends.stdin_pending.extend_from_slice(&bytes);
                }
                self.feed(index);
            }
            // Only its writing half is closed: the container's stdin ends, its output goes on. A terminal has no such end.
            Ok(Some(_)) if !ready.ended => {
                client.input_ended = true;
                let source = Source::AttachedInput(index, id);
                self.watch.remove(client.input.as_fd(), source);
                self.watch.add(client.input.as_fd(), source, Interest::End);
                if let Some(ends) = output.ends.as_mut().filter(|ends| !ends.terminal) {
                    ends.stdin_closing = true;
                }
                self.feed(index);
            }
            Ok(Some(_)) | Err(_) => self.detach(index, id),
        }
    }

    /// Gives stdin what waits for it; while it is full, no client is read.
    pub(super) fn feed(&mut self, index: usize) {
        let output = &mut self.containers[index].output;
        let Some(ends) = &mut output.ends else { return };
        let Some(stdin) = &ends.stdin else {
            ends.stdin_pending.clear();
            return;
        };
        while !ends.stdin_pending.is_empty() {
            match stdio::write_some(stdin.as_fd(), &ends.stdin_pending) {
                Ok(Some(count)) => drop(ends.stdin_pending.drain(..count)),
                Ok(None) => break,
                // Nobody reads it any more.
                Err(_) => ends.stdin_pending.clear(),
            }
        }
        let source = Source::ContainerStdin(index);
        self.watch.remove(stdin.as_fd(), source);
        if ends.stdin_pending.is_empty() {
            if ends.stdin_closing {
                ends.stdin = None;
            }
            for (id, client) in output.attached.iter().filter(|(_, client)| !client.input_ended) {
                let input = Source::AttachedInput(index, *id);
                self.watch.remove(client.input.as_fd(), input);
                self.watch.add(client.input.as_fd(), input, Interest::Readable);
            }
            return;
        }
        self.watch.add(stdin.as_fd(), source, Interest::Writable);
        for (id, client) in output.attached.iter().filter(|(_, client)| !client.input_ended) {
            self.watch.remove(client.input.as_fd(), Source::AttachedInput(index, *id));
        }
    }

    /// A client has gone; whoever it held back goes on.
    fn detach(&mut self, index: usize, id: u64) {
        let Some(client) = self.containers[index].output.attached.remove(&id) else { return };
        self.watch.remove(client.input.as_fd(), Source::AttachedInput(index, id));
        self.watch.remove(client.out.fd.as_fd(), Source::Attached(index, id, Side::Out));
        self.watch.remove(client.err.fd.as_fd(), Source::Attached(index, id, Side::Err));
        drop(client);
        self.listen_again(index, Side::Out);
        self.listen_again(index, Side::Err);
    }

    /// The container has ended: until the deadline a client may take the rest, which is at most a pipe's content.
    fn let_go(&mut self, index: usize, id: u64, deadline: Instant) {
        if let Some(client) = self.containers[index].output.attached.get_mut(&id) {
            for side in [Side::Out, Side::Err] {
                let sink = client.sink(side);
                let left = || deadline.saturating_duration_since(Instant::now());
                while sink.is_full() && poll::writable(sink.fd.as_fd(), left()).unwrap_or(false) {
                    sink.flush();
                }
            }
        }
        self.detach(index, id);
    }

    fn unwatch_end(&mut self, index: usize, side: Side) {
        if let Some(ends) = &mut self.containers[index].output.ends {
            let end = match side {
                Side::Out => &mut ends.out,
                Side::Err => &mut ends.err,
            };
            if let Some(fd) = end.take() {
                self.watch.remove(fd.as_fd(), Source::Container(index, side));
            }
        }
    }

    fn unwatch_stdin(&mut self, index: usize) {
        if let Some(stdin) = self.containers[index].output.ends.as_mut().and_then(|ends| ends.stdin.take()) {
            self.watch.remove(stdin.as_fd(), Source::ContainerStdin(index));
        }
    }
}
