//! Names of sysctls: how Kubernetes spells them, and which namespace has its own of which.

use std::path::PathBuf;

use super::names::Rule;
use super::pod::SysctlNamespace;

/// What of /proc/sys a namespace of the pod has a copy of, by the start of the name (Kubernetes' `pkg/util/sysctl`,
/// namespace.go; the kernel: namespaces(7), network_namespaces(7), ipc_namespaces(7)).
const NAMESPACED: [(&str, SysctlNamespace); 5] = [
    ("net/", SysctlNamespace::Network),
    ("kernel/shm", SysctlNamespace::Ipc),
    ("kernel/msg", SysctlNamespace::Ipc),
    ("kernel/sem", SysctlNamespace::Ipc),
    ("fs/mqueue/", SysctlNamespace::Ipc),
];

/// `IsValidSysctlName`: parts of lower-case letters, digits, `-` and `_`, separated by `.` or `/`.
pub(super) fn name(name: &str) -> Rule {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let inside = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inside)
    };
    if name.len() > 253 {
        return Err("be at most 253 characters long");
    }
    if !name.split(['.', '/']).all(is_part) {
        return Err("be a sysctl's name: lower-case letters, digits, `-` and `_`, its parts separated by `.` or `/`");
    }
    Ok(())
}

/// Below /proc/sys. As for sysctl(8), the first of `.` and `/` is the separator, and the other one then a dot in a name:
/// `net.ipv6.conf.eth0/1.mtu` and `net/ipv6/conf/eth0.1/mtu` are one.
pub(super) fn file(name: &str) -> PathBuf {
    match name.find(['.', '/']) {
        Some(at) if name.as_bytes()[at] == b'.' => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect::<String>()
            .into(),
        _ => name.into(),
    }
}

/// `None`: it is the whole host's.
pub(super) fn namespace(file: &std::path::Path) -> Option<SysctlNamespace> {
    let file = file.to_str()?;
    NAMESPACED.iter().find(|(start, _)| file.starts_with(start)).map(|(_, namespace)| *namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kubernetes() {
        for ok in ["kernel.sem", "net/ipv4/tcp_syncookies", "net.ipv4.conf.eth0/1.forwarding", "a"] {
            assert_eq!(name(ok), Ok(()), "{ok}");
        }
        for wrong in ["", ".", "net..core", "net.", "../../etc/passwd", "net.ipv4.A", "net/./x", "a b", "-a", "ä"] {
            assert!(name(wrong).is_err(), "{wrong:?}");
        }
        assert!(name(&"a".repeat(254)).is_err());
    }

    #[test]
    fn the_first_separator_is_the_one() {
        for (written, path) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net/core/somaxconn", "net/core/somaxconn"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
        ] {
            assert_eq!(file(written), PathBuf::from(path), "{written}");
        }
    }

    #[test]
    fn what_no_namespace_has_is_the_hosts() {
        let of = |name: &str| namespace(&file(name));
        assert_eq!(of("net.ipv4.ip_forward"), Some(SysctlNamespace::Network));
        for ipc in ["kernel.shmmax", "kernel.shm_rmid_forced", "kernel.msgmnb", "kernel.sem", "fs.mqueue.msg_max"] {
            assert_eq!(of(ipc), Some(SysctlNamespace::Ipc), "{ipc}");
        }
        for host in ["kernel.pid_max", "vm.swappiness", "fs.file-max", "net", "fs.mqueue", "kernel"] {
            assert_eq!(of(host), None, "{host}");
        }
    }
}
