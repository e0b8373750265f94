//! UDP through the port proxy, on loopback sockets.

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::proxy_support::{PATIENCE, Process};

/// Answers each datagram with what `answer` makes of it and of its sender.
fn server(answer: impl Fn(&[u8], SocketAddr) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let target = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let address = target.local_addr().expect("bound");
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = target.recv_from(&mut buffer) {
            target.send_to(&answer(&buffer[..length], from), from).expect("send");
        }
    });
    address
}

#[test]
fn datagrams_find_their_way_back() {
    let address = server(|message, _| message.to_vec());
    let nobody = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("bind");
    let proxy = Process::start(&[format!("udp 0.0.0.0:0 {nobody} {address}")]);
    let before = proxy.descriptors();
    let port = proxy.addresses[0].port();
    let client = |asked: &str| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        // A connected socket takes answers from the address that it asked and from no other.
        socket.connect((asked, port)).expect("connect");
        socket.set_read_timeout(Some(Duration::from_millis(300))).expect("SO_RCVTIMEO");
        socket
    };
    let mut buffer = vec![0; 65_536];
    let mut ask = |socket: &UdpSocket, message: &[u8]| {
        // The first may be lost: the first of the targets is nobody's.
        let answered = (0..10).any(|_| {
            let _ = socket.send(message);
            socket.recv(&mut buffer).is_ok_and(|length| buffer[..length] == *message)
        });
        assert!(answered, "{} bytes were not answered", message.len());
    };
    let clients = [client("127.0.0.1"), client("127.0.0.2"), client("127.0.0.1")];
    for (number, socket) in clients.iter().enumerate() {
        ask(socket, format!("client {number}").as_bytes());
    }
    // The longest that UDP over IPv4 has.
    ask(&clients[0], &vec![5; 65_507]);
    ask(&clients[1], b"");
    proxy.expect_descriptors(before + 3);
}

/// A flow's own socket in the pod tells it from others.
#[test]
fn a_crowd_at_one_port_ends_no_flow_of_another() {
    let sender = server(|_, from| from.port().to_string().into_bytes());
    let port = format!("udp 127.0.0.1:0 {sender}");
    // 64 of 512 are kept for everything else, two are the ports; an eighth of what is left may be flows.
    const MOST: usize = (512 - 64 - 2) / 8;
    let proxy = Process::with_descriptors(&[port.clone(), port], "512");
    let (crowded, quiet) = (proxy.addresses[0], proxy.addresses[1]);
    let before = proxy.descriptors();
    let client = |port: SocketAddr| {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        socket.connect(port).expect("connect");
        socket.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        socket
    };
    let flow = |socket: &UdpSocket| {
        socket.send(b"who am I?").expect("send");
        let mut buffer = [0; 16];
        let length = socket.recv(&mut buffer).expect("an answer");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let few: Vec<UdpSocket> = (0..5).map(|_| client(quiet)).collect();
    let flows: Vec<String> = few.iter().map(flow).collect();
    let first = client(crowded);
    let its = flow(&first);
    // Later by the proxy's clock, which counts seconds.
    thread::sleep(Duration::from_millis(1100));
    for _ in 0..4 * MOST {
        flow(&client(crowded));
    }
    proxy.expect_descriptors(before + MOST);
    assert_eq!(few.iter().map(flow).collect::<Vec<_>>(), flows, "theirs are the oldest of all, and stay");
    assert_ne!(flow(&first), its, "the oldest of the crowd made room");

    // The other way round: who has few takes from who has many, up to as many.
    let late: Vec<UdpSocket> = (0..MOST / 2 - few.len()).map(|_| client(quiet)).collect();
    let theirs: Vec<String> = late.iter().map(flow).collect();
    for _ in 0..MOST {
        flow(&client(crowded));
    }
    assert_eq!(few.iter().chain(&late).map(flow).collect::<Vec<_>>(), [flows, theirs].concat());
    proxy.expect_descriptors(before + MOST);
}
