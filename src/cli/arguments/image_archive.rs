//! The arguments of `image load` and `image save`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Userns;

#[derive(Debug, Args)]
pub(crate) struct ImageLoadArguments {
    /// The archive, instead of stdin
    #[arg(short, long, value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// The platform to take of an image of several, instead of this machine's: `linux/arm64`, `arm/v7`
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    pub(crate) platform: Option<String>,
    /// The ids that the layers are unpacked for; `auto` is what a pod without paths of the host has
    #[arg(long, value_enum, default_value_t = Userns::Auto, value_name = "MODE")]
    pub(crate) userns: Userns,
    /// Print only the digests of the images
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImageSaveArguments {
    /// Images: their names, or the beginnings of their digests
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// The archive, instead of stdout
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// How it is written; `load` reads both
    #[arg(long, value_enum, default_value_t = ArchiveFormat::DockerArchive, value_name = "FORMAT")]
    pub(crate) format: ArchiveFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArchiveFormat {
    /// As `docker save` and `podman save` write it
    DockerArchive,
    /// OCI's image layout as a tar file: manifests and digests stay what they are
    OciArchive,
}
