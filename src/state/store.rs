//! All pods of one user: two directories, made private, and what is read from them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::error::{Doing, Error};
use super::index::Index;
use super::record::{ContainerRecord, ContainerState, Phase, Record};
use super::spare;
use super::stored::StoredPod;
use crate::plan::{PodDirs, PodPlan, SandboxPlan};
use crate::report::{Report, exit_code};
use crate::sys;
use crate::sys::own_dir::OwnDir;
use crate::sys::private_dir::{self, Flaw};

/// Where pods are kept: `runtime` goes with the boot, `data` stays.
#[derive(Debug, Clone)]
pub struct Store {
    runtime: PathBuf,
    data: PathBuf,
}

/// A pod whose name and directories are reserved, and of which nothing runs yet.
#[derive(Debug)]
pub struct CreatedPod {
    pub dirs: PodDirs,
    pub record: Record,
    /// flock(2) of `lock`, and of `plan.json` for when the runtime directory is gone (systemd empties it at logout).
    /// It belongs to the open file, so a forked supervisor holds it on when we close ours; it must
    /// not be inherited by anything that outlives the supervisor.
    pub locks: [File; 2],
}

impl Store {
    /// Both directories as the host layer chose them; nothing is made or read yet.
    #[must_use]
    pub fn new(runtime: &Path, data: &Path) -> Store {
        Store { runtime: runtime.to_owned(), data: data.to_owned() }
    }

    #[must_use]
    pub fn runtime(&self) -> &Path {
        &self.runtime
    }

    #[must_use]
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Said once more by [`create`](Self::create), under a lock; before that, it spares whoever wants a pod a second time
    /// an error about what the first one has: its ports, say.
    ///
    /// # Errors
    /// The name or the id is taken.
    pub fn refuse_taken(&self, plan: &PodPlan) -> Result<(), Report> {
        self.named(&plan.sandbox.name).or_else(|| self.by_id(&plan.sandbox.id)).map_or(Ok(()), |pod| Err(taken(&pod)))
    }

    /// Whether a pod has this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.indexed(name).is_some()
    }

    /// Reserves the pod's name and directories, takes its lock, and writes plan and record, before anything else of the
    /// pod exists. On failure nothing is left.
    ///
    /// # Errors
    /// The name is taken; a directory is not ours alone; the disk is full, and the like.
    pub fn create(&self, plan: &PodPlan, created_at: Timestamp) -> Result<CreatedPod, Report> {
        let SandboxPlan { id, name, dirs, .. } = &plan.sandbox;
        let what = || format!("could not create pod `{name}`");
        let text = serde_json::to_vec(plan).map_err(io::Error::other).doing("serialize", &dirs.data);
        let text = text.map_err(|error| error.into_report(what()))?;
        self.make_private(what)?;
        let one_at_a_time = self.lock_file(true).map_err(|error| error.into_report(what()))?;
        one_at_a_time.lock().doing("flock", &self.lock_path()).map_err(|error| error.into_report(what()))?;
        self.repair_index();
        if let Some(pod) = self.indexed(name).or_else(|| self.by_id(id)) {
            return Err(taken(&pod));
        }
        if let Some(gone) = self.index().id_of(name) {
            self.index().drop_stale(name, &gone);
        }
        self.reserve(plan, &text, created_at).map_err(|error| {
            // Only what `reserve` itself made can be there: no pod has this id.
            let _ = fs::remove_dir_all(&dirs.runtime);
            for entry in plan.sandbox.entries().iter().filter(|_| self.index().id_of(name).as_deref() == Some(id)) {
                let _ = fs::remove_file(entry);
            }
            let _ = fs::remove_dir_all(&dirs.data);
            error.into_report(what())
        })
    }

    fn reserve(&self, plan: &PodPlan, text: &[u8], created_at: Timestamp) -> Result<CreatedPod, Error> {
        let SandboxPlan { id, name, dirs, claim, .. } = &plan.sandbox;
        let make = |directory: &Path| fs::DirBuilder::new().mode(0o700).create(directory).doing("mkdir", directory);
        make(&dirs.data)?;
        if !self.index().take(name, id)? {
            // By a command with another runtime directory, which has another lock.
            let source = io::Error::from(io::ErrorKind::AlreadyExists);
            return Err(Error { doing: format!("take the name `{name}`"), source });
        }
        self.index().claim(id, claim)?;
        make(&dirs.runtime)?;
        let (runtime, data) = (OwnDir::of_pod(&dirs.runtime)?, OwnDir::of_pod(&dirs.data)?);
        let lock = runtime.create("lock".as_ref())?;
        // Others hold it no longer than a look takes (`liveness`).
        lock.lock().doing("flock", &dirs.runtime.join("lock"))?;
        let path = dirs.data.join("plan.json");
        let mut plan_lock = data.create("plan.json".as_ref())?;
        plan_lock.lock().doing("flock", &path)?;
        // In place: no reader looks yet (`Store::list` waits for our lock), and after a crash half a plan is no plan.
        plan_lock.write_all(text).doing("write", &path)?;
        let record = Record {
            id: id.clone(),
            name: name.clone(),
            created_at,
            phase: Phase::Starting,
            supervisor: None,
            pause: None,
            cgroup: None,
            network: None,
            publishing: None,
            containers: plan.containers.iter().map(|container| waiting(&container.name)).collect(),
            data: Some(dirs.data.clone()),
        };
        let length = commit(dirs, &record)?;
        spare::reserve(&runtime, length)?;
        Ok(CreatedPod { dirs: dirs.clone(), record, locks: [lock, plan_lock] })
    }

    pub(super) fn index(&self) -> Index {
        Index::of(&self.data)
    }

    fn lock_path(&self) -> PathBuf {
        self.runtime.join("lock")
    }

    fn lock_file(&self, create: bool) -> Result<File, Error> {
        let runtime = OwnDir::at(&self.runtime)?;
        Ok(if create { runtime.append("lock".as_ref()) } else { runtime.read("lock".as_ref()) }?)
    }

    /// While it is held, no pod is being made. `None`: none ever was.
    pub(super) fn lock_to_read(&self, what: impl Fn() -> String) -> Result<Option<File>, Report> {
        let lock = match self.lock_file(false) {
            Ok(lock) => lock,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into_report(what())),
        };
        lock.lock_shared().doing("flock", &self.lock_path()).map_err(|error| error.into_report(what()))?;
        Ok(Some(lock))
    }

    pub(super) fn dirs(&self, id: &str) -> PodDirs {
        PodDirs { runtime: self.runtime.join("pods").join(id), data: self.data.join("pods").join(id) }
    }

    pub(super) fn make_private(&self, what: impl Fn() -> String) -> Result<(), Report> {
        for top in [&self.runtime, &self.data] {
            if let Some(parent) = top.parent() {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(parent)
                    .doing("mkdir", parent)
                    .map_err(|error| error.into_report(what()))?;
                refuse_open_parent(top, parent, &what)?;
            }
        }
        let [names, claims] = self.index().directories();
        let pods = [&self.runtime, &self.data].into_iter().flat_map(|top| [top.clone(), top.join("pods")]);
        for directory in pods.chain([names, claims]) {
            refuse_flaw(&directory, private_dir::make_private(&directory), &what)?;
        }
        Ok(())
    }

    pub(super) fn check_private(&self, what: impl Fn() -> String) -> Result<(), Report> {
        for directory in [&self.runtime, &self.data] {
            match private_dir::check_private(directory) {
                Err(error) if io::Error::from_raw_os_error(error.number()).kind() == io::ErrorKind::NotFound => {}
                checked => refuse_flaw(directory, checked, &what)?,
            }
        }
        Ok(())
    }
}

/// Such as a /tmp of mode 0777: whoever may write to it could make or replace our directory there.
fn refuse_open_parent(directory: &Path, parent: &Path, what: impl Fn() -> String) -> Result<(), Report> {
    // What cannot be looked at cannot be used either; the next call says why.
    let Ok(Some(mode)) = private_dir::mode_if_open(parent) else { return Ok(()) };
    let shown = parent.display();
    Err(Report::new(exit_code::FAILURE, what())
        .because(format!("sandpod's own directory {} is not safe to use", directory.display()))
        .because(format!("anybody may replace what is in {shown} (mode {mode:04o}, without the sticky bit)"))
        .hint(format!(
            "`chmod +t {shown}` (by its owner), or set XDG_RUNTIME_DIR and XDG_DATA_HOME to directories of yours"
        )))
}

fn refuse_flaw(
    directory: &Path,
    checked: crate::sys::Result<Option<Flaw>>,
    what: impl Fn() -> String,
) -> Result<(), Report> {
    let shown = directory.display();
    let flaw = match checked {
        Ok(None) => return Ok(()),
        Ok(Some(flaw)) => flaw,
        Err(error) => {
            let mut report = Report::new(exit_code::FAILURE, what())
                .because(crate::step::Step::CreateRecord.doing())
                .because(error.to_string());
            report.cause = Some((crate::step::Step::CreateRecord, error.number()));
            return Err(report);
        }
    };
    let elsewhere = "somebody else may have made it; remove it, or set XDG_RUNTIME_DIR to a directory of yours";
    let (why, fix) = match flaw {
        Flaw::Symlink => (format!("{shown} is a symbolic link"), elsewhere.to_owned()),
        Flaw::NotADirectory => (format!("{shown} is not a directory"), elsewhere.to_owned()),
        Flaw::ForeignOwner(uid) => (format!("{shown} belongs to uid {uid}, not to you"), elsewhere.to_owned()),
        Flaw::OpenToOthers(mode) => (
            format!("{shown} is open to others (mode {mode:04o})"),
            format!("if it is yours: `chmod 700 {shown}`; what is in it may have been changed by others"),
        ),
    };
    Err(Report::new(exit_code::FAILURE, what())
        .because("sandpod's own directory is not safe to use")
        .because(why)
        .hint(fix))
}

fn taken(pod: &StoredPod) -> Report {
    let force = if pod.status().is_live() { " -f" } else { "" };
    Report::new(exit_code::FAILURE, format!("there is already a pod `{}`", pod.name))
        .because(format!("its id is {}, it is {}", pod.id, pod.status()))
        .hint(format!("remove it with `sandpod rm{force} {}`, or choose another name with `--name`", pod.name))
}

fn waiting(name: &str) -> ContainerRecord {
    let state = ContainerState::Waiting { reason: "ContainerCreating".to_owned() };
    ContainerRecord {
        name: name.to_owned(),
        state,
        restarts: 0,
        last_exit: None,
        last_reason: None,
        leaf: None,
        message: None,
        last_message: None,
        start_code: None,
    }
}

/// Replaces the pod's record: a reader, and a crash at any moment, sees the old one or the new one. Not synced: nothing
/// in the runtime directory outlives a boot. How the pod ended is written also where the disk is full. Returns the
/// record's length.
///
/// # Errors
/// What the file system says.
pub fn commit(dirs: &PodDirs, record: &Record) -> Result<usize, Error> {
    let text = serde_json::to_vec(record).map_err(io::Error::other).doing("serialize", &dirs.runtime)?;
    let runtime = OwnDir::of_pod(&dirs.runtime)?;
    let replaced = runtime.replace("record.json".as_ref(), &text, |_| Ok(()));
    let is_last = matches!(record.phase, Phase::Succeeded | Phase::Failed { .. });
    match replaced {
        Err(error) if is_last => spare::replace(&runtime, &text).map_err(|_| error)?,
        other => drop(other?),
    }
    Ok(text.len())
}

/// Replaces the pod's plan, as [`commit`] the record. The lock on it says that the pod lives, so the new one is locked
/// before it takes the old one's place; the caller keeps it in the place of the one it had.
///
/// # Errors
/// What the file system says; the old one is still there then.
pub fn replace_plan(before: &PodPlan, plan: &PodPlan) -> Result<File, Error> {
    let SandboxPlan { id, claim, dirs, .. } = &plan.sandbox;
    let directory = &dirs.data;
    let text = serde_json::to_vec(plan).map_err(io::Error::other).doing("serialize", directory)?;
    let index = dirs.store().map(Index::of).filter(|_| before.sandbox.claim != *claim);
    // For a moment both count: never too little.
    index.as_ref().map_or(Ok(()), |index| index.claim(id, claim))?;
    let replaced = OwnDir::of_pod(directory).and_then(|data| {
        let lock = |file: &File| file.lock().map_err(|error| sys::Error::of_io("flock(plan.json)", &error));
        data.replace("plan.json".as_ref(), &text, lock)
    });
    let (dropped, result) = match replaced {
        Ok(file) => (&before.sandbox.claim, Ok(file)),
        Err(error) => (claim, Err(error.into())),
    };
    index.iter().for_each(|index| index.drop_claim(id, dropped));
    result
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
