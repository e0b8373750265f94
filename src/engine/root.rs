//! A container's `/` as detached mounts, built by the launcher as the pod's root id.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::copy::copy_tree;
use super::failure::{During, Failure, Result};
use super::layers;
use super::mirror::{self, HostTree, Lacking};
use super::mount_points::MountPoints;
use super::sources::{RootSource, Sources};
use super::tree;
use crate::plan::{ContainerPlan, FreshDir, HostTreeDir, LayerPlace, RootPlan};
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
    pub fn build(container: &ContainerPlan, sources: &Sources, place: &LayerPlace) -> Result<Root> {
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
        match (&container.root, &sources.root) {
            (RootPlan::HostTree { links, dirs, fresh }, RootSource::HostDirectories(opened)) => {
                let base = fresh_directory(store, "root")?;
                make_skeleton(base.as_fd(), links, fresh)?;
                let base = DetachedMount::copy_of_fd(base.as_fd(), Reach::ThisMount).during(STEP, "/")?;
                let layers = fresh_directory(store, "layers")?;
                let mut root = Root { base, layers: Vec::with_capacity(dirs.len()), works: Vec::new() };
                let lacking = if dirs.iter().all(|dir| dir.overlay) {
                    Vec::new()
                } else {
                    let dirs = dirs.iter().zip(opened).map(|(dir, lower)| (dir.name.as_str(), lower.as_fd())).collect();
                    points.lacking_in_host(&HostTree { links, dirs })?
                };
                for (dir, lower) in dirs.iter().zip(opened) {
                    if dir.overlay {
                        root.add_host_overlay(&points, dir, lower, &layers)?;
                    } else {
                        root.add_read_only(&points, dir, lower, &lacking)?;
                    }
                }
                Ok(root)
            }
            (RootPlan::Overlay { lower }, RootSource::Directory(opened)) => {
                let upper = fresh_directory(store, "upper")?;
                let work = fresh_directory(store, "work")?;
                let points = points.lacking_in(opened.as_fd(), Path::new("/"))?;
                let base = overlay(points.iter().chain([opened]), &upper, &work, lower)?;
                Ok(Root { base, layers: Vec::new(), works: vec![work] })
            }
            (RootPlan::Copy { source }, RootSource::Directory(opened)) => {
                let base = fresh_directory(store, "root")?;
                copy_tree(opened.as_fd(), base.as_fd())
                    .map_err(|error| Failure::new(STEP, source.display().to_string(), &error))?;
                let base = DetachedMount::copy_of_fd(base.as_fd(), Reach::ThisMount).during(STEP, "/")?;
                Ok(Root { base, layers: Vec::new(), works: Vec::new() })
            }
            (RootPlan::HostTree { .. }, RootSource::Directory(_)) | (_, RootSource::HostDirectories(_)) => {
                unreachable!("Sources::open makes the source of the same plan")
            }
        }
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
        let mounted = overlay(points.iter().chain([lower]), &upper, &work, &place)?;
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

/// `userxattr`: overlayfs in a user namespace keeps its marks in `user.overlay.*`, since `trusted.*` is for the host's
/// root. `volatile`: no sync of the whole disk when the container ends; the layer never outlives its container.
fn overlay<'a>(
    lowers: impl Iterator<Item = &'a OwnedFd>,
    upper: &OwnedFd,
    work: &OwnedFd,
    on: &Path,
) -> Result<DetachedMount> {
    // By descriptor: an id of an isolated map could not walk the path, and `:` in a name would split it.
    let lower = lowers.map(|lower| path::through_proc(lower.as_fd())).collect::<Vec<_>>().join(":");
    let (upper, work) = (path::through_proc(upper.as_fd()), path::through_proc(work.as_fd()));
    let options = [
        ("lowerdir", Some(lower.as_str())),
        ("upperdir", Some(upper.as_str())),
        ("workdir", Some(work.as_str())),
        ("userxattr", None),
        ("volatile", None),
    ];
    DetachedMount::create("overlay", &options, Attributes::NO_DEV).during(STEP, on.display())
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
