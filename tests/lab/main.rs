//! sandpod on other kernels, and the pod's cgroups with real controllers, as an ordinary user, through the real binary.
//!
//! Runs in the guests of scripts/lab, which choose by module name what is run where (scripts/lab/lanes). Elsewhere it
//! skips: a development machine may have no cgroup v2, and none that tests may play with.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests act, and tell what they measure"
)]

#[path = "../lab_support/mod.rs"]
mod lab_support;

mod admission;
mod cost;
mod crash;
mod delegation;
mod escape;
mod frozen;
mod inside;
mod kill;
mod leftovers;
mod life;
mod limits;
mod memory;
mod no_cpu;
mod verbs;
mod whole;
mod words;
