//! Mount points that a read-only directory of the host lacks.
//!
//! Where no overlay can be made over /etc, say, the container gets a directory of the pod's tmpfs instead, with a bind of
//! each entry of the host's /etc and the mount points that /etc lacks. Only directories on the way to such a mount point are
//! made anew; all others are bound whole. Everything of the host is opened by descriptor and bound read-only.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use super::failure::{During, Failure, Result};
use super::mount_points::directory_like;
use crate::step::Step;
use crate::sys::mount::{Attributes, DetachedMount, Reach};
use crate::sys::path::{self, FileKind, Missing};
use crate::sys::{self, Errno, Error, tree};

#[cfg(test)]
mod tests;

const STEP: Step = Step::BuildRoot;
/// Each is a mount in the container's mount namespace and, until that is made, a descriptor. A directory of programs has
/// two or three thousand entries; fs.mount-max is 100,000.
const MOST_ENTRIES: usize = 8192;
/// As many symbolic links as the kernel follows (path_resolution(7)).
const MAX_SYMLINKS: usize = 40;

/// What a `host:` container has of the host's root directory: links, and directories by name with their descriptors.
pub(super) struct HostTree<'a> {
    pub(super) links: &'a [(String, PathBuf)],
    pub(super) dirs: Vec<(&'a str, BorrowedFd<'a>)>,
}

/// A mount point that is not there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lacking {
    /// The name of the host's directory in which it is lacking.
    pub(super) dir: String,
    /// Below `dir`: the directories on the way that are there.
    parents: PathBuf,
    /// What is left of the path.
    rest: PathBuf,
    missing: Missing,
}

impl HostTree<'_> {
    /// `None`: `destination` is there, or it leads to a directory that is not the host's.
    ///
    /// The path is walked as `sys/root_walk.rs` walks it when the mount is attached: links are followed inside this tree.
    pub(super) fn lacking(&self, destination: &Path, missing: Missing) -> sys::Result<Option<Lacking>> {
        let mut ahead = components(destination);
        let mut parents: Vec<(OsString, OwnedFd)> = Vec::new();
        let mut top: Option<(&str, BorrowedFd<'_>)> = None;
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            let Some((dir, lower)) = top else {
                if let Some((_, target)) = self.links.iter().find(|(link, _)| name == link.as_str()) {
                    links += 1;
                    ahead.extend(components(target));
                } else if name != ".." {
                    let Some(found) = self.dirs.iter().find(|(dir, _)| name == *dir) else { return Ok(None) };
                    top = Some(*found);
                }
                if links > MAX_SYMLINKS {
                    return Ok(None);
                }
                continue;
            };
            if name == ".." {
                if parents.pop().is_none() {
                    top = None;
                }
                continue;
            }
            let here = parents.last().map_or(lower, |(_, fd)| fd.as_fd());
            let found = match path::open_below(here, Path::new(&name)) {
                Err(Error { errno: Errno::ENOENT, .. }) => {
                    ahead.push(name);
                    let rest: PathBuf = ahead.iter().rev().collect();
                    let parents = parents.iter().map(|(name, _)| name).collect();
                    // `missing/..` is an error when the mount is attached.
                    let leads_back = rest.components().any(|part| part == Component::ParentDir);
                    return Ok((!leads_back).then(|| Lacking { dir: dir.to_owned(), parents, rest, missing }));
                }
                other => other?,
            };
            match path::file_kind(found.as_fd())? {
                FileKind::Directory => parents.push((name, found)),
                FileKind::Symlink => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Ok(None);
                    }
                    let target = path::link_target(found.as_fd())?;
                    if target.is_absolute() {
                        top = None;
                        parents.clear();
                    }
                    ahead.extend(components(&target));
                }
                _ => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// The next one last.
fn components(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.rev().map(|part| part.as_os_str().to_owned()).collect()
}

/// The read-only mounts, in order, that show `lower` at `place`, with what is `lacking` in it. `skeleton` is an empty
/// directory of the pod's tmpfs.
pub(super) fn mirror(
    place: &Path,
    lower: BorrowedFd<'_>,
    lacking: &[&Lacking],
    skeleton: BorrowedFd<'_>,
) -> Result<Vec<(PathBuf, DetachedMount)>> {
    let deep: BTreeSet<&Path> = lacking.iter().flat_map(|lack| lack.parents.ancestors()).collect();
    path::copy_owner_and_mode(lower, skeleton).during(STEP, place.display())?;
    let base = DetachedMount::copy_of_fd(skeleton, Reach::ThisMount).during(STEP, place.display())?;
    base.add(Attributes::READ_ONLY, Reach::ThisMount).during(STEP, place.display())?;
    let mut mounts = vec![(place.to_owned(), base)];
    let again = |fd: BorrowedFd<'_>| path::open_below(fd, Path::new(".")).during(STEP, place.display());
    let mut ahead = vec![(PathBuf::new(), again(lower)?, again(skeleton)?)];
    while let Some((inside, from, to)) = ahead.pop() {
        let here = place.join(&inside);
        for name in names(from.as_fd(), &here)? {
            let (inside, shown) = (inside.join(&name), here.join(&name));
            let name = Path::new(&name);
            let entry = match path::open_below(from.as_fd(), name) {
                // Removed since it was listed.
                Err(Error { errno: Errno::ENOENT, .. }) => continue,
                other => other.during(STEP, shown.display())?,
            };
            match path::file_kind(entry.as_fd()).during(STEP, shown.display())? {
                FileKind::Directory if deep.contains(inside.as_path()) => {
                    let made = directory_like(entry.as_fd(), to.as_fd(), name).during(STEP, shown.display())?;
                    ahead.push((inside, entry, made));
                }
                FileKind::Symlink => {
                    let target = path::link_target(entry.as_fd()).during(STEP, shown.display())?;
                    path::make_symlink(&target, to.as_fd(), name).during(STEP, shown.display())?;
                }
                kind => {
                    let made = match kind {
                        FileKind::Directory => path::make_directory(to.as_fd(), name, 0o755),
                        _ => path::make_file(to.as_fd(), name),
                    };
                    made.during(STEP, shown.display())?;
                    let bound =
                        DetachedMount::copy_of_fd(entry.as_fd(), Reach::Recursive).during(STEP, shown.display())?;
                    bound.add(Attributes::READ_ONLY, Reach::Recursive).during(STEP, shown.display())?;
                    mounts.push((shown, bound));
                }
            }
        }
    }
    for lack in lacking {
        let inside = lack.parents.join(&lack.rest);
        path::open_in_root(skeleton, &inside, lack.missing).during(STEP, place.join(&inside).display())?;
    }
    Ok(mounts)
}

fn names(directory: BorrowedFd<'_>, shown: &Path) -> Result<Vec<OsString>> {
    let mut names = Vec::new();
    tree::for_each_entry(directory, |name, _| {
        names.push(name);
        names.len() <= MOST_ENTRIES
    })
    .during(STEP, shown.display())?;
    if names.len() > MOST_ENTRIES {
        let why = format!(
            "it cannot be written, lacks a mount point, and has more than {MOST_ENTRIES} entries to be shown beside that: \
             make the mount point on the host (`sudo mkdir` or `sudo touch`), or mount elsewhere"
        );
        return Err(Failure::because(STEP, shown.display().to_string(), why));
    }
    Ok(names)
}
