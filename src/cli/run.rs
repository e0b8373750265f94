//! `sandpod run`: the straight line, one call for each layer.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use jiff::Timestamp;

use super::arguments::RunArguments;
use super::follow::{self, Ending};
use super::source::{self, Planned, Purpose};
use super::{Failure, Outcome, ports, print, relay, rm, verdicts};
use crate::engine::cgroup;
use crate::plan::cgroup::CgroupPlan;
use crate::plan::{Degradation, degradation};
use crate::report::{Report, exit_code};
use crate::state::{Store, StoredPod};
use crate::supervisor::protocol::StartReply;
use crate::supervisor::{self, AtEnd, FirstAttach, Handover};
use crate::sys::poll::{self, Want};
use crate::sys::socket::Channel;
use crate::sys::terminal::{ForegroundSignals, Sent};

/// read → parse → probe → plan → create → start the supervisor → follow.
pub(crate) fn run(asked: &RunArguments) -> Outcome {
    let single = &asked.source.single;
    super::check_terminal(single.interactive, single.tty)?;
    let Planned { facts, mut plan, admitted, replaced } = source::planned(&asked.source, Purpose::Run)?;
    let store = source::store(&facts);
    if !plan.sandbox.ports.is_empty() {
        store.refuse_taken(&plan)?;
    }
    let sockets = ports::bind(&mut plan.sandbox, &store)?;
    let created = store.create(&plan, Timestamp::now())?;
    // Before the supervisor is forked, which would hold the lock on.
    drop(admitted);
    // Not before it is sure that there is a pod: a name or port that is taken has nothing to do with what it would lack.
    if !asked.quiet {
        facts.warnings.iter().for_each(|warning| print::notice("warning", warning));
        replaced.iter().for_each(|line| print::notice("replaced", line));
        ports::in_the_way(&plan, &facts, &store).iter().for_each(|line| print::notice("warning", line));
    }
    let told = |lost: &&Degradation| !asked.quiet || degradation::is_of_security(&lost.name);
    plan.degradations.iter().filter(told).for_each(|lost| print::notice("degraded", &at_start(lost)));
    let at_end = match (asked.rm, asked.detach) {
        (true, true) => AtEnd::Remove,
        (true, false) => AtEnd::KeepForCaller,
        (false, _) => AtEnd::Keep,
    };
    let (ours, theirs) = first_attach(single.interactive || single.tty)?;
    // Before the fork, and so blocked in the supervisor until it takes them itself: a Ctrl-C that comes now must end the
    // pod's start in order, and not whichever of the two processes it meets.
    let signals = ForegroundSignals::block()?;
    let handover = Handover { at_end, attach: theirs, sockets };
    let channel = supervisor::spawn(created, &plan, handover)
        .map_err(|failure| failure.into_report(format!("could not start pod `{}`", plan.sandbox.name)))?;
    let master = ready(&store, &plan.sandbox.id, &channel, &signals).inspect_err(|_| {
        // The supervisor of a start that failed cannot remove the cgroup that it is in.
        if let CgroupPlan::Tree(tree) = &plan.sandbox.cgroup
            && let Some(made) = tree.directory()
        {
            let _ = cgroup::remove(&made, &plan.sandbox.idmap);
        }
    })?;
    drop(channel);
    tell_of_the_network(&store, &plan.sandbox.id);
    if asked.detach {
        print::text(&format!("{}\n", plan.sandbox.id))?;
        return Ok(0);
    }
    let pod = store.find(&plan.sandbox.id)?;
    let ending = match ours {
        Some(ours) => interact(&pod, &ours, master, single.interactive, &signals),
        None => follow::follow(&pod, &signals),
    };
    finish(&pod, ending, asked.rm)
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
    let Ok(pod) = store.find(id) else { return };
    let network = pod.record().and_then(|record| record.network.as_ref());
    if let Some(network) = network.filter(|network| !network.sandboxed) {
        let lost = degradation::network_unsandboxed(network.unsandboxed.as_deref().unwrap_or("it did not say why"));
        print::notice("degraded", &format!("{}: {}", lost.name, lost.meaning));
    }
}

/// The client's ends of the main container's stdio, and the container's, when somebody is to talk to it.
fn first_attach(wanted: bool) -> Result<(Option<relay::Ends>, Option<FirstAttach>), Failure> {
    if !wanted {
        return Ok((None, None));
    }
    let (stdio, stdio_theirs) = UnixStream::pair()?;
    let (stderr, stderr_theirs) = UnixStream::pair()?;
    Ok((
        Some(relay::Ends { stdio, stderr }),
        Some(FirstAttach { stdio: stdio_theirs, stderr: stderr_theirs, window: relay::window_size() }),
    ))
}

/// Waits until the pod is ready; gives the terminal's master where the main container has one. Whoever interrupts a
/// start wants nothing left of it.
fn ready(store: &Store, id: &str, channel: &Channel, signals: &ForegroundSignals) -> Result<Option<OwnedFd>, Failure> {
    use std::os::fd::AsFd;
    loop {
        let woken = poll::any(&[(channel.as_fd(), Want::Read), (signals.as_fd(), Want::Read)], None)?;
        if woken[1]
            && let Some(Sent::End(signal)) = signals.next()
        {
            let mut reports = store.find(id).map_or_else(|report| vec![report], |pod| rm::remove(&pod));
            let code = u8::try_from(128 + signal).unwrap_or(exit_code::FAILURE);
            reports.insert(0, Report::new(code, "interrupted while the pod was starting; it is removed"));
            return Err(Failure::Reports(reports));
        }
        if woken[0] {
            return started(channel).map_err(Failure::from);
        }
    }
}

fn started(channel: &Channel) -> Result<Option<OwnedFd>, Report> {
    let died = |why: String| {
        Report::new(exit_code::FAILURE, "the pod's supervisor died while the pod was starting")
            .because(why)
            .hint("`sandpod ps -a` shows what is left of it, `sandpod rm` removes that")
    };
    let Some(message) = channel.receive_within(Duration::from_secs(10)).map_err(|error| died(error.to_string()))?
    else {
        return Err(died("it closed its socket without a word".to_owned()));
    };
    match serde_json::from_slice(&message.bytes).map_err(|error| died(error.to_string()))? {
        StartReply::Ready => Ok(message.fds.into_iter().next()),
        StartReply::Failed(report) => Err(report),
    }
}

/// The caller's terminal (or pipes) is the container's, until it ends.
fn interact(
    pod: &StoredPod,
    ours: &relay::Ends,
    master: Option<OwnedFd>,
    interactive: bool,
    signals: &ForegroundSignals,
) -> Result<Ending, Failure> {
    let options = relay::Options { input: interactive, detach_keys: interactive && master.is_some() };
    let mut stopper = follow::Stopper::new(pod);
    match relay::attached(ours, master, options, signals, |_| stopper.interrupt())? {
        relay::End::Closed => follow::outcome(pod),
        relay::End::Detached => Ok(Ending::Detached),
    }
}

fn finish(pod: &StoredPod, ending: Result<Ending, Failure>, remove: bool) -> Outcome {
    let code = match ending {
        Ok(Ending::Detached) => {
            let name = &pod.name;
            print::notice("detached", &format!("`sandpod attach {name}` comes back to it"));
            if remove {
                print::notice("kept", &format!("nobody waits to remove it now: `sandpod rm {name}` after its end"));
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
        Err(failure) => Err(failure),
    };
    if !remove {
        return code;
    }
    // Its supervisor has said its last word, but may not have left yet.
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
