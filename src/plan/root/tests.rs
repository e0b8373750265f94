use super::super::fixtures::*;
use super::*;
use crate::host::OverlaySupport;
use crate::manifest::Pod;

fn on(facts: &Facts, image: Image) -> Result<RootPlan, Report> {
    let mut only = container("only");
    only.image = image;
    let pod: Pod = pod(vec![only]);
    plan_on(&pod, facts).map(|mut plan| plan.containers.remove(0).root)
}

fn rootfs_image() -> Image {
    Image::Rootfs(ROOTFS.into())
}

#[test]
fn a_directory_is_an_overlays_lower_layer_or_copied() {
    let mut facts = facts_for_tests();
    assert_eq!(on(&facts, rootfs_image()).unwrap(), RootPlan::Overlay { lowers: vec![ROOTFS.into()] });
    facts.overlay = OverlaySupport::Missing { why: "Linux 5.10".into() };
    assert_eq!(on(&facts, rootfs_image()).unwrap(), RootPlan::Copy { sources: vec![ROOTFS.into()] });
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let mut facts = facts_for_tests();
    facts.rootfs[0].owner = None;
    facts.rootfs[0].error = Some("No such file or directory (ENOENT)".into());
    let report = on(&facts, rootfs_image()).unwrap_err();
    assert_eq!(report.exit_code, exit_code::FAILURE);
    assert!(report.what.contains(ROOTFS), "{report:?}");
    assert_eq!(report.chain, ["No such file or directory (ENOENT)"]);

    let mut facts = facts_for_tests();
    facts.rootfs[0].mounts_below = vec!["/srv/debian/proc".into()];
    let report = on(&facts, rootfs_image()).unwrap_err();
    assert!(report.chain[0].ends_with("/srv/debian/proc"), "{report:?}");
    assert!(report.hint.is_some());
}

#[test]
fn the_hosts_tree_has_links_overlays_and_fresh_directories() {
    let mut facts = facts_for_tests();
    facts.host_root.as_mut().unwrap().dirs[0].mounts_below = vec!["/usr/local".into()];
    let RootPlan::HostTree { links, dirs, fresh } = on(&facts, Image::Host).unwrap() else { panic!("no host tree") };
    assert_eq!(links.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["bin", "lib", "var/run", "var/lock"]);
    assert_eq!(
        dirs.iter().map(|dir| (dir.name.as_str(), dir.overlay)).collect::<Vec<_>>(),
        [("usr", false), ("etc", true)]
    );
    let mode = |path: &str| fresh.iter().find(|dir| dir.path == Path::new(path)).map(|dir| dir.mode);
    assert_eq!(mode("tmp"), Some(0o1777));
    assert_eq!(mode("root"), Some(0o700));
    assert_eq!(mode("var/tmp"), Some(0o1777));
    assert_eq!(mode("var/lib/nginx"), Some(0o755));
    // A link of ours: no directory may be in its place.
    assert_eq!(mode("var/run"), None);
    for (position, dir) in fresh.iter().enumerate() {
        let parent = dir.path.parent().unwrap();
        let made = parent == Path::new("") || fresh[..position].iter().any(|earlier| earlier.path == parent);
        assert!(made, "{} comes before its parent", dir.path.display());
    }
}

#[test]
fn without_overlayfs_the_hosts_directories_are_read_only() {
    let mut facts = facts_for_tests();
    facts.overlay = OverlaySupport::Missing { why: "Linux 5.10".into() };
    let RootPlan::HostTree { dirs, .. } = on(&facts, Image::Host).unwrap() else { panic!("no host tree") };
    assert!(dirs.iter().all(|dir| !dir.overlay));
}
