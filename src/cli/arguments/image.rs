//! The words of `image`, which are docker's and podman's.

use clap::{Args, Subcommand};

use super::{ImageLoadArguments, ImageSaveArguments, LoginArguments, LogoutArguments, PullArguments, PushArguments};

#[derive(Debug, Args)]
pub(crate) struct ImageArguments {
    #[command(subcommand)]
    pub(crate) verb: ImageVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageVerb {
    /// List the images of the store
    #[command(visible_alias = "list")]
    Ls(ImageLsArguments),
    /// Print everything about images as JSON
    Inspect(ImagesArguments),
    /// Print the steps that made an image
    History(ImageHistoryArguments),
    /// Give an image another name
    Tag(ImageTagArguments),
    /// Remove names of images, and what no image and no pod refers to then
    Rm(ImageRmArguments),
    /// Remove what no image and no pod refers to
    Prune(ImagePruneArguments),
    /// Take images from an archive of docker, podman or OCI
    Load(ImageLoadArguments),
    /// Write images to an archive
    Save(ImageSaveArguments),
    /// Fetch images from registries and unpack them
    Pull(PullArguments),
    /// Send an image to a registry
    Push(PushArguments),
    /// Check a user and a password at a registry, and keep them for pulls and pushes
    Login(LoginArguments),
    /// Forget the user and the password of a registry
    Logout(LogoutArguments),
}

#[derive(Debug, Args)]
pub(crate) struct ImageLsArguments {
    /// Print only the ids of the images
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) quiet: bool,
    /// Print the images as a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImagesArguments {
    /// Images: their names, or the beginnings of their digests
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ImageHistoryArguments {
    /// Its name, or the beginning of its digest
    pub(crate) image: String,
    /// Print the steps as a JSON array
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImageTagArguments {
    /// An image of the store: its name, or the beginning of its digest
    pub(crate) image: String,
    /// The new name: `[REGISTRY/]NAME[:TAG]`
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImageRmArguments {
    /// Images: their names, or the beginnings of their digests
    #[arg(required = true, value_name = "IMAGE")]
    pub(crate) images: Vec<String>,
    /// Also all names of an image that is named by its digest, and the names of an image that a pod uses: it stays as long
    /// as the pod
    #[arg(short, long)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ImagePruneArguments {
    /// Also the images that no pod uses, whatever their names
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Also the layers as they were transferred, where they are unpacked: `push` and another id map fetch them again
    #[arg(long)]
    pub(crate) blobs: bool,
}
