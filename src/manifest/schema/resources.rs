//! Limits and requests of a container and of the pod (KEP-2837).

use super::{Field, Schema};

const CLAIMS: &[Field] = &[Field::cluster("claims", "without it the devices are missing")];

pub(in crate::manifest) static RESOURCES: Schema =
    Schema { place: "spec.containers[].resources", supported: &["limits", "requests"], others: CLAIMS };

/// Of huge pages these are examples: every `hugepages-<size>` is read.
const OF_CONTAINER: &[&str] = &["cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "hugepages-1Gi"];
const OF_POD: &[&str] = &["cpu", "memory", "hugepages-2Mi", "hugepages-1Gi"];

pub(in crate::manifest) static LIMITS: Schema =
    Schema { place: "spec.containers[].resources.limits", supported: OF_CONTAINER, others: &[] };

pub(in crate::manifest) static REQUESTS: Schema =
    Schema { place: "spec.containers[].resources.requests", supported: OF_CONTAINER, others: &[] };

pub(in crate::manifest) static POD_RESOURCES: Schema =
    Schema { place: "spec.resources", supported: &["limits", "requests"], others: CLAIMS };

pub(in crate::manifest) static POD_LIMITS: Schema =
    Schema { place: "spec.resources.limits", supported: OF_POD, others: &[] };

pub(in crate::manifest) static POD_REQUESTS: Schema =
    Schema { place: "spec.resources.requests", supported: OF_POD, others: &[] };
