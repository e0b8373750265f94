//! Which of our two directories is on a full file system, and what to do about it: an error says only that one is.

use std::path::Path;

use super::Facts;
use crate::sys::probe::errno::{EDQUOT, ENOSPC};
use crate::sys::probe::{self, Space};

/// Less than a pod's own files take.
const FEW_BYTES: u64 = 64 << 10;
const FEW_INODES: u64 = 64;

/// Cause and fix of ENOSPC and EDQUOT, where a file system of ours is full. `None`: none is, so it is another limit.
#[must_use]
pub fn full_disk(errno: i32, facts: &Facts) -> Option<String> {
    if ![ENOSPC, EDQUOT].contains(&errno) {
        return None;
    }
    let directories = [(&facts.runtime_dir, "XDG_RUNTIME_DIR"), (&facts.data_dir, "XDG_DATA_HOME")];
    directories.into_iter().find_map(|(directory, variable)| {
        // It may not be there yet.
        let existing = directory.path.ancestors().find(|path| path.exists())?;
        advice(existing, probe::space(existing).ok()?, variable)
    })
}

fn advice(path: &Path, space: Space, variable: &str) -> Option<String> {
    let path = path.display();
    let (lack, look) = match space {
        Space { inodes: Some(inodes), .. } if inodes < FEW_INODES => {
            (format!("the file system of {path} has no inodes left ({inodes} are free)"), "df -i")
        }
        Space { bytes, .. } if bytes < FEW_BYTES => {
            (format!("the file system of {path} is full ({bytes} bytes are free)"), "df -h")
        }
        Space { .. } => return None,
    };
    Some(format!(
        "{lack}: delete files there (`{look} {path}` shows how full it is; `sandpod rm` removes ended pods), or set \
         {variable} to a directory elsewhere"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_named() {
        let advice = |bytes, inodes| advice(Path::new("/run/user/7"), Space { bytes, inodes }, "XDG_RUNTIME_DIR");
        assert_eq!(advice(1 << 30, Some(1000)), None);
        assert_eq!(advice(1 << 30, None), None);
        let full = advice(0, Some(1000)).expect("full");
        assert!(full.starts_with("the file system of /run/user/7 is full (0 bytes are free): "), "{full}");
        assert!(full.contains("`df -h /run/user/7`") && full.ends_with("set XDG_RUNTIME_DIR to a directory elsewhere"));
        let inodes = advice(1 << 30, Some(0)).expect("full");
        assert!(inodes.contains("has no inodes left") && inodes.contains("`df -i /run/user/7`"), "{inodes}");
    }
}
