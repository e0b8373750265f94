//! The words about a pod's network, its ports among them.

use clap::Args;

use crate::nearest::nearest;
use crate::plan::network::{HostLoopback, NetworkChoice};

/// Of `run` and `plan`.
#[derive(Debug, Args)]
pub(crate) struct NetworkArguments {
    /// How the pod reaches the outside: `private` (slirp4netns or pasta, whichever is installed), `slirp4netns`, `pasta`,
    /// `none` (only localhost), `host` (this host's, with all that listens on it) or `pod:NAME` (that of another pod).
    /// By default what the manifest says, or `private`
    #[arg(long, value_name = "MODE", value_parser = network)]
    network: Option<Network>,
    /// Let the gateway's address lead to 127.0.0.1 of this host, and so to every service there
    ///
    /// In the pod that address is then called `host.containers.internal` and `host.docker.internal`, too.
    #[arg(long)]
    allow_host_loopback: bool,
    /// A port of the host that leads into the pod: `[IP:]HOST:CONTAINER[/udp]`; may be repeated
    ///
    /// Without HOST it is one that is free; `sandpod port` says which. CONTAINER may be the name of a port in the manifest.
    /// It takes the place of the manifest's own `hostPort` for the same port of the pod.
    #[arg(short = 'p', long, value_name = "PORTS")]
    pub(crate) publish: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Network {
    Choice(NetworkChoice),
    /// Its name or id.
    OfPod(String),
}

fn network(typed: &str) -> Result<Network, String> {
    if let Some(pod) = typed.strip_prefix("pod:").filter(|pod| !pod.is_empty()) {
        return Ok(Network::OfPod(pod.to_owned()));
    }
    let words = NetworkChoice::ALL.map(NetworkChoice::word).join("`, `");
    let found = NetworkChoice::ALL.into_iter().find(|choice| choice.word() == typed);
    found.map(Network::Choice).ok_or_else(|| match meant(typed) {
        Some(meant) => format!("write {meant}; it can be `{words}` or `pod:NAME`"),
        None => format!("it can be `{words}` or `pod:NAME`"),
    })
}

/// What podman and docker call it, or a slip.
fn meant(typed: &str) -> Option<String> {
    let (kind, rest) = typed.split_once(':').unwrap_or((typed, ""));
    match kind {
        "container" => Some(format!("`pod:{}`", if rest.is_empty() { "NAME" } else { rest })),
        "slirp4netns" | "pasta" if rest.contains("loopback") || rest.contains("map-gw") => {
            Some(format!("`{kind}`, and --allow-host-loopback"))
        }
        "slirp4netns" | "pasta" => Some(format!("`{kind}` alone")),
        "bridge" | "default" => Some("`private`".to_owned()),
        "ns" => Some(
            "`pod:NAME`, of a pod of yours: a network namespace can only be entered from within its own pod".to_owned(),
        ),
        "pod" => Some("the pod's name after the colon, `pod:web`".to_owned()),
        _ => {
            let close = nearest(typed, NetworkChoice::ALL.iter().map(|choice| choice.word()));
            close.map(|(word, _)| format!("`{word}`"))
        }
    }
}

impl NetworkArguments {
    pub(crate) fn choice(&self) -> Option<NetworkChoice> {
        match self.network {
            Some(Network::Choice(choice)) => Some(choice),
            Some(Network::OfPod(_)) | None => None,
        }
    }

    /// The pod whose network is to be joined.
    pub(crate) fn of_pod(&self) -> Option<&str> {
        match &self.network {
            Some(Network::OfPod(pod)) => Some(pod),
            Some(Network::Choice(_)) | None => None,
        }
    }

    pub(crate) fn host_loopback(&self) -> HostLoopback {
        if self.allow_host_loopback { HostLoopback::Open } else { HostLoopback::Closed }
    }
}

#[derive(Debug, Args)]
pub(crate) struct PortArguments {
    /// Its name, or a unique beginning of its id
    pub(crate) pod: String,
    /// Only where this port of the pod is published: `80`, `53/udp`, or its name
    #[arg(value_name = "PORT")]
    pub(crate) port: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Each port is `[LOCAL:]REMOTE`; `:REMOTE` takes a local port that is free. REMOTE may be the name of\n\
    a container's port; both may be ranges of the same length. It is reached on the pod's own localhost. Ends with Ctrl-C, or with the pod."
)]
pub(crate) struct PortForwardArguments {
    /// Its name, or a unique beginning of its id
    pub(crate) pod: String,
    /// What to forward, like `8080:80`, `:http` or `5353:53/udp`
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    pub(crate) ports: Vec<String>,
    /// Where to listen: IP addresses with commas between them, or `localhost`
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "localhost")]
    pub(crate) address: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_call_it() {
        for (typed, word) in [
            ("container:web", "write `pod:web`;"),
            ("slirp4netns:allow_host_loopback=true", "write `slirp4netns`, and --allow-host-loopback;"),
            ("bridge", "write `private`;"),
            ("Host", "write `host`;"),
            ("pod:", "`pod:web`"),
            ("ns:/proc/1/ns/net", "write `pod:NAME`"),
            ("privat", "write `private`;"),
            ("nonsense", "it can be"),
        ] {
            let refused = network(typed).expect_err(typed);
            assert!(refused.contains(word), "{typed}: {refused}");
        }
    }
}
