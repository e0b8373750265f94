//! What no name and no pod refers to.
//!
//! Trees are not removed here: that takes a process inside their id map. They are taken out of the store, and handed over.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::{
    Digest, ImageStore, MapLines, RemovalLock, Result, StoredTree, TEMPORARY, TreeState, digest_of_name, list,
    remove_file,
};

/// What pods refer to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    pub manifests: BTreeSet<Digest>,
    /// Key of the map, and diffID.
    pub trees: BTreeSet<(String, Digest)>,
}

/// Which images go, of those that have no name and that no pod uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Nameless {
    #[default]
    All,
    These(BTreeSet<Digest>),
}

/// What goes beside the blobs and trees that no image and no pod needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Also {
    pub nameless: Nameless,
    /// Downloads that were interrupted: the next pull would go on from them.
    pub partial_blobs: bool,
    /// Blobs of layers that are unpacked for some map.
    pub layer_blobs: bool,
}

impl Also {
    fn keeps(&self, nameless: Digest) -> bool {
        match &self.nameless {
            Nameless::All => false,
            Nameless::These(images) => !images.contains(&nameless),
        }
    }
}

/// What was removed, and what is left to be removed by a process inside the id map.
#[derive(Debug, Default)]
pub struct Freed {
    /// Of blobs and records; those of trees are counted when they are removed.
    pub bytes: u64,
    pub images: Vec<Digest>,
    pub trees: Vec<RemovedTree>,
}

/// A directory that is not in the store any more.
#[derive(Debug)]
pub struct RemovedTree {
    pub parent: OwnedFd,
    pub name: OsString,
    /// `None`: its map is not known any more.
    pub map: Option<MapLines>,
    /// Of its files; 0 where it was not complete.
    pub bytes: u64,
}

impl ImageStore {
    /// Removes images that have no name and that no pod uses, and what no image and no pod needs.
    ///
    /// # Errors
    /// What the file system says. What is removed until then stays removed; nothing that is left is half there.
    pub fn collect(&self, _lock: &RemovalLock, used: &Used, also: &Also) -> Result<Freed> {
        let mut freed = Freed::default();
        self.remove_strays(&mut freed)?;
        let wanted: BTreeSet<Digest> =
            self.names()?.iter().map(|name| name.manifest).chain(used.manifests.iter().copied()).collect();
        let (mut blobs, mut diff_ids) = (BTreeSet::new(), BTreeSet::new());
        let mut layer_blobs = Vec::new();
        for name in list(self.manifests.as_fd(), "manifests")? {
            let image = match digest_of_name(&name) {
                Some(manifest) if wanted.contains(&manifest) || also.keeps(manifest) => self.image(manifest)?,
                _ => None,
            };
            let Some(image) = image else {
                // Its digest may not be one: then it is no image of ours.
                if let Some(manifest) = digest_of_name(&name) {
                    freed.bytes += self.remove_image(manifest)?;
                    freed.images.push(manifest);
                }
                continue;
            };
            blobs.extend([image.manifest, image.config_digest]);
            blobs.extend(image.layers.iter().map(|layer| layer.blob));
            diff_ids.extend(image.layers.iter().map(|layer| layer.diff_id).chain(image.chain_id()));
            layer_blobs.extend(image.layers);
        }
        let trees = self.trees()?;
        if also.layer_blobs {
            let unpacked: BTreeSet<Digest> = trees.iter().filter_map(complete).collect();
            for layer in layer_blobs.iter().filter(|layer| unpacked.contains(&layer.diff_id)) {
                blobs.remove(&layer.blob);
            }
        }
        for name in list(self.blobs.as_fd(), "blobs")? {
            if digest_of_name(&name).is_none_or(|digest| !blobs.contains(&digest)) {
                freed.bytes += remove_file(self.blobs.as_fd(), &name)?;
            }
        }
        for tree in trees {
            let keep = complete(&tree)
                .is_some_and(|id| diff_ids.contains(&id) || used.trees.contains(&(tree.map_key.clone(), id)));
            if !keep {
                freed.trees.push(self.take_out(&tree)?);
            }
        }
        if also.partial_blobs {
            freed.bytes += remove_all(self.partial.as_fd(), "partial", |_| true)?;
        }
        Ok(freed)
    }

    /// When the trees that were taken out are removed: directories of maps that have none any more.
    ///
    /// # Errors
    /// What the file system says.
    pub fn forget_empty_maps(&self, _lock: &RemovalLock) -> Result<()> {
        self.remove_empty_maps()
    }

    /// Files that a crash left under construction, and names that are damaged or whose image is.
    fn remove_strays(&self, freed: &mut Freed) -> Result<()> {
        for (directory, place) in
            [(&self.names, "names"), (&self.manifests, "manifests"), (&self.blobs, "blobs"), (&self.partial, "partial")]
        {
            let temporary = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with(TEMPORARY));
            freed.bytes += remove_all(directory.as_fd(), place, temporary)?;
        }
        for file in list(self.names.as_fd(), "names")? {
            let whole = match self.name_in(&file)? {
                Some(name) => self.image(name.manifest)?.is_some(),
                None => false,
            };
            if !whole {
                freed.bytes += remove_file(self.names.as_fd(), &file)?;
            }
        }
        Ok(())
    }
}

fn complete(tree: &StoredTree) -> Option<Digest> {
    match tree.state {
        TreeState::Complete(diff_id) => Some(diff_id),
        TreeState::Unfinished(_) | TreeState::Dead => None,
    }
}

fn remove_all(directory: BorrowedFd<'_>, place: &str, which: impl Fn(&OsString) -> bool) -> Result<u64> {
    let mut bytes = 0;
    for name in list(directory, place)?.iter().filter(|name| which(name)) {
        bytes += remove_file(directory, name)?;
    }
    Ok(bytes)
}
