use super::*;
use crate::host::AncestorLimits;

const MI: u64 = 1 << 20;

fn claim(cpu_millis: u64, memory: u64) -> Claim {
    Claim { cpu_millis, memory }
}

fn beside(others: &[(&str, Claim)]) -> Admission {
    Admission::Checked { others: others.iter().map(|(name, claim)| ((*name).to_owned(), *claim)).collect() }
}

fn below(memory_max: Option<u64>, pids_max: Option<u64>, cpu_millis: Option<u64>) -> Capacity {
    let ancestors = vec![AncestorLimits { path: "/sys/fs/cgroup/box".into(), memory_max, pids_max, cpu_millis }];
    Capacity { ancestors, ..Capacity::default() }
}

#[test]
fn a_pod_fits_as_a_whole_or_not_at_all() {
    // 1 Gi and 0.5 Gi.
    let asked = claim(0, 1536 * MI);
    let report = admit(&asked, 2, &below(Some(1280 * MI), None, None), &beside(&[])).expect_err("too much");
    assert_eq!(report.exit_code, exit_code::FAILURE);
    assert_eq!(
        report.chain,
        ["memory: 1536Mi requested, but memory.max of /sys/fs/cgroup/box is 1280Mi: 256Mi too little"]
    );
    assert_eq!(report.hint.as_deref(), Some("lower the requests; --overcommit starts it all the same"));
    assert_eq!(admit(&asked, 2, &below(Some(2048 * MI), None, None), &beside(&[])), Ok(()));
    assert_eq!(admit(&asked, 2, &below(Some(1280 * MI), None, None), &Admission::Waived), Ok(()));
}

#[test]
fn everything_that_is_missing_is_said_at_once() {
    let mut capacity = below(Some(512 * MI), Some(5), Some(1500));
    capacity.cpu_millis = 2000;
    capacity.memory_total = Some(700 * MI + 1);
    capacity.memory_available = Some(300 * MI + 1);
    let others = beside(&[("db", claim(1000, 256 * MI)), ("idle", claim(0, 0))]);
    let report = admit(&claim(1500, 600 * MI + 1), 2, &capacity, &others).expect_err("too much");
    assert_eq!(
        report.chain,
        [
            "cpu: 1500m requested beside 1 of other pods, but sandpod may use 2 (sched_getaffinity): 500m too little",
            "cpu: 1500m requested beside 1 of other pods, but cpu.max of /sys/fs/cgroup/box comes to 1500m: 1 too little",
            "memory: 601Mi requested beside 256Mi of other pods, but the host has 700Mi: 156Mi too little",
            "memory: 601Mi requested beside 256Mi of other pods, but memory.max of /sys/fs/cgroup/box is 512Mi: \
             345Mi too little",
            "memory: 601Mi requested, but only 300Mi are available: 300Mi too little",
            "processes: 6 are the least, but pids.max of /sys/fs/cgroup/box is 5",
            "pods that run hold 1 cpu and 256Mi (`db`)",
        ]
    );
}

#[test]
fn what_runs_is_counted_once() {
    // Another pod claims 1 Gi and uses it: it is gone from what is available, and must not be subtracted again.
    let capacity = Capacity {
        cpu_millis: 4000,
        memory_available: Some(1100 * MI),
        memory_total: Some(2200 * MI),
        ..Capacity::default()
    };
    let others = beside(&[("other", claim(1000, 1024 * MI))]);
    assert_eq!(admit(&claim(3000, 1024 * MI), 1, &capacity, &others), Ok(()));
    assert!(admit(&claim(3001, 1024 * MI), 1, &capacity, &others).is_err());
    assert!(admit(&claim(3000, 1177 * MI), 1, &capacity, &others).is_err());
}

#[test]
fn who_requests_nothing_is_always_admitted() {
    let mut full = below(Some(MI), None, Some(10));
    full.memory_available = Some(0);
    full.cpu_millis = 1000;
    let others = beside(&[("greedy", claim(64_000, 1 << 50))]);
    assert_eq!(admit(&Claim::default(), 1, &full, &others), Ok(()));
}

#[test]
fn what_is_not_known_refuses_nothing() {
    assert_eq!(admit(&claim(64_000, 1 << 50), 1, &Capacity::default(), &beside(&[])), Ok(()));
}
