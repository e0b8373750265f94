//! The words of `exec`.

use clap::Args;

/// Of a command without a terminal: with one the keys are bytes.
const EXEC_AND_ITS_END: &str = "\
Without -t, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on to the command. When exec itself is killed, \
the command gets SIGHUP, and SIGKILL after the pod's grace period; with -d it goes on. What the command has put into the \
background stays with the container.";

#[derive(Debug, Args)]
#[command(after_help = EXEC_AND_ITS_END)]
pub(crate) struct ExecArguments {
    /// Return as soon as the command runs; its output is discarded
    #[arg(short, long, conflicts_with_all = ["interactive", "tty"])]
    pub(crate) detach: bool,
    /// Pass stdin on
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// The container; the main one by default
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// Run as this user of the container: `uid`, `uid:gid`, `name` or `name:group`
    #[arg(short, long)]
    pub(crate) user: Option<String>,
    /// The directory to start in
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// A variable beside the container's own; may be repeated
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Its name, or a unique beginning of its id
    pub(crate) pod: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CMD")]
    pub(crate) command: Vec<String>,
}
