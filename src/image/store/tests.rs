use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::mpsc::channel;

use serde_json::json;

use super::*;
use crate::image::layer::Summary;
use crate::image::{StoredImage, StoredLayer};

/// A manifest and a configuration with one layer for each text.
pub(super) fn documents(layers: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let digests: Vec<String> = layers.iter().map(|layer| Digest::of(layer.as_bytes()).to_string()).collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| diff_id(layer).to_string()).collect();
    let config = json!({"os": "linux", "architecture": "amd64", "config": {"User": layers.concat()},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}})
    .to_string();
    let layers: Vec<_> = digests
        .iter()
        .map(|digest| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": 3}))
        .collect();
    let manifest = json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": Digest::of(config.as_bytes()).to_string(), "size": config.len()}, "layers": layers})
    .to_string();
    (manifest.into_bytes(), config.into_bytes())
}

fn diff_id(layer: &str) -> Digest {
    Digest::of(format!("diff of {layer}").as_bytes())
}

struct Fixture {
    dir: tempfile::TempDir,
    store: ImageStore,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = ImageStore::open(&dir.path().join("sandpod/images")).expect("a store");
    Fixture { dir, store }
}

impl Fixture {
    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join("sandpod/images").join(below)
    }

    fn add(&self, name: Option<&str>, layers: &[&str]) -> StoredImage {
        let (manifest, config) = documents(layers);
        let image = StoredImage::parse(&manifest, &config).expect("an image");
        self.store.add(&manifest, &config, &image).expect("added");
        name.iter().for_each(|name| self.store.set_name(name, image.manifest).expect("named"));
        image
    }

    fn add_blob(&self, bytes: &str) {
        let partial = self.store.partial(Digest::of(bytes.as_bytes())).expect("a partial").expect("not here yet");
        partial.file().write_all(bytes.as_bytes()).expect("written");
        partial.commit().expect("committed");
    }

    fn add_tree(&self, layer: &str) {
        let tree = self.store.new_tree(&lines("single"), diff_id(layer)).expect("a tree").expect("not here yet");
        path::make_new_directory(tree.directory(), Path::new("tree")).expect("mkdir");
        tree.commit(&Summary { bytes: 7, ..Summary::default() }).expect("committed");
    }

    fn collect(&self, used: &Used, also: Also) -> Freed {
        let lock = self.store.exclusive(|| panic!("nobody uses it")).expect("a lock");
        self.store.collect(&lock, used, &also).expect("collected")
    }

    /// All files and directories, without those of records.
    fn paths(&self, below: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(below)).expect("readdir");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8")).collect();
        names.sort();
        names
    }
}

fn lines(key: &str) -> MapLines {
    let (uid, gid) = probe::effective_ids();
    MapLines { key: key.to_owned(), uids: vec![[0, uid, 1]], gids: vec![[0, gid, 1]] }
}

#[test]
fn an_image_is_found_by_its_name_and_by_the_beginning_of_its_digests() {
    let fixture = fixture();
    let names =
        ["docker.io/library/a:latest", "oci:/odd dir/%2f\u{1}é:x", "oci:../../../names/x", &"long".repeat(1000)];
    let image = fixture.add(None, &["one", "two"]);
    for name in names {
        assert_eq!(fixture.store.find(name).expect("looked"), None);
        fixture.store.set_name(name, image.manifest).expect("named");
        assert_eq!(fixture.store.find(name).expect("looked").as_ref(), Some(&image), "{name}");
    }
    assert_eq!(fixture.store.names().expect("names").len(), names.len());
    for digest in [image.manifest, image.config_digest] {
        for typed in [digest.to_string(), digest.hex(), digest.hex()[..4].to_owned()] {
            let found = fixture.store.find_typed(&typed, Some("docker.io/library/x:latest")).expect("looked");
            assert_eq!(found.map(|found| found.image), Some(image.clone()), "{typed}");
        }
    }
    assert_eq!(fixture.store.find_typed(&image.manifest.hex()[..3], None).expect("looked"), None, "too short");
    assert_eq!(fixture.store.find_typed("", None).expect("looked"), None);
    assert!(fixture.store.remove_name(names[0]).expect("removed"));
    assert!(!fixture.store.remove_name(names[0]).expect("removed"));
    assert_eq!(fixture.store.find(names[0]).expect("looked"), None);
    fixture.store.set_name("", image.manifest).expect_err("an empty name");
}

#[test]
fn what_is_damaged_on_disk_is_not_believed() {
    let fixture = fixture();
    let image = fixture.add(Some("a"), &["one"]);
    let other = fixture.add(Some("b"), &["two"]);
    let blob = |digest: Digest| fixture.path("blobs/sha256").join(digest.hex());
    let replace = |path: &Path, bytes: &[u8]| {
        std::fs::remove_file(path).expect("removed");
        std::fs::write(path, bytes).expect("written");
    };
    // As a power cut may leave it; and another valid manifest in its place.
    for bytes in [vec![], vec![0; 500], std::fs::read(blob(other.manifest)).expect("read"), vec![b'x'; 5 << 20]] {
        replace(&blob(image.manifest), &bytes);
        assert_eq!(fixture.store.find("a").expect("looked"), None);
        assert_eq!(fixture.store.images().expect("listed").len(), 1);
    }
    // Adding it again mends it.
    fixture.add(None, &["one"]);
    assert_eq!(fixture.store.find("a").expect("looked"), Some(image.clone()));
    // The record of another name; one cut off; one that is endless.
    let name = |name: &str| fixture.path("names").join(Digest::of(name.as_bytes()).hex());
    for bytes in [std::fs::read(name("b")).expect("read"), b"{\"name\":".to_vec(), vec![b' '; 1 << 20]] {
        replace(&name("a"), &bytes);
        assert_eq!(fixture.store.find("a").expect("looked"), None);
        assert_eq!(fixture.store.names().expect("names").len(), 1);
    }
    fixture.collect(&Used::default(), Also::default());
    assert_eq!(fixture.paths("names").len(), 1, "prune removes what is damaged");
    assert_eq!(fixture.store.find("b").expect("looked"), Some(other));
}

#[test]
fn links_and_foreign_directories_are_refused() {
    let fixture = fixture();
    let canary = fixture.dir.path().join("canary");
    std::fs::write(&canary, "canary").expect("written");
    let digest = Digest::of(b"one");
    symlink(&canary, fixture.path("blobs/sha256").join(digest.hex())).expect("symlink");
    symlink(&canary, fixture.path("partial").join(Digest::of(b"two").hex())).expect("symlink");
    symlink(&canary, fixture.path("names").join(Digest::of(b"n").hex())).expect("symlink");
    symlink(fixture.dir.path(), fixture.path("trees/single")).expect("symlink");
    assert!(matches!(fixture.store.blob(digest), Err(StoreError::Kernel { .. })));
    fixture.store.partial(Digest::of(b"two")).expect_err("a link");
    fixture.store.name("n").expect_err("a link");
    fixture.store.has_tree("single", digest).expect_err("a link");
    fixture.store.new_tree(&lines("single"), digest).expect_err("a link");
    fixture.store.set_name("n", digest).expect("replaced");
    assert_eq!(std::fs::read(&canary).expect("read"), b"canary");
    assert_eq!(fixture.paths("").len(), 5, "nothing new: {:?}", fixture.paths(""));
    for key in ["", ".", "..", "a/b", ".new-x", &"k".repeat(101)] {
        fixture.store.has_tree(key, digest).expect_err(key);
    }

    let elsewhere = fixture.dir.path().join("elsewhere");
    symlink(fixture.path(""), &elsewhere).expect("symlink");
    assert!(matches!(ImageStore::open(&elsewhere), Err(StoreError::NotPrivate { .. })));
    std::fs::set_permissions(fixture.path("names"), std::fs::Permissions::from_mode(0o777)).expect("chmod");
    assert!(matches!(ImageStore::open(&fixture.path("")), Err(StoreError::NotPrivate { .. })));
}

#[test]
fn an_image_that_is_not_what_its_documents_say_is_refused() {
    let fixture = fixture();
    let (manifest, config) = documents(&["one"]);
    let (_, other) = documents(&["two"]);
    let image = StoredImage::parse(&manifest, &config).expect("an image");
    fixture.store.add(&manifest, &other, &image).expect_err("another configuration");
    let layers = vec![StoredLayer { size: 4, ..image.layers[0] }];
    fixture.store.add(&manifest, &config, &StoredImage { layers, ..image }).expect_err("another size");
    assert!(fixture.store.images().expect("listed").is_empty());
}

#[test]
fn a_transfer_that_breaks_off_is_continued_and_two_share_one() {
    let fixture = fixture();
    let digest = Digest::of(b"onetwo");
    let first = fixture.store.partial(digest).expect("a partial").expect("not here yet");
    first.file().write_all(b"one").expect("written");
    // As with kill -9: nothing is done on the way out.
    drop(first);
    assert!(fixture.store.blob(digest).expect("looked").is_none(), "a part of a blob is no blob");
    let again = fixture.store.partial(digest).expect("a partial").expect("not here yet");
    assert_eq!(again.length().expect("a length"), 3);
    std::thread::scope(|scope| {
        let (began, waits) = channel();
        let other = scope.spawn(move || {
            let store = ImageStore::open(&fixture_path(&began)).expect("a store");
            store.partial(digest).expect("waited").is_none()
        });
        waits.recv().expect("it runs").send(fixture.path("")).expect("sent");
        std::io::Seek::seek(&mut again.file(), std::io::SeekFrom::End(0)).expect("sought");
        again.file().write_all(b"two").expect("written");
        again.commit().expect("committed");
        assert!(other.join().expect("joined"), "the second one finds that it is here");
    });
    let mut bytes = Vec::new();
    let mut blob = fixture.store.blob(digest).expect("looked").expect("a blob");
    blob.read_to_end(&mut bytes).expect("read");
    assert_eq!(
        (bytes.as_slice(), blob.metadata().expect("stat").permissions().mode() & 0o777),
        (&b"onetwo"[..], 0o444)
    );
    assert!(fixture.paths("partial").is_empty());
}

/// Tells that this thread runs, and gets the path of the store.
fn fixture_path(began: &std::sync::mpsc::Sender<std::sync::mpsc::Sender<PathBuf>>) -> PathBuf {
    let (sender, receiver) = channel();
    began.send(sender).expect("sent");
    receiver.recv().expect("a path")
}

#[test]
fn a_tree_is_seen_when_it_is_complete_and_one_of_a_dead_maker_is_put_aside() {
    let fixture = fixture();
    let diff_id = diff_id("one");
    let tree = fixture.store.new_tree(&lines("single"), diff_id).expect("a tree").expect("not here yet");
    path::make_new_directory(tree.directory(), Path::new("tree")).expect("mkdir");
    std::fs::write(fixture.path(&format!("trees/single/.new-{}/tree/half", diff_id.hex())), "x").expect("written");
    assert!(!fixture.store.has_tree("single", diff_id).expect("looked"));
    drop(tree);
    let tree = fixture.store.new_tree(&lines("single"), diff_id).expect("a tree").expect("not here yet");
    assert!(list(tree.directory(), "").expect("listed").is_empty(), "nothing of the half one is in it");
    let states = |fixture: &Fixture| -> Vec<TreeState> {
        fixture.store.trees().expect("listed").into_iter().map(|tree| tree.state).collect()
    };
    assert_eq!(states(&fixture), [TreeState::Dead, TreeState::Unfinished(diff_id)]);
    // A link where the tree should be leads nowhere.
    std::os::unix::fs::symlink("/", fixture.path(&format!("trees/single/.new-{}/tree", diff_id.hex()))).expect("link");
    tree.commit(&Summary::default()).expect_err("no directory");
    fixture.add_tree("one");
    assert!(fixture.store.has_tree("single", diff_id).expect("looked"));
    assert!(tree_path(&fixture.path(""), "single", diff_id).is_dir());
    assert_eq!(fixture.store.summary("single", diff_id).expect("read").map(|summary| summary.bytes), Some(7));
    assert!(fixture.store.new_tree(&lines("single"), diff_id).expect("looked").is_none());
    let other = MapLines { uids: vec![[0, 4242, 1]], ..lines("single") };
    fixture.store.new_tree(&other, Digest::of(b"x")).expect_err("the key has another map");
}

#[test]
fn who_makes_the_same_tree_waits() {
    let fixture = fixture();
    let diff_id = diff_id("one");
    let tree = fixture.store.new_tree(&lines("single"), diff_id).expect("a tree").expect("not here yet");
    std::thread::scope(|scope| {
        let (began, waits) = channel();
        let other = scope.spawn(move || {
            let store = ImageStore::open(&fixture_path(&began)).expect("a store");
            store.new_tree(&lines("single"), diff_id).expect("waited").is_none()
        });
        waits.recv().expect("it runs").send(fixture.path("")).expect("sent");
        path::make_new_directory(tree.directory(), Path::new("tree")).expect("mkdir");
        tree.commit(&Summary::default()).expect("committed");
        assert!(other.join().expect("joined"), "the second one finds that it is here");
    });
    assert_eq!(fixture.store.trees().expect("listed").len(), 1);
}

#[test]
fn garbage_is_what_neither_a_name_nor_a_pod_refers_to() {
    let fixture = fixture();
    for layer in ["base", "mine", "old", "podded", "stray"] {
        fixture.add_blob(layer);
        fixture.add_tree(layer);
    }
    let named = fixture.add(Some("mine"), &["base", "mine"]);
    let old = fixture.add(None, &["base", "old"]);
    let podded = fixture.add(None, &["base", "podded"]);
    drop(fixture.store.partial(Digest::of(b"half")).expect("a partial").expect("not here"));
    drop(fixture.store.new_tree(&lines("single"), Digest::of(b"half")).expect("a tree").expect("not here"));
    std::fs::write(fixture.path("names/.tmp-0123456789abcdef"), "x").expect("written");
    let used = Used {
        manifests: [podded.manifest].into(),
        // Of an image that is no longer known by its manifest.
        trees: [("single".to_owned(), diff_id("stray"))].into(),
    };
    // Not asked for: it stays, and so does what it needs.
    let named_only = Also { nameless: Nameless::These([named.manifest].into()), ..Also::default() };
    let freed = fixture.collect(&used, named_only);
    assert!(freed.images.is_empty() && fixture.store.has_tree("single", diff_id("old")).expect("looked"));
    // The half tree is of no use to any image.
    assert_eq!(freed.trees.len(), 1);
    let freed = fixture.collect(&used, Also { nameless: Nameless::These([old.manifest].into()), ..Also::default() });
    assert_eq!(freed.images, [old.manifest]);
    assert!(freed.bytes >= 4096, "{}", freed.bytes);
    // `old`'s tree, and the half one.
    assert_eq!(freed.trees.len(), 2);
    assert!(freed.trees.iter().all(|tree| tree.map.as_ref() == Some(&lines("single"))));
    let has = |layer: &str| fixture.store.has_tree("single", diff_id(layer)).expect("looked");
    assert!(["base", "mine", "podded", "stray"].into_iter().all(has) && !has("old"));
    let blob = |layer: &str| fixture.store.blob(Digest::of(layer.as_bytes())).expect("looked").is_some();
    assert!(["base", "mine", "podded"].into_iter().all(blob) && !blob("old") && !blob("stray"));
    assert_eq!(fixture.store.find("mine").expect("looked"), Some(named));
    assert!(fixture.paths("names").len() == 1 && fixture.paths("partial").len() == 1);

    // Blobs that a tree can stand in for, and downloads.
    fixture.collect(&used, Also { partial_blobs: true, layer_blobs: true, ..Also::default() });
    assert!(fixture.paths("partial").is_empty() && !["base", "mine", "podded"].into_iter().any(blob));
    assert_eq!(fixture.store.images().expect("listed").len(), 2);

    // With nothing that refers to anything, everything goes.
    fixture.store.remove_name("mine").expect("removed");
    fixture.collect(&Used::default(), Also::default());
    assert!(["names", "manifests", "blobs/sha256"].into_iter().all(|below| fixture.paths(below).is_empty()));
    assert!(fixture.store.trees().expect("listed").iter().all(|tree| tree.state == TreeState::Dead));
}

#[test]
fn who_removes_waits_for_who_uses() {
    let fixture = fixture();
    let (first, second) = (fixture.store.shared().expect("shared"), fixture.store.shared().expect("shared"));
    assert!(fixture.store.exclusive_now().expect("tried").is_none());
    drop(first);
    let (said, hears) = channel();
    std::thread::scope(|scope| {
        let removes = scope.spawn(|| fixture.store.exclusive(|| said.send(()).expect("sent")).expect("had"));
        hears.recv().expect("it says that it waits");
        drop(second);
        drop(removes.join().expect("joined"));
    });
    assert!(fixture.store.exclusive_now().expect("tried").is_some());
}
