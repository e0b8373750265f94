//! The life of a program beside the pod's containers (its network's, its port proxy), as a pure machine like the pod's own:
//! what happened in, what to do out.
//!
//! One that never came up fails the pod. One that dies later is started again, with a back-off: the containers go on
//! meanwhile.

use std::time::Duration;

/// What takes longer hangs; slirp4netns takes about 10 ms.
pub const START_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// After this long the next failure is a first one again.
const STABLE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Starting {
        until: Duration,
    },
    /// Given up, its end is on the way.
    Killed,
    Up {
        since: Duration,
    },
    Down {
        restart_at: Duration,
    },
    /// The pod fails.
    Failed,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Start,
    /// Its end is the next event.
    Kill,
    /// Fail the pod.
    Fail,
}

#[derive(Debug)]
pub struct Program {
    state: State,
    was_up: bool,
    failures: u32,
    /// Starts after the first success.
    restarts: u32,
}

impl Program {
    /// To be started at `now`.
    #[must_use]
    pub fn new(now: Duration) -> Program {
        Program { state: State::Starting { until: now + START_TIMEOUT }, was_up: false, failures: 0, restarts: 0 }
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    pub fn came_up(&mut self, now: Duration) {
        self.was_up = true;
        self.state = State::Up { since: now };
    }

    /// True while its first start is under way: another way to do it may be tried, with [`start`](Self::start).
    #[must_use]
    pub fn is_first_start(&self) -> bool {
        !self.was_up && matches!(self.state, State::Starting { .. })
    }

    /// It has ended, or could not be started.
    pub fn ended(&mut self, now: Duration) -> Option<Order> {
        match self.state {
            State::Failed | State::Down { .. } => None,
            State::Up { since } => {
                if now.saturating_sub(since) >= STABLE {
                    self.failures = 0;
                }
                self.wait(now)
            }
            State::Starting { .. } | State::Killed if self.was_up => self.wait(now),
            State::Starting { .. } | State::Killed => {
                self.state = State::Failed;
                Some(Order::Fail)
            }
        }
    }

    fn wait(&mut self, now: Duration) -> Option<Order> {
        let delay = FIRST_DELAY.saturating_mul(1 << self.failures.min(16)).min(LONGEST_DELAY);
        self.failures = self.failures.saturating_add(1);
        self.state = State::Down { restart_at: now + delay };
        None
    }

    pub fn start(&mut self, now: Duration) -> Order {
        self.state = State::Starting { until: now + START_TIMEOUT };
        Order::Start
    }

    pub fn timer_fired(&mut self, now: Duration) -> Option<Order> {
        match self.state {
            State::Down { restart_at } if restart_at <= now => {
                self.restarts = self.restarts.saturating_add(1);
                Some(self.start(now))
            }
            State::Starting { until } if until <= now => {
                self.state = State::Killed;
                Some(Order::Kill)
            }
            State::Down { .. } | State::Starting { .. } | State::Killed | State::Up { .. } | State::Failed => None,
        }
    }

    /// When to call [`timer_fired`](Self::timer_fired).
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        match self.state {
            State::Starting { until } => Some(until),
            State::Down { restart_at } => Some(restart_at),
            State::Killed | State::Up { .. } | State::Failed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_that_never_comes_up_fails_the_pod() {
        let mut program = Program::new(Duration::ZERO);
        assert!(program.is_first_start());
        assert_eq!(program.ended(SECOND), Some(Order::Fail));
        assert_eq!((program.state(), program.next_deadline()), (State::Failed, None));
        assert!(!program.is_first_start());
    }

    #[test]
    fn one_that_hangs_is_killed() {
        let mut program = Program::new(Duration::ZERO);
        let deadline = program.next_deadline().expect("a deadline");
        assert_eq!(program.timer_fired(deadline - Duration::from_millis(1)), None);
        assert_eq!(program.timer_fired(deadline), Some(Order::Kill));
        // Once: its end is waited for, however long that takes.
        assert_eq!((program.next_deadline(), program.timer_fired(deadline)), (None, None));
        assert!(!program.is_first_start(), "no other way is tried");
        assert_eq!(program.ended(deadline), Some(Order::Fail));
    }

    #[test]
    fn one_that_dies_is_started_again_ever_later() {
        let mut program = Program::new(Duration::ZERO);
        program.came_up(SECOND);
        let mut now = SECOND;
        let mut last = Duration::ZERO;
        for round in 1..=12 {
            assert_eq!(program.ended(now), None);
            let at = program.next_deadline().expect("a restart");
            assert!(at - now >= last.max(FIRST_DELAY) && at - now <= LONGEST_DELAY, "round {round}");
            last = at - now;
            assert_eq!(program.timer_fired(at), Some(Order::Start));
            assert_eq!(program.restarts(), round);
            now = at;
        }
        assert_eq!(last, LONGEST_DELAY);
        program.came_up(now);
        assert_eq!(program.ended(now + STABLE), None);
        assert_eq!(program.next_deadline(), Some(now + STABLE + FIRST_DELAY));
    }

    #[test]
    fn one_that_comes_up_and_dies_at_once_is_not_given_up_nor_started_without_a_pause() {
        let mut program = Program::new(Duration::ZERO);
        program.came_up(SECOND);
        let mut now = SECOND;
        for _ in 0..100 {
            assert_eq!(program.ended(now), None);
            let at = program.next_deadline().expect("a restart");
            assert!(at >= now + FIRST_DELAY);
            assert_eq!(program.timer_fired(at), Some(Order::Start));
            program.came_up(at);
            now = at;
        }
        assert_eq!(program.restarts(), 100);
    }

    #[test]
    fn a_restart_that_fails_does_not_fail_the_pod() {
        let mut program = Program::new(Duration::ZERO);
        program.came_up(SECOND);
        assert_eq!(program.ended(SECOND), None);
        let at = program.next_deadline().expect("a restart");
        assert_eq!(program.timer_fired(at), Some(Order::Start));
        assert_eq!(program.ended(at), None);
        assert!(matches!(program.state(), State::Down { .. }));
    }
}
