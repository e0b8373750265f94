//! Images on disk: names, manifests, blobs, and layers unpacked for an id map. docs/images.md shows the directory.
//!
//! - **A crash at any moment** leaves what was there: everything gets its final name by rename(2), when it is complete.
//! - **A power cut**: documents and blobs are not synced, since their digest is compared each time they are used. A tree
//!   cannot be compared with anything, so it is on disk (syncfs(2)) before it gets its name.
//! - **Nothing that is read is believed**: others may have written it (a container that has `~/.local/share` as a hostPath).
//!   What is read is bounded; records are compared with the place where they were found.
//! - **Locks** are flock(2)s: shared by who uses or adds, exclusive by who removes. A fork inherits them, so a lock is dropped
//!   before a process is forked that lives on.

mod blobs;
mod garbage;
mod images;
mod names;
mod trees;

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::digest::Digest;
use crate::report::{Report, exit_code};
use crate::sys::private_dir::{self, Flaw};
use crate::sys::{self, beneath, create, path, probe, tree};

pub use blobs::{Completed, NewBlob, PartialBlob};
pub use garbage::{Also, Freed, Nameless, RemovedTree, Used};
pub use images::{Added, Found};
pub use names::Name;
pub use trees::{MapLines, NewTree, StoredTree, TreeState};

/// Files under construction. Who makes one holds the shared lock, so whoever holds the exclusive one may remove them all.
const TEMPORARY: &str = ".tmp-";

/// The store of one user.
#[derive(Debug)]
pub struct ImageStore {
    directory: PathBuf,
    root: OwnedFd,
    names: OwnedFd,
    manifests: OwnedFd,
    blobs: OwnedFd,
    partial: OwnedFd,
    trees: OwnedFd,
}

/// Held until it is dropped.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

/// The exclusive lock: what removes something asks for it.
#[derive(Debug)]
pub struct RemovalLock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the image store is not safe to use: {} {why}", .path.display())]
    NotPrivate { path: PathBuf, why: String },
    #[error("{place} in the image store")]
    Kernel { place: String, source: sys::Error },
    #[error("{place} in the image store")]
    Io { place: String, source: io::Error },
    #[error("{place} in the image store is damaged: {why}")]
    Damaged { place: String, why: String },
    /// What a caller gives does not fit together.
    #[error("the image cannot be added: {0}")]
    Refused(String),
    #[error("`{typed}` means more than one image")]
    Ambiguous { typed: String, found: Vec<String> },
}

impl StoreError {
    /// As a user reads it.
    #[must_use]
    pub fn into_report(self, what: impl Into<String>) -> Report {
        let report = Report::new(exit_code::FAILURE, what).because(self.to_string());
        match self {
            StoreError::NotPrivate { path, .. } => report.hint(format!(
                "if it is yours, `chmod 700 {}`; else remove it. Others may have changed what is in it",
                path.display()
            )),
            StoreError::Kernel { source, .. } => report.because(source.to_string()),
            StoreError::Io { source, .. } => report.because(source.to_string()),
            StoreError::Damaged { .. } => report.hint("`sandpod image prune` removes what is damaged; then pull again"),
            StoreError::Refused(_) => report,
            StoreError::Ambiguous { found, .. } => {
                found.into_iter().fold(report, Report::because).hint("give more digits, or the name")
            }
        }
    }
}

type Result<T> = std::result::Result<T, StoreError>;

/// Says where in the store something failed.
trait At<T> {
    fn at(self, place: impl FnOnce() -> String) -> Result<T>;
}

impl<T> At<T> for sys::Result<T> {
    fn at(self, place: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| StoreError::Kernel { place: place(), source })
    }
}

impl<T> At<T> for io::Result<T> {
    fn at(self, place: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| StoreError::Io { place: place(), source })
    }
}

/// The directory of the store, in `data` (`$XDG_DATA_HOME/sandpod`).
#[must_use]
pub fn directory_in(data: &Path) -> PathBuf {
    data.join("images")
}

/// Where the tree of a layer for one id map is, or will be.
#[must_use]
pub fn tree_path(images: &Path, map_key: &str, diff_id: Digest) -> PathBuf {
    images.join("trees").join(map_key).join(diff_id.hex()).join("tree")
}

/// The inverse of [`tree_path`]: the key of the map and the diffID.
#[must_use]
pub fn tree_of(images: &Path, path: &Path) -> Option<(String, Digest)> {
    let mut parts = path.strip_prefix(images).ok()?.iter().map(|part| part.to_str());
    match (parts.next()??, parts.next()??, parts.next()??, parts.next()??, parts.next()) {
        ("trees", map_key, hex, "tree", None) => Some((map_key.to_owned(), digest_of_name(OsStr::new(hex))?)),
        _ => None,
    }
}

impl ImageStore {
    /// Opens the store, and makes what is not there.
    ///
    /// # Errors
    /// It is not ours alone; or what the file system says.
    pub fn open(directory: &Path) -> Result<ImageStore> {
        let place = || directory.display().to_string();
        if let Some(parent) = directory.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent).at(|| parent.display().to_string())?;
        }
        if let Some(flaw) = private_dir::make_private(directory).at(place)? {
            return Err(StoreError::NotPrivate { path: directory.to_owned(), why: sentence(flaw) });
        }
        let parent = path::open_host_path(directory.parent().unwrap_or(Path::new("/"))).at(place)?;
        let name = directory.file_name().unwrap_or(OsStr::new("."));
        let root = beneath::open_directory(parent.as_fd(), Path::new(name)).at(place)?;
        let sub = |path: &str| open_own(root.as_fd(), directory, Path::new(path));
        sub("blobs")?;
        let [names, manifests, blobs, partial, trees] =
            [sub("names")?, sub("manifests")?, sub("blobs/sha256")?, sub("partial")?, sub("trees")?];
        Ok(ImageStore { directory: directory.to_owned(), root, names, manifests, blobs, partial, trees })
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// For who uses the store or adds to it: nothing that is there goes while it is held.
    ///
    /// # Errors
    /// What the file system says.
    pub fn shared(&self) -> Result<StoreLock> {
        let file = self.lock_file()?;
        file.lock_shared().at(lock_place)?;
        Ok(StoreLock { _file: file })
    }

    /// For who removes: nobody else uses the store while it is held. Waits, after a call of `waits` where somebody does.
    ///
    /// # Errors
    /// What the file system says.
    pub fn exclusive(&self, waits: impl FnOnce()) -> Result<RemovalLock> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                waits();
                file.lock().at(lock_place)?;
            }
            Err(TryLockError::Error(error)) => return Err(error).at(lock_place),
        }
        Ok(RemovalLock { _file: file })
    }

    /// The exclusive lock, if nobody uses the store just now.
    ///
    /// # Errors
    /// What the file system says.
    pub fn exclusive_now(&self) -> Result<Option<RemovalLock>> {
        let file = self.lock_file()?;
        match file.try_lock() {
            Ok(()) => Ok(Some(RemovalLock { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).at(lock_place),
        }
    }

    fn lock_file(&self) -> Result<File> {
        beneath::open_or_create(self.root.as_fd(), Path::new("lock")).at(lock_place)
    }
}

fn lock_place() -> String {
    "lock".to_owned()
}

fn sentence(flaw: Flaw) -> String {
    match flaw {
        Flaw::Symlink => "is a symbolic link".to_owned(),
        Flaw::NotADirectory => "is not a directory".to_owned(),
        Flaw::ForeignOwner(uid) => format!("belongs to uid {uid}, not to you"),
        Flaw::OpenToOthers(mode) => format!("is open to others (mode {mode:04o})"),
    }
}

/// A directory below the store, made where it is not there. It must be ours, and others must not be able to write to it.
fn open_own(root: BorrowedFd<'_>, directory: &Path, name: &Path) -> Result<OwnedFd> {
    let place = || name.display().to_string();
    let opened = match beneath::open_directory(root, name) {
        Err(error) if error.errno == sys::Errno::ENOENT => {
            path::make_new_directory(root, name).and_then(|_| beneath::open_directory(root, name))
        }
        other => other,
    };
    let opened = opened.at(place)?;
    let found = beneath::ownership(opened.as_fd()).at(place)?;
    let why = if found.uid != probe::effective_ids().0 {
        format!("belongs to uid {}, not to you", found.uid)
    } else if found.mode & 0o022 != 0 {
        format!("can be written to by others (mode {:04o})", found.mode)
    } else {
        return Ok(opened);
    };
    Err(StoreError::NotPrivate { path: directory.join(name), why })
}

/// The whole of a file of at most `limit` bytes; `None`: there is none.
fn read(directory: BorrowedFd<'_>, name: &OsStr, limit: u64) -> Result<Option<Vec<u8>>> {
    let place = || name.display().to_string();
    let Some(file) = beneath::open_file(directory, Path::new(name)).at(place)? else { return Ok(None) };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).at(place)?;
    if bytes.len() as u64 > limit {
        return Err(StoreError::Damaged { place: place(), why: format!("it has more than {limit} bytes") });
    }
    Ok(Some(bytes))
}

/// Makes or replaces a file: a reader, and a crash at any moment, sees the old one or the new one.
fn write_whole(directory: BorrowedFd<'_>, name: &OsStr, bytes: &[u8], mode: u32) -> Result<()> {
    let place = || name.display().to_string();
    let unfinished = beneath::random_name(TEMPORARY).at(place)?;
    let mut file = create::new_file(directory, &unfinished).at(place)?;
    let written = file
        .write_all(bytes)
        .at(place)
        .and_then(|()| create::set_mode(file.as_fd(), mode).at(place))
        .and_then(|()| create::rename(directory, &unfinished, directory, name).at(place));
    written.inspect_err(|_| {
        // On a full disk an inode is worth having, too.
        let _ = tree::unlink(directory, &unfinished);
    })
}

/// The names in a directory.
fn list(directory: BorrowedFd<'_>, place: &str) -> Result<Vec<std::ffi::OsString>> {
    let mut names = Vec::new();
    tree::for_each_entry(directory, |name, _| {
        names.push(name);
        true
    })
    .at(|| place.to_owned())?;
    names.sort();
    Ok(names)
}

/// The digest whose hexadecimal digits a file name is.
fn digest_of_name(name: &OsStr) -> Option<Digest> {
    format!("sha256:{}", name.to_str()?).parse().ok()
}

/// Removes a file; one that is not there is no error. Says how many bytes of disk that gave back.
fn remove_file(directory: BorrowedFd<'_>, name: &OsStr) -> Result<u64> {
    let place = || name.display().to_string();
    let gone = |error: &sys::Error| error.errno == sys::Errno::ENOENT;
    let bytes = match tree::extent(directory, name) {
        Ok(extent) => extent.bytes,
        Err(error) if gone(&error) => return Ok(0),
        Err(error) => return Err(error).at(place),
    };
    match tree::unlink(directory, name) {
        Err(error) if !gone(&error) => Err(error).at(place),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests;
