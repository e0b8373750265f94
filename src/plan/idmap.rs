//! Id maps: which host id stands behind which id of the pod (user_namespaces(7), newuidmap(1)).
//!
//! Owns the types and the decision. Host ids are always ids *as our own user namespace shows them*: that is what a map
//! written from here means, also when sandpod itself runs inside an outer user namespace.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Degradation;
use super::annotations::{Annotations, USERNS};
use super::degradation::{self, IdKind};
use crate::host::{Facts, IdMapTool, MapLine, SubIdRange};
use crate::image::Digest;
use crate::manifest::{Container, Image, Volume, VolumeSource};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// As many as Kubernetes gives a pod with `hostUsers: false` (KEP-127): all ids of 16 bits.
pub const MAX_IDS: u32 = 65536;
/// Bytes of a map's key.
const MAX_KEY: usize = 100;
/// The kernel's UID_GID_MAP_MAX_EXTENTS (user_namespaces(7)).
pub const MAX_LINES: usize = 340;

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

impl UsernsChoice {
    /// As the flag and the annotation spell it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            UsernsChoice::Auto => "auto",
            UsernsChoice::RootIsYou => UsernsMode::RootIsYou.word(),
            UsernsChoice::Isolated => UsernsMode::Isolated.word(),
            UsernsChoice::Single => UsernsMode::Single.word(),
        }
    }
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

impl UsernsMode {
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            UsernsMode::RootIsYou => "root-is-you",
            UsernsMode::Isolated => "isolated",
            UsernsMode::Single => "single",
        }
    }
}

/// Who writes `/proc/PID/{uid,gid}_map`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapWriter {
    /// The setuid (or file-capability) tools of Debian's `uidmap`, both at the same time.
    Tools { newuidmap: PathBuf, newgidmap: PathBuf },
    /// We ourselves, which the kernel allows for a single id once `setgroups` is denied.
    Direct,
    /// We ourselves, with CAP_SETUID and CAP_SETGID in our own user namespace: any ids that exist there.
    Privileged,
}

impl MapWriter {
    /// Whether setgroups(2) works in the pod.
    #[must_use]
    pub fn allows_setgroups(&self) -> bool {
        match self {
            MapWriter::Tools { .. } | MapWriter::Privileged => true,
            MapWriter::Direct => false,
        }
    }
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
    /// A file name of at most 100 bytes that is the same for the same uid and gid map, and for no other: what layers are
    /// unpacked for. It shows the host's ids in order, each range as `FIRST+COUNT`: `u1000+1,100000+65535-g…`.
    #[must_use]
    pub fn key(&self) -> String {
        let ranges = |entries: &[MapEntry]| {
            let ranges: Vec<String> = entries
                .iter()
                .map(|MapEntry { inside, outside, count }| match inside.0 {
                    0 => format!("{}+{count}", outside.0),
                    inside => format!("{inside}.{}+{count}", outside.0),
                })
                .collect();
            ranges.join(",")
        };
        let readable = format!("u{}-g{}", ranges(&self.uids), ranges(&self.gids));
        if readable.len() <= MAX_KEY { readable } else { format!("sha256-{}", Digest::of(readable.as_bytes()).hex()) }
    }

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

    /// The commands that write the uid map and the gid map of process `pid`; `None` when we write them ourselves.
    #[must_use]
    pub fn writer_argv(&self, pid: &str) -> Option<[Vec<String>; 2]> {
        let MapWriter::Tools { newuidmap, newgidmap } = &self.writer else { return None };
        let argv = |tool: &PathBuf, entries: &[MapEntry]| {
            let numbers = entries.iter().flat_map(|e| [e.inside.0, e.outside.0, e.count]).map(|n| n.to_string());
            [tool.display().to_string(), pid.to_owned()].into_iter().chain(numbers).collect()
        };
        Some([argv(newuidmap, &self.uids), argv(newgidmap, &self.gids)])
    }
}

fn lookup(entries: &[MapEntry], inside: ContainerId) -> Option<HostId> {
    entries.iter().find_map(|entry| {
        let offset = inside.0.checked_sub(entry.inside.0)?;
        (offset < entry.count).then(|| HostId(entry.outside.0 + offset))
    })
}

/// The mode asked for, and by what: errors and `why` name it.
pub(super) struct Wish {
    choice: UsernsChoice,
    asked_by: &'static str,
}

impl Wish {
    /// The flag wins over the annotation; `--userns=auto` is as good as no flag.
    pub(super) fn new(flag: UsernsChoice, annotations: &Annotations<'_>) -> Wish {
        match (flag, annotations.userns) {
            (UsernsChoice::Auto, Some(choice)) => Wish { choice, asked_by: USERNS },
            (choice, _) => Wish { choice, asked_by: "--userns" },
        }
    }

    /// The option or annotation that asks for a mode; `None` where any will do.
    pub(super) fn asked_by(&self) -> Option<&'static str> {
        (self.choice != UsernsChoice::Auto).then_some(self.asked_by)
    }
}

/// Chooses the mode and makes the map. Only `auto` may fall back to `single`, and says so by name.
pub(super) fn decide(
    facts: &Facts,
    wish: &Wish,
    containers: &[Container],
    volumes: &[Volume],
) -> Result<(IdMapPlan, Vec<Degradation>), Report> {
    let asked = format!("asked for by {}", wish.asked_by);
    let mode = match wish.choice {
        UsernsChoice::Auto => return Ok(decide_auto(facts, containers, volumes)),
        UsernsChoice::Single => return Ok((single(facts, asked), Vec::new())),
        UsernsChoice::RootIsYou => UsernsMode::RootIsYou,
        UsernsChoice::Isolated => UsernsMode::Isolated,
    };
    match full(facts, mode, asked) {
        Ok(idmap) => Ok((idmap, Vec::new())),
        Err(Degradation { name: _, meaning, fix }) => {
            let what = format!("{}={} cannot be had on this host", wish.asked_by, mode.word());
            Err(Report::new(exit_code::FAILURE, what).because(meaning).hint(fix))
        }
    }
}

fn decide_auto(facts: &Facts, containers: &[Container], volumes: &[Volume]) -> (IdMapPlan, Vec<Degradation>) {
    let (mode, why) = match files_of_yours(facts, containers, volumes) {
        Some(why) => (UsernsMode::RootIsYou, why),
        None => (
            UsernsMode::Isolated,
            "the pod uses no files of yours, so none of its processes needs to be you".to_owned(),
        ),
    };
    match full(facts, mode, why) {
        Ok(idmap) => (idmap, Vec::new()),
        Err(lack) => (single(facts, format!("more ids cannot be had here ({})", lack.name)), vec![lack]),
    }
}

/// Why the pod has to be able to act as the caller: with `isolated`, the caller's files would belong to nobody inside,
/// and overlayfs could not copy them up (EOVERFLOW: an owner without an id in the user namespace).
fn files_of_yours(facts: &Facts, containers: &[Container], volumes: &[Volume]) -> Option<String> {
    let host_path = volumes.iter().find(|v| matches!(v.source, VolumeSource::HostPath { .. }));
    if let Some(volume) = host_path {
        return Some(format!("volume `{}` is a hostPath, used with your rights", volume.name));
    }
    containers.iter().find_map(|container| match &container.image {
        Image::Host => Some(format!("container `{}` uses this host's own root (`host:`)", container.name)),
        Image::Rootfs(dir) => {
            let owner = facts.rootfs.iter().find(|fact| fact.dir == *dir)?.owner?;
            (owner == facts.user.uid).then(|| format!("{} belongs to you", dir.display()))
        }
        // Its layers belong to the ids of whichever map they are unpacked for.
        Image::Stored(_) => None,
    })
}

fn single(facts: &Facts, why: String) -> IdMapPlan {
    let only = |id| vec![MapEntry { inside: ContainerId(0), outside: HostId(id), count: 1 }];
    IdMapPlan {
        mode: UsernsMode::Single,
        why,
        uids: only(facts.user.uid),
        gids: only(facts.user.gid),
        writer: MapWriter::Direct,
    }
}

/// The map of a pod that uses images and no files of yours: what layers are unpacked for before a pod asks.
///
/// # Errors
/// The mode that was chosen cannot be had on this host.
pub fn of_images(facts: &Facts, choice: UsernsChoice) -> Result<IdMapPlan, Report> {
    let wish = Wish { choice, asked_by: "--userns" };
    decide(facts, &wish, &[], &[]).map(|(idmap, _)| idmap)
}

/// The map with every id that a pod of this user can have: for removing files whose own map is not known any more.
#[must_use]
pub fn widest(facts: &Facts) -> IdMapPlan {
    let why = "the pod's own map is not known".to_owned();
    full(facts, UsernsMode::RootIsYou, why.clone()).unwrap_or_else(|_| single(facts, why))
}

/// What keeps this host from maps with more than one id; `None`: nothing does.
pub(super) fn full_map_lack(facts: &Facts) -> Option<Degradation> {
    full(facts, UsernsMode::RootIsYou, String::new()).err()
}

/// A map with subordinate ids, or what is missing for one. Uids and gids have different ranges and so different maps.
fn full(facts: &Facts, mode: UsernsMode, why: String) -> Result<IdMapPlan, Degradation> {
    let root = |id| (mode == UsernsMode::RootIsYou).then_some(HostId(id));
    let subuids = subordinate(facts, &facts.subuids, &facts.own_map.uids, facts.user.uid);
    let subgids = subordinate(facts, &facts.subgids, &facts.own_map.gids, facts.user.gid);
    let kinds = [(IdKind::Uid, &subuids), (IdKind::Gid, &subgids)];
    let lacking: Vec<_> = kinds.iter().filter(|(_, ranges)| ranges.is_empty()).map(|(kind, _)| *kind).collect();
    if !lacking.is_empty() {
        return Err(degradation::no_subids(facts, &lacking));
    }
    let writer = match (&facts.newuidmap, &facts.newgidmap) {
        _ if facts.may_write_maps && !facts.own_map.is_initial() => MapWriter::Privileged,
        (IdMapTool::Privileged(newuidmap), IdMapTool::Privileged(newgidmap)) => {
            MapWriter::Tools { newuidmap: newuidmap.clone(), newgidmap: newgidmap.clone() }
        }
        _ => return Err(degradation::no_newuidmap(facts)),
    };
    let uids = concatenate(root(facts.user.uid), &subuids);
    let gids = concatenate(root(facts.user.gid), &subgids);
    Ok(IdMapPlan { mode, why, uids, gids, writer })
}

/// The ids that the pod may have beside the caller's own. In a user namespace below the initial one a process that may write maps
/// needs no ranges: the ids of that namespace were given to it, as a container's are to the container. The low ones belong to
/// users of that container, so the highest ones are taken where there are enough.
fn subordinate(facts: &Facts, ranges: &[SubIdRange], own_map: &[MapLine], own: u32) -> Vec<SubIdRange> {
    if !ranges.is_empty() || !facts.may_write_maps || facts.own_map.is_initial() {
        return without(ranges, own);
    }
    let of_namespace = own_map.iter().map(|line| SubIdRange { start: line.inside, count: line.count });
    without(&highest(of_namespace.collect()), own)
}

/// As many as a pod takes, from the top, where there are twice as many; else all.
fn highest(mut ranges: Vec<SubIdRange>) -> Vec<SubIdRange> {
    let total: u64 = ranges.iter().map(|range| u64::from(range.count)).sum();
    if total < 2 * u64::from(MAX_IDS) {
        return ranges;
    }
    ranges.sort_by_key(|range| range.start);
    let mut wanted = MAX_IDS;
    let mut taken = Vec::new();
    for SubIdRange { start, count } in ranges.into_iter().rev() {
        let part = count.min(wanted);
        wanted -= part;
        if part > 0 {
            taken.push(SubIdRange { start: start + (count - part), count: part });
        }
    }
    taken.reverse();
    taken
}

/// The ranges without the caller's own id: were it in one, `root-is-you` would map it twice (EINVAL), and `isolated`
/// would let a process of the pod be the caller after all.
fn without(ranges: &[SubIdRange], own: u32) -> Vec<SubIdRange> {
    let split = |range: &SubIdRange| {
        let end = range.start.saturating_add(range.count);
        if own < range.start || own >= end {
            return [*range, SubIdRange { start: end, count: 0 }];
        }
        [
            SubIdRange { start: range.start, count: own - range.start },
            SubIdRange { start: own + 1, count: end - own - 1 },
        ]
    };
    ranges.iter().flat_map(split).filter(|range| range.count > 0).collect()
}

/// Inside ids follow each other without a gap, one line for each range, up to the kernel's and our own limit.
fn concatenate(root: Option<HostId>, ranges: &[SubIdRange]) -> Vec<MapEntry> {
    let root = root.map(|HostId(start)| SubIdRange { start, count: 1 });
    let mut next = 0;
    let mut entries = Vec::new();
    for range in root.iter().chain(ranges).take(MAX_LINES) {
        let count = range.count.min(MAX_IDS - next);
        if count == 0 {
            break;
        }
        entries.push(MapEntry { inside: ContainerId(next), outside: HostId(range.start), count });
        next += count;
    }
    entries
}
