//! What is tried again, how often, and after how long. Pure.

use std::time::Duration;

/// Of one request, or of one blob since its last progress.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest `Retry-After` that is honoured; a person would rather hear of a longer one.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(60);

/// The state of a series of attempts.
#[derive(Debug, Default)]
pub(super) struct Retry {
    attempts: u32,
    /// Bytes that had come at the last break.
    progress: u64,
}

impl Retry {
    /// After an answer that can be another one next time, or none at all: the time to wait, `None`: give up.
    pub(super) fn after_failure(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        self.attempts += 1;
        if self.attempts >= ATTEMPTS {
            return None;
        }
        let own = FIRST_WAIT * 2_u32.pow(self.attempts - 1);
        Some(retry_after.unwrap_or(own)).filter(|wait| *wait <= MAX_WAIT)
    }

    /// After a connection that broke when `progress` bytes had come.
    pub(super) fn after_break(&mut self, progress: u64) -> Option<Duration> {
        if progress > self.progress {
            *self = Retry { attempts: 0, progress };
        }
        self.after_failure(None)
    }
}

/// Statuses that say nothing of what was asked for (RFC 9110, 15; RFC 6585, 4).
pub(super) fn can_pass(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Seconds of a `Retry-After`. A date is not looked at: it would need the clocks of both to agree.
pub(super) fn retry_after(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_end() {
        let mut retry = Retry::default();
        let waits: Vec<_> = std::iter::from_fn(|| retry.after_failure(None)).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [250, 500, 1000, 2000]);
        assert_eq!(Retry::default().after_failure(retry_after("3")), Some(Duration::from_secs(3)));
        assert_eq!(Retry::default().after_failure(retry_after("3600")), None);
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), None);
    }

    #[test]
    fn progress_begins_the_count_again() {
        let mut retry = Retry::default();
        assert!((1..100).all(|bytes| retry.after_break(bytes).is_some()));
        assert_eq!((0..10).filter(|_| retry.after_break(99).is_some()).count(), 3);
    }
}
