//! Ourselves in the role of pause or enter, on an architecture without programs of its own for them (src/pause/): a sealed
//! copy of this binary is executed with one of these first words. It costs memory and half a millisecond, nothing else.

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use crate::TINY_PROGRAMS;
use crate::sys::event::Signals;
use crate::sys::signals::{SIGINT, SIGTERM};
use crate::sys::{clone, memfd, poll, privileges, process};

pub(super) const PAUSE: &CStr = c"sandpod:pause";
pub(super) const ENTER: &CStr = c"sandpod:enter";

/// Plays the role that the first word names, and does not return then. Looked at before anything else of the command line.
pub fn play() {
    if TINY_PROGRAMS {
        return;
    }
    let words: Vec<Vec<u8>> = std::env::args_os().map(OsString::into_vec).collect();
    match words.first().map(Vec::as_slice) {
        Some(role) if role == PAUSE.to_bytes() => pause(),
        Some(role) if role == ENTER.to_bytes() => memfd::replace_with(&words[1..]),
        _ => {}
    }
}

/// As src/pause/pause.rs: reaps, and ends on SIGTERM or SIGINT.
fn pause() -> ! {
    // As src/pause/pause.rs, in that order.
    let given_up = privileges::hide_from_ptrace()
        .and_then(|()| privileges::no_new_privileges())
        .and_then(|()| privileges::limit_bounding_set(&[]))
        .and_then(|()| privileges::limit_capabilities(&[]));
    let Ok(signals) = given_up.and_then(|()| Signals::block()) else { clone::exit_now(125) };
    loop {
        use std::os::fd::AsFd;
        // A wait that ends early is only one more look.
        let _ = poll::readable(signals.as_fd(), Duration::from_secs(3600));
        while let Some(signal) = signals.next() {
            if signal == SIGTERM || signal == SIGINT {
                clone::exit_now(0);
            }
        }
        while process::reap_any().is_some() {}
    }
}
