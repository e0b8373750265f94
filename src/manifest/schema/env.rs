//! The environment of a container.

use super::Schema;

pub(in crate::manifest) static ENV: Schema = Schema {
    place: "spec.containers[].env[]",
    supported: &["name", "value", "valueFrom"],
    not_yet: &[],
    cluster_only: &[],
    server_set: &[],
};

pub(in crate::manifest) static VALUE_FROM: Schema = Schema {
    place: "spec.containers[].env[].valueFrom",
    supported: &["fieldRef", "resourceFieldRef"],
    not_yet: &["configMapKeyRef", "fileKeyRef", "secretKeyRef"],
    cluster_only: &[],
    server_set: &[],
};

pub(in crate::manifest) static FIELD_REF: Schema = Schema {
    place: "spec.containers[].env[].valueFrom.fieldRef",
    supported: &["apiVersion", "fieldPath"],
    not_yet: &[],
    cluster_only: &[],
    server_set: &[],
};

pub(in crate::manifest) static RESOURCE_FIELD_REF: Schema = Schema {
    place: "spec.containers[].env[].valueFrom.resourceFieldRef",
    supported: &["containerName", "resource", "divisor"],
    not_yet: &[],
    cluster_only: &[],
    server_set: &[],
};
