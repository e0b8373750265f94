//! `sandpod exec`

use std::fs::File;
use std::os::fd::AsFd;

use super::arguments::ExecArguments;
use super::client::{self, Conversation, exit_byte};
use super::{Failure, Outcome, compose, relay, store};
use crate::report::{Report, exit_code};
use crate::state::StoredPod;
use crate::supervisor::protocol::{ExecRequest, Reply, Request};
use crate::sys::path::{self, FileKind};
use crate::sys::terminal::ForegroundSignals;

/// Runs a command in a container and ends with its exit code.
pub(crate) fn exec(asked: &ExecArguments) -> Outcome {
    let ExecArguments { interactive, tty, container, user, workdir, env, pod, command } = asked;
    super::check_terminal(*interactive, *tty)?;
    let pod = store()?.find(pod)?;
    let request = Request::Exec(ExecRequest {
        container: client::container(&pod, container.as_deref())?,
        argv: command.clone(),
        env: compose::environment(env)?,
        cwd: workdir.clone(),
        user: user.clone(),
        tty: *tty,
    });
    let conversation = if *tty { start_terminal(&pod, &request)? } else { start(&pod, &request, *interactive)? };
    let master = match conversation.reply()? {
        Some((Reply::Started { .. }, fds)) => fds.into_iter().next(),
        Some((other, _)) => return Err(client::unexpected(&other).into()),
        None => return Err(gone(&pod).into()),
    };
    if let Some(master) = master {
        // From here on the terminal's signals are bytes; what still comes as a signal ends us by the way out, with
        // the terminal put back.
        let signals = ForegroundSignals::block()?;
        let options = relay::Options { input: *interactive, detach_keys: false };
        relay::terminal(master, options, &signals, |signal| Err(ended_by(signal)))?;
    }
    match conversation.reply()? {
        Some((Reply::Exited { code }, _)) => Ok(exit_byte(code)),
        Some((other, _)) => Err(client::unexpected(&other).into()),
        None => Err(gone(&pod).into()),
    }
}

/// The command gets our own descriptors; no byte passes through us.
fn start(pod: &StoredPod, request: &Request, interactive: bool) -> Result<Conversation, Failure> {
    let null = File::open("/dev/null")?;
    let (stdin, stdout, stderr) = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let input = if interactive { stdin.as_fd() } else { null.as_fd() };
    for fd in [input, stdout.as_fd(), stderr.as_fd()] {
        // From `/proc/self/fd/0/..` the command would walk over the whole host.
        if path::file_kind(fd)? == FileKind::Directory {
            return Err(Report::new(exit_code::USAGE, "stdin, stdout or stderr is a directory")
                .because("it would lead the command out of its container")
                .into());
        }
    }
    let asked = client::ask(pod, request, &[input, stdout.as_fd(), stderr.as_fd()])?;
    asked.ok_or_else(|| client::not_running(pod).into())
}

fn start_terminal(pod: &StoredPod, request: &Request) -> Result<Conversation, Failure> {
    client::ask(pod, request, &[])?.ok_or_else(|| client::not_running(pod).into())
}

fn gone(pod: &StoredPod) -> Report {
    Report::new(exit_code::FAILURE, format!("pod `{}` ended while the command ran", pod.name))
}

pub(crate) fn ended_by(signal: i32) -> Failure {
    let code = u8::try_from(128 + signal).unwrap_or(exit_code::FAILURE);
    Report::new(code, format!("ended by {}", crate::sys::process::signal_name(signal))).into()
}
