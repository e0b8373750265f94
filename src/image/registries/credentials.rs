//! Which credentials a registry gets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::auth_file::{self, AuthFile};
use super::credential_program;
use super::environment::Environment;
use super::{CredentialProgramFailed, Unreadable};

/// What the user has for a registry (docker's and podman's login).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// What a token server gave at the login instead of keeping the password, good for tokens alone.
    IdentityToken(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A password must not get into a log by a derive.
        match self {
            Credentials::Password { user, .. } => write!(out, "Password of {user}"),
            Credentials::IdentityToken(_) => write!(out, "IdentityToken"),
        }
    }
}

/// Why credentials cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("{}: {failed}", file.as_ref().map_or("credential-helpers".to_owned(), |it| it.display().to_string()))]
    Helper {
        /// The file that names the helper; `None`: registries.conf.
        file: Option<PathBuf>,
        failed: CredentialProgramFailed,
    },
}

/// The name in `credential-helpers` that means the files (containers-registries.conf(5)).
const FILES: &str = "containers-auth.json";

/// Looks for the credentials of a repository.
///
/// # Errors
/// A file that cannot be read, a helper that fails. That there are none is no error.
pub(super) fn find(
    environment: &Environment,
    helpers: &[String],
    host: &str,
    repository: &str,
) -> Result<Option<Credentials>, CredentialsError> {
    if helpers.is_empty() {
        return find_in_files(environment, host, repository);
    }
    for name in helpers {
        let found = if name == FILES {
            find_in_files(environment, host, repository)?
        } else {
            credential_program::get(name, host).map_err(|failed| CredentialsError::Helper { file: None, failed })?
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn find_in_files(
    environment: &Environment,
    host: &str,
    repository: &str,
) -> Result<Option<Credentials>, CredentialsError> {
    for place in auth_file::places(environment) {
        let Some(read) = AuthFile::read(&place)? else { continue };
        let of_helper = |name: &str| {
            credential_program::get(name, host)
                .map_err(|failed| CredentialsError::Helper { file: Some(place.clone()), failed })
        };
        let found = match read.helper(host) {
            Some(name) => of_helper(name)?,
            None => match (read.find(&place, host, repository)?, read.store()) {
                (None, Some(name)) => of_helper(name)?,
                (found, _) => found,
            },
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
