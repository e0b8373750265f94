//! Files of a cgroup, as text; every failure with its path.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::STEP;
use crate::engine::failure::{Failure, Result};

pub(super) fn read(cgroup: &Path, file: &str) -> Result<String> {
    let path = cgroup.join(file);
    std::fs::read_to_string(&path).map_err(|error| failed(&format!("read({})", path.display()), &error))
}

/// In one write(2), without O_CREAT: a file that is not there belongs to a controller that is not.
pub(super) fn write(cgroup: &Path, file: &str, text: &str) -> Result<()> {
    let path = cgroup.join(file);
    let written =
        std::fs::OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| failed(&format!("write({}, {text:?})", path.display()), &error))
}

/// The calling process's cgroup2 cgroup, as its cgroup namespace shows it: the line `0::PATH` (cgroups(7)).
pub(super) fn own() -> Result<PathBuf> {
    let text = read(Path::new("/proc/self"), "cgroup")?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default();
    Ok(PathBuf::from(path))
}

/// An existing directory is fine: it is ours from an attempt before.
pub(super) fn make_directory(path: &Path) -> Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(failed(&format!("mkdir({})", path.display()), &error))
        }
        _ => Ok(()),
    }
}

pub(super) fn failed(call: &str, error: &std::io::Error) -> Failure {
    Failure::of_call(STEP, call, error.raw_os_error().unwrap_or_default())
}
