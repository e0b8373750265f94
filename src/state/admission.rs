//! Who runs and what they claim, and a lock under which one pod at a time is measured against that.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;

use super::error::Doing;
use super::store::Store;
use crate::plan::cgroup::Claim;
use crate::report::Report;

/// flock(2) of `runtime/admission.lock`: between the look at the others and [`Store::create`] no other pod is admitted.
/// It belongs to the open file, which a forked child has too: let go of it before a supervisor is forked.
#[derive(Debug)]
pub struct AdmissionLock {
    _held: File,
}

impl Store {
    /// Waits until nobody else is being admitted.
    ///
    /// # Errors
    /// The runtime directory is not ours alone, or cannot be written.
    pub fn lock_admission(&self) -> Result<AdmissionLock, Report> {
        let what = || "could not look at the other pods' claims".to_owned();
        self.make_private(what)?;
        let path = self.runtime().join("admission.lock");
        let open = || File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let held = open().doing("open", &path).map_err(|error| error.into_report(what()))?;
        held.lock().doing("flock", &path).map_err(|error| error.into_report(what()))?;
        Ok(AdmissionLock { _held: held })
    }

    /// What the other pods claim, at the most: one that has ended counts until it is removed, or until
    /// [`claims`](Self::claims) has found it. Reads no pod. `None`: an older version has made a pod that is not counted.
    #[must_use]
    pub fn most_claims(&self) -> Option<Vec<(String, Claim)>> {
        self.is_indexed().then(|| self.index().claims())
    }

    /// Name and claim of every pod but `except` that lives and claims something. One whose plan cannot be read any more
    /// has no claim that is known.
    ///
    /// # Errors
    /// What [`Store::list`] says.
    pub fn claims(&self, except: Option<&str>) -> Result<Vec<(String, Claim)>, Report> {
        let ids = self.list_ids()?;
        let ids = if self.is_indexed() { self.index().claims().into_iter().map(|(id, _)| id).collect() } else { ids };
        let mut living = Vec::new();
        for pod in ids.iter().filter_map(|id| self.by_id(id)) {
            let is_live = pod.status().is_live();
            let Some(claim) = pod.plan.map(|plan| plan.sandbox.claim) else { continue };
            if !is_live {
                self.index().drop_claim(&pod.id, &claim);
            } else if Some(pod.id.as_str()) != except && claim != Claim::default() {
                living.push((pod.name, claim));
            }
        }
        Ok(living)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::state::fixture;

    #[test]
    fn the_living_claim_and_the_ended_do_not() {
        let top = tempfile::tempdir().expect("tempdir");
        let store = Store::new(&top.path().join("run"), &top.path().join("data"));
        assert_eq!(store.claims(None).expect("no directory is no pod"), []);
        let claim = Claim { cpu_millis: 500, memory: 1 << 30 };
        let mut plan = fixture::plan(&store, "0123456789ab", "web");
        plan.sandbox.claim = claim;
        // As `run` does it: the lock is not held any more by anybody when the next one asks.
        let lock = store.lock_admission().expect("lock");
        let created = store.create(&plan, Timestamp::UNIX_EPOCH).expect("create");
        drop(lock);
        assert_eq!(store.claims(None).expect("claims"), [("web".to_owned(), claim)]);
        drop(created);
        assert_eq!(store.claims(None).expect("claims"), []);
    }

    #[test]
    fn one_pod_at_a_time_is_admitted() {
        let top = tempfile::tempdir().expect("tempdir");
        let store = Store::new(&top.path().join("run"), &top.path().join("data"));
        let first = store.lock_admission().expect("lock");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| sender.send(store.lock_admission().map(drop)).expect("sent"));
            assert!(receiver.recv_timeout(Duration::from_millis(100)).is_err(), "it waits");
            drop(first);
            receiver.recv_timeout(Duration::from_secs(10)).expect("it goes on").expect("a lock");
        });
    }
}
