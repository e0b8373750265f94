//! `sandpod completions`

use std::io::Write;

use clap::CommandFactory;

use super::Outcome;
use super::arguments::{Arguments, CompletionsArguments};

/// Prints the script in one write, so that a reader who leaves early is no panic.
pub(crate) fn completions(asked: &CompletionsArguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(asked.shell, &mut Arguments::command(), "sandpod", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(0)
}
