//! Calls that only look at the machine; [`crate::host`] makes its facts of them.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::FsFlags;
use nix::unistd::AccessFlags;

use super::error::{Named, last};
use super::{Error, Result};

/// The errno numbers that [`crate::host::advice`] explains; they cross process boundaries as plain numbers.
pub mod errno {
    pub use libc::{
        E2BIG, EACCES, EAGAIN, EBUSY, EDQUOT, EFBIG, EINVAL, EIO, EISDIR, ELIBBAD, ELOOP, EMFILE, ENAMETOOLONG, ENFILE,
        ENODEV, ENOENT, ENOEXEC, ENOMEM, ENOSPC, ENOSYS, ENOTDIR, EOPNOTSUPP, EPERM, EROFS, ESRCH, ETIMEDOUT, ETXTBSY,
        EUSERS, EXDEV,
    };
}

/// uname(2), what is needed of it.
#[derive(Debug, Clone)]
pub struct Uname {
    /// `6.12.3-amd64`
    pub release: String,
    pub hostname: String,
}

/// Opens a file that must be a regular one. Never waits: a FIFO put in its place is an error, not a hang.
pub fn open_regular(path: &Path) -> Result<File> {
    let call = || format!("open(\"{}\")", path.display());
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).named(call)?;
    if file.metadata().named(|| format!("fstat(\"{}\")", path.display()))?.is_file() {
        return Ok(file);
    }
    Err(Error { call: format!("{}: not a regular file", call()), errno: Errno::EINVAL })
}

/// The bytes of a regular file of at most `limit` bytes; EFBIG when it has more.
pub fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let mut file = open_regular(path)?;
    let call = || format!("read(\"{}\")", path.display());
    // One page first: nearly everything read here is shorter, and /proc files have no size to ask for.
    let mut bytes = vec![0; 4096];
    let mut length = 0;
    loop {
        match file.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error).named(call),
        }
        if length > limit {
            return Err(Error { call: format!("{}: more than {limit} bytes", call()), errno: Errno::EFBIG });
        }
        if length == bytes.len() {
            bytes.resize(length * 4, 0);
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// access(2): may this process make entries in a directory? The error says why not (EACCES, EROFS).
pub fn may_fill(directory: &Path) -> Result<()> {
    nix::unistd::access(directory, AccessFlags::W_OK | AccessFlags::X_OK)
        .named(|| format!("access(\"{}\", W_OK|X_OK)", directory.display()))
}

/// access(2): may this process execute a file?
pub fn may_execute(path: &Path) -> Result<()> {
    nix::unistd::access(path, AccessFlags::X_OK).named(|| format!("access(\"{}\", X_OK)", path.display()))
}

/// True when the mount a file lies on has `nosuid`: setuid bits and file capabilities do nothing there.
pub fn is_nosuid(path: &Path) -> Result<bool> {
    let found = nix::sys::statvfs::statvfs(path).named(|| format!("statvfs(\"{}\")", path.display()))?;
    Ok(found.flags().contains(FsFlags::ST_NOSUID))
}

/// The raw `security.capability` attribute of a file (capabilities(7)); `None` when it has none, or its file system
/// knows none.
pub fn file_capability(path: &Path) -> Result<Option<Vec<u8>>> {
    let call = || format!("getxattr(\"{}\", \"security.capability\")", path.display());
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error { call: call(), errno: Errno::EINVAL })?;
    // vfs_ns_cap_data, the longest form, has 24 bytes.
    let mut value = vec![0u8; 64];
    // SAFETY: both strings end in NUL and outlive the call; the kernel writes at most `value.len()` bytes to `value`.
    let length = unsafe {
        libc::getxattr(name.as_ptr(), c"security.capability".as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    let Ok(length) = usize::try_from(length) else {
        let error = last(call);
        // EOVERFLOW: written for the root of a user namespace that ours does not know; it does nothing here.
        let none = [Errno::ENODATA, Errno::EOPNOTSUPP, Errno::EOVERFLOW];
        return if none.contains(&error.errno) { Ok(None) } else { Err(error) };
    };
    value.truncate(length);
    Ok(Some(value))
}

/// uname(2).
pub fn uname() -> Result<Uname> {
    let found = nix::sys::utsname::uname().named(|| "uname()".to_owned())?;
    Ok(Uname {
        release: found.release().to_string_lossy().into_owned(),
        hostname: found.nodename().to_string_lossy().into_owned(),
    })
}

/// Effective uid and gid.
#[must_use]
pub fn effective_ids() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_and_a_directory_are_refused_at_once() {
        let directory = tempfile::tempdir().expect("tempdir");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("mkfifo");
        assert_eq!(read_bounded(&fifo, 10).expect_err("a FIFO").errno, Errno::EINVAL);
        assert_eq!(read_bounded(directory.path(), 10).expect_err("a directory").errno, Errno::EINVAL);
    }

    #[test]
    fn a_file_is_read_whole_up_to_its_bound() {
        let directory = tempfile::tempdir().expect("tempdir");
        let path = directory.path().join("file");
        std::fs::write(&path, vec![b'x'; 10_000]).expect("write");
        assert_eq!(read_bounded(&path, 10_000).expect("fits").len(), 10_000);
        assert_eq!(read_bounded(&path, 9_999).expect_err("too long").errno, Errno::EFBIG);
    }

    #[test]
    fn a_file_without_capabilities_has_none() {
        assert_eq!(file_capability(Path::new("/etc/passwd")), Ok(None));
    }
}
