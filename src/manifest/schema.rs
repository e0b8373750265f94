//! Every field of Kubernetes' Pod (`core/v1/types.go` of Kubernetes v1.37): what sandpod does with it.
//!
//! A field is supported (its reader takes it), or is one of the `others`: refused by name, with what to write instead,
//! unless its value is one that says what is so anyway ([`Accepted`]). The lists of supported fields serve the messages
//! alone: the reader decides, and what it does not take is refused (see [`super::object`]).

mod accepted;
mod container;
mod env;
mod network;
mod pod;
mod resources;
mod security;
mod volume;

pub(super) use accepted::Accepted;
pub(super) use container::{CONTAINER, VOLUME_MOUNT};
pub(super) use env::{ENV, FIELD_REF, RESOURCE_FIELD_REF, VALUE_FROM};
pub(super) use network::{DNS_CONFIG, DNS_OPTION, HOST_ALIAS, PORT, SYSCTL};
pub(super) use pod::{METADATA, ROOT, SPEC};
pub(super) use resources::{LIMITS, POD_LIMITS, POD_REQUESTS, POD_RESOURCES, REQUESTS, RESOURCES};
pub(super) use security::{CAPABILITIES, CONTAINER_SECURITY, POD_SECURITY};
pub(super) use volume::{EMPTY_DIR, HOST_PATH, IMAGE_VOLUME, VOLUME};

/// The fields of one kind of object.
#[derive(Debug)]
pub(super) struct Schema {
    /// Its path in a manifest: `spec.containers[]`; empty for the root.
    pub(super) place: &'static str,
    pub(super) supported: &'static [&'static str],
    /// Kubernetes' other fields.
    pub(super) others: &'static [Field],
}

/// A field of Kubernetes that sandpod does not support.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) reason: Reason,
    /// The values without effect.
    pub(super) accepted: Accepted,
    /// What to write instead, or what is lost where it is left out.
    pub(super) advice: &'static str,
}

/// Why a field is not supported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    NotYet,
    /// About scheduling, identity or other parts of a cluster.
    ClusterOnly,
    /// Written by the API server, meaningless in a request.
    ServerSet,
}

impl Reason {
    /// The start of a refusal.
    pub(super) fn words(self) -> &'static str {
        match self {
            Reason::NotYet => "not supported yet",
            Reason::ClusterOnly => "not supported: it is for a cluster",
            Reason::ServerSet => "set by the API server",
        }
    }
}

impl Field {
    const fn new(name: &'static str, reason: Reason, advice: &'static str) -> Field {
        Field { name, reason, accepted: Accepted::Empty, advice }
    }

    const fn not_yet(name: &'static str, advice: &'static str) -> Field {
        Field::new(name, Reason::NotYet, advice)
    }

    const fn cluster(name: &'static str, advice: &'static str) -> Field {
        Field::new(name, Reason::ClusterOnly, advice)
    }

    const fn server(name: &'static str) -> Field {
        Field::new(name, Reason::ServerSet, "leave it out")
    }

    const fn accepts(self, accepted: Accepted) -> Field {
        Field { accepted, ..self }
    }
}

/// What Kubernetes' name means to sandpod.
#[derive(Debug, Clone, Copy)]
pub(super) enum Standing {
    Supported,
    Other(&'static Field),
    /// Not in Kubernetes' API at this place.
    Unknown,
}

impl Schema {
    pub(super) fn standing(&self, name: &str) -> Standing {
        if self.supported.contains(&name) {
            return Standing::Supported;
        }
        self.others.iter().find(|field| field.name == name).map_or(Standing::Unknown, Standing::Other)
    }

    pub(super) fn supports(&self, name: &str) -> bool {
        self.supported.contains(&name)
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        !matches!(self.standing(name), Standing::Unknown)
    }

    /// All names, the supported first, for suggestions.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.supported.iter().copied().chain(self.others.iter().map(|field| field.name))
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

/// Values of unsupported fields that are accepted, since they say what is so anyway: the field's path, and the values as
/// they are written. What is empty is accepted of nearly every field, and not listed.
pub fn accepted_values() -> impl Iterator<Item = (String, String)> {
    ALL.iter().flat_map(|schema| {
        let named = schema.others.iter().filter(|field| field.accepted.is_named());
        named.map(|field| (format!("{}.{}", schema.place, field.name), field.accepted.to_string()))
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
