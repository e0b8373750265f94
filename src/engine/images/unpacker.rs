//! The unpacker, from the command's side: starts it and hears what it says. [`super::unpacker_role`] is the process itself.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::failure::{During, Failure, Result};
use crate::engine::idmap::write_maps;
use crate::engine::sandbox::root_of;
use crate::image::layer::pipeline::Expected;
use crate::image::layer::{Limits, Owners, Summary};
use crate::plan::idmap::{IdMapPlan, UsernsMode};
use crate::step::Step;
use crate::sys::clone::{Fork, Parent, exit_now, fork_into};
use crate::sys::process::{Exit, PidFd, wait_for};
use crate::sys::socket::Channel;
use crate::sys::{Namespaces, memfd, path, privileges, stdio};

/// The first word of its command line, by which the binary knows the role.
pub(super) const ROLE: &str = "sandpod:unpack";
pub(super) const STEP: Step = Step::CreateNamespaces;
pub(super) const ON: &str = "the process that unpacks layers";
/// What it needs while it unpacks: chown(2), files of other owners, setuid bits after that, file capabilities, whiteouts. The
/// kernel refuses it every other device node.
pub(super) const CAPABILITIES: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"];
/// What it needs besides to become root of the map, to make the quarantine its root directory, and to give the rest up.
const SETUP_CAPABILITIES: [&str; 4] = ["SETGID", "SETPCAP", "SETUID", "SYS_ADMIN"];

/// Where the bytes of a blob are.
pub(super) enum Blob<'a> {
    /// All of them in the store.
    Kept(&'a File),
    /// Some in a file already, where the others are to go as well; those come through a pipe.
    Arriving { partial: &'a File, length: u64, pipe: Option<OwnedFd> },
}

/// A layer to unpack into a quarantine.
pub(super) struct Task<'a> {
    pub(super) quarantine: BorrowedFd<'a>,
    pub(super) blob: Blob<'a>,
    pub(super) expected: Expected,
    pub(super) idmap: &'a IdMapPlan,
    pub(super) limits: Limits,
    /// It goes over the layers that are in the quarantine, as one tree.
    pub(super) merged: bool,
}

/// A [`Task`] as it goes through the socket. Its descriptors come with it: the quarantine, the file, the pipe.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) blob: SentBlob,
    pub(super) expected: Expected,
    pub(super) limits: Limits,
    pub(super) owners: Owners,
    pub(super) merged: bool,
    /// False where setgroups(2) is denied in the user namespace.
    pub(super) may_set_groups: bool,
}

/// As [`Blob`], without its descriptors.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum SentBlob {
    Kept,
    Arriving { length: u64, has_pipe: bool },
}

/// What the unpacker says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// Bytes of the blob that were read so far.
    Bytes(u64),
    Done(Summary),
    Refused {
        why: Vec<String>,
        blame: Blame,
    },
    Failed(Failure),
}

/// What is wrong with a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Blame {
    /// These are not the bytes that were asked for.
    Bytes,
    /// They could not be read.
    Reading,
    /// The bytes are right and they are no layer that is taken, or not the one of the configuration.
    Layer,
}

/// The process, from outside. Dropped, it is killed and reaped.
pub(super) struct Unpacker {
    pid: i32,
    pidfd: PidFd,
    channel: Channel,
}

impl Unpacker {
    /// Starts it. The caller has a single thread, and may be traced by its own uid (newuidmap(1)).
    pub(super) fn start(task: Task<'_>) -> Result<Unpacker> {
        let (ours, theirs) = Channel::pair().during(STEP, ON)?;
        let namespaces = Namespaces::CLONE_NEWUSER
            | Namespaces::CLONE_NEWNS
            | Namespaces::CLONE_NEWNET
            | Namespaces::CLONE_NEWPID
            | Namespaces::CLONE_NEWIPC;
        match fork_into(namespaces, Parent::Caller).during(STEP, ON)? {
            Fork::Child => {
                // Only returns when it failed.
                let word = Word::Failed(execute_role(&theirs));
                if let Ok(bytes) = serde_json::to_vec(&word) {
                    let _ = theirs.send(&bytes, &[]);
                }
                exit_now(1);
            }
            Fork::Parent { pid, pidfd } => {
                drop(theirs);
                let unpacker = Unpacker { pid, pidfd, channel: ours };
                // Beside the exec. Where that failed, neither of these can succeed.
                let sent = write_maps(pid, task.idmap).and_then(|()| unpacker.send(task));
                sent.map_err(|failure| unpacker.own_failure().unwrap_or(failure))?;
                Ok(unpacker)
            }
        }
    }

    /// Hands the task over. Only now it has ids that it can take on.
    fn send(&self, task: Task<'_>) -> Result<()> {
        let Task { quarantine, blob, expected, idmap, limits, merged } = task;
        let owners = if idmap.mode == UsernsMode::Single { Owners::Squash } else { Owners::Keep };
        let may_set_groups = root_of(idmap).groups.is_some();
        let mut fds = vec![quarantine];
        let sent = match &blob {
            Blob::Kept(file) => {
                fds.push(file.as_fd());
                SentBlob::Kept
            }
            Blob::Arriving { partial, length, pipe } => {
                fds.push(partial.as_fd());
                fds.extend(pipe.iter().map(AsFd::as_fd));
                SentBlob::Arriving { length: *length, has_pipe: pipe.is_some() }
            }
        };
        let order = Order { blob: sent, expected, limits, owners, merged, may_set_groups };
        let bytes = serde_json::to_vec(&order)
            .map_err(|error| Failure::because(STEP, ON, format!("its task cannot be written: {error}")))?;
        self.channel.send(&bytes, &fds).during(STEP, ON)
    }

    /// What it said before it was asked anything.
    fn own_failure(&self) -> Option<Failure> {
        match serde_json::from_slice(&self.channel.try_receive().ok()??.bytes) {
            Ok(Word::Failed(failure)) => Some(failure),
            _ => None,
        }
    }

    /// Readable when there is something to [`hear`](Self::hear).
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// The next word.
    pub(super) fn hear(&self) -> Result<Word> {
        let Some(message) = self.channel.receive().during(STEP, ON)? else {
            let ended = match wait_for(self.pid).during(STEP, ON)? {
                Exit::Code(code) => format!("it ended with {code} before it was done"),
                Exit::Signal(signal) => format!("it was killed by signal {signal}"),
            };
            return Err(Failure::because(STEP, ON, ended));
        };
        serde_json::from_slice(&message.bytes)
            .map_err(|error| Failure::because(STEP, ON, format!("it said what cannot be understood: {error}")))
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        // It has ended, or is not wanted any more. ECHILD where `hear` has reaped it.
        let _ = self.pidfd.signal(9);
        let _ = wait_for(self.pid);
    }
}

/// Replaces the fork, which has the command's memory, by this binary in the unpacker's role: without the environment, with the
/// socket as stdin and no other descriptor of the command. Only returns when it failed.
///
/// It is executed with the caller's uid, who may execute it, and root of an isolated map might not. For a uid that is not root
/// inside, the ambient set carries capabilities over (capabilities(7)).
fn execute_role(channel: &Channel) -> Failure {
    let prepared = || -> crate::sys::Result<OwnedFd> {
        let program = path::open_host_path(Path::new("/proc/self/exe"))?;
        let null = stdio::open_device("/dev/null")?;
        stdio::set_stdio(channel.as_fd(), null.as_fd(), null.as_fd())?;
        // All others are close-on-exec in this program, but for those that its caller left open.
        stdio::close_from_on_exec(3)?;
        privileges::keep_on_exec(CAPABILITIES.iter().chain(&SETUP_CAPABILITIES))?;
        stdio::reset_signals()?;
        Ok(program)
    };
    let argv = memfd::c_string(ROLE);
    let error = match prepared().and_then(|program| Ok((program, argv?))) {
        Ok((program, argv)) => memfd::execute(program.as_fd(), &[argv], &[]),
        Err(error) => error,
    };
    Failure::new(STEP, ON, &error)
}
