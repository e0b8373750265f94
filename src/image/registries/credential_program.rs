//! Programs that keep secrets: `docker-credential-NAME` (docker-credential-helpers, README, "Development").

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Credentials;
use super::auth_file::keys_of_host;
use crate::sys::poll;
use crate::sys::process::{self, PidFd};

/// How long a helper may take; one that asks a person to unlock a keyring needs some time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer.
const MAX_ANSWER: u64 = 1 << 20;
/// The user of an identity token.
const TOKEN_USER: &str = "<token>";

/// Why a helper gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("credential helper `docker-credential-{name}` {why}")]
pub struct CredentialProgramFailed {
    pub name: String,
    pub why: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Secret {
    #[serde(rename = "ServerURL", default)]
    server: String,
    username: String,
    secret: String,
}

/// Asks a helper for a registry's credentials; `None`: it has none.
///
/// # Errors
/// A helper that is not there, fails otherwise, takes too long or answers with something else.
pub(super) fn get(name: &str, host: &str) -> Result<Option<Credentials>, CredentialProgramFailed> {
    get_from(&program(name)?, name, host, PATIENCE)
}

/// As [`get`], of a program that need not be in `PATH`.
pub(super) fn get_from(
    program: &Path,
    name: &str,
    host: &str,
    patience: Duration,
) -> Result<Option<Credentials>, CredentialProgramFailed> {
    for key in keys_of_host(host) {
        if let Some(found) = get_key(program, name, key, patience)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn program(name: &str) -> Result<PathBuf, CredentialProgramFailed> {
    // It is a part of a program's name, and comes from a file.
    if name.is_empty() || name.contains(['/', '\0']) {
        return Err(CredentialProgramFailed {
            name: name.to_owned(),
            why: "has a name that no program can have".to_owned(),
        });
    }
    Ok(PathBuf::from(format!("docker-credential-{name}")))
}

fn get_key(
    program: &Path,
    name: &str,
    key: &str,
    patience: Duration,
) -> Result<Option<Credentials>, CredentialProgramFailed> {
    let failed = |why: String| CredentialProgramFailed { name: name.to_owned(), why };
    let Ended { success, said } = run(program, "get", key.as_bytes(), patience).map_err(failed)?;
    if !success {
        // The only thing that tells it from a failure (credentials/error.go).
        let text = String::from_utf8_lossy(&said).trim().to_owned();
        let has_none = text.is_empty() || text.contains("credentials not found");
        return if has_none { Ok(None) } else { Err(failed(format!("failed: {}", shown(&text)))) };
    }
    let Secret { server: _, username, secret } = serde_json::from_slice(&said)
        .map_err(|_| failed("answered with something else than Username and Secret in JSON".to_owned()))?;
    // c/image: some helpers answer with two empty texts.
    Ok(match (username.as_str(), secret.as_str()) {
        ("", "") => None,
        (TOKEN_USER, _) => Some(Credentials::IdentityToken(secret)),
        _ => Some(Credentials::Password { user: username, password: secret }),
    })
}

/// Gives a helper a password to keep.
///
/// # Errors
/// As [`get`].
pub(super) fn store(name: &str, host: &str, user: &str, password: &str) -> Result<(), CredentialProgramFailed> {
    let secret =
        Secret { server: key_to_store(host).to_owned(), username: user.to_owned(), secret: password.to_owned() };
    let input = serde_json::to_vec(&secret).unwrap_or_default();
    change(name, "store", &input)
}

/// Makes a helper forget a password.
///
/// # Errors
/// As [`get`].
pub(super) fn erase(name: &str, host: &str) -> Result<(), CredentialProgramFailed> {
    change(name, "erase", key_to_store(host).as_bytes())
}

fn key_to_store(host: &str) -> &str {
    keys_of_host(host).find(|key| *key == super::auth_file::DOCKER_HUB_KEY).unwrap_or(host)
}

fn change(name: &str, verb: &str, input: &[u8]) -> Result<(), CredentialProgramFailed> {
    let failed = |why: String| CredentialProgramFailed { name: name.to_owned(), why };
    let Ended { success, said } = run(&program(name)?, verb, input, PATIENCE).map_err(failed)?;
    if success { Ok(()) } else { Err(failed(format!("failed: {}", shown(&String::from_utf8_lossy(&said))))) }
}

/// The end of a message, without what would move a terminal's cursor.
fn shown(text: &str) -> String {
    text.trim().chars().filter(|letter| !letter.is_control()).take(300).collect()
}

struct Ended {
    success: bool,
    said: Vec<u8>,
}

fn run(program: &Path, verb: &str, input: &[u8], patience: Duration) -> Result<Ended, String> {
    let mut command = Command::new(program);
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = process::spawn(&mut command).map_err(|error| format!("could not be started: {error}"))?;
    let ended = talk(&mut child, input, Instant::now() + patience);
    if ended.is_err() {
        // It may have ended by itself; then there is nothing to kill.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| format!("cannot be waited for: {error}"));
    let said = ended?.ok_or_else(|| format!("did not answer within {} s", patience.as_secs()))?;
    Ok(Ended { success: status?.success(), said })
}

/// `None`: the time is up, and the child has been killed.
fn talk(child: &mut Child, input: &[u8], deadline: Instant) -> Result<Option<Vec<u8>>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot be talked to: {error}");
    if let Some(mut stdin) = child.stdin.take() {
        // A few hundred bytes fit into a pipe. One that does not read them may know without them.
        let _ = stdin.write_all(input);
    }
    let pid = i32::try_from(child.id()).map_err(|error| failed(&error))?;
    let ending = PidFd::open(pid).map_err(|error| failed(&error))?;
    let left = || deadline.saturating_duration_since(Instant::now());
    let mut said = Vec::new();
    if let Some(mut stdout) = child.stdout.take() {
        let mut buffer = [0; 4096];
        loop {
            if !poll::readable(stdout.as_fd(), left()).map_err(|error| failed(&error))? {
                let _ = child.kill();
                return Ok(None);
            }
            match stdout.read(&mut buffer).map_err(|error| failed(&error))? {
                0 => break,
                count => said.extend_from_slice(&buffer[..count]),
            }
            if said.len() as u64 > MAX_ANSWER {
                return Err(format!("answered with more than {MAX_ANSWER} bytes"));
            }
        }
    }
    if !ending.wait_gone(left()).map_err(|error| failed(&error))? {
        let _ = child.kill();
        return Ok(None);
    }
    Ok(Some(said))
}
