//! What is said of a pod that was ended for using too much, to whoever stayed with it until its end.

use crate::manifest::{Resource, written};
use crate::plan::PodPlan;
use crate::plan::cgroup::{Setting, Value};
use crate::state::{ContainerRecord, ContainerState, EVICTED, Phase, Record};

/// The reason that the supervisor writes down (Kubernetes' word).
pub(crate) const OOM_KILLED: &str = "OOMKilled";

/// Reason and line: why the pod was evicted, and each container that was OOMKilled, in its last life or the one before.
pub(crate) fn of(record: &Record, plan: Option<&PodPlan>) -> Vec<(&'static str, String)> {
    let evicted = match &record.phase {
        Phase::Failed { reason } => reason.strip_prefix(EVICTED).map(|why| why.trim_start_matches(": ").to_owned()),
        Phase::Starting | Phase::Running | Phase::Stopping | Phase::Succeeded => None,
    };
    let limit = |name: &str| {
        let container = plan?.containers.iter().find(|container| container.name == name)?;
        container.cgroup.iter().find_map(memory_limit)
    };
    let killed = record.containers.iter().filter(|container| is_killed(container));
    let killed = killed.map(|ContainerRecord { name, .. }| (OOM_KILLED, line(name, limit(name))));
    evicted.map(|why| (EVICTED, why)).into_iter().chain(killed).collect()
}

/// Now, or in the life before: what came of it may be an exit code of its own.
pub(crate) fn is_killed(container: &ContainerRecord) -> bool {
    let reason = match &container.state {
        ContainerState::Terminated { reason, .. } => Some(reason),
        ContainerState::Waiting { .. } | ContainerState::Running { .. } => None,
    };
    reason.or(container.last_reason.as_ref()).is_some_and(|reason| reason == OOM_KILLED)
}

/// Bytes, and the words that ask for them.
fn memory_limit(setting: &Setting) -> Option<(u64, Option<&str>)> {
    match setting.value {
        Value::MemoryMax(Some(bytes)) => Some((bytes, setting.asked_by.as_deref())),
        _ => None,
    }
}

fn line(name: &str, limit: Option<(u64, Option<&str>)>) -> String {
    match limit {
        Some((bytes, asked_by)) => format!(
            "container `{name}` needed more memory than its limit of {}; to raise it: {}",
            written(Resource::Memory, bytes),
            asked_by.unwrap_or("resources.limits.memory")
        ),
        None => format!("container `{name}` has no memory limit of its own: what a cgroup above it may use ran out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_and_the_words_that_raise_it() {
        let setting = |value| Setting { value, asked_by: Some("--memory".to_owned()) };
        let limit = setting(Value::MemoryMax(Some(64 << 20)));
        assert_eq!(
            line("app", memory_limit(&limit)),
            "container `app` needed more memory than its limit of 64Mi; to raise it: --memory"
        );
        assert!(memory_limit(&setting(Value::MemoryMax(None))).is_none());
        assert!(line("app", None).contains("no memory limit of its own"));
    }

    #[test]
    fn who_was_killed_before_its_last_life_is_told_too() {
        let record = |state: &str, last: &str| -> ContainerRecord {
            serde_json::from_str(&format!(
                r#"{{"name":"app","state":{state},"restarts":1,"last_exit":null,"last_reason":{last},"leaf":null}}"#
            ))
            .expect("a record")
        };
        let ended = |reason: &str| {
            format!(
                r#"{{"Terminated":{{"exit":{{"Code":0}},"reason":"{reason}","started_at":null,"finished_at":"2026-11-21T00:00:00Z"}}}}"#
            )
        };
        assert!(is_killed(&record(&ended("OOMKilled"), "null")));
        assert!(is_killed(&record(r#"{"Waiting":{"reason":"CrashLoopBackOff"}}"#, r#""OOMKilled""#)));
        // What ended for good says itself how.
        assert!(!is_killed(&record(&ended("Error"), r#""OOMKilled""#)));
        assert!(!is_killed(&record(&ended("Completed"), "null")));
    }
}
