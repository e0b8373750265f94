//! What is wrong with a command line, with a file that cannot be read, or with a pod that this host cannot give: exit
//! status and message, word for word. Manifests that are wrong in themselves are in `tests/manifests/bad.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::crash_support::{Ground, Said};

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  ";

/// `DIR` in an expected message is the ground's directory.
#[track_caller]
fn says(ground: &Ground, arguments: &[&str], status: i32, expected: &str) {
    let said = ground.run(arguments);
    let found = said.stderr.replace(ground.path().to_str().expect("UTF-8"), "DIR");
    assert_eq!((said.code, found.as_str(), said.stdout.as_str()), (Some(status), expected, ""), "{}", said.explain());
    assert!(ground.files().is_empty(), "it made something: {}", said.explain());
}

#[test]
fn files_that_are_no_manifest() {
    let Some(ground) = Ground::new("files_that_are_no_manifest") else { return };
    let unreadable = |name: &str, why: &str, hint: &str| {
        format!("error: could not read the manifest {name}\n  reading the manifest\n  {why}\nhint: {hint}\n")
    };
    let file = ground.write("closed.yaml", POD);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).expect("chmod");
    for verb in ["plan", "run"] {
        let expected =
            unreadable("absent.yaml", "No such file or directory (ENOENT)", "`-` reads the manifest from stdin");
        says(&ground, &[verb, "absent.yaml"], 2, &expected);
        let expected = unreadable("home", "Is a directory (EISDIR)", "it is a directory: name the file in it");
        says(&ground, &[verb, "home"], 2, &expected);
        let hint = "you may not read this file: see `ls -l` on it";
        says(&ground, &[verb, "closed.yaml"], 2, &unreadable("closed.yaml", "Permission denied (EACCES)", hint));
        let expected = "error: stdin is not a Pod that sandpod can run (1 error)\n  \
                        stdin: is empty: a manifest needs apiVersion, kind, metadata and spec\n";
        says(&ground, &[verb, "-"], 2, expected);
    }
}

/// An error names its errno as the kernel's manual pages do, whatever printed it.
#[test]
fn output_that_cannot_be_written() {
    let Some(ground) = Ground::new("output_that_cannot_be_written") else { return };
    for words in [
        &["ps", "-a"][..],
        &["ps", "--json"],
        &["plan", "--userns", "single", "--image", "host:", "--", "true"],
        &["plan", "--json", "--userns", "single", "--image", "host:", "--", "true"],
        &["version"],
        &["completions", "bash"],
        &["man"],
    ] {
        let mut command = ground.program("sh");
        command.args(["-c", "exec \"$0\" \"$@\" >/dev/full", env!("CARGO_BIN_EXE_sandpod")]).args(words);
        let said = Said::by(command).ends_with(125).complains("error: could not write the output\n");
        let said = said.complains("  No space left on device (ENOSPC)\n");
        assert!(!said.stderr.contains("os error"), "{}", said.explain());
    }
}

#[test]
fn host_paths_that_are_missing_are_warned_of_with_the_fix_of_their_type() {
    let Some(ground) = Ground::new("host_paths_that_are_missing_are_warned_of") else { return };
    let at = ground.path().join("absent");
    let at = at.to_str().expect("UTF-8");
    for (kind, path, fix) in [
        ("", at.to_owned(), Some("`type: DirectoryOrCreate`, or `type: FileOrCreate` for a file")),
        ("type: Directory", at.to_owned(), Some("or write `type: DirectoryOrCreate`")),
        ("type: File", at.to_owned(), Some("or write `type: FileOrCreate`")),
        ("type: FileOrCreate", format!("{at}/file"), Some("not its directory: `mkdir -p ")),
        ("type: Socket", at.to_owned(), Some("start the program that listens")),
        ("type: DirectoryOrCreate", at.to_owned(), None),
        ("type: FileOrCreate", at.to_owned(), None),
    ] {
        let volumes = format!("volumes:\n  - name: v\n    hostPath:\n      path: {path}\n      {kind}\n");
        let containers = "containers:\n  - name: a\n    image: \"host:\"\n    command: [\"true\"]\n    \
                          volumeMounts: [{name: v, mountPath: /v}]\n  ";
        let file = ground.write("pod.yaml", &format!("{POD}restartPolicy: Never\n  {containers}{volumes}"));
        let plan = ground.run(&["plan", "--userns", "single", &file]).ends_with(0);
        let warning = format!("warning: volume `v`: {at} is not there, and the pod will not start: ");
        assert_eq!(plan.stderr.contains(&warning), fix.is_some(), "{kind}: {}", plan.explain());
        let Some(fix) = fix else { continue };
        let plan = plan.complains(fix);
        // The error of `run` has the same fix.
        let run = ground.run(&["run", "--userns", "single", &file]).ends_with(125);
        let hint = run.stderr.split_once("hint: ").map(|(_, hint)| hint.trim_end().to_owned());
        assert!(hint.as_ref().is_some_and(|hint| plan.stderr.contains(hint.as_str())), "{kind}: {}", run.explain());
        assert!(run.stderr.contains("(ENOENT)"), "{}", run.explain());
    }
}

/// They never end, or are far too long: neither time nor memory goes into them.
#[test]
fn endless_files_are_refused_at_once() {
    let Some(ground) = Ground::new("endless_files_are_refused_at_once") else { return };
    let start = Instant::now();
    fs::File::create(ground.path().join("long.yaml"))
        .and_then(|file| file.set_len(100_000_000))
        .expect("a sparse file");
    for name in ["long.yaml", "/dev/zero"] {
        let said = ground.run(&["plan", name]).ends_with(2);
        assert!(said.stderr.contains("longer than 1048576 bytes"), "{}", said.explain());
    }
    let mut command = ground.command(&["plan", "-"]);
    command.stdin(Stdio::from(fs::File::open("/dev/zero").expect("open")));
    Said::by(command).ends_with(2).complains("longer than 1048576 bytes");
    // Generous: what reads to the end takes for ever.
    assert!(start.elapsed() < Duration::from_secs(10), "took {:?}", start.elapsed());
}

#[test]
fn pods_that_this_host_cannot_give() {
    let Some(ground) = Ground::new("pods_that_this_host_cannot_give") else { return };
    let pod = |name: &str, spec: &str| {
        ground.write(&format!("{name}.yaml"), &format!("{POD}containers:\n  - {spec}\n"));
        format!("{name}.yaml")
    };
    let says = |name: &str, spec: &str, status: i32, expected: &str| {
        let file = pod(name, spec);
        says(&ground, &["plan", "--userns", "single", &file], status, expected);
    };
    says(
        "nowhere",
        "{name: a, image: \"rootfs:/nowhere\"}",
        125,
        "error: container `a`: cannot use /nowhere as a root file system\n  nowhere.yaml:6:22: spec.containers[0].image\n  \
         No such file or directory (ENOENT)\n",
    );
    let file = ground.write("file", "");
    says(
        "file",
        &format!("{{name: a, image: \"rootfs:{file}\"}}"),
        125,
        "error: container `a`: cannot use DIR/file as a root file system\n  file.yaml:6:22: spec.containers[0].image\n  \
         not a directory\n",
    );
    for field in ["runAsUser", "runAsGroup"] {
        let file = pod("user", &format!("{{name: a, image: \"host:\", securityContext: {{{field}: 1000}}}}"));
        let said = ground.run(&["plan", "--userns", "single", &file]).ends_with(125);
        let said = said.complains(&format!("container `a`: {field} 1000 has no id in this pod")).complains("hint: ");
        assert!(said.stdout.is_empty(), "{}", said.explain());
    }
}

#[test]
fn command_lines() {
    let Some(ground) = Ground::new("command_lines") else { return };
    let more = "\nFor more information, try '--help'.\n";
    let name = "\n  a name is a DNS-1123 subdomain: a-z, 0-9, `-` and `.`, beginning and ending with a letter or digit\n\
                hint: for example `web` or `web-1`\n";
    let run = |option: [&'static str; 2]| [&["run", "--image", "host:"], &option[..], &["--", "true"]].concat();
    for (arguments, expected) in [
        (run(["--name", "A_B"]), format!("error: --name A_B is not a pod's name{name}")),
        (run(["--name", "../x"]), format!("error: --name ../x is not a pod's name{name}")),
        (
            run(["--volume", "a"]),
            "error: --volume a\n  it has not two or three parts\nhint: write SRC:DST, or SRC:DST:ro for read-only\n".into(),
        ),
        (
            run(["--memory", "512m"]),
            "error: --memory 512m\n  `512m` is a fraction of a byte, since m means thousandths; did you mean `512Mi` or \
             `512M`?\n"
                .into(),
        ),
        (
            run(["--cpus", "0.001"]),
            "error: --cpus 0.001\n  `0.001` is too small: the kernel limits to 1 ms in each 100 ms, which is 10m, or \
             more\n"
                .into(),
        ),
        (
            run(["--pids-limit", "0"]),
            "error: --pids-limit 0\n  `0` must be `max`, or a number of processes and threads from 1 to 4194304\n".into(),
        ),
        (run(["--env", "=x"]), "error: --env =x\n  the name is empty\n".into()),
        (
            run(["--net", "host"]),
            format!(
                "error: unexpected argument '--net' found\n\nUsage: sandpod run [OPTIONS] <FILE>\n       \
                 sandpod run [OPTIONS] <IMAGE> [CMD...]\n{more}tip: it is called --network: --network host\n"
            ),
        ),
        (
            run(["--userns", "host"]),
            format!(
                "error: invalid value 'host' for '--userns <MODE>'\n  \
                 [possible values: auto, root-is-you, isolated, single]\n{more}"
            ),
        ),
        (
            vec!["run", "--image", "nope:", "--", "true"],
            "error: `nope:` is not the name of an image\n  it has an invalid tag ``: use at most 128 letters, digits, `_`, `.` and `-`, not `.` or `-` at its \
             start\n\
             hint: `host:` is this machine's own /usr and /etc, `rootfs:DIR` a directory\n"
                .into(),
        ),
        (
            vec!["run", "--image", "rootfs:absent", "--", "true"],
            "error: --image rootfs:absent\n  absent: No such file or directory (ENOENT)\n".into(),
        ),
        (
            vec!["run", "-v", "DIR/absent:/x", "--image", "host:", "--", "true"],
            "error: --volume DIR/absent:/x\n  DIR/absent: No such file or directory (ENOENT)\nhint: make it first (`mkdir -p \
             DIR/absent`, or `touch` for a file): sandpod makes nothing on the host for -v\n"
                .into(),
        ),
        (
            vec!["run", "-v", "data:/x", "--image", "host:", "--", "true"],
            "error: --volume data:/x\n  data: No such file or directory (ENOENT)\nhint: SRC is a path, here of a directory or \
             file `data` in the current directory: there are no named volumes. Make it first (`mkdir data`), or write an \
             emptyDir into a manifest\n"
                .into(),
        ),
        (
            vec!["run", "--image"],
            format!("error: a value is required for '--image <IMAGE>' but none was supplied\n{more}"),
        ),
        (
            vec!["run", "-it", "--image", "host:", "--", "true"],
            "error: -i and -t together need a terminal, and stdin is none\nhint: leave out -t to pass stdin on as it is\n"
                .into(),
        ),
        (
            vec!["kill", "-s", "NOPE", "x"],
            "error: `NOPE` is no signal\nhint: a name such as TERM or SIGTERM, or a number from 1 to 64\n".into(),
        ),
        (
            vec!["logs", "--tail", "x", "y"],
            format!("error: invalid value 'x' for '--tail <N>': invalid digit found in string\n{more}"),
        ),
    ] {
        says(&ground, &arguments, 2, &expected);
    }
}
