//! The places and variables that configuration comes from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A part of the process's environment, as a value: what reads configuration gets it, and tests make their own.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// `/etc`, other in tests.
    etc: PathBuf,
}

impl Environment {
    /// That of this process. Variables that are not UTF-8 are left out: none of those that are read can be used then.
    #[must_use]
    pub fn of_process() -> Environment {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Environment { variables: std::env::vars_os().filter_map(text).collect(), etc: PathBuf::from("/etc") }
    }

    #[must_use]
    pub fn new(variables: &[(&str, &str)], etc: &Path) -> Environment {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Environment { variables: variables.collect(), etc: etc.to_owned() }
    }

    /// The same with one variable set.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Environment {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The value of a variable; an empty one counts as not set, as in the XDG base directory specification.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).map(PathBuf::from)
    }

    #[must_use]
    pub fn etc(&self) -> &Path {
        &self.etc
    }

    #[must_use]
    pub fn home(&self) -> Option<PathBuf> {
        self.path("HOME").filter(|home| home.is_absolute())
    }

    /// `$XDG_CONFIG_HOME/containers`
    #[must_use]
    pub fn containers(&self) -> Option<PathBuf> {
        let configuration = self.path("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
        Some(configuration.or_else(|| Some(self.home()?.join(".config")))?.join("containers"))
    }
}
