//! How much a pod could be given at most.

use std::path::Path;

use super::find::View;
use super::{AncestorLimits, Capacity};
use crate::sys::probe::{cpus, read_bounded, read_start};

/// Some 60 lines of 30 bytes.
const MOST_MEMINFO: usize = 64 << 10;
/// Limits are two numbers at most.
const MOST_LIMIT: usize = 128;

/// `from`: the delegation, or what the scope will be in; looked at with everything above it up to the mount.
pub(super) fn read(view: &View<'_>, mount: &Path, from: Option<&Path>) -> Capacity {
    let meminfo = read_bounded(&view.root.join("proc/meminfo"), MOST_MEMINFO).unwrap_or_default();
    let meminfo = String::from_utf8_lossy(&meminfo);
    let upwards = from.into_iter().flat_map(Path::ancestors).take_while(|path| path.starts_with(mount));
    Capacity {
        cpu_millis: cpus().map_or(0, |cpus| u64::from(cpus) * 1000),
        memory_available: kibibytes(&meminfo, "MemAvailable:"),
        memory_total: kibibytes(&meminfo, "MemTotal:"),
        swap_total: kibibytes(&meminfo, "SwapTotal:"),
        ancestors: upwards.filter_map(|path| limits(view, path)).collect(),
    }
}

/// proc_meminfo(5): `MemTotal:       12334492 kB`, in bytes.
fn kibibytes(meminfo: &str, name: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    rest.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

/// `None` for a cgroup without limits. A file that is not there (no such controller, or the root) limits nothing.
fn limits(view: &View<'_>, cgroup: &Path) -> Option<AncestorLimits> {
    let value = |name: &str| read_start(&view.at(&cgroup.join(name)), MOST_LIMIT).ok();
    let number = |name: &str| std::str::from_utf8(&value(name)?).ok()?.trim().parse().ok();
    let found = AncestorLimits {
        path: cgroup.to_owned(),
        memory_max: number("memory.max"),
        pids_max: number("pids.max"),
        cpu_millis: value("cpu.max").and_then(|text| millis(&String::from_utf8_lossy(&text))),
    };
    let any = found.memory_max.is_some() || found.pids_max.is_some() || found.cpu_millis.is_some();
    any.then_some(found)
}

/// `50000 100000`, quota and period in microseconds, is half a cpu.
fn millis(cpu_max: &str) -> Option<u64> {
    let (quota, period) = cpu_max.trim().split_once(' ')?;
    let (quota, period): (u64, u64) = (quota.parse().ok()?, period.parse().ok()?);
    quota.checked_mul(1000)?.checked_div(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_kernel() {
        let meminfo =
            "MemTotal:       12334492 kB\nMemFree: 1 kB\nMemAvailable:    8000 kB\nHugePages_Total:       0\n";
        assert_eq!(kibibytes(meminfo, "MemTotal:"), Some(12_334_492 * 1024));
        assert_eq!(kibibytes(meminfo, "MemAvailable:"), Some(8_192_000));
        assert_eq!((kibibytes(meminfo, "SwapTotal:"), kibibytes(meminfo, "HugePages_Total:")), (None, None));
        assert_eq!(kibibytes("MemTotal: 99999999999999999999 kB", "MemTotal:"), None);
        for (text, expected) in [
            ("50000 100000\n", Some(500)),
            ("max 100000\n", None),
            ("350000 100000", Some(3500)),
            ("1 0", None),
            ("18446744073709551615 1", None),
            ("", None),
        ] {
            assert_eq!(millis(text), expected, "{text}");
        }
    }
}
