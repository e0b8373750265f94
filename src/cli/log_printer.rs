//! Log records as the user sees them: with or without their container's name and time, stdout and stderr apart or not.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;

use super::lines::Lines;
use super::log_line::{Record, Stream, Tag};
use super::print::{self, escape};
use super::terminal_text::TerminalText;

const COLOURS: [AnsiColor; 6] =
    [AnsiColor::Cyan, AnsiColor::Yellow, AnsiColor::Green, AnsiColor::Magenta, AnsiColor::Blue, AnsiColor::BrightRed];
/// As much as a pipe takes without waiting once it is writable (PIPE_BUF).
const CHUNK: usize = 4096;

/// The prefix of each container's lines. Colours only for terminals, and not with NO_COLOR.
pub(crate) fn labels(names: &[String]) -> Vec<String> {
    let coloured = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let label = |(index, name): (usize, &String)| {
        let colour = COLOURS[index % COLOURS.len()].on_default();
        let style = if coloured { colour } else { Style::new() };
        format!("{style}{:<width$} |{style:#} ", escape(name))
    };
    names.iter().enumerate().map(label).collect()
}

/// Turns records into bytes for two descriptors, and writes them as fast as they are taken.
pub(crate) struct Printer {
    stdout: File,
    stderr: File,
    /// In order, so that a terminal shows both streams as they came.
    queue: VecDeque<(Stream, Vec<u8>)>,
    names: Vec<String>,
    named: bool,
    timestamps: bool,
    /// They go to a terminal, which is to get text and colours only.
    filtered: bool,
    /// Stdout is a terminal: a person waits for a prompt.
    interactive: bool,
    /// With names: two for each container, of its stdout and its stderr.
    lines: Lines,
    /// Without names, for each container and stream.
    passing: Vec<[Passing; 2]>,
}

/// A stream that is shown as it comes.
#[derive(Debug, Clone, Default)]
struct Passing {
    /// The newline of its line has not come yet.
    open: bool,
    /// An escape sequence may go on in the next record.
    filter: TerminalText,
}

impl Printer {
    /// `named`: every line begins with its container's name.
    pub(crate) fn new(names: &[String], named: bool, timestamps: bool) -> io::Result<Printer> {
        let stdout = io::stdout().as_fd().try_clone_to_owned().map(File::from)?;
        let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from)?;
        let filtered = stdout.is_terminal();
        let mut lines = Lines::default();
        for _ in 0..2 * names.len() {
            lines.add(filtered);
        }
        Ok(Printer {
            interactive: stdout.is_terminal(),
            lines,
            stdout,
            stderr,
            filtered,
            queue: VecDeque::new(),
            names: labels(names),
            named,
            timestamps,
            passing: vec![Default::default(); names.len()],
        })
    }

    /// Passes everything on to a terminal, too.
    pub(crate) fn write_raw(&mut self) {
        self.filtered = false;
        self.lines.pass_all();
    }

    /// Queues a line of our own for stderr, behind what was shown before it.
    pub(crate) fn add_warning(&mut self, message: &str) {
        self.queue.push_back((Stream::Stderr, print::warning(message).into_bytes()));
    }

    /// Queues a record of the container with this index.
    pub(crate) fn add(&mut self, container: usize, record: &Record) {
        let Record { time, stream, tag, text } = record;
        let newline: &[u8] = if *tag == Tag::Full { b"\n" } else { b"" };
        let mut bytes = Vec::with_capacity(text.len() + 64);
        if self.named {
            let mut prefix = self.names[container].clone().into_bytes();
            stamp(&mut prefix, *time, self.timestamps);
            self.lines.push(line_of(container, *stream), &prefix, &[text, newline].concat(), &mut bytes);
        } else {
            // A prompt has no newline and must be seen all the same.
            let passing = &mut self.passing[container][*stream as usize];
            stamp(&mut bytes, *time, self.timestamps && !passing.open);
            if self.filtered {
                passing.filter.push(&[text, newline].concat(), &mut bytes);
            } else {
                bytes.extend_from_slice(text);
                bytes.extend_from_slice(newline);
            }
            passing.open = *tag == Tag::Partial;
        }
        self.queue(bytes);
    }

    /// Output of a container. Its stderr goes to our stdout, too: a log is data.
    fn queue(&mut self, mut bytes: Vec<u8>) {
        let to = Stream::Stdout;
        if bytes.is_empty() {
            return;
        }
        match self.queue.back_mut() {
            Some((last, queued)) if *last == to && queued.len() < 64 << 10 => queued.append(&mut bytes),
            _ => self.queue.push_back((to, bytes)),
        }
    }

    /// There is no more now: a person sees the lines that were begun. Elsewhere they are joined first.
    pub(crate) fn show_begun(&mut self) {
        if !self.named || !self.interactive {
            return;
        }
        let mut bytes = Vec::new();
        self.lines.numbers().for_each(|number| self.lines.show_begun(number, &mut bytes));
        self.queue(bytes);
    }

    /// What was begun and will not end: its container has gone.
    pub(crate) fn add_unfinished(&mut self) {
        let mut bytes = Vec::new();
        self.lines.numbers().for_each(|number| self.lines.end(number, &mut bytes));
        self.passing.iter_mut().flatten().for_each(|passing| passing.filter.finish(&mut bytes));
        self.queue(bytes);
    }

    /// The descriptor that the next bytes are for; `None` when there are none.
    pub(crate) fn sink(&self) -> Option<BorrowedFd<'_>> {
        let (stream, _) = self.queue.front()?;
        Some(match stream {
            Stream::Stdout => self.stdout.as_fd(),
            Stream::Stderr => self.stderr.as_fd(),
        })
    }

    /// Writes some of it; does not wait when [`sink`](Self::sink) is writable.
    pub(crate) fn write_some(&mut self) -> io::Result<()> {
        let Some((stream, bytes)) = self.queue.front_mut() else { return Ok(()) };
        let sink = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let count = match sink.write(&bytes[..bytes.len().min(CHUNK)]) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => 0,
            Err(error) => return Err(error),
        };
        bytes.drain(..count);
        if bytes.is_empty() {
            self.queue.pop_front();
        }
        Ok(())
    }
}

/// Its number among the lines.
fn line_of(container: usize, stream: Stream) -> usize {
    2 * container + stream as usize
}

fn stamp(bytes: &mut Vec<u8>, time: Option<Timestamp>, wanted: bool) {
    if let Some(time) = time.filter(|_| wanted) {
        bytes.extend_from_slice(format!("{time:.9} ").as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stream: Stream, tag: Tag, text: &str) -> Record {
        Record { time: Some(Timestamp::UNIX_EPOCH), stream, tag, text: text.as_bytes().to_vec() }
    }

    fn queued(printer: &Printer) -> Vec<(Stream, String)> {
        let text = |(stream, bytes): &(Stream, Vec<u8>)| {
            (*stream, anstream::adapter::strip_str(&String::from_utf8_lossy(bytes)).to_string())
        };
        printer.queue.iter().map(text).collect()
    }

    #[test]
    fn names_are_aligned_and_parts_of_lines_joined() {
        let names = ["web".to_owned(), "log-shipper".to_owned()];
        let mut printer = Printer::new(&names, true, false).expect("printer");
        printer.add(0, &record(Stream::Stdout, Tag::Partial, "a"));
        printer.add(1, &record(Stream::Stdout, Tag::Full, "x"));
        printer.add(0, &record(Stream::Stdout, Tag::Full, "b"));
        printer.add(1, &record(Stream::Stdout, Tag::Partial, "cut"));
        printer.add_unfinished();
        let expected = "log-shipper | x\nweb         | ab\nlog-shipper | cut\n".to_owned();
        assert_eq!(queued(&printer), [(Stream::Stdout, expected)]);
    }

    #[test]
    fn a_person_sees_a_prompt_and_its_line_goes_on_where_it_can() {
        let names = ["web".to_owned(), "db".to_owned()];
        let mut printer = Printer::new(&names, true, false).expect("printer");
        printer.interactive = true;
        printer.add(0, &record(Stream::Stdout, Tag::Partial, "name? "));
        assert_eq!(queued(&printer), []);
        printer.show_begun();
        printer.show_begun();
        printer.add(0, &record(Stream::Stdout, Tag::Full, "bob"));
        printer.add(0, &record(Stream::Stdout, Tag::Partial, "age? "));
        printer.show_begun();
        printer.add(1, &record(Stream::Stdout, Tag::Full, "x"));
        printer.add(0, &record(Stream::Stdout, Tag::Full, "7"));
        printer.add(1, &record(Stream::Stdout, Tag::Partial, "y? "));
        printer.show_begun();
        printer.add_unfinished();
        let expected = "web | name? bob\nweb | age? \ndb  | x\nweb | 7\ndb  | y? \n".to_owned();
        assert_eq!(queued(&printer), [(Stream::Stdout, expected)]);
    }

    #[test]
    fn without_names_the_bytes_are_the_programs_own() {
        let mut printer = Printer::new(&["main".to_owned()], false, false).expect("printer");
        printer.add(0, &record(Stream::Stdout, Tag::Partial, "$ "));
        printer.add(0, &record(Stream::Stderr, Tag::Full, "oops"));
        printer.add(0, &record(Stream::Stdout, Tag::Full, "ls"));
        assert_eq!(queued(&printer), [(Stream::Stdout, "$ oops\nls\n".to_owned())]);
    }

    #[test]
    fn a_line_in_parts_has_its_time_once() {
        let mut printer = Printer::new(&["main".to_owned()], false, true).expect("printer");
        printer.add(0, &record(Stream::Stdout, Tag::Partial, "a"));
        printer.add(0, &record(Stream::Stdout, Tag::Full, "b"));
        assert_eq!(queued(&printer), [(Stream::Stdout, "1970-01-01T00:00:00.000000000Z ab\n".to_owned())]);
    }
}
