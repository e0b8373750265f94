//! What the machine tells about a container, in the Pod API's words.

use crate::sys::process::Exit;

/// Why a container does not run yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitingReason {
    ContainerCreating,
    CrashLoopBackOff,
    /// The start itself failed; another follows after the back-off.
    RunContainerError,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TerminatedReason {
    /// With code 0.
    Completed,
    Error,
    /// It never ran.
    StartError,
    /// The kernel's OOM killer took it, for its own limit or an outer one.
    OomKilled,
}

impl WaitingReason {
    /// As the Pod API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            WaitingReason::ContainerCreating => "ContainerCreating",
            WaitingReason::CrashLoopBackOff => "CrashLoopBackOff",
            WaitingReason::RunContainerError => "RunContainerError",
        }
    }
}

impl TerminatedReason {
    /// As the Pod API spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TerminatedReason::Completed => "Completed",
            TerminatedReason::Error => "Error",
            TerminatedReason::StartError => "StartError",
            TerminatedReason::OomKilled => "OOMKilled",
        }
    }
}

/// [`crate::state::ContainerState`] without the times and the process, which only the supervisor knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContainerStatus {
    Waiting(WaitingReason),
    Running,
    /// For good.
    Terminated {
        exit: Exit,
        reason: TerminatedReason,
    },
}

/// What stands in the record about one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerView<'a> {
    pub name: &'a str,
    pub status: ContainerStatus,
    /// Starts after the first.
    pub restarts: u32,
    /// How the life before this one ended.
    pub last_exit: Option<Exit>,
    pub last_reason: Option<TerminatedReason>,
    /// What `run` ends with where the last start failed: 127, 126, 125.
    pub start_code: Option<i32>,
}
