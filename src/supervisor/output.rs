//! A container's stdout and stderr: into its log, and to attached clients ([`attached`](super::attached) has their side).
//!
//! Memory is bounded by holding back, not by dropping: while a client has not taken what it was sent, its container's
//! pipe is not read, and the kernel makes that container wait. Other containers and clients go on; so does the loop.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use jiff::Timestamp;

use super::attached::{Attached, Stays};
use super::event_loop::Supervisor;
use super::log::{LogFile, Stream};
use super::watch::Source;
use crate::engine::process::Stdio;
use crate::plan::LogPlan;
use crate::sys::event::Interest;
use crate::sys::own_dir::OwnDir;
use crate::sys::stdio;

/// One read: a fair share of a turn of the loop.
pub(super) const CHUNK: usize = 64 * 1024;
/// A terminal's buffers hold less than this (tty_buffer.c: TTYB_DEFAULT_MEM_LIMIT, 640 KiB).
const TERMINAL_CAPACITY: usize = 1024 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Out,
    Err,
}

impl Side {
    pub(super) const BOTH: [Side; 2] = [Side::Out, Side::Err];
}

#[derive(Debug)]
pub(super) struct Output {
    log: LogFile,
    pub(super) ends: Option<Ends>,
    pub(super) attached: BTreeMap<u64, Attached>,
}

/// The supervisor's ends of one life's stdio.
#[derive(Debug)]
pub(super) struct Ends {
    out: Option<OwnedFd>,
    /// None for a terminal, which has one stream.
    err: Option<OwnedFd>,
    pub(super) stdin: Option<OwnedFd>,
    /// What stdin has not taken yet.
    pub(super) stdin_pending: Vec<u8>,
    /// The client that sent it has no more: stdin closes when it is empty.
    pub(super) stdin_closing: bool,
    terminal: bool,
}

impl Ends {
    /// Kubernetes' `stdinOnce`. A terminal has no such end.
    pub(super) fn close_stdin_when_empty(&mut self) {
        self.stdin_closing |= !self.terminal;
    }
}

impl Output {
    pub(super) fn open(directory: Arc<OwnDir>, plan: &LogPlan) -> crate::sys::Result<Output> {
        Ok(Output { log: LogFile::open(directory, plan)?, ends: None, attached: BTreeMap::new() })
    }

    pub(super) fn log(&mut self) -> &mut LogFile {
        &mut self.log
    }

    /// A line of ours in the container's log.
    pub(super) fn note(&mut self, text: &str) {
        self.log.write_chunk(Stream::Stderr, format!("sandpod: {text}\n").as_bytes(), Timestamp::now());
    }

    /// A copy of the master, where this life has a terminal.
    pub(super) fn terminal(&self) -> Option<OwnedFd> {
        let ends = self.ends.as_ref().filter(|ends| ends.terminal)?;
        ends.out.as_ref().and_then(|fd| fd.try_clone().ok())
    }

    fn end(&self, side: Side) -> Option<BorrowedFd<'_>> {
        let ends = self.ends.as_ref()?;
        let end = match side {
            Side::Out => &ends.out,
            Side::Err => &ends.err,
        };
        end.as_ref().map(AsFd::as_fd)
    }

    /// How many bytes this side can still hold when its container has ended. A pipe's capacity may have been changed by the
    /// container (F_SETPIPE_SZ).
    fn capacity(&self, side: Side) -> usize {
        self.end(side).map_or(0, |fd| stdio::pipe_capacity(fd).unwrap_or(TERMINAL_CAPACITY))
    }

    /// Logs a chunk and passes it on. True while a client holds back.
    fn take(&mut self, side: Side, bytes: &[u8]) -> bool {
        let stream = match side {
            Side::Out => Stream::Stdout,
            Side::Err => Stream::Stderr,
        };
        self.log.write_chunk(stream, bytes, Timestamp::now());
        for client in self.attached.values_mut() {
            client.send(side, bytes);
        }
        self.is_held_back(side)
    }

    fn is_held_back(&self, side: Side) -> bool {
        self.attached.values().any(|client| client.holds_back(side))
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
        let ends = Ends { out: Some(out), err, stdin, stdin_pending: Vec::new(), stdin_closing: false, terminal };
        self.containers[index].output.ends = Some(ends);
        // A client may still have to take the rest of the life before.
        Side::BOTH.into_iter().for_each(|side| self.listen_again(index, side));
        self.watch_inputs(index);
    }

    /// A life is over: what it has still written is taken. Clients get it as they take it, and nothing waits for them.
    pub(super) fn close_output(&mut self, index: usize) {
        for side in Side::BOTH {
            // No more than was there when the container ended: a process that it has passed the pipe to may write for ever.
            let mut left = self.containers[index].output.capacity(side);
            while left > 0 {
                let output = &mut self.containers[index].output;
                let limit = left.min(CHUNK);
                let Some(Ok(Some(bytes))) = output.end(side).map(|fd| stdio::read_some(fd, limit)) else { break };
                if bytes.is_empty() {
                    break;
                }
                left = left.saturating_sub(bytes.len());
                output.take(side, &bytes);
            }
            self.unwatch_end(index, side);
            self.watch_full_sinks(index, side);
        }
        self.unwatch_stdin(index);
        let output = &mut self.containers[index].output;
        output.ends = None;
        output.log.write_unfinished(Timestamp::now());
        self.watch_inputs(index);
        self.let_go(index, |stays| stays == Stays::ForThisLife);
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
        if let Some(fd) = self.containers[index].output.end(side) {
            self.watch.remove(fd, Source::Container(index, side));
        }
        self.watch_full_sinks(index, side);
    }

    /// Watches a side that was held back, when no client holds it back any more.
    pub(super) fn listen_again(&mut self, index: usize, side: Side) {
        let output = &self.containers[index].output;
        if output.is_held_back(side) {
            return;
        }
        if let Some(fd) = output.end(side) {
            let source = Source::Container(index, side);
            self.watch.remove(fd, source);
            self.watch.add(fd, source, Interest::Readable);
        }
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
