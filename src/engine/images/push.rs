//! Sends an image of the store to a registry, by the puller.

use std::os::fd::AsFd;

use super::could_not;
use super::progress::{BlobPushed, Event, Progress};
use super::puller::{Puller, Trouble};
use crate::image::descriptor::OCI_MANIFEST;
use crate::image::registries::Endpoint;
use crate::image::store::ImageStore;
use crate::image::{Digest, StoredImage};
use crate::report::{Report, exit_code};

/// Pushes the blobs that the registry lacks, then the manifest. The caller holds the store's shared lock meanwhile; `name` is
/// for messages, `others` are repositories of the same registry that may have the blobs.
///
/// # Errors
/// A blob that is not in the store, a registry that does not take one.
pub fn push(
    store: &ImageStore,
    image: &StoredImage,
    name: &str,
    endpoint: &Endpoint,
    others: &[String],
    out: &mut dyn Progress,
) -> Result<(), Report> {
    let of_store = |error: crate::image::store::StoreError| error.into_report(format!("could not push {name}"));
    let manifest = store.document(image.manifest).map_err(of_store)?.ok_or_else(|| lacks(name, image.manifest))?;
    let layers = image.layers.iter().map(|layer| layer.blob);
    let mut blobs = Vec::new();
    // Before a registry is asked: half of an image is of no use there.
    for digest in layers.chain([image.config_digest]) {
        let blob = store.blob(digest).map_err(of_store)?.ok_or_else(|| lacks(name, digest))?;
        if !blobs.iter().any(|(seen, _)| *seen == digest) {
            blobs.push((digest, blob));
        }
    }
    let failed = |Trouble { why, hint, is_final: _ }: Trouble| {
        let report = could_not(&format!("push {name}"), why);
        match hint {
            Some(hint) => report.hint(hint),
            None => report,
        }
    };
    let mut puller = Puller::start(std::slice::from_ref(endpoint))?;
    for (digest, blob) in &blobs {
        let size = blob.metadata().map_err(|error| could_not(&format!("push {name}"), error.to_string()))?.len();
        let other = others.first().cloned();
        out.say(&Event::BlobBegun { blob: *digest, size });
        let mut sent = |bytes| out.say(&Event::BlobProgress { blob: *digest, size, bytes });
        let how = puller.push_blob(*digest, size, other, blob.as_fd(), &mut sent)?.map_err(failed)?.media_type;
        let how = match how.as_str() {
            "WasThere" => BlobPushed::WasThere,
            "Mounted" => BlobPushed::Mounted,
            _ => BlobPushed::Sent,
        };
        out.say(&Event::BlobDone { blob: *digest, size, how });
    }
    let media_type = media_type(&manifest);
    puller.push_manifest(&endpoint.reference, &media_type, &manifest)?.map(drop).map_err(failed)
}

/// OCI's manifests need not name their type (image-spec, manifest.md).
fn media_type(manifest: &[u8]) -> String {
    let parsed: Option<serde_json::Value> = serde_json::from_slice(manifest).ok();
    let named = parsed.as_ref().and_then(|parsed| parsed.get("mediaType")?.as_str());
    named.unwrap_or(OCI_MANIFEST).to_owned()
}

fn lacks(name: &str, digest: Digest) -> Report {
    Report::new(exit_code::FAILURE, format!("could not push {name}"))
        .because(format!("its blob {digest} is not in the store"))
        .hint("remove the image and pull it again: sandpod rmi, sandpod pull")
}
