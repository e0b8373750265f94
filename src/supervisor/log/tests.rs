use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use proptest::prelude::*;

use super::*;
use crate::testing::{self, Place};

const NOW: &str = "2016-10-06T00:17:09.669794202Z";

fn now() -> Timestamp {
    NOW.parse().expect("a time")
}

struct Fixture {
    dir: tempfile::TempDir,
    plan: LogPlan,
}

impl Fixture {
    fn new(max_size: u64, max_files: u32) -> Fixture {
        let dir = tempfile::tempdir().expect("a directory");
        let plan = LogPlan { path: dir.path().join("x.log"), max_size, max_files };
        Fixture { dir, plan }
    }

    fn open(&self) -> LogFile {
        self.open_with(&self.plan)
    }

    fn open_with(&self, plan: &LogPlan) -> LogFile {
        let directory = OwnDir::at(plan.path.parent().expect("a directory")).expect("ours");
        LogFile::open(Arc::new(directory), plan).expect("opened")
    }

    /// `x.log` is 0, `x.log.1` is 1.
    fn read(&self, number: u32) -> Option<String> {
        let name = if number == 0 { "x.log".to_owned() } else { format!("x.log.{number}") };
        fs::read(self.dir.path().join(name)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Every file, the oldest first.
    fn all(&self) -> Vec<u8> {
        let names = (1..1000).rev().map(|number| format!("x.log.{number}")).chain(["x.log".to_owned()]);
        names.filter_map(|name| fs::read(self.dir.path().join(name)).ok()).flatten().collect()
    }
}

/// What the container wrote to `stream`, as a reader of the log puts it together.
fn output_of(log: &[u8], stream: &str) -> Vec<u8> {
    let mut output = Vec::new();
    for entry in log.split_inclusive(|byte| *byte == b'\n') {
        let entry = entry.strip_suffix(b"\n").expect("every entry is whole");
        let mut fields = entry.splitn(4, |byte| *byte == b' ');
        assert_eq!(fields.next(), Some(NOW.as_bytes()));
        let this = fields.next().expect("a stream");
        let tag = fields.next().expect("a tag");
        let text = fields.next().expect("a text");
        assert!(text.len() <= MAX_TEXT);
        if this == stream.as_bytes() {
            output.extend_from_slice(text);
            match tag {
                b"F" => output.push(b'\n'),
                b"P" => {}
                other => panic!("tag {other:?}"),
            }
        }
    }
    output
}

#[test]
fn lines_and_an_unfinished_end() {
    let fixture = Fixture::new(1 << 20, 2);
    let mut log = fixture.open();
    log.write_chunk(Stream::Stdout, b"one\n\ntw", now());
    log.write_chunk(Stream::Stderr, b"error\n", now());
    log.write_chunk(Stream::Stdout, b"o\nthree", now());
    let before = [" stdout F one\n", " stdout F \n", " stderr F error\n", " stdout F two\n"];
    assert_eq!(fixture.read(0), Some(before.map(|rest| format!("{NOW}{rest}")).concat()));
    log.write_unfinished(now());
    let after = format!("{}{NOW} stdout P three\n", before.map(|rest| format!("{NOW}{rest}")).concat());
    assert_eq!(fixture.read(0), Some(after));
}

#[test]
fn a_whole_second_still_has_nine_digits() {
    let fixture = Fixture::new(1 << 20, 2);
    fixture.open().write_chunk(Stream::Stdout, b"x\n", Timestamp::UNIX_EPOCH);
    assert_eq!(fixture.read(0).as_deref(), Some("1970-01-01T00:00:00.000000000Z stdout F x\n"));
}

#[test]
fn a_long_line_is_parts_of_16_kib_and_16_kib_exactly_are_whole() {
    let fixture = Fixture::new(1 << 20, 2);
    let mut log = fixture.open();
    let long = [vec![b'a'; 2 * MAX_TEXT + 1], b"\n".to_vec(), vec![b'b'; MAX_TEXT], b"\n".to_vec()].concat();
    log.write_chunk(Stream::Stdout, &long, now());
    let text = fixture.read(0).expect("there");
    let shapes: Vec<(&str, usize)> = text.lines().map(|line| (&line[38..39], line.len() - 40)).collect();
    assert_eq!(shapes, [("P", MAX_TEXT), ("P", MAX_TEXT), ("F", 1), ("F", MAX_TEXT)]);
}

#[test]
fn a_line_without_end_takes_no_memory() {
    let fixture = Fixture::new(1 << 20, 2);
    let mut log = fixture.open();
    for _ in 0..200 {
        log.write_chunk(Stream::Stdout, &[b'x'; 40_000], now());
        log.write_chunk(Stream::Stderr, &[b'\n'; 40_000], now());
    }
    assert!(log.tails.iter().all(|tail| tail.capacity() <= 2 * MAX_TEXT));
    assert!(log.batch.bytes.capacity() <= 4 * MAX_BATCH, "{}", log.batch.bytes.capacity());
}

#[test]
fn the_log_is_for_its_owner_and_goes_on_where_it_was() {
    let fixture = Fixture::new(1 << 20, 2);
    fixture.open().write_chunk(Stream::Stdout, b"1\n", now());
    assert_eq!(fs::metadata(&fixture.plan.path).expect("there").permissions().mode() & 0o777, 0o600);
    // A crash in the middle of a write.
    fs::OpenOptions::new().append(true).open(&fixture.plan.path).expect("open").write_all(b"2016-").expect("written");
    fixture.open().write_chunk(Stream::Stdout, b"2\n", now());
    assert_eq!(fixture.read(0), Some(format!("{NOW} stdout F 1\n2016-\n{NOW} stdout F 2\n")));
}

#[test]
fn a_full_file_moves_on_and_the_oldest_goes() {
    let fixture = Fixture::new(100, 3);
    let mut log = fixture.open();
    // Two entries of 42 bytes fit.
    for number in 0..9 {
        log.write_chunk(Stream::Stdout, format!("{number}\n").as_bytes(), now());
    }
    let file =
        |numbers: &[u8]| Some(numbers.iter().map(|number| format!("{NOW} stdout F {number}\n")).collect::<String>());
    assert_eq!(fixture.read(0), file(&[8]));
    assert_eq!(fixture.read(1), file(&[6, 7]));
    assert_eq!(fixture.read(2), file(&[4, 5]));
    assert_eq!(fixture.read(3), None);
}

#[test]
fn one_file_begins_anew() {
    let fixture = Fixture::new(50, 1);
    fixture.open().write_chunk(Stream::Stdout, b"1\n2\n3\n", now());
    assert_eq!(fixture.read(0), Some(format!("{NOW} stdout F 3\n")));
    assert_eq!(fixture.read(1), None);
}

#[test]
fn a_log_that_cannot_be_opened_is_named() {
    let fixture = Fixture::new(50, 1);
    let path = fixture.plan.path.display().to_string();
    let open = || {
        let directory = OwnDir::at(fixture.dir.path()).expect("ours");
        LogFile::open(Arc::new(directory), &fixture.plan).expect_err("it is no file").to_string()
    };
    fs::create_dir(&fixture.plan.path).expect("mkdir");
    assert_eq!(open(), format!("open({path}): Is a directory (EISDIR)"));
    fs::remove_dir(&fixture.plan.path).expect("rmdir");
    std::os::unix::fs::symlink("/etc/passwd", &fixture.plan.path).expect("symlink");
    assert_eq!(open(), format!("open({path}): Too many symbolic links encountered (ELOOP)"));
}

#[test]
fn where_it_cannot_move_on_it_drops_counts_and_says_so_later() {
    let fixture = Fixture::new(50, 2);
    let mut log = fixture.open();
    log.write_chunk(Stream::Stdout, b"1\n", now());
    let blocked = fixture.dir.path().join("x.log.1/in-the-way");
    fs::create_dir_all(&blocked).expect("made");
    log.write_chunk(Stream::Stdout, b"22\n333\n", now());
    log.write_chunk(Stream::Stdout, b"4444\n", now());
    assert_eq!(log.lost(), 12);
    assert_eq!(fixture.read(0), Some(format!("{NOW} stdout F 1\n")), "the limit holds");
    fs::remove_dir_all(fixture.dir.path().join("x.log.1")).expect("removed");
    log.write_chunk(Stream::Stdout, b"5\n", now());
    assert_eq!(log.lost(), 0);
    let notice = format!("{NOW} stderr F sandpod: 12 bytes of log lost: Is a directory\n");
    assert_eq!(fixture.read(0), Some(format!("{notice}{NOW} stdout F 5\n")));
}

/// A disk of its own, so that it can be full.
#[test]
fn a_full_disk_loses_whole_lines_and_the_log_says_how_much() {
    let name = "supervisor::log::tests::a_full_disk_loses_whole_lines_and_the_log_says_how_much";
    if testing::again(&["unshare", "--map-root-user", "--mount"], name) == Place::Outside {
        return;
    }
    let fixture = Fixture::new(1 << 30, 2);
    let disk = fixture.dir.path().join("disk");
    fs::create_dir(&disk).expect("made");
    let mut mount = Command::new("mount");
    let status = mount.args(["-t", "tmpfs", "-o", "size=128k,mode=0700", "none"]).arg(&disk).status();
    assert!(status.expect("mount runs").success());
    let plan = LogPlan { path: disk.join("x.log"), ..fixture.plan.clone() };
    fs::write(disk.join("filler"), vec![0; 64 << 10]).expect("written");
    let mut log = fixture.open_with(&plan);
    let chunk = b"0123456789\n".repeat(1000);
    for _ in 0..10 {
        log.write_chunk(Stream::Stdout, &chunk, now());
    }
    let written = output_of(&fs::read(&plan.path).expect("there"), "stdout").len() as u64;
    assert!(written > 0 && log.lost() > 0);
    assert_eq!(written + log.lost(), 10 * chunk.len() as u64, "all is written or counted");
    let lost = log.lost();
    fs::remove_file(disk.join("filler")).expect("removed");
    log.write_chunk(Stream::Stdout, b"last\n", now());
    let text = fs::read_to_string(&plan.path).expect("there");
    let end =
        format!("{NOW} stderr F sandpod: {lost} bytes of log lost: No space left on device\n{NOW} stdout F last\n");
    assert!(text.ends_with(&end), "{}", &text[text.len() - 200..]);
    drop(log);
    assert!(Command::new("umount").arg(&disk).status().expect("umount runs").success());
}

fn any_chunk() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let piece = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..30),
        4 => Just(b"\n".to_vec()),
        1 => (0..3_usize, 0..3_usize).prop_map(|(times, more)| vec![b'x'; times * MAX_TEXT + more]),
    ];
    (any::<bool>(), prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat()))
}

proptest! {
    // Each case writes files: a quarter of what PROPTEST_CASES says (`scripts/test --long`), or 64.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]
    #[test]
    fn the_entries_texts_are_the_output_whatever_the_chunks_and_rotations(
        chunks in prop::collection::vec(any_chunk(), 0..20),
        max_size in prop_oneof![1_u64..300, 10_000_u64..100_000],
    ) {
        let fixture = Fixture::new(max_size, 900);
        let mut log = fixture.open();
        let mut expected = [Vec::new(), Vec::new()];
        for (on_stderr, bytes) in &chunks {
            let stream = if *on_stderr { Stream::Stderr } else { Stream::Stdout };
            log.write_chunk(stream, bytes, now());
            expected[stream as usize].extend_from_slice(bytes);
        }
        log.write_unfinished(now());
        prop_assert_eq!(log.lost(), 0);
        let all = fixture.all();
        prop_assert!(output_of(&all, "stdout") == expected[0]);
        prop_assert!(output_of(&all, "stderr") == expected[1]);
        for file in fs::read_dir(fixture.dir.path()).expect("listed") {
            let path = file.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "index") {
                continue;
            }
            let bytes = fs::read(path).expect("read");
            let entries = bytes.iter().filter(|byte| **byte == b'\n').count();
            prop_assert!(bytes.len() as u64 <= max_size || entries == 1, "{} bytes, {entries} entries", bytes.len());
        }
    }
}
