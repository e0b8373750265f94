//! How much a pod has on disk. What containers write belongs to the pod's ids, in directories that may be closed to you,
//! so a process looks that is root of the pod's user namespace. It reads only, enters no mount and follows no link.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::failure::{During, Failure, Result};
use super::layers;
use super::sandbox::{Sandbox, root_of};
use crate::plan::storage::StorageUsage;
use crate::plan::{ContainerPlan, LayerPlace, SandboxPlan, container_log, container_message, container_root};
use crate::step::Step;
use crate::sys::own_dir::OwnDir;
use crate::sys::process::PidFd;
use crate::sys::signals::SIGKILL;
use crate::sys::socket::Channel;
use crate::sys::tree::{Extent, Identity, extent, for_each_entry, open_parent, open_to_read};
use crate::sys::{self, Errno, Error, Namespaces, clone, privileges, stdio};

const STEP: Step = Step::EnterPod;
const ON: &str = "what the pod has on disk";
/// Directories above the one that is looked at that are kept open; the way back to others is by `..`.
const OPEN_ANCESTORS: usize = 32;

/// A process on its way through the pod's files; dropped, it is killed.
#[derive(Debug)]
pub struct Measuring {
    channel: Channel,
    process: PidFd,
}

/// Sends it on its way. It takes as long as there are files.
pub fn start(sandbox: &Sandbox, pod: &SandboxPlan, containers: &[ContainerPlan]) -> Result<Measuring> {
    let (channel, theirs) = Channel::pair().during(STEP, ON)?;
    let supervisor = std::process::id().cast_signed();
    match clone::fork_into(Namespaces::empty(), clone::Parent::Caller).during(STEP, ON)? {
        clone::Fork::Parent { pidfd, .. } => Ok(Measuring { channel, process: pidfd }),
        clone::Fork::Child => {
            drop(channel);
            let answer: std::result::Result<StorageUsage, Failure> =
                measure(sandbox, pod, containers, supervisor, &theirs);
            let told = serde_json::to_vec(&answer).is_ok_and(|bytes| theirs.send(&bytes, &[]).is_ok());
            clone::exit_now(i32::from(!told));
        }
    }
}

impl Measuring {
    /// What it found. To be asked once its descriptor is readable.
    pub fn finish(&self) -> Result<StorageUsage> {
        let died = || Failure::because(STEP, ON, "the process that measures it has died");
        let message = self.channel.try_receive().during(STEP, ON)?.ok_or_else(died)?;
        let answer: std::result::Result<StorageUsage, Failure> =
            serde_json::from_slice(&message.bytes).map_err(|error| Failure::because(STEP, ON, error.to_string()))?;
        answer
    }
}

impl AsFd for Measuring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Drop for Measuring {
    fn drop(&mut self) {
        // It has gone by itself, usually; the supervisor's loop reaps it.
        let _ = self.process.signal(SIGKILL);
    }
}

/// Who: a child of the supervisor. Why: see above. Ends: when it has said what it found, or with the supervisor.
fn measure(
    sandbox: &Sandbox,
    pod: &SandboxPlan,
    containers: &[ContainerPlan],
    supervisor: i32,
    channel: &Channel,
) -> Result<StorageUsage> {
    stdio::reset_signals().during(STEP, ON)?;
    // With hostPID the pod's root could otherwise take it over, and with it the descriptors of your directories.
    privileges::hide_from_ptrace().during(STEP, ON)?;
    let open = |at: BorrowedFd<'_>, name: &str| open_to_read(at, name.as_ref()).during(STEP, name);
    // As ourselves: the directory above is 0700, and its owner no id of an isolated map.
    let data = OwnDir::of_pod(&pod.dirs.data).during(STEP, ON)?;
    let mut roots = Vec::with_capacity(containers.len());
    for ContainerPlan { name, log, root, .. } in containers {
        let logs = (0..log.max_files).map(|number| match number {
            0 => container_log(name),
            _ => format!("{}.{number}", container_log(name)),
        });
        // The container writes its termination message outside of its root: it counts, or a limit could be passed there.
        let logs = logs.chain([container_message(name)]);
        let logs = logs.filter_map(|log| extent(data.as_fd(), log.as_ref()).ok()).map(|found| found.bytes).sum();
        // In memory: not to be reached from here.
        let root = match pod.place_of(root) {
            LayerPlace::Data => Some(open(data.as_fd(), &container_root(name))?),
            LayerPlace::Directory(directory) => {
                let layers = OwnDir::of_pod(directory).during(STEP, ON)?;
                Some(open(layers.as_fd(), &container_root(name))?)
            }
            LayerPlace::Memory { .. } => None,
        };
        roots.push((name, root, logs));
    }
    let volumes = (!pod.disk_volumes.is_empty()).then(|| open(data.as_fd(), "volumes")).transpose()?;
    // Not the supervisor's lock, nor ends of pipes that a container waits on.
    let own = [channel.as_fd(), sandbox.process.as_fd(), sandbox.workshop.as_fd(), data.as_fd()];
    let opened = roots.iter().filter_map(|(_, root, _)| root.as_ref());
    let kept = own.into_iter().chain(opened.map(AsFd::as_fd)).chain(volumes.iter().map(AsFd::as_fd));
    stdio::close_all_but(&kept.collect::<Vec<_>>()).during(STEP, ON)?;
    clone::join_all(&sandbox.process, Namespaces::CLONE_NEWUSER).during(STEP, ON)?;
    let in_memory = layers::open_in_memory(sandbox, pod)?;
    privileges::become_identity(&root_of(&pod.idmap)).during(Step::BecomeRoot, ON)?;
    if !clone::die_with_parent(Some(supervisor)).during(Step::BecomeRoot, ON)? {
        clone::exit_now(125);
    }
    let mut usage = StorageUsage::default();
    for (name, root, logs) in roots {
        let logs: u64 = logs;
        let root = match (root, &in_memory) {
            (Some(root), _) => Some(root),
            // One that has not started yet has none.
            (None, Some(layers)) => open_to_read(layers.as_fd(), container_root(name).as_ref()).ok(),
            (None, None) => None,
        };
        let (bytes, whole) = root.map_or((0, true), bytes_below);
        usage.incomplete |= !whole;
        usage.containers.push((name.clone(), logs.saturating_add(bytes)));
    }
    for name in volumes.iter().flat_map(|_| &pod.disk_volumes) {
        let Some(all) = &volumes else { break };
        let (bytes, whole) = bytes_below(open(all.as_fd(), name)?);
        usage.incomplete |= !whole;
        usage.volumes.push((name.clone(), bytes));
    }
    Ok(usage)
}

/// A directory on the way to the one that is looked at.
struct Level {
    /// `None`: closed because the walk is far below; see [`OPEN_ANCESTORS`].
    fd: Option<OwnedFd>,
    identity: Identity,
    /// Directories in it that have not been entered.
    pending: Vec<OsString>,
}

/// What lies below `top` takes on disk, as du(1) counts: a file with several names once, holes not at all. What cannot be
/// looked at is left out. False: it lost its way in a tree that was moved meanwhile, and there may be more.
fn bytes_below(top: OwnedFd) -> (u64, bool) {
    let mut walk = Walk { bytes: 0, linked: HashSet::new(), levels: Vec::new() };
    let whole = walk.run(top).is_ok();
    (walk.bytes, whole)
}

struct Walk {
    bytes: u64,
    linked: HashSet<Identity>,
    levels: Vec<Level>,
}

impl Walk {
    fn run(&mut self, top: OwnedFd) -> sys::Result<()> {
        self.enter(top)?;
        self.go_on()
    }

    fn go_on(&mut self) -> sys::Result<()> {
        while let Some(level) = self.levels.last_mut() {
            match (level.pending.pop(), &level.fd) {
                (Some(name), Some(here)) => {
                    // Gone since, or a mount: neither is the pod's.
                    if let Ok(below) = open_to_read(here.as_fd(), &name) {
                        self.enter(below)?;
                    }
                }
                _ => self.leave()?,
            }
        }
        Ok(())
    }

    /// Counts what is in a directory, and notes its directories.
    fn enter(&mut self, fd: OwnedFd) -> sys::Result<()> {
        let identity = sys::tree::identity(fd.as_fd())?;
        let mut pending = Vec::new();
        let (bytes, linked) = (&mut self.bytes, &mut self.linked);
        let listed = for_each_entry(fd.as_fd(), |name, _| {
            let Ok(found) = extent(fd.as_fd(), &name) else { return true };
            let Extent { identity, is_directory, links, .. } = found;
            if is_directory || links < 2 || linked.insert(identity) {
                *bytes = bytes.saturating_add(found.bytes);
            }
            if is_directory {
                pending.push(name);
            }
            true
        });
        self.levels.push(Level { fd: Some(fd), identity, pending });
        if let Some(far) = self.levels.len().checked_sub(OPEN_ANCESTORS + 1) {
            self.levels[far].fd = None;
        }
        listed
    }

    /// Goes back up.
    fn leave(&mut self) -> sys::Result<()> {
        let left = self.levels.pop().and_then(|level| level.fd);
        if let (Some(above), Some(left)) = (self.levels.last_mut(), left)
            && above.fd.is_none()
        {
            let parent = open_parent(left.as_fd())?;
            if sys::tree::identity(parent.as_fd())? != above.identity {
                let call = "the tree was moved while it was measured".to_owned();
                return Err(Error { call, errno: Errno::ESTALE });
            }
            above.fd = Some(parent);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::Path;

    use super::*;
    use crate::sys::path;

    fn measured(top: &Path) -> u64 {
        let parent = path::open_host_path(top.parent().expect("below")).expect("open");
        bytes_below(open_to_read(parent.as_fd(), top.file_name().expect("a name")).expect("open")).0
    }

    fn blocks(path: &Path) -> u64 {
        fs::symlink_metadata(path).expect("lstat").blocks() * 512
    }

    #[test]
    fn a_file_counts_once_and_holes_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let file = dir.path().join("file");
        fs::write(&file, vec![1; 100_000]).expect("write");
        let alone = measured(dir.path());
        assert!(alone >= 100_000 && alone == blocks(&file), "{alone}");
        fs::hard_link(&file, dir.path().join("again")).expect("link");
        std::os::unix::fs::symlink("/usr", dir.path().join("elsewhere")).expect("symlink");
        fs::File::create(dir.path().join("hole")).expect("create").set_len(1 << 40).expect("truncate");
        assert_eq!(
            measured(dir.path()) - alone,
            blocks(&dir.path().join("elsewhere")) + blocks(&dir.path().join("hole"))
        );
    }

    #[test]
    fn no_depth_hides_anything() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut deep = dir.path().to_owned();
        let mut expected = 0;
        for _ in 0..3 * OPEN_ANCESTORS {
            deep.push("d");
            fs::create_dir(&deep).expect("mkdir");
            fs::write(deep.join("f"), "x".repeat(5000)).expect("write");
            expected += blocks(&deep.join("f"));
        }
        let mut at = dir.path().to_owned();
        for _ in 0..3 * OPEN_ANCESTORS {
            at.push("d");
            expected += blocks(&at);
        }
        assert_eq!(measured(dir.path()), expected);
    }

    /// A walk that has come to the bottom of `depth` directories, in each of which is a file.
    fn at_the_bottom(top: &Path, depth: usize) -> Walk {
        let mut deep = top.to_owned();
        for _ in 0..depth {
            deep.push("d");
            fs::create_dir(&deep).expect("mkdir");
            fs::write(deep.join("f"), "x".repeat(5000)).expect("write");
        }
        let mut walk = Walk { bytes: 0, linked: HashSet::new(), levels: Vec::new() };
        walk.enter(path::open_host_path(top).and_then(|top| open_to_read(top.as_fd(), ".".as_ref())).expect("open"))
            .expect("listed");
        for _ in 0..depth {
            let level = walk.levels.last_mut().expect("a level");
            let name = level.pending.pop().expect("a directory");
            let below = open_to_read(level.fd.as_ref().expect("open").as_fd(), &name).expect("open");
            walk.enter(below).expect("listed");
        }
        walk
    }

    #[test]
    fn a_tree_that_is_moved_meanwhile_leads_nowhere_else() {
        for (moved, goes_astray) in [("d/d/d", true), (&*"d/".repeat(2 * OPEN_ANCESTORS - 1), false)] {
            let dir = tempfile::tempdir().expect("tempdir");
            let (top, elsewhere) = (dir.path().join("top"), dir.path().join("elsewhere"));
            fs::create_dir(&top).and_then(|()| fs::create_dir(&elsewhere)).expect("mkdir");
            fs::write(elsewhere.join("large"), vec![1; 1 << 20]).expect("write");
            let mut walk = at_the_bottom(&top, 2 * OPEN_ANCESTORS);
            let counted = walk.bytes;
            fs::rename(top.join(moved), elsewhere.join("moved")).expect("rename");
            let ended = walk.go_on();
            assert_eq!(ended.err().map(|error| error.errno), goes_astray.then_some(Errno::ESTALE), "{moved}");
            assert_eq!(walk.bytes, counted, "{moved}: nothing of where it has gone");
        }
    }
}
