//! Does the plan, in order. `plan/X` decides, `engine/X` does; no choice is left here.
//!
//! Everything that forks lives here, and forks from a process with a single thread (the supervisor).

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

pub mod cgroup;
mod copy;
pub mod exec;
mod failure;
pub mod files;
pub mod idmap;
pub mod images;
mod join;
pub mod launcher;
mod layer_trees;
pub mod layers;
mod message;
mod mirror;
mod mount_points;
mod mounts;
pub mod network;
mod overlay;
pub mod pending;
pub mod ports;
pub mod process;
pub mod programs;
pub mod remove;
pub mod roles;
mod root;
pub mod sandbox;
mod sources;
pub mod storage;
pub mod sweep;
mod sysctls;
pub mod termination;
mod tree;
mod unmapped;
mod user;
pub mod volumes;

pub use failure::{During, Failure, Result};
