//! What one side of the port proxy still hears of the other when that has reset the connection.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

mod proxy_support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc;
use std::thread;

use proxy_support::{PATIENCE, Process, be_the_proxy, eventually, is_the_proxy, server};
use sandpod::sys::inet;

/// The other process of the tests here; by itself it has nothing to do.
#[test]
fn the_proxy_process() {
    if is_the_proxy() {
        be_the_proxy();
    }
}

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
    let (said, heard) = mpsc::channel();
    let proxy = tcp_to(server(move |mut stream| {
        stream.write_all(&vec![7; LONG_ANSWER]).expect("send");
        assert!(eventually(|| is_all_taken(&stream)), "the proxy does not take it");
        inet::reset_when_closed(stream.as_fd());
        drop(stream);
        said.send(()).expect("somebody waits");
    }));
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
