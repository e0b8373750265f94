//! sandpod inside a container: the quickstart's pod runs there, and what a container's runtime refuses is named with its
//! fix. The container is made here by unshare(1) and overlays, with what a runtime takes away: no subordinate ids, no
//! newuidmap, parts of /proc and /sys masked, no XDG_RUNTIME_DIR, no cgroup, no TUN, a PID 1 that reaps no process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::crash_support::{Ground, Said, skip};

const BINARY: &str = env!("CARGO_BIN_EXE_sandpod");
const SOON: Duration = Duration::from_secs(20);

/// Makes a root of overlays below ./c, enters it and runs $inside there, through $wrapper. Runs as root of a user namespace
/// of its own, as PID 1 of a pid namespace of its own.
const CONTAINER: &str = r#"
set -e
mkdir -p c
mount -t tmpfs -o mode=0755 tmpfs c
cd c
mkdir lower upper work root u w
for name in usr etc home/user root tmp var/tmp var/lib/nginx var/log/nginx run proc sys dev old; do mkdir -p lower/$name; done
chmod 1777 lower/tmp lower/var/tmp
layers="usr etc"
for name in bin sbin lib lib32 lib64 libx32; do
    if [ -L /$name ]; then cp -P /$name lower/
    elif [ -d /$name ]; then mkdir lower/$name; layers="$layers $name"; fi
done
: >lower/sandpod
cp "$example" lower/pod.yaml
if [ -n "$rootfs" ]; then cp -r "$rootfs" lower/rootfs; fi
mount -t overlay -o userxattr,lowerdir=lower,upperdir=upper,workdir=work overlay root
for name in $layers; do
    mkdir u/$name w/$name
    if [ $name = usr ]; then
        mkdir u/usr/bin
        mknod u/usr/bin/newuidmap c 0 0
        mknod u/usr/bin/newgidmap c 0 0
    fi
    if [ $name = etc ]; then : >u/etc/subuid; : >u/etc/subgid; fi
    mount -t overlay -o userxattr,lowerdir=/$name,upperdir=u/$name,workdir=w/$name overlay root/$name
done
mount --bind "$sandpod" root/sandpod
mount -t proc proc root/proc
for name in kcore keys timer_list; do
    if [ -e root/proc/$name ]; then mount --bind /dev/null root/proc/$name; fi
done
mount --bind root/proc/sys root/proc/sys
mount -o remount,bind,ro root/proc/sys
mount -t sysfs -o ro sysfs root/sys
mount -t tmpfs -o ro tmpfs root/sys/firmware
mount -t tmpfs -o mode=0755 tmpfs root/dev
for name in null zero full random urandom tty; do : >root/dev/$name; mount --bind /dev/$name root/dev/$name; done
mkdir root/dev/pts root/dev/shm
mount -t tmpfs -o mode=1777 tmpfs root/dev/shm
ln -s /proc/self/fd root/dev/fd
mount -t devpts -o ptmxmode=0666 devpts root/dev/pts
cd root
pivot_root . old
cd /
umount -l /old
rmdir /old
unset XDG_RUNTIME_DIR XDG_DATA_HOME TMPDIR USER
export HOME=/home/user
$wrapper sh -c "$inside"
"#;

/// The quickstart, and that nothing of it stays.
const QUICKSTART: &str = r#"
set -e
/sandpod run -d /pod.yaml
tries=0
until /sandpod exec -c busybox nginx-busybox -- busybox wget -qO- localhost; do
    tries=$((tries + 1))
    if [ $tries = 200 ]; then /sandpod logs nginx-busybox; exit 90; fi
    sleep 0.1
done
/sandpod exec nginx-busybox -- sh -c 'echo changed >/usr/changed 2>/dev/null || echo kept >/tmp/kept; cat /proc/self/uid_map'
/sandpod plan /pod.yaml
/sandpod rm -f nginx-busybox
echo left: $(find /home /tmp /run -path '*/pods/*' -o -path '*/layers/*')
"#;

fn container(ground: &Ground, namespaces: &[&str], wrapper: &str, inside: &str, rootfs: &str) -> Said {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/nginx-busybox.yaml");
    let mut command = ground.program("unshare");
    command.env("rootfs", rootfs).args(namespaces).args([
        "-m",
        "-p",
        "-f",
        "-n",
        "-i",
        "-u",
        "--kill-child",
        "sh",
        "-c",
        CONTAINER,
    ]);
    command.env("sandpod", BINARY).env("example", example).env("wrapper", wrapper).env("inside", inside);
    Said::by(command)
}

/// Whether the user can make the namespaces of such a container.
fn possible(ground: &Ground, test: &str, namespaces: &[&str]) -> bool {
    let said = container(ground, namespaces, "", "true", "");
    if said.code != Some(0) {
        skip(test, &format!("no container can be made: {}", said.explain()));
    }
    said.code == Some(0)
}

fn has_nginx(test: &str) -> bool {
    let there = ["/usr/sbin/nginx", "/usr/bin/busybox"].iter().all(|program| Path::new(program).exists());
    if !there {
        skip(test, "nginx and busybox are not installed");
    }
    there
}

#[track_caller]
fn serves(ground: &Ground, said: Said) -> Said {
    let said = said.ends_with(0).says("<h1>Hello from a pod without root</h1>").says("left:\n");
    for name in ["layers-in-memory", "masked-proc", "masked-sys", "no-runtime-dir", "no-cgroup", "no-network"] {
        assert!(said.stderr.contains(&format!("degraded: {name}: ")), "{name}: {}", said.explain());
    }
    let said = said.says("overlay over the host's").says("what it changes is kept in memory, at most");
    ground.no_process_stays(SOON, &said.explain());
    ground.is_empty(&said.explain());
    said
}

#[test]
fn the_quickstart_as_an_ordinary_user_of_a_container() {
    let test = "the_quickstart_as_an_ordinary_user_of_a_container";
    let Some(ground) = Ground::new(test) else { return };
    if !has_nginx(test) || !possible(&ground, test, &["-r"]) {
        return;
    }
    let wrapper = "unshare --user --map-user=4711 --map-group=4711";
    let said = serves(&ground, container(&ground, &["-r"], wrapper, QUICKSTART, ""));
    assert!(said.stderr.contains("degraded: no-subids: "), "{}", said.explain());
}

#[test]
fn the_quickstart_as_root_of_a_container_with_one_id() {
    let test = "the_quickstart_as_root_of_a_container_with_one_id";
    let Some(ground) = Ground::new(test) else { return };
    if !has_nginx(test) || !possible(&ground, test, &["-r"]) {
        return;
    }
    let said = serves(&ground, container(&ground, &["-r"], "", QUICKSTART, ""));
    assert!(said.stderr.contains("degraded: no-subids: "), "{}", said.explain());
}

/// Without newuidmap and without a line in /etc/subuid: the kernel takes the maps from root of a container itself.
#[test]
fn the_quickstart_as_root_of_a_container_with_many_ids() {
    let test = "the_quickstart_as_root_of_a_container_with_many_ids";
    let Some(ground) = Ground::with_subids(test) else { return };
    let namespaces = ["-r", "--map-auto"];
    if !has_nginx(test) || !possible(&ground, test, &namespaces) {
        return;
    }
    let said = serves(&ground, container(&ground, &namespaces, "", QUICKSTART, ""));
    assert!(!said.stderr.contains("no-subids") && !said.stderr.contains("no-newuidmap"), "{}", said.explain());
    let said = said.says("sandpod itself (it has CAP_SETUID and CAP_SETGID here)");
    let others = said.stdout.lines().any(|line| {
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        numbers.len() == 3 && numbers[2] > 1000
    });
    assert!(others, "the map has many ids: {}", said.explain());
}

/// For tests of a `rootfs:` directory in a container of root.
fn with_rootfs(test: &str) -> Option<(Ground, PathBuf)> {
    let ground = Ground::new(test)?;
    let Some(rootfs) = ground.busybox() else {
        skip(test, "busybox is no static program");
        return None;
    };
    possible(&ground, test, &["-r"]).then_some((ground, rootfs))
}

/// A root directory on the container's overlay takes one more overlay, and no third.
#[test]
fn a_directory_on_an_overlay_has_one_more_over_it_and_then_is_copied() {
    let test = "a_directory_on_an_overlay_has_one_more_over_it_and_then_is_copied";
    let Some((ground, rootfs)) = with_rootfs(test) else { return };
    let run = "/sandpod run --rm --image rootfs:/rootfs --name one -- sh -c 'echo new >/written; cat /written'";
    let rootfs = rootfs.to_str().expect("UTF-8");
    let said = container(&ground, &["-r"], "", run, rootfs).ends_with(0).says("new");
    let said = said.complains("degraded: layers-in-memory: ");
    assert!(!said.stderr.contains("no-overlay"), "{}", said.explain());
    let deeper = format!(
        "set -e; mkdir /deep; mount -t tmpfs tmpfs /deep; mkdir /deep/u /deep/w /deep/r; \
         mount -t overlay -o userxattr,lowerdir=/rootfs,upperdir=/deep/u,workdir=/deep/w overlay /deep/r; {}; \
         test ! -e /deep/r/written; echo left: $(find /home /tmp -path '*/pods/*')",
        run.replace("/rootfs", "/deep/r")
    );
    let said = container(&ground, &["-r"], "", &deeper, rootfs).ends_with(0).says("new").says("left:\n");
    said.complains("degraded: no-overlay: ").complains("no third");
    ground.no_process_stays(SOON, test);
    ground.is_empty(test);
}

/// No overlay can be made over a directory of the host with mounts below it, as /etc in docker, nor over the second of two
/// overlays. A mount point that it lacks is there all the same, and what the directory has is seen as before.
#[test]
fn a_mount_point_that_a_read_only_directory_of_the_host_lacks_is_made() {
    let test = "a_mount_point_that_a_read_only_directory_of_the_host_lacks_is_made";
    let Some(ground) = Ground::new(test) else { return };
    if !possible(&ground, test, &["-r"]) {
        return;
    }
    // The link leads to a directory of another overlay. A FIFO, since not all of the entries are files or directories.
    let etc = "mkdir -p /etc/below /etc/way/other /usr/real; echo old >/etc/way/other/file; mkfifo /etc/fifo; \
               ln -s way /etc/link; ln -s /usr/real /etc/to-usr; echo name >\"/etc/a name\"; \
               mkdir /vol; echo volume >/vol/in-volume; echo file >/a-file; rm -f /etc/hosts /etc/resolv.conf;";
    let mounts = "mount -t tmpfs tmpfs /etc/below; echo mounted >/etc/below/file; \
                  mkdir /usr/mounted; mount -t tmpfs tmpfs /usr/mounted;";
    let third = "mkdir /deep; mount -t tmpfs tmpfs /deep; for name in usr etc; do mkdir /deep/u$name /deep/w$name; \
                 mount -t overlay -o userxattr,lowerdir=/$name,upperdir=/deep/u$name,workdir=/deep/w$name overlay /$name; done; \
                 echo mounted >/etc/below/file;";
    for (host, why) in [(mounts, "mounted below"), (third, "no third")] {
        let inside = format!(
            "set -e; {etc} {host} cat >/in.sh <<'END'\n\
             set -e\n\
             cat /etc/new/deep/in-volume /etc/link/lacking/in-volume /etc/to-usr/lacking/in-volume /etc/new-file\n\
             cat /etc/way/other/file '/etc/a name' /etc/below/file\n\
             readlink /etc/link; test -p /etc/fifo; grep -q localhost /etc/hosts\n\
             for at in /etc/x /etc/way/x /etc/way/other/x /etc/below/x /usr/real/x; do\n\
             if touch $at 2>/dev/null; then echo written $at; fi; done\n\
             ls /etc >/tmp/list; for name in new new-file; do sed -i /^$name\\$/d /tmp/list; done; cat /tmp/list | wc -l\n\
             END\n\
             ls /etc | wc -l\n\
             /sandpod run --rm --image host: -v /vol:/etc/new/deep -v /vol:/etc/way/lacking -v /vol:/etc/to-usr/lacking \
             -v /a-file:/etc/new-file -v /in.sh:/tmp/in.sh -- sh /tmp/in.sh\n\
             test ! -e /etc/new; test ! -e /etc/way/lacking; test ! -e /usr/real/lacking"
        );
        let said = container(&ground, &["-r"], "", &inside, "").ends_with(0).complains(why);
        let lines: Vec<_> = said.stdout.lines().collect();
        let expected = ["volume", "volume", "volume", "file", "old", "name", "mounted", "way"];
        assert_eq!(&lines[1..lines.len() - 1], expected, "{}", said.explain());
        // hosts, hostname and resolv.conf are the pod's own; nothing else is lost or added.
        let count = |line: &str| line.trim().parse::<usize>().expect("a number");
        assert!((0..=3).contains(&(count(lines[lines.len() - 1]) - count(lines[0]))), "{}", said.explain());
        ground.no_process_stays(SOON, &said.explain());
    }
    ground.is_empty(test);
}

/// The container's overlay holds neither whiteouts nor the upper layer of another one, and there is no FUSE device and no
/// subordinate id: a CI job in a pod of Kubernetes.
#[test]
fn an_image_runs_in_a_container_with_its_home_on_an_overlay() {
    let test = "an_image_runs_in_a_container_with_its_home_on_an_overlay";
    let Some((ground, lower)) = with_rootfs(test) else { return };
    let upper = ground.path().join("upper");
    let write = |path: PathBuf, text: &str| {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        std::fs::write(path, text).expect("write");
    };
    for (path, text) in [("gone", "1"), ("dir/hidden", "1"), ("kept", "1"), ("file/in", "1"), ("deep/gone/x", "1")] {
        write(lower.join(path), text);
    }
    for (path, text) in
        [(".wh.gone", ""), ("dir/.wh..wh..opq", ""), ("dir/seen", "2"), ("file", "2"), ("deep/.wh.gone", "")]
    {
        write(upper.join(path), text);
    }
    let layout = ground.path().join("layout");
    crate::layout::write(&layout, &[&lower, &upper]);
    // Runs twice: the second start unpacks nothing.
    let inside = "set -e
        test ! -e /dev/fuse
        run() { /sandpod run --rm oci:/rootfs:made sh -c 'busybox find /gone /dir /kept /file /deep 2>/dev/null; echo new >/kept; cat /kept'; }
        run; run
        /sandpod images; /sandpod rmi oci:/rootfs:made
        echo left: $(find /home /tmp /run -path '*/trees/*' -o -path '*/pods/*' -o -path '*/layers/*')";
    for (namespaces, wrapper) in [(&["-r"][..], ""), (&["-r"][..], "unshare --user --map-user=4711 --map-group=4711")] {
        let said = container(&ground, namespaces, wrapper, inside, layout.to_str().expect("UTF-8")).ends_with(0);
        let mut lines: Vec<_> = said.stdout.lines().take_while(|line| *line != "new").collect();
        lines.sort_unstable();
        assert_eq!(lines, ["/deep", "/dir", "/dir/seen", "/file", "/kept"], "{}", said.explain());
        let said = said.says("oci:/rootfs:made").says("left:\n").complains("degraded: layers-in-memory: ");
        assert_eq!(said.stdout.lines().filter(|line| *line == "new").count(), 2, "{}", said.explain());
        assert!(!said.stderr.contains("no-overlay"), "{}", said.explain());
        ground.no_process_stays(SOON, &said.explain());
    }
}

/// What counts against a limit is counted where it is, and goes with the pod, also after `kill -9`.
#[test]
fn layers_elsewhere_are_measured_and_removed() {
    let test = "layers_elsewhere_are_measured_and_removed";
    let Some((ground, rootfs)) = with_rootfs(test) else { return };
    let pod = r#"{apiVersion: v1, kind: Pod, metadata: {name: big}, spec: {restartPolicy: Never, terminationGracePeriodSeconds: 0, containers: [{name: c,
        image: "rootfs:/rootfs", resources: {limits: {ephemeral-storage: 1Mi}},
        command: [sh, -c, "busybox dd if=/dev/zero of=/big bs=1M count=8; exec sleep 1000"]}]}}"#;
    for (place, name, prepare) in [
        ("memory", "layers-in-memory", ""),
        ("/tmp", "layers-elsewhere", "mount -t tmpfs -o mode=1777 tmpfs /tmp;"),
        (
            "/run/user",
            "layers-elsewhere",
            "mkdir -m 700 /run/user; mount -t tmpfs -o mode=0700 tmpfs /run/user; export XDG_RUNTIME_DIR=/run/user;",
        ),
    ] {
        let inside = format!(
            "{prepare} cat >/big.yaml <<'END'\n{pod}\nEND\n\
             /sandpod run /big.yaml; echo ended $?; /sandpod rm big\n\
             /sandpod run -d --image rootfs:/rootfs --name killed -- sh -c 'echo x >/x; exec sleep 1000' >/id || exit 91\n\
             echo made: $(find /tmp /run -path '*/layers/*' -name '*.root')\n\
             kill -9 $(find /tmp /run -path '*/pods/*' -name record.json -exec sed -n 's/.*\"supervisor\":{{\"pid\":\\([0-9]*\\).*/\\1/p' {{}} +)\n\
             until /sandpod ps -a | grep 'supervisor was killed'; do sleep 0.1; done; /sandpod rm -f killed || exit 92\n\
             echo left: $(find /home /tmp /run -path '*/pods/*' -o -path '*/layers/*')"
        );
        let said = container(&ground, &["-r"], "", &inside, rootfs.to_str().expect("UTF-8")).ends_with(0);
        let said = said.complains(&format!("degraded: {name}: ")).complains("more than the ephemeral-storage limit");
        let said = said.says("supervisor was killed").says("left:\n");
        let made = said.stdout.lines().find_map(|line| line.strip_prefix("made: ")).unwrap_or_default();
        assert_eq!(made.starts_with(place), place != "memory", "{place}: {}", said.explain());
        ground.no_process_stays(SOON, &said.explain());
    }
    ground.is_empty(test);
}

/// The hint names the option that lifts what was refused, and nothing is left.
#[track_caller]
fn refused(test: &str, rules: &[crate::seccomp_support::Rule], hints: &[&str]) {
    let Some(ground) = Ground::new(test) else { return };
    let command = ground.command(&["run", "--rm", "--userns=single", "--image", "host:", "--", "true"]);
    let said = Said::by(crate::seccomp_support::filtered(command, rules)).ends_with(125).complains("hint: ");
    let hint = said.stderr.split_once("hint: ").map(|(_, hint)| hint.split_whitespace().collect::<Vec<_>>().join(" "));
    let hint = hint.unwrap_or_default();
    for part in hints {
        assert!(hint.contains(part), "the hint lacks {part:?}: {}", said.explain());
    }
    ground.no_process_stays(SOON, &said.explain());
    ground.is_empty(&said.explain());
}

const SECCOMP: [&str; 3] =
    ["seccomp filter", "--security-opt seccomp=unconfined", "securityContext.seccompProfile.type: Unconfined"];

#[test]
fn a_filter_as_dockers_is_named_with_its_fix() {
    refused("a_filter_as_dockers_is_named_with_its_fix", &crate::seccomp_support::docker(), &SECCOMP);
}

#[test]
fn a_filter_that_refuses_namespaces_is_named_with_its_fix() {
    let rules = [(libc::SYS_clone3, libc::EPERM)];
    refused("a_filter_that_refuses_namespaces_is_named_with_its_fix", &rules, &SECCOMP);
}

#[test]
fn a_filter_that_refuses_mounts_is_named_with_its_fix() {
    let rules = crate::seccomp_support::mounts(libc::EPERM);
    refused("a_filter_that_refuses_mounts_is_named_with_its_fix", &rules, &SECCOMP);
}

/// EACCES is what AppArmor's `docker-default` answers to mount(2).
#[test]
fn mounts_that_apparmor_refuses_are_named_with_the_fix() {
    let rules = crate::seccomp_support::mounts(libc::EACCES);
    let hints = ["AppArmor", "--security-opt apparmor=unconfined", "securityContext.appArmorProfile.type: Unconfined"];
    refused("mounts_that_apparmor_refuses_are_named_with_the_fix", &rules, &hints);
}
