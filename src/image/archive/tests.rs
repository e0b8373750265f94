use std::io::Cursor;

use serde_json::json;

use super::*;

struct Fixture {
    dir: tempfile::TempDir,
    store: ImageStore,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = ImageStore::open(&dir.path().join("images")).expect("a store");
    Fixture { dir, store }
}

fn here() -> Platform {
    Platform::parse("linux/amd64").expect("valid")
}

/// A tar file of these files; what begins with `->` is a symbolic link.
fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in files {
        let mut entry = tar_core::builder::EntryBuilder::new_gnu();
        entry.path(name).mode(0o644).expect("mode");
        if let Some(target) = bytes.strip_prefix(b"->") {
            entry.entry_type(tar_core::EntryType::Symlink).link_name(target).size(0).expect("size");
            out.extend(entry.finish_bytes());
            continue;
        }
        entry.entry_type(tar_core::EntryType::Regular).size(bytes.len() as u64).expect("size");
        out.extend(entry.finish_bytes());
        out.extend(*bytes);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn config(layers: &[&[u8]]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string()
    .into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).expect("written");
    encoder.finish().expect("finished")
}

/// What `docker save` writes: `manifest.json` last, a layer twice by a link.
fn docker_archive(layer: &[u8], config: &[u8]) -> Vec<u8> {
    let manifest = json!([{"Config": "c.json", "RepoTags": ["busybox:1", "localhost:5000/b"],
        "Layers": ["one/layer.tar", "two/layer.tar"]}])
    .to_string();
    tar(&[
        ("one/layer.tar", layer),
        ("two/layer.tar", b"->../one/layer.tar"),
        ("c.json", config),
        ("manifest.json", manifest.as_bytes()),
    ])
}

#[test]
fn an_archive_of_docker_is_loaded_and_saved_in_both_formats() {
    let layer = tar(&[("bin/sh", b"#!")]);
    let archive = docker_archive(&layer, &config(&[&layer, &layer]));
    for archive in [archive.clone(), gzip(&archive)] {
        let fixture = fixture();
        let loaded = load(&fixture.store, archive.as_slice(), &here()).expect("loaded");
        let [Loaded { image, names }] = &loaded[..] else { panic!("one image: {loaded:?}") };
        assert_eq!(names, &["busybox:1", "localhost:5000/b"]);
        assert_eq!((image.layers.len(), image.layers[0].diff_id), (2, Digest::of(&layer)));
        assert_eq!(fixture.store.image(image.manifest).expect("looked").as_ref(), Some(image));
        for format in [Format::DockerArchive, Format::OciArchive] {
            let mut saved = Vec::new();
            let asked = [(image.clone(), vec!["docker.io/library/busybox:1".to_owned()])];
            save(&fixture.store, &asked, format, &mut saved).expect("saved");
            let again = self::fixture();
            let loaded = load(&again.store, saved.as_slice(), &here()).expect("loaded again");
            assert_eq!(loaded[0].image, *image, "{format:?}");
            assert_eq!(loaded[0].names, ["docker.io/library/busybox:1"], "{format:?}");
        }
    }
}

#[test]
fn an_image_of_a_file_or_directory_is_named_by_its_source() {
    let fixture = fixture();
    let layer = tar(&[("f", b"x")]);
    let file = fixture.dir.path().join("a.tar");
    std::fs::write(&file, docker_archive(&layer, &config(&[&layer, &layer]))).expect("written");
    let archive = |tag: Option<&str>| ImageSource::DockerArchive { file: file.clone(), tag: tag.map(str::to_owned) };
    let import = |source: &ImageSource| import(&fixture.store, source, &here());
    for tag in [None, Some("busybox:1"), Some("docker.io/library/busybox:1")] {
        let image = import(&archive(tag)).expect("imported");
        assert_eq!(fixture.store.find(&archive(tag).to_string()).expect("looked"), Some(image));
    }
    assert!(matches!(import(&archive(Some("busybox:2"))), Err(ArchiveError::NoSuchTag { .. })));

    // The same as a directory.
    let mut saved = Vec::new();
    let image = import(&archive(None)).expect("imported");
    save(&fixture.store, &[(image.clone(), vec!["v1".to_owned()])], Format::OciArchive, &mut saved).expect("saved");
    let layout = fixture.dir.path().join("layout");
    std::fs::create_dir(&layout).expect("mkdir");
    let mut unpack = std::process::Command::new("tar");
    let mut unpack = unpack.args(["-x", "-C"]).arg(&layout).stdin(std::process::Stdio::piped()).spawn().expect("tar");
    std::io::Write::write_all(&mut unpack.stdin.take().expect("stdin"), &saved).expect("written");
    assert!(unpack.wait().expect("waited").success());
    // Into a store that has nothing yet.
    let empty = self::fixture();
    let source = |tag: &str| ImageSource::OciLayout { directory: layout.clone(), tag: Some(tag.to_owned()) };
    assert_eq!(super::import(&empty.store, &source("v1"), &here()).expect("imported"), image);
    assert!(empty.store.blob(image.layers[0].blob).expect("looked").is_some());
    let error = super::import(&empty.store, &source("v2"), &here()).expect_err("no such tag");
    assert!(error.to_string().contains("`v1`"), "{error}");
    // A link in it does not lead out of it.
    let blob = layout.join("blobs/sha256").join(image.layers[0].blob.hex());
    std::fs::rename(&blob, fixture.dir.path().join("outside")).expect("renamed");
    std::os::unix::fs::symlink(fixture.dir.path().join("outside"), &blob).expect("symlink");
    let third = self::fixture();
    assert!(matches!(super::import(&third.store, &source("v1"), &here()), Err(ArchiveError::Open { .. })));
}

#[test]
fn what_an_archive_says_is_compared() {
    let layer = tar(&[("f", b"x")]);
    let good = config(&[&layer]);
    let oci = |layer_bytes: &[u8], size: usize, config: &[u8]| {
        let manifest = json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&good), "size": good.len()}, "layers": [{"digest": Digest::of(&layer), "size": size,
            "mediaType": "application/vnd.oci.image.layer.v1.tar"}]})
        .to_string();
        let digest = Digest::of(manifest.as_bytes());
        let index = json!({"manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest, "size": manifest.len()}]})
        .to_string();
        let path = |digest: Digest| format!("blobs/sha256/{}", digest.hex());
        tar(&[
            (&path(Digest::of(&layer)), layer_bytes),
            (&path(Digest::of(&good)), config),
            (&path(digest), manifest.as_bytes()),
            ("index.json", index.as_bytes()),
        ])
    };
    let whole = oci(&layer, layer.len(), &good);
    load(&fixture().store, whole.as_slice(), &here()).expect("a good one");
    let docker = |layers: &serde_json::Value| {
        let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": layers}]).to_string();
        tar(&[("l.tar", b"other"), ("c.json", &good), ("manifest.json", manifest.as_bytes()), ("loop", b"->loop")])
    };
    for (archive, part) in [
        (oci(b"other", layer.len(), &good), "has the digest"),
        (oci(&layer, layer.len() + 1, &good), "bytes, expected"),
        (oci(&layer, layer.len(), b"{}"), "has the digest"),
        (docker(&json!(["l.tar"])), "has the digest"),
        (docker(&json!(["../../../../etc/passwd"])), "is not in it"),
        (docker(&json!(["loop"])), "is not in it"),
        (docker(&json!([])), "1 diff_ids for 0 layers"),
        (docker(&json!(7)), "manifest.json` is not valid"),
        (tar(&[("x", b"y")]), "no archive of images"),
        (whole[..whole.len() - 2000].to_vec(), "cut short"),
        (b"not a tar file".repeat(100), "not a valid tar"),
        (Vec::new(), "cut short"),
    ] {
        let fixture = fixture();
        let error = load(&fixture.store, Cursor::new(archive), &here()).expect_err(part).to_string();
        assert!(error.contains(part), "{part}: {error}");
        assert!(fixture.store.images().expect("listed").is_empty(), "{part}");
        let left = std::fs::read_dir(fixture.dir.path().join("images/blobs/sha256")).expect("readdir").count();
        assert_eq!(left, 0, "{part}: what came before the fault is gone");
    }
}

#[test]
fn a_damaged_layer_is_not_saved_as_a_good_one() {
    let fixture = fixture();
    let layer = tar(&[("f", b"x")]);
    let loaded = load(&fixture.store, docker_archive(&layer, &config(&[&layer, &layer])).as_slice(), &here());
    let image = loaded.expect("loaded").remove(0).image;
    let asked = [(image.clone(), Vec::new())];
    let blob = fixture.dir.path().join("images/blobs/sha256").join(image.layers[0].blob.hex());
    std::fs::remove_file(&blob).expect("removed");
    for format in [Format::DockerArchive, Format::OciArchive] {
        let error = save(&fixture.store, &asked, format, &mut std::io::sink()).expect_err("gone");
        assert!(matches!(error, ArchiveError::LayerGone(_)), "{error}");
    }
    std::fs::write(&blob, vec![0; layer.len()]).expect("written");
    for format in [Format::DockerArchive, Format::OciArchive] {
        let error = save(&fixture.store, &asked, format, &mut std::io::sink()).expect_err("damaged");
        assert!(matches!(error, ArchiveError::LayerDamaged(_)), "{error}");
    }
}
