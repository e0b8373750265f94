//! Images: their names are parsed in `manifest`, their content is brought here.
//!
//! Owns what an image's layers become on disk. Must not know of pods, plans or the command line.

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

pub mod archive;
pub mod compression;
pub mod config;
pub mod descriptor;
pub mod digest;
pub mod layer;
pub mod platform;
pub mod registries;
pub mod registry;
pub mod store;
mod stored;

pub use config::ImageConfig;
pub use digest::Digest;
pub use store::tree_path;
pub use stored::{ImageError, StoredImage, StoredLayer};
