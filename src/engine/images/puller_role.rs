//! The puller: this binary, executed anew to talk to registries. What a registry sends is read here first.
//!
//! It has an empty environment, no capability, no new privileges, and by Landlock no file but those that names are resolved
//! by; no core file and no debugger shows the passwords in its memory. Its stdin is its socket to the command, and it ends
//! with it.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::puller::{Answer, MAX_ENDPOINTS, ROLE, Request, Trouble};
use crate::image::descriptor::{self, MAX_DOCUMENT};
use crate::image::digest::Digest;
use crate::image::registries::{Der, Endpoint, Trust, system_authorities};
use crate::image::registry::{Client, RegistryError, TlsFault};
use crate::plan::syscall_filter;
use crate::report::exit_code;
use crate::sys::clone::{die_with_parent, exit_now};
use crate::sys::socket::Channel;
use crate::sys::{landlock, limits, memfd, privileges, seccomp, stdio};

/// What getaddrinfo(3) reads. The modules of nsswitch.conf(5) that are not in glibc itself cannot be loaded, and are passed
/// over as if they were not installed: `files` and `dns` remain.
const NAME_RESOLUTION: [&str; 5] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];
/// Its connections, and the pipes of the blobs.
const DESCRIPTORS: u64 = 256;
/// How often it says how much of a blob was sent.
const PROGRESS: Duration = Duration::from_millis(100);
/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// Plays the role when the first word names it, and does not return then. Looked at before anything else.
pub(super) fn play() {
    if std::env::args_os().next().is_some_and(|word| word == ROLE) {
        exit_now(match run() {
            Ok(()) => 0,
            Err(error) => {
                let _ = writeln!(std::io::stderr(), "sandpod:puller: {error}");
                i32::from(exit_code::FAILURE)
            }
        });
    }
}

fn run() -> Result<(), String> {
    let text = |error: crate::sys::Error| error.to_string();
    stdio::ignore_broken_pipes().map_err(text)?;
    privileges::hide_from_ptrace().map_err(text)?;
    privileges::no_new_privileges().map_err(text)?;
    privileges::limit_capabilities(&[]).map_err(text)?;
    limits::write_no_core().map_err(text)?;
    limits::limit_descriptors(DESCRIPTORS).map_err(text)?;
    // Neither keyrings nor vsock belong to a network or a file system.
    seccomp::install(&syscall_filter::program()).map_err(text)?;
    // The socket of a command that died before is closed; one that dies later must not leave an upload behind.
    die_with_parent(None).map_err(text)?;
    let channel = std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| error.to_string())?;
    let channel = Channel::from(channel);
    let Some(mut first) = channel.receive().map_err(text)? else { return Ok(()) };
    let sealed = first.fds.pop().ok_or("the first message has no endpoints")?;
    let bytes = memfd::read_sealed(sealed, MAX_ENDPOINTS).map_err(text)?;
    let endpoints: Vec<Endpoint> = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    // The last file that it reads.
    let needs_roots = endpoints.iter().any(|endpoint| matches!(endpoint.trust, Trust::Verified { .. }));
    let roots = if needs_roots { system_authorities().map_err(|error| error.to_string())? } else { Vec::new() };
    landlock::confine_to_reading(&NAME_RESOLUTION.map(Path::new)).map_err(text)?;
    Registries { channel, endpoints, roots, idle: Mutex::default() }.serve()
}

struct Registries {
    channel: Channel,
    endpoints: Vec<Endpoint>,
    /// The authorities that the system trusts.
    roots: Vec<Der>,
    /// Clients with a connection and a token, each with the place of its endpoint.
    idle: Mutex<Vec<(usize, Client)>>,
}

impl Registries {
    /// Until the command closes its end. A blob has a thread of its own; the command bounds how many there are.
    fn serve(self) -> Result<(), String> {
        let registries = Arc::new(self);
        while let Some(mut message) = registries.channel.receive().map_err(|error| error.to_string())? {
            let request = serde_json::from_slice(&message.bytes).map_err(|error| error.to_string())?;
            match request {
                Request::Manifest { id, endpoint, reference } => {
                    let document = registries.manifest(endpoint, &reference);
                    registries.send_document(id, document)?;
                }
                Request::Login { id, endpoint } => {
                    let taken = registries.with_client(endpoint, |client, _| client.check_login().map_err(of_login));
                    registries.send_document(id, taken.map(|()| (Vec::new(), String::new())))?;
                }
                Request::Config { id, endpoint, digest, size } => {
                    let document = registries.config(endpoint, digest, size);
                    registries.send_document(id, document)?;
                }
                Request::PushBlob { id, endpoint, digest, size, other } => {
                    let blob = std::fs::File::from(message.fds.pop().ok_or("a blob was pushed without its file")?);
                    let mut said = Instant::now();
                    let mut sent = |bytes| {
                        if said.elapsed() >= PROGRESS {
                            said = Instant::now();
                            // A command that has gone is seen by the next `receive`.
                            let _ = registries.say(&Answer::Sent { id, bytes }, &[]);
                        }
                    };
                    let pushed = registries.with_client(endpoint, |client, repository| {
                        let other = other.as_deref();
                        client.push_blob(repository, digest, size, &blob, other, &mut sent).map_err(trouble)
                    });
                    registries.send_document(id, pushed.map(|pushed| (Vec::new(), format!("{pushed:?}"))))?;
                }
                Request::PushManifest { id, endpoint, reference, media_type } => {
                    let sealed = message.fds.pop().ok_or("a manifest was pushed without its bytes")?;
                    let bytes = memfd::read_sealed(sealed, MAX_DOCUMENT).map_err(|error| error.to_string())?;
                    let pushed = registries.with_client(endpoint, |client, repository| {
                        client.push_manifest(repository, &reference, &media_type, &bytes).map_err(trouble)
                    });
                    registries.send_document(id, pushed.map(|()| (Vec::new(), String::new())))?;
                }
                Request::Blob { id, endpoint, digest, size, from } => {
                    let pipe = message.fds.pop().ok_or("a blob was asked for without a pipe")?;
                    let registries = Arc::clone(&registries);
                    std::thread::spawn(move || {
                        let answer = match registries.blob(endpoint, digest, size, from, pipe) {
                            Ok(()) => Answer::Through { id },
                            Err(trouble) => Answer::Failed { id, trouble },
                        };
                        // A command that has gone needs no answer; the other thread hears of it.
                        let _ = registries.say(&answer, &[]);
                    });
                }
            }
        }
        Ok(())
    }

    fn manifest(&self, endpoint: usize, reference: &str) -> Result<(Vec<u8>, String), Trouble> {
        self.with_client(endpoint, |client, repository| {
            let fetched = client.manifest(repository, reference).map_err(trouble)?;
            // Media type and content must agree; looked at here first, where a mistake reaches nothing else.
            descriptor::parse(&fetched.bytes, &fetched.media_type).map_err(|error| useless(error.to_string()))?;
            Ok((fetched.bytes, fetched.media_type))
        })
    }

    fn config(&self, endpoint: usize, digest: Digest, size: u64) -> Result<(Vec<u8>, String), Trouble> {
        self.with_client(endpoint, |client, repository| {
            let blob = client.blob(repository, digest, size, 0).map_err(trouble)?;
            let mut bytes = Vec::new();
            let limit = size.min(MAX_DOCUMENT).saturating_add(1);
            blob.take(limit).read_to_end(&mut bytes).map_err(|error| broken(&error))?;
            if Digest::of(&bytes) != digest {
                return Err(useless(format!("the configuration that it sent does not have the digest {digest}")));
            }
            serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).map_err(|error| useless(error.to_string()))?;
            Ok((bytes, String::new()))
        })
    }

    fn blob(&self, endpoint: usize, digest: Digest, size: u64, from: u64, pipe: OwnedFd) -> Result<(), Trouble> {
        let mut pipe = std::fs::File::from(pipe);
        self.with_client(endpoint, |client, repository| {
            let blob = client.blob(repository, digest, size, from).map_err(trouble)?;
            // One byte more than there may be: then the unpacker sees that it is too long.
            let mut blob = blob.take((size - from.min(size)).saturating_add(1));
            let mut buffer = vec![0; PIECE];
            loop {
                let count = match blob.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(count) => count,
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(broken(&error)),
                };
                // The unpacker has gone: it says why itself, and better than this error of a pipe would.
                if pipe.write_all(&buffer[..count]).is_err() {
                    return Ok(());
                }
            }
        })
    }

    /// Does something with a client that talks to no one else meanwhile.
    fn with_client<T>(
        &self,
        endpoint: usize,
        act: impl FnOnce(&mut Client, &str) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let asked = self.endpoints.get(endpoint).ok_or_else(|| useless("there is no such endpoint".to_owned()))?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let found = idle.iter().position(|(of, _)| *of == endpoint).map(|place| idle.swap_remove(place).1);
        drop(idle);
        let mut client = found.map_or_else(|| self.client(asked), Ok)?;
        let done = act(&mut client, &asked.repository);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((endpoint, client));
        done
    }

    fn client(&self, endpoint: &Endpoint) -> Result<Client, Trouble> {
        Client::new(endpoint, &self.roots).map_err(trouble)
    }

    fn send_document(&self, id: u64, document: Result<(Vec<u8>, String), Trouble>) -> Result<(), String> {
        match document {
            Ok((bytes, media_type)) => {
                let sealed = memfd::sealed_bytes("document", &bytes).map_err(|error| error.to_string())?;
                self.say(&Answer::Document { id, media_type }, &[sealed.as_fd()])
            }
            Err(trouble) => self.say(&Answer::Failed { id, trouble }, &[]),
        }
    }

    fn say(&self, answer: &Answer, fds: &[std::os::fd::BorrowedFd<'_>]) -> Result<(), String> {
        let bytes = serde_json::to_vec(answer).map_err(|error| error.to_string())?;
        self.channel.send(&bytes, fds).map_err(|error| error.to_string())
    }
}

/// Another endpoint may do better.
fn trouble(error: RegistryError) -> Trouble {
    let hint = match &error {
        RegistryError::Denied { host, had_credentials: false, .. } => Some(format!(
            "if it needs a login: `sandpod login {host}`; a name that does not exist is refused like this, too"
        )),
        RegistryError::Denied { host, had_credentials: true, .. } => {
            Some(format!("the credentials for it were used; `sandpod login {host}` replaces them"))
        }
        RegistryError::RateLimited { .. } => Some("a login has a higher limit at most registries".to_owned()),
        RegistryError::Tls { host, fault } => hint_for_tls(host, fault),
        _ => None,
    };
    Trouble { why: error.to_string(), hint, is_final: false }
}

/// Giving up the check comes last, and only where it helps.
fn hint_for_tls(host: &str, fault: &TlsFault) -> Option<String> {
    Some(match fault {
        TlsFault::UnknownAuthority(_) => format!(
            "if you know this registry, put the certificate of its authority into ~/.config/containers/certs.d/{host}/ca.crt, \
             or into the system's bundle (update-ca-certificates); `insecure = true` for it in registries.conf trusts \
             whatever answers, and is the last resort"
        ),
        TlsFault::OtherName => "use the name that its certificate has, or let its operator add this one".to_owned(),
        TlsFault::Time => {
            "look at `date`; a certificate that has expired is for the registry's operator to renew".to_owned()
        }
        TlsFault::NotTls => {
            format!("a registry without TLS needs `insecure = true` for `{host}` in registries.conf")
        }
        TlsFault::ClientCertificate => {
            format!("put the certificate into ~/.config/containers/certs.d/{host}/client.cert, its key into client.key")
        }
        TlsFault::Other(_) => return None,
    })
}

/// There is one endpoint, and no login yet that could be replaced.
fn of_login(error: RegistryError) -> Trouble {
    let hint = match &error {
        RegistryError::Denied { .. } => Some("the registry does not know this user with this password".to_owned()),
        RegistryError::Tls { host, fault } => {
            let without = matches!(fault, TlsFault::UnknownAuthority(_) | TlsFault::NotTls);
            let also = if without { "; here also --tls-verify=false" } else { "" };
            hint_for_tls(host, fault).map(|hint| hint + also)
        }
        _ => None,
    };
    Trouble { why: error.to_string(), hint, is_final: true }
}

fn broken(error: &std::io::Error) -> Trouble {
    Trouble { why: error.to_string(), hint: None, is_final: false }
}

/// What an endpoint sent is of no use. Another may have better: a mirror may be out of date, or broken.
fn useless(why: String) -> Trouble {
    Trouble { why, hint: None, is_final: false }
}
