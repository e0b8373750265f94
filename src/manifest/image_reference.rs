//! The name of an image in a registry, as Docker and Kubernetes parse it.
//!
//! The grammar is that of `github.com/distribution/reference` (reference.go, normalize.go), which containerd, CRI-O,
//! docker and podman share; Kubernetes documents it at
//! <https://kubernetes.io/docs/concepts/containers/images/#image-names>. Pure: no registry is asked.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The registry that a name without a domain belongs to.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The tag of a reference that has neither a tag nor a digest.
pub const DEFAULT_TAG: &str = "latest";
/// Bytes of registry and repository together (`RepositoryNameTotalLengthMax`).
const MAX_NAME: usize = 255;
/// Bytes of a tag.
const MAX_TAG: usize = 128;

/// A complete reference: registry, repository, and a tag, a digest or both. With both the digest decides which
/// manifest is meant, and the tag is only shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ImageReference {
    /// `docker.io`, `localhost:5000`, `[2001:db8::1]:5000`
    pub registry: String,
    /// `library/nginx`
    pub repository: String,
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits, or another algorithm that is registered with OCI.
    pub digest: Option<String>,
    /// The repository as it was written where no registry was (`nginx`): registries.conf(5) may give it another meaning
    /// than Docker's, which the other fields have.
    #[serde(default)]
    pub short_name: Option<String>,
}

impl fmt::Display for ImageReference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(out, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(out, "@{digest}")?;
        }
        Ok(())
    }
}

/// Why a text is not a reference. Each says which part is wrong and what is allowed there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    #[error("has no image name")]
    Empty,
    #[error(
        "has an invalid registry `{0}`: use a host name, an IPv4 address or an IPv6 address in brackets, and a port from 1 to 65535"
    )]
    Registry(String),
    #[error("has uppercase letters in `{0}`: a repository name is lowercase")]
    Uppercase(String),
    #[error(
        "has an invalid repository name `{0}`: use lowercase letters and digits, separated by `/`, `.`, `_`, `__` or `-`"
    )]
    Repository(String),
    #[error("has {0} bytes before its tag: a registry and a repository name have at most {MAX_NAME} together")]
    TooLong(usize),
    #[error(
        "has an invalid tag `{0}`: use at most {MAX_TAG} letters, digits, `_`, `.` and `-`, not `.` or `-` at its start"
    )]
    Tag(String),
    #[error("has an invalid digest `{0}`: use sha256: and 64 hexadecimal digits in lowercase")]
    Digest(String),
    /// docker takes such a name for the id of a local image; Kubernetes refuses it.
    #[error("is 64 hexadecimal digits, which is an image id and not a name: write NAME@sha256:{0}")]
    ImageId(String),
}

/// Parses `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]` and completes it with Docker's defaults.
///
/// # Errors
/// The first part that breaks the grammar.
pub fn parse(text: &str) -> Result<ImageReference, InvalidReference> {
    if text.is_empty() {
        return Err(InvalidReference::Empty);
    }
    if text.len() == 64 && text.bytes().all(is_lower_hex) {
        return Err(InvalidReference::ImageId(text.to_owned()));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(check_digest(digest)?)),
        None => (text, None),
    };
    let name = rest;
    let (registry, rest) = split_registry(name);
    let is_short = rest.len() == name.len();
    // Behind the last `/`, a colon can only begin a tag: a port ends before it.
    let (path, tag) = match rest.split_once(':') {
        Some((path, tag)) => (path, Some(check_tag(tag)?)),
        None => (rest, None),
    };
    if path.is_empty() {
        return Err(InvalidReference::Empty);
    }
    check_repository(path)?;
    let repository = match registry {
        // "Official images" have no namespace in their short name.
        DEFAULT_REGISTRY if !path.contains('/') => format!("library/{path}"),
        _ => path.to_owned(),
    };
    check_registry(registry)?;
    let length = registry.len() + 1 + repository.len();
    if length > MAX_NAME {
        return Err(InvalidReference::TooLong(length));
    }
    let tag = tag.or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
    let short_name = is_short.then(|| path.to_owned());
    Ok(ImageReference { registry: registry.to_owned(), repository, tag, digest, short_name })
}

/// The registry and what follows it. A first part without `.`, `:` and uppercase letters is a namespace of the default
/// registry, unless it is `localhost` (`splitDockerDomain` in normalize.go).
fn split_registry(text: &str) -> (&str, &str) {
    let Some((first, rest)) = text.split_once('/') else { return (DEFAULT_REGISTRY, text) };
    let names_a_host = first == "localhost" || first.contains(['.', ':']) || first.chars().any(char::is_uppercase);
    match first {
        // The address of Docker Hub's index, from before there was a distribution protocol.
        "index.docker.io" => (DEFAULT_REGISTRY, rest),
        _ if names_a_host => (first, rest),
        _ => (DEFAULT_REGISTRY, text),
    }
}

fn check_registry(registry: &str) -> Result<(), InvalidReference> {
    let invalid = || InvalidReference::Registry(registry.to_owned());
    let (host, port) = match registry.strip_prefix('[') {
        Some(address) => {
            let (address, port) = address.split_once(']').ok_or_else(invalid)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| invalid())?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or_else(invalid)?) };
            (None, port)
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        },
    };
    if let Some(host) = host {
        let label = |label: &str| {
            let inner = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
            inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        };
        if !host.split('.').all(label) {
            return Err(invalid());
        }
    }
    // The grammar takes any digits; no connection can be made to a port that does not exist.
    let number =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0);
    if port.is_some_and(|port| !number(port)) { Err(invalid()) } else { Ok(()) }
}

fn check_repository(path: &str) -> Result<(), InvalidReference> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(InvalidReference::Uppercase(path.to_owned()));
    }
    if path.split('/').all(is_path_component) { Ok(()) } else { Err(InvalidReference::Repository(path.to_owned())) }
}

/// `alpha-numeric [separator alpha-numeric]*`, where a separator is `.`, `_`, `__` or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !is_word(first) || !is_word(last) {
        return false;
    }
    let separators = component.split(|letter: char| letter.is_ascii() && is_word(letter as u8));
    separators
        .filter(|run| !run.is_empty())
        .all(|run| matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-'))
}

fn check_tag(tag: &str) -> Result<String, InvalidReference> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = tag.bytes();
    let valid = tag.len() <= MAX_TAG
        && bytes.next().is_some_and(is_word)
        && bytes.all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'));
    if valid { Ok(tag.to_owned()) } else { Err(InvalidReference::Tag(tag.to_owned())) }
}

/// Digests that OCI registers (image-spec, descriptor.md, "Registered algorithms").
fn check_digest(digest: &str) -> Result<String, InvalidReference> {
    let invalid = || InvalidReference::Digest(digest.to_owned());
    let (algorithm, hex) = digest.split_once(':').ok_or_else(invalid)?;
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(invalid()),
    };
    if hex.len() == length && hex.bytes().all(is_lower_hex) { Ok(digest.to_owned()) } else { Err(invalid()) }
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
#[path = "image_reference_tests.rs"]
mod tests;
