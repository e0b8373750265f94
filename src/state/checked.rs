//! A record or a plan is checked against the place where it was found.
//!
//! Others may have written it: a container has `~/.local/share` as a hostPath, say. So nothing in it decides where
//! something is read, written or removed. Paths come from the place; ids and names are compared with it, and must be
//! safe as file names.

use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use super::record::{ContainerRecord, Record};
use super::stored::MOST_PLAN;
use crate::plan::cgroup::CgroupPlan;
use crate::plan::dirs::{is_container_name, is_pod_name};
use crate::plan::{PodDirs, PodPlan, container_log};
use crate::sys::own_dir::OwnDir;
use crate::sys::private_dir;

/// The plan of the pod in `dirs`.
pub(super) fn plan(bytes: &[u8], dirs: &PodDirs, id: &str) -> Result<PodPlan, String> {
    let mut plan: PodPlan = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let PodPlan { sandbox, containers, .. } = &mut plan;
    identity(&sandbox.id, &sandbox.name, id)?;
    sandbox.dirs = dirs.clone();
    for container in containers {
        container_name(&container.name)?;
        container.log.path = dirs.data.join(container_log(&container.name));
    }
    if let CgroupPlan::Tree(tree) = &sandbox.cgroup
        && let Some(directory) = tree.directory()
        && !is_cgroup_of(&directory, id)
    {
        return Err(format!("{} is no cgroup of this pod", directory.display()));
    }
    Ok(plan)
}

/// The record of the pod `id`.
pub(super) fn record(bytes: &[u8], id: &str) -> Result<Record, String> {
    let record: Record = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    identity(&record.id, &record.name, id)?;
    for ContainerRecord { name, leaf, .. } in &record.containers {
        container_name(name)?;
        if let Some(leaf) = leaf
            && leaf.rsplit_once('.').is_none_or(|(of, number)| of != name || number.parse::<u64>().is_err())
        {
            return Err(format!("`{leaf}` is no cgroup of container `{name}`"));
        }
    }
    Ok(record)
}

fn identity(written: &str, name: &str, id: &str) -> Result<(), String> {
    if written != id {
        return Err(format!("it is of another pod, `{written}`"));
    }
    if is_pod_name(name) { Ok(()) } else { Err(format!("`{name}` is no name of a pod")) }
}

fn container_name(name: &str) -> Result<(), String> {
    if is_container_name(name) { Ok(()) } else { Err(format!("`{name}` is no name of a container")) }
}

/// By its name alone; the caller checks that it is on a cgroup file system before it changes anything.
pub(super) fn is_cgroup_of(directory: &Path, id: &str) -> bool {
    let plain = directory.is_absolute()
        && directory.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let name = directory.file_name().and_then(OsStr::to_str).unwrap_or_default();
    plain && name.starts_with("sandpod-") && name.ends_with(&format!("-{id}"))
}

/// The runtime directory of a pod that has none here, as its plan has it. Only `…/pods/<id>` with a lock and a record in
/// it, all of them ours alone: it is going to be removed as a whole one day.
pub(super) fn runtime_elsewhere(here: &PodDirs, id: &str) -> Option<PathBuf> {
    let bytes = OwnDir::of_pod(&here.data).ok()?.read_bounded("plan.json".as_ref(), MOST_PLAN).ok()?;
    let PodDirs { runtime, data: _ } = serde_json::from_slice::<PodPlan>(&bytes).ok()?.sandbox.dirs;
    let is_its = runtime.is_absolute()
        && runtime.file_name().is_some_and(|name| name == id)
        && runtime.parent().and_then(Path::file_name).is_some_and(|pods| pods == "pods")
        && runtime.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // Below /tmp another user can have made that path since.
    let is_private = |path: &Path| matches!(private_dir::check_private(path), Ok(None));
    let is_file = |name: &str| fs::symlink_metadata(runtime.join(name)).is_ok_and(|found| found.is_file());
    let found = is_its && is_private(runtime.parent()?) && is_private(&runtime);
    (found && is_file("lock") && is_file("record.json")).then_some(runtime)
}
