//! `sandpod cp`: what arrives, where, and that no link leads a copy anywhere else.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Home, Pod, fingerprint, idle, once, until};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("lstat").permissions().mode() & 0o7777
}

/// `sandpod cp` of these words, in the home; `POD` stands for the pod's name.
fn cp(pod: &Pod<'_>, words: &[&str]) -> crate::support::Said {
    let words: Vec<String> = words.iter().map(|word| word.replace("POD", &pod.name)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut command = pod.home.command(&[&["cp"], &words[..]].concat());
    command.current_dir(pod.home.path().join("work"));
    pod.home.said(command, b"")
}

/// A script of the user's, in the home.
fn on_host(home: &Home, script: &str) {
    home.said(home.program("/bin/sh", &["-c", script]), b"").ends_with(0);
}

/// A pod and a directory `work` of the user's.
fn pod(home: &Home) -> Pod<'_> {
    home.directory("work", 0o755);
    home.start(&once([idle("main"), idle("other")]))
}

#[test]
fn a_tree_goes_in_and_comes_back_the_same() {
    let Some(home) = Home::new("cp_round_trip") else { return };
    let pod = pod(&home);
    let script = "cd work && mkdir -p tree/deep tree/closed && echo text > tree/deep/file && chmod 640 tree/deep/file && \
                  ln tree/deep/file tree/again && ln -s deep/file tree/link && ln -s /nowhere tree/dangling && \
                  truncate -s 64M tree/holes && printf end >> tree/holes && printf x > tree/closed/in && chmod 500 tree/closed && \
                  mkfifo tree/fifo && echo name > tree/.wh.name && touch -d '1969-12-31 12:00:00.5 UTC' tree/old && \
                  touch -d '2001-02-03 04:05:06.789 UTC' tree/deep";
    on_host(&home, script);
    cp(&pod, &["tree", "POD:/tmp"]).ends_with(0).silently();
    assert_eq!(
        pod.sh("main", "cat /tmp/tree/deep/file /tmp/tree/.wh.name; cd /tmp/tree; stat -c %a:%u:%g deep/file closed"),
        "text\nname\n640:0:0\n500:0:0"
    );
    cp(&pod, &["POD:/tmp/tree", "back"]).ends_with(0).silently();
    let work = home.path().join("work");
    let found = |top: &str| -> Vec<String> {
        let top = work.join(top);
        fingerprint(&top).iter().map(|line| line.replacen(&top.display().to_string(), "", 1)).collect()
    };
    assert_eq!(found("back"), found("tree"));
    let back = |name: &str| fs::symlink_metadata(work.join("back").join(name)).expect(name);
    let sent = |name: &str| fs::symlink_metadata(work.join("tree").join(name)).expect(name);
    assert_eq!(back("again").ino(), back("deep/file").ino());
    for name in ["deep/file", "deep", "old", "link", "holes", "closed"] {
        let time = |found: fs::Metadata| (found.mtime(), found.mtime_nsec());
        assert_eq!(time(back(name)), time(sent(name)), "{name}");
        assert_eq!((back(name).mode(), back(name).uid()), (sent(name).mode(), sent(name).uid()), "{name}");
    }
    assert_eq!(back("holes").len(), (64 << 20) + 3);
    assert!(back("holes").blocks() < 2048, "its holes are holes: {}", back("holes").blocks());
}

/// The table of docker's reference, "docker container cp".
#[test]
fn where_a_copy_goes_is_dockers_rule() {
    let Some(home) = Home::new("cp_rules") else { return };
    let pod = pod(&home);
    on_host(&home, "cd work && mkdir dir && echo f > file && echo d > dir/inside && ln -s dir link");
    let list = |path: &str| pod.sh("main", &format!("cd /tmp && find {path} | sort"));
    cp(&pod, &["file", "POD:/tmp/new"]).ends_with(0);
    cp(&pod, &["file", "POD:tmp"]).ends_with(0);
    cp(&pod, &["dir/inside", "POD:/tmp/new"]).ends_with(0);
    assert_eq!(pod.sh("main", "cat /tmp/new /tmp/file"), "d\nf");
    cp(&pod, &["dir", "POD:/tmp/made"]).ends_with(0);
    cp(&pod, &["dir", "POD:/tmp/made"]).ends_with(0);
    cp(&pod, &["dir/.", "POD:/tmp/made/dir"]).ends_with(0);
    assert_eq!(list("made"), "made\nmade/dir\nmade/dir/inside\nmade/inside");
    cp(&pod, &["link", "POD:/tmp"]).ends_with(0);
    cp(&pod, &["-L", "link", "POD:/tmp/followed"]).ends_with(0);
    assert_eq!(pod.sh("main", "readlink /tmp/link; ls /tmp/followed"), "dir\ninside");
    cp(&pod, &["file", "POD:/tmp/absent/"]).ends_with(125).complains("there is no such directory");
    cp(&pod, &["file", "POD:/absent/new"]).ends_with(125).complains("ENOENT");
    cp(&pod, &["dir", "POD:/tmp/file"]).ends_with(125).complains("a directory cannot take the place of a file");
    cp(&pod, &["absent", "POD:/tmp"]).ends_with(125).complains("absent: there is no such file");
    cp(&pod, &["POD:/absent", "."]).ends_with(125).complains("/absent: there is no such file");
    cp(&pod, &["file", "POD:/tmp/made/dir/inside"]).ends_with(0);
    assert_eq!(pod.sh("main", "cat /tmp/made/dir/inside"), "f");
    // Another container of the pod has its own files.
    cp(&pod, &["file", "POD/other:/tmp/named"]).ends_with(0);
    cp(&pod, &["-c", "other", "POD:/tmp/named", "from-other"]).ends_with(0);
    assert_eq!(pod.sh("main", "ls /tmp/named 2>&1 || true").matches("No such file").count(), 1);
    // A file on which the container's own is mounted can only be written to.
    cp(&pod, &["POD:/etc/hosts", "hosts"]).ends_with(0);
    assert!(fs::read_to_string(home.path().join("work/hosts")).expect("hosts").contains("localhost"));
    for words in [&["file", "file"][..], &["POD:/a", "POD:/b"], &["-a", "POD:/tmp", "."]] {
        cp(&pod, words).ends_with(2);
    }
    pod.does(&["kill", "-c", "other", "-s", "KILL"]);
    until("it has ended", || pod.recorded("other")["state"].get("Terminated").map(drop));
    cp(&pod, &["POD/other:/tmp/named", "."]).ends_with(125).complains("container `other` is not running");
}

/// CVE-2018-1002100, CVE-2019-1002101, CVE-2019-11246, CVE-2019-11249, CVE-2019-10152: what a container has in its files must
/// not decide where a copy is written or read on the host.
#[test]
fn no_link_leads_a_copy_elsewhere() {
    let Some(home) = Home::new("cp_links") else { return };
    let pod = pod(&home);
    let canary = home.directory("canary", 0o755);
    home.file("canary/file", "safe", 0o644);
    let before = fingerprint(&canary);
    let place = canary.display();
    // First the link, then a directory and a file of its name.
    pod.sh("main", &format!("mkdir /tmp/t && ln -s {place} /tmp/t/dir && ln -s {place}/file /tmp/t/file"));
    cp(&pod, &["POD:/tmp/t", "."]).ends_with(0);
    let copied = home.path().join("work/t");
    assert_eq!(fs::read_link(copied.join("dir")).expect("a link"), canary);
    pod.sh("main", "cd /tmp/t && rm dir file && mkdir dir && echo bad > dir/file && echo bad > file");
    cp(&pod, &["POD:/tmp/t/.", "t"]).ends_with(125).complains("follows none below its destination");
    pod.sh("main", "rm -r /tmp/t/dir");
    cp(&pod, &["POD:/tmp/t/.", "t"]).ends_with(0);
    assert!(fs::symlink_metadata(copied.join("file")).expect("lstat").is_file(), "the link itself was replaced");
    // A link of the container leads to files of the container, in both directions.
    pod.sh("main", &format!("ln -s {place} /tmp/out; ln -s ../../../../../../../{place} /tmp/up; true"));
    home.file("work/bad", "bad", 0o644);
    for link in ["out", "up"] {
        cp(&pod, &["bad", &format!("POD:/tmp/{link}/file")]).ends_with(125);
        cp(&pod, &[&format!("POD:/tmp/{link}/file"), "stolen"]).ends_with(125);
    }
    // A program that others would run as you.
    pod.sh("main", "cp /bin/busybox /tmp/su 2>/dev/null || cp $(command -v busybox) /tmp/su; chmod 6755 /tmp/su");
    cp(&pod, &["POD:/tmp/su", "su"]).ends_with(0);
    assert_eq!(mode(&home.path().join("work/su")), 0o755);
    assert_eq!(fingerprint(&canary), before);
}

#[test]
fn archives_on_stdin_and_stdout() {
    let Some(home) = Home::with("cp_archives", &["tar"]) else { return };
    let pod = pod(&home);
    pod.sh("main", "mkdir -p /tmp/t/d && echo one > /tmp/t/d/f && chown 7:8 /tmp/t/d/f && ln -s d /tmp/t/l");
    let mut out = home.command(&["cp", &format!("{}:/tmp/t", pod.name), "-"]);
    let out = out.stdin(Stdio::null()).output().expect("cp");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let list = listing(&out.stdout);
    assert_eq!(list.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["t/", "t/d/", "t/d/f", "t/l"]);
    assert!(list[2].0.contains("7/8"), "{list:?}");
    let target = format!("{}/other:/tmp", pod.name);
    home.said(home.command(&["cp", "-", &target]), &out.stdout).ends_with(0).silently();
    assert_eq!(pod.sh("other", "cd /tmp/t && cat d/f && stat -c %u:%g d/f && readlink l"), "one\n7:8\nd");
    let to = |path: &str, input: &[u8]| {
        home.said(home.command(&["cp", "-", &format!("{}:{path}", pod.name)]), input).ends_with(125)
    };
    to("/tmp/absent", &out.stdout).complains("there is no such directory");
    to("/tmp", &out.stdout[..700]).complains("the archive is cut short");
    to("/tmp", b"no archive").complains("the archive");
    to("/tmp", &escaping()).complains("a path with `..`");
    // What cannot be made is named; the rest comes, and has its mode also where the archive ends too early.
    let mut odd = header("odd/", tar_core::EntryType::Directory, 0o750);
    odd.extend(header("odd/null", tar_core::EntryType::Char, 0o666));
    odd.extend(header("odd/empty", tar_core::EntryType::Regular, 0o640));
    to("/tmp", &odd).complains("odd/null: a device node cannot be made").complains("the archive is cut short");
    assert_eq!(pod.sh("main", "cd /tmp && stat -c %a odd odd/empty && ls odd"), "750\n640\nempty");
}

/// An entry without content.
fn header(name: &str, kind: tar_core::EntryType, mode: u32) -> Vec<u8> {
    let mut header = tar_core::builder::EntryBuilder::new_ustar();
    header.path(name).entry_type(kind).mode(mode).expect("a mode").size(0).expect("a size");
    header.finish_bytes()
}

/// (mode and owner, name) of each entry, as tar lists it.
fn listing(archive: &[u8]) -> Vec<(String, String)> {
    use std::io::Write as _;
    let mut tar = Command::new("tar");
    let mut child =
        tar.args(["-tv", "--numeric-owner"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("tar");
    child.stdin.take().expect("stdin").write_all(archive).expect("write");
    let out = child.wait_with_output().expect("tar ends");
    assert!(out.status.success(), "tar reads it");
    let text = String::from_utf8(out.stdout).expect("UTF-8");
    let words = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
    text.lines().map(words).map(|words| (words[..2].join(" "), words[5].clone())).collect()
}

/// An archive with a name that leads out of its directory.
fn escaping() -> Vec<u8> {
    let mut header = tar_core::builder::EntryBuilder::new_ustar();
    header.path(b"../escaped").entry_type(tar_core::EntryType::Regular);
    let mut bytes = header.finish_bytes();
    bytes.extend([0; 1024]);
    bytes
}

/// `-a` keeps owners on the way in; without it root of the pod has all.
#[test]
fn owners_on_the_way_in() {
    let Some(home) = Home::new("cp_owners") else { return };
    let pod = pod(&home);
    home.file("work/file", "text", 0o4755);
    symlink("file", home.path().join("work/link")).expect("symlink");
    let id = home.user.uid;
    cp(&pod, &["file", "POD:/tmp/plain"]).ends_with(0);
    cp(&pod, &["-a", "file", "POD:/tmp/kept"]).ends_with(0);
    assert_eq!(pod.sh("main", "stat -c %u:%a /tmp/plain /tmp/kept"), format!("0:4755\n{id}:4755"));
}
