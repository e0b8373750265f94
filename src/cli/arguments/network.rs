//! The words of the verbs about ports.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct PortArguments {
    pub(crate) pod: String,
    /// Only where this port of the pod is published: `80`, `53/udp`
    #[arg(value_name = "PORT")]
    pub(crate) port: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Each port is `[LOCAL:]REMOTE`; `:REMOTE` takes a local port that is free. REMOTE may be the name of\n\
    a container's port. It is reached on the pod's own localhost. Ends with Ctrl-C, or with the pod."
)]
pub(crate) struct PortForwardArguments {
    pub(crate) pod: String,
    /// What to forward, like `8080:80`, `:http` or `5353:53/udp`
    #[arg(required = true, value_name = "[LOCAL:]REMOTE")]
    pub(crate) ports: Vec<String>,
    /// Where to listen: IP addresses with commas between them, or `localhost`
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',', default_value = "localhost")]
    pub(crate) address: Vec<String>,
}
