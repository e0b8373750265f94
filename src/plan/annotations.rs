//! Annotations that decide something. All others are carried along as they are; unknown ones under our own prefix are
//! refused, since a misspelt `sandpod.dev/usrns` must not be dropped in silence.

use std::collections::BTreeMap;

use super::idmap::UsernsChoice;
use crate::report::{Report, exit_code};

const OURS: &str = "sandpod.dev/";
pub(super) const USERNS: &str = "sandpod.dev/userns";
/// Kubernetes' well-known annotation, which `kubectl logs` and `kubectl exec` follow too.
pub(super) const MAIN: &str = "kubectl.kubernetes.io/default-container";

pub(super) struct Annotations<'a> {
    pub(super) userns: Option<UsernsChoice>,
    pub(super) default_container: Option<&'a str>,
}

pub(super) fn read(annotations: &BTreeMap<String, String>) -> Result<Annotations<'_>, Report> {
    if let Some(unknown) = annotations.keys().find(|key| key.starts_with(OURS) && *key != USERNS) {
        return Err(Report::new(exit_code::USAGE, format!("unknown annotation `{unknown}`"))
            .because(format!("the only one that sandpod knows is `{USERNS}`")));
    }
    let userns = annotations.get(USERNS).map(|value| parse_userns(value)).transpose()?;
    Ok(Annotations { userns, default_container: annotations.get(MAIN).map(String::as_str) })
}

fn parse_userns(value: &str) -> Result<UsernsChoice, Report> {
    let choices = [UsernsChoice::Auto, UsernsChoice::RootIsYou, UsernsChoice::Isolated, UsernsChoice::Single];
    choices.into_iter().find(|choice| choice.word() == value).ok_or_else(|| {
        Report::new(exit_code::USAGE, format!("annotation {USERNS} has the unknown value `{value}`"))
            .because(format!("it can be {}", choices.map(|choice| format!("`{}`", choice.word())).join(", ")))
    })
}
