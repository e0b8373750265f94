//! What containers write, on its way to our stdout and stderr: every byte, in order for each container and stream. Nothing
//! is read while the bytes before are not written, so a slow reader slows the writer.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::lines::Lines;
use super::sink::Sink;
use crate::sys::Errno;
use crate::sys::poll::Want;

/// One read.
const CHUNK: usize = 64 * 1024;
/// Longer than the pauses within a line that a program writes in several pieces.
const SILENCE: Duration = Duration::from_secs(1);

/// One of our own streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// Why nothing more can be written to one of our streams.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The reader of a pipe or socket has gone (EPIPE).
    ReaderGone,
    /// Our terminal has been closed.
    HungUp,
    Failed(Stream, io::Error),
}

/// Something to wait for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    /// Source, by number.
    Read(usize),
    /// Gate, by number.
    Write(usize),
}

pub(crate) struct Outlet {
    sources: Vec<Source>,
    /// One for stdout and one for stderr; a single one where both are the same file, so that no line is written into another.
    gates: Vec<Gate>,
}

struct Source {
    /// `None` after its end.
    from: Option<File>,
    gate: usize,
    label: Option<Label>,
}

/// For output with names before its lines.
struct Label {
    prefix: Vec<u8>,
    /// Its number among the gate's lines.
    line: usize,
    /// When the last bytes came.
    read_at: Instant,
}

struct Gate {
    sink: Sink,
    stream: Stream,
    pending: Vec<u8>,
    /// Of the sources with a label.
    lines: Lines,
    open: bool,
}

impl Outlet {
    /// To our own stdout and stderr.
    pub(crate) fn new() -> io::Result<Outlet> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from)?;
        let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from)?;
        let mut files = vec![(stdout, Stream::Stdout)];
        if !is_same(&files[0].0, &stderr) {
            files.push((stderr, Stream::Stderr));
        }
        let gate = |(file, stream)| Gate {
            sink: Sink::new(file),
            stream,
            pending: Vec::new(),
            lines: Lines::default(),
            open: true,
        };
        Ok(Outlet { sources: Vec::new(), gates: files.into_iter().map(gate).collect() })
    }

    /// `from` must be non-blocking, and poll(2) must have called it readable before it is read otherwise.
    pub(crate) fn add(&mut self, from: File, to: Stream, label: Option<&str>) {
        let gate = if to == Stream::Stdout { 0 } else { self.gates.len() - 1 };
        let Gate { sink, lines, .. } = &mut self.gates[gate];
        let label = label.map(|text| Label {
            prefix: text.as_bytes().to_vec(),
            line: lines.add(sink.is_terminal()),
            read_at: Instant::now(),
        });
        self.sources.push(Source { from: Some(from), gate, label });
    }

    pub(crate) fn is_done(&self) -> bool {
        self.sources.iter().all(|source| source.from.is_none()) && self.gates.iter().all(|gate| gate.pending.is_empty())
    }

    pub(crate) fn waits(&self) -> Vec<Wait> {
        let writes = (0..self.gates.len()).filter(|gate| !self.gates[*gate].pending.is_empty()).map(Wait::Write);
        let can_read = |source: &Source| source.from.is_some() && self.gates[source.gate].pending.is_empty();
        let reads =
            self.sources.iter().enumerate().filter(|(_, source)| can_read(source)).map(|(at, _)| Wait::Read(at));
        writes.chain(reads).collect()
    }

    pub(crate) fn descriptor(&self, wait: Wait) -> Option<(BorrowedFd<'_>, Want)> {
        match wait {
            Wait::Read(source) => self.sources[source].from.as_ref().map(|from| (from.as_fd(), Want::Read)),
            Wait::Write(gate) => Some((self.gates[gate].sink.as_fd(), Want::Write)),
        }
    }

    /// Does what [`waits`](Self::waits) waited for. After trouble the stream is closed: what is still written to it is for
    /// the log alone, and keeps no container waiting.
    pub(crate) fn step(&mut self, wait: Wait) -> Result<(), Trouble> {
        match wait {
            Wait::Read(source) => self.read(source),
            Wait::Write(gate) => {
                let open = &mut self.gates[gate];
                match open.sink.write(&open.pending) {
                    Ok(count) => drop(open.pending.drain(..count)),
                    Err(error) => {
                        let trouble = open.trouble(error);
                        self.close(gate);
                        return Err(trouble);
                    }
                }
            }
        }
        Ok(())
    }

    /// How long until [`show_begun`](Self::show_begun) is to be called: a prompt waits for an answer, and gets no newline
    /// before.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let since = self.prompts().map(|(_, read_at)| read_at).min()?;
        Some((since + SILENCE).saturating_duration_since(Instant::now()))
    }

    /// Shows lines that were begun a while ago on a terminal. Elsewhere they are joined first.
    pub(crate) fn show_begun(&mut self) {
        let due: Vec<usize> =
            self.prompts().filter(|(_, read_at)| read_at.elapsed() >= SILENCE).map(|(at, _)| at).collect();
        for at in due {
            let Source { gate, label: Some(label), .. } = &self.sources[at] else { continue };
            let Gate { lines, pending, .. } = &mut self.gates[*gate];
            lines.show_begun(label.line, pending);
        }
    }

    /// Sources of which a line is begun on a terminal, and when it went on last.
    fn prompts(&self) -> impl Iterator<Item = (usize, Instant)> {
        self.sources.iter().enumerate().filter_map(|(at, source)| {
            let Source { from: Some(_), gate, label: Some(label) } = source else { return None };
            let Gate { sink, lines, .. } = &self.gates[*gate];
            (sink.is_terminal() && lines.has_begun(label.line)).then_some((at, label.read_at))
        })
    }

    /// Our terminal has been closed.
    pub(crate) fn close_terminals(&mut self) {
        for gate in 0..self.gates.len() {
            if self.gates[gate].sink.is_terminal() {
                self.close(gate);
            }
        }
    }

    fn close(&mut self, gate: usize) {
        let closed = &mut self.gates[gate];
        (closed.open, closed.pending) = (false, Vec::new());
        for source in self.sources.iter_mut().filter(|source| source.gate == gate) {
            source.close();
        }
    }

    fn read(&mut self, at: usize) {
        let source = &mut self.sources[at];
        let gate = &mut self.gates[source.gate];
        let Some(from) = source.from.as_mut() else { return };
        let mut bytes = vec![0; CHUNK];
        match from.read(&mut bytes) {
            Ok(count) if count > 0 => match &mut source.label {
                Some(Label { prefix, line, read_at }) => {
                    *read_at = Instant::now();
                    gate.lines.push(*line, prefix, &bytes[..count], &mut gate.pending);
                }
                None if gate.pending.is_empty() => {
                    bytes.truncate(count);
                    gate.pending = bytes;
                }
                None => gate.pending.extend_from_slice(&bytes[..count]),
            },
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // An error is an end, too: a terminal whose other side has closed answers EIO (pty(7)).
            Ok(_) | Err(_) => {
                source.from = None;
                source.label.iter().for_each(|label| gate.lines.end(label.line, &mut gate.pending));
            }
        }
    }
}

impl Source {
    /// Nothing more is taken. The supervisor sees that (EPIPE) as soon as there is room in the socket.
    fn close(&mut self) {
        let Some(from) = self.from.take() else { return };
        // Only this direction: stdin may share the socket. ENOTSOCK: a terminal's master, which is simply not read.
        let socket = UnixStream::from(OwnedFd::from(from));
        if socket.shutdown(Shutdown::Read).is_ok() {
            let mut rest = vec![0; CHUNK];
            while (&socket).read(&mut rest).is_ok_and(|count| count > 0) {}
        }
    }
}

impl Gate {
    fn trouble(&self, error: io::Error) -> Trouble {
        match error.raw_os_error() {
            Some(number) if number == Errno::EPIPE as i32 => Trouble::ReaderGone,
            Some(number) if number == Errno::EIO as i32 && self.sink.is_terminal() => Trouble::HungUp,
            _ => Trouble::Failed(self.stream, error),
        }
    }
}

fn is_same(one: &File, other: &File) -> bool {
    let identity = |file: &File| file.metadata().map(|found| (found.dev(), found.ino(), found.rdev())).ok();
    identity(one).is_some_and(|found| identity(other) == Some(found))
}
