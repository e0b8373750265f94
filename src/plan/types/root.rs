//! A container's root file system.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How the container's `/` is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RootPlan {
    /// overlayfs over these directories, the highest first; none of them is ever written to.
    Overlay {
        #[serde(rename = "lower", with = "one_or_more")]
        lowers: Vec<PathBuf>,
    },
    /// No overlay can be made here (`no-overlay`): a whole copy of these directories, the highest first, made at every
    /// start, below `SandboxPlan::layers`.
    Copy {
        #[serde(rename = "source", with = "one_or_more")]
        sources: Vec<PathBuf>,
    },
    /// `host:`: an empty directory with links, and one overlay (or read-only bind) for each directory of the host.
    /// `fresh` is sorted, so that a parent comes before its children; `links` may lie in fresh directories
    /// (`var/run`), so they come after. All paths are relative to the new root.
    HostTree { links: Vec<(String, PathBuf)>, dirs: Vec<HostTreeDir>, fresh: Vec<FreshDir> },
}

/// One directory is written as a text, as it was before images had layers; several are a list.
mod one_or_more {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMore {
        One(PathBuf),
        More(Vec<PathBuf>),
    }

    pub(super) fn serialize<S: Serializer>(paths: &[PathBuf], to: S) -> Result<S::Ok, S::Error> {
        match paths {
            [one] => one.serialize(to),
            paths => paths.serialize(to),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathBuf>, D::Error> {
        Ok(match OneOrMore::deserialize(from)? {
            OneOrMore::One(path) => vec![path],
            OneOrMore::More(paths) => paths,
        })
    }
}

impl RootPlan {
    /// Whether it needs a place for an upper layer.
    #[must_use]
    pub fn has_overlay(&self) -> bool {
        match self {
            RootPlan::Overlay { .. } => true,
            RootPlan::Copy { .. } => false,
            RootPlan::HostTree { links: _, dirs, fresh: _ } => dirs.iter().any(|dir| dir.overlay),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostTreeDir {
    /// `usr` of `/usr`.
    pub name: String,
    /// False: a read-only bind, where no overlay can be made (mounts below it, nowhere to write, or no overlayfs).
    pub overlay: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FreshDir {
    pub path: PathBuf,
    pub mode: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod that an older sandpod started is read as it was written, and one directory is written as it was then.
    #[test]
    fn one_directory_is_a_text_and_several_are_a_list() {
        for (json, root) in [
            (r#"{"Overlay":{"lower":"/srv/a"}}"#, RootPlan::Overlay { lowers: vec!["/srv/a".into()] }),
            (r#"{"Copy":{"source":"/srv/a"}}"#, RootPlan::Copy { sources: vec!["/srv/a".into()] }),
            (r#"{"Overlay":{"lower":["/b","/a"]}}"#, RootPlan::Overlay { lowers: vec!["/b".into(), "/a".into()] }),
            (r#"{"Overlay":{"lower":[]}}"#, RootPlan::Overlay { lowers: Vec::new() }),
        ] {
            assert_eq!(serde_json::from_str::<RootPlan>(json).expect("valid"), root);
            assert_eq!(serde_json::to_string(&root).expect("JSON"), json);
        }
    }
}
