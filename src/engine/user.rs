//! Users and groups as the container's own /etc/passwd and /etc/group know them (passwd(5), group(5)).
//!
//! Those files belong to the image: they may be missing, huge, a FIFO, or lie. Reading is bounded, parsing tolerant, and
//! an id is only ever what a line says in plain decimal (crun's CVE-2026-30892 was a lenient number).

use std::path::Path;

use crate::plan::IdOrName;
use crate::plan::idmap::{ContainerId, IdMapPlan};
use crate::sys::privileges::Identity;
use crate::sys::{Errno, Error, Result, path};

/// More than any real file has; the rest is not looked at.
const MAX_BYTES: usize = 1024 * 1024;

/// Who a command runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub identity: Identity,
    pub home: String,
}

/// A user with its home, group and supplementary groups, where the container's files know them. Without an entry:
/// group 0 and home `/`, as CRI runtimes do.
///
/// # Errors
/// A name that those files do not have.
pub fn find(user: &IdOrName, wanted_group: Option<&IdOrName>) -> Result<User> {
    find_in(user, wanted_group, &read(Path::new("/etc/passwd"))?, &read(Path::new("/etc/group"))?)
}

/// `uid`, `name`, either with `:gid` or `:group`.
///
/// # Errors
/// As [`find`].
pub fn parse(text: &str) -> Result<User> {
    let (user, group) = split(text);
    find(&user, group.as_ref())
}

fn split(text: &str) -> (IdOrName, Option<IdOrName>) {
    let id_or_name = |text: &str| match decimal(text) {
        Some(id) => IdOrName::Id(ContainerId(id)),
        None => IdOrName::Name(text.to_owned()),
    };
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    (id_or_name(user), group.map(id_or_name))
}

fn find_in(user: &IdOrName, wanted_group: Option<&IdOrName>, passwd: &str, group: &str) -> Result<User> {
    let uid = number(user, "user", passwd, "/etc/passwd")?;
    let gid = wanted_group.map(|wanted| number(wanted, "group", group, "/etc/group")).transpose()?;
    Ok(resolve(passwd, group, uid, gid))
}

/// The id, which is the third field in both files.
fn number(wanted: &IdOrName, what: &str, text: &str, file: &str) -> Result<u32> {
    match wanted {
        IdOrName::Id(ContainerId(id)) => Ok(*id),
        IdOrName::Name(name) => entries(text)
            .find(|fields| fields.first() == Some(&name.as_str()) && !name.is_empty())
            .and_then(|fields| decimal(fields.get(2)?))
            .ok_or_else(|| Error {
                call: format!("looking for {what} `{name}` in the container's {file}"),
                errno: Errno::ENOENT,
            }),
    }
}

fn resolve(passwd: &str, group: &str, uid: u32, gid: Option<u32>) -> User {
    let entry = entries(passwd).find(|fields| fields.get(2).and_then(|text| decimal(text)) == Some(uid));
    let field = |index: usize| entry.as_ref().and_then(|fields| fields.get(index).copied());
    let primary = gid.or_else(|| field(3).and_then(decimal)).unwrap_or(0);
    let mut groups = Vec::new();
    if let Some(name) = field(0).filter(|name| !name.is_empty()) {
        groups.extend(entries(group).filter_map(|fields| {
            let member = fields.get(3)?.split(',').any(|member| member == name);
            member.then(|| decimal(fields.get(2)?)).flatten()
        }));
    }
    groups.sort_unstable();
    groups.dedup();
    let home = field(5).filter(|home| home.starts_with('/')).unwrap_or("/").to_owned();
    User { identity: Identity { uid, gid: primary, groups: Some(groups) }, home }
}

impl User {
    /// Ids that the pod's map does not have are refused; supplementary groups that it does not have are left out, since
    /// nothing in the pod can belong to them.
    pub fn within(mut self, map: &IdMapPlan) -> Result<User> {
        let refuse = |what: String| Error { call: what, errno: Errno::EINVAL };
        if map.host_uid(ContainerId(self.identity.uid)).is_none() {
            return Err(refuse(format!("uid {} is not in the pod's id map", self.identity.uid)));
        }
        if map.host_gid(ContainerId(self.identity.gid)).is_none() {
            return Err(refuse(format!("gid {} is not in the pod's id map", self.identity.gid)));
        }
        match (map.writer.allows_setgroups(), &mut self.identity.groups) {
            (false, groups) => *groups = None,
            (true, Some(groups)) => groups.retain(|gid| map.host_gid(ContainerId(*gid)).is_some()),
            (true, None) => {}
        }
        Ok(self)
    }
}

/// Decimal digits and nothing else, and not the id that means "no change" (setresuid(2)).
fn decimal(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| plain && *id != u32::MAX)
}

fn entries(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.trim_end().split(':').collect())
}

/// Empty where there is no such regular file.
fn read(path: &Path) -> Result<String> {
    match path::read_regular(path, MAX_BYTES) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(Error { errno: Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES, .. }) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\nodd:x:0x10:-1::rel:\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:www-data,root\nwww-data:x:33:\nssl:x:110:www-data\nbad:x:+5:www-data\n";

    fn found(text: &str) -> Result<User> {
        let (user, group) = split(text);
        find_in(&user, group.as_ref(), PASSWD, GROUP)
    }

    fn ids(text: &str) -> Option<(u32, u32)> {
        found(text).ok().map(|user| (user.identity.uid, user.identity.gid))
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(ids("root"), Some((0, 0)));
        assert_eq!(ids("www-data"), Some((33, 33)));
        assert_eq!(ids("33"), Some((33, 33)));
        assert_eq!(ids("33:adm"), Some((33, 4)));
        assert_eq!(ids("1000:1000"), Some((1000, 1000)));
        assert_eq!(ids("1000"), Some((1000, 0)), "no entry: group 0, as CRI runtimes do");
    }

    #[test]
    fn nothing_but_plain_decimal_is_a_number() {
        for text in ["0x0", "+0", "-1", "4294967295", "4294967296", "", ":", "1000:", " 0", "0 ", "odd", "１"] {
            assert_eq!(ids(text), None, "{text:?}");
        }
    }

    #[test]
    fn home_and_groups_come_from_the_files() {
        let user = found("www-data").expect("known");
        assert_eq!(user.home, "/var/www");
        assert_eq!(user.identity.groups, Some(vec![4, 110]));
    }
}
