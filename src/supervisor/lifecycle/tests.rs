use proptest::prelude::*;

use super::*;
use crate::sys::signals::{SIGQUIT, SIGTERM};

mod eviction_tests;
mod start_tests;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn pod(policy: RestartPolicy, count: usize) -> Pod {
    let lifecycle = LifecyclePlan { restart_policy: policy, termination_grace_period: s(30) };
    Pod::of((0..count).map(|index| (format!("c{index}"), SIGTERM)), &lifecycle)
}

/// A pod whose containers have all been started at 0 s.
fn up(policy: RestartPolicy, count: usize) -> Pod {
    let mut pod = pod(policy, count);
    let mut actions = pod.handle(Event::SandboxReady, s(0));
    for index in 0..count {
        assert_eq!(actions, [Action::Start { index }]);
        actions = pod.handle(Event::ContainerStarted { index }, s(0));
    }
    assert_eq!(actions, []);
    assert!(pod.is_up());
    pod
}

fn exited(index: usize, code: i32) -> Event {
    Event::ContainerExited { index, exit: Exit::Code(code), cause: Cause::Itself }
}

fn failed(reason: &str) -> Action {
    Action::Finish { outcome: Outcome::Failed { reason: reason.to_owned() } }
}

fn status(pod: &Pod, index: usize) -> ContainerStatus {
    pod.containers().nth(index).expect("it exists").status
}

/// A start that failed, and for good.
const NEVER_RAN: ContainerStatus =
    ContainerStatus::Terminated { exit: Exit::Code(128), reason: TerminatedReason::StartError };

const SUCCEEDED: Action = Action::Finish { outcome: Outcome::Succeeded };

#[test]
fn containers_start_one_after_the_other_in_the_manifests_order() {
    let mut pod = pod(RestartPolicy::Always, 2);
    assert_eq!(pod.phase(), Phase::Starting);
    assert_eq!(pod.handle(Event::SandboxReady, s(0)), [Action::Start { index: 0 }]);
    assert_eq!(pod.handle(Event::SandboxReady, s(0)), []);
    assert_eq!(pod.handle(Event::ContainerStarted { index: 1 }, s(0)), [], "nobody asked for it");
    assert_eq!(pod.handle(Event::ContainerStarted { index: 0 }, s(0)), [Action::Start { index: 1 }]);
    assert!(!pod.is_up());
    assert_eq!(pod.handle(Event::ContainerStarted { index: 1 }, s(0)), []);
    assert_eq!((pod.is_up(), pod.phase()), (true, Phase::Running));
}

#[test]
fn an_end_that_overtakes_the_news_of_its_start_still_starts_the_next() {
    let mut pod = pod(RestartPolicy::Never, 2);
    pod.handle(Event::SandboxReady, s(0));
    assert_eq!(pod.handle(exited(0, 0), s(0)), [Action::Start { index: 1 }]);
    assert_eq!(pod.handle(Event::ContainerStarted { index: 0 }, s(0)), []);
    assert_eq!(pod.handle(Event::ContainerStarted { index: 1 }, s(0)), []);
    assert_eq!(pod.handle(exited(1, 0), s(0)), [SUCCEEDED]);
}

#[test]
fn never_ends_when_the_last_container_has_ended() {
    let mut pod = up(RestartPolicy::Never, 2);
    assert_eq!(pod.handle(exited(1, 3), s(1)), []);
    assert_eq!(pod.code_of(1), Some(3));
    assert_eq!(pod.handle(exited(0, 0), s(2)), [failed("container `c1` ended with exit code 3")]);
    assert_eq!(pod.main_exit(), Some(0), "the main container's own code");
    assert_eq!(pod.phase(), Phase::Failed { reason: "container `c1` ended with exit code 3".to_owned() });
}

#[test]
fn on_failure_restarts_failures_only() {
    let mut pod = up(RestartPolicy::OnFailure, 1);
    assert_eq!(pod.handle(exited(0, 1), s(1)), [Action::Start { index: 0 }]);
    pod.handle(Event::ContainerStarted { index: 0 }, s(1));
    assert_eq!(pod.handle(exited(0, 0), s(2)), [SUCCEEDED]);
    let view = pod.containers().next().expect("one");
    assert_eq!((view.restarts, view.last_exit), (1, Some(Exit::Code(1))));
}

#[test]
fn back_off_is_immediate_then_10_seconds_doubling_to_300_and_is_forgiven_after_10_minutes() {
    let mut pod = up(RestartPolicy::Always, 1);
    let mut now = s(0);
    for wait in [0, 10, 20, 40, 80, 160, 300, 300] {
        let actions = pod.handle(exited(0, 1), now);
        if wait > 0 {
            assert_eq!(actions, []);
            assert_eq!(status(&pod, 0), ContainerStatus::Waiting(WaitingReason::CrashLoopBackOff));
            assert_eq!(pod.next_deadline(), Some(now + s(wait)));
            assert_eq!(pod.handle(Event::TimerFired, now + s(wait) - Duration::from_nanos(1)), [], "too early");
            now += s(wait);
            assert_eq!(pod.handle(Event::TimerFired, now), [Action::Start { index: 0 }]);
        } else {
            assert_eq!(actions, [Action::Start { index: 0 }]);
        }
        assert_eq!(pod.next_deadline(), None);
        pod.handle(Event::ContainerStarted { index: 0 }, now);
    }
    now += s(600);
    assert_eq!(pod.handle(exited(0, 0), now), [], "ten minutes exactly are not more than ten minutes");
    now += s(300);
    pod.handle(Event::TimerFired, now);
    pod.handle(Event::ContainerStarted { index: 0 }, now);
    assert_eq!(pod.handle(exited(0, 0), now + s(601)), [Action::Start { index: 0 }]);
}

#[test]
fn a_restart_that_fails_backs_off_and_leaves_the_pod_alone() {
    let mut pod = up(RestartPolicy::Always, 2);
    pod.handle(exited(0, 1), s(0));
    assert_eq!(pod.handle(Event::StartFailed { index: 0, exit_code: 125 }, s(0)), []);
    assert_eq!(status(&pod, 0), ContainerStatus::Waiting(WaitingReason::RunContainerError));
    assert_eq!(pod.next_deadline(), Some(s(10)));
    assert_eq!(status(&pod, 1), ContainerStatus::Running);
    pod.handle(Event::StopRequested { grace: None }, s(1));
    assert_eq!(status(&pod, 0), NEVER_RAN);
    assert_eq!(pod.code_of(0), Some(125));
}

#[test]
fn stop_terms_waits_the_plans_grace_and_kills() {
    let mut pod = up(RestartPolicy::Always, 2);
    let actions = pod.handle(Event::StopRequested { grace: None }, s(5));
    assert_eq!(actions, [0, 1].map(|index| Action::Signal { index, signal: 15 }));
    assert_eq!((pod.phase(), pod.next_deadline()), (Phase::Stopping, Some(s(35))));
    assert_eq!(pod.handle(exited(0, 0), s(6)), [], "not restarted");
    assert_eq!(pod.handle(Event::TimerFired, s(34)), []);
    assert_eq!(pod.handle(Event::TimerFired, s(35)), [Action::Kill { index: 1 }]);
    assert_eq!(pod.next_deadline(), None, "the timer must not spin");
    let exit = Exit::Signal(9);
    let actions = pod.handle(Event::ContainerExited { index: 1, exit, cause: Cause::Itself }, s(35));
    assert_eq!(actions, [failed("container `c1` was ended by signal 9")]);
    assert_eq!(pod.main_exit(), Some(0));
}

#[test]
fn a_pod_that_stops_cleanly_has_succeeded() {
    let mut pod = up(RestartPolicy::Always, 1);
    pod.handle(Event::StopRequested { grace: None }, s(0));
    assert_eq!(pod.handle(exited(0, 0), s(1)), [SUCCEEDED]);
    assert_eq!(pod.phase(), Phase::Succeeded);
}

#[test]
fn a_second_stop_shortens_and_never_lengthens() {
    let mut pod = up(RestartPolicy::Always, 1);
    pod.handle(Event::StopRequested { grace: Some(s(20)) }, s(0));
    assert_eq!(pod.handle(Event::StopRequested { grace: Some(s(100)) }, s(1)), []);
    assert_eq!(pod.next_deadline(), Some(s(20)));
    assert_eq!(pod.handle(Event::StopRequested { grace: Some(s(2)) }, s(3)), []);
    assert_eq!(pod.next_deadline(), Some(s(5)));
    assert_eq!(pod.handle(Event::StopRequested { grace: Some(s(0)) }, s(4)), [Action::Kill { index: 0 }]);
    assert_eq!(pod.handle(Event::StopRequested { grace: Some(s(0)) }, s(4)), [], "killed once");
}

#[test]
fn grace_zero_kills_without_asking() {
    let mut pod = up(RestartPolicy::Always, 1);
    assert_eq!(pod.handle(Event::StopRequested { grace: Some(s(0)) }, s(9)), [Action::Kill { index: 0 }]);
}

#[test]
fn an_absurd_grace_is_a_time_that_a_timer_can_hold() {
    let mut pod = up(RestartPolicy::Always, 1);
    pod.handle(Event::StopRequested { grace: Some(Duration::MAX) }, s(1));
    assert_eq!(pod.next_deadline(), Some(s(1) + LONGEST_GRACE));
}

#[test]
fn stop_cancels_a_back_off_and_keeps_how_it_ended() {
    let mut pod = up(RestartPolicy::Always, 1);
    pod.handle(exited(0, 1), s(0));
    pod.handle(Event::ContainerStarted { index: 0 }, s(0));
    pod.handle(exited(0, 7), s(1));
    let actions = pod.handle(Event::StopRequested { grace: None }, s(2));
    assert_eq!(actions, [failed("container `c0` ended with exit code 7")]);
    assert_eq!(pod.main_exit(), Some(7));
}

#[test]
fn a_container_that_comes_up_during_the_end_is_ended_too() {
    for (grace, answer) in [(10, Action::Signal { index: 0, signal: 15 }), (0, Action::Kill { index: 0 })] {
        let mut pod = pod(RestartPolicy::Always, 2);
        pod.handle(Event::SandboxReady, s(0));
        assert_eq!(pod.handle(Event::StopRequested { grace: Some(s(grace)) }, s(0)), []);
        assert_eq!(pod.handle(Event::ContainerStarted { index: 0 }, s(0)), [answer]);
        assert_eq!(pod.handle(exited(0, 0), s(1)), [failed("container `c1` was never started")]);
    }
}

#[test]
fn a_stop_before_the_sandbox_is_ready_finishes_at_once() {
    let mut pod = pod(RestartPolicy::Always, 1);
    let actions = pod.handle(Event::StopRequested { grace: None }, s(0));
    assert_eq!(actions, [failed("container `c0` was never started")]);
    assert_eq!(pod.handle(Event::SandboxReady, s(0)), []);
    assert_eq!(pod.main_exit(), Some(125));
}

#[test]
fn when_pause_dies_the_rest_is_killed_and_nothing_restarts() {
    let mut pod = up(RestartPolicy::Always, 2);
    pod.handle(exited(1, 1), s(0));
    pod.handle(Event::ContainerStarted { index: 1 }, s(0));
    pod.handle(exited(1, 1), s(0));
    assert_eq!(pod.handle(Event::PauseDied, s(1)), [Action::Kill { index: 0 }]);
    assert_eq!(pod.handle(Event::PauseDied, s(1)), []);
    assert_eq!(pod.handle(exited(0, 0), s(1)), [failed("pause died")]);
}

#[test]
fn a_pod_that_was_killed_between_two_lives_of_its_main_container_did_not_end_well() {
    let mut pod = up(RestartPolicy::Always, 1);
    for _ in 0..2 {
        pod.handle(exited(0, 0), s(0));
        pod.handle(Event::ContainerStarted { index: 0 }, s(0));
    }
    pod.handle(exited(0, 0), s(0));
    assert_eq!(pod.handle(Event::PauseDied, s(1)), [failed("pause died")]);
    assert_eq!(pod.main_exit(), Some(125));
}

#[test]
fn pause_dying_during_a_stop_ends_the_grace() {
    let mut pod = up(RestartPolicy::Always, 1);
    pod.handle(Event::StopRequested { grace: None }, s(0));
    assert_eq!(pod.handle(Event::PauseDied, s(1)), [Action::Kill { index: 0 }]);
    assert_eq!(pod.next_deadline(), None);
    assert_eq!(pod.handle(exited(0, 0), s(1)), [failed("pause died")]);
}

#[test]
fn a_paused_container_is_not_started_again_before_it_is_let_go() {
    let mut pod = up(RestartPolicy::Always, 2);
    assert_eq!(pod.handle(Event::Frozen { index: 0 }, s(1)), []);
    assert_eq!(pod.handle(exited(0, 137), s(2)), [], "killed while it was frozen");
    assert_eq!((pod.next_deadline(), pod.handle(Event::TimerFired, s(3))), (None, vec![]));
    assert_eq!(pod.handle(exited(1, 1), s(4)), [Action::Start { index: 1 }], "the other one is not held");
    assert_eq!(pod.handle(Event::Thawed { index: 0 }, s(60)), [Action::Start { index: 0 }]);

    // A stop ends what is paused, too, and a restart that was held back is none any more.
    let mut pod = up(RestartPolicy::Always, 2);
    pod.handle(Event::Frozen { index: 0 }, s(1));
    pod.handle(Event::Frozen { index: 1 }, s(1));
    pod.handle(exited(1, 137), s(2));
    let actions = pod.handle(Event::StopRequested { grace: None }, s(3));
    assert_eq!(actions, [Action::Signal { index: 0, signal: SIGTERM }]);
    assert_eq!(pod.handle(Event::Thawed { index: 0 }, s(3)), []);
    assert_eq!(pod.handle(exited(0, 0), s(4)), [failed("container `c1` ended with exit code 137")]);
}

fn any_policy() -> impl Strategy<Value = RestartPolicy> {
    prop_oneof![Just(RestartPolicy::Always), Just(RestartPolicy::OnFailure), Just(RestartPolicy::Never)]
}

/// Any event at all, sensible at that moment or not.
fn any_event() -> impl Strategy<Value = Event> {
    let exit = prop_oneof![Just(Exit::Code(0)), Just(Exit::Code(1)), Just(Exit::Signal(9))];
    prop_oneof![
        3 => Just(Event::SandboxReady),
        20 => (0..4_usize).prop_map(|index| Event::ContainerStarted { index }),
        3 => (0..4_usize, 125..128).prop_map(|(index, exit_code)| Event::StartFailed { index, exit_code }),
        20 => (0..4_usize, exit).prop_map(|(index, exit)| Event::ContainerExited { index, exit, cause: Cause::Itself }),
        1 => prop::option::of(0..40_u64).prop_map(|grace| Event::StopRequested { grace: grace.map(s) }),
        3 => (0..4_usize).prop_map(|index| Event::Frozen { index }),
        5 => (0..4_usize).prop_map(|index| Event::Thawed { index }),
        1 => Just(Event::PauseDied),
        10 => Just(Event::TimerFired),
    ]
}

/// The world outside the machine: which containers have a process, as the machine's own actions and our events say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outside {
    Nothing,
    Asked,
    Runs,
}

struct World {
    pod: Pod,
    outside: Vec<Outside>,
    finished: bool,
}

impl World {
    fn step(&mut self, event: &Event, now: Duration) {
        match *event {
            Event::ContainerStarted { index } => self.change(index, Outside::Asked, Outside::Runs),
            Event::StartFailed { index, .. } => self.change(index, Outside::Asked, Outside::Nothing),
            Event::ContainerExited { index, .. } => {
                self.change(index, Outside::Asked, Outside::Nothing);
                self.change(index, Outside::Runs, Outside::Nothing);
            }
            _ => {}
        }
        for action in self.pod.handle(event.clone(), now) {
            assert!(!self.finished, "{action:?} after the end");
            match action {
                Action::Start { index } => {
                    assert_eq!(self.outside[index], Outside::Nothing, "started twice");
                    let first = self.pod.containers().nth(index).is_some_and(|container| container.restarts == 0);
                    assert!(first || !self.pod.is_paused(index), "started while it is paused");
                    self.outside[index] = Outside::Asked;
                }
                Action::Signal { index, .. } | Action::Kill { index } => {
                    assert_eq!(self.outside[index], Outside::Runs, "a signal to nobody");
                }
                Action::Finish { .. } => {
                    assert!(self.outside.iter().all(|one| *one == Outside::Nothing), "left behind: {:?}", self.outside);
                    self.finished = true;
                }
            }
        }
        assert_eq!(self.finished, self.pod.main_exit().is_some());
    }

    fn change(&mut self, index: usize, from: Outside, to: Outside) {
        if self.outside.get(index) == Some(&from) {
            self.outside[index] = to;
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_nothing_runs_twice_and_every_stop_ends(
        policy in any_policy(),
        count in 1..4_usize,
        events in prop::collection::vec((any_event(), 0..50_u64), 0..120),
    ) {
        let mut world = World { pod: pod(policy, count), outside: vec![Outside::Nothing; count], finished: false };
        let mut now = s(0);
        world.step(&Event::SandboxReady, now);
        for (event, later) in &events {
            now += s(*later);
            world.step(event, now);
        }
        world.step(&Event::StopRequested { grace: None }, now);
        for index in 0..count {
            if world.outside[index] == Outside::Asked {
                world.step(&Event::ContainerStarted { index }, now);
            }
            if world.outside[index] == Outside::Runs {
                world.step(&exited(index, 0), now);
            }
        }
        prop_assert!(world.finished);
        prop_assert_eq!(world.pod.next_deadline(), None);
    }

    #[test]
    fn back_off_stays_within_its_bounds_and_only_a_long_life_forgives(lives in prop::collection::vec(0..1000_u64, 1..40)) {
        let mut backoff = backoff::BackOff::default();
        let mut before: Option<Duration> = None;
        for lived in lives.into_iter().map(s) {
            let wait = backoff.after(lived);
            prop_assert!(wait == Duration::ZERO || (backoff::BASE..=backoff::MAX).contains(&wait));
            match before {
                Some(before) if lived <= backoff::FORGIVEN_AFTER => prop_assert!(wait >= before && wait > Duration::ZERO),
                _ => prop_assert_eq!(wait, Duration::ZERO),
            }
            before = Some(wait);
        }
    }
}

/// Its image says by which (`StopSignal`).
#[test]
fn each_container_is_asked_to_end_by_its_own_signal() {
    let lifecycle = LifecyclePlan { restart_policy: RestartPolicy::Never, termination_grace_period: s(30) };
    let of_two = || Pod::of([("a".to_owned(), SIGQUIT), ("b".to_owned(), SIGTERM)].into_iter(), &lifecycle);
    let signal = |index, signal| Action::Signal { index, signal };
    let mut pod = of_two();
    pod.handle(Event::SandboxReady, s(0));
    pod.handle(Event::ContainerStarted { index: 0 }, s(0));
    pod.handle(Event::ContainerStarted { index: 1 }, s(0));
    let actions = pod.handle(Event::StopRequested { grace: None }, s(1));
    assert_eq!(actions, [signal(0, SIGQUIT), signal(1, SIGTERM)]);

    let mut starting = of_two();
    starting.handle(Event::SandboxReady, s(0));
    starting.handle(Event::StopRequested { grace: None }, s(1));
    assert_eq!(starting.handle(Event::ContainerStarted { index: 0 }, s(2)), [signal(0, SIGQUIT)]);
}
