//! The environment of a container.

use super::{Accepted, Field, Schema};

const VALUE: &str = "write the variable's `value` (without one it would be empty)";

pub(in crate::manifest) static ENV: Schema =
    Schema { place: "spec.containers[].env[]", supported: &["name", "value", "valueFrom"], others: &[] };

pub(in crate::manifest) static VALUE_FROM: Schema = Schema {
    place: "spec.containers[].env[].valueFrom",
    supported: &["fieldRef", "resourceFieldRef"],
    others: &[
        Field::not_yet("configMapKeyRef", VALUE).accepts(Accepted::Null),
        Field::not_yet("fileKeyRef", VALUE).accepts(Accepted::Null),
        Field::not_yet("secretKeyRef", VALUE).accepts(Accepted::Null),
    ],
};

pub(in crate::manifest) static FIELD_REF: Schema = Schema {
    place: "spec.containers[].env[].valueFrom.fieldRef",
    supported: &["apiVersion", "fieldPath"],
    others: &[],
};

pub(in crate::manifest) static RESOURCE_FIELD_REF: Schema = Schema {
    place: "spec.containers[].env[].valueFrom.resourceFieldRef",
    supported: &["containerName", "resource", "divisor"],
    others: &[],
};
