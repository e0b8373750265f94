//! `sandpod run`: the straight line, one call for each layer.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use jiff::Timestamp;

use super::arguments::RunArguments;
use super::foreground::{self, Ending};
use super::log_printer::labels;
use super::relay::{Attachment, Ends, Options};
use super::source::{self, Manifest, Planned, Purpose, Refused};
use super::{Failure, Outcome, logs, ports, print, relay, rm, verdicts};
use crate::engine::cgroup;
use crate::engine::ports::Sockets;
use crate::plan::cgroup::CgroupPlan;
use crate::plan::{Degradation, PodPlan, SandboxPlan, degradation};
use crate::report::{Report, exit_code};
use crate::state::{CreatedPod, Store, StoredPod};
use crate::supervisor::protocol::{FromCaller, StartReply};
use crate::supervisor::{self, AtEnd, FirstAttach, Handover};
use crate::sys::poll::{self, Want};
use crate::sys::socket::Channel;
use crate::sys::terminal::{ForegroundSignals, Sent};

/// read → parse → probe → plan → create → start the supervisor → follow.
pub(crate) fn run(asked: &RunArguments) -> Outcome {
    let single = &asked.source.single;
    super::check_terminal(single.interactive, single.tty)?;
    if asked.detach && single.interactive && asked.source.file.is_some() {
        return Err(Report::new(exit_code::USAGE, "-i passes stdin on, and -d does not stay for it")
            .hint("leave one of them out; `sandpod attach` connects stdin later")
            .into());
    }
    let manifest = source::read(&asked.source)?;
    let times = if source::makes_up_name(&asked.source, manifest.as_ref()) { MOST_NAMES } else { 1 };
    let (planned, store, sockets, created) = first_free(times, || reserve(asked, manifest.as_ref()))?;
    let Planned { facts, plan, replaced, images: _ } = planned;
    // Not before it is sure that there is a pod: a name or port that is taken has nothing to do with what it would lack.
    if !asked.quiet {
        source::is_no_image(&asked.source).iter().for_each(|line| print::notice("manifest", line));
        facts.warnings.iter().for_each(|warning| print::notice("warning", warning));
        replaced.iter().for_each(|line| print::notice("replaced", line));
        ports::in_the_way(&plan, &facts, &store).iter().for_each(|line| print::notice("warning", line));
    }
    let shown = |lost: &&Degradation| !asked.quiet || degradation::is_of_security(&lost.name);
    plan.degradations.iter().filter(shown).for_each(|lost| print::notice("degraded", &at_start(lost)));
    let at_end = match (asked.rm, asked.detach) {
        (true, true) => AtEnd::Remove,
        (true, false) => AtEnd::KeepForCaller,
        (false, _) => AtEnd::Keep,
    };
    if !asked.quiet && !asked.detach {
        unconnected(&plan, single.interactive).iter().for_each(|line| print::notice("warning", line));
    }
    let main = plan.containers.iter().position(|container| container.name == plan.main).unwrap_or(0);
    let (ours, theirs) = if asked.detach { (Vec::new(), Vec::new()) } else { attach_all(&plan, single.interactive)? };
    // Before the fork, and so blocked in the supervisor until it takes them itself: a Ctrl-C that comes now must end the
    // pod's start in order, and not whichever of the two processes it meets.
    let signals = if asked.detach { ForegroundSignals::block()? } else { ForegroundSignals::block_all()? };
    let window = if asked.detach { None } else { relay::window_size() };
    let handover = Handover { at_end, attach: theirs, window, sockets };
    let channel = supervisor::spawn(created, &plan, handover)
        .map_err(|failure| failure.into_report(format!("could not start pod `{}`", plan.sandbox.name)))?;
    let Ready { master, early, not_started } =
        ready(&store, &plan.sandbox.id, &channel, &signals).inspect_err(|_| {
            // The supervisor of a start that failed cannot remove the cgroup that it is in.
            if let CgroupPlan::Tree(tree) = &plan.sandbox.cgroup
                && let Some(made) = tree.directory()
            {
                let _ = cgroup::remove(&made, &plan.sandbox.idmap);
            }
        })?;
    tell_of_the_network(&store, &plan.sandbox.id);
    if asked.detach {
        return detached(&plan, not_started);
    }
    not_started.iter().for_each(print::report);
    let pod = its_pod(&store, &plan.sandbox.id)?;
    let names = logs::all_containers(&pod);
    let labels = if names.len() > 1 { labels(&names) } else { Vec::new() };
    // What is not typed on a terminal is data.
    let keys = single.interactive && master.is_some() && io::stdin().is_terminal();
    let options = Options { input: single.interactive, detach_keys: keys };
    let attachment = Attachment { ends: &ours, labels: &labels, main, master };
    let ending = foreground::stay(&pod, attachment, options, &signals, &early);
    finish(&pod, ending, asked.rm, &channel)
}

/// Prints the id. The pod runs, and goes on where that cannot be printed.
fn detached(plan: &PodPlan, not_started: Vec<Report>) -> Outcome {
    let SandboxPlan { id, name, .. } = &plan.sandbox;
    let mut reports = not_started;
    match print::text(&format!("{id}\n")) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe && reports.is_empty() => {
            return Err(Failure::StdoutClosed);
        }
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => reports.push(
            Report::new(exit_code::FAILURE, format!("could not print the id of pod `{name}`, which runs: {id}"))
                .because(crate::sys::describe_io(&error))
                .hint(format!("`sandpod rm -f {name}` ends and removes it")),
        ),
        Ok(()) | Err(_) => {}
    }
    if reports.is_empty() { Ok(0) } else { Err(Failure::Reports(reports)) }
}

/// Names that are made up until one is free: as many as the API server tries
/// (<https://kubernetes.io/docs/reference/using-api/api-concepts/#generated-values>).
const MOST_NAMES: usize = 8;

/// Why there is no pod.
enum NotMade {
    NameTaken(Report),
    Other(Report),
}

impl From<Report> for NotMade {
    fn from(report: Report) -> NotMade {
        NotMade::Other(report)
    }
}

impl From<Refused> for NotMade {
    fn from(refused: Refused) -> NotMade {
        NotMade::Other(refused.into_report())
    }
}

/// Tries again, with another name, where the name that was made up is taken.
fn first_free<T>(times: usize, mut attempt: impl FnMut() -> Result<T, NotMade>) -> Result<T, Report> {
    let mut tried = 0;
    loop {
        tried += 1;
        match attempt() {
            Ok(made) => return Ok(made),
            Err(NotMade::NameTaken(_)) if tried < times => {}
            Err(NotMade::NameTaken(report) | NotMade::Other(report)) => return Err(report),
        }
    }
}

/// probe → plan → pull → admit → bind → create. What others wait for, a lock or a port, is not taken before the images are
/// here.
fn reserve(
    asked: &RunArguments,
    manifest: Option<&Manifest>,
) -> Result<(Planned, Store, Sockets, CreatedPod), NotMade> {
    let mut planned = source::planned(&asked.source, manifest, Purpose::Run { quiet: asked.quiet })?;
    let store = source::store(&planned.facts);
    let if_taken = |report: Report, name: &str| match store.has(name) {
        true => NotMade::NameTaken(report),
        false => NotMade::Other(report),
    };
    if planned.images.is_some() || !planned.plan.sandbox.ports.is_empty() {
        store.refuse_taken(&planned.plan).map_err(|report| if_taken(report, &planned.plan.sandbox.name))?;
    }
    if let Some(images) = &planned.images {
        images.bring(&planned.plan.sandbox.idmap, &planned.facts, asked.quiet)?;
    }
    let admitted = source::admit(&planned, &asked.source, manifest)?;
    let plan = &mut planned.plan;
    let sockets = ports::bind(&mut plan.sandbox, &store)?;
    let created = store.create(plan, Timestamp::now()).map_err(|report| if_taken(report, &plan.sandbox.name))?;
    // The record counts from here on, for the claim and for the images. The supervisor would inherit the locks.
    drop(admitted);
    planned.images = None;
    Ok((planned, store, sockets, created))
}

/// The pod that was made here. By its id alone: `Store::find` takes a pod of that name first.
fn its_pod(store: &Store, id: &str) -> Result<StoredPod, Report> {
    store.by_id(id).ok_or_else(|| {
        Report::new(exit_code::FAILURE, format!("there is no pod `{id}` any more")).because("it was removed meanwhile")
    })
}

/// What it means. Why a pod that asks for no limits has no cgroup is for `plan` to say, and not at every start on a host
/// that gives none.
fn at_start(Degradation { name, meaning, .. }: &Degradation) -> String {
    if name == degradation::NO_CGROUP {
        return format!("{name}: {} (`sandpod plan` says why)", degradation::NOTHING_MEASURED);
    }
    format!("{name}: {meaning}")
}

/// What only the running network knows; `--quiet`, too, since it is about security.
fn tell_of_the_network(store: &Store, id: &str) {
    let Ok(pod) = its_pod(store, id) else { return };
    let network = pod.record().and_then(|record| record.network.as_ref());
    if let Some(network) = network.filter(|network| !network.sandboxed) {
        let lost = degradation::network_unsandboxed(network.unsandboxed.as_deref().unwrap_or("it did not say why"));
        print::notice("degraded", &format!("{}: {}", lost.name, lost.meaning));
    }
}

/// Our ends of every container's stdio, and the containers'. Our stdin is for the main one.
fn attach_all(plan: &PodPlan, interactive: bool) -> Result<(Vec<Ends>, Vec<FirstAttach>), Failure> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for container in &plan.containers {
        let (mine, Ends { stdio, stderr }) = Ends::pair()?;
        ours.push(mine);
        theirs.push(FirstAttach { stdio, stderr, input: interactive && container.name == plan.main });
    }
    Ok((ours, theirs))
}

/// A line for each container whose stdin is open and not connected.
fn unconnected(plan: &PodPlan, interactive: bool) -> Vec<String> {
    let line = |name: &str| {
        let advice = if name == plan.main { "`run -i` connects it, and so does" } else { "it is connected by" };
        let pod = &plan.sandbox.name;
        format!("stdin of container `{name}` is open but not connected: {advice} `sandpod attach -c {name} {pod}`")
    };
    let unconnected = plan
        .containers
        .iter()
        .filter(|container| container.process.stdin && !(interactive && container.name == plan.main));
    unconnected.map(|container| line(&container.name)).collect()
}

/// A pod whose containers run.
struct Ready {
    /// Of the main container's terminal, where it has one.
    master: Option<OwnedFd>,
    /// Signals that are for the pod, and came while it started.
    early: Vec<Sent>,
    /// Of containers whose command cannot be executed.
    not_started: Vec<Report>,
}

/// Waits until the pod is ready. An interrupted start leaves nothing.
fn ready(store: &Store, id: &str, channel: &Channel, signals: &ForegroundSignals) -> Result<Ready, Failure> {
    let mut early = Vec::new();
    loop {
        let woken = poll::any(&[(channel.as_fd(), Want::Read), (signals.as_fd(), Want::Read)], None)?;
        match if woken[1] { signals.next() } else { None } {
            Some(Sent::End { signal, .. }) => {
                let mut reports = its_pod(store, id).map_or_else(|report| vec![report], |pod| rm::remove(&pod));
                let code = u8::try_from(128 + signal).unwrap_or(exit_code::FAILURE);
                reports.insert(0, Report::new(code, "interrupted while the pod was starting; it is removed"));
                return Err(Failure::Reports(reports));
            }
            Some(other) => early.push(other),
            None => {}
        }
        if woken[0] {
            let (master, not_started) = started(channel)?;
            return Ok(Ready { master, early, not_started });
        }
    }
}

/// The main container's terminal, and the containers of the running pod whose command cannot be executed.
fn started(channel: &Channel) -> Result<(Option<OwnedFd>, Vec<Report>), Report> {
    let died = |why: String| {
        Report::new(exit_code::FAILURE, "the pod's supervisor died while the pod was starting")
            .because(why)
            .hint("`sandpod ps -a` shows what is left of it, `sandpod rm` removes that")
    };
    let Some(message) = channel.receive_within(Duration::from_secs(10)).map_err(|error| died(error.to_string()))?
    else {
        return Err(died("it closed its socket without an answer".to_owned()));
    };
    match serde_json::from_slice(&message.bytes).map_err(|error| died(error.to_string()))? {
        StartReply::Ready => Ok((message.fds.into_iter().next(), Vec::new())),
        StartReply::ReadyBut(reports) => Ok((message.fds.into_iter().next(), reports)),
        StartReply::Failed(report) => Err(report),
    }
}

/// The status that a shell gives a writer whose reader has gone: 128 + SIGPIPE.
const READER_GONE: u8 = 141;

fn finish(pod: &StoredPod, ending: Result<Ending, Failure>, remove: bool, supervisor: &Channel) -> Outcome {
    let code = match ending {
        Ok(Ending::Detached) => {
            let name = &pod.name;
            print::notice("detached", &format!("`sandpod attach {name}` comes back to it"));
            if remove {
                print::notice("--rm", "the pod is removed when it has ended");
            }
            return Ok(0);
        }
        Ok(Ending::Exited(code)) => {
            // Its record is final. `--quiet`, too: the exit code alone does not say it.
            let ended = pod.reload();
            let found = ended.record().map(|record| verdicts::of(record, ended.plan.as_ref()));
            found.unwrap_or_default().iter().for_each(|(reason, line)| print::notice(reason, line));
            Ok(code)
        }
        Ok(Ending::ReaderGone) => Ok(READER_GONE),
        Err(failure) => Err(failure),
    };
    if !remove {
        return code;
    }
    // From here on it is ours to remove. Where it has gone already, so be it.
    let _ = serde_json::to_vec(&FromCaller::Removes).map(|bytes| supervisor.try_send(&bytes, &[]));
    // Its supervisor may not have left yet.
    let _ = crate::state::wait_released(&pod.dirs, Duration::from_secs(5));
    let failed = rm::remove(&pod.reload());
    match (code, failed.is_empty()) {
        (code, true) => code,
        (Err(Failure::Reports(mut first)), false) => {
            first.extend(failed);
            Err(Failure::Reports(first))
        }
        (_, false) => Err(Failure::Reports(failed)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_made_up_and_is_taken_is_made_up_again() {
        let taken = || NotMade::NameTaken(Report::new(exit_code::FAILURE, "taken"));
        let mut attempts = 0;
        let mut third_is_free = || {
            attempts += 1;
            if attempts < 3 { Err(taken()) } else { Ok(attempts) }
        };
        assert_eq!(first_free(MOST_NAMES, &mut third_is_free), Ok(3));
        // One that was given is not replaced; nor does this go on for ever, or after another failure.
        let mut attempts = 0;
        let mut count = |failure: NotMade| {
            attempts += 1;
            Err::<(), _>(failure)
        };
        assert!(first_free(1, || count(taken())).is_err());
        assert!(first_free(MOST_NAMES, || count(taken())).is_err());
        let other = || NotMade::Other(Report::new(exit_code::FAILURE, "no disk"));
        assert!(first_free(MOST_NAMES, || count(other())).is_err());
        assert_eq!(attempts, 1 + MOST_NAMES + 1);
    }
}
