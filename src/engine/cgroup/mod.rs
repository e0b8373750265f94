//! The pod's cgroups: made, filled, emptied and removed. `plan/cgroup.rs` decides, this does.
//!
//! Processes are *born* in their leaf (CLONE_INTO_CGROUP). To move one there would cost the kernel a grace period, ten
//! milliseconds and more (`cgroup_threadgroup_rwsem`), so the tree is there before its first process, and controllers are
//! enabled while it is empty.

mod file;
mod freezer;
mod leaf;
mod remove;
mod scope;
mod settings;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};

use super::failure::{Failure, Result};
use crate::plan::cgroup::{CgroupParent, CgroupPlan, CgroupTree};
use crate::plan::{ContainerPlan, SandboxPlan};
use crate::step::Step;
use crate::sys::Errno;

pub use freezer::Freezer;
pub use leaf::Leaf;
pub use remove::remove;
pub use settings::{Change, change};

const STEP: Step = Step::MakeCgroups;
/// Where a process of ours goes that must leave the delegated cgroup itself, since a cgroup with controllers for its
/// children may have no processes (cgroup-v2.rst, "No Internal Process Constraint").
const CLIENTS: &str = "sandpod-clients";

const MOST_CGROUPS: &str = "256";
const DEEPEST_CGROUP: &str = "8";

/// The pod's subtree, as the supervisor holds it.
#[derive(Debug)]
pub struct Cgroups {
    pod: PathBuf,
    pub supervisor: Leaf,
    pub pause: Leaf,
    controllers: Vec<String>,
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
                let pod = Self::make_pod(tree, path)?;
                Self::enable(tree, path, pod).map(Some)
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
        Leaf::make(&pod, "supervisor")?.enter()?;
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
        let (supervisor, pause) = (Leaf::make(&pod, "supervisor")?, Leaf::make(&pod, "pause")?);
        Ok(Cgroups { pod, supervisor, pause, controllers: tree.controllers.clone() })
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
        // A container may make cgroups of its own below: not so many that the kernel's ids for them run out for everybody
        // (65535 with a memory controller), nor so deep that their path is longer than any path may be.
        file::write(&outer, "cgroup.max.descendants", MOST_CGROUPS)?;
        file::write(&outer, "cgroup.max.depth", DEEPEST_CGROUP)?;
        enable_controllers(&outer, &self.controllers)?;
        let leaf = Leaf::make(&outer, leaf::INNER)?;
        settings::write(leaf.path(), &container.cgroup)?;
        Ok(leaf)
    }

    /// When the pod has ended: nothing stays but the leaf of the supervisor, which is in it, and what is above.
    pub fn remove_leaves<'a>(&'a self, containers: impl Iterator<Item = &'a Leaf>) {
        for leaf in containers.chain([&self.pause]) {
            leaf.kill();
            leaf.remove();
        }
    }
}

/// Takes us out of the pod's cgroups, so that all of them can be removed: into a leaf beside the pod's. It costs a grace
/// period of the kernel, so a pod whose caller removes it is spared this.
pub fn step_aside(pod: &Path) -> Result<()> {
    pod.parent().map_or(Ok(()), move_to_leaf)
}

/// A process that has the delegated cgroup for itself leaves it for a leaf: without that no controller can be enabled.
fn move_to_leaf(delegated: &Path) -> Result<()> {
    let leaf = delegated.join(CLIENTS);
    file::make_directory(&leaf)?;
    file::write(&leaf, "cgroup.procs", "0")
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
