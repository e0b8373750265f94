//! The port proxy's loop on loopback sockets: everything that it promises, without a pod.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::proxy_support::{PATIENCE, Process, echo, eventually, receive_all, send_all, server};
use nix::sys::socket::MsgFlags;
use sandpod::sys::{inet, process};

fn tcp_to(targets: &[SocketAddr]) -> Process {
    let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
    Process::start(&[format!("tcp 127.0.0.1:0 {}", targets.join(" "))])
}

/// An address where nobody listens.
fn nobody(ip: &str) -> SocketAddr {
    TcpListener::bind((ip, 0)).and_then(|listener| listener.local_addr()).expect("bind")
}

#[test]
fn messages_of_64_kib_come_back() {
    let proxy = tcp_to(&[server(echo)]);
    let mut client = proxy.connect();
    let message: Vec<u8> = (0..65_536_u32).map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1]).collect();
    let mut answer = vec![0; message.len()];
    for _ in 0..100 {
        client.write_all(&message).expect("send");
        client.read_exact(&mut answer).expect("receive");
        assert!(answer == message);
    }
}

#[test]
fn two_hundred_megabytes_each_way_at_the_same_time() {
    const LENGTH: usize = 200 << 20;
    let (said, heard) = mpsc::channel();
    let target = server(move |stream| {
        let said = said.clone();
        thread::scope(|scope| {
            scope.spawn(|| send_all(&stream, 1, LENGTH));
            said.send(receive_all(&stream, 2)).expect("somebody waits");
        });
    });
    let proxy = tcp_to(&[target]);
    let before = proxy.descriptors();
    let client = proxy.connect();
    thread::scope(|scope| {
        scope.spawn(|| send_all(&client, 2, LENGTH));
        assert_eq!(receive_all(&client, 1), LENGTH);
    });
    assert_eq!(heard.recv_timeout(PATIENCE).expect("the server heard everything"), LENGTH);
    drop(client);
    // With pipes that are kept for a moment, and then not.
    proxy.expect_descriptors(before);
}

#[test]
fn two_thousand_idle_connections_hold_two_sockets_each_and_nothing_is_left_of_them() {
    const COUNT: usize = 2000;
    let limit = process::raise_descriptor_limit().expect("RLIMIT_NOFILE");
    assert!(limit >= 5000, "this test needs 5,000 descriptors (ulimit -n is {limit})");
    let (accepted, connections) = mpsc::channel();
    // Not a thread each: they are only held.
    let listener = inet::listen_tcp("127.0.0.1:0".parse().expect("an address")).map(TcpListener::from).expect("listen");
    listener.set_nonblocking(false).expect("O_NONBLOCK");
    let target = listener.local_addr().expect("bound");
    thread::spawn(move || listener.incoming().for_each(|stream| accepted.send(stream.expect("accept")).expect("kept")));
    let proxy = tcp_to(&[target]);
    let round = || {
        let mut held = Vec::new();
        for _ in 0..COUNT {
            let mut client = proxy.connect();
            client.write_all(b"hello").expect("send");
            let mut served = connections.recv_timeout(PATIENCE).expect("it arrives");
            served.read_exact(&mut [0; 5]).expect("hello");
            held.push((client, served));
        }
        held
    };
    let empty = proxy.descriptors();
    // Twice: the heap finds its shape.
    for _ in 0..2 {
        drop(round());
        proxy.expect_descriptors(empty);
    }
    thread::sleep(Duration::from_millis(1500));
    let before = proxy.memory();
    let mut held = round();
    // Pipes that were in use a moment ago are kept for a second.
    proxy.expect_descriptors(empty + 2 * COUNT);
    for (client, served) in &mut held {
        served.write_all(b"still there").expect("send");
        client.read_exact(&mut [0; 11]).expect("receive");
    }
    drop(held);
    proxy.expect_descriptors(empty);
    let settled = eventually(|| proxy.memory() <= before + 32);
    assert!(settled, "{} kB before 2,000 connections, {} kB after", before, proxy.memory());
}

#[test]
fn either_side_may_say_that_it_is_done_and_still_listen() {
    let proxy = tcp_to(&[server(|mut stream| {
        let mut question = String::new();
        stream.read_to_string(&mut question).expect("to the client's end");
        thread::sleep(Duration::from_millis(100));
        stream.write_all(format!("you said {question}").as_bytes()).expect("answer");
    })]);
    let mut client = proxy.connect();
    client.write_all(b"all of it").expect("send");
    client.shutdown(Shutdown::Write).expect("shutdown");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("the answer");
    assert_eq!(answer, "you said all of it");

    let (said, heard) = mpsc::channel();
    let proxy = tcp_to(&[server(move |mut stream| {
        stream.write_all(b"welcome").expect("send");
        stream.shutdown(Shutdown::Write).expect("shutdown");
        let mut rest = String::new();
        stream.read_to_string(&mut rest).expect("to the client's end");
        said.send(rest).expect("somebody waits");
    })]);
    let mut client = proxy.connect();
    let mut welcome = String::new();
    client.read_to_string(&mut welcome).expect("the end of it");
    thread::sleep(Duration::from_millis(100));
    client.write_all(b"thank you").expect("send");
    drop(client);
    assert_eq!((welcome.as_str(), heard.recv_timeout(PATIENCE).expect("heard").as_str()), ("welcome", "thank you"));
}

#[test]
fn a_client_that_goes_in_the_middle_resets_its_server() {
    let (said, heard) = mpsc::channel();
    let proxy = tcp_to(&[server(move |mut stream| {
        let chunk = vec![7; 1 << 16];
        let error = std::iter::repeat_with(|| stream.write_all(&chunk)).find_map(Result::err).expect("an end");
        said.send(error.kind()).expect("somebody waits");
    })]);
    let before = proxy.descriptors();
    for number in 0..40 {
        let mut client = proxy.connect();
        client.read_exact(&mut vec![0; 1 << 20]).expect("some of it");
        if number % 2 == 0 {
            // As the kernel does for a process that is killed with data unread.
            inet::reset_when_closed(client.as_fd());
        } else {
            // After an end in order a reset is EPIPE for whoever still writes, and SIGPIPE if he lets it.
            client.shutdown(Shutdown::Write).expect("shutdown");
        }
        drop(client);
        let kind = heard.recv_timeout(PATIENCE).expect("the server learns of it");
        assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{kind:?}");
    }
    proxy.expect_descriptors(before);
}

#[test]
fn a_server_that_resets_is_heard_after_what_it_said() {
    let proxy = tcp_to(&[server(|mut stream| {
        stream.write_all(b"413 too large").expect("send");
        thread::sleep(Duration::from_millis(200));
        inet::reset_when_closed(stream.as_fd());
    })]);
    let mut client = proxy.connect();
    client.write_all(&vec![1; 1 << 16]).expect("send");
    let mut answer = [0; 13];
    client.read_exact(&mut answer).expect("what it said");
    assert_eq!(&answer, b"413 too large");
    let end = client.read(&mut answer).expect_err("not an end in order");
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn slow_readers_cost_a_pipe_each_and_hold_nobody_up() {
    let proxy = tcp_to(&[server(|mut stream| {
        let chunk = vec![7; 1 << 16];
        while stream.write_all(&chunk).is_ok() {}
    })]);
    let before = (proxy.descriptors(), proxy.memory());
    let slow: Vec<TcpStream> = (0..100).map(|_| proxy.connect()).collect();
    let expected = before.0 + 100 * 4;
    assert!(eventually(|| proxy.descriptors() == expected), "{} instead of {expected}", proxy.descriptors());
    let stuck = proxy.ticks();
    let mut quick = proxy.connect();
    quick.read_exact(&mut vec![0; 32 << 20]).expect("32 MiB while the others read nothing");
    drop(quick);
    assert!(proxy.memory() < before.1 + 512, "{} kB more", proxy.memory() - before.1);
    thread::sleep(Duration::from_secs(1));
    let used = proxy.ticks() - stuck;
    assert!(used < 60, "{used} ticks with nothing to do but one client's 32 MiB");
    drop(slow);
    proxy.expect_descriptors(before.0);
}

#[test]
fn a_refusal_is_the_clients_at_once_and_the_next_target_is_tried_first() {
    let proxy = tcp_to(&[nobody("127.0.0.1"), nobody("127.0.0.1")]);
    let before = proxy.descriptors();
    let mut times = Vec::new();
    for _ in 0..500 {
        let start = Instant::now();
        let end = proxy.try_connect().and_then(|mut client| client.read(&mut [0; 1])).expect_err("reset");
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
        times.push(start.elapsed());
    }
    // Not after the deadline for a server that does not answer, which is 10 s. Of most of them: a machine may have a
    // moment without time for us.
    times.sort();
    assert!(times[250] < Duration::from_secs(1), "{times:?}");
    proxy.expect_descriptors(before);

    let proxy = tcp_to(&[nobody("127.0.0.1"), server(echo)]);
    let mut client = proxy.connect();
    client.write_all(b"anybody?").expect("send");
    client.read_exact(&mut [0; 8]).expect("the second answers");
}

/// Ten thousand requests, a connection each, while the server goes away and comes back: each is answered, or fails at once
/// and is answered when it is asked again.
#[test]
fn no_request_of_ten_thousand_is_lost_while_the_server_restarts() {
    const REQUESTS: usize = 10_000;
    // Ten thousand connections take ports of 127.0.0.1 for themselves, and one of them could have this one just when the
    // server comes back: so it has an address that no client has.
    let address = nobody("127.0.0.2");
    let over = Arc::new(AtomicBool::new(false));
    let restarts = Arc::new(AtomicUsize::new(0));
    let serving = {
        let (over, restarts) = (over.clone(), restarts.clone());
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let listener = inet::listen_tcp(address).map(TcpListener::from).expect("listen");
                let until = Instant::now() + Duration::from_millis(300);
                while Instant::now() < until {
                    match listener.accept() {
                        Ok((mut stream, _)) => {
                            stream.set_nonblocking(false).expect("O_NONBLOCK");
                            if stream.read_exact(&mut [0; 4]).is_ok() {
                                let _ = stream.write_all(b"pong");
                            }
                        }
                        Err(_) => thread::sleep(Duration::from_micros(100)),
                    }
                }
                drop(listener);
                restarts.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(20));
            }
        })
    };
    let proxy = tcp_to(&[address]);
    let before = proxy.descriptors();
    let ask = || -> std::io::Result<()> {
        let mut client = proxy.try_connect()?;
        client.write_all(b"ping")?;
        client.read_exact(&mut [0; 4])
    };
    let mut refused = 0;
    for _ in 0..REQUESTS {
        let asked = Instant::now();
        while let Err(error) = ask() {
            assert!(!matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "it hangs: {error}");
            assert!(asked.elapsed() < PATIENCE, "not answered: {error}");
            refused += 1;
            thread::sleep(Duration::from_millis(1));
        }
    }
    over.store(true, Ordering::Relaxed);
    serving.join().expect("the server");
    assert!(restarts.load(Ordering::Relaxed) > 1 && refused > 0, "the server was always there");
    proxy.expect_descriptors(before);
}

#[test]
fn the_server_is_told_who_its_client_is() {
    let target = server(|mut stream| {
        let mut said = [0; 33];
        stream.read_exact(&mut said).expect("header and hello");
        stream.write_all(&said).expect("send");
    });
    let proxy = Process::start(&[format!("header 127.0.0.1:0 {target}")]);
    let mut client = proxy.connect();
    client.write_all(b"hello").expect("send");
    let mut said = [0; 33];
    client.read_exact(&mut said).expect("receive");
    assert_eq!(&said[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c");
    assert_eq!(said[16..24], [127, 0, 0, 1, 127, 0, 0, 1]);
    let own = client.local_addr().expect("bound").port().to_be_bytes();
    assert_eq!((said[24..26].to_vec(), &said[28..]), (own.to_vec(), &b"hello"[..]));
    assert_eq!(said[26..28], proxy.addresses[0].port().to_be_bytes());
}

/// What a client or server says: pieces, whose last byte is urgent or not (MSG_OOB, tcp(7)), then the end.
type Speech = [(Vec<u8>, MsgFlags)];

fn speak(to: &TcpStream, speech: &Speech, pause: Duration) {
    for (piece, flags) in speech {
        let mut left = &piece[..];
        while !left.is_empty() {
            let sent = nix::sys::socket::send(to.as_raw_fd(), left, *flags | MsgFlags::MSG_NOSIGNAL).expect("send");
            left = &left[sent..];
        }
        thread::sleep(pause);
    }
    to.shutdown(Shutdown::Write).expect("shutdown");
}

/// splice(2) stops at it, and a receiver that is not told to take it in its place would lose it. Telnet and ftp send some.
#[test]
fn urgent_bytes_pass_in_their_place() {
    let plain = |bytes: &[u8]| (bytes.to_vec(), MsgFlags::empty());
    let urgent = |bytes: &[u8]| (bytes.to_vec(), MsgFlags::MSG_OOB);
    let long: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    let speeches: Arc<Vec<Vec<_>>> = Arc::new(vec![
        vec![plain(b"before"), urgent(b"!"), plain(b"after")],
        vec![urgent(b"!"), plain(b"after")],
        vec![plain(b"before"), urgent(b"!")],
        vec![urgent(b"!")],
        vec![urgent(b"1"), urgent(b"2"), plain(b"3"), urgent(b"4")],
        vec![plain(&long), urgent(&long), plain(&long), urgent(b"!"), plain(&long[..5000]), urgent(&long)],
    ]);
    for pause in [Duration::ZERO, Duration::from_millis(20)] {
        for number in 0..speeches.len() {
            let expected: Vec<u8> = speeches[number].iter().flat_map(|(piece, _)| piece.clone()).collect();
            let (said, heard) = mpsc::channel();
            let theirs = Arc::clone(&speeches);
            let proxy = tcp_to(&[server(move |stream| {
                thread::scope(|scope| {
                    scope.spawn(|| speak(&stream, &theirs[number], pause));
                    let mut all = Vec::new();
                    (&stream).read_to_end(&mut all).expect("to the client's end");
                    said.send(all).expect("somebody waits");
                });
            })]);
            let client = proxy.connect();
            let mut answer = Vec::new();
            thread::scope(|scope| {
                scope.spawn(|| speak(&client, &speeches[number], pause));
                (&client).read_to_end(&mut answer).expect("to the server's end");
            });
            let question = heard.recv_timeout(PATIENCE).expect("heard");
            let of = format!("speech {number} with pauses of {pause:?}");
            assert!(question == expected, "{of}, to the server: {} of {} bytes", question.len(), expected.len());
            assert!(answer == expected, "{of}, to the client: {} of {} bytes", answer.len(), expected.len());
        }
    }
}
