//! The kernel's switches for user namespaces. `/proc` is a parameter: tests use recorded trees.

use std::path::{Path, PathBuf};

use super::user::{Capability, Privileges, maps};
use super::{MapLine, UserNamespaces};
use crate::sys::probe::read_bounded;

/// Who is asking, as far as the switches care.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller<'a> {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) privileges: Privileges,
    pub(super) uid_map: &'a [MapLine],
    pub(super) gid_map: &'a [MapLine],
    /// Our own executable, for the AppArmor profile that would allow it.
    pub(super) executable: &'a Path,
}

/// The kinds a pod may need besides `user`; each has its `user.max_*_namespaces` (namespaces(7)).
const KINDS: [&str; 6] = ["mnt", "pid", "net", "ipc", "uts", "cgroup"];

/// The first switch that forbids, in the order in which the kernel asks them.
pub(super) fn probe(proc: &Path, caller: Caller<'_>) -> UserNamespaces {
    compiled_in(proc)
        .or_else(|| debian(proc, caller))
        .or_else(|| max(proc, "user"))
        .or_else(|| mapped(caller))
        .or_else(|| apparmor(proc, caller))
        .or_else(|| KINDS.iter().find_map(|kind| max(proc, kind)))
        .unwrap_or(UserNamespaces::Allowed)
}

fn compiled_in(proc: &Path) -> Option<UserNamespaces> {
    let missing = proc.join("self/status").exists() && !proc.join("self/uid_map").exists();
    missing.then(|| UserNamespaces::Forbidden {
        switch: "CONFIG_USER_NS".to_owned(),
        value: "n".to_owned(),
        fix: "boot a kernel that was built with CONFIG_USER_NS=y, as all distributions' standard kernels are"
            .to_owned(),
    })
}

/// Debian's own switch; the kernel asks for CAP_SYS_ADMIN in the *initial* user namespace.
fn debian(proc: &Path, caller: Caller<'_>) -> Option<UserNamespaces> {
    let initial = caller.uid_map == [MapLine { inside: 0, outside: 0, count: u32::MAX }];
    if initial && caller.privileges.has(Capability::SysAdmin) {
        return None;
    }
    zero(proc, "kernel.unprivileged_userns_clone", "1")
}

/// The limit of our own user namespace; it binds root, too. (Those above it cannot be read from here.)
fn max(proc: &Path, kind: &str) -> Option<UserNamespaces> {
    zero(proc, &format!("user.max_{kind}_namespaces"), "15000")
}

fn zero(proc: &Path, switch: &str, better: &str) -> Option<UserNamespaces> {
    let value = sysctl(proc, switch)?;
    (value == "0").then(|| UserNamespaces::Forbidden {
        switch: switch.to_owned(),
        value,
        fix: format!(
            "run `sudo sysctl -w {switch}={better}`, and put `{switch}={better}` into /etc/sysctl.d/99-sandpod.conf to \
             keep it"
        ),
    })
}

/// clone(2): EPERM when the caller's own ids have no mapping in its user namespace.
fn mapped(caller: Caller<'_>) -> Option<UserNamespaces> {
    let (file, id) = match () {
        () if !maps(caller.uid_map, caller.uid) => ("/proc/self/uid_map", caller.uid),
        () if !maps(caller.gid_map, caller.gid) => ("/proc/self/gid_map", caller.gid),
        () => return None,
    };
    Some(UserNamespaces::Forbidden {
        switch: file.to_owned(),
        value: format!("without a line for your id {id}"),
        fix: "start sandpod outside this user namespace, or write its maps first (`unshare --map-root-user`)"
            .to_owned(),
    })
}

/// Ubuntu's switch: without CAP_SYS_ADMIN only programs with an AppArmor profile that says `userns` get more than an
/// empty shell. Without policy the clone fails (EACCES); with Ubuntu's `unprivileged_userns` profile the clone works
/// and everything after it fails.
fn apparmor(proc: &Path, caller: Caller<'_>) -> Option<UserNamespaces> {
    let switch = "kernel.apparmor_restrict_unprivileged_userns";
    let value = sysctl(proc, switch).filter(|value| value != "0")?;
    let profile = ["self/attr/apparmor/current", "self/attr/current"].iter().find_map(|file| text(&proc.join(file)));
    if caller.privileges.has(Capability::SysAdmin) || profile.as_deref().is_some_and(exempts) {
        return None;
    }
    Some(UserNamespaces::Forbidden {
        switch: switch.to_owned(),
        value,
        fix: format!("{}; or, for all programs, run `sudo sysctl -w {switch}=0`", apparmor_profile(caller.executable)),
    })
}

/// What confines this process, as `/proc/self/attr/current` says: `unconfined`, or `name (mode)`. A profile of our own
/// was written to allow us (the kernel says if not); `unprivileged_userns` is the one that takes everything away.
fn exempts(label: &str) -> bool {
    let name = label.split(" (").next().unwrap_or(label);
    // `a//b` is a profile within a profile, `a//&b` two at once.
    let stripped = name.split("//").any(|part| part.trim_start_matches('&') == "unprivileged_userns");
    name != "unconfined" && !name.is_empty() && !stripped
}

/// The command that lets one program make user namespaces on Ubuntu ≥ 23.10.
pub(super) fn apparmor_profile(executable: &Path) -> String {
    format!(
        "allow this program: `printf 'abi <abi/4.0>,\\nprofile sandpod \"{}\" flags=(unconfined) {{ userns, }}\\n' | \
         sudo tee /etc/apparmor.d/sandpod && sudo apparmor_parser -r /etc/apparmor.d/sandpod`",
        executable.display()
    )
}

/// The first port that an ordinary user may bind. 1024 where nothing is said: the kernel's own default.
pub(super) fn unprivileged_port_start(proc: &Path, privileges: Privileges) -> u16 {
    if privileges.has(Capability::NetBindService) {
        return 0;
    }
    sysctl(proc, "net.ipv4.ip_unprivileged_port_start").and_then(|value| value.parse().ok()).unwrap_or(1024)
}

/// `None` where the kernel does not have the switch or hides it.
fn sysctl(proc: &Path, switch: &str) -> Option<String> {
    text(&proc.join("sys").join(switch.split('.').collect::<PathBuf>()))
}

fn text(path: &Path) -> Option<String> {
    let bytes = read_bounded(path, 4096).ok()?;
    Some(String::from_utf8_lossy(&bytes).trim_matches(['\n', '\0', ' ']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::recorded::Recorded;

    const EVERYTHING: [MapLine; 1] = [MapLine { inside: 0, outside: 0, count: u32::MAX }];

    fn caller(privileges: &[u8]) -> Caller<'static> {
        Caller {
            uid: 1001,
            gid: 1001,
            privileges: Privileges::parse(privileges),
            uid_map: &EVERYTHING,
            gid_map: &EVERYTHING,
            executable: Path::new("/opt/sandpod"),
        }
    }

    fn found(files: &[(&str, &str)], caller: Caller<'_>) -> UserNamespaces {
        let tree = Recorded::new(files);
        probe(tree.path(), caller)
    }

    fn switch(found: UserNamespaces) -> Option<(String, String)> {
        match found {
            UserNamespaces::Allowed => None,
            UserNamespaces::Forbidden { switch, fix, .. } => Some((switch, fix)),
        }
    }

    const ROOT: &[u8] = b"CapEff:\t000001ffffffffff\n";

    #[test]
    fn a_kernel_without_switches_allows() {
        assert_eq!(found(&[], caller(b"")), UserNamespaces::Allowed);
        let generous = [("sys/user/max_user_namespaces", "96365\n"), ("sys/kernel/unprivileged_userns_clone", "1\n")];
        assert_eq!(found(&generous, caller(b"")), UserNamespaces::Allowed);
    }

    #[test]
    fn debians_switch_binds_users_and_nested_root_but_not_root() {
        let files = [("sys/kernel/unprivileged_userns_clone", "0\n")];
        let (name, fix) = switch(found(&files, caller(b""))).expect("forbidden");
        assert_eq!(name, "kernel.unprivileged_userns_clone");
        assert!(fix.contains("sysctl -w kernel.unprivileged_userns_clone=1"), "{fix}");
        assert_eq!(switch(found(&files, caller(ROOT))), None);
        let map = [MapLine { inside: 0, outside: 1001, count: 1 }];
        let nested = Caller { uid: 0, gid: 0, uid_map: &map, gid_map: &map, ..caller(ROOT) };
        assert!(switch(found(&files, nested)).is_some());
    }

    #[test]
    fn every_limit_of_zero_is_named_and_binds_root() {
        for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
            let file = format!("sys/user/max_{kind}_namespaces");
            let (name, fix) = switch(found(&[(&file, "0\n")], caller(ROOT))).expect(kind);
            assert_eq!(name, format!("user.max_{kind}_namespaces"));
            assert!(fix.contains(&format!("sysctl -w {name}=")), "{fix}");
        }
        assert_eq!(found(&[("sys/user/max_time_namespaces", "0\n")], caller(b"")), UserNamespaces::Allowed);
    }

    #[test]
    fn ubuntus_switch_asks_for_a_profile() {
        let on = ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n");
        for (label, forbidden) in [
            ("unconfined\n", true),
            ("unprivileged_userns (enforce)\n", true),
            ("sandpod//&unprivileged_userns (enforce)\n", true),
            ("firefox//unprivileged_userns (enforce)\n", true),
            ("sandpod (unconfined)\n", false),
            ("sandpod (enforce)\0", false),
        ] {
            let found = switch(found(&[on, ("self/attr/current", label)], caller(b"")));
            assert_eq!(found.is_some(), forbidden, "{label}");
        }
        let (name, fix) = switch(found(&[on], caller(b""))).expect("unreadable is unconfined");
        assert_eq!(name, "kernel.apparmor_restrict_unprivileged_userns");
        assert!(fix.contains("\"/opt/sandpod\"") && fix.contains("userns=0"), "{fix}");
        assert_eq!(switch(found(&[on], caller(ROOT))), None);
    }

    #[test]
    fn ports_below_the_switch_are_roots() {
        let first = |files: &[(&str, &str)], privileges: &[u8]| {
            unprivileged_port_start(Recorded::new(files).path(), Privileges::parse(privileges))
        };
        let lowered = [("sys/net/ipv4/ip_unprivileged_port_start", "80\n")];
        assert_eq!([first(&[], b""), first(&lowered, b""), first(&[], ROOT)], [1024, 80, 0]);
    }

    #[test]
    fn a_kernel_without_user_namespaces_and_a_caller_without_an_id() {
        let (name, _) = switch(found(&[("self/status", "")], caller(b""))).expect("no uid_map");
        assert_eq!(name, "CONFIG_USER_NS");
        let lost = Caller { uid: 65534, gid_map: &[], uid_map: &[], ..caller(b"") };
        assert_eq!(switch(found(&[], lost)).expect("no id").0, "/proc/self/uid_map");
    }
}
