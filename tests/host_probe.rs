//! `host::probe` on the machine at hand: as whoever runs the tests, as an ordinary user, and as root of an outer user
//! namespace. The other two run this very test binary again and read its facts from a line of JSON.

#![allow(clippy::disallowed_methods, clippy::print_stderr, clippy::print_stdout, reason = "a test acts and tells")]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use sandpod::host::{Asked, CgroupQuery, Delegation, Facts, Hierarchy, IdMapTool, UserNamespaces, probe};

const PRINT: &str = "SANDPOD_TEST_PRINT_FACTS";
const MARK: &str = "facts: ";

fn asked() -> Asked {
    Asked {
        host_image: true,
        rootfs: vec![PathBuf::from("/"), PathBuf::from("/nonexistent")],
        cgroup: CgroupQuery::Find,
        pasta: true,
    }
}

/// The other side of [`facts_of`]; without it, a probe as whoever we are.
#[test]
fn as_whoever_runs_the_tests() {
    let facts = probe(&asked()).expect("this machine has a /proc");
    if std::env::var_os(PRINT).is_some() {
        println!("\n{MARK}{}", serde_json::to_string(&facts).expect("facts are JSON"));
        return;
    }
    assert!(facts.kernel >= (3, 0), "{:?}", facts.kernel);
    assert!(facts.runtime_dir.path.is_absolute() && facts.data_dir.path.is_absolute());
    let root = facts.host_root.expect("asked for");
    assert!(root.dirs.iter().any(|dir| dir.name == "usr") && root.dirs.iter().any(|dir| dir.name == "etc"));
    assert!(!root.var_dirs.is_empty() && root.var_dirs.iter().all(|dir| dir.is_relative()));
    assert!(facts.rootfs[0].owner.is_some() && facts.rootfs[0].mounts_below.contains(&PathBuf::from("/proc")));
    assert!(facts.rootfs[1].error.is_some());

    for cgroup in [CgroupQuery::Skip, CgroupQuery::Find] {
        let asked = Asked { cgroup, ..Asked::default() };
        let mut times: Vec<_> = (0..200)
            .map(|_| {
                let start = Instant::now();
                probe(&asked).expect("once more");
                start.elapsed()
            })
            .collect();
        times.sort();
        eprintln!("host::probe, cgroups {:?}: median {:?}, slowest {:?}", asked.cgroup, times[100], times[199]);
    }
}

/// Facts as the process sees them that `wrapper` (a command that takes a command) makes.
fn facts_of(wrapper: &[&str], environment: &[(&str, &str)]) -> Option<Facts> {
    // The build directory may be closed to other users; /tmp is not.
    let directory = tempfile::tempdir().expect("a temporary directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let program = directory.path().join("probe");
    std::fs::copy(std::env::current_exe().expect("our path"), &program).expect("copy");
    let output = Command::new(wrapper[0])
        .args(&wrapper[1..])
        .arg(&program)
        .args(["--exact", "as_whoever_runs_the_tests", "--nocapture"])
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env(PRINT, "1")
        .envs(environment.iter().copied())
        .output();
    let output = match output {
        Ok(output) if output.status.success() => output,
        failed => return skip(&format!("{wrapper:?} does not work here: {failed:?}")),
    };
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let json = text.lines().find_map(|line| line.strip_prefix(MARK)).expect("the facts were printed");
    Some(serde_json::from_str(json).expect("facts come back from JSON"))
}

/// Loud, and a failure where `MUST_RUN=1` says that nothing may be skipped.
fn skip(why: &str) -> Option<Facts> {
    assert!(std::env::var_os("MUST_RUN").is_none(), "skipped, but MUST_RUN is set: {why}");
    eprintln!("SKIPPED: {why}");
    None
}

/// An ordinary user, with further words for setpriv: podtest for root, else whoever runs the tests.
fn ordinary_user<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let user: &[&str] = if is_root() { &["--reuid=podtest", "--regid=podtest", "--init-groups"] } else { &[] };
    if user.is_empty() && words.is_empty() {
        return vec!["env"];
    }
    [&["setpriv"], user, words, &["--", "env"]].concat()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|found| std::os::unix::fs::MetadataExt::uid(&found) == 0)
}

#[test]
fn as_an_ordinary_user() {
    let Some(facts) = facts_of(&ordinary_user(&[]), &[("HOME", "/var/tmp")]) else { return };
    assert_ne!(facts.user.uid, 0);
    assert!(facts.user.name.is_some());
    let runtime = PathBuf::from(format!("/tmp/sandpod-{}", facts.user.uid));
    assert_eq!(facts.runtime_dir.path, runtime);
    assert!(facts.runtime_dir.fallback.expect("no XDG_RUNTIME_DIR").contains("not set"));
    assert_eq!(facts.data_dir.path, PathBuf::from("/var/tmp/.local/share/sandpod"));
    if PathBuf::from("/usr/bin/newuidmap").exists() {
        assert_eq!(facts.newuidmap, IdMapTool::Privileged(PathBuf::from("/usr/bin/newuidmap")));
    }
    assert!(facts.subuids.iter().all(|range| range.start > 0 && range.count > 0));
}

/// Whatever this machine has: a mount or none, a delegation or the way to one.
#[test]
fn cgroups_of_an_ordinary_user() {
    let Some(facts) = facts_of(&ordinary_user(&[]), &[("HOME", "/var/tmp")]) else { return };
    let found = facts.cgroup;
    if let Hierarchy::Unified { mount } | Hierarchy::Hybrid { mount, .. } = &found.hierarchy {
        assert!(found.own.as_ref().is_none_or(|own| own.starts_with(mount)), "{found:?}");
    }
    assert!(found.capacity.cpu_millis >= 1000 && found.capacity.memory_total > found.capacity.memory_available);
    match &found.delegation {
        Delegation::Directory { path, .. } => assert!(path.is_dir(), "{found:?}"),
        Delegation::SystemdScope { .. } => panic!("there is no XDG_RUNTIME_DIR: {found:?}"),
        Delegation::None(why) => {
            for text in [why.reason(), why.fix()] {
                assert!(!text.is_empty() && !text.contains(['\n', '{']), "{text}");
            }
        }
    }
}

#[test]
fn a_user_without_a_home_and_with_no_new_privs() {
    let Some(facts) = facts_of(&ordinary_user(&["--no-new-privs"]), &[("HOME", "/proc"), ("XDG_RUNTIME_DIR", "/root")])
    else {
        return;
    };
    assert!(facts.runtime_dir.fallback.expect("/root is another's").contains("belongs to uid 0"));
    assert!(facts.data_dir.fallback.is_some(), "{:?}", facts.data_dir);
    assert_eq!(facts.data_dir.path, facts.runtime_dir.path.join("data"));
    if let IdMapTool::Unprivileged { why, .. } = &facts.newuidmap {
        assert!(why.contains("no_new_privs"), "{why}");
    } else {
        assert_eq!(facts.newuidmap, IdMapTool::Missing, "no_new_privs disables setuid");
    }
}

#[test]
fn as_root_of_an_outer_user_namespace() {
    let own = [("HOME", "/nonexistent")];
    let Some(facts) = facts_of(&["unshare", "--user", "--map-root-user"], &own) else { return };
    assert!(!facts.own_map.is_initial());
    assert_eq!(facts.user.uid, 0);
    assert_eq!(facts.subuids, [], "ids that this namespace does not have");
    assert!(facts.data_dir.fallback.expect("no home").contains("not there"));
    assert_eq!(facts.user_namespaces, UserNamespaces::Allowed);
}

#[test]
fn without_an_account_and_without_an_id() {
    let stranger = ["unshare", "--user", "--map-user=71234", "--map-group=71234"];
    let Some(nobody) = facts_of(&stranger, &[]) else { return };
    assert_eq!((nobody.user.uid, nobody.user.name, nobody.subuids.len()), (71234, None, 0));
    assert!(nobody.data_dir.fallback.expect("no home").contains("not set"));

    let Some(unmapped) = facts_of(&["unshare", "--user"], &[]) else { return };
    let UserNamespaces::Forbidden { switch, .. } = unmapped.user_namespaces else { panic!("clone(2) says EPERM") };
    assert_eq!(switch, "/proc/self/uid_map");
}
