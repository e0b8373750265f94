//! `sandpod plan`

use super::arguments::PlanArguments;
use super::source::{self, Planned, Purpose};
use super::{Outcome, ports, print};
use crate::plan::render::Text;
use crate::report::Report;

/// Prints what `run` would do, and changes nothing. What stands in its way just now and may be gone tomorrow is a warning.
pub(crate) fn plan(asked: &PlanArguments) -> Outcome {
    let Planned { facts, plan, admitted: _, replaced } = source::planned(&asked.source, Purpose::Show)?;
    facts.warnings.iter().for_each(|warning| print::notice("warning", warning));
    replaced.iter().for_each(|line| print::notice("replaced", line));
    let store = source::store(&facts);
    if let Err(taken) = store.refuse_taken(&plan) {
        print::notice("warning", &in_one_line(taken));
    }
    let in_the_way =
        ports::taken(&plan.sandbox.ports, &store).into_iter().chain(ports::in_the_way(&plan, &facts, &store));
    in_the_way.for_each(|line| print::notice("warning", &line));
    if asked.json {
        print::json(&plan)?;
    } else {
        print::text(&Text(&plan).to_string())?;
    }
    Ok(0)
}

fn in_one_line(Report { what, chain, hint, .. }: Report) -> String {
    let because = if chain.is_empty() { String::new() } else { format!(" ({})", chain.join("; ")) };
    let hint = hint.map(|hint| format!(": {hint}")).unwrap_or_default();
    format!("{what}{because}{hint}")
}
