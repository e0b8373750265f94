//! Starting a container: the launcher's way from the supervisor into the pod. `plan/` decides, this does.
//!
//! ```text
//! supervisor ── fork ──▶ launcher    enters the pod's namespaces; opens sources with your rights; becomes root;
//!                        │           builds the root file system as detached mounts
//!                        └─ fork ──▶ bridge      a process inside the pod's pid namespace: the kernel refuses
//!                                    │           CLONE_NEWPID to one whose children live in another (EINVAL)
//!                                    └─ clone3 ─▶ init     own mount and pid namespace; mounts, pivots, executes
//! ```
//! Each fork uses CLONE_PARENT, so that all three are the supervisor's children and init's exit status comes to it.

use std::convert::Infallible;
use std::os::fd::AsFd;
use std::path::Path;

use super::cgroup::{self, Leaf};
use super::failure::{During, Result};
use super::message::{COPY_DEADLINE, Message, START_DEADLINE, Speaker};
use super::network::Gate;
use super::pending::{Expected, Hearing, Pending};
use super::process::Command;
use super::programs::Programs;
use super::root::Root;
use super::sandbox::{Sandbox, root_of};
use super::sources::Sources;
use super::volumes::Pinned;
use super::{layers, mounts, process};
use crate::plan::{ContainerPlan, NamespaceMode, RootPlan, SandboxNamespaces, SandboxPlan};
use crate::step::Step;
use crate::sys::terminal::WindowSize;
use crate::sys::{Namespaces, clone, mount, path, privileges, stdio};

/// A container to start, and what it is started with.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    pub sandbox: &'a Sandbox,
    pub programs: &'a Programs,
    pub pinned: &'a Pinned,
    pub pod: &'a SandboxPlan,
    pub container: &'a ContainerPlan,
    pub leaf: Option<&'a Leaf>,
    pub gate: Option<&'a Gate>,
    /// Of the terminal, where it has one.
    pub window: WindowSize,
}

/// Sends a container on its way. Of one that fails nothing is left but files below its directory, which the next start
/// clears.
pub fn start(start: &Start<'_>) -> Result<Pending> {
    let Start { sandbox, programs, pinned, pod, container, leaf, gate, window } = *start;
    let step = Step::EnterPod;
    let patience = match container.root {
        RootPlan::Copy { .. } => COPY_DEADLINE,
        RootPlan::Overlay { .. } | RootPlan::HostTree { .. } => START_DEADLINE,
    };
    let (hearing, speaker) = Hearing::connect(step, &container.name, patience)?;
    let supervisor = std::process::id().cast_signed();
    match clone::fork_into(Namespaces::empty(), clone::Parent::Caller).during(step, &container.name)? {
        clone::Fork::Child => {
            drop(hearing);
            let launcher = Launcher {
                sandbox,
                programs,
                pinned,
                pod,
                container,
                leaf,
                gate,
                window,
                speaker: &speaker,
                supervisor,
            };
            match launcher.run() {
                Ok(root) => {
                    // With our end of it the start is over, when init executes.
                    drop(speaker);
                    root.remove_volatile_marks();
                    clone::exit_now(0);
                }
                Err(failure) => {
                    speaker.say_failed(failure);
                    clone::exit_now(125);
                }
            }
        }
        clone::Fork::Parent { pidfd, .. } => {
            drop(speaker);
            let expected = Expected::of(&container.process);
            Pending::new(hearing, pidfd, &container.name, &container.process, expected, programs.enter())
        }
    }
}

struct Launcher<'a> {
    sandbox: &'a Sandbox,
    programs: &'a Programs,
    pinned: &'a Pinned,
    pod: &'a SandboxPlan,
    container: &'a ContainerPlan,
    leaf: Option<&'a Leaf>,
    gate: Option<&'a Gate>,
    window: WindowSize,
    speaker: &'a Speaker,
    supervisor: i32,
}

impl Launcher<'_> {
    /// Who: a child of the supervisor, outside the pod's pid namespace. Why: only a process that has both your ids and
    /// the pod's capabilities can open what you may read and mount it in the pod. Ends: when init exists, with the root
    /// that init has.
    fn run(&self) -> Result<Root> {
        let name = &self.container.name;
        // While /proc/self is still ours: that of a process that is not dumpable belongs to root.
        process::set_oom_score(self.container.process.oom_score_adj);
        privileges::hide_from_ptrace().during(Step::EnterPod, name)?;
        self.enter_workshop()?;
        // From here on: the workshop's tree, still with your ids, and every capability in the pod's user namespace.
        let sources = Sources::open(self.pod, self.container, self.pinned)?;
        let identity = root_of(&self.pod.idmap);
        privileges::become_identity(&identity).during(Step::BecomeRoot, name)?;
        if !clone::die_with_parent(Some(self.supervisor)).during(Step::BecomeRoot, name)? {
            clone::exit_now(125);
        }
        stdio::set_umask(0o022);
        let root = Root::build(self.container, &sources, self.pod.place_of(&self.container.root))?;

        let step = Step::CreateContainer;
        self.join_pause()?;
        let mut namespaces = Namespaces::CLONE_NEWNS;
        let bridged = self.container.pid == NamespaceMode::Container;
        if bridged {
            namespaces |= Namespaces::CLONE_NEWPID;
            let bridge = clone::fork_into(Namespaces::empty(), clone::Parent::CallersParent).during(step, name)?;
            if matches!(bridge, clone::Fork::Parent { .. }) {
                return Ok(root);
            }
        }
        let cgroup = self.leaf.map(cgroup::destination);
        match clone::fork_into_cgroup(namespaces, clone::Parent::CallersParent, cgroup).during(step, name)? {
            clone::Fork::Parent { .. } if bridged => clone::exit_now(0),
            clone::Fork::Parent { .. } => Ok(root),
            clone::Fork::Child => match self.become_init(&sources, &root)? {},
        }
    }

    /// The pod's user namespace, and the workshop; ends in the directory of the pod's tmpfs.
    fn enter_workshop(&self) -> Result<()> {
        let (step, name) = (Step::EnterPod, &self.container.name);
        let workshop = self.sandbox.workshop.as_fd();
        let user = clone::owner_of(workshop).during(step, name)?;
        clone::join(user.as_fd(), Namespaces::CLONE_NEWUSER).during(step, name)?;
        clone::join(workshop, Namespaces::CLONE_NEWNS).during(step, name)?;
        let tmpfs = layers::open_in_tmpfs(&self.pod.dirs, Path::new("")).during(step, name)?;
        path::enter_directory(tmpfs.as_fd()).during(step, name)
    }

    /// The other namespaces. Not before pause is a program of its own: until then it is closed to us as to all others
    /// (setns(2) by a pidfd asks ptrace's questions), and no process of a container exists beside a copy of the supervisor.
    fn join_pause(&self) -> Result<()> {
        self.sandbox.wait_for_pause()?;
        let others = pod_namespaces(self.pod.namespaces).difference(Namespaces::CLONE_NEWUSER);
        if others.is_empty() {
            return Ok(());
        }
        clone::join_all(&self.sandbox.process, others).during(Step::EnterPod, &self.container.name)
    }

    /// Who: the first process of the container. Why: mounts what it will see, gives up what it must not have, executes
    /// the user's command. Ends: as that command, or at the death of the supervisor or of pause.
    fn become_init(&self, sources: &Sources<'_>, root: &Root) -> Result<Infallible> {
        let container = self.container;
        if self.pod.namespaces.cgroup == NamespaceMode::Container {
            // Not by clone3: the root of the new namespace is the cgroup of whoever makes it (cgroup_namespaces(7)).
            clone::unshare(Namespaces::CLONE_NEWCGROUP).during(Step::CreateContainer, &container.name)?;
        }
        // What marks the container's processes where it has no pid namespace of its own (`sweep.rs`).
        let mark = match container.pid {
            NamespaceMode::Container => None,
            NamespaceMode::Pod | NamespaceMode::Node => {
                Some(clone::own_namespace("mnt").during(Step::CreateContainer, &container.name)?)
            }
        };
        let fds: Vec<_> = mark.iter().map(AsFd::as_fd).collect();
        self.speaker.say(Step::CreateContainer, &Message::Born, &fds)?;
        drop(fds);
        drop(mark);
        let null = mounts::mount_all(container, sources, root)?;
        mount::pivot_to_current_directory().during(Step::EnterRoot, &container.name)?;
        process::make_working_directory(&container.process)?;
        if let Some(gate) = self.gate {
            gate.pass(START_DEADLINE)?;
        }
        let stdio =
            if container.process.tty { process::Wish::Terminal(self.window) } else { process::Wish::Pipes { null } };
        Command { process: &container.process, idmap: &self.pod.idmap, name: &container.name, user: None }.execute(
            stdio,
            self.speaker,
            self.programs.enter(),
        )
    }
}

/// Those of pause's namespaces that are not the host's, without its mount namespace, which is empty.
#[must_use]
pub fn pod_namespaces(modes: SandboxNamespaces) -> Namespaces {
    let SandboxNamespaces { pid, net, ipc, uts, cgroup } = modes;
    let mut flags = Namespaces::CLONE_NEWUSER;
    for (mode, flag) in [
        (pid, Namespaces::CLONE_NEWPID),
        (net, Namespaces::CLONE_NEWNET),
        (ipc, Namespaces::CLONE_NEWIPC),
        (uts, Namespaces::CLONE_NEWUTS),
        (cgroup, Namespaces::CLONE_NEWCGROUP),
    ] {
        if mode == NamespaceMode::Pod {
            flags |= flag;
        }
    }
    flags
}
