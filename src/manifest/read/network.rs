//! Names, DNS and sysctls of the pod.

use std::collections::HashMap;

use super::metadata::named;
use super::ports::ip_address;
use crate::manifest::object::{Object, Slot};
use crate::manifest::pod::{
    DnsConfig, DnsOption, DnsPolicy, HostAlias, MOST_NAMESERVERS, MOST_SEARCH_CHARACTERS, MOST_SEARCHES, Sysctl,
    SysctlNamespace,
};
use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::{names, schema, sysctl};

/// Which namespaces are the host's: a setting in one of them would be the host's, too.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct OfTheHost {
    pub(super) network: bool,
    pub(super) ipc: bool,
}

pub(super) fn dns(object: &mut Object<'_>, problems: &mut Problems) -> (DnsPolicy, DnsConfig) {
    let policies = DnsPolicy::ALL.map(|policy| (policy.word(), policy));
    let policy = object.take_text("dnsPolicy").and_then(|slot| Some((slot.choice(&policies, problems)?, slot)));
    let asked = object.take("dnsConfig");
    let read = asked.and_then(|slot| slot.object(&schema::DNS_CONFIG, problems, config));
    let (config, servers) = read.unwrap_or_default();
    if let Some((DnsPolicy::None, slot)) = &policy
        && servers == 0
    {
        problems.absent(
            slot.position(),
            &slot.path,
            "None needs at least one name server in spec.dnsConfig.nameservers: there is no other",
        );
    }
    (policy.map_or(DnsPolicy::Default, |(policy, _)| policy), config)
}

/// Also how many name servers there are, with those that cannot be read.
fn config(object: &mut Object<'_>, problems: &mut Problems) -> (DnsConfig, usize) {
    let mut config = DnsConfig::default();
    let mut servers = 0;
    if let Some(slot) = object.take("nameservers") {
        let items = slot.list(problems);
        servers = items.len();
        if servers > MOST_NAMESERVERS {
            slot.invalid(problems, format!("has {servers} name servers; a resolver asks {MOST_NAMESERVERS} at most"));
        }
        config.nameservers = items.iter().filter_map(|item| ip_address(item, problems)).collect();
    }
    if let Some(slot) = object.take("searches") {
        config.searches = searches(&slot, problems);
    }
    if let Some(slot) = object.take("options") {
        let items = slot.list(problems);
        config.options = items.iter().filter_map(|item| item.object(&schema::DNS_OPTION, problems, option)).collect();
    }
    (config, servers)
}

fn searches(slot: &Slot<'_>, problems: &mut Problems) -> Vec<String> {
    let items = slot.list(problems);
    if items.len() > MOST_SEARCHES {
        slot.invalid(problems, format!("has {} search domains; Kubernetes allows {MOST_SEARCHES}", items.len()));
    }
    let searches: Vec<String> = items.iter().filter_map(|item| named(item, names::search_domain, problems)).collect();
    let characters = searches.join(" ").len();
    if characters > MOST_SEARCH_CHARACTERS {
        let message = format!(
            "has {characters} characters, with a space between two; Kubernetes allows {MOST_SEARCH_CHARACTERS}"
        );
        slot.invalid(problems, message);
    }
    searches
}

fn option(object: &mut Object<'_>, problems: &mut Problems) -> DnsOption {
    let name = object
        .require("name", "the option's name, as in resolv.conf(5)", problems)
        .and_then(|slot| named(&slot, names::resolver_word, problems));
    // Kubernetes writes "" for none.
    let value = object.take("value").filter(|slot| !slot.is_text(""));
    let value = value.and_then(|slot| named(&slot, names::resolver_word, problems));
    DnsOption { name: name.unwrap_or_default(), value }
}

pub(super) fn host_aliases(slot: &Slot<'_>, problems: &mut Problems) -> Vec<HostAlias> {
    let read = |object: &mut Object<'_>, problems: &mut Problems| {
        let ip = object.require("ip", "an IP address", problems).and_then(|slot| ip_address(&slot, problems));
        let hostnames = object.take("hostnames").map(|slot| {
            let items = slot.list(problems);
            items.iter().filter_map(|item| named(item, names::dns_subdomain, problems)).collect()
        });
        Some(HostAlias { ip: ip?, hostnames: hostnames.unwrap_or_default() })
    };
    slot.list(problems).iter().filter_map(|item| item.object(&schema::HOST_ALIAS, problems, read).flatten()).collect()
}

pub(super) fn sysctls(slot: &Slot<'_>, host: OfTheHost, problems: &mut Problems) -> Vec<Sysctl> {
    let mut places = HashMap::new();
    let mut read = |object: &mut Object<'_>, problems: &mut Problems| {
        let sysctl = object.require("name", "the sysctl's name", problems).and_then(|slot| {
            let name = named(&slot, sysctl::name, problems)?;
            let file = sysctl::file(&name);
            let namespace = namespaced(&name, &file, host, &slot, problems)?;
            if let Some(first) = places.get(&file) {
                slot.invalid(problems, format!("`{}` is already set at {first}", excerpt(&name)));
            } else {
                places.insert(file.clone(), slot.position());
            }
            Some((name, file, namespace))
        });
        let value =
            object.require("value", "what to set, as a string", problems).and_then(|slot| slot.string(problems));
        let (name, file, namespace) = sysctl?;
        Some(Sysctl { name, file, namespace, value: value?.to_owned() })
    };
    let items = slot.list(problems);
    items.iter().filter_map(|item| item.object(&schema::SYSCTL, problems, &mut read).flatten()).collect()
}

fn namespaced(
    name: &str,
    file: &std::path::Path,
    host: OfTheHost,
    slot: &Slot<'_>,
    problems: &mut Problems,
) -> Option<SysctlNamespace> {
    let name = excerpt(name);
    let namespace = sysctl::namespace(file);
    let shared = match namespace {
        Some(SysctlNamespace::Network) if host.network => "hostNetwork",
        Some(SysctlNamespace::Ipc) if host.ipc => "hostIPC",
        Some(namespace) => return Some(namespace),
        None => {
            let message = format!(
                "`{name}` is one for the whole host; a pod has its own net.*, kernel.shm*, kernel.msg*, kernel.sem and \
                 fs.mqueue.*"
            );
            slot.invalid(problems, message);
            return None;
        }
    };
    slot.invalid(problems, format!("`{name}` would be set for the host, since {shared} is true; remove one"));
    None
}
