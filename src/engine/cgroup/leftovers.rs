//! What dead pods leave in the cgroup that is delegated to us, and who removes it.
//!
//! No process can remove the cgroup that it is in. A supervisor's own goes with `rm`, or with the command that waits for
//! the pod; a supervisor that nobody waits for goes back to the cgroup of its starter first ([`Cgroups::leave`]). Where
//! that cannot be, or where somebody was killed on the way, an empty cgroup is left. **Whoever makes or removes a pod in
//! the same place next takes it along.**
//!
//! Empty is not dead: a pod's cgroups are there before its first process. Whoever makes them holds a shared lock
//! (flock(2)) of the delegated directory until the supervisor is in its own, and only who has the exclusive one removes.
//! Everybody who can read the directory can hold that lock, so nobody waits for it for long.
//!
//! [`Cgroups::leave`]: super::Cgroups::leave

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use super::remove::{is_populated, remove_empty_tree};
use crate::plan::SandboxPlan;
use crate::plan::cgroup::{CgroupParent, CgroupPlan, CgroupTree, SUPERVISOR, of_supervisor};

/// A sweep takes a millisecond. Who holds the exclusive lock for longer is not one of us, and sweeps nothing.
const PATIENCE: Duration = Duration::from_millis(100);

/// While this lives, empty cgroups beside the pod's count as being made.
#[derive(Debug)]
pub struct Making {
    _lock: File,
}

/// Removes what others have left where the plan's pod is about to be, and keeps the pod's own from being taken for the
/// same. `None`: there is no directory yet, or it cannot be locked; the start goes on without.
#[must_use]
pub fn begin(plan: &SandboxPlan) -> Option<Making> {
    let CgroupPlan::Tree(CgroupTree { parent: CgroupParent::Directory { path, .. }, .. }) = &plan.cgroup else {
        return None;
    };
    sweep(path);
    let lock = File::open(path).ok()?;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = lock.try_lock_shared() {
        if !matches!(error, TryLockError::WouldBlock) || Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Some(Making { _lock: lock })
}

/// Removes the cgroups of pods of which no process is left, unless some pod is being made just now. What cannot be removed
/// stays for the next, or for the `rm` of its pod, which says so.
pub(super) fn sweep(delegated: &Path) {
    let Ok(lock) = File::open(delegated) else { return };
    let Ok(entries) = std::fs::read_dir(delegated) else { return };
    let names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let found = |name: &&String| *name == super::CLIENTS || pod_of(name).is_some();
    let mut found = names.iter().filter(found).peekable();
    if found.peek().is_none() || lock.try_lock().is_err() {
        return;
    }
    for name in found {
        let path = delegated.join(name);
        match pod_of(name) {
            // rmdir(2) itself says whether a process is in it, and more cheaply than its files.
            None => drop(std::fs::remove_dir(path)),
            Some(pod) if *name != pod => {
                if std::fs::remove_dir(path).is_ok() {
                    remove_if_empty(&delegated.join(pod));
                }
            }
            // Where there is one, the supervisor's own decides.
            Some(_) if of_supervisor(&path).exists() => {}
            Some(_) => remove_if_empty(&path),
        }
    }
}

fn remove_if_empty(pod: &Path) {
    if pod.exists() && !is_populated(pod) {
        remove_empty_tree(pod);
    }
}

/// `sandpod-<pod>-<id>`, for the name of a pod's cgroup or its supervisor's. `None`: somebody else's, or a scope, which
/// systemd removes.
fn pod_of(name: &str) -> Option<&str> {
    let pod = name.strip_suffix(SUPERVISOR).unwrap_or(name);
    let (_, id) = pod.strip_prefix("sandpod-")?.rsplit_once('-')?;
    let is_id = id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    is_id.then_some(pod)
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
        let dead = dir.path().join("sandpod-web-0123456789ab");
        let make = || {
            std::fs::create_dir_all(dead.join("pause")).expect("mkdir");
            std::fs::create_dir_all(of_supervisor(&dead)).expect("mkdir");
            std::fs::create_dir_all(dir.path().join(super::super::CLIENTS)).expect("mkdir");
        };
        let left = || std::fs::read_dir(dir.path()).expect("readdir").count();
        make();
        let making = File::open(dir.path()).expect("open");
        making.try_lock_shared().expect("lock");
        sweep(dir.path());
        assert_eq!(left(), 3);
        drop(making);
        std::fs::create_dir(dir.path().join("sandpod-ci")).expect("mkdir");
        sweep(dir.path());
        assert_eq!(left(), 1, "what is not ours stays");
    }
}
