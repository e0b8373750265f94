//! Who has a port of this host: `/proc/net/{tcp,udp}{,6}` (proc_net(5)) says which socket, `/proc/PID/fd` whose.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use crate::bind_conflict::in_conflict;
use crate::sys::probe::read_bounded;

/// Longest table that is read, in bytes; a line has 150.
const MOST_SOCKETS: usize = 16 << 20;

/// Which of the kernel's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    Udp,
}

/// Whoever is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortHolder {
    pub address: SocketAddr,
    pub uid: u32,
    /// Where it is one of the processes that we may look into.
    pub pid: Option<i32>,
}

/// The socket that keeps `wanted` from being bound, if it is to be seen in our network namespace.
#[must_use]
pub fn port_holder(transport: Transport, wanted: SocketAddr) -> Option<PortHolder> {
    find(Path::new("/proc"), transport, wanted)
}

fn find(proc: &Path, transport: Transport, wanted: SocketAddr) -> Option<PortHolder> {
    let names = match transport {
        Transport::Tcp => ["tcp", "tcp6"],
        Transport::Udp => ["udp", "udp6"],
    };
    let sockets = names.iter().flat_map(|name| {
        let table = read_bounded(&proc.join("self/net").join(name), MOST_SOCKETS).unwrap_or_default();
        let text = String::from_utf8_lossy(&table).into_owned();
        text.lines().filter_map(|line| parse(line, transport)).collect::<Vec<_>>()
    });
    // Of the same family first: whether a socket of `::` takes IPv4, too, is not in the table.
    let mut blocking: Vec<Socket> = sockets.filter(|socket| blocks(socket.address, wanted)).collect();
    blocking.sort_by_key(|socket| socket.address.is_ipv4() != wanted.is_ipv4());
    let Socket { address, uid, inode } = blocking.into_iter().next()?;
    Some(PortHolder { address, uid, pid: owner(proc, inode) })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Socket {
    address: SocketAddr,
    uid: u32,
    inode: u64,
}

fn blocks(there: SocketAddr, wanted: SocketAddr) -> bool {
    let both_families = there.is_ipv6() && there.ip().is_unspecified();
    let there_ip = (!both_families).then(|| there.ip().to_canonical());
    in_conflict((there_ip, there.port()), (Some(wanted.ip().to_canonical()), wanted.port()))
}

/// `sl local rem st tx:rx tr:when retrnsmt uid timeout inode …`; of TCP only listeners (state 0A).
fn parse(line: &str, transport: Transport) -> Option<Socket> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if transport == Transport::Tcp && *fields.get(3)? != "0A" {
        return None;
    }
    let (ip, port) = fields.get(1)?.split_once(':')?;
    // Words of 32 bits, each printed as a number of this machine's byte order.
    let words: Option<Vec<[u8; 4]>> = ip
        .as_bytes()
        .chunks(8)
        .map(|word| Some(u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes()))
        .collect();
    let ip: IpAddr = match words?.concat() {
        bytes if bytes.len() == 4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into(),
        bytes => Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into(),
    };
    let address = SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?);
    Some(Socket { address, uid: fields.get(7)?.parse().ok()?, inode: fields.get(9)?.parse().ok()? })
}

/// The first process that has the socket open.
fn owner(proc: &Path, inode: u64) -> Option<i32> {
    let wanted = format!("socket:[{inode}]");
    let has_it = |pid: &i32| {
        let Ok(fds) = std::fs::read_dir(proc.join(pid.to_string()).join("fd")) else { return false };
        fds.filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
            .any(|target| target.as_os_str() == wanted.as_str())
    };
    let mut pids: Vec<i32> =
        std::fs::read_dir(proc).ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    pids.sort_unstable();
    pids.into_iter().find(has_it)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::host::recorded::Recorded;

    const TCP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 111 1 0 100 0 0 10 0\n   \
        1: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 222 1 0 100 0 0 10 0\n   \
        2: 0100007F:2328 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1000        0 333 1 0 100 0 0 10 0\n";
    const TCP6: &str = "   0: 00000000000000000000000000000000:2329 00000000000000000000000000000000:0000 0A 00000000:00000000 \
        00:00000000 00000000  1000        0 444 1 0 100 0 0 10 0\n";

    #[test]
    fn the_socket_in_the_way_is_found_in_a_recorded_table() {
        let tree = Recorded::new(&[("self/net/tcp", TCP), ("self/net/tcp6", TCP6)]);
        let found = |wanted: &str| {
            let holder = find(tree.path(), Transport::Tcp, wanted.parse().expect("an address"))?;
            Some((holder.address.to_string(), holder.uid))
        };
        let is = |address: &str, uid: u32| Some((address.to_owned(), uid));
        assert_eq!(found("127.0.0.1:8080"), is("0.0.0.0:8080", 1000));
        assert_eq!(found("0.0.0.0:80"), is("127.0.0.1:80", 33));
        assert_eq!(found("127.0.0.2:80"), None);
        // Connected, not listening.
        assert_eq!(found("127.0.0.1:9000"), None);
        // A socket of :: may have both families.
        assert_eq!(found("0.0.0.0:9001"), is("[::]:9001", 1000));
        assert_eq!(found("[::1]:8080"), None);
    }

    #[test]
    fn our_own_sockets_are_ours() {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("bind");
        let udp = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).expect("bind");
        let me = Some(std::process::id().cast_signed());
        for (transport, address) in
            [(Transport::Tcp, tcp.local_addr().expect("bound")), (Transport::Udp, udp.local_addr().expect("bound"))]
        {
            assert_eq!(port_holder(transport, address).map(|holder| (holder.address, holder.pid)), Some((address, me)));
        }
    }
}
