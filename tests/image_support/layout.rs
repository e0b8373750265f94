//! An image as a directory (image-spec, image-layout.md), for skopeo to copy from.

use std::fs;
use std::path::Path;
use std::process::Command;

use sandpod::image::Digest;
use serde_json::{Value, json};

const SPEC: &str = "application/vnd.oci.image";

/// Writes the layout of an image with one layer for each directory, under the tag `made`.
pub(crate) fn write(layout: &Path, trees: &[&Path]) {
    fs::create_dir_all(layout.join("blobs/sha256")).expect("mkdir");
    let (mut layers, mut diff_ids) = (Vec::new(), Vec::new());
    for tree in trees {
        let tar = tar(tree);
        diff_ids.push(Digest::of(&tar).to_string());
        layers.push(blob(layout, "layer.v1.tar+gzip", &gzip(&tar)));
    }
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": { "Cmd": ["/bin/true"] }, "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let config = blob(layout, "config.v1+json", config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": format!("{SPEC}.manifest.v1+json"), "config": config, "layers": layers,
    });
    let mut manifest = blob(layout, "manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "made" });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string()).expect("write");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
}

/// Writes a blob and describes it.
fn blob(layout: &Path, kind: &str, bytes: &[u8]) -> Value {
    let digest = Digest::of(bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).expect("write");
    json!({ "mediaType": format!("{SPEC}.{kind}"), "digest": digest.to_string(), "size": bytes.len() })
}

fn tar(tree: &Path) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "-cf", "-", "-C"]).arg(tree).arg(".");
    let output = tar.output().expect("tar");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut file = tempfile::tempfile().expect("a file");
    std::io::Write::write_all(&mut file, bytes).expect("write");
    std::io::Seek::rewind(&mut file).expect("seek");
    let output = Command::new("gzip").arg("-n").stdin(file).output().expect("gzip");
    assert!(output.status.success());
    output.stdout
}
