//! What one amount of one resource may be: the manifest's `limits` and `requests`, and `run --memory`.
//!
//! As in Kubernetes a fraction of a byte or of a thousandth of a cpu is rounded up. Unlike there, an amount that would
//! be enforced as another one is refused: a limit of 0 (which means none there) and a limit of less than 10m cpu (which
//! the kubelet silently raises).

use super::pod::Resource;
use super::problem::excerpt;
use super::quantity::Quantity;

/// What the amount is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Limit,
    Request,
}

/// Thousandths of a cpu of quota in the kubelet's period of 100 ms: the kernel's least quota is 1 ms
/// (`min_cfs_quota_period` in kernel/sched/core.c; the kubelet's `minQuotaPeriod`).
const LEAST_CPU_LIMIT: u64 = 10;
/// Thousandths of a cpu; the kernel's greatest quota is 2^44-1 µs (`max_bw_quota_period_us`), in 100 ms.
const MOST_CPU: u64 = ((1 << 44) - 1) / 100;
/// Bytes; the kernel counts whole pages, and this is the least that a page has.
const PAGE: u64 = 4096;

/// The amount in the resource's unit: thousandths of a cpu, or bytes.
///
/// # Errors
/// What is wrong with it and what is allowed, in words that follow the field's name.
pub fn amount(resource: Resource, role: Role, text: &str) -> Result<u64, String> {
    let shown = excerpt(text);
    let quantity: Quantity = text.parse().map_err(|error| format!("`{shown}` {error}"))?;
    if quantity.nanos() < 0 {
        return Err(format!("`{shown}` must not be negative"));
    }
    let units = if resource == Resource::Cpu { quantity.milli() } else { quantity.value() };
    let units = u64::try_from(units).map_err(|_| format!("`{shown}` is too large"))?;
    if units == 0 && role == Role::Limit && !matches!(resource, Resource::HugePages(_)) {
        return Err("must be more than 0; leave it out for no limit".to_owned());
    }
    match resource {
        Resource::Cpu => cpu(&shown, quantity, units, role)?,
        Resource::Memory => bytes(&shown, units, role)?,
        // Not in pages: what is measured is compared with it to the byte.
        Resource::EphemeralStorage => bytes(&shown, units, Role::Request)?,
        Resource::HugePages(page) if units % page != 0 => {
            return Err(format!("`{shown}` is not a whole number of such pages: write a multiple of {}", binary(page)));
        }
        Resource::HugePages(_) => {}
    }
    Ok(units)
}

fn cpu(shown: &str, quantity: Quantity, milli: u64, role: Role) -> Result<(), String> {
    if (1..1_000_000).contains(&quantity.nanos()) {
        return Err(format!("`{shown}` is too small: the least is 1m, a thousandth of a cpu"));
    }
    if role == Role::Limit && milli < LEAST_CPU_LIMIT {
        return Err(format!("`{shown}` is too small: the kernel limits to 1 ms in each 100 ms, which is 10m, or more"));
    }
    if milli > MOST_CPU {
        return Err(format!("`{shown}` is too large: the kernel counts up to {} cpus", MOST_CPU / 1000));
    }
    Ok(())
}

fn bytes(shown: &str, bytes: u64, role: Role) -> Result<(), String> {
    if let Some(number) = shown.strip_suffix(['m', 'u', 'n']) {
        return Err(format!(
            "`{shown}` is a fraction of a byte, since m means thousandths; did you mean `{number}Mi` or `{number}M`?"
        ));
    }
    if role == Role::Limit && bytes < PAGE {
        return Err(format!(
            "`{shown}` is less than one page of memory, {PAGE} bytes; for mebibytes write `{shown}Mi`"
        ));
    }
    Ok(())
}

/// The kernel's greatest `pids.max` (PID_MAX_LIMIT; `pids_max_write` in kernel/cgroup/pids.c).
const MOST_PIDS: u64 = 1 << 22;

/// Of the annotation `sandpod.dev/pids-limit`; `None` is `max`.
///
/// # Errors
/// What is allowed, in words that follow the annotation's name.
pub fn pids_limit(text: &str) -> Result<Option<u64>, String> {
    if text == "max" {
        return Ok(None);
    }
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|number| digits && (1..=MOST_PIDS).contains(number));
    number.map(Some).ok_or_else(|| {
        format!("`{}` must be `max`, or a number of processes and threads from 1 to {MOST_PIDS}", excerpt(text))
    })
}

/// The page size, in bytes, of a resource named `hugepages-2Mi`.
///
/// # Errors
/// What is wrong with the name, in words that follow it.
pub(super) fn huge_page_size(name: &str) -> Result<u64, String> {
    let size = name.strip_prefix("hugepages-").unwrap_or(name);
    let parsed = size.parse::<Quantity>().ok().and_then(|quantity| u64::try_from(quantity.value()).ok());
    match parsed.filter(|bytes| bytes.is_power_of_two() && *bytes > PAGE) {
        None => Err("is no size of huge pages; x86-64 has hugepages-2Mi and hugepages-1Gi".to_owned()),
        // One name for one size, or two entries could contradict each other.
        Some(bytes) if binary(bytes) != size => Err(format!("must be written hugepages-{}", binary(bytes))),
        Some(bytes) => Ok(bytes),
    }
}

/// As one would write it in a manifest: `500m`, `2`, `64Mi`.
pub(crate) fn written(resource: Resource, units: u64) -> String {
    match resource {
        Resource::Cpu if units.is_multiple_of(1000) => (units / 1000).to_string(),
        Resource::Cpu => format!("{units}m"),
        Resource::Memory | Resource::EphemeralStorage | Resource::HugePages(_) => binary(units),
    }
}

/// With the greatest binary suffix that is exact.
pub(super) fn binary(bytes: u64) -> String {
    let units = [(40, "Ti"), (30, "Gi"), (20, "Mi"), (10, "Ki")];
    let exact = units.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    exact.map_or_else(|| bytes.to_string(), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(resource: Resource, text: &str) -> Result<u64, String> {
        amount(resource, Role::Limit, text)
    }

    fn request(resource: Resource, text: &str) -> Result<u64, String> {
        amount(resource, Role::Request, text)
    }

    #[test]
    fn amounts_are_those_of_kubernetes() {
        for (text, milli) in [("500m", 500), ("0.5", 500), ("1e3", 1_000_000), ("2", 2000), ("10.1m", 11), ("0.1", 100)]
        {
            assert_eq!(limit(Resource::Cpu, text), Ok(milli), "{text}");
        }
        for (text, bytes) in [("64Mi", 64 << 20), ("1.5Gi", 3 << 29), ("1e6", 1_000_000), ("0.1Gi", 107_374_183)] {
            assert_eq!(limit(Resource::Memory, text), Ok(bytes), "{text}");
        }
        assert_eq!(limit(Resource::HugePages(2 << 20), "6Mi"), Ok(6 << 20));
    }

    #[test]
    fn what_would_not_be_enforced_as_written_is_refused() {
        let refused = |result: Result<u64, String>, part: &str| {
            let why = result.expect_err(part);
            assert!(why.contains(part), "{why}");
        };
        refused(limit(Resource::Cpu, "0"), "leave it out for no limit");
        refused(limit(Resource::Cpu, "9m"), "10m, or more");
        refused(request(Resource::Cpu, "999u"), "the least is 1m");
        refused(request(Resource::Cpu, "1Ei"), "too large");
        refused(limit(Resource::Cpu, "-1"), "negative");
        refused(limit(Resource::Memory, "0"), "leave it out for no limit");
        refused(request(Resource::Memory, "128m"), "did you mean `128Mi` or `128M`?");
        refused(limit(Resource::Memory, "64"), "write `64Mi`");
        refused(limit(Resource::EphemeralStorage, "100m"), "did you mean `100Mi` or `100M`?");
        assert_eq!(limit(Resource::EphemeralStorage, "64"), Ok(64));
        refused(limit(Resource::Memory, "64MiB"), "is not a quantity");
        refused(limit(Resource::HugePages(2 << 20), "3Mi"), "a multiple of 2Mi");
        // A request of nothing is one: it is not raised to the limit.
        assert_eq!((request(Resource::Cpu, "0"), request(Resource::Memory, "0")), (Ok(0), Ok(0)));
        assert_eq!(request(Resource::Cpu, "1m"), Ok(1));
        assert_eq!(limit(Resource::Cpu, "10m"), Ok(10));
    }

    #[test]
    fn a_count_of_processes_is_a_number_or_max() {
        assert_eq!(pids_limit("max"), Ok(None));
        assert_eq!((pids_limit("1"), pids_limit("4194304")), (Ok(Some(1)), Ok(Some(4_194_304))));
        for wrong in ["", "0", "4194305", "-1", "+1", "1k", "Max", " 1", "99999999999999999999"] {
            assert!(pids_limit(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn huge_pages_are_named_by_a_power_of_two() {
        assert_eq!(huge_page_size("hugepages-2Mi"), Ok(2 << 20));
        assert_eq!(huge_page_size("hugepages-1Gi"), Ok(1 << 30));
        assert_eq!(huge_page_size("hugepages-2048Ki"), Err("must be written hugepages-2Mi".to_owned()));
        for name in ["hugepages-", "hugepages-3Mi", "hugepages-2MB", "hugepages-4Ki", "hugepages--2Mi"] {
            assert!(huge_page_size(name).is_err(), "{name}");
        }
    }

    #[test]
    fn amounts_are_shown_as_one_writes_them() {
        assert_eq!(written(Resource::Cpu, 1500), "1500m");
        assert_eq!(written(Resource::Cpu, 2000), "2");
        assert_eq!(written(Resource::Memory, 3 << 29), "1536Mi");
        assert_eq!(written(Resource::Memory, 1001), "1001");
        assert_eq!(written(Resource::Memory, 0), "0");
    }
}
