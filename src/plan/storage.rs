//! What a pod may keep on disk: `ephemeral-storage` limits, and `sizeLimit` of emptyDirs.
//!
//! No cgroup counts it, so it is done as the kubelet does it (`localStorageEviction` in
//! `pkg/kubelet/eviction/eviction_manager.go`): measured from time to time, and a pod that is found beyond a limit is
//! evicted as a whole. Until it is found it can write more.

use serde::{Deserialize, Serialize};

use super::{ContainerPlan, RootPlan};
use crate::manifest::{Container, Resource, Volume, VolumeSource, written};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// Nothing is measured of a pod without limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoragePlan {
    /// Of emptyDirs on disk.
    pub volumes: Vec<StorageLimit>,
    /// Writable layer and logs of one container.
    pub containers: Vec<StorageLimit>,
    /// Bytes: of all that containers and emptyDirs have on disk. The sum of the containers' limits.
    pub pod: Option<u64>,
}

/// Of a volume or a container of this name, in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageLimit {
    pub name: String,
    pub bytes: u64,
}

/// What was found on disk: names and bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageUsage {
    pub volumes: Vec<(String, u64)>,
    pub containers: Vec<(String, u64)>,
    /// Something was moved while it was looked at, so that there may be more.
    #[serde(default)]
    pub incomplete: bool,
}

pub(super) fn decide(containers: &[Container], volumes: &[Volume]) -> StoragePlan {
    let limit = |container: &Container| {
        let bytes = container.resources.limits.get(Resource::EphemeralStorage)?;
        Some(StorageLimit { name: container.name.clone(), bytes })
    };
    let size = |volume: &Volume| match volume.source {
        VolumeSource::EmptyDirDisk { size_limit: Some(bytes) } => {
            Some(StorageLimit { name: volume.name.clone(), bytes })
        }
        VolumeSource::EmptyDirDisk { size_limit: None }
        | VolumeSource::EmptyDirMemory { .. }
        | VolumeSource::HostPath { .. }
        | VolumeSource::Image { .. } => None,
    };
    let containers: Vec<StorageLimit> = containers.iter().filter_map(limit).collect();
    // As the kubelet has it (PodLimits): the sum of those that have one, though others share what it allows.
    let pod = containers.iter().map(|limit| limit.bytes).reduce(u64::saturating_add);
    StoragePlan { volumes: volumes.iter().filter_map(size).collect(), containers, pod }
}

/// Refuses a limit that could not be told from what the image has.
pub(super) fn check(storage: &StoragePlan, containers: &[ContainerPlan]) -> Result<(), Report> {
    let copied = containers.iter().find(|container| matches!(container.root, RootPlan::Copy { .. }));
    let (Some(limit), Some(copied)) = (storage.containers.first(), copied) else { return Ok(()) };
    let what = format!("the ephemeral-storage limit of container `{}` cannot be held here", limit.name);
    let why = format!(
        "the root of container `{}` is a copy, and what it writes cannot be told from what was copied",
        copied.name
    );
    Err(Report::new(exit_code::FAILURE, what).because(why).hint(
        "`sandpod plan` without the limit says why there is no overlay (`no-overlay`); sizeLimit of an emptyDir can be \
         held",
    ))
}

impl StoragePlan {
    /// Whether there is anything to measure for.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        !(self.volumes.is_empty() && self.containers.is_empty())
    }

    /// The first limit that is passed; of several, one that names who is to blame.
    #[must_use]
    pub fn excess(&self, usage: &StorageUsage) -> Option<String> {
        let used = |of: &[(String, u64)], name: &str| {
            of.iter().find(|(known, _)| known == name).map_or(0, |(_, bytes)| *bytes)
        };
        let volume = self.volumes.iter().find_map(|StorageLimit { name, bytes }| {
            let found = used(&usage.volumes, name);
            (found > *bytes).then(|| beyond(&format!("emptyDir `{name}` has"), found, "sizeLimit", *bytes))
        });
        let pod = || {
            let all = usage.volumes.iter().chain(&usage.containers).map(|(_, bytes)| *bytes);
            let (found, bytes) = (all.fold(0, u64::saturating_add), self.pod?);
            (found > bytes).then(|| beyond("containers and emptyDirs have", found, "ephemeral-storage limits", bytes))
        };
        let container = || {
            self.containers.iter().find_map(|StorageLimit { name, bytes }| {
                let found = used(&usage.containers, name);
                let who = format!("container `{name}` has");
                (found > *bytes).then(|| beyond(&who, found, "ephemeral-storage limit", *bytes))
            })
        };
        volume.or_else(container).or_else(pod)
    }
}

fn beyond(who: &str, found: u64, what: &str, limit: u64) -> String {
    let shown = |bytes| written(Resource::EphemeralStorage, bytes);
    // No finer than it has to be to show the difference.
    let rounded = if found >> 20 > limit >> 20 { (found >> 20) << 20 } else { found };
    format!("{who} {} on disk, more than the {what} of {}", shown(rounded), shown(limit))
}
