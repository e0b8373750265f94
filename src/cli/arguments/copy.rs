//! The words of `cp`.

use clap::Args;

const RULES: &str = "\
POD:PATH is a path in a container that runs, POD/CONTAINER:PATH in one that is not the main one; what begins with `/`, `./` or \
`../`, or has no colon, is a path of this host; `-` is a tar archive on stdin or stdout. A file or directory goes into a \
directory that exists, and else takes the destination's name; SRC/. means what is in the directory. What comes out of a pod \
belongs to you and loses set-user-ID and set-group-ID bits; what goes in belongs to root of the pod.";

#[derive(Debug, Args)]
#[command(after_help = RULES)]
pub(crate) struct CpArguments {
    /// Keep owners (uid and gid) of what goes into a pod
    #[arg(short, long)]
    pub(crate) archive: bool,
    /// Follow a symbolic link at the end of SRC
    #[arg(short = 'L', long)]
    pub(crate) follow_link: bool,
    /// The container; the main one by default
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// What is copied: POD:PATH, a path of this host, or `-`
    #[arg(value_name = "SRC")]
    pub(crate) source: String,
    /// Where it goes: POD:PATH, a path of this host, or `-`
    #[arg(value_name = "DEST")]
    pub(crate) destination: String,
}
