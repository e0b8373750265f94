//! Starts that fail.

use super::*;

#[test]
fn a_first_start_that_this_host_cannot_do_ends_the_whole_pod() {
    let mut pod = pod(RestartPolicy::Always, 3);
    pod.handle(Event::SandboxReady, s(0));
    pod.handle(Event::ContainerStarted { index: 0 }, s(0));
    let actions = pod.handle(Event::StartFailed { index: 1, exit_code: 125 }, s(0));
    assert_eq!(actions, [Action::Kill { index: 0 }]);
    assert_eq!(pod.main_exit(), None);
    let exit = Exit::Signal(9);
    let actions = pod.handle(Event::ContainerExited { index: 0, exit, cause: Cause::Itself }, s(0));
    assert_eq!(actions, [failed("container `c1` could not be started")]);
    assert_eq!(pod.main_exit(), Some(125), "not the 137 of the one that we killed");
    assert_eq!(status(&pod, 2), ContainerStatus::Waiting(WaitingReason::ContainerCreating));
}

#[test]
fn a_command_that_cannot_be_executed_is_tried_again_while_the_others_go_on() {
    for policy in [RestartPolicy::Always, RestartPolicy::OnFailure] {
        let mut pod = pod(policy, 2);
        pod.handle(Event::SandboxReady, s(0));
        // The next container's first start, and this one's second: the first restart is immediate.
        let actions = pod.handle(Event::StartFailed { index: 0, exit_code: 127 }, s(0));
        assert_eq!(actions, [Action::Start { index: 1 }, Action::Start { index: 0 }]);
        assert_eq!(pod.handle(Event::ContainerStarted { index: 1 }, s(0)), []);
        assert_eq!(pod.handle(Event::StartFailed { index: 0, exit_code: 127 }, s(0)), []);
        assert_eq!((pod.is_up(), pod.next_deadline()), (true, Some(s(10))));
        assert_eq!(status(&pod, 0), ContainerStatus::Waiting(WaitingReason::RunContainerError));
        assert_eq!(status(&pod, 1), ContainerStatus::Running);
        let view = pod.containers().next().expect("it exists");
        assert_eq!((view.last_exit, view.last_reason), (Some(Exit::Code(128)), Some(TerminatedReason::StartError)));
        // Somebody installs it.
        assert_eq!(pod.handle(Event::TimerFired, s(10)), [Action::Start { index: 0 }]);
        pod.handle(Event::ContainerStarted { index: 0 }, s(10));
        pod.handle(Event::StopRequested { grace: None }, s(11));
        pod.handle(exited(0, 0), s(11));
        assert_eq!(pod.handle(exited(1, 0), s(11)), [SUCCEEDED]);
        assert_eq!(pod.main_exit(), Some(0));
    }
}

#[test]
fn a_command_that_cannot_be_executed_and_is_not_tried_again_fails_its_container_alone() {
    let mut pod = pod(RestartPolicy::Never, 2);
    pod.handle(Event::SandboxReady, s(0));
    pod.handle(Event::ContainerStarted { index: 0 }, s(0));
    assert_eq!(pod.handle(Event::StartFailed { index: 1, exit_code: 126 }, s(0)), []);
    assert_eq!((pod.is_up(), status(&pod, 0), status(&pod, 1)), (true, ContainerStatus::Running, NEVER_RAN));
    assert_eq!(pod.handle(exited(0, 0), s(1)), [failed("container `c1` could not be started")]);
    assert_eq!(pod.code_of(1), Some(126));
    assert_eq!(pod.main_exit(), Some(126), "not the 0 of the main container, and not Kubernetes' 128");
}

#[test]
fn the_only_command_cannot_be_executed() {
    let mut never = pod(RestartPolicy::Never, 1);
    never.handle(Event::SandboxReady, s(0));
    let actions = never.handle(Event::StartFailed { index: 0, exit_code: 127 }, s(0));
    assert_eq!(actions, [failed("container `c0` could not be started")]);
    assert_eq!((status(&never, 0), never.main_exit()), (NEVER_RAN, Some(127)));
    assert!(!never.came_up(), "nothing of it ever ran");

    // The other one has ended before it is known that this one cannot be executed: what it did is not thrown away.
    let mut quick = pod(RestartPolicy::Never, 2);
    quick.handle(Event::SandboxReady, s(0));
    quick.handle(Event::ContainerStarted { index: 0 }, s(0));
    quick.handle(exited(0, 0), s(0));
    let actions = quick.handle(Event::StartFailed { index: 1, exit_code: 127 }, s(0));
    assert_eq!(actions, [failed("container `c1` could not be started")]);
    assert_eq!((quick.came_up(), quick.main_exit()), (true, Some(127)));

    let mut always = pod(RestartPolicy::Always, 1);
    always.handle(Event::SandboxReady, s(0));
    let actions = always.handle(Event::StartFailed { index: 0, exit_code: 127 }, s(0));
    assert_eq!((actions, always.is_up()), (vec![Action::Start { index: 0 }], true));
    always.handle(Event::StartFailed { index: 0, exit_code: 127 }, s(0));
    let actions = always.handle(Event::StopRequested { grace: None }, s(1));
    assert_eq!(actions, [failed("container `c0` could not be started")]);
    assert_eq!((status(&always, 0), always.main_exit()), (NEVER_RAN, Some(127)));
}
