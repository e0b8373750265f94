//! `sandpod exec` in real pods.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../rounds/mod.rs"]
mod rounds;
#[path = "../support/mod.rs"]
mod support;

mod files;
mod races;
mod sharing;
mod signals;
mod terminals;

use std::os::fd::AsFd as _;
use std::path::Path;

use sandpod::sys::path::open_host_path;
use sandpod::sys::socket::Channel;

/// A connection to a supervisor, which may belong to another user.
fn connect(control: &Path) -> Channel {
    Channel::connect_to(open_host_path(control).expect("a socket").as_fd(), control).expect("connect")
}
