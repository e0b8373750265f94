use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;

use super::*;
use crate::plan::idmap::{ContainerId, HostId, MapEntry, MapWriter};
use crate::testing::{self, Place};

fn entry(inside: u32, outside: u32, count: u32) -> MapEntry {
    MapEntry { inside: ContainerId(inside), outside: HostId(outside), count }
}

fn idmap(mode: UsernsMode, uids: Vec<MapEntry>, gids: Vec<MapEntry>) -> IdMapPlan {
    let tool = |name: &str| PathBuf::from("/usr/bin").join(name);
    let writer = MapWriter::Tools { newuidmap: tool("newuidmap"), newgidmap: tool("newgidmap") };
    IdMapPlan { mode, why: String::new(), uids, gids, writer }
}

fn single() -> IdMapPlan {
    let me = |id| vec![entry(0, id, 1)];
    let (uid, gid) = (crate::sys::privileges::uid(), crate::sys::privileges::gid());
    IdMapPlan { writer: MapWriter::Direct, ..idmap(UsernsMode::Single, me(uid), me(gid)) }
}

/// The first range of the user who runs this, in `/etc/subuid` or `/etc/subgid`.
fn range(file: &str) -> (u32, u32) {
    let user = String::from_utf8(Command::new("id").arg("-un").output().expect("id runs").stdout).expect("UTF-8");
    let text = fs::read_to_string(file).expect("it is there");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{}:", user.trim())));
    let (start, count) = line.expect("a range for this user").split_once(':').expect("two numbers");
    (start.parse().expect("a number"), count.parse().expect("a number"))
}

struct Fixture {
    dir: tempfile::TempDir,
    dirs: PodDirs,
}

impl Fixture {
    /// A pod's directories as the engine makes them, without anything from a container.
    fn new() -> Fixture {
        let dir = tempfile::tempdir().expect("a directory");
        let dirs = PodDirs { runtime: dir.path().join("run/pods/abc"), data: dir.path().join("data/pods/abc") };
        for made in [dirs.runtime.clone(), dirs.data.join("web.root/upper")] {
            fs::create_dir_all(made).expect("made");
        }
        for file in ["lock", "record.json"] {
            fs::write(dirs.runtime.join(file), "").expect("written");
        }
        for parent in ["run/pods", "data/pods"] {
            fs::set_permissions(dir.path().join(parent), fs::Permissions::from_mode(0o700)).expect("changed");
        }
        Fixture { dir, dirs }
    }

    /// What a container leaves: files of its root and of another id, closed directories, overlayfs's own 000.
    fn fill_as_subordinate_ids(&self, owner: &str) {
        let script = r#"
            cd "$1" && mkdir -p etc var/lib/nested ../work/work && ln -s "$2" etc/outside
            for file in etc/passwd var/lib/nested/file var/lib/file; do echo "$file" > "$file"; done
            chmod 700 var/lib/nested && chmod 000 ../work/work && chmod 500 var/lib
            chown -hR "$3" etc var ../work/work && chown 33:33 var/lib/nested && chown "$3" .
        "#;
        let canary = self.dir.path().join("canary");
        fs::create_dir_all(&canary).expect("made");
        fs::write(canary.join("file"), "kept").expect("written");
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--map-auto", "sh", "-ec", script, "sh"]);
        let status = command.arg(self.dirs.data.join("web.root/upper")).arg(canary).arg(owner).status();
        assert!(status.expect("unshare runs").success());
    }

    fn assert_gone(&self, reports: &[Report]) {
        assert_eq!(reports, []);
        assert!(!self.dirs.data.exists() && !self.dirs.runtime.exists());
        let canary = self.dir.path().join("canary/file");
        assert!(!canary.parent().is_some_and(Path::exists) || fs::read_to_string(canary).is_ok());
    }
}

#[test]
fn a_pod_that_wrote_nothing_goes_without_a_user_namespace_and_again() {
    let fixture = Fixture::new();
    let nobody_can = IdMapPlan { mode: UsernsMode::Isolated, ..single() };
    for _ in 0..2 {
        fixture.assert_gone(&remove_pod(&fixture.dirs, &[], &nobody_can, &[], None));
    }
}

#[test]
fn what_an_isolated_pod_wrote_goes_without_root() {
    let name = "engine::remove::tests::what_an_isolated_pod_wrote_goes_without_root";
    if testing::again_as_ordinary_user(name) == Place::Outside {
        return;
    }
    let ((uid, uids), (gid, gids)) = (range("/etc/subuid"), range("/etc/subgid"));
    let idmap = idmap(UsernsMode::Isolated, vec![entry(0, uid, uids)], vec![entry(0, gid, gids)]);
    let fixture = Fixture::new();
    // 1 there is the first subordinate id: the isolated map's root.
    fixture.fill_as_subordinate_ids("1:1");
    let owner = fs::metadata(fixture.dirs.data.join("web.root/upper")).expect("it is there").uid();
    assert_eq!(owner, uid, "the test must remove what is not its own");
    fixture.assert_gone(&remove_pod(&fixture.dirs, &[], &idmap, &[], None));
}

#[test]
fn what_a_root_is_you_pod_wrote_goes_without_root() {
    let name = "engine::remove::tests::what_a_root_is_you_pod_wrote_goes_without_root";
    if testing::again_as_ordinary_user(name) == Place::Outside {
        return;
    }
    let ((uid, uids), (gid, gids)) = (range("/etc/subuid"), range("/etc/subgid"));
    let me = (crate::sys::privileges::uid(), crate::sys::privileges::gid());
    let map = |own, start, count| vec![entry(0, own, 1), entry(1, start, count)];
    let idmap = idmap(UsernsMode::RootIsYou, map(me.0, uid, uids), map(me.1, gid, gids));
    let fixture = Fixture::new();
    fixture.fill_as_subordinate_ids("0:0");
    fixture.assert_gone(&remove_pod(&fixture.dirs, &[], &idmap, &[], None));
}

#[test]
fn what_cannot_be_removed_is_said_and_the_record_stays() {
    let name = "engine::remove::tests::what_cannot_be_removed_is_said_and_the_record_stays";
    if testing::again_as_ordinary_user(name) == Place::Outside {
        return;
    }
    let fixture = Fixture::new();
    fixture.fill_as_subordinate_ids("1:1");
    let reports = remove_pod(&fixture.dirs, &[], &single(), &[], None);
    assert!(!reports.is_empty() && reports.iter().all(|report| report.chain[0].contains("EACCES")), "{reports:?}");
    assert!(fixture.dirs.runtime.join("record.json").exists());
    // With tools that refuse, their own words are the reason.
    let refusing = MapWriter::Tools { newuidmap: "/bin/false".into(), newgidmap: "/bin/false".into() };
    let refusing = IdMapPlan { mode: UsernsMode::Isolated, writer: refusing, ..single() };
    let reports = remove_pod(&fixture.dirs, &[], &refusing, &[], None);
    assert!(reports[0].chain[1].starts_with("false "), "{reports:?}");
    let ((uid, uids), (gid, gids)) = (range("/etc/subuid"), range("/etc/subgid"));
    let right = idmap(UsernsMode::Isolated, vec![entry(0, uid, uids)], vec![entry(0, gid, gids)]);
    fixture.assert_gone(&remove_pod(&fixture.dirs, &[], &right, &[], None));
}

#[test]
fn living_processes_are_killed_first_and_another_one_with_their_pid_is_not() {
    let fixture = Fixture::new();
    let sleep = || Command::new("sleep").arg("1000").spawn().expect("sleep runs");
    let (mut ours, mut other) = (sleep(), sleep());
    let id = |child: &std::process::Child| ProcessId::of(child.id().cast_signed()).expect("it lives");
    let recycled = ProcessId { start_time: id(&other).start_time + 1, ..id(&other) };
    fixture.assert_gone(&remove_pod(&fixture.dirs, &[], &single(), &[id(&ours), recycled], None));
    assert!(!id(&ours).is_alive());
    assert!(other.try_wait().expect("it is ours").is_none(), "an innocent process was killed");
    other.kill().expect("killed");
    for child in [&mut ours, &mut other] {
        child.wait().expect("reaped");
    }
}
