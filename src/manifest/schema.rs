//! Every field of Kubernetes' Pod (`core/v1/types.go` of Kubernetes, July 2026): what sandpod does with it.
//!
//! The lists serve the messages: a name that Kubernetes knows is told apart from a typo. They do not decide what is
//! accepted, the reader does: what it does not take is refused (see [`super::object`]).

mod env;
mod network;

pub(super) use env::{ENV, FIELD_REF, RESOURCE_FIELD_REF, VALUE_FROM};
pub(super) use network::{DNS_CONFIG, DNS_OPTION, HOST_ALIAS, PORT, SYSCTL};

/// The fields of one kind of object.
#[derive(Debug)]
pub(super) struct Schema {
    /// Where it stands in a manifest: `spec.containers[]`; empty for the root.
    pub(super) place: &'static str,
    pub(super) supported: &'static [&'static str],
    pub(super) not_yet: &'static [&'static str],
    /// About scheduling, identity or other parts of a cluster.
    pub(super) cluster_only: &'static [&'static str],
    /// Written by the API server, meaningless in a request.
    pub(super) server_set: &'static [&'static str],
}

/// What Kubernetes' name means to sandpod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Supported,
    NotYet,
    ClusterOnly,
    ServerSet,
    /// Not in Kubernetes' API at this place.
    Unknown,
}

impl Schema {
    pub(super) fn standing(&self, name: &str) -> Standing {
        if self.supported.contains(&name) {
            Standing::Supported
        } else if self.not_yet.contains(&name) {
            Standing::NotYet
        } else if self.cluster_only.contains(&name) {
            Standing::ClusterOnly
        } else if self.server_set.contains(&name) {
            Standing::ServerSet
        } else {
            Standing::Unknown
        }
    }

    /// All names, the supported first, for suggestions.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.supported, self.not_yet, self.cluster_only, self.server_set].into_iter().flatten().copied()
    }
}

/// Where a field of this name belongs, when it is one that sandpod supports and whose name means one thing only.
pub(super) fn rightful_place(name: &str) -> Option<&'static str> {
    // These stand in many objects, so the place says nothing about what was meant.
    if ["name", "path", "type", "value", "add", "drop", "ip", "options", "resource"].contains(&name) {
        return None;
    }
    ALL.iter().find(|schema| schema.supported.contains(&name)).map(|schema| match schema.place {
        "" => "the top level",
        place => place,
    })
}

/// Paths of all supported fields, as the documentation lists them: `spec.containers[].command`.
pub fn supported_fields() -> impl Iterator<Item = String> {
    ALL.iter().flat_map(|schema| {
        schema.supported.iter().map(|name| match schema.place {
            "" => (*name).to_owned(),
            place => format!("{place}.{name}"),
        })
    })
}

pub(super) const ALL: [&Schema; 26] = [
    &ROOT,
    &METADATA,
    &SPEC,
    &CONTAINER,
    &POD_SECURITY,
    &CONTAINER_SECURITY,
    &CAPABILITIES,
    &ENV,
    &VALUE_FROM,
    &FIELD_REF,
    &RESOURCE_FIELD_REF,
    &VOLUME_MOUNT,
    &PORT,
    &DNS_CONFIG,
    &DNS_OPTION,
    &HOST_ALIAS,
    &SYSCTL,
    &RESOURCES,
    &LIMITS,
    &REQUESTS,
    &POD_RESOURCES,
    &POD_LIMITS,
    &POD_REQUESTS,
    &VOLUME,
    &EMPTY_DIR,
    &HOST_PATH,
];

pub(super) static ROOT: Schema = Schema {
    place: "",
    supported: &["apiVersion", "kind", "metadata", "spec"],
    not_yet: &[],
    cluster_only: &[],
    server_set: &["status"],
};

pub(super) static METADATA: Schema = Schema {
    place: "metadata",
    supported: &["name", "namespace", "labels", "annotations"],
    not_yet: &["generateName"],
    cluster_only: &["finalizers", "ownerReferences"],
    server_set: &[
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "generation",
        "managedFields",
        "resourceVersion",
        "selfLink",
        "uid",
    ],
};

pub(super) static SPEC: Schema = Schema {
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
        "hostname",
        "subdomain",
        "setHostnameAsFQDN",
        "hostAliases",
        "dnsPolicy",
        "dnsConfig",
        "securityContext",
        "resources",
    ],
    not_yet: &[
        "activeDeadlineSeconds",
        "enableServiceLinks",
        "ephemeralContainers",
        "hostUsers",
        "hostnameOverride",
        "imagePullSecrets",
        "initContainers",
        "os",
    ],
    cluster_only: &[
        "affinity",
        "automountServiceAccountToken",
        "evictionResponders",
        "nodeName",
        "nodeSelector",
        "overhead",
        "preemptionPolicy",
        "priority",
        "priorityClassName",
        "readinessGates",
        "resourceClaims",
        "runtimeClassName",
        "schedulerName",
        "schedulingGates",
        "schedulingGroup",
        "serviceAccount",
        "serviceAccountName",
        "tolerations",
        "topologySpreadConstraints",
    ],
    server_set: &[],
};

pub(super) static CONTAINER: Schema = Schema {
    place: "spec.containers[]",
    supported: &[
        "name",
        "image",
        "command",
        "args",
        "workingDir",
        "env",
        "stdin",
        "tty",
        "volumeMounts",
        "ports",
        "securityContext",
        "resources",
    ],
    not_yet: &[
        "envFrom",
        "imagePullPolicy",
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "resizePolicy",
        "restartPolicy",
        "restartPolicyRules",
        "startupProbe",
        "stdinOnce",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "volumeDevices",
    ],
    cluster_only: &[],
    server_set: &[],
};

pub(super) static VOLUME_MOUNT: Schema = Schema {
    place: "spec.containers[].volumeMounts[]",
    supported: &["name", "mountPath", "readOnly"],
    not_yet: &["bindMountOptions", "mountPropagation", "recursiveReadOnly", "subPath", "subPathExpr"],
    cluster_only: &[],
    server_set: &[],
};

pub(super) static RESOURCES: Schema = Schema {
    place: "spec.containers[].resources",
    supported: &["limits", "requests"],
    not_yet: &[],
    cluster_only: &["claims"],
    server_set: &[],
};

/// Of huge pages these are examples: every `hugepages-<size>` is read.
pub(super) static LIMITS: Schema = Schema {
    place: "spec.containers[].resources.limits",
    supported: &["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "hugepages-1Gi"],
    not_yet: &[],
    cluster_only: &[],
    server_set: &[],
};

pub(super) static REQUESTS: Schema = Schema {
    place: "spec.containers[].resources.requests",
    supported: &["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "hugepages-1Gi"],
    not_yet: &[],
    cluster_only: &[],
    server_set: &[],
};

/// KEP-2837.
pub(super) static POD_RESOURCES: Schema = Schema {
    place: "spec.resources",
    supported: &["limits", "requests"],
    not_yet: &[],
    cluster_only: &["claims"],
    server_set: &[],
};

pub(super) static POD_LIMITS: Schema = Schema {
    place: "spec.resources.limits",
    supported: &["cpu", "memory", "hugepages-2Mi", "hugepages-1Gi"],
    not_yet: &[],
    cluster_only: &[],
    server_set: &[],
};

pub(super) static POD_REQUESTS: Schema = Schema {
    place: "spec.resources.requests",
    supported: &["cpu", "memory", "hugepages-2Mi", "hugepages-1Gi"],
    not_yet: &[],
    cluster_only: &[],
    server_set: &[],
};

pub(super) static POD_SECURITY: Schema = Schema {
    place: "spec.securityContext",
    supported: &["runAsUser", "runAsGroup", "runAsNonRoot", "sysctls"],
    not_yet: &[
        "appArmorProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "seLinuxChangePolicy",
        "seLinuxOptions",
        "seccompProfile",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "windowsOptions",
    ],
    cluster_only: &[],
    server_set: &[],
};

pub(super) static CONTAINER_SECURITY: Schema = Schema {
    place: "spec.containers[].securityContext",
    supported: &[
        "runAsUser",
        "runAsGroup",
        "runAsNonRoot",
        "readOnlyRootFilesystem",
        "allowPrivilegeEscalation",
        "capabilities",
    ],
    not_yet: &["appArmorProfile", "privileged", "procMount", "seLinuxOptions", "seccompProfile", "windowsOptions"],
    cluster_only: &[],
    server_set: &[],
};

pub(super) static CAPABILITIES: Schema = Schema {
    place: "spec.containers[].securityContext.capabilities",
    supported: &["add", "drop"],
    not_yet: &[],
    cluster_only: &[],
    server_set: &[],
};

pub(super) static VOLUME: Schema = Schema {
    place: "spec.volumes[]",
    supported: &["name", "emptyDir", "hostPath"],
    not_yet: &[
        "awsElasticBlockStore",
        "azureDisk",
        "azureFile",
        "cephfs",
        "cinder",
        "configMap",
        "csi",
        "downwardAPI",
        "ephemeral",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "gitRepo",
        "glusterfs",
        "image",
        "iscsi",
        "nfs",
        "persistentVolumeClaim",
        "photonPersistentDisk",
        "portworxVolume",
        "projected",
        "quobyte",
        "rbd",
        "scaleIO",
        "secret",
        "storageos",
        "vsphereVolume",
    ],
    cluster_only: &[],
    server_set: &[],
};

pub(super) static EMPTY_DIR: Schema = Schema {
    place: "spec.volumes[].emptyDir",
    supported: &["medium", "sizeLimit"],
    not_yet: &["mode"],
    cluster_only: &[],
    server_set: &[],
};

pub(super) static HOST_PATH: Schema = Schema {
    place: "spec.volumes[].hostPath",
    supported: &["path", "type"],
    not_yet: &[],
    cluster_only: &[],
    server_set: &[],
};
