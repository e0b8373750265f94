//! When two sockets of one protocol are in each other's way.

use std::net::IpAddr;

/// Whether the kernel refuses the second of them with EADDRINUSE (bind(2), ip(7), ipv6(7)). An address is `None` where it
/// is all of both families, and an IPv6 one takes no IPv4, as with IPV6_V6ONLY. Port 0 is whichever is free.
pub(crate) fn in_conflict((a_ip, a_port): (Option<IpAddr>, u16), (b_ip, b_port): (Option<IpAddr>, u16)) -> bool {
    let overlap = match (a_ip, b_ip) {
        (None, _) | (_, None) => true,
        (Some(a), Some(b)) => a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified()),
    };
    a_port == b_port && a_port != 0 && overlap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_port_at_addresses_that_overlap() {
        for (a, b, conflict) in [
            ("", "", true),
            ("", "127.0.0.1", true),
            ("", "::1", true),
            ("0.0.0.0", "127.0.0.1", true),
            ("0.0.0.0", "::1", false),
            ("::", "::1", true),
            ("::", "0.0.0.0", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
        ] {
            let [ip_a, ip_b] = [a, b].map(|text| text.parse().ok());
            assert_eq!(in_conflict((ip_a, 80), (ip_b, 80)), conflict, "{a} {b}");
            assert_eq!(in_conflict((ip_b, 80), (ip_a, 80)), conflict, "{b} {a}");
            assert!(!in_conflict((ip_a, 80), (ip_b, 81)) && !in_conflict((ip_a, 0), (ip_b, 0)), "{a} {b}");
        }
    }
}
