//! A container's `/` as detached mounts, built by the launcher as the pod's root id.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::copy::copy_layers;
use super::failure::{During, Failure, Result};
use super::layers;
use super::mirror::{self, HostTree, Lacking};
use super::mount_points::MountPoints;
use super::overlay::{StackedLayers, overlay};
use super::sources::{RootSource, Sources};
use super::tree;
use crate::plan::{ContainerPlan, FreshDir, HostTreeDir, LayerPlace};
use crate::step::Step;
use crate::sys::mount::{Attributes, DetachedMount, Reach};
use crate::sys::path::{self, Missing};
use crate::sys::tree::{remove_directory, unlink};

/// Ready to be attached: `base` is `/`, `layers` go on top of directories of it.
#[derive(Debug)]
pub struct Root {
    pub base: DetachedMount,
    pub layers: Vec<(PathBuf, DetachedMount)>,
    /// The work directories of its overlays.
    works: Vec<OwnedFd>,
}

const STEP: Step = Step::BuildRoot;

impl Root {
    /// Every start gets a fresh writable layer, as a restarted container of a Pod does.
    pub fn build(container: &ContainerPlan, sources: &Sources<'_>, place: &LayerPlace) -> Result<Root> {
        let of_container = match place {
            LayerPlace::Data | LayerPlace::Directory(_) => None,
            LayerPlace::Memory { .. } => Some(layers::of_container(sources.store.as_fd(), &container.name)?),
        };
        let store = of_container.as_ref().unwrap_or(&sources.store).as_fd();
        for old in ["upper", "work", "root", "layers"] {
            if let Some(error) = tree::remove_tree(store, old.as_ref()).into_iter().next() {
                return Err(Failure::new(STEP, &container.name, &error));
            }
        }
        let points = MountPoints::of(container, sources)?;
        match &sources.root {
            RootSource::HostTree { links, dirs, fresh } => Root::host_tree(store, &points, links, dirs, fresh),
            RootSource::Overlay(lowers) => {
                let layers = StackedLayers::new(store, lowers)?;
                let upper = fresh_directory(store, "upper")?;
                let work = fresh_directory(store, "work")?;
                let points = points.lacking_in(layers.merged()?.as_fd(), Path::new("/"))?;
                let base = overlay(points.iter().map(AsFd::as_fd).chain(layers.each()), &upper, &work, Path::new("/"))?;
                Ok(Root { base, layers: Vec::new(), works: vec![work] })
            }
            RootSource::Copy(sources) => {
                let base = fresh_directory(store, "root")?;
                copy_layers(sources, base.as_fd())?;
                let base = DetachedMount::copy_of_fd(base.as_fd(), Reach::ThisMount).during(STEP, "/")?;
                Ok(Root { base, layers: Vec::new(), works: Vec::new() })
            }
        }
    }

    /// Directories of the host in a new one.
    fn host_tree(
        store: BorrowedFd<'_>,
        points: &MountPoints<'_>,
        links: &[(String, PathBuf)],
        opened: &[(&HostTreeDir, OwnedFd)],
        fresh: &[FreshDir],
    ) -> Result<Root> {
        let base = fresh_directory(store, "root")?;
        make_skeleton(base.as_fd(), links, fresh)?;
        let base = DetachedMount::copy_of_fd(base.as_fd(), Reach::ThisMount).during(STEP, "/")?;
        let layers = fresh_directory(store, "layers")?;
        let mut root = Root { base, layers: Vec::with_capacity(opened.len()), works: Vec::new() };
        let lacking = if opened.iter().all(|(dir, _)| dir.overlay) {
            Vec::new()
        } else {
            let dirs = opened.iter().map(|(dir, lower)| (dir.name.as_str(), lower.as_fd())).collect();
            points.lacking_in_host(&HostTree { links, dirs })?
        };
        for (dir, lower) in opened {
            if dir.overlay {
                root.add_host_overlay(points, dir, lower, &layers)?;
            } else {
                root.add_read_only(points, dir, lower, &lacking)?;
            }
        }
        Ok(root)
    }

    /// `/usr` and the like where the kernel refuses an overlay.
    fn add_read_only(
        &mut self,
        points: &MountPoints<'_>,
        dir: &HostTreeDir,
        lower: &OwnedFd,
        lacking: &[Lacking],
    ) -> Result<()> {
        let place = Path::new("/").join(&dir.name);
        let lacking: Vec<_> = lacking.iter().filter(|lack| lack.dir == dir.name).collect();
        if lacking.is_empty() {
            let copy = DetachedMount::copy_of_fd(lower.as_fd(), Reach::Recursive).during(STEP, place.display())?;
            copy.add(Attributes::READ_ONLY, Reach::Recursive).during(STEP, place.display())?;
            self.layers.push((place, copy));
        } else {
            let skeleton = points.fresh_layer(&place)?;
            self.layers.extend(mirror::mirror(&place, lower.as_fd(), &lacking, skeleton.as_fd())?);
        }
        Ok(())
    }

    /// `/usr` and the like: copy-on-write.
    fn add_host_overlay(
        &mut self,
        points: &MountPoints<'_>,
        dir: &HostTreeDir,
        lower: &OwnedFd,
        layers: &OwnedFd,
    ) -> Result<()> {
        let place = Path::new("/").join(&dir.name);
        let layer = fresh_directory(layers.as_fd(), &dir.name)?;
        let upper = fresh_directory(layer.as_fd(), "upper")?;
        let work = fresh_directory(layer.as_fd(), "work")?;
        let points = points.lacking_in(lower.as_fd(), &place)?;
        let mounted = overlay(points.iter().chain([lower]).map(AsFd::as_fd), &upper, &work, &place)?;
        self.layers.push((place, mounted));
        self.works.push(work);
        Ok(())
    }

    /// Removes what `volatile` leaves on disk so that nobody mounts the layer again after a crash (kernel,
    /// filesystems/overlayfs.rst, "Volatile mount"). Nobody does: each start has a fresh one. Three files less for whoever
    /// removes the pod, by one who is not waited for; those that stay go with the layer.
    pub fn remove_volatile_marks(&self) {
        for work in &self.works {
            let _ = unlink(work.as_fd(), "work/incompat/volatile/dirty".as_ref());
            for directory in ["work/incompat/volatile", "work/incompat"] {
                let _ = remove_directory(work.as_fd(), directory.as_ref());
            }
        }
    }
}

/// A new directory of the pod's root id.
pub(super) fn fresh_directory(at: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
    path::make_directory(at, Path::new(name), 0o755).during(STEP, name)?;
    path::open_in_root(at, Path::new(name), Missing::Fail).during(STEP, name)
}

/// Links, mount points and empty directories of a `host:` root.
fn make_skeleton(root: BorrowedFd<'_>, links: &[(String, PathBuf)], fresh: &[FreshDir]) -> Result<()> {
    for dir in fresh {
        let made = path::open_in_root(root, &dir.path, Missing::MakeDirectory).during(STEP, dir.path.display())?;
        path::change_mode(made.as_fd(), dir.mode).during(STEP, dir.path.display())?;
    }
    for (name, target) in links {
        path::make_symlink(target, root, Path::new(name)).during(STEP, name)?;
    }
    Ok(())
}
