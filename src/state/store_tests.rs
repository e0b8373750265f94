use std::os::unix::fs::{PermissionsExt, symlink};

use super::super::{Liveness, Status, StoredRecord};
use super::*;
use crate::plan::cgroup::Claim;
use crate::state::fixture;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("tempdir");
    let store = Store::new(&dir.path().join("run"), &dir.path().join("share/sandpod"));
    (dir, store)
}

fn create(store: &Store, id: &str, name: &str) -> CreatedPod {
    store.create(&fixture::plan(store, id, name), Timestamp::UNIX_EPOCH).expect("created")
}

#[test]
fn a_created_pod_is_starting_until_its_lock_is_dropped() {
    let (_dir, store) = store();
    assert!(store.list().expect("no directory yet").is_empty());
    let created = create(&store, "0123456789ab", "web");
    assert_eq!(store.find("web").expect("found").status(), Status::Starting);
    // A copy of the descriptor, as the supervisor's after fork, keeps the lock.
    let inherited = created.locks.each_ref().map(|lock| lock.try_clone().expect("dup"));
    drop(created);
    assert_eq!(store.find("0123").expect("by prefix").liveness, Liveness::Supervised);
    drop(inherited);
    let dead = store.find("web").expect("found");
    assert_eq!(dead.status().to_string(), "Failed (supervisor was killed)");
    assert_eq!(dead.plan.expect("plan.json").sandbox.name, "web");
}

#[test]
fn a_plan_that_is_replaced_is_locked_as_the_first_was() {
    let (_dir, store) = store();
    let created = create(&store, "0123456789ab", "web");
    let before = fixture::plan(&store, "0123456789ab", "web");
    let mut plan = before.clone();
    plan.sandbox.claim.memory = 1 << 20;
    let lock = replace_plan(&before, &plan).expect("replaced");
    drop(created);
    // The runtime directory goes with the login session, and what is left must say that the pod lives.
    std::fs::remove_dir_all(&plan.sandbox.dirs.runtime).expect("rm");
    let found = store.find("web").expect("found");
    assert_eq!((found.liveness, found.plan.as_ref()), (Liveness::Supervised, Some(&plan)));
    drop(lock);
    assert_eq!(store.find("web").expect("found").liveness, Liveness::Unsupervised);
}

#[test]
fn a_name_is_taken_once_also_by_an_ended_pod() {
    let (_dir, store) = store();
    drop(create(&store, "0123456789ab", "web"));
    let plan = fixture::plan(&store, "ba9876543210", "web");
    let refused = store.create(&plan, Timestamp::UNIX_EPOCH).expect_err("taken");
    assert!(refused.chain[0].contains("0123456789ab"), "{refused:?}");
    assert!(refused.hint.expect("hint").contains("sandpod rm web"));
    assert!(!plan.sandbox.dirs.data.exists() && !plan.sandbox.dirs.runtime.exists());
}

#[test]
fn an_id_is_never_reused_nor_its_files_removed() {
    let (_dir, store) = store();
    let first = create(&store, "0123456789ab", "web");
    let plan = fixture::plan(&store, "0123456789ab", "other");
    store.create(&plan, Timestamp::UNIX_EPOCH).expect_err("taken");
    assert!(first.dirs.runtime.join("record.json").exists());
}

#[test]
fn damaged_records_are_shown_and_do_not_hide_others() {
    let (_dir, store) = store();
    drop(create(&store, "aaaaaaaaaaaa", "good"));
    for (id, text) in [("bbbbbbbbbbb0", ""), ("bbbbbbbbbbb1", "{\"id\":\"b"), ("bbbbbbbbbbb2", "\u{0}\u{1}garbage")] {
        let pod = create(&store, id, &format!("bad-{id}"));
        fs::write(pod.dirs.runtime.join("record.json"), text).expect("damage");
    }
    let pods = store.list().expect("list");
    assert_eq!(pods.iter().filter(|pod| matches!(pod.status(), Status::Damaged { .. })).count(), 3);
    // The name comes from the plan then.
    assert!(matches!(store.find("bad-bbbbbbbbbbb0").expect("found").record, StoredRecord::Damaged(_)));
    assert!(store.find("good").is_ok());
}

#[test]
fn a_pod_without_runtime_directory_is_lost() {
    let (_dir, store) = store();
    let created = create(&store, "0123456789ab", "web");
    fs::remove_dir_all(&created.dirs.runtime).expect("reboot");
    // Nothing holds its locks after a reboot.
    drop(created);
    assert_eq!(store.find("web").expect("found").status().to_string(), "Lost (host restarted)");
}

#[test]
fn an_id_prefix_must_be_unique_and_a_name_wins() {
    let (_dir, store) = store();
    drop(create(&store, "abc000000000", "one"));
    drop(create(&store, "abc111111111", "two"));
    drop(create(&store, "fff000000000", "abc0"));
    let several = store.find("abc").expect_err("ambiguous");
    assert_eq!(several.chain, ["abc000000000 one", "abc111111111 two"]);
    assert_eq!(store.find("abc0").expect("a name").id, "fff000000000");
    let none = store.find("onne").expect_err("unknown");
    assert!(none.hint.expect("hint").contains("`one`"));
    assert!(store.find("").is_err());
}

/// What an older version made, without an index.
fn forget_index(store: &Store) {
    for directory in store.index().directories() {
        fs::remove_dir_all(directory).expect("rm");
    }
}

#[test]
fn a_pod_of_an_older_version_is_found_and_its_name_is_taken() {
    let (_dir, store) = store();
    let claim = Claim { cpu_millis: 500, memory: 0 };
    let mut plan = fixture::plan(&store, "0123456789ab", "web");
    plan.sandbox.claim = claim;
    let _web = store.create(&plan, Timestamp::UNIX_EPOCH).expect("created");
    let _db = create(&store, "ba9876543210", "db");
    forget_index(&store);
    for typed in ["web", "0123456789ab", "0123", "pod/web"] {
        assert_eq!(store.find(typed).expect(typed).name, "web");
    }
    assert_eq!(store.most_claims(), None, "they are not all counted");
    assert_eq!(store.claims(None).expect("claims"), [("web".to_owned(), claim)]);
    let second = fixture::plan(&store, "111111111111", "web");
    store.refuse_taken(&second).expect_err("taken");
    store.create(&second, Timestamp::UNIX_EPOCH).expect_err("taken");
    // That has made the entries, and the next look needs no other pod.
    assert_eq!(store.index().id_of("web").as_deref(), Some("0123456789ab"));
    assert_eq!(store.most_claims(), Some(vec![("0123456789ab".to_owned(), claim)]));
}

#[test]
fn the_name_of_a_pod_that_is_gone_is_free() {
    let (_dir, store) = store();
    let gone = create(&store, "0123456789ab", "web");
    // A crash in the middle of a removal, or files removed by hand.
    fs::remove_dir_all(&gone.dirs.runtime).expect("rm");
    fs::remove_dir_all(&gone.dirs.data).expect("rm");
    assert!(store.find("web").is_err());
    let _db = create(&store, "ba9876543210", "db");
    assert_eq!(store.index().id_of("web"), None, "the next start drops what is left over");
    let web = create(&store, "111111111111", "web");
    assert_eq!(store.find("web").expect("found").id, "111111111111");
    drop(web);
    // Without that: nothing else happened in between.
    fs::remove_dir_all(store.data().join("pods/111111111111")).expect("rm");
    fs::remove_dir_all(store.runtime().join("pods/111111111111")).expect("rm");
    let _web = create(&store, "222222222222", "web");
    assert_eq!(store.find("web").expect("found").id, "222222222222");
}

#[test]
fn an_entry_that_lies_is_not_believed() {
    let (dir, store) = store();
    let _web = create(&store, "0123456789ab", "web");
    fs::create_dir(dir.path().join("mine")).expect("mkdir");
    let names = store.data().join("names");
    symlink("../pods/0123456789ab", names.join("db")).expect("symlink");
    symlink("../../../mine", names.join("evil")).expect("symlink");
    for name in ["db", "evil", "../names/web", "..", "", "."] {
        assert!(store.find(name).is_err(), "{name}");
    }
    let _db = create(&store, "ba9876543210", "db");
    assert_eq!(store.find("db").expect("found").id, "ba9876543210");
    assert_eq!(store.find("web").expect("found").id, "0123456789ab");
}

#[test]
fn a_pod_without_a_readable_name_has_the_one_of_its_entry() {
    let (_dir, store) = store();
    let pod = create(&store, "0123456789ab", "web");
    fs::write(pod.dirs.runtime.join("record.json"), "x").expect("damage");
    fs::write(pod.dirs.data.join("plan.json"), "x").expect("damage");
    let found = store.find("web").expect("found");
    assert_eq!((found.name.as_str(), found.entries()), ("web", vec![store.data().join("names/web")]));
    forget_index(&store);
    assert_eq!(store.find("0123").expect("found").name, "0123456789ab");
    let _db = create(&store, "ba9876543210", "db");
    assert_eq!(store.index().name_of("0123456789ab").as_deref(), Some("0123456789ab"));
    assert!(store.is_indexed());
}

#[test]
fn a_directory_that_is_not_ours_alone_is_refused() {
    let (dir, store) = store();
    let run = dir.path().join("run");
    let refusal = || {
        let plan = fixture::plan(&store, "0123456789ab", "web");
        let created = store.create(&plan, Timestamp::UNIX_EPOCH).expect_err("refused");
        assert_eq!(created.exit_code, exit_code::FAILURE);
        assert!(created.hint.is_some());
        let listed = store.list().expect_err("refused");
        assert_eq!(created.chain, listed.chain);
        created.chain.join("; ")
    };
    let elsewhere = dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("mkdir");
    symlink(&elsewhere, &run).expect("symlink");
    assert!(refusal().contains("symbolic link"));
    assert_eq!(fs::read_dir(&elsewhere).expect("readdir").count(), 0);
    fs::remove_file(&run).expect("rm");
    fs::write(&run, "").expect("file");
    assert!(refusal().contains("is not a directory"));
    fs::remove_file(&run).expect("rm");
    fs::create_dir(&run).expect("mkdir");
    fs::set_permissions(&run, fs::Permissions::from_mode(0o777)).expect("chmod");
    assert!(refusal().contains("open to others (mode 0777)"));
}

#[test]
fn a_record_is_replaced_whole() {
    let (_dir, store) = store();
    let mut created = create(&store, "0123456789ab", "web");
    created.record.phase = Phase::Succeeded;
    commit(&created.dirs, &created.record).expect("commit");
    assert_eq!(store.find("web").expect("found").record(), Some(&created.record));
    assert!(!created.dirs.runtime.join("record.tmp").exists());
}

#[test]
fn a_directory_that_anybody_may_replace_is_not_used() {
    let dir = tempfile::tempdir().expect("tempdir");
    let open = dir.path().join("tmp");
    fs::create_dir(&open).expect("mkdir");
    for (mode, is_refused) in [(0o777, true), (0o707, true), (0o1777, false), (0o775, false)] {
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).expect("chmod");
        let store = Store::new(&open.join("sandpod-1"), &dir.path().join("share/sandpod"));
        match store.make_private(|| "could not".to_owned()) {
            Ok(()) => assert!(!is_refused, "{mode:o}"),
            Err(report) => {
                assert!(is_refused, "{mode:o}: {report:?}");
                assert!(report.hint.expect("a hint").contains(&format!("chmod +t {}", open.display())));
            }
        }
    }
}
