//! `sandpod pause` and `sandpod unpause`

use super::arguments::PauseArguments;
use super::{Failure, Outcome, cgroups, client, store};
use crate::state::StoredPod;
use crate::supervisor::protocol::{Reply, Request};

/// Returns when every process stands still. What is paused already is what was asked for.
pub(crate) fn pause(asked: &PauseArguments) -> Outcome {
    let store = store()?;
    super::each(&asked.pods, |name| {
        let pod = store.find(name)?;
        if pod.status().is_live() && cgroups::of_pod(&pod).is_none() {
            return Err(cgroups::lacking(&pod, format!("could not pause pod `{}`", pod.name)).into());
        }
        request(&pod, asked.container.as_deref(), |container| Request::Pause { container })
    })
}

/// What is not paused goes on as it did.
pub(crate) fn unpause(asked: &PauseArguments) -> Outcome {
    let store = store()?;
    super::each(&asked.pods, |name| {
        request(&store.find(name)?, asked.container.as_deref(), |container| Request::Unpause { container })
    })
}

fn request(
    pod: &StoredPod,
    container: Option<&str>,
    request: impl Fn(Option<String>) -> Request,
) -> Result<(), Failure> {
    let container = container.map(|named| client::container(pod, Some(named))).transpose()?;
    let Some(conversation) = client::ask(pod, &request(container), &[])? else {
        return Err(client::not_running(pod).into());
    };
    match conversation.reply_soon()? {
        Some((Reply::Done, _)) => Ok(()),
        Some((other, _)) => Err(client::unexpected(&other).into()),
        None => Err(client::not_running(&pod.reload()).into()),
    }
}
