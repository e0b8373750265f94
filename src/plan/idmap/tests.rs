use proptest::prelude::*;

use super::super::fixtures::*;
use super::*;
use crate::host::{HostUser, MapLine, OwnIdMap, RootfsFact};
use crate::manifest::Pod;
use crate::plan::{Request, plan};

fn ranges(list: &[(u32, u32)]) -> Vec<SubIdRange> {
    list.iter().map(|(start, count)| SubIdRange { start: *start, count: *count }).collect()
}

fn lines(entries: &[MapEntry]) -> Vec<(u32, u32, u32)> {
    entries.iter().map(|entry| (entry.inside.0, entry.outside.0, entry.count)).collect()
}

fn idmap(pod: &Pod, facts: &Facts, userns: UsernsChoice) -> Result<IdMapPlan, Report> {
    plan(pod, facts, &Request { userns, ..request() }).map(|plan| plan.sandbox.idmap)
}

#[test]
fn maps_of_each_mode() {
    let pod = pod(vec![container("a")]);
    type Lines = &'static [(u32, u32, u32)];
    type Case = (UsernsChoice, &'static [(u32, u32)], Lines, Lines);
    let cases: &[Case] = &[
        (
            UsernsChoice::RootIsYou,
            &[(100_000, 65536)],
            &[(0, 1000, 1), (1, 100_000, 65535)],
            &[(0, 1001, 1), (1, 100_000, 65536 - 1)],
        ),
        (UsernsChoice::Isolated, &[(100_000, 65536)], &[(0, 100_000, 65536)], &[(0, 100_000, 65536)]),
        (
            UsernsChoice::RootIsYou,
            &[(200_000, 10), (300_000, 5)],
            &[(0, 1000, 1), (1, 200_000, 10), (11, 300_000, 5)],
            &[(0, 1001, 1), (1, 200_000, 10), (11, 300_000, 5)],
        ),
        // More ids than a pod has: the rest is not used.
        (
            UsernsChoice::Isolated,
            &[(100_000, 65530), (300_000, 65536), (400_000, 1)],
            &[(0, 100_000, 65530), (65530, 300_000, 6)],
            &[(0, 100_000, 65530), (65530, 300_000, 6)],
        ),
        // A range that holds the caller's own id, by somebody's mistake.
        (UsernsChoice::Isolated, &[(999, 10)], &[(0, 999, 1), (1, 1001, 8)], &[(0, 999, 2), (2, 1002, 7)]),
        (UsernsChoice::Single, &[(100_000, 65536)], &[(0, 1000, 1)], &[(0, 1001, 1)]),
    ];
    for (choice, subids, uids, gids) in cases {
        let mut facts = facts_for_tests();
        facts.subuids = ranges(subids);
        facts.subgids = ranges(subids);
        let idmap = idmap(&pod, &facts, *choice).unwrap();
        assert_eq!(idmap.mode.word(), choice.word());
        assert_eq!((&lines(&idmap.uids)[..], &lines(&idmap.gids)[..]), (*uids, *gids), "{choice:?} {subids:?}");
        assert_eq!(idmap.writer == MapWriter::Direct, *choice == UsernsChoice::Single);
    }
}

#[test]
fn uids_and_gids_have_maps_of_their_own() {
    let mut facts = facts_for_tests();
    facts.subgids = ranges(&[(500_000, 7)]);
    let idmap = idmap(&pod(vec![container("a")]), &facts, UsernsChoice::Isolated).unwrap();
    assert_eq!(lines(&idmap.uids), [(0, 100_000, 65536)]);
    assert_eq!(lines(&idmap.gids), [(0, 500_000, 7)]);
    assert_eq!(idmap.host_uid(ContainerId(33)), Some(HostId(100_033)));
    assert_eq!(idmap.host_gid(ContainerId(7)), None);
}

#[test]
fn no_more_lines_than_the_kernel_takes() {
    let mut facts = facts_for_tests();
    facts.subuids = (0..1000).map(|n| SubIdRange { start: 100_000 + 10 * n, count: 2 }).collect();
    let idmap = idmap(&pod(vec![container("a")]), &facts, UsernsChoice::RootIsYou).unwrap();
    assert_eq!(idmap.uids.len(), MAX_LINES);
}

#[test]
fn auto_is_isolated_unless_files_of_yours_are_used() {
    let mode = |pod: &Pod, facts: &Facts| {
        let plan = plan_on(pod, facts).unwrap();
        (plan.sandbox.idmap.mode, plan.sandbox.idmap.why)
    };
    let plain = pod(vec![container("a")]);
    assert_eq!(mode(&plain, &facts_for_tests()).0, UsernsMode::Isolated);

    let mut with_host_path = plain.clone();
    with_host_path.spec.volumes.push(volume("src", host_path("/home/alice/src")));
    let (decided, why) = mode(&with_host_path, &facts_for_tests());
    assert_eq!(decided, UsernsMode::RootIsYou);
    assert!(why.contains("`src`"), "{why}");

    let mut host = plain.clone();
    host.spec.containers[0].image = Image::Host;
    assert_eq!(mode(&host, &facts_for_tests()).0, UsernsMode::RootIsYou);

    let mut facts = facts_for_tests();
    facts.rootfs =
        vec![RootfsFact { dir: ROOTFS.into(), owner: Some(1000), error: None, mounts_below: vec![], too_deep: false }];
    assert_eq!(mode(&plain, &facts).0, UsernsMode::RootIsYou);
}

#[test]
fn auto_falls_to_single_by_name() {
    let plain = pod(vec![container("a")]);
    let (path, why, fix) = ("/usr/bin/newgidmap".into(), "not setuid".into(), "chmod it".into());
    let unprivileged = IdMapTool::Unprivileged { path, why, fix };
    type Case = (&'static str, fn(&mut Facts));
    let cases: [Case; 3] = [
        (degradation::NO_SUBIDS, |facts| facts.subuids.clear()),
        (degradation::NO_SUBIDS, |facts| facts.subgids = ranges(&[(1001, 1)])),
        (degradation::NO_NEWUIDMAP, |facts| facts.newuidmap = IdMapTool::Missing),
    ];
    for (name, lose) in cases {
        let mut facts = facts_for_tests();
        lose(&mut facts);
        let plan = plan_on(&plain, &facts).unwrap();
        assert_eq!(plan.sandbox.idmap.mode, UsernsMode::Single);
        assert_eq!(plan.degradations.iter().map(|d| d.name.as_str()).collect::<Vec<_>>(), [name]);
    }
    let mut facts = facts_for_tests();
    facts.newgidmap = unprivileged;
    let plan = plan_on(&plain, &facts).unwrap();
    assert!(plan.degradations[0].meaning.contains("/usr/bin/newgidmap cannot write maps: not setuid"));
    assert!(plan.degradations[0].fix.contains("chmod it"));
}

#[test]
fn what_was_asked_for_is_never_changed_in_silence() {
    let mut facts = facts_for_tests();
    facts.subuids.clear();
    let plain = pod(vec![container("a")]);
    for choice in [UsernsChoice::Isolated, UsernsChoice::RootIsYou] {
        let report = idmap(&plain, &facts, choice).unwrap_err();
        assert_eq!(report.exit_code, exit_code::FAILURE);
        assert!(report.what.contains(&format!("--userns={}", choice.word())), "{report:?}");
        assert_eq!(report.hint.as_deref(), Some("sudo usermod --add-subuids 165536-231071 alice"));
    }
}

#[test]
fn fix_differs_inside_an_outer_user_namespace() {
    let mut facts = facts_for_tests();
    facts.own_map.uids = vec![MapLine { inside: 0, outside: 1000, count: 1 }];
    facts.subuids.clear();
    let plan = plan_on(&pod(vec![container("a")]), &facts).unwrap();
    assert!(plan.degradations[0].fix.contains("inside another user namespace"), "{:?}", plan.degradations);
}

#[test]
fn the_annotation_decides_unless_the_flag_does() {
    let mut pod = pod(vec![container("a")]);
    pod.metadata.annotations.insert(USERNS.into(), "single".into());
    let mode = |choice| idmap(&pod, &facts_for_tests(), choice).unwrap();
    assert_eq!(mode(UsernsChoice::Auto).mode, UsernsMode::Single);
    assert_eq!(mode(UsernsChoice::Auto).why, "asked for by sandpod.dev/userns");
    assert_eq!(mode(UsernsChoice::Isolated).mode, UsernsMode::Isolated);
    assert_eq!(mode(UsernsChoice::Isolated).why, "asked for by --userns");
}

#[test]
fn argv_of_the_map_writers() {
    let map = idmap(&pod(vec![container("a")]), &facts_for_tests(), UsernsChoice::RootIsYou).unwrap();
    let [uids, gids] = map.writer_argv("42").unwrap();
    assert_eq!(uids.join(" "), "/usr/bin/newuidmap 42 0 1000 1 1 100000 65535");
    assert_eq!(gids.join(" "), "/usr/bin/newgidmap 42 0 1001 1 1 100000 65535");
    let map = idmap(&pod(vec![container("a")]), &facts_for_tests(), UsernsChoice::Single).unwrap();
    assert_eq!(map.writer_argv("42"), None);
}

/// Ranges without overlaps, as the facts promise, made of gaps and lengths; anywhere, so also around the caller's id.
fn any_ranges() -> impl Strategy<Value = Vec<SubIdRange>> {
    let sizes = prop_oneof![1_u32..5, 1_u32..100_000];
    prop::collection::vec((0_u32..2000, sizes), 0..400).prop_map(|steps| {
        let mut start = 0;
        steps
            .into_iter()
            .map(|(gap, count)| {
                let range = SubIdRange { start: start + gap, count };
                start = range.start + count;
                range
            })
            .collect()
    })
}

fn check_map(entries: &[MapEntry], own: u32, mode: UsernsMode, subids: &[SubIdRange]) -> Result<(), TestCaseError> {
    prop_assert!(!entries.is_empty() && entries.len() <= MAX_LINES);
    let mut next = 0;
    let mut outside = Vec::new();
    for entry in entries {
        prop_assert_eq!(entry.inside.0, next, "a gap inside");
        prop_assert!(entry.count > 0);
        next += entry.count;
        let last = entry.outside.0 + (entry.count - 1);
        let subordinate = subids.iter().any(|range| range.start <= entry.outside.0 && last < range.start + range.count);
        let is_you = (entry.outside.0, entry.count) == (own, 1) && entry.inside.0 == 0;
        prop_assert!(if is_you { mode != UsernsMode::Isolated } else { subordinate }, "{:?}", entry);
        prop_assert!(is_you || !(entry.outside.0..=last).contains(&own), "a second way to be the caller");
        outside.push((entry.outside.0, last));
    }
    prop_assert!(next <= MAX_IDS);
    outside.sort_unstable();
    prop_assert!(outside.windows(2).all(|pair| pair[0].1 < pair[1].0), "the kernel refuses overlaps");
    Ok(())
}

proptest! {

    #[test]
    fn every_id_is_yours_or_subordinate(
        (own_uid, own_gid) in (0_u32..3000, 0_u32..3000),
        subuids in any_ranges(),
        subgids in any_ranges(),
        choice in prop::sample::select(vec![UsernsChoice::Auto, UsernsChoice::RootIsYou, UsernsChoice::Isolated]),
        mounts_host_path: bool,
    ) {
        let mut facts = facts_for_tests();
        (facts.user.uid, facts.user.gid) = (own_uid, own_gid);
        (facts.subuids, facts.subgids) = (subuids, subgids);
        let mut pod = pod(vec![container("a")]);
        if mounts_host_path {
            pod.spec.volumes.push(volume("src", host_path("/src")));
        }
        match idmap(&pod, &facts, choice) {
            Ok(map) => {
                check_map(&map.uids, own_uid, map.mode, &facts.subuids)?;
                check_map(&map.gids, own_gid, map.mode, &facts.subgids)?;
            }
            Err(report) => {
                prop_assert!(choice != UsernsChoice::Auto, "auto always has a map: {:?}", report);
                prop_assert!(report.hint.is_some());
            }
        }
    }
}

/// Uid 0 of a container's user namespace of 65536 ids, with the capabilities that the map needs and without newuidmap.
fn root_of_a_container() -> Facts {
    let map =
        vec![MapLine { inside: 0, outside: 1000, count: 1 }, MapLine { inside: 1, outside: 100_000, count: 65535 }];
    let mut facts = facts_for_tests();
    facts.user = HostUser { uid: 0, gid: 0, name: Some("root".into()) };
    facts.own_map = OwnIdMap { uids: map.clone(), gids: map };
    facts.subuids.clear();
    facts.subgids.clear();
    facts.newuidmap = IdMapTool::Missing;
    facts.newgidmap = IdMapTool::Missing;
    facts.may_write_maps = true;
    facts
}

#[test]
fn who_may_write_maps_needs_neither_ranges_nor_newuidmap() {
    let pod = pod(vec![container("a")]);
    let facts = root_of_a_container();
    let isolated = idmap(&pod, &facts, UsernsChoice::Isolated).unwrap();
    assert_eq!(lines(&isolated.uids), [(0, 1, 65535)], "its own id is in no isolated map");
    assert_eq!((&isolated.writer, isolated.writer_argv("7")), (&MapWriter::Privileged, None));
    assert!(isolated.writer.allows_setgroups());
    let you = idmap(&pod, &facts, UsernsChoice::RootIsYou).unwrap();
    assert_eq!(lines(&you.gids), [(0, 0, 1), (1, 1, 65535)]);

    // Ranges that the administrator has given are kept to.
    let ranges = Facts { subuids: ranges(&[(1000, 10)]), subgids: ranges(&[(2000, 10)]), ..root_of_a_container() };
    assert_eq!(lines(&idmap(&pod, &ranges, UsernsChoice::Isolated).unwrap().uids), [(0, 1000, 10)]);

    // With one id there is nothing to share out, and the host's own root does not take the ids of all.
    let one = vec![MapLine { inside: 0, outside: 1000, count: 1 }];
    let alone = Facts { own_map: OwnIdMap { uids: one.clone(), gids: one }, ..root_of_a_container() };
    let of_host = Facts { own_map: facts_for_tests().own_map, ..root_of_a_container() };
    let without = Facts { may_write_maps: false, ..root_of_a_container() };
    for facts in [alone, of_host, without] {
        assert_eq!(idmap(&pod, &facts, UsernsChoice::Auto).unwrap().mode, UsernsMode::Single);
    }
}

/// The ids of the container's own users, such as www-data, are not given to a pod where others are there.
#[test]
fn the_highest_ids_of_an_outer_namespace_are_taken() {
    let pod = pod(vec![container("a")]);
    let uids = |map: &[(u32, u32)], choice| {
        let mut outside = 100_000;
        let map: Vec<MapLine> = map
            .iter()
            .map(|(inside, count)| {
                outside += count;
                MapLine { inside: *inside, outside: outside - count, count: *count }
            })
            .collect();
        let facts = Facts { own_map: OwnIdMap { uids: map.clone(), gids: map }, ..root_of_a_container() };
        lines(&idmap(&pod, &facts, choice).unwrap().uids)
    };
    use UsernsChoice::{Isolated, RootIsYou};
    assert_eq!(uids(&[(0, 131_072)], Isolated), [(0, 65536, 65536)]);
    assert_eq!(uids(&[(0, 131_072)], RootIsYou), [(0, 0, 1), (1, 65536, 65535)]);
    assert_eq!(uids(&[(0, 131_071)], Isolated), [(0, 1, 65536)], "too few to leave some out");
    // In whatever pieces and order.
    let pieces = [(500_000, 60_000), (0, 70_000), (300_000, 10_000)];
    assert_eq!(uids(&pieces, Isolated), [(0, 304_464, 5536), (5536, 500_000, 60_000)]);
    assert_eq!(uids(&[(1_000_000_000, 1_000_000), (0, 1)], Isolated), [(0, 1_000_934_464, 65536)]);
}

#[test]
fn a_maps_key_is_a_name_for_that_map_alone() {
    let of = |facts: &Facts, choice| idmap(&pod(vec![container("a")]), facts, choice).unwrap();
    let mut facts = facts_for_tests();
    let isolated = of(&facts, UsernsChoice::Isolated);
    assert_eq!(isolated.key(), "u100000+65536-g100000+65536");
    assert_eq!(of(&facts, UsernsChoice::RootIsYou).key(), "u1000+1,1.100000+65535-g1001+1,1.100000+65535");
    assert_eq!(of(&facts, UsernsChoice::Single).key(), "u1000+1-g1001+1");
    assert_eq!(IdMapPlan { why: "another".into(), ..isolated.clone() }.key(), isolated.key());
    facts.subuids = (0..1000).map(|n| SubIdRange { start: 100_000 + 10 * n, count: 2 }).collect();
    let many = of(&facts, UsernsChoice::Isolated);
    let mut others = many.clone();
    others.gids[0].count -= 1;
    assert!(many.key().len() <= 100, "{}", many.key());
    assert_ne!(many.key(), others.key());
}
