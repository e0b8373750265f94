//! What dead pods leave in the cgroup that is delegated to us, and who removes it.
//!
//! No process can remove the cgroup that it is in. A supervisor's own goes with `rm`, or with the command that waits for
//! the pod; a supervisor that nobody waits for goes back to the cgroup of its starter first ([`Cgroups::leave`]). Where
//! that cannot be, or where somebody was killed on the way, an empty cgroup is left. **Whoever makes or removes a pod in
//! the same place next takes it along.**
//!
//! Empty is not dead: a pod's cgroups are there before its first process. Whoever makes them holds a lock (flock(2)) on the
//! pod's `cgroup.kill` until the supervisor is in its own, and only who has the lock removes. That file can be opened by its
//! owner alone (mode 0200), so no stranger can hold it; a directory can be opened, and so locked, by everybody.
//!
//! [`Cgroups::leave`]: super::Cgroups::leave

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::remove::{is_populated, remove_empty_tree};
use crate::plan::SandboxPlan;
use crate::plan::cgroup::{CgroupParent, CgroupPlan, CgroupTree, SUPERVISOR, of_supervisor};
use crate::plan::dirs::is_id;

/// A sweep takes a millisecond: what it took for a leftover is soon gone, and can be made again.
const PATIENCE: Duration = Duration::from_millis(100);

/// While this lives, the pod's cgroups count as being made.
#[derive(Debug)]
pub struct Making {
    _lock: File,
}

/// Removes what others have left where the plan's pod is about to be, then makes the pod's own and keeps it from being taken
/// for the same. `None`: there is no such directory, or it cannot be locked; the start goes on without.
#[must_use]
pub fn begin(plan: &SandboxPlan) -> Option<Making> {
    let CgroupPlan::Tree(CgroupTree { parent: CgroupParent::Directory { path, .. }, name, .. }) = &plan.cgroup else {
        return None;
    };
    sweep(path);
    make(&path.join(name))
}

fn make(pod: &Path) -> Option<Making> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        super::file::make_directory(pod).ok()?;
        match lock(pod) {
            Ok(Some(lock)) => return Some(Making { _lock: lock }),
            // Somebody is just removing it.
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !pod.exists() => {}
            // Before Linux 5.14 there is no such file. Then nothing is swept, either.
            Err(_) => return None,
        }
    }
    None
}

/// The lock of a pod's cgroup that is still there; `None` where another has it.
fn lock(pod: &Path) -> io::Result<Option<File>> {
    let path = pod.join("cgroup.kill");
    let file = File::options().write(true).open(&path)?;
    if file.try_lock().is_err() {
        return Ok(None);
    }
    // Another of the same name may have been made since.
    let is_still_there = std::fs::metadata(&path)?.ino() == file.metadata()?.ino();
    Ok(is_still_there.then_some(file))
}

/// Removes the cgroups of pods of which no process is left, unless they are being made just now. What cannot be removed
/// stays for the next, or for the `rm` of its pod, which says so.
pub(super) fn sweep(delegated: &Path) {
    // rmdir(2) itself says whether a process is in it, and more cheaply than its files.
    let _ = std::fs::remove_dir(delegated.join(super::CLIENTS));
    let Ok(entries) = std::fs::read_dir(delegated) else { return };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let pods: BTreeSet<String> = names.filter_map(|name| pod_of(&name).map(str::to_owned)).collect();
    for pod in pods.iter().map(|pod| delegated.join(pod)) {
        let lock = lock(&pod);
        if pod.exists() && !matches!(lock, Ok(Some(_))) {
            continue;
        }
        let supervisor = of_supervisor(&pod);
        let has_supervisor = supervisor.exists() && std::fs::remove_dir(supervisor).is_err();
        if !has_supervisor && pod.exists() && !is_populated(&pod) {
            remove_empty_tree(&pod);
        }
    }
}

/// `sandpod-<pod>-<id>`, for the name of a pod's cgroup or its supervisor's. `None`: somebody else's, or a scope, which
/// systemd removes.
fn pod_of(name: &str) -> Option<&str> {
    let pod = name.strip_suffix(SUPERVISOR).unwrap_or(name);
    let (_, id) = pod.strip_prefix("sandpod-")?.rsplit_once('-')?;
    is_id(id).then_some(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_pods_are_ours_to_sweep() {
        let pod = "sandpod-web-0123456789ab";
        assert_eq!(pod_of(pod), Some(pod));
        assert_eq!(pod_of("sandpod-web-0123456789ab.supervisor"), Some(pod));
        for other in ["sandpod-ci", "sandpod-web-0123456789ab.scope", "sandpod-0123456789ab", "web-0123456789ab", "lab"]
        {
            assert_eq!(pod_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_pod_that_is_being_made_is_not_swept() {
        let dir = tempfile::tempdir().expect("tempdir");
        let pod = dir.path().join("sandpod-web-0123456789ab");
        let fill = || {
            std::fs::create_dir_all(&pod).expect("mkdir");
            std::fs::write(pod.join("cgroup.kill"), "").expect("write");
        };
        fill();
        std::fs::create_dir(of_supervisor(&pod)).expect("mkdir");
        let making = make(&pod).expect("made");
        assert!(make(&pod).is_none(), "not by two");
        sweep(dir.path());
        assert!(of_supervisor(&pod).exists());
        drop(making);
        // Whoever only reads cannot keep it.
        let stranger = File::open(dir.path()).expect("open");
        stranger.try_lock_shared().expect("lock");
        // A child that another test has just forked holds our lock, too, until it executes something.
        let mut sweeps = (0..1000).map(|_| {
            sweep(dir.path());
            std::thread::sleep(std::time::Duration::from_millis(10));
            of_supervisor(&pod).exists()
        });
        assert!(sweeps.any(|exists| !exists));
    }

    #[test]
    fn the_lock_of_what_was_removed_is_none() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (pod, aside) = (dir.path().join("pod"), dir.path().join("aside"));
        let fill = || {
            std::fs::create_dir(&pod).expect("mkdir");
            std::fs::write(pod.join("cgroup.kill"), "").expect("write");
        };
        fill();
        let before = lock(&pod).expect("open").expect("free");
        std::fs::rename(&pod, aside).expect("rename");
        fill();
        assert!(lock(&pod).expect("open").is_some(), "another one of that name");
        drop(before);
        std::fs::remove_file(pod.join("cgroup.kill")).expect("unlink");
        assert_eq!(lock(&pod).expect_err("no such file").kind(), io::ErrorKind::NotFound);
        assert!(make(&pod).is_none(), "an old kernel");
    }
}
