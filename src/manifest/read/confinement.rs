//! Annotations that confine a container, or loosen it: what became fields of `securityContext` later, and what other
//! runtimes read. None of them is carried along in silence.

use crate::manifest::object::Slot;
use crate::manifest::problem::{Problems, excerpt};

/// How such an annotation's name begins, and the field or option that says the same.
const CONFINING: [(&str, &str); 9] = [
    // <https://kubernetes.io/docs/tutorials/security/apparmor/>, until v1.30.
    ("container.apparmor.security.beta.kubernetes.io/", "securityContext.appArmorProfile"),
    ("apparmor.security.beta.kubernetes.io/", "securityContext.appArmorProfile"),
    // Without effect in Kubernetes since v1.27.
    ("seccomp.security.alpha.kubernetes.io/", "securityContext.seccompProfile"),
    ("container.seccomp.security.alpha.kubernetes.io/", "securityContext.seccompProfile"),
    // The two of sysctls, until v1.11.
    ("security.alpha.kubernetes.io/", "spec.securityContext.sysctls"),
    // cri-o's and podman's own.
    ("seccomp-profile.kubernetes.cri-o.io", "securityContext.seccompProfile"),
    ("io.kubernetes.cri-o.userns-mode", "metadata.annotations[\"sandpod.dev/userns\"]"),
    ("io.podman.annotations.apparmor", "securityContext.appArmorProfile"),
    ("io.podman.annotations.seccomp", "securityContext.seccompProfile"),
];

pub(super) fn check(key: &str, text: &str, value: &Slot<'_>, problems: &mut Problems) {
    let Some((_, field)) = CONFINING.iter().find(|(prefix, _)| key.starts_with(prefix)) else { return };
    let message = match (field.ends_with("Profile"), text) {
        // As `{type: Unconfined}`.
        (true, "unconfined") => return,
        (true, _) => format!(
            "`{}` is not supported yet; no profile is applied; write `unconfined` if the container may run without one",
            excerpt(text)
        ),
        (false, _) => format!("not supported as an annotation; write {field}"),
    };
    problems.unsupported(value.position(), &value.path, message);
}
