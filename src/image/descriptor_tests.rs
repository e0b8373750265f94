use serde_json::{Value, json};

use super::*;

const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

fn blob(media_type: &str, size: i64) -> Value {
    json!({"mediaType": media_type, "digest": DIGEST, "size": size})
}

fn manifest(layers: &[Value]) -> Value {
    json!({"schemaVersion": 2, "config": blob(CONFIGS[0], 2), "layers": layers})
}

fn read(document: &Value, sent_as: &str) -> Result<Document, DocumentError> {
    parse(document.to_string().as_bytes(), sent_as)
}

#[test]
fn a_manifest_names_its_configuration_and_layers() {
    let layers = [blob(GZIP, 7), blob("application/vnd.docker.image.rootfs.diff.tar.gzip", 8)];
    let Ok(Document::Manifest(found)) = read(&manifest(&layers), &format!("{OCI_MANIFEST}; charset=utf-8")) else {
        panic!("a manifest")
    };
    assert_eq!(found.config.size, 2);
    let sizes: Vec<_> = found.layers.iter().map(|layer| (layer.size, layer.compression)).collect();
    assert_eq!(sizes, [(7, Compression::Gzip), (8, Compression::Gzip)]);
}

#[test]
fn an_index_names_images_and_not_attestations() {
    let with = |os: &str| {
        let mut entry = blob(OCI_MANIFEST, 5);
        entry["platform"] = json!({"os": os, "architecture": "amd64"});
        entry
    };
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX,
        "manifests": [with("linux"), with("unknown"), blob(OCI_MANIFEST, 5)]});
    let Ok(Document::Index(found)) = read(&index, OCI_INDEX) else { panic!("an index") };
    assert_eq!(found.len(), 1);
}

/// Each of these is taken for one thing by one reader and for another by the next, or is no image.
#[test]
fn documents_that_are_not_what_they_say_are_refused() {
    let both = json!({"schemaVersion": 2, "config": blob(CONFIGS[0], 2), "layers": [], "manifests": []});
    let named = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "config": blob(CONFIGS[0], 2), "layers": []});
    let artifact =
        json!({"schemaVersion": 2, "config": blob("application/vnd.cncf.helm.config.v1+json", 2), "layers": []});
    let encrypted = manifest(&[blob("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", 1)]);
    let many = manifest(&vec![blob(GZIP, 1); 501]);
    let mut bad_digest = manifest(&[]);
    bad_digest["config"]["digest"] = json!("sha256:../../etc/passwd");
    for (document, sent_as, part) in [
        (both.clone(), OCI_MANIFEST, "sent as a manifest, and has the fields of an index"),
        (both, OCI_INDEX, "sent as an index, and has the fields of a manifest"),
        (named, OCI_MANIFEST, "and says that it is"),
        (manifest(&[]), OCI_INDEX, "has the fields of a manifest"),
        (artifact, OCI_MANIFEST, "an artifact"),
        (encrypted, OCI_MANIFEST, "layer 1 has the media type"),
        (many, OCI_MANIFEST, "501 layers"),
        (bad_digest, OCI_MANIFEST, "is not a digest"),
        (manifest(&[blob(GZIP, -1)]), OCI_MANIFEST, "a size of -1 bytes"),
        (json!({"schemaVersion": 1, "fsLayers": []}), OCI_MANIFEST, "schema 1"),
        (json!({}), "application/vnd.docker.distribution.manifest.v1+prettyjws", "schema 1"),
        (manifest(&[]), "text/html", "no image manifest"),
        (json!([]), OCI_MANIFEST, "not valid JSON"),
    ] {
        let error = read(&document, sent_as).expect_err(part).to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
    let mut large = manifest(&[]).to_string().into_bytes();
    large.resize(MAX_DOCUMENT as usize + 1, b' ');
    assert!(matches!(parse(&large, OCI_MANIFEST), Err(DocumentError::TooLarge(_))));
}
