//! The arguments of `pull` and `push`.

use clap::Args;

use super::Userns;

#[derive(Debug, Args)]
pub(crate) struct PullArguments {
    /// Images: `[REGISTRY/]NAME[:TAG][@DIGEST]`
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// The platform of the image, instead of this machine's: `linux/arm64`, `arm/v7`
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// The ids that the layers are unpacked for; `auto` is what a pod without paths of the host has
    #[arg(long, value_enum, default_value_t = Userns::Auto, value_name = "MODE")]
    pub(crate) userns: Userns,
    /// Print only the digests of the images
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// Print what happens as JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PushArguments {
    /// An image of the store: its name, or the beginning of its digest
    pub(crate) image: String,
    /// Where it goes, instead of to the registry of its name: `[REGISTRY/]NAME[:TAG]`
    pub(crate) destination: Option<String>,
    /// Print only the digest
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// Print what happens as JSON, one object a line
    #[arg(long)]
    pub(crate) json: bool,
}
