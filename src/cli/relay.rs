//! Bytes between the caller's stdin, stdout and stderr and a container's, until it ends.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::Failure;
use super::detach_keys::{DetachKeys, Typed};
use super::outlet::{Outlet, Stream, Trouble};
use super::sink::Sink;
use crate::report::{Report, exit_code};
use crate::sys::poll::{self, Want};
use crate::sys::signals::SIGHUP;
use crate::sys::terminal::{self, ForegroundSignals, RawMode, Sent, WindowSize};

/// One read.
const CHUNK: usize = 64 * 1024;
/// Ctrl-D, which a terminal takes for the end of input.
const END_OF_INPUT: u8 = 4;

/// Our ends of an attached container's stdio.
pub(crate) struct Ends {
    /// stdin one way, stdout the other.
    pub(crate) stdio: UnixStream,
    pub(crate) stderr: UnixStream,
}

impl Ends {
    /// Ours and the container's.
    pub(crate) fn pair() -> io::Result<(Ends, Ends)> {
        let (stdio, stdio_theirs) = UnixStream::pair()?;
        let (stderr, stderr_theirs) = UnixStream::pair()?;
        Ok((Ends { stdio, stderr }, Ends { stdio: stdio_theirs, stderr: stderr_theirs }))
    }
}

/// Containers that we are attached to.
pub(crate) struct Attachment<'a> {
    pub(crate) ends: &'a [Ends],
    /// The prefix of each container's lines; empty: bytes pass as they are.
    pub(crate) labels: &'a [String],
    /// The one that our stdin is for.
    pub(crate) main: usize,
    /// Its terminal, for the size only.
    pub(crate) master: Option<OwnedFd>,
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

/// What a relay does not decide itself.
pub(crate) trait Owner {
    /// Not SIGWINCH, and not what a raw terminal sends as bytes.
    fn on_signal(&mut self, sent: Sent) -> Result<(), Failure>;

    /// One of our streams is closed now.
    fn on_trouble(&mut self, trouble: Trouble) -> Result<(), Failure>;

    /// What else to wait for. While there is something, the relay goes on.
    fn news(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn on_news(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A client that goes when it gets a signal or cannot write; its container goes on.
struct Visitor<F>(F);

impl<F: FnMut(i32) -> Result<(), Failure>> Owner for Visitor<F> {
    fn on_signal(&mut self, sent: Sent) -> Result<(), Failure> {
        match sent {
            Sent::End { signal, .. } => (self.0)(signal),
            Sent::Resized | Sent::Other(_) => Ok(()),
        }
    }

    fn on_trouble(&mut self, trouble: Trouble) -> Result<(), Failure> {
        match trouble {
            Trouble::ReaderGone => Err(Failure::StdoutClosed),
            Trouble::HungUp => (self.0)(SIGHUP),
            Trouble::Failed(stream, error) => Err(write_failed(stream, &error).into()),
        }
    }
}

/// The error of a stream of ours that takes nothing more.
pub(crate) fn write_failed(stream: Stream, error: &io::Error) -> Report {
    let name = match stream {
        Stream::Stdout => "stdout",
        Stream::Stderr => "stderr",
    };
    Report::new(exit_code::FAILURE, format!("could not write to {name}")).because(crate::sys::describe_io(error))
}

/// Relays an attached container until it ends. `on_signal` gets SIGINT and the like, which a raw terminal sends as bytes
/// instead.
pub(crate) fn attached(
    attachment: Attachment<'_>,
    options: Options,
    signals: &ForegroundSignals,
    on_signal: impl FnMut(i32) -> Result<(), Failure>,
) -> Result<End, Failure> {
    owned(attachment, options, signals, &mut Visitor(on_signal))
}

/// As [`attached`], for an owner that decides more.
pub(crate) fn owned(
    attachment: Attachment<'_>,
    options: Options,
    signals: &ForegroundSignals,
    owner: &mut dyn Owner,
) -> Result<End, Failure> {
    let Attachment { ends, labels, main, master } = attachment;
    let mut outlet = Outlet::new()?;
    for (at, ends) in ends.iter().enumerate() {
        for (socket, stream) in [(&ends.stdio, Stream::Stdout), (&ends.stderr, Stream::Stderr)] {
            terminal::set_nonblocking(socket.as_fd())?;
            outlet.add(clone(socket.as_fd())?, stream, labels.get(at).map(String::as_str));
        }
    }
    let input = match ends.get(main).filter(|_| options.input) {
        Some(ends) => {
            let flow = Flow::new(Some(clone(io::stdin().as_fd())?), clone(ends.stdio.as_fd())?);
            Some(Input { flow, at_end: AtEnd::Shutdown(ends.stdio.try_clone()?) })
        }
        None => None,
    };
    Relay::new(input, outlet, master, options)?.run(signals, owner)
}

/// Relays the master of a terminal that a command was given.
pub(crate) fn terminal(
    master: OwnedFd,
    options: Options,
    signals: &ForegroundSignals,
    on_signal: impl FnMut(i32) -> Result<(), Failure>,
) -> Result<End, Failure> {
    terminal::set_nonblocking(master.as_fd())?;
    let mut outlet = Outlet::new()?;
    outlet.add(clone(master.as_fd())?, Stream::Stdout, None);
    let input = if options.input {
        let flow = Flow::new(Some(clone(io::stdin().as_fd())?), clone(master.as_fd())?);
        Some(Input { flow, at_end: AtEnd::CtrlD })
    } else {
        None
    };
    Relay::new(input, outlet, Some(master), options)?.run(signals, &mut Visitor(on_signal))
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

/// One direction: bytes read and not yet written.
pub(super) struct Flow {
    /// `None` after its end.
    pub(super) from: Option<File>,
    pub(super) to: Sink,
    pub(super) pending: Vec<u8>,
}

impl Flow {
    pub(super) fn new(from: Option<File>, to: File) -> Flow {
        Flow { from, to: Sink::new(to), pending: Vec::new() }
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
        let count = self.to.write(&self.pending)?;
        self.pending.drain(..count);
        Ok(())
    }
}

/// What is typed, on its way to the container.
struct Input {
    flow: Flow,
    at_end: AtEnd,
}

/// How the container learns that there is no more.
enum AtEnd {
    Shutdown(UnixStream),
    CtrlD,
}

impl Input {
    fn pass(&mut self, keys: Option<&mut DetachKeys>) -> End {
        if !self.flow.pending.is_empty() {
            // Its reader has gone: the rest of our input has no meaning, the container's output may still come.
            if self.flow.write().is_err() {
                self.flow.close();
            }
            return End::Closed;
        }
        let Ok(Some(bytes)) = self.flow.read() else {
            match &self.at_end {
                // ENOTCONN: it has closed already.
                AtEnd::Shutdown(socket) => drop(socket.shutdown(Shutdown::Write)),
                AtEnd::CtrlD => self.flow.pending = vec![END_OF_INPUT],
            }
            return End::Closed;
        };
        match keys.map_or(Typed::Pass(bytes.clone()), |keys| keys.type_bytes(&bytes)) {
            Typed::Pass(bytes) => self.flow.pending = bytes,
            Typed::Detach(_) => return End::Detached,
        }
        End::Closed
    }
}

struct Relay {
    input: Option<Input>,
    outlet: Outlet,
    master: Option<OwnedFd>,
    keys: Option<DetachKeys>,
    /// Dropped last, when nothing more is written.
    _raw: Option<RawMode>,
}

impl Relay {
    fn new(input: Option<Input>, outlet: Outlet, master: Option<OwnedFd>, options: Options) -> Result<Relay, Failure> {
        let stdin = io::stdin();
        let raw = input.is_some() && master.is_some() && stdin.is_terminal();
        let relay = Relay {
            input,
            outlet,
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

    fn run(mut self, signals: &ForegroundSignals, owner: &mut dyn Owner) -> Result<End, Failure> {
        while !self.outlet.is_done() || owner.news().is_some() {
            if self.turn(signals, owner)? == End::Detached {
                return Ok(End::Detached);
            }
        }
        Ok(End::Closed)
    }

    /// Waits for anything to happen, and does what it calls for.
    fn turn(&mut self, signals: &ForegroundSignals, owner: &mut dyn Owner) -> Result<End, Failure> {
        let waits = self.outlet.waits();
        let input = self.input.as_ref().and_then(|input| input.flow.want());
        let news = owner.news().map(|news| (news, Want::Read));
        let (has_input, has_news) = (input.is_some(), news.is_some());
        let mut watched = vec![(signals.as_fd(), Want::Read)];
        watched.extend(input);
        watched.extend(news);
        watched.extend(waits.iter().filter_map(|wait| self.outlet.descriptor(*wait)));
        let woken = poll::any(&watched, self.outlet.silence())?;
        let mut woken = woken.into_iter();
        let mut next = || woken.next().unwrap_or(false);
        if next() {
            self.on_signal(signals, owner)?;
        }
        if has_input
            && next()
            && let Some(input) = &mut self.input
            && input.pass(self.keys.as_mut()) == End::Detached
        {
            return Ok(End::Detached);
        }
        if has_news && next() {
            owner.on_news()?;
        }
        for wait in waits {
            if next()
                && let Err(trouble) = self.outlet.step(wait)
            {
                owner.on_trouble(trouble)?;
            }
        }
        self.outlet.show_begun();
        Ok(End::Closed)
    }

    fn on_signal(&mut self, signals: &ForegroundSignals, owner: &mut dyn Owner) -> Result<(), Failure> {
        match signals.next() {
            Some(Sent::Resized) => self.resize(),
            Some(sent) => {
                if sent.is_hangup() {
                    self.outlet.close_terminals();
                }
                owner.on_signal(sent)?;
            }
            None => {}
        }
        Ok(())
    }
}
