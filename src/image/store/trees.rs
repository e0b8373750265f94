//! Layers unpacked for an id map: `trees/MAPKEY/DIFFHEX/{tree,layer.json}`.
//!
//! A tree is made in `.new-DIFFHEX`, by who holds the lock on that directory. One whose maker has died is put aside as
//! `.dead-RANDOM`, and so is one that is going to be removed: what it takes to remove files of the map's ids is not here.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::blobs::is_at;
use super::garbage::RemovedTree;
use super::{At, Digest, ImageStore, Result, StoreError, digest_of_name, list, open_own, read, write_whole};
use crate::image::layer::Summary;
use crate::sys::{Errno, beneath, create, path};

const NEW: &str = ".new-";
const DEAD: &str = ".dead-";
const MAP: &str = "map.json";
const RECORD: &str = "layer.json";
const TREE: &str = "tree";
/// Bytes of `map.json`: 340 lines each of three numbers, twice.
const MAX_MAP: u64 = 64 << 10;
const MAX_RECORD: u64 = 4096;
/// Bytes of a map's key.
const MAX_KEY: usize = 100;

/// An id map: the same key means the same lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapLines {
    pub key: String,
    /// Inside, outside, count: user_namespaces(7).
    pub uids: Vec<[u32; 3]>,
    pub gids: Vec<[u32; 3]>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct MapRecord {
    uids: Vec<[u32; 3]>,
    gids: Vec<[u32; 3]>,
}

#[derive(Serialize, Deserialize)]
struct LayerRecord {
    summary: Summary,
}

/// What is in the directory of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeState {
    Complete(Digest),
    /// Somebody makes it, or did when he died.
    Unfinished(Digest),
    Dead,
}

/// One unpacked layer, or what is left of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTree {
    pub map_key: String,
    pub name: OsString,
    pub state: TreeState,
    /// Of its files; 0 where it is not complete.
    pub bytes: u64,
}

/// A tree that is being unpacked. Dropped, it is left for the next maker of it, or for the collector.
#[derive(Debug)]
pub struct NewTree {
    map: OwnedFd,
    name: OsString,
    complete: OsString,
    /// flock(2) is on it.
    directory: File,
}

impl NewTree {
    /// The quarantine: an empty directory that every id may write to, below directories that only we may enter. `tree` is
    /// made in it.
    #[must_use]
    pub fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Digest and diffID hold, and the process that unpacked it has ended: the tree gets its name.
    ///
    /// # Errors
    /// There is no directory `tree` in it; or what the file system says.
    pub fn commit(self, summary: &Summary) -> Result<()> {
        let place = || format!("tree {}", self.complete.display());
        let directory = self.directory.as_fd();
        // From here on only we change what is in it: the look below stays true.
        create::set_mode(directory, 0o700).at(place)?;
        if !create::existing(directory, OsStr::new(TREE)).at(place)?.is_some_and(|found| found.is_directory) {
            return Err(StoreError::Damaged { place: place(), why: "it has no directory `tree`".to_owned() });
        }
        let record = serde_json::to_vec(&LayerRecord { summary: summary.clone() })
            .map_err(|error| StoreError::Refused(error.to_string()))?;
        write_whole(directory, OsStr::new(RECORD), &record, 0o600)?;
        beneath::sync_file_system(directory).at(place)?;
        // The same layer, made meanwhile? Its maker would have waited for us.
        beneath::rename_new(self.map.as_fd(), &self.name, self.map.as_fd(), &self.complete).at(place).map(drop)
    }
}

impl ImageStore {
    /// Whether a layer is unpacked for a map.
    ///
    /// # Errors
    /// What the file system says.
    pub fn has_tree(&self, map_key: &str, diff_id: Digest) -> Result<bool> {
        check_key(map_key)?;
        let path = Path::new(map_key).join(diff_id.hex()).join(TREE);
        match beneath::look_at_directory(self.trees.as_fd(), &path) {
            Ok(()) => Ok(true),
            Err(error) if error.errno == Errno::ENOENT => Ok(false),
            Err(error) => Err(error).at(|| path.display().to_string()),
        }
    }

    /// What was said when a layer was unpacked; `None`: it is not unpacked for this map, or its record is damaged.
    ///
    /// # Errors
    /// What the file system says.
    pub fn summary(&self, map_key: &str, diff_id: Digest) -> Result<Option<Summary>> {
        let Some(map) = self.open_map(map_key)? else { return Ok(None) };
        match beneath::open_directory(map.as_fd(), Path::new(&diff_id.hex())) {
            Ok(directory) => record_in(directory.as_fd()),
            Err(error) if error.errno == Errno::ENOENT => Ok(None),
            Err(error) => Err(error).at(|| format!("tree {}", diff_id.hex())),
        }
    }

    /// A tree to be unpacked. Waits while another process makes the same; `None`: it is here (by then).
    ///
    /// The same process must not have it twice (an image may have one layer twice): flock(2) would make it wait for itself.
    ///
    /// # Errors
    /// The key has another map; or what the file system says.
    pub fn new_tree(&self, lines: &MapLines, diff_id: Digest) -> Result<Option<NewTree>> {
        let map = self.map_directory(lines)?;
        let complete: OsString = diff_id.hex().into();
        let name: OsString = format!("{NEW}{}", diff_id.hex()).into();
        let place = || name.display().to_string();
        loop {
            if self.has_tree(&lines.key, diff_id)? {
                return Ok(None);
            }
            let is_new = path::make_new_directory(map.as_fd(), Path::new(&name)).at(place)?;
            let directory = match beneath::open_directory(map.as_fd(), Path::new(&name)) {
                Err(error) if error.errno == Errno::ENOENT => continue,
                other => File::from(other.at(place)?),
            };
            directory.lock().at(place)?;
            // Completed, or put aside, while we waited.
            if !is_at(map.as_fd(), &name, directory.as_fd())? {
                continue;
            }
            if is_new {
                create::set_mode(directory.as_fd(), 0o777).at(place)?;
                return Ok(Some(NewTree { map, name, complete, directory }));
            }
            // Its maker has died: what is in it may be anything. (Or it is so new that its maker has no lock on it yet, and
            // finds that it has gone.)
            put_aside(map.as_fd(), &name)?;
        }
    }

    /// Everything that is unpacked, for all maps.
    ///
    /// # Errors
    /// What the file system says.
    pub fn trees(&self) -> Result<Vec<StoredTree>> {
        let mut trees = Vec::new();
        for key in list(self.trees.as_fd(), "trees")? {
            let Some(map_key) = key.to_str().filter(|key| check_key(key).is_ok()) else { continue };
            let Some(map) = self.open_map(map_key)? else { continue };
            for name in list(map.as_fd(), map_key)? {
                let Some(state) = state_of(&name) else { continue };
                let bytes = match state {
                    TreeState::Complete(diff_id) => self.summary(map_key, diff_id)?.map_or(0, |summary| summary.bytes),
                    TreeState::Unfinished(_) | TreeState::Dead => 0,
                };
                trees.push(StoredTree { map_key: map_key.to_owned(), name, state, bytes });
            }
        }
        Ok(trees)
    }

    /// Puts a tree aside, so that nobody takes it for a whole one while it is removed.
    pub(super) fn take_out(&self, tree: &StoredTree) -> Result<RemovedTree> {
        let gone = || StoreError::Damaged { place: tree.map_key.clone(), why: "it has gone".to_owned() };
        let map = self.open_map(&tree.map_key)?.ok_or_else(gone)?;
        let name = if tree.state == TreeState::Dead { tree.name.clone() } else { put_aside(map.as_fd(), &tree.name)? };
        let lines =
            map_record(map.as_fd())?.map(|MapRecord { uids, gids }| MapLines { key: tree.map_key.clone(), uids, gids });
        Ok(RemovedTree { parent: map, name, map: lines, bytes: tree.bytes })
    }

    /// Removes the directories of maps without a tree.
    pub(super) fn remove_empty_maps(&self) -> Result<()> {
        for key in list(self.trees.as_fd(), "trees")? {
            let Some(map) = key.to_str().map(|key| self.open_map(key)).transpose().ok().flatten().flatten() else {
                continue;
            };
            let names = list(map.as_fd(), &key.to_string_lossy())?;
            if names.iter().all(|name| state_of(name).is_none()) {
                for name in names {
                    super::remove_file(map.as_fd(), &name)?;
                }
                crate::sys::tree::remove_directory(self.trees.as_fd(), &key).at(|| key.display().to_string())?;
            }
        }
        Ok(())
    }

    fn open_map(&self, key: &str) -> Result<Option<OwnedFd>> {
        check_key(key)?;
        match beneath::open_directory(self.trees.as_fd(), Path::new(key)) {
            Ok(map) => Ok(Some(map)),
            Err(error) if error.errno == Errno::ENOENT => Ok(None),
            Err(error) => Err(error).at(|| format!("trees/{key}")),
        }
    }

    /// The directory of a map, made where it is not there. `map.json` is written before any tree: who removes one needs it.
    fn map_directory(&self, lines: &MapLines) -> Result<OwnedFd> {
        let MapLines { key, uids, gids } = lines;
        check_key(key)?;
        let map = open_own(self.trees.as_fd(), &self.directory.join("trees"), Path::new(key))?;
        let record = MapRecord { uids: uids.clone(), gids: gids.clone() };
        match map_record(map.as_fd())? {
            Some(found) if found == record => {}
            Some(_) => {
                let why = format!("it has other ids than the map `{key}`");
                return Err(StoreError::Damaged { place: format!("trees/{key}/{MAP}"), why });
            }
            None => {
                let text = serde_json::to_vec(&record).map_err(|error| StoreError::Refused(error.to_string()))?;
                write_whole(map.as_fd(), OsStr::new(MAP), &text, 0o600)?;
            }
        }
        Ok(map)
    }
}

/// A key becomes the name of a directory.
fn check_key(key: &str) -> Result<()> {
    let plain = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-+,".contains(&byte));
    if plain && !key.is_empty() && key.len() <= MAX_KEY && !key.starts_with('.') {
        return Ok(());
    }
    Err(StoreError::Refused(format!("`{key}` cannot be the key of an id map")))
}

/// A damaged record is none: it is written again.
fn map_record(map: BorrowedFd<'_>) -> Result<Option<MapRecord>> {
    let bytes = match read(map, OsStr::new(MAP), MAX_MAP) {
        Err(StoreError::Damaged { .. }) => None,
        other => other?,
    };
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn record_in(directory: BorrowedFd<'_>) -> Result<Option<Summary>> {
    let bytes = match read(directory, OsStr::new(RECORD), MAX_RECORD) {
        Err(StoreError::Damaged { .. }) => None,
        other => other?,
    };
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).map(|LayerRecord { summary }| summary))
}

fn put_aside(map: BorrowedFd<'_>, name: &OsStr) -> Result<OsString> {
    let place = || name.display().to_string();
    let aside = beneath::random_name(DEAD).at(place)?;
    create::rename(map, name, map, &aside).at(place)?;
    Ok(aside)
}

fn state_of(name: &OsStr) -> Option<TreeState> {
    let text = name.to_str()?;
    if text.starts_with(DEAD) {
        return Some(TreeState::Dead);
    }
    match text.strip_prefix(NEW) {
        Some(hex) => digest_of_name(OsStr::new(hex)).map(TreeState::Unfinished),
        None => digest_of_name(name).map(TreeState::Complete),
    }
}
