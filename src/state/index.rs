//! Names and claims of all pods as entries of two directories: looking one up reads no other pod.
//!
//! An entry is made after the pod's data directory and removed before its last directory, so an entry without any
//! directory is a leftover of a crash. The start of the next pod removes it. An entry is a hint, never the truth: what
//! it leads to is read, and must say the same name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::Error;
use crate::plan::cgroup::Claim;
use crate::plan::dirs::{CLAIMS, NAMES, claim_entry, id_of_target, is_pod_name, name_target, read_claim_entry};
use crate::sys::Errno;
use crate::sys::own_dir::OwnDir;

#[derive(Debug)]
pub(super) struct Index {
    names: PathBuf,
    claims: PathBuf,
}

impl Index {
    pub(super) fn of(data: &Path) -> Index {
        Index { names: data.join(NAMES), claims: data.join(CLAIMS) }
    }

    pub(super) fn directories(self) -> [PathBuf; 2] {
        [self.names, self.claims]
    }

    /// The id that a name is of.
    pub(super) fn id_of(&self, name: &str) -> Option<String> {
        // What a user types must not lead out of the directory.
        let target = fs::read_link(self.names.join(Some(name).filter(|name| is_pod_name(name))?)).ok()?;
        id_of_target(&target).map(str::to_owned)
    }

    /// How many names there are.
    pub(super) fn count(&self) -> usize {
        entries(&self.names).count()
    }

    /// Every name and its id.
    pub(super) fn names(&self) -> Vec<(String, String)> {
        entries(&self.names).filter_map(|name| Some((self.id_of(&name)?, name))).map(|(id, name)| (name, id)).collect()
    }

    /// The name of an id. Reads every entry: only for a pod whose own files do not say it.
    pub(super) fn name_of(&self, id: &str) -> Option<String> {
        let mut names: Vec<String> =
            self.names().into_iter().filter_map(|(name, of)| (of == id).then_some(name)).collect();
        // One entry may be the id itself (`Store::repair_index`).
        names.sort_by_key(|name| name == id);
        names.into_iter().next()
    }

    /// False: the name is taken.
    pub(super) fn take(&self, name: &str, id: &str) -> Result<bool, Error> {
        match OwnDir::in_store(&self.names)?.symlink(&name_target(id), name.as_ref()) {
            Err(error) if error.errno == Errno::EEXIST => Ok(false),
            made => Ok(made.map(|()| true)?),
        }
    }

    /// Removes the entry of a name if it still leads to `id`. Only for one that leads to no pod: `rm` removes its own.
    pub(super) fn drop_stale(&self, name: &str, id: &str) {
        // Two users of this directory with different runtime directories share no other lock. Without this one, the
        // second could remove the entry with which the first has replaced the stale one.
        let Ok(directory) = File::open(&self.names) else { return };
        // Any process that can open the directory can hold this lock, one of a container with a hostPath above it, too. An
        // entry that stays is tried again at the next start.
        let is_ours = (0..50).any(|_| {
            directory.try_lock().is_ok() || {
                std::thread::sleep(Duration::from_millis(2));
                false
            }
        });
        if is_ours && self.id_of(name).as_deref() == Some(id) {
            remove(&self.names, name);
        }
    }

    /// Removes what no version of ours has made.
    pub(super) fn drop_unreadable(&self) {
        for name in entries(&self.names).filter(|name| self.id_of(name).is_none()) {
            remove(&self.names, &name);
        }
    }

    pub(super) fn claim(&self, id: &str, claim: &Claim) -> Result<(), Error> {
        let Some(entry) = claim_entry(id, claim) else { return Ok(()) };
        Ok(OwnDir::in_store(&self.claims)?.append(entry.as_ref()).map(drop)?)
    }

    pub(super) fn drop_claim(&self, id: &str, claim: &Claim) {
        if let Some(entry) = claim_entry(id, claim) {
            remove(&self.claims, &entry);
        }
    }

    /// Id and claim of every pod that has claimed something and has not been removed, whether it lives or not.
    pub(super) fn claims(&self) -> Vec<(String, Claim)> {
        let read = |entry: String| read_claim_entry(&entry).map(|(id, claim)| (id.to_owned(), claim));
        entries(&self.claims).filter_map(read).collect()
    }

    /// Every entry of a pod whose plan cannot be read.
    pub(super) fn entries_of(&self, id: &str) -> Vec<PathBuf> {
        let names = self.names().into_iter().filter(|(_, of)| of == id).map(|(name, _)| self.names.join(name));
        let is_its = |entry: &String| read_claim_entry(entry).is_some_and(|(of, _)| of == id);
        names.chain(entries(&self.claims).filter(is_its).map(|entry| self.claims.join(entry))).collect()
    }
}

/// An entry that stays is removed by the start of the next pod.
fn remove(directory: &Path, entry: &str) {
    let _ = OwnDir::in_store(directory).and_then(|directory| directory.remove(entry.as_ref()));
}

fn entries(directory: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}
