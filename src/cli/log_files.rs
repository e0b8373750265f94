//! A container's log across its rotated files: `x.log.4` … `x.log.1`, `x.log`, oldest first.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use jiff::Timestamp;

use super::log_line::{self, Record, Tag};
use super::log_tail;
use crate::supervisor::log::index::Index;
use crate::sys::Errno;
use crate::sys::own_dir::OwnDir;

/// More rotated files than this are not looked for.
const MOST_FILES: u32 = 100;
/// Read at once.
const BLOCK: usize = 64 << 10;
/// A longer line is handed on in parts: no line costs more memory than this.
const LONGEST_LINE: usize = 1 << 20;

/// Reads records in order; at the end it waits for more, also across a rotation.
pub(crate) struct LogReader {
    log: Log,
    current: Option<LogFile>,
    /// Opened already, next first.
    ahead: VecDeque<LogFile>,
    /// Files that come later are read, too.
    follows: bool,
    /// Where the newest file ended when the last lines were counted: those after it are not among them.
    seen: Option<u64>,
    buffer: Vec<u8>,
    /// The header of a line whose first parts were handed on.
    long_line: Option<Record>,
    peeked: Option<Record>,
    last_time: Option<Timestamp>,
    missed: Option<Missed>,
}

/// A part of the log that was removed by rotation before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Missed {
    /// Bytes of the log's files; `None`: not known.
    pub(crate) bytes: Option<u64>,
    /// The last record before it.
    pub(crate) after: Option<Timestamp>,
}

/// Where a log is. No link is followed: a container that can write to that directory may have put one there.
#[derive(Clone)]
pub(crate) struct Log {
    /// Of the pod's data.
    pub(crate) directory: Arc<OwnDir>,
    pub(crate) name: OsString,
}

struct LogFile {
    file: File,
    inode: u64,
    /// Of the first byte that was not read yet.
    offset: u64,
    /// Where reading ends; `None`: where the file does.
    end: Option<u64>,
    /// Where the file begins in all that the container wrote; `None`: not known.
    start: Option<u64>,
    /// A newer file has its name: nothing more will be written to it.
    rotated: bool,
}

/// What comes after the bytes that were read.
enum Next {
    Nothing,
    /// The same file once more.
    Again,
    File(LogFile),
}

impl LogReader {
    /// From the beginning, or from the last `tail` lines on. A log that is not there yet is empty.
    pub(crate) fn open(log: Log, tail: Option<u64>) -> io::Result<LogReader> {
        let mut files = open_all(&log)?;
        let mut seen = None;
        if let Some(lines) = tail {
            let mut opened = Vec::with_capacity(files.len());
            for (index, file) in files.iter().enumerate() {
                let length = file.file.metadata()?.len();
                let newest = index + 1 == files.len();
                opened.push((&file.file, if newest { log_tail::whole(&file.file, length)? } else { length }));
            }
            seen = opened.last().map(|(_, length)| *length);
            let start = log_tail::find(&opened, lines)?;
            files.drain(..start.file);
            if let Some(first) = files.front_mut() {
                first.offset = start.offset;
            }
        }
        Ok(LogReader {
            log,
            current: files.pop_front(),
            ahead: files,
            follows: true,
            seen,
            buffer: Vec::new(),
            long_line: None,
            peeked: None,
            last_time: None,
            missed: None,
        })
    }

    /// Reads no further than the last whole record that is there now. The files are open: no rotation takes them away.
    pub(crate) fn end_here(&mut self) -> io::Result<()> {
        self.follows = false;
        if let Some(newest) = self.ahead.back_mut().or(self.current.as_mut()) {
            newest.end = Some(match self.seen {
                Some(seen) => seen,
                None => log_tail::whole(&newest.file, newest.file.metadata()?.len())?,
            });
        }
        Ok(())
    }

    /// The next record without taking it; `None` when there is none now.
    pub(crate) fn peek(&mut self) -> io::Result<Option<&Record>> {
        if self.peeked.is_none() {
            self.peeked = self.read_record()?;
        }
        Ok(self.peeked.as_ref())
    }

    /// What [`peek`](Self::peek) showed.
    pub(crate) fn take(&mut self) -> Option<Record> {
        let taken = self.peeked.take();
        self.last_time = taken.as_ref().and_then(|record| record.time).or(self.last_time);
        taken
    }

    /// What is missing before the record that [`peek`](Self::peek) shows; once.
    pub(crate) fn take_missed(&mut self) -> Option<Missed> {
        self.missed.take()
    }

    fn read_record(&mut self) -> io::Result<Option<Record>> {
        // Bytes up to here hold no newline.
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=searched + at).collect();
                return Ok(Some(self.finish_line(&line[..line.len() - 1])));
            }
            searched = self.buffer.len();
            if searched >= LONGEST_LINE {
                let part = std::mem::take(&mut self.buffer);
                return Ok(Some(self.part_of_line(&part)));
            }
            if self.fill()? {
                continue;
            }
            searched = self.buffer.len().min(searched);
            let next = match self.next_file()? {
                Next::Nothing => return Ok(None),
                Next::Again => continue,
                Next::File(next) => next,
            };
            self.current = Some(next);
            if !self.buffer.is_empty() {
                // Its writer died in the middle of a line, and began a new file later.
                let line = std::mem::take(&mut self.buffer);
                return Ok(Some(self.finish_line(&line)));
            }
        }
    }

    fn finish_line(&mut self, line: &[u8]) -> Record {
        match self.long_line.take() {
            Some(header) => Record { text: line.to_vec(), ..header },
            None => log_line::parse(line),
        }
    }

    fn part_of_line(&mut self, part: &[u8]) -> Record {
        let mut record = self.finish_line(part);
        self.long_line = Some(Record { text: Vec::new(), ..record.clone() });
        record.tag = Tag::Partial;
        record
    }

    /// True when bytes came.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(current) = &mut self.current else { return Ok(false) };
        let left = current.end.map_or(BLOCK as u64, |end| end.saturating_sub(current.offset));
        let before = self.buffer.len();
        self.buffer.resize(before + usize::try_from(left).map_or(BLOCK, |left| left.min(BLOCK)), 0);
        let count = loop {
            match current.file.read_at(&mut self.buffer[before..], current.offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(before + count.as_ref().map_or(0, |count| *count));
        let count = count?;
        current.offset += count as u64;
        if count == 0 && current.end.is_none() {
            // On a full disk the supervisor takes back a record that was written in part.
            let cut = current.offset.saturating_sub(current.file.metadata()?.len());
            current.offset -= cut;
            self.buffer.truncate(before.saturating_sub(usize::try_from(cut).unwrap_or(before)));
        }
        Ok(count > 0)
    }

    /// The file after the current one, once that one is known to be complete.
    fn next_file(&mut self) -> io::Result<Next> {
        if let Some(next) = self.ahead.pop_front() {
            return Ok(Next::File(next));
        }
        if !self.follows {
            return Ok(Next::Nothing);
        }
        if let Some(current) = &mut self.current {
            // Missing for a moment in every rotation.
            let Ok(newest) = self.log.directory.metadata(&self.log.name) else { return Ok(Next::Nothing) };
            if newest.ino() == current.inode {
                return Ok(Next::Nothing);
            }
            if !std::mem::replace(&mut current.rotated, true) {
                // Written to until it was renamed: what came since our last read is still to be read.
                return Ok(Next::Again);
            }
        }
        let mut files = open_all(&self.log)?;
        if let Some(current) = &self.current {
            match files.iter().position(|file| file.inode == current.inode) {
                Some(at) => drop(files.drain(..=at)),
                None => self.missed = files.front().map(|next| missed(current, next, self.last_time)),
            }
        }
        self.ahead = files;
        Ok(self.ahead.pop_front().map_or(Next::Nothing, Next::File))
    }
}

/// Between two files that do not follow each other.
fn missed(current: &LogFile, next: &LogFile, after: Option<Timestamp>) -> Missed {
    let end = current.start.map(|start| start + current.offset);
    Missed { bytes: next.start.zip(end).and_then(|(start, end)| start.checked_sub(end)), after }
}

/// Newest first, so that a rotation in between shows one file twice rather than hiding one; then the other way round.
fn open_all(log: &Log) -> io::Result<VecDeque<LogFile>> {
    let mut files: VecDeque<LogFile> = VecDeque::new();
    for number in 0..MOST_FILES {
        let mut name = log.name.clone();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let file = match log.directory.read(&name) {
            Ok(file) => file,
            // The newest is missing for a moment in every rotation.
            Err(error) if error.errno == Errno::ENOENT && number == 0 => continue,
            Err(error) if error.errno == Errno::ENOENT => break,
            Err(error) => return Err(io::Error::other(error.to_string())),
        };
        let Ok(found) = file.metadata() else { break };
        if !files.iter().any(|file| file.inode == found.ino()) {
            let (inode, rotated) = (found.ino(), number > 0);
            files.push_front(LogFile { file, inode, offset: 0, end: None, start: None, rotated });
        }
    }
    place(log, &mut files);
    Ok(files)
}

/// Says of each file where it begins, and puts them in that order: two rotations while they were opened may have changed it.
fn place(log: &Log, files: &mut VecDeque<LogFile>) {
    let index = Index::read_in(&log.directory, &log.name);
    let never_rotated = index.is_none() && files.iter().all(|file| !file.rotated);
    for file in files.iter_mut() {
        file.start = match &index {
            Some(index) => index.start_of(file.inode),
            None => never_rotated.then_some(0),
        };
    }
    // The one that is not in the index is the current one, if it still is.
    let current = log.directory.metadata(&log.name).map(|newest| newest.ino()).ok();
    if let Some(newest) = files.iter_mut().find(|file| Some(file.inode) == current && file.start.is_none()) {
        newest.start = index.map(|index| index.end());
    }
    if files.iter().all(|file| file.start.is_some()) {
        files.make_contiguous().sort_by_key(|file| file.start);
    }
}

#[cfg(test)]
#[path = "log_files_tests.rs"]
mod tests;
