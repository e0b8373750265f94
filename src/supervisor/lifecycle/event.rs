//! What goes into the machine and what comes out.

use std::time::Duration;

use crate::state::Phase;
use crate::sys::process::Exit;

/// Why a container's first process ended, as far as its exit status does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// By itself, or by a signal that somebody sent.
    Itself,
    OomKiller,
}

/// What happened. `index` is the container's place in the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Pause holds the pod's namespaces: containers may start. Sent once, first.
    SandboxReady,
    ContainerStarted {
        index: usize,
    },
    /// It never ran. `exit_code` is what a shell would say: 127 not found, 126 not executable, 125 our own failure.
    StartFailed {
        index: usize,
        exit_code: i32,
    },
    ContainerExited {
        index: usize,
        exit: Exit,
        cause: Cause,
    },
    /// End the pod: SIGTERM, and SIGKILL after `grace` (default: the plan's). A later one can only shorten the wait.
    StopRequested {
        grace: Option<Duration>,
    },
    /// Its processes stand still: until `Thawed` it is not started again.
    Frozen {
        index: usize,
    },
    Thawed {
        index: usize,
    },
    /// It has more on disk than it may: ended as a whole, and no container is started again.
    Evicted {
        why: String,
    },
    /// The kernel kills what lives in pause's pid namespace; the rest is killed by us.
    PauseDied,
    /// [`Pod::next_deadline`] has passed. Too early does no harm.
    TimerFired,
}

/// What the supervisor does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Answered by `ContainerStarted` or `StartFailed`.
    Start { index: usize },
    /// To the container's first process. It may have ended already: that is no error.
    Signal { index: usize, signal: i32 },
    /// SIGKILL to every process of the container.
    Kill { index: usize },
    /// The last action: no container runs and none will. Take the sandbox down.
    Finish { outcome: Outcome },
}

/// How a pod ended, as Kubernetes' phase has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every container ended with code 0.
    Succeeded,
    Failed {
        reason: String,
    },
}

impl From<Outcome> for Phase {
    fn from(outcome: Outcome) -> Phase {
        match outcome {
            Outcome::Succeeded => Phase::Succeeded,
            Outcome::Failed { reason } => Phase::Failed { reason },
        }
    }
}
