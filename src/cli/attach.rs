//! `sandpod attach`

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::arguments::AttachArguments;
use super::{Outcome, client, exec, follow, print, relay, store};
use crate::supervisor::protocol::{Reply, Request};
use crate::sys::terminal::ForegroundSignals;

/// Joins a running container's stdio and ends with its exit code.
pub(crate) fn attach(asked: &AttachArguments) -> Outcome {
    let pod = store()?.find(&asked.pod)?;
    let container = client::container(&pod, asked.container.as_deref())?;
    let (stdio, stdio_theirs) = UnixStream::pair()?;
    let (stderr, stderr_theirs) = UnixStream::pair()?;
    let request = Request::Attach { container: container.clone() };
    let conversation = client::ask(&pod, &request, &[stdio_theirs.as_fd(), stderr_theirs.as_fd()])?
        .ok_or_else(|| client::not_running(&pod))?;
    // Our copies of the container's ends would keep us from ever seeing it close them.
    drop((stdio_theirs, stderr_theirs));
    let master = match conversation.reply_soon()? {
        Some((Reply::Attached, fds)) => fds.into_iter().next(),
        Some((other, _)) => return Err(client::unexpected(&other).into()),
        None => return Err(client::not_running(&pod).into()),
    };
    let signals = ForegroundSignals::block()?;
    let planned = pod.plan.as_ref().and_then(|plan| plan.containers.iter().find(|c| c.name == container));
    let takes_input = planned.is_none_or(|container| container.process.stdin);
    let options = relay::Options { input: takes_input, detach_keys: master.is_some() };
    let ends = relay::Ends { stdio, stderr };
    match relay::attached(&ends, master, options, &signals, |signal| Err(exec::ended_by(signal)))? {
        relay::End::Detached => {
            print::notice("detached", &format!("pod `{}` goes on", pod.name));
            Ok(0)
        }
        relay::End::Closed => Ok(follow::container_exit(&pod, &container)?),
    }
}
