//! A pod that has more on disk than it may.

use super::*;

/// As the kubelet does it: all of them, a second between the signals, and nothing comes back.
#[test]
fn an_evicted_pod_has_failed_whatever_its_containers_say() {
    let evicted = || Event::Evicted { why: "too much".to_owned() };
    let mut pod = up(RestartPolicy::Always, 2);
    pod.handle(exited(1, 1), s(5));
    pod.handle(Event::ContainerStarted { index: 1 }, s(5));
    assert_eq!(pod.handle(evicted(), s(10)), [0, 1].map(|index| Action::Signal { index, signal: SIGTERM }));
    assert_eq!((pod.phase(), pod.next_deadline()), (Phase::Stopping, Some(s(11))));
    assert_eq!(pod.handle(evicted(), s(10)), []);
    assert_eq!(pod.handle(exited(0, 0), s(10)), []);
    assert_eq!(pod.handle(Event::TimerFired, s(11)), [Action::Kill { index: 1 }]);
    assert_eq!(pod.handle(exited(1, 137), s(11)), [failed("Evicted: too much")]);
    assert_eq!(pod.main_exit(), Some(125), "it has not done what it was for");
}
