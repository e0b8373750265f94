//! Registries that lie and layers that want out (cases 3, 8 and 22 of the adversarial list).

use std::fs;

use super::made::{Image, digest, directory, entry, file, layer, symlink};
use super::server::{Fault, Server};
use crate::support::{Home, fingerprint};

fn no_tree(home: &Home) {
    let maps = fs::read_dir(home.path().join("share/sandpod/images/trees")).into_iter().flatten();
    for map in maps.map(|map| map.expect("an entry").path()) {
        for name in fs::read_dir(map).expect("readdir").map(|entry| entry.expect("an entry").file_name()) {
            let name = name.to_string_lossy().into_owned();
            assert!(name == "map.json" || name.starts_with('.'), "{name} is a tree that counts");
        }
    }
}

#[test]
fn other_bytes_than_were_asked_for_are_never_used() {
    let Some(home) = Home::new("image_lies") else { return };
    let server = Server::start();
    server.used_by(&home);
    let good = layer(&[file("good", b"good")]);
    let mut evil = layer(&[file("evil", b"evil")]);
    evil.resize(good.len(), 0);
    server.add("a", &Image::new(std::slice::from_ref(&good)));
    let name = format!("{}/a:1", server.host());
    let longer = [good.clone(), vec![0; 10_000]].concat();
    for lie in [evil, longer] {
        server.fault("a", &good, Some(Fault::Instead(lie)));
        home.sandpod(&["pull", &name]).ends_with(125).silently().complains(&digest(&good));
        no_tree(&home);
        let blob = home.path().join("share/sandpod/images/blobs/sha256").join(&digest(&good)[7..]);
        assert!(!blob.exists(), "a lie was kept as a blob");
    }
    server.fault("a", &good, None);
    home.sandpod(&["pull", &name]).ends_with(0);
}

#[test]
fn a_layer_that_is_not_the_one_of_the_configuration_is_refused() {
    let Some(home) = Home::new("image_diff_id") else { return };
    let server = Server::start();
    server.used_by(&home);
    let real = layer(&[file("x", b"x")]);
    let other = digest(&layer(&[file("y", b"y")]));
    server.add("a", &Image::of(&[real], "amd64", Some(vec![other.clone()])));
    let said = home.sandpod(&["pull", &format!("{}/a:1", server.host())]).ends_with(125).silently();
    assert!(said.stderr.contains("the configuration says") && said.stderr.contains(&other), "{}", said.explain());
    no_tree(&home);
}

#[test]
fn a_document_with_another_digest_is_refused() {
    let Some(home) = Home::new("image_manifest") else { return };
    let server = Server::start();
    server.used_by(&home);
    let (asked, sent) = (Image::new(&[layer(&[file("x", b"x")])]), Image::new(&[layer(&[file("y", b"y")])]));
    server.add("a", &sent);
    server.document("a", &digest(&asked.manifest), super::made::MANIFEST, &sent.manifest);
    let name = format!("{}/a@{}", server.host(), digest(&asked.manifest));
    home.sandpod(&["pull", &name]).ends_with(125).silently().complains("has the digest");
}

/// Nothing outside the quarantine changes, whether the layer is refused or its entries end inside.
#[test]
fn no_entry_of_a_layer_leads_out() {
    let Some(home) = Home::new("image_escape") else { return };
    let canary = home.directory("canary", 0o777);
    home.file("canary/file", b"untouched", 0o666);
    let before = fingerprint(&canary);
    let at = canary.to_str().expect("UTF-8");
    let inside = at.trim_start_matches('/');
    let server = Server::start();
    server.used_by(&home);
    let up = "../".repeat(30);
    let layers: Vec<Vec<Vec<u8>>> = vec![
        vec![file(&format!("{up}{inside}/new"), b"x")],
        vec![file(&format!("{at}/new"), b"x")],
        vec![symlink("link", at), file("link/new", b"x")],
        vec![symlink("link", &format!("{up}{inside}")), file("link/file", b"x")],
        vec![symlink("link", at), directory("link"), file("link/new", b"x")],
        vec![entry("hard", b'1', &format!("{at}/file"), 0o644, 0, b""), file("hard", b"x")],
        vec![symlink("link", at), entry("hard", b'1', "link/file", 0o644, 0, b"")],
        vec![symlink("link", at), file("link/.wh.file", b"")],
        vec![symlink("link", at), file("link/.wh..wh..opq", b"")],
        vec![symlink("a", ".."), symlink("a/b", ".."), file("a/b/canary/new", b"x")],
        vec![symlink("tree", at), file("../canary/new", b"x")],
    ];
    for (number, entries) in layers.iter().enumerate() {
        let name = format!("n{number}");
        server.add(&name, &Image::new(&[layer(entries)]));
        let said = home.sandpod(&["pull", &format!("{}/{name}:1", server.host())]);
        assert!(matches!(said.code, Some(0 | 125)), "{}", said.explain());
        assert_eq!(fingerprint(&canary), before, "layer {number}: {}", said.explain());
    }
}
