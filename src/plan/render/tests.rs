//! Whole texts, kept beside the other expected outputs. After a wanted change: `UPDATE_EXPECTED=1 cargo test render`.

use std::path::Path;

use super::super::fixtures::*;
use super::Text;
use crate::host::{IdMapTool, Ipv6Routes, OverlaySupport, ProcVisibility};
use crate::manifest::{ContainerPort, Image, Protocol, VolumeSource};
use crate::plan::network::{HostLoopback, Join, Joined, NetworkChoice};
use crate::plan::{PodPlan, Request};

#[expect(clippy::disallowed_methods, reason = "the expected texts are files")]
fn expect_text(name: &str, plan: &PodPlan) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan").join(name);
    let text = Text(plan).to_string();
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert!(expected == text, "{} is no longer what the plan prints:\n{text}", file.display());
}

#[test]
fn two_containers_over_the_hosts_own_root() {
    let mut nginx = container("nginx");
    nginx.image = Image::Host;
    nginx.command = vec!["/usr/sbin/nginx".into(), "-g".into(), "daemon off;".into()];
    nginx.volume_mounts = vec![mounted("log", "/var/log/nginx"), mounted("html", "/usr/share/nginx/html")];
    nginx.ports = vec![ContainerPort {
        name: Some("http".into()),
        container_port: 80,
        protocol: Protocol::Tcp,
        host_port: None,
        host_ip: None,
    }];
    let mut busybox = container("busybox");
    busybox.image = Image::Host;
    busybox.env = vec![env("GREETING", "hello\u{1b}[31m")];
    busybox.command = vec!["/bin/busybox".into(), "echo".into(), "$(GREETING)".into()];
    busybox.security_context.run_as_user = Some(33);
    busybox.security_context.capabilities_drop = vec!["ALL".into()];
    busybox.security_context.read_only_root_filesystem = true;
    busybox.volume_mounts = vec![mounted("log", "/log")];
    let mut pod = pod(vec![nginx, busybox]);
    pod.metadata.labels.insert("app".into(), "web".into());
    pod.spec.share_process_namespace = true;
    pod.spec.volumes = vec![
        volume("log", VolumeSource::EmptyDirDisk { size_limit: None }),
        volume("html", VolumeSource::EmptyDirMemory { size_limit: Some(3 << 20) }),
    ];
    expect_text("nginx-busybox.txt", &planned(&pod));
}

#[test]
fn everything_that_can_be_degraded() {
    let mut facts = facts_for_tests();
    facts.newuidmap = IdMapTool::Missing;
    facts.overlay = OverlaySupport::Missing { why: "Linux 5.10".into() };
    facts.procfs = ProcVisibility::Masked { by: vec!["/proc/kcore".into()] };
    facts.runtime_dir.fallback = Some("XDG_RUNTIME_DIR is not set".into());
    let mut only = container("only");
    only.volume_mounts = vec![mounted("src", "/src")];
    let mut pod = pod(vec![only]);
    pod.spec.host_network = true;
    pod.spec.volumes = vec![volume("src", host_path("/home/alice/my src"))];
    expect_text("degraded.txt", &plan_on(&pod, &facts).unwrap());
}

#[test]
fn limits_and_requests_of_two_levels() {
    let mut pod = pod(vec![sized("app", "cpu=500m memory=256Mi", "cpu=250m"), sized("sidecar", "memory=128Mi", "")]);
    pod.spec.resources = resources("cpu=1", "memory=512Mi");
    pod.spec.containers[0].resources.limits.ephemeral_storage = Some(1 << 30);
    pod.spec.volumes = vec![volume("cache", VolumeSource::EmptyDirDisk { size_limit: Some(64 << 20) })];
    pod.metadata.annotations.insert("sandpod.dev/pids-limit".into(), "max".into());
    expect_text("limits.txt", &planned(&pod));
}

#[test]
fn an_open_loopback_is_shown_with_each_address_also_where_it_is_joined() {
    let mut facts = facts_for_tests();
    facts.network.ipv6 = Ipv6Routes::Default;
    facts.network.pasta = Some("/usr/bin/pasta".into());
    let web = pod(vec![container("a")]);
    let plan = |request: &Request| crate::plan::plan(&web, &facts, request).expect("a plan");
    for (choice, six) in
        [(NetworkChoice::Slirp4netns, "of ::1, as fd00::2"), (NetworkChoice::Pasta, "of ::1, as the router's address")]
    {
        let open = plan(&Request { network: Some(choice), host_loopback: HostLoopback::Open, ..request() });
        let network = Box::new(open.sandbox.network.clone());
        let joined = Joined { id: "0".into(), name: "web".into(), pause: (1, 1), network };
        let join = Join { joined, idmap: open.sandbox.idmap.clone(), host_pid: false, host_paths: Vec::new() };
        for plan in [open, plan(&Request { join: Some(join), ..request() })] {
            let text = Text(&plan).to_string();
            assert!(text.contains("REACHABLE") && text.contains("127.0.0.1 here, as 10.0.2.2\n"), "{text}");
            assert!(text.contains(six), "{text}");
        }
    }
}
