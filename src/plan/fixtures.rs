//! A usual host and usual pods, for the plan's own tests. A test changes what it is about.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::idmap::UsernsChoice;
use super::network::HostLoopback;
use super::{Admission, AskedIn, CgroupsChoice, PodPlan, Request, UnknownImages};
use crate::host::{
    Capacity, CgroupFacts, Confinement, Delegation, Dir, Facts, HostRoot, HostRootDir, HostUser, IdMapTool, Ipv6Routes,
    LayerFacts, MapLine, Membership, NetworkFacts, OverlaySupport, OwnIdMap, ProcVisibility, RootfsFact, SubIdRange,
    Tun, UdpSockets, UserNamespaces,
};
use crate::image::compression::Compression;
use crate::image::platform::Platform;
use crate::image::{Digest, ImageConfig, StoredImage, StoredLayer};
use crate::manifest::{
    Amounts, Container, ContainerSecurityContext, DnsConfig, DnsPolicy, EnvValue, EnvVar, Image, Metadata, Pod,
    PodSecurityContext, PodSpec, PullPolicy, Resource, Resources, RestartPolicy, Role, TerminationMessagePolicy,
    Volume, VolumeMount, VolumeSource,
};
use crate::report::Report;

pub(super) const ROOTFS: &str = "/srv/debian";

/// Debian 12, alice with one range of each kind, everything allowed; `/srv/debian` belongs to somebody else.
pub(super) fn facts_for_tests() -> Facts {
    let initial = vec![MapLine { inside: 0, outside: 0, count: u32::MAX }];
    let range = vec![SubIdRange { start: 100_000, count: 65536 }];
    Facts {
        user: HostUser { uid: 1000, gid: 1001, name: Some("alice".into()) },
        own_map: OwnIdMap { uids: initial.clone(), gids: initial },
        subuids: range.clone(),
        subgids: range,
        newuidmap: IdMapTool::Privileged("/usr/bin/newuidmap".into()),
        newgidmap: IdMapTool::Privileged("/usr/bin/newgidmap".into()),
        may_write_maps: false,
        user_namespaces: UserNamespaces::Allowed,
        confinement: Confinement::default(),
        overlay: OverlaySupport::Native,
        procfs: ProcVisibility::Full,
        procfs_points: vec!["/proc".into()],
        sysfs: ProcVisibility::Full,
        runtime_dir: Dir { path: "/run/user/1000/sandpod".into(), fallback: None },
        data_dir: Dir { path: "/home/alice/.local/share/sandpod".into(), fallback: None },
        layers: LayerFacts::default(),
        kernel: (6, 1),
        hostname: "workstation".into(),
        stack_limit: Some(8 << 20),
        unprivileged_port_start: 1024,
        mqueue: true,
        hosts: "127.0.0.1\tlocalhost\n".into(),
        resolv_conf: "nameserver 192.0.2.1\n".into(),
        cgroup: delegated("cpu memory pids"),
        network: NetworkFacts {
            slirp4netns: Some("/usr/bin/slirp4netns".into()),
            pasta: None,
            pasta_udp: UdpSockets::Connected,
            tun: Tun::Usable,
            ipv4_routes: Vec::new(),
            ipv6: Ipv6Routes::None,
            policies: true,
        },
        host_root: Some(HostRoot {
            links: vec![("bin".into(), "usr/bin".into()), ("lib".into(), "usr/lib".into())],
            dirs: ["usr", "etc"]
                .map(|name| HostRootDir { name: name.into(), mounts_below: Vec::new(), too_deep: false })
                .into(),
            var_dirs: vec!["lib/nginx".into(), "log".into(), "run".into()],
        }),
        rootfs: vec![RootfsFact {
            dir: ROOTFS.into(),
            owner: Some(0),
            error: None,
            mounts_below: Vec::new(),
            too_deep: false,
        }],
        warnings: Vec::new(),
    }
}

pub(super) const DELEGATED: &str = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice/shell.scope";

/// A cgroup of the user's systemd that sandpod is in, on a host of 4 cpus with 8 GiB, 6 of them available.
pub(super) fn delegated(controllers: &str) -> CgroupFacts {
    CgroupFacts {
        own: Some(DELEGATED.into()),
        delegation: Delegation::Directory {
            path: DELEGATED.into(),
            controllers: controllers.split_whitespace().map(str::to_owned).collect(),
            ours: Membership::Inside,
        },
        capacity: Capacity {
            cpu_millis: 4000,
            memory_available: Some(6 << 30),
            memory_total: Some(8 << 30),
            swap_total: Some(2 << 30),
            ancestors: Vec::new(),
        },
        ..CgroupFacts::default()
    }
}

pub(super) fn request() -> Request {
    Request {
        id: "0123456789ab".into(),
        name: None,
        userns: UsernsChoice::Auto,
        cgroups: CgroupsChoice::Auto,
        admission: Admission::Checked { others: Vec::new() },
        asked_in: AskedIn::Manifest,
        network: None,
        join: None,
        host_loopback: HostLoopback::Closed,
        publish: Vec::new(),
        images: BTreeMap::new(),
        unknown_images: UnknownImages::Refused,
        images_dir: "/home/alice/.local/share/sandpod/images".into(),
    }
}

pub(super) const IMAGE: &str = "docker.io/library/nginx:1.25";

/// A container of [`IMAGE`] with no command of its own.
pub(super) fn of_nginx() -> Container {
    let source = crate::manifest::ImageSource::parse(IMAGE).expect("a reference");
    Container { image: Image::Stored(source), command: Vec::new(), ..container("web") }
}

/// An image of two layers.
pub(super) fn stored_image(config: ImageConfig) -> StoredImage {
    let layer = |diff_id: &[u8]| StoredLayer {
        blob: Digest::of(b"blob"),
        size: 4,
        compression: Compression::Gzip,
        diff_id: Digest::of(diff_id),
    };
    StoredImage {
        manifest: Digest::of(b"manifest"),
        config_digest: Digest::of(b"config"),
        platform: Platform::parse("linux/amd64").expect("a platform"),
        config,
        layers: vec![layer(b"lower"), layer(b"upper")],
    }
}

/// The request for pods of [`IMAGE`], where that has this configuration.
pub(super) fn request_with(config: ImageConfig) -> Request {
    Request { images: BTreeMap::from([(IMAGE.to_owned(), stored_image(config))]), ..request() }
}

pub(super) fn container(name: &str) -> Container {
    Container {
        name: name.into(),
        image: Image::Rootfs(ROOTFS.into()),
        image_pull_policy: PullPolicy::Never,
        command: vec!["/bin/true".into()],
        args: Vec::new(),
        working_dir: None,
        env: Vec::new(),
        stdin: false,
        stdin_once: false,
        tty: false,
        volume_mounts: Vec::new(),
        ports: Vec::new(),
        security_context: ContainerSecurityContext::default(),
        resources: Resources::default(),
        termination_message_path: Container::TERMINATION_MESSAGE_PATH.to_owned(),
        termination_message_policy: TerminationMessagePolicy::File,
    }
}

/// Of `cpu=500m memory=64Mi`.
pub(super) fn amounts(text: &str) -> Amounts {
    let mut amounts = Amounts::default();
    for entry in text.split_whitespace() {
        let (name, amount) = entry.split_once('=').expect("name=amount");
        let resource = match name {
            "cpu" => Resource::Cpu,
            "memory" => Resource::Memory,
            "ephemeral-storage" => Resource::EphemeralStorage,
            "hugepages-2Mi" => Resource::HugePages(2 << 20),
            other => panic!("{other}?"),
        };
        amounts.set(resource, crate::manifest::amount(resource, Role::Request, amount).expect("an amount"));
    }
    amounts
}

pub(super) fn resources(limits: &str, requests: &str) -> Resources {
    Resources { limits: amounts(limits), requests: amounts(requests) }
}

/// A container with these limits and requests.
pub(super) fn sized(name: &str, limits: &str, requests: &str) -> Container {
    Container { resources: resources(limits, requests), ..container(name) }
}

pub(super) fn pod(containers: Vec<Container>) -> Pod {
    Pod {
        metadata: Metadata {
            name: "web".into(),
            generate_name: None,
            namespace: None,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        },
        spec: PodSpec {
            containers,
            volumes: Vec::new(),
            restart_policy: RestartPolicy::Always,
            termination_grace_period: Duration::from_secs(30),
            share_process_namespace: false,
            host_network: false,
            host_ipc: false,
            host_pid: false,
            hostname: None,
            subdomain: None,
            set_hostname_as_fqdn: false,
            host_aliases: Vec::new(),
            dns_policy: DnsPolicy::Default,
            dns_config: DnsConfig::default(),
            security_context: PodSecurityContext::default(),
            resources: Resources::default(),
        },
    }
}

pub(super) fn env(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.into(), value: EnvValue::Text(value.into()) }
}

pub(super) fn volume(name: &str, source: VolumeSource) -> Volume {
    Volume { name: name.into(), source }
}

pub(super) fn host_path(path: &str) -> VolumeSource {
    VolumeSource::HostPath { path: PathBuf::from(path), kind: crate::manifest::HostPathType::Unchecked }
}

pub(super) fn mounted(name: &str, mount_path: &str) -> VolumeMount {
    VolumeMount { name: name.into(), mount_path: mount_path.into(), read_only: false }
}

pub(super) fn plan_on(pod: &Pod, facts: &Facts) -> Result<PodPlan, Report> {
    super::plan(pod, facts, &request())
}

/// The plan on the usual host.
pub(super) fn planned(pod: &Pod) -> PodPlan {
    plan_on(pod, &facts_for_tests()).expect("the usual host can run it")
}

/// The refusal on the usual host.
pub(super) fn refused(pod: &Pod) -> Report {
    plan_on(pod, &facts_for_tests()).expect_err("it should be refused")
}
