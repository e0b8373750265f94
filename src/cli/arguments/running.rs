//! The words of the verbs that look at, and change, what a pod uses while it runs.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct StatsArguments {
    /// Only this pod; by default all that run
    pub(crate) pod: Option<String>,
    /// Measure every second: a named pod until it has ended, all pods until Ctrl-C
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Print JSON: an object for each pod, container, supervisor and pause; with --watch one line for each second
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TreeArguments {
    /// Only this pod; by default all that run
    pub(crate) pod: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").multiple(true).required(true))]
pub(crate) struct UpdateArguments {
    /// Its name, or a unique beginning of its id
    pub(crate) pod: String,
    /// Change this container; by default the only one, or else the limits of all together
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// The most memory that may be used: `512Mi`
    #[arg(long, value_name = "QUANTITY", group = "change")]
    pub(crate) memory: Option<String>,
    /// Memory that is claimed, and kept from others where possible
    #[arg(long, value_name = "QUANTITY", group = "change")]
    pub(crate) memory_request: Option<String>,
    /// The most cpus that may be used: `0.5` or `500m`
    #[arg(long, value_name = "QUANTITY", group = "change")]
    pub(crate) cpus: Option<String>,
    /// Cpus that are claimed; their share when all want more than there is
    #[arg(long, value_name = "QUANTITY", group = "change")]
    pub(crate) cpu_request: Option<String>,
    /// The most processes and threads, or `max`: the only amount that a BestEffort pod can be given
    #[arg(long, visible_alias = "pids-limit", value_name = "COUNT", group = "change")]
    pub(crate) pids: Option<String>,
    /// Also below the memory that is used now: what cannot be reclaimed is killed
    #[arg(long)]
    pub(crate) force: bool,
    /// Even if what is requested is not there
    #[arg(long)]
    pub(crate) overcommit: bool,
}

/// Also of `unpause`.
#[derive(Debug, Args)]
pub(crate) struct PauseArguments {
    /// Only this container; all by default
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Names, or unique beginnings of ids
    #[arg(required = true, value_name = "POD")]
    pub(crate) pods: Vec<String>,
}
