//! Where the last N lines of a log begin, found from its end: a huge log costs no more than a short one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::log_line::{self, Tag};

const BLOCK: u64 = 64 << 10;
/// Longer than any record's time, stream and tag.
const HEADER: usize = 64;

/// A place in a row of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) file: usize,
    pub(crate) offset: u64,
}

/// The start of the last `lines` lines of `files`, oldest first, each up to its length here, which is [`whole`]. A line in
/// parts counts once; one whose last part is not yet written counts, too.
pub(crate) fn find(files: &[(&File, u64)], lines: u64) -> io::Result<Start> {
    let mut found = Count { lines, counted: 0, seen_any: false };
    for (index, &(file, length)) in files.iter().enumerate().rev() {
        if lines == 0 {
            return Ok(Start { file: index, offset: length });
        }
        if let Some(offset) = search(file, length, &mut found)? {
            return Ok(Start { file: index, offset });
        }
    }
    Ok(Start { file: 0, offset: 0 })
}

/// How many bytes of the first `length` are whole records. The last record may be half written: readers can see a part of a
/// write(2).
pub(crate) fn whole(file: &File, length: u64) -> io::Result<u64> {
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(&mut block, start)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

struct Count {
    lines: u64,
    counted: u64,
    seen_any: bool,
}

impl Count {
    /// True when this record ends the line *before* the wanted ones.
    fn is_before(&mut self, tag: Tag) -> bool {
        if tag == Tag::Full || !self.seen_any {
            self.counted += 1;
        }
        self.seen_any = true;
        self.counted > self.lines
    }
}

/// Walks a file's records from its end; the offset after the first that is too many.
fn search(file: &File, length: u64, found: &mut Count) -> io::Result<Option<u64>> {
    let mut record_end = length;
    let mut block_end = length;
    while block_end > 0 {
        let block_start = block_end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(block_end - block_start).unwrap_or(0)];
        file.read_exact_at(&mut block, block_start)?;
        for at in (0..block.len()).rev().filter(|&at| block[at] == b'\n') {
            let start = block_start + at as u64 + 1;
            if start < record_end && found.is_before(tag(file, start)?) {
                return Ok(Some(record_end));
            }
            record_end = start;
        }
        block_end = block_start;
    }
    let first = record_end > 0 && found.is_before(tag(file, 0)?);
    Ok(first.then_some(record_end))
}

fn tag(file: &File, start: u64) -> io::Result<Tag> {
    let mut header = [0; HEADER];
    let count = file.read_at(&mut header, start)?;
    let line = header[..count].split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(log_line::parse(line).tag)
}
