//! `sandpod man`

use std::io::Write;

use clap::CommandFactory;

use super::Outcome;
use super::arguments::{Arguments, ManArguments};
use crate::nearest::nearest;
use crate::report::{Report, exit_code};

/// The page that is generated from the same definitions as the parser.
pub(crate) fn man(asked: &ManArguments) -> Outcome {
    let mut whole = Arguments::command();
    // Names each verb's page `sandpod-verb`, and propagates usage lines.
    whole.build();
    let page = match &asked.verb {
        None => whole,
        Some(verb) => whole.find_subcommand(verb).cloned().ok_or_else(|| unknown(verb, &whole))?,
    };
    let mut roff = Vec::new();
    let man = clap_mangen::Man::new(page).source(concat!("sandpod ", env!("CARGO_PKG_VERSION")));
    man.manual("User Commands").render(&mut roff)?;
    std::io::stdout().write_all(&roff)?;
    Ok(0)
}

fn unknown(verb: &str, whole: &clap::Command) -> Report {
    let names: Vec<&str> = whole.get_subcommands().map(clap::Command::get_name).collect();
    let report = Report::new(exit_code::USAGE, format!("there is no verb `{verb}`"));
    match nearest(verb, names.iter().copied()) {
        Some((near, _)) => report.hint(format!("did you mean `{near}`?")),
        None => report.hint(format!("the verbs are {}", names.join(", "))),
    }
}
