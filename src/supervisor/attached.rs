//! Clients that take part in a container's stdio: what they type goes to its stdin, what it writes goes to them.

use std::os::fd::{AsFd, OwnedFd};

use super::event_loop::Supervisor;
use super::output::{CHUNK, Side};
use super::sink::Sink;
use super::watch::Source;
use crate::sys::event::{Interest, Ready};
use crate::sys::stdio;

#[derive(Debug)]
pub(super) struct Attached {
    input: OwnedFd,
    /// It types nothing, or nothing more: only its end is waited for.
    input_ended: bool,
    out: Sink,
    err: Sink,
    stays: Stays,
    /// What it was attached to has ended: it takes what is left for it, and is let go.
    leaving: bool,
}

/// How long a client is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stays {
    /// Until the container ends, also where it is started again.
    ForThisLife,
    /// Until the pod ends.
    ForThePod,
}

/// What a client brings.
#[derive(Debug)]
pub(super) struct Joining {
    /// (stdin and stdout), and stderr.
    pub(super) streams: [OwnedFd; 2],
    /// It may type.
    pub(super) input: bool,
    pub(super) stays: Stays,
}

impl Attached {
    pub(super) fn send(&mut self, side: Side, bytes: &[u8]) {
        if !self.leaving {
            self.sink_mut(side).send(bytes);
        }
    }

    pub(super) fn holds_back(&self, side: Side) -> bool {
        !self.leaving && self.sink(side).is_full()
    }

    /// The sides that it still has to take something of; writes what it takes now.
    pub(super) fn flush(&mut self) -> Vec<&Sink> {
        [&mut self.out, &mut self.err].into_iter().for_each(Sink::flush);
        [&self.out, &self.err].into_iter().filter(|sink| sink.is_full()).collect()
    }

    fn sink(&self, side: Side) -> &Sink {
        match side {
            Side::Out => &self.out,
            Side::Err => &self.err,
        }
    }

    fn sink_mut(&mut self, side: Side) -> &mut Sink {
        match side {
            Side::Out => &mut self.out,
            Side::Err => &mut self.err,
        }
    }

    fn is_done(&self) -> bool {
        self.leaving && Side::BOTH.iter().all(|side| !self.sink(*side).is_full())
    }
}

impl Supervisor<'_> {
    /// A client joins. `None`: a descriptor of it cannot be used.
    pub(super) fn attach(&mut self, index: usize, id: u64, joining: Joining) -> Option<()> {
        let Joining { streams: [out, err], input: types, stays } = joining;
        let input = out.try_clone().ok()?;
        for fd in [&out, &err] {
            stdio::set_nonblocking(fd.as_fd()).ok()?;
        }
        let (out, err) = (Sink::new(out), Sink::new(err));
        let client = Attached { input, input_ended: !types, out, err, stays, leaving: false };
        self.containers[index].output.attached.insert(id, client);
        self.watch_inputs(index);
        Some(())
    }

    /// A client typed something, has no more to type, or has gone.
    pub(super) fn on_attached_input(&mut self, index: usize, id: u64, ready: Ready) {
        let once = self.plan.containers[index].process.stdin_once;
        let output = &mut self.containers[index].output;
        let Some(client) = output.attached.get_mut(&id) else { return };
        if output.ends.as_ref().is_some_and(|ends| !ends.stdin_pending.is_empty()) {
            // It has gone, but what it typed last may still be in its socket: that is read when stdin is empty.
            self.watch.remove(client.input.as_fd(), Source::AttachedInput(index, id));
            return;
        }
        match stdio::read_some(client.input.as_fd(), CHUNK) {
            Ok(None) => {}
            Ok(Some(bytes)) if !bytes.is_empty() => {
                if let Some(ends) = &mut output.ends {
                    ends.stdin_pending.extend_from_slice(&bytes);
                }
                self.feed(index);
            }
            // The end of what it types. Where it has only closed its writing half, the container's output goes on.
            ended => {
                let has_gone = ready.ended || ended.is_err();
                let first = !std::mem::replace(&mut client.input_ended, true);
                if first
                    && once
                    && let Some(ends) = &mut output.ends
                {
                    ends.close_stdin_when_empty();
                }
                if has_gone {
                    self.detach(index, id);
                }
                self.feed(index);
            }
        }
    }

    /// Gives stdin what waits for it; while it is full, no client is read.
    pub(super) fn feed(&mut self, index: usize) {
        if let Some(ends) = &mut self.containers[index].output.ends {
            if let Some(stdin) = &ends.stdin {
                while !ends.stdin_pending.is_empty() {
                    match stdio::write_some(stdin.as_fd(), &ends.stdin_pending) {
                        Ok(Some(count)) => drop(ends.stdin_pending.drain(..count)),
                        Ok(None) => break,
                        // Its reader has gone.
                        Err(_) => ends.stdin_pending.clear(),
                    }
                }
                let source = Source::ContainerStdin(index);
                self.watch.remove(stdin.as_fd(), source);
                if !ends.stdin_pending.is_empty() {
                    self.watch.add(stdin.as_fd(), source, Interest::Writable);
                } else if ends.stdin_closing {
                    ends.stdin = None;
                }
            } else {
                ends.stdin_pending.clear();
            }
        }
        self.watch_inputs(index);
    }

    /// Clients are read while the container lives and its stdin takes what they type; at other times only the end of their
    /// connection is waited for.
    pub(super) fn watch_inputs(&mut self, index: usize) {
        let output = &self.containers[index].output;
        let takes = output.ends.as_ref().is_some_and(|ends| ends.stdin_pending.is_empty());
        for (id, client) in output.attached.iter().filter(|(_, client)| !client.leaving) {
            let source = Source::AttachedInput(index, *id);
            let interest = if takes && !client.input_ended { Interest::Readable } else { Interest::End };
            self.watch.remove(client.input.as_fd(), source);
            self.watch.add(client.input.as_fd(), source, interest);
        }
    }

    /// Waits for clients that have not taken everything of this side.
    pub(super) fn watch_full_sinks(&mut self, index: usize, side: Side) {
        for (id, client) in &self.containers[index].output.attached {
            let sink = client.sink(side);
            if sink.is_full() {
                // One that is watched already stays so (EEXIST).
                self.watch.add(sink.as_fd(), Source::Attached(index, *id, side), Interest::Writable);
            }
        }
    }

    /// A client takes bytes again, or has gone.
    pub(super) fn resume(&mut self, index: usize, id: u64, side: Side) {
        let Some(client) = self.containers[index].output.attached.get_mut(&id) else { return };
        let sink = client.sink_mut(side);
        sink.flush();
        if sink.is_full() {
            return;
        }
        self.watch.remove(sink.as_fd(), Source::Attached(index, id, side));
        if client.is_done() {
            return self.detach(index, id);
        }
        self.listen_again(index, side);
    }

    /// What these clients were attached to has ended. Each goes as soon as it has taken everything.
    pub(super) fn let_go(&mut self, index: usize, whose: impl Fn(Stays) -> bool) {
        let output = &mut self.containers[index].output;
        let mut done = Vec::new();
        for (id, client) in output.attached.iter_mut().filter(|(_, client)| whose(client.stays)) {
            client.leaving = true;
            self.watch.remove(client.input.as_fd(), Source::AttachedInput(index, *id));
            if client.is_done() {
                done.push(*id);
            }
        }
        done.into_iter().for_each(|id| self.detach(index, id));
    }

    /// A client has gone; what it held back goes on.
    pub(super) fn detach(&mut self, index: usize, id: u64) {
        let Some(client) = self.containers[index].output.attached.remove(&id) else { return };
        self.watch.remove(client.input.as_fd(), Source::AttachedInput(index, id));
        for side in Side::BOTH {
            self.watch.remove(client.sink(side).as_fd(), Source::Attached(index, id, side));
        }
        drop(client);
        Side::BOTH.into_iter().for_each(|side| self.listen_again(index, side));
    }
}
