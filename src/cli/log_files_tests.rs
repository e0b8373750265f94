use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use super::*;

struct Written {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn log() -> Written {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("x.log");
    Written { _dir: dir, path }
}

impl Written {
    fn write(&self, bytes: &str) {
        let mut file = OpenOptions::new().append(true).create(true).open(&self.path).expect("open");
        file.write_all(bytes.as_bytes()).expect("write");
    }

    fn line(&self, tag: char, text: &str) {
        self.write(&format!("2026-11-21T12:00:00.000000000Z stdout {tag} {text}\n"));
    }

    fn rotate(&self) {
        for number in (0..4).rev() {
            let name = |number| match number {
                0 => self.path.clone(),
                number => PathBuf::from(format!("{}.{number}", self.path.display())),
            };
            let _ = fs::rename(name(number), name(number + 1));
        }
    }

    fn reader(&self, tail: Option<u64>) -> LogReader {
        LogReader::open(self.log(), tail).expect("open")
    }

    fn log(&self) -> Log {
        let directory = OwnDir::at(self.path.parent().expect("a directory")).expect("ours");
        Log { directory: Arc::new(directory), name: "x.log".into() }
    }
}

fn rest(reader: &mut LogReader) -> Vec<String> {
    let mut texts = Vec::new();
    while reader.peek().expect("read").is_some() {
        texts.push(String::from_utf8_lossy(&reader.take().expect("peeked").text).into_owned());
    }
    texts
}

#[test]
fn a_log_that_appears_later_is_read_from_its_start() {
    let log = log();
    let mut reader = log.reader(Some(10));
    assert!(rest(&mut reader).is_empty());
    log.line('F', "a");
    assert_eq!(rest(&mut reader), ["a"]);
}

#[test]
fn nothing_is_lost_across_rotations() {
    let log = log();
    log.line('F', "1");
    log.rotate();
    log.line('F', "2");
    let mut reader = log.reader(None);
    assert_eq!(rest(&mut reader), ["1", "2"]);
    // After the last read and before the rename.
    log.line('F', "3");
    log.rotate();
    assert_eq!(rest(&mut reader), ["3"]);
    log.line('F', "4");
    log.rotate();
    log.line('F', "5");
    log.rotate();
    log.line('F', "6");
    assert_eq!(rest(&mut reader), ["4", "5", "6"]);
    assert!(rest(&mut reader).is_empty());
}

#[test]
fn half_a_line_waits_for_its_other_half() {
    let log = log();
    log.write("2026-11-21T12:00:00Z stdout F he");
    let mut reader = log.reader(None);
    assert!(rest(&mut reader).is_empty());
    log.write("llo\n");
    assert_eq!(rest(&mut reader), ["hello"]);
}

#[test]
fn tail_counts_whole_lines_across_files() {
    let log = log();
    log.line('F', "a");
    log.line('P', "b1");
    log.rotate();
    log.line('F', "b2");
    log.line('P', "c1");
    log.line('P', "c2");
    log.line('F', "c3");
    let tail = |lines| rest(&mut log.reader(Some(lines)));
    assert!(tail(0).is_empty());
    assert_eq!(tail(1), ["c1", "c2", "c3"]);
    assert_eq!(tail(2), ["b1", "b2", "c1", "c2", "c3"]);
    assert_eq!(tail(3), ["a", "b1", "b2", "c1", "c2", "c3"]);
    assert_eq!(tail(u64::MAX), ["a", "b1", "b2", "c1", "c2", "c3"]);
    log.line('P', "d1");
    assert_eq!(tail(1), ["d1"]);
}

#[test]
fn tail_finds_lines_longer_than_a_block() {
    let log = log();
    for letter in ["a", "b", "c"] {
        log.line('F', &letter.repeat(200_000));
    }
    let lines = rest(&mut log.reader(Some(2)));
    assert_eq!(lines.iter().map(|line| (line.len(), &line[..1])).collect::<Vec<_>>(), [(200_000, "b"), (200_000, "c")]);
}

#[test]
fn a_line_without_end_is_handed_on_in_parts() {
    let log = log();
    log.write("2026-11-21T12:00:00Z stderr F ");
    log.write(&"x".repeat(3 * LONGEST_LINE));
    log.write("\n");
    log.line('F', "next");
    let mut reader = log.reader(None);
    let mut length = 0;
    loop {
        let record = reader.peek().expect("read").cloned().expect("a record");
        assert_eq!(record.stream, log_line::Stream::Stderr);
        assert!(record.text.len() <= LONGEST_LINE + BLOCK);
        length += record.text.len();
        reader.take();
        if record.tag == Tag::Full {
            break;
        }
    }
    assert_eq!(length, 3 * LONGEST_LINE);
    assert_eq!(rest(&mut reader), ["next"]);
}

#[test]
fn a_link_in_the_place_of_a_log_is_not_read() {
    let log = log();
    let secret = log.path.with_file_name("secret");
    fs::write(&secret, "2026-11-21T12:00:00.000000000Z stdout F private\n").expect("write");
    std::os::unix::fs::symlink(&secret, &log.path).expect("symlink");
    let error = LogReader::open(log.log(), None).err().expect("a link");
    assert!(error.to_string().contains("x.log"), "{error}");
}
