//! Published ports by IPv6, on the host's side and in the pod.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use crate::support::{Home, Pod, and, sh, skip, until};
use serde_json::{Value, json};

/// Says what it was sent, and to which family of address, on port 7000 by TCP and UDP; of its own localhost's IPv6 alone.
const SERVER: &str = r#"use Socket qw(:all); $at = pack_sockaddr_in6(7000, inet_pton(AF_INET6, "::1"));
    socket(L, PF_INET6, SOCK_STREAM, 0) or die $!; setsockopt(L, SOL_SOCKET, SO_REUSEADDR, 1); bind(L, $at) or die $!; listen(L, 9);
    if (!fork) { socket(U, PF_INET6, SOCK_DGRAM, 0) or die $!; bind(U, $at) or die $!;
        while (defined($from = recv(U, $m, 65535, 0))) { send(U, "six:$m", 0, $from) } }
    while (accept(C, L)) { $m = do { local $/; <C> }; print C "six:$m"; close C }"#;

/// A pod of a server that listens on `[::1]:7000`; `None` after a SKIP.
fn six(home: &Home) -> Option<Pod<'_>> {
    if TcpStream::connect("[::1]:1").is_err_and(|error| error.kind() == std::io::ErrorKind::AddrNotAvailable) {
        skip(&home.test, "this host has no IPv6");
        return None;
    }
    let container = and(
        sh("server", ""),
        json!({ "command": ["perl", "-e", SERVER], "ports": [
        { "containerPort": 7000, "hostPort": free_port(), "hostIP": "::1" },
        { "containerPort": 7000, "hostPort": free_port(), "hostIP": "::1", "protocol": "UDP" },
        { "containerPort": 7000, "hostPort": free_port(), "hostIP": "127.0.0.1" },
    ] }),
    );
    let spec: Value = json!({ "terminationGracePeriodSeconds": 0, "containers": [container] });
    Some(home.start_with("six", &spec, &["--network", "none"]))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("[::1]:0").expect("bind").local_addr().expect("an address").port()
}

#[test]
fn a_port_of_the_hosts_ipv6_leads_to_a_server_of_ipv6() {
    let Some(home) = Home::with("published_ipv6", &["perl"]) else { return };
    let Some(pod) = six(&home) else { return };
    let listed = pod.does(&["port"]).ends_with(0).stdout;
    let of = |word: &str, host: &str| {
        let lines = listed.lines().filter(|line| line.starts_with(word));
        lines.filter_map(|line| line.split(" -> ").nth(1)).find(|to| to.starts_with(host)).expect("listed").to_owned()
    };
    // A client of IPv4 gets there, too: the pod has one localhost by two names.
    for address in [of("7000/tcp", "[::1]:"), of("7000/tcp", "127.0.0.1:")] {
        let message = "x".repeat(300_000);
        let answer = until("the server's answer", || {
            let mut stream = TcpStream::connect(&address).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("SO_RCVTIMEO");
            stream.write_all(message.as_bytes()).ok()?;
            stream.shutdown(std::net::Shutdown::Write).ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            Some(answer).filter(|answer| !answer.is_empty())
        });
        assert!(answer == format!("six:{message}"), "{address}: {} bytes", answer.len());
    }
    let client = UdpSocket::bind("[::1]:0").expect("bind");
    client.connect(of("7000/udp", "[::1]:")).expect("connect");
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("SO_RCVTIMEO");
    let mut buffer = [0; 100];
    until("its answer", || {
        let _ = client.send(b"datagram");
        let length = client.recv(&mut buffer).ok()?;
        (&buffer[..length] == b"six:datagram").then_some(())
    });
    // What is busy is busy for IPv6, too.
    let taken = format!("{}:1", of("7000/tcp", "[::1]:"));
    let refused = home.sandpod(&["run", "--rm", "-p", &taken, "--image", "host:", "--", "true"]);
    refused.ends_with(125).complains("pod `six` has it");
}
