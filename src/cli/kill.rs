//! `sandpod kill`

use super::arguments::KillArguments;
use super::{Outcome, client, store};
use crate::nearest::nearest;
use crate::report::{Report, exit_code};
use crate::supervisor::protocol::{Reply, Request};
use crate::sys::process::signal_number;

/// Names that are suggested for a misspelt one.
const USUAL: [&str; 8] = ["HUP", "INT", "QUIT", "KILL", "TERM", "USR1", "USR2", "STOP"];

pub(crate) fn kill(asked: &KillArguments) -> Outcome {
    let Some(signal) = signal_number(&asked.signal) else { return Err(no_signal(&asked.signal).into()) };
    let store = store()?;
    super::each(&asked.pods, |name| {
        let pod = store.find(name)?;
        let container = asked.container.as_deref().map(|named| client::container(&pod, Some(named))).transpose()?;
        let Some(conversation) = client::ask(&pod, &Request::Kill { container, signal }, &[])? else {
            return Err(client::not_running(&pod).into());
        };
        match conversation.reply_soon()? {
            Some((Reply::Done, _)) => Ok(()),
            Some((other, _)) => Err(client::unexpected(&other).into()),
            // A signal can end the whole pod before the answer.
            None => Ok(()),
        }
    })
}

fn no_signal(typed: &str) -> Report {
    let report = Report::new(exit_code::USAGE, format!("`{typed}` is no signal"));
    let upper = typed.to_ascii_uppercase();
    match nearest(upper.trim_start_matches("SIG"), USUAL) {
        Some((near, _)) => report.hint(format!("did you mean `{near}`? A number from 1 to 64 will do, too")),
        None => report.hint("a name such as TERM or SIGTERM, or a number from 1 to 64"),
    }
}
