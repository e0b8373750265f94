//! The tree as a Pod. Reads on after every error; where one left a hole, a placeholder fills it, which nobody sees
//! because a Pod with a problem is never handed out.

mod confinement;
mod container;
mod documents;
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
pub(super) use documents::objects;
use documents::{Kind, kind_of};

/// The one Pod among `documents`; `None` when there is none that can be read.
pub(super) fn pod(documents: &[Node], problems: &mut Problems) -> Option<Pod> {
    let objects = documents::objects(documents);
    if let Some(empty) = documents::empty_list(documents) {
        problems.absent(empty.position(), &empty.path, "is a list without items; a manifest needs one Pod");
        return None;
    }
    if objects.is_empty() && problems.coverage == Coverage::Whole {
        problems.general("is empty: a manifest needs apiVersion, kind, metadata and spec");
    }
    let pods: Vec<&Slot<'_>> = objects.iter().filter(|object| kind_of(object) == Kind::Pod).collect();
    if let (Some(pod), true) = (pods.first(), objects.len() > 1) {
        documents::refuse_several(&objects, pod, problems);
    }
    // Without any Pod, each object says why it is none.
    let read: Vec<&Slot<'_>> = if pods.is_empty() { objects.iter().collect() } else { pods };
    let mut read = read.iter().map(|object| object.object(&schema::ROOT, problems, root).flatten());
    let first = read.next()?;
    // All are read for their problems.
    read.for_each(drop);
    first
}

fn root(object: &mut Object<'_>, problems: &mut Problems) -> Option<Pod> {
    if documents::check_kind(object, problems) == Kind::Other {
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
    let userns = metadata.as_ref().and_then(|metadata| metadata.annotations.get("sandpod.dev/userns"));
    let userns = userns.map(String::as_str);
    let spec = object
        .require("spec", "it holds the Pod's containers", problems)
        .and_then(|slot| slot.object(&schema::SPEC, problems, |object, problems| spec::read(object, userns, problems)));
    Some(Pod { metadata: metadata?, spec: spec? })
}
