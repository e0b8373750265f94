use super::*;
use crate::host::recorded::Recorded;
use crate::host::{OverlaySupport, ProcVisibility, UserNamespaces};

const DEBIAN: [(&str, &str); 8] = [
    ("proc/self/status", "Name:\tsandpod\nCapEff:\t0000000000000000\nNoNewPrivs:\t0\n"),
    ("proc/self/uid_map", "         0          0 4294967295\n"),
    ("proc/self/gid_map", "         0          0 4294967295\n"),
    ("proc/self/mountinfo", "22 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:5 - proc proc rw\n"),
    ("proc/filesystems", "nodev\toverlay\n"),
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nana:x:1001:1001::/home/ana:/bin/sh\n"),
    ("etc/subuid", "ana:100000:65536\n"),
    ("etc/subgid", "1001:200000:65536\n"),
];

fn source(tree: &Recorded) -> Source {
    Source { root: tree.path().to_owned(), environment: Environment::default(), uid: 1001, gid: 1001 }
}

fn facts(tree: &Recorded) -> Facts {
    probe_source(&source(tree), &Asked::default()).expect("a readable /proc")
}

#[test]
fn a_plain_debian_host() {
    let found = facts(&Recorded::new(&DEBIAN));
    assert_eq!(found.user.name.as_deref(), Some("ana"));
    assert!(found.own_map.is_initial());
    assert_eq!((found.subuids[0].start, found.subgids[0].start), (100_000, 200_000));
    assert_eq!(found.user_namespaces, UserNamespaces::Allowed);
    assert_eq!(found.procfs, ProcVisibility::Full);
    assert_eq!(found.overlay, OverlaySupport::Native);
    assert_eq!(found.resolv_conf, "");
    assert!(found.host_root.is_none() && found.rootfs.is_empty());
    assert_eq!(found.warnings, [] as [&str; 0]);
}

#[test]
fn without_an_account_the_environment_names_the_user() {
    let tree = Recorded::new(&DEBIAN);
    std::fs::remove_file(tree.path().join("etc/passwd")).expect("it was there");
    assert_eq!(facts(&tree).user.name, None);
    let environment = Environment { user: Some("ana".into()), ..Environment::default() };
    let found = probe_source(&Source { environment, ..source(&tree) }, &Asked::default()).expect("a readable /proc");
    assert_eq!((found.user.name.as_deref(), found.subuids.len()), (Some("ana"), 1));
}

#[test]
fn a_file_that_is_something_else_is_a_warning_not_a_hang() {
    let tree = Recorded::new(&DEBIAN);
    for name in ["subuid", "resolv.conf"] {
        let path = tree.path().join("etc").join(name);
        drop(std::fs::remove_file(&path));
        std::fs::create_dir(&path).expect("mkdir");
    }
    std::fs::write(tree.path().join("etc/passwd"), vec![b'x'; MOST_PASSWD + 1]).expect("write");
    let found = facts(&tree);
    assert_eq!((found.subuids.len(), found.subgids.len()), (0, 1));
    assert_eq!(found.warnings.len(), 3, "{:?}", found.warnings);
}

#[test]
fn no_proc_is_the_only_error_and_says_what_to_do() {
    let report = probe_source(&source(&Recorded::new(&[])), &Asked::default()).expect_err("no /proc");
    assert!(report.chain[0].contains("self/status"), "{report:?}");
    assert!(report.hint.expect("a hint").contains("mount -t proc"));
}

#[test]
fn what_is_asked_for_is_read() {
    let tree = Recorded::new(&DEBIAN);
    let asked = Asked {
        host_image: true,
        rootfs: vec![tree.path().join("etc"), PathBuf::from("/nonexistent")],
        ..Asked::default()
    };
    let found = probe_source(&source(&tree), &asked).expect("a readable /proc");
    assert_eq!(found.host_root.expect("asked for").dirs.len(), 1);
    assert_eq!(found.rootfs.iter().filter(|rootfs| rootfs.owner.is_some()).count(), 1);
}
