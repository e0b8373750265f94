//! How many connections a client's address and a port may have at a time, so that the rest stays for others.
//!
//! A share is a multiple of what is free (dynamic thresholds, Choudhury and Hahne 1998): one address alone may have three
//! quarters of all, many addresses that flood leave some for the next one. An address beyond its share is refused, not kept
//! waiting: the backlog is one queue for all addresses, and who waits in it waits in front of the others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// An address may have so many times what is free.
const OF_AN_ADDRESS: usize = 3;
/// A port may, where there are others.
const OF_A_PORT: usize = 7;

/// Whose share a connection counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) port: usize,
    client: IpAddr,
}

impl Holder {
    /// An IPv6 client counts by its network: it may have every address of a /64 (RFC 8981).
    pub(super) fn new(port: usize, client: IpAddr) -> Holder {
        let client = match client {
            IpAddr::V4(_) => client,
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        };
        Holder { port, client }
    }
}

#[derive(Debug)]
pub(super) struct Shares {
    /// Connections that may still begin.
    free: usize,
    clients: HashMap<IpAddr, usize>,
    ports: Vec<usize>,
}

impl Shares {
    pub(super) fn new(limit: usize, ports: usize) -> Shares {
        Shares { free: limit, clients: HashMap::new(), ports: vec![0; ports] }
    }

    pub(super) fn is_full(&self) -> bool {
        self.free == 0
    }

    /// False: this one has its share already.
    pub(super) fn take(&mut self, holder: Holder) -> bool {
        let client = self.clients.get(&holder.client).copied().unwrap_or(0);
        let port_has_room = self.ports.len() == 1 || self.ports[holder.port] < OF_A_PORT.saturating_mul(self.free);
        if !port_has_room || client >= OF_AN_ADDRESS.saturating_mul(self.free) {
            return false;
        }
        self.free -= 1;
        self.clients.insert(holder.client, client + 1);
        self.ports[holder.port] += 1;
        true
    }

    pub(super) fn give_back(&mut self, holder: Holder) {
        self.free += 1;
        self.ports[holder.port] -= 1;
        if let Some(count) = self.clients.get_mut(&holder.client) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&holder.client);
            }
        }
    }

    /// Gives back what only a crowd needed.
    pub(super) fn shrink(&mut self) {
        self.clients.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(port: usize, client: &str) -> Holder {
        Holder::new(port, client.parse().expect("an address"))
    }

    /// How many it gets.
    fn flood(shares: &mut Shares, holder: Holder) -> usize {
        (0..100_000).take_while(|_| shares.take(holder)).count()
    }

    #[test]
    fn an_address_has_three_quarters_and_the_next_ones_share_the_rest() {
        let mut shares = Shares::new(1000, 1);
        assert_eq!(flood(&mut shares, holder(0, "192.0.2.1")), 750);
        assert_eq!(flood(&mut shares, holder(0, "192.0.2.2")), 188);
        for number in 3..30 {
            assert!(shares.take(holder(0, &format!("192.0.2.{number}"))), "{number}");
        }
        let first = holder(0, "192.0.2.1");
        (0..750).for_each(|_| shares.give_back(first));
        assert!(shares.take(first));
    }

    #[test]
    fn a_port_leaves_some_to_the_others() {
        let mut shares = Shares::new(1000, 2);
        let mut taken = 0;
        for number in 0..1000 {
            taken += usize::from(shares.take(holder(0, &format!("192.0.{}.{}", 2 + number / 250, number % 250))));
        }
        assert_eq!(taken, 875);
        assert!(shares.take(holder(1, "192.0.2.1")));
    }

    #[test]
    fn few_addresses_of_one_each_fill_everything() {
        let mut shares = Shares::new(3, 1);
        assert!(["192.0.2.1", "192.0.2.2", "192.0.2.3"].iter().all(|client| shares.take(holder(0, client))));
        assert!(shares.is_full());
        assert!(!shares.take(holder(0, "192.0.2.4")));
    }

    #[test]
    fn an_ipv6_network_is_one_client() {
        assert_eq!(holder(0, "2001:db8::1"), holder(0, "2001:db8::ffff:1"));
        assert_ne!(holder(0, "2001:db8::1"), holder(0, "2001:db8:0:1::1"));
    }
}
