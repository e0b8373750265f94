//! `/proc/self/mountinfo` (proc_pid_mountinfo(5)), read once and asked several questions. Pure.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::ProcVisibility;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    id: u64,
    parent: u64,
    /// What of the file system is mounted: `/`, or a subdirectory for a bind mount.
    root: PathBuf,
    point: PathBuf,
    options: String,
    fs_type: String,
    super_options: String,
}

impl Mount {
    fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|found| found == option)
    }

    fn is_read_only(&self) -> bool {
        self.has("ro") || self.super_options.split(',').any(|found| found == "ro")
    }
}

/// One mount of cgroup2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cgroup2Mount {
    /// The cgroup that is mounted: `/`, or `/../..` for what is above the root of our cgroup namespace.
    pub(super) root: PathBuf,
    pub(super) point: PathBuf,
    pub(super) access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Access {
    ReadOnly,
    ReadWrite,
}

/// All mounts of our mount namespace that our root directory reaches.
#[derive(Debug, Default)]
pub(super) struct MountTable(Vec<Mount>);

impl MountTable {
    /// Lines that are no mountinfo are left out: the kernel writes none, and a wrong guess here only costs a later
    /// EPERM with its own explanation.
    pub(super) fn parse(text: &[u8]) -> MountTable {
        MountTable(text.split(|&byte| byte == b'\n').filter_map(parse_line).collect())
    }

    /// Mount points strictly below a directory, sorted. Lossy where they are not UTF-8: they are shown, never opened.
    pub(super) fn below(&self, directory: &Path) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = self
            .0
            .iter()
            .filter(|mount| mount.point != directory && mount.point.starts_with(directory))
            .map(|mount| printable(&mount.point))
            .collect();
        found.sort();
        found.dedup();
        found
    }

    /// The mounts of cgroup2 that no later mount on the same directory hides, in the order of mounting.
    pub(super) fn cgroup2(&self) -> impl Iterator<Item = Cgroup2Mount> + '_ {
        let uncovered = |(place, mount): &(usize, &Mount)| {
            mount.fs_type == "cgroup2" && self.0[place + 1..].iter().all(|later| later.point != mount.point)
        };
        self.0.iter().enumerate().filter(uncovered).map(|(_, mount)| Cgroup2Mount {
            root: mount.root.clone(),
            point: mount.point.clone(),
            access: if mount.is_read_only() { Access::ReadOnly } else { Access::ReadWrite },
        })
    }

    /// Is there a hierarchy of version 1?
    pub(super) fn has_cgroup1(&self) -> bool {
        self.0.iter().any(|mount| mount.fs_type == "cgroup")
    }

    /// Where a procfs is mounted, or a part of one.
    pub(super) fn procfs_points(&self) -> Vec<PathBuf> {
        self.0.iter().filter(|mount| mount.fs_type == "proc").map(|mount| mount.point.clone()).collect()
    }

    /// The rule of `mnt_already_visible` in the kernel's fs/namespace.c, for a procfs that a new user namespace mounts
    /// read-write with the default relatime: one procfs in sight must show everything.
    pub(super) fn procfs(&self) -> ProcVisibility {
        self.visibility("proc", &ALWAYS_EMPTY_IN_PROC, true)
    }

    /// The same for a sysfs. A container has it read-only, so one that is read-only already is no hindrance.
    pub(super) fn sysfs(&self) -> ProcVisibility {
        self.visibility("sysfs", &ALWAYS_EMPTY_IN_SYS, false)
    }

    fn visibility(&self, fs_type: &str, always_empty: &[&str], writable: bool) -> ProcVisibility {
        let whole = |mount: &&Mount| mount.fs_type == fs_type && mount.root == Path::new("/");
        // The one with the fewest covers is the one worth repairing.
        let covers = |mount| self.covers(mount, always_empty, writable);
        let fewest = self.0.iter().filter(whole).map(covers).min_by_key(Vec::len);
        match fewest {
            Some(by) if by.is_empty() => ProcVisibility::Full,
            by => ProcVisibility::Masked { by: by.unwrap_or_default() },
        }
    }

    /// What keeps one of them from being fully visible: the file system itself when its flags are stricter than the new one's
    /// would be (they are locked in the new user namespace), and each mount directly on it.
    fn covers(&self, procfs: &Mount, always_empty: &[&str], writable: bool) -> Vec<PathBuf> {
        let mut covers = Vec::new();
        let same_atime = procfs.has("relatime") && !procfs.has("noatime") && !procfs.has("nodiratime");
        if (writable && procfs.is_read_only()) || !same_atime {
            covers.push(printable(&procfs.point));
        }
        let children = self.0.iter().filter(|mount| mount.parent == procfs.id && mount.id != procfs.id);
        covers.extend(
            children.filter(|child| !covers_nothing(procfs, child, always_empty)).map(|child| printable(&child.point)),
        );
        covers.sort();
        covers.dedup();
        covers
    }
}

/// Directories that procfs makes as mount points and keeps empty for good (`proc_create_mount_point`,
/// `register_sysctl_mount_point`): a mount on them hides nothing. Any other directory counts, even an empty one.
const ALWAYS_EMPTY_IN_PROC: [&str; 4] = ["sys/fs/binfmt_misc", "fs/nfsd", "xen", "openprom"];
/// The same of sysfs (`sysfs_create_mount_point`).
const ALWAYS_EMPTY_IN_SYS: [&str; 13] = [
    "fs/cgroup",
    "fs/bpf",
    "fs/fuse/connections",
    "fs/pstore",
    "fs/resctrl",
    "fs/selinux",
    "fs/smackfs",
    "firmware/efi/efivars",
    "hypervisor/s390",
    "kernel/config",
    "kernel/debug",
    "kernel/security",
    "kernel/tracing",
];

fn covers_nothing(procfs: &Mount, child: &Mount, always_empty: &[&str]) -> bool {
    child.point.strip_prefix(&procfs.point).is_ok_and(|inside| always_empty.iter().any(|dir| inside == Path::new(dir)))
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let id = number(fields.next()?)?;
    let parent = number(fields.next()?)?;
    let _device = fields.next()?;
    let root = path(fields.next()?);
    let point = path(fields.next()?);
    let options = text(fields.next()?);
    // Optional fields (`shared:1`, …) until a lone dash.
    fields.by_ref().find(|field| *field == b"-")?;
    let fs_type = text(fields.next()?);
    let _source = fields.next()?;
    // Some file systems have no options of their own; the line then ends early.
    let super_options = fields.next().map(text).unwrap_or_default();
    Some(Mount { id, parent, root, point, options, fs_type, super_options })
}

fn number(field: &[u8]) -> Option<u64> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(field).into_owned()
}

/// Space, tab, newline and backslash (and `#`) are written as `\040` and so on.
fn path(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        if let (b'\\', Some(digits @ [b'0'..=b'3', b'0'..=b'7', b'0'..=b'7'])) = (first, after.get(..3)) {
            bytes.push(digits.iter().fold(0, |value, digit| value << 3 | (digit - b'0')));
            rest = &after[3..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Facts are written as JSON, which has no bytes.
fn printable(path: &Path) -> PathBuf {
    PathBuf::from(path.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(lines: &[&str]) -> MountTable {
        MountTable::parse(lines.join("\n").as_bytes())
    }

    fn masked(paths: &[&str]) -> ProcVisibility {
        ProcVisibility::Masked { by: paths.iter().map(PathBuf::from).collect() }
    }

    const PROC: &str = "22 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw";

    #[test]
    fn a_systemd_host_shows_all_of_proc() {
        let autofs = "35 22 0:30 / /proc/sys/fs/binfmt_misc rw,relatime shared:14 - autofs systemd-1 rw,fd=29";
        let binfmt = "80 35 0:44 / /proc/sys/fs/binfmt_misc rw,nosuid shared:60 - binfmt_misc binfmt_misc rw";
        assert_eq!(table(&[PROC, autofs, binfmt]).procfs(), ProcVisibility::Full);
    }

    #[test]
    fn docker_masks_it() {
        let table = table(&[
            "700 690 0:90 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw",
            "701 700 0:90 /bus /proc/bus ro,nosuid,nodev,noexec,relatime - proc proc rw",
            "702 700 0:90 /sys /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw",
            "703 700 0:91 /null /proc/kcore rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755",
            "704 702 0:95 / /proc/sys/deep rw - tmpfs tmpfs rw",
        ]);
        assert_eq!(table.procfs(), masked(&["/proc/bus", "/proc/kcore", "/proc/sys"]));
    }

    #[test]
    fn sysfs_of_a_machine_and_of_a_container() {
        let sys = "23 27 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:7 - sysfs sysfs rw";
        let cgroup = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw";
        let debug = "32 23 0:8 / /sys/kernel/debug rw,relatime - debugfs debugfs rw";
        assert_eq!(table(&[sys, cgroup, debug]).sysfs(), ProcVisibility::Full);
        let read_only = "23 27 0:22 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro";
        assert_eq!(table(&[read_only, cgroup]).sysfs(), ProcVisibility::Full);
        let firmware = "33 23 0:91 / /sys/firmware ro,relatime - tmpfs tmpfs ro";
        assert_eq!(table(&[read_only, firmware]).sysfs(), masked(&["/sys/firmware"]));
        assert_eq!(table(&[]).sysfs(), masked(&[]));
    }

    #[test]
    fn one_whole_procfs_elsewhere_is_enough() {
        let cover = "30 22 0:40 / /proc/scsi ro,relatime - tmpfs tmpfs ro";
        let other = "31 27 0:41 / /run/proc rw,relatime - proc proc rw";
        assert_eq!(table(&[PROC, cover]).procfs(), masked(&["/proc/scsi"]));
        assert_eq!(table(&[PROC, cover, other]).procfs(), ProcVisibility::Full);
        let part = "31 27 0:41 /sys /run/proc rw,relatime - proc proc rw";
        assert_eq!(table(&[PROC, cover, part]).procfs(), masked(&["/proc/scsi"]));
    }

    #[test]
    fn flags_of_the_procfs_itself_are_locked() {
        for options in ["ro,relatime", "rw,noatime", "rw", "rw,nodiratime,relatime"] {
            let line = format!("22 27 0:21 / /proc {options} - proc proc rw");
            assert_eq!(table(&[&line]).procfs(), masked(&["/proc"]), "{options}");
        }
        assert_eq!(table(&["22 27 0:21 / /proc rw,relatime - proc proc ro"]).procfs(), masked(&["/proc"]));
        assert_eq!(table(&[]).procfs(), masked(&[]));
    }

    #[test]
    fn mounts_below_a_directory_by_whole_names_and_unescaped() {
        let table = table(&[
            "1 0 8:1 / / rw - ext4 /dev/sda1 rw",
            "2 1 8:2 / /usr rw - ext4 /dev/sda2 rw",
            r"3 2 8:3 / /usr/my\040disk\134x rw - ext4 /dev/sda3 rw",
            "4 1 8:4 / /usrlocal rw - ext4 /dev/sda4 rw",
            "5 2 8:5 / /usr/local rw - tmpfs none",
        ]);
        assert_eq!(table.below(Path::new("/usr")), [Path::new("/usr/local"), Path::new(r"/usr/my disk\x")]);
        assert_eq!(table.below(Path::new("/etc")), [] as [&Path; 0]);
    }

    #[test]
    fn mounts_of_cgroup2() {
        let table = table(&[
            "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755",
            "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu",
            "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw",
            "50 41 0:38 /../.. /sys/fs/cgroup/unified ro,relatime - cgroup2 cgroup2 rw,nsdelegate",
            r"51 23 0:38 / /mnt/a\012b rw - cgroup2 cgroup2 rw",
        ]);
        let found: Vec<_> = table.cgroup2().map(|mount| (mount.root, mount.point, mount.access)).collect();
        let of = |root: &str, point: &str, access| (PathBuf::from(root), PathBuf::from(point), access);
        let expected =
            [of("/../..", "/sys/fs/cgroup/unified", Access::ReadOnly), of("/", "/mnt/a\nb", Access::ReadWrite)];
        assert_eq!(found, expected);
        assert!(table.has_cgroup1());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text: Vec<u8>) {
            let table = MountTable::parse(&text);
            table.procfs();
            table.below(Path::new("/"));
        }

        #[test]
        fn any_fields_are_survived(line in r"[0-9]{1,22} [0-9]{0,4} [^\n]{0,9} (/[\\0-9a-z]{0,9}){1,2} /[\\0-9]{0,9} rw - proc") {
            MountTable::parse(line.as_bytes()).procfs();
        }
    }
}
