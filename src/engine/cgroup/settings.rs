//! Writes values through cgroups-rs, and believes only what it reads back: the crate opens with O_CREAT, so that a missing
//! controller shows as EACCES, and the kernel itself rounds.

use std::error::Error as _;
use std::path::Path;

use cgroups_rs::fs::MaxValue;
use cgroups_rs::fs::cpu::CpuController;
use cgroups_rs::fs::hugetlb::HugeTlbController;
use cgroups_rs::fs::memory::{MemController, SetMemory};
use cgroups_rs::fs::pid::PidController;

use super::{STEP, file};
use crate::engine::failure::{Failure, Result};
use crate::plan::cgroup::{Setting, Value};

/// memory.max and its like are kept in whole pages; the largest page of any architecture Linux runs on.
const LARGEST_PAGE: u64 = 64 << 10;

/// Writes all of them. One that nobody asked for is left out where the kernel does not have it.
pub(super) fn write(cgroup: &Path, settings: &[Setting]) -> Result<()> {
    settings.iter().try_for_each(|setting| match (write_one(cgroup, &setting.value), &setting.asked_by) {
        (Err(failure), Some(field)) => Err(Failure { on: format!("{field}, {}", setting.value.file()), ..failure }),
        (_, _) => Ok(()),
    })
}

/// One value of a cgroup that has processes already.
#[derive(Debug)]
pub struct Change<'a> {
    pub cgroup: &'a Path,
    pub setting: Setting,
}

/// As [`write`], in several cgroups, and all or nothing: what was there before comes back when one is refused.
pub fn change(changes: &[Change<'_>]) -> Result<()> {
    let mut before: Vec<(&Path, String, String)> = Vec::new();
    for Change { cgroup, setting } in changes {
        let name = setting.value.file();
        let changed = match (file::read(cgroup, &name), &setting.asked_by) {
            (Ok(old), _) => {
                // Noted first: a value that was written and does not hold is taken back, too.
                before.push((cgroup, name, old));
                write(cgroup, std::slice::from_ref(setting))
            }
            (Err(_), None) => Ok(()),
            (Err(failure), Some(field)) => Err(Failure { on: format!("{field}, {name}"), ..failure }),
        };
        if let Err(failure) = changed {
            for (cgroup, name, old) in before.iter().rev() {
                // The first failure is the one to tell.
                let _: Result<()> = file::write(cgroup, name, old.trim_end());
            }
            return Err(failure);
        }
    }
    Ok(())
}

fn write_one(cgroup: &Path, value: &Value) -> Result<()> {
    set(cgroup, value)?;
    let name = value.file();
    let found = file::read(cgroup, &name)?;
    if holds(value, found.trim()) {
        return Ok(());
    }
    let path = cgroup.join(name);
    Err(Failure::because(STEP, "", format!("{} says {:?} after {value} was written", path.display(), found.trim())))
}

fn set(cgroup: &Path, value: &Value) -> Result<()> {
    let (at, base) = (cgroup.to_owned(), cgroup.to_owned());
    let memory = |what: SetMemory| MemController::new(at.clone(), base.clone(), true).set_mem(what);
    let done = match value {
        Value::CpuMax { quota, period } => {
            let quota = quota.map_or(-1, signed);
            CpuController::new(at, base, true).set_cfs_quota_and_period(Some(quota), Some(*period))
        }
        Value::CpuWeight(weight) => CpuController::new(at, base, true).set_shares(*weight),
        Value::MemoryMax(limit) => memory(SetMemory { max: Some(max_value(*limit)), ..SetMemory::default() }),
        Value::MemoryLow(bytes) => memory(SetMemory { low: Some(max_value(Some(*bytes))), ..SetMemory::default() }),
        Value::MemorySwapMax(limit) => MemController::new(at, base, true).set_memswap_limit(limit.map_or(-1, signed)),
        Value::PidsMax(limit) => PidController::new(at, base, true).set_pid_max(max_value(*limit)),
        Value::HugetlbMax { page, bytes } => HugeTlbController::new(at, base, true).set_limit_in_bytes(page, *bytes),
        // The crate has no setter for it.
        Value::MemoryOomGroup => return file::write(cgroup, &value.file(), &value.to_string()),
    };
    done.map_err(|error| {
        let errno = error.source().and_then(|cause| cause.downcast_ref::<std::io::Error>()?.raw_os_error());
        let call = format!("write({}, \"{value}\")", cgroup.join(value.file()).display());
        Failure::of_call(STEP, call, errno.unwrap_or_default())
    })
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn max_value(limit: Option<u64>) -> MaxValue {
    limit.map_or(MaxValue::Max, |limit| MaxValue::Value(signed(limit)))
}

/// Whether the file says what was wanted, or the next whole page below.
fn holds(value: &Value, found: &str) -> bool {
    let wanted = value.to_string();
    if found == wanted {
        return true;
    }
    let bytes = matches!(value, Value::MemoryMax(_) | Value::MemoryLow(_) | Value::MemorySwapMax(_));
    match (bytes, wanted.parse::<u64>(), found.parse::<u64>()) {
        (true, Ok(wanted), Ok(found)) => found <= wanted && wanted - found < LARGEST_PAGE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_may_round_down_to_a_page_and_nothing_else() {
        let limit = Value::MemoryMax(Some(512_000_000));
        assert!(holds(&limit, "512000000"));
        assert!(holds(&limit, "511995904"));
        assert!(!holds(&limit, "512004096"));
        assert!(!holds(&limit, "max"));
        assert!(!holds(&Value::PidsMax(Some(10)), "9"));
        assert!(holds(&Value::CpuMax { quota: Some(50_000), period: 100_000 }, "50000 100000"));
        assert!(!holds(&Value::CpuMax { quota: None, period: 100_000 }, "50000 100000"));
    }

    #[test]
    fn values_are_written_and_read_back() {
        let dir = tempfile::tempdir().expect("tempdir");
        for name in ["cpu.max", "memory.max", "pids.max"] {
            std::fs::write(dir.path().join(name), "max 100000").expect("write");
        }
        let asked = |value| Setting { value, asked_by: Some("spec.x".to_owned()) };
        let settings = [
            asked(Value::CpuMax { quota: Some(20_000), period: 100_000 }),
            asked(Value::MemoryMax(Some(1 << 20))),
            asked(Value::PidsMax(None)),
        ];
        write(dir.path(), &settings).expect("written");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect("read");
        assert_eq!(
            (read("cpu.max"), read("memory.max"), read("pids.max")),
            ("20000 100000".into(), "1048576".into(), "max".into())
        );
    }

    #[test]
    fn a_refused_change_is_taken_back() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::fs::write(dir.path().join("pids.max"), "7").expect("write");
        std::fs::create_dir(dir.path().join("memory.max")).expect("mkdir");
        let asked = |value| Setting { value, asked_by: Some("--memory".to_owned()) };
        let settings = [asked(Value::PidsMax(Some(9))), asked(Value::MemoryMax(Some(1 << 20)))];
        let changes = settings.map(|setting| Change { cgroup: dir.path(), setting });
        let failure = change(&changes).expect_err("memory.max is no file");
        assert!(failure.on.starts_with("--memory"), "{failure:?}");
        assert_eq!(std::fs::read_to_string(dir.path().join("pids.max")).expect("read"), "7");
    }
}
