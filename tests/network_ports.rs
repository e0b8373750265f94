//! Ports of real pods: `-p`, `port`, `port-forward`, and the proxy process between.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Home, Pod, Reaped, is_live, sh, until};

/// Serves its /etc on port 8000 of the pod.
fn web() -> Value {
    json!({ "terminationGracePeriodSeconds": 0, "containers": [sh("web", "exec busybox httpd -f -p 8000 -h /etc")] })
}

/// The pod's own hostname, through a port of the host; `None` when nobody answers.
fn fetch(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("SO_RCVTIMEO");
    stream.write_all(b"GET /hostname HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.rsplit_once("\r\n\r\n")?.1.trim().to_owned())
}

fn published(home: &Home, pod: &Pod<'_>) -> String {
    home.sandpod(&["port", &pod.name, "8000"]).ends_with(0).stdout.trim().to_owned()
}

/// The port proxy among the supervisor's children.
fn proxy_of(pod: &Pod<'_>) -> u32 {
    until("the proxy runs", || {
        let supervisor = pod.inspect()["supervisor"].as_u64().expect("a pid");
        let children = fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children")).ok()?;
        children.split_ascii_whitespace().map(|pid| pid.parse().expect("a pid")).find(|pid: &u32| {
            fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sandpod:ports\n")
        })
    })
}

#[test]
fn a_published_port_leads_into_the_pod_until_its_end() {
    let Some(home) = Home::new("published_port") else { return };
    let pod = home.start_with("published", &web(), &["-p", "127.0.0.1::8000"]);
    let address = published(&home, &pod);
    until("the server is up", || fetch(&address).filter(|answer| answer == "published"));
    let listed = pod.does(&["port"]).ends_with(0).stdout;
    assert_eq!(listed, format!("8000/tcp -> {address}\n"));
    let json: Value = serde_json::from_str(&pod.does(&["port", "--json"]).ends_with(0).stdout).expect("JSON");
    let (_, port) = address.split_once(':').expect("a port");
    assert_eq!(json[0]["hostPort"], port.parse::<u16>().expect("a number"));
    assert_eq!((&json[0]["hostIP"], &json[0]["containerPort"]), (&json!("127.0.0.1"), &json!(8000)));
    home.sandpod(&["port", "published", "81"]).ends_with(125).complains("does not publish port 81");

    // A second pod is refused before anything of it exists, and the first does not notice.
    let manifest = home.manifest_of("second", &web());
    let second = ["run", "-d", "-q", "-p", &format!("{port}:8000"), manifest.to_str().expect("UTF-8")];
    home.sandpod(&second).ends_with(125).silently().complains("pod `published` has it");
    assert_eq!(home.remains().len(), 2, "one pod's two directories");
    assert!(fetch(&address).is_some());

    home.sandpod(&["rm", "-f", "published"]).ends_with(0);
    assert!(TcpStream::connect(&address).is_err(), "the port is free again");
}

#[test]
fn the_proxy_has_no_rights_and_is_replaced_when_it_dies() {
    let Some(home) = Home::new("proxy_rights") else { return };
    let pod = home.start_with("rights", &web(), &["-p", "127.0.0.1::8000"]);
    let address = published(&home, &pod);
    until("the server is up", || fetch(&address));
    let proxy = proxy_of(&pod);
    let status = fs::read_to_string(format!("/proc/{proxy}/status")).expect("it lives");
    for line in
        ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1"]
    {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    let kill = |pid: u32| Command::new("kill").args(["-9", &pid.to_string()]).status().expect("kill");
    kill(proxy);
    // The listener never went away.
    assert_eq!(fetch(&address).as_deref(), Some("rights"));
    let second = proxy_of(&pod);
    assert_ne!(second, proxy);
    kill(u32::try_from(pod.inspect()["supervisor"].as_u64().expect("a pid")).expect("a pid"));
    until("it dies with the supervisor", || (!is_live(second)).then_some(()));
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn a_port_that_cannot_be_had_names_who_or_what_is_in_the_way() {
    let Some(home) = Home::new("port_in_use") else { return };
    let manifest = home.manifest(&web());
    let manifest = manifest.to_str().expect("UTF-8");
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("bound").port();
    // Free, and bound first: all or nothing.
    let options = ["run", "-d", "-q", "-p", "127.0.0.1::8001", "-p", &format!("{port}:8000"), manifest];
    home.sandpod(&options).ends_with(125).silently().complains(&format!("has it, at 127.0.0.1:{port}"));
    home.sandpod(&["run", "-d", "-q", "-p", "192.0.2.1:9999:80", manifest])
        .ends_with(125)
        .complains("no address of this host");
    home.sandpod(&["run", "-d", "-q", "-p", "9999:80", "-p", "127.0.0.1:9999:81", manifest])
        .ends_with(2)
        .complains("published twice");
    home.sandpod(&["run", "-d", "-q", "-p", "nonsense", manifest]).ends_with(2).complains("[IP:]HOST:CONTAINER");
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").expect("Linux 4.11");
    if first.trim().parse::<u16>().expect("a number") > 80 {
        home.sandpod(&["plan", "-p", "80:80", manifest]).ends_with(125).complains("ip_unprivileged_port_start is");
    }
    assert!(home.remains().is_empty());
}

#[test]
fn port_forward_reaches_what_is_not_published() {
    let Some(home) = Home::new("port_forward") else { return };
    let pod = home.start_with("forward", &web(), &[]);
    let forward = |arguments: &[&str]| {
        let mut command = home.command(&[&["port-forward", "forward"], arguments].concat());
        let mut child = Reaped(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("sandpod"));
        let mut said = BufReader::new(child.0.stdout.take().expect("piped"));
        let mut line = String::new();
        said.read_line(&mut line).expect("UTF-8");
        let address = line.strip_prefix("Forwarding from ").and_then(|rest| rest.strip_suffix(" -> 8000\n"));
        (child, address.unwrap_or_else(|| panic!("{line:?}")).to_owned())
    };
    let (mut interrupted, address) = forward(&[":8000"]);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    until("the server is up", || fetch(&address).filter(|answer| answer == "forward"));
    Command::new("kill").args(["-INT", &interrupted.0.id().to_string()]).status().expect("kill");
    assert_eq!(interrupted.0.wait().expect("it ends").code(), Some(0));

    let (mut ended, address) = forward(&["--address", "127.0.0.1", ":8000"]);
    assert_eq!(fetch(&address).as_deref(), Some("forward"));
    pod.does(&["port"]).ends_with(0).silently();
    home.sandpod(&["rm", "-f", "forward"]).ends_with(0);
    assert_eq!(ended.0.wait().expect("it ends").code(), Some(125));
    let mut why = String::new();
    ended.0.stderr.take().expect("piped").read_to_string(&mut why).expect("UTF-8");
    assert!(why.contains("pod `forward` has ended"), "{why}");
    home.sandpod(&["port-forward", "forward", "80"]).ends_with(125);
}
