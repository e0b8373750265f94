//! Files of a running container, in and out: `sandpod cp`.
//!
//! ```text
//! sender ── tar stream ──▶ receiver
//! ```
//!
//! One of them is a child of the command inside the container's mount namespace and id map, the other is the command itself
//! (or what is at its stdin or stdout). A container decides about its own file names and links, so the side on the host
//! resolves none of them: the receiver writes below its destination and follows no link on the way (CVE-2019-10152,
//! CVE-2019-1002101, CVE-2019-11246: tools that did). The child executes nothing of the container, and a link that it
//! follows leads to a file of the container, since its root directory is the container's.

mod receive;
mod send;

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::failure::{During as _, Failure, Result};
use super::sandbox::root_of;
use crate::plan::idmap::{IdMapPlan, UsernsMode};
use crate::step::Step;
use crate::sys::process::PidFd;
use crate::sys::{Namespaces, clone, privileges, process, stdio};

pub use receive::Shape;
use receive::{Owners, Policy};

/// The container whose files are meant.
#[derive(Debug)]
pub struct Inside<'a> {
    pub container: &'a str,
    /// Its first process.
    pub init: &'a PidFd,
    pub idmap: &'a IdMapPlan,
}

/// What is copied.
#[derive(Debug)]
pub struct Source {
    pub path: PathBuf,
    /// A symbolic link at its end is followed (`-L`).
    pub follow: bool,
}

impl Source {
    /// Its last name; `None`: it ends in `.` or `..`, so what is in the directory is meant.
    #[must_use]
    pub fn name(&self) -> Option<&std::ffi::OsStr> {
        if ends_in_dot(&self.path) { None } else { self.path.file_name() }
    }
}

/// Where it goes.
#[derive(Debug)]
pub struct Target {
    pub path: PathBuf,
    pub shape: Shape,
    /// Owners are those of the source, and not root of the pod.
    pub keep_owners: bool,
}

/// What was not copied, a line for each file; the rest was.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    pub shown: Vec<String>,
    pub more: usize,
}

/// Lines that cross from the child: all together less than a pipe holds, so that it need not wait.
const MOST_PROBLEMS: usize = 10;
const LONGEST_PROBLEM: usize = 4096;

impl Problems {
    fn add(&mut self, path: &Path, why: impl std::fmt::Display) {
        self.add_line(format!("{}: {why}", path.display()));
    }

    fn add_line(&mut self, line: String) {
        if self.shown.len() == MOST_PROBLEMS {
            self.more += 1;
            return;
        }
        self.shown.push(line.chars().take(LONGEST_PROBLEM / 4).collect());
    }

    fn without(mut self, part: &str) -> Problems {
        self.shown.retain(|line| !line.contains(part));
        self
    }

    fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }
}

/// Copies from the container to a path of the host.
pub fn copy_out(inside: &Inside<'_>, source: &Source, target: &Target) -> Result<Problems> {
    let (from_child, to_us) = stdio::pipe().during(Step::EnterPod, inside.container)?;
    let child = Child::start(inside, to_us.as_fd(), || send::send(source, send::TOP, File::from(again(&to_us))))?;
    drop(to_us);
    let policy = Policy { owners: Owners::Ours, keeps_set_id: false };
    let received = receive::receive(File::from(from_child), target, policy);
    Ok(of_both(child.finish()?, received))
}

/// Writes a tar archive of a path of the container to `stream`.
pub fn copy_to_stream(inside: &Inside<'_>, source: &Source, stream: BorrowedFd<'_>) -> Result<Problems> {
    let top = source.name().map_or_else(|| Path::new("."), Path::new);
    Child::start(inside, stream, || send::send(source, top, File::from(again(&stream))))?.finish()
}

/// Copies a path of the host into the container.
pub fn copy_in(inside: &Inside<'_>, source: &Source, target: &Target) -> Result<Problems> {
    let (for_child, from_us) = stdio::pipe().during(Step::EnterPod, inside.container)?;
    let policy = policy(inside, target);
    let child =
        Child::start(inside, for_child.as_fd(), || receive::receive(File::from(again(&for_child)), target, policy))?;
    drop(for_child);
    let ours = send::send(source, send::TOP, File::from(from_us));
    Ok(of_both(ours, child.finish()?))
}

/// Unpacks a tar archive that comes on `stream` into a directory of the container.
pub fn copy_from_stream(inside: &Inside<'_>, stream: BorrowedFd<'_>, target: &Target) -> Result<Problems> {
    let policy = policy(inside, target);
    Child::start(inside, stream, || receive::receive(File::from(again(&stream)), target, policy))?.finish()
}

fn policy(inside: &Inside<'_>, target: &Target) -> Policy {
    let single = inside.idmap.mode == UsernsMode::Single;
    Policy { owners: if target.keep_owners && !single { Owners::Archive } else { Owners::Ours }, keeps_set_id: true }
}

/// What the two ends of a stream say. Each may only say that the other has gone, which is left out then.
fn of_both(sender: Problems, receiver: Problems) -> Problems {
    let receiver = if sender.is_empty() { receiver } else { receiver.without(receive::CUT_SHORT) };
    let mut all = if receiver.is_empty() { sender } else { sender.without("(EPIPE)") };
    all.more += receiver.more;
    for line in receiver.shown {
        all.add_line(line);
    }
    all
}

/// The stream again, for a `File` that closes it.
fn again(stream: &impl std::os::fd::AsFd) -> OwnedFd {
    // EMFILE at most: then there is nothing to write to, and the other side says so.
    stream.as_fd().try_clone_to_owned().unwrap_or_else(|_| clone::exit_now(125))
}

fn ends_in_dot(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let bytes = path.as_os_str().as_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

fn ends_in_slash(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str().as_bytes().ends_with(b"/")
}

/// The child, from outside.
struct Child {
    pid: i32,
    words: OwnedFd,
    container: String,
}

/// What the child says at its end.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    Failed(Failure),
    Done(Problems),
}

impl Child {
    /// Forks a process that enters the container's mount namespace, becomes root of the pod's id map, does `work` and ends.
    /// Of what leads to files, only `stream` is open in it beside descriptors 0 to 2; no path of the container leads to a
    /// file of the host, and no process of the container may look into this one.
    fn start(inside: &Inside<'_>, stream: BorrowedFd<'_>, work: impl FnOnce() -> Problems) -> Result<Child> {
        let (step, name) = (Step::EnterPod, inside.container);
        let (words, says) = stdio::pipe().during(step, name)?;
        let parent = process::ProcessId::of_self().map(|process| process.pid);
        match clone::fork_into(Namespaces::empty(), clone::Parent::Caller).during(step, name)? {
            clone::Fork::Parent { pid, .. } => Ok(Child { pid, words, container: name.to_owned() }),
            clone::Fork::Child => {
                let word = match enter(inside, &[stream, says.as_fd(), inside.init.as_fd()], parent) {
                    Ok(()) => Word::Done(work()),
                    Err(failure) => Word::Failed(failure.shortened()),
                };
                let bytes = serde_json::to_vec(&word).unwrap_or_default();
                let said = io::Write::write_all(&mut File::from(says), &bytes);
                clone::exit_now(i32::from(said.is_err()));
            }
        }
    }

    /// Waits for its end.
    fn finish(self) -> Result<Problems> {
        let (step, name) = (Step::EnterPod, self.container.as_str());
        let mut bytes = Vec::new();
        let read = File::from(self.words).read_to_end(&mut bytes);
        process::wait_for(self.pid).during(step, name)?;
        let word = read.ok().and_then(|_| serde_json::from_slice(&bytes).ok());
        match word {
            Some(Word::Done(problems)) => Ok(problems),
            Some(Word::Failed(failure)) => Err(failure),
            None => Err(Failure::because(step, name, "the process that copies died before it was done")),
        }
    }
}

fn enter(inside: &Inside<'_>, keep: &[BorrowedFd<'_>], parent: Option<i32>) -> Result<()> {
    let (step, name) = (Step::EnterPod, inside.container);
    privileges::hide_from_ptrace().during(step, name)?;
    stdio::close_all_but(keep).during(step, name)?;
    clone::join_all(inside.init, Namespaces::CLONE_NEWUSER | Namespaces::CLONE_NEWNS).during(step, name)?;
    privileges::become_identity(&root_of(inside.idmap)).during(Step::BecomeRoot, name)?;
    privileges::no_new_privileges().during(step, name)?;
    stdio::set_umask(0);
    if !clone::die_with_parent(parent).during(Step::BecomeRoot, name)? {
        clone::exit_now(125);
    }
    Ok(())
}
