//! From a created pod to a running pause: what the loop needs before it can turn.

use std::os::fd::AsFd;
use std::time::Duration;

use super::container::Container;
use super::network::{Connection, JoinedNetwork};
use super::output::Output;
use super::watch::{Source, Watch};
use crate::engine::cgroup::Cgroups;
use crate::engine::programs::Programs;
use crate::engine::sandbox::{self, Sandbox};
use crate::engine::{During, Failure, Result, volumes};
use crate::plan::PodPlan;
use crate::state::{self, Record};
use crate::step::Step;
use crate::sys::event::{Interest, Signals, Timer};
use crate::sys::process::ProcessId;
use crate::sys::socket::{self, Listener};

/// What exists before the loop runs.
pub(super) struct Prepared<'a> {
    pub(super) record: Record,
    pub(super) containers: Vec<Container>,
    pub(super) sandbox: Sandbox,
    pub(super) programs: Programs,
    pub(super) pinned: volumes::Pinned,
    pub(super) signals: Signals,
    pub(super) timer: Timer,
    pub(super) control: Listener,
    pub(super) watch: Watch,
    pub(super) cgroups: Option<Cgroups>,
    pub(super) connection: Option<Connection<'a>>,
    pub(super) joined: Option<JoinedNetwork<'a>>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(plan: &'a PodPlan, mut record: Record, cgroups: Option<Cgroups>) -> Result<Prepared<'a>> {
        let step = Step::StartSupervisor;
        let dirs = &plan.sandbox.dirs;
        let signals = Signals::block().during(step, "")?;
        record.supervisor = ProcessId::of_self();
        let cgroups = match cgroups {
            Some(made) => Some(made),
            None => Cgroups::enter_scope(&plan.sandbox)?,
        };
        record.cgroup = cgroups.as_ref().map(|cgroups| cgroups.path().to_owned());
        let programs = Programs::prepare()?;
        let leaf = cgroups.as_ref().map(|cgroups| &cgroups.pause);
        let (sandbox, (pinned, control, timer, mut watch, containers)) =
            sandbox::start(&plan.sandbox, &programs, leaf, || {
                write(plan, &record)?;
                let pinned = volumes::prepare(plan)?;
                let control =
                    socket::Listener::bind(&dirs.runtime.join("control.sock")).during(step, "control socket")?;
                let timer = Timer::new().during(step, "")?;
                let mut watch = Watch::new().during(step, "")?;
                for (fd, source) in [
                    (signals.as_fd(), Source::Signals),
                    (timer.as_fd(), Source::Timer),
                    (control.as_fd(), Source::Control),
                ] {
                    watch.add(fd, source, Interest::Readable);
                }
                let mut containers = Vec::with_capacity(plan.containers.len());
                for container in &plan.containers {
                    let output = Output::open(&container.log).during(Step::PrepareVolumes, &container.name)?;
                    containers.push(Container {
                        starting: None,
                        running: None,
                        output,
                        ended: None,
                        leaf: None,
                        starts: 0,
                    });
                }
                Ok((pinned, control, timer, watch, containers))
            })?;
        record.pause = ProcessId::of(sandbox.pid);
        write(plan, &record)?;
        let connection = Connection::new(&plan.sandbox.network, Duration::ZERO)?;
        let joined = JoinedNetwork::new(&plan.sandbox.network, &mut watch)?;
        Ok(Prepared {
            record,
            containers,
            sandbox,
            programs,
            pinned,
            signals,
            timer,
            control,
            watch,
            cgroups,
            connection,
            joined,
        })
    }
}

pub(super) fn write(plan: &PodPlan, record: &Record) -> Result<()> {
    state::commit(&plan.sandbox.dirs, record)
        .map_err(|error| Failure::because(Step::StartSupervisor, "record.json", error.to_string()))
}
