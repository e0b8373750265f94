//! Trees as guests of scripts/lab had them (Debian 12, systemd 252), and what they become when one thing is taken away.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use super::*;
use crate::host::recorded::Recorded;
use crate::host::{Container, Hierarchy, Membership, NoSystemd};
use crate::sys::{Errno, Error};

const MOUNT: &str = "34 18 0:29 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime - cgroup2 cgroup2 rw,nsdelegate";
const SCOPE: &str = "/user.slice/user-4242.slice/user@4242.service/app.slice/run-r9e21.scope";
const SESSION: &str = "/user.slice/user-4242.slice/session-c1.scope";
const US: u32 = 834;

/// A machine with one user, 4242. A cgroup is his where the group may write to its files: whoever runs
/// the tests must be able to change them all. `user.delegate` stands for the attribute.
struct Machine {
    tree: Recorded,
    mountinfo: String,
    runtime_dir: Option<String>,
    sockets: Vec<UnixListener>,
}

impl Machine {
    /// cgroup2 alone, with the user's part of it as systemd makes it, and us in `own` with the processes `procs`.
    fn new(own: &str, procs: &str) -> Machine {
        let mut machine =
            Machine { tree: Recorded::new(&[]), mountinfo: MOUNT.to_owned(), runtime_dir: None, sockets: Vec::new() };
        machine.file("proc/self/cgroup", &format!("0::{own}\n"));
        machine.file("proc/meminfo", "MemTotal: 1000 kB\nMemAvailable: 600 kB\nSwapTotal: 0 kB\n");
        machine.cgroup("/", false, "2\n3\n");
        std::fs::remove_file(machine.path("sys/fs/cgroup/cgroup.type")).expect("the root has none");
        for (path, ours) in [
            ("/user.slice", false),
            ("/user.slice/user-4242.slice", false),
            (SESSION, false),
            ("/user.slice/user-4242.slice/user@4242.service", true),
            ("/user.slice/user-4242.slice/user@4242.service/app.slice", true),
            (SCOPE, true),
        ] {
            machine.cgroup(path, ours, if path == own { procs } else { "" });
        }
        machine.file("sys/fs/cgroup/user.slice/user-4242.slice/user@4242.service/user.delegate", "1");
        machine
    }

    /// With systemd as its init, and the user's systemd.
    fn with_systemd(mut self) -> Machine {
        for (path, text) in [("run/systemd/system/x", ""), ("usr/bin/busctl", ""), ("proc/1/comm", "systemd\n")] {
            self.file(path, text);
        }
        std::fs::set_permissions(self.path("usr/bin/busctl"), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        self.socket("run/user/4242/systemd/private");
        self.socket("run/user/4242/bus");
        self.runtime_dir = Some("/run/user/4242".to_owned());
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.tree.path().join(name.trim_start_matches('/'))
    }

    fn file(&mut self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below")).expect("mkdir");
        std::fs::write(path, text).expect("write");
    }

    fn socket(&mut self, name: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below")).expect("mkdir");
        self.sockets.push(UnixListener::bind(path).expect("bind"));
    }

    fn cgroup(&mut self, path: &str, ours: bool, procs: &str) {
        let directory = format!("sys/fs/cgroup{path}");
        for (name, text) in [
            ("cgroup.procs", procs),
            ("cgroup.subtree_control", ""),
            ("cgroup.type", "domain\n"),
            ("cgroup.controllers", "cpu memory pids\n"),
            ("cpu.max", "max 100000\n"),
        ] {
            let name = format!("{directory}/{name}");
            self.file(&name, text);
            let mode = if ours { 0o664 } else { 0o644 };
            std::fs::set_permissions(self.path(&name), std::fs::Permissions::from_mode(mode)).expect("chmod");
        }
    }

    fn find(&self, query: &CgroupQuery) -> CgroupFacts {
        let mounts = MountTable::parse(self.mountinfo.as_bytes());
        let rights = Rights { write, fill, marked: |path| path.join("user.delegate").exists() };
        let view = View {
            root: self.tree.path(),
            mounts: &mounts,
            runtime_dir: self.runtime_dir.as_ref().map(OsStr::new),
            search: OsStr::new("/usr/bin"),
            uids: [4242, 4242],
            pid: US,
            rights,
        };
        find(&view, query)
    }

    fn nearest(&self) -> CgroupFacts {
        self.find(&CgroupQuery::Find)
    }

    fn below(&self, path: &str) -> Delegation {
        self.find(&CgroupQuery::Below(PathBuf::from(path))).delegation
    }
}

fn refused(path: &Path, errno: Errno) -> sys::Result<()> {
    Err(Error { call: format!("faccessat(\"{}\")", path.display()), errno })
}

fn write(path: &Path) -> sys::Result<()> {
    match std::fs::metadata(path) {
        Ok(_) if path.ancestors().any(|above| above.join(".ro").exists()) => refused(path, Errno::EROFS),
        Ok(found) if found.permissions().mode() & 0o020 != 0 => Ok(()),
        Ok(_) => refused(path, Errno::EACCES),
        Err(_) => refused(path, Errno::ENOENT),
    }
}

fn fill(directory: &Path) -> sys::Result<()> {
    write(&directory.join("cgroup.procs"))
}

fn three() -> BTreeSet<String> {
    ["cpu", "memory", "pids"].map(str::to_owned).into()
}

fn directory(path: &str, ours: Membership) -> Delegation {
    let path = PathBuf::from(format!("/sys/fs/cgroup{path}"));
    Delegation::Directory { path, controllers: three(), ours }
}

fn scope() -> Delegation {
    Delegation::SystemdScope { controllers: three() }
}

fn why(facts: &CgroupFacts, candidate: &str) -> String {
    let found = facts.passed_over.iter().find(|passed| passed.candidate.ends_with(candidate));
    found.unwrap_or_else(|| panic!("{candidate}: {:#?}", facts.passed_over)).why.clone()
}

#[test]
fn a_login_session_has_its_systemd() {
    let facts = Machine::new(SESSION, "834\n852\n").with_systemd().nearest();
    assert_eq!(facts.delegation, scope());
    assert_eq!(facts.hierarchy, Hierarchy::Unified { mount: PathBuf::from("/sys/fs/cgroup") });
    assert_eq!(facts.own, Some(PathBuf::from(format!("/sys/fs/cgroup{SESSION}"))));
    assert_eq!(facts.passed_over.len(), 1, "the same answer all the way up: {:#?}", facts.passed_over);
    assert!(why(&facts, "session-c1.scope and what is above it").contains("not yours"));
}

#[test]
fn a_scope_of_ones_own_counts_when_it_is_delegated() {
    let mut machine = Machine::new(SCOPE, "834\n").with_systemd();
    let facts = machine.nearest();
    assert_eq!(facts.delegation, scope());
    assert!(why(&facts, "run-r9e21.scope").contains("no Delegate=yes"));
    assert!(why(&facts, "app.slice").contains("no Delegate=yes"));
    assert!(why(&facts, "user@4242.service").contains("to your systemd, not to you"));

    // The user's systemd sets no attribute, but leaves this.
    let unit = "run/user/4242/systemd/transient/run-r9e21.scope";
    machine.file(unit, "[Unit]\nDescription=sh\n\n[Scope]\nDelegate=yes\n");
    assert_eq!(machine.nearest().delegation, directory(SCOPE, Membership::Inside));
    machine.file(unit, "[Scope]\nDelegate=no\n");
    machine.file(&format!("sys/fs/cgroup{SCOPE}/user.delegate"), "1");
    assert_eq!(machine.nearest().delegation, directory(SCOPE, Membership::Inside));

    let mut busy = Machine::new(SCOPE, "834\n900\n").with_systemd();
    busy.file(unit, "[Scope]\nDelegate=yes\n");
    let facts = busy.nearest();
    assert_eq!(facts.delegation, scope());
    assert!(why(&facts, "run-r9e21.scope").contains("(900)"), "{facts:#?}");
}

#[test]
fn without_systemd_names_mean_nothing() {
    let facts = Machine::new(SCOPE, "834\n").nearest();
    assert_eq!(facts.delegation, directory(SCOPE, Membership::Inside));
    assert_eq!(facts.passed_over, []);
    let facts = Machine::new(SCOPE, "834\n900\n0\n").nearest();
    assert_eq!(
        facts.delegation,
        directory("/user.slice/user-4242.slice/user@4242.service/app.slice", Membership::Outside)
    );
    assert!(why(&facts, ".scope").contains("(900, 0)"));
}

#[test]
fn a_leaf_below_a_scope() {
    let leaf = format!("{SCOPE}/shell");
    let mut machine = Machine::new(&leaf, "").with_systemd();
    machine.cgroup(&leaf, true, "834\n");
    assert_eq!(machine.nearest().delegation, directory(&leaf, Membership::Inside));
}

#[test]
fn occupied_and_nobody_to_ask() {
    let mut machine = Machine::new("/mine", "");
    let many: String = (1000..9000).map(|pid| format!("{pid}\n")).collect();
    machine.cgroup("/mine", true, &many);
    let NoDelegation::Occupied { path, pids } = none(&machine) else { panic!("{:#?}", machine.nearest()) };
    assert_eq!((path, pids.len(), pids[0]), (PathBuf::from("/sys/fs/cgroup/mine"), 10, 1000));
    machine.file("sys/fs/cgroup/mine/cgroup.type", "threaded\n");
    assert!(matches!(none(&machine), NoDelegation::NotOurs { .. }));
    assert!(why(&machine.nearest(), "/mine").contains("`threaded`"));
}

#[test]
fn the_root_of_all_may_have_processes_of_its_own() {
    let mut machine = Machine::new("/", "");
    machine.cgroup("/", true, "1\n2\n834\n");
    let of_a_namespace = none(&machine);
    assert!(matches!(of_a_namespace, NoDelegation::Occupied { .. }), "{of_a_namespace:?}");
    std::fs::remove_file(machine.path("sys/fs/cgroup/cgroup.type")).expect("it was there");
    assert_eq!(machine.nearest().delegation, directory("", Membership::Inside));
    let machine = machine.with_systemd();
    assert_eq!(machine.nearest().delegation, scope());
    assert_eq!(why(&machine.nearest(), "/sys/fs/cgroup"), "systemd manages it");
}

fn none(machine: &Machine) -> NoDelegation {
    match machine.nearest().delegation {
        Delegation::None(why) => why,
        other => panic!("{other:?}"),
    }
}

fn no_systemd(machine: &Machine) -> NoSystemd {
    match none(machine) {
        NoDelegation::NotOurs { why_no_systemd, own } => {
            assert!(own.starts_with("/sys/fs/cgroup"));
            assert!(machine.nearest().passed_over.iter().any(|passed| passed.candidate == "the user's systemd"));
            why_no_systemd
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_way_of_lacking_systemd() {
    let session = || Machine::new(SESSION, "834\n852\n").with_systemd();
    let without = |path: &str| {
        let machine = session();
        let path = machine.path(path);
        if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }.expect("it was there");
        machine
    };
    let runtime_dir = PathBuf::from("/run/user/4242");
    assert_eq!(no_systemd(&without("run/systemd/system")), NoSystemd::OtherInit { container: None });
    assert_eq!(no_systemd(&without("usr/bin/busctl")), NoSystemd::NoBusctl);
    assert_eq!(no_systemd(&without("run/user/4242/bus")), NoSystemd::NoBus { runtime_dir: runtime_dir.clone() });
    assert_eq!(no_systemd(&without("run/user/4242")), NoSystemd::NotRunning { runtime_dir: runtime_dir.clone() });
    assert_eq!(
        no_systemd(&without("sys/fs/cgroup/user.slice/user-4242.slice/user@4242.service")),
        NoSystemd::OutOfSight { unit: "user@4242.service".to_owned() }
    );
    for unset in [None, Some(String::new())] {
        let machine = Machine { runtime_dir: unset, ..session() };
        assert_eq!(no_systemd(&machine), NoSystemd::RuntimeDirUnset { runtime_dir: runtime_dir.clone() });
        std::fs::remove_dir_all(machine.path("run/user")).expect("it was there");
        assert_eq!(no_systemd(&machine), NoSystemd::NotRunning { runtime_dir: runtime_dir.clone() });
    }
    let mut nested = session();
    nested.file("proc/1/comm", "sh\n");
    assert_eq!(no_systemd(&nested), NoSystemd::OtherPidNamespace { pid1: "sh".to_owned() });
    std::fs::remove_file(nested.path("proc/1/comm")).expect("it was there");
    assert_eq!(nested.nearest().delegation, scope(), "hidepid= says nothing against it");
}

#[test]
fn containers() {
    let mut machine = Machine::new("/", "");
    machine.cgroup("/", true, "1\n834\n");
    machine.file("sys/fs/cgroup/.ro", "");
    machine.file(".dockerenv", "");
    let mount = PathBuf::from("/sys/fs/cgroup");
    assert_eq!(none(&machine), NoDelegation::ReadOnly { mount: mount.clone(), container: Some(Container::Docker) });
    machine.file("etc/hosts", "# Written by sandpod.\n");
    let nested = NoDelegation::ReadOnly { mount: mount.clone(), container: Some(Container::Sandpod) };
    assert_eq!(none(&machine), nested);
    assert_eq!(
        machine.below("/x"),
        Delegation::None(NoDelegation::Asked { path: mount.join("x"), why: "there is no such cgroup".to_owned() })
    );
    assert_eq!(machine.below("/sys/fs/cgroup"), Delegation::None(nested));

    // `--cgroupns=private` with the host's cgroups mounted in.
    machine.mountinfo = MOUNT.replace("0:29 / ", "0:29 /../../.. ");
    assert_eq!(none(&machine), NoDelegation::OutOfSight { own: "/".to_owned(), mount });
    // Mounted anew elsewhere, the namespace's own part is found.
    machine.mountinfo = format!("{}\n90 34 0:29 / /cg rw - cgroup2 none rw", machine.mountinfo);
    machine.file("cg/cgroup.controllers", "memory\n");
    assert_eq!(machine.nearest().hierarchy, Hierarchy::Unified { mount: PathBuf::from("/cg") });
}

#[test]
fn a_parent_that_is_asked_for() {
    let mut machine = Machine::new(SESSION, "834\n852\n").with_systemd();
    let why = |machine: &Machine, path: &str| match machine.below(path) {
        Delegation::None(NoDelegation::Asked { why, .. }) => why,
        other => panic!("{path}: {other:?}"),
    };
    assert!(why(&machine, "/nowhere").contains("no such cgroup"));
    let asked = machine.find(&CgroupQuery::Below(PathBuf::from("/nowhere"))).asked;
    assert_eq!((asked, machine.nearest().asked), (Some(PathBuf::from("/nowhere")), None));
    assert!(why(&machine, "/user.slice").contains("not yours"));
    assert!(why(&machine, "/user.slice/../x").contains(".."));
    assert!(why(&machine, SCOPE).contains("no Delegate=yes"));
    machine.cgroup("/user.slice/user-4242.slice/user@4242.service/mine", true, "");
    let mine = "/user.slice/user-4242.slice/user@4242.service/mine";
    assert!(
        why(&machine, mine).ends_with("to write /sys/fs/cgroup/user.slice/user-4242.slice/cgroup.procs"),
        "{}",
        why(&machine, mine)
    );
    machine.file("proc/self/cgroup", &format!("0::{SCOPE}\n"));
    for typed in [mine, &format!("/sys/fs/cgroup{mine}"), &mine[1..]] {
        assert_eq!(machine.below(typed), directory(mine, Membership::Outside), "{typed}");
    }
}

#[test]
fn version_1_and_hybrids() {
    let mut machine = Machine::new("/", "");
    machine.file("proc/self/cgroup", "4:memory:/\n1:cpu:/\n0::/\n");
    let in_v1: BTreeSet<String> = ["cpu", "memory"].map(str::to_owned).into();
    assert_eq!(none(&machine), NoDelegation::Hybrid { in_v1: in_v1.clone() });
    let facts = machine.nearest();
    assert_eq!(facts.hierarchy, Hierarchy::Hybrid { mount: PathBuf::from("/sys/fs/cgroup"), in_v1: in_v1.clone() });
    // Even where it is all ours: there is nothing in it.
    machine.cgroup("/", true, "834\n");
    machine.file("sys/fs/cgroup/cgroup.controllers", "\n");
    assert_eq!(none(&machine), NoDelegation::Hybrid { in_v1: in_v1.clone() });
    assert_eq!(machine.below("/"), Delegation::None(NoDelegation::Hybrid { in_v1 }));
    // But what version 2 does have can be used.
    machine.file("sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
    assert_eq!(machine.nearest().delegation, directory("", Membership::Inside));

    machine.mountinfo = "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu".to_owned();
    assert_eq!(none(&machine), NoDelegation::Version1);
    machine.mountinfo = String::new();
    machine.file("proc/self/cgroup", "0::/\n");
    assert_eq!(none(&machine), NoDelegation::NotMounted);
    assert_eq!(machine.nearest().hierarchy, Hierarchy::NotMounted);
}

#[test]
fn capacity_of_the_whole_way_up() {
    let mut machine = Machine::new(SESSION, "834\n").with_systemd();
    let slice = "sys/fs/cgroup/user.slice/user-4242.slice";
    machine.file(&format!("{slice}/pids.max"), "2600\n");
    machine.file(&format!("{slice}/memory.max"), "max\n");
    machine.file(&format!("{slice}/user@4242.service/memory.max"), "1073741824\n");
    let found = machine.nearest().capacity;
    assert_eq!(
        (found.memory_available, found.memory_total, found.swap_total),
        (Some(614_400), Some(1_024_000), Some(0))
    );
    assert!(found.cpu_millis >= 1000);
    let shown: Vec<_> =
        found.ancestors.iter().map(|above| (above.memory_max, above.pids_max, above.cpu_millis)).collect();
    assert_eq!(shown, [(Some(1 << 30), None, None), (None, Some(2600), None)]);
    assert!(found.ancestors[0].path.ends_with("user@4242.service"));
}

#[test]
fn names_that_no_json_can_hold() {
    let mut machine = Machine::new("/", "");
    let path = machine.path("proc/self/cgroup");
    std::fs::write(path, b"0::/caf\xe9\n").expect("write");
    assert!(matches!(none(&machine), NoDelegation::OutOfSight { .. }));
    machine.file("proc/self/cgroup", "0::/\n");
    let asked = CgroupQuery::Below(PathBuf::from(std::ffi::OsString::from_vec(b"/caf\xe9".to_vec())));
    let facts = machine.find(&asked);
    assert!(serde_json::to_string(&facts).is_ok(), "{facts:?}");
    assert!(matches!(facts.delegation, Delegation::None(NoDelegation::Asked { .. })));
}

#[test]
fn whoever_does_not_ask_pays_nothing() {
    assert_eq!(Machine::new("/", "").find(&CgroupQuery::Skip), CgroupFacts::default());
}
