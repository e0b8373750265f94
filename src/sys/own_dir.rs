//! A directory of ours, by descriptor, and files in it by one name each.
//!
//! A container with a writable hostPath above such a directory can put a link into the place of anything in it, at any moment.
//! So the directory is checked when it is opened, no link is followed below it, and a new file has a name that cannot be
//! guessed until it takes its place.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, RenameFlags, ResolveFlag, open, openat2, readlinkat, renameat2};
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::Result;
use super::error::{Error, Named, last};

#[derive(Debug)]
pub struct OwnDir {
    fd: OwnedFd,
    /// For errors.
    path: PathBuf,
}

impl OwnDir {
    /// Opens a directory that belongs to us and that nobody else may write to; not where a link leads.
    pub fn at(path: &Path) -> Result<OwnDir> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).named(|| format!("open({}, O_DIRECTORY)", path.display()))?;
        OwnDir { fd, path: path.to_owned() }.checked(0o022)
    }

    /// Opens `…/sandpod/NAME` with [`at`](Self::at) for `…/sandpod`.
    pub fn in_store(path: &Path) -> Result<OwnDir> {
        let (store, name) = split(path)?;
        OwnDir::at(store)?.below(name)
    }

    /// Opens `…/sandpod/pods/ID` with [`at`](Self::at) for `…/sandpod`.
    pub fn of_pod(path: &Path) -> Result<OwnDir> {
        let (pods, id) = split(path)?;
        OwnDir::in_store(pods)?.below(id)
    }

    /// A directory in this one. What the pod's ids write to is open to all, behind the directories above it.
    pub fn below(&self, name: &OsStr) -> Result<OwnDir> {
        let fd = self.open_with(name, OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        OwnDir { fd, path: self.path.join(name) }.checked(0)
    }

    fn checked(self, forbidden: u32) -> Result<OwnDir> {
        let found = fstat(&self.fd).named(|| "fstat()".to_owned())?;
        if found.st_uid == nix::unistd::geteuid().as_raw() && found.st_mode & forbidden == 0 {
            return Ok(self);
        }
        Err(Error { call: format!("{} is not yours alone", self.path.display()), errno: Errno::EPERM })
    }

    /// An O_PATH descriptor of what has this name, of whatever kind but a link.
    pub fn open_path(&self, name: &OsStr) -> Result<OwnedFd> {
        self.open_with(name, OFlag::O_PATH)
    }

    /// A regular file, to be read.
    pub fn read(&self, name: &OsStr) -> Result<File> {
        self.regular(name, self.open_with(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?)
    }

    /// The bytes of a regular file of at most `limit` bytes; EFBIG when it has more.
    pub fn read_bounded(&self, name: &OsStr, limit: usize) -> Result<Vec<u8>> {
        super::probe::bounded(self.read(name)?, &self.path.join(name), limit)
    }

    /// A regular file, to be written in place.
    pub fn write(&self, name: &OsStr) -> Result<File> {
        self.regular(name, self.open_with(name, OFlag::O_WRONLY | OFlag::O_NONBLOCK)?)
    }

    /// A regular file to read and to append to; one that is not there is made with mode 0600.
    pub fn append(&self, name: &OsStr) -> Result<File> {
        self.regular(name, self.open_with(name, OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_NONBLOCK)?)
    }

    /// A new file of mode 0600. Errors: EEXIST.
    pub fn create(&self, name: &OsStr) -> Result<File> {
        self.open_with(name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL).map(File::from)
    }

    fn regular(&self, name: &OsStr, fd: OwnedFd) -> Result<File> {
        let file = File::from(fd);
        let found = file.metadata().named(|| "fstat()".to_owned())?;
        if found.is_file() {
            return Ok(file);
        }
        Err(Error { call: self.call("open", name), errno: Errno::EINVAL })
    }

    fn open_with(&self, name: &OsStr, flags: OFlag) -> Result<OwnedFd> {
        let mut how = OpenHow::new()
            .flags(flags | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        if flags.contains(OFlag::O_CREAT) {
            how = how.mode(Mode::S_IRUSR | Mode::S_IWUSR);
        }
        openat2(&self.fd, name, how).named(|| self.call("open", name))
    }

    /// lstat(2).
    pub fn metadata(&self, name: &OsStr) -> Result<Metadata> {
        let fd = self.open_with(name, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        File::from(fd).metadata().named(|| self.call("stat", name))
    }

    /// What a symbolic link contains; EINVAL where it is none.
    pub fn link_target(&self, name: &OsStr) -> Result<PathBuf> {
        readlinkat(&self.fd, name).map(Into::into).named(|| self.call("readlink", name))
    }

    /// symlink(2). Errors: EEXIST.
    pub fn symlink(&self, target: &Path, name: &OsStr) -> Result<()> {
        symlinkat(target, &self.fd, name).named(|| self.call("symlink", name))
    }

    /// Within the directory; what has the new name goes.
    pub fn rename(&self, from: &OsStr, to: &OsStr) -> Result<()> {
        renameat2(&self.fd, from, &self.fd, to, RenameFlags::empty()).named(|| self.call("rename", to))
    }

    /// Removes what is no directory.
    pub fn remove(&self, name: &OsStr) -> Result<()> {
        unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir).named(|| self.call("unlink", name))
    }

    /// Puts a file with these bytes into the place of what has this name: a reader, and a crash at any moment, sees the old one
    /// or the new one. `before` sees the file before it has the name.
    pub fn replace(&self, name: &OsStr, bytes: &[u8], before: impl FnOnce(&File) -> Result<()>) -> Result<File> {
        let unfinished = unguessable(name)?;
        let mut file = self.create(&unfinished)?;
        let replaced = file
            .write_all(bytes)
            .named(|| self.call("write", name))
            .and_then(|()| before(&file))
            .and_then(|()| self.rename(&unfinished, name));
        if replaced.is_err() {
            // On a full disk an inode is worth having, too.
            let _ = self.remove(&unfinished);
        }
        replaced.map(|()| file)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn call(&self, call: &str, name: &OsStr) -> String {
        format!("{call}({})", self.path.join(name).display())
    }
}

impl AsFd for OwnDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for OwnDir {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

fn split(path: &Path) -> Result<(&Path, &OsStr)> {
    let without = || Error { call: format!("{} has no directory above it", path.display()), errno: Errno::EINVAL };
    path.parent().zip(path.file_name()).ok_or_else(without)
}

/// A name with as much of the old one as tells a person what it was to be.
fn unguessable(name: &OsStr) -> Result<std::ffi::OsString> {
    let mut random = [0; 8];
    // SAFETY: the kernel writes at most as many bytes as the array has, which outlives the call.
    let length = unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) };
    if length != 8 {
        return Err(last(|| "getrandom(8 bytes)".to_owned()));
    }
    let mut unfinished = name.to_owned();
    unfinished.push(format!(".{:016x}", u64::from_ne_bytes(random)));
    Ok(unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn names(path: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(path)
            .expect("readdir")
            .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn no_link_is_followed_at_any_level() {
        let dir = tempfile::tempdir().expect("tempdir");
        let store = dir.path().join("store");
        let elsewhere = dir.path().join("elsewhere");
        for made in [&store, &store.join("pods"), &store.join("pods/id"), &elsewhere, &elsewhere.join("id")] {
            fs::create_dir(made).expect("mkdir");
        }
        let pod = OwnDir::of_pod(&store.join("pods/id")).expect("a pod");
        for (link, target) in [("file", "file"), ("gone", "new"), ("directory", "id")] {
            symlink(elsewhere.join(target), store.join("pods/id").join(link)).expect("symlink");
        }
        fs::write(elsewhere.join("file"), "old").expect("write");
        for name in ["file", "gone", "directory"] {
            let name = OsStr::new(name);
            assert_eq!(pod.read(name).expect_err("a link").errno, Errno::ELOOP);
            assert_eq!(pod.write(name).expect_err("a link").errno, Errno::ELOOP);
            assert_eq!(pod.append(name).expect_err("a link").errno, Errno::ELOOP);
            assert_eq!(pod.open_path(name).expect_err("a link").errno, Errno::ELOOP);
            assert_eq!(pod.below(name).expect_err("a link").errno, Errno::ELOOP);
            assert_eq!(pod.create(name).expect_err("a link").errno, Errno::EEXIST);
            assert!(pod.metadata(name).expect("lstat").is_symlink());
        }
        assert_eq!(pod.read(OsStr::new("../id/file")).expect_err("above").errno, Errno::EXDEV);
        pod.replace(OsStr::new("file"), b"new", |_| Ok(())).expect("replaced");
        assert_eq!(fs::read_to_string(store.join("pods/id/file")).expect("read"), "new");
        assert_eq!(fs::read_to_string(elsewhere.join("file")).expect("read"), "old");
        assert_eq!(names(&elsewhere), ["file", "id"]);

        fs::rename(store.join("pods"), store.join("moved")).expect("rename");
        symlink(&elsewhere, store.join("pods")).expect("symlink");
        OwnDir::of_pod(&store.join("pods/id")).expect_err("a link above");
        OwnDir::in_store(&store.join("pods")).expect_err("a link");
        symlink(&store, dir.path().join("link")).expect("symlink");
        OwnDir::of_pod(&dir.path().join("link/moved/id")).expect_err("a link for the store");
        // Who has it open goes on in the directory that it was.
        pod.append(OsStr::new("log")).expect("append").write_all(b"x").expect("write");
        assert_eq!(names(&store.join("moved/id")), ["directory", "file", "gone", "log"]);
    }

    #[test]
    fn only_what_nobody_else_may_write_to_is_a_store() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("tempdir");
        for (mode, fine) in [(0o700, true), (0o755, true), (0o770, false), (0o1777, false)] {
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).expect("chmod");
            assert_eq!(OwnDir::at(dir.path()).is_ok(), fine, "{mode:o}");
        }
        assert_eq!(OwnDir::at(Path::new("/")).is_ok(), nix::unistd::geteuid().is_root());
    }

    #[test]
    fn a_file_that_could_make_us_wait_is_none() {
        let dir = tempfile::tempdir().expect("tempdir");
        let own = OwnDir::at(dir.path()).expect("ours");
        nix::unistd::mkfifo(&dir.path().join("fifo"), Mode::S_IRWXU).expect("mkfifo");
        own.read(OsStr::new("fifo")).expect_err("a FIFO");
        own.write(OsStr::new("fifo")).expect_err("a FIFO");
        own.append(OsStr::new("fifo")).expect_err("a FIFO");
    }

    #[test]
    fn what_cannot_be_finished_leaves_nothing() {
        let dir = tempfile::tempdir().expect("tempdir");
        let own = OwnDir::at(dir.path()).expect("ours");
        own.replace(OsStr::new("file"), b"old", |_| Ok(())).expect("replaced");
        let refused = || Err(Error { call: "test".to_owned(), errno: Errno::EIO });
        own.replace(OsStr::new("file"), b"new", |_| refused()).expect_err("refused");
        assert_eq!(
            (names(dir.path()), fs::read(dir.path().join("file")).expect("read")),
            (vec!["file".to_owned()], b"old".to_vec())
        );
    }
}
