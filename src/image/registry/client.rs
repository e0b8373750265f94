//! One registry's HTTP: requests, redirects, authentication and retries.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use ureq::http::header::{AUTHORIZATION, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider};
use ureq::{Agent, Proxy};

use super::challenge::{self, Challenge};
use super::retry::{self, Retry};
use super::{RegistryError, SILENCE, tls, token};
use crate::image::registries::certificates::in_pem;
use crate::image::registries::{ClientCertificate, Credentials, Der, Endpoint, Proxies, Trust};

/// distribution's own client follows as many.
const MAX_REDIRECTS: usize = 10;
const CONNECT: Duration = Duration::from_secs(30);
/// Bytes of an error's body that are shown.
const SHOWN_BODY: u64 = 300;

/// One registry, and what it wants to see of us.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    /// `registry-1.docker.io`, `localhost:5000`
    host: String,
    scheme: &'static str,
    insecure: bool,
    proxies: Proxies,
    credentials: Option<Credentials>,
    /// What tokens are asked for: `pull`, or `pull,push`.
    actions: &'static str,
    /// The header that the registry took last, and the repository that it is for.
    authorization: Option<(String, String)>,
}

/// What is fetched.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) accept: String,
    /// For messages.
    pub(super) what: String,
    pub(super) repository: String,
    /// Bytes that are here already.
    pub(super) from: u64,
}

/// A successful answer.
pub(super) struct Answer {
    pub(super) body: Box<dyn Read + Send>,
    headers: ureq::http::HeaderMap,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<String> {
        Some(self.headers.get(name)?.to_str().ok()?.to_owned())
    }
}

pub(super) type Response = ureq::http::Response<ureq::Body>;

impl Client {
    /// A client for one registry. No connection is made yet. `system` are the authorities that the system trusts.
    ///
    /// # Errors
    /// A client certificate that is none, a proxy that is no address.
    pub fn new(endpoint: &Endpoint, system: &[Der]) -> Result<Client, RegistryError> {
        // Docker Hub's references and its registry have different names.
        let host = if endpoint.host == "docker.io" { "registry-1.docker.io" } else { &endpoint.host };
        let wrong = |why: String| RegistryError::Protocol { host: host.to_owned(), why };
        let (roots, insecure) = match &endpoint.trust {
            Trust::Verified { authorities } => (authorities.as_slice(), false),
            Trust::Insecure => (&[][..], true),
        };
        let roots: Vec<_> = roots.iter().chain(system).map(|Der(der)| Certificate::from_der(der).to_owned()).collect();
        let client = endpoint.client_certificate.as_ref().map(client_certificate).transpose().map_err(wrong)?;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots))
            .client_cert(client)
            .disable_verification(insecure)
            .build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // By hand: ureq would not keep us from plain HTTP.
            .max_redirects(0)
            .max_redirects_will_error(false)
            // Each request has its own: what the process's environment says does not count here.
            .proxy(None)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("sandpod/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls)
            .build()
            .new_agent();
        let (proxies, credentials) = (endpoint.proxies.clone(), endpoint.credentials.clone());
        for proxy in [&proxies.https, &proxies.http].into_iter().flatten() {
            // The text may hold a password and is not shown.
            Proxy::new(proxy).map_err(|error| wrong(format!("a proxy of HTTPS_PROXY or HTTP_PROXY: {error}")))?;
        }
        let host = host.to_owned();
        Ok(Client {
            agent,
            host,
            scheme: "https",
            insecure,
            proxies,
            credentials,
            actions: "pull",
            authorization: None,
        })
    }

    /// The proxy for an address, which [`new`](Self::new) has checked.
    pub(super) fn proxy(&self, url: &str) -> Option<Proxy> {
        Proxy::new(self.proxies.for_url(url)?).ok()
    }

    /// The registries of tests have no TLS, and a handshake would cost each an answer.
    #[cfg(test)]
    pub(super) fn use_http(&mut self) {
        self.scheme = "http";
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn unreachable(&self, why: &str) -> RegistryError {
        RegistryError::Unreachable { host: self.host.clone(), why: why.to_owned() }
    }

    /// Why a request to an address failed. The registry may have sent us there.
    pub(super) fn unanswered(&self, url: &str, error: &ureq::Error) -> RegistryError {
        match tls::fault_of(error) {
            Some(fault) => {
                let host = origin_of(url).and_then(|origin| origin.split_once("://"));
                RegistryError::Tls { host: host.map_or(&*self.host, |(_, host)| host).to_owned(), fault }
            }
            None => self.unreachable(&error.to_string()),
        }
    }

    pub(super) fn protocol(&self, why: String) -> RegistryError {
        RegistryError::Protocol { host: self.host.clone(), why }
    }

    pub(super) fn agent(&self) -> &Agent {
        &self.agent
    }

    pub(super) fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.host)
    }

    /// From now on, tokens are good for pushes too.
    pub(super) fn ask_to_push(&mut self) {
        if self.actions != "pull,push" {
            self.actions = "pull,push";
            self.authorization = None;
        }
    }

    /// The header for an address: storage behind a registry has signed ones, and what authorizes us at the registry is not
    /// its business.
    pub(super) fn authorization_for(&self, url: &str, asked: &Asked) -> Option<&str> {
        let (header, repository) = self.authorization.as_ref()?;
        let belongs = origin_of(url) == Some(&self.origin()) && *repository == asked.repository;
        belongs.then_some(header)
    }

    /// Fetches from `asked.from` on.
    pub(super) fn get(&mut self, asked: &Asked) -> Result<Answer, RegistryError> {
        let mut retry = Retry::default();
        let mut has_authenticated = false;
        loop {
            let response = match self.follow(asked) {
                Ok(response) => response,
                Err(RegistryError::Unreachable { .. } | RegistryError::Tls { .. }) if self.falls_back_to_http() => {
                    continue;
                }
                Err(error @ RegistryError::Unreachable { .. }) => match retry.after_failure(None) {
                    Some(wait) => {
                        std::thread::sleep(wait);
                        continue;
                    }
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            };
            let status = response.status().as_u16();
            match status {
                200 | 206 => return self.answer(response, asked),
                401 if !has_authenticated => {
                    // A token may have run out in the middle of a pull.
                    has_authenticated = true;
                    self.authenticate(&response, asked)?;
                }
                _ if retry::can_pass(status) => {
                    let wanted = header(&response, RETRY_AFTER.as_str()).and_then(retry::retry_after);
                    match retry.after_failure(wanted) {
                        Some(wait) => std::thread::sleep(wait),
                        None => return Err(self.failed(response, asked, wanted)),
                    }
                }
                _ => return Err(self.failed(response, asked, None)),
            }
        }
    }

    /// An insecure registry is asked by TLS first, so that one which has it is never asked in the clear.
    pub(super) fn falls_back_to_http(&mut self) -> bool {
        let falls_back = self.insecure && self.scheme == "https" && self.authorization.is_none();
        if falls_back {
            self.scheme = "http";
        }
        falls_back
    }

    /// One request, and what it is redirected to.
    fn follow(&self, asked: &Asked) -> Result<Response, RegistryError> {
        let mut url = format!("{}{}", self.origin(), asked.path);
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(&url).config().proxy(self.proxy(&url)).build();
            request = request.header("accept", &asked.accept);
            if asked.from > 0 {
                request = request.header("range", format!("bytes={}-", asked.from));
            }
            if let Some(header) = self.authorization_for(&url, asked) {
                request = request.header(AUTHORIZATION, header);
            }
            let response = request.call().map_err(|error| self.unanswered(&url, &error))?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            url = self.redirected(&url, &response)?;
        }
        Err(self.protocol(format!("more than {MAX_REDIRECTS} redirects for {}", asked.what)))
    }

    fn redirected(&self, from: &str, response: &Response) -> Result<String, RegistryError> {
        let to = header(response, LOCATION.as_str()).unwrap_or_default();
        let url = match to.strip_prefix('/') {
            Some(path) if !path.starts_with('/') => format!("{}{to}", origin_of(from).unwrap_or_default()),
            _ => to.to_owned(),
        };
        let is_tls = url.starts_with("https://");
        if is_tls || self.insecure && url.starts_with("http://") {
            return Ok(url);
        }
        Err(self
            .protocol(format!("it redirects to `{}`, which is not https", url.chars().take(200).collect::<String>())))
    }

    /// Learns what to put into `Authorization`.
    pub(super) fn authenticate(&mut self, response: &Response, asked: &Asked) -> Result<(), RegistryError> {
        let wanted = header(response, WWW_AUTHENTICATE.as_str()).and_then(challenge::parse);
        let value = match wanted {
            Some(Challenge::Basic) => match self.basic() {
                Some(value) if self.scheme == "https" || self.insecure => value,
                _ => return Err(self.denied(asked, 401)),
            },
            Some(bearer) => format!("Bearer {}", self.token(&bearer, asked)?),
            None => return Err(self.denied(asked, 401)),
        };
        self.authorization = Some((value, asked.repository.clone()));
        Ok(())
    }

    fn token(&self, challenge: &Challenge, asked: &Asked) -> Result<String, RegistryError> {
        let url =
            token::url(challenge, &asked.repository, self.actions, self.insecure).map_err(|why| self.protocol(why))?;
        let response = match (&self.credentials, self.basic()) {
            (Some(Credentials::IdentityToken(identity)), _) => {
                let (realm, form) = token::refresh(challenge, &asked.repository, self.actions, identity);
                self.agent.post(realm).config().proxy(self.proxy(realm)).build().send_form(form)
            }
            (_, basic) => {
                let request = self.agent.get(&url).config().proxy(self.proxy(&url)).build();
                match basic {
                    Some(basic) => request.header(AUTHORIZATION, basic).call(),
                    None => request.call(),
                }
            }
        };
        let mut response = response.map_err(|error| match self.unanswered(&url, &error) {
            RegistryError::Unreachable { host, why } => {
                RegistryError::Unreachable { host, why: format!("its token server: {why}") }
            }
            other => other,
        })?;
        let status = response.status().as_u16();
        if matches!(status, 401 | 403) {
            return Err(self.denied(asked, status));
        }
        let body = response.body_mut().with_config().limit(token::MAX_ANSWER).read_to_vec();
        let token = body.ok().filter(|_| status == 200).and_then(|body| token::of_answer(&body));
        token.ok_or_else(|| self.protocol(format!("its token server answered {status} and no token")))
    }

    fn basic(&self) -> Option<String> {
        let Some(Credentials::Password { user, password }) = &self.credentials else { return None };
        Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))))
    }

    fn answer(&self, response: Response, asked: &Asked) -> Result<Answer, RegistryError> {
        let (parts, body) = response.into_parts();
        let mut body: Box<dyn Read + Send> = Box::new(body.into_reader());
        if asked.from > 0 && parts.status.as_u16() == 206 {
            let range = parts.headers.get("content-range").and_then(|range| range.to_str().ok()).unwrap_or_default();
            if !range.starts_with(&format!("bytes {}-", asked.from)) {
                return Err(self.protocol(format!("asked for bytes from {} on, it sent `{range}`", asked.from)));
            }
        } else if asked.from > 0 {
            // It knows no ranges: what is here already comes once more.
            std::io::copy(&mut body.by_ref().take(asked.from), &mut std::io::sink())
                .map_err(|error| self.unreachable(&error.to_string()))?;
        } else if parts.status.as_u16() == 206 {
            return Err(self.protocol(format!("it sent a part of {}, and all of it was asked for", asked.what)));
        }
        Ok(Answer { body, headers: parts.headers })
    }

    fn denied(&self, asked: &Asked, status: u16) -> RegistryError {
        let (host, what) = (self.host.clone(), asked.what.clone());
        RegistryError::Denied { host, what, status, had_credentials: self.credentials.is_some() }
    }

    pub(super) fn failed(&self, response: Response, asked: &Asked, wanted: Option<Duration>) -> RegistryError {
        let (host, what, status) = (self.host.clone(), asked.what.clone(), response.status().as_u16());
        match (status, wanted) {
            (401 | 403, _) => self.denied(asked, status),
            (404, _) => RegistryError::NotFound { host, what },
            (429, Some(wait)) if wait > retry::MAX_WAIT => RegistryError::RateLimited { host, seconds: wait.as_secs() },
            _ => {
                let mut said = Vec::new();
                // The status is the error; without a body there is only less to say of it.
                let _ = response.into_body().into_reader().take(SHOWN_BODY).read_to_end(&mut said);
                let said = String::from_utf8_lossy(&said).trim().to_owned();
                RegistryError::Status { host, what, status, said }
            }
        }
    }
}

fn client_certificate(pair: &ClientCertificate) -> Result<ClientCert, String> {
    let ClientCertificate { certificate, key } = pair;
    let key = PrivateKey::from_pem(key.as_bytes()).map_err(|error| error.to_string())?;
    Ok(ClientCert::new_with_certs(&in_pem(certificate)?, key))
}

pub(super) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name)?.to_str().ok()
}

/// `https://host:port` of an address.
pub(super) fn origin_of(url: &str) -> Option<&str> {
    let host = url.find("://")? + "://".len();
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |end| host + end);
    Some(&url[..end])
}
