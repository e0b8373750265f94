//! `resources` of a container and of the Pod, and Kubernetes' rules between limits, requests and the two levels
//! (`ValidateContainerResourceRequirements` and `validatePodResources` of Kubernetes; KEP-2837).

use std::collections::BTreeMap;

use crate::manifest::amount::{Role, amount, huge_page_size, written};
use crate::manifest::object::{Object, Slot};
use crate::manifest::pod::{Amounts, Container, Resource, Resources};
use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::schema::{self, Schema};

const NAMED: [(&str, Resource); 3] =
    [("cpu", Resource::Cpu), ("memory", Resource::Memory), ("ephemeral-storage", Resource::EphemeralStorage)];

/// The resource of this name, if it is one that can stand in `limits` or `requests`.
pub(super) fn resource_named(name: &str) -> Option<Resource> {
    let plain = NAMED.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource);
    let huge = || huge_page_size(name).ok().filter(|_| name.starts_with("hugepages-")).map(Resource::HugePages);
    plain.or_else(huge)
}

/// Whose resources they are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Level {
    Container,
    Pod,
}

impl Level {
    fn schema(self) -> &'static Schema {
        match self {
            Level::Container => &schema::RESOURCES,
            Level::Pod => &schema::POD_RESOURCES,
        }
    }

    fn amounts(self, role: Role) -> &'static Schema {
        match (self, role) {
            (Level::Container, Role::Limit) => &schema::LIMITS,
            (Level::Container, Role::Request) => &schema::REQUESTS,
            (Level::Pod, Role::Limit) => &schema::POD_LIMITS,
            (Level::Pod, Role::Request) => &schema::POD_REQUESTS,
        }
    }
}

/// What stands there, also where it cannot be read: a second error about the same line would only confuse.
#[derive(Debug, Default)]
pub(super) struct Read<'t> {
    limits: Entries<'t>,
    requests: Entries<'t>,
}

type Entries<'t> = BTreeMap<Resource, (Slot<'t>, Option<u64>)>;

impl Read<'_> {
    pub(super) fn resources(&self) -> Resources {
        Resources { limits: amounts(&self.limits), requests: amounts(&self.requests) }
    }
}

fn amounts(entries: &Entries<'_>) -> Amounts {
    let mut amounts = Amounts::default();
    for (resource, (_, amount)) in entries {
        if let Some(amount) = amount {
            amounts.set(*resource, *amount);
        }
    }
    amounts
}

pub(super) fn read<'t>(slot: &Slot<'t>, level: Level, problems: &mut Problems) -> Read<'t> {
    let fields = |object: &mut Object<'t>, problems: &mut Problems| {
        let limits = object.take("limits").map(|slot| entries(&slot, level, Role::Limit, problems));
        let requests = object.take("requests").map(|slot| entries(&slot, level, Role::Request, problems));
        Read { limits: limits.unwrap_or_default(), requests: requests.unwrap_or_default() }
    };
    let read = slot.object(level.schema(), problems, fields).unwrap_or_default();
    check_requests(&read, problems);
    check_huge_pages(&read, problems);
    read
}

fn entries<'t>(slot: &Slot<'t>, level: Level, role: Role, problems: &mut Problems) -> Entries<'t> {
    let schema = level.amounts(role);
    let read = |object: &mut Object<'t>, problems: &mut Problems| {
        let mut entries = Entries::new();
        // `memory:` with nothing behind it, from a template perhaps: no limit at all is not what was meant.
        let is_known = |name: &str| schema.knows(name) || name.starts_with("hugepages-");
        for key in object.null_fields(is_known) {
            problems.add(key.position, &object.path_of(&key.text), "has no value; fill it in or remove it");
        }
        let mut add = |resource: Resource, slot: Slot<'t>, problems: &mut Problems| {
            let amount = read_amount(resource, role, &slot, problems);
            entries.insert(resource, (slot, amount));
        };
        for (name, resource) in NAMED {
            if schema.supports(name)
                && let Some(slot) = object.take(name)
            {
                add(resource, slot, problems);
            }
        }
        for (key, slot) in object.take_where(|name| name.starts_with("hugepages-")) {
            match huge_page_size(&key.text) {
                Ok(page) => add(Resource::HugePages(page), slot, problems),
                Err(wrong) => problems.add(key.position, &slot.path, wrong),
            }
        }
        for (key, slot) in object.take_where(|name| name.contains('/')) {
            let message = "extended resources (of device plugins) are not supported; a device can be a hostPath volume";
            problems.unsupported(key.position, &slot.path, message);
        }
        entries
    };
    slot.object(schema, problems, read).unwrap_or_default()
}

fn read_amount(resource: Resource, role: Role, slot: &Slot<'_>, problems: &mut Problems) -> Option<u64> {
    let text = slot.quantity_text(problems)?;
    amount(resource, role, text).map_err(|wrong| slot.invalid(problems, wrong)).ok()
}

fn check_requests(read: &Read<'_>, problems: &mut Problems) {
    for (resource, (slot, request)) in &read.requests {
        let huge = matches!(resource, Resource::HugePages(_));
        let Some((limit_slot, limit)) = read.limits.get(resource) else {
            if huge {
                let message = "needs the same limit: huge pages cannot be overcommitted";
                problems.absent(slot.position(), &slot.path, message);
            }
            continue;
        };
        let (Some(request), Some(limit)) = (*request, *limit) else { continue };
        let (asked, line) = (written(*resource, request), limit_slot.position().line);
        let allowed = written(*resource, limit);
        if huge && request != limit {
            slot.invalid(problems, format!("`{asked}` must equal the limit, {allowed} in line {line}"));
        } else if request > limit {
            let message = format!(
                "`{asked}` is more than the limit, {allowed} in line {line}; lower the request or raise the limit"
            );
            slot.invalid(problems, message);
        }
    }
}

fn check_huge_pages(read: &Read<'_>, problems: &mut Problems) {
    let all = || read.limits.iter().chain(&read.requests);
    if all().any(|(resource, _)| matches!(resource, Resource::Cpu | Resource::Memory)) {
        return;
    }
    if let Some((_, (slot, _))) = all().find(|(resource, _)| matches!(resource, Resource::HugePages(_))) {
        let message = "huge pages need cpu or memory beside them (Kubernetes says so)";
        problems.absent(slot.position(), &slot.path, message);
    }
}

/// The Pod's own resources against those of its containers: not less than what they request together, nor than the
/// limit of any one of them. That their limits together are more is what pod-level limits are for.
pub(super) fn check_pod(pod: &Read<'_>, containers: &[Container], problems: &mut Problems) {
    for (role, entries) in [(Role::Request, &pod.requests), (Role::Limit, &pod.limits)] {
        for (resource, (slot, amount)) in entries {
            let Some(amount) = *amount else { continue };
            let together = containers
                .iter()
                .filter_map(|container| container.resources.request(*resource))
                .fold(0, u64::saturating_add);
            let greatest = containers.iter().max_by_key(|container| container.resources.limits.get(*resource));
            let greatest = greatest.filter(|container| container.resources.limits.get(*resource) > Some(amount));
            let shown = written(*resource, amount);
            if let (Role::Limit, Some(container)) = (role, greatest) {
                let limit = container.resources.limits.get(*resource).map(|limit| written(*resource, limit));
                let (name, limit) = (excerpt(&container.name), limit.unwrap_or_default());
                slot.invalid(problems, format!("`{shown}` is less than the limit of container `{name}`, {limit}"));
            } else if amount < together {
                let together = written(*resource, together);
                slot.invalid(
                    problems,
                    format!("`{shown}` is less than what the containers request together, {together}"),
                );
            }
        }
    }
}
