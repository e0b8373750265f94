//! Network interfaces, by the two ioctls that a loopback needs (netdevice(7)), and what is never
//! to leave a network namespace.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Result;
use super::error::{Error, Named, last};

/// Brings `lo` up: a new network namespace has it, down.
pub fn bring_loopback_up() -> Result<()> {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .named(|| "socket(AF_INET)".to_owned())?;
    // SAFETY: ifreq is plain old data for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
    let flags = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).unwrap_or(0);
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which outlives the call.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if rc == 0 { Ok(()) } else { Err(last(|| "ioctl(SIOCSIFFLAGS, lo up)".to_owned())) }
}

/// Gives `lo` one more address, for itself alone: `ip address add ADDRESS dev lo` (rtnetlink(7)).
pub fn add_to_loopback(address: IpAddr) -> Result<()> {
    ask(libc::NETLINK_ROUTE, &own_address(address), || format!("RTM_NEWADDR({address} dev lo)"))
}

/// sethostname(2).
pub fn set_hostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).named(|| format!("sethostname({name:?})"))
}

/// Nothing that this network namespace sends goes to `destination`/`prefix_length`, unless the local table leads there: a rule
/// right behind the kernel's first one (ip-rule(8): `ip rule add to DESTINATION prohibit pref 1`). A socket that is bound to an
/// interface skips the local table, and would otherwise send to 127.0.0.1 by way of that.
///
/// It is the last word for IPv6 alone: what has no IPv4 route is taken to be on the link of the interface that a socket is
/// bound to (`ip_route_output_key_hash_rcu` in net/ipv4/route.c).
pub fn prohibit(destination: IpAddr, prefix_length: u8) -> Result<()> {
    let call = || format!("RTM_NEWRULE(to {destination}/{prefix_length} prohibit)");
    ask(libc::NETLINK_ROUTE, &prohibition(destination, prefix_length), call)
}

/// Whether this kernel has policies (ip-xfrm(8)), as [`refuse`] needs them: it may have to load a module for it.
#[must_use]
pub fn has_policies() -> bool {
    open_netlink(libc::NETLINK_XFRM).is_ok()
}

/// Whatever leaves this network namespace for `destination`/`prefix_length` by any interface but `lo` is refused with EPERM,
/// raw IP packets included, and whichever interfaces come later: `ip xfrm policy add dst DESTINATION dir out action block`. (`lo`
/// heeds no policies: `disable_xfrm` in ip-sysctl.rst. That is so for IPv4 alone: one for ::1 would close the namespace's own.)
pub fn refuse(destination: Ipv4Addr, prefix_length: u8) -> Result<()> {
    let call = || format!("XFRM_MSG_NEWPOLICY(to {destination}/{prefix_length} block)");
    ask(libc::NETLINK_XFRM, &refusal(destination, prefix_length), call)
}

/// Sends one request, which the kernel answers at once with an error number, or 0 (netlink(7)).
fn ask(protocol: libc::c_int, message: &[u8], call: impl Fn() -> String) -> Result<()> {
    let fd = open_netlink(protocol)?;
    nix::unistd::write(&fd, message).named(&call)?;
    let mut answer = [0; 1024];
    let length = nix::unistd::read(&fd, &mut answer).named(&call)?;
    // struct nlmsgerr behind struct nlmsghdr: a negative errno, or 0.
    let errno = answer[..length]
        .get(16..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(libc::EPROTO, |bytes| i32::from_ne_bytes(bytes).saturating_neg());
    if errno == 0 { Ok(()) } else { Err(Error { call: call(), errno: Errno::from_raw(errno) }) }
}

fn open_netlink(protocol: libc::c_int) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(last(|| format!("socket(AF_NETLINK, {protocol})")));
    }
    // SAFETY: a descriptor that the kernel has just given us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// struct ifaddrmsg of linux/if_addr.h.
fn own_address(address: IpAddr) -> Vec<u8> {
    const IFA_LOCAL: u16 = 2;
    // The first interface of every network namespace (LOOPBACK_IFINDEX in net/flow.h).
    const LO: u32 = 1;
    let (family, address) = octets(address);
    let prefix_length = u8::try_from(address.len() * 8).unwrap_or_default();
    // family, prefix length, flags, scope; index.
    let mut body = vec![family, prefix_length, 0, libc::RT_SCOPE_HOST];
    body.extend(LO.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &address);
    request(libc::RTM_NEWADDR, &body)
}

/// The message, as netlink(7), rtnetlink(7) and linux/fib_rules.h lay it out.
fn prohibition(destination: IpAddr, prefix_length: u8) -> Vec<u8> {
    const FR_ACT_PROHIBIT: u8 = 8;
    const FRA_DST: u16 = 1;
    const FRA_PRIORITY: u16 = 6;
    let (family, address) = octets(destination);
    // struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved, action, flags.
    let mut body = vec![family, prefix_length, 0, 0, 0, 0, 0, FR_ACT_PROHIBIT, 0, 0, 0, 0];
    attribute(&mut body, FRA_DST, &address);
    attribute(&mut body, FRA_PRIORITY, &1_u32.to_ne_bytes());
    request(libc::RTM_NEWRULE, &body)
}

/// The address family, and the address in network order.
fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    let (family, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    (u8::try_from(family).unwrap_or_default(), octets)
}

/// struct rtattr and its value. All values here are multiples of four bytes: no padding.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend(u16::try_from(value.len() + 4).unwrap_or_default().to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
}

/// struct xfrm_userpolicy_info of linux/xfrm.h.
fn refusal(destination: Ipv4Addr, prefix_length: u8) -> Vec<u8> {
    const XFRM_MSG_NEWPOLICY: u16 = 0x13;
    const XFRM_POLICY_OUT: u8 = 1;
    const XFRM_POLICY_BLOCK: u8 = 1;
    // struct xfrm_selector: daddr, saddr, two ports with their masks, family, prefix lengths; protocol, interface and user are
    // any.
    let mut body = destination.octets().to_vec();
    body.resize(40, 0);
    body.extend(u16::try_from(libc::AF_INET).unwrap_or_default().to_ne_bytes());
    body.push(prefix_length);
    body.resize(56, 0);
    // struct xfrm_lifetime_cfg: four limits of bytes and packets, of which there are none (XFRM_INF), and four of seconds,
    // where 0 is none; struct xfrm_lifetime_cur.
    body.extend([0xff; 32]);
    body.resize(152, 0);
    // priority, index; direction, action, flags, share; padding.
    body.extend([0; 8]);
    body.extend([XFRM_POLICY_OUT, XFRM_POLICY_BLOCK, 0, 0, 0, 0, 0, 0]);
    request(XFRM_MSG_NEWPOLICY, &body)
}

/// `body` behind its struct nlmsghdr: to be made, and there must be none like it.
fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut message = u32::try_from(body.len() + 16).unwrap_or_default().to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(u16::try_from(flags).unwrap_or_default().to_ne_bytes());
    // Sequence and port: one question, one answer.
    message.extend([0; 8]);
    message.extend(body);
    message
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[test]
    fn a_rule_as_iproute2_sends_it() {
        let message = prohibition(IpAddr::V6(Ipv6Addr::LOCALHOST), 128);
        assert_eq!(message.len(), 16 + 12 + 20 + 8);
        assert_eq!(message[..4], 56_u32.to_ne_bytes());
        assert_eq!((message[16], message[17], message[23]), (10, 128, 8));
        assert_eq!(message[28..32], [20_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat());
    }

    #[test]
    fn an_address_as_iproute2_sends_it() {
        let message = own_address(IpAddr::V4(Ipv4Addr::new(10, 0, 2, 100)));
        assert_eq!(message[16..20], [2, 32, 0, 254]);
        assert_eq!(message[20..], [1_u32.to_ne_bytes(), [8, 0, 2, 0], [10, 0, 2, 100]].concat());
    }

    #[test]
    fn a_policy_as_iproute2_sends_it() {
        let message = refusal(Ipv4Addr::new(127, 0, 0, 0), 8);
        assert_eq!(message.len(), 16 + 168);
        assert_eq!(message[4..6], 0x13_u16.to_ne_bytes());
        assert_eq!((&message[16..20], message[58]), (&[127, 0, 0, 0][..], 8));
        assert_eq!((message[72], message[103], message[104]), (0xff, 0xff, 0));
        assert_eq!(message[176..180], [1, 1, 0, 0]);
    }
}
