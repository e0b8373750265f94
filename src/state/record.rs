//! What `record.json` says about a pod: only what cannot be looked up.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::sys::process::{Exit, ProcessId};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    pub name: String,
    pub created_at: Timestamp,
    pub phase: Phase,
    /// Written by the supervisor as its first act.
    pub supervisor: Option<ProcessId>,
    pub pause: Option<ProcessId>,
    /// The directory of the pod's cgroup, as the host sees it.
    pub cgroup: Option<PathBuf>,
    pub containers: Vec<ContainerRecord>,
    /// Of a pod with a user-mode network.
    #[serde(default)]
    pub network: Option<NetworkRecord>,
    /// Of a pod that publishes ports.
    #[serde(default)]
    pub publishing: Option<PortsRecord>,
    /// The pod's data directory, for a caller with another `$XDG_DATA_HOME`, who does not find it. Only to say so:
    /// nothing is read or removed there.
    #[serde(default)]
    pub data: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortsRecord {
    pub state: PortsState,
    /// Why they are down.
    pub trouble: Option<String>,
    /// How often the port proxy was started again.
    pub restarts: u32,
    /// It holds the ports, and may outlive a supervisor that is killed by the moment that its own death takes.
    pub proxy: Option<ProcessId>,
}

/// Whether the published ports lead into the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortsState {
    Open,
    /// Between two attempts: clients wait in the backlog.
    Down,
}

/// How the reason of a pod begins that had more on disk than it may (Kubernetes' word).
pub const EVICTED: &str = "Evicted";

/// Whether a `Starting` or `Running` pod still lives is not believed but looked up: its supervisor holds `lock`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Starting,
    Running,
    Stopping,
    Succeeded,
    Failed { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRecord {
    pub state: NetworkState,
    /// Why it is not up.
    pub trouble: Option<String>,
    /// Whether the network program has locked itself up.
    pub sandboxed: bool,
    /// Why it has not.
    #[serde(default)]
    pub unsandboxed: Option<String>,
    /// How often it was started again.
    pub restarts: u32,
    /// It may outlive a supervisor that is killed: slirp4netns while it stands still, pasta if whoever watches it is killed, too.
    #[serde(default)]
    pub program: Option<ProcessId>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkState {
    Attaching,
    Up,
    /// Between two attempts.
    Down,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    pub name: String,
    pub state: ContainerState,
    /// Starts after the first.
    pub restarts: u32,
    /// How the life before this one ended.
    pub last_exit: Option<Exit>,
    /// And why: as in [`ContainerState::Terminated`].
    pub last_reason: Option<String>,
    /// Its leaf below the pod's cgroup, in this life or the last: `web.1`.
    pub leaf: Option<String>,
    /// Of `state`: why it could not be started, or its termination message.
    #[serde(default)]
    pub message: Option<String>,
    /// The same of the life before this one.
    #[serde(default)]
    pub last_message: Option<String>,
    /// What `run` and `wait` end with where it could not be started: 127, 126 or 125. Its `exit` is then Kubernetes' 128.
    #[serde(default)]
    pub start_code: Option<i32>,
}

/// Kubernetes' three (ContainerState of the Pod API).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// `reason`: `ContainerCreating`, `CrashLoopBackOff`, `RunContainerError`.
    Waiting {
        reason: String,
    },
    Running {
        process: ProcessId,
        started_at: Timestamp,
    },
    /// `reason`: `Completed`, `Error`, `StartError`, `OOMKilled`.
    Terminated {
        exit: Exit,
        reason: String,
        started_at: Option<Timestamp>,
        finished_at: Timestamp,
    },
}
