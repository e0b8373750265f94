//! `image load`, `image save`, and images of files: skopeo and podman are the judges.

use std::fs;
use std::path::Path;

use super::kept::files;
use super::made::{Image, digest, directory, entry, file, layer, symlink};
use super::server::Server;
use crate::support::{Home, Said, skip};

/// An image with a shell, in the store; its name there.
fn pulled(home: &Home) -> String {
    let server = Server::start();
    server.used_by(home);
    let busybox = fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox")).expect("busybox");
    let lower = layer(&[
        directory("bin"),
        entry("bin/busybox", b'0', "", 0o755, 0, &busybox),
        symlink("bin/sh", "busybox"),
        symlink("bin/cat", "busybox"),
        file("gone", b"lower"),
        entry("own", b'0', "", 0o600, 33, b"of another id\n"),
    ]);
    let upper = layer(&[file(".wh.gone", b""), file("new", b"upper\n")]);
    server.add("a", &Image::new(&[lower, upper]));
    let name = format!("{}/a:1", server.host());
    home.sandpod(&["pull", "-q", &name]).ends_with(0);
    name
}

/// The image as [`pulled`] made it, by what a pod sees.
fn is_whole(home: &Home, image: &str) {
    let words = ["run", "--rm", "-q", image, "/bin/sh", "-c", "/bin/cat /own /new; test -e /gone || echo hidden"];
    assert_eq!(home.sandpod(&words).ends_with(0).stdout, "of another id\nupper\nhidden\n");
}

/// A command of another tool, whose files are in the home directory.
fn other(home: &Home, program: &str, words: &[&str]) -> Said {
    let here = home.path().to_str().expect("UTF-8");
    // podman takes no runroot of more than 50 characters.
    let short = Path::new("/dev/shm").join(format!("podman-{}", std::process::id()));
    if program == "podman" && !short.exists() {
        fs::create_dir(&short).expect("mkdir");
        home.give(&short, 0o700);
    }
    let storage = [format!("--root={here}/podman"), format!("--runroot={}", short.display())];
    let mut all: Vec<&str> = match program {
        "podman" => vec!["--storage-driver=vfs", "--cgroup-manager=cgroupfs", "--events-backend=none"],
        _ => Vec::new(),
    };
    if program == "podman" {
        all.extend(storage.iter().map(String::as_str));
    }
    all.extend(words);
    let mut command = home.program(Path::new("/usr/bin").join(program), &all);
    if program == "podman" {
        command.env("XDG_RUNTIME_DIR", &short);
    }
    home.said(command, b"").ends_with(0)
}

fn has(test: &str, program: &str) -> bool {
    let there = Path::new("/usr/bin").join(program).exists();
    if !there {
        skip(test, &format!("{program} is missing"));
    }
    there
}

#[test]
fn podman_reads_what_is_saved_and_its_archives_are_loaded() {
    let test = "podman_reads_what_is_saved_and_its_archives_are_loaded";
    let Some(home) = Home::new("image_podman") else { return };
    if !has(test, "podman") {
        return;
    }
    let name = pulled(&home);
    let archive = home.path().join("a.tar").to_str().expect("UTF-8").to_owned();
    for format in ["docker-archive", "oci-archive"] {
        home.sandpod(&["image", "save", "--format", format, "-o", &archive, &name]).ends_with(0);
        other(&home, "podman", &["load", "-q", "-i", &archive]);
        other(&home, "podman", &["image", "exists", &name]);
        home.sandpod(&["rmi", &name]).ends_with(0);
        fs::remove_file(&archive).expect("remove");
        other(&home, "podman", &["save", "-q", "--format", format, "-o", &archive, &name]);
        other(&home, "podman", &["rmi", &name]);
        home.sandpod(&["image", "load", "-i", &archive]).ends_with(0).says(&format!("{name}@sha256:"));
        is_whole(&home, &name);
    }
    other(&home, "podman", &["unshare", "rm", "-r", &format!("{}/podman", home.path().display())]);
    fs::remove_dir_all(Path::new("/dev/shm").join(format!("podman-{}", std::process::id()))).expect("remove");
}

#[test]
fn skopeo_reads_what_is_saved() {
    let test = "skopeo_reads_what_is_saved";
    let Some(home) = Home::new("image_skopeo_saved") else { return };
    if !has(test, "skopeo") {
        return;
    }
    let name = pulled(&home);
    let path = |name: &str| home.path().join(name).to_str().expect("UTF-8").to_owned();
    let (docker, oci, layout) = (path("docker.tar"), path("oci.tar"), path("layout"));
    home.sandpod(&["save", "-o", &docker, &name]).ends_with(0);
    home.sandpod(&["save", "--format=oci-archive", "-o", &oci, &name]).ends_with(0);
    // OCI's archive has the manifest as it is.
    let manifest = other(&home, "skopeo", &["inspect", "--raw", &format!("oci-archive:{oci}")]).stdout;
    let own = home.sandpod(&["image", "inspect", &name]).ends_with(0).stdout;
    assert!(own.contains(&digest(manifest.as_bytes())), "{own}");
    for (number, source) in [format!("docker-archive:{docker}"), format!("oci-archive:{oci}")].iter().enumerate() {
        other(&home, "skopeo", &["copy", "-q", source, &format!("oci:{layout}:v{number}")]);
        is_whole(&home, &format!("oci:{layout}:v{number}"));
        is_whole(&home, source);
    }
    home.sandpod(&["run", "--rm", &format!("oci:{layout}")]).ends_with(125).complains("it has 2 images: name one");
    home.sandpod(&["run", "--rm", &format!("oci:{layout}:v9")]).ends_with(125).complains("it has no image `v9`");
    home.sandpod(&["pull", "-q", &format!("oci-archive:{oci}")]).ends_with(0).says("sha256:");
    // The pod's manifest may name a file, too.
    let spec = serde_json::json!({ "restartPolicy": "Never",
        "containers": [{ "name": "main", "image": format!("docker-archive:{docker}"), "command": ["/bin/cat", "/new"] }] });
    assert_eq!(home.run(&spec).ends_with(0).stdout, "upper\n");
}

#[test]
fn what_is_no_archive_leaves_nothing_in_the_store() {
    let Some(home) = Home::new("image_no_archive") else { return };
    let name = pulled(&home);
    let saved = home.path().join("a.tar");
    home.sandpod(&["save", "-o", saved.to_str().expect("UTF-8"), &name]).ends_with(0);
    home.sandpod(&["rmi", &name]).ends_with(0);
    let store = home.path().join("share/sandpod/images");
    let empty = files(&store);
    let whole = fs::read(&saved).expect("read");
    let mut wrong = whole.clone();
    // A byte of the shell.
    wrong[100_000] ^= 1;
    for (bytes, why) in [
        (&whole[..200_000], "cut short"),
        (&wrong[..], "has the digest"),
        (b"", "cut short"),
        (b"\xfd7zXZ\0\0", "compressed by xz"),
        (b"\x28\xb5\x2f\xfd\0\0", "compressed by zstd"),
        (&[b'x'; 2000], "not a valid tar"),
    ] {
        home.sandpod_given(bytes, &["load"]).ends_with(125).silently().complains(why);
        assert_eq!(files(&store), empty, "{why}");
    }
    let loaded = home.sandpod_given(&whole, &["load"]).ends_with(0).says(&name);
    is_whole(&home, &name);
    // A file that cannot be written whole is not there, and what was in its place stays.
    home.directory("out", 0o755);
    let out = home.path().join("out/a.tar");
    let script = format!("ulimit -f 100; exec \"$0\" save -o {} {name}", out.display());
    let limited = home.program("/bin/sh", &["-c", &script, env!("CARGO_BIN_EXE_sandpod")]);
    home.said(limited, b"").ends_with(125).complains("could not save images");
    assert_eq!(fs::read_dir(home.path().join("out")).expect("readdir").count(), 0, "{}", loaded.explain());
    home.sandpod(&["save", "-o", "/dev/full", &name]).ends_with(125).complains("No space left");
    home.sandpod(&["save", "absent"]).ends_with(125).silently().complains("there is no image");
}
