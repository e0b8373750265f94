//! /etc/resolv.conf: the host's own with what the manifest adds, by the kubelet's rules (`pkg/kubelet/network/dns`).

use std::fmt::Write;

use super::Degradation;
use super::degradation::{self, named};
use super::network::NetworkPlan;
use crate::manifest::{DnsConfig, DnsOption, DnsPolicy, MOST_NAMESERVERS, MOST_SEARCH_CHARACTERS, MOST_SEARCHES};

#[cfg(test)]
mod tests;

/// `of_the_host`: the text of its /etc/resolv.conf. The degradation is what did not fit.
pub(super) fn resolv_conf(
    policy: DnsPolicy,
    config: &DnsConfig,
    network: &NetworkPlan,
    of_the_host: &str,
) -> (String, Option<Degradation>) {
    let note = match policy {
        DnsPolicy::ClusterFirst | DnsPolicy::ClusterFirstWithHostNet => {
            format!("# dnsPolicy: {} is Default here: there is no cluster DNS.\n", policy.word())
        }
        DnsPolicy::Default | DnsPolicy::None => String::new(),
    };
    let own_forwarder = matches!(network, NetworkPlan::UserMode(_));
    if policy != DnsPolicy::None && *config == DnsConfig::default() && !own_forwarder {
        return (note + of_the_host, None);
    }
    let mut resolver = if policy == DnsPolicy::None { Resolver::default() } else { Resolver::parse(of_the_host) };
    // The name server of a user-mode network is its forwarder: the host's may listen on the host's loopback, which a pod
    // cannot reach (systemd-resolved's 127.0.0.53).
    if let (NetworkPlan::UserMode(user_mode), true) = (network, policy != DnsPolicy::None) {
        resolver.servers = vec![user_mode.ipv4.dns.to_string()];
    }
    resolver.add(config);
    let left_out = resolver.cut();
    let degradation = (!left_out.is_empty()).then(|| {
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
    (note + &resolver.text(), degradation)
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
