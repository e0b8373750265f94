//! The object itself, its metadata and its `spec`.

use super::{Accepted, Field, Schema};

pub(in crate::manifest) static ROOT: Schema =
    Schema { place: "", supported: &["apiVersion", "kind", "metadata", "spec"], others: &[Field::server("status")] };

pub(in crate::manifest) static METADATA: Schema = Schema {
    place: "metadata",
    supported: &["name", "generateName", "namespace", "labels", "annotations"],
    others: &[
        Field::cluster("finalizers", "nothing waits for one when a pod is removed"),
        Field::cluster("ownerReferences", "no object here owns a pod"),
        Field::server("creationTimestamp"),
        Field::server("deletionGracePeriodSeconds"),
        Field::server("deletionTimestamp"),
        Field::server("generation"),
        Field::server("managedFields"),
        Field::server("resourceVersion"),
        Field::server("selfLink"),
        Field::server("uid"),
    ],
};

/// Kubernetes' name of this machine's processors (`GOARCH`).
const ARCH: &str = if cfg!(target_arch = "x86_64") {
    "amd64"
} else if cfg!(target_arch = "aarch64") {
    "arm64"
} else if cfg!(target_arch = "powerpc64") {
    "ppc64le"
} else {
    std::env::consts::ARCH
};

/// Labels that this machine would have as a node.
const NODE_LABELS: Accepted = Accepted::Fields(&[
    ("kubernetes.io/os", Accepted::Words(&["linux"])),
    ("kubernetes.io/arch", Accepted::Words(&[ARCH])),
    ("beta.kubernetes.io/os", Accepted::Words(&["linux"])),
    ("beta.kubernetes.io/arch", Accepted::Words(&[ARCH])),
]);

/// What the admission plugin DefaultTolerationSeconds adds to every pod, and `kubectl get` shows.
const DEFAULT_TOLERATION: Accepted = Accepted::Fields(&[
    ("key", Accepted::Words(&["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"])),
    ("operator", Accepted::Words(&["Exists"])),
    ("effect", Accepted::Words(&["NoExecute"])),
    ("tolerationSeconds", Accepted::Number(300)),
]);

const ONE_NODE: &str = "there is one node, this machine, and the pod runs on it without this field";
const ONE_PRIORITY: &str = "pods here do not preempt each other; leave it out";
const NO_IDENTITY: &str = "there is no API server to identify to; a program that needs one must get its credentials by \
                           a hostPath";

pub(in crate::manifest) static SPEC: Schema = Schema {
    place: "spec",
    supported: &[
        "containers",
        "volumes",
        "restartPolicy",
        "terminationGracePeriodSeconds",
        "shareProcessNamespace",
        "hostNetwork",
        "hostIPC",
        "hostPID",
        "hostUsers",
        "hostname",
        "subdomain",
        "setHostnameAsFQDN",
        "hostAliases",
        "dnsPolicy",
        "dnsConfig",
        "securityContext",
        "resources",
    ],
    others: &[
        Field::not_yet(
            "activeDeadlineSeconds",
            "without it nothing ends the pod after that time; timeout(1) in `command` ends a container",
        ),
        // There is no Service, so neither value adds a variable.
        Field::not_yet("enableServiceLinks", "there are no Services to make variables of")
            .accepts(Accepted::Bools(&[true, false])),
        Field::not_yet("ephemeralContainers", "`sandpod exec` runs a command in a container of a running pod"),
        Field::not_yet("hostnameOverride", "write spec.hostname"),
        Field::not_yet(
            "imagePullSecrets",
            "`host:` and `rootfs:` are not pulled, so no secret is needed; leave it out",
        ),
        Field::not_yet(
            "initContainers",
            "without it what they prepare is missing: run that first in the container's own command, as [\"sh\", \"-c\", \
             \"PREPARE && exec MAIN\"]; a sidecar (restartPolicy: Always) can be one of spec.containers",
        ),
        Field::not_yet("os", "containers run on Linux")
            .accepts(Accepted::Fields(&[("name", Accepted::Words(&["linux"]))])),
        Field::cluster("affinity", ONE_NODE),
        Field::cluster("automountServiceAccountToken", "there is no API server and so no token to mount; leave it out")
            .accepts(Accepted::Bools(&[false])),
        Field::cluster("evictionResponders", "leave it out"),
        Field::cluster("nodeName", ONE_NODE),
        Field::cluster("nodeSelector", ONE_NODE).accepts(NODE_LABELS),
        Field::cluster("overhead", "add it to spec.resources"),
        Field::cluster("preemptionPolicy", ONE_PRIORITY).accepts(Accepted::Words(&["PreemptLowerPriority"])),
        Field::cluster("priority", ONE_PRIORITY).accepts(Accepted::Number(0)),
        Field::cluster("priorityClassName", ONE_PRIORITY),
        Field::cluster("readinessGates", "nothing here sets such a condition; leave it out"),
        Field::cluster("resourceClaims", "without it the devices are missing"),
        Field::cluster(
            "runtimeClassName",
            "sandpod is the only runtime here; without the field the pod has sandpod's isolation, not that class's",
        ),
        Field::cluster("schedulerName", ONE_NODE).accepts(Accepted::Words(&["default-scheduler"])),
        Field::cluster("schedulingGates", "without it the pod starts at once"),
        Field::cluster("schedulingGroup", ONE_NODE),
        Field::cluster("serviceAccount", NO_IDENTITY).accepts(Accepted::Words(&["default"])),
        Field::cluster("serviceAccountName", NO_IDENTITY).accepts(Accepted::Words(&["default"])),
        Field::cluster("tolerations", "there are no taints to tolerate; leave it out")
            .accepts(Accepted::Each(&DEFAULT_TOLERATION)),
        Field::cluster("topologySpreadConstraints", ONE_NODE),
    ],
};
