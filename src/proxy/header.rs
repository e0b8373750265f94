//! The PROXY protocol's header, version 2: who the client is, in front of the first byte of a connection
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, section 2.2). nginx reads it with
//! `listen 80 proxy_protocol`.

use std::net::{IpAddr, SocketAddr};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, command PROXY: on behalf of somebody else.
const VERSION_AND_COMMAND: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// `client` connected to `host`.
pub(super) fn header(client: SocketAddr, host: SocketAddr) -> Vec<u8> {
    let mut addresses = Vec::with_capacity(36);
    let family = match (client.ip(), host.ip()) {
        (IpAddr::V4(client), IpAddr::V4(host)) => {
            addresses.extend(client.octets());
            addresses.extend(host.octets());
            TCP_OVER_IPV4
        }
        (client, host) => {
            addresses.extend(ipv6(client));
            addresses.extend(ipv6(host));
            TCP_OVER_IPV6
        }
    };
    addresses.extend(client.port().to_be_bytes());
    addresses.extend(host.port().to_be_bytes());
    let mut header = Vec::with_capacity(16 + addresses.len());
    header.extend(SIGNATURE);
    header.extend([VERSION_AND_COMMAND, family, 0, u8::try_from(addresses.len()).unwrap_or(0)]);
    header.extend(addresses);
    header
}

fn ipv6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(client: &str, host: &str) -> Vec<u8> {
        header(client.parse().expect("an address"), host.parse().expect("an address"))
    }

    #[test]
    fn the_bytes_of_the_specification() {
        let header = of("192.0.2.1:51000", "198.51.100.7:8080");
        assert_eq!(header[..12], [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A]);
        assert_eq!(header[12..16], [0x21, 0x11, 0, 12]);
        assert_eq!(header[16..], [192, 0, 2, 1, 198, 51, 100, 7, 0xC7, 0x38, 0x1F, 0x90]);
    }

    #[test]
    fn ipv6_has_longer_addresses() {
        let header = of("[2001:db8::1]:1", "[::1]:258");
        assert_eq!((header.len(), &header[12..16]), (52, &[0x21, 0x21, 0, 36][..]));
        assert_eq!(header[16..20], [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(header[47..], [1, 0, 1, 1, 2]);
    }
}
