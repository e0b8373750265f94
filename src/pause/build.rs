//! Compiles the two tiny programs of this directory, which the main binary carries inside itself.
//!
//! Only for x86-64, whose system call they are written in. Elsewhere the files are empty and sandpod executes a sealed
//! copy of itself in their role (src/engine/roles.rs), which costs memory and nothing else.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a build script acts, and talks to cargo on stdout"
)]

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    for source in ["build.rs", "pause.rs", "enter.rs", "syscall.rs"] {
        println!("cargo::rerun-if-changed=src/pause/{source}");
    }
    // Said by hand, to try on x86-64 what other architectures do.
    println!("cargo::rerun-if-env-changed=SANDPOD_TINY_PROGRAMS");
    let tiny = arch == "x86_64" && env::var_os("SANDPOD_TINY_PROGRAMS").is_none_or(|said| said != "none");
    for program in ["pause", "enter"] {
        let output = out.join(program);
        if tiny {
            compile(program, &output);
        } else {
            println!("cargo::warning=no {program} program for {arch}: sandpod will run a copy of itself instead");
            std::fs::write(&output, []).expect("OUT_DIR is writable");
        }
    }
    if !tiny {
        println!("cargo::rustc-env=SANDPOD_WITHOUT_TINY_PROGRAMS=1");
    }
}

fn compile(program: &str, output: &PathBuf) {
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let target = env::var_os("TARGET").expect("cargo sets TARGET");
    let link = [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-no-pie",
        "-Wl,--build-id=none,-z,norelro,-z,noseparate-code,--gc-sections,-s",
    ];
    let mut command = Command::new(rustc);
    // The flags of the main program (crt-static and the like) are not for these.
    command.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
    command.arg(format!("src/pause/{program}.rs")).arg("-o").arg(output).arg("--target").arg(target);
    command.args(["--edition=2024", "--crate-type=bin", "-Cpanic=abort", "-Copt-level=z", "-Crelocation-model=static"]);
    command.args(["-Cforce-unwind-tables=no", "-Dwarnings"]);
    command.args(link.map(|argument| format!("-Clink-arg={argument}")));
    let status = command.status().expect("rustc starts");
    assert!(status.success(), "rustc could not build src/pause/{program}.rs");
}
