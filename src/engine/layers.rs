//! The writable layers of containers, where they are not in the pod's data directory: below another directory of
//! sandpod's, or in a tmpfs of the pod's own. `plan/layers.rs` decides.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::failure::{During as _, Failure, Result};
use super::sandbox::Sandbox;
use crate::plan::{LayerPlace, PodDirs, PodPlan, SandboxPlan, container_root, layer_dir};
use crate::step::Step;
use crate::sys::own_dir::OwnDir;
use crate::sys::path::{self, Missing};
use crate::sys::private_dir::{check_private, make_private};
use crate::sys::{self, Namespaces, clone, probe};

/// In the pod's tmpfs, with a directory for each container.
pub(super) const DIRECTORY: &str = "layers";

/// Makes the directories on the host: 0700 down to the pod's, as all of sandpod's are, and 0777 for a container's, since an
/// id of an isolated map is neither you nor in your groups.
pub(super) fn prepare(plan: &PodPlan) -> Result<()> {
    const STEP: Step = Step::PrepareVolumes;
    let LayerPlace::Directory(directory) = &plan.sandbox.layers else { return Ok(()) };
    let (Some(layers), Some(base)) = (directory.parent(), directory.parent().and_then(Path::parent)) else {
        return Err(Failure::because(STEP, directory.display().to_string(), "it has no directory above it"));
    };
    for ours in [base, layers, directory] {
        if make_private(ours).during(STEP, ours.display())?.is_some() {
            let why =
                "it is not yours alone (`ls -ld` shows it): remove it, or set XDG_DATA_HOME to a directory on a disk";
            return Err(Failure::because(STEP, ours.display().to_string(), why));
        }
    }
    let opened = OwnDir::of_pod(directory).during(STEP, directory.display())?;
    for container in plan.containers.iter().filter(|container| container.root.has_overlay()) {
        let name = container_root(&container.name);
        path::make_directory(opened.as_fd(), Path::new(&name), 0o777).during(STEP, name)?;
    }
    Ok(())
}

/// A container's directory in the pod's tmpfs; made at its first start, as the pod's root.
pub(super) fn of_container(layers: BorrowedFd<'_>, container: &str) -> Result<OwnedFd> {
    const STEP: Step = Step::BuildRoot;
    let name = container_root(container);
    path::make_new_directory(layers, Path::new(&name)).during(STEP, container)?;
    path::open_in_root(layers, Path::new(&name), Missing::Fail).during(STEP, container)
}

/// Enters the mount namespace in which the pod's tmpfs is, where the layers are in there. The caller is in the pod's user
/// namespace.
pub(super) fn open_in_memory(sandbox: &Sandbox, pod: &SandboxPlan) -> Result<Option<OwnedFd>> {
    const STEP: Step = Step::EnterPod;
    let LayerPlace::Memory { .. } = pod.layers else { return Ok(None) };
    clone::join(sandbox.workshop.as_fd(), Namespaces::CLONE_NEWNS).during(STEP, DIRECTORY)?;
    open_in_tmpfs(&pod.dirs, Path::new(DIRECTORY)).during(STEP, DIRECTORY).map(Some)
}

/// Something in the pod's tmpfs, which is mounted on its runtime directory in the workshop. No link is followed: who can write
/// beside that directory could have put one there.
pub(super) fn open_in_tmpfs(dirs: &PodDirs, below: &Path) -> sys::Result<OwnedFd> {
    let none = || sys::Error { call: format!("open({})", dirs.runtime.display()), errno: sys::Errno::EINVAL };
    let (pods, id) = dirs.runtime.parent().zip(dirs.runtime.file_name()).ok_or_else(none)?;
    OwnDir::in_store(pods)?.open_path(Path::new(id).join(below).as_os_str())
}

/// Every directory on the host in which this pod can have layers. Not read from its plan, which may be damaged, or written by
/// another program: what is below these directories is ours.
pub(super) fn directories(dirs: &PodDirs) -> Vec<PathBuf> {
    let Some((runtime, id)) = dirs.runtime.parent().and_then(Path::parent).zip(dirs.runtime.file_name()) else {
        return Vec::new();
    };
    let (uid, _) = probe::effective_ids();
    let shared = Path::new("/tmp").join(format!("sandpod-{uid}"));
    let ours = |base: &&Path| [*base, &base.join(DIRECTORY)].iter().all(|path| matches!(check_private(path), Ok(None)));
    let mut bases = vec![runtime, shared.as_path()];
    bases.dedup();
    bases.into_iter().filter(ours).map(|base| layer_dir(base, &id.to_string_lossy())).collect()
}
