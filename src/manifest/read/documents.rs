//! The objects of a manifest: its documents, with the items of a `kind: List`, and which of them is the Pod.

use crate::manifest::object::{Object, Slot};
use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::tree::Node;
use crate::nearest::nearest;

/// Kinds of Kubernetes that hold a Pod in a template.
const WORKLOADS: [&str; 8] =
    ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob", "PodTemplate"];

/// What `kubectl get` makes of several objects, and takes back.
const LISTS: [&str; 2] = ["List", "PodList"];

/// More objects than this are counted, not named.
const MAX_NAMED: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Also where the kind is missing or mistyped: what was meant is a Pod.
    Pod,
    Other,
}

/// Each document, or the items of one that is a List.
pub(in crate::manifest) fn objects(documents: &[Node]) -> Vec<Slot<'_>> {
    let mut objects = Vec::new();
    for document in documents {
        match list_items(document) {
            Some(items) => {
                let item = |(index, item)| Slot::at(item, format!("items[{index}]"));
                objects.extend(items.iter().enumerate().map(item));
            }
            None => objects.push(Slot::at(document, String::new())),
        }
    }
    objects
}

/// The first List that has no items.
pub(super) fn empty_list(documents: &[Node]) -> Option<Slot<'_>> {
    let list = documents.iter().find(|document| list_items(document).is_some_and(<[Node]>::is_empty))?;
    Some(Slot::at(list, String::new()))
}

fn list_items(document: &Node) -> Option<&[Node]> {
    let kind = document.field("kind")?.text()?;
    if !LISTS.contains(&kind) {
        return None;
    }
    document.field("items")?.items()
}

pub(super) fn kind_of(object: &Slot<'_>) -> Kind {
    match object.text_of("kind") {
        Some(kind) if kind != "Pod" && (is_workload(kind) || nearest(kind, ["Pod"]).is_none()) => Kind::Other,
        _ => Kind::Pod,
    }
}

fn is_workload(kind: &str) -> bool {
    WORKLOADS.contains(&kind)
}

/// Says once what else is in the manifest, at the first object that is not `pod`.
pub(super) fn refuse_several(objects: &[Slot<'_>], pod: &Slot<'_>, problems: &mut Problems) {
    let named: Vec<String> = objects.iter().take(MAX_NAMED).map(name).collect();
    let more = objects.len() - named.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let Some(other) = objects.iter().find(|object| object.position() != pod.position()) else { return };
    let message = format!(
        "there are {} objects here ({}{more}), and sandpod runs one Pod at a time: put each Pod into a file of its own, and \
         leave out the others",
        objects.len(),
        named.join(", ")
    );
    other.invalid(problems, message);
}

/// `Service in line 3`.
fn name(object: &Slot<'_>) -> String {
    format!("{} in line {}", excerpt(object.text_of("kind").unwrap_or("no kind")), object.position().line)
}

pub(super) fn check_kind(object: &mut Object<'_>, problems: &mut Problems) -> Kind {
    let Some(slot) = object.require("kind", "kind: Pod", problems) else { return Kind::Pod };
    let Some(kind) = slot.string(problems) else { return Kind::Pod };
    if kind == "Pod" {
        return Kind::Pod;
    }
    let name = excerpt(kind);
    if is_workload(kind) {
        slot.invalid(
            problems,
            format!("{name} is not supported, only Pod is; make a Pod of its pod template (metadata and spec)"),
        );
        return Kind::Other;
    }
    if nearest(kind, ["Pod"]).is_some() {
        slot.invalid(problems, format!("`{name}` is not a kind; did you mean `Pod`?"));
        return Kind::Pod;
    }
    slot.invalid(problems, format!("{name} is not supported; the only kind is Pod"));
    Kind::Other
}
