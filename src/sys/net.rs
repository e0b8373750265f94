//! Network interfaces, by the two ioctls that a loopback needs (netdevice(7)), and one kind of routing rule.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

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

/// sethostname(2).
pub fn set_hostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).named(|| format!("sethostname({name:?})"))
}

/// Nothing that this network namespace sends goes to `destination`/`prefix_length`, unless the local table leads there: a rule
/// right behind the kernel's first one (ip-rule(8): `ip rule add to DESTINATION prohibit pref 1`). A socket that is bound to an
/// interface skips the local table, and would otherwise send to 127.0.0.1 by way of that.
pub fn prohibit(destination: IpAddr, prefix_length: u8) -> Result<()> {
    let call = || format!("RTM_NEWRULE(to {destination}/{prefix_length} prohibit)");
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)
        .named(|| "socket(AF_NETLINK)".to_owned())?;
    nix::unistd::write(&fd, &prohibition(destination, prefix_length)).named(call)?;
    let mut answer = [0; 1024];
    let length = nix::unistd::read(&fd, &mut answer).named(call)?;
    // struct nlmsgerr behind struct nlmsghdr (netlink(7)): a negative errno, or 0.
    let errno = answer[..length]
        .get(16..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(libc::EPROTO, |bytes| i32::from_ne_bytes(bytes).saturating_neg());
    if errno == 0 { Ok(()) } else { Err(Error { call: call(), errno: Errno::from_raw(errno) }) }
}

/// The message, as netlink(7), rtnetlink(7) and linux/fib_rules.h lay it out.
fn prohibition(destination: IpAddr, prefix_length: u8) -> Vec<u8> {
    const FR_ACT_PROHIBIT: u8 = 8;
    const FRA_DST: u16 = 1;
    const FRA_PRIORITY: u16 = 6;
    let (family, address) = match destination {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    // struct fib_rule_hdr: family, dst_len, src_len, tos, table, two reserved, action, flags.
    let mut body =
        vec![u8::try_from(family).unwrap_or_default(), prefix_length, 0, 0, 0, 0, 0, FR_ACT_PROHIBIT, 0, 0, 0, 0];
    for (kind, value) in [(FRA_DST, address), (FRA_PRIORITY, 1_u32.to_ne_bytes().to_vec())] {
        // All values here are multiples of four bytes: no padding.
        body.extend(u16::try_from(value.len() + 4).unwrap_or_default().to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(value);
    }
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let mut message = u32::try_from(body.len() + 16).unwrap_or_default().to_ne_bytes().to_vec();
    message.extend(libc::RTM_NEWRULE.to_ne_bytes());
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
}
