//! The unpacked layers of images, opened where they are in the store.
//!
//! A container with a writable hostPath above the store can put a link or a directory of its own into the place of a tree. So
//! no link is followed on the way from the store's directory down, each directory on it must be ours, and what is found must be
//! what was there when the pod began.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::sys::own_dir::OwnDir;
use crate::sys::tree::{LastingIdentity, lasting_identity};
use crate::sys::{Errno, Error, Result};

/// The trees of a pod as they were when it began. They are not held open: a pod may have hundreds.
#[derive(Debug, Default)]
pub(super) struct PinnedTrees(BTreeMap<PathBuf, LastingIdentity>);

impl PinnedTrees {
    pub(super) fn pin(paths: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<PinnedTrees> {
        let mut pinned = BTreeMap::new();
        let mut maps = Maps::default();
        for path in paths {
            let path = path.as_ref();
            if !pinned.contains_key(path) {
                pinned.insert(path.to_owned(), lasting_identity(maps.open(path)?.as_fd())?);
            }
        }
        Ok(PinnedTrees(pinned))
    }

    pub(super) fn open(&self, paths: &[PathBuf]) -> Result<Vec<OwnedFd>> {
        let mut maps = Maps::default();
        let opened = paths.iter().map(|path| {
            let tree = maps.open(path)?;
            if self.0.get(path) == Some(&lasting_identity(tree.as_fd())?) {
                return Ok(tree);
            }
            Err(Error { call: format!("{} was replaced since the pod started", path.display()), errno: Errno::ESTALE })
        });
        opened.collect()
    }
}

/// The directory of the id map, which the trees of one image have in common.
#[derive(Default)]
struct Maps(Option<OwnDir>);

impl Maps {
    /// Opens `…/sandpod/images/trees/MAP/DIFFID/tree`.
    fn open(&mut self, path: &Path) -> Result<OwnedFd> {
        let wrong =
            || Error { call: format!("{} is not a tree of the image store", path.display()), errno: Errno::EINVAL };
        let layer = path.parent().ok_or_else(wrong)?;
        let (map, diff_id) = layer.parent().zip(layer.file_name()).ok_or_else(wrong)?;
        if self.0.as_ref().is_none_or(|open| open.path() != map) {
            let (trees, key) = map.parent().zip(map.file_name()).ok_or_else(wrong)?;
            let (images, name) = trees.parent().zip(trees.file_name()).ok_or_else(wrong)?;
            self.0 = Some(OwnDir::in_store(images)?.below(name)?.below(key)?);
        }
        let map = self.0.as_ref().ok_or_else(wrong)?;
        map.below(diff_id)?.open_path(path.file_name().ok_or_else(wrong)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// (the temporary directory, the path of a layer's directory)
    fn store() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let layer = dir.path().join("sandpod/images/trees/map/layer");
        fs::create_dir_all(layer.join("tree")).expect("mkdir");
        fs::create_dir_all(dir.path().join("elsewhere/layer/tree")).expect("mkdir");
        (dir, layer)
    }

    #[test]
    fn what_is_in_the_place_of_a_tree_is_refused() {
        let (dir, layer) = store();
        let tree = layer.join("tree");
        let pinned = PinnedTrees::pin([&tree]).expect("pinned");
        assert_eq!(pinned.open(std::slice::from_ref(&tree)).expect("opened").len(), 1);

        fs::rename(&layer, dir.path().join("moved")).expect("rename");
        fs::rename(dir.path().join("elsewhere/layer"), &layer).expect("rename");
        let error = pinned.open(std::slice::from_ref(&tree)).expect_err("another tree");
        assert_eq!((error.errno, error.call.contains("was replaced")), (Errno::ESTALE, true), "{error}");

        fs::rename(&tree, layer.join("other")).expect("rename");
        fs::create_dir(&tree).expect("mkdir");
        assert_eq!(pinned.open(std::slice::from_ref(&tree)).expect_err("a new one").errno, Errno::ESTALE);
    }

    /// Also where it leads to the very tree.
    #[test]
    fn no_link_leads_to_a_tree() {
        let (dir, layer) = store();
        let tree = layer.join("tree");
        let pinned = PinnedTrees::pin([&tree]).expect("pinned");
        let moved = dir.path().join("moved");
        // The layer, the map, `trees`, `images`, `sandpod`.
        for place in layer.ancestors().take(5) {
            fs::rename(place, &moved).expect("rename");
            symlink(&moved, place).expect("symlink");
            let error = pinned.open(std::slice::from_ref(&tree)).expect_err("a link");
            assert!(matches!(error.errno, Errno::ELOOP | Errno::ENOTDIR), "{}: {error}", place.display());
            fs::remove_file(place).expect("unlink");
            fs::rename(&moved, place).expect("rename");
        }
        pinned.open(&[tree]).expect("what it was");
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_no_store() {
        use std::os::unix::fs::PermissionsExt;
        let (dir, layer) = store();
        fs::set_permissions(dir.path().join("sandpod"), fs::Permissions::from_mode(0o777)).expect("chmod");
        PinnedTrees::pin([layer.join("tree")]).expect_err("others may replace what is in it");
    }

    #[test]
    fn an_inode_number_that_is_given_again_is_another_tree() {
        let (_dir, layer) = store();
        let tree = layer.join("tree");
        let pinned = PinnedTrees::pin([&tree]).expect("pinned");
        // ext4 gives the number of the last removed directory to the next one.
        fs::remove_dir(&tree).expect("rmdir");
        fs::create_dir(&tree).expect("mkdir");
        pinned.open(&[tree]).expect_err("a new one");
    }
}
