//! How the port proxy shares few descriptors between its clients.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use crate::proxy_support::{PATIENCE, Process, echo, server};

/// Connections for 240 descriptors: 64 are kept for everything else, one is the listener, 21 times two are for pipes; a
/// connection has two.
const MOST: usize = (240 - 64 - 1 - 42) / 2;

#[test]
fn without_descriptors_clients_wait_and_nothing_spins() {
    let proxy = Process::with_descriptors(&[format!("tcp 127.0.0.1:0 {}", server(echo))], "240");
    let ask = |client: &mut TcpStream| {
        client.write_all(b"x").expect("send");
        client.read_exact(&mut [0; 1])
    };
    // No address has more than its share.
    let mut served: Vec<TcpStream> =
        (0..MOST).map(|number| proxy.connect_from(loopback(number)).expect("the proxy accepts")).collect();
    for client in &mut served {
        ask(client).expect("there is room");
    }
    let before = proxy.ticks();
    let mut waiting = proxy.connect_from(loopback(MOST)).expect("the kernel accepts");
    waiting.set_read_timeout(Some(Duration::from_secs(1))).expect("SO_RCVTIMEO");
    let unanswered = ask(&mut waiting).expect_err("the limit is not there");
    assert!(matches!(unanswered.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{unanswered}");
    assert!(proxy.ticks() - before < 10, "it spins");
    drop(served.pop());
    waiting.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    waiting.read_exact(&mut [0; 1]).expect("it is served when another has gone");
    for client in &mut served {
        ask(client).expect("those that were there go on");
    }
}

/// The clients of the tests have addresses of their own, from 127.0.0.2 on.
fn loopback(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, u8::try_from(number + 2).expect("few clients"))
}

/// All connections that one client may have, and those that another still gets.
#[test]
fn a_client_with_many_idle_connections_leaves_room_for_others() {
    // Three quarters.
    const SHARE: usize = 50;
    let proxy = Process::with_descriptors(&[format!("tcp 127.0.0.1:0 {}", server(echo))], "240");
    let before = proxy.descriptors();
    let is_served =
        |client: &mut TcpStream| client.write_all(b"x").and_then(|()| client.read_exact(&mut [0; 1])).is_ok();
    let mut clients: Vec<TcpStream> = (0..MOST).filter_map(|_| proxy.connect_from(loopback(0)).ok()).collect();
    let served = clients.iter_mut().map(is_served).filter(|served| *served).count();
    assert_eq!(served, SHARE);
    assert!(is_served(&mut clients[0]), "the first go on");
    for number in 1..8 {
        assert!(is_served(&mut proxy.connect_from(loopback(number)).expect("the proxy accepts")), "client {number}");
    }
    // Once the first has let go, it gets new ones.
    drop(clients);
    proxy.expect_descriptors(before);
    assert!(is_served(&mut proxy.connect_from(loopback(0)).expect("the proxy accepts")));
}
