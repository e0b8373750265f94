//! `sandpod cp`

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use super::arguments::CpArguments;
use super::{Failure, Outcome, client, print, store};
use crate::engine::files::{self, Inside, Problems, Shape, Source, Target};
use crate::plan::idmap::{IdMapPlan, UsernsMode};
use crate::report::{Report, exit_code};
use crate::state::{ContainerState, StoredPod};
use crate::sys::process::PidFd;

/// One side of a copy, as it was typed.
#[derive(Debug, PartialEq, Eq)]
enum Side {
    Host(PathBuf),
    Stream,
    Pod { pod: String, container: Option<String>, path: PathBuf },
}

/// Copies files between the host and a container that runs.
pub(crate) fn cp(asked: &CpArguments) -> Outcome {
    let CpArguments { archive, follow_link, container, source, destination } = asked;
    let what = || format!("could not copy `{source}` to `{destination}`");
    let problems = match (side(source), side(destination)) {
        (Side::Pod { pod, container: in_path, path }, to @ (Side::Host(_) | Side::Stream)) => {
            if *archive {
                return Err(Report::new(exit_code::USAGE, what())
                    .because("-a keeps owners, and only root may give files of this host to another owner")
                    .hint(format!("`sandpod cp {source} - > FILE.tar` keeps them in an archive"))
                    .into());
            }
            let opened = open(&pod, named(container.as_deref(), in_path.as_deref())?)?;
            let from = Source { path, follow: *follow_link };
            match to {
                Side::Host(path) => {
                    let shape = Shape::One { name: from.name().map(ToOwned::to_owned) };
                    files::copy_out(&opened.inside(), &from, &Target { path, shape, keep_owners: false })
                }
                _ if std::io::stdout().is_terminal() => {
                    return Err(Report::new(exit_code::USAGE, what())
                        .because("`-` writes a tar archive to stdout, which is a terminal")
                        .hint(format!("`sandpod cp {source} - > FILE.tar`, or a pipe to tar"))
                        .into());
                }
                _ => files::copy_to_stream(&opened.inside(), &from, std::io::stdout().as_fd()),
            }
        }
        (from, Side::Pod { pod, container: in_path, path }) if !matches!(from, Side::Pod { .. }) => {
            let opened = open(&pod, named(container.as_deref(), in_path.as_deref())?)?;
            match from {
                Side::Host(host) => {
                    if *archive {
                        opened.say_if_owners_are_lost();
                    }
                    let from = Source { path: host, follow: *follow_link };
                    let shape = Shape::One { name: from.name().map(ToOwned::to_owned) };
                    files::copy_in(&opened.inside(), &from, &Target { path, shape, keep_owners: *archive })
                }
                // The archive itself says owners.
                _ => {
                    opened.say_if_owners_are_lost();
                    let target = Target { path, shape: Shape::Archive, keep_owners: true };
                    files::copy_from_stream(&opened.inside(), std::io::stdin().as_fd(), &target)
                }
            }
        }
        (Side::Pod { .. }, Side::Pod { .. }) => {
            return Err(Report::new(exit_code::USAGE, what())
                .because("both are in pods")
                .hint(format!("`sandpod cp {source} - | sandpod cp - {destination}`, where DEST is a directory"))
                .into());
        }
        _ => {
            return Err(Report::new(exit_code::USAGE, what())
                .because("neither is in a pod")
                .hint("a path in a pod is POD:PATH")
                .into());
        }
    };
    let Problems { shown, more } = problems.map_err(|failure| failure.into_report(what()))?;
    if shown.is_empty() {
        return Ok(0);
    }
    let more =
        (more > 0).then(|| Report::new(exit_code::FAILURE, what()).because(format!("and {more} more like these")));
    let reports = shown.into_iter().map(|line| Report::new(exit_code::FAILURE, what()).because(line));
    Err(Failure::Reports(reports.chain(more).collect()))
}

/// As docker reads it: what is not plainly a path of the host and has a colon is in a pod.
fn side(typed: &str) -> Side {
    let is_path = typed.starts_with('/') || typed.starts_with('.');
    match typed.split_once(':') {
        _ if typed == "-" => Side::Stream,
        Some((pod, path)) if !is_path => {
            let (pod, container) = match pod.split_once('/') {
                Some((pod, container)) => (pod, Some(container.to_owned())),
                None => (pod, None),
            };
            // Without a path it is the root, to which every path of a container is relative.
            let path = if path.is_empty() { "/" } else { path };
            Side::Pod { pod: pod.to_owned(), container, path: path.into() }
        }
        _ => Side::Host(typed.into()),
    }
}

/// `-c NAME` and `POD/NAME:` say the same, or one of them is not there.
fn named<'a>(option: Option<&'a str>, in_path: Option<&'a str>) -> Result<Option<&'a str>, Report> {
    match (option, in_path) {
        (Some(option), Some(in_path)) if option != in_path => {
            Err(Report::new(exit_code::USAGE, format!("two containers are named: `{option}` and `{in_path}`")))
        }
        (option, in_path) => Ok(option.or(in_path)),
    }
}

/// A container that runs.
struct Opened {
    container: String,
    init: PidFd,
    idmap: IdMapPlan,
}

impl Opened {
    fn say_if_owners_are_lost(&self) {
        if self.idmap.mode == UsernsMode::Single {
            print::notice("warning", "the pod has a single id: every file that goes in belongs to its root");
        }
    }

    fn inside(&self) -> Inside<'_> {
        Inside { container: &self.container, init: &self.init, idmap: &self.idmap }
    }
}

fn open(pod: &str, container: Option<&str>) -> Result<Opened, Failure> {
    let pod = store()?.find(pod)?;
    let container = client::container(&pod, container)?;
    let Some(plan) = &pod.plan else {
        return Err(Report::new(exit_code::FAILURE, format!("pod `{}`: its plan cannot be read", pod.name)).into());
    };
    let Some(init) = first_process(&pod, &container)? else {
        let hint =
            "each start gives a container a fresh root file system: files that are to outlive it belong in a volume";
        return Err(Report::new(exit_code::FAILURE, format!("container `{container}` is not running"))
            .because("files are copied through its mount namespace, which ends with it")
            .hint(hint)
            .into());
    };
    Ok(Opened { init, idmap: plan.sandbox.idmap.clone(), container })
}

fn first_process(pod: &StoredPod, container: &str) -> Result<Option<PidFd>, Failure> {
    let recorded = pod.record().and_then(|record| record.containers.iter().find(|found| found.name == container));
    match recorded.map(|found| &found.state) {
        Some(ContainerState::Running { process, .. }) => Ok(process.open()?),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_paths_and_streams() {
        let pod = |pod: &str, container: Option<&str>, path: &str| Side::Pod {
            pod: pod.to_owned(),
            container: container.map(str::to_owned),
            path: path.into(),
        };
        assert_eq!(side("-"), Side::Stream);
        assert_eq!(side("web:/etc/passwd"), pod("web", None, "/etc/passwd"));
        assert_eq!(side("web/nginx:etc:x"), pod("web", Some("nginx"), "etc:x"));
        assert_eq!(side("web:"), pod("web", None, "/"));
        for host in ["/a:b", "./a:b", "../a:b", "file", "dir/file", "."] {
            assert_eq!(side(host), Side::Host(host.into()), "{host}");
        }
    }
}
