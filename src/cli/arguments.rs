//! What may be typed. Parser, help, completions and man pages all come from these definitions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::plan::CgroupsChoice;
use crate::plan::idmap::UsernsChoice;

mod about;
mod copy;
mod deferred;
mod exec;
mod image;
mod image_archive;
pub(crate) mod image_or_file;
mod login;
mod network;
mod pod;
mod pull;
mod running;

pub(crate) use about::{CompletionsArguments, ManArguments, VersionArguments};
pub(crate) use copy::CpArguments;
use deferred::Deferred;
pub(crate) use exec::ExecArguments;
pub(crate) use image::{
    ImageArguments, ImageHistoryArguments, ImageLsArguments, ImagePruneArguments, ImageRmArguments, ImageTagArguments,
    ImageVerb, ImagesArguments,
};
pub(crate) use image_archive::{ArchiveFormat, ImageLoadArguments, ImageSaveArguments};
pub(crate) use login::{LoginArguments, LogoutArguments};
pub(crate) use network::{NetworkArguments, PortArguments, PortForwardArguments};
pub(crate) use pod::PodArguments;
pub(crate) use pull::{PullArguments, PushArguments};
pub(crate) use running::{PauseArguments, StatsArguments, TreeArguments, UpdateArguments};

/// clap's own heading: what comes after a flattened group would otherwise stand below that group's.
const OPTIONS: &str = "Options";

/// Kubernetes-equivalent Pods for an unprivileged user: no root, no daemon, one static binary.
#[derive(Debug, Parser)]
#[command(name = "sandpod", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = "A pod is named by its name or by a unique beginning of its id.\n\
    Exit codes: the main container's own (128+n for a signal); 125 sandpod failed,\n\
    126 the command cannot be executed, 127 it is not there, 2 bad usage or a bad manifest.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start a pod from a manifest, or one container without a manifest
    Run(Deferred<RunArguments>),
    /// Print everything that `run` would do, and do nothing
    Plan(Deferred<PlanArguments>),
    /// List pods
    Ps(Deferred<PsArguments>),
    /// Print everything about a pod as JSON
    Inspect(Deferred<InspectArguments>),
    /// Measure pods and their containers: cpu, memory, processes, input and output
    Stats(Deferred<StatsArguments>),
    /// Show the cgroups and processes of pods, and which namespaces their containers share
    Tree(Deferred<TreeArguments>),
    /// Print what a pod's containers wrote
    Logs(Deferred<LogsArguments>),
    /// Run another command in a container
    Exec(Deferred<ExecArguments>),
    /// Copy files between this host and a container that runs
    Cp(Deferred<CpArguments>),
    /// Join a running container's stdin, stdout and stderr
    Attach(Deferred<AttachArguments>),
    /// List the ports of the host that lead into a pod
    Port(Deferred<PortArguments>),
    /// Reach ports of a pod that it does not publish, from this host
    PortForward(Deferred<PortForwardArguments>),
    /// Wait until pods have ended, and print their exit codes
    Wait(Deferred<WaitArguments>),
    /// End pods (SIGTERM, then SIGKILL after the grace period), and print their names
    Stop(Deferred<StopArguments>),
    /// Change limits and requests of a pod that runs, without restarting anything
    Update(Deferred<UpdateArguments>),
    /// Let the processes of pods stand still, without ending them
    Pause(Deferred<PauseArguments>),
    /// Let paused pods go on
    Unpause(Deferred<PauseArguments>),
    /// Send a signal to the first process of a pod's containers
    Kill(Deferred<KillArguments>),
    /// Remove ended pods and everything they left, and print their names
    Rm(Deferred<RmArguments>),
    /// List, inspect, name, fetch, send and remove images
    Image(Deferred<ImageArguments>),
    /// List the images of the store
    Images(Deferred<ImageLsArguments>),
    /// Remove names of images, and what no image and no pod refers to then
    Rmi(Deferred<ImageRmArguments>),
    /// Take images from an archive of docker, podman or OCI
    Load(Deferred<ImageLoadArguments>),
    /// Write images to an archive
    Save(Deferred<ImageSaveArguments>),
    /// Fetch images from registries and unpack them
    Pull(Deferred<PullArguments>),
    /// Send an image to a registry
    Push(Deferred<PushArguments>),
    /// Check a user and a password at a registry, and keep them for pulls and pushes
    Login(Deferred<LoginArguments>),
    /// Forget the user and the password of a registry
    Logout(Deferred<LogoutArguments>),
    /// Print sandpod's version
    Version(Deferred<VersionArguments>),
    /// Print a completion script for a shell
    Completions(Deferred<CompletionsArguments>),
    /// Print a man page (roff) of sandpod or of one verb
    Man(Deferred<ManArguments>),
}

#[derive(Debug, Args)]
#[command(override_usage = "sandpod run [OPTIONS] <FILE>\n       sandpod run [OPTIONS] <IMAGE> [CMD...]")]
pub(crate) struct RunArguments {
    #[command(flatten)]
    pub(crate) source: SourceArguments,
    /// Print the pod's id once it is ready, and leave it running
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"], help_heading = OPTIONS)]
    pub(crate) detach: bool,
    /// Remove the pod when it has ended
    #[arg(long, help_heading = OPTIONS)]
    pub(crate) rm: bool,
    /// No warnings or degradations on stderr, but those of security
    #[arg(short, long, help_heading = OPTIONS)]
    pub(crate) quiet: bool,
}

/// Where a pod comes from; shared by `run` and `plan`.
#[derive(Debug, Args)]
pub(crate) struct SourceArguments {
    /// A Pod manifest (YAML or JSON), or `-` for stdin: *.yaml, *.yml, *.json, a name that begins with `/`, `./` or
    /// `../`, or any other file that is here; every other name is that of an image
    #[arg(value_name = "FILE|IMAGE", required_unless_present = "image", conflicts_with = "image")]
    pub(crate) file: Option<PathBuf>,
    /// The pod's name, instead of the manifest's
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// When registries are asked for images, instead of what the manifest says (imagePullPolicy)
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) pull: Option<PullWhen>,
    #[command(flatten)]
    pub(crate) host: HostArguments,
    #[command(flatten)]
    pub(crate) network: NetworkArguments,
    #[command(flatten)]
    pub(crate) pod: PodArguments,
    #[command(flatten)]
    pub(crate) single: SingleArguments,
}

/// What the pod gets of the host's ids and cgroups.
#[derive(Debug, Args)]
pub(crate) struct HostArguments {
    /// Which ids stand behind the pod's
    #[arg(long, value_enum, default_value_t = Userns::Auto, value_name = "MODE")]
    pub(crate) userns: Userns,
    /// Whether the pod gets cgroups of its own; `disabled` waives the manifest's limits
    #[arg(long, value_enum, default_value_t = Cgroups::Auto, value_name = "MODE")]
    pub(crate) cgroups: Cgroups,
    /// The cgroup below which the pod's are made: a path of the cgroup2 file system, or one below its mount point
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_parent: Option<PathBuf>,
    /// Start even if what the pod requests is not there
    #[arg(long)]
    pub(crate) overcommit: bool,
}

/// A pod of one container, without a manifest.
#[derive(Debug, Args)]
#[command(next_help_heading = "One container without a manifest")]
pub(crate) struct SingleArguments {
    /// Its image or root file system, whatever its name: of a registry, `host:` or `rootfs:DIR`
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// A path of the host to mount, `SRC:DST` or `SRC:DST:ro`; may be repeated
    #[arg(long = "volume", short = 'v', value_name = "SRC:DST[:ro]", conflicts_with = "file")]
    pub(crate) volumes: Vec<String>,
    /// A variable, or with `NAME` alone the one of this environment; may be repeated
    #[arg(long = "env", short = 'e', value_name = "NAME[=VALUE]", conflicts_with = "file")]
    pub(crate) env: Vec<String>,
    /// The directory to start in
    #[arg(long, short = 'w', value_name = "DIR", conflicts_with = "file")]
    pub(crate) workdir: Option<String>,
    /// The ids to run as, inside the container
    #[arg(long, short = 'u', value_name = "UID[:GID]", conflicts_with = "file")]
    pub(crate) user: Option<String>,
    /// The most memory it may use: a quantity as Kubernetes writes it (`512Mi`, `1G`)
    #[arg(long, short = 'm', value_name = "QUANTITY", conflicts_with = "file")]
    pub(crate) memory: Option<String>,
    /// The most cpus it may use: `0.5` or `500m`
    #[arg(long, value_name = "QUANTITY", conflicts_with = "file")]
    pub(crate) cpus: Option<String>,
    /// How many processes and threads it may have, or `max`; 4096 by default
    #[arg(long, visible_alias = "pids", value_name = "COUNT", conflicts_with = "file")]
    pub(crate) pids_limit: Option<String>,
    /// The program to run, with CMD as its arguments (empty: CMD alone); a manifest says it for each container (`command`)
    #[arg(long, value_name = "PROGRAM", conflicts_with = "file")]
    pub(crate) entrypoint: Option<String>,
    /// Pass stdin on; to the main container of a manifest, which has `stdin: true`
    #[arg(long, short)]
    pub(crate) interactive: bool,
    /// Give the container a terminal
    #[arg(long, short, conflicts_with = "file")]
    pub(crate) tty: bool,
    /// The command and its arguments; without one, the image's, and with host: or rootfs: /bin/sh
    #[arg(last = true, value_name = "CMD", conflicts_with = "file")]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Userns {
    /// Isolated, unless the pod mounts paths of the host
    Auto,
    /// 0 is you, the others are your subordinate ids
    RootIsYou,
    /// All ids are subordinate ids
    Isolated,
    /// Only you
    Single,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PullWhen {
    /// At every start; layers that are here are not transferred again
    Always,
    /// For images that are not here
    Missing,
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cgroups {
    /// Below a cgroup that is delegated to you, or that your systemd gives
    Auto,
    /// None: no limits, no measurements
    Disabled,
}

impl From<Cgroups> for CgroupsChoice {
    fn from(typed: Cgroups) -> CgroupsChoice {
        match typed {
            Cgroups::Auto => CgroupsChoice::Auto,
            Cgroups::Disabled => CgroupsChoice::Disabled,
        }
    }
}

impl From<Userns> for UsernsChoice {
    fn from(typed: Userns) -> UsernsChoice {
        match typed {
            Userns::Auto => UsernsChoice::Auto,
            Userns::RootIsYou => UsernsChoice::RootIsYou,
            Userns::Isolated => UsernsChoice::Isolated,
            Userns::Single => UsernsChoice::Single,
        }
    }
}

#[derive(Debug, Args)]
#[command(override_usage = "sandpod plan [OPTIONS] <FILE>\n       sandpod plan [OPTIONS] <IMAGE> [CMD...]")]
pub(crate) struct PlanArguments {
    #[command(flatten)]
    pub(crate) source: SourceArguments,
    /// Ask no registry: what an image would decide is not known then, if it is not here
    #[arg(long, conflicts_with = "pull")]
    pub(crate) offline: bool,
    /// Print the plan as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PsArguments {
    /// Also pods that have ended
    #[arg(short, long)]
    pub(crate) all: bool,
    /// How to print them
    #[arg(short, long, value_enum, value_name = "FORMAT", conflicts_with = "json")]
    pub(crate) output: Option<PsOutput>,
    /// Only ids, one a line
    #[arg(short, long, conflicts_with_all = ["json", "output"])]
    pub(crate) quiet: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PsOutput {
    /// Also addresses and published ports
    Wide,
    /// Only names, one a line
    Name,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// Its name, or a unique beginning of its id
    pub(crate) pod: String,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArguments {
    /// Its name, or a unique beginning of its id
    pub(crate) pod: String,
    /// Go on until the pod has ended
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only the last N lines of each container
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u64>,
    /// Only what was written since: a time (RFC 3339) or how long ago (`10m`, `1h30m`)
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Begin every line with its time
    #[arg(short, long)]
    pub(crate) timestamps: bool,
    /// Only this container; by default all, in order of time, each line with its container's name
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Pass escape sequences to a terminal, too; by default it gets only colours and movement within the line
    #[arg(long)]
    pub(crate) raw: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Where the container has a terminal (`tty: true`) and stdin is one, Ctrl-P Ctrl-Q detaches. Without, Ctrl-C does. The \
    container goes on, and so does its stdin, unless its manifest says `stdinOnce: true`."
)]
pub(crate) struct AttachArguments {
    /// The container; the main one by default
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Its name, or a unique beginning of its id
    pub(crate) pod: String,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArguments {
    /// Wait for this container to end for good
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Names, or unique beginnings of ids
    #[arg(required = true, value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StopArguments {
    /// Seconds between SIGTERM and SIGKILL; the manifest's by default
    #[arg(short, long, value_name = "SECONDS")]
    pub(crate) time: Option<u64>,
    /// Names, or unique beginnings of ids
    #[arg(required = true, value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct KillArguments {
    /// By name or number
    #[arg(short, long, default_value = "KILL")]
    pub(crate) signal: String,
    /// Only this container; all by default
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Names, or unique beginnings of ids
    #[arg(required = true, value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RmArguments {
    /// Kill what still runs
    #[arg(short, long)]
    pub(crate) force: bool,
    /// All pods that have ended; with --force all pods
    #[arg(short, long, conflicts_with = "pods")]
    pub(crate) all: bool,
    /// Names, or unique beginnings of ids
    #[arg(required_unless_present = "all", value_name = "POD")]
    pub(crate) pods: Vec<String>,
}

#[cfg(test)]
mod tests;
