//! `sandpod plan`

use super::arguments::PlanArguments;
use super::source::{self, Planned, Purpose};
use super::{Outcome, print};
use crate::plan::render::Text;

/// Prints what `run` would do, and changes nothing.
pub(crate) fn plan(asked: &PlanArguments) -> Outcome {
    let Planned { facts, plan, admitted: _ } = source::planned(&asked.source, Purpose::Show)?;
    facts.warnings.iter().for_each(|warning| print::notice("warning", warning));
    if asked.json {
        print::json(&plan)?;
    } else {
        print::text(&Text(&plan).to_string())?;
    }
    Ok(0)
}
