//! Id maps: which host id stands behind which id of the pod (user_namespaces(7), newuidmap(1)).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// An id as the host knows it. Never mix with [`ContainerId`]: that mix is the classic rootless bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub u32);

/// An id as the pod's processes see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ContainerId(pub u32);

/// One line of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapEntry {
    pub inside: ContainerId,
    pub outside: HostId,
    pub count: u32,
}

/// What `--userns` and the annotation `sandpod.dev/userns` may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsernsChoice {
    Auto,
    RootIsYou,
    Isolated,
    Single,
}

/// The map that was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UsernsMode {
    /// 0 is you, 1… are your subordinate ids.
    RootIsYou,
    /// All ids are subordinate ids: an escape owns a nobody, not your home.
    Isolated,
    /// Only you, as 0: no subordinate ids, or nothing that may write their map.
    Single,
}

/// Who writes `/proc/PID/{uid,gid}_map`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapWriter {
    /// The setuid (or file-capability) tools of Debian's `uidmap`, both at the same time.
    Tools { newuidmap: PathBuf, newgidmap: PathBuf },
    /// We ourselves, which the kernel allows for a single id once `setgroups` is denied.
    Direct,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMapPlan {
    pub mode: UsernsMode,
    /// One sentence for the user: why this mode.
    pub why: String,
    pub uids: Vec<MapEntry>,
    pub gids: Vec<MapEntry>,
    pub writer: MapWriter,
}

impl IdMapPlan {
    /// The host's id for a uid of the pod, where it has one.
    #[must_use]
    pub fn host_uid(&self, inside: ContainerId) -> Option<HostId> {
        lookup(&self.uids, inside)
    }

    /// The host's id for a gid of the pod, where it has one.
    #[must_use]
    pub fn host_gid(&self, inside: ContainerId) -> Option<HostId> {
        lookup(&self.gids, inside)
    }
}

fn lookup(entries: &[MapEntry], inside: ContainerId) -> Option<HostId> {
    entries.iter().find_map(|entry| {
        let offset = inside.0.checked_sub(entry.inside.0)?;
        (offset < entry.count).then(|| HostId(entry.outside.0 + offset))
    })
}
