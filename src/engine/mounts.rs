//! What a container sees, mounted by its first process in its own mount namespace. `plan/mounts.rs` decides, in order.
//!
//! The old tree stays in place until all is mounted: the kernel only gives a new procfs or sysfs to who can already see a
//! whole one (`mount_too_revealing`, fs/namespace.c).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::failure::{During, Failure, Result};
use super::root::Root;
use super::sandbox::ROOT_MOUNT_POINT;
use super::sources::Sources;
use crate::plan::{ContainerPlan, MountKind};
use crate::step::Step;
use crate::sys::mount::{self, Attributes, DetachedMount, KernelFileSystem, MountId, Reach};
use crate::sys::path::{self, FileKind, Missing, Within};
use crate::sys::{Errno, Error, stdio};

const STEP: Step = Step::MountFilesystems;
/// For what holds neither programs nor devices.
const QUIET: Attributes = Attributes::NO_SUID.and(Attributes::NO_DEV).and(Attributes::NO_EXEC);

/// Attaches the root and everything below it. Ends with the root as current directory, ready to be pivoted to, and gives the
/// container's /dev/null.
pub fn mount_all(container: &ContainerPlan, sources: &Sources<'_>, root: &Root) -> Result<OwnedFd> {
    let place = path::open_host_path(Path::new(ROOT_MOUNT_POINT)).during(STEP, "/")?;
    root.base.attach(place.as_fd(), Path::new("/")).during(STEP, "/")?;
    path::enter_directory(root.base.as_fd()).during(STEP, "/")?;
    let mut inside = Inside { root: root.base.as_fd(), ours: Vec::new() };
    for (destination, layer) in &root.layers {
        inside.attach(destination, layer)?;
    }
    let mut image_volumes = image_volumes(container, root)?.into_iter();
    let mut null = None;
    for (mount, source) in container.mounts.iter().zip(&sources.mounts) {
        if let Some(source) = source {
            inside.attach(&mount.destination, source)?;
            if matches!(mount.kind, MountKind::TerminationMessage { .. } | MountKind::ImageFiles { .. }) {
                // A message is read, and Kubernetes mounts volumes of images noexec (KEP-4639). Also where the root is read-only, it is no place to execute something from.
                source.add(QUIET, Reach::ThisMount).during(STEP, mount.destination.display())?;
            }
            continue;
        }
        let mounted = match mount.kind {
            MountKind::ImageVolume => image_volumes.next(),
            _ => Some(create(&mount.kind, &mount.destination, mount.read_only)?),
        };
        let Some(mounted) = mounted else { continue };
        inside.attach(&mount.destination, &mounted)?;
        if mount.kind == MountKind::Dev {
            null = Some(fill_dev(mounted.as_fd(), sources)?);
        }
    }
    inside.check(Path::new("/proc"), KernelFileSystem::Proc)?;
    inside.check(Path::new("/sys"), KernelFileSystem::Sysfs)?;
    if container.process.no_new_privs {
        // A second wall: set-user-id programs and file capabilities count only where allowPrivilegeEscalation is true.
        mount::set_attributes(inside.root, Attributes::NO_SUID, Reach::Recursive).during(STEP, "/")?;
    }
    hide(inside.root, sources, &container.masked_paths, &container.read_only_paths)?;
    if container.read_only_root {
        let roots = std::iter::once(&root.base).chain(root.layers.iter().map(|(_, layer)| layer));
        for mounted in roots {
            mount::set_attributes(mounted.as_fd(), Attributes::READ_ONLY, Reach::ThisMount).during(STEP, "/")?;
        }
    }
    null.ok_or_else(|| Failure::because(STEP, "/dev", "the plan has no /dev"))
}

/// What the kernel's own file systems are mounted below. A volume may only be there by its own path.
const RESERVED: [&str; 3] = ["/proc", "/sys", "/dev"];

/// The root file system of a container, whose content is not trusted, while mounts are put into it.
struct Inside<'a> {
    root: BorrowedFd<'a>,
    /// The mounts below [`RESERVED`] so far.
    ours: Vec<MountId>,
}

impl Inside<'_> {
    /// Puts a mount at a path of the container, which is made if it is not there.
    ///
    /// The mounts of /proc, /sys and /dev, and what the manifest puts below /dev by name, follow no symlink; all other paths
    /// lead anywhere but there. Else a link `/data -> /proc` in the root and a volume at /data would take the masks away
    /// (CVE-2019-16884, CVE-2019-19921).
    fn attach(&mut self, destination: &Path, mounted: &DetachedMount) -> Result<()> {
        let on = destination.display();
        let kind = path::file_kind(mounted.as_fd()).during(STEP, &on)?;
        let missing = if kind == FileKind::Directory { Missing::MakeDirectory } else { Missing::MakeFile };
        let reserved = RESERVED.iter().any(|reserved| destination.starts_with(reserved));
        let within = if reserved { Within::ItsOwnNames } else { Within::ApartFrom(&self.ours) };
        let target = path::open_in_root_within(self.root, destination, missing, within)
            .map_err(|error| misled(destination, reserved, &error))?;
        mounted.attach(target.as_fd(), destination).during(STEP, &on)?;
        if reserved {
            self.ours.push(mount::mount_id(mounted.as_fd()).during(STEP, &on)?);
        }
        Ok(())
    }

    /// What masks, sysctls and the pod's own processes rely on: the kernel's file system itself, and all of it.
    fn check(&self, place: &Path, kind: KernelFileSystem) -> Result<()> {
        let found = path::open_in_root_within(self.root, place, Missing::Fail, Within::ItsOwnNames)
            .during(STEP, place.display())?;
        if mount::is_root_of(found.as_fd(), kind).during(STEP, place.display())? {
            return Ok(());
        }
        let why = format!("{} is not the kernel's own file system", place.display());
        Err(Failure::because(STEP, place.display().to_string(), why))
    }
}

/// The failure of a path that a symlink leads where it may not go.
fn misled(destination: &Path, reserved: bool, error: &Error) -> Failure {
    let on = destination.display().to_string();
    match error.errno {
        Errno::ELOOP if reserved => {
            let why = format!(
                "{on}, or a directory on the way to it, is a symbolic link in the root file system; nothing is mounted \
                 below /proc, /sys and /dev through links"
            );
            Failure::because(STEP, on, why)
        }
        Errno::EXDEV => {
            let why = format!(
                "a symbolic link makes {on} lead to the root itself, or into /proc, /sys or /dev, and a mount there would \
                 hide what the sandbox has there: choose a mountPath without that link"
            );
            Failure::because(STEP, on, why)
        }
        _ => Failure::new(STEP, on, error),
    }
}

/// What the root has at the image's volumes, in the plan's order; made there, empty, where the image has nothing. Taken before
/// anything else is mounted, since a volume of the pod may cover a directory above one. Mounts of the writable layer itself:
/// nothing is copied, and a start does not take longer with their content.
fn image_volumes(container: &ContainerPlan, root: &Root) -> Result<Vec<DetachedMount>> {
    let volumes = container.mounts.iter().filter(|mount| mount.kind == MountKind::ImageVolume);
    let taken = volumes.map(|mount| {
        let on = mount.destination.display();
        let found =
            path::open_in_root(root.base.as_fd(), &mount.destination, Missing::MakeDirectory).during(STEP, &on)?;
        DetachedMount::copy_of_fd(found.as_fd(), Reach::ThisMount).during(STEP, &on)
    });
    taken.collect()
}

/// A file system that is new in this container.
fn create(kind: &MountKind, destination: &Path, read_only: bool) -> Result<DetachedMount> {
    let create = |kind: &str, options: &[(&str, Option<&str>)], attributes| {
        DetachedMount::create(kind, options, attributes).during(STEP, destination.display())
    };
    let read_only = if read_only { Attributes::READ_ONLY } else { Attributes::NONE };
    match kind {
        MountKind::Proc => create("proc", &[], QUIET | read_only),
        MountKind::Cgroup2 => create("cgroup2", &[], QUIET | read_only),
        MountKind::Sysfs => create("sysfs", &[], QUIET | read_only),
        MountKind::Mqueue => create("mqueue", &[], QUIET | read_only),
        MountKind::Dev => {
            let options = [("mode", Some("0755")), ("size", Some("64k"))];
            create("tmpfs", &options, Attributes::NO_SUID | Attributes::NO_EXEC)
        }
        MountKind::DevPts => {
            // No gid=5 (tty): that group need not exist in the map. The slave is given to the container's user instead.
            let options = [("ptmxmode", Some("0666")), ("mode", Some("0620"))];
            create("devpts", &options, Attributes::NO_SUID | Attributes::NO_EXEC)
        }
        MountKind::Tmpfs { mode, size } => {
            let (mode, size) = (format!("{mode:o}"), size.map(|bytes| bytes.to_string()));
            let mut options = vec![("mode", Some(mode.as_str()))];
            options.extend(size.as_deref().map(|size| ("size", Some(size))));
            create("tmpfs", &options, Attributes::NO_SUID | Attributes::NO_DEV | read_only)
        }
        MountKind::ProcBind
        | MountKind::SysBind
        | MountKind::MqueueBind
        | MountKind::PodTmpfs { .. }
        | MountKind::DiskVolume { .. }
        | MountKind::TerminationMessage { .. }
        | MountKind::HostPath { .. }
        | MountKind::ImageFiles { .. }
        | MountKind::ImageVolume => {
            unreachable!("Sources::open opens every mount that has a source, and volumes of the image are in the root")
        }
    }
}

/// Device nodes and the links that programs expect (the kernel's devices.rst, "recommended links"). Gives null, opened.
fn fill_dev(dev: BorrowedFd<'_>, sources: &Sources<'_>) -> Result<OwnedFd> {
    for (name, device) in &sources.devices {
        let on = format!("/dev/{name}");
        path::make_file(dev, Path::new(name)).during(STEP, &on)?;
        let node = path::open_below(dev, Path::new(name)).during(STEP, &on)?;
        device.attach(node.as_fd(), Path::new(&on)).during(STEP, &on)?;
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
    // Before a volume can be mounted over it.
    stdio::open_device_in(dev, "null").during(STEP, "/dev/null")
}

/// Masked paths show nothing, read-only ones cannot be written. What a kernel does not have needs no hiding.
///
/// A masked file is covered with the host's null device, by our own descriptor of it: /dev/null of the container may be
/// something else by now (CVE-2025-31133).
fn hide(root: BorrowedFd<'_>, sources: &Sources<'_>, masked: &[PathBuf], read_only: &[PathBuf]) -> Result<()> {
    let null = sources.null().during(STEP, "/dev/null")?;
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
fn find(root: BorrowedFd<'_>, target: &Path) -> Result<Option<OwnedFd>> {
    match path::open_in_root(root, target, Missing::Fail) {
        Ok(found) => Ok(Some(found)),
        Err(Error { errno: Errno::ENOENT | Errno::ENOTDIR, .. }) => Ok(None),
        Err(error) => Err(error).during(STEP, target.display()),
    }
}
