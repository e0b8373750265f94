//! One process for each pod: starts it, watches it, ends it. Host namespaces, your uid, one thread.
//!
//! [`lifecycle`] decides what happens next, purely; [`event_loop`] brings it events and does its actions.

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

mod attached;
mod changes;
mod clients;
mod commands;
mod container;
mod ending;
mod event_loop;
mod farewell;
pub mod lifecycle;
pub mod log;
mod network;
mod output;
mod pausing;
mod ports;
mod prepare;
pub mod protocol;
mod silence;
mod sink;
mod starts;
mod storage;
mod watch;

use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use jiff::Timestamp;

use crate::engine::cgroup::{self, Cgroups};
use crate::engine::ports::Sockets;
use crate::engine::{During, Failure, Result, remove};
use crate::plan::cgroup::CgroupPlan;
use crate::plan::{PodPlan, SandboxPlan};
use crate::state::CreatedPod;
use crate::step::Step;
use crate::sys::own_dir::OwnDir;
use crate::sys::socket::Channel;
use crate::sys::terminal::WindowSize;
use crate::sys::{Errno, Error, Namespaces, clone, process, stdio};

use event_loop::Supervisor;

/// What becomes of the pod's files when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// Logs and record stay until `sandpod rm`.
    Keep,
    /// `run -d --rm`.
    Remove,
    /// `run --rm`: the caller removes the pod when it has printed the last of the output, and says so
    /// ([`protocol::FromCaller`]). Where the caller has gone, the supervisor removes the pod.
    KeepForCaller,
}

/// The caller takes part in a container's stdio from its first byte on, until the pod ends. The master of the main
/// container's terminal comes beside [`protocol::StartReply::Ready`].
#[derive(Debug)]
pub struct FirstAttach {
    /// stdin and stdout.
    pub stdio: UnixStream,
    pub stderr: UnixStream,
    /// The caller's stdin is passed on.
    pub input: bool,
}

/// What `run` hands over to the supervisor, beside the pod.
#[derive(Debug)]
pub struct Handover {
    pub at_end: AtEnd,
    /// One for each container, in the plan's order; none with `run -d`.
    pub attach: Vec<FirstAttach>,
    /// The size of the caller's own terminal, for the main container's.
    pub window: Option<WindowSize>,
    /// Of the published ports, bound already.
    pub sockets: Sockets,
}

/// Starts the supervisor of a pod that has been created. One [`protocol::StartReply`] comes on the returned channel; its
/// end without one means that the supervisor died.
pub fn spawn(created: CreatedPod, plan: &PodPlan, handover: Handover) -> Result<Channel> {
    let started = fork_supervisor(created, plan, handover);
    if started.is_err() {
        let made = match &plan.sandbox.cgroup {
            CgroupPlan::Tree(tree) => tree.directory(),
            CgroupPlan::Inherited => None,
        };
        // The failure is what to tell; what stays has the pod's name.
        let SandboxPlan { dirs, idmap, .. } = &plan.sandbox;
        let _ = remove::remove_pod(dirs, &plan.sandbox.entries(), idmap, &[], made.as_deref());
    }
    started
}

fn fork_supervisor(created: CreatedPod, plan: &PodPlan, handover: Handover) -> Result<Channel> {
    let step = Step::StartSupervisor;
    let threads = process::thread_count().during(step, "")?;
    if threads != 1 {
        // A fork would copy the locks of threads that do not exist in the copy.
        let call = format!("fork with {threads} threads");
        return Err(Failure::new(step, "", &Error { call, errno: Errno::EINVAL }));
    }
    let (ours, theirs) = Channel::pair().during(step, "")?;
    // Until the supervisor is in its own, or is not to be.
    let making = cgroup::begin(&plan.sandbox);
    let cgroups = Cgroups::make(&plan.sandbox)?;
    let leaf = cgroups.as_ref().map(|cgroups| cgroup::destination(&cgroups.supervisor));
    match clone::fork_into_cgroup(Namespaces::empty(), clone::Parent::Caller, leaf).during(step, "")? {
        clone::Fork::Parent { .. } => Ok(ours),
        clone::Fork::Child => {
            drop((ours, making));
            let locks = created.locks.iter().map(AsFd::as_fd);
            let leaves = cgroups.iter().flat_map(Cgroups::descriptors);
            let kept: Vec<_> =
                [theirs.as_fd()].into_iter().chain(handover.descriptors()).chain(locks).chain(leaves).collect();
            detach(plan, &kept);
            supervise(created, plan, cgroups, handover, theirs);
            clone::exit_now(0);
        }
    }
}

/// Who: a child of `sandpod run` that outlives it, in the host's namespaces. Why: somebody must hold the pod's lock and the
/// ends of its pipes, and reap what dies. Ends: with the pod. Whatever happens, `starter` gets an answer and nothing
/// half-made stays.
fn supervise(created: CreatedPod, plan: &PodPlan, cgroups: Option<Cgroups>, handover: Handover, starter: Channel) {
    let CreatedPod { record, locks, .. } = created;
    let made = cgroups.as_ref().map(|cgroups| cgroups.path().to_owned());
    let mut supervisor = match Supervisor::prepare(plan, record, cgroups, handover) {
        Ok(supervisor) => supervisor,
        Err(failure) => return ending::never_began(plan, made.as_deref(), &starter, failure),
    };
    supervisor.starter = Some(starter);
    match supervisor.bring_up() {
        Ok(()) => supervisor.run(),
        Err(failure) => supervisor.did_not_come_up(failure, made.as_deref()),
    }
    supervisor.end(locks);
}

impl Handover {
    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let attached = self.attach.iter().flat_map(|ends| [ends.stdio.as_fd(), ends.stderr.as_fd()]);
        self.sockets.descriptors().chain(attached)
    }
}

/// Leaves the caller's session, terminal, standard streams and whatever else it had open: a pipe that somebody waits on
/// for its end, a lock. What a panic says goes to a file beside the logs.
fn detach(plan: &PodPlan, kept: &[BorrowedFd<'_>]) {
    // What the caller opened, not we: everything of ours is in `kept`.
    let _ = stdio::close_all_but(kept);
    // None of this can fail in a way that the pod would notice: it then keeps the caller's streams.
    let _ = stdio::new_session();
    let Ok(null) = stdio::open_device("/dev/null") else { return };
    let _ = stdio::set_stdio(null.as_fd(), null.as_fd(), null.as_fd());
    let data = plan.sandbox.dirs.data.clone();
    std::panic::set_hook(Box::new(move |bug| {
        let opened = OwnDir::of_pod(&data).and_then(|data| data.append("panic.txt".as_ref()));
        // There is nobody else to tell.
        let _ = opened.map(|mut opened| writeln!(opened, "{} {bug}", Timestamp::now()));
    }));
}
