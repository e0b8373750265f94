//! What a client and a pod's supervisor say to each other over `control.sock`: one JSON value per message
//! (SOCK_SEQPACKET), descriptors beside it. One request per connection; the replies to it follow on the same one, and the
//! signals for the command of an `exec`.

use serde::{Deserialize, Serialize};

use crate::plan::update::Change;
use crate::report::Report;
use crate::sys::terminal::WindowSize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Run another process in a container. Without `tty` the client passes its stdin, stdout and stderr as three
    /// descriptors; with it, [`Reply::Started`] brings the terminal's master. Replies: `Started`, then `Exited`.
    Exec(ExecRequest),
    /// After `Exec`, on the same connection: a signal that ends a process by default, for the command. No reply.
    Signal { signal: i32 },
    /// The request is longer than a message may be: it is in the last descriptor, a sealed memfd.
    InMemory,
    /// Join a container's stdio. The client passes two stream sockets: (stdin and stdout) and stderr; bytes pass raw.
    /// Reply: `Attached`, with the terminal's master when the container has one (for its size only).
    /// The sockets close when the container ends.
    Attach { container: String },
    /// SIGTERM to every container, SIGKILL after `grace_seconds` (default: the pod's). Reply: `Stopped` at the end.
    Stop { grace_seconds: Option<u64> },
    /// A signal to the first process of one container, or of all. Reply: `Done`.
    Kill { container: Option<String>, signal: i32 },
    /// Freeze one container, or all. Reply: `Done`, when all of its processes stand still.
    Pause { container: Option<String> },
    /// Let them go on. Reply: `Done`.
    Unpause { container: Option<String> },
    /// Other limits, in place. Reply: `Done`, when every value is in force; else none is.
    Update(Change),
    /// Reply: `Exited` when the container (default: the main one) or, for the main one, the pod has ended for good.
    Wait { container: Option<String> },
    /// As `Wait` for the pod; until then also `Told`, as often as something happens to what its containers do not see.
    Follow,
}

/// The socket in the pod's runtime directory.
pub const CONTROL_SOCKET: &str = "control.sock";

/// The longest request that is sent as a message: the kernel takes as much as fits into a socket's buffer, which is
/// net.core.wmem_default (socket(7)).
pub const MAX_INLINE: usize = 32 * 1024;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub container: String,
    pub argv: Vec<String>,
    /// Added to the container's own environment.
    pub env: Vec<(String, String)>,
    pub cwd: Option<String>,
    /// `uid`, `uid:gid`, `name` or `name:group` of the container's own /etc/passwd; `None`: as the container runs.
    pub user: Option<String>,
    pub tty: bool,
    /// The command outlives the connection. Without this it gets SIGHUP when its client has gone, and SIGKILL after the
    /// pod's grace period.
    #[serde(default)]
    pub detach: bool,
    /// The size of the client's own terminal; without one the command's has the usual size.
    #[serde(default)]
    pub window: Option<WindowSize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// The process runs; `pid` is the host's.
    Started {
        pid: i32,
    },
    Attached,
    Exited {
        code: i32,
    },
    /// What is now so, in a word or two, and why.
    Told {
        what: String,
        why: String,
    },
    Stopped,
    Done,
    Failed(Report),
}

/// What the caller of `run --rm` says on the channel on which it got [`StartReply::Ready`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromCaller {
    /// It has all the output, and removes the pod now.
    Removes,
}

/// What a starting supervisor tells the command that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartReply {
    /// Every container was started, except these, whose command cannot be executed.
    ReadyBut(Vec<Report>),
    /// All containers run.
    Ready,
    /// Nothing is left of the pod.
    Failed(Report),
}
