//! `sandpod logs` over logs on disk, and with a supervisor that this test plays.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

mod cli_support;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use cli_support::Home;

const NGINX: [&str; 3] = ["12:00:01 stdout F one", "12:00:03 stderr F two", "12:00:05 stdout F three"];

#[test]
fn one_container_or_all_in_order_of_time() {
    let home = Home::new();
    let pod = home.pod("0123456789ab", "web", &["nginx", "log"]);
    home.log(&pod, "nginx", &NGINX);
    home.log(&pod, "log", &["12:00:02 stdout P a", "12:00:04 stdout F b"]);
    drop(pod);
    let logs = |arguments: &[&str]| home.run(&[&["logs", "web"], arguments].concat()).ends_with(0).stdout;
    assert_eq!(logs(&[]), "nginx | one\nnginx | two\nlog   | ab\nnginx | three\n");
    assert_eq!(logs(&["-c", "log"]), "ab\n");
    let nginx = |arguments: &[&str]| logs(&[&["-c", "nginx"], arguments].concat());
    assert_eq!(nginx(&["--tail", "1"]), "three\n");
    assert_eq!(nginx(&["--tail", "0"]), "");
    assert_eq!(nginx(&["--since", "2026-11-21T12:00:03Z"]), "two\nthree\n");
    assert_eq!(nginx(&["-t", "--tail", "1"]), "2026-11-21T12:00:05.000000000Z three\n");
    // The pod has ended: there is nothing to follow.
    assert_eq!(nginx(&["-f"]), "one\ntwo\nthree\n");
}

#[test]
fn a_pod_that_wrote_nothing_and_a_damaged_log() {
    let home = Home::new();
    let pod = home.pod("0123456789ab", "web", &["nginx"]);
    assert_eq!(home.run(&["logs", "web"]).ends_with(0).stdout, "");
    std::fs::write(pod.dirs.data.join("nginx.log"), b"garbage\n\n2026-11-21T12:00:00Z stdout F good\ncut")
        .expect("write");
    assert_eq!(home.run(&["logs", "web"]).ends_with(0).stdout, "garbage\n\ngood\n");
}

#[test]
fn following_sees_what_comes_across_a_rotation_and_ends_with_the_pod() {
    use sandpod::supervisor::protocol::{Reply, Request};
    use sandpod::sys::socket::Listener;

    let home = Home::new();
    let pod = home.pod("0123456789ab", "web", &["nginx"]);
    home.log(&pod, "nginx", &NGINX[..1]);
    let control = Listener::bind(&pod.dirs.runtime.join("control.sock")).expect("bind");
    let mut child =
        home.command(&["logs", "-f", "web"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("spawn");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut next = || lines.next().expect("a line").expect("text");
    let client = accept(&control);
    let request = client.receive_within(DEADLINE).expect("receive").expect("a request");
    let request: Request = serde_json::from_slice(&request.bytes).expect("JSON");
    assert_eq!(request, Request::Wait { container: None });
    assert_eq!(next(), "one");
    home.log(&pod, "nginx", &NGINX[1..2]);
    assert_eq!(next(), "two");
    let log = pod.dirs.data.join("nginx.log");
    std::fs::rename(&log, pod.dirs.data.join("nginx.log.1")).expect("rotate");
    home.log(&pod, "nginx", &NGINX[2..]);
    assert_eq!(next(), "three");
    home.log(&pod, "nginx", &["12:00:09 stdout F last"]);
    client.send(&serde_json::to_vec(&Reply::Exited { code: 0 }).expect("JSON"), &[]).expect("send");
    assert_eq!(next(), "last");
    assert!(child.wait().expect("wait").success());
}

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

fn accept(control: &sandpod::sys::socket::Listener) -> sandpod::sys::socket::Channel {
    use std::os::fd::AsFd;
    assert!(sandpod::sys::poll::readable(control.as_fd(), DEADLINE).expect("poll"), "no client came");
    control.accept().expect("accept").expect("a client")
}
