//! Who we are: passwd(5), `/proc/self/{uid,gid}_map` and `/proc/self/status`. Pure.

use super::MapLine;

/// What passwd(5) says about a uid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) name: String,
    pub(super) home: String,
}

/// The first line with this uid, as getpwuid(3) takes it. Names that are not UTF-8 are nobody's.
pub(super) fn account(passwd: &[u8], uid: u32) -> Option<Account> {
    passwd.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = std::str::from_utf8(line).ok()?.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let found: u32 = fields.nth(1)?.parse().ok()?;
        let home = fields.nth(2)?;
        (found == uid).then(|| Account { name: name.to_owned(), home: home.to_owned() })
    })
}

/// `/proc/self/uid_map` or `gid_map`.
pub(super) fn id_map(text: &[u8]) -> Vec<MapLine> {
    let text = String::from_utf8_lossy(text);
    let line = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(MapLine { inside: next()?, outside: next()?, count: next()? })
    };
    text.lines().filter_map(line).collect()
}

pub(super) fn maps(map: &[MapLine], id: u32) -> bool {
    map.iter().any(|line| id.checked_sub(line.inside).is_some_and(|offset| offset < line.count))
}

/// Bit numbers of capabilities(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capability {
    SetGid = 6,
    SetUid = 7,
    NetBindService = 10,
    SysAdmin = 21,
    SetFcap = 31,
}

/// From `/proc/self/status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Privileges {
    effective: u64,
    pub(super) no_new_privs: bool,
    /// Of a seccomp filter.
    pub(super) filtered: bool,
}

impl Privileges {
    pub(super) fn parse(status: &[u8]) -> Privileges {
        let status = String::from_utf8_lossy(status);
        let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        Privileges {
            effective: value("CapEff:").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0),
            no_new_privs: value("NoNewPrivs:") == Some("1"),
            filtered: value("Seccomp:") == Some("2"),
        }
    }

    /// In our own user namespace, that is.
    pub(super) fn has(self, capability: Capability) -> bool {
        self.effective & (1 << capability as u32) != 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_account_of_a_uid_counts() {
        let passwd = b"root:x:0:0:root:/root:/bin/sh\ngarbage\n:x:7:7::/:\nana:x:1001:1001:,,,:/home/ana:/bin/sh\n\
                       twin:x:1001:1001::/home/twin:/bin/sh\nshort:x:1002\n\xff:x:1003:1:::\n";
        assert_eq!(account(passwd, 1001), Some(Account { name: "ana".to_owned(), home: "/home/ana".to_owned() }));
        for nobody in [7, 1002, 1003, 4242] {
            assert_eq!(account(passwd, nobody), None, "{nobody}");
        }
    }

    #[test]
    fn id_maps_as_the_kernel_prints_them() {
        assert_eq!(
            id_map(b"         0       1001          1\n         1     100000      65536\n"),
            [MapLine { inside: 0, outside: 1001, count: 1 }, MapLine { inside: 1, outside: 100_000, count: 65536 },]
        );
        let map = id_map(b"0 1001 1");
        assert!(maps(&map, 0) && !maps(&map, 1));
    }

    #[test]
    fn privileges_of_a_status_file() {
        let root = Privileges::parse(b"Name:\tx\nCapEff:\t000001ffffffffff\nNoNewPrivs:\t1\nSeccomp:\t2\n");
        assert!(root.filtered && root.no_new_privs && root.has(Capability::SysAdmin));
        let setgid_only = Privileges::parse(b"CapEff:\t0000000000000040\nNoNewPrivs:\t0\n");
        assert!(setgid_only.has(Capability::SetGid) && !setgid_only.has(Capability::SetUid));
        assert_eq!(Privileges::parse(b""), Privileges::default());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(text: Vec<u8>, uid: u32) {
            account(&text, uid);
            maps(&id_map(&text), uid);
            Privileges::parse(&text);
        }
    }
}
