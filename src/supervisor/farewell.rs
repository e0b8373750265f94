//! After the pod's end: output that clients have not taken yet, and a caller that is to remove the pod.
//!
//! The record is final and the lock is free by now, so others see a pod that has ended, and may remove it.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::AtEnd;
use super::ending::remove_everything;
use super::event_loop::Supervisor;
use crate::engine::cgroup::Cgroups;
use crate::sys::poll::{self, Want};
use crate::sys::socket::Channel;
use crate::sys::{Errno, Error};

/// A client that reads has taken everything by then. For a slower one this process leaves the pod's cgroups, so that they can
/// be removed; that costs a grace period of the kernel, which most ends are spared.
const SOON: Duration = Duration::from_millis(200);

/// What a caller of `run --rm` does.
enum Caller {
    Lives,
    /// It removes the pod.
    Removes,
    Gone,
}

impl Supervisor<'_> {
    /// What becomes of the pod, decided at its end: a caller that has gone removes nothing.
    pub(super) fn settle_at_end(&mut self) -> AtEnd {
        if let Some(Caller::Gone) = self.caller.as_ref().map(look_at) {
            (self.at_end, self.caller) = (AtEnd::Remove, None);
        }
        self.at_end
    }

    /// Until every client has taken everything or has gone, and the caller of `run --rm` has taken over or has gone.
    pub(super) fn wait_for_readers(&mut self) {
        let begun = Instant::now();
        let mut in_cgroup = true;
        loop {
            let caller_has_gone = match self.caller.as_ref().map(look_at) {
                None | Some(Caller::Lives) => false,
                Some(Caller::Removes) => {
                    self.caller = None;
                    false
                }
                Some(Caller::Gone) => {
                    self.caller = None;
                    true
                }
            };
            if caller_has_gone {
                if std::mem::take(&mut in_cgroup) {
                    self.leave_cgroups();
                }
                remove_everything(self.plan, self.cgroups.as_ref().map(Cgroups::path));
            }
            let mut awaited: Vec<(BorrowedFd<'_>, Want)> = Vec::new();
            for container in &mut self.containers {
                // Their sockets close: that is how they learn that they have everything.
                container.output.attached.retain(|_, client| !client.flush().is_empty());
                let sinks = container.output.attached.values_mut().flat_map(|client| client.flush());
                awaited.extend(sinks.map(|sink| (sink.as_fd(), Want::Write)));
            }
            awaited.extend(self.caller.iter().map(|caller| (caller.as_fd(), Want::Read)));
            if awaited.is_empty() {
                return;
            }
            let left = in_cgroup.then(|| SOON.saturating_sub(begun.elapsed()));
            if poll::any(&awaited, left).is_err() {
                return;
            }
            if in_cgroup && begun.elapsed() >= SOON {
                in_cgroup = false;
                self.leave_cgroups();
            }
        }
    }

    fn leave_cgroups(&self) {
        if let Some(cgroups) = &self.cgroups {
            // If that fails, the cgroup is left to the next pod's start (docs/decisions/0009).
            let _ = cgroups.leave();
        }
    }
}

fn look_at(caller: &Channel) -> Caller {
    match caller.try_receive() {
        Ok(Some(_)) => Caller::Removes,
        Err(Error { errno: Errno::EAGAIN, .. }) => Caller::Lives,
        Ok(None) | Err(_) => Caller::Gone,
    }
}
