//! Which process holds the lock of a file (flock(2)), as proc_pid_fdinfo(5) shows it.

use std::path::Path;

/// A process that holds an exclusive lock of this file, if it is one that we may look into.
#[must_use]
pub fn lock_holder(file: &Path) -> Option<i32> {
    let pids = std::fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.into_iter().find(|pid| holds_lock(*pid, |target| target == file))
}

/// Whether a process has an exclusive lock on one of the files that `is_wanted` accepts.
pub fn holds_lock(pid: i32, is_wanted: impl Fn(&Path) -> bool) -> bool {
    // A process that only reads the file has no lock, or a shared one ("READ").
    let locks_it = |fd: &std::fs::DirEntry| {
        let number = fd.file_name();
        std::fs::read_link(fd.path()).is_ok_and(|target| is_wanted(&target))
            && std::fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", number.display()))
                .is_ok_and(|text| text.lines().any(|line| line.starts_with("lock:") && line.contains("WRITE")))
    };
    std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten().any(|fd| locks_it(&fd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_hold_what_we_have_locked_and_nothing_else() {
        let me = std::process::id().cast_signed();
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().canonicalize().expect("a path").join("lock");
        let file = std::fs::File::create(&path).expect("create");
        assert_eq!(lock_holder(&path), None);
        file.lock_shared().expect("flock");
        assert!(!holds_lock(me, |target| target == path));
        file.lock().expect("flock");
        assert_eq!(lock_holder(&path), Some(me));
        assert!(!holds_lock(me, |target| target == dir.path()));
    }
}
