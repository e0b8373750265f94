//! The life of a pod's user-mode network, as a pure machine like the pod's own: what happened in, what to do out.
//!
//! A pod that never had its network fails, since its containers were promised one. A network that dies later is started
//! again, with a back-off: what the containers do among themselves goes on meanwhile.

use std::time::Duration;

use crate::plan::network::Sandboxing;

/// What takes longer hangs; slirp4netns takes about 10 ms.
pub const ATTACH_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// After this long the next failure is a first one again.
const STABLE: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Attaching {
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
    Start(Sandboxing),
    /// Its end is the next event.
    Kill,
    /// Fail the pod.
    Fail,
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It names what it lacks: trying again in another way would not help.
    Refused,
    /// With a status of its own.
    Exited,
    /// By a signal, which says nothing about how it was started.
    Signalled,
}

#[derive(Debug)]
pub struct Network {
    state: State,
    sandboxing: Sandboxing,
    was_up: bool,
    failures: u32,
    /// Starts after the first success.
    restarts: u32,
}

impl Network {
    /// To be started at `now`.
    #[must_use]
    pub fn new(sandboxing: Sandboxing, now: Duration) -> Network {
        Network {
            state: State::Attaching { until: now + ATTACH_TIMEOUT },
            sandboxing,
            was_up: false,
            failures: 0,
            restarts: 0,
        }
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    #[must_use]
    pub fn sandboxing(&self) -> Sandboxing {
        self.sandboxing
    }

    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    pub fn came_up(&mut self, now: Duration) {
        self.was_up = true;
        self.state = State::Up { since: now };
    }

    pub fn ended(&mut self, end: End, now: Duration) -> Option<Order> {
        match self.state {
            State::Failed | State::Down { .. } => None,
            State::Up { since } => {
                if now.saturating_sub(since) >= STABLE {
                    self.failures = 0;
                }
                self.wait(now)
            }
            State::Attaching { .. } | State::Killed if self.was_up => self.wait(now),
            State::Attaching { .. } if end == End::Exited && self.sandboxing == Sandboxing::On => {
                // An outer container may forbid the mounts that its sandbox is made of.
                self.sandboxing = Sandboxing::Off;
                Some(self.start(now))
            }
            State::Attaching { .. } | State::Killed => {
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

    fn start(&mut self, now: Duration) -> Order {
        self.state = State::Attaching { until: now + ATTACH_TIMEOUT };
        Order::Start(self.sandboxing)
    }

    pub fn timer_fired(&mut self, now: Duration) -> Option<Order> {
        match self.state {
            State::Down { restart_at } if restart_at <= now => {
                self.restarts = self.restarts.saturating_add(1);
                Some(self.start(now))
            }
            State::Attaching { until } if until <= now => {
                self.state = State::Killed;
                Some(Order::Kill)
            }
            State::Down { .. } | State::Attaching { .. } | State::Killed | State::Up { .. } | State::Failed => None,
        }
    }

    /// When to call [`timer_fired`](Self::timer_fired).
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        match self.state {
            State::Attaching { until } => Some(until),
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
        let mut network = Network::new(Sandboxing::On, Duration::ZERO);
        assert_eq!(network.ended(End::Refused, SECOND), Some(Order::Fail));
        assert_eq!((network.state(), network.next_deadline()), (State::Failed, None));
    }

    #[test]
    fn without_its_sandbox_before_not_at_all() {
        let mut network = Network::new(Sandboxing::On, Duration::ZERO);
        assert_eq!(network.ended(End::Exited, SECOND), Some(Order::Start(Sandboxing::Off)));
        assert_eq!(network.ended(End::Exited, SECOND * 2), Some(Order::Fail));
        let mut shot = Network::new(Sandboxing::On, Duration::ZERO);
        assert_eq!(shot.ended(End::Signalled, SECOND), Some(Order::Fail));
    }

    #[test]
    fn one_that_hangs_is_killed() {
        let mut network = Network::new(Sandboxing::On, Duration::ZERO);
        let deadline = network.next_deadline().expect("a deadline");
        assert_eq!(network.timer_fired(deadline - Duration::from_millis(1)), None);
        assert_eq!(network.timer_fired(deadline), Some(Order::Kill));
        // Once: its end is waited for, however long that takes.
        assert_eq!((network.next_deadline(), network.timer_fired(deadline)), (None, None));
        assert_eq!(network.ended(End::Signalled, deadline), Some(Order::Fail));
    }

    #[test]
    fn one_that_dies_is_started_again_ever_later() {
        let mut network = Network::new(Sandboxing::On, Duration::ZERO);
        network.came_up(SECOND);
        let mut now = SECOND;
        let mut last = Duration::ZERO;
        for round in 1..=12 {
            assert_eq!(network.ended(End::Signalled, now), None);
            let at = network.next_deadline().expect("a restart");
            assert!(at - now >= last && at - now <= LONGEST_DELAY, "round {round}");
            last = at - now;
            assert_eq!(network.timer_fired(at), Some(Order::Start(Sandboxing::On)));
            assert_eq!(network.restarts(), round);
            now = at;
        }
        assert_eq!(last, LONGEST_DELAY);
        network.came_up(now);
        assert_eq!(network.ended(End::Signalled, now + STABLE), None);
        assert_eq!(network.next_deadline(), Some(now + STABLE + FIRST_DELAY));
    }

    #[test]
    fn a_restart_that_fails_does_not_fail_the_pod() {
        let mut network = Network::new(Sandboxing::On, Duration::ZERO);
        network.came_up(SECOND);
        assert_eq!(network.ended(End::Signalled, SECOND), None);
        let at = network.next_deadline().expect("a restart");
        assert_eq!(network.timer_fired(at), Some(Order::Start(Sandboxing::On)));
        assert_eq!(network.ended(End::Refused, at), None);
        assert!(matches!(network.state(), State::Down { .. }));
    }
}
