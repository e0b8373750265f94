//! TCP and UDP sockets as a proxy needs them (ip(7), ipv6(7), tcp(7), udp(7)). All are non-blocking and close-on-exec.

use std::ffi::OsString;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockFlag, SockType, SockaddrLike,
    SockaddrStorage, bind, connect, getpeername, getsockname, getsockopt, listen, recv, recvmsg, send, sendmsg,
    setsockopt, shutdown, socket, sockopt,
};

pub use super::accept::{Waiting, accept};
use super::error::Named;
use super::{Result, poll};

/// Waiting connections of a listener; the kernel takes the lesser of this and `net.core.somaxconn`, whose default it is.
const BACKLOG: i32 = 4096;
/// After so many seconds of silence the kernel asks whether the other side of an accepted connection is still there.
const KEEPALIVE_SECONDS: u32 = 60;

/// Bytes; the kernel doubles them for its own needs (socket(7)). `net.core.rmem_max`, the most that an ordinary user gets, is
/// this by default. Measured (`scripts/bench network`): 64 KiB and what the kernel chooses are both about a fifth slower,
/// unless the client is paced.
const LOCAL_BUFFER: usize = 212_992;
/// Bytes that a sending socket holds beyond what is on its way. Left to itself its buffer grows up to `net.ipv4.tcp_wmem`, by what
/// the path could take, and stays full when the other side no longer reads: 3.8 MiB for each such connection were measured,
/// 0.2 with this, at the same throughput.
const UNSENT: libc::c_int = 128 << 10;

/// A TCP listener. IPv6 ones take no IPv4 connections, so that `0.0.0.0` and `::` can be bound beside each other. What is
/// accepted inherits TCP_NODELAY and keepalive.
pub fn listen_tcp(address: SocketAddr) -> Result<OwnedFd> {
    let call = || format!("bind({address}/tcp)");
    let fd = new_socket(address, SockType::Stream).named(call)?;
    // Past connections in TIME_WAIT do not keep the port; living listeners do (socket(7)).
    setsockopt(&fd, sockopt::ReuseAddr, &true).named(call)?;
    setsockopt(&fd, sockopt::TcpNoDelay, &true).named(call)?;
    setsockopt(&fd, sockopt::OobInline, &true).named(call)?;
    limit_unsent(fd.as_fd(), UNSENT);
    setsockopt(&fd, sockopt::KeepAlive, &true).named(call)?;
    setsockopt(&fd, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS).named(call)?;
    only_ipv6(&fd, address).named(call)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).named(call)?;
    let call = || format!("listen({address}/tcp)");
    listen(&fd, Backlog::new(BACKLOG).named(call)?).named(call)?;
    Ok(fd)
}

/// A UDP socket that tells of each datagram to which of our addresses it came. Without SO_REUSEADDR, which would let a
/// second socket take the port over.
pub fn bind_udp(address: SocketAddr) -> Result<OwnedFd> {
    let call = || format!("bind({address}/udp)");
    let fd = new_socket(address, SockType::Datagram).named(call)?;
    match address {
        SocketAddr::V4(_) => setsockopt(&fd, sockopt::Ipv4PacketInfo, &true).named(call)?,
        SocketAddr::V6(_) => setsockopt(&fd, sockopt::Ipv6RecvPacketInfo, &true).named(call)?,
    }
    only_ipv6(&fd, address).named(call)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).named(call)?;
    Ok(fd)
}

/// Lets a connection whose other end is on this host go as fast as it can; see [`use_local_buffer`]. Where the system's
/// congestion control is `bbr` it would be paced by a model of the path (tcp(7)), whose timers are most of what loopback
/// costs; nothing is lost there that the simplest algorithm could mind. Where the other end is elsewhere the
/// administrator's choices stay.
pub fn hurry_if_local(fd: BorrowedFd<'_>) {
    let (Ok(peer), Ok(own)) = (peer_address(fd), local_address(fd)) else { return };
    if peer.ip() == own.ip() || peer.ip().is_loopback() {
        // Any user may have it in any namespace (tcp_allowed_congestion_control). Without it: slower.
        let _ = setsockopt(&fd, sockopt::TcpCongestion, &OsString::from("reno"));
        use_local_buffer(fd);
    }
}

/// Between two processes of one host a large receive buffer only fills the caches with bytes that wait; left to itself it
/// grows up to `net.ipv4.tcp_rmem` (often 6 or 32 MiB), and it is memory that no limit of a pod counts.
fn use_local_buffer(fd: BorrowedFd<'_>) {
    let _ = setsockopt(&fd, sockopt::RcvBuf, &LOCAL_BUFFER);
}

/// Another descriptor of the same socket.
pub fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().named(|| "fcntl(F_DUPFD_CLOEXEC)".to_owned())
}

/// How far a connection has got.
#[derive(Debug)]
pub enum Connecting {
    Connected(OwnedFd),
    /// It can be written once it is decided; [`take_error`] says how.
    Waiting(OwnedFd),
}

/// Begins a TCP connection to somebody on this host.
pub fn connect_tcp(to: SocketAddr) -> Result<Connecting> {
    let call = || format!("connect({to}/tcp)");
    let fd = new_socket(to, SockType::Stream).named(call)?;
    setsockopt(&fd, sockopt::TcpNoDelay, &true).named(call)?;
    setsockopt(&fd, sockopt::OobInline, &true).named(call)?;
    limit_unsent(fd.as_fd(), UNSENT);
    use_local_buffer(fd.as_fd());
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => Ok(Connecting::Connected(fd)),
        Err(Errno::EINPROGRESS) => Ok(Connecting::Waiting(fd)),
        Err(errno) => Err(errno).named(call),
    }
}

/// A UDP socket that talks to one address only.
pub fn connect_udp(to: SocketAddr) -> Result<OwnedFd> {
    let call = || format!("connect({to}/udp)");
    let fd = new_socket(to, SockType::Datagram).named(call)?;
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).named(call)?;
    Ok(fd)
}

/// The error that waits at a socket (SO_ERROR), which is gone after this; `None` when there is none.
pub fn take_error(fd: BorrowedFd<'_>) -> Option<Errno> {
    match getsockopt(&fd, sockopt::SocketError) {
        Ok(0) => None,
        Ok(errno) => Some(Errno::from_raw(errno)),
        Err(errno) => Some(errno),
    }
}

/// Tells the other side that nothing more comes (FIN), and goes on reading.
pub fn shut_down_writing(fd: BorrowedFd<'_>) -> Result<()> {
    shutdown(fd.as_raw_fd(), Shutdown::Write).named(|| "shutdown(SHUT_WR)".to_owned())
}

/// Makes close(2) reset the connection (RST) instead of ending it in order (SO_LINGER of 0, socket(7)).
pub fn reset_when_closed(fd: BorrowedFd<'_>) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // A socket that cannot be told so is closed in order, which its peer sees, too.
    let _ = setsockopt(&fd, sockopt::Linger, &linger);
}

/// From now on the kernel ends the connection, and tells so as an error, when the other side has taken nothing for as long as
/// this: neither acknowledged what is on its way, nor made room for more (TCP_USER_TIMEOUT, tcp(7)). By itself it waits for ever
/// for room with somebody who lives.
pub fn end_when_stuck(fd: BorrowedFd<'_>, patience: Duration) {
    let milliseconds = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
    // A socket that cannot be told so has gone.
    let _ = setsockopt(&fd, sockopt::TcpUserTimeout, &milliseconds);
}

/// True when all that the socket was given is on its way; a reset takes back what is not. Otherwise it is told as writable when
/// it is, and not before.
pub fn is_all_sent(fd: BorrowedFd<'_>) -> bool {
    // Writable is who holds less than this (tcp(7)).
    limit_unsent(fd, 1);
    // An error: nothing is sent any more.
    poll::writable(fd, Duration::ZERO).unwrap_or(true)
}

/// The address that the socket is bound to.
pub fn local_address(fd: BorrowedFd<'_>) -> Result<SocketAddr> {
    let call = || "getsockname()".to_owned();
    let address: SockaddrStorage = getsockname(fd.as_raw_fd()).named(call)?;
    standard(&address).ok_or(Errno::EAFNOSUPPORT).named(call)
}

/// The address of the other side.
pub fn peer_address(fd: BorrowedFd<'_>) -> Result<SocketAddr> {
    let call = || "getpeername()".to_owned();
    let address: SockaddrStorage = getpeername(fd.as_raw_fd()).named(call)?;
    standard(&address).ok_or(Errno::EAFNOSUPPORT).named(call)
}

/// Sends what fits into the socket's buffer now; `None` when nothing does.
pub fn send_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<Option<usize>> {
    match send(fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno).named(|| format!("send({} bytes)", bytes.len())),
    }
}

/// The next datagram of a connected socket: its length; `None` when there is none.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<usize>> {
    match recv(fd.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT) {
        Ok(count) => Ok(Some(count)),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno).named(|| "recv()".to_owned()),
    }
}

/// One of our own addresses, as a datagram came to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalAddress {
    pub ip: IpAddr,
    /// Index of the interface; 0 where the address alone says enough.
    interface: u32,
}

/// A datagram of a socket of [`bind_udp`].
#[derive(Debug, Clone, Copy)]
pub struct Datagram {
    pub length: usize,
    pub from: SocketAddr,
    pub to: LocalAddress,
}

/// The next datagram and its addresses; `None` when there is none.
pub fn receive_from(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<Datagram>> {
    let call = || "recvmsg()".to_owned();
    let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let received = match recvmsg::<SockaddrStorage>(fd.as_raw_fd(), &mut parts, Some(&mut control), flags) {
        Ok(received) => received,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        Err(errno) => return Err(errno).named(call),
    };
    let from = received.address.as_ref().and_then(standard).ok_or(Errno::EAFNOSUPPORT).named(call)?;
    let mut to = None;
    for message in received.cmsgs().named(call)? {
        to = to.or(match message {
            // ipi_spec_dst, not ipi_addr: of a datagram to a broadcast address it is the one to answer from (ip(7)).
            ControlMessageOwned::Ipv4PacketInfo(found) => {
                Some(LocalAddress { ip: Ipv4Addr::from(found.ipi_spec_dst.s_addr.to_ne_bytes()).into(), interface: 0 })
            }
            ControlMessageOwned::Ipv6PacketInfo(found) => {
                let ip = Ipv6Addr::from(found.ipi6_addr.s6_addr);
                // Elsewhere the route decides; a link-local address means nothing without its interface.
                let interface = if ip.is_unicast_link_local() { found.ipi6_ifindex } else { 0 };
                Some(LocalAddress { ip: ip.into(), interface })
            }
            _ => None,
        });
    }
    let to = to.ok_or(Errno::EPROTO).named(call)?;
    Ok(Some(Datagram { length: received.bytes, from, to }))
}

/// Sends a datagram from one of our addresses. False: it could not be sent now, and is lost as datagrams may be.
pub fn send_from(fd: BorrowedFd<'_>, bytes: &[u8], from: LocalAddress, to: SocketAddr) -> Result<bool> {
    let parts = [IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let address = SockaddrStorage::from(to);
    let sent = match from.ip {
        IpAddr::V4(ip) => {
            let source = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            sendmsg(fd.as_raw_fd(), &parts, &[ControlMessage::Ipv4PacketInfo(&source)], flags, Some(&address))
        }
        IpAddr::V6(ip) => {
            let source =
                libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: from.interface };
            sendmsg(fd.as_raw_fd(), &parts, &[ControlMessage::Ipv6PacketInfo(&source)], flags, Some(&address))
        }
    };
    match sent {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno).named(|| format!("sendmsg({to}/udp)")),
    }
}

/// Has a socket take no more while so many bytes have not been sent once (TCP_NOTSENT_LOWAT, ip-sysctl.rst). It cannot fail
/// for TCP; nix has no name for it.
fn limit_unsent(fd: BorrowedFd<'_>, bytes: libc::c_int) {
    let length = libc::socklen_t::try_from(size_of_val(&bytes)).unwrap_or_default();
    let value = (&raw const bytes).cast();
    // SAFETY: the kernel reads an int, which outlives the call.
    let _ = unsafe { libc::setsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, value, length) };
}

fn new_socket(address: SocketAddr, kind: SockType) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)
}

fn only_ipv6(fd: &OwnedFd, address: SocketAddr) -> nix::Result<()> {
    if address.is_ipv6() { setsockopt(fd, sockopt::Ipv6V6Only, &true) } else { Ok(()) }
}

fn standard(address: &SockaddrStorage) -> Option<SocketAddr> {
    match address.family()? {
        AddressFamily::Inet => address.as_sockaddr_in().map(|address| SocketAddr::V4((*address).into())),
        AddressFamily::Inet6 => address.as_sockaddr_in6().map(|address| SocketAddr::V6((*address).into())),
        _ => None,
    }
}

/// Of asm-generic/sockios.h; libc has it for other systems only.
const SIOCATMARK: libc::Ioctl = 0x8905;

nix::ioctl_read_bad!(siocatmark, SIOCATMARK, libc::c_int);

/// Whether the next byte is one of urgent data (sockatmark(3)). False for what is no TCP socket.
#[must_use]
pub fn is_at_urgent_mark(fd: BorrowedFd<'_>) -> bool {
    let mut at_mark: libc::c_int = 0;
    // SAFETY: SIOCATMARK writes an int, which outlives the call.
    let asked = unsafe { siocatmark(fd.as_raw_fd(), &raw mut at_mark) };
    asked.is_ok() && at_mark != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), 0)
    }

    #[test]
    fn a_connection_and_what_a_refusal_looks_like() {
        let listener = listen_tcp(loopback("127.0.0.1")).expect("listen");
        let address = local_address(listener.as_fd()).expect("getsockname");
        assert!(matches!(accept(listener.as_fd()), Ok(Waiting::Nobody)));
        let (Connecting::Connected(client) | Connecting::Waiting(client)) = connect_tcp(address).expect("connect");
        assert!(poll::readable(listener.as_fd(), Duration::from_secs(5)).expect("poll"));
        let Ok(Waiting::Connection(accepted)) = accept(listener.as_fd()) else { panic!("it waits") };
        let there = peer_address(accepted.as_fd()).expect("getpeername");
        assert_eq!(there, local_address(client.as_fd()).expect("getsockname"));
        hurry_if_local(accepted.as_fd());
        assert_eq!(getsockopt(&accepted, sockopt::RcvBuf).expect("SO_RCVBUF"), 2 * LOCAL_BUFFER);
        let chosen = getsockopt(&accepted, sockopt::TcpCongestion).expect("TCP_CONGESTION");
        assert_eq!(chosen.to_string_lossy().trim_end_matches('\0'), "reno");
        drop(listener);
        match connect_tcp(address) {
            Err(error) => assert_eq!(error.errno, Errno::ECONNREFUSED),
            Ok(Connecting::Connected(_)) => panic!("nobody listens"),
            Ok(Connecting::Waiting(fd)) => {
                assert!(poll::writable(fd.as_fd(), Duration::from_secs(5)).expect("poll"));
                assert_eq!(take_error(fd.as_fd()), Some(Errno::ECONNREFUSED));
            }
        }
    }

    #[test]
    fn ipv4_and_ipv6_share_a_port_and_two_of_a_kind_do_not() {
        let wildcard = listen_tcp(loopback("0.0.0.0")).expect("listen");
        let port = local_address(wildcard.as_fd()).expect("getsockname").port();
        let second = |ip: &str| listen_tcp(SocketAddr::new(ip.parse().expect("an address"), port));
        assert_eq!(second("127.0.0.1").expect_err("taken").errno, Errno::EADDRINUSE);
        match second("::") {
            Ok(_) => {}
            Err(error) => assert!(matches!(error.errno, Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL), "{error}"),
        }
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        let port = bind_udp(loopback("0.0.0.0")).expect("bind");
        let number = local_address(port.as_fd()).expect("getsockname").port();
        let asked: SocketAddr = format!("127.0.0.7:{number}").parse().expect("an address");
        let client = connect_udp(asked).expect("connect");
        send_some(client.as_fd(), b"question").expect("send").expect("room");
        let mut buffer = [0; 64];
        assert!(poll::readable(port.as_fd(), Duration::from_secs(5)).expect("poll"));
        let datagram = receive_from(port.as_fd(), &mut buffer).expect("recvmsg").expect("a datagram");
        assert_eq!((datagram.length, datagram.to.ip), (8, asked.ip()));
        assert!(send_from(port.as_fd(), b"answer", datagram.to, datagram.from).expect("sendmsg"));
        // A connected socket takes nothing from any other address.
        assert!(poll::readable(client.as_fd(), Duration::from_secs(5)).expect("poll"));
        assert_eq!(receive(client.as_fd(), &mut buffer).expect("recv"), Some(6));
    }

    /// What the kernel would keep for it otherwise is some megabytes (`net.ipv4.tcp_wmem`).
    #[test]
    fn little_is_kept_for_who_does_not_read() {
        let listener = listen_tcp(loopback("127.0.0.1")).expect("listen");
        let address = local_address(listener.as_fd()).expect("getsockname");
        let (Connecting::Connected(client) | Connecting::Waiting(client)) = connect_tcp(address).expect("connect");
        assert!(poll::readable(listener.as_fd(), Duration::from_secs(5)).expect("poll"));
        let Ok(Waiting::Connection(accepted)) = accept(listener.as_fd()) else { panic!("it waits") };
        for sender in [&accepted, &client] {
            let mut kept = 0;
            // A moment without room may be one in which the other end has not taken it in yet.
            while poll::writable(sender.as_fd(), Duration::from_millis(200)).expect("poll") {
                kept += send_some(sender.as_fd(), &[0; 1 << 16]).expect("send").unwrap_or_default();
            }
            // The other side's buffer, and ours.
            assert!((1 << 16..1 << 20).contains(&kept), "{kept} bytes");
        }
    }
}
