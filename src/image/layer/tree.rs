//! The files of a layer, below one directory descriptor.
//!
//! Order matters to the kernel: chown(2) clears set-user-ID bits and file capabilities, so owner, mode, extended
//! attributes and times come in this order; a new name changes the time of its directory, so a directory gets its time
//! when nothing more is made in it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::archive::FileContent;
use super::entry::{Entry, Kind, Time};
use super::{Hidden, LayerError, Owners, Summary};
use crate::sys::create::{self, Existing};
use crate::sys::path::make_new_directory;
use crate::sys::tree::unlink;
use crate::sys::{self, Errno};

/// Directories that are kept open. Entries of one directory follow each other in an archive.
const OPEN_DIRECTORIES: usize = 64;
/// overlayfs's mark of a directory that hides those of lower layers, where it is mounted with `userxattr`.
const OPAQUE: &str = "user.overlay.opaque";

/// Where a layer goes.
pub struct Target<'a> {
    /// Taken as `/`.
    pub root: BorrowedFd<'a>,
    /// An empty directory of the same file system.
    pub trash: BorrowedFd<'a>,
    /// What the layer hides, where that is not marked in the tree itself.
    pub hidden: Option<&'a mut Hidden>,
}

pub(super) struct Tree<'a> {
    root: BorrowedFd<'a>,
    /// Where replaced directories go, with all that is in them: the caller deletes them when it has time.
    trash: BorrowedFd<'a>,
    trashed: u64,
    owners: Owners,
    /// `None`: what this layer hides is marked in overlayfs's form.
    hidden: Option<&'a mut Hidden>,
    /// The one used last is at the end.
    open: Vec<OpenDirectory>,
    summary: Summary,
}

struct OpenDirectory {
    path: Vec<OsString>,
    fd: OwnedFd,
    identity: (u64, u64),
    /// What it gets back when it is closed.
    modified: (i64, i64),
}

impl<'a> Tree<'a> {
    pub(super) fn new(target: Target<'a>, owners: Owners) -> Tree<'a> {
        let Target { root, trash, hidden } = target;
        Tree { root, trash, trashed: 0, owners, hidden, open: Vec::new(), summary: Summary::default() }
    }

    /// Makes what the entry says.
    pub(super) fn add(&mut self, entry: &Entry, content: &mut dyn FileContent) -> Result<(), LayerError> {
        self.summary.entries += 1;
        match &entry.kind {
            Kind::Ignored => Ok(()),
            Kind::Directory => self.add_directory(entry),
            // overlayfs takes no such mark on the root of a layer.
            Kind::OpaqueDirectory if entry.path.is_empty() => {
                self.summary.hides_lower_layers = true;
                Ok(())
            }
            Kind::OpaqueDirectory => {
                let directory = self.directory(entry, &entry.path)?;
                self.hide_lower(entry, directory)
            }
            Kind::Whiteout => self.add_whiteout(entry),
            Kind::HardLink { target } => self.add_hard_link(entry, target),
            Kind::File | Kind::Device | Kind::Fifo | Kind::Symlink { .. } => self.add_file(entry, content),
        }
    }

    /// Gives the directories that are still open their times.
    pub(super) fn finish(mut self) -> Result<Summary, LayerError> {
        self.close_all().map_err(|source| LayerError::Kernel { path: "/".to_owned(), source })?;
        Ok(self.summary)
    }

    fn add_directory(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let Some((name, parent)) = entry.path.split_last() else {
            let directory = self.directory(entry, &[])?;
            return self.set_directory_attributes(entry, directory);
        };
        let at = self.directory(entry, parent)?;
        let found = self.existing(entry, at, name)?;
        if !found.is_some_and(|found| found.is_directory) {
            let at = match found {
                Some(found) => self.remove(entry, at, name, found)?,
                None => at,
            };
            make_new_directory(self.fd(at), name.as_ref()).map_err(|error| failed(entry, error))?;
        }
        let directory = self.directory(entry, &entry.path)?;
        if found.is_some_and(|found| found.is_whiteout) {
            self.hide_lower(entry, directory)?;
        }
        self.set_directory_attributes(entry, directory)
    }

    fn set_directory_attributes(&mut self, entry: &Entry, directory: usize) -> Result<(), LayerError> {
        let fd = self.open[directory].fd.try_clone()?;
        self.own(entry, fd.as_fd(), ".".as_ref())?;
        create::set_mode(fd.as_fd(), entry.mode).map_err(|error| failed(entry, error))?;
        self.set_xattrs(entry, fd.as_fd())?;
        // Two names may lead to one directory, by a link on the way.
        let identity = self.open[directory].identity;
        for open in self.open.iter_mut().filter(|open| open.identity == identity) {
            open.modified = pair(entry.modified);
        }
        Ok(())
    }

    fn add_file(&mut self, entry: &Entry, content: &mut dyn FileContent) -> Result<(), LayerError> {
        let (at, name) = self.free_name(entry)?;
        let failed = |error| failed(entry, error);
        let made = match &entry.kind {
            Kind::Symlink { target } => {
                create::new_symlink(target, self.fd(at), name).map_err(failed)?;
                None
            }
            Kind::Fifo => {
                create::new_fifo(self.fd(at), name).map_err(failed)?;
                None
            }
            _ => Some(create::new_file(self.fd(at), name).map_err(failed)?),
        };
        match &made {
            Some(file) if entry.kind == Kind::File => self.summary.bytes += write(entry, file, content)?,
            Some(_) => self.summary.devices_replaced += 1,
            None => {}
        }
        let at = self.fd(at).try_clone_to_owned()?;
        self.own(entry, at.as_fd(), name)?;
        match made {
            Some(file) => {
                create::set_mode(file.as_fd(), entry.mode).map_err(failed)?;
                self.set_xattrs(entry, file.as_fd())?;
                create::set_times(file.as_fd(), pair(entry.modified)).map_err(failed)
            }
            None => {
                if entry.kind == Kind::Fifo {
                    create::set_mode_of(at.as_fd(), name, entry.mode).map_err(failed)?;
                }
                // A symbolic link takes no attribute of those that are kept (xattr(7)).
                self.summary.xattrs_dropped += entry.xattrs.len() as u64;
                create::set_times_of(at.as_fd(), name, pair(entry.modified)).map_err(failed)
            }
        }
    }

    /// Its owner, mode and times are those of the file that it names.
    fn add_hard_link(&mut self, entry: &Entry, target: &[OsString]) -> Result<(), LayerError> {
        let refuse = |why: String| LayerError::Entry { path: shown(&entry.path), why };
        if target == entry.path {
            return Err(refuse("a hard link to itself".to_owned()));
        }
        let Some((target_name, target_parent)) = target.split_last() else {
            return Err(refuse("a hard link to the root".to_owned()));
        };
        let from = self.directory(entry, target_parent)?;
        let from = self.fd(from).try_clone_to_owned()?;
        match self.existing_in(from.as_fd(), target_name).map_err(|error| failed(entry, error))? {
            Some(found) if !found.is_directory && !found.is_whiteout => {}
            _ => return Err(refuse(format!("a hard link to `{}`, which is no file of this layer", shown(target)))),
        }
        let (at, name) = self.free_name(entry)?;
        create::new_hard_link(from.as_fd(), target_name, self.fd(at), name).map_err(|error| failed(entry, error))
    }

    /// A whiteout speaks of lower layers only: what this layer has of that name stays, wherever it is in the archive.
    fn add_whiteout(&mut self, entry: &Entry) -> Result<(), LayerError> {
        let Some((name, parent)) = entry.path.split_last() else { return Ok(()) };
        let at = self.directory(entry, parent)?;
        match self.existing(entry, at, name)? {
            None => self.new_whiteout(at, name).map_err(|error| failed(entry, error)),
            Some(found) if found.is_directory => {
                let directory = self.directory(entry, &entry.path)?;
                self.hide_lower(entry, directory)
            }
            Some(_) => Ok(()),
        }
    }

    fn existing(&self, entry: &Entry, at: usize, name: &OsStr) -> Result<Option<Existing>, LayerError> {
        self.existing_in(self.fd(at), name).map_err(|error| failed(entry, error))
    }

    fn existing_in(&self, at: BorrowedFd<'_>, name: &OsStr) -> sys::Result<Option<Existing>> {
        let mut found = create::existing(at, name)?;
        if let (Some(found), Some(hidden)) = (&mut found, &self.hidden) {
            found.is_whiteout = hidden.whiteouts.contains(&found.identity);
        }
        Ok(found)
    }

    fn new_whiteout(&mut self, at: usize, name: &OsStr) -> sys::Result<()> {
        let at = self.open[at].fd.as_fd();
        let Some(hidden) = &mut self.hidden else { return create::new_whiteout(at, name) };
        let (identity, _) = create::identity_and_time(create::new_file(at, name)?.as_fd())?;
        hidden.whiteouts.insert(identity);
        Ok(())
    }

    fn hide_lower(&mut self, entry: &Entry, directory: usize) -> Result<(), LayerError> {
        let OpenDirectory { fd, identity, .. } = &self.open[directory];
        match &mut self.hidden {
            Some(hidden) => drop(hidden.opaque.insert(*identity)),
            None => create::set_xattr(fd, OPAQUE.as_ref(), b"y").map_err(|error| failed(entry, error))?,
        }
        Ok(())
    }

    /// The directory of an entry, and its name, which is made free.
    fn free_name<'e>(&mut self, entry: &'e Entry) -> Result<(usize, &'e OsStr), LayerError> {
        let Some((name, parent)) = entry.path.split_last() else {
            return Err(LayerError::Entry { path: "/".to_owned(), why: "the root can only be a directory".to_owned() });
        };
        let at = self.directory(entry, parent)?;
        if let Some(found) = self.existing(entry, at, name)? {
            let at = self.remove(entry, at, name, found)?;
            return Ok((at, name));
        }
        Ok((at, name))
    }

    /// Takes a name away; its directory's present place among the open ones.
    fn remove(&mut self, entry: &Entry, at: usize, name: &OsStr, found: Existing) -> Result<usize, LayerError> {
        if !found.is_directory {
            unlink(self.fd(at), name).map_err(|error| failed(entry, error))?;
            // Another file may get its inode number.
            if let Some(hidden) = &mut self.hidden {
                hidden.whiteouts.remove(&found.identity);
            }
            return Ok(at);
        }
        let to = self.trashed.to_string();
        create::rename(self.fd(at), name, self.trash, to.as_ref()).map_err(|error| failed(entry, error))?;
        self.trashed += 1;
        // Open directories below it have other paths now.
        let parent = self.open[at].path.clone();
        self.close_all().map_err(|error| failed(entry, error))?;
        self.directory(entry, &parent)
    }

    /// The place of an open directory among [`open`](Self::open); made with its parents when it is not there.
    fn directory(&mut self, entry: &Entry, path: &[OsString]) -> Result<usize, LayerError> {
        if let Some(found) = self.open.iter().rposition(|open| open.path == path) {
            let open = self.open.remove(found);
            self.open.push(open);
            return Ok(self.open.len() - 1);
        }
        let fd = match create::open_directory_in_root(self.root, &joined(path)) {
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => self.make_directory(entry, path)?,
            opened => opened.map_err(|error| failed(entry, error))?,
        };
        if self.open.len() == OPEN_DIRECTORIES {
            self.open.remove(0).close().map_err(|error| failed(entry, error))?;
        }
        let (identity, mut modified) = create::identity_and_time(fd.as_fd()).map_err(|error| failed(entry, error))?;
        // Under another name it may have been changed already, with the time to come still ahead.
        if let Some(other) = self.open.iter().find(|open| open.identity == identity) {
            modified = other.modified;
        }
        self.open.push(OpenDirectory { path: path.to_vec(), fd, identity, modified });
        Ok(self.open.len() - 1)
    }

    /// A directory that an entry needs and the archive does not have (yet).
    fn make_directory(&mut self, entry: &Entry, path: &[OsString]) -> Result<OwnedFd, LayerError> {
        let Some((name, parent)) = path.split_last() else {
            return create::open_directory_in_root(self.root, "".as_ref()).map_err(|error| failed(entry, error));
        };
        let at = self.directory(entry, parent)?;
        let found = self.existing(entry, at, name)?;
        match found {
            Some(found) if found.is_whiteout => drop(self.remove(entry, at, name, found)?),
            Some(_) => {
                let why = format!("`{}` is not a directory, and no link to one in this layer", shown(path));
                return Err(LayerError::Entry { path: shown(&entry.path), why });
            }
            None => {}
        }
        let at = self.directory(entry, parent)?;
        make_new_directory(self.fd(at), name.as_ref()).map_err(|error| failed(entry, error))?;
        let fd = create::open_directory_in_root(self.root, &joined(path)).map_err(|error| failed(entry, error))?;
        create::set_mode(fd.as_fd(), 0o755).map_err(|error| failed(entry, error))?;
        match &mut self.hidden {
            Some(hidden) if found.is_some() => {
                let (identity, _) = create::identity_and_time(fd.as_fd()).map_err(|error| failed(entry, error))?;
                hidden.opaque.insert(identity);
            }
            None if found.is_some() => {
                create::set_xattr(fd.as_fd(), OPAQUE.as_ref(), b"y").map_err(|error| failed(entry, error))?;
            }
            _ => {}
        }
        create::set_times(fd.as_fd(), pair(entry.modified)).map_err(|error| failed(entry, error))?;
        Ok(fd)
    }

    fn fd(&self, directory: usize) -> BorrowedFd<'_> {
        self.open[directory].fd.as_fd()
    }

    fn close_all(&mut self) -> sys::Result<()> {
        self.open.drain(..).try_for_each(OpenDirectory::close)
    }

    fn own(&mut self, entry: &Entry, at: BorrowedFd<'_>, name: &OsStr) -> Result<(), LayerError> {
        match self.owners {
            Owners::Keep => create::set_owner(at, name, entry.uid, entry.gid).map_err(|error| failed(entry, error)),
            Owners::Squash => {
                self.summary.owners_squashed += u64::from((entry.uid, entry.gid) != (0, 0));
                Ok(())
            }
        }
    }

    fn set_xattrs(&mut self, entry: &Entry, fd: BorrowedFd<'_>) -> Result<(), LayerError> {
        for (name, value) in &entry.xattrs {
            if !is_kept(name) {
                self.summary.xattrs_dropped += 1;
                continue;
            }
            match create::set_xattr(fd, name, value) {
                Ok(()) => {}
                // This file system or this user namespace does not take it; EINVAL: a capability that is malformed.
                Err(error) if matches!(error.errno, Errno::EOPNOTSUPP | Errno::EPERM | Errno::EINVAL) => {
                    self.summary.xattrs_dropped += 1;
                }
                Err(error) => return Err(failed(entry, error)),
            }
        }
        Ok(())
    }
}

impl OpenDirectory {
    fn close(self) -> sys::Result<()> {
        create::set_times(self.fd.as_fd(), self.modified)
    }
}

/// overlayfs's own attributes would make a layer show or hide what its archive does not say; labels of SELinux belong to
/// the machine that made them; `trusted.` is for the host's root (xattr(7)).
fn is_kept(name: &OsStr) -> bool {
    let name = name.as_bytes();
    let of_the_user = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
    of_the_user || name == b"security.capability" || name.starts_with(b"system.posix_acl_")
}

/// The bytes that were written; holes are left out.
fn write(entry: &Entry, file: &File, content: &mut dyn FileContent) -> Result<u64, LayerError> {
    let mut written = 0;
    let mut end = 0;
    content.for_each_piece(&mut |bytes, offset| {
        create::write_at(file, bytes, offset).map_err(|error| failed(entry, error))?;
        written += bytes.len() as u64;
        end = offset + bytes.len() as u64;
        Ok(())
    })?;
    if content.size() > end {
        create::set_length(file, content.size()).map_err(|error| failed(entry, error))?;
    }
    Ok(written)
}

fn pair(time: Time) -> (i64, i64) {
    (time.seconds, i64::from(time.nanoseconds))
}

fn joined(path: &[OsString]) -> PathBuf {
    path.iter().collect()
}

fn shown(path: &[OsString]) -> String {
    joined(path).display().to_string()
}

fn failed(entry: &Entry, source: sys::Error) -> LayerError {
    LayerError::Kernel { path: shown(&entry.path), source }
}
