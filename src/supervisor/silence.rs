//! A line without a newline is in the log once its container has been silent for a second: a prompt waits for an answer
//! and gets no newline before.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::event_loop::Supervisor;

/// Longer than the pauses within a line that a program writes in several pieces.
const SILENCE: Duration = Duration::from_secs(1);

impl Supervisor<'_> {
    /// How long until [`write_silent_lines`](Self::write_silent_lines) is due.
    pub(super) fn silence_deadline(&mut self) -> Option<Duration> {
        let since =
            self.containers.iter_mut().filter_map(|container| container.output.log().unfinished_since()).min()?;
        Some((since + SILENCE).saturating_duration_since(Instant::now()))
    }

    pub(super) fn write_silent_lines(&mut self) {
        for container in &mut self.containers {
            let log = container.output.log();
            if log.unfinished_since().is_some_and(|since| since.elapsed() >= SILENCE) {
                log.write_unfinished(Timestamp::now());
            }
        }
    }
}
