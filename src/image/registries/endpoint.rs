//! One registry to ask, with all that the asking needs: complete, and serializable for the process that asks.

use base64::Engine as _;
use serde::{Deserialize, Serialize};

use super::Credentials;

/// Where an image may be had. Of several, the first that has it is used: mirrors in order, then the registry itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `docker.io`, `localhost:5000`, `[::1]:5000`
    pub host: String,
    /// `library/nginx`
    pub repository: String,
    /// A tag, or a digest where the reference has one.
    pub reference: String,
    pub trust: Trust,
    pub client_certificate: Option<ClientCertificate>,
    pub proxies: Proxies,
    pub credentials: Option<Credentials>,
}

/// How a registry proves that it is the one that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Trust {
    /// TLS with a certificate that the system's authorities or one of these (of certs.d) signed.
    Verified { authorities: Vec<Der> },
    /// TLS with any certificate, or plain HTTP where there is no TLS: `insecure = true` of registries.conf(5).
    Insecure,
}

/// A certificate. JSON has it in base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Der(pub Vec<u8>);

impl Serialize for Der {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64::engine::general_purpose::STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Der {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Der, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.as_bytes());
        bytes.map(Der).map_err(serde::de::Error::custom)
    }
}

/// What proves to a registry who the user is: a pair of files `*.cert` and `*.key` of certs.d, both in PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientCertificate {
    /// The certificate itself, and those between it and an authority.
    pub certificate: String,
    pub key: String,
}

impl std::fmt::Debug for ClientCertificate {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "ClientCertificate")
    }
}

/// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proxies {
    /// For https: `http://proxy.example:3128`.
    pub https: Option<String>,
    pub http: Option<String>,
    /// Hosts that are asked directly.
    pub none: Vec<String>,
}
