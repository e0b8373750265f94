//! A pod as it is found on disk, and what can be looked up about it.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::checked;
use super::index::Index;
use super::record::Record;
use super::status::{Liveness, Status, effective_phase};
use crate::plan::cgroup::CgroupPlan;
use crate::plan::{PodDirs, PodPlan};
use crate::sys::Errno;
use crate::sys::own_dir::OwnDir;

/// Bytes that are read of a plan and of a record. Others may have made the files: a plan is far below the first
/// (plan/arguments.rs), and a record below the second.
pub(super) const MOST_PLAN: usize = 64 << 20;
const MOST_RECORD: usize = 16 << 20;

/// What `record.json` gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoredRecord {
    Read(Box<Record>),
    /// Empty, cut off, or not ours: why.
    Damaged(String),
    /// No runtime directory, or none that got so far.
    Missing,
}

/// One pod as found on disk.
#[derive(Debug, Clone)]
pub struct StoredPod {
    pub id: String,
    /// From the record or the plan; the id where neither can be read.
    pub name: String,
    pub dirs: PodDirs,
    pub record: StoredRecord,
    /// `None`: `plan.json` is missing or cannot be read.
    pub plan: Option<PodPlan>,
    pub liveness: Liveness,
}

impl StoredPod {
    /// The directory of the pod's cgroup, if it has one: where the record says or, when the supervisor never came to
    /// write one, where the plan puts it.
    #[must_use]
    pub fn cgroup(&self) -> Option<PathBuf> {
        let recorded = self.record().and_then(|record| record.cgroup.clone());
        recorded.filter(|path| checked::is_cgroup_of(path, &self.id)).or_else(|| {
            match &self.plan.as_ref()?.sandbox.cgroup {
                CgroupPlan::Tree(tree) => tree.directory(),
                CgroupPlan::Inherited => None,
            }
        })
    }

    /// The entries that the index has for it.
    #[must_use]
    pub fn entries(&self) -> Vec<PathBuf> {
        match (&self.plan, self.dirs.store()) {
            (Some(plan), _) => plan.sandbox.entries(),
            (None, Some(store)) => Index::of(store).entries_of(&self.id),
            (None, None) => Vec::new(),
        }
    }

    /// Where its files are, when that is not where this caller looks for them: it was started with another
    /// `$XDG_DATA_HOME`.
    #[must_use]
    pub fn data_elsewhere(&self) -> Option<&Path> {
        let recorded = self.record()?.data.as_deref()?;
        (recorded != self.dirs.data && !self.dirs.data.exists() && recorded.exists()).then_some(recorded)
    }

    /// Whether anything of it is left on disk.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.dirs.runtime.exists() || self.dirs.data.exists()
    }

    #[must_use]
    pub fn status(&self) -> Status {
        match &self.record {
            StoredRecord::Read(record) => effective_phase(&record.phase, self.liveness),
            // A supervisor without a record yet, or with a damaged one, is alive all the same.
            _ if self.liveness == Liveness::Supervised => Status::Running,
            StoredRecord::Damaged(reason) => Status::Damaged { reason: reason.clone() },
            StoredRecord::Missing if self.dirs.runtime.exists() => {
                Status::Damaged { reason: "record.json is missing".to_owned() }
            }
            StoredRecord::Missing => Status::Lost,
        }
    }

    /// The record, where there is a good one.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        match &self.record {
            StoredRecord::Read(record) => Some(record),
            StoredRecord::Damaged(_) | StoredRecord::Missing => None,
        }
    }

    /// The same pod as it is on disk now.
    #[must_use]
    pub fn reload(&self) -> StoredPod {
        read_pod(self.dirs.clone(), self.id.clone(), || Some(self.name.clone()))
    }
}

/// `otherwise`: its name, where its own files do not say it.
pub(super) fn read_pod(dirs: PodDirs, id: String, otherwise: impl FnOnce() -> Option<String>) -> StoredPod {
    // Before the record: a supervisor writes its last record and then lets go, so "not alive" makes the record final.
    let liveness = liveness(&dirs);
    let record = read_record(&dirs, &id);
    let plan = OwnDir::of_pod(&dirs.data).and_then(|data| data.read_bounded("plan.json".as_ref(), MOST_PLAN)).ok();
    let plan = plan.and_then(|bytes| checked::plan(&bytes, &dirs, &id).ok());
    let name = match (&record, &plan) {
        (StoredRecord::Read(record), _) => record.name.clone(),
        (_, Some(PodPlan { sandbox, .. })) => sandbox.name.clone(),
        _ => otherwise().unwrap_or_else(|| id.clone()),
    };
    StoredPod { id, name, dirs, record, plan, liveness }
}

fn read_record(dirs: &PodDirs, id: &str) -> StoredRecord {
    match OwnDir::of_pod(&dirs.runtime).and_then(|runtime| runtime.read_bounded("record.json".as_ref(), MOST_RECORD)) {
        Ok(bytes) if bytes.is_empty() => StoredRecord::Damaged("record.json is empty".to_owned()),
        Ok(bytes) => match checked::record(&bytes, id) {
            Ok(record) => StoredRecord::Read(Box::new(record)),
            Err(error) => StoredRecord::Damaged(format!("record.json: {error}")),
        },
        Err(error) if error.errno == Errno::ENOENT => StoredRecord::Missing,
        Err(error) => StoredRecord::Damaged(format!("record.json: {error}")),
    }
}

pub(super) fn liveness(dirs: &PodDirs) -> Liveness {
    if Locks::of(dirs).are_held() { Liveness::Supervised } else { Liveness::Unsupervised }
}

/// The files that a supervisor keeps locked as long as it lives.
struct Locks(Vec<File>);

impl Locks {
    /// Those that are there.
    fn of(dirs: &PodDirs) -> Locks {
        let files = [(&dirs.runtime, "lock"), (&dirs.data, "plan.json")].into_iter().filter_map(|(directory, name)| {
            OwnDir::of_pod(directory).and_then(|directory| directory.read(name.as_ref())).ok()
        });
        Locks(files.collect())
    }

    /// By a shared lock, so that two who look do not take each other for the supervisor; only for the moment of the look.
    fn are_held(&self) -> bool {
        self.0.iter().any(|lock| match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => true,
            Ok(()) => lock.unlock().is_err(),
            Err(TryLockError::Error(_)) => false,
        })
    }
}

/// Waits until no supervisor holds the pod's lock. False: the time ran out.
#[must_use]
pub fn wait_released(dirs: &PodDirs, timeout: Duration) -> bool {
    // Opened once: `lock` stays the same file for as long as the pod is there.
    let locks = Locks::of(dirs);
    if !locks.are_held() {
        return true;
    }
    let deadline = Instant::now() + timeout;
    let id = dirs.runtime.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let supervisor = match read_record(dirs, id) {
        StoredRecord::Read(record) => record.supervisor.and_then(|process| process.open().ok().flatten()),
        StoredRecord::Damaged(_) | StoredRecord::Missing => None,
    };
    if let Some(supervisor) = supervisor {
        // Its lock goes with it. A wait that fails is a wait that is over: the lock is looked at anyhow.
        let _ = supervisor.wait_gone(timeout);
    }
    // flock(2) has no deadline. Without a known supervisor the lock is all there is to look at.
    while locks.are_held() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}
