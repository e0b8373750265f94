//! Puts a layer over what the layers below it have shown so far, as one tree, where the file system cannot hold overlayfs's
//! marks, or where many layers would be slow to look names up in.
//!
//! What is below moves into the layer's own tree, since directories there have their owner, mode, attributes and times already:
//! of merged directories overlayfs shows those of the topmost (kernel, filesystems/overlayfs.rst, "Merged directories").
//! Only names move: each file stays where it is on disk.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::LayerError;
use crate::sys::create::{self, existing, identity_and_time, open_directory_in_root};
use crate::sys::tree::{for_each_entry, unlink};
use crate::sys::{self, Errno};

/// What a layer hides of those below it, by device and inode of its own files. Each whiteout is an empty file until
/// [`merge`] takes it away.
#[derive(Debug, Default)]
pub struct Hidden {
    pub(super) whiteouts: HashSet<(u64, u64)>,
    pub(super) opaque: HashSet<(u64, u64)>,
}

/// Moves what `layer` does not hide or replace from `below` into `layer`. `below`: there may be none. What is left there is
/// not needed any more.
///
/// # Errors
/// What the file system says.
pub fn merge(layer: BorrowedFd<'_>, below: Option<BorrowedFd<'_>>, hidden: &Hidden) -> Result<(), LayerError> {
    // By path: a directory may have more directories in it than a process may keep open. No link is on it: each part is a
    // directory of both trees.
    let mut ahead = vec![(PathBuf::new(), below.is_some())];
    while let Some((path, has_below)) = ahead.pop() {
        let failed = |source: sys::Error| LayerError::Kernel { path: path.display().to_string(), source };
        let below = below.filter(|_| has_below);
        merge_directory(layer, below, &path, hidden, &mut ahead).map_err(failed)?;
    }
    Ok(())
}

fn merge_directory(
    layer: BorrowedFd<'_>,
    below: Option<BorrowedFd<'_>>,
    path: &Path,
    hidden: &Hidden,
    ahead: &mut Vec<(PathBuf, bool)>,
) -> sys::Result<()> {
    let here = open_directory_in_root(layer, path)?;
    let (identity, modified) = identity_and_time(here.as_fd())?;
    let below = match below {
        Some(below) if !hidden.opaque.contains(&identity) => Some(open_directory_in_root(below, path)?),
        _ => None,
    };
    let mut hidden_names: HashSet<OsString> = HashSet::new();
    for name in names_in(here.as_fd())? {
        let Some(found) = existing(here.as_fd(), &name)? else { continue };
        if hidden.whiteouts.contains(&found.identity) {
            unlink(here.as_fd(), &name)?;
            hidden_names.insert(name);
        } else if found.is_directory {
            let lower = below.as_ref().map_or(Ok(None), |below| existing(below.as_fd(), &name))?;
            let has_below = lower.is_some_and(|lower| lower.is_directory);
            // There may be whiteouts in it.
            if has_below || !hidden.whiteouts.is_empty() {
                ahead.push((path.join(&name), has_below));
            }
        }
    }
    if let Some(below) = &below {
        for name in names_in(below.as_fd())? {
            if !hidden_names.contains(&name) && existing(here.as_fd(), &name)?.is_none() {
                create::rename(below.as_fd(), &name, here.as_fd(), &name)?;
            }
        }
    }
    create::set_times(here.as_fd(), modified)
}

/// Read whole before anything is changed.
fn names_in(directory: BorrowedFd<'_>) -> sys::Result<Vec<OsString>> {
    let mut names = Vec::new();
    let listed = for_each_entry(directory, |name, _| {
        names.push(name);
        true
    });
    match listed {
        Err(error) if error.errno == Errno::ENOENT => Ok(names),
        listed => listed.map(|()| names),
    }
}
