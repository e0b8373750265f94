//! Where a pod lives on disk, and the index entries by which it is found without a look into any other pod.
//!
//! ```text
//! data/names/<name> -> ../pods/<id>                    symbolic link
//! data/claims/<id>-<cpu millis>-<memory bytes>         empty file; only of a pod that claims something
//! ```

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SandboxPlan;
use super::cgroup::Claim;
use crate::manifest::{dns_label, dns_subdomain};

/// The directory of the names, in the data directory.
pub const NAMES: &str = "names";
/// The directory of the claims, in the data directory.
pub const CLAIMS: &str = "claims";

/// Where a pod lives on disk. Both end in the pod's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodDirs {
    /// `lock`, `record.json`, `record.spare`, `control.sock`; also the mount point of the pod's tmpfs in pause's mount namespace.
    pub runtime: PathBuf,
    /// `plan.json`, `<container>.root/{upper,work}`, `<container>.log`, its rotated files and `<container>.log.index`,
    /// `<container>.message`, `volumes/<name>`. Flat, since a directory on disk
    /// costs more than all else that sandpod does for it (docs/decisions/0007). No two can collide: a container's name is a
    /// DNS label and has no dot.
    pub data: PathBuf,
}

impl PodDirs {
    /// The data directory of all pods.
    #[must_use]
    pub fn store(&self) -> Option<&Path> {
        self.data.parent()?.parent()
    }
}

impl SandboxPlan {
    /// The entries that the index has for this pod.
    #[must_use]
    pub fn entries(&self) -> Vec<PathBuf> {
        let Some(store) = self.dirs.store() else { return Vec::new() };
        // An older version made no entries. Where the name was taken by then, the id took its place.
        let names = [&self.name, &self.id].map(|name| store.join(NAMES).join(name));
        names
            .into_iter()
            .chain(claim_entry(&self.id, &self.claim).map(|entry| store.join(CLAIMS).join(entry)))
            .collect()
    }
}

/// What the link of a name contains.
#[must_use]
pub fn name_target(id: &str) -> PathBuf {
    Path::new("../pods").join(id)
}

/// The id that a link of a name leads to.
#[must_use]
pub fn id_of_target(target: &Path) -> Option<&str> {
    target.strip_prefix("../pods").ok()?.to_str().filter(|id| is_id(id))
}

/// The file name of a claim. `None`: the pod claims nothing.
#[must_use]
pub fn claim_entry(id: &str, claim: &Claim) -> Option<String> {
    let Claim { cpu_millis, memory } = claim;
    (*claim != Claim::default()).then(|| format!("{id}-{cpu_millis}-{memory}"))
}

/// The id and the claim of a file name.
#[must_use]
pub fn read_claim_entry(entry: &str) -> Option<(&str, Claim)> {
    let mut parts = entry.split('-');
    let (id, cpu_millis, memory) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (is_id(id) && parts.next().is_none()).then_some((id, Claim { cpu_millis, memory }))
}

/// 12 hexadecimal digits.
#[must_use]
pub fn is_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// A DNS-1123 subdomain: one that is safe as a file name, too.
#[must_use]
pub fn is_pod_name(text: &str) -> bool {
    dns_subdomain(text).is_ok()
}

/// A DNS-1123 label.
#[must_use]
pub fn is_container_name(text: &str) -> bool {
    dns_label(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let (id, claim) = ("0123456789ab", Claim { cpu_millis: 500, memory: 1 << 30 });
        assert_eq!(id_of_target(&name_target(id)), Some(id));
        assert_eq!(read_claim_entry(&claim_entry(id, &claim).expect("a claim")), Some((id, claim)));
        assert_eq!(claim_entry(id, &Claim::default()), None);
    }

    #[test]
    fn what_others_may_have_written_is_not_believed() {
        for target in
            ["", "0123456789ab", "../pods", "../pods/x", "../pods/../x", "/pods/0123456789ab", "../pods/0123456789abc"]
        {
            assert_eq!(id_of_target(Path::new(target)), None, "{target}");
        }
        for entry in ["", "0123456789ab", "0123456789ab-1", "0123456789ab-1-2-3", "x-1-2", "0123456789ab--1-2"] {
            assert_eq!(read_claim_entry(entry), None, "{entry}");
        }
        for name in ["", ".", "..", "a/b", "../a", "A", "a\0"] {
            assert!(!is_pod_name(name), "{name}");
        }
        assert!(is_pod_name("web-1.example") && !is_container_name("web.1"));
        // Only the whole of a subdomain is bounded, to 253 bytes, and not its labels.
        let long = "a".repeat(253);
        assert!(is_pod_name(&long) && !is_container_name(&long) && !is_pod_name(&format!("{long}a")));
    }
}
