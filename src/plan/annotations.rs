//! Annotations that decide something. All others are carried along as they are; unknown ones under our own prefix are
//! refused, since a misspelt `sandpod.dev/usrns` must not be dropped in silence.

use std::collections::BTreeMap;

use super::idmap::UsernsChoice;
use super::network::NetworkChoice;
use crate::manifest::{self, ProxyProtocol};
use crate::report::{Report, exit_code};

const OURS: &str = "sandpod.dev/";
pub(super) const USERNS: &str = "sandpod.dev/userns";
/// Of each container.
pub(super) const PIDS_LIMIT: &str = "sandpod.dev/pids-limit";
pub(super) const SWAP: &str = "sandpod.dev/swap";
/// `--network`, in the manifest.
pub const NETWORK: &str = "sandpod.dev/network";
/// Published ports whose connections begin with a PROXY header.
pub(super) const PROXY_PROTOCOL: &str = "sandpod.dev/proxy-protocol";
const KNOWN: [&str; 5] = [USERNS, PIDS_LIMIT, SWAP, NETWORK, PROXY_PROTOCOL];
/// Kubernetes' well-known annotation, which `kubectl logs` and `kubectl exec` follow too.
pub(super) const MAIN: &str = "kubectl.kubernetes.io/default-container";

#[derive(Debug, Default)]
pub(super) struct Annotations<'a> {
    pub(super) userns: Option<UsernsChoice>,
    pub(super) default_container: Option<&'a str>,
    /// `Some(None)` is `max`.
    pub(super) pids_limit: Option<Option<u64>>,
    pub(super) swap: Swap,
    pub(super) network: Option<NetworkChoice>,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
}

/// The kubelet's `memorySwap.swapBehavior`, which is for a whole node there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Swap {
    #[default]
    None,
    Limited,
}

/// Its place in a manifest.
pub(super) fn path(annotation: &str) -> String {
    format!("metadata.annotations.{annotation}")
}

pub(super) fn read(annotations: &BTreeMap<String, String>) -> Result<Annotations<'_>, Report> {
    let known = |key: &&String| !key.starts_with(OURS) || KNOWN.contains(&key.as_str());
    if let Some(unknown) = annotations.keys().find(|key| !known(key)) {
        return Err(Report::new(exit_code::USAGE, format!("unknown annotation `{unknown}`"))
            .because(format!("those that sandpod knows are {}", KNOWN.map(|name| format!("`{name}`")).join(", "))));
    }
    Ok(Annotations {
        userns: annotations.get(USERNS).map(|value| parse_userns(value)).transpose()?,
        default_container: annotations.get(MAIN).map(String::as_str),
        pids_limit: annotations.get(PIDS_LIMIT).map(|value| parse_pids_limit(value)).transpose()?,
        network: annotations.get(NETWORK).map(|value| parse_network(value)).transpose()?,
        proxy_protocol: annotations.get(PROXY_PROTOCOL).map(|value| parse_proxy_protocol(value)).transpose()?,
        swap: annotations.get(SWAP).map(|value| parse_swap(value)).transpose()?.unwrap_or_default(),
    })
}

fn parse_userns(value: &str) -> Result<UsernsChoice, Report> {
    let choices = [UsernsChoice::Auto, UsernsChoice::RootIsYou, UsernsChoice::Isolated, UsernsChoice::Single];
    one_of(USERNS, value, &choices.map(|choice| (choice.word(), choice)))
}

fn parse_network(value: &str) -> Result<NetworkChoice, Report> {
    one_of(NETWORK, value, &NetworkChoice::ALL.map(|choice| (choice.word(), choice)))
}

fn parse_swap(value: &str) -> Result<Swap, Report> {
    one_of(SWAP, value, &[("none", Swap::None), ("limited", Swap::Limited)])
}

fn parse_pids_limit(value: &str) -> Result<Option<u64>, Report> {
    manifest::pids_limit(value)
        .map_err(|wrong| Report::new(exit_code::USAGE, format!("{} is wrong", path(PIDS_LIMIT))).because(wrong))
}

fn parse_proxy_protocol(value: &str) -> Result<ProxyProtocol, Report> {
    ProxyProtocol::parse(value)
        .map_err(|wrong| Report::new(exit_code::USAGE, format!("{} is wrong", path(PROXY_PROTOCOL))).because(wrong))
}

fn one_of<T: Copy>(annotation: &str, value: &str, choices: &[(&str, T)]) -> Result<T, Report> {
    choices.iter().find(|(word, _)| *word == value).map(|(_, choice)| *choice).ok_or_else(|| {
        let words: Vec<_> = choices.iter().map(|(word, _)| format!("`{word}`")).collect();
        Report::new(exit_code::USAGE, format!("{} has the unknown value `{value}`", path(annotation)))
            .because(format!("it can be {}", words.join(", ")))
    })
}
