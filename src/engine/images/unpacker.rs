//! The unpacker: a process that turns the bytes of a stranger into files.
//!
//! It is root of a user namespace with the pod's id map, so that owners and whiteouts are right, and has nothing else: no
//! network, no path but those below the quarantine, which is its root, few capabilities, bounded memory. It is a fork of the
//! command and not a program: root of an isolated map may have no right to execute our file. The command has a single
//! thread, so no lock is held in the copy (see [`fork_into`]) and the thread that it makes is an ordinary one. It does not
//! have the registry's credentials: they are in the command's memory, which it inherits, but nothing leads out of it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::engine::failure::{During, Failure, Result};
use crate::engine::idmap::write_maps;
use crate::engine::sandbox::root_of;
use crate::engine::tree::remove_tree;
use crate::image::layer::pipeline::{BlobError, Expected, unpack_blob};
use crate::image::layer::{Limits, Owners, Summary};
use crate::plan::idmap::{IdMapPlan, UsernsMode};
use crate::step::Step;
use crate::sys::clone::{Fork, Parent, die_with_parent, exit_now, fork_into};
use crate::sys::mount::{self, Attributes, DetachedMount, Reach};
use crate::sys::process::{Exit, PidFd, set_name, wait_for};
use crate::sys::socket::Channel;
use crate::sys::{Namespaces, create, limits, path, privileges, stdio, tree};

const STEP: Step = Step::CreateNamespaces;
const ON: &str = "the process that unpacks layers";
const TREE: &str = "tree";
const TRASH: &str = "trash";
/// chown(2), files of other owners, setuid bits after that, file capabilities, whiteouts. The kernel refuses the unpacker
/// every other device node.
const CAPABILITIES: [&str; 6] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"];
/// Two stacks, the pieces between the threads, a zstd window of 8 MiB; the rest is for headers and tables.
const MEMORY: u64 = 96 << 20;
/// The directories that the unpacker keeps open, and what it was given.
const DESCRIPTORS: u64 = 256;
/// How often it says how far it is.
const PROGRESS: Duration = Duration::from_millis(100);

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
        // Looked up again in the child's own mount namespace, and compared with the descriptor there.
        let place = std::fs::read_link(path::through_proc(task.quarantine))
            .map_err(|error| Failure::because(STEP, ON, format!("the quarantine has no path: {error}")))?;
        let (ours, theirs) = Channel::pair().during(STEP, ON)?;
        let namespaces = Namespaces::CLONE_NEWUSER
            | Namespaces::CLONE_NEWNS
            | Namespaces::CLONE_NEWNET
            | Namespaces::CLONE_NEWPID
            | Namespaces::CLONE_NEWIPC;
        match fork_into(namespaces, Parent::Caller).during(STEP, ON)? {
            Fork::Child => {
                drop(ours);
                // A panic must not unwind into a second command.
                let unpacked = catch_unwind(AssertUnwindSafe(|| child(&theirs, &place, task)));
                exit_now(i32::from(unpacked.is_err()));
            }
            Fork::Parent { pid, pidfd } => {
                drop(theirs);
                let unpacker = Unpacker { pid, pidfd, channel: ours };
                write_maps(pid, task.idmap)?;
                unpacker.channel.send(b"go", &[]).during(Step::BecomeRoot, ON)?;
                Ok(unpacker)
            }
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

fn child(channel: &Channel, place: &Path, task: Task<'_>) {
    let word = match prepare(channel, place, &task) {
        Ok(root) => unpack(channel, &root, task),
        Err(None) => return,
        Err(Some(failure)) => Word::Failed(failure),
    };
    // A command that has gone needs no answer.
    if let Ok(bytes) = serde_json::to_vec(&word) {
        let _ = channel.send(&bytes, &[]);
    }
}

/// Gives up everything but what unpacking needs. `None`: the command has gone.
fn prepare(channel: &Channel, place: &Path, task: &Task<'_>) -> std::result::Result<OwnedFd, Option<Failure>> {
    // Other layers' locks and blobs, the puller: not for us, and a lock that we hold would outlive its owner.
    let mut kept = vec![channel.as_fd(), task.quarantine];
    match &task.blob {
        Blob::Kept(file) => kept.push(file.as_fd()),
        Blob::Arriving { partial, length: _, pipe } => {
            kept.push(partial.as_fd());
            kept.extend(pipe.iter().map(AsFd::as_fd));
        }
    }
    stdio::close_all_but(&kept).during(STEP, ON)?;
    // Until the maps are written it has no id that it could take on.
    if !matches!(channel.receive(), Ok(Some(_))) {
        return Err(None);
    }
    // As ourselves still, who may pass the store's parents.
    let root = enter(place, task.quarantine).during(Step::EnterRoot, place.display())?;
    privileges::become_identity(&root_of(task.idmap)).during(Step::BecomeRoot, ON)?;
    // After the change of ids, which clears it. A command that died before has closed the channel.
    die_with_parent(None).during(Step::BecomeRoot, ON)?;
    drop_rights().during(Step::DropPrivileges, ON)?;
    Ok(root)
}

fn enter(place: &Path, quarantine: BorrowedFd<'_>) -> crate::sys::Result<OwnedFd> {
    mount::make_private()?;
    let found = path::open_host_path(place)?;
    if tree::identity(found.as_fd())? != tree::identity(quarantine)? {
        return Err(crate::sys::Error { call: format!("open({})", place.display()), errno: crate::sys::Errno::ESTALE });
    }
    let root = DetachedMount::copy_of_fd(found.as_fd(), Reach::ThisMount)?;
    root.add(Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC, Reach::ThisMount)?;
    root.attach(found.as_fd(), place)?;
    path::enter_directory(root.as_fd())?;
    mount::pivot_to_current_directory()?;
    path::open_host_path(Path::new("/"))
}

fn drop_rights() -> crate::sys::Result<()> {
    let keep = CAPABILITIES.map(str::to_owned);
    set_name(c"sandpod:unpack")?;
    privileges::hide_from_ptrace()?;
    privileges::no_new_privileges()?;
    privileges::limit_bounding_set(&keep)?;
    privileges::limit_capabilities(&keep)?;
    limits::write_no_core()?;
    limits::limit_descriptors(DESCRIPTORS)?;
    limits::limit_memory(MEMORY)?;
    // Modes are those of the archive.
    stdio::set_umask(0);
    Ok(())
}

fn unpack(channel: &Channel, root: &OwnedFd, task: Task<'_>) -> Word {
    let Task { quarantine: _, blob, expected, idmap, limits } = task;
    let owners = if idmap.mode == UsernsMode::Single { Owners::Squash } else { Owners::Keep };
    let (tree, trash) = match make_directories(root.as_fd()) {
        Ok(directories) => directories,
        Err(failure) => return Word::Failed(failure),
    };
    let (input, copy) = ends(blob, channel);
    let unpacked = unpack_blob(input, copy, &expected, (tree.as_fd(), trash.as_fd()), owners, limits);
    drop(trash);
    // What is left of it is removed with the quarantine, or by the collector.
    let _ = remove_tree(root.as_fd(), TRASH.as_ref());
    match unpacked {
        Ok(summary) => Word::Done(summary),
        Err(error) => Word::Refused { blame: blame(&error), why: sentences(&error) },
    }
}

fn make_directories(root: BorrowedFd<'_>) -> Result<(OwnedFd, OwnedFd)> {
    let make = |name: &str| {
        path::make_new_directory(root, Path::new(name))?;
        tree::open_directory(root, name.as_ref())
    };
    let made = make(TREE).and_then(|tree| {
        // A layer that says nothing of its root has one like every other.
        create::set_mode(tree.as_fd(), 0o755)?;
        Ok((tree, make(TRASH)?))
    });
    made.during(Step::MountFilesystems, "the quarantine of a layer")
}

fn blame(error: &BlobError) -> Blame {
    match error {
        // Cut off: what is here may be the beginning of the right bytes.
        BlobError::Size { expected, found } if found < expected => Blame::Reading,
        BlobError::Size { .. } | BlobError::Digest { .. } => Blame::Bytes,
        BlobError::Read(_) => Blame::Reading,
        BlobError::Decompression(_) | BlobError::Layer(_) | BlobError::DiffId { .. } => Blame::Layer,
    }
}

/// An error and what it comes from, one line each.
fn sentences(error: &dyn std::error::Error) -> Vec<String> {
    let mut lines = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        lines.push(cause.to_string());
        source = cause.source();
    }
    lines.dedup();
    lines
}

/// The blob as one stream, and where its new bytes go.
fn ends<'a>(blob: Blob<'a>, channel: &'a Channel) -> (Input<'a>, Copy<'a>) {
    let said = Instant::now();
    match blob {
        Blob::Kept(file) => {
            let input = Input { file, file_ends: u64::MAX, pipe: None, offset: 0, channel, said };
            (input, Copy { file: None, from: 0, offset: 0 })
        }
        Blob::Arriving { partial, length, pipe } => {
            let pipe = pipe.map(File::from);
            let input = Input { file: partial, file_ends: length, pipe, offset: 0, channel, said };
            (input, Copy { file: Some(partial), from: length, offset: 0 })
        }
    }
}

struct Input<'a> {
    file: &'a File,
    /// From here on the bytes come from the pipe.
    file_ends: u64,
    pipe: Option<File>,
    offset: u64,
    channel: &'a Channel,
    said: Instant,
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.file_ends - self.offset.min(self.file_ends);
        let count = if left > 0 {
            let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.file.read_at(&mut buffer[..most], self.offset)?
        } else {
            self.pipe.as_mut().map_or(Ok(0), |pipe| pipe.read(buffer))?
        };
        self.offset += count as u64;
        if self.said.elapsed() >= PROGRESS {
            self.said = Instant::now();
            // Not waited for: the next word says more.
            if let Ok(word) = serde_json::to_vec(&Word::Bytes(self.offset)) {
                let _ = self.channel.try_send(&word, &[]);
            }
        }
        Ok(count)
    }
}

/// Writes bytes to their place in a file, which has the first ones already.
struct Copy<'a> {
    file: Option<&'a File>,
    from: u64,
    offset: u64,
}

impl Write for Copy<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let known = self.from.saturating_sub(self.offset).min(bytes.len() as u64);
        if let Some(file) = self.file {
            let new = &bytes[usize::try_from(known).unwrap_or(bytes.len())..];
            file.write_all_at(new, self.offset + known)?;
        }
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
