//! Hosts that lack something: the pod runs all the same and the lack is said by name, or nothing is made and the error
//! names the switch and the fix.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::crash_support::{Ground, Said, skip};

const BINARY: &str = env!("CARGO_BIN_EXE_sandpod");
const SOON: Duration = Duration::from_secs(20);
const HELLO: &[&str] = &["run", "--rm", "--image", "host:", "--name", "hello", "--", "sh", "-c", "echo hello; id -u"];

/// The pod ran to its end, and nothing of it is left.
#[track_caller]
fn hello(ground: &Ground, said: Said) -> Said {
    let said = said.ends_with(0).says("hello");
    ground.no_process_stays(SOON, &said.explain());
    ground.is_empty(&said.explain());
    said
}

/// A shell script as the user, through `wrapper`; `$sandpod` is the binary.
fn script(ground: &Ground, wrapper: &[&str], text: &str) -> Said {
    let mut command = ground.program(wrapper.first().unwrap_or(&"sh"));
    command.args(wrapper.get(1..).unwrap_or_default());
    if !wrapper.is_empty() {
        command.arg("sh");
    }
    command.arg("-c").arg(text).env("sandpod", BINARY);
    Said::by(command)
}

/// `run` of the pod above in a shell.
const RUN: &str = "\"$sandpod\" run --rm --image host: --name hello -- sh -c 'echo hello; id -u'";

/// Can the user make a user namespace with a mount namespace at all? (`unshare -rm`)
fn has_unshare(ground: &Ground, test: &str, arguments: &[&str]) -> bool {
    let said = script(ground, arguments, "true");
    if said.code != Some(0) {
        skip(test, &format!("{arguments:?}: {}", said.explain()));
    }
    said.code == Some(0)
}

#[test]
fn without_new_privileges_newuidmap_is_of_no_use() {
    let Some(ground) = Ground::with_subids("without_new_privileges_newuidmap_is_of_no_use") else { return };
    let said = script(&ground, &["setpriv", "--no-new-privs"], RUN);
    let said = hello(&ground, said).says("0");
    let said = said.complains("no-newuidmap");
    assert!(said.stderr.contains("no_new_privs"), "{}", said.explain());
    // The fix is for that, and not for a file without its setuid bit.
    let said = script(&ground, &["setpriv", "--no-new-privs"], "\"$sandpod\" plan --image host: -- true").ends_with(0);
    let shown = format!("{}{}", said.stdout, said.stderr);
    assert!(shown.contains("NoNewPrivileges=no") && !shown.contains("u+s"), "{}", said.explain());
}

/// A name from `generateName` that is taken is made up again. A FIFO in the place of /dev/urandom gives the same numbers three
/// times, for the name and then for the id; after that, others. No container starts with such a /dev/urandom.
#[test]
fn a_generated_name_that_is_taken_is_made_up_again() {
    let test = "a_generated_name_that_is_taken_is_made_up_again";
    let Some(ground) = Ground::new(test) else { return };
    if !has_unshare(&ground, test, &["unshare", "-rm"]) {
        return;
    }
    let pod = "{apiVersion: v1, kind: Pod, metadata: {generateName: web-}, spec: {restartPolicy: Never, \
               containers: [{name: c, image: 'host:', command: [\"true\"]}]}}";
    ground.write("pod.yaml", pod);
    let text = r#"
        "$sandpod" run -d --name web-bbbbb --image host: -- sleep 1000 || exit 91
        mkfifo random && mount --bind random /dev/urandom && exec 3<>/dev/urandom
        head -c 48 /dev/zero >&3
        for round in 1 2 3 4 5 6 7 8; do printf '\1\0\0\0\0\0\0\0' >&3; done
        "$sandpod" run -d - <pod.yaml; status=$?
        exec 3<&-; umount /dev/urandom
        "$sandpod" rm -f web-bbbbb || exit 92
        exit $status"#;
    let said = script(&ground, &["unshare", "-rm"], text).ends_with(125);
    let said = said.complains("error: could not start pod `web-cbbbb`\n").complains("/dev/urandom of this host is not");
    ground.no_process_stays(SOON, &said.explain());
    ground.is_empty(&said.explain());
}

/// An explicit request is no wish: where no cgroup is mounted, `--cgroup-parent` is refused and nothing is made.
#[test]
fn a_cgroup_parent_where_no_cgroup_is_mounted_is_refused() {
    let test = "a_cgroup_parent_where_no_cgroup_is_mounted_is_refused";
    let Some(ground) = Ground::new(test) else { return };
    if !has_unshare(&ground, test, &["unshare", "-rm"]) {
        return;
    }
    let hide = "mount -t tmpfs tmpfs /sys/fs/cgroup";
    let run = |options: &str| {
        let text = format!("{hide} && \"$sandpod\" run --rm {options} --image host: --name hello -- echo hello");
        script(&ground, &["unshare", "-rm"], &text)
    };
    hello(&ground, run("")).complains("no-cgroup");
    let said = run("--cgroup-parent /x").ends_with(125).complains("--cgroup-parent /x").complains("hint: ");
    assert!(!said.stderr.contains("degraded"), "{}", said.explain());
    ground.is_empty(&said.explain());
}

/// Root of a user namespace with many ids writes the pod's maps itself, where there is no newuidmap.
#[test]
fn without_newuidmap() {
    let test = "without_newuidmap";
    let Some(ground) = Ground::with_subids(test) else { return };
    let flags = ["unshare", "-rm", "--map-auto"];
    let hide = "mkdir -p o && mount -t tmpfs tmpfs o && mkdir o/up o/work &&
        mount -t overlay -o userxattr,lowerdir=/usr/bin,upperdir=o/up,workdir=o/work overlay /usr/bin &&
        rm /usr/bin/newuidmap /usr/bin/newgidmap &&
        echo root:1:65535 >o/subid && mount --bind o/subid /etc/subuid && mount --bind o/subid /etc/subgid";
    if !has_unshare(&ground, test, &flags) {
        return;
    }
    let said = script(&ground, &flags, &format!("{hide} && {RUN}"));
    let said = hello(&ground, said).says("0");
    assert!(!said.stderr.contains("no-newuidmap"), "{}", said.explain());
    let other = "\"$sandpod\" run --rm --image host: --name hello --user 33:33 -- sh -c 'echo hello; id'";
    let said = script(&ground, &flags, &format!("{hide} && {other}"));
    hello(&ground, said).says("uid=33");
    // Without those capabilities, the lack is named.
    let without = format!("{hide} && setpriv --bounding-set -setuid,-setgid --inh-caps -setuid,-setgid sh -c \"$RUN\"");
    let mut command = ground.program(flags[0]);
    command.args(&flags[1..]).args(["sh", "-c", &without]).env("sandpod", BINARY).env("RUN", RUN);
    hello(&ground, Said::by(command)).says("0").complains("no-newuidmap").complains("newuidmap is not installed");
}

#[test]
fn without_a_runtime_directory() {
    let Some(ground) = Ground::new("without_a_runtime_directory") else { return };
    let fallback = format!("/tmp/sandpod-{}", ground.account.uid);
    for value in [None, Some("relative"), Some("/nonexistent"), Some("/etc")] {
        let mut command = ground.command(HELLO);
        match value {
            None => command.env_remove("XDG_RUNTIME_DIR"),
            Some(value) => command.env("XDG_RUNTIME_DIR", value),
        };
        let said = hello(&ground, Said::by(command));
        said.complains("no-runtime-dir").complains(&fallback);
    }
}

#[test]
fn with_a_home_that_cannot_be_written() {
    let Some(ground) = Ground::new("with_a_home_that_cannot_be_written") else { return };
    let home = ground.path().join("home");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o500)).expect("chmod");
    for home in [home.to_str().expect("UTF-8"), "/nonexistent", "relative", "/dev/null", "/proc/self"] {
        let mut command = ground.command(HELLO);
        command.env_remove("XDG_DATA_HOME").env("HOME", home);
        hello(&ground, Said::by(command)).complains("no-data-dir");
    }
}

#[test]
fn inside_an_outer_user_namespace() {
    let test = "inside_an_outer_user_namespace";
    let Some(ground) = Ground::with_subids(test) else { return };
    if !has_unshare(&ground, test, &["unshare", "-r"]) {
        return;
    }
    for flags in
        [&["unshare", "-r"][..], &["unshare", "-U", "--map-current-user"], &["unshare", "-rmpf", "--mount-proc"]]
    {
        let said = hello(&ground, script(&ground, flags, RUN));
        assert!(said.stderr.contains("no-subids") || said.stderr.contains("no-newuidmap"), "{}", said.explain());
    }
    // With all of the user's ids in the namespace, and everything a container engine would give.
    let flags = ["unshare", "-r", "--map-auto"];
    if script(&ground, &flags, "true").code == Some(0) {
        hello(&ground, script(&ground, &flags, RUN));
    }
}

#[test]
fn where_proc_is_masked() {
    let test = "where_proc_is_masked";
    let Some(ground) = Ground::new(test) else { return };
    let flags = ["unshare", "-rmpf", "--mount-proc"];
    if !has_unshare(&ground, test, &flags) {
        return;
    }
    for mask in [
        "mount -t tmpfs tmpfs /proc/fs",
        "mount --bind /dev/null /proc/meminfo",
        "mount --bind -o ro /proc/sys /proc/sys",
    ] {
        let said = script(&ground, &flags, &format!("{mask} && {RUN}"));
        hello(&ground, said).complains("masked-proc");
    }
}

/// The switch of a namespace binds only what is made below it.
#[test]
fn where_user_namespaces_are_forbidden() {
    let test = "where_user_namespaces_are_forbidden";
    let Some(ground) = Ground::new(test) else { return };
    if !has_unshare(&ground, test, &["unshare", "-r"]) {
        return;
    }
    let forbid = "echo 0 >/proc/sys/user/max_user_namespaces || exit 99; ";
    let said = script(&ground, &["unshare", "-r"], &format!("{forbid}{RUN}")).ends_with(125);
    let said = said.complains("user.max_user_namespaces").complains("hint: ").complains("sysctl");
    ground.no_process_stays(SOON, &said.explain());
    ground.is_empty(&said.explain());
    // One more is allowed, and there is one: the pod's.
    let said = script(&ground, &["unshare", "-r"], &format!("echo 1 >/proc/sys/user/max_user_namespaces; {RUN}"));
    hello(&ground, said);
    for limit in ["max_pid_namespaces", "max_mnt_namespaces", "max_net_namespaces"] {
        let text = format!("echo 0 >/proc/sys/user/{limit} || exit 99; {RUN}");
        let said = script(&ground, &["unshare", "-r"], &text).ends_with(125).complains("hint: ");
        assert!(said.stderr.contains(&format!("user.{limit}")), "{}", said.explain());
        ground.no_process_stays(SOON, &said.explain());
        ground.is_empty(&said.explain());
    }
}

/// newuidmap is looked up along PATH: what is found there and cannot write maps is no reason to fail.
#[test]
fn with_a_newuidmap_that_is_a_fake() {
    let Some(ground) = Ground::with_subids("with_a_newuidmap_that_is_a_fake") else { return };
    let bin = ground.path().join("bin");
    ground.make(&bin);
    for (what, text) in [
        ("lies", "#!/bin/sh\nexit 0\n"),
        ("fails", "#!/bin/sh\necho no >&2; exit 1\n"),
        ("hangs", "#!/bin/sh\nsleep 1000\n"),
    ] {
        for tool in ["newuidmap", "newgidmap"] {
            ground.write(&format!("bin/{tool}"), text);
            fs::set_permissions(bin.join(tool), fs::Permissions::from_mode(0o755)).expect("chmod");
        }
        let mut command = ground.command(HELLO);
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        let said = hello(&ground, Said::by(command));
        assert!(!said.stderr.contains("panicked"), "{what}: {}", said.explain());
    }
}
