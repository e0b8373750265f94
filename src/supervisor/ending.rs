//! How a pod is taken down, and who hears of it.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use super::AtEnd;
use super::event_loop::{Accepted, Supervisor};
use super::ports::Publishing;
use super::protocol::{CONTROL_SOCKET, StartReply};
use super::starts::with_oom_kills;
use crate::engine::cgroup::{self, Cgroups};
use crate::engine::{Failure, remove};
use crate::plan::PodPlan;
use crate::report::Report;
use crate::sys::own_dir::OwnDir;
use crate::sys::poll::{self, Want};
use crate::sys::process::{self, PidFd};
use crate::sys::socket::Channel;

impl Supervisor<'_> {
    /// Takes the sandbox down. The record stays, unless nothing ever ran or nobody wants it.
    pub(super) fn end(mut self, locks: [File; 2]) {
        let at_end = self.settle_at_end();
        // What has begun by now is said to have run.
        self.advance_commands();
        self.publishing.iter_mut().for_each(Publishing::end);
        self.connection = None;
        self.storage.measuring = None;
        self.sandbox.kill();
        if at_end != AtEnd::Keep && self.containers.iter().all(|container| container.running.is_none()) {
            remove::remove_layers(self.plan);
        }
        self.await_ends();
        self.publishing = None;
        if at_end == AtEnd::Keep
            && let Some(cgroups) = &self.cgroups
        {
            // Nothing stays but our own, which `rm` removes; what else does, it names.
            let _ = cgroup::remove(cgroups.path(), &self.plan.sandbox.idmap);
        }
        for index in 0..self.containers.len() {
            self.close_output(index);
            self.let_go(index, |_| true);
        }
        let never_up = self.starter.take();
        let came_up = never_up.is_none();
        if never_up.is_none() {
            self.commit();
        }
        if at_end == AtEnd::Remove
            && let Some(cgroups) = &self.cgroups
        {
            // No caller waits for us that would remove the cgroup that we are in. If that fails, it has the pod's name.
            let _ = cgroups.leave();
        }
        if never_up.is_some() || at_end == AtEnd::Remove {
            remove_everything(self.plan, self.cgroups.as_ref().map(Cgroups::path));
        }
        // The record is final: whoever hears now how the pod ended need not wait until our memory is taken down, too.
        drop((locks, self.plan_lock.take()));
        let runtime = OwnDir::of_pod(&self.plan.sandbox.dirs.runtime);
        let _ = runtime.and_then(|runtime| runtime.remove(CONTROL_SOCKET.as_ref()));
        self.answer_late();
        // Whoever connects by now, having found the socket before, would wait as long as this process waits for readers. The
        // kernel resets what has not been accepted (unix(7)), and they look at the record.
        self.control = None;
        self.answer_finished();
        if let Some(starter) = never_up {
            let died = || Report::new(crate::report::exit_code::FAILURE, "the pod ended before all its containers ran");
            let mut report = self.start_failure.take().unwrap_or_else(died);
            report.chain.insert(0, std::mem::take(&mut report.what));
            report.what = not_started(self.plan);
            tell_failure(&starter, report);
        }
        if came_up {
            self.wait_for_readers();
        }
    }

    /// The first process of a pid namespace ends after everything in it has been waited for, by us: they are our
    /// children (CLONE_PARENT). The port proxy holds the ports until it has ended, and whoever hears that the pod has may want
    /// them for the next one. The network's program has been killed, too, and holds nothing of the host's: it takes longer,
    /// for its interface goes with it.
    fn await_ends(&mut self) {
        let deadline = Instant::now() + END_DEADLINE;
        loop {
            // Asked of the pidfds: where its death is what ends the pod, pause has been reaped before.
            let proxy = self.publishing.iter().flat_map(Publishing::processes);
            let all = [&self.sandbox.process].into_iter().chain(proxy);
            let lives = |process: &&PidFd| !process.wait_gone(Duration::ZERO).unwrap_or(true);
            let mut awaited: Vec<_> = all.filter(lives).map(|process| (process.as_fd(), Want::Read)).collect();
            let gone = awaited.is_empty();
            awaited.push((self.signals.as_fd(), Want::Read));
            let left = deadline.saturating_duration_since(Instant::now());
            let over = !gone && (left.is_zero() || poll::any(&awaited, Some(left)).is_err());
            while self.signals.next().is_some() {}
            while let Some((pid, exit)) = process::reap_any() {
                self.command_ended(pid, exit);
            }
            if gone || over {
                return;
            }
        }
    }

    /// Who connected while the pod was ending has asked already, or asks within a moment; it hears how it ended.
    fn answer_late(&mut self) {
        loop {
            match self.accept() {
                Accepted::Client(id) => self.on_client(id),
                Accepted::Refused => {}
                Accepted::Nobody => break,
            }
        }
    }
}

/// There never was a sandbox: what there is of the pod goes, and `starter` hears why.
pub(super) fn never_began(plan: &PodPlan, cgroup: Option<&Path>, starter: &Channel, failure: Failure) {
    let report = with_oom_kills(cgroup, failure.into_report(not_started(plan)));
    remove_everything(plan, cgroup);
    tell_failure(starter, report);
}

fn not_started(plan: &PodPlan) -> String {
    format!("could not start pod `{}`", plan.sandbox.name)
}

fn tell_failure(starter: &Channel, report: Report) {
    let reply = serde_json::to_vec(&StartReply::Failed(report)).unwrap_or_default();
    // Nobody listens any more: nobody needs to know.
    let _ = starter.send(&reply, &[]);
}

/// A killed process that is not gone by then hangs in a device or a network file system; we do not wait for it.
const END_DEADLINE: Duration = Duration::from_secs(5);

/// The same teardown as `sandpod rm`; what it cannot remove, the next `rm` names.
pub(super) fn remove_everything(plan: &PodPlan, cgroup: Option<&Path>) {
    let _ = remove::remove_pod(&plan.sandbox.dirs, &plan.sandbox.entries(), &plan.sandbox.idmap, &[], cgroup);
}
