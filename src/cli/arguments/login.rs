//! The words of `login` and `logout`, which are podman's and docker's.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct LoginArguments {
    /// `HOST[:PORT]`, or `HOST/NAMESPACE` for a part of a registry
    #[arg(default_value = "docker.io")]
    pub(crate) registry: String,
    /// The user; asked for on the terminal otherwise
    #[arg(short, long, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// The password, which other users of this host can see in the list of processes; better is --password-stdin
    #[arg(short, long, value_name = "PASSWORD", conflicts_with = "password_stdin")]
    pub(crate) password: Option<String>,
    /// Read the password from stdin
    #[arg(long, requires = "username")]
    pub(crate) password_stdin: bool,
    /// Print the user that is logged in, and do nothing
    #[arg(long, conflicts_with_all = ["username", "password", "password_stdin"])]
    pub(crate) get_login: bool,
    /// Keep the login in this file instead of `$XDG_RUNTIME_DIR/containers/auth.json`
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    pub(crate) authfile: Option<PathBuf>,
    /// `false`: any certificate will do, and plain HTTP where there is no TLS
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) tls_verify: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogoutArguments {
    /// `HOST[:PORT]`, or `HOST/NAMESPACE` for a part of a registry
    #[arg(default_value = "docker.io", conflicts_with = "all")]
    pub(crate) registry: String,
    /// Forget all logins of the file
    #[arg(short, long)]
    pub(crate) all: bool,
    /// The file with the logins instead of `$XDG_RUNTIME_DIR/containers/auth.json`
    #[arg(long, value_name = "FILE", env = "REGISTRY_AUTH_FILE")]
    pub(crate) authfile: Option<PathBuf>,
}
