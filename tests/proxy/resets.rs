//! What one side of the port proxy still hears of the other when that has reset the connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;

use crate::proxy_support::{PATIENCE, Process, echo, eventually, server};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBuf;
use sandpod::sys::inet;

fn tcp_to(target: SocketAddr) -> Process {
    Process::start(&[format!("tcp 127.0.0.1:0 {target}")])
}

/// Reads to a reset, which must come; how much there was before it.
fn until_reset(mut client: &TcpStream) -> usize {
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        match client.read(&mut buffer) {
            Ok(0) => panic!("an end in order after {total} bytes"),
            Ok(count) => total += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                return total;
            }
        }
    }
}

/// Whether the other side's kernel has everything: /proc/net/tcp, proc(5).
fn is_all_taken(stream: &TcpStream) -> bool {
    let [own, peer] = [stream.local_addr(), stream.peer_addr()].map(|address| address.expect("connected").port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("proc(5)");
    let ends = format!(":{own:04X} 0100007F:{peer:04X} 01 ");
    let line = table.lines().find_map(|line| line.split_once(&ends)).expect("an open connection");
    line.1.starts_with("00000000:")
}

/// More than a client that does not read has room for, and less than the proxy has.
const LONG_ANSWER: usize = 400 << 10;

#[test]
fn a_slow_client_gets_all_that_was_taken_from_a_server_that_resets() {
    // So few descriptors that none are for pipes.
    for limit in ["$(ulimit -H -n)", "70"] {
        slow_clients_of_a_server_that_resets(limit);
    }
}

fn slow_clients_of_a_server_that_resets(limit: &str) {
    let (said, heard) = mpsc::channel();
    let target = server(move |mut stream| {
        stream.write_all(&vec![7; LONG_ANSWER]).expect("send");
        assert!(eventually(|| is_all_taken(&stream)), "the proxy does not take it");
        inet::reset_when_closed(stream.as_fd());
        drop(stream);
        said.send(()).expect("somebody waits");
    });
    let proxy = Process::with_descriptors(&[format!("tcp 127.0.0.1:0 {target}")], limit);
    let before = proxy.descriptors();
    for _ in 0..5 {
        let client = proxy.connect();
        heard.recv_timeout(PATIENCE).expect("it resets");
        assert_eq!(until_reset(&client), LONG_ANSWER);
    }
    // One that never reads holds nothing when it has gone.
    let client = proxy.connect();
    heard.recv_timeout(PATIENCE).expect("it resets");
    drop(client);
    proxy.expect_descriptors(before);
}

/// As "413 Content Too Large" comes: the rest of the question is never read, which makes the kernel reset.
#[test]
fn an_answer_before_the_question_is_over_is_heard() {
    let proxy = tcp_to(server(|mut stream| {
        stream.read_exact(&mut [0; 1]).expect("the question begins");
        stream.write_all(b"413 too large").expect("send");
    }));
    let before = proxy.descriptors();
    for _ in 0..300 {
        let client = proxy.connect();
        thread::scope(|scope| {
            scope.spawn(|| {
                let chunk = vec![1; 1 << 14];
                while (&client).write_all(&chunk).is_ok() {}
            });
            let mut answer = [0; 13];
            (&client).read_exact(&mut answer).expect("the answer");
            assert_eq!(&answer, b"413 too large");
        });
    }
    proxy.expect_descriptors(before);
}

/// A client that asks for an endless stream and does not read it. With so small a buffer most of it is on its way.
fn stopped_reader(proxy: &Process, port: usize) -> TcpStream {
    let client = TcpStream::connect(proxy.addresses[port]).expect("the proxy accepts");
    setsockopt(&client, RcvBuf, &4096).expect("SO_RCVBUF");
    client
}

/// 150 clients of 700 descriptors: more than there are pipes for, and less than the share of one address.
const CROWD: usize = 150;

#[test]
fn a_crowd_that_stops_reading_and_goes_leaves_nothing_and_harms_nobody() {
    let endless = server(|mut stream| {
        let chunk = vec![7; 1 << 16];
        while stream.write_all(&chunk).is_ok() {}
    });
    let ports = [endless, server(echo)].map(|target| format!("tcp 127.0.0.1:0 {target}"));
    let proxy = Process::with_descriptors(&ports, "700");
    let before = proxy.descriptors();
    let ask = |when: &str| {
        let client = TcpStream::connect(proxy.addresses[1]).expect("the proxy accepts");
        client.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        // More than a pipe holds, there and back.
        let sent = vec![9; 1 << 20];
        let mut received = vec![0; sent.len()];
        thread::scope(|scope| {
            scope.spawn(|| (&client).write_all(&sent));
            (&client).read_exact(&mut received).unwrap_or_else(|error| panic!("{when}: {error}"));
        });
        client.shutdown(std::net::Shutdown::Both).expect("shutdown");
        assert_eq!(received, sent, "{when}");
    };
    ask("before");
    let crowd: Vec<TcpStream> = (0..CROWD).map(|_| stopped_reader(&proxy, 0)).collect();
    // All of them are stuck: nothing more happens.
    assert!(eventually(|| {
        let ticks = proxy.ticks();
        thread::sleep(std::time::Duration::from_millis(300));
        proxy.descriptors() > before + 2 * CROWD + 80 && proxy.ticks() <= ticks + 1
    }));
    for _ in 0..3 {
        ask("while the others are there");
    }
    drop(crowd);
    ask("when they have gone");
    proxy.expect_descriptors(before);
}
