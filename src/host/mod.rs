//! What this machine allows: reads, never changes.
//!
//! Parsers are pure functions over text; [`probe`] reads the text, with bounds.

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

mod advice;
mod cgroup;
mod dirs;
mod facts;
mod file_system;
mod idmap_tool;
mod kernel;
mod layers;
mod lock_holder;
mod mountinfo;
mod network;
mod port_holder;
mod probe;
pub mod processes;
#[cfg(test)]
mod recorded;
mod space;
mod subid;
mod switches;
mod tree;
mod user;

pub use advice::advice;
pub use cgroup::*;
pub use facts::*;
pub use lock_holder::{holds_lock, lock_holder};
pub use network::{Ipv4Network, Ipv6Routes, NetworkFacts, Tun, UdpSockets};
pub use port_holder::{PortHolder, Transport, port_holder};
pub use probe::{Asked, CgroupQuery, Places, are_idmap_tools, places, probe};
pub use space::full_disk;
