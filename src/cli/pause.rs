//! `sandpod pause` and `sandpod unpause`

use super::arguments::PauseArguments;
use super::{Failure, Outcome, cgroups, client, store};
use crate::state::StoredPod;
use crate::supervisor::protocol::{Reply, Request};

/// Returns when every process stands still. What is paused already is what was asked for.
pub(crate) fn pause(asked: &PauseArguments) -> Outcome {
    each(asked, "pause", |container| Request::Pause { container })
}

/// What is not paused goes on as it did.
pub(crate) fn unpause(asked: &PauseArguments) -> Outcome {
    each(asked, "unpause", |container| Request::Unpause { container })
}

fn each(asked: &PauseArguments, verb: &str, request: impl Fn(Option<String>) -> Request) -> Outcome {
    let store = store()?;
    super::each(&asked.pods, |name| {
        let pod = store.find(name)?;
        if pod.status().is_live() && cgroups::of_pod(&pod).is_none() {
            return Err(cgroups::lacking(&pod, format!("could not {verb} pod `{}`", pod.name)).into());
        }
        let container = asked.container.as_deref().map(|named| client::container(&pod, Some(named))).transpose()?;
        done(&pod, &request(container))
    })
}

fn done(pod: &StoredPod, request: &Request) -> Result<(), Failure> {
    let Some(conversation) = client::ask(pod, request, &[])? else {
        return Err(client::not_running(pod).into());
    };
    match conversation.reply_soon()? {
        Some((Reply::Done, _)) => Ok(()),
        Some((other, _)) => Err(client::unexpected(&other).into()),
        None => Err(client::not_running(&pod.reload()).into()),
    }
}
