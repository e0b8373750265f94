//! One thin function per kernel call. The only module that names nix, libc or `unsafe`.
//!
//! Every error carries the call with its arguments and the errno, never a bare number.

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

mod error;
pub mod inotify;
pub mod poll;
pub mod private_dir;
pub mod process;
pub mod socket;
pub mod terminal;

pub use error::{Error, Result};
