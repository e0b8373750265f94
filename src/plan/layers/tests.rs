use super::super::fixtures::*;
use super::*;
use crate::host::AncestorLimits;
use crate::manifest::{Image, Pod};
use crate::plan::PodPlan;

const ID: &str = "0123456789ab";

fn of_image(image: Image) -> Pod {
    let mut only = container("only");
    only.image = image;
    pod(vec![only])
}

fn rootfs() -> Pod {
    of_image(Image::Rootfs(ROOTFS.into()))
}

fn dir(path: &str, in_memory: bool, why_not: Option<&str>) -> LayerDir {
    LayerDir { path: path.into(), in_memory, why_not: why_not.map(str::to_owned) }
}

/// A home on overlayfs; `elsewhere` and `memory` as given.
fn in_a_container(elsewhere: Vec<LayerDir>, memory: Option<&str>) -> Facts {
    let data = Some("it is on overlayfs, which cannot hold the upper layer of an overlay".to_owned());
    Facts { layers: LayerFacts { data, elsewhere, memory: memory.map(str::to_owned) }, ..facts_for_tests() }
}

fn names(plan: &PodPlan) -> Vec<&str> {
    plan.degradations.iter().map(|degradation| degradation.name.as_str()).collect()
}

#[test]
fn the_first_directory_that_can_hold_layers_is_taken_by_name() {
    let facts = in_a_container(
        vec![
            dir("/run/user/1000/sandpod", false, Some("it is on overlayfs")),
            dir("/tmp/sandpod-1000", true, None),
            dir("/other", true, None),
        ],
        None,
    );
    let plan = plan_on(&rootfs(), &facts).unwrap();
    assert_eq!(plan.sandbox.layers, LayerPlace::Directory(format!("/tmp/sandpod-1000/layers/{ID}").into()));
    assert_eq!(names(&plan), [LAYERS_ELSEWHERE]);
    let meaning = &plan.degradations[0].meaning;
    assert!(meaning.contains("/tmp/sandpod-1000/layers") && meaning.contains("a tmpfs"), "{meaning}");
    assert!(plan.degradations[0].fix.contains("XDG_DATA_HOME"));
    let shown = super::super::render::Text(&plan).to_string();
    assert!(
        shown.contains("overlay over /srv/debian") && shown.contains("written to /tmp/sandpod-1000/layers"),
        "{shown}"
    );
}

#[test]
fn a_tmpfs_of_the_pods_own_is_bounded_and_says_so() {
    let mut facts = in_a_container(vec![dir("/tmp/sandpod-1000", false, Some("it is open to others"))], None);
    let plan = plan_on(&of_image(Image::Host), &facts).unwrap();
    assert_eq!(plan.sandbox.layers, LayerPlace::Memory { size: 2 << 30 }, "a quarter of 8 GiB");
    assert_eq!(names(&plan), [LAYERS_IN_MEMORY]);
    assert!(plan.degradations[0].meaning.contains("at most 2048 MiB"), "{:?}", plan.degradations[0]);
    assert!(super::super::render::Text(&plan).to_string().contains("kept in memory, at most 2 GiB"));
    let limit = AncestorLimits { path: "/".into(), memory_max: Some(1 << 30), pids_max: None, cpu_millis: None };
    facts.cgroup.capacity.ancestors.push(limit);
    let sizes =
        [(Some(8 << 30), 256 << 20), (Some(1 << 20), LEAST_MEMORY), (None, 256 << 20)].map(|(total, expected)| {
            facts.cgroup.capacity.memory_total = total;
            (size(&facts), expected)
        });
    assert!(sizes.iter().all(|(found, expected)| found == expected), "{sizes:?}");
    facts.cgroup.capacity = crate::host::Capacity::default();
    assert_eq!(size(&facts), UNKNOWN_MEMORY);
}

#[test]
fn where_nothing_can_hold_a_layer_a_directory_is_copied_and_the_hosts_is_read_only() {
    let facts = in_a_container(vec![dir("/tmp/sandpod-1000", true, Some("no user xattrs"))], Some("before Linux 6.6"));
    let copied = plan_on(&rootfs(), &facts).unwrap();
    assert_eq!(copied.containers[0].root, RootPlan::Copy { sources: vec![ROOTFS.into()] });
    let host = plan_on(&of_image(Image::Host), &facts).unwrap();
    let RootPlan::HostTree { dirs, .. } = &host.containers[0].root else { panic!("no host tree") };
    assert!(dirs.iter().all(|dir| !dir.overlay));
    for (plan, effect) in [(&copied, "copied whole"), (&host, "read-only")] {
        assert_eq!(names(plan), [NO_OVERLAY]);
        let meaning = &plan.degradations[0].meaning;
        for part in [effect, "on overlayfs", "/tmp/sandpod-1000: no user xattrs", "memory: before Linux 6.6"] {
            assert!(meaning.contains(part), "{part}: {meaning}");
        }
        assert_eq!(*plan.sandbox.place_of(&plan.containers[0].root), LayerPlace::Data);
    }
}

#[test]
fn a_third_overlay_is_not_tried() {
    let mut facts = facts_for_tests();
    facts.rootfs[0].too_deep = true;
    let copied = plan_on(&rootfs(), &facts).unwrap();
    assert_eq!(copied.containers[0].root, RootPlan::Copy { sources: vec![ROOTFS.into()] });
    assert_eq!(names(&copied), [NO_OVERLAY]);
    assert!(copied.degradations[0].meaning.contains("no third"), "{:?}", copied.degradations[0]);
    for dir in &mut facts.host_root.as_mut().unwrap().dirs {
        dir.too_deep = true;
    }
    let host = plan_on(&of_image(Image::Host), &facts).unwrap();
    assert_eq!(names(&host), [USR_READ_ONLY]);
    assert!(host.degradations[0].meaning.contains("/usr, /etc"), "{:?}", host.degradations[0]);
}
