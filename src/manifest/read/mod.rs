//! The tree as a Pod. Reads on after every error; where one left a hole, a placeholder fills it, which nobody sees
//! because a Pod with a problem is never handed out.

mod container;
mod env;
mod image;
mod metadata;
mod network;
mod ports;
mod resources;
mod security;
mod spec;
mod volume;

use super::object::{Object, Slot};
use super::pod::Pod;
use super::problem::{Coverage, Problems, excerpt};
use super::schema;
use super::tree::Node;
use crate::nearest::nearest;

/// Kinds of Kubernetes that hold a Pod in a template.
const WORKLOADS: [&str; 8] =
    ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ReplicationController", "Job", "CronJob", "PodTemplate"];

/// The one Pod among `documents`; `None` when there is none that can be read.
pub(super) fn pod(documents: &[Node], problems: &mut Problems) -> Option<Pod> {
    let Some((first, others)) = documents.split_first() else {
        if problems.coverage == Coverage::Whole {
            problems.general("is empty: a manifest needs apiVersion, kind, metadata and spec");
        }
        return None;
    };
    for other in others {
        problems.add(
            other.position,
            "",
            "a second document; sandpod runs one Pod at a time, so put each into a file of its own",
        );
    }
    Slot::root(first).object(&schema::ROOT, problems, root)?
}

fn root(object: &mut Object<'_>, problems: &mut Problems) -> Option<Pod> {
    let kind = check_kind(object, problems);
    if kind == Kind::Other {
        // Its fields would all be called unknown; one error says it better.
        object.leave_rest();
        return None;
    }
    if let Some(version) = object.require("apiVersion", "apiVersion: v1", problems)
        && let Some(text) = version.string(problems)
        && text != "v1"
    {
        version.invalid(problems, format!("`{}` has no Pod; write v1", excerpt(text)));
    }
    let metadata = object
        .require("metadata", "it holds the Pod's name", problems)
        .and_then(|slot| slot.object(&schema::METADATA, problems, metadata::read));
    let spec = object
        .require("spec", "it holds the Pod's containers", problems)
        .and_then(|slot| slot.object(&schema::SPEC, problems, spec::read));
    Some(Pod { metadata: metadata?, spec: spec? })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pod,
    Other,
}

fn check_kind(object: &mut Object<'_>, problems: &mut Problems) -> Kind {
    let Some(slot) = object.require("kind", "kind: Pod", problems) else { return Kind::Pod };
    let Some(kind) = slot.string(problems) else { return Kind::Pod };
    if kind == "Pod" {
        return Kind::Pod;
    }
    let name = excerpt(kind);
    if WORKLOADS.contains(&kind) {
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
