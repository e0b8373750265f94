//! Connections that do not end in order, and many at a time, through the proxy process of a real pod.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::thread;

use crate::support::{Home, LONG, Pod, and, idle, sh, until};
use sandpod::sys::inet;
use serde_json::json;

/// A process for each connection, whose first byte says what it is: `d` is sent an endless stream, `c` is closed at once, of all
/// others the bytes are counted, and told at their end.
const SERVER: &str = r#"use Socket; $SIG{CHLD} = "IGNORE"; $SIG{PIPE} = "DEFAULT";
    socket(S, PF_INET, SOCK_STREAM, 0) or die $!; setsockopt(S, SOL_SOCKET, SO_REUSEADDR, 1);
    bind(S, sockaddr_in(8000, INADDR_ANY)) or die $!; listen(S, 300) or die $!;
    while (1) { accept(C, S) or next; if (fork) { close C; next } close S;
        sysread(C, $kind, 1) or exit;
        if ($kind eq "d") { $chunk = "x" x 65536; 1 while syswrite(C, $chunk); exit }
        exit if $kind eq "c";
        $sum = 1; $sum += $n while $n = sysread(C, $b, 65536);
        defined $n and syswrite(C, "counted $sum"); exit }"#;

/// What the pod's port proxy is, seen from outside.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    pid: u32,
    /// Of the size of its /proc/PID/fd: it is not dumpable, so its user may not look inside. 0 before Linux 6.2.
    descriptors: u64,
}

fn proxy_of(pod: &Pod<'_>) -> Seen {
    let pid = pod.port_proxy();
    Seen { pid, descriptors: fs::metadata(format!("/proc/{pid}/fd")).map_or(0, |directory| directory.len()) }
}

/// A connection whose server has been told what it is.
fn begin(address: &str, kind: &str) -> io::Result<TcpStream> {
    let mut client = TcpStream::connect(address)?;
    client.set_read_timeout(Some(LONG))?;
    client.set_write_timeout(Some(LONG))?;
    client.write_all(kind.as_bytes())?;
    Ok(client)
}

/// Says that it has said everything, and listens on.
fn answer(mut client: TcpStream) -> io::Result<String> {
    client.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    client.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Takes some of an endless stream.
fn download(mut client: &TcpStream) -> io::Result<()> {
    client.read_exact(&mut vec![0; 1 << 20])
}

/// Sends until the server has gone, which is never only when nobody says so: 64 MiB are in no buffer.
fn upload(mut client: &TcpStream) -> io::Result<()> {
    let chunk = vec![1; 1 << 16];
    match (0..1024).find_map(|_| client.write_all(&chunk).err()) {
        Some(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Ok(()),
        Some(error) => Err(error),
        None => Err(io::Error::other("the server closed, and all was taken")),
    }
}

/// All at a time; what went wrong.
fn fifty(one: impl Fn(usize) -> io::Result<()> + Sync) -> Vec<io::Error> {
    let one = &one;
    thread::scope(|scope| {
        let all: Vec<_> = (0..50).map(|number| scope.spawn(move || one(number))).collect();
        all.into_iter().filter_map(|thread| thread.join().expect("no panic").err()).collect()
    })
}

#[test]
fn no_end_of_a_client_or_a_server_is_the_proxys() {
    let Some(home) = Home::with("ends_of_clients", &["perl"]) else { return };
    let server = and(sh("server", ""), json!({ "command": ["perl", "-e", SERVER] }));
    let spec = json!({ "terminationGracePeriodSeconds": 0, "containers": [server] });
    let pod = home.start_with("ends", &spec, &["-p", "127.0.0.1::8000"]);
    let before = proxy_of(&pod);
    let address = home.sandpod(&["port", "ends", "8000"]).ends_with(0).stdout.trim().to_owned();
    let begin = |kind: &str| begin(&address, kind);
    until("the server is up", || begin("hello").and_then(answer).ok().filter(|answer| answer == "counted 5"));
    let expect_same = |when: &str, errors: Vec<io::Error>| {
        assert_eq!(proxy_of(&pod).pid, before.pid, "the proxy died of {when}: {errors:?}");
        assert!(errors.is_empty(), "{when}: {errors:?}");
    };

    let errors = fifty(|number| {
        let client = begin("d")?;
        download(&client)?;
        // With an end first, or without: closed with bytes unread it is reset.
        if number % 2 == 0 { client.shutdown(Shutdown::Write) } else { Ok(()) }
    });
    expect_same("downloads that nobody wanted to the end", errors);
    expect_same("uploads to a server that closes", fifty(|_| upload(&begin("c")?)));
    let errors = fifty(|number| {
        let kind = if number % 2 == 0 { "d" } else { "u" };
        let mut client = begin(kind)?;
        inet::reset_when_closed(client.as_fd());
        if kind == "d" { download(&client) } else { client.write_all(&vec![1; 1 << 18]) }
    });
    expect_same("downloads and uploads that were killed", errors);

    let held: Vec<TcpStream> = (0..200).map(|_| begin("hello").expect("the proxy accepts")).collect();
    for client in held {
        assert_eq!(answer(client).expect("an end in order"), "counted 5");
    }
    until(&format!("the proxy is again {before:?}"), || (proxy_of(&pod) == before).then_some(()));
}

/// With so few ports to choose from the kernel soon gives our end of a connection the very one that it is to go to.
#[test]
fn a_port_that_nobody_serves_does_not_serve_itself() {
    let Some(home) = Home::new("serves_itself") else { return };
    let few = json!({ "sysctls": [{ "name": "net.ipv4.ip_local_port_range", "value": "40000 40003" }] });
    let spec = json!({ "securityContext": few, "containers": [idle("idle")] });
    let pod = home.start_with("itself", &spec, &["-p", "127.0.0.1::40000"]);
    let address = home.sandpod(&["port", "itself", "40000"]).ends_with(0).stdout.trim().to_owned();
    for _ in 0..200 {
        // The reset may be here before connect(2) has returned.
        let asked = TcpStream::connect(&address).and_then(|mut client| {
            client.set_read_timeout(Some(LONG))?;
            client.read_exact(&mut [0])
        });
        let error = asked.expect_err("nobody serves that port");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    pod.does(&["rm", "-f"]);
}
