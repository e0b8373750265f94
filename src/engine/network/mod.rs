//! The pod's user-mode network: a process of the host's side, started beside the containers' preparation, whose life
//! hangs on the supervisor's.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

mod minder;
mod program;
pub mod sandbox;
mod wrapper;

use super::failure::{During, Failure, Result};
use crate::plan::network::{Backend, HostLoopback, Ipv4Plan, Sandboxing, UserMode};
use crate::step::Step;
use crate::sys::process::{self, PidFd, ProcessId};
use crate::sys::{event, poll, stdio};

use program::Program;
pub use wrapper::Refusal;

const STEP: Step = Step::AttachNetwork;
/// Bytes of a program's stderr that are kept.
const MAX_STDERR: usize = 2048;

/// A running slirp4netns or pasta. Dropped, it is killed (pasta by its minder, which hears of it); its exit is reaped by the
/// supervisor's loop.
#[derive(Debug)]
pub struct Attachment {
    pub pid: i32,
    process: PidFd,
    ready: OwnedFd,
    stderr: OwnedFd,
    /// Its other end is the program's exit-fd: all copies of this one end with the supervisor.
    lifeline: Option<OwnedFd>,
    backend: Backend,
    /// slirp4netns itself, which the started process becomes.
    own: Option<ProcessId>,
    /// pasta, whose parent is the minder: a minder that is killed cannot take it along.
    minded: Option<(ProcessId, PidFd)>,
    /// The last of its stderr.
    kept: Vec<u8>,
}

impl Attachment {
    /// Sends the program on its way to the network namespace of process `pause`. `directory` is the pod's own.
    pub fn start(plan: &UserMode, pause: i32, sandboxing: Sandboxing, directory: &Path) -> Result<Attachment> {
        let (ready, ready_theirs) = stdio::pipe().during(STEP, "")?;
        let (lifeline_theirs, lifeline) = stdio::pipe().during(STEP, "")?;
        let (stderr, stderr_theirs) = stdio::pipe().during(STEP, "")?;
        stdio::set_nonblocking(stderr.as_fd()).during(STEP, "")?;
        let program = Program::hidden(plan.backend, &plan.program, directory)?;
        let ends = Ends { ready: ready_theirs, lifeline: lifeline_theirs, stderr: stderr_theirs, program };
        let mut command = match plan.backend {
            Backend::Slirp4netns => ends.slirp4netns(plan, pause, sandboxing),
            Backend::Pasta => ends.pasta(plan, pause),
        };
        let (pid, process, own) = match plan.backend {
            Backend::Slirp4netns => {
                let pid = ends.spawn(&mut command)?.id().cast_signed();
                (pid, PidFd::open(pid).during(STEP, "")?, ProcessId::of(pid))
            }
            Backend::Pasta => {
                let (pid, minder) = minder::start(&mut command, &ends)?;
                (pid, minder, None)
            }
        };
        let (lifeline, backend, kept) = (Some(lifeline), plan.backend, Vec::new());
        Ok(Attachment { pid, process, ready, stderr, lifeline, backend, own, minded: None, kept })
    }

    /// Readable when the network is there, or when there will be none.
    #[must_use]
    pub fn ready(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// What became of [`ready`](Self::ready): true when the interface can be used.
    pub fn is_up(&mut self) -> bool {
        let Ok(Some(bytes)) = stdio::read_some(self.ready.as_fd(), 64) else { return false };
        if self.backend == Backend::Pasta {
            self.minded = str::from_utf8(&bytes).ok().and_then(|line| self.child_of_minder(line.trim().parse().ok()?));
        }
        !bytes.is_empty()
    }

    /// Only what is the minder's child is what was written: the number may be somebody else's by now, or one of another pid
    /// namespace.
    fn child_of_minder(&self, pid: i32) -> Option<(ProcessId, PidFd)> {
        let program = ProcessId::of(pid)?;
        let pidfd = program.open().ok()??;
        (program.parent() == Some(self.pid)).then_some((program, pidfd))
    }

    /// Which may outlive a supervisor that is killed: slirp4netns while it stands still, pasta when its minder is killed as
    /// well. `rm` ends it.
    #[must_use]
    pub fn program(&self) -> Option<ProcessId> {
        self.own.or(self.minded.as_ref().map(|(program, _)| *program))
    }

    /// Readable when the program has said something on stderr.
    #[must_use]
    pub fn stderr(&self) -> BorrowedFd<'_> {
        self.stderr.as_fd()
    }

    /// Takes in what it said, so that it never waits for us; the last of it is kept. False at its end.
    pub fn read_stderr(&mut self) -> bool {
        // So much at a time: whoever never stops talking must not keep us from everybody else.
        for _ in 0..16 {
            match stdio::read_some(self.stderr.as_fd(), 4096) {
                Ok(Some(bytes)) if bytes.is_empty() => return false,
                Ok(Some(bytes)) => {
                    self.kept.extend(bytes);
                    let excess = self.kept.len().saturating_sub(MAX_STDERR);
                    self.kept.drain(..excess);
                }
                Ok(None) => return true,
                Err(_) => return false,
            }
        }
        true
    }

    /// The last of what it said, in lines; a program's chatter about itself left out.
    #[must_use]
    pub fn stderr_lines(&self) -> Vec<String> {
        without_chatter(&String::from_utf8_lossy(&self.kept))
    }

    /// SIGKILL, whatever it is doing.
    pub fn kill(&mut self) {
        drop(self.lifeline.take());
        match self.backend {
            // Gone already: just as well.
            Backend::Slirp4netns => drop(self.process.signal(9)),
            // This process is the minder, which has heard it and kills the program, unless it has been killed itself.
            Backend::Pasta => drop(self.minded.take().map(|(_, pidfd)| pidfd.signal(9))),
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.kill();
    }
}

fn without_chatter(text: &str) -> Vec<String> {
    // Of slirp4netns about its sandbox and its two processes; of pasta, which does not find another build of itself beside a
    // copy in memory.
    let of_no_use = ["WARNING: Support for", "sent tapfd=", "received tapfd=", "Can't run AVX2 build"];
    let told = |line: &&str| !line.is_empty() && !of_no_use.iter().any(|start| line.starts_with(start));
    text.lines().map(str::trim).filter(told).map(str::to_owned).collect()
}

/// The ends that the program gets.
struct Ends {
    ready: OwnedFd,
    lifeline: OwnedFd,
    /// stderr.
    stderr: OwnedFd,
    program: Program,
}

impl Ends {
    fn slirp4netns(&self, plan: &UserMode, pause: i32, sandboxing: Sandboxing) -> Command {
        let mut command = quiet(Command::new("/bin/sh"));
        // `sh -c TEXT NAME ARGUMENTS`
        command.args(["-c", wrapper::TEXT, "slirp4netns-wrapper.sh", "--exec"]);
        let network = plan.ipv4.network;
        command.args(["--interface", &plan.interface, "--mac", &plan.mac, "--mtu", &plan.mtu.to_string()]);
        command.args(["--cidr", &format!("{}/{}", network.address, network.prefix_length)]);
        command.args(["--ready-fd", &self.ready.as_raw_fd().to_string()]);
        command.args(["--exit-fd", &self.lifeline.as_raw_fd().to_string()]);
        if plan.ipv6.is_some() {
            command.arg("--ipv6");
        }
        if plan.host_loopback == HostLoopback::Open {
            command.arg("--allow-host-loopback");
        }
        if sandboxing == Sandboxing::Off {
            command.arg("--no-sandbox");
        }
        command.arg("--called").arg(&plan.program);
        command.arg(pause.to_string());
        command.env("SANDPOD_SLIRP4NETNS", &self.program.path);
        command
    }

    /// In the foreground; the file of its pid, which it writes when everything is set up, is our pipe.
    fn pasta(&self, plan: &UserMode, pause: i32) -> Command {
        let mut command = quiet(Command::new(&self.program.path));
        // It is the program that its name says.
        command.arg0(Backend::Pasta.word());
        let Ipv4Plan { network, gateway, dns, address } = plan.ipv4;
        command.args(["--foreground", "--quiet", "--config-net", "--ns-ifname", &plan.interface]);
        command.args(["--mac-addr", &plan.mac, "--mtu", &plan.mtu.to_string()]);
        command.args(["--address", &address.to_string(), "--netmask", &network.prefix_length.to_string()]);
        command.args(["--gateway", &gateway.to_string(), "--dns-forward", &dns.to_string()]);
        // Ports are published by sandpod alone.
        command.args(["--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none"]);
        match plan.ipv6 {
            Some(ipv6) => command.args(["--address", &ipv6.address.to_string()]),
            None => command.arg("--ipv4-only"),
        };
        if plan.host_loopback == HostLoopback::Closed {
            command.arg("--no-map-gw");
        }
        command.args(["--pid", &format!("/proc/self/fd/{}", self.ready.as_raw_fd())]);
        command.arg(pause.to_string());
        command
    }

    fn all(&self) -> Vec<BorrowedFd<'_>> {
        let ends = [self.ready.as_fd(), self.lifeline.as_fd(), self.stderr.as_fd()];
        ends.into_iter().chain(self.program.descriptor()).collect()
    }

    /// The child inherits the ends, and nobody else: this process has one thread.
    fn spawn(&self, command: &mut Command) -> Result<Child> {
        let call = format!("execve({})", command.get_program().display());
        let failed = |error: io::Error| Failure::of_call(STEP, call, error.raw_os_error().unwrap_or_default());
        for fd in self.all() {
            stdio::keep_on_exec(fd).during(STEP, "")?;
        }
        let child = self.stderr.try_clone().and_then(|stderr| process::spawn(command.stderr(Stdio::from(stderr))));
        for fd in self.all() {
            // They are closed in a moment, whether or not this works.
            let _ = stdio::close_on_exec(fd);
        }
        child.map_err(failed)
    }
}

/// With nothing of ours but what it needs: its words come in English, and what it opens does not depend on where we are.
fn quiet(mut command: Command) -> Command {
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// Holds containers back until the pod has its network: the last thing that their first processes wait for.
#[derive(Debug)]
pub struct Gate(event::Flag);

impl Gate {
    pub fn closed() -> Result<Gate> {
        event::Flag::new().during(STEP, "").map(Gate)
    }

    /// For good.
    pub fn open(&self) {
        // It cannot overflow, and nothing else can go wrong with an eventfd.
        let _ = self.0.raise();
    }

    /// In a container's first process.
    pub fn pass(&self, patience: Duration) -> Result<()> {
        if poll::readable(self.0.as_fd(), patience).during(STEP, "")? {
            return Ok(());
        }
        Err(Failure::because(STEP, "", "the network was not there in time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_about_itself_is_no_cause() {
        let said =
            "sent tapfd=5 for eth0\nreceived tapfd=5\n  cannot open /dev/net/tun \n\nWARNING: Support for seccomp\n";
        assert_eq!(without_chatter(said), ["cannot open /dev/net/tun"]);
    }
}
