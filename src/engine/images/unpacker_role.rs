//! The unpacker: a process that turns the bytes of a stranger into files.
//!
//! It is this binary, executed anew, so nothing of the command's memory is in it: no credential, no environment. It is root of
//! a user namespace with the pod's id map, so that owners and whiteouts are right. It has no network, no file but those below
//! the quarantine, which is its root directory, few capabilities, bounded memory, and only the descriptors of its task. Its
//! stdin is its socket to the command, and it ends with it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::unpacker::{Blame, CAPABILITIES, ON, Order, ROLE, SentBlob, Word};
use crate::engine::failure::{During, Failure, Result};
use crate::engine::tree::remove_tree;
use crate::image::layer::pipeline::{BlobError, unpack_blob};
use crate::image::layer::{Hidden, LayerError, Target, merge};
use crate::plan::syscall_filter;
use crate::step::Step;
use crate::sys::clone::{die_with_parent, exit_now};
use crate::sys::mount::{self, Attributes, DetachedMount, Reach};
use crate::sys::privileges::Identity;
use crate::sys::process::set_name;
use crate::sys::socket::Channel;
use crate::sys::{create, landlock, limits, path, privileges, seccomp, stdio, tree};

const TREE: &str = "tree";
const TRASH: &str = "trash";
/// Of layers that are merged: the one that is being unpacked, and those that are below it already.
const LAYER: &str = "layer";
const BELOW: &str = "below";
/// Two stacks, the pieces between the threads, a zstd window of 8 MiB; the rest is for headers and tables.
const MEMORY: u64 = 96 << 20;
/// The directories that the unpacker keeps open, and what it was given.
const DESCRIPTORS: u64 = 256;
/// How often it says how far it is.
const PROGRESS: Duration = Duration::from_millis(100);

/// Plays the role when the first word names it, and does not return then. Looked at before anything else.
pub(super) fn play() {
    if std::env::args_os().next().is_some_and(|word| word == ROLE) {
        // Without its socket there is nobody to say it to.
        exit_now(i32::from(run().is_err()));
    }
}

fn run() -> std::result::Result<(), ()> {
    let channel = Channel::from(io::stdin().as_fd().try_clone_to_owned().map_err(drop)?);
    let word = match Task::receive(&channel) {
        Ok(Some(task)) => prepare(&task).map_or_else(Word::Failed, |root| unpack(&channel, &root, task)),
        // The command has gone.
        Ok(None) => return Ok(()),
        Err(failure) => Word::Failed(failure),
    };
    // A command that has gone needs no answer.
    let bytes = serde_json::to_vec(&word).map_err(drop)?;
    channel.send(&bytes, &[]).map_err(drop)
}

/// What the command has sent: an order and its descriptors.
struct Task {
    order: Order,
    quarantine: OwnedFd,
    file: File,
    pipe: Option<File>,
}

impl Task {
    /// Waits until the maps are written, and there are ids that it can take on. `None`: the command has gone.
    fn receive(channel: &Channel) -> Result<Option<Task>> {
        let wrong = |why: String| Failure::because(Step::CreateNamespaces, ON, format!("its task is wrong: {why}"));
        let Some(message) = channel.receive().during(Step::CreateNamespaces, ON)? else { return Ok(None) };
        let order: Order = serde_json::from_slice(&message.bytes).map_err(|error| wrong(error.to_string()))?;
        let mut fds = message.fds.into_iter();
        let (Some(quarantine), Some(file)) = (fds.next(), fds.next()) else {
            return Err(wrong("a descriptor is missing".to_owned()));
        };
        let pipe = fds.next().map(File::from);
        if matches!(order.blob, SentBlob::Arriving { has_pipe, .. } if has_pipe != pipe.is_some()) {
            return Err(wrong("the descriptor of the pipe is missing".to_owned()));
        }
        Ok(Some(Task { order, quarantine, file: file.into(), pipe }))
    }
}

/// Gives up everything but what unpacking needs; its root directory.
fn prepare(task: &Task) -> Result<OwnedFd> {
    set_name(c"sandpod:unpack").during(Step::BecomeRoot, ON)?;
    // As the caller's uid still, who may pass the store's parents.
    let root = enter(task.quarantine.as_fd()).during(Step::EnterRoot, ON)?;
    let groups = task.order.may_set_groups.then(Vec::new);
    privileges::become_identity(&Identity { uid: 0, gid: 0, groups }).during(Step::BecomeRoot, ON)?;
    // After the change of ids, which clears it. A command that died before has closed the socket.
    die_with_parent(None).during(Step::BecomeRoot, ON)?;
    drop_rights(root.as_fd(), longest_file(&task.order)).during(Step::DropPrivileges, ON)?;
    Ok(root)
}

/// A file of the layer, or the copy of the blob, of which one byte more than there may be is read.
fn longest_file(order: &Order) -> u64 {
    order.limits.bytes.max(order.expected.size.saturating_add(1))
}

/// Makes the quarantine the root directory. Its path is looked up again, in the mount namespace of this process, since a mount
/// of another one cannot be copied; what is found must be the directory that was handed over.
fn enter(quarantine: BorrowedFd<'_>) -> crate::sys::Result<OwnedFd> {
    let place = path::path_of(quarantine)?;
    mount::make_private()?;
    let found = path::open_host_path(&place)?;
    if tree::identity(found.as_fd())? != tree::identity(quarantine)? {
        return Err(crate::sys::Error { call: format!("open({})", place.display()), errno: crate::sys::Errno::ESTALE });
    }
    let root = DetachedMount::copy_of_fd(found.as_fd(), Reach::ThisMount)?;
    root.add(Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC, Reach::ThisMount)?;
    root.attach(found.as_fd(), &place)?;
    path::enter_directory(root.as_fd())?;
    mount::pivot_to_current_directory()?;
    path::open_host_path(Path::new("/"))
}

fn drop_rights(root: BorrowedFd<'_>, longest_file: u64) -> crate::sys::Result<()> {
    let keep = CAPABILITIES.map(str::to_owned);
    privileges::hide_from_ptrace()?;
    privileges::no_new_privileges()?;
    privileges::limit_bounding_set(&keep)?;
    privileges::limit_capabilities(&keep)?;
    // A write beyond the longest file is an error, not a signal.
    stdio::ignore_file_size_signal()?;
    limits::write_no_core()?;
    limits::limit_descriptors(DESCRIPTORS)?;
    limits::limit_memory(MEMORY)?;
    limits::limit_file_size(longest_file)?;
    landlock::confine_to_tree(root)?;
    // Neither keyrings nor vsock belong to a namespace that it could leave behind.
    seccomp::install(&syscall_filter::program())?;
    // Modes are those of the archive.
    stdio::set_umask(0);
    Ok(())
}

fn unpack(channel: &Channel, root: &OwnedFd, task: Task) -> Word {
    let Task { order, quarantine, file, pipe } = task;
    let Order { blob, expected, limits, owners, merged, may_set_groups: _ } = order;
    // `root` is the same directory, seen through the only mount that is left.
    drop(quarantine);
    let name = if merged { LAYER } else { TREE };
    let (tree, trash) = match make_directories(root.as_fd(), name) {
        Ok(directories) => directories,
        Err(failure) => return Word::Failed(failure),
    };
    let (input, copy) = ends(blob, &file, pipe, channel);
    let mut hidden = Hidden::default();
    let target =
        Target { root: tree.as_fd(), trash: trash.as_fd(), hidden: if merged { Some(&mut hidden) } else { None } };
    let unpacked = unpack_blob(input, copy, &expected, target, owners, limits);
    drop(trash);
    let word = match unpacked {
        Ok(summary) if merged => match put_over(root.as_fd(), &tree, &hidden, summary.hides_lower_layers) {
            Ok(()) => Word::Done(summary),
            Err(failure) => Word::Failed(failure),
        },
        Ok(summary) => Word::Done(summary),
        Err(error) => Word::Refused { blame: blame(&error), why: sentences(&error) },
    };
    // What is left of it is removed with the quarantine, or by the collector.
    let _ = remove_tree(root.as_fd(), TRASH.as_ref());
    word
}

/// Puts the layer over the layers that are here, and in their place.
fn put_over(root: BorrowedFd<'_>, layer: &OwnedFd, hidden: &Hidden, hides_all: bool) -> Result<()> {
    let on = "the layers of an image, merged";
    let failed = |error: &LayerError| Failure::because(Step::MountFilesystems, on, sentences(error).join(": "));
    let (tree, below) = (OsStr::new(TREE), OsStr::new(BELOW));
    let has_below = create::existing(root, tree).during(Step::MountFilesystems, on)?.is_some();
    if has_below {
        create::rename(root, tree, root, below).during(Step::MountFilesystems, on)?;
    }
    let opened = (has_below && !hides_all).then(|| tree::open_directory(root, below));
    let opened = opened.transpose().during(Step::MountFilesystems, on)?;
    merge(layer.as_fd(), opened.as_ref().map(AsFd::as_fd), hidden).map_err(|error| failed(&error))?;
    create::rename(root, OsStr::new(LAYER), root, tree).during(Step::MountFilesystems, on)?;
    if has_below && let Some(error) = remove_tree(root, below).into_iter().next() {
        return Err(Failure::new(Step::MountFilesystems, on, &error));
    }
    Ok(())
}

fn make_directories(root: BorrowedFd<'_>, tree: &str) -> Result<(OwnedFd, OwnedFd)> {
    let make = |name: &str| {
        path::make_new_directory(root, Path::new(name))?;
        tree::open_directory(root, name.as_ref())
    };
    // From an attempt at a layer that is merged.
    let old = [LAYER, TRASH].iter().flat_map(|name| remove_tree(root, name.as_ref())).next();
    let made = old.map_or(Ok(()), Err).and_then(|()| make(tree)).and_then(|tree| {
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
fn ends<'a>(blob: SentBlob, file: &'a File, pipe: Option<File>, channel: &'a Channel) -> (Input<'a>, Copy<'a>) {
    let said = Instant::now();
    match blob {
        SentBlob::Kept => {
            let input = Input { file, file_ends: u64::MAX, pipe: None, offset: 0, channel, said };
            (input, Copy { file: None, from: 0, offset: 0 })
        }
        SentBlob::Arriving { length, has_pipe: _ } => {
            let input = Input { file, file_ends: length, pipe, offset: 0, channel, said };
            (input, Copy { file: Some(file), from: length, offset: 0 })
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
