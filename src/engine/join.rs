//! The first process of a pod in the network namespace of another: born in that pod's user namespace, which owns it.

use std::os::fd::AsFd;

use super::failure::{During, Failure, Result};
use super::message::START_DEADLINE;
use crate::plan::network::Joined;
use crate::step::Step;
use crate::sys::process::{PidFd, ProcessId};
use crate::sys::{Namespaces, clone, poll, privileges, stdio};

const STEP: Step = Step::CreateNamespaces;
/// What the two pods share.
pub(super) const NAMESPACES: Namespaces = Namespaces::CLONE_NEWUSER.union(Namespaces::CLONE_NEWNET);

/// As [`clone::fork_into_cgroup`]: the child is the caller's, though another process makes it, which has joined the other
/// pod. (The caller itself must not: it could never come back.)
pub(super) fn fork(joined: &Joined, namespaces: Namespaces, cgroup: Option<clone::Cgroup<'_>>) -> Result<clone::Fork> {
    let (pid, start_time) = joined.pause;
    let pause = ProcessId { pid, start_time }.open().during(STEP, &joined.name)?;
    let pause = pause.ok_or_else(|| {
        Failure::because(STEP, "", format!("pod `{}`, whose network is to be joined, has ended", joined.name))
    })?;
    let (heard, said) = stdio::pipe().during(STEP, "")?;
    match clone::fork_into(Namespaces::empty(), clone::Parent::Caller).during(STEP, "")? {
        clone::Fork::Child => {
            // In the other pod's user namespace a capability counts for this process, too, which still sees the host's files.
            let made = privileges::hide_from_ptrace()
                .and_then(|()| clone::join_all(&pause, NAMESPACES))
                .and_then(|()| clone::fork_into_cgroup(namespaces, clone::Parent::CallersParent, cgroup));
            let (text, code) = match made {
                Ok(clone::Fork::Child) => return Ok(clone::Fork::Child),
                Ok(clone::Fork::Parent { pid, .. }) => (pid.to_string(), 0),
                Err(error) => (format!("{} {}", error.number(), error.call), 125),
            };
            // A supervisor that hears nothing knows that nothing came of it.
            let _ = stdio::write_some(said.as_fd(), format!("{code} {text}").as_bytes());
            clone::exit_now(code);
        }
        clone::Fork::Parent { .. } => {
            drop(said);
            poll::readable(heard.as_fd(), START_DEADLINE).during(STEP, "")?;
            let bytes = stdio::read_some(heard.as_fd(), 4096).during(STEP, "")?.unwrap_or_default();
            let pid = understand(&String::from_utf8_lossy(&bytes))?;
            // A child of ours that nobody has waited for: its pid cannot be anybody else's yet.
            Ok(clone::Fork::Parent { pid, pidfd: PidFd::open(pid).during(STEP, "")? })
        }
    }
}

/// `0 PID`, or `125 ERRNO CALL`.
fn understand(said: &str) -> Result<i32> {
    let words: Vec<&str> = said.splitn(3, ' ').collect();
    match words[..] {
        ["0", pid] => pid.parse().map_err(|_| nothing()),
        ["125", errno, call] => Err(Failure::of_call(STEP, call, errno.parse().unwrap_or_default())),
        _ => Err(nothing()),
    }
}

fn nothing() -> Failure {
    Failure::because(STEP, "", "the process that joins the other pod died before it could say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_joining_process_says() {
        assert_eq!(understand("0 4711").ok(), Some(4711));
        let failure = understand("125 1 setns(pidfd, CLONE_NEWUSER)").expect_err("a failure");
        assert_eq!((failure.errno, failure.call.as_str()), (1, "setns(pidfd, CLONE_NEWUSER)"));
        understand("").expect_err("it died");
    }
}
