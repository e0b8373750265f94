//! Which pods there are, and a pod by what the user typed: its name, or the beginning of its id.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::checked;
use super::store::Store;
use super::stored::{StoredPod, read_pod};
use crate::nearest::nearest;
use crate::plan::PodDirs;
use crate::plan::dirs::is_id;
use crate::report::{Report, exit_code};

impl Store {
    /// Every pod, by name. Damaged ones and ones without a runtime directory included.
    ///
    /// # Errors
    /// A directory is not ours alone, or cannot be read. That there is none yet is no error.
    pub fn list(&self) -> Result<Vec<StoredPod>, Report> {
        let ids = self.list_ids()?;
        let mut pods: Vec<StoredPod> = ids.iter().filter_map(|id| self.by_id(id)).collect();
        pods.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(pods)
    }

    /// The ids of all pods; reads none of them.
    ///
    /// # Errors
    /// What [`list`](Self::list) says.
    pub fn list_ids(&self) -> Result<Vec<String>, Report> {
        Ok(self.while_none_is_made(|| self.ids())?.into_iter().collect())
    }

    /// A pod that is being made is seen either not at all or whole. Pods are read afterwards, without the lock: who starts
    /// one must not wait for that.
    fn while_none_is_made<T>(&self, look: impl FnOnce() -> T) -> Result<T, Report> {
        let what = || "could not list the pods".to_owned();
        self.check_private(what)?;
        let _lock = self.lock_to_read(what)?;
        Ok(look())
    }

    /// The pod of this name, or of this unique beginning of an id; `pod/NAME` is kubectl's way to write a name.
    ///
    /// # Errors
    /// None, with the nearest names; or several, with all of them; what [`list`](Self::list) says.
    pub fn find(&self, typed: &str) -> Result<StoredPod, Report> {
        // No name has a slash.
        let typed = ["pod/", "pods/", "po/"].iter().find_map(|kind| typed.strip_prefix(kind)).unwrap_or(typed);
        let id = self.while_none_is_made(|| self.index().id_of(typed))?;
        let named = id.and_then(|id| self.by_id(&id)).filter(|pod| pod.name == typed);
        // A name wins over an id.
        if let Some(pod) = named.or_else(|| self.by_id(typed)) {
            return Ok(pod);
        }
        let mut matches = self.while_none_is_made(|| self.ids())?;
        if let Some(pod) = self.not_indexed(typed, &matches) {
            return Ok(pod);
        }
        matches.retain(|id| !typed.is_empty() && id.starts_with(typed));
        let pods: Vec<StoredPod> = matches.iter().filter_map(|id| self.by_id(id)).collect();
        match <[StoredPod; 1]>::try_from(pods) {
            Ok([pod]) => Ok(pod),
            Err(none) if none.is_empty() => Err(self.unknown(typed)),
            Err(several) => {
                let report = Report::new(exit_code::FAILURE, format!("`{typed}` means more than one pod"));
                Err(several
                    .iter()
                    .fold(report, |report, pod| report.because(format!("{} {}", pod.id, pod.name)))
                    .hint("give more digits of the id, or the name"))
            }
        }
    }

    /// The pod of this id; `None` where nothing is left of it.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<StoredPod> {
        let dirs = self.existing_dirs(Some(id).filter(|id| is_id(id))?);
        if !dirs.runtime.exists() && !dirs.data.exists() {
            return None;
        }
        Some(read_pod(dirs, id.to_owned(), || self.index().name_of(id)))
    }

    /// The pod of this name. Compares the number of names and pods only, not each entry as [`find`](Self::find) does: every
    /// start asks this.
    pub(super) fn named(&self, name: &str) -> Option<StoredPod> {
        let otherwise = || if self.is_indexed() { None } else { self.not_indexed(name, &self.ids()) };
        self.indexed(name).or_else(otherwise)
    }

    /// As [`named`](Self::named), by the index alone.
    pub(super) fn indexed(&self, name: &str) -> Option<StoredPod> {
        self.by_id(&self.index().id_of(name)?).filter(|pod| pod.name == name)
    }

    /// A pod that the index does not have: an older version made it, or its entry was replaced. Reads the entries of all
    /// pods, but a pod only if it has none.
    fn not_indexed(&self, name: &str, ids: &BTreeSet<String>) -> Option<StoredPod> {
        self.ids_not_indexed(ids.clone()).iter().filter_map(|id| self.by_id(id)).find(|pod| pod.name == name)
    }

    fn ids_not_indexed(&self, mut ids: BTreeSet<String>) -> BTreeSet<String> {
        for (_, id) in self.index().names() {
            ids.remove(&id);
        }
        ids
    }

    /// Whether the index has every pod and nothing else. Reads three directories, and no pod.
    pub(super) fn is_indexed(&self) -> bool {
        self.index().count() == self.ids().len()
    }

    /// Adds what an older version has made without an entry, and drops what a crash has left. One who makes a pod calls
    /// this, with the lock.
    pub(super) fn repair_index(&self) {
        if self.is_indexed() {
            return;
        }
        let (index, ids) = (self.index(), self.ids());
        index.drop_unreadable();
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, id) in index.names() {
            names.entry(id).or_default().push(name);
        }
        for (id, names) in names {
            // Several: of one whose name could not be read for a time, or not made by us.
            let right = (names.len() > 1).then(|| self.by_id(&id)).flatten().map(|pod| pod.name);
            for name in &names {
                if !ids.contains(&id) || right.as_ref().is_some_and(|right| right != name) {
                    index.drop_stale(name, &id);
                }
            }
        }
        for pod in self.ids_not_indexed(ids).iter().filter_map(|id| self.by_id(id)) {
            // Best effort: without an entry it is still found, only slower.
            if !matches!(index.take(&pod.name, &pod.id), Ok(true)) {
                let _ = index.take(&pod.id, &pod.id);
            }
            if let Some(plan) = &pod.plan {
                let _ = index.claim(&pod.id, &plan.sandbox.claim);
            }
        }
    }

    /// Where a pod really is. One that was started with another `$XDG_RUNTIME_DIR` (by cron, say) has its lock there: it
    /// must not be taken for one that a reboot has ended.
    fn existing_dirs(&self, id: &str) -> PodDirs {
        let here = self.dirs(id);
        if here.runtime.is_dir() {
            return here;
        }
        match checked::runtime_elsewhere(&here, id) {
            Some(runtime) => PodDirs { runtime, data: here.data },
            None => here,
        }
    }

    pub(super) fn ids(&self) -> BTreeSet<String> {
        [self.runtime(), self.data()].iter().flat_map(|dir| ids_in(&dir.join("pods"))).collect()
    }

    fn unknown(&self, typed: &str) -> Report {
        let report = Report::new(exit_code::FAILURE, format!("there is no pod `{typed}`"));
        if let Some((kind, _)) = typed.split_once('/') {
            return report
                .hint(format!("of all kinds there are only pods here, no `{kind}`: `sandpod ps -a` lists them"));
        }
        if self.ids().is_empty() {
            return report.hint("there are no pods at all; `sandpod run FILE` makes one");
        }
        let names = self.index().names();
        match nearest(typed, names.iter().map(|(name, _)| name.as_str())) {
            Some((name, _)) => report.hint(format!("did you mean `{name}`? `sandpod ps -a` lists all pods")),
            None => report.hint("`sandpod ps -a` lists all pods"),
        }
    }
}

/// Directories named like an id; anything else there is not ours to list or to remove.
fn ids_in(pods: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(pods).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_id(name))
}
