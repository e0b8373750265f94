//! What an image declares as volumes, and what a start says of a command that the image does not have.

use std::fs;

use serde_json::{Value, json};

use super::made::{Image, directory, entry, file, layer, symlink};
use super::server::Server;
use super::support::Home;

fn busybox() -> Vec<u8> {
    fs::read("/bin/busybox").or_else(|_| fs::read("/usr/bin/busybox")).expect("busybox")
}

fn with_busybox(more: &[Vec<u8>]) -> Vec<u8> {
    let mut entries = vec![directory("bin"), entry("bin/busybox", b'0', "", 0o755, 0, &busybox())];
    entries.extend(["sh", "cat", "stat", "touch", "ls", "grep"].map(|name| symlink(&format!("bin/{name}"), "busybox")));
    entries.extend_from_slice(more);
    layer(&entries)
}

/// They begin with the image's content, owner and mode, can be written where the root cannot, and are new at each start.
#[test]
fn volumes_of_an_image_begin_with_its_content() {
    let Some(home) = Home::new("image_volumes") else { return };
    let server = Server::start();
    server.used_by(&home);
    let lower = with_busybox(&[
        entry("data", b'5', "", 0o750, 33, b""),
        file("data/replaced", b"lower"),
        file("data/gone", b"lower"),
        entry("data/owned", b'0', "", 0o640, 33, b"lower"),
        directory("real"),
        file("real/here", b"real"),
        symlink("linked", "../../../../real"),
    ]);
    let upper =
        layer(&[entry("data", b'5', "", 0o750, 33, b""), file("data/replaced", b"upper"), file("data/.wh.gone", b"")]);
    let volumes = json!({ "/data": {}, "/linked": {}, "/absent/deep": {}, "/dev/x": {} });
    let config = json!({ "Cmd": ["/bin/sh"], "Volumes": volumes });
    server.add("a", &Image::configured(&[lower, upper], "amd64", None, &config));
    let script = "stat -c '%a %u' data data/owned absent/deep; cat data/replaced linked/here; ls data; \
                  touch data/new absent/deep/new linked/new && echo written; touch /x 2>/dev/null || echo read-only; \
                  grep -c -E ' /(data|real|absent/deep) ' /proc/mounts";
    let pod = |mounts: Value, volumes: Value| {
        json!({ "restartPolicy": "Never", "volumes": volumes, "containers": [{
            "name": "main", "image": format!("{}/a:1", server.host()), "command": ["/bin/sh", "-c", script],
            "volumeMounts": mounts, "securityContext": { "readOnlyRootFilesystem": true } }] })
    };
    let manifest = home.manifest_of("v", &pod(json!([]), json!([])));
    let run = || home.sandpod(&["run", "--rm", manifest.to_str().expect("UTF-8")]).ends_with(0);
    let first = run();
    let owner = if first.stderr.contains("no-subids") { 0 } else { 33 };
    let wanted = format!("750 {owner}\n640 {owner}\n755 0\nupperrealowned\nreplaced\nwritten\nread-only\n3\n");
    assert_eq!(first.stdout, wanted, "{}", first.explain());
    assert!(first.stderr.contains("/dev/x of `main`"), "{}", first.explain());
    assert_eq!(run().stdout, wanted, "new at each start");
    // What the pod mounts there takes its place.
    let covered = pod(json!([{ "name": "v", "mountPath": "/data" }]), json!([{ "name": "v", "emptyDir": {} }]));
    let said = home.sandpod(&["run", "--rm", home.manifest_of("c", &covered).to_str().expect("UTF-8")]);
    assert!(said.stdout.contains("written") && !said.stdout.contains("upper"), "{}", said.explain());
}

/// A link of the image leads to no place of the sandbox, and to none outside.
#[test]
fn a_volume_of_an_image_is_inside_its_root() {
    let Some(home) = Home::new("image_volume_links") else { return };
    let server = Server::start();
    server.used_by(&home);
    let layers = [with_busybox(&[symlink("masked", "/proc/sys"), directory("proc"), directory("proc/sys")])];
    let config = json!({ "Cmd": ["/bin/ls", "masked"], "Volumes": { "/masked": {} } });
    server.add("a", &Image::configured(&layers, "amd64", None, &config));
    let said = home.sandpod(&["run", "--rm", &format!("{}/a:1", server.host())]).ends_with(125);
    assert!(said.stderr.contains("a symbolic link makes /masked lead"), "{}", said.explain());
}

#[test]
fn a_command_that_the_image_lacks_is_named_with_a_way_out() {
    let Some(home) = Home::new("image_command") else { return };
    let server = Server::start();
    server.used_by(&home);
    server.add(
        "a",
        &Image::new(&[with_busybox(&[
            entry("bin/foreign", b'0', "", 0o755, 0, b"\x7fELF of another machine"),
            entry("bin/script", b'0', "", 0o755, 0, b"#!/no/interpreter\n"),
        ])]),
    );
    server.add("b", &Image::new(&[layer(&[directory("bin"), entry("bin/busybox", b'0', "", 0o755, 0, &busybox())])]));
    let run = |image: &str, command: &str, code| {
        home.sandpod(&["run", "--rm", &format!("{}/{image}:1", server.host()), command]).ends_with(code)
    };
    run("b", "sh", 127).complains("has no shell: name one of its own programs");
    run("b", "/bin/bash", 127).complains("has no shell: name one of its own programs");
    run("a", "bash", 127).complains("it has /bin/sh");
    run("a", "/bin/nginx", 127).complains("has no such program");
    run("a", "/bin/script", 127).complains("what is missing is the interpreter");
    run("a", "/bin/foreign", 126).complains("for another kind of processor than this machine's");
}

/// Read-only and without programs, as Kubernetes mounts them (KEP-4639); as long as a pod has it, its image stays.
#[test]
fn a_volume_has_the_files_of_an_image() {
    let Some(home) = Home::new("image_files") else { return };
    let server = Server::start();
    server.used_by(&home);
    let lower = layer(&[
        file("kept", b"lower\n"),
        file("gone", b"lower\n"),
        entry("own", b'0', "", 0o600, 33, b"own\n"),
        entry("program", b'0', "", 0o755, 0, b"#!/bin/sh\n"),
    ]);
    server.add("one", &Image::new(std::slice::from_ref(&lower)));
    server.add("two", &Image::new(&[lower, layer(&[file(".wh.gone", b""), file("new", b"upper\n")])]));
    let script = "ls /two; cat /two/kept /two/new /two/own /one/gone; ls / | grep -c one; \
                  touch /two/x /one/x 2>/dev/null || echo read-only; /two/program 2>/dev/null || echo not executable";
    let image =
        |name: &str| json!({ "reference": format!("{}/{name}:1", server.host()), "pullPolicy": "IfNotPresent" });
    let spec = json!({ "restartPolicy": "Never",
        "volumes": [{ "name": "one", "image": image("one") }, { "name": "two", "image": image("two") }],
        "containers": [{ "name": "main", "image": "host:", "command": ["sh", "-c", script], "volumeMounts": [
            { "name": "one", "mountPath": "/one" }, { "name": "two", "mountPath": "/two", "readOnly": true }] }] });
    let manifest = home.manifest_of("files", &spec);
    let said = home.sandpod(&["run", manifest.to_str().expect("UTF-8")]).ends_with(0);
    let wanted = "kept\nnew\nown\nprogram\nlower\nupper\nown\nlower\n1\nread-only\nnot executable\n";
    assert_eq!(said.stdout, wanted, "{}", said.explain());
    // With SYS_ADMIN a container can undo what is read-only, and still writes nothing into the store.
    let hostile =
        "mount -o remount,bind,rw,exec /one; echo planted >/one/kept; touch /one/new; cat /one/kept; ls /one/new";
    let spec = json!({ "restartPolicy": "Never", "volumes": [{ "name": "one", "image": image("one") }],
        "containers": [{ "name": "main", "image": "host:", "command": ["sh", "-c", hostile],
            "securityContext": { "capabilities": { "add": ["SYS_ADMIN"] } },
            "volumeMounts": [{ "name": "one", "mountPath": "/one" }] }] });
    let said = home.run(&spec);
    assert!(said.stdout == "lower\n" && said.code != Some(0), "{}", said.explain());
    let two = format!("{}/two:1", server.host());
    home.sandpod(&["rmi", &two]).ends_with(125).complains("a pod uses it");
    home.sandpod(&["rm", "files"]).ends_with(0);
    home.sandpod(&["rmi", &two]).ends_with(0);
    let wrong = json!({ "volumes": [{ "name": "one", "image": { "reference": "host:" } }],
        "containers": [{ "name": "main", "image": "host:" }] });
    let wrong = home.manifest_of("wrong", &wrong);
    home.sandpod(&["plan", wrong.to_str().expect("UTF-8")]).ends_with(2).complains("for a directory of this machine");
}
