//! A container's output on disk, in CRI's log format, which `kubectl logs` and every log shipper for Kubernetes read:
//!
//! ```text
//! 2016-10-06T00:17:09.669794202Z stdout F a whole line, or the last part of one
//! 2016-10-06T00:17:09.669794202Z stderr P a part of a line; the next P or F of this stream goes on without a break
//! ```
//!
//! (<https://github.com/kubernetes/design-proposals-archive/blob/main/node/kubelet-cri-logging.md>)
//!
//! The supervisor serves all containers with one thread, so a log may cost neither unbounded memory nor the pod: what
//! cannot be written is dropped and counted, and the log itself says so as soon as it can.

pub mod index;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufRead as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::plan::LogPlan;
use crate::sys::own_dir::OwnDir;
use crate::sys::{self, Errno};
use index::Index;

/// The longest text of one entry, as containerd and conmon have it.
const MAX_TEXT: usize = 16 * 1024;
/// What is gathered for one write(2). An entry is some 40 bytes longer than its text, so a chunk of empty lines grows
/// forty times; this bounds it.
const MAX_BATCH: usize = 64 * 1024;

/// Where the container wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// The log of one container: the current file and its older ones.
#[derive(Debug)]
pub struct LogFile {
    plan: LogPlan,
    directory: Arc<OwnDir>,
    /// `None`: it could not be made when the last one was full; every write tries again.
    file: Option<File>,
    /// Bytes in `file`, always whole entries.
    size: u64,
    rotation: Rotation,
    index: Index,
    /// Unfinished lines of stdout and stderr, each at most [`MAX_TEXT`].
    tails: [Vec<u8>; 2],
    /// When a chunk last left one of them.
    unfinished_since: Option<Instant>,
    batch: Batch,
    /// Bytes of the container's output that are in no file, and why not.
    lost: u64,
    lost_because: Errno,
}

impl LogFile {
    /// Opens the log to append to it; mode 0600. `directory` is the one of the plan's path. Errors: the open's own.
    pub fn open(directory: Arc<OwnDir>, plan: &LogPlan) -> sys::Result<LogFile> {
        let mut log = LogFile {
            index: Index::read_in(&directory, name(plan)).unwrap_or_default(),
            plan: plan.clone(),
            directory,
            file: None,
            size: 0,
            rotation: Rotation::Done,
            tails: [Vec::new(), Vec::new()],
            unfinished_since: None,
            batch: Batch::default(),
            lost: 0,
            lost_because: Errno::UnknownErrno,
        };
        match log.open_current() {
            Ok(()) => Ok(log),
            Err(errno) => Err(sys::Error { call: format!("open({})", plan.path.display()), errno }),
        }
    }

    /// Writes what one read(2) has brought. A line without its end waits for it, or for
    /// [`write_unfinished`](Self::write_unfinished).
    pub fn write_chunk(&mut self, stream: Stream, bytes: &[u8], now: Timestamp) {
        self.batch.stamp(stream, now);
        let mut tail = std::mem::take(&mut self.tails[stream as usize]);
        let mut rest = bytes;
        while !rest.is_empty() {
            let start = rest;
            // The one way in std to libc's memchr; it cannot fail on a slice.
            let length = rest.skip_until(b'\n').unwrap_or(start.len());
            let segment = &start[..length];
            let (mut text, ended) = match segment.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (segment, false),
            };
            while tail.len() + text.len() > MAX_TEXT {
                let (part, next) = text.split_at(MAX_TEXT - tail.len());
                self.entry(Tag::Partial, &tail, part);
                tail.clear();
                text = next;
            }
            if ended {
                self.entry(Tag::Full, &tail, text);
                tail.clear();
            } else {
                tail.extend_from_slice(text);
            }
        }
        self.tails[stream as usize] = tail;
        self.unfinished_since = self.tails.iter().any(|tail| !tail.is_empty()).then(Instant::now);
        self.flush();
    }

    /// Since when unfinished lines have waited without more output; `None` where there are none.
    #[must_use]
    pub fn unfinished_since(&self) -> Option<Instant> {
        self.unfinished_since
    }

    /// Writes unfinished lines as parts (`P`), which readers join with the next record of the stream: when the container
    /// has ended, or has been silent for so long that its line is a prompt.
    pub fn write_unfinished(&mut self, now: Timestamp) {
        self.unfinished_since = None;
        for stream in [Stream::Stdout, Stream::Stderr] {
            let tail = std::mem::take(&mut self.tails[stream as usize]);
            self.batch.stamp(stream, now);
            if !tail.is_empty() {
                self.entry(Tag::Partial, &tail, b"");
            }
            self.flush();
        }
    }

    /// Bytes of output that could not be written and that the log does not speak of yet.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn entry(&mut self, tag: Tag, before: &[u8], text: &[u8]) {
        let length = self.batch.entry_length(before.len() + text.len());
        let used = self.size + self.batch.bytes.len() as u64;
        if used > 0 && used + length as u64 > self.plan.max_size {
            self.flush();
            if self.size > 0
                && let Err(errno) = self.rotate()
            {
                self.lost_because = errno;
            }
        } else if self.batch.bytes.len() + length > MAX_BATCH {
            self.flush();
        }
        self.batch.push(tag, before, text);
    }

    /// One write(2), as a rule. Never fails: what cannot be written is lost, and counted.
    fn flush(&mut self) {
        if self.file.is_none()
            && let Err(errno) = self.open_current()
        {
            self.lost_because = errno;
        }
        if self.lost > 0 {
            let notice = self.batch.notice(self.lost, self.lost_because);
            match self.append(&notice).1 {
                Ok(()) => self.lost = 0,
                Err(errno) => self.lost_because = errno,
            }
        }
        if self.batch.bytes.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.batch.bytes);
        let (mut written, mut result) = if self.lost > 0 { (0, Ok(())) } else { self.append(&bytes) };
        // A full file of a file-size limit (RLIMIT_FSIZE) that is below the plan's: the next file has room again.
        if result == Err(Errno::EFBIG) && self.size > 0 && self.rotate().is_ok() {
            let (more, again) = self.append(&bytes[written..]);
            (written, result) = (written + more, again);
        }
        self.lost += self.batch.text_of(&bytes[written..]);
        if let Err(errno) = result {
            self.lost_because = errno;
        }
        self.batch.bytes = bytes;
        self.batch.bytes.clear();
    }

    /// Appends whole entries; says how many bytes of them are in the file, and why not all.
    fn append(&mut self, entries: &[u8]) -> (usize, Result<(), Errno>) {
        let Some(file) = &mut self.file else { return (0, Err(self.lost_because)) };
        let mut written = 0;
        let result = loop {
            if written == entries.len() {
                break Ok(());
            }
            match file.write(&entries[written..]) {
                Ok(0) => break Err(Errno::EIO),
                Ok(count) => written += count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => break Err(errno_of(&error)),
            }
        };
        if result.is_err() {
            // A full disk cuts where it likes: the readers want whole lines.
            written = entries[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let _ = file.set_len(self.size + written as u64);
        }
        self.size += written as u64;
        (written, result)
    }

    /// Begins a new file. Where that is impossible there is none, and `rotation` stays due: the limit on the disk's use
    /// holds before everything else.
    fn rotate(&mut self) -> Result<(), Errno> {
        (self.file, self.size, self.rotation) = (None, 0, Rotation::Due);
        self.open_current()
    }

    fn open_current(&mut self) -> Result<(), Errno> {
        if self.rotation == Rotation::Due {
            self.shift().map_err(|error| error.errno)?;
            self.rotation = Rotation::Done;
        }
        let file = self.directory.append(name(&self.plan)).map_err(|error| error.errno)?;
        let (file, size) = whole(file).map_err(|error| errno_of(&error))?;
        (self.file, self.size) = (Some(file), size);
        Ok(())
    }

    /// x.log.1 becomes x.log.2 and so on, the oldest goes, and x.log becomes x.log.1.
    fn shift(&mut self) -> sys::Result<()> {
        let (directory, current) = (&self.directory, name(&self.plan));
        let kept = self.plan.max_files.saturating_sub(1);
        // Before the renames: a file that has no name of a current log any more is in the index.
        if let Ok(full) = directory.metadata(current) {
            self.index.add(full.ino(), full.len(), kept);
            self.index.write(directory, current);
        }
        for number in (1..kept).rev() {
            // There may be none yet.
            let _ = directory.rename(&self.older(number), &self.older(number + 1));
        }
        let moved = match kept {
            0 => directory.remove(current),
            _ => directory.rename(current, &self.older(1)),
        };
        match moved {
            Err(error) if error.errno != Errno::ENOENT => Err(error),
            _ => Ok(()),
        }
    }

    fn older(&self, number: u32) -> OsString {
        let mut name = name(&self.plan).to_owned();
        name.push(format!(".{number}"));
        name
    }
}

fn name(plan: &LogPlan) -> &OsStr {
    plan.path.file_name().unwrap_or_default()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rotation {
    Due,
    Done,
}

/// `F` and `P` of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tag {
    Full = b'F' as isize,
    Partial = b'P' as isize,
}

/// Entries of one time and stream, waiting to be written together.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// `2016-10-06T00:17:09.669794202Z`, formatted once for all entries: it costs more than the rest of an entry.
    time: String,
    /// What stands between time and tag.
    stream: &'static str,
}

impl Batch {
    fn stamp(&mut self, stream: Stream, now: Timestamp) {
        self.time = format!("{now:.9}");
        self.stream = match stream {
            Stream::Stdout => " stdout ",
            Stream::Stderr => " stderr ",
        };
    }

    /// Bytes before the text: time, stream, tag and a space.
    fn header_length(&self) -> usize {
        self.time.len() + self.stream.len() + 2
    }

    fn entry_length(&self, text: usize) -> usize {
        self.header_length() + text + 1
    }

    fn push(&mut self, tag: Tag, before: &[u8], text: &[u8]) {
        self.bytes.extend_from_slice(self.time.as_bytes());
        self.bytes.extend_from_slice(self.stream.as_bytes());
        self.bytes.extend_from_slice(&[tag as u8, b' ']);
        self.bytes.extend_from_slice(before);
        self.bytes.extend_from_slice(text);
        self.bytes.push(b'\n');
    }

    /// How many bytes of the container's output stand in `entries`, which are this batch's own.
    fn text_of(&self, entries: &[u8]) -> u64 {
        let tag = self.header_length() - 2;
        let texts = entries.split_inclusive(|byte| *byte == b'\n').map(|entry| {
            // A part's newline is the format's, a whole line's is the container's.
            let added = self.header_length() + usize::from(entry.get(tag) == Some(&(Tag::Partial as u8)));
            entry.len().saturating_sub(added) as u64
        });
        texts.sum()
    }

    fn notice(&self, lost: u64, because: Errno) -> Vec<u8> {
        format!("{} stderr F sandpod: {lost} bytes of log lost: {}\n", self.time, because.desc()).into_bytes()
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// The file and its size. A line that a crash has cut is ended, so that the next one begins on its own.
fn whole(mut file: File) -> std::io::Result<(File, u64)> {
    let size = file.metadata()?.len();
    let mut last = [b'\n'];
    if size > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last == *b"\n" {
        return Ok((file, size));
    }
    file.write_all(b"\n")?;
    Ok((file, size + 1))
}

#[cfg(test)]
mod tests;
