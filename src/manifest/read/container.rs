//! One entry of `spec.containers`.

use std::collections::{BTreeSet, HashMap};

use super::env::{self, ContainerRefs};
use super::image;
use super::metadata::named;
use super::network::OfTheHost;
use super::ports::{self, HostPorts};
use super::resources::{self, Level};
use super::security::{self, UserRules};
use super::spec::UniqueNames;
use crate::manifest::names;
use crate::manifest::object::{Object, Slot};
use crate::manifest::pod::{Container, Image, TerminationMessagePolicy, VolumeMount};
use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::schema;
use crate::manifest::tree::Position;
use crate::nearest::nearest;

/// What a container is checked against.
pub(super) struct Surroundings<'s> {
    pub(super) volumes: &'s BTreeSet<String>,
    pub(super) security: &'s UserRules,
    pub(super) host: OfTheHost,
}

/// What containers share: each finds what those before it took.
#[derive(Debug, Default)]
pub(super) struct Siblings<'t> {
    names: UniqueNames,
    host_ports: HostPorts,
    refs: ContainerRefs<'t>,
}

impl Siblings<'_> {
    /// Refuses variables about a container that is not there, once all are known.
    pub(super) fn check_refs(self, containers: &[Container], problems: &mut Problems) {
        let names: BTreeSet<&str> = containers.iter().map(|container| container.name.as_str()).collect();
        for (name, slot) in self.refs {
            // Empty is as good as absent.
            if !name.is_empty() && !names.contains(name.as_str()) {
                let compared = if problems.are_many() { 0 } else { MAX_COMPARED };
                let advice = match nearest(&name, names.iter().copied().take(compared)) {
                    Some((container, _)) => format!("; did you mean `{}`?", excerpt(container)),
                    None => String::new(),
                };
                let message = format!("no container `{}` in spec.containers{advice}", excerpt(&name));
                problems.absent(slot.position(), &slot.path, message);
            }
        }
    }
}

pub(super) fn read<'t>(
    slot: &Slot<'t>,
    surroundings: &Surroundings<'_>,
    siblings: &mut Siblings<'t>,
    problems: &mut Problems,
) -> Option<Container> {
    slot.object(&schema::CONTAINER, problems, |object, problems| fields(object, surroundings, siblings, problems))
}

fn fields<'t>(
    object: &mut Object<'t>,
    surroundings: &Surroundings<'_>,
    siblings: &mut Siblings<'t>,
    problems: &mut Problems,
) -> Container {
    let name = object.require("name", "the container's name, unique in the Pod", problems).and_then(|slot| {
        let name = named(&slot, names::dns_label, problems)?;
        siblings.names.add(&name, "container name", &slot, problems);
        Some(name)
    });
    let name = name.unwrap_or_default();
    let image = object
        .require(
            "image",
            "the name of an image, \"host:\" (this machine's own system, in quotes) or rootfs:/DIR",
            problems,
        )
        .and_then(|slot| image::read(&slot, problems));
    let (security_context, rules) = match object.take("securityContext") {
        Some(slot) => security::container(&slot, problems),
        None => Default::default(),
    };
    // Which user an image has is known once it is here: the plan checks it.
    if !matches!(image, Some(Image::Stored(_))) {
        security::check_non_root(surroundings.security, &rules, &name, problems);
    }
    let image_pull_policy = image::pull_policy(object, "imagePullPolicy", image.as_ref(), problems);
    let (command, args) = command(object, image.as_ref(), &name, problems);
    Container {
        name,
        image: image.unwrap_or(Image::Host),
        image_pull_policy,
        command,
        args,
        working_dir: object.take("workingDir").and_then(|slot| working_dir(&slot, problems)),
        env: object.take("env").map(|slot| env::read(&slot, &mut siblings.refs, problems)).unwrap_or_default(),
        stdin: flag(object, "stdin", problems),
        stdin_once: flag(object, "stdinOnce", problems),
        tty: flag(object, "tty", problems),
        volume_mounts: object
            .take("volumeMounts")
            .map(|slot| volume_mounts(&slot, surroundings.volumes, problems))
            .unwrap_or_default(),
        ports: object
            .take("ports")
            .map(|slot| ports::read(&slot, surroundings.host.network, &mut siblings.host_ports, problems))
            .unwrap_or_default(),
        security_context,
        resources: object
            .take("resources")
            .map(|slot| resources::read(&slot, Level::Container, problems).resources())
            .unwrap_or_default(),
        termination_message_path: object
            .take("terminationMessagePath")
            .and_then(|slot| termination_message_path(&slot, problems))
            .unwrap_or_else(|| Container::TERMINATION_MESSAGE_PATH.to_owned()),
        termination_message_policy: object
            .take("terminationMessagePolicy")
            .and_then(|slot| slot.choice(&TERMINATION_MESSAGE_POLICIES, problems))
            .unwrap_or(TerminationMessagePolicy::File),
    }
}

/// Arguments need a program that takes them, and neither `host:` nor `rootfs:` has an entrypoint. Of an image it is known
/// once that is here: the plan decides.
fn command(
    object: &mut Object<'_>,
    image: Option<&Image>,
    container: &str,
    problems: &mut Problems,
) -> (Vec<String>, Vec<String>) {
    let slot = object.take("command");
    let command = slot.as_ref().map(|slot| slot.strings(problems)).unwrap_or_default();
    let has_command = slot.is_some_and(|slot| !slot.is_empty());
    let Some(slot) = object.take("args") else { return (command, Vec::new()) };
    let args = slot.strings(problems);
    if !has_command && !args.is_empty() && matches!(image, Some(Image::Host | Image::Rootfs(_))) {
        let message = format!(
            "container `{}` has args but no command, and neither `host:` nor `rootfs:` has an entrypoint that takes \
             them; put the program into `command`",
            excerpt(container)
        );
        problems.absent(slot.position(), &slot.path, message);
    }
    (command, args)
}

const TERMINATION_MESSAGE_POLICIES: [(&str, TerminationMessagePolicy); 3] = [
    ("File", TerminationMessagePolicy::File),
    ("FallbackToLogsOnError", TerminationMessagePolicy::FallbackToLogsOnError),
    ("", TerminationMessagePolicy::File),
];

/// Empty is as good as absent, as in Kubernetes.
fn termination_message_path(slot: &Slot<'_>, problems: &mut Problems) -> Option<String> {
    if slot.string(problems)?.is_empty() {
        return None;
    }
    mount_path(slot, problems)
}

fn flag(object: &mut Object<'_>, name: &'static str, problems: &mut Problems) -> bool {
    object.take(name).and_then(|slot| slot.boolean(problems)).unwrap_or(false)
}

/// Empty is as good as absent, as in Kubernetes.
fn working_dir(slot: &Slot<'_>, problems: &mut Problems) -> Option<String> {
    if slot.string(problems)?.is_empty() {
        return None;
    }
    named(slot, names::absolute_path, problems)
}

fn volume_mounts(slot: &Slot<'_>, volumes: &BTreeSet<String>, problems: &mut Problems) -> Vec<VolumeMount> {
    let mut places: HashMap<String, Position> = HashMap::new();
    let mut read = |object: &mut Object<'_>, problems: &mut Problems| {
        let name = object
            .require("name", "the name of a volume of the Pod", problems)
            .and_then(|slot| declared(&slot, volumes, problems));
        let path =
            object.require("mountPath", "where the volume appears in the container", problems).and_then(|slot| {
                let path = mount_path(&slot, problems)?;
                if let Some(first) = places.get(&path) {
                    slot.invalid(problems, format!("`{}` already has a volume mounted, at {first}", excerpt(&path)));
                } else {
                    places.insert(path.clone(), slot.position());
                }
                Some(path)
            });
        let read_only = flag(object, "readOnly", problems);
        recursive_read_only(object, read_only, problems);
        VolumeMount { name: name.unwrap_or_default(), mount_path: path.unwrap_or_default(), read_only }
    };
    let items = slot.list(problems);
    items.iter().filter_map(|item| item.object(&schema::VOLUME_MOUNT, problems, &mut read)).collect()
}

/// A read-only mount is always read-only with all that is mounted below it: `Enabled` and `IfPossible` say what is so, and
/// `Disabled`, Kubernetes' default, does not ask that something can be written.
fn recursive_read_only(object: &mut Object<'_>, read_only: bool, problems: &mut Problems) {
    let Some(slot) = object.take_text("recursiveReadOnly") else { return };
    let choices = [("Disabled", false), ("IfPossible", true), ("Enabled", true)];
    if slot.choice(&choices, problems) == Some(true) && !read_only {
        slot.invalid(problems, "needs `readOnly: true` beside it (Kubernetes says so too)");
    }
}

/// Names that a wrong one is compared with: thousands of both would take minutes.
const MAX_COMPARED: usize = 100;

fn declared(slot: &Slot<'_>, volumes: &BTreeSet<String>, problems: &mut Problems) -> Option<String> {
    let name = slot.string(problems)?;
    if !volumes.contains(name) {
        let compared = if problems.are_many() { 0 } else { MAX_COMPARED };
        let advice = match nearest(name, volumes.iter().map(String::as_str).take(compared)) {
            Some((volume, _)) => format!("did you mean `{}`?", excerpt(volume)),
            None => "declare it there".to_owned(),
        };
        problems.absent(
            slot.position(),
            &slot.path,
            format!("no volume `{}` in spec.volumes; {advice}", excerpt(name)),
        );
    }
    Some(name.to_owned())
}

/// Absolute and normalized.
fn mount_path(slot: &Slot<'_>, problems: &mut Problems) -> Option<String> {
    let path = names::normalized_path(&named(slot, names::absolute_path, problems)?);
    if path.contains(':') {
        slot.invalid(problems, "must not contain `:` (Kubernetes says so)");
        return None;
    }
    if path == "/" {
        slot.invalid(problems, "must not be `/`: it would hide the container's whole root file system");
        return None;
    }
    Some(path)
}
