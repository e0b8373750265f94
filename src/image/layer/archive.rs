//! The tar stream: headers by `tar-core`, which does no I/O of its own; contents by this file.
//!
//! `tar-core` and not `tar`: the latter splits PAX records at newlines, so that two parsers see two names
//! (docs/decisions/0030-image-parts.md), and puts no limit on headers.

use std::io::{ErrorKind, Read};

use tar_core::SparseEntry;
use tar_core::parse::{Limits, ParseEvent, Parser};

use super::LayerError;
use super::entry::RawEntry;

const BLOCK: usize = 512;
/// One read of the stream.
const CHUNK: usize = 128 * 1024;
/// All headers of one entry together. PAX headers hold names and extended attributes: at most 4,096 bytes and 64 KiB
/// each (xattr(7)).
const MAX_METADATA: u32 = 1 << 20;
/// A sparse map of format 1.0 is text between header and content: 10,000 pairs of numbers.
const MAX_HEADER: usize = 2 << 20;
const MAX_PATH: u32 = 4096;

/// A layer's tar stream, entry by entry.
pub(crate) struct Archive<R> {
    stream: R,
    parser: Parser,
    /// Bytes that were read and not used: `buffer[start..end]`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes used so far, for errors.
    position: u64,
    /// Content and padding of the present entry that nobody has read yet.
    left: u64,
    padding: u64,
}

/// What comes next in the archive.
pub(crate) enum Next {
    Entry {
        entry: RawEntry,
        content: Content,
    },
    /// Defaults for later entries. The image-spec has none; git archive writes a comment.
    GlobalHeader,
}

/// Where the bytes of an entry go.
pub(crate) enum Content {
    Plain {
        size: u64,
    },
    /// Runs of bytes with holes between them.
    Sparse {
        map: Vec<SparseEntry>,
        size: u64,
    },
}

impl Content {
    pub(crate) fn logical_size(&self) -> u64 {
        match self {
            Content::Plain { size } | Content::Sparse { size, .. } => *size,
        }
    }
}

impl<R: Read> Archive<R> {
    pub(crate) fn new(stream: R) -> Archive<R> {
        let mut parser =
            Parser::new(Limits { max_metadata_size: MAX_METADATA, max_path_len: Some(MAX_PATH), ..Limits::default() });
        // Negative times are legal and an error to tar-core; `RawEntry` checks all numbers of a PAX header itself.
        parser.set_ignore_pax_errors(true);
        Archive { stream, parser, buffer: vec![0; CHUNK], start: 0, end: 0, position: 0, left: 0, padding: 0 }
    }

    /// The next entry; `None` at the end mark, when the stream has been read to its own end.
    pub(crate) fn next(&mut self) -> Result<Option<Next>, LayerError> {
        self.skip(self.left + self.padding)?;
        (self.left, self.padding) = (0, 0);
        loop {
            let input = &self.buffer[self.start..self.end];
            let event = self.parser.parse(input).map_err(|error| LayerError::Format(error.to_string()))?;
            let (consumed, next, size) = match event {
                ParseEvent::NeedData { min_bytes } => {
                    // A map without its newline asks for what it has already.
                    let wanted = min_bytes.max(input.len() + 1);
                    self.fill(wanted)?;
                    continue;
                }
                ParseEvent::End { .. } => {
                    self.drain()?;
                    return Ok(None);
                }
                ParseEvent::GlobalExtensions { consumed, .. } => (consumed, Next::GlobalHeader, 0),
                ParseEvent::Entry { consumed, entry } => {
                    let entry = RawEntry::of(&entry, false)?;
                    let size = entry.content_size();
                    (consumed, Next::Entry { entry, content: Content::Plain { size } }, size)
                }
                ParseEvent::SparseEntry { consumed, entry, sparse_map, real_size } => {
                    check_map(&sparse_map, entry.size, real_size)
                        .map_err(|why| LayerError::Entry { path: entry.path_lossy().into_owned(), why })?;
                    let size = entry.size;
                    let entry = RawEntry::of(&entry, true)?;
                    (
                        consumed,
                        Next::Entry { entry, content: Content::Sparse { map: sparse_map, size: real_size } },
                        size,
                    )
                }
            };
            self.take(consumed);
            // A PAX header may say any size; tar-core checks those of plain headers.
            let padded = size.checked_next_multiple_of(BLOCK as u64).filter(|padded| i64::try_from(*padded).is_ok());
            let padded = padded.ok_or_else(|| LayerError::Format(format!("an entry says that it has {size} bytes")))?;
            (self.left, self.padding) = (size, padded - size);
            return Ok(Some(next));
        }
    }

    /// The content of the entry that [`next`](Self::next) gave last.
    pub(crate) fn content(&mut self, content: Content) -> ContentReader<'_, R> {
        let (runs, size) = match content {
            Content::Plain { size } => (vec![SparseEntry { offset: 0, length: size }], size),
            Content::Sparse { map, size } => (map, size),
        };
        ContentReader { archive: self, runs: runs.into_iter(), size }
    }

    /// Reads until `wanted` bytes are in the buffer.
    fn fill(&mut self, wanted: usize) -> Result<(), LayerError> {
        if wanted > MAX_HEADER {
            return Err(LayerError::Format(format!("a header has more than {MAX_HEADER} bytes")));
        }
        self.buffer.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted.next_multiple_of(CHUNK), 0);
        }
        while self.end < wanted {
            match self.read_more()? {
                0 => return Err(LayerError::Truncated(self.position + self.end as u64)),
                count => self.end += count,
            }
        }
        Ok(())
    }

    fn read_more(&mut self) -> Result<usize, LayerError> {
        loop {
            match self.stream.read(&mut self.buffer[self.end..]) {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn take(&mut self, count: usize) {
        self.start += count;
        self.position += count as u64;
    }

    /// Some bytes of the present content, at most `limit`; never none while there are some.
    fn some(&mut self, limit: u64) -> Result<&[u8], LayerError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            self.fill(1)?;
        }
        let count = usize::try_from(limit).unwrap_or(usize::MAX).min(self.end - self.start);
        let from = self.start;
        self.take(count);
        Ok(&self.buffer[from..from + count])
    }

    fn skip(&mut self, mut count: u64) -> Result<(), LayerError> {
        while count > 0 {
            count -= self.some(count)?.len() as u64;
        }
        Ok(())
    }

    /// What follows the end mark is padding (GNU tar fills up a record); its bytes belong to the digest.
    fn drain(&mut self) -> Result<(), LayerError> {
        (self.start, self.end) = (0, 0);
        while self.read_more()? > 0 {}
        Ok(())
    }
}

/// Runs in order, without overlap, inside the file, and as long together as the content: what GNU tar writes.
fn check_map(map: &[SparseEntry], content: u64, size: u64) -> Result<(), String> {
    let mut end = 0_u64;
    let mut sum = 0_u64;
    for run in map {
        let next = run.offset.checked_add(run.length).filter(|next| run.offset >= end && *next <= size);
        end = next.ok_or_else(|| format!("its sparse map leaves the order or the size of {size} bytes"))?;
        sum += run.length;
    }
    if sum == content { Ok(()) } else { Err(format!("its sparse map has {sum} bytes, its content {content}")) }
}

/// The bytes of one entry with their offsets.
pub(crate) struct ContentReader<'a, R> {
    archive: &'a mut Archive<R>,
    runs: std::vec::IntoIter<SparseEntry>,
    size: u64,
}

/// Takes a piece of a file and its offset.
pub(crate) type Write<'a> = dyn FnMut(&[u8], u64) -> Result<(), LayerError> + 'a;

/// Reads the content of one entry.
pub(crate) trait FileContent {
    /// Calls `write` with each piece and its offset in the file, in order.
    fn for_each_piece(&mut self, write: &mut Write<'_>) -> Result<(), LayerError>;

    /// Bytes of the file, holes included.
    fn size(&self) -> u64;
}

impl<R: Read> FileContent for ContentReader<'_, R> {
    fn for_each_piece(&mut self, write: &mut Write<'_>) -> Result<(), LayerError> {
        for SparseEntry { mut offset, mut length } in self.runs.by_ref() {
            while length > 0 {
                let bytes = self.archive.some(length)?;
                write(bytes, offset)?;
                let count = bytes.len() as u64;
                offset += count;
                length -= count;
                self.archive.left -= count;
            }
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }
}
