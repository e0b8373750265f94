//! Bytes between the caller's stdin, stdout and stderr and a container's, until it ends.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::Failure;
use super::detach_keys::{DetachKeys, Typed};
use crate::sys::poll::{self, Want};
use crate::sys::terminal::{self, ForegroundSignals, RawMode, Sent, WindowSize};

/// At most as much as a pipe takes at once after poll(2) calls it writable (PIPE_BUF): a write never waits, though the
/// caller's own descriptors stay in blocking mode, which they share with the caller.
const CHUNK: usize = 4096;
/// Ctrl-D, which a terminal takes for the end of input.
const END_OF_INPUT: u8 = 4;

/// Our ends of an attached container's stdio.
pub(crate) struct Ends {
    /// stdin one way, stdout the other.
    pub(crate) stdio: UnixStream,
    pub(crate) stderr: UnixStream,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Pass our stdin on.
    pub(crate) input: bool,
    /// Ctrl-P Ctrl-Q ends the relay, not the container.
    pub(crate) detach_keys: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The other side closed: the container ended.
    Closed,
    Detached,
}

/// Relays an attached container. `master` is its terminal, for the size only. `on_signal` is told of SIGINT and the
/// like, which a raw terminal sends as bytes instead.
pub(crate) fn attached(
    ends: &Ends,
    master: Option<OwnedFd>,
    options: Options,
    signals: &ForegroundSignals,
    on_signal: impl FnMut(i32) -> Result<(), Failure>,
) -> Result<End, Failure> {
    terminal::set_nonblocking(ends.stdio.as_fd())?;
    terminal::set_nonblocking(ends.stderr.as_fd())?;
    let stdio = Remote { read: clone(ends.stdio.as_fd())?, write: clone(ends.stdio.as_fd())? };
    let relay = Relay::new(stdio, Some(clone(ends.stderr.as_fd())?), master, options)?;
    relay.run(signals, on_signal, || {
        // ENOTCONN: it has closed already.
        let _ = ends.stdio.shutdown(Shutdown::Write);
        Vec::new()
    })
}

/// Relays the master of a terminal that a command was given.
pub(crate) fn terminal(
    master: OwnedFd,
    options: Options,
    signals: &ForegroundSignals,
    on_signal: impl FnMut(i32) -> Result<(), Failure>,
) -> Result<End, Failure> {
    terminal::set_nonblocking(master.as_fd())?;
    let stdio = Remote { read: clone(master.as_fd())?, write: clone(master.as_fd())? };
    let relay = Relay::new(stdio, None, Some(master), options)?;
    relay.run(signals, on_signal, || vec![END_OF_INPUT])
}

/// The size of the caller's terminal. `None`: the caller has no terminal, or its terminal does not know its size (0x0, as
/// on a serial line).
pub(crate) fn window_size() -> Option<WindowSize> {
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let size =
        [stdout.as_fd(), stdin.as_fd(), stderr.as_fd()].into_iter().find_map(|fd| terminal::window_size(fd).ok());
    size.filter(|size| size.rows > 0 && size.columns > 0)
}

fn clone(fd: BorrowedFd<'_>) -> io::Result<File> {
    fd.try_clone_to_owned().map(File::from)
}

struct Remote {
    read: File,
    write: File,
}

/// One direction: bytes read and not yet written.
pub(super) struct Flow {
    /// `None` after its end.
    pub(super) from: Option<File>,
    pub(super) to: File,
    pub(super) pending: Vec<u8>,
}

impl Flow {
    pub(super) fn new(from: Option<File>, to: File) -> Flow {
        Flow { from, to, pending: Vec::new() }
    }

    /// What it waits for now: nothing is read before the last bytes are written, so a slow reader slows the writer.
    pub(super) fn want(&self) -> Option<(BorrowedFd<'_>, Want)> {
        if !self.pending.is_empty() {
            return Some((self.to.as_fd(), Want::Write));
        }
        self.from.as_ref().map(|from| (from.as_fd(), Want::Read))
    }

    pub(super) fn is_done(&self) -> bool {
        self.from.is_none() && self.pending.is_empty()
    }

    /// Bytes that were read; empty when there are none now, `None` at the end. An error is an end as well: a terminal
    /// whose other side has closed answers EIO (ioctl_tty(2), pty(7)).
    pub(super) fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(from) = self.from.as_mut() else { return Ok(None) };
        let mut bytes = vec![0; CHUNK];
        match from.read(&mut bytes) {
            Ok(0) => {
                self.from = None;
                Ok(None)
            }
            Ok(count) => {
                bytes.truncate(count);
                Ok(Some(bytes))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Some(Vec::new()))
            }
            Err(error) => {
                self.from = None;
                Err(error)
            }
        }
    }

    /// Nothing more is passed on.
    pub(super) fn close(&mut self) {
        self.from = None;
        self.pending.clear();
    }

    pub(super) fn write(&mut self) -> io::Result<()> {
        let length = self.pending.len().min(CHUNK);
        match self.to.write(&self.pending[..length]) {
            Ok(count) => {
                self.pending.drain(..count);
                Ok(())
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

struct Relay {
    input: Flow,
    output: Flow,
    errors: Flow,
    master: Option<OwnedFd>,
    keys: Option<DetachKeys>,
    /// Dropped last, when nothing more is written.
    _raw: Option<RawMode>,
}

impl Relay {
    fn new(remote: Remote, stderr: Option<File>, master: Option<OwnedFd>, options: Options) -> Result<Relay, Failure> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let raw = options.input && master.is_some() && stdin.is_terminal();
        let from = if options.input { Some(clone(stdin.as_fd())?) } else { None };
        let relay = Relay {
            input: Flow::new(from, remote.write),
            output: Flow::new(Some(remote.read), clone(stdout.as_fd())?),
            errors: Flow::new(stderr, clone(io::stderr().as_fd())?),
            master,
            keys: options.detach_keys.then(DetachKeys::default),
            _raw: if raw { Some(RawMode::enter(stdin.as_fd())?) } else { None },
        };
        relay.resize();
        Ok(relay)
    }

    /// The container's terminal is as large as ours. Not ours where we have none.
    fn resize(&self) {
        let Some(master) = &self.master else { return };
        if let Some(size) = window_size() {
            // An error means that the container has ended.
            let _ = terminal::set_window_size(master.as_fd(), size);
        }
    }

    fn run(
        mut self,
        signals: &ForegroundSignals,
        mut on_signal: impl FnMut(i32) -> Result<(), Failure>,
        mut at_end_of_input: impl FnMut() -> Vec<u8>,
    ) -> Result<End, Failure> {
        while !(self.output.is_done() && self.errors.is_done()) {
            match self.wait(signals)? {
                Woken::Signal => match signals.next() {
                    Some(Sent::Resized) => self.resize(),
                    Some(Sent::End(signal)) => on_signal(signal)?,
                    None => {}
                },
                Woken::Flows([input, output, errors]) => {
                    if input && self.pass_input(&mut at_end_of_input) == End::Detached {
                        return Ok(End::Detached);
                    }
                    for (woken, flow) in [(output, &mut self.output), (errors, &mut self.errors)] {
                        if woken && flow.pending.is_empty() {
                            flow.pending = flow.read().ok().flatten().unwrap_or_default();
                        } else if woken {
                            flow.write()?;
                        }
                    }
                }
            }
        }
        Ok(End::Closed)
    }

    fn pass_input(&mut self, at_end: &mut impl FnMut() -> Vec<u8>) -> End {
        if !self.input.pending.is_empty() {
            // Whoever reads it has gone: the rest of our input has no meaning, its output may still come.
            if self.input.write().is_err() {
                self.input.close();
            }
            return End::Closed;
        }
        let Ok(Some(bytes)) = self.input.read() else {
            self.input.pending = at_end();
            return End::Closed;
        };
        match self.keys.as_mut().map_or(Typed::Pass(bytes.clone()), |keys| keys.type_bytes(&bytes)) {
            Typed::Pass(bytes) => self.input.pending = bytes,
            Typed::Detach(_) => return End::Detached,
        }
        End::Closed
    }

    fn wait(&self, signals: &ForegroundSignals) -> Result<Woken, Failure> {
        let flows = [&self.input, &self.output, &self.errors].map(Flow::want);
        let mut watched = vec![(signals.as_fd(), Want::Read)];
        watched.extend(flows.iter().flatten());
        let woken = poll::any(&watched, None)?;
        if woken[0] {
            return Ok(Woken::Signal);
        }
        let mut answers = woken.into_iter().skip(1);
        Ok(Woken::Flows(flows.map(|flow| flow.is_some() && answers.next().unwrap_or(false))))
    }
}

enum Woken {
    Signal,
    /// Input, output, errors.
    Flows([bool; 3]),
}
