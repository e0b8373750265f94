//! Decides everything, does nothing: no file, environment, process, clock or chance in here.

pub mod idmap;
mod types;

pub use types::*;
