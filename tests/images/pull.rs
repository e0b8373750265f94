//! `sandpod pull`: what is in the store afterwards, and what was asked of the registry for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;

use super::made::{Image, MANIFEST, directory, entry, file, index, layer, noise};
use super::server::{Fault, Server};
use crate::support::{Home, until};

/// The trees of layers that are complete, for every id map: looked at as ourselves, who may pass the directories that are ours.
fn trees(home: &Home) -> Vec<PathBuf> {
    let maps = fs::read_dir(home.path().join("share/sandpod/images/trees")).into_iter().flatten();
    let maps = maps.map(|map| map.expect("an entry").path());
    let entries = maps.flat_map(|map| fs::read_dir(map).into_iter().flatten().map(|entry| entry.expect("an entry")));
    // What begins with a dot is unfinished, or waits for the collector.
    let complete = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    let mut found: Vec<PathBuf> =
        complete.map(|entry| entry.path().join("tree")).filter(|tree| tree.is_dir()).collect();
    found.sort();
    found
}

fn tree_with(home: &Home, name: &str) -> PathBuf {
    let found: Vec<_> = trees(home).into_iter().filter(|tree| tree.join(name).symlink_metadata().is_ok()).collect();
    assert_eq!(found.len(), 1, "trees with {name}: {found:?} of {:?}", trees(home));
    found[0].join(name)
}

fn blob_count(home: &Home) -> usize {
    fs::read_dir(home.path().join("share/sandpod/images/blobs/sha256")).map_or(0, Iterator::count)
}

/// A pull in another process whose events are read.
struct Pulling {
    child: Child,
    events: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Pulling {
    fn start(home: &Home, name: &str) -> Pulling {
        let mut command = home.command(&["pull", "--json", name]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        let events = BufReader::new(child.stdout.take().expect("stdout")).lines();
        Pulling { child, events }
    }

    /// Reads on until an event that is as wanted; the end of the output is a failure.
    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let events = self.events.by_ref().map_while(Result::ok);
        let mut events = events.map(|line| serde_json::from_str::<Value>(&line).expect("JSON"));
        events.find(wanted).expect("the event before the end")
    }
}

#[test]
fn layers_are_unpacked_with_their_owners_and_whiteouts_and_fetched_once() {
    let Some(home) = Home::new("image_owners") else { return };
    let server = Server::start();
    server.used_by(&home);
    let lower = layer(&[directory("etc"), entry("etc/passwd", b'0', "", 0o640, 33, b"x"), directory("srv")]);
    let upper = layer(&[directory("etc"), file("etc/.wh.passwd", b""), file("opt/deep/hello", b"hello")]);
    let image = Image::new(&[lower.clone(), upper.clone()]);
    server.add("a/b", &image);
    let name = format!("{}/a/b:1", server.host());
    let said = home.sandpod(&["pull", &name]).ends_with(0);
    assert_eq!(said.stdout, format!("{name}@{}\n", super::made::digest(&image.manifest)));
    assert!(said.stderr.contains("id map `isolated`"), "{}", said.explain());
    let passwd = fs::symlink_metadata(tree_with(&home, "srv").with_file_name("etc/passwd")).expect("stat");
    assert_eq!((passwd.uid(), passwd.gid()), (home.user.subuid + 33, home.user.subgid + 33));
    assert_eq!(passwd.mode() & 0o7777, 0o640);
    let whiteout = tree_with(&home, "opt").with_file_name("etc/passwd");
    let whiteout = fs::symlink_metadata(whiteout).expect("stat");
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0, "overlayfs's own mark");
    home.sandpod(&["pull", "--quiet", &name]).ends_with(0);
    // Another map has its own tree, from the kept blob.
    home.sandpod(&["pull", "--userns=root-is-you", &name]).ends_with(0).complains("id map `root-is-you`");
    assert_eq!((server.asked_for(&lower), server.asked_for(&upper)), (vec![0], vec![0]));
    assert_eq!(trees(&home).len(), 4);
}

/// Whatever ends a pull, and however far it was: the next one asks for what is lacking.
#[test]
fn a_pull_that_was_killed_goes_on_where_it_was() {
    for signal in ["KILL", "INT"] {
        let Some(home) = Home::new("image_resume") else { return };
        let server = Server::start();
        server.used_by(&home);
        let big = layer(&[file("big", &noise(3_000_000)), file("last", b"end")]);
        server.add("a", &Image::new(std::slice::from_ref(&big)));
        server.fault("a", &big, Some(Fault::Stall(1_000_000)));
        let name = format!("{}/a:1", server.host());
        let mut pulling = Pulling::start(&home, &name);
        pulling.until(|event| event["event"] == "layer-begun");
        let partial = home.path().join("share/sandpod/images/partial").join(&super::made::digest(&big)[7..]);
        until("a million bytes", || (fs::metadata(&partial).ok()?.len() == 1_000_000).then_some(()));
        let kill = home.program("/bin/kill", &[&format!("-{signal}"), &pulling.child.id().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        pulling.child.wait().expect("wait");
        assert_eq!(trees(&home), Vec::<PathBuf>::new(), "half a layer is none");
        server.fault("a", &big, None);
        server.go_on();
        home.sandpod(&["pull", &name]).ends_with(0).complains("are here from an earlier pull");
        assert_eq!(server.asked_for(&big), [0, 1_000_000], "{signal}");
        assert_eq!(fs::metadata(tree_with(&home, "big")).expect("stat").len(), 3_000_000);
    }
}

#[test]
fn a_connection_that_breaks_is_made_again_where_it_broke() {
    let Some(home) = Home::new("image_break") else { return };
    let server = Server::start();
    server.used_by(&home);
    let big = layer(&[file("big", &noise(500_000))]);
    server.add("a", &Image::new(std::slice::from_ref(&big)));
    server.fault("a", &big, Some(Fault::BreakOnce(200_000)));
    home.sandpod(&["pull", &format!("{}/a:1", server.host())]).ends_with(0);
    assert_eq!(server.asked_for(&big), [0, 200_000]);
}

#[test]
fn two_pulls_at_once_share_the_work() {
    let Some(home) = Home::new("image_two") else { return };
    let server = Server::start();
    server.used_by(&home);
    let big = layer(&[file("big", &noise(500_000))]);
    server.add("a", &Image::new(std::slice::from_ref(&big)));
    server.fault("a", &big, Some(Fault::Stall(100_000)));
    let name = format!("{}/a:1", server.host());
    let mut first = Pulling::start(&home, &name);
    first.until(|event| event["event"] == "layer-begun");
    let mut second = Pulling::start(&home, &name);
    second.until(|event| event["event"] == "layer-waits");
    server.go_on();
    second.until(|event| event["event"] == "layer-here");
    for mut pulling in [first, second] {
        pulling.until(|event| event["event"] == "done");
        assert!(pulling.child.wait().expect("wait").success());
    }
    assert_eq!(server.asked_for(&big), [0]);
}

#[test]
fn bytes_of_a_blob_that_were_damaged_are_fetched_again() {
    let Some(home) = Home::new("image_damaged") else { return };
    let server = Server::start();
    server.used_by(&home);
    let big = layer(&[file("big", &noise(300_000))]);
    server.add("a", &Image::new(std::slice::from_ref(&big)));
    let name = format!("{}/a:1", server.host());
    home.sandpod(&["pull", &name]).ends_with(0);
    let blob = home.path().join("share/sandpod/images/blobs/sha256").join(&super::made::digest(&big)[7..]);
    // A power cut: the length is right and the bytes are not.
    fs::remove_file(&blob).expect("remove");
    fs::write(&blob, vec![0; big.len()]).expect("write");
    home.give(&blob, 0o444);
    home.sandpod(&["pull", "--userns=root-is-you", &name]).ends_with(0).complains("once more");
    assert_eq!(server.asked_for(&big), [0, 0]);
    assert!(fs::read(&blob).expect("read") == big);
}

#[test]
fn the_image_of_this_platform_is_taken_from_an_index() {
    let Some(home) = Home::new("image_platform") else { return };
    let server = Server::start();
    server.used_by(&home);
    let of = |architecture: &str| Image::of(&[layer(&[file(architecture, b"")])], architecture, None);
    let (amd64, arm64) = (of("amd64"), of("arm64"));
    server.add("a", &amd64);
    server.add("a", &arm64);
    let both = index(&[("arm64", &arm64), ("amd64", &amd64)]);
    server.document("a", "both", "application/vnd.oci.image.index.v1+json", &both);
    let name = format!("{}/a:both", server.host());
    for (platform, manifest) in [("amd64", &amd64.manifest), ("linux/arm64", &arm64.manifest)] {
        let said = home.sandpod(&["pull", "-q", "--platform", platform, &name]).ends_with(0);
        assert_eq!(said.stdout, format!("{}\n", super::made::digest(manifest)));
        tree_with(&home, platform.trim_start_matches("linux/"));
    }
    home.sandpod(&["pull", "--platform=riscv64", &name]).ends_with(125).complains("linux/arm64, linux/amd64");
    // An index under the name of a manifest, and the other way round.
    server.document("a", "liar", MANIFEST, &both);
    home.sandpod(&["pull", &format!("{}/a:liar", server.host())]).ends_with(125).silently();
}

#[test]
fn a_mirror_that_lacks_the_image_is_passed_over() {
    let Some(home) = Home::new("image_mirror") else { return };
    let (empty, full) = (Server::start(), Server::start());
    full.add("a", &Image::new(&[layer(&[file("x", b"")])]));
    home.directory(".config", 0o755);
    home.directory(".config/containers", 0o755);
    let text = format!(
        "[[registry]]\nlocation = \"docker.io/library\"\n[[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n\
         [[registry.mirror]]\nlocation = \"{}\"\ninsecure = true\n",
        empty.host(),
        full.host()
    );
    home.file(".config/containers/registries.conf", text, 0o644);
    let said = home.sandpod(&["pull", "a:1"]).ends_with(0).says("docker.io/library/a:1@sha256:");
    assert!(said.stderr.contains(&format!("not from {}", empty.host())), "{}", said.explain());
    // Nor is one believed that sends something else: an image for another platform, or no image.
    let foreign = Image::of(&[layer(&[file("x", b"")])], "riscv64", None);
    empty.add("a", &foreign);
    home.sandpod(&["rmi", "a:1"]).ends_with(0);
    home.sandpod(&["pull", "a:1"]).ends_with(0).complains("riscv64").says("docker.io/library/a:1@sha256:");
    empty.document("a", "1", MANIFEST, b"<html>");
    home.sandpod(&["rmi", "a:1"]).ends_with(0);
    home.sandpod(&["pull", "a:1"]).ends_with(0).says("docker.io/library/a:1@sha256:");
}

#[test]
fn what_is_not_there_says_so_and_leaves_nothing() {
    let Some(home) = Home::new("image_missing") else { return };
    let server = Server::start();
    server.used_by(&home);
    home.sandpod(&["pull", &format!("{}/nothing:1", server.host())]).ends_with(125).silently().complains("404");
    home.sandpod(&["pull", "http://x"]).ends_with(2).silently();
    assert_eq!((blob_count(&home), trees(&home).len()), (0, 0));
}

/// Manifest and configuration before the plan, layers after it; the second time nothing is asked of the registry.
#[test]
fn a_pod_runs_from_an_image_that_was_not_here() {
    let Some(home) = Home::new("image_run") else { return };
    let server = Server::start();
    server.used_by(&home);
    let busybox = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox")).expect("busybox");
    let lower = layer(&[
        directory("bin"),
        entry("bin/busybox", b'0', "", 0o755, 0, &busybox),
        super::made::symlink("bin/sh", "busybox"),
        super::made::symlink("bin/cat", "busybox"),
        file("gone", b"lower"),
        file("kept", b"lower\n"),
    ]);
    let upper = layer(&[file(".wh.gone", b""), file("new", b"upper\n")]);
    server.add("a", &Image::new(&[lower.clone(), upper.clone()]));
    let name = format!("{}/a:1", server.host());
    let run = |options: &[&str]| {
        let command = ["--", "/bin/sh", "-c", "/bin/cat kept new; test ! -e gone && echo hidden"];
        let words = [&["run", "--rm", "--image", &name][..], options, &command].concat();
        home.sandpod(&words)
    };
    run(&["--pull=never"]).ends_with(125).silently().complains("is not in the store");
    assert_eq!(run(&[]).ends_with(0).stdout, "lower\nupper\nhidden\n");
    // What follows the image is its command, options and all.
    let said = home.sandpod(&["run", "--rm", &name, "/bin/cat", "kept", "--", "-n"]).ends_with(1);
    assert!(said.stdout == "lower\n" && said.stderr.contains("-n"), "{}", said.explain());
    let asked = server.requests();
    let again = run(&[]).ends_with(0);
    assert!(!again.stderr.contains("layer"), "a start from what is here says nothing of it: {}", again.explain());
    assert_eq!(server.requests(), asked, "no request where the image is here");
    // The tag may mean another image by now: its manifest is asked for, and no blob.
    run(&["--pull=always"]).ends_with(0);
    assert_eq!(server.requests(), asked + 1);
    assert_eq!((server.asked_for(&lower), server.asked_for(&upper)), (vec![0], vec![0]));
}

#[test]
fn a_plan_asks_for_no_layers_and_offline_for_nothing() {
    let Some(home) = Home::new("image_plan") else { return };
    let server = Server::start();
    server.used_by(&home);
    let only = layer(&[file("x", b"")]);
    server.add("a", &Image::new(std::slice::from_ref(&only)));
    let name = format!("{}/a:1", server.host());
    home.sandpod(&["plan", "--offline", "--image", &name]).ends_with(0);
    assert_eq!(server.requests(), 0);
    home.sandpod(&["plan", "--image", &name]).ends_with(0).says("/bin/sh");
    assert_eq!(server.asked_for(&only), Vec::<usize>::new());
}

/// While a layer comes, other pods are admitted; a name that is taken is known before a layer is asked for.
#[test]
fn others_do_not_wait_for_a_layer() {
    let Some(home) = Home::new("image_wait") else { return };
    let server = Server::start();
    server.used_by(&home);
    let big = layer(&[file("big", &noise(500_000))]);
    server.add("a", &Image::new(std::slice::from_ref(&big)));
    server.fault("a", &big, Some(Fault::Stall(100_000)));
    let pod = |name: &str, image: &str| {
        let requests = serde_json::json!({ "requests": { "memory": "1Mi" } });
        let spec = serde_json::json!({ "restartPolicy": "Never", "containers": [
            { "name": "main", "image": image, "command": ["/bin/true"], "resources": requests } ] });
        home.manifest_of(name, &spec).to_str().expect("UTF-8").to_owned()
    };
    let image = format!("{}/a:1", server.host());
    home.sandpod(&["run", "-d", "--cgroups=disabled", &pod("taken", "host:")]).ends_with(0);
    home.sandpod(&["run", "--cgroups=disabled", &pod("taken", &image)])
        .ends_with(125)
        .complains("there is already a pod");
    assert_eq!(server.asked_for(&big), Vec::<usize>::new());
    let mut pulling = home.command(&["run", "--rm", "--cgroups=disabled", &pod("pulls", &image)]);
    let mut pulling = pulling.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    until("the layer is asked for", || (!server.asked_for(&big).is_empty()).then_some(()));
    home.sandpod(&["run", "--rm", "--cgroups=disabled", &pod("other", "host:")]).ends_with(0);
    server.go_on();
    pulling.wait().expect("wait");
}
