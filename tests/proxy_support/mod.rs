//! The port proxy as a process of its own, so that its descriptors and memory can be counted: this test program, started
//! again with the words for one of its tests.

#![allow(dead_code, reason = "each test executable uses its part")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sandpod::proxy::{ClientAddress, Proxy, TcpPort, UdpPort};
use sandpod::sys::{inet, stdio};

/// One line for each port: its kind, where to listen, and the targets.
const PORTS: &str = "PROXY_TEST_PORTS";
/// Long enough for a loaded machine, short enough for a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy at work. Its process ends with this.
pub struct Process {
    child: Child,
    /// Its stdout, which it may still write to.
    said: BufReader<ChildStdout>,
    pub addresses: Vec<SocketAddr>,
}

impl Process {
    /// `ports`: `tcp 127.0.0.1:0 TARGET...`, `header …` (TCP with a PROXY header), `udp …`.
    pub fn start(ports: &[String]) -> Process {
        Process::with_descriptors(ports, "$(ulimit -H -n)")
    }

    pub fn with_descriptors(ports: &[String], limit: &str) -> Process {
        let script = format!("ulimit -n {limit}; exec \"$@\"");
        let mut child = Command::new("sh")
            .args(["-c", &script, "sh"])
            .arg(std::env::current_exe().expect("our own path"))
            .args(["--exact", "the_proxy_process", "--nocapture", "--test-threads=1"])
            .env(PORTS, ports.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let mut said = BufReader::new(child.stdout.take().expect("piped"));
        let addresses: Vec<SocketAddr> = said
            .by_ref()
            .lines()
            .map(|line| line.expect("UTF-8"))
            .filter_map(|line| line.strip_prefix("listening ").map(|address| address.parse().expect("an address")))
            .take(ports.len())
            .collect();
        assert_eq!(addresses.len(), ports.len(), "the proxy did not come up");
        Process { child, said, addresses }
    }

    pub fn connect(&self) -> TcpStream {
        self.try_connect().expect("the proxy accepts")
    }

    /// Where nobody serves: the reset may be here before connect(2) has returned.
    pub fn try_connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.addresses[0])?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// As a client with another address of the loopback interface.
    pub fn connect_from(&self, ip: Ipv4Addr) -> io::Result<TcpStream> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("socket");
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((ip, 0)))).expect("bind");
        connect(fd.as_raw_fd(), &SockaddrStorage::from(self.addresses[0]))?;
        let stream = TcpStream::from(fd);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it lives").count()
    }

    /// Its own memory, in kB: what no other process shares.
    pub fn memory(&self) -> usize {
        let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id())).expect("it lives");
        let line = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).expect("proc(5)");
        line.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Cpu time that it has used, in clock ticks (10 ms).
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it lives");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("proc(5)").1.split_ascii_whitespace().collect();
        fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
    }

    /// Waits until it has as many descriptors as `expected`.
    pub fn expect_descriptors(&self, expected: usize) {
        let reached = eventually(|| self.descriptors() == expected);
        assert!(reached, "{} descriptors instead of {expected}", self.descriptors());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.said.read_to_string(&mut String::new());
        self.child.wait().expect("it ends with its stdin");
    }
}

/// Whether [`Process::start`] has started this process.
pub fn is_the_proxy() -> bool {
    std::env::var_os(PORTS).is_some()
}

/// The other process's side: binds, says where, works until stdin ends.
pub fn be_the_proxy() {
    // As a pod's proxy begins: Rust's runtime ignores SIGPIPE, which hides who would die of it.
    stdio::reset_signals().expect("rt_sigaction");
    let ports = std::env::var(PORTS).expect("started by `Process::start`");
    let (mut tcp, mut udp, mut said) = (Vec::new(), Vec::new(), String::from("\n"));
    for line in ports.lines() {
        let mut words = line.split(' ');
        let kind = words.next().expect("a kind");
        let address: SocketAddr = words.next().expect("where").parse().expect("an address");
        let targets = words.map(|word| word.parse().expect("a target")).collect();
        let socket = if kind == "udp" { inet::bind_udp(address) } else { inet::listen_tcp(address) }.expect("free");
        let bound = inet::local_address(socket.as_fd()).expect("bound");
        said.push_str(&format!("listening {bound}\n"));
        match kind {
            "udp" => udp.push(UdpPort { socket, targets }),
            "header" => tcp.push(TcpPort { listener: socket, targets, client_address: ClientAddress::ProxyHeader }),
            _ => tcp.push(TcpPort { listener: socket, targets, client_address: ClientAddress::Hidden }),
        }
    }
    let mut proxy = Proxy::new(tcp, udp).expect("a proxy");
    // Now it has all the descriptors that it has without clients.
    std::io::stdout().write_all(said.as_bytes()).expect("stdout");
    let stopped = proxy.run(&[std::io::stdin().as_fd()]).expect("it works to its end");
    assert_eq!(stopped, 0);
}

/// A server in the pod's place: does `serve` with each connection, in a thread each.
pub fn server(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = serve.clone();
            thread::spawn(move || serve(stream.expect("accept")));
        }
    });
    address
}

/// Sends everything back, then its own end.
pub fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    // Whoever resets the connection has had enough.
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

pub fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}

/// Bytes that repeat nowhere near, and a sum of what came of them.
pub struct Stream(u64);

impl Stream {
    pub fn new(seed: u64) -> Stream {
        Stream(seed | 1)
    }

    pub fn fill(&mut self, buffer: &mut [u8]) {
        for word in buffer.chunks_exact_mut(8) {
            // xorshift64 (Marsaglia 2003).
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            word.copy_from_slice(&self.0.to_ne_bytes());
        }
    }
}

/// Sends `length` bytes of a stream, then the end.
pub fn send_all(mut to: &TcpStream, seed: u64, length: usize) {
    let mut stream = Stream::new(seed);
    let mut buffer = vec![0; 1 << 18];
    for _ in 0..length / buffer.len() {
        stream.fill(&mut buffer);
        to.write_all(&buffer).expect("send");
    }
    to.shutdown(std::net::Shutdown::Write).expect("shutdown");
}

/// Reads to the end and compares every byte; gives how many there were.
pub fn receive_all(mut from: &TcpStream, seed: u64) -> usize {
    let mut stream = Stream::new(seed);
    let (mut buffer, mut expected) = (vec![0; 1 << 18], vec![0; 1 << 18]);
    let mut total = 0;
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match from.read(&mut buffer[filled..]).expect("receive") {
                0 => break,
                count => filled += count,
            }
        }
        stream.fill(&mut expected);
        assert!(buffer[..filled] == expected[..filled], "bytes differ after {total}");
        total += filled;
        if filled < buffer.len() {
            return total;
        }
    }
}
