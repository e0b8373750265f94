//! From a created pod to a pause that containers can be sent to: what the loop needs before it can turn.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::attached::{Joining, Stays};
use super::clients::Clients;
use super::commands::Commands;
use super::container::Container;
use super::event_loop::Supervisor;
use super::lifecycle;
use super::network::{Connection, JoinedNetwork};
use super::output::Output;
use super::ports::Publishing;
use super::protocol::CONTROL_SOCKET;
use super::storage::Storage;
use super::watch::{Source, Watch};
use super::{FirstAttach, Handover};
use crate::engine::cgroup::Cgroups;
use crate::engine::programs::Programs;
use crate::engine::{During, Failure, Result, sandbox, volumes};
use crate::plan::PodPlan;
use crate::state::{self, Record};
use crate::step::Step;
use crate::sys::event::{Interest, Signals, Timer};
use crate::sys::own_dir::OwnDir;
use crate::sys::process::{self, ProcessId};
use crate::sys::socket::Listener;
use crate::sys::terminal::WindowSize;

const STEP: Step = Step::StartSupervisor;
/// The number of the client that runs the pod in the foreground; those of other clients begin with 1.
const CALLER: u64 = 0;

impl<'a> Supervisor<'a> {
    pub(super) fn prepare(
        plan: &'a PodPlan,
        mut record: Record,
        cgroups: Option<Cgroups>,
        handover: Handover,
    ) -> Result<Supervisor<'a>> {
        let signals = Signals::block().during(STEP, "")?;
        let descriptors = process::raise_descriptor_limit().during(STEP, "")?;
        record.supervisor = ProcessId::of_self();
        let cgroups = match cgroups {
            Some(made) => Some(made),
            None => Cgroups::enter_scope(&plan.sandbox)?,
        };
        record.cgroup = cgroups.as_ref().map(|cgroups| cgroups.path().to_owned());
        let mut programs = Programs::prepare()?;
        let leaf = cgroups.as_ref().map(|cgroups| &cgroups.pause);
        let (sandbox, beside) =
            sandbox::start(&plan.sandbox, &mut programs, leaf, || BesideTheIdMap::prepare(plan, &record))?;
        cgroups.as_ref().map_or(Ok(()), |cgroups| cgroups.limit_pause(&plan.sandbox))?;
        record.pause = ProcessId::of(sandbox.pid);
        commit(plan, &record)?;
        let BesideTheIdMap { pinned, control, mut containers } = beside;
        let timer = Timer::new().during(STEP, "")?;
        let mut watch = Watch::new().during(STEP, "")?;
        watch.add(signals.as_fd(), Source::Signals, Interest::Readable);
        watch.add(timer.as_fd(), Source::Timer, Interest::Readable);
        watch.add(control.as_fd(), Source::Control, Interest::Readable);
        let joined = JoinedNetwork::new(&plan.sandbox.network, &mut watch)?;
        let Handover { at_end, attach, window, sockets } = handover;
        let main = plan.containers.iter().position(|container| container.name == plan.main);
        if let Some(container) = main.and_then(|index| containers.get_mut(index)) {
            container.window = window.unwrap_or_default();
        }
        let mut supervisor = Supervisor {
            plan,
            sandbox,
            programs,
            pinned,
            pod: lifecycle::Pod::new(plan),
            containers,
            clients: Clients::new(descriptors),
            commands: Commands::default(),
            signals,
            timer,
            control: Some(control),
            watch,
            cgroups,
            connection: Connection::new(&plan.sandbox.network, Duration::ZERO)?,
            joined,
            publishing: Publishing::new(sockets, Duration::ZERO),
            changed: None,
            plan_lock: None,
            storage: Storage::default(),
            pausing: Vec::new(),
            record,
            origin: Instant::now(),
            at_end,
            starter: None,
            caller: None,
            first_master: None,
            start_failure: None,
            finished: false,
        };
        for (index, FirstAttach { stdio, stderr, input }) in attach.into_iter().enumerate() {
            let joining = Joining { streams: [stdio.into(), stderr.into()], input, stays: Stays::ForThePod };
            if supervisor.attach(index, CALLER, joining).is_none() {
                return Err(Failure::because(STEP, "", "the caller could not be attached".to_owned()));
            }
        }
        Ok(supervisor)
    }
}

/// What is made while other processes write pause's id maps, which takes longer.
struct BesideTheIdMap {
    pinned: volumes::Pinned,
    control: Listener,
    containers: Vec<Container>,
}

impl BesideTheIdMap {
    fn prepare(plan: &PodPlan, record: &Record) -> Result<BesideTheIdMap> {
        commit(plan, record)?;
        let pinned = volumes::prepare(plan)?;
        let runtime = OwnDir::of_pod(&plan.sandbox.dirs.runtime);
        let control = runtime.and_then(|runtime| Listener::bind(&runtime, CONTROL_SOCKET.as_ref()));
        let control = control.during(STEP, "control socket")?;
        let data = Arc::new(OwnDir::of_pod(&plan.sandbox.dirs.data).during(Step::PrepareVolumes, "")?);
        let opened = plan.containers.iter().map(|container| {
            let output =
                Output::open(Arc::clone(&data), &container.log).during(Step::PrepareVolumes, &container.name)?;
            Ok(Container {
                starting: None,
                running: None,
                output,
                ended: None,
                leaf: None,
                starts: 0,
                has_run: false,
                start_failure: None,
                messages: [None, None],
                window: WindowSize::default(),
            })
        });
        Ok(BesideTheIdMap { pinned, control, containers: opened.collect::<Result<_>>()? })
    }
}

fn commit(plan: &PodPlan, record: &Record) -> Result<()> {
    let failed = |error: state::Error| match error.errno() {
        Some(errno) => Failure { on: "record.json".to_owned(), ..Failure::of_call(STEP, error.doing, errno) },
        None => Failure::because(STEP, "record.json", error.to_string()),
    };
    state::commit(&plan.sandbox.dirs, record).map(drop).map_err(failed)
}
