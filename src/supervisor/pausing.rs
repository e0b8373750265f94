//! Pause and unpause: the leaves of containers are frozen (cgroup-v2.rst, "cgroup.freeze"), never the supervisor's or
//! pause's own, so that whatever is asked of the pod is still answered.
//!
//! What is frozen is known to the kernel, and to the lifecycle machine, which starts no new life of such a container. The
//! kernel takes its time: the client waits, the loop does not.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use super::clients::refuse;
use super::event_loop::Supervisor;
use super::lifecycle::Event;
use super::watch::Source;
use crate::engine::cgroup::Freezing;
use crate::report::Report;
use crate::sys::event::Interest;
use crate::sys::signals::SIGKILL;

/// A process in an uninterruptible wait keeps its cgroup from being frozen. Clients wait ten seconds for an answer.
const DEADLINE: Duration = Duration::from_secs(5);

/// A pause that a client waits for.
#[derive(Debug)]
pub(super) struct Pausing {
    client: u64,
    /// Containers that do not stand still yet.
    waits: Vec<(usize, Freezing)>,
    /// Containers that this pause found running: when it fails, they run again. Who was paused before stays so.
    fresh: Vec<usize>,
    deadline: Instant,
}

impl Supervisor<'_> {
    /// Freezes one container, or all that have not ended for good. All or nothing; a second time does no harm. The client
    /// hears of it when it is so.
    pub(super) fn pause(&mut self, client: u64, name: Option<&str>) -> Result<(), Report> {
        let what = self.pause_failed();
        if self.cgroups.is_none() {
            return Err(refuse(what).because("it has no cgroup of its own, and only a cgroup can be frozen"));
        }
        if !self.pod.is_up() {
            let why = "it is only starting, or stopping";
            return Err(refuse(what).because(why).hint("`sandpod ps` shows when it runs"));
        }
        let meant = match name {
            Some(name) => vec![self.running_container(name)?],
            None => (0..self.containers.len()).filter(|index| self.pod.code_of(*index).is_none()).collect(),
        };
        let fresh: Vec<usize> = meant.iter().copied().filter(|index| !self.pod.is_paused(*index)).collect();
        let mut waits = Vec::new();
        for index in meant {
            match self.freeze(index) {
                Ok(freezing) => waits.extend(freezing.map(|freezing| (index, freezing))),
                Err(failure) => {
                    // The first failure is the one to tell.
                    fresh.iter().for_each(|index| drop(self.thaw(*index)));
                    return Err(failure.into_report(what));
                }
            }
        }
        // From now on: no command is sent, and no life begun, into what is about to stand still.
        fresh.iter().for_each(|index| self.handle(Event::Frozen { index: *index }));
        for (index, freezing) in &waits {
            self.watch.add(freezing.as_fd(), Source::Freezing(client, *index), Interest::News);
        }
        self.pausing.push(Pausing { client, waits, fresh, deadline: Instant::now() + DEADLINE });
        self.look_at_pauses();
        Ok(())
    }

    /// Lets one container go on, or all of them.
    pub(super) fn unpause(&mut self, name: Option<&str>) -> Result<(), Report> {
        let meant = match name {
            Some(name) => vec![self.container(name)?],
            None => (0..self.containers.len()).collect(),
        };
        for index in meant {
            self.thaw(index).map_err(|failure| {
                failure.into_report(format!("could not unpause container `{}`", self.plan.containers[index].name))
            })?;
            self.handle(Event::Thawed { index });
        }
        Ok(())
    }

    /// Answers the pauses whose containers are frozen by now, or are not in time. Each is judged while the others are in
    /// their place: a pause that is given up thaws containers that another one waits for (`thaw`).
    pub(super) fn look_at_pauses(&mut self) {
        let mut position = 0;
        while let Some(pausing) = self.pausing.get_mut(position) {
            let client = pausing.client;
            let mut failure = None;
            for (index, freezing) in std::mem::take(&mut pausing.waits) {
                match freezing.is_done() {
                    Ok(true) => self.watch.remove(freezing.as_fd(), Source::Freezing(client, index)),
                    waits => {
                        failure = failure.or(waits.err());
                        pausing.waits.push((index, freezing));
                    }
                }
            }
            let (is_done, is_late) = (pausing.waits.is_empty(), Instant::now() >= pausing.deadline);
            if failure.is_none() && !is_done && !is_late {
                position += 1;
                continue;
            }
            let pausing = self.pausing.remove(position);
            if let Some(failure) = failure {
                let report = failure.into_report(self.pause_failed());
                self.give_up(pausing, report);
            } else if is_done {
                self.paused(client);
            } else {
                let report = self.frozen_too_late(&pausing);
                self.give_up(pausing, report);
            }
            // What ended may have ended others as well.
            position = 0;
        }
    }

    fn frozen_too_late(&self, pausing: &Pausing) -> Report {
        let names = pausing.waits.iter().map(|(index, _)| format!("`{}`", self.plan.containers[*index].name));
        let why = format!(
            "{} is not frozen after {} s: a process in it waits inside the kernel, for a device or a network file system",
            names.collect::<Vec<_>>().join(", "),
            DEADLINE.as_secs()
        );
        refuse(self.pause_failed()).because(why).hint("nothing is paused; all of it goes on")
    }

    /// Until the first pause has to be given up.
    pub(super) fn pause_deadline(&self) -> Option<Duration> {
        let left = |pausing: &Pausing| pausing.deadline.saturating_duration_since(Instant::now());
        self.pausing.iter().map(left).min()
    }

    fn give_up(&mut self, pausing: Pausing, report: Report) {
        for (index, freezing) in &pausing.waits {
            self.watch.remove(freezing.as_fd(), Source::Freezing(pausing.client, *index));
        }
        for index in pausing.fresh {
            // Thawed is what it is in the kernel whenever it can be; the failure to tell is the first.
            let _ = self.thaw(index);
            self.handle(Event::Thawed { index });
        }
        self.refuse_client(pausing.client, report);
    }

    /// One that began to live again when the pause came is stopped at its first step.
    pub(super) fn freeze_if_paused(&self, index: usize) {
        if self.pod.is_paused(index) {
            // It is frozen as soon as it can be; `ps` shows so.
            let _ = self.freeze(index);
        }
    }

    /// A signal to a frozen process, other than SIGKILL, waits until it is thawed: whoever sends one wants it heard.
    pub(super) fn thaw_for_signal(&mut self, index: usize) -> Option<Event> {
        if !self.pod.is_paused(index) {
            return None;
        }
        let _ = self.thaw(index);
        Some(Event::Thawed { index })
    }

    /// As a client asks for it: what is paused wakes up for it, unless it dies of it.
    pub(super) fn kill(&mut self, index: usize, signal: i32) {
        self.signal(index, signal);
        if signal != SIGKILL
            && let Some(event) = self.thaw_for_signal(index)
        {
            self.handle(event);
        }
    }

    fn freeze(&self, index: usize) -> crate::engine::Result<Option<Freezing>> {
        let container = self.containers.get(index).filter(|container| container.running.is_some());
        container.and_then(|container| container.leaf.as_ref()).map(|leaf| leaf.freeze()).transpose()
    }

    /// Whoever still waits for it to stand still hears that it will not.
    fn thaw(&mut self, index: usize) -> crate::engine::Result<()> {
        let (waiting, others) = std::mem::take(&mut self.pausing)
            .into_iter()
            .partition(|pausing: &Pausing| pausing.waits.iter().any(|(waits, _)| *waits == index));
        self.pausing = others;
        for mut pausing in Vec::from_iter(waiting) {
            // What else it has frozen by now stays so.
            pausing.fresh.clear();
            let why = format!("container `{}` was let go on meanwhile", self.plan.containers[index].name);
            self.give_up(pausing, refuse(self.pause_failed()).because(why));
        }
        let container = self.containers.get(index).filter(|container| container.running.is_some());
        container.and_then(|container| container.leaf.as_ref()).map_or(Ok(()), crate::engine::cgroup::Leaf::thaw)
    }

    fn pause_failed(&self) -> String {
        format!("could not pause pod `{}`", self.plan.sandbox.name)
    }
}
