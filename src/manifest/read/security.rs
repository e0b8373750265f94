//! `securityContext` of the pod and of a container, and what the two say together.

use super::network::{self, OfTheHost};
use crate::manifest::capability;
use crate::manifest::object::{Object, Slot};
use crate::manifest::pod::{ContainerSecurityContext, PodSecurityContext};
use crate::manifest::problem::{Problems, excerpt};
use crate::manifest::schema;
use crate::manifest::tree::Position;
use crate::nearest::nearest;

/// Kubernetes (`IsValidUserID`) stops at 2³¹−1, though the kernel has one bit more.
const IDS: std::ops::RangeInclusive<i64> = 0..=i32::MAX as i64;

/// What a manifest says about the user, with places, for the rule that looks at pod and container together.
#[derive(Debug, Default)]
pub(super) struct UserRules {
    /// The id is `None` where it could not be read, which is not the same as not being there.
    user: Option<Placed<Option<u32>>>,
    non_root: Option<Placed<bool>>,
}

#[derive(Debug)]
struct Placed<T> {
    value: T,
    position: Position,
    path: String,
}

pub(super) fn pod(slot: &Slot<'_>, host: OfTheHost, problems: &mut Problems) -> (PodSecurityContext, UserRules) {
    let read = slot.object(&schema::POD_SECURITY, problems, |object, problems| {
        let rules = user_rules(object, problems);
        let context = PodSecurityContext {
            run_as_user: rules.user_id(),
            run_as_group: group(object, problems),
            run_as_non_root: rules.non_root(),
            sysctls: object.take("sysctls").map(|slot| network::sysctls(&slot, host, problems)).unwrap_or_default(),
        };
        (context, rules)
    });
    read.unwrap_or_default()
}

pub(super) fn container(slot: &Slot<'_>, problems: &mut Problems) -> (ContainerSecurityContext, UserRules) {
    let read = slot.object(&schema::CONTAINER_SECURITY, problems, |object, problems| {
        let rules = user_rules(object, problems);
        let read_only = object.take("readOnlyRootFilesystem").and_then(|slot| slot.boolean(problems));
        let escalation = object.take("allowPrivilegeEscalation");
        let allow_privilege_escalation = escalation.as_ref().and_then(|slot| slot.boolean(problems));
        let (add, drop) = object
            .take("capabilities")
            .and_then(|slot| slot.object(&schema::CAPABILITIES, problems, capabilities))
            .unwrap_or_default();
        if let (Some(slot), Some(false)) = (&escalation, allow_privilege_escalation)
            && add.iter().any(|name| name == "SYS_ADMIN")
        {
            slot.invalid(
                problems,
                "must not be false when capabilities.add has SYS_ADMIN; remove one (Kubernetes says so too)",
            );
        }
        let context = ContainerSecurityContext {
            run_as_user: rules.user_id(),
            run_as_group: group(object, problems),
            run_as_non_root: rules.non_root(),
            read_only_root_filesystem: read_only.unwrap_or(false),
            allow_privilege_escalation,
            capabilities_add: add,
            capabilities_drop: drop,
        };
        (context, rules)
    });
    read.unwrap_or_default()
}

impl UserRules {
    fn user_id(&self) -> Option<u32> {
        self.user.as_ref().and_then(|user| user.value)
    }

    fn non_root(&self) -> Option<bool> {
        self.non_root.as_ref().map(|non_root| non_root.value)
    }
}

/// `runAsNonRoot` against the user that the container will have: its own, else the pod's, else root, because neither
/// `host:` nor `rootfs:` names a user as an image's configuration does.
pub(super) fn check_non_root(pod: &UserRules, container: &UserRules, name: &str, problems: &mut Problems) {
    let Some(asked) = container.non_root.as_ref().or(pod.non_root.as_ref()).filter(|asked| asked.value) else { return };
    match container.user.as_ref().or(pod.user.as_ref()) {
        Some(user) if user.value == Some(0) => {
            let message = format!("must not be 0: runAsNonRoot is true for container `{name}` (at {})", asked.position);
            problems.add(user.position, &user.path, message);
        }
        Some(_) => {}
        None => {
            let message = format!("container `{name}` would run as root, since no runAsUser is set; set one above 0");
            problems.absent(asked.position, &asked.path, message);
        }
    }
}

fn user_rules(object: &mut Object<'_>, problems: &mut Problems) -> UserRules {
    let user = object.take("runAsUser").map(|slot| Placed {
        value: slot.integer(IDS, problems).and_then(|id| u32::try_from(id).ok()),
        position: slot.position(),
        path: slot.path,
    });
    let non_root = object.take("runAsNonRoot").and_then(|slot| {
        let value = slot.boolean(problems)?;
        Some(Placed { value, position: slot.position(), path: slot.path })
    });
    UserRules { user, non_root }
}

fn group(object: &mut Object<'_>, problems: &mut Problems) -> Option<u32> {
    let id = object.take("runAsGroup").and_then(|slot| slot.integer(IDS, problems))?;
    u32::try_from(id).ok()
}

fn capabilities(object: &mut Object<'_>, problems: &mut Problems) -> (Vec<String>, Vec<String>) {
    let add = object.take("add").map(|slot| capability_names(&slot, problems));
    let drop = object.take("drop").map(|slot| capability_names(&slot, problems));
    (add.unwrap_or_default(), drop.unwrap_or_default())
}

fn capability_names(slot: &Slot<'_>, problems: &mut Problems) -> Vec<String> {
    let mut names = Vec::new();
    for item in slot.list(problems) {
        let Some(text) = item.string(problems) else { continue };
        if let Some(name) = capability::canonical(text) {
            names.push(name.to_owned());
            continue;
        }
        let bare = text.get(4..).filter(|_| text.to_ascii_uppercase().starts_with("CAP_")).unwrap_or(text);
        let advice = match nearest(bare, capability::LINUX_CAPABILITIES.into_iter().chain([capability::ALL])) {
            Some((name, _)) => format!("did you mean `{name}`?"),
            None => "capabilities(7) lists them; ALL stands for all".to_owned(),
        };
        item.invalid(problems, format!("`{}` is not a capability of Linux; {advice}", excerpt(text)));
    }
    names
}
