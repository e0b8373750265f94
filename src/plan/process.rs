//! The command, its environment and its directory.

use super::expansion::expand;
use super::security::Security;
use super::{ProcessPlan, downward};
use crate::manifest::{EnvValue, EnvVar, Image};
use crate::report::{Report, exit_code};

#[cfg(test)]
mod tests;

/// What containerd gives a container whose image has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// For a process with a terminal. What the client's own is called is not said: the container need not know its kind.
const TERM: (&str, &str) = ("TERM", "xterm");

pub(super) struct Wish<'a> {
    pub(super) container: &'a str,
    pub(super) image: &'a Image,
    pub(super) command: &'a [String],
    pub(super) args: &'a [String],
    pub(super) working_dir: Option<&'a str>,
    pub(super) env: &'a [EnvVar],
    pub(super) stdin: bool,
    pub(super) tty: bool,
    pub(super) hostname: &'a str,
    pub(super) security: &'a Security,
    pub(super) oom_score_adj: i32,
    pub(super) sources: downward::Sources<'a>,
}

pub(super) fn plan(wish: Wish<'_>) -> Result<ProcessPlan, Report> {
    let declared = declared_env(&wish)?;
    let argv = argv(&wish, &declared)?;
    let mut env = default_env(wish.hostname, wish.tty);
    for (name, value) in declared {
        set(&mut env, name, value);
    }
    Ok(ProcessPlan {
        argv,
        env,
        cwd: wish.working_dir.unwrap_or("/").into(),
        uid: wish.security.uid,
        gid: wish.security.gid,
        no_new_privs: wish.security.no_new_privs,
        capabilities: wish.security.capabilities.clone(),
        stdin: wish.stdin,
        tty: wish.tty,
        oom_score_adj: wish.oom_score_adj,
    })
}

/// What an `exec` asks for.
#[derive(Debug, Clone, Copy)]
pub struct Another<'a> {
    pub argv: &'a [String],
    /// Added to the container's own environment; of two with one name the later one counts.
    pub env: &'a [(String, String)],
    pub cwd: Option<&'a str>,
    pub tty: bool,
}

/// Another process of a container: as the container's first one, but for what is asked.
#[must_use]
pub fn another(first: &ProcessPlan, asked: &Another<'_>) -> ProcessPlan {
    let mut process = ProcessPlan { argv: asked.argv.to_vec(), tty: asked.tty, ..first.clone() };
    if asked.tty && get(&process.env, TERM.0).is_none() {
        set(&mut process.env, TERM.0.to_owned(), TERM.1.to_owned());
    }
    for (name, value) in asked.env {
        set(&mut process.env, name.clone(), value.clone());
    }
    if let Some(cwd) = asked.cwd {
        process.cwd = cwd.into();
    }
    process
}

/// In Kubernetes it is the runtime that adds these, after the kubelet has expanded: `$(PATH)` is not known to `expand`
/// unless the manifest itself sets it.
fn default_env(hostname: &str, tty: bool) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut env = vec![pair("PATH", DEFAULT_PATH), pair("HOSTNAME", hostname)];
    if tty {
        env.push(pair(TERM.0, TERM.1));
    }
    env
}

/// A value refers to variables above it only; of two with one name the later one counts.
fn declared_env(wish: &Wish<'_>) -> Result<Vec<(String, String)>, Report> {
    let mut env = Vec::new();
    for EnvVar { name, value } in wish.env {
        let asking = downward::Asking { container: wish.container, variable: name };
        let value = match value {
            EnvValue::Text(text) => expand(text, |wanted| get(&env, wanted)),
            // Taken as they are: they are no text of the manifest's.
            EnvValue::Field(field) => downward::field(field, asking, &wish.sources)?,
            EnvValue::Resource(field) => downward::resource(field, asking, &wish.sources)?,
        };
        set(&mut env, name.clone(), value);
    }
    Ok(env)
}

fn argv(wish: &Wish<'_>, env: &[(String, String)]) -> Result<Vec<String>, Report> {
    if wish.command.is_empty() && !wish.args.is_empty() {
        let image = match wish.image {
            Image::Host => "host:".to_owned(),
            Image::Rootfs(dir) => format!("rootfs:{}", dir.display()),
        };
        return Err(Report::new(exit_code::USAGE, format!("container `{}` has args but no command", wish.container))
            .because(format!("image `{image}` has no entrypoint that could take them"))
            .hint("put the program into `command`"));
    }
    if wish.command.is_empty() {
        return Ok(vec!["/bin/sh".to_owned()]);
    }
    Ok(wish.command.iter().chain(wish.args).map(|word| expand(word, |wanted| get(env, wanted))).collect())
}

fn get<'a>(env: &'a [(String, String)], wanted: &str) -> Option<&'a str> {
    env.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
}

fn set(env: &mut Vec<(String, String)>, name: String, value: String) {
    match env.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => env.push((name, value)),
    }
}
