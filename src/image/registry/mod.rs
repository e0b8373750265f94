//! Pulls from one registry by the OCI distribution protocol (distribution-spec, "Pull").
//!
//! The registry is not trusted, and neither is what it points to: every body is bounded, a redirect to another host goes
//! without credentials, tokens are only fetched over TLS, and what arrives is compared with its digest by the caller or
//! here. `ureq` and not a registry crate: those that exist send Basic credentials to whatever realm a server names and put
//! no bound on bodies, inside functions that a caller cannot change.

mod challenge;
mod client;
mod push;
mod retry;
mod tls;
mod token;

use std::io::Read;
use std::time::Duration;

pub use client::Client;
pub use push::{Pushed, Sent};
pub use tls::TlsFault;

use super::descriptor::{ACCEPTED, MAX_DOCUMENT};
use super::digest::Digest;
use client::{Answer, Asked};
use retry::Retry;

#[cfg(test)]
mod tests;

/// Why a registry did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("could not reach {host}: {why}")]
    Unreachable { host: String, why: String },
    #[error("could not reach {host}: {fault}")]
    Tls { host: String, fault: TlsFault },
    #[error("{host} does not have {what} (404)")]
    NotFound { host: String, what: String },
    /// With the way to log in, where there were no credentials.
    #[error("{host} refuses access to {what} ({status})")]
    Denied { host: String, what: String, status: u16, had_credentials: bool },
    #[error("{host} asks to wait longer than is waited for: {seconds} s (429)")]
    RateLimited { host: String, seconds: u64 },
    #[error("{host} answered {status} for {what}: {said}")]
    Status { host: String, what: String, status: u16, said: String },
    /// A rule of the protocol that the answer breaks, or a way to steal a password.
    #[error("{host}: {why}")]
    Protocol { host: String, why: String },
    #[error("{what} of {host} has more than {limit} bytes")]
    TooLarge { host: String, what: String, limit: u64 },
    #[error("{what} of {host} has the digest {found}, and {expected} was asked for")]
    Digest { host: String, what: String, expected: Digest, found: Digest },
}

/// A manifest or index as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub bytes: Vec<u8>,
    /// Content-Type of the answer.
    pub media_type: String,
    pub digest: Digest,
}

impl Client {
    /// Asks a registry whether it takes the credentials (distribution-spec, "Determining Support").
    ///
    /// # Errors
    /// As [`manifest`](Self::manifest).
    pub fn check_login(&mut self) -> Result<(), RegistryError> {
        let what = "the registry".to_owned();
        let asked =
            Asked { path: "/v2/".to_owned(), accept: "*/*".to_owned(), what, repository: String::new(), from: 0 };
        self.get(&asked).map(drop)
    }

    /// Fetches the manifest or index of a tag (`1.25`) or a digest (`sha256:…`), which is compared with what comes.
    ///
    /// # Errors
    /// [`RegistryError`]; what can pass is tried again a few times first.
    pub fn manifest(&mut self, repository: &str, reference: &str) -> Result<Fetched, RegistryError> {
        let what = format!("manifest {repository}:{reference}");
        let asked = Asked {
            path: format!("/v2/{repository}/manifests/{reference}"),
            accept: ACCEPTED.join(", "),
            what: what.clone(),
            repository: repository.to_owned(),
            from: 0,
        };
        let answer = self.get(&asked)?;
        let media_type = answer.header("content-type").unwrap_or_default();
        let bytes = self.bounded(answer, &what, MAX_DOCUMENT)?;
        let digest = Digest::of(&bytes);
        match reference.parse::<Digest>() {
            Ok(expected) if expected != digest => {
                Err(RegistryError::Digest { host: self.host().to_owned(), what, expected, found: digest })
            }
            _ => Ok(Fetched { bytes, media_type, digest }),
        }
    }

    /// Opens a blob for reading, from byte `from` on, which is before its end. A connection that breaks is made again where
    /// it broke; the end of the reader is the end of the blob or an error. The caller compares the digest.
    ///
    /// # Errors
    /// As [`manifest`](Self::manifest).
    pub fn blob(&mut self, repository: &str, digest: Digest, size: u64, from: u64) -> Result<Blob<'_>, RegistryError> {
        let asked = Asked {
            path: format!("/v2/{repository}/blobs/{digest}"),
            accept: "*/*".to_owned(),
            what: format!("blob {digest} of {repository}"),
            repository: repository.to_owned(),
            from,
        };
        let answer = self.get(&asked)?;
        Ok(Blob { client: self, asked, answer, size, retry: Retry::default() })
    }

    fn bounded(&self, answer: Answer, what: &str, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let mut bytes = Vec::new();
        answer.body.take(limit + 1).read_to_end(&mut bytes).map_err(|error| self.unreachable(&error.to_string()))?;
        if bytes.len() as u64 > limit {
            return Err(RegistryError::TooLarge { host: self.host().to_owned(), what: what.to_owned(), limit });
        }
        Ok(bytes)
    }
}

/// A blob on its way. Reading fails with an [`std::io::Error`] that holds a [`RegistryError`].
pub struct Blob<'a> {
    client: &'a mut Client,
    asked: Asked,
    answer: Answer,
    size: u64,
    retry: Retry,
}

impl Read for Blob<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let why = match self.answer.body.read(buffer) {
                Ok(0) if self.asked.from < self.size => "the connection ended early".to_owned(),
                Ok(count) => {
                    self.asked.from += count as u64;
                    return Ok(count);
                }
                Err(error) => error.to_string(),
            };
            // Every byte that came since is a reason to go on.
            let Some(wait) = self.retry.after_break(self.asked.from) else {
                return Err(std::io::Error::other(self.client.unreachable(&why)));
            };
            std::thread::sleep(wait);
            self.answer = self.client.get(&self.asked).map_err(std::io::Error::other)?;
        }
    }
}

/// How long a connection may say nothing.
const SILENCE: Duration = Duration::from_secs(60);
