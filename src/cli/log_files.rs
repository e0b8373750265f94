//! A container's log across its rotated files: `x.log.4` … `x.log.1`, `x.log`, oldest first.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::log_line::{self, Record, Tag};
use super::log_tail;

/// More rotated files than this are not looked for.
const MOST_FILES: u32 = 100;
/// Read at once.
const BLOCK: usize = 64 << 10;
/// A longer line is handed on in parts: no line costs more memory than this.
const LONGEST_LINE: usize = 1 << 20;

/// Reads records in order; at the end it waits for more, also across a rotation.
pub(crate) struct LogReader {
    path: PathBuf,
    current: Option<LogFile>,
    /// Opened already, next first.
    ahead: VecDeque<LogFile>,
    buffer: Vec<u8>,
    /// The header of a line whose first parts were handed on.
    long_line: Option<Record>,
    peeked: Option<Record>,
}

struct LogFile {
    file: File,
    inode: u64,
    /// A newer file has its name: nothing more will be written to it.
    rotated: bool,
}

impl LogReader {
    /// From the beginning, or from the last `tail` lines on. A log that is not there yet is empty.
    pub(crate) fn open(path: &Path, tail: Option<u64>) -> io::Result<LogReader> {
        let mut files = open_all(path);
        if let Some(lines) = tail {
            let opened: Vec<&File> = files.iter().map(|file| &file.file).collect();
            let start = log_tail::find(&opened, lines)?;
            files.drain(..start.file);
            if let Some(first) = files.front_mut() {
                first.file.seek(SeekFrom::Start(start.offset))?;
            }
        }
        Ok(LogReader {
            path: path.to_owned(),
            current: files.pop_front(),
            ahead: files,
            buffer: Vec::new(),
            long_line: None,
            peeked: None,
        })
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
        self.peeked.take()
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
            let Some(next) = self.next_file() else { return Ok(None) };
            let unfinished = !self.buffer.is_empty();
            self.current = Some(next);
            if unfinished {
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
        let before = self.buffer.len();
        self.buffer.resize(before + BLOCK, 0);
        let count = loop {
            match current.file.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(before + count.as_ref().map_or(0, |count| *count));
        count.map(|count| count > 0)
    }

    /// The file after the current one, once that one is known to be complete.
    fn next_file(&mut self) -> Option<LogFile> {
        if let Some(next) = self.ahead.pop_front() {
            return Some(next);
        }
        if let Some(current) = &mut self.current {
            let newest = std::fs::metadata(&self.path).ok()?;
            if newest.ino() == current.inode {
                return None;
            }
            if !current.rotated {
                // Written to until it was renamed: what came since our last read is still to be read.
                current.rotated = true;
                return self.current.take();
            }
        }
        let mut files = open_all(&self.path);
        if let Some(current) = &self.current
            && let Some(at) = files.iter().position(|file| file.inode == current.inode)
        {
            files.drain(..=at);
        }
        self.ahead = files;
        self.ahead.pop_front()
    }
}

/// Newest first, so that a rotation in between shows one file twice rather than hiding one; then the other way round.
fn open_all(path: &Path) -> VecDeque<LogFile> {
    let mut files: VecDeque<LogFile> = VecDeque::new();
    let rotated = (1..MOST_FILES).map(|number| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    });
    for (number, path) in std::iter::once(path.to_owned()).chain(rotated).enumerate() {
        let Ok(file) = File::open(&path) else {
            // `x.log` is missing for a moment in every rotation.
            if number == 0 { continue } else { break }
        };
        let Ok(found) = file.metadata() else { break };
        if !files.iter().any(|file| file.inode == found.ino()) {
            files.push_front(LogFile { file, inode: found.ino(), rotated: number > 0 });
        }
    }
    files
}

#[cfg(test)]
#[path = "log_files_tests.rs"]
mod tests;
