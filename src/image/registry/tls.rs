//! Why TLS with a server failed. The same thing happens the next time, so none of it is tried again.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsFault {
    /// No authority that this machine trusts has signed its certificate; with more than that, where rustls says more.
    UnknownAuthority(Option<String>),
    /// The certificate is for other names.
    OtherName,
    /// The certificate has expired or is not valid yet, by this machine's clock.
    Time,
    /// It speaks another protocol, most likely plain HTTP.
    NotTls,
    /// It wants a client's certificate, or another one.
    ClientCertificate,
    Other(String),
}

impl std::fmt::Display for TlsFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TlsFault::UnknownAuthority(None) => "its certificate is signed by no authority that this machine trusts",
            TlsFault::UnknownAuthority(Some(why)) => {
                return write!(f, "its certificate cannot be verified by an authority that this machine trusts: {why}");
            }
            TlsFault::OtherName => "its certificate is not valid for this name",
            TlsFault::Time => {
                "its certificate is not valid at this time (it has expired, or this machine's clock is wrong)"
            }
            TlsFault::NotTls => "it does not speak TLS",
            TlsFault::ClientCertificate => "it does not accept us without a client certificate that it knows",
            TlsFault::Other(why) => return write!(f, "TLS failed: {why}"),
        })
    }
}

/// `None`: it was not TLS that failed.
pub(super) fn fault_of(error: &ureq::Error) -> Option<TlsFault> {
    match error {
        ureq::Error::Rustls(error) => Some(fault(error)),
        ureq::Error::Tls(why) => Some(TlsFault::Other((*why).to_owned())),
        // So rustls passes its errors through a stream.
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref().map(fault),
        _ => None,
    }
}

fn fault(error: &Error) -> TlsFault {
    use CertificateError as Wrong;
    match error {
        Error::InvalidCertificate(Wrong::UnknownIssuer) => TlsFault::UnknownAuthority(None),
        Error::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. }) => TlsFault::OtherName,
        Error::InvalidCertificate(
            Wrong::Expired | Wrong::ExpiredContext { .. } | Wrong::NotValidYet | Wrong::NotValidYetContext { .. },
        ) => TlsFault::Time,
        // Such as a signature that is not by the trusted authority of the same name.
        Error::InvalidCertificate(other) => TlsFault::UnknownAuthority(Some(other.to_string())),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => TlsFault::NotTls,
        Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown,
        ) => TlsFault::ClientCertificate,
        other => TlsFault::Other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::{Client, RegistryError};
    use super::*;
    use crate::image::registries::{Endpoint, Proxies, Trust};

    /// Serves each connection; how many there were.
    fn server(serve: impl Fn(TcpStream) + Send + 'static) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = listener.local_addr().expect("an address").to_string();
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        // Ends with the process of the tests.
        std::thread::spawn(move || {
            for connection in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                serve(connection);
            }
        });
        (host, count)
    }

    fn tls_server() -> (String, Arc<AtomicUsize>) {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let certificate =
            CertificateDer::from_pem_slice(include_bytes!("../../../tests/image_support/certificate.pem"));
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("../../../tests/image_support/key.pem"));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let configuration = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.expect("a certificate")], key.expect("a key"))
            .expect("a configuration");
        let configuration = Arc::new(configuration);
        server(move |mut connection| {
            let mut session = rustls::ServerConnection::new(configuration.clone()).expect("a session");
            // A client that refuses the certificate ends the handshake.
            let _ = session.complete_io(&mut connection);
        })
    }

    fn refusal(host: &str) -> RegistryError {
        let endpoint = Endpoint {
            host: host.to_owned(),
            repository: String::new(),
            reference: String::new(),
            trust: Trust::Verified { authorities: Vec::new() },
            client_certificate: None,
            proxies: Proxies::default(),
            credentials: None,
        };
        Client::new(&endpoint, &[]).expect("a client").manifest("a", "1").expect_err("no manifest")
    }

    #[test]
    fn a_certificate_that_is_refused_is_not_asked_for_again() {
        let (host, count) = tls_server();
        let error = refusal(&host);
        assert!(matches!(&error, RegistryError::Tls { fault: TlsFault::UnknownAuthority(_), .. }), "{error}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_server_without_tls_is_not_asked_for_it_again() {
        let (host, count) = server(|mut connection| {
            let _ = connection.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            // Until the client has gone: a reset would take the answer away.
            let _ = io::copy(&mut connection.take(1 << 20), &mut io::sink());
        });
        let error = refusal(&host);
        assert!(matches!(&error, RegistryError::Tls { fault: TlsFault::NotTls, .. }), "{error}");
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}
