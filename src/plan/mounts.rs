//! What is mounted in a container besides its root, and in which order.

use std::path::{Component, Path, PathBuf};

use super::container::PodScope;
use super::image;
use super::security::RootAccess;
use super::{Mount, MountKind, NamespaceMode, container_message};
use crate::host::ProcVisibility;
use crate::manifest::{Volume, VolumeMount, VolumeSource};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

pub(super) struct Wish<'a> {
    pub(super) container: &'a str,
    pub(super) volume_mounts: &'a [VolumeMount],
    /// Declared by the image: absolute, without `..`.
    pub(super) image_volumes: &'a [PathBuf],
    pub(super) termination_message_path: &'a str,
    pub(super) root_access: RootAccess,
}

/// Kernel file systems first; then the pod's files and the volumes, parents before children (as containerd sorts them),
/// so that a volume at `/etc` does not hide the pod's `/etc/hosts`. A volume of the image is left out where something else is
/// mounted at that path (containerd, `isInCRIMounts`). A volume at the very place of a default mount
/// takes its place; at that of the termination message, too, which is then empty.
pub(super) fn plan(wish: &Wish<'_>, scope: &PodScope<'_>) -> Result<Vec<Mount>, Report> {
    let Wish { container, volume_mounts, image_volumes, termination_message_path, root_access } = *wish;
    let volumes = volume_mounts.iter().map(|m| volume_mount(container, m, scope)).collect::<Result<Vec<_>, _>>()?;
    if let Some(twice) = first_duplicate(&volumes) {
        let what = format!("container `{container}`: two volumes are mounted at {}", twice.display());
        return Err(Report::new(exit_code::USAGE, what));
    }
    let replaced = |mount: &Mount| volumes.iter().any(|volume| volume.destination == mount.destination);
    let mut later = etc(root_access);
    later.push(termination_message(container, termination_message_path)?);
    later.retain(|mount| !replaced(mount));
    let mut mounts = kernel_file_systems(scope);
    mounts.retain(|mount| !replaced(mount));
    later.extend(volumes);
    let is_mounted = |path: &PathBuf| mounts.iter().chain(&later).any(|mount| mount.destination == *path);
    let of_image = image_volumes.iter().filter(|path| !is_mounted(path) && can_be_volume(path));
    let of_image: Vec<Mount> = of_image
        .map(|path| Mount { destination: path.clone(), kind: MountKind::ImageVolume, read_only: false })
        .collect();
    later.extend(of_image);
    later.sort_by_key(|mount| mount.destination.components().count());
    mounts.extend(later);
    Ok(mounts)
}

fn kernel_file_systems(scope: &PodScope<'_>) -> Vec<Mount> {
    let namespaces = &scope.sandbox.namespaces;
    let host_ipc = namespaces.ipc == NamespaceMode::Node;
    // A new procfs, sysfs or mqueue needs a namespace that the pod's user namespace owns (mount_namespaces(7)).
    let proc = match (&scope.facts.procfs, scope.container_pid) {
        (ProcVisibility::Full, NamespaceMode::Pod | NamespaceMode::Container) => MountKind::Proc,
        (ProcVisibility::Masked { .. }, _) | (_, NamespaceMode::Node) => MountKind::ProcBind,
    };
    let sys = match (&scope.facts.sysfs, namespaces.net) {
        (ProcVisibility::Masked { .. }, _) | (_, NamespaceMode::Node) => MountKind::SysBind,
        (ProcVisibility::Full, _) => MountKind::Sysfs,
    };
    let shm = if host_ipc {
        MountKind::HostPath { source: "/dev/shm".into() }
    } else {
        MountKind::PodTmpfs { source: "shm".into() }
    };
    let mqueue = if host_ipc { MountKind::MqueueBind } else { MountKind::Mqueue };
    let mount = |destination: &str, kind, read_only| Mount { destination: destination.into(), kind, read_only };
    let mut mounts = vec![
        mount("/proc", proc, false),
        mount("/sys", sys, true),
        mount("/dev", MountKind::Dev, false),
        mount("/dev/pts", MountKind::DevPts, false),
        mount("/dev/shm", shm, false),
    ];
    if namespaces.cgroup == NamespaceMode::Container {
        mounts.push(mount("/sys/fs/cgroup", MountKind::Cgroup2, true));
    }
    // Where the host itself has none (no systemd), sharing the host's ipc namespace means having none.
    if !host_ipc || scope.facts.mqueue {
        mounts.push(mount("/dev/mqueue", mqueue, false));
    }
    mounts
}

/// Writable unless the root is not, as the kubelet and containerd have it.
fn etc(root_access: RootAccess) -> Vec<Mount> {
    ["hostname", "hosts", "resolv.conf"]
        .map(|name| Mount {
            destination: Path::new("/etc").join(name),
            kind: MountKind::PodTmpfs { source: Path::new("etc").join(name) },
            read_only: root_access.is_read_only(),
        })
        .into()
}

/// Writable also where the root is not.
fn termination_message(container: &str, path: &str) -> Result<Mount, Report> {
    let destination = plain(path);
    if let Some(why) = forbidden(&destination) {
        let what = format!("container `{container}`: terminationMessagePath cannot be {path}");
        return Err(Report::new(exit_code::USAGE, what).because(why));
    }
    let kind = MountKind::TerminationMessage { file: container_message(container) };
    Ok(Mount { destination, kind, read_only: false })
}

fn volume_mount(container: &str, mount: &VolumeMount, scope: &PodScope<'_>) -> Result<Mount, Report> {
    let VolumeMount { name, mount_path, read_only } = mount;
    let destination = plain(mount_path);
    if let Some(why) = forbidden(&destination) {
        let what = format!("container `{container}`: volume `{name}` cannot be mounted at {mount_path}");
        return Err(Report::new(exit_code::USAGE, what).because(why));
    }
    let Some(Volume { name, source }) = scope.volumes.iter().find(|volume| volume.name == *name) else {
        let what = format!("container `{container}` mounts `{name}`, which is no volume of the pod");
        return Err(Report::new(exit_code::USAGE, what));
    };
    let mut read_only = *read_only;
    let kind = match source {
        VolumeSource::EmptyDirDisk { .. } => MountKind::DiskVolume { name: name.clone() },
        VolumeSource::EmptyDirMemory { size_limit: _ } => {
            MountKind::PodTmpfs { source: Path::new("volumes").join(name) }
        }
        VolumeSource::HostPath { path, kind: _ } => MountKind::HostPath { source: path.clone() },
        // By the images, before there is a plan.
        VolumeSource::Image { source, pull_policy: _ } => {
            read_only = true;
            let of_volume = &format!("volume `{name}`");
            let known = image::known_source(of_volume, source, scope.request)?;
            let trees = known.map(|image| image::trees(image, &scope.sandbox.idmap, scope.request, scope.facts));
            MountKind::ImageFiles { manifest: known.map(|image| image.manifest), trees: trees.unwrap_or_default() }
        }
    };
    Ok(Mount { destination, kind, read_only })
}

/// `/a//b/./c/` is `/a/b/c`; the manifest has refused `..`.
fn plain(path: &str) -> PathBuf {
    Path::new(path).components().filter(|part| *part != Component::CurDir).collect()
}

fn forbidden(destination: &Path) -> Option<&'static str> {
    if destination == Path::new("/") {
        return Some("it would hide the whole root file system");
    }
    if destination == Path::new("/dev") {
        return Some("it would hide the container's devices; a path below /dev is possible");
    }
    // runc's CVE-2019-16884 and CVE-2019-19921: a volume over /proc turns masks and LSM writes into fakes.
    ["/proc", "/sys"]
        .into_iter()
        .any(|reserved| destination.starts_with(reserved))
        .then_some("/proc and /sys belong to the sandbox: what hides them also hides its masks")
}

/// Whether a volume of an image can be there.
fn can_be_volume(destination: &Path) -> bool {
    forbidden(destination).is_none() && !destination.starts_with("/dev")
}

fn first_duplicate(mounts: &[Mount]) -> Option<&Path> {
    mounts.iter().enumerate().find_map(|(position, mount)| {
        let earlier = &mounts[..position];
        earlier.iter().any(|other| other.destination == mount.destination).then_some(mount.destination.as_path())
    })
}
