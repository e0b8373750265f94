//! `x.log.index`: which bytes of all that was ever in a container's log are in which of its rotated files. With it a
//! reader that was too slow can say how much it has missed.
//!
//! One line for each file, oldest first: its inode, its first byte, and the byte after its last. The current file is not
//! in it: it begins where the last one ends. Without an index no file has been rotated.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;

use crate::sys::own_dir::OwnDir;

/// A rotated file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    inode: u64,
    start: u64,
    end: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index(Vec<Span>);

impl Index {
    /// Of the log of this name. `None`: there is none, or it cannot be read.
    #[must_use]
    pub fn read_in(directory: &OwnDir, log: &OsStr) -> Option<Index> {
        Index::parse(&std::io::read_to_string(directory.read(&name(log)).ok()?).ok()?)
    }

    fn parse(text: &str) -> Option<Index> {
        text.lines().map(parse).collect::<Option<Vec<Span>>>().map(Index)
    }

    /// The current file is full and becomes the newest of `kept` rotated ones. A second time changes nothing.
    pub(super) fn add(&mut self, inode: u64, length: u64, kept: u32) {
        if self.0.last().is_some_and(|last| last.inode == inode) {
            return;
        }
        let start = self.end();
        // A file that goes at once has an inode that the next one may get.
        let inode = if kept == 0 { 0 } else { inode };
        self.0.push(Span { inode, start, end: start + length });
        let most = usize::try_from(kept.max(1)).unwrap_or(usize::MAX);
        self.0.drain(..self.0.len().saturating_sub(most));
    }

    /// Replaces the file. Where that fails there is none: an index that is out of date would give wrong numbers.
    pub(super) fn write(&self, directory: &OwnDir, log: &OsStr) {
        let mut text = String::new();
        for Span { inode, start, end } in &self.0 {
            // A string takes everything.
            let _ = writeln!(text, "{inode} {start} {end}");
        }
        if directory.replace(&name(log), text.as_bytes(), |_| Ok(())).is_err() {
            let _ = directory.remove(&name(log));
        }
    }

    /// Where a rotated file begins.
    #[must_use]
    pub fn start_of(&self, inode: u64) -> Option<u64> {
        self.0.iter().find(|span| span.inode == inode).map(|span| span.start)
    }

    /// Where the current file begins.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.0.last().map_or(0, |last| last.end)
    }
}

fn name(log: &OsStr) -> OsString {
    let mut name = log.to_owned();
    name.push(".index");
    name
}

fn parse(line: &str) -> Option<Span> {
    let mut numbers = line.split(' ').map(|number| number.parse::<u64>().ok());
    let span = Span { inode: numbers.next()??, start: numbers.next()??, end: numbers.next()?? };
    (span.start <= span.end && numbers.next().is_none()).then_some(span)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_follow_each_other_and_only_the_kept_are_named() {
        let mut index = Index::default();
        assert_eq!((index.end(), index.start_of(7)), (0, None));
        for (inode, length) in [(7, 100), (7, 100), (8, 50), (9, 10)] {
            index.add(inode, length, 2);
        }
        assert_eq!(index.end(), 160);
        assert_eq!([7, 8, 9].map(|inode| index.start_of(inode)), [None, Some(100), Some(150)]);
    }

    #[test]
    fn a_file_that_is_not_kept_is_counted_without_its_inode() {
        let mut index = Index::default();
        index.add(7, 100, 0);
        index.add(7, 100, 0);
        assert_eq!((index.end(), index.start_of(7)), (200, None));
    }

    #[test]
    fn what_was_written_is_read_and_damage_is_no_index() {
        let dir = tempfile::tempdir().expect("tempdir");
        let own = OwnDir::at(dir.path()).expect("ours");
        let read = || Index::read_in(&own, "x.log".as_ref());
        assert_eq!(read(), None);
        let mut index = Index::default();
        index.add(7, 100, 4);
        index.add(8, 50, 4);
        index.write(&own, "x.log".as_ref());
        assert_eq!(read(), Some(index));
        std::fs::write(dir.path().join("x.log.index"), "7 0\n").expect("write");
        assert_eq!(read(), None);
    }
}
