//! Who the tests are, and whom they start sandpod as.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// Who runs sandpod.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// First subordinate uid and gid.
    pub(crate) subuid: u32,
    pub(crate) subgid: u32,
}

impl User {
    /// An ordinary user with subordinate ids: who we are, or for root one of the test users that the scripts make.
    pub(super) fn found() -> Option<User> {
        let me = fs::metadata("/proc/self").ok()?.uid();
        let passwd = fs::read_to_string("/etc/passwd").ok()?;
        let users = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let wanted = |fields: &Vec<&str>| match me {
            0 => ["sandpod-test", "podtest"].contains(&fields[0]),
            uid => fields[2] == uid.to_string(),
        };
        users.filter(wanted).find_map(|fields| {
            let (uid, gid) = (fields[2].parse().ok()?, fields[3].parse().ok()?);
            let (subuid, subgid) = (first_subid("/etc/subuid", fields[0])?, first_subid("/etc/subgid", fields[0])?);
            Some(User { uid, gid, subuid, subgid })
        })
    }
}

fn first_subid(file: &str, user: &str) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':')?.split(':').next()?.parse().ok())
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}
