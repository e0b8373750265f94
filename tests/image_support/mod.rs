//! What tests of images need beside sandpod: a registry on this machine.

mod registry;

pub(crate) use registry::{PASSWORD, Registry, USER};
