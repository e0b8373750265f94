//! Limits of what a pod keeps on disk: it is measured from time to time, and evicted when it is found beyond one
//! (`plan/storage.rs`). Nothing here happens to a pod without such a limit.

use std::os::fd::AsFd as _;
use std::time::Duration;

use super::event_loop::Supervisor;
use super::lifecycle::Event;
use super::watch::Source;
use crate::engine::storage::{self, Measuring};
use crate::sys::event::Interest;

/// Between two looks: that of the kubelet's eviction manager (`monitoringInterval`).
const INTERVAL: Duration = Duration::from_secs(10);
/// A walk that takes longer hangs in a file system, or never ends.
const MEASURING_TIMEOUT: Duration = Duration::from_secs(60);
/// So many looks in a row that came to no end are a way to keep more than one may.
const MOST_FAILURES: u32 = 6;

#[derive(Debug)]
pub(super) struct Storage {
    /// When to look next, or to give up the look that goes on; on the supervisor's clock.
    due: Duration,
    pub(super) measuring: Option<Measuring>,
    /// Looks in a row that told nothing.
    failures: u32,
}

impl Default for Storage {
    fn default() -> Storage {
        Storage { due: INTERVAL, measuring: None, failures: 0 }
    }
}

impl Supervisor<'_> {
    /// Until the next look, or the end of patience with this one.
    pub(super) fn storage_deadline(&self) -> Option<Duration> {
        let waits = self.plan.sandbox.storage.is_limited() && self.pod.is_up();
        waits.then(|| self.storage.due.saturating_sub(self.now()))
    }

    pub(super) fn measure_storage_if_due(&mut self) {
        if self.storage_deadline() != Some(Duration::ZERO) {
            return;
        }
        if let Some(measuring) = self.storage.measuring.take() {
            self.watch.remove(measuring.as_fd(), Source::Storage);
            return self.not_measured(&format!("it took longer than {} s", MEASURING_TIMEOUT.as_secs()));
        }
        match storage::start(&self.sandbox, &self.plan.sandbox, &self.plan.containers) {
            Ok(measuring) => {
                self.watch.add(measuring.as_fd(), Source::Storage, Interest::Readable);
                self.storage.measuring = Some(measuring);
                self.storage.due = self.now().saturating_add(MEASURING_TIMEOUT);
            }
            Err(failure) => self.not_measured(&failure.to_string()),
        }
    }

    /// The look is over.
    pub(super) fn on_storage(&mut self) {
        let Some(measuring) = self.storage.measuring.take() else { return };
        self.watch.remove(measuring.as_fd(), Source::Storage);
        self.storage.due = self.now().saturating_add(INTERVAL);
        match measuring.finish() {
            Ok(usage) => match self.plan.sandbox.storage.excess(&usage) {
                Some(why) => self.handle(Event::Evicted { why }),
                None if usage.incomplete => self.not_measured("it was moved about meanwhile"),
                None => self.storage.failures = 0,
            },
            Err(failure) => self.not_measured(&failure.to_string()),
        }
    }

    /// Tried again, and noted in the log, for whoever wonders why a limit does not hold; but not for ever.
    fn not_measured(&mut self, why: &str) {
        self.storage.due = self.now().saturating_add(INTERVAL);
        self.storage.failures += 1;
        let what = format!("what the pod has on disk could not be measured for its limits: {why}");
        if self.storage.failures >= MOST_FAILURES {
            self.storage.failures = 0;
            return self.handle(Event::Evicted { why: format!("{MOST_FAILURES} times in a row, {what}") });
        }
        if self.storage.failures == 1
            && let Some(container) = self.containers.first_mut()
        {
            container.output.note(&what);
        }
    }
}
