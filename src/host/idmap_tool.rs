//! newuidmap(1) and newgidmap(1): are they there, and would the kernel give them what they need?

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::IdMapTool;
use super::switches::Caller;
use super::user::{Capability, maps};
use crate::sys::probe;

/// Searched after `$PATH`, which a service or a cron job may have short.
const USUAL: [&str; 3] = ["/usr/bin", "/bin", "/usr/local/bin"];
/// S_ISUID of inode(7).
const SETUID: u32 = 0o4000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    NewUidMap,
    NewGidMap,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Tool::NewUidMap => "newuidmap",
            Tool::NewGidMap => "newgidmap",
        }
    }

    fn needs(self) -> (Capability, &'static str) {
        match self {
            Tool::NewUidMap => (Capability::SetUid, "cap_setuid"),
            Tool::NewGidMap => (Capability::SetGid, "cap_setgid"),
        }
    }
}

/// The first one that can write maps, else the first one there is.
pub(super) fn find(tool: Tool, search: &OsStr, caller: Caller<'_>) -> IdMapTool {
    let mut second_best = None;
    let mut seen = Vec::new();
    for directory in searched(search) {
        if seen.contains(&directory) {
            continue;
        }
        let path = directory.join(tool.name());
        seen.push(directory);
        let Some(file) = ToolFile::look(&path) else { continue };
        match lacks(tool, &file, caller) {
            None => return IdMapTool::Privileged(path),
            Some(lack) => {
                let (why, fix) = (lack.why(tool), lack.fix(&path));
                second_best.get_or_insert(IdMapTool::Unprivileged { path, why, fix });
            }
        }
    }
    second_best.unwrap_or(IdMapTool::Missing)
}

/// The directories in which [`find`] looks.
fn searched(search: &OsStr) -> impl Iterator<Item = PathBuf> {
    // A name that is not UTF-8 cannot be in a plan, which is JSON; a relative one is as bad as `.` in PATH.
    let listed = std::env::split_paths(search).filter(|dir| dir.is_absolute() && dir.to_str().is_some());
    listed.chain(USUAL.map(PathBuf::from))
}

/// Whether [`find`] could have found these tools: a plan that is read from disk names them, and they are executed.
pub(super) fn are_where_found(newuidmap: &Path, newgidmap: &Path, search: &OsStr) -> bool {
    [(Tool::NewUidMap, newuidmap), (Tool::NewGidMap, newgidmap)]
        .iter()
        .all(|(tool, path)| searched(search).any(|directory| directory.join(tool.name()) == *path))
}

/// What the kernel looks at when it executes a file (execve(2), capabilities(7)).
#[derive(Debug, Clone)]
struct ToolFile {
    mode: u32,
    /// As our own user namespace sees them.
    owner: u32,
    group: u32,
    executable: bool,
    nosuid: bool,
    /// `security.capability`
    capability: Option<Vec<u8>>,
}

impl ToolFile {
    /// `None` where there is no such file.
    fn look(path: &Path) -> Option<ToolFile> {
        let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        Some(ToolFile {
            mode: found.mode(),
            owner: found.uid(),
            group: found.gid(),
            executable: probe::may_execute(path).is_ok(),
            nosuid: probe::is_nosuid(path).unwrap_or(false),
            // Read only where the setuid bit does not already answer.
            capability: if found.mode() & SETUID == 0 { probe::file_capability(path).ok().flatten() } else { None },
        })
    }
}

/// Why a tool cannot write a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    NotExecutable,
    /// The uid that is the file's owner.
    UnknownOwner,
    OwnedBy(u32),
    Privilege,
    NoSuidMount,
    NoNewPrivileges,
}

impl Lack {
    fn why(self, tool: Tool) -> String {
        match self {
            Lack::NotExecutable => "you may not execute it (mode, or a noexec mount)".to_owned(),
            Lack::UnknownOwner => {
                "its owner does not exist in this user namespace, so its setuid bit does nothing here".to_owned()
            }
            Lack::OwnedBy(uid) => format!("it is setuid, but owned by uid {uid} instead of root"),
            Lack::Privilege => {
                format!("it is neither setuid root nor has it {} as a file capability", tool.needs().1)
            }
            Lack::NoSuidMount => "it lies on a mount with nosuid".to_owned(),
            Lack::NoNewPrivileges => {
                "this process has no_new_privs set (a sandbox, or NoNewPrivileges= of systemd), so no program gains \
                 privileges"
                    .to_owned()
            }
        }
    }

    fn fix(self, path: &Path) -> String {
        let path = path.display();
        match self {
            Lack::NotExecutable => format!("make it executable: sudo chmod a+x {path}"),
            Lack::UnknownOwner => {
                "run sandpod outside of this user namespace, or as its root with CAP_SETUID, CAP_SETGID and CAP_SETFCAP"
                    .to_owned()
            }
            // chown(2) takes the setuid bit away.
            Lack::OwnedBy(_) => format!("give it to root: sudo chown root {path} && sudo chmod u+s {path}"),
            Lack::Privilege => format!("make it setuid root: sudo chmod u+s {path}"),
            Lack::NoSuidMount => {
                format!(
                    "mount its file system without nosuid: `findmnt -T {path}` shows which, then sudo mount -o remount,suid"
                )
            }
            Lack::NoNewPrivileges => {
                "start sandpod where no_new_privs is not set: NoNewPrivileges=no in a systemd unit, docker without \
                 `--security-opt no-new-privileges`, `allowPrivilegeEscalation: true` in Kubernetes"
                    .to_owned()
            }
        }
    }
}

/// `None` when the tool can write a map.
fn lacks(tool: Tool, file: &ToolFile, caller: Caller<'_>) -> Option<Lack> {
    let (capability, _) = tool.needs();
    if !file.executable {
        return Some(Lack::NotExecutable);
    }
    if caller.uid == 0 && caller.privileges.has(capability) {
        return None;
    }
    let by_file = file.capability.as_deref().is_some_and(|value| permits(value, capability));
    let by_owner = file.mode & SETUID != 0 && file.owner == 0;
    let known = maps(caller.uid_map, file.owner) && maps(caller.gid_map, file.group);
    match () {
        () if file.mode & SETUID != 0 && !known => Some(Lack::UnknownOwner),
        () if file.mode & SETUID != 0 && file.owner != 0 => Some(Lack::OwnedBy(file.owner)),
        () if !by_owner && !by_file => Some(Lack::Privilege),
        () if file.nosuid => Some(Lack::NoSuidMount),
        () if caller.privileges.no_new_privs => Some(Lack::NoNewPrivileges),
        () => None,
    }
}

/// `struct vfs_cap_data` and `vfs_ns_cap_data` of linux/capability.h: little-endian words; revision in the top byte.
fn permits(value: &[u8], capability: Capability) -> bool {
    let word = |index: usize| {
        let bytes = value.get(index * 4..index * 4 + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let (Some(magic), Some(permitted)) = (word(0), word(1)) else { return false };
    let counts_here = match (magic >> 24, value.len()) {
        (2, 20) => true,
        // Revision 3 belongs to the root of one user namespace; as 0 it is ours.
        (3, 24) => word(5) == Some(0),
        _ => false,
    };
    counts_here && permitted & (1 << capability as u32) != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::MapLine;
    use super::super::user::Privileges;
    use super::*;

    const EVERYTHING: [MapLine; 1] = [MapLine { inside: 0, outside: 0, count: u32::MAX }];
    const SETUID_ROOT: ToolFile =
        ToolFile { mode: 0o104_755, owner: 0, group: 0, executable: true, nosuid: false, capability: None };

    fn caller<'a>(map: &'a [MapLine], status: &[u8]) -> Caller<'a> {
        Caller {
            uid: 1001,
            gid: 1001,
            privileges: Privileges::parse(status),
            uid_map: map,
            gid_map: map,
            executable: Path::new("/opt/sandpod"),
        }
    }

    fn why(file: &ToolFile) -> Option<Lack> {
        lacks(Tool::NewUidMap, file, caller(&EVERYTHING, b""))
    }

    /// As `setcap cap_setuid=ep` writes it.
    fn revision_2(permitted: u32) -> Vec<u8> {
        [0x0200_0001u32, permitted, 0, 0, 0].iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn revision_3(permitted: u32, root: u32) -> Vec<u8> {
        [0x0300_0001u32, permitted, 0, 0, 0, root].iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn setuid_root_is_enough_unless_something_disables_it() {
        assert_eq!(why(&SETUID_ROOT), None);
        for (file, lack) in [
            (ToolFile { nosuid: true, ..SETUID_ROOT }, Lack::NoSuidMount),
            (ToolFile { owner: 33, ..SETUID_ROOT }, Lack::OwnedBy(33)),
            (ToolFile { executable: false, ..SETUID_ROOT }, Lack::NotExecutable),
            (ToolFile { mode: 0o100_755, ..SETUID_ROOT }, Lack::Privilege),
        ] {
            assert_eq!(why(&file), Some(lack));
        }
        let confined = lacks(Tool::NewUidMap, &SETUID_ROOT, caller(&EVERYTHING, b"NoNewPrivs:\t1\n"));
        assert_eq!(confined, Some(Lack::NoNewPrivileges));
    }

    #[test]
    fn only_a_missing_setuid_bit_is_mended_by_one() {
        let fix = |lack: Lack| lack.fix(Path::new("/usr/bin/newuidmap"));
        for lack in [Lack::NotExecutable, Lack::UnknownOwner, Lack::NoSuidMount, Lack::NoNewPrivileges] {
            assert!(!fix(lack).contains("u+s"), "{lack:?}");
        }
        assert!(fix(Lack::Privilege).contains("chmod u+s /usr/bin/newuidmap"));
        assert!(fix(Lack::OwnedBy(33)).contains("chown root"));
        assert!(fix(Lack::NoNewPrivileges).contains("NoNewPrivileges=no"));
        assert!(Lack::Privilege.why(Tool::NewGidMap).contains("cap_setgid"));
    }

    #[test]
    fn an_owner_that_a_nested_namespace_does_not_know() {
        let map = [MapLine { inside: 1001, outside: 1001, count: 1 }];
        let file = ToolFile { owner: 65534, group: 65534, ..SETUID_ROOT };
        assert_eq!(lacks(Tool::NewUidMap, &file, caller(&map, b"")), Some(Lack::UnknownOwner));
        // Root of the nested namespace needs no setuid bit: it has the capability itself.
        let root = Caller { uid: 0, ..caller(&map, b"CapEff:\t000001ffffffffff\n") };
        assert_eq!(lacks(Tool::NewUidMap, &file, root), None);
    }

    #[test]
    fn file_capabilities_of_both_revisions() {
        let plain = |capability| ToolFile { mode: 0o100_755, capability: Some(capability), ..SETUID_ROOT };
        assert_eq!(why(&plain(revision_2(1 << 7))), None);
        assert_eq!(why(&plain(revision_3(1 << 7, 0))), None);
        assert!(why(&plain(revision_2(1 << 6))).is_some(), "cap_setgid does not help newuidmap");
        assert!(why(&plain(revision_3(1 << 7, 100_000))).is_some(), "another namespace's root");
        let newgidmap = plain(revision_2(1 << 6));
        assert_eq!(lacks(Tool::NewGidMap, &newgidmap, caller(&EVERYTHING, b"")), None);
        assert!(why(&ToolFile { nosuid: true, ..plain(revision_2(1 << 7)) }).is_some());
    }

    #[test]
    fn a_search_path_of_nonsense_still_finds_the_usual_places() {
        let found = find(Tool::NewUidMap, OsStr::new("::.:relative:/nonexistent:"), caller(&EVERYTHING, b""));
        let there = USUAL.iter().any(|dir| Path::new(dir).join("newuidmap").exists());
        assert_eq!(found != IdMapTool::Missing, there);
    }

    proptest! {
        #[test]
        fn any_attribute_is_survived(value: Vec<u8>) {
            permits(&value, Capability::SetUid);
        }
    }
}
