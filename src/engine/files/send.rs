//! Walks files and writes them as a tar stream (POSIX.1-2001, pax).

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tar_core::builder::EntryBuilder;
use tar_core::{EntryType, SparseEntry};

use super::{Problems, Source, ends_in_slash};
use crate::sys::file_tree::{self, Status};
use crate::sys::path::{self, FileKind};
use crate::sys::tree::for_each_entry;
use crate::sys::{Result, describe_io};

/// The name of what is copied, in a stream of which we are both ends.
pub(super) const TOP: &str = "copied";
/// What a reader takes (PATH_MAX, limits.h), and some room.
const LONGEST_PATH: usize = 4000;
/// A file of more pieces is sent whole: readers limit the map.
const MOST_RUNS: usize = 5000;
const BLOCK: u64 = 512;

/// Sends all that it can, and says what it could not.
pub(super) fn send(source: &Source, top: impl AsRef<Path>, stream: File) -> Problems {
    let mut problems = Problems::default();
    let (at, name) = match open(source) {
        Ok(opened) => opened,
        Err(why) => {
            problems.add(&source.path, why);
            return problems;
        }
    };
    let out = io::BufWriter::with_capacity(128 * 1024, stream);
    let mut sender = Sender { out, links: HashMap::new(), problems, shown: source.path.clone() };
    let sent = sender.add(at.as_fd(), &name, top.as_ref()).and_then(|()| sender.end());
    if let Err(error) = sent {
        // A receiver that has gone says itself why.
        sender.problems.add(&source.path, format!("the stream cannot be written: {}", describe_io(&error)));
    }
    sender.problems
}

/// The directory in which the source is, and its name there.
fn open(source: &Source) -> std::result::Result<(OwnedFd, OsString), String> {
    let follow = source.follow || ends_in_slash(&source.path) || source.name().is_none();
    let path = if follow { std::fs::canonicalize(&source.path) } else { std::path::absolute(&source.path) };
    let path = path.map_err(|error| describe_io(&error))?;
    let opened = match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => path::open_host_path(parent).map(|at| (at, name.to_owned())),
        _ => path::open_host_path(&path).map(|at| (at, OsString::from("."))),
    };
    let (at, name) = opened.map_err(|error| error.to_string())?;
    match file_tree::status(at.as_fd(), &name).map_err(|error| error.to_string())? {
        None => Err("there is no such file".to_owned()),
        Some(found)
            if found.kind != FileKind::Directory && (ends_in_slash(&source.path) || source.name().is_none()) =>
        {
            Err("it is not a directory".to_owned())
        }
        Some(_) => Ok((at, name)),
    }
}

struct Sender {
    out: io::BufWriter<File>,
    /// The first name of each file that has several.
    links: HashMap<(u64, u64), PathBuf>,
    problems: Problems,
    /// For errors: the source as the caller has it.
    shown: PathBuf,
}

/// What follows the header of a file.
struct Content {
    file: File,
    runs: Vec<(u64, u64)>,
    sparse: bool,
}

impl Sender {
    fn add(&mut self, at: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<()> {
        if path.as_os_str().len() > LONGEST_PATH {
            self.problem(path, "its path is too long");
            return Ok(());
        }
        match file_tree::status(at, name) {
            Ok(Some(found)) => match found.kind {
                FileKind::Directory => self.add_directory(at, name, path),
                FileKind::Regular => self.add_file(at, name, path, &found),
                FileKind::Symlink => match file_tree::link_target(at, name) {
                    Ok(target) => {
                        let mut header = header(path, &found, EntryType::Symlink, 0)?;
                        header.link_name(target.as_bytes());
                        self.out.write_all(&header.finish_bytes())
                    }
                    Err(error) => self.skip(path, &error),
                },
                FileKind::Fifo => {
                    let bytes = header(path, &found, EntryType::Fifo, 0)?.finish_bytes();
                    self.out.write_all(&bytes)
                }
                // Nothing listens on the copy of a socket.
                FileKind::Socket => {
                    self.problem(path, "a socket cannot be copied");
                    Ok(())
                }
                FileKind::CharDevice | FileKind::BlockDevice => {
                    self.problem(path, "a device node is not copied");
                    Ok(())
                }
            },
            // It was removed since its directory was read.
            Ok(None) => Ok(()),
            Err(error) => self.skip(path, &error),
        }
    }

    fn add_directory(&mut self, at: BorrowedFd<'_>, name: &OsStr, path: &Path) -> io::Result<()> {
        let (directory, found, names, xattrs) = match read_directory(at, name) {
            Ok(read) => read,
            Err(error) => return self.skip(path, &error),
        };
        let mut header = header(path, &found, EntryType::Directory, 0)?;
        add_xattrs(&mut header, &xattrs);
        self.out.write_all(&header.finish_bytes())?;
        for name in names {
            self.add(directory.as_fd(), &name, &path.join(&name))?;
        }
        Ok(())
    }

    fn add_file(&mut self, at: BorrowedFd<'_>, name: &OsStr, path: &Path, seen: &Status) -> io::Result<()> {
        if seen.links > 1 {
            if let Some(first) = self.links.get(&seen.identity) {
                let mut header = header(path, seen, EntryType::Link, 0)?;
                header.link_name(first.as_os_str().as_bytes());
                return self.out.write_all(&header.finish_bytes());
            }
            self.links.insert(seen.identity, path.to_owned());
        }
        let (content, found, xattrs) = match read_file(at, name) {
            Ok(read) => read,
            Err(error) => {
                self.links.remove(&seen.identity);
                return self.skip(path, &error);
            }
        };
        let length = content.runs.iter().map(|(_, length)| length).sum();
        let mut header = header(path, &found, EntryType::Regular, length)?;
        add_xattrs(&mut header, &xattrs);
        if content.sparse {
            let map: Vec<SparseEntry> =
                content.runs.iter().map(|(offset, length)| SparseEntry { offset: *offset, length: *length }).collect();
            header.sparse(&map, found.size);
        }
        self.out.write_all(&header.finish_bytes())?;
        self.add_content(&content, path)?;
        let padding = length.next_multiple_of(BLOCK) - length;
        self.out.write_all(&[0; BLOCK as usize][..usize::try_from(padding).unwrap_or(0)])
    }

    /// As many bytes as the header says, whatever happens to the file meanwhile.
    fn add_content(&mut self, content: &Content, path: &Path) -> io::Result<()> {
        let mut buffer = vec![0; 128 * 1024];
        let mut whole = true;
        for (mut offset, mut length) in content.runs.iter().copied() {
            while length > 0 {
                let most = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
                let count = match content.file.read_at(&mut buffer[..most], offset) {
                    Ok(0) if whole => {
                        self.problem(path, "it became shorter while it was read; the copy ends in zeros");
                        whole = false;
                        0
                    }
                    Err(error) if whole => {
                        self.problem(path, format!("{}; the copy ends in zeros", describe_io(&error)));
                        whole = false;
                        0
                    }
                    Ok(count) => count,
                    Err(_) => 0,
                };
                let count = if count == 0 {
                    buffer[..most].fill(0);
                    most
                } else {
                    count
                };
                self.out.write_all(&buffer[..count])?;
                offset += count as u64;
                length -= count as u64;
            }
        }
        Ok(())
    }

    /// Two empty blocks (pax(1)).
    fn end(&mut self) -> io::Result<()> {
        self.out.write_all(&[0; 2 * BLOCK as usize])?;
        self.out.flush()
    }

    fn skip(&mut self, path: &Path, error: &crate::sys::Error) -> io::Result<()> {
        self.problem(path, error.to_string());
        Ok(())
    }

    fn problem(&mut self, path: &Path, why: impl std::fmt::Display) {
        // Below the first name, which may not be the source's own.
        let below: PathBuf = path.components().skip(1).collect();
        let shown = if below.as_os_str().is_empty() { self.shown.clone() } else { self.shown.join(below) };
        self.problems.add(&shown, why);
    }
}

type Xattrs = Vec<(OsString, Vec<u8>)>;

fn read_directory(at: BorrowedFd<'_>, name: &OsStr) -> Result<(OwnedFd, Status, Vec<OsString>, Xattrs)> {
    let directory = file_tree::open_directory(at, name)?;
    let found = file_tree::status_of(directory.as_fd())?;
    let mut names = Vec::new();
    if !file_tree::is_pseudo(directory.as_fd())? {
        for_each_entry(directory.as_fd(), |name, _| {
            names.push(name);
            true
        })?;
    }
    names.sort();
    let xattrs = file_tree::xattrs(&directory)?;
    Ok((directory, found, names, xattrs))
}

fn read_file(at: BorrowedFd<'_>, name: &OsStr) -> Result<(Content, Status, Xattrs)> {
    let file = file_tree::open_file(at, name)?;
    let found = file_tree::status_of(file.as_fd())?;
    let xattrs = file_tree::xattrs(&file)?;
    let has_holes = found.blocks.saturating_mul(BLOCK) < found.size;
    let runs = if has_holes { file_tree::data_runs(&file, found.size)? } else { vec![(0, found.size)] };
    let sparse = has_holes && runs.len() <= MOST_RUNS && runs != [(0, found.size)];
    let runs = if sparse { runs } else { vec![(0, found.size)] };
    Ok((Content { file, runs, sparse }, found, xattrs))
}

fn header(path: &Path, found: &Status, kind: EntryType, size: u64) -> io::Result<EntryBuilder> {
    let too_large = |error: tar_core::HeaderError| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let mut header = EntryBuilder::new_ustar();
    let mut name = path.as_os_str().as_bytes().to_vec();
    if kind == EntryType::Directory {
        name.push(b'/');
    }
    header.path(&name).entry_type(kind);
    header.mode(found.mode).map_err(too_large)?;
    header.uid(found.uid.into()).map_err(too_large)?.gid(found.gid.into()).map_err(too_large)?;
    header.size(size).map_err(too_large)?;
    let (seconds, nanoseconds) = found.modified;
    header.mtime(u64::try_from(seconds).unwrap_or(0)).map_err(too_large)?;
    if seconds < 0 || nanoseconds != 0 {
        header.add_pax("mtime", pax_time(seconds, nanoseconds));
    }
    Ok(header)
}

fn add_xattrs(header: &mut EntryBuilder, xattrs: &Xattrs) {
    for (name, value) in xattrs {
        // A key ends at `=` (pax(1)); a name that is no text has no place in a record.
        if let Some(name) = name.to_str().filter(|name| !name.contains('=')) {
            header.add_pax(&format!("SCHILY.xattr.{name}"), value);
        }
    }
}

/// `-1.25` is 0.75 s after second -2.
fn pax_time(seconds: i64, nanoseconds: i64) -> String {
    match (seconds, nanoseconds) {
        (..0, 1..) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
        _ => format!("{seconds}.{nanoseconds:09}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_pax_has_them() {
        assert_eq!(pax_time(5, 1), "5.000000001");
        assert_eq!(pax_time(-2, 750_000_000), "-1.250000000");
        assert_eq!(pax_time(-1, 500_000_000), "-0.500000000");
        assert_eq!(pax_time(-3, 0), "-3.000000000");
    }
}
