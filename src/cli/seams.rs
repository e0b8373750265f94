//! Where the command line touches layers that are written beside it. One function for each.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::host::Facts;
use crate::manifest::Pod;
use crate::plan::PodDirs;
use crate::plan::PodPlan;
use crate::plan::idmap::{IdMapPlan, UsernsChoice};
use crate::report::{Report, exit_code};
use crate::state::CreatedPod;
use crate::step::Step;
use crate::sys::socket::Channel;

/// `plan::Request`.
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) userns: UsernsChoice,
}

/// The client's ends are kept by the caller; these are the container's. As in `Request::Attach`, but from the main
/// container's first byte on. A terminal's master comes back beside `StartReply::Ready`.
pub(crate) struct FirstAttach {
    pub(crate) stdio: UnixStream,
    pub(crate) stderr: UnixStream,
}

fn absent(what: &str) -> Report {
    Report::new(exit_code::FAILURE, format!("{what} is not part of this build"))
}

/// `manifest::parse_bytes(bytes, name).map_err(ManifestErrors::into_report)`.
pub(crate) fn parse(_bytes: &[u8], _name: &str) -> Result<Pod, Report> {
    Err(absent("the manifest's parser"))
}

/// `host::probe(&Asked { host_image, rootfs })`.
pub(crate) fn probe(_host_image: bool, _rootfs: Vec<PathBuf>) -> Result<Facts, Report> {
    Err(absent("the probe of the host"))
}

/// `plan::plan(pod, facts, request)`.
pub(crate) fn plan(_pod: &Pod, _facts: &Facts, request: &Request) -> Result<PodPlan, Report> {
    let Request { id: _, name: _, userns: _ } = request;
    Err(absent("the planner"))
}

/// `plan::render(plan)`.
pub(crate) fn render(plan: &PodPlan) -> String {
    format!("{plan:#?}\n")
}

/// `host::advice(step, errno, &facts)`, with facts probed for the purpose.
pub(crate) fn advice(_step: Step, _errno: i32) -> Option<String> {
    None
}

/// (runtime, data) as `host::probe` chooses them; one rule for all verbs.
pub(crate) fn places() -> Result<(PathBuf, PathBuf), Report> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let runtime = absolute("XDG_RUNTIME_DIR").map_or_else(
        || PathBuf::from(format!("/tmp/sandpod-{}", crate::sys::private_dir::own_uid())),
        |base| base.join("sandpod"),
    );
    let data = absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map_or_else(|| runtime.join("data"), |base| base.join("sandpod"));
    Ok((runtime, data))
}

/// Forks the supervisor, which keeps `created.lock`. Its `StartReply` comes on the channel.
pub(crate) fn start_supervisor(
    created: CreatedPod,
    _plan: &PodPlan,
    attach: Option<FirstAttach>,
) -> Result<Channel, Report> {
    if let Some(FirstAttach { stdio, stderr }) = attach {
        drop((stdio, stderr));
    }
    drop(created);
    Err(absent("the supervisor"))
}

/// `engine::remove::remove_pod(dirs, idmap)`: everything on disk and every live process; errors gathered.
pub(crate) fn remove_pod(dirs: &PodDirs, _idmap: &IdMapPlan) -> Vec<Report> {
    remove_without_plan(dirs)
}

/// For a pod whose plan cannot be read: what can be removed with our own rights.
pub(crate) fn remove_without_plan(dirs: &PodDirs) -> Vec<Report> {
    [&dirs.data, &dirs.runtime]
        .into_iter()
        .filter_map(|directory| match std::fs::remove_dir_all(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                let what = format!("could not remove {}", directory.display());
                Some(Report::new(exit_code::FAILURE, what).because(error.to_string()))
            }
            _ => None,
        })
        .collect()
}
