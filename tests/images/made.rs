//! Images made by hand: what a layer holds is said entry by entry.

use sandpod::image::Digest;
use serde_json::{Value, json};

/// One entry of a tar file (ustar, POSIX.1-1988), with what follows it.
pub(crate) fn entry(name: &str, kind: u8, link: &str, mode: u32, owner: u32, content: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, &format!("{owner:07o}"));
    put(116, &format!("{owner:07o}"));
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(157, link);
    put(257, "ustar");
    put(263, "00");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(crate) fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name, b'0', "", 0o644, 0, content)
}

pub(crate) fn directory(name: &str) -> Vec<u8> {
    entry(name, b'5', "", 0o755, 0, b"")
}

pub(crate) fn symlink(name: &str, target: &str) -> Vec<u8> {
    entry(name, b'2', target, 0o777, 0, b"")
}

pub(crate) fn layer(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..count.div_ceil(8)).flat_map(|_| next()).take(count).collect()
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image of uncompressed layers.
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    /// The configuration, then the layers.
    pub(crate) blobs: Vec<Vec<u8>>,
}

impl Image {
    pub(crate) fn new(layers: &[Vec<u8>]) -> Image {
        Image::of(layers, "amd64", None)
    }

    /// With a configuration that says other diffIDs.
    pub(crate) fn of(layers: &[Vec<u8>], architecture: &str, diff_ids: Option<Vec<String>>) -> Image {
        Image::configured(layers, architecture, diff_ids, &json!({ "Cmd": ["/bin/sh"] }))
    }

    pub(crate) fn configured(
        layers: &[Vec<u8>],
        architecture: &str,
        diff_ids: Option<Vec<String>>,
        config: &Value,
    ) -> Image {
        let diff_ids = diff_ids.unwrap_or_else(|| layers.iter().map(|layer| digest(layer)).collect());
        let config = json!({
            "architecture": architecture, "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = config.to_string().into_bytes();
        let described = |media_type: &str, blob: &Vec<u8>| json!({ "mediaType": media_type, "digest": digest(blob), "size": blob.len() });
        let tar = "application/vnd.oci.image.layer.v1.tar";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": described("application/vnd.oci.image.config.v1+json", &config),
            "layers": layers.iter().map(|layer| described(tar, layer)).collect::<Vec<Value>>(),
        });
        let blobs = std::iter::once(config).chain(layers.iter().cloned()).collect();
        Image { manifest: manifest.to_string().into_bytes(), blobs }
    }
}

/// An index of images for these architectures.
pub(crate) fn index(images: &[(&str, &Image)]) -> Vec<u8> {
    let manifests: Vec<Value> = images
        .iter()
        .map(|(architecture, image)| {
            json!({ "mediaType": MANIFEST, "digest": digest(&image.manifest), "size": image.manifest.len(),
                "platform": { "os": "linux", "architecture": architecture } })
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string().into_bytes()
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}
