//! One thin function per kernel call. The only module that names nix, libc or `unsafe`.
//!
//! Every error carries the call with its arguments and the errno, never a bare number.

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

mod accept;
pub mod allocator;
pub mod beneath;
pub mod clone;
pub mod create;
mod error;
pub mod event;
pub mod file_tree;
pub mod inet;
pub mod inotify;
pub mod landlock;
pub mod limits;
pub mod memfd;
pub mod mount;
pub mod net;
pub mod overlay_trial;
pub mod own_dir;
pub mod path;
pub mod poll;
pub mod private_dir;
pub mod privileges;
pub mod probe;
pub mod process;
mod root_walk;
pub mod seccomp;
pub mod signals;
pub mod socket;
pub mod splice;
pub mod stdio;
pub mod terminal;
pub mod tree;

pub use error::{Error, Result, describe, describe_io};
pub use nix::errno::Errno;
pub use nix::sched::CloneFlags as Namespaces;
