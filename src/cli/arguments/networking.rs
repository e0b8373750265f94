//! The words about a pod's network.

use clap::{Args, ValueEnum};

use crate::plan::network::{HostLoopback, NetworkChoice};

/// Of `run` and `plan`.
#[derive(Debug, Args)]
pub(crate) struct NetworkArguments {
    /// How the pod reaches the outside; by default what the manifest says, or `private`
    #[arg(long, value_enum, value_name = "MODE")]
    network: Option<Network>,
    /// Let the gateway's address lead to 127.0.0.1 of this host, and so to every service there
    #[arg(long)]
    allow_host_loopback: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Network {
    /// A network of the pod's own, through slirp4netns or pasta, whichever is installed
    Private,
    /// The same, through slirp4netns
    Slirp4netns,
    /// The same, through pasta
    Pasta,
    /// Only localhost
    None,
    /// This host's, with all that listens on it
    Host,
}

impl NetworkArguments {
    pub(crate) fn choice(&self) -> NetworkChoice {
        match self.network {
            None => NetworkChoice::AsWritten,
            Some(Network::Private) => NetworkChoice::Private,
            Some(Network::Slirp4netns) => NetworkChoice::Slirp4netns,
            Some(Network::Pasta) => NetworkChoice::Pasta,
            Some(Network::None) => NetworkChoice::None,
            Some(Network::Host) => NetworkChoice::Host,
        }
    }

    pub(crate) fn host_loopback(&self) -> HostLoopback {
        if self.allow_host_loopback { HostLoopback::Open } else { HostLoopback::Closed }
    }
}
