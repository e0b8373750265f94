//! What containers write, on its way to our stdout and stderr: every byte, in order for each container and stream. Nothing
//! is read while the bytes before are not written, so a slow reader slows the writer.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;

use super::sink::Sink;
use super::terminal_text::TerminalText;
use crate::sys::Errno;
use crate::sys::poll::Want;

/// One read.
const CHUNK: usize = 64 * 1024;
/// With a name before each line a line is collected up to here; a longer one is broken.
const LONGEST_LINE: usize = 256 << 10;

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

/// The prefix of every line, and the line that is begun.
#[derive(Default)]
struct Label {
    text: String,
    begun: Vec<u8>,
    /// For a terminal: a container must not write over the lines and names of others.
    filter: Option<TerminalText>,
}

struct Gate {
    sink: Sink,
    stream: Stream,
    pending: Vec<u8>,
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
        let gate = |(file, stream)| Gate { sink: Sink::new(file), stream, pending: Vec::new(), open: true };
        Ok(Outlet { sources: Vec::new(), gates: files.into_iter().map(gate).collect() })
    }

    /// `from` must be non-blocking, and poll(2) must have called it readable before it is read otherwise.
    pub(crate) fn add(&mut self, from: File, to: Stream, label: Option<&str>) {
        let gate = if to == Stream::Stdout { 0 } else { self.gates.len() - 1 };
        let filter = || self.gates[gate].sink.is_terminal().then(TerminalText::default);
        let label = label.map(|text| Label { text: text.to_owned(), begun: Vec::new(), filter: filter() });
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
                Some(label) => label.lines(&bytes[..count], &mut gate.pending),
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
                source.label.iter_mut().for_each(|label| label.end(&mut gate.pending));
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

impl Label {
    fn lines(&mut self, bytes: &[u8], to: &mut Vec<u8>) {
        let mut filtered = Vec::new();
        let bytes = match &mut self.filter {
            Some(filter) => {
                filter.push(bytes, &mut filtered);
                &filtered
            }
            None => bytes,
        };
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.begun.extend_from_slice(part);
            if part.ends_with(b"\n") {
                to.extend_from_slice(self.text.as_bytes());
                to.append(&mut self.begun);
            } else if self.begun.len() >= LONGEST_LINE {
                self.end(to);
            }
        }
    }

    /// What was begun and will not end.
    fn end(&mut self, to: &mut Vec<u8>) {
        self.filter.iter_mut().for_each(|filter| filter.finish(&mut self.begun));
        if !self.begun.is_empty() {
            to.extend_from_slice(self.text.as_bytes());
            to.append(&mut self.begun);
            to.push(b'\n');
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_name_however_it_is_cut() {
        let mut label = Label { text: "web | ".to_owned(), ..Label::default() };
        let mut shown = Vec::new();
        for part in ["a", "b\n\nc", "\nd"] {
            label.lines(part.as_bytes(), &mut shown);
        }
        label.end(&mut shown);
        label.end(&mut shown);
        assert_eq!(String::from_utf8(shown).expect("text"), "web | ab\nweb | \nweb | c\nweb | d\n");
    }

    #[test]
    fn a_line_without_an_end_does_not_take_all_memory() {
        let mut label = Label { text: "web | ".to_owned(), ..Label::default() };
        let mut shown = Vec::new();
        for _ in 0..10 {
            label.lines(&[b'x'; 100_000], &mut shown);
        }
        label.end(&mut shown);
        assert!(label.begun.capacity() < 2 * LONGEST_LINE);
        assert_eq!(shown.iter().filter(|byte| **byte == b'x').count(), 1_000_000);
    }
}
