//! docs/examples, each run as its first lines say.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

mod support;

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

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
    let tested =
        ["adapter-sidecar.yaml", "helloworld.yaml", "nginx-busybox.yaml", "proxy-sidecar.yaml", "shared-memory.yaml"];
    assert_eq!(names, tested);
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

/// The example with its port of the host, which may be in use here, replaced by one that is free.
fn published(home: &Home, name: &str, host_port: &str) -> (PathBuf, SocketAddr) {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let text = std::fs::read_to_string(example(name)).expect("the example");
    let written = format!("hostPort: {host_port}\n");
    assert!(text.contains(&written), "{name}");
    let changed = text.replace(&written, &format!("hostPort: {}\n          hostIP: 127.0.0.1\n", free.port()));
    (home.file(name, changed, 0o644), free)
}

/// Status and body. An error is a request that was lost.
fn get(address: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: pod\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status: {answer:?}")))?;
    Ok((status, answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()))
}

/// Issue 4, "Done when": 10,000 requests, none lost, also while the application restarts.
#[test]
fn proxy_sidecar() {
    let Some(home) = Home::with("proxy_sidecar", &["nginx", "slirp4netns"]) else { return };
    let (manifest, address) = published(&home, "proxy-sidecar.yaml", "8880");
    home.sandpod(&["run", "-d", "-q", manifest.to_str().expect("UTF-8")]).ends_with(0);
    let pod = Pod { home: &home, name: "proxy-sidecar".to_owned() };
    until("nginx and the app are up", || get(address, "/").ok().filter(|(status, _)| *status == 200));

    let (count, good, bad) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while count.fetch_add(1, Ordering::Relaxed) < 10_000 {
                    match get(address, "/").expect("no request is lost") {
                        (200, body) => {
                            assert_eq!(body, "hello from behind the proxy\n");
                            good.fetch_add(1, Ordering::Relaxed);
                        }
                        (502, _) => drop(bad.fetch_add(1, Ordering::Relaxed)),
                        other => panic!("neither the page nor 502: {other:?}"),
                    }
                }
            });
        }
        until("a third of them", || (count.load(Ordering::Relaxed) > 3_333).then_some(()));
        pod.does(&["kill", "-c", "app", "-s", "KILL"]);
        until("the app is restarted", || (pod.restarts("app") == 1).then_some(()));
    });
    let (good, bad) = (good.into_inner(), bad.into_inner());
    assert_eq!(good + bad, 10_000);
    assert!(good > 5_000 && bad > 0, "{good} pages, {bad} times 502");
    until("the app serves again", || get(address, "/").ok().filter(|(status, _)| *status == 200));
    assert_eq!(pod.restarts("nginx"), 0);
    pod.does(&["rm", "-f"]);
    assert!(TcpStream::connect(address).is_err(), "the port is free");
}

#[test]
fn adapter_sidecar() {
    let Some(home) = Home::with("adapter_sidecar", &["perl", "slirp4netns"]) else { return };
    let (manifest, address) = published(&home, "adapter-sidecar.yaml", "9880");
    home.sandpod(&["run", "-d", "-q", manifest.to_str().expect("UTF-8")]).ends_with(0);
    let pod = Pod { home: &home, name: "adapter-sidecar".to_owned() };
    let metrics = || get(address, "/metrics").ok().filter(|(status, _)| *status == 200).map(|(_, body)| body);
    let body = until("the adapter sees the app", || metrics().filter(|body| body.contains("app_up 1")));
    assert!(body.contains("# TYPE app_requests gauge\napp_requests 17\n") && body.contains("app_queue 3\n"), "{body}");
    assert_eq!(get(address, "/health").expect("an answer").0, 404, "only the adapter is reached");
    pod.sh("app", "rm /www/health");
    until("the adapter tells", || metrics().filter(|body| body.contains("app_up 0")));
    pod.does(&["rm", "-f"]);
}

fn fetched(pod: &Pod<'_>) -> Option<String> {
    let said = pod.exec("busybox", &["busybox", "wget", "-qO-", "localhost"]);
    (said.code == Some(0)).then(|| said.stdout.trim_end().to_owned())
}
