//! Programs that live in memory only: nobody can change what is executed, and no file has to be found.

use std::ffi::{CString, OsStr};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::Result;
use super::error::{Error, Named, last};

/// A sealed, executable copy of `bytes` (memfd_create(2)). What is sealed stays as it is, even for root.
pub fn sealed_program(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    let call = || format!("memfd_create({name:?})");
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let fd = match memfd_create(name, flags | MFdFlags::from_bits_retain(libc::MFD_EXEC)) {
        // Linux before 6.3 does not know MFD_EXEC; there a memfd is executable anyhow.
        Err(Errno::EINVAL) => memfd_create(name, flags),
        other => other,
    }
    .named(call)?;
    seal(fd, bytes).named(call)
}

/// A sealed copy of `bytes`, to hand over what is too long for a message.
pub fn sealed_bytes(name: &str, bytes: &[u8]) -> Result<OwnedFd> {
    let call = || format!("memfd_create({name:?}, {} bytes)", bytes.len());
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).named(call)?;
    seal(fd, bytes).named(call)
}

/// What another process has handed over by [`sealed_bytes`]: nothing that could change while it is read, or make us wait.
pub fn read_sealed(fd: OwnedFd, limit: u64) -> Result<Vec<u8>> {
    let call = || "read(memfd)".to_owned();
    // EINVAL: it is no memfd.
    let seals = fcntl(&fd, FcntlArg::F_GET_SEALS).named(|| "fcntl(F_GET_SEALS)".to_owned())?;
    if !SealFlag::from_bits_retain(seals).contains(SEALS) {
        return Err(Error { call: "fcntl(F_GET_SEALS)".to_owned(), errno: Errno::EPERM });
    }
    let file = std::fs::File::from(fd);
    let length = file.metadata().named(call)?.len();
    if length > limit {
        return Err(Error { call: format!("read(memfd of {length} bytes)"), errno: Errno::EFBIG });
    }
    contents(file.as_fd())
}

/// All bytes of a memfd of ours, whatever its mode by now.
pub fn contents(memory: BorrowedFd<'_>) -> Result<Vec<u8>> {
    use std::os::unix::fs::FileExt;
    let call = || "read(memfd)".to_owned();
    let file = std::fs::File::from(memory.try_clone_to_owned().named(call)?);
    let mut bytes = vec![0; usize::try_from(file.metadata().named(call)?.len()).unwrap_or(0)];
    file.read_exact_at(&mut bytes, 0).named(call)?;
    Ok(bytes)
}

const SEALS: SealFlag =
    SealFlag::F_SEAL_WRITE.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SHRINK).union(SealFlag::F_SEAL_SEAL);

fn seal(fd: OwnedFd, bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(file.into())
}

/// An empty file without a name, in memory.
pub fn scratch(name: &str) -> Result<OwnedFd> {
    memfd_create(name, MFdFlags::MFD_CLOEXEC).named(|| format!("memfd_create({name:?})"))
}

/// Mode 0111.
pub fn make_execute_only(program: BorrowedFd<'_>) -> Result<()> {
    nix::sys::stat::fchmod(program, nix::sys::stat::Mode::from_bits_truncate(0o111)).named(|| "fchmod(0111)".to_owned())
}

/// Which file a program is: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramId(u64, u64);

/// The program behind a descriptor.
pub fn program_id(program: BorrowedFd<'_>) -> Result<ProgramId> {
    let stat = nix::sys::stat::fstat(program).named(|| "fstat()".to_owned())?;
    Ok(ProgramId(stat.st_dev, stat.st_ino))
}

/// The program that a process runs.
///
/// # Errors
/// It has ended, or we may not look (proc_pid_exe(5)).
pub fn program_of(pid: i32) -> Result<ProgramId> {
    let path = format!("/proc/{pid}/exe");
    let stat = nix::sys::stat::stat(path.as_str()).named(|| format!("stat({path})"))?;
    Ok(ProgramId(stat.st_dev, stat.st_ino))
}

/// execveat(2) of a descriptor. Only returns when it failed.
pub fn execute(program: BorrowedFd<'_>, argv: &[CString], env: &[CString]) -> Error {
    let pointers =
        |strings: &[CString]| strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>();
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in a null pointer and their strings outlive the call; the path is empty (AT_EMPTY_PATH).
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            env.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    last(|| "execveat()".to_owned())
}

/// The role of src/pause/enter.rs: `words` are the path, the descriptor of the report and the new argv. The environment
/// stays. Returns to nobody.
pub fn replace_with(words: &[Vec<u8>]) -> ! {
    let words: Vec<CString> = words.iter().filter_map(|word| CString::new(word.as_slice()).ok()).collect();
    if let [path, report, argv @ ..] = words.as_slice()
        && let Some(report) = report.to_str().ok().and_then(|number| number.parse::<i32>().ok())
    {
        // SAFETY: our maker left this descriptor open for us under this number; nobody here owns it, so nobody closes it.
        let report = unsafe { BorrowedFd::borrow_raw(report) };
        // The report ends with a successful exec. One that cannot be told is a death, which the supervisor sees, too.
        let _ = super::stdio::close_on_exec(report);
        let errno = match nix::unistd::execv(path, argv) {
            Err(errno) => errno as i32,
            Ok(never) => match never {},
        };
        let _ = nix::unistd::write(report, &errno.to_ne_bytes());
    }
    super::clone::exit_now(127)
}

/// A string for the kernel; EINVAL where it holds a NUL.
pub fn c_string(text: impl AsRef<OsStr>) -> Result<CString> {
    let text = text.as_ref();
    CString::new(text.as_bytes()).map_err(|_| Error { call: format!("{text:?} (holds a NUL)"), errno: Errno::EINVAL })
}

/// A sealed copy of the program that this process runs.
pub fn sealed_self() -> Result<OwnedFd> {
    let path = "/proc/self/exe";
    let bytes = std::fs::read(path).named(|| format!("read({path})"))?;
    sealed_program("sandpod", &bytes)
}

/// Gives back the memory of our own code and constants: what is needed again is read again from the file. An idle
/// supervisor keeps a few pages instead of the whole path from command line to exec.
pub fn forget_program_pages() {
    let Ok(smaps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for (start, length) in clean_program_ranges(&smaps) {
        // SAFETY: the range is a mapping of our own program that is not writable and holds no page that differs from
        // the file (`Anonymous: 0 kB`): the kernel reads a dropped page again from the file, so no content can be lost.
        unsafe { libc::madvise(start as *mut libc::c_void, length, libc::MADV_DONTNEED) };
    }
}

/// (start, length) of the mappings of the first file in `/proc/self/smaps` (the program) that are read-only and clean.
/// The part that the loader relocated and then made read-only (RELRO) is not clean: dropping it would undo that.
fn clean_program_ranges(smaps: &str) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut program = None;
    let mut candidate = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(first) = words.next() else { continue };
        if let Some((start, end)) = first.split_once('-') {
            let rights = words.next().unwrap_or("w");
            let path = line.find('/').map(|at| &line[at..]);
            program = program.or(path);
            let bounds = usize::from_str_radix(start, 16).ok().zip(usize::from_str_radix(end, 16).ok());
            candidate = bounds.filter(|_| path.is_some() && path == program && !rights.contains('w'));
        } else if first == "Anonymous:" {
            let clean = words.next() == Some("0");
            ranges.extend(candidate.take().filter(|_| clean).map(|(start, end)| (start, end - start)));
        }
    }
    ranges
}

/// Gives free heap memory back to the kernel (malloc_trim(3)).
pub fn trim_heap() {
    // SAFETY: malloc_trim may be called at any time; it takes an integer.
    unsafe { libc::malloc_trim(0) };
}

/// For poll and close: the descriptor number.
#[must_use]
pub fn number(fd: &OwnedFd) -> i32 {
    fd.as_fd().as_raw_fd()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_read_only_parts_of_the_program_are_forgotten() {
        let smaps = "\
00400000-00401000 r--p 00000000 fe:00 1 /bin/x
Size: 4 kB
Anonymous:             0 kB
00401000-00403000 r-xp 00001000 fe:00 1 /bin/x
Anonymous:             0 kB
00403000-00404000 r--p 00003000 fe:00 1 /bin/x
Anonymous:             4 kB
00404000-00405000 rw-p 00004000 fe:00 1 /bin/x
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 2 /usr/lib/other.so
Anonymous:             0 kB
7ffff0000000-7ffff0001000 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";
        assert_eq!(clean_program_ranges(smaps), [(0x0040_0000, 0x1000), (0x0040_1000, 0x2000)]);
    }

    #[test]
    fn only_what_is_sealed_and_short_enough_is_read() {
        let bytes = || sealed_bytes("test", b"hello").expect("memfd");
        assert_eq!(read_sealed(bytes(), 5).expect("read"), b"hello");
        assert_eq!(read_sealed(bytes(), 4).expect_err("too long").errno, Errno::EFBIG);
        let open = memfd_create("test", MFdFlags::MFD_ALLOW_SEALING).expect("memfd");
        assert_eq!(read_sealed(open, 5).expect_err("it could change").errno, Errno::EPERM);
        let (pipe, _write) = nix::unistd::pipe().expect("pipe");
        assert_eq!(read_sealed(pipe, 5).expect_err("it could block").errno, Errno::EINVAL);
    }

    #[test]
    fn a_sealed_program_cannot_be_written() {
        let fd = sealed_program("test", b"#!/bin/true").expect("memfd");
        let error = nix::unistd::write(&fd, b"x").expect_err("sealed");
        assert_eq!(error, Errno::EPERM);
    }
}
