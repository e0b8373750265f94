//! `securityContext` of the pod and of a container.

use super::{Accepted, Field, Schema};

/// No profile, as here. The filter of system calls that every container has stays in force (docs/security.md).
const UNCONFINED: Accepted = Accepted::Fields(&[("type", Accepted::Words(&["Unconfined"]))]);

const APP_ARMOR: Field = Field::not_yet(
    "appArmorProfile",
    "no profile is applied; write {type: Unconfined} if the container may run without one",
)
.accepts(UNCONFINED);
const SECCOMP: Field = Field::not_yet(
    "seccompProfile",
    "no profile is applied; write {type: Unconfined} if the container may run with sandpod's own small filter alone",
)
.accepts(UNCONFINED);
const SE_LINUX: Field = Field::not_yet("seLinuxOptions", "without it the processes keep the label that sandpod has");
const WINDOWS: Field = Field::not_yet("windowsOptions", "containers run on Linux; leave it out");

pub(in crate::manifest) static POD_SECURITY: Schema = Schema {
    place: "spec.securityContext",
    supported: &["runAsUser", "runAsGroup", "runAsNonRoot", "sysctls"],
    others: &[
        APP_ARMOR,
        Field::not_yet(
            "fsGroup",
            "without it volumes keep the group that they have: an emptyDir can be written by every user of the pod, of a \
             hostPath the files' own modes decide",
        ),
        // It says how fsGroup is applied, and is nothing without it.
        Field::not_yet("fsGroupChangePolicy", "leave it out").accepts(Accepted::Words(&["OnRootMismatch", "Always"])),
        // Likewise of seLinuxOptions.
        Field::not_yet("seLinuxChangePolicy", "leave it out").accepts(Accepted::Words(&["MountOption", "Recursive"])),
        SE_LINUX,
        SECCOMP,
        Field::not_yet(
            "supplementalGroups",
            "without it the processes are in their own group and those of /etc/group alone",
        ),
        Field::not_yet("supplementalGroupsPolicy", "groups are those that the container's /etc/group says")
            .accepts(Accepted::Words(&["Merge"])),
        WINDOWS,
    ],
};

pub(in crate::manifest) static CONTAINER_SECURITY: Schema = Schema {
    place: "spec.containers[].securityContext",
    supported: &[
        "runAsUser",
        "runAsGroup",
        "runAsNonRoot",
        "readOnlyRootFilesystem",
        "allowPrivilegeEscalation",
        "capabilities",
    ],
    others: &[
        APP_ARMOR,
        Field::not_yet(
            "privileged",
            "no container has more rights than you; name what it needs: capabilities.add, a hostPath, hostNetwork",
        )
        .accepts(Accepted::Bools(&[false])),
        Field::not_yet("procMount", "parts of /proc stay masked").accepts(Accepted::Words(&["Default"])),
        SE_LINUX,
        SECCOMP,
        WINDOWS,
    ],
};

pub(in crate::manifest) static CAPABILITIES: Schema =
    Schema { place: "spec.containers[].securityContext.capabilities", supported: &["add", "drop"], others: &[] };
