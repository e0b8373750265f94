//! The sandbox: pause and the namespaces it holds. `plan/sandbox.rs` decides, this does.
//!
//! Two mount namespaces are made. The **workshop** is a copy of the host's tree with the pod's tmpfs in it; launchers
//! build root file systems there. Only the supervisor holds it, by descriptor, and it ends with the supervisor. **pause's
//! own** is an empty read-only tmpfs: whoever reaches `/proc/1/root` in a shared pid namespace, with whatever capability,
//! finds nothing (docs/decisions/0003-workshop.md).

use std::convert::Infallible;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::cgroup::{self, Leaf};
use super::failure::{During, Failure, Result};
use super::idmap::MapsInProgress;
use super::join;
use super::layers;
use super::message::{Heard, KillOnDrop, Listener, Message, START_DEADLINE, Speaker, died};
use super::mount_points;
use super::programs::{Programs, pause_argv};
use super::sysctls;
use super::unmapped;
use crate::plan::idmap::IdMapPlan;
use crate::plan::network::{NetworkPlan, Prohibition};
use crate::plan::{EnterFile, LayerPlace, NamespaceMode, SandboxNamespaces, SandboxPlan, syscall_filter};
use crate::step::Step;
use crate::sys::mount::{Attributes, DetachedMount};
use crate::sys::own_dir::OwnDir;
use crate::sys::privileges::Identity;
use crate::sys::process::PidFd;
use crate::sys::socket::Channel;
use crate::sys::{Errno, Error, Namespaces, clone, memfd, mount, net, path, poll, privileges, seccomp, stdio};

/// A running pause.
#[derive(Debug)]
pub struct Sandbox {
    pub pid: i32,
    pub process: PidFd,
    /// The mount namespace in which launchers work. Its mounts take the kernel a good part of a millisecond to take down:
    /// it goes with the supervisor, when nobody waits any more.
    pub workshop: OwnedFd,
    /// What it says until it is the pause program.
    starting: Option<Listener>,
}

impl Sandbox {
    /// Waits until pause is a program of its own. Its last steps and a launcher's first run beside each other.
    pub fn finish_start(&mut self) -> Result<()> {
        let Some(listener) = self.starting.take() else { return Ok(()) };
        while !matches!(listener.hear(Step::StartPause, "pause")?, Heard::End) {}
        if self.process.wait_gone(Duration::ZERO).during(Step::StartPause, "")? {
            return Err(died(Step::StartPause, ""));
        }
        Ok(())
    }

    /// For a launcher. The supervisor hears what pause says; here it matters only that it has said it.
    pub fn wait_for_pause(&self) -> Result<()> {
        let Some(listener) = &self.starting else { return Ok(()) };
        let over = poll::readable(listener.as_fd(), listener.time_left()).during(Step::StartPause, "")?;
        if over { Ok(()) } else { Err(died(Step::StartPause, "")) }
    }

    /// SIGKILL to pause, and with it to everything in its pid namespace.
    pub fn kill(&self) {
        // Gone already: just as well.
        let _ = self.process.signal(9);
    }
}

/// The directory of the pod's tmpfs on which containers put their root before they enter it.
pub const ROOT_MOUNT_POINT: &str = "root";

/// Starts pause, until launchers can work; [`Sandbox::finish_start`] is the rest. On failure nothing is left. The id maps take longest, in processes that are not ours: `meanwhile` runs
/// beside them, and has made the pod's directories when it returns.
pub fn start<T>(
    plan: &SandboxPlan,
    programs: &mut Programs,
    leaf: Option<&Leaf>,
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<(Sandbox, T)> {
    let step = Step::CreateNamespaces;
    // The child's copy of the mount tree keeps this as its current directory: the mount point of the pod's tmpfs.
    let runtime = OwnDir::of_pod(&plan.dirs.runtime).during(step, "")?;
    path::enter_directory(runtime.as_fd()).during(step, "")?;
    drop(runtime);
    let (ours, theirs) = Channel::pair().during(step, "")?;
    let cgroup = leaf.map(cgroup::destination);
    let forked = match &plan.network {
        NetworkPlan::Joined(joined) => join::fork(joined, new_namespaces(plan), cgroup)?,
        NetworkPlan::Host | NetworkPlan::Loopback | NetworkPlan::UserMode(_) => {
            clone::fork_into_cgroup(new_namespaces(plan), clone::Parent::Caller, cgroup).during(step, "")?
        }
    };
    match forked {
        clone::Fork::Child => {
            drop(ours);
            let speaker = Speaker::new(theirs);
            let Err(failure) = become_pause(plan, programs, &speaker);
            speaker.say_failed(failure);
            clone::exit_now(125);
        }
        clone::Fork::Parent { pid, pidfd } => {
            drop(theirs);
            let child = KillOnDrop::new(pidfd);
            let maps = match &plan.network {
                // The user namespace has its maps since it was made.
                NetworkPlan::Joined(_) => None,
                NetworkPlan::Host | NetworkPlan::Loopback | NetworkPlan::UserMode(_) => {
                    Some(MapsInProgress::begin(pid, &plan.idmap)?)
                }
            };
            let made = meanwhile()?;
            maps.map_or(Ok(()), MapsInProgress::finish)?;
            let (workshop, enter, listener) = bring_up(plan, ours)?;
            enter.into_iter().for_each(|file| programs.replace_enter(file));
            let Some(process) = child.disarm() else { return Err(died(Step::StartPause, "")) };
            Ok((Sandbox { pid, process, workshop, starting: Some(listener) }, made))
        }
    }
}

/// The parent's side once the maps are there: sends the child on its way, then listens until it has made the workshop.
/// The workshop, and `enter` where the child has made a file of it.
fn bring_up(plan: &SandboxPlan, channel: Channel) -> Result<(OwnedFd, Option<OwnedFd>, Listener)> {
    let step = Step::WriteIdMaps;
    // By descriptor: an id of an isolated map could not walk the path.
    let open = || OwnDir::of_pod(&plan.dirs.data)?.open_path(OsStr::new("volumes"));
    let volumes = (!plan.disk_volumes.is_empty()).then(open);
    let volumes = volumes.transpose().during(step, "")?;
    let fds: Vec<_> = volumes.iter().map(AsFd::as_fd).collect();
    match channel.send(b"maps", &fds) {
        // It has given up already; why is the next thing to hear.
        Err(Error { errno: Errno::EPIPE, .. }) => {}
        sent => sent.during(step, "")?,
    }
    let listener = Listener::new(channel, START_DEADLINE)?;
    loop {
        match listener.hear(Step::SetUpSandbox, "pause")? {
            Heard::Workshop { workshop, enter } => return Ok((workshop, enter, listener)),
            Heard::End => return Err(died(Step::SetUpSandbox, "pause")),
            Heard::Born { .. } | Heard::Stdio { .. } => {}
        }
    }
}

fn new_namespaces(plan: &SandboxPlan) -> Namespaces {
    let SandboxNamespaces { pid, net, ipc, uts, cgroup: _ } = plan.namespaces;
    let mut flags = Namespaces::CLONE_NEWUSER | Namespaces::CLONE_NEWNS;
    for (mode, flag) in [
        (pid, Namespaces::CLONE_NEWPID),
        (net, Namespaces::CLONE_NEWNET),
        (ipc, Namespaces::CLONE_NEWIPC),
        (uts, Namespaces::CLONE_NEWUTS),
    ] {
        if mode == NamespaceMode::Pod {
            flags |= flag;
        }
    }
    match &plan.network {
        NetworkPlan::Joined(_) => flags.difference(join::NAMESPACES),
        NetworkPlan::Host | NetworkPlan::Loopback | NetworkPlan::UserMode(_) => flags,
    }
}

/// Who: the first process in the pod's namespaces. Why: sets up what the pod shares, with the rights of its root id.
/// Ends: as pause, or at the supervisor's death.
fn become_pause(plan: &SandboxPlan, programs: &Programs, speaker: &Speaker) -> Result<Infallible> {
    // What needs capabilities but no id, while newuidmap runs.
    let step = Step::SetUpSandbox;
    // Not by clone3: the root of the new namespace is the cgroup of whoever makes it (cgroup_namespaces(7)). With a leaf for
    // each container it is pause's alone.
    if plan.namespaces.cgroup != NamespaceMode::Node {
        clone::unshare(Namespaces::CLONE_NEWCGROUP).during(step, "cgroup namespace")?;
    }
    if plan.namespaces.uts == NamespaceMode::Pod {
        net::set_hostname(&plan.hostname).during(step, "hostname")?;
    }
    if plan.namespaces.net == NamespaceMode::Pod && !matches!(plan.network, NetworkPlan::Joined(_)) {
        net::bring_loopback_up().during(step, "loopback")?;
    }
    if let NetworkPlan::UserMode(user_mode) = &plan.network {
        // The interface goes with its program, which may have to be started again. What the pod says to itself by its own
        // address, and what comes through published ports, goes on.
        for address in plan.network.addresses() {
            net::add_to_loopback(address).during(step, "loopback")?;
        }
        for (destination, prefix_length) in &user_mode.prohibited {
            net::prohibit(*destination, *prefix_length).during(step, "host's loopback")?;
            if let (Prohibition::RuleAndPolicy, IpAddr::V4(destination)) = (user_mode.prohibition, destination) {
                net::refuse(*destination, *prefix_length).during(step, "host's loopback")?;
            }
        }
    }
    let volumes = speaker.wait_for_maps()?;
    // With your ids: an isolated map's root is a stranger to your directories.
    let here = path::open_host_path(Path::new(".")).during(Step::SetUpSandbox, "")?;
    let enter = match plan.enter {
        EnterFile::Memory => None,
        EnterFile::Unmapped => Some(unmapped::program(&programs.bytes_of_enter()?)?),
    };
    // Not before: the maps of a process that is not dumpable belong to root, and we or newuidmap must open them.
    privileges::hide_from_ptrace().during(Step::BecomeRoot, "")?;
    privileges::become_identity(&root_of(&plan.idmap)).during(Step::BecomeRoot, "")?;
    // After the change of ids, which clears it. Our parent is outside our pid namespace: its absence shows on the socket.
    clone::die_with_parent(None).during(Step::BecomeRoot, "")?;
    if !speaker.has_listener() {
        clone::exit_now(125);
    }

    sysctls::write(&plan.sysctls)?;
    stdio::set_umask(0);
    for (name, volumes) in plan.disk_volumes.iter().zip(volumes.iter().cycle()) {
        // Made in here so that it belongs to the pod's root id; 0777 as the kubelet makes an emptyDir.
        path::make_directory(volumes.as_fd(), Path::new(name), 0o777).during(step, format_args!("volume `{name}`"))?;
    }
    mount_pod_tmpfs(plan, &here)?;
    drop(here);
    let workshop = clone::own_namespace("mnt").during(step, "")?;
    let fds: Vec<_> = [&workshop].into_iter().chain(&enter).map(AsFd::as_fd).collect();
    speaker.say(step, &Message::Workshop, &fds)?;
    drop((workshop, enter));

    let step = Step::StartPause;
    clone::unshare(Namespaces::CLONE_NEWNS).during(step, "")?;
    enter_empty_root().during(step, "")?;
    stdio::close_from_on_exec(3).during(step, "")?;
    // A container that shares its pid namespace and was given SYS_PTRACE can make pause's calls: it gets the filter that every
    // container has, and does not keep your session keyring. The filter comes last; pause itself sets no_new_privs.
    privileges::leave_session_keyring().during(step, "")?;
    seccomp::install(&syscall_filter::program()).during(step, "")?;
    let error = memfd::execute(programs.pause(), &[pause_argv()], &[]);
    Err(Failure::new(step, "", &error))
}

/// Mounts the pod's tmpfs on the current directory, enters it, and puts into it what the pod shares.
fn mount_pod_tmpfs(plan: &SandboxPlan, here: &OwnedFd) -> Result<()> {
    let step = Step::SetUpSandbox;
    let limits = Attributes::NO_SUID | Attributes::NO_DEV;
    // Files of ours only: the few of /etc, and mount points.
    let options = [("mode", Some("0755")), ("size", Some("1m"))];
    let tmpfs =
        DetachedMount::create("tmpfs", &options, limits | Attributes::NO_EXEC).during(step, "the pod's tmpfs")?;
    tmpfs.attach(here.as_fd(), &plan.dirs.runtime).during(step, "the pod's tmpfs")?;
    path::enter_directory(tmpfs.as_fd()).during(step, "")?;
    for directory in [ROOT_MOUNT_POINT, "etc", "volumes", mount_points::DIRECTORY] {
        path::make_directory(tmpfs.as_fd(), Path::new(directory), 0o755).during(step, directory)?;
    }
    for file in &plan.etc_files {
        let name = Path::new("etc").join(&file.name);
        path::write_file(tmpfs.as_fd(), &name, file.text.as_bytes()).during(step, name.display())?;
        let fd = path::open_host_path(&name).during(step, name.display())?;
        path::change_mode(fd.as_fd(), 0o644).during(step, name.display())?;
    }
    if let LayerPlace::Memory { size } = plan.layers {
        let size = size.to_string();
        path::make_directory(tmpfs.as_fd(), Path::new(layers::DIRECTORY), 0o755).during(step, layers::DIRECTORY)?;
        let target = path::open_host_path(Path::new(layers::DIRECTORY)).during(step, layers::DIRECTORY)?;
        let options = [("mode", Some("0755")), ("size", Some(size.as_str()))];
        let mounted = DetachedMount::create("tmpfs", &options, Attributes::NO_DEV)
            .during(step, "the tmpfs of writable layers")?;
        mounted.attach(target.as_fd(), Path::new(layers::DIRECTORY)).during(step, layers::DIRECTORY)?;
    }
    for volume in &plan.memory_volumes {
        let on = volume.path.display();
        let size = volume.size.map(|bytes| bytes.to_string());
        // /dev/shm, as container runtimes mount it. An emptyDir in its place is a volume like others.
        let (mode, more) =
            if volume.path == Path::new("shm") { ("1777", Attributes::NO_EXEC) } else { ("0777", Attributes::NONE) };
        let mut options = vec![("mode", Some(mode))];
        options.extend(size.as_deref().map(|size| ("size", Some(size))));
        path::make_directory(tmpfs.as_fd(), &volume.path, 0o755).during(step, &on)?;
        let target = path::open_host_path(&volume.path).during(step, &on)?;
        let mounted = DetachedMount::create("tmpfs", &options, limits | more).during(step, &on)?;
        mounted.attach(target.as_fd(), &volume.path).during(step, &on)?;
    }
    Ok(())
}

/// A root with nothing in it, which nobody can write to.
fn enter_empty_root() -> crate::sys::Result<()> {
    let attributes = Attributes::READ_ONLY | Attributes::NO_SUID | Attributes::NO_DEV | Attributes::NO_EXEC;
    let empty = DetachedMount::create("tmpfs", &[("mode", Some("0555")), ("size", Some("4k"))], attributes)?;
    let null = stdio::open_device("/dev/null")?;
    stdio::set_stdio(null.as_fd(), null.as_fd(), null.as_fd())?;
    let target = path::open_host_path(Path::new(ROOT_MOUNT_POINT))?;
    empty.attach(target.as_fd(), Path::new(ROOT_MOUNT_POINT))?;
    path::enter_directory(empty.as_fd())?;
    mount::pivot_to_current_directory()
}

/// The pod's root id. With a map written by ourselves, setgroups(2) is denied (user_namespaces(7)).
#[must_use]
pub fn root_of(map: &IdMapPlan) -> Identity {
    Identity { uid: 0, gid: 0, groups: map.writer.allows_setgroups().then(Vec::new) }
}
