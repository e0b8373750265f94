//! The words about the pod as a whole, which stand over what a manifest says.

use std::net::IpAddr;

use clap::Args;

/// Of `run` and `plan`.
#[derive(Debug, Default, Args)]
pub(crate) struct PodArguments {
    /// The name by which the pod knows itself (`spec.hostname`), instead of the manifest's or the pod's own
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// A name server, instead of the manifest's and the host's (`spec.dnsPolicy: None`); up to three
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    pub(crate) dns: Vec<IpAddr>,
    /// A label of the pod, beside the manifest's or in place of its own of that name; may be repeated
    #[arg(long, short, value_name = "KEY[=VALUE]")]
    pub(crate) label: Vec<String>,
}
