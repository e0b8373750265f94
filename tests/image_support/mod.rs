//! What tests of images need beside sandpod: a registry on this machine, and images to put there.

pub(crate) mod layout;
mod registry;

pub(crate) use registry::{PASSWORD, Registry, USER};
