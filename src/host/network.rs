//! What this host offers a network namespace: programs of user-mode networks, a tap device, routes.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::dirs::Environment;
use crate::sys::probe;

/// Longest routing table that is read, in bytes. A line has 128.
const MOST_ROUTES: usize = 4 << 20;

/// A route that is shorter leads to no network, but to a part of everything: a VPN that wants all of it writes 0.0.0.0/1 and
/// 128.0.0.0/1 over a default route, which it leaves as it is (OpenVPN's `redirect-gateway def1`).
const SHORTEST_NETWORK: u8 = 8;

/// The same for IPv6, where fc00::/7 is a network: OpenVPN's parts are ::/3, 2000::/4 and 3000::/4.
const LONGEST_PART: u8 = 4;

/// Longest program that is looked into, in bytes: pasta has a third of a megabyte.
const MOST_PROGRAM: usize = 4 << 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFacts {
    /// `$SANDPOD_SLIRP4NETNS`, else the first one in `$PATH`.
    pub slirp4netns: Option<PathBuf>,
    /// `$SANDPOD_PASTA`, else the first one in `$PATH`.
    pub pasta: Option<PathBuf>,
    pub pasta_udp: UdpSockets,
    pub tun: Tun,
    /// Where the host's own IPv4 routes lead, the default route and parts of it excepted.
    pub ipv4_routes: Vec<Ipv4Network>,
    pub ipv6: Ipv6Routes,
    /// Whether the kernel can refuse packets by a policy (ip-xfrm(8)).
    pub policies: bool,
}

/// The host's way out with IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ipv6Routes {
    #[default]
    None,
    /// To parts of everything, as a VPN has them, and no default route.
    InParts,
    Default,
}

/// Which datagrams pasta takes for the pod.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UdpSockets {
    /// Anybody's, at each port that the pod has sent from. Or nobody has looked.
    #[default]
    Open,
    /// Those of whom the pod has sent one to.
    Connected,
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

impl fmt::Display for Ipv4Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}

impl Ipv4Network {
    #[must_use]
    pub fn overlaps(&self, other: &Ipv4Network) -> bool {
        let common = self.prefix_length.min(other.prefix_length);
        let mask = u32::MAX.checked_shl(32 - u32::from(common)).unwrap_or(0);
        self.address.to_bits() & mask == other.address.to_bits() & mask
    }
}

/// `pasta`: it was asked for, so that its kind matters where slirp4netns is installed, too.
pub(super) fn probe(proc: &Path, tun: &Path, environment: &Environment, pasta: bool) -> NetworkFacts {
    let find = |name, named: &Option<OsString>| program(name, named.as_deref(), &environment.path);
    let slirp4netns = find("slirp4netns", &environment.slirp4netns);
    let found = find("pasta", &environment.pasta);
    NetworkFacts {
        pasta_udp: found.as_deref().filter(|_| pasta || slirp4netns.is_none()).map(udp_sockets).unwrap_or_default(),
        slirp4netns,
        pasta: found,
        tun: look_at_tun(tun),
        ipv4_routes: ipv4_routes(&read(&proc.join("net/route"))),
        ipv6: ipv6_routes(&read(&proc.join("net/ipv6_route"))),
        policies: crate::sys::net::has_policies() && !heeds_none(proc),
    }
}

/// pasta connects them since its flow table (July 2024). Its versions say no more than a date, and Debian's builds not even
/// that, so it is told by an option that came a month later. Read, for it would take its time to say.
fn udp_sockets(pasta: &Path) -> UdpSockets {
    const OPTION: &[u8] = b"map-host-loopback";
    let program = probe::read_bounded(pasta, MOST_PROGRAM).unwrap_or_default();
    let knows = program.windows(OPTION.len()).any(|bytes| bytes == OPTION);
    if knows { UdpSockets::Connected } else { UdpSockets::Open }
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
    Tun::Refused { why: crate::sys::describe_io(&error), fix: fix.to_owned() }
}

fn ipv4_routes(table: &str) -> Vec<Ipv4Network> {
    table.lines().filter_map(ipv4_route).filter(|route| route.prefix_length >= SHORTEST_NETWORK).collect()
}

/// A line of /proc/net/route: hexadecimal, in the machine's own byte order (proc_pid_net(5)). The first one is words.
fn ipv4_route(line: &str) -> Option<Ipv4Network> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
    let (destination, mask) = (number(1)?, number(7)?);
    let prefix_length = u8::try_from(mask.count_ones()).ok()?;
    Some(Ipv4Network { address: Ipv4Addr::from(destination.to_ne_bytes()), prefix_length })
}

fn ipv6_routes(table: &str) -> Ipv6Routes {
    table.lines().filter_map(ipv6_way_out).max().unwrap_or_default()
}

/// Whether a line of /proc/net/ipv6_route leads to what is not near, all of which is in 2000::/3 (RFC 4291, 2.4); and not to
/// `lo`, where the kernel keeps a route for what it cannot reach.
fn ipv6_way_out(line: &str) -> Option<Ipv6Routes> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let first = u8::from_str_radix(fields.first()?.get(..2)?, 16).ok()?;
    let length = u8::from_str_radix(fields.get(1)?, 16).ok().filter(|length| *length <= LONGEST_PART)?;
    let common = u8::MAX.checked_shl(8 - u32::from(length.min(3))).unwrap_or(0);
    let leads_out = first & common == 0x20 & common && *fields.last()? != "lo";
    leads_out.then_some(if length == 0 { Ipv6Routes::Default } else { Ipv6Routes::InParts })
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
        assert_eq!(ipv4_route("Iface"), None);
    }

    /// A guest of QEMU whose OpenVPN has the command `redirect-gateway def1`.
    #[test]
    #[cfg(target_endian = "little")]
    fn half_of_everything_is_no_network() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            tun0\t00000000\t0100080A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n\
            eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            eth0\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            tun0\t0000080A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
            tun0\t00000080\t0100080A\t0003\t0\t0\t0\t00000080\t0\t0\t0\n\
            eth0\t010200C0\t0202000A\t0007\t0\t0\t0\tFFFFFFFF\t0\t0\t0\n";
        let networks = [network([10, 0, 2, 0], 24), network([10, 8, 0, 0], 24), network([192, 0, 2, 1], 32)];
        assert_eq!(ipv4_routes(table), networks);
    }

    #[test]
    fn a_way_out_with_ipv6_is_not_the_one_of_lo() {
        let zeros = "00000000000000000000000000000000";
        let route = |start: &str, length: &str, interface: &str| {
            format!(
                "{start:0<32} {length} {zeros} 00 fe800000000000000000000000000002 00000400 00000003 00000000 00000003 \
                 {interface}\n"
            )
        };
        let near = route("fe80", "40", "eth0") + &route("fc", "07", "tun0") + &route("ff", "08", "eth0");
        for (table, expected) in [
            (route("", "00", "eth0"), Ipv6Routes::Default),
            (route("", "00", "lo"), Ipv6Routes::None),
            (route("fd", "40", "eth0"), Ipv6Routes::None),
            (near.clone(), Ipv6Routes::None),
            (String::new(), Ipv6Routes::None),
            (near.clone() + &route("", "01", "tun0") + &route("80", "01", "tun0"), Ipv6Routes::InParts),
            (route("80", "01", "tun0"), Ipv6Routes::None),
            (route("20", "03", "tun0"), Ipv6Routes::InParts),
            // OpenVPN's.
            (near + &route("", "03", "tun0") + &route("20", "04", "tun0"), Ipv6Routes::InParts),
            (route("30", "04", "tun0"), Ipv6Routes::InParts),
            (route("", "03", "tun0"), Ipv6Routes::None),
            (route("20", "04", "tun0") + &route("", "00", "eth0"), Ipv6Routes::Default),
        ] {
            assert_eq!(ipv6_routes(&table), expected, "{table}");
        }
    }

    #[test]
    fn an_older_pasta_is_known_by_an_option_that_it_lacks() {
        let directory = tempfile::tempdir().expect("tempdir");
        let pasta = directory.path().join("pasta");
        let [older, newer] = [&b"\0no-map-gw\0"[..], b"\0no-map-gw\0map-host-loopback\0"];
        for (program, expected) in [(older, UdpSockets::Open), (newer, UdpSockets::Connected)] {
            std::fs::write(&pasta, program).expect("write");
            assert_eq!(udp_sockets(&pasta), expected);
        }
        assert_eq!(udp_sockets(directory.path()), UdpSockets::Open);
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
