//! What a container sees, mounted by its first process in its own mount namespace. `plan/mounts.rs` decides, in order.
//!
//! The old tree stays in place until all is mounted: the kernel only gives a new procfs or sysfs to who can already see a
//! whole one (`mount_too_revealing`, fs/namespace.c).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use super::failure::{During, Result};
use super::root::Root;
use super::sandbox::ROOT_MOUNT_POINT;
use super::sources::Sources;
use crate::plan::{ContainerPlan, MountKind};
use crate::step::Step;
use crate::sys::mount::{self, Attributes, DetachedMount, Reach};
use crate::sys::path::{self, FileKind, Missing};
use crate::sys::{Errno, Error};

const STEP: Step = Step::MountFilesystems;
/// For what holds neither programs nor devices.
const QUIET: Attributes = Attributes::NO_SUID.and(Attributes::NO_DEV).and(Attributes::NO_EXEC);

/// Attaches the root and everything below it. Ends with the root as current directory, ready to be pivoted to.
pub fn mount_all(container: &ContainerPlan, sources: &Sources, root: &Root) -> Result<()> {
    let place = path::open_host_path(Path::new(ROOT_MOUNT_POINT)).during(STEP, "/")?;
    root.base.attach(place.as_fd(), Path::new("/")).during(STEP, "/")?;
    path::enter_directory(root.base.as_fd()).during(STEP, "/")?;
    let inside = root.base.as_fd();
    for (destination, layer) in &root.layers {
        attach(inside, destination, layer)?;
    }
    for (mount, source) in container.mounts.iter().zip(&sources.mounts) {
        mount_one(inside, &mount.destination, &mount.kind, source.as_ref(), mount.read_only, sources)?;
    }
    hide(inside, &container.masked_paths, &container.read_only_paths)?;
    if container.read_only_root {
        let roots = std::iter::once(&root.base).chain(root.layers.iter().map(|(_, layer)| layer));
        for mounted in roots {
            mount::set_attributes(mounted.as_fd(), Attributes::READ_ONLY, Reach::ThisMount).during(STEP, "/")?;
        }
    }
    Ok(())
}

fn mount_one(
    root: BorrowedFd<'_>,
    destination: &Path,
    kind: &MountKind,
    source: Option<&DetachedMount>,
    read_only: bool,
    sources: &Sources,
) -> Result<()> {
    let limits = if read_only { QUIET | Attributes::READ_ONLY } else { QUIET };
    let create = |kind: &str, options: &[(&str, Option<&str>)], attributes| {
        DetachedMount::create(kind, options, attributes).during(STEP, destination.display())
    };
    if let Some(source) = source {
        return attach(root, destination, source);
    }
    match kind {
        MountKind::Proc => attach(root, destination, &create("proc", &[], limits)?),
        MountKind::Cgroup2 => attach(root, destination, &create("cgroup2", &[], limits)?),
        MountKind::Sysfs => attach(root, destination, &create("sysfs", &[], limits)?),
        MountKind::Mqueue => attach(root, destination, &create("mqueue", &[], limits)?),
        MountKind::Dev => {
            let options = [("mode", Some("0755")), ("size", Some("64k"))];
            let dev = create("tmpfs", &options, Attributes::NO_SUID | Attributes::NO_EXEC)?;
            attach(root, destination, &dev)?;
            fill_dev(dev.as_fd(), sources)
        }
        MountKind::DevPts => {
            // No gid=5 (tty): that group need not exist in the map. The slave is given to the container's user instead.
            let options = [("ptmxmode", Some("0666")), ("mode", Some("0620"))];
            attach(root, destination, &create("devpts", &options, Attributes::NO_SUID | Attributes::NO_EXEC)?)
        }
        MountKind::Tmpfs { mode, size } => {
            let (mode, size) = (format!("{mode:o}"), size.map(|bytes| bytes.to_string()));
            let mut options = vec![("mode", Some(mode.as_str()))];
            options.extend(size.as_deref().map(|size| ("size", Some(size))));
            let read_only = if read_only { Attributes::READ_ONLY } else { Attributes::NONE };
            attach(root, destination, &create("tmpfs", &options, Attributes::NO_SUID | Attributes::NO_DEV | read_only)?)
        }
        MountKind::ProcBind
        | MountKind::SysBind
        | MountKind::MqueueBind
        | MountKind::PodTmpfs { .. }
        | MountKind::DiskVolume { .. }
        | MountKind::HostPath { .. } => {
            unreachable!("Sources::open opens every mount that has a source")
        }
    }
}

/// Puts a mount at a path of the container, which is made if it is not there.
fn attach(root: BorrowedFd<'_>, destination: &Path, mounted: &DetachedMount) -> Result<()> {
    let on = destination.display();
    let kind = path::file_kind(mounted.as_fd()).during(STEP, &on)?;
    let missing = if kind == FileKind::Directory { Missing::MakeDirectory } else { Missing::MakeFile };
    let target = path::open_in_root(root, destination, missing).during(STEP, &on)?;
    mounted.attach(target.as_fd(), destination).during(STEP, &on)
}

/// Device nodes and the links that programs expect (the kernel's devices.rst, "recommended links").
fn fill_dev(dev: BorrowedFd<'_>, sources: &Sources) -> Result<()> {
    for (name, device) in &sources.devices {
        path::make_file(dev, Path::new(name)).during(STEP, format_args!("/dev/{name}"))?;
        attach(dev, Path::new(name), device)?;
    }
    let links = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
        ("core", "/proc/kcore"),
    ];
    for (name, target) in links {
        path::make_symlink(Path::new(target), dev, Path::new(name)).during(STEP, format_args!("/dev/{name}"))?;
    }
    Ok(())
}

/// Masked paths show nothing, read-only ones cannot be written. What a kernel does not have needs no hiding.
fn hide(root: BorrowedFd<'_>, masked: &[PathBuf], read_only: &[PathBuf]) -> Result<()> {
    let null = path::open_in_root(root, Path::new("/dev/null"), Missing::Fail).during(STEP, "/dev/null")?;
    let mut empty: Option<DetachedMount> = None;
    for target in masked {
        let Some(found) = find(root, target)? else { continue };
        let cover = match (path::file_kind(found.as_fd()).during(STEP, target.display())?, &empty) {
            // One empty directory covers them all. It can be copied once it has a place in the tree (Linux before 6.15).
            (FileKind::Directory, Some(first)) => DetachedMount::copy_of_fd(first.as_fd(), Reach::ThisMount),
            (FileKind::Directory, None) => {
                DetachedMount::create("tmpfs", &[("size", Some("4k"))], Attributes::READ_ONLY | QUIET)
            }
            _ => DetachedMount::copy_of_fd(null.as_fd(), Reach::ThisMount),
        };
        let cover = cover.during(STEP, target.display())?;
        cover.attach(found.as_fd(), target).during(STEP, target.display())?;
        if path::file_kind(cover.as_fd()).during(STEP, target.display())? == FileKind::Directory {
            empty.get_or_insert(cover);
        }
    }
    for target in read_only {
        let Some(found) = find(root, target)? else { continue };
        let copy = DetachedMount::copy_of_fd(found.as_fd(), Reach::Recursive).during(STEP, target.display())?;
        copy.add(Attributes::READ_ONLY | QUIET, Reach::Recursive).during(STEP, target.display())?;
        copy.attach(found.as_fd(), target).during(STEP, target.display())?;
    }
    Ok(())
}

/// `None` when there is no such path.
fn find(root: BorrowedFd<'_>, target: &Path) -> Result<Option<std::os::fd::OwnedFd>> {
    match path::open_in_root(root, target, Missing::Fail) {
        Ok(found) => Ok(Some(found)),
        Err(Error { errno: Errno::ENOENT | Errno::ENOTDIR, .. }) => Ok(None),
        Err(error) => Err(error).during(STEP, target.display()),
    }
}
