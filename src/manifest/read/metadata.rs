//! `metadata`: the Pod's name, labels and annotations.

use std::collections::BTreeMap;

use crate::manifest::amount;
use crate::manifest::names::{self, Rule};
use crate::manifest::object::{Object, Slot};
use crate::manifest::pod::Metadata;
use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::proxy_protocol::ProxyProtocol;
use crate::manifest::scalar::ScalarKind;
use crate::nearest::nearest;

/// Bytes of all keys and values; `TotalAnnotationSizeLimitB` of Kubernetes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Ours, and what they may say; what each does is in docs/manifest.md.
const OWN_PREFIX: &str = "sandpod.dev/";
const OWN_ANNOTATIONS: [(&str, Allowed); 5] = [
    ("sandpod.dev/userns", Allowed::Words(&["auto", "root-is-you", "isolated", "single"])),
    ("sandpod.dev/swap", Allowed::Words(&["none", "limited"])),
    ("sandpod.dev/pids-limit", Allowed::Count),
    ("sandpod.dev/network", Allowed::Words(&["private", "slirp4netns", "pasta", "none", "host"])),
    ("sandpod.dev/proxy-protocol", Allowed::Ports),
];

#[derive(Debug, Clone, Copy)]
enum Allowed {
    Words(&'static [&'static str]),
    /// `pids.max`: `max`, or a number.
    Count,
    /// `v2`, or ports of containers. Whether they are published is the plan's to say: the command line publishes, too.
    Ports,
}

pub(super) fn read(object: &mut Object<'_>, problems: &mut Problems) -> Metadata {
    let name = object
        .require("name", "the Pod's name", problems)
        .and_then(|slot| named(&slot, names::dns_subdomain, problems));
    let namespace = object.take("namespace").and_then(|slot| named(&slot, names::dns_label, problems));
    let labels = object.take("labels").map(|slot| labels(&slot, problems));
    let annotations = object.take("annotations").map(|slot| annotations(&slot, problems));
    Metadata {
        name: name.unwrap_or_default(),
        namespace,
        labels: labels.unwrap_or_default(),
        annotations: annotations.unwrap_or_default(),
    }
}

/// A string that keeps a rule of [`names`].
pub(super) fn named(slot: &Slot<'_>, rule: fn(&str) -> Rule, problems: &mut Problems) -> Option<String> {
    let text = slot.string(problems)?;
    match rule(text) {
        Ok(()) => Some(text.to_owned()),
        Err(broken) => {
            slot.invalid(problems, format!("`{}` must {broken}", excerpt(text)));
            None
        }
    }
}

fn labels(slot: &Slot<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, value) in entries(slot, names::label_key, problems) {
        if let Some(text) = named(&value, names::label_value, problems) {
            labels.insert(key.to_owned(), text);
        }
    }
    labels
}

fn annotations(slot: &Slot<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    for (key, value) in entries(slot, names::annotation_key, problems) {
        if let Some(text) = value.string(problems) {
            if key.starts_with(OWN_PREFIX) {
                check_own_annotation(key, text, &value, problems);
            }
            annotations.insert(key.to_owned(), text.to_owned());
        }
    }
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_ANNOTATIONS {
        slot.invalid(problems, format!("is {size} bytes long in all; Kubernetes allows {MAX_ANNOTATIONS}"));
    }
    annotations
}

/// A typo in one of ours would otherwise do nothing, in silence.
fn check_own_annotation(key: &str, text: &str, value: &Slot<'_>, problems: &mut Problems) {
    let Some((_, allowed)) = OWN_ANNOTATIONS.iter().find(|(name, _)| *name == key) else {
        // What all have in common says nothing of what was meant.
        let ends = OWN_ANNOTATIONS.map(|(name, _)| name.strip_prefix(OWN_PREFIX).unwrap_or(name));
        let advice = match nearest(key.strip_prefix(OWN_PREFIX).unwrap_or(key), ends) {
            Some((end, _)) => format!("did you mean `{OWN_PREFIX}{end}`?"),
            None => format!("known: {}", OWN_ANNOTATIONS.map(|(name, _)| name).join(", ")),
        };
        value.invalid(problems, format!("unknown annotation of sandpod; {advice}"));
        return;
    };
    match allowed {
        Allowed::Words(choices) if key.ends_with("/network") && text.starts_with("pod:") => {
            let others = choices.join(", ");
            value
                .invalid(problems, format!("`pod:NAME` is for the option --network alone; here it is one of {others}"));
        }
        Allowed::Words(choices) if !choices.contains(&text) => {
            let words: Vec<(&str, ())> = choices.iter().map(|choice| (*choice, ())).collect();
            value.choice(&words, problems);
        }
        Allowed::Count => {
            if let Err(wrong) = amount::pids_limit(text) {
                value.invalid(problems, wrong);
            }
        }
        Allowed::Ports => {
            if let Err(wrong) = ProxyProtocol::parse(text) {
                value.invalid(problems, wrong);
            }
        }
        Allowed::Words(_) => {}
    }
}

fn entries<'t>(slot: &Slot<'t>, rule: fn(&str) -> Rule, problems: &mut Problems) -> Vec<(&'t str, Slot<'t>)> {
    let mut entries = Vec::new();
    for (key, value) in slot.string_map(problems) {
        let text = excerpt(&key.text);
        if key.kind != ScalarKind::String {
            let message = format!(
                "the key must be a string: kubectl reads a bare `{text}` as something else; quote it: \"{text}\""
            );
            problems.add(key.position, &value.path, message);
        } else if let Err(broken) = rule(&key.text) {
            problems.add(key.position, &value.path, format!("the key `{text}` must {broken}"));
        } else {
            entries.push((key.text.as_str(), value));
        }
    }
    entries
}
