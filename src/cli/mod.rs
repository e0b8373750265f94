//! Words in, words out. One verb is one file; `run` is the architecture on one screen.
//!
//! Data goes to stdout, everything else to stderr. Owns the arguments, the one printer of errors, and the terminal.
//! Must not make kernel calls of its own or decide anything about pods.

#![allow(clippy::disallowed_methods, reason = "this layer may act")]

mod adjust;
mod arguments;
mod attach;
mod cgroups;
mod client;
mod completions;
mod compose;
mod cp;
mod detach_keys;
mod exec;
mod follow;
mod foreground;
mod image;
mod images;
mod inspect;
mod kill;
mod lines;
mod log_files;
mod log_line;
mod log_printer;
mod log_tail;
mod login;
mod logs;
mod man;
mod networks;
mod outlet;
mod pause;
mod plan;
mod port_forward;
mod ports;
mod print;
mod ps;
mod publish;
mod pull;
mod pull_progress;
mod push;
mod relay;
mod rm;
mod run;
mod sink;
mod slips;
mod source;
mod stats;
mod stop;
mod streams;
mod table;
mod terminal_text;
mod tree;
mod update;
mod verdicts;
mod version;
mod wait;

use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use crate::report::{Report, exit_code};
use crate::state::Store;
use crate::sys::stdio;
use arguments::{Arguments, Verb};

/// Why a verb did not succeed.
enum Failure {
    /// One error, or several of a verb that goes on after the first (`rm a b c`).
    Reports(Vec<Report>),
    /// Whoever read our stdout has gone; nobody is left to be told.
    StdoutClosed,
}

impl From<Report> for Failure {
    fn from(report: Report) -> Failure {
        Failure::Reports(vec![report])
    }
}

impl From<source::Refused> for Failure {
    fn from(refused: source::Refused) -> Failure {
        refused.into_report().into()
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::StdoutClosed;
        }
        Report::new(exit_code::FAILURE, "could not write the output").because(crate::sys::describe_io(&error)).into()
    }
}

impl From<crate::sys::Error> for Failure {
    fn from(error: crate::sys::Error) -> Failure {
        Report::new(exit_code::FAILURE, "a kernel call failed").because(error.to_string()).into()
    }
}

/// The exit code of a verb that did what it was asked.
type Outcome = Result<u8, Failure>;

/// Runs one command line and says with which code the process ends.
#[must_use]
pub fn main() -> ExitCode {
    crate::engine::roles::play();
    crate::engine::images::play();
    // Every mode below is explicit, so a stricter mask could only take from us what we need (`umask 0777`).
    stdio::set_umask(0o022);
    // It cannot fail for this signal; if it did, the first child would say so.
    let _ = stdio::keep_ended_children();
    // The same holds here. The supervisor and the port proxy are forks of this process and inherit it.
    let _ = stdio::ignore_file_size_signal();
    let typed = arguments::image_or_file::with_option(std::env::args_os().collect(), Path::exists);
    let arguments = match Arguments::try_parse_from(typed) {
        Ok(arguments) => arguments,
        Err(mut usage) => {
            let tip = slips::tip(usage.kind(), &std::env::args().collect::<Vec<String>>());
            if tip.is_some() {
                slips::drop_guesses(&mut usage);
            }
            // Help and version go to stdout with 0, errors to stderr with 2 (clap's own convention).
            let _ = usage.print();
            if let Some(tip) = tip {
                print::notice("tip", tip);
            }
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(exit_code::USAGE));
        }
    };
    ExitCode::from(match dispatch(&arguments.verb) {
        Ok(code) => code,
        Err(Failure::StdoutClosed) => 0,
        Err(Failure::Reports(reports)) => {
            reports.iter().for_each(print::report);
            reports.iter().map(|report| report.exit_code).max().unwrap_or(exit_code::FAILURE)
        }
    })
}

fn dispatch(verb: &Verb) -> Outcome {
    match verb {
        Verb::Run(asked) => run::run(asked),
        Verb::Plan(asked) => plan::plan(asked),
        Verb::Ps(asked) => ps::ps(asked),
        Verb::Inspect(asked) => inspect::inspect(asked),
        Verb::Stats(asked) => stats::stats(asked),
        Verb::Tree(asked) => tree::tree(asked),
        Verb::Logs(asked) => logs::logs(asked),
        Verb::Exec(asked) => exec::exec(asked),
        Verb::Cp(asked) => cp::cp(asked),
        Verb::Attach(asked) => attach::attach(asked),
        Verb::Port(asked) => ports::port(asked),
        Verb::PortForward(asked) => port_forward::port_forward(asked),
        Verb::Wait(asked) => wait::wait(asked),
        Verb::Stop(asked) => stop::stop(asked),
        Verb::Update(asked) => update::update(asked),
        Verb::Pause(asked) => pause::pause(asked),
        Verb::Unpause(asked) => pause::unpause(asked),
        Verb::Kill(asked) => kill::kill(asked),
        Verb::Rm(asked) => rm::rm(asked),
        Verb::Image(asked) => image::image(asked),
        Verb::Images(asked) => image::ls(asked),
        Verb::Rmi(asked) => image::rm(asked),
        Verb::Load(asked) => image::load(asked),
        Verb::Save(asked) => image::save(asked),
        Verb::Pull(asked) => pull::pull(asked),
        Verb::Push(asked) => push::push(asked),
        Verb::Login(asked) => login::login(asked),
        Verb::Logout(asked) => login::logout(asked),
        Verb::Version(asked) => version::version(asked),
        Verb::Completions(asked) => completions::completions(asked),
        Verb::Man(asked) => man::man(asked),
    }
}

/// All pods of this user.
fn store() -> Result<Store, Report> {
    let places = crate::host::places();
    Ok(Store::new(&places.runtime.path, &places.data.path))
}

/// `-it` of `run` and `exec`.
fn check_terminal(interactive: bool, tty: bool) -> Result<(), Report> {
    if !(interactive && tty) || io::stdin().is_terminal() {
        return Ok(());
    }
    Err(Report::new(exit_code::USAGE, "-i and -t together need a terminal, and stdin is none")
        .hint("leave out -t to pass stdin on as it is"))
}

/// Does something to each named pod and goes on after a failure.
fn each(pods: &[String], mut act: impl FnMut(&str) -> Result<(), Failure>) -> Outcome {
    let mut failed = Vec::new();
    for pod in pods {
        match act(pod) {
            Ok(()) => {}
            Err(Failure::Reports(reports)) => failed.extend(reports),
            Err(Failure::StdoutClosed) => return Err(Failure::StdoutClosed),
        }
    }
    if failed.is_empty() { Ok(0) } else { Err(Failure::Reports(failed)) }
}
