//! Kernel version and overlayfs. `/proc` and `/lib/modules` are parameters: tests use recorded trees.

use std::path::Path;

use super::OverlaySupport;
use crate::sys::probe::read_bounded;

/// `userxattr`, without which overlayfs cannot be mounted in a user namespace (overlayfs.rst).
const OVERLAY_IN_USERNS: (u32, u32) = (5, 11);

/// `(6, 12)` of `6.12.3-amd64`.
pub(super) fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn overlay(proc: &Path, modules: &Path, release: &str, version: (u32, u32)) -> OverlaySupport {
    let missing = |why: String| OverlaySupport::Missing { why };
    if version < OVERLAY_IN_USERNS {
        return missing(format!("Linux {release} is older than 5.11, which brought overlayfs to user namespaces"));
    }
    if is_registered(&read_bounded(&proc.join("filesystems"), 64 * 1024).unwrap_or_default()) {
        return OverlaySupport::Native;
    }
    // mount(2) loads `fs-overlay` by itself, whoever calls it, while modules may still be loaded.
    if read_bounded(&proc.join("sys/kernel/modules_disabled"), 64).is_ok_and(|value| value.starts_with(b"1")) {
        return missing("it is not in /proc/filesystems, and kernel.modules_disabled is 1".to_owned());
    }
    let directory = modules.join(release).join("kernel/fs/overlayfs");
    if ["ko", "ko.xz", "ko.zst", "ko.gz"].iter().any(|end| directory.join(format!("overlay.{end}")).exists()) {
        return OverlaySupport::Native;
    }
    missing(format!("it is neither in /proc/filesystems nor a module in {}", directory.display()))
}

fn is_registered(filesystems: &[u8]) -> bool {
    filesystems.split(|&byte| byte == b'\n').any(|line| line.rsplit(|&byte| byte == b'\t').next() == Some(b"overlay"))
}

/// The soft limit of the stack in bytes, of `/proc/self/limits` (proc(5)); `None` where it is unlimited or not known.
pub(super) fn stack_limit(limits: &[u8]) -> Option<u64> {
    let limits = String::from_utf8_lossy(limits);
    let line = limits.lines().find_map(|line| line.strip_prefix("Max stack size"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_limit_is_the_soft_one() {
        let limits = |soft: &str| {
            format!(
                "Limit                     Soft Limit           Hard Limit           Units     \n\
                 Max data size             unlimited            unlimited            bytes     \n\
                 Max stack size            {soft:<20} unlimited            bytes     \n"
            )
        };
        assert_eq!(stack_limit(limits("8388608").as_bytes()), Some(8 << 20));
        assert_eq!(stack_limit(limits("unlimited").as_bytes()), None);
        assert_eq!(stack_limit(b""), None);
    }
    use crate::host::recorded::Recorded;

    #[test]
    fn versions_of_real_and_odd_releases() {
        for (release, expected) in [
            ("6.12.3-amd64", Some((6, 12))),
            ("6.18.44-fc-v657", Some((6, 18))),
            ("5.15-rc1", Some((5, 15))),
            ("7.0", Some((7, 0))),
            ("", None),
            ("6", None),
            ("x.y", None),
            ("99999999999.1", None),
        ] {
            assert_eq!(version(release), expected, "{release:?}");
        }
    }

    fn found(files: &[(&str, &str)], version: (u32, u32)) -> OverlaySupport {
        let tree = Recorded::new(files);
        overlay(&tree.path().join("proc"), &tree.path().join("lib/modules"), "R", version)
    }

    #[test]
    fn registered_or_loadable_and_new_enough() {
        let registered = ("proc/filesystems", "nodev\tproc\n\text4\nnodev\toverlay\n");
        let module = ("lib/modules/R/kernel/fs/overlayfs/overlay.ko.xz", "");
        let closed = ("proc/sys/kernel/modules_disabled", "1\n");
        assert_eq!(found(&[registered, closed], (5, 11)), OverlaySupport::Native);
        assert_eq!(found(&[module], (6, 1)), OverlaySupport::Native);
        for (files, version, reason) in [
            (&[registered][..], (5, 10), "older than 5.11"),
            (&[module, closed], (6, 1), "modules_disabled"),
            (&[("proc/filesystems", "nodev\toverlayx\n")], (6, 1), "neither"),
        ] {
            let OverlaySupport::Missing { why } = found(files, version) else { panic!("{reason}") };
            assert!(why.contains(reason), "{why}");
        }
    }
}
