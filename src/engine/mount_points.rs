//! Mount points that a root file system lacks, as a lower layer of their own in the pod's tmpfs.
//!
//! Made through the mounted overlay they would cost a copy of every directory on the way, about a millisecond each, and
//! could not be made at all where that directory belongs to an id that the pod does not have: the host's `/etc`, or a
//! rootfs that root has unpacked. Made in the upper directory they would look like something that the container wrote.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use super::failure::{During, Failure, Result};
use super::mirror::{HostTree, Lacking};
use super::root::fresh_directory;
use super::sources::Sources;
use super::tree::remove_tree;
use crate::plan::ContainerPlan;
use crate::step::Step;
use crate::sys::path::{self, FileKind, Missing};
use crate::sys::{Errno, Error};

const STEP: Step = Step::BuildRoot;

/// In the pod's tmpfs, with a directory for each container.
pub(super) const DIRECTORY: &str = "points";

/// Where a container's mounts go.
pub(super) struct MountPoints<'a> {
    container: &'a str,
    /// Destination, and whether a file goes there. What lies on another mount is not in here.
    wanted: Vec<(&'a Path, Missing)>,
}

impl<'a> MountPoints<'a> {
    pub(super) fn of(container: &'a ContainerPlan, sources: &Sources<'_>) -> Result<MountPoints<'a>> {
        let mut wanted: Vec<(&Path, Missing)> = Vec::new();
        for (mount, source) in container.mounts.iter().zip(&sources.mounts) {
            let on = mount.destination.as_path();
            let kind = source.as_ref().map_or(Ok(FileKind::Directory), |source| path::file_kind(source.as_fd()));
            let missing = match kind.during(STEP, on.display())? {
                FileKind::Directory => Missing::MakeDirectory,
                _ => Missing::MakeFile,
            };
            if !wanted.iter().any(|(earlier, _)| on.starts_with(earlier)) {
                wanted.push((on, missing));
            }
        }
        Ok(MountPoints { container: &container.name, wanted })
    }

    /// A layer with those at or below `place` that `lower`, the directory to be shown there, does not have. `None`: it has
    /// them all. The current directory is the pod's tmpfs.
    pub(super) fn lacking_in(&self, lower: BorrowedFd<'_>, place: &Path) -> Result<Option<OwnedFd>> {
        let mut layer = None;
        for (destination, missing) in &self.wanted {
            let Ok(inside) = destination.strip_prefix(place) else { continue };
            let Some(Gap { parents, rest }) = gap(lower, inside).during(STEP, place.display())? else { continue };
            let layer = match &layer {
                Some(layer) => layer,
                None => layer.insert(self.fresh_layer(place)?),
            };
            let parent = like_in_lower(layer.as_fd(), &parents).during(STEP, destination.display())?;
            path::open_in_root(parent.as_fd(), &rest, *missing).during(STEP, destination.display())?;
        }
        Ok(layer)
    }

    /// Those that the read-only directories of the host do not have.
    pub(super) fn lacking_in_host(&self, tree: &HostTree<'_>) -> Result<Vec<Lacking>> {
        let mut all = Vec::new();
        for (destination, missing) in &self.wanted {
            all.extend(tree.lacking(destination, *missing).during(STEP, destination.display())?);
        }
        Ok(all)
    }

    /// An empty directory in the pod's tmpfs, for this container's `place`. The current directory is that tmpfs.
    pub(super) fn fresh_layer(&self, place: &Path) -> Result<OwnedFd> {
        let all = path::open_host_path(Path::new(DIRECTORY)).during(STEP, DIRECTORY)?;
        let of_container = fresh_directory(all.as_fd(), self.container)?;
        let name = place.file_name().unwrap_or(OsStr::new("root"));
        // From the container's last life.
        if let Some(error) = remove_tree(of_container.as_fd(), name).into_iter().next() {
            return Err(Failure::new(STEP, self.container, &error));
        }
        fresh_directory(of_container.as_fd(), &name.to_string_lossy())
    }
}

/// A path that `lower` does not have.
struct Gap<'a> {
    /// The directories on the way that it has.
    parents: Vec<(&'a OsStr, OwnedFd)>,
    /// What is left of the path.
    rest: PathBuf,
}

/// `None` when there is something at this path. A link is something: it is followed, inside the container, when the mount
/// is attached; a directory made over it would hide it, and all behind it.
///
/// # Errors
/// EACCES where `lower` itself is closed to the pod's root, through an overlay as well.
fn gap<'a>(lower: BorrowedFd<'_>, inside: &'a Path) -> crate::sys::Result<Option<Gap<'a>>> {
    let mut parents: Vec<(&OsStr, OwnedFd)> = Vec::new();
    let mut ahead = inside.components();
    loop {
        let rest = ahead.as_path();
        let Some(name) = ahead.next().map(Component::as_os_str) else { return Ok(None) };
        let here = parents.last().map_or(lower, |(_, fd)| fd.as_fd());
        match path::open_below(here, Path::new(name)) {
            Err(closed @ Error { errno: Errno::EACCES, .. }) if parents.is_empty() => return Err(closed),
            Err(_) => return Ok(Some(Gap { parents, rest: rest.to_owned() })),
            Ok(found) => match path::file_kind(found.as_fd()) {
                Ok(FileKind::Directory) => parents.push((name, found)),
                _ => return Ok(None),
            },
        }
    }
}

/// The innermost of these directories, in `layer`. Of merged directories the overlay shows the mode and owner of the topmost,
/// so they are copied; an owner whom the pod does not have becomes its root.
fn like_in_lower(layer: BorrowedFd<'_>, parents: &[(&OsStr, OwnedFd)]) -> crate::sys::Result<OwnedFd> {
    let mut here = path::open_below(layer, Path::new("."))?;
    for (name, lower) in parents {
        here = directory_like(lower.as_fd(), here.as_fd(), Path::new(name))?;
    }
    Ok(here)
}

/// A directory `name` in `at` with the owner and mode of `model`. One that is there already stays as it is.
pub(super) fn directory_like(model: BorrowedFd<'_>, at: BorrowedFd<'_>, name: &Path) -> crate::sys::Result<OwnedFd> {
    let is_new = path::make_new_directory(at, name)?;
    let made = path::open_below(at, name)?;
    if is_new {
        path::copy_owner_and_mode(model, made.as_fd())?;
    }
    Ok(made)
}
