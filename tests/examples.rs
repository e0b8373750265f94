//! docs/examples, each run as its first lines say.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

mod support;

use std::path::Path;

use serde_json::Value;
use support::{Home, Pod, until};

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples").join(name);
    assert!(path.exists(), "{}", path.display());
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn every_example_has_a_test() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples");
    let mut names: Vec<_> =
        std::fs::read_dir(dir).expect("examples").map(|entry| entry.expect("entry").file_name()).collect();
    names.sort();
    assert_eq!(names, ["helloworld.yaml", "nginx-busybox.yaml", "shared-memory.yaml"]);
}

#[test]
fn helloworld() {
    let Some(home) = Home::new("helloworld") else { return };
    let said = home.sandpod(&["run", "--rm", &example("helloworld.yaml")]).ends_with(0);
    let said = said.says("api: serving /www on port 8080").says("the sum of the first 100 squares is 338350");
    // `log` prints what the others noted down, each line with its container's name in front.
    let line = said.stdout.lines().find(|line| line.contains("compute: done"));
    assert!(line.is_some_and(|line| line.starts_with("log")), "{}", said.explain());
    assert!(home.remains().is_empty(), "--rm: {:?}", home.remains());
}

#[test]
fn shared_memory() {
    let Some(home) = Home::new("shared_memory") else { return };
    home.sandpod(&["run", "--rm", &example("shared-memory.yaml")])
        .ends_with(0)
        .says("message: a message through shared memory")
        .says("answer: got: a message through shared memory");
}

/// Issue 2, "Done when", about this example.
#[test]
fn nginx_busybox() {
    let Some(home) = Home::with("nginx_busybox", &["nginx"]) else { return };
    home.sandpod(&["run", "-d", &example("nginx-busybox.yaml")]).ends_with(0);
    let pod = Pod { home: &home, name: "nginx-busybox".to_owned() };
    let page = "<h1>Hello from a pod without root</h1>";
    until("nginx serves the page", || fetched(&pod).filter(|text| text == page));

    let processes = pod.sh("busybox", "busybox ps -o pid,args");
    let first = processes.lines().find(|line| line.split_whitespace().next() == Some("1"));
    assert!(first.is_some_and(|line| line.contains("pause")), "pause is pid 1:\n{processes}");
    assert!(processes.contains("nginx: master process"), "busybox sees nginx:\n{processes}");

    let access = until("the request is logged", || {
        Some(pod.sh("busybox", "cat /var/log/nginx/access.log")).filter(|text| text.contains("GET / HTTP"))
    });
    assert!(access.contains("\"Wget\""), "{access}");

    let before = pod.inspect();
    for kind in ["net", "ipc", "uts", "pid", "user"] {
        let of = |container: &str| before["containers"][container]["namespaces"][kind].clone();
        let pause = &before["pause"]["namespaces"][kind];
        assert!(pause.as_u64().is_some(), "{kind}: {before}");
        assert_eq!((&of("nginx"), &of("busybox")), (pause, pause), "{kind}");
    }
    let mnt = |value: &Value| value["namespaces"]["mnt"].as_u64().expect("a number");
    let mut mounts = [&before["pause"], &before["containers"]["nginx"], &before["containers"]["busybox"]].map(mnt);
    mounts.sort_unstable();
    assert!(mounts[0] < mounts[1] && mounts[1] < mounts[2], "each has its own mount namespace: {mounts:?}");

    // Killing nginx leaves busybox running, and nginx comes back.
    let (nginx, busybox) = (pod.pid("nginx"), pod.pid("busybox"));
    pod.does(&["kill", "-c", "nginx"]);
    until("nginx is restarted", || (pod.restarts("nginx") == 1).then_some(()));
    until("nginx serves again", || fetched(&pod).filter(|text| text == page));
    assert_ne!(pod.pid("nginx"), nginx);
    assert_eq!((pod.pid("busybox"), pod.restarts("busybox")), (busybox, 0));

    let nginx = pod.pid("nginx");
    pod.does(&["stop"]);
    assert!(!support::is_live(nginx) && !support::is_live(busybox));
    pod.does(&["rm"]);
}

fn fetched(pod: &Pod<'_>) -> Option<String> {
    let said = pod.exec("busybox", &["busybox", "wget", "-qO-", "localhost"]);
    (said.code == Some(0)).then(|| said.stdout.trim_end().to_owned())
}
