//! Certificates for registries: the system's authorities, and docker's certs.d (containers-certs.d(5)).

use std::path::Path;

use ureq::tls::{Certificate, PrivateKey};

use super::endpoint::{ClientCertificate, Der};
use super::environment::Environment;
use super::files::{self, Unreadable};

/// What certs.d has for one registry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Certificates {
    pub(super) authorities: Vec<Der>,
    pub(super) client: Option<ClientCertificate>,
}

/// The authorities that the system trusts, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`. Empty on a machine that has
/// none: then no certificate can be verified, and the handshake says so.
///
/// # Errors
/// A bundle that cannot be read.
pub fn system_authorities() -> Result<Vec<Der>, Unreadable> {
    let found = rustls_native_certs::load_native_certs();
    match found.errors.first() {
        Some(error) if found.certs.is_empty() && !matches!(error.kind, rustls_native_certs::ErrorKind::Os(_)) => {
            Err(Unreadable::new(Path::new("the system's certificates"), error.to_string()))
        }
        _ => Ok(found.certs.into_iter().map(|certificate| Der(certificate.to_vec())).collect()),
    }
}

/// Reads the first `certs.d/HOST:PORT` that exists.
///
/// # Errors
/// A file that cannot be read or holds no certificate, and a certificate without its key.
pub(super) fn of_host(environment: &Environment, host: &str) -> Result<Certificates, Unreadable> {
    // Hosts have no `/`; the check is for a directory that leads elsewhere.
    if host.contains('/') || host == "." || host == ".." {
        return Ok(Certificates::default());
    }
    let etc = environment.etc();
    let places = [environment.containers(), Some(etc.join("containers")), Some(etc.join("docker"))];
    let mut directories = places.into_iter().flatten().map(|place| place.join("certs.d").join(host));
    let Some(directory) = directories.find(|directory| directory.is_dir()) else {
        return Ok(Certificates::default());
    };
    let mut authorities = Vec::new();
    for file in files::with_extension(&directory, "crt")? {
        authorities.extend(certificates(&file, &text(&file)?)?);
    }
    Ok(Certificates { authorities, client: client(&directory)? })
}

fn client(directory: &Path) -> Result<Option<ClientCertificate>, Unreadable> {
    let certificates_found = files::with_extension(directory, "cert")?;
    let keys = files::with_extension(directory, "key")?;
    if let Some(key) = keys.iter().find(|key| !key.with_extension("cert").exists()) {
        return Err(Unreadable::new(key, "has no certificate beside it: a file of the same name that ends in .cert"));
    }
    match certificates_found.as_slice() {
        [] => Ok(None),
        [file] => {
            let key_file = file.with_extension("key");
            if !keys.contains(&key_file) {
                return Err(Unreadable::new(file, "has no key beside it: a file of the same name that ends in .key"));
            }
            let (certificate, key) = (text(file)?, text(&key_file)?);
            certificates(file, &certificate)?;
            PrivateKey::from_pem(key.as_bytes())
                .map_err(|error| Unreadable::new(&key_file, format!("holds no private key in PEM: {error}")))?;
            Ok(Some(ClientCertificate { certificate, key }))
        }
        [_, second, ..] => {
            Err(Unreadable::new(second, "is a second client certificate, and one is sent: keep one file *.cert"))
        }
    }
}

fn text(file: &Path) -> Result<String, Unreadable> {
    files::read_text(file)?.ok_or_else(|| Unreadable::new(file, "has gone while it was read"))
}

/// All certificates of a PEM file.
fn certificates(file: &Path, pem: &str) -> Result<Vec<Der>, Unreadable> {
    let found = in_pem(pem).map_err(|why| Unreadable::new(file, why))?;
    if found.is_empty() {
        return Err(Unreadable::new(file, "holds no certificate in PEM (-----BEGIN CERTIFICATE-----)"));
    }
    Ok(found.iter().map(|certificate| Der(certificate.der().to_vec())).collect())
}

/// The certificates of a text; other things in it are passed over.
pub(crate) fn in_pem(pem: &str) -> Result<Vec<Certificate<'static>>, String> {
    let mut found = Vec::new();
    for item in ureq::tls::parse_pem(pem.as_bytes()) {
        if let ureq::tls::PemItem::Certificate(certificate) = item.map_err(|error| error.to_string())? {
            found.push(certificate);
        }
    }
    Ok(found)
}
