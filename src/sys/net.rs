//! Network interfaces, by the two ioctls that a loopback needs (netdevice(7)).

use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::Result;
use super::error::{Named, last};

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
