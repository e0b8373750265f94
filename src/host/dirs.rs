//! Where sandpod's own files go: chosen here by looking only; `state` makes them and refuses foreign ones.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Dir;
use crate::sys::describe_io;
use crate::sys::probe::may_fill;

/// The part of the environment that the host layer reads.
#[derive(Debug, Default)]
pub(super) struct Environment {
    pub(super) path: OsString,
    pub(super) user: Option<OsString>,
    pub(super) home: Option<OsString>,
    pub(super) xdg_runtime_dir: Option<OsString>,
    pub(super) xdg_data_home: Option<OsString>,
    pub(super) slirp4netns: Option<OsString>,
    pub(super) pasta: Option<OsString>,
    /// Every container of a Kubernetes pod has `$KUBERNETES_SERVICE_HOST`.
    pub(super) kubernetes: bool,
}

impl Environment {
    pub(super) fn of_this_process() -> Environment {
        Environment {
            path: std::env::var_os("PATH").unwrap_or_default(),
            user: std::env::var_os("USER"),
            home: std::env::var_os("HOME"),
            xdg_runtime_dir: std::env::var_os("XDG_RUNTIME_DIR"),
            xdg_data_home: std::env::var_os("XDG_DATA_HOME"),
            slirp4netns: std::env::var_os("SANDPOD_SLIRP4NETNS"),
            pasta: std::env::var_os("SANDPOD_PASTA"),
            kubernetes: std::env::var_os("KUBERNETES_SERVICE_HOST").is_some(),
        }
    }

    /// `$HOME` is set, to whatever.
    pub(super) fn says_home(&self) -> bool {
        self.home.is_some()
    }
}

/// `$XDG_RUNTIME_DIR/sandpod`, else `/tmp/sandpod-UID`.
pub(super) fn runtime(environment: &Environment, uid: u32) -> Dir {
    let asked = absolute("$XDG_RUNTIME_DIR", environment.xdg_runtime_dir.as_ref());
    match asked.and_then(|base| check_ours(&base, uid).and_then(|()| check_nobody_elses(&base)).map(|()| base)) {
        Ok(base) => Dir { path: base.join("sandpod"), fallback: None },
        Err(why) => Dir { path: PathBuf::from(format!("/tmp/sandpod-{uid}")), fallback: Some(why) },
    }
}

/// `$XDG_DATA_HOME/sandpod` or `~/.local/share/sandpod`, else `data` in the runtime directory.
///
/// `home` is passwd(5)'s, for when `$HOME` is not set.
pub(super) fn data(environment: &Environment, home: Option<&str>, runtime: &Dir, uid: u32) -> Dir {
    match choose_data(environment, home, uid) {
        Ok(path) => Dir { path, fallback: None },
        Err(why) => Dir { path: runtime.path.join("data"), fallback: Some(why) },
    }
}

fn choose_data(environment: &Environment, home: Option<&str>, uid: u32) -> Result<PathBuf, String> {
    // The base directory specification: what is not absolute is to be ignored.
    let path = if let Ok(base) = absolute("$XDG_DATA_HOME", environment.xdg_data_home.as_ref()) {
        base.join("sandpod")
    } else {
        let passwd = home.map(OsString::from);
        let home = absolute("the home directory", environment.home.as_ref().or(passwd.as_ref()))?;
        // Unlike what is below it, a home is never made: `/nonexistent` is meant.
        if !home.is_dir() {
            return Err(format!("the home directory {} is not there", home.display()));
        }
        home.join(".local/share/sandpod")
    };
    check_makeable(&path, uid).map(|()| path)
}

/// Facts are written as JSON, so a path must be UTF-8.
fn absolute(name: &str, value: Option<&OsString>) -> Result<PathBuf, String> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Err(format!("{name} is not set")) };
    let Some(text) = value.to_str() else { return Err(format!("{name} is not UTF-8")) };
    if text.starts_with('/') { Ok(PathBuf::from(text)) } else { Err(format!("{name} is not absolute: {text}")) }
}

fn check_ours(directory: &Path, uid: u32) -> Result<(), String> {
    let shown = directory.display();
    let found = std::fs::metadata(directory).map_err(|error| format!("{shown}: {}", describe_io(&error)))?;
    if !found.is_dir() {
        return Err(format!("{shown} is not a directory"));
    }
    if found.uid() != uid {
        return Err(format!("{shown} belongs to uid {}, not to you ({uid})", found.uid()));
    }
    may_fill(directory).map_err(|error| format!("{shown} is not writable: {error}"))
}

/// Whoever may write to it can put another directory in the place of ours; the base directory specification wants 0700.
fn check_nobody_elses(directory: &Path) -> Result<(), String> {
    const STICKY: u32 = 0o1000;
    let mode = std::fs::metadata(directory)
        .map_err(|error| format!("{}: {}", directory.display(), describe_io(&error)))?
        .mode();
    if mode & 0o022 == 0 || mode & STICKY != 0 {
        return Ok(());
    }
    Err(format!("others may write to {} (mode {:04o}; it must be 0700)", directory.display(), mode & 0o7777))
}

/// Could `mkdir -p` make it, or is it there and ours?
fn check_makeable(path: &Path, uid: u32) -> Result<(), String> {
    for there in path.ancestors() {
        match std::fs::metadata(there) {
            Ok(_) if there == path => return check_ours(there, uid),
            Ok(found) if found.is_dir() => {
                return may_fill(there).map_err(|error| format!("{} cannot be made: {error}", path.display()));
            }
            Ok(_) => return Err(format!("{} is not a directory", there.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {}", there.display(), describe_io(&error))),
        }
    }
    Err(format!("{} cannot be made", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::host::recorded::Recorded;
    use crate::sys::probe::effective_ids;

    fn set(path: &Path) -> Option<OsString> {
        Some(path.as_os_str().to_owned())
    }

    #[test]
    fn the_runtime_directory_must_be_ours() {
        let (uid, _) = effective_ids();
        let tree = Recorded::new(&[("file", "")]);
        let good = Environment { xdg_runtime_dir: set(tree.path()), ..Environment::default() };
        let chosen = runtime(&good, uid);
        assert_eq!((chosen.path, chosen.fallback), (tree.path().join("sandpod"), None));
        for (value, why) in [
            (None, "not set"),
            (Some(OsString::new()), "not set"),
            (Some(OsString::from("relative")), "not absolute"),
            (set(&tree.path().join("absent")), "No such file"),
            (set(&tree.path().join("file")), "not a directory"),
        ] {
            let chosen = runtime(&Environment { xdg_runtime_dir: value, ..Environment::default() }, uid);
            assert_eq!(chosen.path, PathBuf::from(format!("/tmp/sandpod-{uid}")), "{why}");
            assert!(chosen.fallback.expect(why).contains(why), "{why}");
        }
        let foreign = runtime(&good, uid + 1);
        assert!(foreign.fallback.expect("foreign").contains("belongs to"));
        for (mode, refused) in [(0o777, true), (0o770, true), (0o1777, false), (0o755, false)] {
            std::fs::set_permissions(tree.path(), Permissions::from_mode(mode)).expect("chmod");
            let why = runtime(&good, uid).fallback;
            assert_eq!(why.is_some_and(|why| why.contains("others may write")), refused, "{mode:o}");
        }
    }

    #[test]
    fn data_goes_home_or_to_the_runtime_directory() {
        let (uid, _) = effective_ids();
        let tree = Recorded::new(&[("home/x", ""), ("blocked/.local", ""), ("shared/sandpod", "")]);
        let below = |name: &str| tree.path().join(name);
        let fallback = Dir { path: PathBuf::from("/r"), fallback: None };
        let choose = |environment: &Environment, passwd: Option<&str>| data(environment, passwd, &fallback, uid);

        let home = Environment { home: set(&below("home")), ..Environment::default() };
        assert_eq!(choose(&home, None).path, below("home/.local/share/sandpod"));
        assert_eq!(choose(&Environment::default(), below("home").to_str()).path, below("home/.local/share/sandpod"));
        let asked = Environment { xdg_data_home: set(&below("new/deep")), ..home };
        assert_eq!(choose(&asked, None).path, below("new/deep/sandpod"));

        for (environment, why) in [
            (Environment::default(), "not set"),
            (Environment { home: set(&below("absent")), ..Environment::default() }, "not there"),
            (Environment { home: set(&below("blocked")), ..Environment::default() }, "Not a directory"),
            (Environment { xdg_data_home: set(&below("shared")), ..Environment::default() }, "not a directory"),
        ] {
            let chosen = choose(&environment, None);
            assert_eq!(chosen.path, Path::new("/r/data"), "{why}");
            let found = chosen.fallback.expect(why);
            assert!(found.contains(why), "{why}: {found}");
        }
    }
}
