//! /etc/resolv.conf: the host's own with what the manifest adds, by the kubelet's rules (`pkg/kubelet/network/dns`).

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use super::Degradation;
use super::degradation::{self, named};
use super::network::{Backend, NetworkPlan, UserMode};
use crate::manifest::{DnsConfig, DnsOption, DnsPolicy, MOST_NAMESERVERS, MOST_SEARCH_CHARACTERS, MOST_SEARCHES};

#[cfg(test)]
mod tests;

/// libslirp's.
const IPV6_FORWARDER: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3);

/// `of_the_host`: the text of its /etc/resolv.conf. The degradations are what did not fit, and who cannot be asked.
pub(super) fn resolv_conf(
    policy: DnsPolicy,
    config: &DnsConfig,
    network: &NetworkPlan,
    of_the_host: &str,
) -> (String, Vec<Degradation>) {
    let note = match policy {
        DnsPolicy::ClusterFirst | DnsPolicy::ClusterFirstWithHostNet => {
            format!("# dnsPolicy: {} is Default here: there is no cluster DNS.\n", policy.word())
        }
        DnsPolicy::Default | DnsPolicy::None => String::new(),
    };
    let own_forwarder = matches!(network, NetworkPlan::UserMode(_));
    if policy != DnsPolicy::None && *config == DnsConfig::default() && !own_forwarder {
        return (note + of_the_host, Vec::new());
    }
    let mut resolver = if policy == DnsPolicy::None { Resolver::default() } else { Resolver::parse(of_the_host) };
    // The name server of a user-mode network is its forwarder: the host's may listen on the host's loopback, which a pod
    // cannot reach (systemd-resolved's 127.0.0.53).
    let mut unheard = None;
    if let (NetworkPlan::UserMode(user_mode), true) = (network, policy != DnsPolicy::None) {
        match forwarders(user_mode, &resolver.servers) {
            Some(servers) => resolver.servers = servers,
            None => unheard = Some(nobody_to_ask(user_mode.backend, &resolver.servers)),
        }
    }
    resolver.add(config);
    let unreached = unreached(&config.nameservers, network);
    let left_out = resolver.cut();
    let left_out = (!left_out.is_empty()).then(|| {
        named(
            degradation::DNS_LIMITS,
            format!(
                "left out of /etc/resolv.conf, which holds {MOST_NAMESERVERS} name servers and {MOST_SEARCHES} search \
                 domains of {MOST_SEARCH_CHARACTERS} characters: {}",
                left_out.join(" ")
            ),
            "ask for fewer in spec.dnsConfig, or say dnsPolicy: None, which leaves out the host's",
        )
    });
    (note + &resolver.text(), unheard.into_iter().chain(unreached).chain(left_out).collect())
}

/// Whom a pod asks instead of the host's name servers; `None` where it can ask nobody. An IPv4 forwarder asks the host's
/// first name server with an IPv4 address, and none other (libslirp's `get_dns_addr`, pasta(1) about --dns-forward).
fn forwarders(user_mode: &UserMode, of_the_host: &[String]) -> Option<Vec<String>> {
    let is_ipv6 = |server: &String| server.contains(':');
    if of_the_host.is_empty() || !of_the_host.iter().all(is_ipv6) {
        return Some(vec![user_mode.ipv4.dns.to_string()]);
    }
    user_mode.ipv6?;
    match user_mode.backend {
        Backend::Slirp4netns => Some(vec![IPV6_FORWARDER.to_string()]),
        // Its forwarder is told of IPv4 alone. What is not this host's own, or its link's, the pod reaches by itself.
        Backend::Pasta => {
            let is_elsewhere = |ip: Ipv6Addr| !ip.is_loopback() && !ip.is_unicast_link_local();
            let reached = of_the_host.iter().filter(|server| server.parse().is_ok_and(is_elsewhere));
            let reached: Vec<String> = reached.cloned().collect();
            (!reached.is_empty()).then_some(reached)
        }
    }
}

/// Name servers that were asked for and are not there: a copy of the host's 127.0.0.53, say, is the pod's own localhost.
fn unreached(asked: &[IpAddr], network: &NetworkPlan) -> Option<Degradation> {
    // 0.0.0.0 and :: are localhost, too (ip(7)).
    let is_local = |ip: &IpAddr| ip.to_canonical().is_loopback() || ip.is_unspecified();
    let list = |servers: Vec<&IpAddr>| servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (local, others): (Vec<&IpAddr>, Vec<&IpAddr>) = asked.iter().partition(|ip| is_local(ip));
    let (meaning, fix) = match network {
        NetworkPlan::Loopback if !others.is_empty() => (
            format!("the pod has `lo` alone, and does not reach name server {}", list(others)),
            "give the pod a network: --network private; or leave the name server out",
        ),
        NetworkPlan::Loopback | NetworkPlan::UserMode(_) | NetworkPlan::Joined(_) if !local.is_empty() => (
            format!(
                "name server {} is the pod's own localhost, and not this host's: only a container of the pod can answer \
                 there",
                list(local)
            ),
            "unless one does, leave it out: the name server of a pod's own network asks this host's, wherever that listens",
        ),
        _ => return None,
    };
    Some(named(degradation::DNS_LIMITS, meaning, fix))
}

fn nobody_to_ask(backend: Backend, of_the_host: &[String]) -> Degradation {
    let meaning = format!(
        "the host's name servers are reached by IPv6 alone ({}), which the pod has not, or {} does not pass on: no names \
         are found in the pod",
        of_the_host.join(" "),
        backend.word()
    );
    named(
        degradation::DNS_LIMITS,
        meaning,
        "give the host a name server with an IPv4 address, or the pod one in spec.dnsConfig",
    )
}

/// resolv.conf(5), as far as it is merged.
#[derive(Debug, Default)]
struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    /// `ndots` and `5`; `rotate` and nothing.
    options: Vec<(String, Option<String>)>,
    /// Other lines: `sortlist`.
    others: Vec<String>,
}

impl Resolver {
    fn parse(text: &str) -> Resolver {
        let mut resolver = Resolver::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().map(str::to_owned)),
                // Of these the last one counts. A dot at the end makes no other domain.
                Some("search" | "domain") => {
                    resolver.searches =
                        words.map(|domain| domain.strip_suffix('.').unwrap_or(domain).to_owned()).collect();
                }
                Some("options") => words.for_each(|option| match option.split_once(':') {
                    Some((name, value)) => resolver.set(name, Some(value)),
                    None => resolver.set(option, None),
                }),
                _ => resolver.others.push(line.to_owned()),
            }
        }
        resolver
    }

    fn set(&mut self, name: &str, value: Option<&str>) {
        let value = value.map(str::to_owned);
        match self.options.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.options.push((name.to_owned(), value)),
        }
    }

    /// Servers and searches once each, after those that are there; options instead of those of the same name.
    fn add(&mut self, config: &DnsConfig) {
        let DnsConfig { nameservers, searches, options } = config;
        self.servers.extend(nameservers.iter().map(ToString::to_string));
        self.searches.extend(searches.iter().cloned());
        for list in [&mut self.servers, &mut self.searches] {
            let mut known = std::collections::HashSet::new();
            list.retain(|entry| known.insert(entry.clone()));
        }
        for DnsOption { name, value } in options {
            self.set(name, value.as_deref());
        }
    }

    /// Takes off what is too much, from the end, and returns it.
    fn cut(&mut self) -> Vec<String> {
        let mut left_out = self.servers.split_off(self.servers.len().min(MOST_NAMESERVERS));
        let mut characters = 0;
        let mut fits = |domain: &String| {
            characters += domain.len() + 1;
            characters <= MOST_SEARCH_CHARACTERS + 1
        };
        let fitting = self.searches.iter().take(MOST_SEARCHES).take_while(|domain| fits(domain)).count();
        left_out.extend(self.searches.split_off(fitting));
        left_out
    }

    fn text(&self) -> String {
        let mut text: String = self.servers.iter().map(|server| format!("nameserver {server}\n")).collect();
        if !self.searches.is_empty() {
            let _ = writeln!(text, "search {}", self.searches.join(" "));
        }
        let option = |(name, value): &(String, Option<String>)| match value {
            Some(value) => format!("{name}:{value}"),
            None => name.clone(),
        };
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.iter().map(option).collect::<Vec<_>>().join(" "));
        }
        self.others.iter().for_each(|line| text.extend([line, "\n"]));
        text
    }
}
