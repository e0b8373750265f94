//! Writes images as `docker save` does, or in OCI's layout.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use serde_json::json;
use tar_core::EntryType;
use tar_core::builder::EntryBuilder;

use super::{ArchiveError, Result};
use crate::image::descriptor::OCI_MANIFEST;
use crate::image::digest::{Digest, Digesting};
use crate::image::store::ImageStore;
use crate::image::{StoredImage, StoredLayer};

/// How archives are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Docker's: read by docker, podman and skopeo.
    DockerArchive,
    /// OCI's, with manifests and layers as they are, so that digests stay.
    OciArchive,
}

const BLOCK: u64 = 512;

/// Writes images, each with its names, as a tar file. Every byte is compared with its digest on the way; what is damaged is an
/// error, and the archive is cut off then.
///
/// # Errors
/// A layer is not here any more, or damaged; or `out` says so.
pub fn save(
    store: &ImageStore,
    images: &[(StoredImage, Vec<String>)],
    format: Format,
    out: &mut dyn Write,
) -> Result<()> {
    let mut tar = Tar { out, written: BTreeSet::new() };
    match format {
        Format::DockerArchive => docker(store, images, &mut tar)?,
        Format::OciArchive => oci(store, images, &mut tar)?,
    }
    // The end mark (tar(5)).
    Ok(tar.out.write_all(&[0; 2 * BLOCK as usize]).and_then(|()| tar.out.flush())?)
}

fn docker(store: &ImageStore, images: &[(StoredImage, Vec<String>)], tar: &mut Tar<'_>) -> Result<()> {
    let mut listed = Vec::new();
    for (image, names) in images {
        let config = document(store, image.config_digest)?;
        let config_file = format!("{}.json", image.config_digest.hex());
        tar.bytes(&config_file, &config)?;
        let mut files = Vec::new();
        for layer in &image.layers {
            // Compressed or not, as it was transferred: those who read such archives look at the bytes.
            let file = format!("{}.tar", layer.blob.hex());
            tar.blob(store, &file, layer)?;
            files.push(file);
        }
        listed.push(json!({ "Config": config_file, "RepoTags": names, "Layers": files }));
    }
    tar.bytes("manifest.json", json!(listed).to_string().as_bytes())
}

fn oci(store: &ImageStore, images: &[(StoredImage, Vec<String>)], tar: &mut Tar<'_>) -> Result<()> {
    let mut listed = Vec::new();
    // Without them skopeo makes the directories as root's, which an ordinary user cannot.
    tar.directory("blobs/")?;
    tar.directory("blobs/sha256/")?;
    tar.bytes("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    for (image, names) in images {
        let manifest = document(store, image.manifest)?;
        tar.bytes(&blob_path(image.manifest), &manifest)?;
        tar.bytes(&blob_path(image.config_digest), &document(store, image.config_digest)?)?;
        for layer in &image.layers {
            tar.blob(store, &blob_path(layer.blob), layer)?;
        }
        let says = serde_json::from_slice::<serde_json::Value>(&manifest).unwrap_or_default();
        let media_type = says["mediaType"].as_str().unwrap_or(OCI_MANIFEST);
        let entry = |annotations: serde_json::Value| {
            json!({ "mediaType": media_type, "digest": image.manifest, "size": manifest.len(),
                "annotations": annotations })
        };
        listed.extend(
            names.iter().map(|name| {
                entry(json!({ "org.opencontainers.image.ref.name": name, "io.containerd.image.name": name }))
            }),
        );
        if names.is_empty() {
            listed.push(entry(json!({})));
        }
    }
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": listed });
    tar.bytes("index.json", index.to_string().as_bytes())
}

fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn document(store: &ImageStore, digest: Digest) -> Result<Vec<u8>> {
    store.document(digest)?.ok_or(ArchiveError::LayerGone(digest))
}

struct Tar<'a> {
    out: &'a mut dyn Write,
    /// Names that are in it: images share layers.
    written: BTreeSet<String>,
}

impl Tar<'_> {
    fn is_new(&mut self, name: &str) -> bool {
        self.written.insert(name.to_owned())
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        if !self.is_new(name) {
            return Ok(());
        }
        self.header(name, bytes.len() as u64)?;
        self.out.write_all(bytes)?;
        self.pad(bytes.len() as u64)
    }

    /// A layer as it is in the store.
    fn blob(&mut self, store: &ImageStore, name: &str, layer: &StoredLayer) -> Result<()> {
        if !self.is_new(name) {
            return Ok(());
        }
        let blob = store.blob(layer.blob)?.ok_or(ArchiveError::LayerGone(layer.blob))?;
        self.header(name, layer.size)?;
        let mut blob = Digesting::new(blob.take(layer.size));
        io::copy(&mut blob, self.out)?;
        if blob.count() != layer.size || blob.finish() != layer.blob {
            return Err(ArchiveError::LayerDamaged(layer.blob));
        }
        self.pad(layer.size)
    }

    fn directory(&mut self, name: &str) -> Result<()> {
        self.entry(name, EntryType::Directory, 0o755, 0)
    }

    fn header(&mut self, name: &str, size: u64) -> Result<()> {
        self.entry(name, EntryType::Regular, 0o644, size)
    }

    fn entry(&mut self, name: &str, kind: EntryType, mode: u32, size: u64) -> Result<()> {
        let wrong = |error: tar_core::HeaderError| io::Error::other(error.to_string());
        let mut entry = EntryBuilder::new_gnu();
        entry.path(name).entry_type(kind);
        entry.mode(mode).map_err(wrong)?.size(size).map_err(wrong)?.mtime(0).map_err(wrong)?;
        Ok(self.out.write_all(&entry.finish_bytes())?)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let padding = size.next_multiple_of(BLOCK) - size;
        io::copy(&mut io::repeat(0).take(padding), self.out)?;
        Ok(())
    }
}
