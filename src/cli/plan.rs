//! `sandpod plan`

use serde_json::json;

use super::arguments::PlanArguments;
use super::source::{self, Planned, Purpose, Refused};
use super::{Outcome, ports, print};
use crate::plan::PodPlan;
use crate::plan::render::Text;
use crate::report::{Report, exit_code};

/// Prints what `run` would do, and changes nothing. What stands in its way just now and may be gone tomorrow is a warning.
pub(crate) fn plan(asked: &PlanArguments) -> Outcome {
    let planned = source::read(&asked.source).and_then(|manifest| {
        source::planned(&asked.source, manifest.as_ref(), Purpose::Show { offline: asked.offline })
    });
    if let (Err(refused), true) = (&planned, asked.json) {
        print::json(&as_json(refused))?;
    }
    let Planned { facts, plan, replaced, images: _ } = planned?;
    source::is_no_image(&asked.source).iter().for_each(|line| print::notice("manifest", line));
    facts.warnings.iter().for_each(|warning| print::notice("warning", warning));
    replaced.iter().for_each(|line| print::notice("replaced", line));
    let store = source::store(&facts);
    if let Err(taken) = store.refuse_taken(&plan) {
        print::notice("warning", &in_one_line(taken));
    }
    let in_the_way =
        ports::taken(&plan.sandbox.ports, &store).into_iter().chain(ports::in_the_way(&plan, &facts, &store));
    in_the_way.chain(missing(&plan)).for_each(|line| print::notice("warning", &line));
    if asked.json {
        print::json(&plan)?;
    } else {
        print::text(&Text(&plan).to_string())?;
    }
    Ok(0)
}

/// The hostPath volumes whose path is not there now.
fn missing(plan: &PodPlan) -> impl Iterator<Item = String> {
    plan.sandbox.host_paths.iter().filter_map(|host_path| {
        let needed = host_path.needs().filter(|needed| !needed.exists())?;
        let fix = host_path.fix_where_missing().unwrap_or_default();
        Some(format!(
            "volume `{}`: {} is not there, and the pod will not start: {fix}",
            host_path.volume,
            needed.display()
        ))
    })
}

/// What stderr says, for a program: `problems` has the places in the manifest, each as `{position: {line, column}, path,
/// message, class}`.
fn as_json(refused: &Refused) -> serde_json::Value {
    match refused {
        Refused::Manifest(errors) => json!({
            "error": errors.to_string(),
            "exit_code": exit_code::USAGE,
            "file": errors.source_name(),
            "problems": errors.problems(),
            "count": errors.count(),
        }),
        Refused::Other(Report { exit_code, what, chain, cause: _, hint, field }) => {
            json!({"error": what, "exit_code": exit_code, "chain": chain, "hint": hint, "field": field, "problems": []})
        }
    }
}

fn in_one_line(Report { what, chain, hint, .. }: Report) -> String {
    let because = if chain.is_empty() { String::new() } else { format!(" ({})", chain.join("; ")) };
    let hint = hint.map(|hint| format!(": {hint}")).unwrap_or_default();
    format!("{what}{because}{hint}")
}
