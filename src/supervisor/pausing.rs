//! Pause and unpause: the leaves of containers are frozen (cgroup-v2.rst, "cgroup.freeze"), never the supervisor's or
//! pause's own, so that whatever is asked of the pod is still answered.
//!
//! What is frozen is known to the kernel, and to the lifecycle machine, which starts no new life of such a container.

use super::clients::refuse;
use super::event_loop::{SIGKILL, Supervisor};
use super::lifecycle::Event;
use crate::engine::cgroup::Freezer;
use crate::report::Report;

impl Supervisor<'_> {
    /// Freezes one container, or all that have not ended for good. All or nothing; a second time does no harm.
    pub(super) fn pause(&mut self, name: Option<&str>) -> Result<(), Report> {
        let what = format!("could not pause pod `{}`", self.plan.sandbox.name);
        if self.cgroups.is_none() {
            return Err(refuse(what).because("it has no cgroup of its own, and only a cgroup can be frozen"));
        }
        if !self.pod.is_up() {
            let why = "it is only starting, or stopping";
            return Err(refuse(what).because(why).hint("`sandpod ps` shows when it runs"));
        }
        let meant = match name {
            Some(name) => vec![self.running_container(name)?],
            None => (0..self.containers.len()).filter(|index| self.pod.exit_of(*index).is_none()).collect(),
        };
        for (done, index) in meant.iter().enumerate() {
            if let Err(failure) = self.freeze(*index, Freezer::Frozen) {
                // The first failure is the one to tell; who was paused before stays so.
                let undone = meant[..=done].iter().filter(|index| !self.pod.is_held(**index));
                undone.for_each(|index| drop(self.freeze(*index, Freezer::Thawed)));
                return Err(failure.into_report(what));
            }
        }
        meant.into_iter().for_each(|index| self.handle(Event::Frozen { index }));
        Ok(())
    }

    /// Lets one container go on, or all of them.
    pub(super) fn unpause(&mut self, name: Option<&str>) -> Result<(), Report> {
        let meant = match name {
            Some(name) => vec![self.container(name)?],
            None => (0..self.containers.len()).collect(),
        };
        for index in meant {
            self.freeze(index, Freezer::Thawed).map_err(|failure| {
                failure.into_report(format!("could not unpause container `{}`", self.plan.containers[index].name))
            })?;
            self.handle(Event::Thawed { index });
        }
        Ok(())
    }

    /// One that began to live again when the pause came is stopped at its first step.
    pub(super) fn hold_if_paused(&self, index: usize) {
        if self.pod.is_held(index) {
            // Where the kernel takes longer, it is frozen all the same when it can be; `ps` shows so.
            let _ = self.freeze(index, Freezer::Frozen);
        }
    }

    /// To the container's first process; one that has gone has been told already.
    pub(super) fn signal(&self, index: usize, signal: i32) {
        if let Some(running) = self.containers.get(index).and_then(|container| container.running.as_ref()) {
            let _ = running.process.signal(signal);
        }
    }

    /// As a client asks for it: what is paused wakes up for it, unless it dies of it.
    pub(super) fn kill(&mut self, index: usize, signal: i32) {
        self.signal(index, signal);
        if signal != SIGKILL
            && let Some(event) = self.wake(index)
        {
            self.handle(event);
        }
    }

    /// A signal to a frozen process, other than SIGKILL, waits until it is thawed: whoever sends one wants it heard.
    pub(super) fn wake(&self, index: usize) -> Option<Event> {
        if !self.pod.is_held(index) {
            return None;
        }
        let _ = self.freeze(index, Freezer::Thawed);
        Some(Event::Thawed { index })
    }

    fn freeze(&self, index: usize, state: Freezer) -> crate::engine::Result<()> {
        let Some(container) = self.containers.get(index).filter(|container| container.running.is_some()) else {
            return Ok(());
        };
        container.leaf.as_ref().map_or(Ok(()), |leaf| leaf.freeze(state))
    }
}
