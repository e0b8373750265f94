//! What this host offers a network namespace: programs of user-mode networks, a tap device, routes.

use std::ffi::{OsStr, OsString};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dirs::Environment;
use crate::sys::probe;

/// Longest routing table that is read, in bytes. A line has 128.
const MOST_ROUTES: usize = 4 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFacts {
    /// `$SANDPOD_SLIRP4NETNS`, else the first one in `$PATH`.
    pub slirp4netns: Option<PathBuf>,
    /// `$SANDPOD_PASTA`, else the first one in `$PATH`.
    pub pasta: Option<PathBuf>,
    pub tun: Tun,
    /// Where the host's own IPv4 routes lead, the default route excepted.
    pub ipv4_routes: Vec<Ipv4Network>,
    /// Whether the host has an IPv6 default route.
    pub ipv6: bool,
    /// Whether the kernel can refuse packets by a policy (ip-xfrm(8)).
    pub policies: bool,
}

/// /dev/net/tun, which every user-mode network needs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tun {
    #[default]
    Usable,
    /// `why`: what the kernel said.
    Refused { why: String, fix: String },
}

/// `192.0.2.0/24`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipv4Network {
    pub address: Ipv4Addr,
    /// 0 to 32.
    pub prefix_length: u8,
}

impl Ipv4Network {
    #[must_use]
    pub fn overlaps(&self, other: &Ipv4Network) -> bool {
        let common = self.prefix_length.min(other.prefix_length);
        let mask = u32::MAX.checked_shl(32 - u32::from(common)).unwrap_or(0);
        self.address.to_bits() & mask == other.address.to_bits() & mask
    }
}

pub(super) fn probe(proc: &Path, tun: &Path, environment: &Environment) -> NetworkFacts {
    let find = |name, named: &Option<OsString>| program(name, named.as_deref(), &environment.path);
    let routes = read(&proc.join("net/route"));
    let routes6 = read(&proc.join("net/ipv6_route"));
    NetworkFacts {
        slirp4netns: find("slirp4netns", &environment.slirp4netns),
        pasta: find("pasta", &environment.pasta),
        tun: look_at_tun(tun),
        ipv4_routes: routes.lines().skip(1).filter_map(ipv4_route).collect(),
        ipv6: routes6.lines().any(is_ipv6_default),
        policies: crate::sys::net::has_policies() && !heeds_none(proc),
    }
}

/// Whether interfaces heed no policies, which a new network namespace has of the host's (`devconf_inherit_init_net` in
/// Documentation/admin-guide/sysctl/net.rst): then one would not help.
fn heeds_none(proc: &Path) -> bool {
    let switch = |which: &str| read(&proc.join(format!("sys/net/ipv4/conf/{which}/disable_xfrm")));
    ["all", "default"].iter().any(|which| switch(which).trim() == "1")
}

/// No such file: a kernel without IPv6, or without a network at all.
fn read(path: &Path) -> String {
    String::from_utf8_lossy(&probe::read_bounded(path, MOST_ROUTES).unwrap_or_default()).into_owned()
}

/// A name with a slash is a path, as for execvp(3); one that cannot be executed is left for its own error.
fn program(name: &str, named: Option<&OsStr>, search: &OsStr) -> Option<PathBuf> {
    let wanted = Path::new(named.unwrap_or(OsStr::new(name)));
    if wanted.components().count() > 1 {
        return Some(wanted.to_owned());
    }
    // A name that is not UTF-8 cannot be in a plan, which is JSON; a relative directory is as bad as `.` in PATH.
    let listed = std::env::split_paths(search).filter(|dir| dir.is_absolute() && dir.to_str().is_some());
    let found = listed.map(|dir| dir.join(wanted)).find(|path| path.is_file() && probe::may_execute(path).is_ok());
    // One that is named and not there is what its error is about, not a reason to take another network.
    found.or_else(|| named.map(PathBuf::from))
}

/// Opened, not only looked at: a container may have the node without the right to use it. Nothing comes of an open
/// alone (tun.rst: a device exists from TUNSETIFF on).
fn look_at_tun(path: &Path) -> Tun {
    let Err(error) = std::fs::File::options().read(true).write(true).open(path) else { return Tun::Usable };
    let fix = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "sudo chmod 0666 /dev/net/tun (which is what udev does where it runs)",
        _ => "sudo modprobe tun; in a container, start that with --device /dev/net/tun",
    };
    let why = error.raw_os_error().map_or_else(|| error.to_string(), crate::sys::describe);
    Tun::Refused { why, fix: fix.to_owned() }
}

/// A line of /proc/net/route: hexadecimal, in the machine's own byte order (proc_pid_net(5)).
fn ipv4_route(line: &str) -> Option<Ipv4Network> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
    let (destination, mask) = (number(1)?, number(7)?);
    let prefix_length = u8::try_from(mask.count_ones()).ok().filter(|&length| length > 0)?;
    Some(Ipv4Network { address: Ipv4Addr::from(destination.to_ne_bytes()), prefix_length })
}

/// A line of /proc/net/ipv6_route that leads anywhere, and not to `lo`, where the kernel keeps a route for what it
/// cannot reach.
fn is_ipv6_default(line: &str) -> bool {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let to_all = fields.first().is_some_and(|address| address.bytes().all(|byte| byte == b'0'));
    to_all && fields.get(1) == Some(&"00") && fields.last().is_some_and(|interface| *interface != "lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: [u8; 4], prefix_length: u8) -> Ipv4Network {
        Ipv4Network { address: address.into(), prefix_length }
    }

    #[test]
    fn networks_overlap_where_one_holds_the_other() {
        let pods = network([10, 0, 2, 0], 24);
        for (other, overlaps) in [
            (network([10, 0, 2, 0], 24), true),
            (network([10, 0, 0, 0], 8), true),
            (network([10, 0, 2, 3], 32), true),
            (network([10, 0, 3, 0], 24), false),
            (network([192, 168, 0, 0], 16), false),
            (network([0, 0, 0, 0], 0), true),
        ] {
            assert_eq!((pods.overlaps(&other), other.overlaps(&pods)), (overlaps, overlaps), "{other:?}");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn routes_of_the_kernel() {
        let line = "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0";
        assert_eq!(ipv4_route(line), Some(network([192, 0, 2, 0], 24)));
        let default = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        assert_eq!(ipv4_route(default), None);
        assert_eq!(ipv4_route("Iface"), None);
    }

    #[test]
    fn an_ipv6_default_route_is_not_the_one_of_lo() {
        let zeros = "00000000000000000000000000000000";
        let line = |interface: &str| {
            format!(
                "{zeros} 00 {zeros} 00 fe800000000000000000000000000002 00000400 00000003 00000000 00000003 {interface}"
            )
        };
        assert!(is_ipv6_default(&line("eth0")));
        assert!(!is_ipv6_default(&line("lo")));
        assert!(!is_ipv6_default("fd000000000000000000000000000000 40 x 00 x 0 0 0 0 eth0"));
        assert!(!is_ipv6_default(""));
    }

    #[test]
    fn a_named_program_is_taken_as_it_is() {
        let search = OsStr::new("relative:/no/such/dir:/bin:/usr/bin");
        assert_eq!(program("x", Some(OsStr::new("/opt/x")), search), Some("/opt/x".into()));
        assert!(program("sh", None, search).is_some_and(|path| path.ends_with("sh")));
        assert_eq!(program("no-such-program", None, search), None);
        assert_eq!(program("x", Some(OsStr::new("no-such")), search), Some("no-such".into()));
    }
}
