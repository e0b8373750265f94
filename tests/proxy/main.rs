//! The port proxy as a process of its own, without a pod.

#![allow(clippy::disallowed_methods, reason = "tests may act")]

#[path = "../proxy_support/mod.rs"]
mod proxy_support;

mod datagrams;
mod resets;
mod shares;
mod streams;

use proxy_support::{be_the_proxy, is_the_proxy};

/// The other process of the tests here (`Process::start`); by itself it has nothing to do.
#[test]
fn the_proxy_process() {
    if is_the_proxy() {
        be_the_proxy();
    }
}
