//! Kubernetes' CrashLoopBackOff.

use std::time::Duration;

/// kubelet's `backOffPeriod` (pkg/kubelet/kubelet.go).
pub(super) const BASE: Duration = Duration::from_secs(10);
/// kubelet's `MaxContainerBackOff` (pkg/kubelet/kubelet.go).
pub(super) const MAX: Duration = Duration::from_secs(300);
/// A life longer than this forgives the crashes before it: `hasExpired` in client-go's util/flowcontrol/backoff.go says
/// twice the longest back-off.
pub(super) const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// How long the next restart of one container waits.
#[derive(Debug, Clone, Default)]
pub(super) struct BackOff {
    /// `None`: it has not crashed lately, the next restart is immediate.
    next: Option<Duration>,
}

impl BackOff {
    /// The wait before the restart that follows a life of `lived`: 0, 10 s, 20 s, 40 s … 300 s.
    pub(super) fn after(&mut self, lived: Duration) -> Duration {
        if lived > FORGIVEN_AFTER {
            self.next = None;
        }
        let wait = self.next.unwrap_or(Duration::ZERO);
        self.next = Some((wait * 2).clamp(BASE, MAX));
        wait
    }
}
