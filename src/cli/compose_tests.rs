use super::*;

#[test]
fn a_generated_name_is_as_the_api_server_makes_it() {
    assert_eq!(generated_name("job-", 0), "job-bbbbb");
    assert_eq!(generated_name("job-", 26 + 27), "job-9cbbb");
    assert_eq!(generated_name(&"x".repeat(100), u64::MAX).len(), 63);
}

fn asked() -> SingleArguments {
    SingleArguments {
        image: Some("host:".to_owned()),
        volumes: Vec::new(),
        env: Vec::new(),
        workdir: None,
        user: None,
        memory: None,
        cpus: None,
        pids_limit: None,
        entrypoint: None,
        interactive: false,
        tty: false,
        command: vec!["echo".to_owned(), "$(HOME) $$".to_owned()],
    }
}

#[test]
fn one_container_that_is_never_restarted() {
    let pod = pod(&asked(), None).expect("a pod");
    assert!(pod.metadata.name.starts_with("sandpod-") && pod.metadata.name.len() == 16, "{}", pod.metadata.name);
    assert_eq!(pod.spec.restart_policy, RestartPolicy::Never);
    // What the manifest would expand stays as it was typed.
    assert_eq!(pod.spec.containers[0].command, ["echo", "$$(HOME) $$$$"]);
}

#[test]
fn an_entrypoint_comes_before_the_command() {
    let pod = pod(&SingleArguments { entrypoint: Some("/bin/$(X)".to_owned()), ..asked() }, None).expect("a pod");
    let Container { command, args, .. } = &pod.spec.containers[0];
    assert_eq!([command.as_slice(), args].concat(), ["/bin/$$(X)", "echo", "$$(HOME) $$$$"]);
}

#[test]
fn volumes_become_absolute_and_exist() {
    let volumes = vec![".:/src".to_owned(), "/etc/../etc:/conf:ro".to_owned()];
    let pod = pod(&SingleArguments { volumes, ..asked() }, Some("x")).expect("a pod");
    let VolumeSource::HostPath { path, .. } = &pod.spec.volumes[0].source else { panic!("a host path") };
    assert!(path.is_absolute());
    assert!(matches!(&pod.spec.volumes[1].source, VolumeSource::HostPath { path, .. } if path == Path::new("/etc")));
    assert!(pod.spec.containers[0].volume_mounts[1].read_only);
}

#[test]
fn limits_are_quantities() {
    let asked = SingleArguments {
        memory: Some("512Mi".to_owned()),
        cpus: Some("0.5".to_owned()),
        pids_limit: Some("100".to_owned()),
        ..asked()
    };
    let pod = pod(&asked, None).expect("a pod");
    let limits = &pod.spec.containers[0].resources.limits;
    assert_eq!((limits.memory, limits.cpu_millis), (Some(512 << 20), Some(500)));
    assert_eq!(pod.metadata.annotations["sandpod.dev/pids-limit"], "100");
}

#[test]
fn bad_words_are_bad_usage() {
    let volume = |text: &str| SingleArguments { volumes: vec![text.to_owned()], ..asked() };
    let user = |text: &str| SingleArguments { user: Some(text.to_owned()), ..asked() };
    let env = |text: &str| SingleArguments { env: vec![text.to_owned()], ..asked() };
    let image = |text: &str| SingleArguments { image: Some(text.to_owned()), ..asked() };
    for wrong in [
        volume("/etc"),
        volume("/etc:relative"),
        volume("/etc:/a/../b"),
        volume("/etc:/a:rx"),
        volume("/no/such/path:/a"),
        volume(":/a"),
        user("root"),
        user("4294967295"),
        user("1:"),
        env("=x"),
        env("SANDPOD_IS_NOT_SET"),
        image("Nginx"),
        SingleArguments { memory: Some("64".to_owned()), ..asked() },
        SingleArguments { memory: Some("512MB".to_owned()), ..asked() },
        SingleArguments { cpus: Some("0".to_owned()), ..asked() },
        SingleArguments { cpus: Some("-1".to_owned()), ..asked() },
        SingleArguments { pids_limit: Some("-1".to_owned()), ..asked() },
        image("rootfs:/no/such/dir"),
        SingleArguments { volumes: vec!["/etc:/a".to_owned(), "/usr:/a/".to_owned()], ..asked() },
        SingleArguments { workdir: Some("x".to_owned()), ..asked() },
    ] {
        let report = pod(&wrong, None).expect_err(&format!("{wrong:?}"));
        assert_eq!(report.exit_code, exit_code::USAGE, "{report:?}");
    }
}

#[test]
fn names_are_dns_subdomains() {
    for good in ["web", "web-1", "a.b", "0"] {
        assert!(check_name(good).is_ok(), "{good}");
    }
    for bad in ["", "Web", "-a", "a-", "a..b", "a_b", "a/b", &"x".repeat(254)] {
        assert!(check_name(bad).is_err(), "{bad}");
    }
}
