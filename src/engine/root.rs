//! A container's `/` as detached mounts, built by the launcher as the pod's root id.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::copy::copy_tree;
use super::failure::{During, Failure, Result};
use super::mount_points::MountPoints;
use super::sources::{RootSource, Sources};
use super::tree;
use crate::plan::{ContainerPlan, FreshDir, HostTreeDir, RootPlan};
use crate::step::Step;
use crate::sys::mount::{Attributes, DetachedMount, Reach};
use crate::sys::path::{self, Missing};

/// Ready to be attached: `base` is `/`, `layers` go on top of directories of it.
#[derive(Debug)]
pub struct Root {
    pub base: DetachedMount,
    pub layers: Vec<(PathBuf, DetachedMount)>,
}

const STEP: Step = Step::BuildRoot;

impl Root {
    /// Every start gets a fresh writable layer, as a restarted container of a Pod does.
    pub fn build(container: &ContainerPlan, sources: &Sources) -> Result<Root> {
        let store = sources.store.as_fd();
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
                let built = dirs.iter().zip(opened).map(|(dir, lower)| host_layer(&points, dir, lower, &layers));
                Ok(Root { base, layers: built.collect::<Result<_>>()? })
            }
            (RootPlan::Overlay { lower }, RootSource::Directory(opened)) => {
                let upper = fresh_directory(store, "upper")?;
                let work = fresh_directory(store, "work")?;
                let points = points.lacking_in(opened.as_fd(), Path::new("/"))?;
                let base = overlay(points.iter().chain([opened]), &upper, &work, lower)?;
                Ok(Root { base, layers: Vec::new() })
            }
            (RootPlan::Copy { source }, RootSource::Directory(opened)) => {
                let base = fresh_directory(store, "root")?;
                copy_tree(opened.as_fd(), base.as_fd())
                    .map_err(|error| Failure::new(STEP, source.display().to_string(), &error))?;
                let base = DetachedMount::copy_of_fd(base.as_fd(), Reach::ThisMount).during(STEP, "/")?;
                Ok(Root { base, layers: Vec::new() })
            }
            (RootPlan::HostTree { .. }, RootSource::Directory(_)) | (_, RootSource::HostDirectories(_)) => {
                unreachable!("Sources::open makes the source of the same plan")
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

/// `/usr` and the like: copy-on-write, or read-only where the kernel refuses an overlay.
fn host_layer(
    points: &MountPoints<'_>,
    dir: &HostTreeDir,
    lower: &OwnedFd,
    layers: &OwnedFd,
) -> Result<(PathBuf, DetachedMount)> {
    let place = Path::new("/").join(&dir.name);
    if !dir.overlay {
        let copy = DetachedMount::copy_of_fd(lower.as_fd(), Reach::Recursive).during(STEP, place.display())?;
        copy.add(Attributes::READ_ONLY, Reach::Recursive).during(STEP, place.display())?;
        return Ok((place, copy));
    }
    let layer = fresh_directory(layers.as_fd(), &dir.name)?;
    let upper = fresh_directory(layer.as_fd(), "upper")?;
    let work = fresh_directory(layer.as_fd(), "work")?;
    let points = points.lacking_in(lower.as_fd(), &place)?;
    let mounted = overlay(points.iter().chain([lower]), &upper, &work, &place)?;
    Ok((place, mounted))
}
