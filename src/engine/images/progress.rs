//! What a pull or a push says while it works.

use serde::Serialize;

use crate::image::Digest;

/// One thing that happened. `layer` is the digest of the blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// A registry is asked for a manifest.
    Asking {
        image: &'a str,
        host: &'a str,
    },
    /// The manifest is here: what is to come.
    Resolved {
        image: &'a str,
        manifest: Digest,
        platform: &'a str,
        layers: usize,
        bytes: u64,
    },
    /// One place did not have it; the next one is asked.
    NextEndpoint {
        host: &'a str,
        why: &'a str,
    },
    /// Another process may be at it: then this one waits for it.
    LayerWaits {
        layer: Digest,
    },
    /// It is unpacked for this id map already.
    LayerHere {
        layer: Digest,
    },
    /// `from`: bytes that an earlier pull left; `kept`: all bytes are in the store.
    LayerBegun {
        layer: Digest,
        size: u64,
        from: u64,
        kept: bool,
    },
    LayerProgress {
        layer: Digest,
        size: u64,
        bytes: u64,
    },
    LayerAgain {
        layer: Digest,
        why: &'a str,
    },
    /// A blob of an image that is pushed.
    BlobBegun {
        blob: Digest,
        size: u64,
    },
    BlobProgress {
        blob: Digest,
        size: u64,
        bytes: u64,
    },
    BlobDone {
        blob: Digest,
        size: u64,
        how: BlobPushed,
    },
    LayerDone {
        layer: Digest,
        size: u64,
        entries: u64,
        devices_replaced: u64,
        xattrs_dropped: u64,
        owners_squashed: u64,
    },
}

/// How a blob came to be in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlobPushed {
    WasThere,
    /// From another repository of the same registry.
    Mounted,
    Sent,
}

/// Who wants to know.
pub trait Progress {
    fn say(&mut self, event: &Event<'_>);
}

/// For who does not.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn say(&mut self, _: &Event<'_>) {}
}
