//! Unpacks a tar stream below a directory: no link is followed on the way, and no directory is replaced.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{Problems, Target, ends_in_dot, ends_in_slash};
use crate::image::layer::LayerError;
use crate::image::layer::archive::{Archive, ContentReader, FileContent as _, Next};
use crate::image::layer::entry::{Entry, Kind, Time};
use crate::sys::file_tree::{self, Status};
use crate::sys::path::{self, FileKind};
use crate::sys::{Errno, Error, beneath, create, tree};

/// How an archive lies at its destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// As it is, in a directory that exists.
    Archive,
    /// It has one file or directory, which takes this name in a directory that exists, and else the destination's own.
    /// `None`: what is in the directory is meant.
    One { name: Option<OsString> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owners {
    /// Whoever writes.
    Ours,
    Archive,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) owners: Owners,
    /// Not on the host: a container could leave a program there that others run as you.
    pub(super) keeps_set_id: bool,
}

/// What is said of a stream that ends too early.
pub(super) const CUT_SHORT: &str = "the archive is cut short";

type Result<T> = std::result::Result<T, Stop>;

/// Why it stops: at which path of the destination, and why.
struct Stop(PathBuf, String);

/// Reads the stream to its end, or stops at the first entry that cannot be made. What was made until then has its attributes.
pub(super) fn receive(stream: File, target: &Target, policy: Policy) -> Problems {
    let mut receiver = None;
    let stopped = unpack(&mut Archive::new(stream), &mut receiver, target, policy);
    let mut problems = Problems::default();
    let finished = match &mut receiver {
        Some(receiver) => {
            problems = std::mem::take(&mut receiver.problems);
            receiver.finish()
        }
        None => Ok(()),
    };
    for Stop(path, why) in [stopped.err(), finished.err()].into_iter().flatten() {
        problems.add(&path, why);
    }
    problems
}

fn unpack(archive: &mut Archive<File>, receiver: &mut Option<Receiver>, target: &Target, policy: Policy) -> Result<()> {
    let broken = |error: LayerError| {
        let why = match error {
            LayerError::Truncated(_) => CUT_SHORT.to_owned(),
            other => other.to_string(),
        };
        Stop(target.path.clone(), why)
    };
    while let Some(next) = archive.next().map_err(broken)? {
        let Next::Entry { entry, content } = next else { continue };
        let entry = Entry::literal(entry).map_err(broken)?;
        let receiver = match &mut *receiver {
            Some(receiver) => receiver,
            empty => empty.insert(Receiver::open(target, policy, &entry.kind)?),
        };
        receiver.add(&entry, &mut archive.content(content))?;
    }
    if receiver.is_some() {
        return Ok(());
    }
    // Nothing in it; the destination must be right all the same.
    Receiver::open(target, policy, &Kind::Directory).map(drop)
}

struct Receiver {
    policy: Policy,
    root: OwnedFd,
    /// For errors.
    shown: PathBuf,
    place: Place,
    /// The directory used last.
    last: Option<(PathBuf, OwnedFd)>,
    /// What was left out.
    problems: Problems,
    /// Directories that were made: they get their attributes when nothing more is made in them.
    made: Vec<(PathBuf, u32, Time)>,
}

/// Where the paths of an archive are below the root.
enum Place {
    AsTheyAre,
    /// Their first name is this one.
    Renamed(OsString),
    /// Without their first name.
    Contents,
}

impl Receiver {
    /// The rules are those of `docker cp`.
    fn open(target: &Target, policy: Policy, first: &Kind) -> Result<Receiver> {
        let path = &target.path;
        let stop = |why: String| Stop(path.clone(), why);
        let of = |root: OwnedFd, shown: &Path, place: Place| {
            let root = beneath::open_directory(root.as_fd(), Path::new("."))
                .map_err(|error| Stop(shown.to_owned(), error.to_string()))?;
            Ok(Receiver {
                policy,
                root,
                shown: shown.to_owned(),
                place,
                last: None,
                problems: Problems::default(),
                made: Vec::new(),
            })
        };
        let found = match path::open_host_path(path) {
            Ok(found) => Some(found),
            Err(Error { errno: Errno::ENOENT, .. }) => None,
            Err(error) => return Err(stop(error.to_string())),
        };
        let kind = found.as_ref().map(|found| path::file_kind(found.as_fd())).transpose();
        let kind = kind.map_err(|error| stop(error.to_string()))?;
        let is_directory = *first == Kind::Directory;
        match (&target.shape, found, kind) {
            (Shape::Archive, Some(root), Some(FileKind::Directory)) => of(root, path, Place::AsTheyAre),
            (Shape::Archive, Some(_), _) => Err(stop("it is not a directory".to_owned())),
            (Shape::Archive, None, _) => Err(stop("there is no such directory".to_owned())),
            (Shape::One { name }, Some(root), Some(FileKind::Directory)) => match name {
                Some(name) => of(root, path, Place::Renamed(name.clone())),
                None => of(root, path, Place::Contents),
            },
            (_, Some(_), _) if is_directory => Err(stop("a directory cannot take the place of a file".to_owned())),
            (_, _, _) if !is_directory && (ends_in_slash(path) || ends_in_dot(path)) => {
                Err(stop("there is no such directory".to_owned()))
            }
            (_, _, _) => {
                let Some(name) = path.file_name() else { return Err(stop("there is no such directory".to_owned())) };
                let parent = match path.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                let root = path::open_host_path(parent).map_err(|error| Stop(parent.to_owned(), error.to_string()))?;
                of(root, parent, Place::Renamed(name.to_owned()))
            }
        }
    }

    fn add(&mut self, entry: &Entry, content: &mut ContentReader<'_, File>) -> Result<()> {
        let path = self.placed(&entry.path);
        let Some(name) = path.file_name().map(OsStr::to_owned) else { return Ok(()) };
        let at = self.directory(path.parent().unwrap_or(Path::new("")))?;
        let stop = |error: Error| self.stop(&path, &error);
        let found = file_tree::status(at.as_fd(), &name).map_err(stop)?;
        if entry.kind == Kind::Directory {
            return self.add_directory(entry, at.as_fd(), &path, found);
        }
        if found.is_some_and(|found| found.kind == FileKind::Directory) {
            return Err(Stop(self.shown.join(&path), "a file cannot take the place of a directory".to_owned()));
        }
        match &entry.kind {
            Kind::File => return self.add_file(entry, at.as_fd(), &path, found.is_some(), content),
            Kind::Device => {
                self.problems.add(&self.shown.join(&path), "a device node cannot be made: it is left out");
                return Ok(());
            }
            Kind::HardLink { target } => {
                let target = self.placed(target);
                let from = self.directory(target.parent().unwrap_or(Path::new("")))?;
                let target_name = target.file_name().unwrap_or_default();
                if target == path {
                    return Err(Stop(self.shown.join(&path), "a hard link to itself".to_owned()));
                }
                make_free(at.as_fd(), &name, found).map_err(|error| self.stop(&path, &error))?;
                return create::new_hard_link(from.as_fd(), target_name, at.as_fd(), &name)
                    .map_err(|error| self.stop(&path, &error));
            }
            _ => {}
        }
        let made = make_free(at.as_fd(), &name, found).and_then(|()| match &entry.kind {
            Kind::Symlink { target } => create::new_symlink(target, at.as_fd(), &name),
            _ => {
                create::new_fifo(at.as_fd(), &name)?;
                create::set_mode_of(at.as_fd(), &name, entry.mode & 0o777)
            }
        });
        let owned = made.and_then(|()| self.own(entry, at.as_fd(), &name));
        owned
            .and_then(|()| create::set_times_of(at.as_fd(), &name, pair(entry.modified)))
            .map_err(|error| self.stop(&path, &error))
    }

    fn add_directory(&mut self, entry: &Entry, at: BorrowedFd<'_>, path: &Path, found: Option<Status>) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        match found.map(|found| found.kind) {
            // What is there keeps its owner and mode.
            Some(FileKind::Directory) => return Ok(()),
            Some(FileKind::Symlink) => {
                let why = "a symbolic link has this name, and a copy follows none below its destination";
                return Err(Stop(self.shown.join(path), why.to_owned()));
            }
            Some(_) => {
                return Err(Stop(self.shown.join(path), "a directory cannot take the place of a file".to_owned()));
            }
            None => {}
        }
        let made = path::make_new_directory(at, name.as_ref()).and_then(|_| {
            self.own(entry, at, name)?;
            let directory = beneath::open_directory(at, name.as_ref())?;
            set_xattrs(entry, directory.as_fd())
        });
        made.map_err(|error| self.stop(path, &error))?;
        self.made.push((path.to_owned(), entry.mode & self.mode_mask(), entry.modified));
        Ok(())
    }

    fn add_file(
        &mut self,
        entry: &Entry,
        at: BorrowedFd<'_>,
        path: &Path,
        is_there: bool,
        content: &mut ContentReader<'_, File>,
    ) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        let opened = match tree::unlink(at, name) {
            // Something is mounted on it, as on a container's /etc/hosts: it can only be written to.
            Err(Error { errno: Errno::EBUSY, .. }) if is_there => file_tree::open_to_overwrite(at, name),
            Ok(()) | Err(Error { errno: Errno::ENOENT, .. }) => create::new_file(at, name),
            Err(error) => Err(error),
        };
        let file = opened.map_err(|error| self.stop(path, &error))?;
        let mut end = 0;
        let written = content.for_each_piece(&mut |bytes, offset| {
            end = offset + bytes.len() as u64;
            create::write_at(&file, bytes, offset).map_err(|source| LayerError::Kernel { path: String::new(), source })
        });
        written.map_err(|error| match error {
            LayerError::Kernel { source, .. } => self.stop(path, &source),
            LayerError::Truncated(_) => Stop(self.shown.join(path), CUT_SHORT.to_owned()),
            other => Stop(self.shown.join(path), other.to_string()),
        })?;
        let sized = if content.size() > end { create::set_length(&file, content.size()) } else { Ok(()) };
        // chown(2) clears set-user-ID bits and file capabilities: owners come first.
        let finished = sized
            .and_then(|()| self.own(entry, at, name))
            .and_then(|()| create::set_mode(file.as_fd(), entry.mode & self.mode_mask()))
            .and_then(|()| set_xattrs(entry, file.as_fd()))
            .and_then(|()| create::set_times(file.as_fd(), pair(entry.modified)));
        finished.map_err(|error| self.stop(path, &error))
    }

    /// Directories get their mode and times; the deepest first, since a mode may close a directory to us.
    fn finish(&mut self) -> Result<()> {
        self.last = None;
        for (path, mode, modified) in std::mem::take(&mut self.made).into_iter().rev() {
            let directory = beneath::open_directory(self.root.as_fd(), &path);
            directory
                .and_then(|directory| {
                    create::set_mode(directory.as_fd(), mode)?;
                    create::set_times(directory.as_fd(), pair(modified))
                })
                .map_err(|error| self.stop(&path, &error))?;
        }
        Ok(())
    }

    fn placed(&self, path: &[OsString]) -> PathBuf {
        match &self.place {
            Place::AsTheyAre => path.iter().collect(),
            Place::Renamed(name) => [name].into_iter().chain(path.iter().skip(1)).collect(),
            Place::Contents => path.iter().skip(1).collect(),
        }
    }

    /// A directory below the root; made where the archive does not name it.
    fn directory(&mut self, path: &Path) -> Result<OwnedFd> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return directory.try_clone().map_err(|error| Stop(self.shown.join(path), error.to_string()));
        }
        let whole = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let opened = match beneath::open_directory(self.root.as_fd(), whole) {
            Err(Error { errno: Errno::ENOENT, .. }) if whole == path => {
                let at = self.directory(path.parent().unwrap_or(Path::new("")))?;
                let name = path.file_name().unwrap_or_default();
                path::make_directory(at.as_fd(), name.as_ref(), 0o755)
                    .and_then(|()| beneath::open_directory(at.as_fd(), name.as_ref()))
            }
            other => other,
        };
        let directory = opened.map_err(|error| match error.errno {
            Errno::ELOOP | Errno::ENOTDIR => {
                let why = "it is no directory, or a symbolic link is on the way, and a copy follows none below its destination";
                Stop(self.shown.join(path), why.to_owned())
            }
            _ => self.stop(path, &error),
        })?;
        let again = directory.try_clone().map_err(|error| Stop(self.shown.join(path), error.to_string()))?;
        self.last = Some((path.to_owned(), again));
        Ok(directory)
    }

    fn own(&self, entry: &Entry, at: BorrowedFd<'_>, name: &OsStr) -> crate::sys::Result<()> {
        match self.policy.owners {
            Owners::Ours => Ok(()),
            Owners::Archive => create::set_owner(at, name, entry.uid, entry.gid),
        }
    }

    fn mode_mask(&self) -> u32 {
        if self.policy.keeps_set_id { 0o7777 } else { 0o1777 }
    }

    fn stop(&self, path: &Path, error: &Error) -> Stop {
        Stop(self.shown.join(path), error.to_string())
    }
}

fn make_free(at: BorrowedFd<'_>, name: &OsStr, found: Option<Status>) -> crate::sys::Result<()> {
    if found.is_some() { tree::unlink(at, name) } else { Ok(()) }
}

/// Those that mean the same everywhere. A file system that has none is no error.
fn set_xattrs(entry: &Entry, fd: BorrowedFd<'_>) -> crate::sys::Result<()> {
    let is_kept = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
    };
    for (name, value) in entry.xattrs.iter().filter(|(name, _)| is_kept(name)) {
        match create::set_xattr(fd, name, value) {
            Err(error) if !matches!(error.errno, Errno::EOPNOTSUPP | Errno::EPERM) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn pair(time: Time) -> (i64, i64) {
    (time.seconds, i64::from(time.nanoseconds))
}
