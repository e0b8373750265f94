//! Where the writable layers of containers are, and what a host that has no good place for them means for a pod.

use std::path::{Path, PathBuf};

use super::degradation::{LAYERS_ELSEWHERE, LAYERS_IN_MEMORY, NO_OVERLAY, USR_READ_ONLY, list, named};
use super::{ContainerPlan, Degradation, LayerPlace, RootPlan, SandboxPlan, layer_dir};
use crate::host::{Facts, HostRootDir, LayerDir, LayerFacts, OverlaySupport};

#[cfg(test)]
mod tests;

/// Bytes: no machine gives more of its memory to what containers write, nor less where there is any.
const MOST_MEMORY: u64 = 4 << 30;
const LEAST_MEMORY: u64 = 64 << 20;
/// Of the memory that there is.
const SHARE: u64 = 4;
/// Bytes, where nothing says how much memory there is.
const UNKNOWN_MEMORY: u64 = 512 << 20;

const BETTER_PLACE: &str = "set XDG_DATA_HOME to a directory on a disk; in a container, to a volume of it";

/// The first of: the data directory, another directory of ours (on a disk before one in memory), a tmpfs of the pod's own.
/// `None`: nothing here can hold an upper layer.
pub(super) fn place(id: &str, facts: &Facts) -> Option<LayerPlace> {
    let LayerFacts { data, elsewhere, memory } = &facts.layers;
    if data.is_none() {
        return Some(LayerPlace::Data);
    }
    if let Some(LayerDir { path, .. }) = elsewhere.iter().find(|dir| dir.why_not.is_none()) {
        return Some(LayerPlace::Directory(layer_dir(path, id)));
    }
    memory.is_none().then(|| LayerPlace::Memory { size: size(facts) })
}

/// Whether overlays can be made here at all; whether one can be made over a certain directory is a fact about that.
pub(super) fn has_overlays(facts: &Facts) -> bool {
    facts.overlay == OverlaySupport::Native && place("", facts).is_some()
}

/// A part of the memory, or of what the cgroups around us allow of it.
fn size(facts: &Facts) -> u64 {
    let capacity = &facts.cgroup.capacity;
    let limits = capacity.ancestors.iter().filter_map(|ancestor| ancestor.memory_max);
    let memory = limits.chain(capacity.memory_total).min();
    // Whole MiB, so that `plan` can say it.
    memory.map_or(UNKNOWN_MEMORY, |bytes| (bytes / SHARE).clamp(LEAST_MEMORY, MOST_MEMORY) >> 20 << 20)
}

pub(super) fn degradations(sandbox: &SandboxPlan, containers: &[ContainerPlan], facts: &Facts) -> Vec<Degradation> {
    [elsewhere(sandbox, containers, facts), no_overlay(containers, facts), usr_read_only(containers, facts)]
        .into_iter()
        .flatten()
        .collect()
}

fn elsewhere(sandbox: &SandboxPlan, containers: &[ContainerPlan], facts: &Facts) -> Option<Degradation> {
    let why = facts.layers.data.as_ref().filter(|_| containers.iter().any(|container| container.root.has_overlay()))?;
    let data = facts.data_dir.path.display();
    match &sandbox.layers {
        LayerPlace::Data => None,
        LayerPlace::Directory(directory) => {
            let in_memory = facts.layers.elsewhere.iter().any(|dir| dir.in_memory && directory.starts_with(&dir.path));
            let memory = if in_memory { ", a tmpfs, where it takes memory" } else { "" };
            let meaning = format!(
                "{data} cannot hold what containers write outside of volumes ({why}): it goes to {}{memory}",
                directory.display()
            );
            Some(named(LAYERS_ELSEWHERE, meaning, BETTER_PLACE))
        }
        LayerPlace::Memory { size } => {
            let meaning = format!(
                "{data} cannot hold what containers write outside of volumes ({why}): it is kept in memory, at most {} \
                 MiB for the pod",
                size >> 20
            );
            Some(named(LAYERS_IN_MEMORY, meaning, BETTER_PLACE))
        }
    }
}

/// Why nothing can be an overlay, and the fix.
fn lack(facts: &Facts) -> Option<(String, String)> {
    if let OverlaySupport::Missing { why } = &facts.overlay {
        let fix = "load the module (sudo modprobe overlay), or use Linux 5.11 or later";
        return Some((format!("no overlayfs in user namespaces ({why})"), fix.to_owned()));
    }
    if has_overlays(facts) {
        return None;
    }
    let LayerFacts { data, elsewhere, memory } = &facts.layers;
    let of_dirs = elsewhere.iter().map(|LayerDir { path, in_memory: _, why_not }| (path.as_path(), why_not));
    let all = [(facts.data_dir.path.as_path(), data)].into_iter().chain(of_dirs).chain([(Path::new("memory"), memory)]);
    let reasons: Vec<_> =
        all.filter_map(|(path, why)| Some(format!("{}: {}", path.display(), why.as_ref()?))).collect();
    let why = format!("nothing here can hold the upper layer of an overlay ({})", reasons.join("; "));
    Some((why, format!("{BETTER_PLACE}; or use Linux 6.6 or later")))
}

fn no_overlay(containers: &[ContainerPlan], facts: &Facts) -> Option<Degradation> {
    let copied: Vec<_> = containers.iter().flat_map(|container| copy_sources(&container.root)).collect();
    let Some((why, fix)) = lack(facts) else {
        // Those that are copied are so for a reason of their own.
        let meaning = format!(
            "{} is copied whole at every start: it lies on an overlay over another one, and the kernel mounts no third",
            list(&copied)
        );
        let fix = "use a directory that is not on an overlay: a volume of the outer container";
        return (!copied.is_empty()).then(|| named(NO_OVERLAY, meaning, fix));
    };
    let mut effects = Vec::new();
    if !copied.is_empty() {
        effects.push(format!("{} is copied whole at every start", list(&copied)));
    }
    if containers.iter().any(|container| matches!(container.root, RootPlan::HostTree { .. })) {
        effects.push("the host's directories are read-only in `host:` containers".to_owned());
    }
    Some(named(NO_OVERLAY, format!("{why}: {}", effects.join("; ")), fix))
}

fn copy_sources(root: &RootPlan) -> &[PathBuf] {
    match root {
        RootPlan::Copy { sources } => sources,
        RootPlan::Overlay { .. } | RootPlan::HostTree { .. } => &[],
    }
}

/// With `no-overlay` all of them are read-only, and that name says so.
fn usr_read_only(containers: &[ContainerPlan], facts: &Facts) -> Option<Degradation> {
    let used = containers.iter().any(|container| matches!(container.root, RootPlan::HostTree { .. }));
    if !used || !has_overlays(facts) {
        return None;
    }
    let names = |dirs: &[&HostRootDir]| dirs.iter().map(|dir| format!("/{}", dir.name)).collect::<Vec<_>>().join(", ");
    let dirs = || facts.host_root.iter().flat_map(|root| &root.dirs);
    let covered: Vec<_> = dirs().filter(|dir| !dir.mounts_below.is_empty()).collect();
    let deep: Vec<_> = dirs().filter(|dir| dir.too_deep).collect();
    let mounts: Vec<_> = covered.iter().flat_map(|dir| &dir.mounts_below).collect();
    let (mut meanings, mut fixes) = (Vec::new(), Vec::new());
    if !covered.is_empty() {
        meanings.push(format!(
            "{} cannot be written in `host:` containers: the kernel refuses an overlay over {}, mounted below",
            names(&covered),
            list(&mounts)
        ));
        fixes.push(format!("unmount {}, or use a `rootfs:` directory", list(&mounts)));
    }
    if !deep.is_empty() {
        meanings.push(format!(
            "{} cannot be written in `host:` containers: this host's root is an overlay over another one, and the kernel \
             mounts no third",
            names(&deep)
        ));
        fixes.push("use a `rootfs:` directory that is not on an overlay".to_owned());
    }
    (!meanings.is_empty()).then(|| named(USR_READ_ONLY, meanings.join("; "), fixes.join("; ")))
}
