//! Another process in a running container: `sandpod exec`.

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use super::cgroup::{self, Leaf};
use super::failure::{During, Failure, Result};
use super::message::{Message, START_DEADLINE, Speaker};
use super::pending::{Expected, Hearing, Pending};
use super::process::{self, Command, Wish};
use super::programs::Programs;
use super::sandbox::root_of;
use crate::plan::{NamespaceMode, ProcessPlan, SandboxPlan};
use crate::step::Step;
use crate::sys::process::PidFd;
use crate::sys::terminal::WindowSize;
use crate::sys::{Errno, Error, Namespaces, clone, privileges};

/// What to run, where.
#[derive(Debug)]
pub struct Entry<'a> {
    pub pod: &'a SandboxPlan,
    pub container: &'a str,
    /// How the container relates to the pod's pid namespace.
    pub pid: NamespaceMode,
    /// The container's first process.
    pub init: &'a PidFd,
    pub leaf: Option<&'a Leaf>,
    /// The container's own process plan with this call's argv, environment and directory.
    pub process: &'a ProcessPlan,
    /// `exec -u`.
    pub user: Option<&'a str>,
}

/// The command's stdin, stdout and stderr.
#[derive(Debug)]
pub enum Streams {
    /// The client's.
    Given([OwnedFd; 3]),
    /// A new terminal of this size.
    Terminal(WindowSize),
}

/// Sends the process on its way.
pub fn start(entry: &Entry<'_>, programs: &Programs, streams: Streams) -> Result<Pending> {
    let (step, name) = (Step::EnterPod, entry.container);
    let (hearing, speaker) = Hearing::connect(step, name, START_DEADLINE)?;
    let supervisor = std::process::id().cast_signed();
    let (expected, wish) = match streams {
        Streams::Given(given) => (Expected::Nothing, Wish::Given(given)),
        Streams::Terminal(size) => (Expected::Terminal, Wish::Terminal(size)),
    };
    // The supervisor's own rights put it there: from within the container's cgroup namespace it could not be done.
    let cgroup = entry.leaf.map(cgroup::destination);
    let forked = clone::fork_into_cgroup(Namespaces::empty(), clone::Parent::Caller, cgroup);
    match forked.map_err(|error| not_born(name, &error))? {
        clone::Fork::Child => {
            drop(hearing);
            let Err(failure) = enter(entry, programs, wish, &speaker, supervisor);
            speaker.say_failed(failure);
            clone::exit_now(125);
        }
        clone::Fork::Parent { pidfd, .. } => {
            drop(speaker);
            Pending::new(hearing, pidfd, name, entry.process, expected, programs.enter())
        }
    }
}

/// Where root is you, the container owns its inner cgroup. One that has controllers for its children may have no processes
/// of its own (cgroup-v2.rst, "No Internal Process Constraint"), nor has a threaded one room for a process.
fn not_born(container: &str, error: &Error) -> Failure {
    match error.errno {
        Errno::EBUSY | Errno::EOPNOTSUPP => Failure::because(
            Step::EnterPod,
            container,
            format!(
                "its cgroup takes no further process ({error}): the container has changed it from inside; its next start \
                 gives it another (`sandpod kill -c {container} POD` where it is restarted)"
            ),
        ),
        _ => Failure::new(Step::EnterPod, container, error),
    }
}

/// Who: a child of the supervisor on its way into the container. Ends: as the command, after one more fork, because
/// setns(2) into a pid namespace only holds for children.
fn enter(entry: &Entry<'_>, programs: &Programs, wish: Wish, speaker: &Speaker, supervisor: i32) -> Result<Infallible> {
    let (step, name) = (Step::EnterPod, entry.container);
    process::set_oom_score(entry.process.oom_score_adj);
    privileges::hide_from_ptrace().during(step, name)?;
    let mut namespaces = super::launcher::pod_namespaces(entry.pod.namespaces) | Namespaces::CLONE_NEWNS;
    if entry.pod.namespaces.cgroup == NamespaceMode::Container {
        namespaces |= Namespaces::CLONE_NEWCGROUP;
    }
    let own_pid = match entry.pid {
        NamespaceMode::Container | NamespaceMode::Pod => Namespaces::CLONE_NEWPID,
        NamespaceMode::Node => Namespaces::empty(),
    };
    clone::join_all(entry.init, namespaces | own_pid).during(step, name)?;
    privileges::become_identity(&root_of(&entry.pod.idmap)).during(Step::BecomeRoot, name)?;
    if !clone::die_with_parent(Some(supervisor)).during(Step::BecomeRoot, name)? {
        clone::exit_now(125);
    }
    match clone::fork_into(Namespaces::empty(), clone::Parent::CallersParent).during(Step::CreateContainer, name)? {
        clone::Fork::Parent { .. } => clone::exit_now(0),
        clone::Fork::Child => {}
    }
    speaker.say(Step::CreateContainer, &Message::Born, &[])?;
    Command { process: entry.process, idmap: &entry.pod.idmap, name, user: entry.user }.execute(
        wish,
        speaker,
        programs.enter(),
    )
}
