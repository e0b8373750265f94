//! Pushes to one registry (distribution-spec, "Push"): blobs in one piece each where the registry takes that, the manifest last.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use ureq::SendBody;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LOCATION, RETRY_AFTER};

use super::RegistryError;
use super::client::{Asked, Client, Response, header, origin_of};
use super::retry::{self, Retry};
use super::token::escaped;
use crate::image::Digest;

/// Bytes of one chunk, where a registry does not take a blob in one piece: what nginx takes by default
/// (client_max_body_size) is a little more.
const CHUNK: u64 = 1_000_000;

/// What a request carries.
#[derive(Clone, Copy)]
enum Body<'a> {
    /// Asks whether something is there.
    Head,
    /// Begins an upload.
    Post,
    Blob(Part<'a>),
    /// Some bytes of a blob.
    Chunk(Part<'a>),
    /// Ends an upload in chunks.
    End,
    Manifest(&'a [u8], &'a str),
}

/// Where the bytes of a request are.
#[derive(Clone, Copy)]
struct Part<'a> {
    file: &'a File,
    from: u64,
    length: u64,
}

/// Gets the number of bytes of a blob that were sent so far.
pub type Sent<'s> = &'s mut dyn FnMut(u64);

/// How a blob came to be in the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    WasThere,
    /// Taken from another repository of the same registry.
    Mounted,
    Sent,
}

impl Client {
    /// Sends a blob, unless the registry has it; `other` is a repository there that may have it.
    ///
    /// # Errors
    /// [`RegistryError`]; what can pass is tried again a few times first.
    pub fn push_blob(
        &mut self,
        repository: &str,
        digest: Digest,
        size: u64,
        blob: &File,
        other: Option<&str>,
        sent: Sent<'_>,
    ) -> Result<Pushed, RegistryError> {
        self.ask_to_push();
        let asked = asked(repository, format!("blob {digest} of {repository}"));
        let is_there = self.exchange(&asked, &format!("/v2/{repository}/blobs/{digest}"), Body::Head, sent)?;
        match is_there.status().as_u16() {
            200 => return Ok(Pushed::WasThere),
            404 => {}
            _ => return Err(self.failed(is_there, &asked, None)),
        }
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let target = match other.filter(|other| *other != repository) {
            // One that does not mount begins an upload instead.
            Some(other) => format!("{uploads}?mount={digest}&from={}", escaped(other)),
            None => uploads,
        };
        let begun = self.exchange(&asked, &target, Body::Post, sent)?;
        match begun.status().as_u16() {
            201 => return Ok(Pushed::Mounted),
            202 => {}
            _ => return Err(self.failed(begun, &asked, None)),
        }
        let location = self.upload_location(&begun)?;
        let whole = Body::Blob(Part { file: blob, from: 0, length: size });
        let answer = self.exchange(&asked, &with_digest(&location, digest), whole, sent)?;
        match answer.status().as_u16() {
            201 => Ok(Pushed::Sent),
            // The registry, or a proxy before it, takes no body of this length.
            413 if size > CHUNK => self.push_in_chunks(&asked, digest, size, blob, sent).map(|()| Pushed::Sent),
            _ => Err(self.failed(answer, &asked, None)),
        }
    }

    /// distribution-spec, "Pushing a blob in chunks".
    fn push_in_chunks(
        &mut self,
        asked: &Asked,
        digest: Digest,
        size: u64,
        blob: &File,
        sent: Sent<'_>,
    ) -> Result<(), RegistryError> {
        let uploads = format!("/v2/{}/blobs/uploads/", asked.repository);
        let mut answer = self.exchange(asked, &uploads, Body::Post, sent)?;
        let least = header(&answer, "oci-chunk-min-length").and_then(|length| length.trim().parse().ok());
        let chunk = CHUNK.max(least.unwrap_or(0));
        let mut from = 0;
        while from < size {
            if answer.status().as_u16() != 202 {
                return Err(self.failed(answer, asked, None));
            }
            let part = Part { file: blob, from, length: chunk.min(size - from) };
            let location = self.upload_location(&answer)?;
            answer = self.exchange(asked, &location, Body::Chunk(part), sent)?;
            from += part.length;
        }
        if answer.status().as_u16() != 202 {
            return Err(self.failed(answer, asked, None));
        }
        let location = self.upload_location(&answer)?;
        answer = self.exchange(asked, &with_digest(&location, digest), Body::End, sent)?;
        if answer.status().as_u16() == 201 { Ok(()) } else { Err(self.failed(answer, asked, None)) }
    }

    /// Sends a manifest, after all that it names.
    ///
    /// # Errors
    /// As [`push_blob`](Self::push_blob).
    pub fn push_manifest(
        &mut self,
        repository: &str,
        reference: &str,
        media_type: &str,
        manifest: &[u8],
    ) -> Result<(), RegistryError> {
        self.ask_to_push();
        let asked = asked(repository, format!("manifest {repository}:{reference}"));
        let target = format!("/v2/{repository}/manifests/{reference}");
        let answer = self.exchange(&asked, &target, Body::Manifest(manifest, media_type), &mut |_| {})?;
        match answer.status().as_u16() {
            201 => Ok(()),
            _ => Err(self.failed(answer, &asked, None)),
        }
    }

    /// Where the registry wants a blob to be sent; a path stays a path.
    fn upload_location(&self, begun: &Response) -> Result<String, RegistryError> {
        let location = header(begun, LOCATION.as_str()).unwrap_or_default();
        if location.starts_with('/') && !location.starts_with("//") {
            return Ok(location.to_owned());
        }
        // What is pushed may be secret: it goes to no host in the clear that was not asked so.
        let origin = origin_of(location).unwrap_or_default();
        if origin == self.origin() || origin.starts_with("https://") {
            return Ok(location.to_owned());
        }
        Err(self.protocol(format!("it wants uploads at `{}`", location.chars().take(200).collect::<String>())))
    }

    /// One request and its answer, whatever it is; authenticated and tried again as [`get`](Self::get) does.
    fn exchange(
        &mut self,
        asked: &Asked,
        target: &str,
        body: Body<'_>,
        sent: Sent<'_>,
    ) -> Result<Response, RegistryError> {
        let mut retry = Retry::default();
        let mut has_authenticated = false;
        loop {
            let response = match self.send(asked, target, body, sent) {
                Ok(response) => response,
                Err(RegistryError::Unreachable { .. } | RegistryError::Tls { .. }) if self.falls_back_to_http() => {
                    continue;
                }
                // A blob that broke off has used up its upload: the registry may know a part of it.
                Err(error @ RegistryError::Unreachable { .. }) if !matches!(body, Body::Blob(_) | Body::Chunk(_)) => {
                    std::thread::sleep(retry.after_failure(None).ok_or(error)?);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let status = response.status().as_u16();
            if status == 401 && !has_authenticated {
                has_authenticated = true;
                self.authenticate(&response, asked)?;
            } else if retry::can_pass(status) {
                let wanted = header(&response, RETRY_AFTER.as_str()).and_then(retry::retry_after);
                match retry.after_failure(wanted) {
                    Some(wait) => std::thread::sleep(wait),
                    None => return Err(self.failed(response, asked, wanted)),
                }
            } else {
                return Ok(response);
            }
        }
    }

    fn send(&self, asked: &Asked, target: &str, body: Body<'_>, sent: Sent<'_>) -> Result<Response, RegistryError> {
        let origin = self.origin();
        let url = if target.starts_with('/') { format!("{origin}{target}") } else { target.to_owned() };
        let authorization = self.authorization_for(&url, asked);
        let proxy = self.proxy(&url);
        let agent = self.agent();
        let response = match body {
            Body::Head => {
                let mut request = agent.head(&url).config().proxy(proxy).build();
                if let Some(value) = authorization {
                    request = request.header(AUTHORIZATION, value);
                }
                request.call()
            }
            Body::Post | Body::Blob(_) | Body::Chunk(_) | Body::End | Body::Manifest(..) => {
                let request = match body {
                    Body::Post => agent.post(&url),
                    Body::Chunk(_) => agent.patch(&url),
                    _ => agent.put(&url),
                };
                let mut request = request.config().proxy(proxy).build();
                if let Some(value) = authorization {
                    request = request.header(AUTHORIZATION, value);
                }
                match body {
                    Body::Blob(part) | Body::Chunk(part) => {
                        let Part { mut file, from, length } = part;
                        file.seek(SeekFrom::Start(from)).map_err(|error| self.unreachable(&error.to_string()))?;
                        let mut request = request
                            .header(CONTENT_TYPE, "application/octet-stream")
                            .header(CONTENT_LENGTH, length.to_string());
                        if matches!(body, Body::Chunk(_)) {
                            // Not as RFC 9110 has it: without a unit and a total.
                            request = request.header(CONTENT_RANGE, format!("{from}-{}", from + length - 1));
                        }
                        let mut bytes = Counting { inner: file.take(length), count: from, sent };
                        request.send(SendBody::from_reader(&mut bytes))
                    }
                    Body::Manifest(bytes, media_type) => request.header(CONTENT_TYPE, media_type).send(bytes),
                    Body::Head | Body::Post | Body::End => request.send_empty(),
                }
            }
        };
        response.map_err(|error| self.unanswered(&url, &error))
    }
}

fn with_digest(location: &str, digest: Digest) -> String {
    let separator = if location.contains('?') { '&' } else { '?' };
    format!("{location}{separator}digest={digest}")
}

/// Says how much was read.
struct Counting<'s, R> {
    inner: R,
    count: u64,
    sent: Sent<'s>,
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        (self.sent)(self.count);
        Ok(count)
    }
}

fn asked(repository: &str, what: String) -> Asked {
    Asked { path: String::new(), accept: String::new(), what, repository: repository.to_owned(), from: 0 }
}
