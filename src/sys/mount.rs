//! The mount API of Linux 5.2 and later: a mount is a descriptor first and gets its place in the tree later.
//!
//! That is what lets a path be resolved once, with the right credentials, and attached elsewhere afterwards without
//! being looked up again (fsopen(2), fsmount(2), open_tree(2), move_mount(2), mount_setattr(2)).

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::Result;
use super::error::{Error, Named, last};

/// Mount attributes (mount_setattr(2)).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes(u64);

impl Attributes {
    pub const NONE: Attributes = Attributes(0);
    pub const READ_ONLY: Attributes = Attributes(libc::MOUNT_ATTR_RDONLY);
    pub const NO_SUID: Attributes = Attributes(libc::MOUNT_ATTR_NOSUID);
    pub const NO_DEV: Attributes = Attributes(libc::MOUNT_ATTR_NODEV);
    pub const NO_EXEC: Attributes = Attributes(libc::MOUNT_ATTR_NOEXEC);

    /// Both; as `|`, for constants.
    #[must_use]
    pub const fn and(self, other: Attributes) -> Attributes {
        Attributes(self.0 | other.0)
    }
}

impl std::ops::BitOr for Attributes {
    type Output = Attributes;

    fn bitor(self, other: Attributes) -> Attributes {
        self.and(other)
    }
}

/// Whether an operation covers the mounts below, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    ThisMount,
    Recursive,
}

/// A mount that has no place in the tree yet; it vanishes with this descriptor. Also works as a directory descriptor.
#[derive(Debug)]
pub struct DetachedMount(OwnedFd);

impl DetachedMount {
    /// A new file system: fsopen, its options, fsmount. An option without value is a flag.
    pub fn create(kind: &str, options: &[(&str, Option<&str>)], attributes: Attributes) -> Result<DetachedMount> {
        let name = c_string(kind)?;
        // SAFETY: a NUL-terminated string that outlives the call, and an integer.
        let context = descriptor(unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) })
            .map_err(|()| last(|| format!("fsopen({kind:?})")))?;
        for (key, value) in options {
            configure(&context, key, *value).map_err(|error| with_log(&context, error))?;
        }
        // SAFETY: FSCONFIG_CMD_CREATE takes no key and no value.
        let created = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                context.as_raw_fd(),
                FSCONFIG_CMD_CREATE,
                std::ptr::null::<u8>(),
                std::ptr::null::<u8>(),
                0,
            )
        };
        if created != 0 {
            let error = last(|| format!("mount {kind} ({})", describe(options)));
            return Err(with_log(&context, error));
        }
        // SAFETY: three integers.
        let mount = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, attributes.0) };
        descriptor(mount).map(DetachedMount).map_err(|()| last(|| format!("fsmount({kind})")))
    }

    /// A copy of what is mounted at `path`, as `mount --bind` would show it (open_tree with OPEN_TREE_CLONE).
    /// `directory` is where a relative path starts; a symlink at the end is followed.
    pub fn copy_of(directory: Option<BorrowedFd<'_>>, path: &Path, reach: Reach) -> Result<DetachedMount> {
        let at = directory.map_or(libc::AT_FDCWD, |fd| fd.as_raw_fd());
        let name = c_path(path)?;
        let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
        if reach == Reach::Recursive {
            flags |= libc::AT_RECURSIVE as u32;
        }
        if path.as_os_str().is_empty() {
            flags |= libc::AT_EMPTY_PATH as u32;
        }
        // SAFETY: a NUL-terminated string that outlives the call, and integers.
        let tree = unsafe { libc::syscall(libc::SYS_open_tree, at, name.as_ptr(), flags) };
        descriptor(tree).map(DetachedMount).map_err(|()| last(|| format!("open_tree({})", path.display())))
    }

    /// A copy of what a descriptor refers to.
    pub fn copy_of_fd(fd: BorrowedFd<'_>, reach: Reach) -> Result<DetachedMount> {
        DetachedMount::copy_of(Some(fd), Path::new(""), reach)
    }

    /// Gives the mount its place: on top of what `target` (an O_PATH descriptor) refers to. `what` is for the error.
    pub fn attach(&self, target: BorrowedFd<'_>, what: &Path) -> Result<()> {
        let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
        // SAFETY: two descriptors, two empty NUL-terminated strings, an integer.
        let rc = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                target.as_raw_fd(),
                c"".as_ptr(),
                flags,
            )
        };
        if rc == 0 { Ok(()) } else { Err(last(|| format!("move_mount({})", what.display()))) }
    }

    /// Shows every owner by the map of a user namespace, for good, and adds attributes (MOUNT_ATTR_IDMAP; of a tmpfs since
    /// Linux 6.3). The caller needs every capability in the user namespace that the file system was mounted in.
    pub fn map_ids(&self, namespace: BorrowedFd<'_>, attributes: Attributes) -> Result<()> {
        let set = libc::mount_attr {
            attr_set: attributes.0 | libc::MOUNT_ATTR_IDMAP,
            attr_clr: 0,
            propagation: 0,
            userns_fd: namespace.as_raw_fd().cast_unsigned().into(),
        };
        set_attr(self.0.as_fd(), &set, libc::AT_EMPTY_PATH)
    }

    /// Adds attributes (mount_setattr(2), Linux 5.12). Never takes any away: a locked `nosuid` stays.
    pub fn add(&self, attributes: Attributes, reach: Reach) -> Result<()> {
        set_attributes(self.0.as_fd(), attributes, reach)
    }
}

impl AsFd for DetachedMount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<DetachedMount> for OwnedFd {
    fn from(mount: DetachedMount) -> OwnedFd {
        mount.0
    }
}

/// Adds attributes to the mount that a descriptor of its root refers to.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes, reach: Reach) -> Result<()> {
    let set = libc::mount_attr { attr_set: attributes.0, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if reach == Reach::Recursive { libc::AT_RECURSIVE } else { 0 };
    set_attr(mount, &set, flags)
}

fn set_attr(mount: BorrowedFd<'_>, set: &libc::mount_attr, flags: libc::c_int) -> Result<()> {
    // SAFETY: an empty NUL-terminated string and a mount_attr of the size that is passed; both outlive the call.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(set),
            size_of::<libc::mount_attr>(),
        )
    };
    if rc == 0 { Ok(()) } else { Err(last(|| format!("mount_setattr({:#x})", set.attr_set))) }
}

/// Which mount of this namespace something is on (statx(2), STATX_MNT_ID, Linux 5.8). It stays the same when the mount moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountId(u64);

/// The mount that a descriptor's file is seen through.
pub fn mount_id(fd: BorrowedFd<'_>) -> Result<MountId> {
    // SAFETY: a plain struct of integers for which all zeroes is valid.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    // SAFETY: an empty NUL-terminated string, integers, and a struct that outlives the call.
    let rc = unsafe { libc::statx(fd.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_MNT_ID, &raw mut found) };
    match rc {
        0 if found.stx_mask & libc::STATX_MNT_ID != 0 => Ok(MountId(found.stx_mnt_id)),
        0 => Err(Error { call: "statx(STATX_MNT_ID)".to_owned(), errno: nix::errno::Errno::ENOSYS }),
        _ => Err(last(|| "statx(STATX_MNT_ID)".to_owned())),
    }
}

/// A file system of the kernel's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelFileSystem {
    Proc,
    Sysfs,
}

/// Whether a descriptor refers to the root of such a file system: by its type, and by the inode that every root of it has
/// (PROC_ROOT_INO, and the first that kernfs gives).
pub fn is_root_of(fd: BorrowedFd<'_>, kind: KernelFileSystem) -> Result<bool> {
    const ROOT_INODE: u64 = 1;
    let magic = match kind {
        KernelFileSystem::Proc => libc::PROC_SUPER_MAGIC,
        KernelFileSystem::Sysfs => libc::SYSFS_MAGIC,
    };
    let found = nix::sys::statfs::fstatfs(fd).named(|| "fstatfs()".to_owned())?.filesystem_type();
    let inode = nix::sys::stat::fstat(fd).named(|| "fstat()".to_owned())?.st_ino;
    Ok(found == nix::sys::statfs::FsType(magic) && inode == ROOT_INODE)
}

/// Makes the current directory the root, and forgets the old root with everything below it.
///
/// `pivot_root(".", ".")` stacks the old root on the new one, so that one umount of "." takes it away
/// (pivot_root(2), NOTES).
pub fn pivot_to_current_directory() -> Result<()> {
    nix::unistd::pivot_root(".", ".").named(|| "pivot_root(\".\", \".\")".to_owned())?;
    nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH).named(|| "umount2(\".\", MNT_DETACH)".to_owned())?;
    nix::unistd::chdir("/").named(|| "chdir(\"/\")".to_owned())
}

/// `mount --rbind`, by mount(2).
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .named(|| format!("mount({source:?}, {target:?}, MS_BIND|MS_REC)"))
}

/// `mount -t tmpfs`, by mount(2).
pub fn cover_with_tmpfs(target: &Path) -> Result<()> {
    nix::mount::mount(Some("tmpfs"), target, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
        .named(|| format!("mount(tmpfs, {target:?})"))
}

/// Stops mount events from crossing between this mount namespace and the one it was copied from.
pub fn make_private() -> Result<()> {
    let flags = nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
        .named(|| "mount(\"/\", MS_REC|MS_PRIVATE)".to_owned())
}

const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;

fn configure(context: &OwnedFd, key: &str, value: Option<&str>) -> Result<()> {
    let (name, text) = (c_string(key)?, value.map(c_string).transpose()?);
    let command = if text.is_some() { FSCONFIG_SET_STRING } else { FSCONFIG_SET_FLAG };
    let pointer = text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    // SAFETY: NUL-terminated strings (or null, for a flag) that outlive the call, and integers.
    let rc = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), command, name.as_ptr(), pointer, 0) };
    if rc == 0 { Ok(()) } else { Err(last(|| format!("fsconfig({}={})", key, value.unwrap_or("yes")))) }
}

/// The kernel's own words about what it did not like, where it left some in the context.
fn with_log(context: &OwnedFd, mut error: Error) -> Error {
    let mut buffer = [0u8; 512];
    if let Ok(length @ 1..) = nix::unistd::read(context, &mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]);
        error.call = format!("{}: kernel says `{}`", error.call, text.trim_end());
    }
    error
}

fn describe(options: &[(&str, Option<&str>)]) -> String {
    let words: Vec<String> =
        options.iter().map(|(key, value)| value.map_or((*key).to_owned(), |value| format!("{key}={value}"))).collect();
    words.join(",")
}

fn descriptor(rc: libc::c_long) -> std::result::Result<OwnedFd, ()> {
    match i32::try_from(rc) {
        // SAFETY: the kernel has just returned this new descriptor and nobody else owns it.
        Ok(fd @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(()),
    }
}

fn c_string(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error { call: format!("{text:?} (holds a NUL)"), errno: nix::errno::Errno::EINVAL })
}

fn c_path(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error { call: format!("{path:?} (holds a NUL)"), errno: nix::errno::Errno::EINVAL })
}
