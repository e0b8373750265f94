//! The puller, from the command's side: starts it, asks, and checks what it answers.
//!
//! ```text
//! command ── endpoints, "manifest M of endpoint 0", "blob B from byte N on into this pipe" ──▶ puller ── TLS ──▶ registry
//!         ◀── documents in sealed memory, "blob B is through", what went wrong ──
//! ```

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use serde::{Deserialize, Serialize};

use super::could_not;
use crate::image::Digest;
use crate::image::descriptor::MAX_DOCUMENT;
use crate::image::registries::Endpoint;
use crate::report::Report;
use crate::sys::socket::Channel;
use crate::sys::{self, memfd, process};

/// The first word of its command line, by which the binary knows the role.
pub(super) const ROLE: &str = "sandpod:puller";
/// The system's certificates are elsewhere (rustls-native-certs, as OpenSSL): all of the environment that it gets.
const KEPT_VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// Endpoints with their certificates.
pub(super) const MAX_ENDPOINTS: u64 = 8 << 20;

/// What the command asks. `endpoint` counts in the list that the puller got first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Manifest {
        id: u64,
        endpoint: usize,
        reference: String,
    },
    /// Whether the registry takes the credentials; the answer is an empty document.
    Login {
        id: u64,
        endpoint: usize,
    },
    /// A small blob, as a document.
    Config {
        id: u64,
        endpoint: usize,
        digest: Digest,
        size: u64,
    },
    /// With the blob as a file. `other` is a repository of the same registry that may have it.
    PushBlob {
        id: u64,
        endpoint: usize,
        digest: Digest,
        size: u64,
        other: Option<String>,
    },
    /// With the sealed bytes; the answer is an empty document.
    PushManifest {
        id: u64,
        endpoint: usize,
        reference: String,
        media_type: String,
    },
    /// With the pipe that it goes into.
    Blob {
        id: u64,
        endpoint: usize,
        digest: Digest,
        size: u64,
        from: u64,
    },
}

/// What the puller answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// With the sealed bytes.
    Document {
        id: u64,
        media_type: String,
    },
    /// So many bytes of a blob were sent to the registry; the document comes later.
    Sent {
        id: u64,
        bytes: u64,
    },
    /// All bytes of a blob have gone into its pipe.
    Through {
        id: u64,
    },
    Failed {
        id: u64,
        trouble: Trouble,
    },
}

/// Why an endpoint did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trouble {
    pub(super) why: String,
    pub(super) hint: Option<String>,
    /// What it has cannot be used: another endpoint has no better.
    pub(super) is_final: bool,
}

/// A manifest, an index or a configuration as it came.
pub(super) struct Document {
    pub(super) bytes: Vec<u8>,
    pub(super) media_type: String,
}

/// A document, or why an endpoint did not give it.
pub(super) type Fetched = Result<Document, Trouble>;

/// An answer with the number of its request.
pub(super) enum Heard {
    Document(u64, Fetched),
    /// Bytes of a blob that were sent to the registry so far.
    Sent(u64, u64),
}

/// A running puller. Dropped, it ends: its socket closes.
pub(super) struct Puller {
    child: Child,
    channel: Channel,
    next: u64,
    /// Answers that came while another was waited for.
    through: BTreeMap<u64, Result<(), Trouble>>,
}

impl Puller {
    pub(super) fn start(endpoints: &[Endpoint]) -> Result<Puller, Report> {
        let failed = |why: String| could_not("start the process that talks to registries", why);
        let (ours, theirs) = Channel::pair().map_err(|error| failed(error.to_string()))?;
        let json = serde_json::to_vec(endpoints).map_err(|error| failed(error.to_string()))?;
        let sealed = memfd::sealed_bytes("endpoints", &json).map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0(ROLE).env_clear().current_dir("/").stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
        for name in KEPT_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        let child = process::spawn(&mut command).map_err(|error| failed(sys::describe_io(&error)))?;
        // It holds the other end of the socket, which this closes here.
        drop(command);
        let puller = Puller { child, channel: ours, next: 0, through: BTreeMap::new() };
        puller.channel.send(b"endpoints", &[sealed.as_fd()]).map_err(|error| failed(error.to_string()))?;
        Ok(puller)
    }

    /// Readable when there is something to [`hear`](Self::hear).
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// A manifest or an index. Its digest is compared by the caller.
    pub(super) fn manifest(&mut self, endpoint: usize, reference: &str) -> Result<Fetched, Report> {
        let id = self.id();
        self.document(&Request::Manifest { id, endpoint, reference: reference.to_owned() }, id, &[])
    }

    pub(super) fn login(&mut self, endpoint: usize) -> Result<Fetched, Report> {
        let id = self.id();
        self.document(&Request::Login { id, endpoint }, id, &[])
    }

    /// The document is empty and has `WasThere`, `Mounted` or `Sent` for its media type.
    pub(super) fn push_blob(
        &mut self,
        digest: Digest,
        size: u64,
        other: Option<String>,
        blob: BorrowedFd<'_>,
        sent: &mut dyn FnMut(u64),
    ) -> Result<Fetched, Report> {
        let id = self.id();
        self.document_with(&Request::PushBlob { id, endpoint: 0, digest, size, other }, id, &[blob], sent)
    }

    pub(super) fn push_manifest(&mut self, reference: &str, media_type: &str, bytes: &[u8]) -> Result<Fetched, Report> {
        let id = self.id();
        let sealed = memfd::sealed_bytes("manifest", bytes)
            .map_err(|error| could_not("hand over the manifest", error.to_string()))?;
        let (reference, media_type) = (reference.to_owned(), media_type.to_owned());
        self.document(&Request::PushManifest { id, endpoint: 0, reference, media_type }, id, &[sealed.as_fd()])
    }

    pub(super) fn config(&mut self, endpoint: usize, digest: Digest, size: u64) -> Result<Fetched, Report> {
        let id = self.id();
        self.document(&Request::Config { id, endpoint, digest, size }, id, &[])
    }

    /// Begins to send a blob into a pipe; [`outcome`](Self::outcome) of the number says how that ended.
    pub(super) fn blob(
        &mut self,
        endpoint: usize,
        digest: Digest,
        size: u64,
        from: u64,
        pipe: BorrowedFd<'_>,
    ) -> Result<u64, Report> {
        let id = self.id();
        self.ask(&Request::Blob { id, endpoint, digest, size, from }, &[pipe])?;
        Ok(id)
    }

    /// How a blob ended, once that was heard.
    pub(super) fn outcome(&mut self, id: u64) -> Option<Result<(), Trouble>> {
        self.through.remove(&id)
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn document(&mut self, request: &Request, wanted: u64, fds: &[BorrowedFd<'_>]) -> Result<Fetched, Report> {
        self.document_with(request, wanted, fds, &mut |_| {})
    }

    fn document_with(
        &mut self,
        request: &Request,
        wanted: u64,
        fds: &[BorrowedFd<'_>],
        sent: &mut dyn FnMut(u64),
    ) -> Result<Fetched, Report> {
        self.ask(request, fds)?;
        loop {
            match self.hear()? {
                Some(Heard::Document(id, answer)) if id == wanted => return Ok(answer),
                Some(Heard::Sent(id, bytes)) if id == wanted => sent(bytes),
                _ => {}
            }
        }
    }

    /// One answer: of a blob it is kept for [`outcome`](Self::outcome), a document is given with its number.
    pub(super) fn hear(&mut self) -> Result<Option<Heard>, Report> {
        let failed = |why: String| could_not("hear from the process that talks to registries", why);
        let Some(mut message) = self.channel.receive().map_err(|error| failed(error.to_string()))? else {
            let status = self.child.wait().map_err(|error| failed(sys::describe_io(&error)))?;
            return Err(failed(format!("it ended before it was done ({status})")));
        };
        match serde_json::from_slice(&message.bytes).map_err(|error| failed(error.to_string()))? {
            Answer::Document { id, media_type } => {
                let sealed = message.fds.pop().ok_or_else(|| failed("it sent a document without bytes".to_owned()))?;
                let bytes = memfd::read_sealed(sealed, MAX_DOCUMENT).map_err(|error| failed(error.to_string()))?;
                Ok(Some(Heard::Document(id, Ok(Document { bytes, media_type }))))
            }
            Answer::Sent { id, bytes } => Ok(Some(Heard::Sent(id, bytes))),
            Answer::Through { id } => {
                self.through.insert(id, Ok(()));
                Ok(None)
            }
            Answer::Failed { id, trouble } => {
                self.through.insert(id, Err(trouble.clone()));
                Ok(Some(Heard::Document(id, Err(trouble))))
            }
        }
    }

    fn ask(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), Report> {
        let failed = |why: String| could_not("ask the process that talks to registries", why);
        let bytes = serde_json::to_vec(request).map_err(|error| failed(error.to_string()))?;
        self.channel.send(&bytes, fds).map_err(|error| failed(error.to_string()))
    }
}

impl Drop for Puller {
    fn drop(&mut self) {
        // It may wait for a registry. Nothing of what it does is wanted any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
