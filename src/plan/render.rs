//! A plan as text, for `sandpod plan`: everything that would happen, in the order in which it would.
//!
//! JSON is the caller's (the plan's types are `Serialize`). Words of the manifest or the host that hold anything but
//! plain characters are printed quoted and escaped, so that none of them can steer a terminal.

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use super::idmap::{IdMapPlan, MapEntry};
use super::ports::{PublishedPort, protocol_name};
use super::{
    ContainerPlan, Degradation, FromImage, LayerPlace, MountKind, NamespaceMode, PodPlan, PortPlan, RootPlan,
    SandboxPlan,
};
use crate::manifest::{Image, Protocol};

mod cgroups;
mod network;
#[cfg(test)]
mod tests;

use cgroups::cgroups;
use network::network;

/// ```
/// # fn show(plan: &sandpod::plan::PodPlan) {
/// let text = sandpod::plan::render::Text(plan).to_string();
/// # }
/// ```
pub struct Text<'a>(pub &'a PodPlan);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let PodPlan { sandbox, containers, main, lifecycle, degradations } = self.0;
        pod(f, sandbox)?;
        row(f, "main", word(main))?;
        let grace = lifecycle.termination_grace_period.as_secs_f64();
        row(f, "restart", format_args!("{:?}; SIGKILL {grace} s after SIGTERM", lifecycle.restart_policy))?;
        id_map(f, &sandbox.idmap)?;
        namespaces(f, sandbox, containers)?;
        network(f, sandbox)?;
        cgroups(f, sandbox, containers)?;
        prepared(f, sandbox)?;
        for plan in containers {
            container(f, sandbox, plan)?;
        }
        degraded(f, degradations)
    }
}

/// One `name   value` line of a block; names are aligned.
fn row(f: &mut Formatter<'_>, name: &str, value: impl Display) -> fmt::Result {
    writeln!(f, "  {name:<12} {value}")
}

/// As it is when it is plain, else in Rust's quotes and escapes.
fn word(text: impl AsRef<str>) -> String {
    let text = text.as_ref();
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@,+%$()".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.to_owned() } else { format!("{text:?}") }
}

fn path(path: impl AsRef<Path>) -> String {
    word(path.as_ref().to_string_lossy())
}

fn words<T: AsRef<str>>(list: &[T]) -> String {
    if list.is_empty() { "none".to_owned() } else { list.iter().map(word).collect::<Vec<_>>().join(" ") }
}

fn paths<T: AsRef<Path>>(list: &[T]) -> String {
    words(&list.iter().map(|p| p.as_ref().to_string_lossy()).collect::<Vec<_>>())
}

/// `any free port` is what 0 means before it is bound.
fn published(port: &PublishedPort) -> String {
    let PublishedPort { host_ip, host_port, container_port, protocol, proxy_protocol, container } = port;
    let ip = host_ip.map_or_else(|| "every address".to_owned(), |ip| ip.to_string());
    let host = if *host_port == 0 { "any free port".to_owned() } else { format!("port {host_port}") };
    let header = if *proxy_protocol { ", behind a PROXY header" } else { "" };
    let protocol = protocol_name(*protocol);
    format!("{host} of {ip} to {container_port}/{protocol} ({}){header}", word(container))
}

fn pod(f: &mut Formatter<'_>, sandbox: &SandboxPlan) -> fmt::Result {
    writeln!(f, "pod {}", word(&sandbox.name))?;
    row(f, "id", word(&sandbox.id))?;
    if let Some(namespace) = &sandbox.namespace {
        row(f, "namespace", word(namespace))?;
    }
    for (name, map) in [("label", &sandbox.labels), ("annotation", &sandbox.annotations)] {
        for (key, value) in map {
            row(f, name, word(format!("{key}={value}")))?;
        }
    }
    row(f, "hostname", word(&sandbox.hostname))?;
    for port in &sandbox.ports {
        row(f, "published", published(port))?;
    }
    if !sandbox.port_targets.is_empty() {
        let targets: Vec<String> = sandbox.port_targets.iter().map(ToString::to_string).collect();
        row(f, "led to", targets.join(", then "))?;
    }
    row(f, "runtime dir", path(&sandbox.dirs.runtime))?;
    row(f, "data dir", path(&sandbox.dirs.data))
}

fn id_map(f: &mut Formatter<'_>, idmap: &IdMapPlan) -> fmt::Result {
    writeln!(f, "\nuser namespace: {}, because {}", idmap.mode.word(), idmap.why)?;
    writeln!(f, "  {:<6} {:>10} {:>12} {:>10}", "", "inside", "outside", "count")?;
    for (kind, entries) in [("uid", &idmap.uids), ("gid", &idmap.gids)] {
        for MapEntry { inside, outside, count } in entries {
            writeln!(f, "  {kind:<6} {:>10} {:>12} {count:>10}", inside.0, outside.0)?;
        }
    }
    match (idmap.writer_argv("PID"), idmap.writer.allows_setgroups()) {
        (Some(argvs), _) => argvs.iter().try_for_each(|argv| row(f, "written by", words(argv))),
        (None, true) => row(f, "written by", "sandpod itself (it has CAP_SETUID and CAP_SETGID here)"),
        (None, false) => row(f, "written by", "sandpod itself (one id; setgroups denied)"),
    }
}

/// Every column is one of the kernel's namespaces; `user` and `mnt` are decided for all pods alike.
fn namespaces(f: &mut Formatter<'_>, sandbox: &SandboxPlan, containers: &[ContainerPlan]) -> fmt::Result {
    writeln!(f, "\nnamespaces")?;
    let shared = &sandbox.namespaces;
    let width = containers.iter().map(|container| container.name.len()).max().unwrap_or(0).max("pause".len());
    let mut line = |name: &str, columns: [&str; 7]| {
        let columns: Vec<_> = columns.iter().map(|column| format!("{column:<6}")).collect();
        writeln!(f, "  {name:<width$}  {}", columns.join(" ").trim_end())
    };
    let columns = |mnt, pid| {
        let [net, ipc, uts, cgroup] = [shared.net, shared.ipc, shared.uts, shared.cgroup].map(mode);
        ["pod", mnt, pid, net, ipc, uts, cgroup]
    };
    line("", ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"])?;
    line("pause", columns("own", mode(shared.pid)))?;
    containers.iter().try_for_each(|container| line(&container.name, columns("own", mode(container.pid))))?;
    writeln!(f, "  pod: pause's, shared by all with that word; own: of that container alone; host: this host's")?;
    Ok(())
}

fn mode(mode: NamespaceMode) -> &'static str {
    match mode {
        NamespaceMode::Pod => "pod",
        NamespaceMode::Container => "own",
        NamespaceMode::Node => "host",
    }
}

/// How a limit of what is on disk is held.
const MEASURED: &str = "measured, and the pod evicted beyond it";

fn prepared(f: &mut Formatter<'_>, sandbox: &SandboxPlan) -> fmt::Result {
    writeln!(f, "\nprepared once for the pod")?;
    for host in &sandbox.host_paths {
        row(f, "hostPath", format_args!("{} = {} ({:?})", word(&host.volume), path(&host.path), host.kind))?;
    }
    for name in &sandbox.disk_volumes {
        let limit = sandbox.storage.volumes.iter().find(|limit| limit.name == *name);
        let most = limit.map_or_else(String::new, |limit| format!(", at most {} ({MEASURED})", bytes(limit.bytes)));
        row(f, "on disk", format_args!("{}{most}", path(sandbox.dirs.data.join("volumes").join(name))))?;
    }
    for limit in &sandbox.storage.containers {
        let (name, most) = (word(&limit.name), bytes(limit.bytes));
        row(f, "storage", format_args!("{name}: at most {most} of writable layer and logs ({MEASURED})"))?;
    }
    if let Some(most) = sandbox.storage.pod {
        row(f, "storage", format_args!("all of it and the emptyDirs on disk: at most {} ({MEASURED})", bytes(most)))?;
    }
    for volume in &sandbox.memory_volumes {
        let size = volume.size.map_or_else(|| "half the memory".to_owned(), bytes);
        row(f, "in memory", format_args!("{}, at most {size}", path(&volume.path)))?;
    }
    for file in &sandbox.etc_files {
        row(f, "file", format_args!("/etc/{}", word(&file.name)))?;
        for line in file.text.lines() {
            writeln!(f, "               | {}", line.replace('\t', "  ").escape_debug())?;
        }
    }
    Ok(())
}

/// Binary units, where they are exact.
fn bytes(count: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let exact = units.iter().find(|(shift, _)| count != 0 && count.trailing_zeros() >= *shift);
    exact.map_or_else(|| format!("{count} bytes"), |(shift, unit)| format!("{} {unit}", count >> shift))
}

fn container(f: &mut Formatter<'_>, sandbox: &SandboxPlan, plan: &ContainerPlan) -> fmt::Result {
    writeln!(f, "\ncontainer {}", word(&plan.name))?;
    image(f, plan)?;
    root(f, &plan.root, plan.read_only_root)?;
    layers(f, sandbox, &plan.root)?;
    mounts(f, plan)?;
    row(f, "masked", paths(&plan.masked_paths))?;
    row(f, "read-only", paths(&plan.read_only_paths))?;
    process(f, plan)?;
    for PortPlan { name, container_port, protocol } in &plan.ports {
        let protocol = match protocol {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        };
        let name = name.as_ref().map_or(String::new(), |name| format!(" {}", word(name)));
        row(f, "port", format_args!("{container_port}/{protocol}{name}"))?;
    }
    let log = &plan.log;
    row(f, "log", format_args!("{}, {} files of {}", path(&log.path), log.max_files, bytes(log.max_size)))
}

/// An image that is not here, in a plan that is only shown.
fn is_unknown(plan: &ContainerPlan) -> bool {
    matches!(plan.image, Image::Stored(_)) && plan.from_image.is_none()
}

fn image(f: &mut Formatter<'_>, plan: &ContainerPlan) -> fmt::Result {
    row(f, "image", word(plan.image.to_string()))?;
    if let Some(FromImage { manifest, platform, exposed_ports }) = &plan.from_image {
        row(f, "", format_args!("{manifest}, {}", word(platform)))?;
        if !exposed_ports.is_empty() {
            row(f, "", format_args!("says that it listens on {}", words(exposed_ports)))?;
        }
    }
    if is_unknown(plan) {
        row(f, "", "not here: its entrypoint, variables, user and layers are unknown")?;
    }
    Ok(())
}

fn root(f: &mut Formatter<'_>, root: &RootPlan, read_only: bool) -> fmt::Result {
    let access = if read_only { "read-only" } else { "writable" };
    let directories = |f: &mut Formatter<'_>, how: &str, directories: &[PathBuf]| match directories {
        [] => row(f, "root", format_args!("{how} the image's layers, {access}")),
        [first, others @ ..] => {
            row(f, "root", format_args!("{how} {}, {access}", path(first)))?;
            others.iter().try_for_each(|other| row(f, "", format_args!("and below it {}", path(other))))
        }
    };
    match root {
        RootPlan::Overlay { lowers } => directories(f, "overlay over", lowers),
        RootPlan::Copy { sources } => directories(f, "copy of", sources),
        RootPlan::HostTree { links, dirs, fresh } => {
            row(f, "root", format_args!("new directory, {access}"))?;
            // EACCES, not copy-on-write: an owner without an id in the user namespace (inode_permission in fs/namei.c).
            row(f, "", "(what belongs to ids outside the map, as the host's root, can be read but not changed)")?;
            for dir in dirs {
                let kind = if dir.overlay { "overlay over" } else { "read-only bind of" };
                row(f, "", format_args!("/{:<16} {kind} the host's", word(&dir.name)))?;
            }
            for dir in fresh {
                row(f, "", format_args!("/{:<16} new, mode {:04o}", path(&dir.path), dir.mode))?;
            }
            links
                .iter()
                .try_for_each(|(name, target)| row(f, "", format_args!("/{:<16} -> {}", word(name), path(target))))
        }
    }
}

/// Where it is not the usual place.
fn layers(f: &mut Formatter<'_>, sandbox: &SandboxPlan, root: &RootPlan) -> fmt::Result {
    match sandbox.place_of(root) {
        LayerPlace::Data => Ok(()),
        LayerPlace::Directory(directory) => {
            row(f, "", format_args!("what it changes is written to {}", path(directory)))
        }
        LayerPlace::Memory { size } => {
            row(f, "", format_args!("what it changes is kept in memory, at most {} for the pod", bytes(*size)))
        }
    }
}

fn mounts(f: &mut Formatter<'_>, plan: &ContainerPlan) -> fmt::Result {
    let destinations: Vec<_> = plan.mounts.iter().map(|mount| path(&mount.destination)).collect();
    let width = destinations.iter().map(String::len).max().unwrap_or(0);
    for (position, (mount, destination)) in plan.mounts.iter().zip(&destinations).enumerate() {
        let access = if mount.read_only { "ro" } else { "rw" };
        let name = if position == 0 { "mounts" } else { "" };
        row(f, name, format_args!("{:>2} {destination:<width$}  {access}  {}", position + 1, source(&mount.kind)))?;
    }
    Ok(())
}

fn source(kind: &MountKind) -> String {
    match kind {
        MountKind::Proc => "new proc of the container's pid namespace".to_owned(),
        MountKind::ProcBind => "bind of the /proc that is already there".to_owned(),
        MountKind::Cgroup2 => "its own cgroup".to_owned(),
        MountKind::Sysfs => "new sysfs of the pod's network namespace".to_owned(),
        MountKind::SysBind => "bind of the host's /sys".to_owned(),
        MountKind::Dev => "new tmpfs with null zero full random urandom tty".to_owned(),
        MountKind::DevPts => "new devpts".to_owned(),
        MountKind::Mqueue => "new mqueue of the pod's ipc namespace".to_owned(),
        MountKind::MqueueBind => "bind of the host's /dev/mqueue".to_owned(),
        MountKind::Tmpfs { mode, size } => {
            let size = size.map_or(String::new(), |size| format!(", at most {}", bytes(size)));
            format!("new tmpfs, mode {mode:04o}{size}")
        }
        MountKind::PodTmpfs { source } => format!("the pod's {}, in memory", path(source)),
        MountKind::DiskVolume { name } => format!("the pod's volumes/{}, on disk", word(name)),
        MountKind::TerminationMessage { file } => format!("the pod's {}, for its termination message", word(file)),
        MountKind::HostPath { source } => format!("the host's {}", path(source)),
        MountKind::ImageFiles { manifest, trees: _ } => match manifest {
            Some(manifest) => format!("the files of image {manifest}"),
            None => "the files of an image that is not here".to_owned(),
        },
        MountKind::ImageVolume => "volume of the image, with its content, new at each start".to_owned(),
    }
}

fn process(f: &mut Formatter<'_>, plan: &ContainerPlan) -> fmt::Result {
    let process = &plan.process;
    match (is_unknown(plan), process.argv.as_slice()) {
        (true, []) => row(f, "command", "entrypoint unknown")?,
        (_, argv) => row(f, "command", words(argv))?,
    }
    for (position, (name, value)) in process.env.iter().enumerate() {
        row(f, if position == 0 { "env" } else { "" }, word(format!("{name}={value}")))?;
    }
    row(f, "directory", path(&process.cwd))?;
    let group = process
        .gid
        .as_ref()
        .map_or_else(|| "of the user in /etc/passwd, else 0".to_owned(), |gid| word(gid.to_string()));
    row(f, "user", format_args!("{}, group {group}", word(process.uid.to_string())))?;
    row(f, "capabilities", words(&process.capabilities))?;
    row(
        f,
        "new privs",
        if process.no_new_privs { "never (no_new_privs)" } else { "by setuid programs and file capabilities" },
    )?;
    let stdio = match (process.stdin, process.stdin_once, process.tty) {
        (true, _, true) => "a terminal, with input",
        (false, _, true) => "a terminal, without input",
        (true, false, false) => "an open stdin; stdout and stderr to the log",
        (true, true, false) => "a stdin that ends with its first client; stdout and stderr to the log",
        (false, _, false) => "no stdin; stdout and stderr to the log",
    };
    row(f, "stdio", stdio)
}

fn degraded(f: &mut Formatter<'_>, degradations: &[Degradation]) -> fmt::Result {
    if degradations.is_empty() {
        return writeln!(f, "\ndegradations: none");
    }
    writeln!(f, "\ndegradations")?;
    for Degradation { name, meaning, fix } in degradations {
        writeln!(f, "  {name}\n    means: {meaning}\n    fix:   {fix}")?;
    }
    Ok(())
}
