//! Who is killed first when the host's memory runs out.

use super::Wanted;
use crate::manifest::Resource;
use crate::plan::cgroup::QosClass;

const GUARANTEED: i32 = -997;
const BEST_EFFORT: i32 = 1000;

/// The `oom_score_adj` of the container at this place
/// (<https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/#node-out-of-memory-behavior>): the
/// more of the host's memory it requests, the later its turn. What a pod requests beyond its containers (KEP-2837) is
/// divided evenly among them.
pub(in crate::plan) fn adjustment(index: usize, wanted: &Wanted<'_>, qos: QosClass, memory_total: Option<u64>) -> i32 {
    match qos {
        QosClass::Guaranteed => GUARANTEED,
        QosClass::BestEffort => BEST_EFFORT,
        QosClass::Burstable => {
            let requests: Vec<u64> =
                wanted.containers.iter().map(|of| of.request(Resource::Memory).unwrap_or(0)).collect();
            let together = requests.iter().copied().fold(0, u64::saturating_add);
            let pod = super::pod_request(wanted, Resource::Memory).map_or(0, |asked| asked.amount);
            let rest = pod.saturating_sub(together) / requests.len().max(1) as u64;
            burstable(requests.get(index).copied().unwrap_or(0).saturating_add(rest), memory_total)
        }
    }
}

/// Never that of another class. Where the host does not tell its memory, no request can be a part of it.
fn burstable(request: u64, memory_total: Option<u64>) -> i32 {
    let Some(total) = memory_total.filter(|total| *total > 0) else { return BEST_EFFORT - 1 };
    let part = u128::from(request) * 1000 / u128::from(total);
    i32::try_from(part).map_or(2, |part| BEST_EFFORT.saturating_sub(part).clamp(2, BEST_EFFORT - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burstable_lies_between_the_other_classes() {
        for (request, total, expected) in [
            (0, Some(100), 999),
            (10, Some(100), 900),
            (100, Some(100), 2),
            (u64::MAX, Some(1), 2),
            (50, None, 999),
            (50, Some(0), 999),
        ] {
            assert_eq!(burstable(request, total), expected, "{request} of {total:?}");
        }
    }
}
