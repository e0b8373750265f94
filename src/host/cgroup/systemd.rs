//! What systemd keeps for itself, and whether the user's systemd can be asked for a scope.
//!
//! Nobody but systemd may change the cgroups of its units, except below those with `Delegate=` (systemd's
//! doc/CGROUP_DELEGATION, "Two Key Design Rules").

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::find::View;
use super::{NoSystemd, candidate, container};
use crate::host::mountinfo::Cgroup2Mount;
use crate::sys::probe::{may_execute, read_start};

/// Searched after `$PATH`, which a service or a cron job may have short.
const USUAL: [&str; 2] = ["/usr/bin", "/bin"];

/// Why a cgroup is not ours although we may write to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manages {
    Unit,
    /// The user's systemd itself runs in it.
    UserSystemd,
    /// The top of its hierarchy.
    Root,
}

impl fmt::Display for Manages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Manages::Unit => "systemd manages it, and it has no Delegate=yes",
            Manages::UserSystemd => "it is delegated to your systemd, not to you",
            Manages::Root => "systemd manages it",
        })
    }
}

/// `None` where it keeps out: another init, a delegated unit, or a directory that somebody else made.
pub(super) fn manages(view: &View<'_>, mount: &Path, cgroup: &Path) -> Option<Manages> {
    if !is_the_init(view) {
        return None;
    }
    if cgroup == mount {
        return Some(Manages::Root);
    }
    let unit = cgroup.file_name()?;
    if is_user_service(unit) {
        return Some(Manages::UserSystemd);
    }
    let extension = Path::new(unit).extension().and_then(OsStr::to_str);
    let is_unit = matches!(extension, Some("slice" | "scope" | "service"));
    (is_unit && !is_delegated(view, cgroup, unit)).then_some(Manages::Unit)
}

/// sd_booted(3).
fn is_the_init(view: &View<'_>) -> bool {
    view.root.join("run/systemd/system").is_dir()
}

fn is_user_service(unit: &OsStr) -> bool {
    unit.to_str().is_some_and(|unit| unit.starts_with("user@") && unit.ends_with(".service"))
}

/// The system's systemd sets an attribute; the user's sets none (252 and 255), but writes a file for each unit that was
/// made by a call, as `systemd-run --scope -p Delegate=yes` does.
fn is_delegated(view: &View<'_>, cgroup: &Path, unit: &OsStr) -> bool {
    if (view.rights.marked)(&view.at(cgroup)) {
        return true;
    }
    let of_the_user = cgroup.iter().any(is_user_service);
    let directory = if of_the_user { view.runtime_dir().unwrap_or_else(|usual| usual) } else { PathBuf::from("/run") };
    let file = view.at(&directory.join("systemd/transient").join(unit));
    read_start(&file, 64 << 10).is_ok_and(|text| delegates(&String::from_utf8_lossy(&text)))
}

/// Of a unit file the last `Delegate=` counts; a list of controllers is a yes as well (systemd.resource-control(5)).
fn delegates(unit_file: &str) -> bool {
    let last = unit_file.lines().rev().find_map(|line| line.trim().strip_prefix("Delegate="));
    last.is_some_and(|value| !["no", "n", "false", "f", "off", "0"].contains(&value.trim()))
}

/// The user's systemd, of which a scope can be asked.
#[derive(Debug)]
pub(super) struct UserSystemd {
    /// `…/user@UID.service`
    pub(super) cgroup: PathBuf,
    pub(super) controllers: BTreeSet<String>,
}

/// Asked with busctl(1), on the user's bus: the socket `systemd/private` is systemctl's and speaks to it alone.
pub(super) fn user_systemd(view: &View<'_>, mount: &Cgroup2Mount, own: &Path) -> Result<UserSystemd, NoSystemd> {
    if !is_the_init(view) {
        return Err(NoSystemd::OtherInit { container: container::around(view.root) });
    }
    // With hidepid= it cannot be read; then nothing is known against it.
    if let Ok(pid1) = read_start(&view.root.join("proc/1/comm"), 64)
        && pid1 != b"systemd\n"
    {
        return Err(NoSystemd::OtherPidNamespace { pid1: String::from_utf8_lossy(&pid1).trim().to_owned() });
    }
    let is_socket = |path: PathBuf| std::fs::metadata(view.at(&path)).is_ok_and(|found| found.file_type().is_socket());
    let runtime_dir = match view.runtime_dir() {
        Ok(directory) => directory,
        Err(usual) if is_socket(usual.join("systemd/private")) => {
            return Err(NoSystemd::RuntimeDirUnset { runtime_dir: usual });
        }
        Err(usual) => return Err(NoSystemd::NotRunning { runtime_dir: usual }),
    };
    if !is_socket(runtime_dir.join("bus")) {
        let runs = is_socket(runtime_dir.join("systemd/private"));
        return Err(if runs { NoSystemd::NoBus { runtime_dir } } else { NoSystemd::NotRunning { runtime_dir } });
    }
    if !has_busctl(view) {
        return Err(NoSystemd::NoBusctl);
    }
    let Some(cgroup) = cgroup_of_systemd(view, mount, own) else {
        return Err(NoSystemd::OutOfSight { unit: format!("user@{}.service", view.uids[0]) });
    };
    let controllers = candidate::controllers(view, &cgroup);
    Ok(UserSystemd { cgroup, controllers })
}

fn has_busctl(view: &View<'_>) -> bool {
    let listed = std::env::split_paths(view.search).filter(|directory| directory.is_absolute());
    listed.chain(USUAL.map(PathBuf::from)).any(|directory| {
        let program = view.at(&directory.join("busctl"));
        program.is_file() && may_execute(&program).is_ok()
    })
}

/// Above us, or where every systemd has it. In a user namespace it may know us by the id outside.
fn cgroup_of_systemd(view: &View<'_>, mount: &Cgroup2Mount, own: &Path) -> Option<PathBuf> {
    let service = |uid: u32| format!("user@{uid}.service");
    let above = || {
        let is_ours = |name: &OsStr| view.uids.iter().any(|&uid| name == OsStr::new(&service(uid)));
        own.ancestors().find(|above| above.file_name().is_some_and(is_ours)).map(Path::to_owned)
    };
    let usual = |uid: u32| {
        let directory = mount.directory_of(Path::new(&format!("/user.slice/user-{uid}.slice/{}", service(uid))))?;
        view.at(&directory).join("cgroup.controllers").exists().then_some(directory)
    };
    above().or_else(|| view.uids.iter().find_map(|&uid| usual(uid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_files_that_delegate() {
        let transient = "# transient unit file\n[Unit]\nDescription=x\n\n[Scope]\nDelegate=yes\n";
        assert!(delegates(transient));
        assert!(delegates("[Scope]\nDelegate=cpu memory\n"));
        assert!(!delegates("[Scope]\nDelegate=yes\nDelegate=no\n"));
        assert!(!delegates("[Scope]\nTasksMax=3\n"));
    }
}
