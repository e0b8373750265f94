//! Ids, capabilities and the other rights of the calling process.

use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::Result;
use super::error::{Error, Named, last};

/// What a process may become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// `None`: setgroups(2) is denied in this user namespace (a map of one id), so they stay as they are.
    pub groups: Option<Vec<u32>>,
}

/// Takes on ids: groups first, then gid, then uid, because each needs a right that the later ones may take away.
pub fn become_identity(identity: &Identity) -> Result<()> {
    if let Some(groups) = &identity.groups {
        let gids: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        setgroups(&gids).named(|| format!("setgroups({groups:?})"))?;
    }
    let gid = Gid::from_raw(identity.gid);
    setresgid(gid, gid, gid).named(|| format!("setresgid({gid})"))?;
    let uid = Uid::from_raw(identity.uid);
    setresuid(uid, uid, uid).named(|| format!("setresuid({uid})"))
}

/// Real user id of this process.
#[must_use]
pub fn uid() -> u32 {
    nix::unistd::getuid().as_raw()
}

/// Real group id of this process.
#[must_use]
pub fn gid() -> u32 {
    nix::unistd::getgid().as_raw()
}

/// The kernel's number of a capability by its name without `CAP_`; `None` when this build does not know it.
fn capability(name: &str) -> Option<Capability> {
    format!("CAP_{name}").parse().ok()
}

/// Limits the bounding set to `keep`: no exec, not even of a setuid program, brings more back (capabilities(7)).
/// Needs CAP_SETPCAP, so it comes before the uid changes.
pub fn limit_bounding_set(keep: &[String]) -> Result<()> {
    let keep = named_set(keep)?;
    for cap in caps::runtime::thread_all_supported() {
        if !keep.contains(&cap) {
            caps::drop(None, CapSet::Bounding, cap).map_err(|_| last(|| format!("prctl(PR_CAPBSET_DROP, {cap})")))?;
        }
    }
    Ok(())
}

/// Sets permitted and effective to `keep`, and clears inheritable and ambient: what CVE-2022-29162 was about.
pub fn limit_capabilities(keep: &[String]) -> Result<()> {
    let keep = named_set(keep)?;
    let failed = |what: &str| last(|| format!("capset({what})"));
    caps::clear(None, CapSet::Ambient).map_err(|_| failed("ambient"))?;
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(|_| failed("inheritable"))?;
    caps::set(None, CapSet::Effective, &keep).map_err(|_| failed("effective"))?;
    caps::set(None, CapSet::Permitted, &keep).map_err(|_| failed("permitted"))
}

/// Lets these capabilities survive the exec of an ordinary program, also by a uid that is not root in its user namespace. All
/// others are lost then (capabilities(7), "Ambient").
pub fn keep_on_exec<'n>(names: impl IntoIterator<Item = &'n &'n str>) -> Result<()> {
    let names: Vec<String> = names.into_iter().map(|name| (*name).to_owned()).collect();
    let kept = named_set(&names)?;
    caps::set(None, CapSet::Inheritable, &kept).map_err(|_| last(|| "capset(inheritable)".to_owned()))?;
    for cap in kept {
        caps::raise(None, CapSet::Ambient, cap).map_err(|_| last(|| format!("prctl(PR_CAP_AMBIENT_RAISE, {cap})")))?;
    }
    Ok(())
}

/// Takes capabilities out of the effective set; they stay permitted.
pub fn take_out_of_effect(names: &[&str]) -> Result<()> {
    let failed = |call: &str| last(|| format!("{call}(effective)"));
    let mut effective = caps::read(None, CapSet::Effective).map_err(|_| failed("capget"))?;
    let before = effective.len();
    effective.retain(|cap| !names.iter().any(|name| capability(name) == Some(*cap)));
    if effective.len() == before {
        return Ok(());
    }
    caps::set(None, CapSet::Effective, &effective).map_err(|_| failed("capset"))
}

fn named_set(names: &[String]) -> Result<CapsHashSet> {
    let supported = caps::runtime::thread_all_supported();
    let mut set = CapsHashSet::new();
    for name in names {
        let unknown = || Error { call: format!("capability {name}"), errno: nix::errno::Errno::EINVAL };
        let cap = capability(name).ok_or_else(unknown)?;
        // A capability that is newer than the kernel cannot be held by anybody.
        if supported.contains(&cap) {
            set.insert(cap);
        }
    }
    Ok(set)
}

/// No exec gives new rights any more (PR_SET_NO_NEW_PRIVS).
pub fn no_new_privileges() -> Result<()> {
    nix::sys::prctl::set_no_new_privs().named(|| "prctl(PR_SET_NO_NEW_PRIVS)".to_owned())
}

/// Closes `/proc/PID/{exe,root,mem,…}` of this process to everybody but the kernel's own root until the next exec
/// (PR_SET_DUMPABLE): its memory belongs to the host's user namespace, so no capability inside a pod opens it.
pub fn hide_from_ptrace() -> Result<()> {
    nix::sys::prctl::set_dumpable(false).named(|| "prctl(PR_SET_DUMPABLE)".to_owned())
}

/// Undoes [`hide_from_ptrace`].
pub fn show_to_ptrace() -> Result<()> {
    nix::sys::prctl::set_dumpable(true).named(|| "prctl(PR_SET_DUMPABLE)".to_owned())
}

/// A session keyring of its own: the caller's keys stay with the caller (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING).
pub fn leave_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for a new anonymous keyring; no other memory is passed.
    let rc = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
    match nix::errno::Errno::last() {
        _ if rc >= 0 => Ok(()),
        // No keyrings in this kernel, or keyctl filtered by an outer container: nothing is shared then either.
        nix::errno::Errno::ENOSYS | nix::errno::Errno::EPERM | nix::errno::Errno::EACCES => Ok(()),
        // The quota of this uid is used up (kernel.keys.maxkeys, 200 by default, one for each container and exec). Then
        // the caller's keyring stays, out of reach: the filter that every container gets refuses keyctl(2) and its kin.
        nix::errno::Errno::EDQUOT => Ok(()),
        errno => Err(Error { call: "keyctl(KEYCTL_JOIN_SESSION_KEYRING)".to_owned(), errno }),
    }
}
