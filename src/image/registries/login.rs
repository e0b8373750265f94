//! Keeping and forgetting of credentials: `login` and `logout`, in the file that podman and skopeo use too.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::{Map, Value};

use super::auth_file::{self, AuthFile};
use super::credential_program;
use super::credentials::CredentialsError;
use super::environment::Environment;
use super::files::{self, Unreadable};

/// Where logins are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginFile {
    file: PathBuf,
}

/// Where a password has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptIn {
    /// In base64, which is no protection.
    File(PathBuf),
    Helper(String),
}

impl LoginFile {
    /// `chosen` is `--authfile`; then `REGISTRY_AUTH_FILE`, then podman's own place, which ends with the session.
    ///
    /// # Errors
    /// None of the directories that it could be in is known.
    pub fn find(environment: &Environment, chosen: Option<&Path>) -> Result<LoginFile, Unreadable> {
        let found = chosen.map(Path::to_owned).or_else(|| auth_file::places(environment).into_iter().next());
        let none = || Unreadable::new(Path::new("auth.json"), "has no place: neither XDG_RUNTIME_DIR nor HOME is set");
        Ok(LoginFile { file: found.ok_or_else(none)? })
    }

    /// Keeps a password for `host` or `host/namespace`.
    ///
    /// # Errors
    /// A file that cannot be read or written, a helper that fails.
    pub fn keep(&self, key: &str, user: &str, password: &str) -> Result<KeptIn, CredentialsError> {
        if let Some(name) = self.helper(key)? {
            credential_program::store(&name, key, user, password).map_err(|failed| self.of_helper(failed))?;
            return Ok(KeptIn::Helper(name));
        }
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.change(|auths| {
            auths.insert(key.to_owned(), serde_json::json!({ "auth": auth }));
            true
        })?;
        Ok(KeptIn::File(self.file.clone()))
    }

    /// Forgets what was kept for a key; false: there was nothing.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub fn forget(&self, key: &str) -> Result<bool, CredentialsError> {
        if let Some(name) = self.helper(key)? {
            credential_program::erase(&name, key).map_err(|failed| self.of_helper(failed))?;
            // An entry beside it that has no password says that the helper has it.
            self.change(|auths| auths.remove(key).is_some())?;
            return Ok(true);
        }
        Ok(self.change(|auths| auths.remove(key).is_some())?)
    }

    /// Forgets all that the file itself has, and says what that was.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub fn forget_all(&self) -> Result<Vec<String>, CredentialsError> {
        let mut forgotten = Vec::new();
        self.change(|auths| {
            forgotten = auths.keys().cloned().collect();
            auths.clear();
            !forgotten.is_empty()
        })?;
        Ok(forgotten)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.file
    }

    /// A helper knows hosts alone.
    fn helper(&self, key: &str) -> Result<Option<String>, Unreadable> {
        if key.contains('/') {
            return Ok(None);
        }
        let Some(read) = AuthFile::read(&self.file)? else { return Ok(None) };
        Ok(read.helper(key).or(read.store()).map(str::to_owned))
    }

    fn of_helper(&self, failed: super::CredentialProgramFailed) -> CredentialsError {
        CredentialsError::Helper { file: Some(self.file.clone()), failed }
    }

    /// Changes `auths` and leaves everything else in the file as it is; writes only what `edit` has changed.
    fn change(&self, edit: impl FnOnce(&mut Map<String, Value>) -> bool) -> Result<bool, Unreadable> {
        let not_objects = || Unreadable::new(&self.file, "is not JSON as `podman login` writes it");
        let bytes = files::read(&self.file)?.unwrap_or_default();
        let mut content = match bytes.trim_ascii() {
            [] => Value::Object(Map::new()),
            text => serde_json::from_slice(text).map_err(|_| not_objects())?,
        };
        let auths = content.as_object_mut().ok_or_else(not_objects)?.entry("auths");
        let changed = edit(auths.or_insert_with(|| Value::Object(Map::new())).as_object_mut().ok_or_else(not_objects)?);
        if changed {
            let mut text = serde_json::to_vec_pretty(&content).map_err(|_| not_objects())?;
            text.push(b'\n');
            replace(&self.file, &text)
                .map_err(|error| Unreadable::new(&self.file, format!("cannot be written: {error}")))?;
        }
        Ok(changed)
    }
}

/// Replaces a file as a whole; it and the directory that is made for it are the user's alone.
fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let directory = file.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let new = directory.join(format!(".{name}.{}", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut opened| opened.write_all(text).and_then(|()| opened.sync_all()))
        .and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // It holds a password and is of no use.
        let _ = fs::remove_file(&new);
    }
    written
}
