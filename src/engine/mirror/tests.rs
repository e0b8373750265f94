use std::fs;
use std::os::unix::fs::symlink;

use super::*;

fn lacking(dir: &str, parents: &str, rest: &str) -> Option<Lacking> {
    let (parents, rest) = (parents.into(), rest.into());
    Some(Lacking { dir: dir.to_owned(), parents, rest, missing: Missing::MakeDirectory })
}

#[test]
fn a_destination_is_followed_through_links_to_where_it_is_lacking() {
    let root = tempfile::tempdir().expect("tempdir");
    for dir in ["usr/lib/there", "etc/some"] {
        fs::create_dir_all(root.path().join(dir)).expect("mkdir");
    }
    fs::write(root.path().join("etc/file"), "").expect("write");
    for (target, link) in [("/usr/lib", "absolute"), ("../usr/lib", "relative"), ("circle", "circle"), ("/var", "out")]
    {
        symlink(target, root.path().join("etc").join(link)).expect("symlink");
    }
    let open = |name: &str| path::open_host_path(&root.path().join(name)).expect("open");
    let (usr, etc) = (open("usr"), open("etc"));
    let tree = HostTree {
        links: &[("lib".to_owned(), "usr/lib".into())],
        dirs: vec![("usr", usr.as_fd()), ("etc", etc.as_fd())],
    };
    for (destination, expected) in [
        ("/usr/lib/there", None),
        ("/usr/lib/new", lacking("usr", "lib", "new")),
        ("/lib/new", lacking("usr", "lib", "new")),
        ("/etc/some/new/deep", lacking("etc", "some", "new/deep")),
        ("/etc/new", lacking("etc", "", "new")),
        ("/etc/absolute/there/new", lacking("usr", "lib/there", "new")),
        ("/etc/relative/new", lacking("usr", "lib", "new")),
        ("/etc/some/../new", lacking("etc", "", "new")),
        ("/etc/new/../other", None),
        ("/etc/circle/new", None),
        ("/etc/out/new", None),
        ("/etc/file/new", None),
        ("/var/new", None),
        ("/", None),
    ] {
        let found = tree.lacking(Path::new(destination), Missing::MakeDirectory).expect(destination);
        assert_eq!(found, expected, "{destination}");
    }
}

#[test]
fn a_directory_of_too_many_entries_is_named_with_the_way_out() {
    let root = tempfile::tempdir().expect("tempdir");
    for number in 0..=MOST_ENTRIES {
        fs::write(root.path().join(number.to_string()), "").expect("write");
    }
    let opened = path::open_host_path(root.path()).expect("open");
    let failure = names(opened.as_fd(), Path::new("/usr/bin")).expect_err("too many");
    assert_eq!(failure.on, "/usr/bin");
    assert!(failure.to_string().contains("make the mount point on the host"), "{failure}");
}
