//! The life of a pod's user-mode network: that of its program, which fails the pod when it never comes up, since the
//! containers were promised a network; and whether it runs locked up.

use std::time::Duration;

use super::program::{Order, Program};
use crate::plan::network::Sandboxing;

/// How slirp4netns is started; pasta always locks itself up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    /// In its sandbox, and without looking first whether there can be one: almost everywhere there can.
    Sandboxed,
    /// In its sandbox, where it is not refused.
    Checked,
    Unsandboxed,
}

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It names what it lacks: trying again in another way would not help.
    Refused,
    /// What it lacks is its sandbox: it was tried without anything else.
    NoSandbox,
    /// With a status of its own, or by a signal: why is not known.
    Failed,
}

#[derive(Debug)]
pub struct Network {
    pub program: Program,
    attempt: Attempt,
}

impl Network {
    /// To be started at `now`.
    #[must_use]
    pub fn new(sandboxing: Sandboxing, now: Duration) -> Network {
        let attempt = match sandboxing {
            Sandboxing::On => Attempt::Sandboxed,
            Sandboxing::Off => Attempt::Unsandboxed,
        };
        Network { program: Program::new(now), attempt }
    }

    /// Whether to look, before it is started, if its sandbox is refused here ([`End::NoSandbox`]).
    #[must_use]
    pub fn looks_first(&self) -> bool {
        self.attempt == Attempt::Checked && self.program.is_first_start()
    }

    #[must_use]
    pub fn sandboxing(&self) -> Sandboxing {
        match self.attempt {
            Attempt::Sandboxed | Attempt::Checked => Sandboxing::On,
            Attempt::Unsandboxed => Sandboxing::Off,
        }
    }

    /// An outer container may forbid the mounts that its sandbox is made of. Whether that was it is looked at before the
    /// second attempt; whatever else went wrong gets that one and no third, and never one without the sandbox.
    pub fn ended(&mut self, end: End, now: Duration) -> Option<Order> {
        let next = match (self.attempt, end) {
            (Attempt::Sandboxed, End::Failed) => Some(Attempt::Checked),
            (Attempt::Checked, End::NoSandbox) => Some(Attempt::Unsandboxed),
            _ => None,
        };
        match next.filter(|_| self.program.is_first_start()) {
            Some(attempt) => {
                self.attempt = attempt;
                Some(self.program.start(now))
            }
            None => self.program.ended(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::program::State;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn failed_once() -> Network {
        let mut network = Network::new(Sandboxing::On, Duration::ZERO);
        assert!(!network.looks_first());
        assert_eq!(network.ended(End::Failed, SECOND), Some(Order::Start));
        assert_eq!((network.looks_first(), network.sandboxing()), (true, Sandboxing::On));
        network
    }

    #[test]
    fn without_its_sandbox_only_where_that_was_refused() {
        let mut network = failed_once();
        assert_eq!(network.ended(End::NoSandbox, SECOND), Some(Order::Start));
        assert_eq!((network.looks_first(), network.sandboxing()), (false, Sandboxing::Off));
        assert_eq!(network.ended(End::Failed, SECOND * 2), Some(Order::Fail));
    }

    #[test]
    fn what_fails_twice_fails_the_pod() {
        for end in [End::Failed, End::Refused] {
            let mut network = failed_once();
            assert_eq!(network.ended(end, SECOND), Some(Order::Fail), "{end:?}");
            assert_eq!(network.sandboxing(), Sandboxing::On);
        }
        for end in [End::Refused, End::NoSandbox] {
            let mut network = Network::new(Sandboxing::On, Duration::ZERO);
            assert_eq!(network.ended(end, SECOND), Some(Order::Fail), "{end:?}");
            assert_eq!(network.sandboxing(), Sandboxing::On);
        }
    }

    #[test]
    fn one_that_was_up_with_its_sandbox_never_runs_without() {
        for mut network in [Network::new(Sandboxing::On, Duration::ZERO), failed_once()] {
            network.program.came_up(SECOND);
            for end in [End::Failed, End::NoSandbox, End::Refused, End::Failed] {
                assert_eq!(network.ended(end, SECOND), None, "{end:?}");
                let State::Down { restart_at } = network.program.state() else { panic!("it waits") };
                assert_eq!(network.program.timer_fired(restart_at), Some(Order::Start));
                assert_eq!((network.looks_first(), network.sandboxing()), (false, Sandboxing::On));
            }
        }
    }
}
