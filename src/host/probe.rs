//! Reads everything once. No process is started and nothing is changed; a run waits for this, so it stays under 1 ms.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::cgroup::{self, Rights, View};
use super::dirs::{self, Environment};
use super::idmap_tool::{self, Tool};
use super::mountinfo::MountTable;
use super::subid::{self, SubIds, Wanted};
use super::switches::{self, Caller};
use super::user::{self, Capability, Privileges};
use super::{Confinement, Dir, Facts, HostUser, MapLine, OwnIdMap, kernel, layers, network, tree};
use crate::report::{Report, exit_code};
use crate::step::Step;
use crate::sys::{self, probe as look};

/// What the manifest makes worth reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// Some container's image is `host:`.
    pub host_image: bool,
    /// The `rootfs:` directories.
    pub rootfs: Vec<PathBuf>,
    pub cgroup: CgroupQuery,
    /// `--network pasta`, or the annotation.
    pub pasta: bool,
}

/// Which cgroups to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CgroupQuery {
    /// None: nobody wants any.
    #[default]
    Skip,
    /// Whatever is delegated.
    Find,
    /// `--cgroup-parent`: this one, as typed.
    Below(PathBuf),
}

/// Longest texts that are read, in bytes. A mount line has about 100, a subuid line 25.
const MOST_MOUNTINFO: usize = 16 << 20;
const MOST_LIMITS: usize = 16 << 10;
const MOST_PASSWD: usize = 4 << 20;
const MOST_SUBIDS: u64 = 8 << 20;
const MOST_RESOLV_CONF: usize = 64 << 10;
/// Bytes; the pod's copy is in memory, and in its record.
const MOST_HOSTS: usize = 256 << 10;

/// Where to look. Always the machine itself, except in tests.
struct Source {
    root: PathBuf,
    environment: Environment,
    uid: u32,
    gid: u32,
}

/// What this machine allows.
///
/// # Errors
/// Only without a usable `/proc`; whatever else is missing or odd is a fact or a warning.
pub fn probe(asked: &Asked) -> Result<Facts, Report> {
    let (uid, gid) = look::effective_ids();
    probe_source(&Source { root: PathBuf::from("/"), environment: Environment::of_this_process(), uid, gid }, asked)
}

/// Where this user's pods are kept: what `Facts` says, without the rest of the probe.
#[derive(Debug, Clone)]
pub struct Places {
    pub runtime: Dir,
    pub data: Dir,
}

/// One rule for all verbs.
#[must_use]
pub fn places() -> Places {
    let (uid, _) = look::effective_ids();
    let environment = Environment::of_this_process();
    // Only where `$HOME` does not say: passwd(5) may be large.
    let passwd = || look::read_bounded(Path::new("/etc/passwd"), MOST_PASSWD).unwrap_or_default();
    let home = if environment.says_home() { None } else { user::account(&passwd(), uid).map(|account| account.home) };
    let runtime = dirs::runtime(&environment, uid);
    let data = dirs::data(&environment, home.as_deref(), &runtime, uid);
    Places { runtime, data }
}

/// Whether these are newuidmap and newgidmap where a probe looks for them, and no other programs.
#[must_use]
pub fn are_idmap_tools(newuidmap: &Path, newgidmap: &Path) -> bool {
    idmap_tool::are_where_found(newuidmap, newgidmap, &Environment::of_this_process().path)
}

fn probe_source(source: &Source, asked: &Asked) -> Result<Facts, Report> {
    let (uid, gid) = (source.uid, source.gid);
    let proc = source.root.join("proc");
    let etc = source.root.join("etc");
    let mut warnings = Vec::new();

    let uname = look::uname().map_err(|error| failed(&error))?;
    let version = kernel::version(&uname.release).unwrap_or_default();
    let status = look::read_bounded(&proc.join("self/status"), 64 << 10).map_err(|error| no_proc(&error))?;
    let mounts = look::read_bounded(&proc.join("self/mountinfo"), MOST_MOUNTINFO).map_err(|error| no_proc(&error))?;
    let mounts = MountTable::parse(&mounts);
    let own_map = OwnIdMap { uids: own_map(&proc.join("self/uid_map")), gids: own_map(&proc.join("self/gid_map")) };

    let passwd = optional(&etc.join("passwd"), MOST_PASSWD, &mut warnings);
    let account = user::account(&passwd, uid);
    let from_environment = || source.environment.user.clone()?.into_string().ok().filter(|name| !name.is_empty());
    let name = account.as_ref().map(|account| account.name.clone()).or_else(from_environment);

    let ids = |file: &str, own_id: u32, map: &[MapLine], warnings: &mut Vec<String>| {
        let wanted = Wanted { file: &format!("/etc/{file}"), name: name.as_deref(), uid, own_id, map };
        subids(&etc.join(file), wanted, warnings)
    };
    let subuids = ids("subuid", uid, &own_map.uids, &mut warnings);
    let subgids = ids("subgid", gid, &own_map.gids, &mut warnings);

    let executable = std::fs::read_link(proc.join("self/exe")).unwrap_or_else(|_| PathBuf::from("/usr/bin/sandpod"));
    let caller = Caller {
        uid,
        gid,
        privileges: Privileges::parse(&status),
        uid_map: &own_map.uids,
        gid_map: &own_map.gids,
        executable: &executable,
    };
    let runtime_dir = dirs::runtime(&source.environment, uid);
    let home = account.as_ref().map(|account| account.home.as_str());
    let data_dir = dirs::data(&source.environment, home, &runtime_dir, uid);
    limited(&mut warnings);
    let mut host_root = asked.host_image.then(|| tree::host_root(&source.root, &mounts, &mut warnings));
    let mut rootfs: Vec<_> = asked.rootfs.iter().map(|directory| tree::rootfs(directory, &mounts)).collect();
    layers::look_at_stacks(host_root.as_mut(), &source.root, &mut rootfs);
    Ok(Facts {
        cgroup: cgroup::find(&view(source, &mounts, &own_map), &asked.cgroup),
        network: network::probe(&proc, &source.root.join("dev/net/tun"), &source.environment, asked.pasta),
        newuidmap: idmap_tool::find(Tool::NewUidMap, &source.environment.path, caller),
        newgidmap: idmap_tool::find(Tool::NewGidMap, &source.environment.path, caller),
        may_write_maps: [Capability::SetUid, Capability::SetGid, Capability::SetFcap]
            .iter()
            .all(|capability| caller.privileges.has(*capability)),
        user_namespaces: switches::probe(&proc, caller),
        stack_limit: kernel::stack_limit(
            &look::read_bounded(&proc.join("self/limits"), MOST_LIMITS).unwrap_or_default(),
        ),
        confinement: confinement(source, caller.privileges),
        overlay: kernel::overlay(&proc, &source.root.join("lib/modules"), &uname.release, version),
        procfs: mounts.procfs(),
        procfs_points: mounts.procfs_points(),
        sysfs: mounts.sysfs(),
        layers: layers::probe(&data_dir, &runtime_dir, Path::new("/tmp"), uid, version),
        data_dir,
        runtime_dir,
        kernel: version,
        hostname: uname.hostname,
        unprivileged_port_start: switches::unprivileged_port_start(&proc, caller.privileges),
        mqueue: Path::new("/dev/mqueue").is_dir(),
        hosts: String::from_utf8_lossy(&optional(&etc.join("hosts"), MOST_HOSTS, &mut warnings)).into_owned(),
        resolv_conf: String::from_utf8_lossy(&optional(&etc.join("resolv.conf"), MOST_RESOLV_CONF, &mut warnings))
            .into_owned(),
        host_root,
        rootfs,
        user: HostUser { uid, gid, name },
        own_map,
        subuids,
        subgids,
        warnings,
    })
}

fn view<'a>(source: &'a Source, mounts: &'a MountTable, own_map: &OwnIdMap) -> View<'a> {
    let outside = own_map.uids.iter().find_map(|line| {
        let offset = source.uid.checked_sub(line.inside).filter(|&offset| offset < line.count)?;
        line.outside.checked_add(offset)
    });
    View {
        root: &source.root,
        mounts,
        runtime_dir: source.environment.xdg_runtime_dir.as_deref(),
        search: &source.environment.path,
        uids: [source.uid, outside.unwrap_or(source.uid)],
        pid: std::process::id(),
        rights: Rights::OURS,
    }
}

fn confinement(source: &Source, privileges: Privileges) -> Confinement {
    let label = look::read_start(&source.root.join("proc/self/attr/current"), 4096).unwrap_or_default();
    let label = String::from_utf8_lossy(&label).trim_end_matches(['\0', '\n']).to_owned();
    let unconfined =
        label.is_empty() || label == "unconfined" || label.ends_with("(unconfined)") || label.contains(':');
    let kubernetes = source.environment.kubernetes.then_some(cgroup::Container::Kubernetes);
    Confinement {
        container: cgroup::container_around(&source.root).or(kubernetes),
        seccomp: privileges.filtered,
        // A label with colons is SELinux's.
        apparmor: (!unconfined).then_some(label),
    }
}

/// A kernel without user namespaces has no such file; then all ids are ours to see.
fn own_map(path: &Path) -> Vec<MapLine> {
    look::read_bounded(path, 64 << 10)
        .map(|text| user::id_map(&text))
        .unwrap_or_else(|_| vec![MapLine { inside: 0, outside: 0, count: u32::MAX }])
}

/// A file that may be absent; anything else that keeps it from being read is a warning.
fn optional(path: &Path, limit: usize, warnings: &mut Vec<String>) -> Vec<u8> {
    look::read_bounded(path, limit).unwrap_or_else(|error| {
        if error.number() != look::errno::ENOENT {
            warnings.push(format!("ignored: {error}"));
        }
        Vec::new()
    })
}

fn subids(path: &Path, wanted: Wanted<'_>, warnings: &mut Vec<String>) -> Vec<super::SubIdRange> {
    let file = match look::open_regular(path) {
        Ok(file) => file,
        Err(error) => {
            if error.number() != look::errno::ENOENT {
                warnings.push(format!("ignored: {error}"));
            }
            return Vec::new();
        }
    };
    if file.metadata().is_ok_and(|found| found.len() > MOST_SUBIDS) {
        warnings.push(format!("{}: only its first {MOST_SUBIDS} bytes are read", wanted.file));
    }
    match subid::parse(BufReader::with_capacity(64 << 10, file.take(MOST_SUBIDS)), wanted) {
        Ok(SubIds { ranges, warnings: odd }) => {
            warnings.extend(odd);
            ranges
        }
        Err(error) => {
            warnings.push(format!("ignored: {}: {}", wanted.file, sys::describe_io(&error)));
            Vec::new()
        }
    }
}

/// What a limit of the shell means for a pod.
fn limited(warnings: &mut Vec<String>) {
    if let Ok(Some(bytes)) = sys::process::file_size_limit() {
        warnings.push(format!(
            "files that the pod writes, its logs among them, can have at most {bytes} bytes (`ulimit -f` of the shell that \
             starts it): raise it there with `ulimit -f unlimited`"
        ));
    }
}

fn failed(error: &sys::Error) -> Report {
    let mut report = Report::new(exit_code::FAILURE, "could not look at this host").because(error.to_string());
    report.cause = Some((Step::ProbeHost, error.number()));
    report
}

fn no_proc(error: &sys::Error) -> Report {
    failed(error)
        .hint("sandpod reads /proc: mount it (`mount -t proc proc /proc`), or start sandpod where it is mounted")
}

#[cfg(test)]
#[path = "probe_tests.rs"]
mod tests;
