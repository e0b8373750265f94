//! Manifests that must be accepted, and what they become.

// A test reads its own fixtures.
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandpod::manifest::{self, *};

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/good-manifests").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn accepted(name: &str) -> Pod {
    manifest::parse(&text(name), name).unwrap_or_else(|errors| panic!("{:#?}", errors.into_report()))
}

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

#[test]
fn every_field_arrives() {
    let pod = accepted("every-field.yaml");
    assert_eq!(pod.metadata.name, "every.field");
    assert_eq!(pod.metadata.namespace.as_deref(), Some("team-a"));
    assert_eq!(pod.metadata.labels["app.kubernetes.io/name"], "web");
    assert_eq!(pod.metadata.labels["tier"], "");
    assert_eq!(pod.metadata.annotations["example.com/note"], "any text: ä\n");
    assert_eq!(pod.metadata.annotations["sandpod.dev/userns"], "root-is-you");
    assert_eq!(pod.metadata.annotations["sandpod.dev/pids-limit"], "512");
    assert_eq!(pod.metadata.annotations["sandpod.dev/swap"], "limited");

    let spec = pod.spec;
    assert_eq!(spec.restart_policy, RestartPolicy::OnFailure);
    assert_eq!(spec.termination_grace_period, Duration::from_secs(5));
    assert_eq!((spec.share_process_namespace, spec.host_pid), (true, false));
    assert_eq!((spec.host_network, spec.host_ipc), (false, false));
    assert_eq!(spec.hostname.as_deref(), Some("web-1"));
    let security = PodSecurityContext {
        run_as_user: Some(1000),
        run_as_group: Some(1001),
        run_as_non_root: Some(true),
        sysctls: every_sysctl(),
    };
    assert_eq!(spec.security_context, security);
    assert_eq!((spec.subdomain.as_deref(), spec.set_hostname_as_fqdn), (Some("db"), true));
    let alias = |ip: &str, names: &[&str]| HostAlias { ip: ip.parse().unwrap(), hostnames: strings(names) };
    assert_eq!(spec.host_aliases, [alias("192.0.2.7", &["cache", "cache.example.org"]), alias("2001:db8::7", &[])]);
    assert_eq!(spec.dns_policy, DnsPolicy::None);
    let option = |name: &str, value: Option<&str>| DnsOption { name: name.into(), value: value.map(str::to_owned) };
    let dns = DnsConfig {
        nameservers: vec!["192.0.2.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
        searches: strings(&["example.org", "_tcp.example.org.", "."]),
        options: vec![option("ndots", Some("2")), option("edns0", None)],
    };
    assert_eq!(spec.dns_config, dns);
    assert_eq!(spec.volumes, every_volume());
    assert_eq!(spec.resources, Resources { limits: amounts(2000, 2 << 30), requests: amounts(500, 1 << 30) });
    assert_eq!(spec.containers, [every_container_field(), bare_container("side")]);
}

fn every_volume() -> Vec<Volume> {
    let volume = |name: &str, source| Volume { name: name.to_owned(), source };
    let host = |path, kind| VolumeSource::HostPath { path: PathBuf::from(path), kind };
    vec![
        volume("html", VolumeSource::EmptyDirDisk { size_limit: Some(64 << 20) }),
        volume("cache", VolumeSource::EmptyDirMemory { size_limit: Some(1_572_864) }),
        volume("unlimited", VolumeSource::EmptyDirMemory { size_limit: None }),
        volume("implied", VolumeSource::EmptyDirDisk { size_limit: None }),
        volume("etc", host("/etc", HostPathType::Directory)),
        volume("unchecked", host("/var/log", HostPathType::Unchecked)),
    ]
}

fn every_container_field() -> Container {
    let env = |name: &str, value: &str| EnvVar { name: name.to_owned(), value: EnvValue::Text(value.to_owned()) };
    let mount = |name: &str, path: &str, read_only| VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
    };
    Container {
        name: "web".to_owned(),
        image: Image::Host,
        image_pull_policy: PullPolicy::Never,
        command: strings(&["nginx", "-g", "daemon off;"]),
        args: strings(&["$(HOME)", "--port=$(PORT)"]),
        working_dir: Some("/srv/www/./html/".to_owned()),
        env: [vec![env("PORT", "8080"), env("EMPTY", ""), env("my.var", "$(PORT)")], downward()].concat(),
        stdin: true,
        stdin_once: true,
        tty: true,
        volume_mounts: vec![
            mount("html", "/srv/www", false),
            mount("cache", "/cache", true),
            mount("etc", "/host/etc", false),
        ],
        ports: vec![
            ContainerPort {
                name: None,
                container_port: 80,
                protocol: Protocol::Tcp,
                host_port: Some(8880),
                host_ip: Some([127, 0, 0, 1].into()),
            },
            ContainerPort {
                name: Some("dns".to_owned()),
                container_port: 53,
                protocol: Protocol::Udp,
                host_port: None,
                host_ip: None,
            },
        ],
        security_context: ContainerSecurityContext {
            run_as_user: Some(0),
            run_as_group: Some(0),
            run_as_non_root: Some(false),
            read_only_root_filesystem: true,
            allow_privilege_escalation: Some(true),
            capabilities_add: strings(&["NET_ADMIN", "SYS_TIME"]),
            capabilities_drop: strings(&["ALL"]),
        },
        resources: every_amount(),
        termination_message_path: "/var/last-words".to_owned(),
        termination_message_policy: TerminationMessagePolicy::FallbackToLogsOnError,
    }
}

/// Variables from fields of the pod.
fn downward() -> Vec<EnvVar> {
    let env = |name: &str, value| EnvVar { name: name.to_owned(), value };
    let amount = |container: Option<&str>, role, resource, divisor| {
        EnvValue::Resource(ResourceField { container: container.map(str::to_owned), role, resource, divisor })
    };
    vec![
        env("NAME", EnvValue::Field(PodField::Name)),
        env("NAMESPACE", EnvValue::Field(PodField::Namespace)),
        env("UID", EnvValue::Field(PodField::Uid)),
        env("LABEL", EnvValue::Field(PodField::Label("app.kubernetes.io/name".to_owned()))),
        env("ANNOTATION", EnvValue::Field(PodField::Annotation("example.com/note".to_owned()))),
        env("NODE", EnvValue::Field(PodField::NodeName)),
        env("IP", EnvValue::Field(PodField::PodIp)),
        env("IPS", EnvValue::Field(PodField::PodIps)),
        env("CPUS", amount(None, Role::Limit, Resource::Cpu, 1000)),
        env("MILLIS", amount(Some("side"), Role::Request, Resource::Cpu, 1)),
        env("MEMORY", amount(Some("web"), Role::Limit, Resource::Memory, 1 << 20)),
        env("DISK", amount(None, Role::Limit, Resource::EphemeralStorage, 1 << 20)),
        env("HUGE", amount(None, Role::Request, Resource::HugePages(2 << 20), 1)),
    ]
}

fn every_sysctl() -> Vec<Sysctl> {
    let sysctl = |name: &str, file: &str, namespace, value: &str| Sysctl {
        name: name.to_owned(),
        file: file.into(),
        namespace,
        value: value.to_owned(),
    };
    vec![
        sysctl("net.ipv4.tcp_syncookies", "net/ipv4/tcp_syncookies", SysctlNamespace::Network, "0"),
        sysctl("kernel/msgmax", "kernel/msgmax", SysctlNamespace::Ipc, "4096"),
    ]
}

#[test]
fn the_hosts_namespaces_arrive() {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {hostNetwork: true, hostIPC: true, containers: \
                [{name: a, image: 'host:', ports: [{containerPort: 8080, hostPort: 8080}, {containerPort: 80}]}]}}";
    let spec = manifest::parse(text, "x").unwrap_or_else(|errors| panic!("{:#?}", errors.into_report())).spec;
    assert_eq!((spec.host_network, spec.host_ipc), (true, true));
    assert_eq!(spec.containers[0].ports[0].host_port, Some(8080));
    assert_eq!((spec.dns_policy, spec.dns_config), (DnsPolicy::Default, DnsConfig::default()));
}

fn every_amount() -> Resources {
    let mut resources = Resources::default();
    let Resources { limits, requests } = &mut resources;
    *limits = amounts(1500, 3 << 29);
    limits.ephemeral_storage = Some(2 << 30);
    limits.hugepages = [(2 << 20, 4 << 20), (1 << 30, 0)].into();
    *requests = amounts(250, 64_000_000);
    requests.ephemeral_storage = Some(1_000_000_000);
    requests.hugepages = [(2 << 20, 4 << 20)].into();
    resources
}

fn amounts(cpu_millis: u64, memory: u64) -> Amounts {
    Amounts { cpu_millis: Some(cpu_millis), memory: Some(memory), ..Amounts::default() }
}

fn bare_container(name: &str) -> Container {
    Container {
        name: name.to_owned(),
        image: Image::Rootfs(PathBuf::from("/srv/alpine")),
        image_pull_policy: PullPolicy::Never,
        command: vec![],
        args: vec![],
        working_dir: None,
        env: vec![],
        stdin: false,
        stdin_once: false,
        tty: false,
        volume_mounts: vec![],
        ports: vec![],
        security_context: ContainerSecurityContext::default(),
        resources: Resources::default(),
        termination_message_path: "/dev/termination-log".to_owned(),
        termination_message_policy: TerminationMessagePolicy::File,
    }
}

#[test]
fn the_manifest_of_every_field_is_complete() {
    let text = text("every-field.yaml");
    let missing: Vec<String> = manifest::supported_fields()
        .filter(|path| {
            let name = path.rsplit('.').next().unwrap();
            !text.contains(&format!("{name}:"))
        })
        .collect();
    assert!(missing.is_empty(), "supported, but not in every-field.yaml: {missing:?}");
}

#[test]
fn values_that_say_what_is_so_anyway_change_nothing() {
    assert_eq!(accepted("nothing-asked.yaml"), accepted("nothing-asked-short.yaml"));
    let text = text("nothing-asked.yaml");
    let missing: Vec<String> =
        manifest::accepted_values().map(|(path, _)| path).filter(|path| !names(&text, path)).collect();
    assert!(missing.is_empty(), "accepted without effect, but not in nothing-asked.yaml: {missing:?}");
}

fn names(text: &str, path: &str) -> bool {
    text.contains(&format!("{}:", path.rsplit('.').next().unwrap()))
}

/// The page says which values are accepted and of which fields.
#[test]
fn the_page_lists_what_is_accepted_without_effect() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/manifest.md");
    let page = std::fs::read_to_string(page).unwrap();
    let row = |path: &str, values: &str| {
        let name = path.rsplit('.').next().unwrap();
        let named = |line: &str| [format!("`{name}`"), format!(".{name}`")].iter().any(|it| line.contains(it));
        page.lines().any(|line| named(line) && values.split(" or ").all(|it| line.contains(it)))
    };
    let missing: Vec<_> = manifest::accepted_values().filter(|(path, values)| !row(path, values)).collect();
    assert!(missing.is_empty(), "not in docs/manifest.md: {missing:#?}");
}

fn with_spec(spec: &str) -> Result<Pod, Vec<String>> {
    let text = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{{spec} containers: [{{name: a, image: 'host:'}}]}}}}"
    );
    manifest::parse(&text, "x").map_err(|errors| errors.into_report().chain)
}

#[test]
fn a_service_account_token_is_asked_for_by_true_alone() {
    assert!(with_spec("automountServiceAccountToken: false,").is_ok());
    assert!(with_spec("automountServiceAccountToken: true,").is_err());
}

/// A pod has a user namespace whether it asks or not.
#[test]
fn host_users_says_nothing_new_unless_it_contradicts() {
    assert_eq!(with_spec("hostUsers: false,"), with_spec(""));
    assert_eq!(with_spec("hostUsers: true,"), with_spec(""));
    assert_eq!(with_spec("hostUsers: true, hostNetwork: true,"), with_spec("hostNetwork: true,"));
    for shared in ["hostNetwork", "hostIPC", "hostPID"] {
        let chain = with_spec(&format!("hostUsers: false, {shared}: true,")).unwrap_err();
        assert!(chain[0].contains(&format!("must not be false together with {shared}")), "{chain:?}");
    }
}

#[test]
fn labels_have_the_keys_that_kubectl_makes() {
    let text = |labels: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a, labels: {labels}}}, spec: {{containers: [{{name: a, image: \
             'host:'}}]}}}}"
        )
    };
    let keys = |labels: &str| {
        let pod = manifest::parse(&text(labels), "x").unwrap_or_else(|errors| panic!("{:?}", errors.into_report()));
        pod.metadata.labels.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(keys("{1: a, 0x10: b, 010: c, true: d, 1.50: e}"), ["1", "1.5", "16", "8", "true"]);
    let chain = manifest::parse(&text("{1: a, 0x1: b}"), "x").unwrap_err().into_report().chain;
    assert!(chain[0].contains("the key `1` is already used"), "{chain:?}");
}

#[test]
fn a_list_of_one_is_that_one() {
    let pod = accepted("list-of-one.yaml");
    assert_eq!(pod.metadata.name, "listed");
    let bytes = text("list-of-one.yaml");
    let at = manifest::position(bytes.as_bytes(), "spec.containers[0].name").unwrap();
    assert_eq!((at.line, at.column), (11, 13));
}

#[test]
fn a_name_can_be_left_to_be_made() {
    let pod = accepted("generate-name.yaml");
    assert_eq!((pod.metadata.name.as_str(), pod.metadata.generate_name.as_deref()), ("", Some("job-")));
}

#[test]
fn single_quotes_can_be_escaped_as_for_kubectl() {
    assert_eq!(
        accepted("escaped-single-quote.yaml").spec.containers[0].command,
        ["sh", "-c", "echo 'it''s'; echo \\'"]
    );
}

#[test]
fn defaults_are_those_of_kubernetes() {
    let pod = accepted("as-kubectl-prints.json");
    assert_eq!(pod.spec.restart_policy, RestartPolicy::Never);
    assert_eq!(pod.spec.termination_grace_period, Duration::from_secs(30));
    assert!(!pod.spec.share_process_namespace && !pod.spec.host_network && !pod.spec.host_ipc && !pod.spec.host_pid);
    assert_eq!(pod.spec.containers[0].args, ["hi"]);

    let without_policy =
        text("as-kubectl-prints.json").replace("\"restartPolicy\": \"Never\"", "\"restartPolicy\": null");
    let pod = manifest::parse(&without_policy, "x").unwrap();
    assert_eq!(pod.spec.restart_policy, RestartPolicy::Always);
}

#[test]
fn what_kubernetes_accepts_of_resources_is_accepted() {
    let with = |resources: &str| {
        let pod = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [{{name: a, image: 'host:', \
             resources: {resources}}}]}}}}"
        );
        let pod =
            manifest::parse(&pod, "x").unwrap_or_else(|errors| panic!("{resources}: {:#?}", errors.into_report()));
        pod.spec.containers[0].resources.clone()
    };
    for empty in ["{}", "null", "{limits: {}, requests: null}"] {
        assert_eq!(with(empty), Resources::default(), "{empty}");
    }
    // A request of nothing is not the limit.
    assert_eq!(with("{limits: {cpu: 1}, requests: {cpu: 0}}").request(Resource::Cpu), Some(0));
    assert_eq!(with("{limits: {cpu: 1}}").request(Resource::Cpu), Some(1000));
    for (written, bytes) in [("1e3", 1000), ("64Mi", 64 << 20), ("0.5Gi", 1 << 29), ("'128974848'", 128_974_848)] {
        assert_eq!(with(&format!("{{requests: {{memory: {written}}}}}")).requests.memory, Some(bytes), "{written}");
    }
}

/// Kubernetes' defaults (SetDefaults_Container), and what overrides them.
#[test]
fn images_and_when_they_are_pulled() {
    let read = |fields: &str| {
        let text = format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: a}}, spec: {{containers: [{{name: a, {fields}}}]}}}}"
        );
        let container = manifest::parse(&text, "a.yaml").expect("valid").spec.containers.remove(0);
        (container.image.to_string(), container.image_pull_policy)
    };
    let digest = format!("sha256:{}", "a".repeat(64));
    for (fields, image, policy) in [
        ("image: nginx", "docker.io/library/nginx:latest", PullPolicy::Always),
        ("image: nginx:latest", "docker.io/library/nginx:latest", PullPolicy::Always),
        ("image: nginx:1.25", "docker.io/library/nginx:1.25", PullPolicy::IfNotPresent),
        (&format!("image: nginx@{digest}"), &format!("docker.io/library/nginx@{digest}"), PullPolicy::IfNotPresent),
        ("image: nginx, imagePullPolicy: Never", "docker.io/library/nginx:latest", PullPolicy::Never),
        ("image: nginx:1.25, imagePullPolicy: Always", "docker.io/library/nginx:1.25", PullPolicy::Always),
        ("image: nginx:1.25, imagePullPolicy: \"\"", "docker.io/library/nginx:1.25", PullPolicy::IfNotPresent),
        ("image: \"docker://localhost:5000/a\"", "localhost:5000/a:latest", PullPolicy::Always),
        ("image: \"oci:/srv//images/./nginx:v1\"", "oci:/srv/images/nginx:v1", PullPolicy::Always),
        (
            "image: \"oci-archive:/srv/a.tar\", imagePullPolicy: IfNotPresent",
            "oci-archive:/srv/a.tar",
            PullPolicy::IfNotPresent,
        ),
        ("image: \"docker-archive:/srv/a.tar:nginx:1.25\"", "docker-archive:/srv/a.tar:nginx:1.25", PullPolicy::Always),
        ("image: \"host:\", imagePullPolicy: Always", "host:", PullPolicy::Never),
    ] {
        assert_eq!(read(fields), (image.to_owned(), policy), "{fields}");
    }
}

/// Of an image it is known later who it runs as, and what takes its arguments.
#[test]
fn rules_that_need_the_image_wait_for_it() {
    let text = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {securityContext: {runAsNonRoot: true}, \
                containers: [{name: a, image: nginx, args: [-v]}]}}";
    let container = manifest::parse(text, "a.yaml").expect("valid").spec.containers.remove(0);
    assert_eq!((container.command, container.args), (vec![], vec!["-v".to_owned()]));
}
