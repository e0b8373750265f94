//! What must be on disk before the first process: the pod's own directories, and the host paths its manifest names.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::failure::{During, Failure, Result};
use super::layer_trees::PinnedTrees;
use super::layers;
use crate::plan::{ContainerPlan, HostPathPlan, HostPathType, LayerPlace, PodPlan, RootPlan, container_root};
use crate::step::Step;
use crate::sys::own_dir::OwnDir;
use crate::sys::path::{self, FileKind};
use crate::sys::{self, Errno, Error, tree};

const STEP: Step = Step::PrepareVolumes;
/// An empty directory of the pod's data, which the files of an image are laid over.
pub(super) const EMPTY: &str = "empty";

/// Makes the directories in which the pod's ids will write, and checks every hostPath.
///
/// They get mode 0777: an id of an isolated map is neither you nor in your groups. Nobody else comes near them, since
/// the directory above them is 0700 and yours; pod processes get there by descriptor only.
pub fn prepare(plan: &PodPlan) -> Result<Pinned> {
    let data = &plan.sandbox.dirs.data;
    let root = OwnDir::of_pod(data).during(STEP, data.display())?;
    let volumes = (!plan.sandbox.disk_volumes.is_empty()).then(|| "volumes".to_owned());
    let of_data = |container: &&ContainerPlan| *plan.sandbox.place_of(&container.root) == LayerPlace::Data;
    let roots = plan.containers.iter().filter(of_data).map(|container| container_root(&container.name));
    for name in volumes.into_iter().chain(roots) {
        path::make_directory(root.as_fd(), Path::new(&name), 0o777).during(STEP, &name)?;
    }
    if plan.containers.iter().any(|container| !container.volume_trees().is_empty()) {
        path::make_directory(root.as_fd(), Path::new(EMPTY), 0o755).during(STEP, EMPTY)?;
    }
    layers::prepare(plan)?;
    let mut pinned = BTreeMap::new();
    for host_path in &plan.sandbox.host_paths {
        let opened = check_host_path(host_path)?;
        refuse_our_directories(host_path, opened.as_fd(), plan)?;
        pinned.insert(host_path.path.clone(), opened);
    }
    let mut trees = Vec::new();
    for container in &plan.containers {
        trees.extend(container.volume_trees());
        let (RootPlan::Overlay { lowers: directories } | RootPlan::Copy { sources: directories }) = &container.root
        else {
            continue;
        };
        if container.from_image.is_some() {
            trees.extend(directories);
            continue;
        }
        for directory in directories {
            let opened = path::open_host_path(directory).during(STEP, directory.display())?;
            pinned.insert(directory.clone(), opened);
        }
    }
    let trees = PinnedTrees::pin(trees).during(STEP, "the layers of the pod's images")?;
    Ok(Pinned { paths: pinned, trees })
}

/// What the pod's host paths were when it began. A container that may write to one could put a link to another place of
/// yours where the next one begins, and be started again. Held open, so that nothing else can get its inode number.
#[derive(Debug, Default)]
pub struct Pinned {
    paths: BTreeMap<PathBuf, OwnedFd>,
    pub(super) trees: PinnedTrees,
}

impl Pinned {
    /// Refuses what is no longer what it was. A path that was not pinned is ours, or the kernel's.
    pub fn check(&self, path: &Path, opened: BorrowedFd<'_>) -> sys::Result<()> {
        let Some(pinned) = self.paths.get(path) else { return Ok(()) };
        if tree::identity(pinned.as_fd())? == tree::identity(opened)? {
            return Ok(());
        }
        let call = format!("{} was replaced since the pod started", path.display());
        Err(Error { call, errno: Errno::ESTALE })
    }
}

/// <https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types>
fn check_host_path(host_path: &HostPathPlan) -> Result<OwnedFd> {
    let HostPathPlan { volume, path, kind } = host_path;
    let on = format!("volume `{volume}`: hostPath {}", path.display());
    let wanted = match kind {
        HostPathType::Unchecked => None,
        HostPathType::Directory | HostPathType::DirectoryOrCreate => Some(FileKind::Directory),
        HostPathType::File | HostPathType::FileOrCreate => Some(FileKind::Regular),
        HostPathType::Socket => Some(FileKind::Socket),
        HostPathType::CharDevice => Some(FileKind::CharDevice),
        HostPathType::BlockDevice => Some(FileKind::BlockDevice),
    };
    let failed = |error: &Error| {
        let failure = Failure::new(STEP, &on, error);
        match host_path.fix_where_missing() {
            Some(fix) if error.errno == Errno::ENOENT => failure.hint(fix),
            _ => failure,
        }
    };
    let opened = match path::open_host_path(path) {
        Err(error) if error.errno == Errno::ENOENT => match kind {
            HostPathType::DirectoryOrCreate => {
                std::fs::create_dir_all(path).map_err(|error| failed(&io_error("mkdir", path, &error)))?;
                path::open_host_path(path)
            }
            HostPathType::FileOrCreate => {
                let made = std::fs::OpenOptions::new().create_new(true).write(true).open(path);
                made.map_err(|error| failed(&io_error("open", path, &error)))?;
                path::open_host_path(path)
            }
            _ => Err(error),
        },
        other => other,
    }
    .map_err(|error| failed(&error))?;
    let found = path::file_kind(opened.as_fd()).during(STEP, &on)?;
    match wanted {
        Some(wanted) if wanted != found => {
            let call = format!("it is a {found:?}, the manifest's type is {kind:?}");
            Err(Failure::new(STEP, on, &Error { call, errno: Errno::EINVAL }))
        }
        _ => Ok(opened),
    }
}

/// What sandpod keeps of its pods is not for a container: who may write there decides what the next command reads, removes and
/// executes as you. What contains these directories, such as your home, is not refused: that is your account already.
fn refuse_our_directories(host_path: &HostPathPlan, opened: BorrowedFd<'_>, plan: &PodPlan) -> Result<()> {
    let HostPathPlan { volume, path, kind: _ } = host_path;
    // As the kernel names it, links resolved; one that cannot be named is not below a directory of ours.
    let Ok(real) = std::fs::read_link(path::through_proc(opened)) else { return Ok(()) };
    let dirs = &plan.sandbox.dirs;
    // …/sandpod/pods/ID
    let ours = [&dirs.data, &dirs.runtime].into_iter().filter_map(|pod| pod.parent()?.parent()?.canonicalize().ok());
    for own in ours {
        if real.starts_with(&own) {
            let call = format!("{} is in {}, where sandpod keeps its pods", path.display(), own.display());
            let on = format!("volume `{volume}`: hostPath {}", path.display());
            return Err(Failure::new(STEP, on, &Error { call, errno: Errno::EPERM }));
        }
    }
    Ok(())
}

fn io_error(call: &str, path: &Path, error: &std::io::Error) -> Error {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(Errno::EIO as i32));
    Error { call: format!("{call}({})", path.display()), errno }
}
