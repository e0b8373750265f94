//! `sandpod stop`

use std::time::Duration;

use super::arguments::StopArguments;
use super::{Failure, Outcome, client, print, store};
use crate::report::{Report, exit_code};
use crate::state::{StoredPod, wait_released};
use crate::supervisor::protocol::{Reply, Request};

/// Returns when the pods have ended, and names each that has. A pod that has ended already is what was asked for.
pub(crate) fn stop(asked: &StopArguments) -> Outcome {
    let store = store()?;
    super::each(&asked.pods, |name| {
        let pod = store.find(name)?;
        stop_pod(&pod, asked.time)?;
        print::text(&format!("{}\n", print::escape(&pod.name))).map_err(Failure::from)
    })
}

fn stop_pod(pod: &StoredPod, grace_seconds: Option<u64>) -> Result<(), Report> {
    let Some(conversation) = client::ask(pod, &Request::Stop { grace_seconds }, &[])? else { return Ok(()) };
    match conversation.reply()? {
        Some((Reply::Stopped, _)) | None => {}
        Some((other, _)) => return Err(client::unexpected(&other)),
    }
    drop(conversation);
    // After its last word it removes its sockets and leaves; `rm` right after `stop` must find it gone.
    if wait_released(&pod.dirs, Duration::from_secs(10)) {
        return Ok(());
    }
    Err(Report::new(exit_code::FAILURE, format!("pod `{}` has stopped, but its supervisor does not end", pod.name))
        .hint(format!("`sandpod rm -f {}` ends it", pod.name)))
}
