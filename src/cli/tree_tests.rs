use super::*;

fn member(name: &str, pid: i32) -> Member {
    Member { name: name.to_owned(), pid }
}

#[test]
fn who_shares_a_namespace_with_whom() {
    let members = [member(SUPERVISOR, 1), member(PAUSE, 2), member("web", 3), member("job", 4)];
    let inode = |pid: i32, kind: &str| match (kind, pid) {
        ("net", _) => Some(100),
        ("mnt", pid) => Some(200 + u64::from(pid.unsigned_abs())),
        ("pid", 1) => Some(300),
        ("pid", 4) => None,
        ("pid", _) => Some(301),
        _ => Some(if pid == 1 { 400 } else { 401 }),
    };
    let found = namespaces(&members, inode);
    let of = |kind: &str| -> Vec<(Option<u64>, String)> {
        found.iter().filter(|n| n.kind == kind).map(|n| (n.inode, n.shared_by.join(" "))).collect()
    };
    assert_eq!(of("net"), [(Some(100), "host pause web job".to_owned())]);
    assert_eq!(
        of("mnt"),
        [(Some(202), "pause".to_owned()), (Some(203), "web".to_owned()), (Some(204), "job".to_owned())]
    );
    assert_eq!(of("pid"), [(Some(301), "pause web".to_owned()), (None, "job".to_owned())]);
    assert_eq!(of("user"), [(Some(401), "pause web job".to_owned())]);
}

/// Our own process and its parent stand for container and supervisor, so that there are command lines to read.
#[test]
fn processes_without_cgroups() {
    let (me, parent) = (std::process::id().cast_signed(), std::os::unix::process::parent_id().cast_signed());
    let members = [member(SUPERVISOR, parent), member("web", me)];
    let parents = BTreeMap::from([(parent, 1), (me, parent)]);
    let groups = by_parent(&members, &parents, &|_| None);
    let pids: Vec<Vec<i32>> =
        groups.iter().map(|group| group.processes.iter().map(|process| process.pid).collect()).collect();
    assert_eq!(pids, [[parent], [me]]);
    // An orphan of the container that another process has adopted is known by its mount namespace.
    let members = [member(SUPERVISOR, 1), member(PAUSE, parent), member("web", i32::MAX)];
    let groups = by_parent(&members, &parents, &|pid| (pid == me || pid == i32::MAX).then_some(7));
    assert_eq!((groups[2].name.as_str(), groups[2].processes[0].pid), ("web", me));
    assert_eq!(groups[1].processes[0].children, []);
}

#[test]
fn a_drawing() {
    let process = |pid, command: &str, children| Process { pid, command: command.to_owned(), children };
    let group =
        |name: &str, processes| Group { name: name.to_owned(), frozen: name == "web.1", processes, groups: vec![] };
    let view = View {
        name: "web".to_owned(),
        id: "0123456789ab".to_owned(),
        cgroup: Some("/sys/fs/cgroup/sandpod-web".into()),
        groups: vec![
            group("pause", vec![process(7, "pause", vec![])]),
            group("web.1", vec![process(8, "sh \u{1b}[2J", vec![process(9, "sleep 1000", vec![])])]),
        ],
        namespaces: vec![Namespace { kind: "net", inode: Some(42), shared_by: vec!["pause".into(), "web".into()] }],
    };
    let expected = "\
web 0123456789ab /sys/fs/cgroup/sandpod-web
├─pause
│ └─7 pause
└─web.1 (frozen)
  └─8 sh \\u{1b}[2J
    └─9 sleep 1000
TYPE   INODE   SHARED BY
net    42      pause, web
";
    assert_eq!(text(&view, None), expected);
    assert!(text(&view, Some(10)).contains("\n    └─9 s…\n"), "{}", text(&view, Some(10)));
}
