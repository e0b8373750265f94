//! `sandpod attach`

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd;

use super::arguments::AttachArguments;
use super::{Outcome, client, exec, follow, print, relay, store};
use crate::report::exit_code;
use crate::supervisor::protocol::{Reply, Request};
use crate::sys::terminal::ForegroundSignals;

/// Joins a running container's stdio and ends with its exit code.
pub(crate) fn attach(asked: &AttachArguments) -> Outcome {
    let pod = store()?.find(&asked.pod)?;
    let container = client::container(&pod, asked.container.as_deref())?;
    let (ours, theirs) = relay::Ends::pair()?;
    let request = Request::Attach { container: container.clone() };
    let conversation = client::ask(&pod, &request, &[theirs.stdio.as_fd(), theirs.stderr.as_fd()])?
        .ok_or_else(|| client::not_running(&pod))?;
    // Our copies of the container's ends would keep us from ever seeing it close them.
    drop(theirs);
    let master = match conversation.reply_soon()? {
        Some((Reply::Attached, fds)) => fds.into_iter().next(),
        Some((other, _)) => return Err(client::unexpected(&other).into()),
        None => return Err(client::not_running(&pod).into()),
    };
    let signals = ForegroundSignals::block()?;
    let planned = pod.plan.as_ref().and_then(|plan| plan.containers.iter().find(|c| c.name == container));
    let takes_input = planned.is_none_or(|container| container.process.stdin);
    // What is not typed on a terminal is data.
    let keys = takes_input && master.is_some() && io::stdin().is_terminal();
    let options = relay::Options { input: takes_input, detach_keys: keys };
    let attachment = relay::Attachment { ends: &[ours], labels: &[], main: 0, master };
    let mut ended_by = None;
    let ended = relay::attached(attachment, options, &signals, |signal| {
        ended_by = Some(signal);
        Err(exec::ended_by(signal))
    });
    if let Some(signal) = ended_by {
        // Only we are ended by it: that is how to leave a container without a terminal.
        print::notice("detached", &format!("pod `{}` goes on", pod.name));
        return Ok(u8::try_from(128 + signal).unwrap_or(exit_code::FAILURE));
    }
    match ended? {
        relay::End::Detached => {
            print::notice("detached", &format!("pod `{}` goes on", pod.name));
            Ok(0)
        }
        relay::End::Closed => Ok(follow::container_exit(&pod, &container)?),
    }
}
