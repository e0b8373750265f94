//! Where the writable layers of containers can be. An overlay in a user namespace needs an upper layer on a file system
//! that takes one; a home directory often is not on such a one: on overlayfs in every container, on NFS in a cluster.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::file_system::{is_memory, is_overlay, lacks};
use super::{Dir, HostRoot, LayerDir, LayerFacts, RootfsFact};
use crate::sys::private_dir::{self, Flaw};
use crate::sys::probe::{self, errno, may_fill};
use crate::sys::{Errno, overlay_trial};

/// A tmpfs that any process can look at, to learn what those of this kernel can.
const ANY_TMPFS: &str = "/dev/shm";
/// When tmpfs got user xattrs.
const TMPFS_ATTRIBUTES: (u32, u32) = (6, 6);

/// Nothing but the data directory is looked at where that will do.
pub(super) fn probe(data: &Dir, runtime: &Dir, shared: &Path, uid: u32, kernel: (u32, u32)) -> LayerFacts {
    let Some(why) = nearest(&data.path).and_then(lacks) else { return LayerFacts::default() };
    let mut elsewhere = vec![candidate(&runtime.path)];
    let of_ours = shared.join(format!("sandpod-{uid}"));
    if of_ours != runtime.path {
        elsewhere.push(candidate(&of_ours));
    }
    // What is on a disk does not take memory.
    elsewhere.sort_by_key(|dir| dir.in_memory);
    LayerFacts { data: Some(why), elsewhere, memory: memory(kernel) }
}

/// Why a tmpfs of the pod's own cannot hold layers.
fn memory(kernel: (u32, u32)) -> Option<String> {
    let there = Path::new(ANY_TMPFS);
    match probe::file_system(there) {
        Ok(found) if is_memory(found) => lacks(there),
        _ if kernel >= TMPFS_ATTRIBUTES => None,
        _ => Some("a tmpfs has no user xattrs before Linux 6.6".to_owned()),
    }
}

/// One of the directories that are sandpod's own (0700), or that sandpod could make.
fn candidate(base: &Path) -> LayerDir {
    let there = nearest(base).unwrap_or(base);
    let found = probe::file_system(there);
    let why_not = match &found {
        Err(error) => Some(error.to_string()),
        Ok(found) if found.no_exec => Some("it is mounted noexec".to_owned()),
        Ok(_) => unsafe_or_closed(base, there).or_else(|| lacks(there)),
    };
    LayerDir { path: base.to_owned(), in_memory: found.is_ok_and(is_memory), why_not }
}

fn unsafe_or_closed(base: &Path, there: &Path) -> Option<String> {
    if there != base {
        return may_fill(there).err().map(|error| error.to_string()).or_else(|| replaceable(there));
    }
    match private_dir::check_private(base) {
        Ok(None) => may_fill(base).err().map(|error| error.to_string()),
        Ok(Some(Flaw::Symlink)) => Some("it is a symbolic link".to_owned()),
        Ok(Some(Flaw::NotADirectory)) => Some("it is not a directory".to_owned()),
        Ok(Some(Flaw::ForeignOwner(uid))) => Some(format!("it belongs to uid {uid}, not to you")),
        Ok(Some(Flaw::OpenToOthers(mode))) => Some(format!("it is open to others (mode {mode:04o})")),
        Err(error) => Some(error.to_string()),
    }
}

/// Without the sticky bit, every user who may write to a directory can replace ours in it.
fn replaceable(parent: &Path) -> Option<String> {
    const STICKY: u32 = 0o1000;
    let mode = std::fs::metadata(parent).ok()?.mode();
    (mode & 0o022 != 0 && mode & STICKY == 0)
        .then(|| format!("others may write to {} (mode {:04o})", parent.display(), mode & 0o7777))
}

/// The innermost directory of a path that is there.
fn nearest(path: &Path) -> Option<&Path> {
    path.ancestors().find(|there| there.exists())
}

/// Finds the directories that are too deep in a stack of overlays to have another one over them. Only mounting one tells
/// how deep they are, so a process of its own does that, where there is an overlay at all.
pub(super) fn look_at_stacks(host_root: Option<&mut HostRoot>, root: &Path, rootfs: &mut [RootfsFact]) {
    let mut known: Vec<(u64, bool)> = Vec::new();
    let mut too_deep = |directory: PathBuf| {
        let Some(found) = probe::file_system(&directory).ok().filter(|found| is_overlay(*found)) else { return false };
        if let Some((_, known)) = known.iter().find(|(device, _)| *device == found.device) {
            return *known;
        }
        let refused = overlay_trial::refusal(&directory) == Some(Errno::from_raw(errno::EINVAL));
        known.push((found.device, refused));
        refused
    };
    for dir in host_root.into_iter().flat_map(|found| &mut found.dirs) {
        dir.too_deep = dir.mounts_below.is_empty() && too_deep(root.join(&dir.name));
    }
    for found in rootfs.iter_mut().filter(|found| found.owner.is_some()) {
        found.too_deep = found.mounts_below.is_empty() && too_deep(found.dir.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_directory_that_is_not_safely_ours_is_not_taken() {
        let dir = tempfile::tempdir().expect("tempdir");
        let at = |name: &str| dir.path().join(name);
        for (name, mode) in [("good", 0o700), ("open", 0o755), ("sticky", 0o1777), ("shared", 0o777)] {
            fs::create_dir(at(name)).expect("mkdir");
            fs::set_permissions(at(name), Permissions::from_mode(mode)).expect("chmod");
        }
        symlink("good", at("link")).expect("symlink");
        fs::write(at("file"), "").expect("write");
        let why = |path: &Path| unsafe_or_closed(path, nearest(path).expect("/"));
        for fine in ["good", "good/new", "sticky/new", "new"] {
            assert_eq!(why(&at(fine)), None, "{fine}");
        }
        for (name, reason) in [
            ("open", "open to others"),
            ("link", "symbolic link"),
            ("file", "not a directory"),
            ("shared/new", "others may write"),
        ] {
            let found = why(&at(name)).expect(name);
            assert!(found.contains(reason), "{name}: {found}");
        }
    }

    #[test]
    fn where_the_data_directory_will_do_nothing_else_is_looked_at() {
        let dir = tempfile::Builder::new().tempdir_in("/var/tmp").expect("tempdir");
        if lacks(dir.path()).is_some() {
            return;
        }
        let data = Dir { path: dir.path().join("not/yet/there"), fallback: None };
        let found = probe(&data, &Dir { path: "/nonexistent".into(), fallback: None }, Path::new("/"), 1, (6, 6));
        assert_eq!(found, LayerFacts::default());
    }
}
