//! The command, its environment and its directory.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::arguments::{MAX_STRING, Space};
use super::expansion::expand;
use super::image::Known;
use super::security::Security;
use super::{ProcessPlan, downward};
use crate::image::ImageConfig;
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
    /// Its path in the manifest: `spec.containers[0]`.
    pub(super) place: &'a str,
    pub(super) image: &'a Image,
    pub(super) known: Known<'a>,
    pub(super) command: &'a [String],
    pub(super) args: &'a [String],
    pub(super) working_dir: Option<&'a str>,
    pub(super) env: &'a [EnvVar],
    pub(super) stdin: bool,
    pub(super) stdin_once: bool,
    pub(super) tty: bool,
    pub(super) hostname: &'a str,
    pub(super) security: &'a Security,
    pub(super) oom_score_adj: i32,
    pub(super) sources: downward::Sources<'a>,
}

pub(super) fn plan(wish: Wish<'_>) -> Result<ProcessPlan, Report> {
    let mut space = Space::of(wish.container, wish.sources.facts);
    let config = wish.known.config();
    let declared = declared_env(&wish, &mut space)?;
    let argv = argv(&wish, &config, &declared, &mut space)?;
    let mut env = Environment::default();
    for (name, value) in default_env(wish.hostname, wish.tty) {
        env.set(name, value);
    }
    for (name, value) in &config.environment {
        if declared.get(name).is_none() {
            let what = format!("variable `{}` of the image", shortened(name));
            space
                .take(pair_bytes(name, value), &what)
                .map_err(|report| report.about(format!("{}.image", wish.place)))?;
        }
        env.set(name.clone(), value.clone());
    }
    for (name, value) in declared.variables {
        env.set(name, value);
    }
    let env = env.variables;
    Ok(ProcessPlan {
        argv,
        env,
        cwd: working_directory(wish.working_dir, &config),
        uid: wish.security.uid.clone(),
        gid: wish.security.gid.clone(),
        no_new_privs: wish.security.no_new_privs,
        capabilities: wish.security.capabilities.clone(),
        stdin: wish.stdin,
        stdin_once: wish.stdin_once,
        tty: wish.tty,
        oom_score_adj: wish.oom_score_adj,
    })
}

/// Absolute, also where the image's is not.
fn working_directory(asked: Option<&str>, config: &ImageConfig) -> PathBuf {
    asked.map_or_else(|| Path::new("/").join(&config.working_directory), PathBuf::from)
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
    let mut env = Environment::default();
    for (name, value) in std::mem::take(&mut process.env) {
        env.set(name, value);
    }
    if asked.tty && env.get(TERM.0).is_none() {
        env.set(TERM.0.to_owned(), TERM.1.to_owned());
    }
    for (name, value) in asked.env {
        env.set(name.clone(), value.clone());
    }
    process.env = env.variables;
    if let Some(cwd) = asked.cwd {
        process.cwd = cwd.into();
    }
    process
}

/// In Kubernetes the runtime adds these, and then the image's, after the kubelet has expanded: `$(PATH)` is not known to
/// `expand` unless the manifest itself sets it.
fn default_env(hostname: &str, tty: bool) -> Vec<(String, String)> {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut env = vec![pair("PATH", DEFAULT_PATH), pair("HOSTNAME", hostname)];
    if tty {
        env.push(pair(TERM.0, TERM.1));
    }
    env
}

/// Variables in the order in which they were first set.
#[derive(Debug, Default)]
struct Environment {
    variables: Vec<(String, String)>,
    places: HashMap<String, usize>,
}

impl Environment {
    fn get(&self, wanted: &str) -> Option<&str> {
        self.places.get(wanted).map(|&place| self.variables[place].1.as_str())
    }

    fn set(&mut self, name: String, value: String) {
        match self.places.get(&name) {
            Some(&place) => self.variables[place].1 = value,
            None => {
                self.places.insert(name.clone(), self.variables.len());
                self.variables.push((name, value));
            }
        }
    }
}

/// A value refers to variables above it only; of two with one name the later one counts.
fn declared_env(wish: &Wish<'_>, space: &mut Space<'_>) -> Result<Environment, Report> {
    let mut env = Environment::default();
    for (index, EnvVar { name, value }) in wish.env.iter().enumerate() {
        let asking = downward::Asking { container: wish.container, variable: name };
        let what = format!("variable `{}`", shortened(name));
        let (field, value) = match value {
            EnvValue::Text(text) => {
                let expanded = expand(text, MAX_STRING, |wanted| env.get(wanted));
                ("value", expanded.map_err(|_| space.too_long(&what)))
            }
            // Taken as they are: they are no text of the manifest's.
            EnvValue::Field(field) => ("valueFrom", downward::field(field, asking, &wish.sources)),
            EnvValue::Resource(field) => ("valueFrom", downward::resource(field, asking, &wish.sources)),
        };
        let at = || format!("{}.env[{index}].{field}", wish.place);
        let value = value.map_err(|report| report.about(at()))?;
        if let Some(old) = env.get(name) {
            space.give_back(pair_bytes(name, old));
        }
        space.take(pair_bytes(name, &value), &what).map_err(|report| report.about(at()))?;
        env.set(name.clone(), value);
    }
    Ok(env)
}

/// `NAME=VALUE`
fn pair_bytes(name: &str, value: &str) -> usize {
    name.len() + 1 + value.len()
}

/// A name for a message.
fn shortened(name: &str) -> String {
    const MOST: usize = 60;
    if name.chars().count() <= MOST { name.to_owned() } else { name.chars().take(MOST).chain(['…']).collect() }
}

/// Kubernetes' table
/// (<https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/#notes>): `command` takes the
/// place of the image's entrypoint and of its command, `args` that of its command alone. What the image says is not
/// expanded.
fn argv(
    wish: &Wish<'_>,
    config: &ImageConfig,
    env: &Environment,
    space: &mut Space<'_>,
) -> Result<Vec<String>, Report> {
    let Wish { container, place, image, known, command, args, .. } = wish;
    if command.is_empty() && !args.is_empty() && matches!(known, Known::NoConfiguration) {
        return Err(Report::new(exit_code::USAGE, format!("container `{container}` has args but no command"))
            .because(format!("image `{image}` has no entrypoint that could take them"))
            .hint("put the program into `command`")
            .about(format!("{place}.args")));
    }
    let mut argv = Vec::new();
    let entrypoint: &[String] = if command.is_empty() { &config.entrypoint } else { &[] };
    let cmd: &[String] = if command.is_empty() && args.is_empty() { &config.command } else { &[] };
    for word in entrypoint.iter().chain(cmd) {
        let taken = space.take(word.len(), "the image's command");
        taken.map_err(|report| report.about(format!("{place}.image")))?;
        argv.push(word.clone());
    }
    for (field, words) in [("command", command), ("args", args)] {
        for (index, word) in words.iter().enumerate() {
            let what = format!("{field}[{index}]");
            let expanded = expand(word, MAX_STRING, |wanted| env.get(wanted)).map_err(|_| space.too_long(&what));
            let word = expanded.and_then(|word| space.take(word.len(), &what).map(|()| word));
            argv.push(word.map_err(|report| report.about(format!("{place}.{what}")))?);
        }
    }
    if argv.is_empty() && !matches!(known, Known::Unknown) {
        return Err(Report::new(exit_code::USAGE, format!("container `{container}` has no command"))
            .because(format!("image {image} has neither an entrypoint nor a command"))
            .hint("write `command` into the container")
            .about(format!("{place}.image")));
    }
    Ok(argv)
}
