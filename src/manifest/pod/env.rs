//! Variables of a container's environment.

use super::super::amount::Role;
use super::Resource;

/// One `env` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvVar {
    pub name: String,
    pub value: EnvValue,
}

/// Where a variable's value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvValue {
    /// May hold `$(VAR)`.
    Text(String),
    /// `valueFrom.fieldRef`
    Field(PodField),
    /// `valueFrom.resourceFieldRef`
    Resource(ResourceField),
}

/// What a container may learn of its pod (Kubernetes' downward API).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodField {
    Name,
    Namespace,
    Uid,
    /// `metadata.labels['KEY']`
    Label(String),
    Annotation(String),
    NodeName,
    PodIp,
    PodIps,
}

/// An amount of a container's resources, in whole divisors, rounded up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceField {
    /// One of the pod; `None`: the container whose variable it is.
    pub container: Option<String>,
    pub role: Role,
    pub resource: Resource,
    /// Thousandths of a cpu, or bytes; never 0.
    pub divisor: u64,
}
