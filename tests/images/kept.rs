//! `sandpod image`: what is listed, named and removed, and what a pod keeps.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::made::{Image, digest, directory, entry, file, layer, symlink};
use super::server::Server;
use crate::support::{Home, until};

fn json(home: &Home, words: &[&str]) -> Value {
    serde_json::from_str(&home.sandpod(words).ends_with(0).stdout).expect("JSON")
}

/// Files of a directory and of those below it; none where it is not there.
pub(crate) fn files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

fn shell() -> Vec<u8> {
    let busybox = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox")).expect("busybox");
    let links = ["sh", "sleep", "cat"].map(|name| symlink(&format!("bin/{name}"), "busybox"));
    let own = entry("etc/own", b'0', "", 0o600, 33, b"of another id");
    layer(
        &[
            vec![directory("bin"), entry("bin/busybox", b'0', "", 0o755, 0, &busybox), directory("etc"), own],
            links.to_vec(),
        ]
        .concat(),
    )
}

#[test]
fn images_are_listed_with_names_and_true_sizes() {
    let Some(home) = Home::new("image_ls") else { return };
    let server = Server::start();
    server.used_by(&home);
    let shared = layer(&[file("shared", &[b'x'; 40_000])]);
    let (one, two) =
        (Image::new(std::slice::from_ref(&shared)), Image::new(&[shared, layer(&[file("own", &[b'y'; 10_000])])]));
    server.add("a/one", &one);
    server.add("a/two", &two);
    assert_eq!(home.sandpod(&["images"]).ends_with(0).stdout.lines().count(), 1, "the heading alone");
    let names = ["one", "two"].map(|name| format!("{}/a/{name}:1", server.host()));
    home.sandpod(&["pull", "-q", &names[0], &names[1]]).ends_with(0);
    home.sandpod(&["image", "tag", &names[0], "localhost/mine"]).ends_with(0);
    let listed = home.sandpod(&["image", "ls"]).ends_with(0).says(&names[1]).says("localhost/mine:latest");
    assert_eq!(listed.stdout.lines().count(), 4, "{}", listed.explain());
    let rows = json(&home, &["images", "--json"]);
    let size = |name: &str| {
        let row = rows.as_array().expect("rows").iter().find(|row| row["names"].to_string().contains(name));
        row.expect(name)["size"].as_u64().expect("bytes")
    };
    // The layer as a blob and as a tree, and some documents.
    let (first, second) = (size("a/one:1"), size("a/two:1"));
    assert!((80_000..100_000).contains(&first) && (100_000..130_000).contains(&second), "{first} {second}");
    let total = listed.stderr.lines().find(|line| line.starts_with("total: ")).expect("a total").to_owned();
    assert!(total.contains("Ki") && total.contains("once"), "{total}");
    // By its name, its tag here, and a part of its digest.
    let manifest = digest(&one.manifest);
    for typed in [names[0].as_str(), "localhost/mine", &manifest[..20], &manifest[7..19]] {
        let found = json(&home, &["image", "inspect", typed]);
        assert_eq!(found[0]["manifest"], manifest.as_str(), "{typed}");
        assert_eq!(found[0]["layers"][0]["unpacked"].as_array().expect("trees").len(), 1);
    }
    // Also where the text, taken for a short name, could mean several things.
    let ambiguous = "unqualified-search-registries = [\"a.example\", \"b.example\"]\nshort-name-mode = \"enforcing\"\n";
    let configuration = home.path().join(".config/containers/registries.conf");
    let before = fs::read_to_string(&configuration).unwrap_or_default();
    home.file(".config/containers/registries.conf", format!("{ambiguous}{before}"), 0o644);
    json(&home, &["image", "inspect", &manifest[7..19]]);
    home.file(".config/containers/registries.conf", before, 0o644);
    home.sandpod(&["image", "history", &names[1]]).ends_with(0).says("LAYER");
    home.sandpod(&["image", "inspect", "nothing"]).ends_with(125).complains("there is no image `nothing`");
}

#[test]
fn what_a_pod_uses_stays_and_everything_else_goes() {
    let Some(home) = Home::new("image_rm") else { return };
    let server = Server::start();
    server.used_by(&home);
    server.add("a/used", &Image::new(&[shell()]));
    server.add("a/other", &Image::new(&[layer(&[entry("file", b'0', "", 0o600, 33, b"of another id")])]));
    let [used, other] = ["used", "other"].map(|name| format!("{}/a/{name}:1", server.host()));
    home.sandpod(&["pull", "-q", &other]).ends_with(0);
    home.sandpod(&["run", "-d", "-q", "--name", "user", "--image", &used, "--", "sleep", "1000"]).ends_with(0);
    let store = home.path().join("share/sandpod/images");

    home.sandpod(&["image", "rm", &used]).ends_with(125).complains("a pod uses it");
    let gone = home.sandpod(&["image", "prune", "-a"]).ends_with(0).says(&format!("untagged {other}"));
    assert!(!gone.stdout.contains(&used), "{}", gone.explain());
    let trees = || fs::read_dir(store.join("trees")).expect("trees").count();
    assert_eq!(trees(), 1, "the tree of the pod");
    home.sandpod(&["exec", "user", "--", "cat", "/etc/own"]).ends_with(0).says("of another id");

    // Its name goes, and the pod goes on; it can start again.
    home.sandpod(&["rmi", "-f", &used]).ends_with(0).says(&format!("untagged {used}"));
    home.sandpod(&["exec", "user", "--", "cat", "/etc/own"]).ends_with(0).says("of another id");
    home.sandpod(&["rm", "-f", "user"]).ends_with(0);
    home.sandpod(&["image", "prune"]).ends_with(0).says("deleted sha256:");
    assert_eq!(files(&store), 1, "the lock alone");
    assert_eq!(trees(), 0);
}

/// An image without a name may be wanted still: it is found by its digest until `prune` takes it.
#[test]
fn rm_takes_no_other_image_that_has_no_name() {
    let Some(home) = Home::new("image_rm_nameless") else { return };
    let server = Server::start();
    server.used_by(&home);
    let images = [b"old", b"new", b"own"].map(|text| Image::new(&[layer(&[file("file", text)])]));
    let [old, new, own] = &images;
    server.add("a/moved", old);
    server.add("a/own", own);
    let [moved, other] = ["moved", "own"].map(|name| format!("{}/a/{name}:1", server.host()));
    home.sandpod(&["pull", "-q", &moved, &other]).ends_with(0);
    server.add("a/moved", new);
    home.sandpod(&["pull", "-q", &moved]).ends_with(0);
    let removed = home.sandpod(&["rmi", &other]).ends_with(0).says(&format!("untagged {other}"));
    assert!(removed.stdout.contains(&digest(&own.manifest)), "{}", removed.explain());
    assert!(!removed.stdout.contains(&digest(&old.manifest)), "{}", removed.explain());
    json(&home, &["image", "inspect", &digest(&old.manifest)]);
    home.sandpod(&["rmi", &digest(&own.manifest)]).ends_with(125).complains("there is no image");
    // By its digest it can be removed all the same.
    home.sandpod(&["rmi", &digest(&old.manifest)]).ends_with(0).says(&format!("deleted {}", digest(&old.manifest)));
    json(&home, &["image", "inspect", &moved]);
}

/// Who can write to the store's directory, such as a container with a hostPath above it, decides nothing for other pods.
#[test]
fn a_layer_that_was_replaced_is_not_used() {
    let Some(home) = Home::new("image_replaced") else { return };
    let server = Server::start();
    server.used_by(&home);
    server.add("a/shell", &Image::new(&[shell()]));
    let name = format!("{}/a/shell:1", server.host());
    let container = json!({ "name": "c", "image": name, "command": ["/bin/sh", "-c", "/bin/sleep 1; exit 7"] });
    let pod = home.start(&json!({ "containers": [container] }));
    let maps = home.path().join("share/sandpod/images/trees");
    let entry = |directory: &Path| {
        let mut names = fs::read_dir(directory).expect("readdir").map(|entry| entry.expect("an entry").path());
        names.find(|path| path.is_dir()).expect("a directory")
    };
    let layer = entry(&entry(&maps));
    fs::rename(&layer, layer.with_extension("moved")).expect("rename");
    let planted = home.directory(layer.strip_prefix(home.path()).expect("in the home").to_str().expect("UTF-8"), 0o700);
    home.directory(planted.join("tree").strip_prefix(home.path()).expect("below").to_str().expect("UTF-8"), 0o755);
    until("a start that is refused", || {
        let is_refused = pod.logs("c").contains("was replaced since the pod started");
        (is_refused && pod.recorded("c").to_string().contains("RunContainerError")).then_some(())
    });
}

#[test]
fn without_blobs_a_pod_still_starts_and_another_map_fetches_again() {
    let Some(home) = Home::new("image_blobs") else { return };
    let server = Server::start();
    server.used_by(&home);
    let lower = shell();
    server.add("a/b", &Image::new(std::slice::from_ref(&lower)));
    let name = format!("{}/a/b:1", server.host());
    home.sandpod(&["pull", "-q", &name]).ends_with(0);
    home.sandpod(&["image", "prune", "--blobs"]).ends_with(0);
    let run = |map: &str| {
        let words = ["run", "--rm", "-q", "--userns", map, "--pull=missing", "--image", &name, "--", "cat", "/etc/own"];
        home.sandpod(&words).ends_with(0).says("of another id");
    };
    run("isolated");
    assert_eq!(server.asked_for(&lower), [0]);
    run("root-is-you");
    assert_eq!(server.asked_for(&lower), [0, 0]);
}

/// Looking a name up in many layers is slow, and old kernels do not take so many: they become one tree.
#[test]
fn many_layers_become_one_tree() {
    let Some(home) = Home::new("image_many_layers") else { return };
    let server = Server::start();
    server.used_by(&home);
    let busybox = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox")).expect("busybox");
    let mut layers = vec![layer(&[directory("bin"), entry("bin/busybox", b'0', "", 0o755, 0, &busybox)])];
    layers.extend((0..60).map(|number: u32| {
        let gone = format!("d/.wh.{}", number.saturating_sub(1));
        layer(&[directory("d"), file(&gone, b""), entry(&format!("d/{number}"), b'0', "", 0o640, number, b"x")])
    }));
    server.add("a", &Image::new(&layers));
    let name = format!("{}/a:1", server.host());
    let run = || {
        let said = home.sandpod(&["run", "--rm", &name, "/bin/busybox", "stat", "-c", "%n %a", "/d", "/d/59", "/d/58"]);
        said.ends_with(1)
    };
    let said = run();
    assert_eq!(said.stdout, "/d 755\n/d/59 640\n", "{}", said.explain());
    assert!(!run().stderr.contains("layer "), "the second start unpacks nothing");
    let maps = home.path().join("share/sandpod/images/trees");
    let maps_now = fs::read_dir(&maps).expect("maps").map(|map| map.expect("a map").path());
    let trees = maps_now.flat_map(|map| fs::read_dir(map).expect("a map")).map(|entry| entry.expect("an entry").path());
    assert_eq!(trees.filter(|path| path.is_dir()).count(), 1, "one tree and not 61");
    home.sandpod(&["rmi", &name]).ends_with(0);
    assert_eq!(fs::read_dir(&maps).expect("readdir").count(), 0, "the merged tree goes with the image");
}
