use super::*;

/// A directory with these files, as a cgroup would have them.
fn cgroup(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("tempdir");
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).expect("write");
    }
    dir
}

const EVENTS: (&str, &str) = ("cgroup.events", "populated 1\nfrozen 0\n");

#[test]
fn a_whole_cgroup() {
    // Copied from a leaf of Linux 6.12 under systemd's user@.service, numbers shortened.
    let leaf = cgroup(&[
        EVENTS,
        (
            "cpu.stat",
            "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnice_usec 0\ncore_sched.force_idle_usec 0\nnr_periods 20\nnr_throttled 19\nthrottled_usec 1700\nnr_bursts 0\nburst_usec 0\n",
        ),
        ("cpu.max", "20000 100000\n"),
        ("memory.current", "8192\n"),
        ("memory.peak", "12288\n"),
        ("memory.max", "268435456\n"),
        (
            "memory.stat",
            "anon 4096\nfile 2048\nkernel 1024\nshmem 512\ninactive_anon 0\nactive_file 1\ninactive_file 1024\n",
        ),
        ("memory.events", "low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\noom_group_kill 0\n"),
        ("memory.swap.current", "0\n"),
        ("memory.swap.max", "max\n"),
        ("pids.current", "3\n"),
        ("pids.peak", "7\n"),
        ("pids.max", "max\n"),
        (
            "io.stat",
            "8:0 rbytes=4096 wbytes=100 rios=1 wios=2 dbytes=0 dios=0\n8:16\n254:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n",
        ),
        (
            "cpu.pressure",
            "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        ),
        ("memory.pressure", "some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"),
    ]);
    let found = usage(leaf.path()).expect("a cgroup");
    let cpu = found.cpu.expect("cpu");
    assert_eq!((cpu.usage_microseconds, cpu.periods, cpu.throttled_microseconds), (1500, Some(20), Some(1700)));
    assert_eq!(cpu.max, Some(CpuMax { quota_microseconds: Limit::Of(20_000), period_microseconds: 100_000 }));
    assert_eq!(found.memory.max_bytes, Some(Limit::Of(268_435_456)));
    assert_eq!((found.memory.current_bytes, found.memory.working_set_bytes), (Some(8192), Some(7168)));
    assert_eq!(found.memory.swap_max_bytes, Some(Limit::Max));
    assert_eq!(found.memory.stat.and_then(|stat| stat.shmem_bytes), Some(512));
    assert_eq!(found.memory.events, Some(MemoryEvents { max: 4, oom: 2, oom_kill: 1 }));
    assert_eq!(found.pids, PidsUsage { current: Some(3), peak: Some(7), max: Some(Limit::Max) });
    assert_eq!(found.io, Some(IoUsage { read_bytes: 4097, written_bytes: 102, reads: 4, writes: 6 }));
    let pressure = found.pressure.cpu.expect("psi");
    assert_eq!((pressure.some.avg10_percent, pressure.some.total_microseconds), (1.5, 12345));
    assert!(pressure.full.is_some() && found.pressure.memory.is_some_and(|memory| memory.full.is_none()));
    assert_eq!(found.pressure.io, None);
}

#[test]
fn what_is_not_measured_is_not_zero() {
    let bare = cgroup(&[EVENTS, ("cpu.stat", "usage_usec 10\nuser_usec 4\nsystem_usec 6\n")]);
    let found = usage(bare.path()).expect("a cgroup");
    assert_eq!(found.cpu.map(|cpu| (cpu.usage_microseconds, cpu.periods, cpu.max)), Some((10, None, None)));
    assert_eq!(found.memory, MemoryUsage::default());
    assert_eq!((found.pids, found.io, found.pressure), Default::default());
    let json = serde_json::to_value(&found).expect("JSON");
    assert!(
        json["memory"]["currentBytes"].is_null() && json["pids"]["max"].is_null() && json["io"].is_null(),
        "{json}"
    );
    // An empty io.stat is a cgroup that has read and written nothing.
    let idle = cgroup(&[EVENTS, ("io.stat", "")]);
    assert_eq!(usage(idle.path()).and_then(|found| found.io), Some(IoUsage::default()));
    assert_eq!(usage(Path::new("/nonexistent")), None);
}

#[test]
fn nonsense_is_not_measured_either() {
    let odd = cgroup(&[
        EVENTS,
        ("cpu.stat", "usage_usec many\n"),
        ("cpu.max", "100000\n"),
        ("memory.current", "-1\n"),
        ("memory.max", "lots\n"),
        ("cpu.pressure", "some avg10=? total=1\n"),
    ]);
    let found = usage(odd.path()).expect("a cgroup");
    assert_eq!(found, CgroupUsage::default());
}

#[test]
fn frozen_is_asked_and_done() {
    let state =
        |freeze: &str, events: &str| frozen(cgroup(&[("cgroup.freeze", freeze), ("cgroup.events", events)]).path());
    assert_eq!(state("0\n", "populated 1\nfrozen 0\n"), Some(Frozen::No));
    assert_eq!(state("1\n", "populated 1\nfrozen 0\n"), Some(Frozen::Freezing));
    assert_eq!(state("1\n", "populated 1\nfrozen 1\n"), Some(Frozen::Yes));
    assert_eq!(frozen(cgroup(&[EVENTS]).path()), None);
}

#[test]
fn processes_and_children_in_order() {
    let pod = cgroup(&[("cgroup.procs", "30\n0\n4\n30\n")]);
    assert_eq!(processes(pod.path()), Some(vec![4, 30]));
    assert_eq!(processes(&pod.path().join("gone")), None);
    for name in ["web.1", "pause"] {
        std::fs::create_dir(pod.path().join(name)).expect("mkdir");
    }
    let names: Vec<_> =
        children(pod.path()).iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect();
    assert_eq!(names, ["pause", "web.1"]);
}

#[test]
fn a_limit_in_json_is_as_the_kernel_writes_it() {
    let max = CpuMax { quota_microseconds: Limit::Max, period_microseconds: 100_000 };
    assert_eq!(
        serde_json::to_string(&max).expect("JSON"),
        r#"{"quotaMicroseconds":"max","periodMicroseconds":100000}"#
    );
}
