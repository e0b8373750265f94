//! `sandpod exec`

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::arguments::ExecArguments;
use super::client::{self, Conversation, exit_byte};
use super::{Failure, Outcome, cgroups, compose, relay, store, streams};
use crate::host::usage::{self, Limit};
use crate::report::{Report, exit_code};
use crate::state::StoredPod;
use crate::supervisor::protocol::{ExecRequest, Reply, Request};
use crate::sys::poll::{self, Want};
use crate::sys::signals::PassedSignals;
use crate::sys::terminal::ForegroundSignals;

/// Runs a command in a container and ends with its exit code.
pub(crate) fn exec(asked: &ExecArguments) -> Outcome {
    let ExecArguments { detach, interactive, tty, container, user, workdir, env, pod, command } = asked;
    super::check_terminal(*interactive, *tty)?;
    let pod = store()?.find(pod)?;
    let container = client::container(&pod, container.as_deref())?;
    let request = Request::Exec(ExecRequest {
        container: container.clone(),
        argv: command.clone(),
        env: compose::environment(env)?,
        cwd: workdir.clone(),
        user: user.clone(),
        tty: *tty,
        window: if *tty { relay::window_size() } else { None },
        detach: *detach,
    });
    let ended = if *detach {
        detached(&pod, &request)
    } else if *tty {
        on_terminal(&pod, &request, *interactive)
    } else {
        on_pipes(&pod, &request, *interactive)
    };
    match ended.map_err(|failure| explained(failure, &pod, &container))? {
        Some(Reply::Exited { code }) => Ok(exit_byte(code)),
        Some(other) => Err(client::unexpected(&other).into()),
        None => Err(client::lost(&pod, "the command ran").into()),
    }
}

/// Its streams are /dev/null, and its end is not waited for.
fn detached(pod: &StoredPod, request: &Request) -> Result<Option<Reply>, Failure> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let conversation = client::ask(pod, request, &[null.as_fd(); 3])?.ok_or_else(|| client::not_running(pod))?;
    match started(pod, &conversation, None)? {
        Begun::Running(_) => Ok(Some(Reply::Exited { code: 0 })),
        Begun::Over(reply) => Ok(Some(reply)),
    }
}

/// The command gets pipes: the caller's own, through which no byte passes us, and ours to everything else.
fn on_pipes(pod: &StoredPod, request: &Request, interactive: bool) -> Result<Option<Reply>, Failure> {
    let (given, streams) = streams::prepare(interactive)?;
    let fds = given.each_ref().map(AsFd::as_fd);
    // From the request on they are the command's.
    let signals = PassedSignals::block()?;
    let conversation = client::ask(pod, request, &fds)?.ok_or_else(|| client::not_running(pod))?;
    // Our copies of the command's ends would keep us from ever seeing it close them.
    drop(given);
    match started(pod, &conversation, Some(&signals))? {
        Begun::Running(_) => streams.pass(&conversation, signals),
        Begun::Over(reply) => Ok(Some(reply)),
    }
}

fn on_terminal(pod: &StoredPod, request: &Request, interactive: bool) -> Result<Option<Reply>, Failure> {
    let conversation = client::ask(pod, request, &[])?.ok_or_else(|| client::not_running(pod))?;
    match started(pod, &conversation, None)? {
        Begun::Running(None) => {}
        Begun::Running(Some(master)) => {
            // From here on the terminal's signals are bytes; what still comes as a signal ends us by the way out, with
            // the terminal put back. The command's is hung up then.
            let signals = ForegroundSignals::block()?;
            let options = relay::Options { input: interactive, detach_keys: false };
            relay::terminal(master, options, &signals, |signal| Err(ended_by(signal)))?;
        }
        Begun::Over(reply) => return Ok(Some(reply)),
    }
    Ok(conversation.reply()?.map(|(reply, _)| reply))
}

enum Begun {
    /// The command runs; its terminal's master, if it has one.
    Running(Option<OwnedFd>),
    /// It has ended before it ran: by a signal that we passed on.
    Over(Reply),
}

/// Waits until the command runs, and passes signals on meanwhile.
fn started(pod: &StoredPod, conversation: &Conversation, signals: Option<&PassedSignals>) -> Result<Begun, Failure> {
    while let Some(signals) = signals {
        let woken = poll::any(&[(conversation.as_fd(), Want::Read), (signals.as_fd(), Want::Read)], None)?;
        if woken[1] {
            conversation.pass_signals(signals);
        }
        if woken[0] {
            break;
        }
    }
    match conversation.reply()? {
        Some((Reply::Started { .. }, fds)) => Ok(Begun::Running(fds.into_iter().next())),
        Some((reply @ Reply::Exited { .. }, _)) => Ok(Begun::Over(reply)),
        Some((other, _)) => Err(client::unexpected(&other).into()),
        None => Err(client::lost(pod, "the command was starting").into()),
    }
}

/// A fork that is refused for want of processes (EAGAIN, clone(2)) is most often refused by the container's own limit.
fn explained(failure: Failure, pod: &StoredPod, container: &str) -> Failure {
    let Failure::Reports(reports) = failure else { return failure };
    let wants_process = |report: &Report| {
        let kind = report.cause.map(|(_, errno)| io::Error::from_raw_os_error(errno).kind());
        report.hint.is_none() && kind == Some(io::ErrorKind::WouldBlock)
    };
    let explain = |report: Report| match pids_limit(pod, container).filter(|_| wants_process(&report)) {
        Some(hint) => report.hint(hint),
        None => report,
    };
    Failure::Reports(reports.into_iter().map(explain).collect())
}

/// The limit of processes that leaves no room for another command, and how to raise it.
fn pids_limit(pod: &StoredPod, name: &str) -> Option<String> {
    let record = pod.record()?.containers.iter().find(|container| container.name == name)?;
    let reached = |cgroup: &Path| match usage::usage(cgroup)?.pids {
        // Two are forked: one that enters the container, and the command.
        usage::PidsUsage { current: Some(current), max: Some(Limit::Of(max)), .. } if current + 2 > max => Some(max),
        _ => None,
    };
    let of_pod = || {
        let max = reached(cgroups::of_pod(pod)?)?;
        Some(format!(
            "all containers together are at the limit of {max} processes and threads (pids.max): raise it \
                      with `sandpod update --pids COUNT {}`",
            pod.name
        ))
    };
    let Some(max) = cgroups::of_container(pod, record).and_then(|leaf| reached(&leaf)) else { return of_pod() };
    Some(format!(
        "container `{name}` is at its limit of {max} processes and threads (pids.max): raise it with `sandpod update -c \
         {name} --pids COUNT {}`, or before the next start with the annotation sandpod.dev/pids-limit",
        pod.name
    ))
}

pub(crate) fn ended_by(signal: i32) -> Failure {
    let code = u8::try_from(128 + signal).unwrap_or(exit_code::FAILURE);
    Report::new(code, format!("ended by {}", crate::sys::process::signal_name(signal))).into()
}
