//! `metadata`: the Pod's name, labels and annotations.

use std::collections::BTreeMap;

use super::confinement;
use super::spec::UniqueNames;
use crate::manifest::amount;
use crate::manifest::names::{self, Rule};
use crate::manifest::object::{Object, Slot};
use crate::manifest::pod::Metadata;
use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::proxy_protocol::ProxyProtocol;
use crate::manifest::scalar::ScalarKind;
use crate::manifest::tree::Key;
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
    let generate_name = object.take_text("generateName");
    let generate_name = generate_name.map(|slot| named(&slot, names::name_prefix, problems).unwrap_or_default());
    let name = match &generate_name {
        Some(_) => object.take_text("name"),
        None => object.require("name", "the Pod's name", problems),
    };
    let is_named = name.is_some();
    let name = name.and_then(|slot| named(&slot, names::dns_subdomain, problems));
    let namespace = object.take_text("namespace").and_then(|slot| named(&slot, names::dns_label, problems));
    let labels = object.take("labels").map(|slot| labels(&slot, problems));
    let annotations = object.take("annotations").map(|slot| annotations(&slot, problems));
    Metadata {
        name: name.unwrap_or_default(),
        // Kubernetes ignores it beside a name.
        generate_name: generate_name.filter(|_| !is_named),
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
            labels.insert(key, text);
        }
    }
    labels
}

fn annotations(slot: &Slot<'_>, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    for (key, value) in entries(slot, names::annotation_key, problems) {
        if let Some(text) = value.string(problems) {
            if key.starts_with(OWN_PREFIX) {
                check_own_annotation(&key, text, &value, problems);
            }
            confinement::check(&key, text, &value, problems);
            annotations.insert(key, text.to_owned());
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

/// Each key as Kubernetes has it, once, with its value.
fn entries<'t>(slot: &Slot<'t>, rule: fn(&str) -> Rule, problems: &mut Problems) -> Vec<(String, Slot<'t>)> {
    let mut entries = Vec::new();
    let mut names = UniqueNames::default();
    for (key, value) in slot.string_map(problems) {
        let text = excerpt(&key.text);
        let Some(name) = as_kubectl(key) else {
            let message = format!(
                "the key must be a string: kubectl reads a bare `{text}` as something else; quote it: \"{text}\""
            );
            problems.add(key.position, &value.path, message);
            continue;
        };
        if let Err(broken) = rule(&name) {
            problems.add(key.position, &value.path, format!("the key `{text}` must {broken}"));
            continue;
        }
        names.add(&name, "key", &value, problems);
        entries.push((name, value));
    }
    entries
}

/// The key in JSON, into which kubectl turns the manifest (`convertToJSONableObject` of sigs.k8s.io/yaml): 1 is "1". What
/// would surprise has none: `on` is "true", and large numbers change their notation.
fn as_kubectl(key: &Key) -> Option<String> {
    match key.kind {
        ScalarKind::String => Some(key.text.clone()),
        ScalarKind::Integer(number) => Some(number.to_string()),
        ScalarKind::Bool(value) => Some(value.to_string()),
        ScalarKind::Float => {
            let number = key.text.parse::<f32>().ok()?;
            (number == 0.0 || (1e-4..1e6).contains(&number.abs())).then(|| number.to_string())
        }
        ScalarKind::Null | ScalarKind::LegacyBool(_) | ScalarKind::HugeInteger => None,
    }
}
