//! Everything of the host that a container will see, opened by descriptor with *your* rights: a path in your 0700 home
//! can be reached by you and by no id of an isolated map. From here on nothing is looked up by a host path again.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::failure::{During, Failure, Result};
use super::layers;
use super::overlay;
use super::volumes::{self, Pinned};
use crate::plan::{ContainerPlan, FreshDir, HostTreeDir, LayerPlace, MountKind, RootPlan, SandboxPlan, container_root};
use crate::step::Step;
use crate::sys;
use crate::sys::mount::{Attributes, DetachedMount, Reach};
use crate::sys::own_dir::OwnDir;
use crate::sys::path::{self, FileKind};

/// The device nodes of a container: the host's own, by bind, since a user namespace may not make any (mknod(2)).
/// With their numbers (the kernel's devices.txt): what has another one is something else in its place.
const DEVICES: [(&str, (u64, u64)); 6] =
    [("null", (1, 3)), ("zero", (1, 5)), ("full", (1, 7)), ("random", (1, 8)), ("urandom", (1, 9)), ("tty", (5, 0))];

#[derive(Debug)]
pub struct Sources<'a> {
    /// Where the root's writable part goes: `<name>.root`, or with [`LayerPlace::Memory`] the directory that this is made
    /// in, by the pod's root.
    pub store: OwnedFd,
    pub root: RootSource<'a>,
    /// In the order of the plan's mounts; `None` for a file system that is made new.
    pub mounts: Vec<Option<DetachedMount>>,
    /// Name below /dev, and the host's node.
    pub devices: Vec<(&'static str, DetachedMount)>,
}

/// What the root is made of, as [`RootPlan`] says, with every directory opened.
#[derive(Debug)]
pub enum RootSource<'a> {
    /// The highest first.
    Overlay(Vec<(&'a Path, OwnedFd)>),
    /// The highest first.
    Copy(Vec<(&'a Path, OwnedFd)>),
    HostTree {
        links: &'a [(String, PathBuf)],
        dirs: Vec<(&'a HostTreeDir, OwnedFd)>,
        fresh: &'a [FreshDir],
    },
}

impl<'a> Sources<'a> {
    pub fn open(pod: &SandboxPlan, container: &'a ContainerPlan, pinned: &Pinned) -> Result<Sources<'a>> {
        let step = Step::OpenSources;
        let open = |path: &Path| path::open_host_path(path).during(step, format_args!("{}", path.display()));
        let store = match pod.place_of(&container.root) {
            LayerPlace::Data => own(&pod.dirs.data, container_root(&container.name).as_ref())?,
            LayerPlace::Directory(directory) => own(directory, container_root(&container.name).as_ref())?,
            // The current directory is the pod's tmpfs.
            LayerPlace::Memory { .. } => open(Path::new(layers::DIRECTORY))?,
        };
        let layers = |paths: &'a [PathBuf]| -> Result<Vec<(&'a Path, OwnedFd)>> {
            if container.from_image.is_some() {
                let opened = pinned.trees.open(paths).during(step, &container.name)?;
                return Ok(paths.iter().map(PathBuf::as_path).zip(opened).collect());
            }
            let opened = paths.iter().map(|path| {
                let opened = open(path)?;
                pinned.check(path, opened.as_fd()).during(step, &container.name)?;
                Ok((path.as_path(), opened))
            });
            opened.collect()
        };
        let root = match &container.root {
            RootPlan::Overlay { lowers } => RootSource::Overlay(layers(lowers)?),
            RootPlan::Copy { sources } => RootSource::Copy(layers(sources)?),
            RootPlan::HostTree { links, dirs, fresh } => {
                let opened = dirs.iter().map(|dir| Ok((dir, open(&Path::new("/").join(&dir.name))?)));
                RootSource::HostTree { links, dirs: opened.collect::<Result<_>>()?, fresh }
            }
        };
        let mut mounts = Vec::with_capacity(container.mounts.len());
        for mount in &container.mounts {
            let source = source_of(pod, &mount.kind, pinned)?;
            if let (MountKind::HostPath { source: path }, Some(opened)) = (&mount.kind, &source) {
                pinned.check(path, opened.as_fd()).during(step, mount.destination.display())?;
            }
            if let (Some(source), true) = (&source, mount.read_only) {
                source.add(Attributes::READ_ONLY, Reach::Recursive).during(step, mount.destination.display())?;
            }
            mounts.push(source);
        }
        let mut devices = Vec::with_capacity(DEVICES.len());
        for (name, number) in DEVICES {
            let path = Path::new("/dev").join(name);
            let device = DetachedMount::copy_of(None, &path, Reach::ThisMount).during(step, path.display())?;
            let kind = path::file_kind(device.as_fd()).during(step, path.display())?;
            if kind != FileKind::CharDevice
                || path::device_number(device.as_fd()).during(step, path.display())? != number
            {
                let (major, minor) = number;
                let why = format!("{} of this host is not the character device {major}:{minor}", path.display());
                return Err(Failure::because(step, path.display().to_string(), why));
            }
            devices.push((name, device));
        }
        Ok(Sources { store, root, mounts, devices })
    }

    /// The null device.
    pub(super) fn null(&self) -> sys::Result<&DetachedMount> {
        let missing = || sys::Error { call: "open(/dev/null)".to_owned(), errno: sys::Errno::ENOENT };
        self.devices.iter().find(|(name, _)| *name == "null").map(|(_, device)| device).ok_or_else(missing)
    }
}

/// Something in a directory of the pod's. No link is followed, also not in the place of that directory: a container of the pod
/// may be able to write beside it.
fn own(directory: &Path, name: &Path) -> Result<OwnedFd> {
    let opened = OwnDir::of_pod(directory).and_then(|directory| directory.open_path(name.as_os_str()));
    opened.during(Step::OpenSources, name.display())
}

/// The existing tree behind a mount, as a mount of its own.
fn source_of(pod: &SandboxPlan, kind: &MountKind, pinned: &Pinned) -> Result<Option<DetachedMount>> {
    let copy = |opened: &OwnedFd, path: &Path| {
        DetachedMount::copy_of_fd(opened.as_fd(), Reach::Recursive).during(Step::OpenSources, path.display()).map(Some)
    };
    let path = match kind {
        MountKind::ProcBind => Path::new("/proc").to_owned(),
        MountKind::SysBind => Path::new("/sys").to_owned(),
        MountKind::MqueueBind => Path::new("/dev/mqueue").to_owned(),
        MountKind::PodTmpfs { source } => {
            let opened = layers::open_in_tmpfs(&pod.dirs, source).during(Step::OpenSources, source.display())?;
            return copy(&opened, source);
        }
        MountKind::DiskVolume { name } => {
            let path = Path::new("volumes").join(name);
            return copy(&own(&pod.dirs.data, &path)?, &path);
        }
        MountKind::TerminationMessage { file } => return copy(&own(&pod.dirs.data, file.as_ref())?, file.as_ref()),
        MountKind::HostPath { source } => source.clone(),
        MountKind::ImageFiles { manifest: _, trees } => {
            let opened = pinned.trees.open(trees).during(Step::OpenSources, "a volume of an image")?;
            return image_files(pod, &opened).map(Some);
        }
        MountKind::Proc
        | MountKind::Sysfs
        | MountKind::Cgroup2
        | MountKind::Dev
        | MountKind::DevPts
        | MountKind::Mqueue
        | MountKind::Tmpfs { .. }
        | MountKind::ImageVolume => return Ok(None),
    };
    DetachedMount::copy_of(None, &path, Reach::Recursive).during(Step::OpenSources, path.display()).map(Some)
}

/// The layers of an image as one tree, which is read only. Always an overlay without an upper layer, also over one layer: a
/// container with SYS_ADMIN can make a bind mount writable again, and would then write into the store.
fn image_files(pod: &SandboxPlan, layers: &[OwnedFd]) -> Result<DetachedMount> {
    let step = Step::OpenSources;
    match layers {
        [] => DetachedMount::create("tmpfs", &[("mode", Some("0755")), ("size", Some("4k"))], Attributes::READ_ONLY)
            .during(step, "an image without layers"),
        layers => {
            // An overlay without an upper layer has two lower ones at least.
            let empty = own(&pod.dirs.data, Path::new(volumes::EMPTY))?;
            let all = layers.iter().map(AsFd::as_fd).chain([empty.as_fd()]);
            overlay::read_only(all, Path::new("the layers of an image"))
        }
    }
}
