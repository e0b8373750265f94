//! The pod's cgroups: made, filled, emptied and removed. `plan/cgroup.rs` decides, this does.
//!
//! Processes are *born* in their leaf (CLONE_INTO_CGROUP). To move one there would cost the kernel a grace period, ten
//! milliseconds and more (`cgroup_threadgroup_rwsem`), so the tree is there before its first process, and controllers are
//! enabled while it is empty.

mod file;
mod freezer;
mod leaf;
mod leftovers;
mod remove;
mod scope;
mod settings;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::failure::{Failure, Result};
use crate::plan::cgroup::{CgroupParent, CgroupPlan, CgroupTree, Nesting, of_supervisor};
use crate::plan::idmap::IdMapPlan;
use crate::plan::{ContainerPlan, SandboxPlan};
use crate::step::Step;
use crate::sys::{Errno, Error};

pub use freezer::Freezing;
pub use leaf::{Leaf, oom_kills};
pub use leftovers::{Making, begin};
pub use remove::{kill, remove};
pub use settings::{Change, change};

const STEP: Step = Step::MakeCgroups;
/// Where a process of ours goes that must leave the delegated cgroup itself, since a cgroup with controllers for its
/// children may have no processes (cgroup-v2.rst, "No Internal Process Constraint").
const CLIENTS: &str = "sandpod-clients";

/// Where cgroup2 is mounted, or in it what this process may know of.
const CGROUP2: &str = "/sys/fs/cgroup";

/// The pod's subtree, as the supervisor holds it.
#[derive(Debug)]
pub struct Cgroups {
    pod: PathBuf,
    pub supervisor: Leaf,
    pub pause: Leaf,
    controllers: Vec<String>,
    nesting: Nesting,
    /// The cgroup of whoever started the pod, where it is known.
    origin: Option<PathBuf>,
}

impl Cgroups {
    /// Makes the tree below an existing cgroup; nothing where the plan has none, or where systemd is to give one
    /// ([`enter_scope`](Self::enter_scope)). Called by whoever is to fork the supervisor into it.
    pub fn make(plan: &SandboxPlan) -> Result<Option<Cgroups>> {
        match &plan.cgroup {
            CgroupPlan::Inherited | CgroupPlan::Tree(CgroupTree { parent: CgroupParent::SystemdScope { .. }, .. }) => {
                Ok(None)
            }
            CgroupPlan::Tree(tree @ CgroupTree { parent: CgroupParent::Directory { path, leave }, .. }) => {
                if *leave {
                    move_to_leaf(path)?;
                }
                let origin = file::own()?;
                let origin = Path::new(CGROUP2).join(origin.strip_prefix("/").unwrap_or(&origin));
                let pod = Self::make_pod(tree, path)?;
                Ok(Some(Cgroups { origin: Some(origin), ..Self::enable(tree, path, pod)? }))
            }
        }
    }

    /// Asks the user's systemd for a scope, which moves us into it, and makes the tree in there. Nothing where the plan
    /// has no scope. Called by the supervisor.
    pub fn enter_scope(plan: &SandboxPlan) -> Result<Option<Cgroups>> {
        let CgroupPlan::Tree(tree @ CgroupTree { parent: CgroupParent::SystemdScope { unit }, .. }) = &plan.cgroup
        else {
            return Ok(None);
        };
        let scope = scope::enter(unit, &plan.name)?;
        let pod = Self::make_pod(tree, &scope)?;
        // Out of the scope's own cgroup, while no controller is enabled below it.
        Leaf::make(&of_supervisor(&pod))?.enter()?;
        Self::enable(tree, &scope, pod).map(Some)
    }

    fn make_pod(tree: &CgroupTree, parent: &Path) -> Result<PathBuf> {
        let pod = parent.join(&tree.name);
        file::make_directory(&pod)?;
        Ok(pod)
    }

    fn enable(tree: &CgroupTree, parent: &Path, pod: PathBuf) -> Result<Cgroups> {
        for cgroup in [parent, &pod] {
            enable_controllers(cgroup, &tree.controllers)?;
        }
        settings::write(&pod, &tree.settings)?;
        let (supervisor, pause) = (Leaf::make(&of_supervisor(&pod))?, Leaf::make(&pod.join("pause"))?);
        let (controllers, nesting) = (tree.controllers.clone(), tree.nesting);
        Ok(Cgroups { pod, supervisor, pause, controllers, nesting, origin: None })
    }

    /// Limits pause, when the process that is going to be it forks no more: it makes a user namespace for the file of `enter`,
    /// which takes another process (`engine/unmapped.rs`). No container has been started by then.
    pub fn limit_pause(&self, plan: &SandboxPlan) -> Result<()> {
        match &plan.cgroup {
            CgroupPlan::Tree(tree) => settings::write(self.pause.path(), &tree.pause),
            CgroupPlan::Inherited => Ok(()),
        }
    }

    /// The pod's own cgroup.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.pod
    }

    /// All that it holds open.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.supervisor, &self.pause].into_iter().flat_map(|leaf| [leaf.directory.as_fd(), leaf.procs.as_fd()])
    }

    /// A fresh leaf for the `start`th start of a container, with its limits. On many kernels a child that is born by
    /// CLONE_INTO_CGROUP into a cgroup whose `cgroup.kill` was ever written is killed at birth (Linux before "cgroup: fix
    /// spurious SIGKILL of CLONE_INTO_CGROUP children"), so none is used twice.
    ///
    /// The limits that hold are those of `<container>.<n>`; its processes are in `<container>.<n>/container`, the root of
    /// their cgroup namespace. Of that they may own the files (where the pod's root id is you), and a process in a further
    /// cgroup namespace can write to them, whatever `nsdelegate` says. There the same values only tell a runtime (the JVM,
    /// Go) how much it has.
    pub fn leaf(&self, container: &ContainerPlan, start: u32) -> Result<Leaf> {
        let outer = self.pod.join(format!("{}.{start}", container.name));
        file::make_directory(&outer)?;
        settings::write(&outer, &container.cgroup)?;
        for (name, most) in self.nesting.files() {
            file::write(&outer, name, &most.to_string())?;
        }
        enable_controllers(&outer, &self.controllers)?;
        let leaf = Leaf::make(&outer.join(leaf::INNER))?;
        settings::write(leaf.path(), &container.cgroup)?;
        Ok(leaf)
    }

    /// Removes the leaves of a container's lives before its `start`th, which have been killed, and what the container made
    /// below them. Nobody waits: what is busy for another moment is tried again at the next start, and goes with the pod.
    /// The errors say what else stays until then.
    pub fn remove_before(&self, container: &ContainerPlan, start: u32, idmap: &IdMapPlan) -> Vec<Error> {
        let Ok(entries) = std::fs::read_dir(&self.pod) else { return Vec::new() };
        let earlier = |entry: std::fs::DirEntry| {
            let name = entry.file_name();
            let life: u32 = name.to_str()?.strip_prefix(&container.name)?.strip_prefix('.')?.parse().ok()?;
            (life < start).then(|| entry.path())
        };
        let stays = entries.flatten().filter_map(earlier);
        let stays = stays.flat_map(|leaf| remove::remove_tree(&leaf, idmap, Instant::now()));
        stays.filter(|error| error.errno != Errno::EBUSY).collect()
    }

    /// Takes the calling supervisor out of the pod's cgroups, back to where its starter was, so that all of them can be
    /// removed. It costs a grace period of the kernel, so a pod whose caller removes it is spared this. Where it cannot be
    /// done, the supervisor's leaf is left to the next (`leftovers.rs`).
    pub fn leave(&self) -> Result<()> {
        self.origin.as_ref().map_or(Ok(()), |origin| file::write(origin, "cgroup.procs", "0"))
    }
}

/// A process that has the delegated cgroup for itself leaves it for a leaf: without that no controller can be enabled.
fn move_to_leaf(delegated: &Path) -> Result<()> {
    let leaf = delegated.join(CLIENTS);
    let enter = || file::make_directory(&leaf).and_then(|()| file::write(&leaf, "cgroup.procs", "0"));
    // Empty, it may have been swept between the two: others make it, too, and who is in it keeps it.
    enter().or_else(|_| enter())
}

/// Gives the children of `cgroup` these controllers.
fn enable_controllers(cgroup: &Path, controllers: &[String]) -> Result<()> {
    let enabled = file::read(cgroup, "cgroup.subtree_control")?;
    let missing: Vec<String> = controllers
        .iter()
        .filter(|wanted| !enabled.split_whitespace().any(|enabled| enabled == wanted.as_str()))
        .map(|wanted| format!("+{wanted}"))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = missing.join(" ");
    file::write(cgroup, "cgroup.subtree_control", &text).map_err(|failure| match Errno::from_raw(failure.errno) {
        Errno::EBUSY => {
            let pids = file::read(cgroup, "cgroup.procs").unwrap_or_default();
            let pids: Vec<&str> = pids.split_whitespace().take(10).collect();
            let why = format!(
                "processes sit in it ({}), and a cgroup with controllers for its children may have none of its own: move \
                 them to a child cgroup, or choose another by --cgroup-parent",
                pids.join(", ")
            );
            Failure::because(STEP, cgroup.display().to_string(), why)
        }
        _ => failure,
    })
}

/// The descriptors with which a child is forked into a leaf.
#[must_use]
pub fn destination(leaf: &Leaf) -> crate::sys::clone::Cgroup<'_> {
    crate::sys::clone::Cgroup { directory: leaf.directory.as_fd(), procs: leaf.procs.as_fd() }
}
