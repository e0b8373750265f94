//! `env` of a container.

use super::metadata::named;
use super::resources::resource_named;
use crate::manifest::amount::Role;
use crate::manifest::names::{self, Rule};
use crate::manifest::object::{Object, Slot};
use crate::manifest::pod::{EnvValue, EnvVar, PodField, Resource, ResourceField};
use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::quantity::Quantity;
use crate::manifest::schema;
use crate::nearest::nearest;

/// Names of containers that variables refer to, each with where it stands: the container may come later.
pub(super) type ContainerRefs<'t> = Vec<(String, Slot<'t>)>;

/// A name may stand twice: the last one wins, as in Kubernetes.
pub(super) fn read<'t>(slot: &Slot<'t>, refs: &mut ContainerRefs<'t>, problems: &mut Problems) -> Vec<EnvVar> {
    let mut variable = |object: &mut Object<'t>, problems: &mut Problems| {
        let name = object
            .require("name", "the variable's name", problems)
            .and_then(|slot| named(&slot, names::env_name, problems));
        let value = object.take("value").and_then(|slot| slot.string(problems)).unwrap_or_default();
        let from = object.take("valueFrom");
        if let Some(slot) = from.as_ref().filter(|_| !value.is_empty()) {
            slot.invalid(problems, "must not stand beside `value`; remove one");
        }
        let from = from.and_then(|slot| {
            slot.object(&schema::VALUE_FROM, problems, |object, problems| value_from(&slot, object, refs, problems))
        });
        let value = from.flatten().unwrap_or_else(|| EnvValue::Text(value.to_owned()));
        EnvVar { name: name.unwrap_or_default(), value }
    };
    slot.list(problems).iter().filter_map(|item| item.object(&schema::ENV, problems, &mut variable)).collect()
}

fn value_from<'t>(
    whole: &Slot<'t>,
    object: &mut Object<'t>,
    refs: &mut ContainerRefs<'t>,
    problems: &mut Problems,
) -> Option<EnvValue> {
    let is_empty = object.is_empty();
    let (field, resource) = (object.take("fieldRef"), object.take("resourceFieldRef"));
    match (field, resource) {
        (Some(_), Some(slot)) => {
            slot.invalid(problems, "must not stand beside fieldRef; remove one");
            None
        }
        (Some(slot), None) => slot.object(&schema::FIELD_REF, problems, field_ref).flatten().map(EnvValue::Field),
        (None, Some(slot)) => {
            let read = |object: &mut Object<'t>, problems: &mut Problems| resource_field_ref(object, refs, problems);
            slot.object(&schema::RESOURCE_FIELD_REF, problems, read).flatten().map(EnvValue::Resource)
        }
        // Others have been refused by name.
        (None, None) if is_empty => {
            whole.invalid(problems, "must have one of fieldRef, resourceFieldRef");
            None
        }
        (None, None) => None,
    }
}

const FIELDS: [(&str, PodField); 6] = [
    ("metadata.name", PodField::Name),
    ("metadata.namespace", PodField::Namespace),
    ("metadata.uid", PodField::Uid),
    ("spec.nodeName", PodField::NodeName),
    ("status.podIP", PodField::PodIp),
    ("status.podIPs", PodField::PodIps),
];
const LABEL: &str = "metadata.labels";
const ANNOTATION: &str = "metadata.annotations";

fn field_ref(object: &mut Object<'_>, problems: &mut Problems) -> Option<PodField> {
    if let Some(version) = object.take_text("apiVersion")
        && let Some(text) = version.string(problems)
        && text != "v1"
    {
        version.invalid(problems, format!("`{}` has no Pod; write v1, or leave it out", excerpt(text)));
    }
    let slot = object.require("fieldPath", "the field of the pod, as metadata.name", problems)?;
    let text = slot.string(problems)?;
    if let Some((_, field)) = FIELDS.iter().find(|(name, _)| *name == text) {
        return Some(field.clone());
    }
    if let Some((map, subscript)) = text.split_once('[')
        && [LABEL, ANNOTATION].contains(&map)
    {
        return of_map(map, subscript, &slot, problems);
    }
    match text {
        "spec.serviceAccountName" => problems.unsupported(
            slot.position(),
            &slot.path,
            "spec.serviceAccountName is not supported: it is for a cluster; write the name you want as a `value`",
        ),
        "status.hostIP" | "status.hostIPs" => problems.unsupported(
            slot.position(),
            &slot.path,
            format!(
                "{text} is not supported: a machine has several addresses or none, and which of them leads to it from \
                 the pod is not known; write the one you mean as a `value`"
            ),
        ),
        LABEL | ANNOTATION => {
            slot.invalid(problems, format!("a variable is one of them: write {text}['KEY']"));
        }
        _ => {
            let names = FIELDS.iter().map(|(name, _)| *name).chain([LABEL, ANNOTATION]);
            let advice = match nearest(text, names.clone()) {
                Some((name, _)) => format!("did you mean `{name}`?"),
                None => format!("known: {}", names.collect::<Vec<_>>().join(", ")),
            };
            slot.invalid(problems, format!("`{}` is no field of a pod for a variable; {advice}", excerpt(text)));
        }
    }
    None
}

/// `subscript` is what follows the bracket: `'KEY']`.
fn of_map(map: &str, subscript: &str, slot: &Slot<'_>, problems: &mut Problems) -> Option<PodField> {
    let rule: fn(&str) -> Rule = if map == LABEL { names::label_key } else { names::annotation_key };
    let Some(key) = subscript.strip_prefix('\'').and_then(|rest| rest.strip_suffix("']")) else {
        slot.invalid(problems, format!("must be written {map}['KEY']"));
        return None;
    };
    match rule(key) {
        Ok(()) if map == LABEL => Some(PodField::Label(key.to_owned())),
        Ok(()) => Some(PodField::Annotation(key.to_owned())),
        Err(broken) => {
            slot.invalid(problems, format!("the key `{}` must {broken}", excerpt(key)));
            None
        }
    }
}

fn resource_field_ref<'t>(
    object: &mut Object<'t>,
    refs: &mut ContainerRefs<'t>,
    problems: &mut Problems,
) -> Option<ResourceField> {
    let container = object.take("containerName").and_then(|slot| {
        let name = slot.string(problems)?.to_owned();
        refs.push((name.clone(), slot));
        Some(name)
    });
    let divisor = object.take("divisor");
    let slot = object.require("resource", "limits.cpu, requests.memory and the like", problems)?;
    let (role, resource) = resource(&slot, problems)?;
    let divisor = match divisor {
        Some(slot) => self::divisor(&slot, resource, problems)?,
        None => unit(resource),
    };
    Some(ResourceField { container: container.filter(|name| !name.is_empty()), role, resource, divisor })
}

/// Of one cpu, or one byte.
fn unit(resource: Resource) -> u64 {
    if resource == Resource::Cpu { 1000 } else { 1 }
}

fn resource(slot: &Slot<'_>, problems: &mut Problems) -> Option<(Role, Resource)> {
    let text = slot.string(problems)?;
    let read = match text.split_once('.') {
        Some(("limits", name)) => resource_named(name).map(|resource| (Role::Limit, resource)),
        Some(("requests", name)) => resource_named(name).map(|resource| (Role::Request, resource)),
        _ => None,
    };
    if read.is_none() {
        let one = "one of cpu, memory, ephemeral-storage, hugepages-<size>";
        slot.invalid(problems, format!("`{}` must be `limits.` or `requests.` and {one}", excerpt(text)));
    }
    read
}

/// Thousandths of a cpu, or bytes. Kubernetes' choice (`validContainerResourceDivisorFor…`); 0 is 1 there.
fn divisor(slot: &Slot<'_>, resource: Resource, problems: &mut Problems) -> Option<u64> {
    let text = slot.quantity_text(problems)?;
    let quantity = text.parse::<Quantity>().ok();
    if quantity.is_some_and(|quantity| quantity.nanos() == 0) {
        return Some(unit(resource));
    }
    let exact = |scale: i128| quantity.filter(|it| it.nanos() % scale == 0).map(|it| it.nanos() / scale);
    let (amount, allowed) = if resource == Resource::Cpu {
        (exact(1_000_000).filter(|milli| [1, 1000].contains(milli)), "1 or 1m")
    } else {
        let is_step = |bytes: &i128| (0..=6).any(|step| *bytes == 1000_i128.pow(step) || *bytes == 1024_i128.pow(step));
        (exact(1_000_000_000).filter(is_step), "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi or 1Ei")
    };
    let amount = amount.and_then(|amount| u64::try_from(amount).ok());
    if amount.is_none() {
        slot.invalid(problems, format!("`{}` must be {allowed}", excerpt(text)));
    }
    amount
}
