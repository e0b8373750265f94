//! `sandpod wait`

use super::arguments::WaitArguments;
use super::client::{self, exit_byte};
use super::{Failure, Outcome, print, store};
use crate::report::Report;
use crate::state::Store;
use crate::supervisor::protocol::{Reply, Request};

/// Prints one exit code for each pod, in the order in which they were named.
pub(crate) fn wait(asked: &WaitArguments) -> Outcome {
    let store = store()?;
    super::each(&asked.pods, |name| {
        let code = ended_with(&store, name, asked.container.as_deref())?;
        print::text(&format!("{code}\n")).map_err(Failure::from)
    })
}

fn ended_with(store: &Store, name: &str, named: Option<&str>) -> Result<u8, Report> {
    let pod = store.find(name)?;
    let container = client::container(&pod, named)?;
    if let Some(conversation) = client::ask(&pod, &Request::Wait { container: named.map(str::to_owned) }, &[])? {
        match conversation.reply()? {
            Some((Reply::Exited { code }, _)) => return Ok(exit_byte(code)),
            Some((other, _)) => return Err(client::unexpected(&other)),
            // Gone without a word: the record says the rest.
            None => {}
        }
    }
    client::recorded_exit(&store.find(&pod.id)?, &container)
}
