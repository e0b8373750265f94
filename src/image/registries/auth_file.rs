//! Files with credentials: podman's auth.json (containers-auth.json(5)) and docker's config.json, which have one format.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde::Deserialize;

use super::Credentials;
use super::environment::Environment;
use super::files::{self, Unreadable};

#[derive(Debug, Default, Deserialize)]
pub(super) struct AuthFile {
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(rename = "credsStore")]
    store: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// docker's name for Docker Hub in its files and for its helpers.
pub(super) const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// The files that are looked into, in order (containers-auth.json(5), FILES); `REGISTRY_AUTH_FILE` alone where it is set.
pub(super) fn places(environment: &Environment) -> Vec<PathBuf> {
    if let Some(chosen) = environment.path("REGISTRY_AUTH_FILE") {
        return vec![chosen];
    }
    let runtime = environment.path("XDG_RUNTIME_DIR").map(|it| it.join("containers/auth.json"));
    let configuration = environment.containers().map(|it| it.join("auth.json"));
    let docker = environment.path("DOCKER_CONFIG").or_else(|| Some(environment.home()?.join(".docker")));
    [runtime, configuration, docker.map(|it| it.join("config.json"))].into_iter().flatten().collect()
}

impl AuthFile {
    /// # Errors
    /// What cannot be read, and what is no JSON of this kind.
    pub(super) fn read(file: &Path) -> Result<Option<AuthFile>, Unreadable> {
        let Some(bytes) = files::read(file)? else { return Ok(None) };
        // podman makes such a file when it is to keep a secret there next.
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Some(AuthFile::default()));
        }
        serde_json::from_slice(&bytes).map(Some).map_err(|error| Unreadable {
            file: file.to_owned(),
            line: Some(error.line()),
            // serde's message names a value that is of the wrong type: it could be a password.
            why: "is not JSON as `podman login` and `docker login` write it".to_owned(),
        })
    }

    /// The helper for a registry: one of its own, or the one for all.
    pub(super) fn helper(&self, host: &str) -> Option<&str> {
        let own = self.helpers.as_ref().and_then(|helpers| keys_of_host(host).find_map(|key| helpers.get(key)));
        own.map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn store(&self) -> Option<&str> {
        self.store.as_deref().filter(|name| !name.is_empty())
    }

    /// The entry of the longest key: `host/namespace/repository`, `host/namespace`, `host`, and then docker's old forms
    /// (`https://host/v1/`).
    ///
    /// # Errors
    /// An entry that cannot be decoded.
    pub(super) fn find(&self, file: &Path, host: &str, repository: &str) -> Result<Option<Credentials>, Unreadable> {
        let Some(auths) = &self.auths else { return Ok(None) };
        let mut key = format!("{host}/{repository}");
        loop {
            if let Some(entry) = auths.get(&key)
                && let Some(found) = entry.credentials(file, &key)?
            {
                return Ok(Some(found));
            }
            let Some((shorter, _)) = key.rsplit_once('/') else { break };
            key.truncate(shorter.len());
        }
        let wanted = normalized(host);
        for (key, entry) in auths.iter().filter(|(key, _)| host_of_key(key).is_some_and(|it| normalized(it) == wanted))
        {
            if let Some(found) = entry.credentials(file, key)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

impl Entry {
    /// `None` for an entry that only says that a helper has the secret (`{}`).
    fn credentials(&self, file: &Path, key: &str) -> Result<Option<Credentials>, Unreadable> {
        let Entry { auth, username, password, identitytoken } = self;
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        if let Some(token) = filled(identitytoken) {
            return Ok(Some(Credentials::IdentityToken(token)));
        }
        if let Some(auth) = filled(auth) {
            let found = decode(&auth).ok_or_else(|| {
                Unreadable::new(file, format!("`auths.{key}.auth` is not the base64 form of USER:PASSWORD"))
            })?;
            return Ok(Some(found));
        }
        let both = filled(username).zip(filled(password));
        Ok(both.map(|(user, password)| Credentials::Password { user, password }))
    }
}

fn decode(auth: &str) -> Option<Credentials> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok()?;
    // docker pads with NUL (containers/image, decodeDockerAuth).
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.trim_end_matches('\0').split_once(':')?;
    Some(Credentials::Password { user: user.to_owned(), password: password.to_owned() })
}

/// `quay.io` of `https://quay.io/v1/`; `None` for a key with a repository, which is for that repository alone.
fn host_of_key(key: &str) -> Option<&str> {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    match rest {
        Some(rest) => rest.split('/').next(),
        None if key.contains('/') => None,
        None => Some(key),
    }
}

/// Docker Hub has three names.
fn normalized(host: &str) -> &str {
    match host {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        other => other,
    }
}

/// What a helper may know a registry by.
pub(super) fn keys_of_host(host: &str) -> impl Iterator<Item = &str> {
    let hub = (normalized(host) == "index.docker.io").then_some([DOCKER_HUB_KEY, "index.docker.io"]);
    std::iter::once(host).chain(hub.into_iter().flatten())
}
