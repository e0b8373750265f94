use super::super::fixtures::*;
use super::*;
use crate::host::{Facts, OverlaySupport};
use crate::manifest::Pod;

const MI: u64 = 1 << 20;

fn limited(limits: &[Option<u64>], size: Option<u64>) -> Pod {
    let one = |(index, limit): (usize, &Option<u64>)| {
        let mut container = container(&format!("c{index}"));
        container.resources.limits.ephemeral_storage = *limit;
        container
    };
    let mut pod = pod(limits.iter().enumerate().map(one).collect());
    pod.spec.volumes = vec![volume("v", VolumeSource::EmptyDirDisk { size_limit: size })];
    pod
}

fn excess(pod: &Pod, volume: u64, containers: &[u64]) -> Option<String> {
    let containers = containers.iter().enumerate().map(|(index, bytes)| (format!("c{index}"), *bytes)).collect();
    planned(pod).sandbox.storage.excess(&StorageUsage {
        volumes: vec![("v".to_owned(), volume)],
        containers,
        incomplete: false,
    })
}

#[test]
fn what_is_not_limited_is_not_measured() {
    assert!(!planned(&limited(&[None], None)).sandbox.storage.is_limited());
    assert!(planned(&limited(&[None], Some(MI))).sandbox.storage.is_limited());
    assert!(planned(&limited(&[None, Some(MI)], None)).sandbox.storage.is_limited());
    // A volume's limit is nobody else's.
    assert_eq!(excess(&limited(&[None], Some(MI)), MI, &[u64::MAX]), None);
}

#[test]
fn each_limit_is_held_to_the_byte() {
    let pod = limited(&[Some(10 * MI), Some(20 * MI)], Some(5 * MI));
    assert_eq!(excess(&pod, 5 * MI, &[10 * MI, 15 * MI]), None);
    let over = |volume, containers: &[u64]| excess(&pod, volume, containers).expect("beyond");
    assert_eq!(over(6 * MI, &[0, 99 * MI]), "emptyDir `v` has 6Mi on disk, more than the sizeLimit of 5Mi");
    assert_eq!(
        over(5 * MI, &[10 * MI, 15 * MI + 1]),
        "containers and emptyDirs have 31457281 on disk, more than the ephemeral-storage limits of 30Mi"
    );
    assert_eq!(
        over(0, &[10 * MI + 512, 0]),
        "container `c0` has 10486272 on disk, more than the ephemeral-storage limit of 10Mi"
    );
    assert_eq!(
        over(0, &[12 * MI + 1, 0]),
        "container `c0` has 12Mi on disk, more than the ephemeral-storage limit of 10Mi"
    );
}

#[test]
fn who_has_no_limit_counts_for_the_pods() {
    let pod = limited(&[Some(10 * MI), None], None);
    assert_eq!(planned(&pod).sandbox.storage.pod, Some(10 * MI));
    assert!(excess(&pod, 0, &[MI, 10 * MI]).is_some_and(|why| why.starts_with("containers and emptyDirs have 11Mi")));
}

#[test]
fn a_copy_cannot_be_measured() {
    let facts = Facts { overlay: OverlaySupport::Missing { why: "Linux 5.10".into() }, ..facts_for_tests() };
    let report = plan_on(&limited(&[Some(MI)], None), &facts).expect_err("refused");
    assert!(report.what.contains("ephemeral-storage limit of container `c0` cannot be held"), "{report:?}");
    plan_on(&limited(&[None], Some(MI)), &facts).expect("a volume is no copy");
}
