//! Unpacks one layer: a tar stream (image-spec, layer.md) becomes a directory tree that overlayfs takes as a lower layer.
//!
//! ```text
//! bytes ── archive ──▶ tar headers ── entry ──▶ checked entries ── tree ──▶ files below one directory descriptor
//! ```
//!
//! The stream is hostile: whoever made the image chose every byte. So nothing is written outside the directory that the
//! caller gives, nothing is followed that is not below it, and memory, entries and bytes are bounded by [`Limits`]. The
//! caller gives a directory that no other process may write to, and throws it away when this fails.

pub(crate) mod archive;
pub(crate) mod entry;
mod merge;
pub mod pipeline;
mod tree;

pub use merge::{Hidden, merge};
pub use tree::Target;

use std::io::Read;

use serde::{Deserialize, Serialize};

use archive::{Archive, Next};
use entry::{Entry, Kind};
use tree::Tree;

use crate::sys;

#[cfg(test)]
mod tests;

/// What one layer may ask for. Each is far above what real images have and far below what would harm a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Entries in the archive.
    pub entries: u64,
    /// Bytes of all files together, holes included.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { entries: 2_000_000, bytes: 64 << 30 }
    }
}

/// What is done with owners.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owners {
    /// Each file gets the ids that the archive says; they must be mapped in our user namespace.
    Keep,
    /// Our user namespace has one id: every file belongs to it.
    Squash,
}

/// What was unpacked, and what could not be kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    pub entries: u64,
    /// Bytes of files, without holes.
    pub bytes: u64,
    /// Device nodes: a user namespace cannot make them (mknod(2): EPERM), so an empty file has the name.
    pub devices_replaced: u64,
    /// Extended attributes that have no meaning here (`security.selinux`, `trusted.*`) or that this file system does not
    /// take.
    pub xattrs_dropped: u64,
    /// An opaque whiteout of the root: nothing of the layers below this one is seen.
    pub hides_lower_layers: bool,
    /// Entries whose owner is not the one in the archive ([`Owners::Squash`]).
    pub owners_squashed: u64,
}

impl Summary {
    /// Of two layers together.
    pub fn add(&mut self, other: &Summary) {
        let Summary { entries, bytes, devices_replaced, xattrs_dropped, hides_lower_layers: _, owners_squashed } =
            other;
        self.entries += entries;
        self.bytes += bytes;
        self.devices_replaced += devices_replaced;
        self.xattrs_dropped += xattrs_dropped;
        self.owners_squashed += owners_squashed;
    }
}

/// Why a layer was refused.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("the archive cannot be read: {}", crate::sys::describe_io(.0))]
    Read(#[from] std::io::Error),
    /// The archive ends in the middle of an entry, or has no end mark.
    #[error("the archive is cut short at byte {0}")]
    Truncated(u64),
    #[error("the archive is not a valid tar file: {0}")]
    Format(String),
    /// An entry that no well-behaved program writes.
    #[error("entry `{path}`: {why}")]
    Entry { path: String, why: String },
    #[error("the archive has more than {0} entries")]
    TooManyEntries(u64),
    #[error("the files of the archive have more than {0} bytes")]
    TooManyBytes(u64),
    /// The file system refused.
    #[error("entry `{path}`")]
    Kernel { path: String, source: sys::Error },
}

/// Unpacks a layer into `target.root`, and reads `stream` to its end, so that a digest over it covers every byte.
///
/// Paths are taken as if that were `/`; `target.trash` takes directories that a later entry replaces. Whiteouts become
/// overlayfs's own marks (`userxattr` form), or are put down in `target.hidden`. A later entry of the same name replaces an
/// earlier one.
///
/// # Errors
/// The first entry that is refused, by name; the target then holds a part of the layer.
pub fn unpack(stream: impl Read, target: Target<'_>, owners: Owners, limits: Limits) -> Result<Summary, LayerError> {
    let mut archive = Archive::new(stream);
    let mut tree = Tree::new(target, owners);
    let mut seen = 0;
    let mut logical_bytes = 0_u64;
    while let Some(next) = archive.next()? {
        seen += 1;
        if seen > limits.entries {
            return Err(LayerError::TooManyEntries(limits.entries));
        }
        let Next::Entry { entry, content } = next else { continue };
        let entry = Entry::checked(entry)?;
        logical_bytes = logical_bytes.saturating_add(content.logical_size());
        if matches!(entry.kind, Kind::File) && logical_bytes > limits.bytes {
            return Err(LayerError::TooManyBytes(limits.bytes));
        }
        tree.add(&entry, &mut archive.content(content))?;
    }
    tree.finish()
}
