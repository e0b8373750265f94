//! Removes directory trees that hostile programs have filled.
//!
//! - No symlink is followed and no mount entered, whatever is swapped meanwhile: every step is by descriptor.
//! - No depth hurts: no recursion, and no more than [`OPEN_ANCESTORS`] descriptors. Higher up it goes back by `..`, which
//!   counts only when it leads to the directory that we came from.
//! - One thing that cannot be removed does not stop the rest.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::sys::tree::{
    EntryKind, Identity, for_each_entry, identity, open_directory, open_parent, open_to_all, remove_directory, unlink,
};
use crate::sys::{Errno, Error, Result};

/// Ancestors kept open on the way down.
const OPEN_ANCESTORS: usize = 32;
/// As many say enough: a tree of a million files that are not ours would give a million.
const MAX_ERRORS: usize = 100;
/// Components of a path that an error shows; a hostile tree is deeper than any line is long.
const SHOWN_COMPONENTS: usize = 8;

/// Removes `name` in `parent` and everything below it; a name that is not there is no error.
///
/// What is left is what the errors say (the first [`MAX_ERRORS`] of them). Directories on the way to it that are ours
/// are left with mode 0777, so that ids of the pod can empty them in turn: keep such trees below a 0700 directory.
pub(super) fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> Vec<Error> {
    let mut walk = Walk { levels: Vec::new(), errors: Vec::new() };
    match unlink(parent, name) {
        Ok(()) => return Vec::new(),
        Err(error) if error.errno == Errno::ENOENT => return Vec::new(),
        // EISDIR is Linux's answer for a directory; POSIX has EPERM.
        Err(error) if matches!(error.errno, Errno::EISDIR | Errno::EPERM | Errno::EACCES) => {}
        Err(error) => return vec![error],
    }
    if let Err(error) = walk.run(parent, name) {
        walk.report(error, None);
    }
    walk.errors
}

/// Removes everything below an open directory, which itself stays; errors as [`remove_tree`] has them.
pub(super) fn empty_directory(directory: BorrowedFd<'_>) -> Vec<Error> {
    let mut names = Vec::new();
    let listed = for_each_entry(directory, |name, _| {
        names.push(name);
        true
    });
    names.iter().flat_map(|name| remove_tree(directory, name)).chain(listed.err()).take(MAX_ERRORS).collect()
}

/// One directory between the top and the place where the walk is.
struct Level {
    name: OsString,
    identity: Identity,
    /// `None`: closed because the walk is far below; see [`OPEN_ANCESTORS`].
    fd: Option<Rc<OwnedFd>>,
    /// Directories in it that the walk has not entered.
    pending: Vec<OsString>,
    /// Something in it stays, so it does too.
    stuck: bool,
}

struct Walk {
    levels: Vec<Level>,
    errors: Vec<Error>,
}

impl Walk {
    /// Fails only where the walk cannot find its way any more.
    fn run(&mut self, parent: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
        self.enter(parent, name.to_owned());
        while let Some(level) = self.levels.last_mut() {
            match (level.pending.pop(), level.fd.clone()) {
                (Some(child), Some(here)) => self.enter(here.as_fd(), child),
                _ => self.leave(parent)?,
            }
        }
        Ok(())
    }

    /// Goes into `name`, removes every file in it and notes its directories.
    fn enter(&mut self, at: BorrowedFd<'_>, name: OsString) {
        // Many are empty, and then neither their mode nor their contents matter.
        if remove_directory(at, &name).is_ok() {
            return;
        }
        let opened = open_directory(at, &name).and_then(|fd| Ok((identity(fd.as_fd())?, fd)));
        let (identity, fd) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.not_entered(at, &name, error),
        };
        let mut pending = Vec::new();
        let mut refused = Vec::new();
        let listed = for_each_entry(fd.as_fd(), |entry, kind| {
            if kind == EntryKind::Directory {
                pending.push(entry);
                return true;
            }
            match unlink(fd.as_fd(), &entry) {
                Ok(()) => true,
                Err(error) if error.errno == Errno::ENOENT => true,
                Err(error) if kind == EntryKind::Unknown && matches!(error.errno, Errno::EISDIR | Errno::EPERM) => {
                    pending.push(entry);
                    true
                }
                Err(error) => {
                    // A directory that is not ours refuses every entry alike: one refusal is enough.
                    let all_alike = error.errno == Errno::EACCES;
                    refused.push((entry, error));
                    !all_alike && refused.len() < MAX_ERRORS
                }
            }
        });
        self.levels.push(Level { name, identity, fd: Some(Rc::new(fd)), pending, stuck: false });
        if let Some(far) = self.levels.len().checked_sub(OPEN_ANCESTORS + 1) {
            self.levels[far].fd = None;
        }
        for (entry, error) in refused {
            self.report(error, Some(&entry));
        }
        if let Err(error) = listed {
            self.report(error, None);
        }
    }

    fn not_entered(&mut self, at: BorrowedFd<'_>, name: &OsStr, error: Error) {
        let error = match error.errno {
            Errno::ENOENT => return,
            Errno::EXDEV => Error { call: "not removed, something is mounted here:".to_owned(), ..error },
            // Swapped for something else since it was listed.
            Errno::ENOTDIR | Errno::ELOOP => match unlink(at, name) {
                Err(refused) if refused.errno != Errno::ENOENT => refused,
                _ => return,
            },
            _ => error,
        };
        self.report(error, Some(name));
    }

    /// Goes back up and removes the directory that has been emptied.
    fn leave(&mut self, parent: BorrowedFd<'_>) -> Result<()> {
        let Some(mut level) = self.levels.pop() else { return Ok(()) };
        if let Some(above) = self.levels.last_mut()
            && above.fd.is_none()
        {
            above.fd = Some(Rc::new(way_back(level.fd.as_deref(), above.identity)?));
        }
        if level.stuck
            && let Some(fd) = level.fd.take()
        {
            // Refused where it is not ours: then its owner's ids can empty it anyway.
            let _ = open_to_all(fd.as_fd());
        }
        let at = self.levels.last().and_then(|above| above.fd.as_ref()).map_or(parent, |fd| fd.as_fd());
        match remove_directory(at, &level.name) {
            Ok(()) => {}
            Err(error) if error.errno == Errno::ENOENT => {}
            Err(_) if level.stuck => self.mark_stuck(),
            Err(error) => self.report(error, Some(&level.name)),
        }
        Ok(())
    }

    /// Notes an error of the last level, or of `entry` in it.
    fn report(&mut self, error: Error, entry: Option<&OsStr>) {
        self.mark_stuck();
        if self.errors.len() < MAX_ERRORS {
            let call = format!("{} at {}", error.call, self.place(entry).display());
            self.errors.push(Error { call, errno: error.errno });
        }
    }

    fn mark_stuck(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.stuck = true;
        }
    }

    fn place(&self, entry: Option<&OsStr>) -> PathBuf {
        let names = || self.levels.iter().map(|level| level.name.as_os_str()).chain(entry);
        let hidden = names().count().saturating_sub(SHOWN_COMPONENTS);
        let start = if hidden > 0 { Path::new("…") } else { Path::new("") };
        names().skip(hidden).fold(start.to_owned(), |path, name| path.join(name))
    }
}

/// From a directory to the one above it, which must be `expected`.
fn way_back(from: Option<&OwnedFd>, expected: Identity) -> Result<OwnedFd> {
    let lost = || Error { call: "the tree was moved while it was removed".to_owned(), errno: Errno::ESTALE };
    let above = open_parent(from.ok_or_else(lost)?.as_fd())?;
    if identity(above.as_fd())? == expected { Ok(above) } else { Err(lost()) }
}

#[cfg(test)]
mod tests;
