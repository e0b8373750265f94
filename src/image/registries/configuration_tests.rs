//! registries.conf(5): its own examples, and what containers/image does with them.

use std::fs;
use std::path::Path;

use super::*;
use crate::manifest::image_reference;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// A home and an `/etc` with some files in them.
struct Machine {
    directory: tempfile::TempDir,
    variables: Vec<(String, String)>,
}

impl Machine {
    fn new(files: &[(&str, &str)]) -> Machine {
        let directory = tempfile::tempdir().expect("a directory");
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            fs::write(path, text).expect("write");
        }
        let home = directory.path().join("home").to_str().expect("UTF-8").to_owned();
        Machine { variables: vec![("HOME".to_owned(), home)], directory }
    }

    fn with(mut self, name: &str, value: &str) -> Machine {
        let value = value.replace('@', self.path().to_str().expect("UTF-8"));
        self.variables.push((name.to_owned(), value));
        self
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn load(&self) -> Result<Configuration, Unreadable> {
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Configuration::load(&Environment::new(&variables, &self.path().join("etc")))
    }

    fn loaded(&self) -> Configuration {
        let configuration = self.load().expect("readable");
        assert_eq!(configuration.warnings, Vec::<String>::new());
        configuration
    }
}

/// A machine with nothing but a system-wide file.
fn conf(text: &str) -> Machine {
    Machine::new(&[("etc/containers/registries.conf", text)])
}

/// `host/repository:reference`, with `!` where the registry is insecure.
fn asked(configuration: &Configuration, typed: &str) -> Vec<String> {
    let reference = image_reference::parse(typed).expect("a reference");
    let endpoints = configuration.endpoints(&reference).expect("endpoints");
    let shown = |it: Endpoint| {
        let mark = if it.trust == Trust::Insecure { "!" } else { "" };
        format!("{mark}{}/{} {}", it.host, it.repository, it.reference)
    };
    endpoints.into_iter().map(shown).collect()
}

fn candidates(configuration: &Configuration, typed: &str) -> Vec<String> {
    let reference = image_reference::parse(typed).expect("a reference");
    let found = configuration.candidates(&reference).expect("candidates");
    assert!(found.iter().all(|it| it.short_name.is_none()) || found == [reference], "each is complete");
    found.iter().map(ToString::to_string).collect()
}

#[test]
fn without_files_there_is_docker_io_alone() {
    let configuration = Machine::new(&[]).loaded();
    assert_eq!(asked(&configuration, "nginx"), ["docker.io/library/nginx latest"]);
    assert_eq!(asked(&configuration, &format!("quay.io/a/b:1@{DIGEST}")), [format!("quay.io/a/b {DIGEST}")]);
    assert_eq!(candidates(&configuration, "nginx:1"), ["docker.io/library/nginx:1"]);
    assert_eq!(candidates(&configuration, "quay.io/a"), ["quay.io/a:latest"]);
}

/// What the tutorials need: docker.io is a registry on this machine.
#[test]
fn mirrors_come_in_order_and_the_registry_last() {
    let configuration = conf(
        r#"
        [[registry]]
        prefix = "docker.io"
        location = "docker.io"
        [[registry.mirror]]
        location = "localhost:5000"
        insecure = true
        [[registry.mirror]]
        location = "mirror.example/hub"
        "#,
    )
    .loaded();
    assert_eq!(
        asked(&configuration, "nginx:1"),
        ["!localhost:5000/library/nginx 1", "mirror.example/hub/library/nginx 1", "docker.io/library/nginx 1"]
    );
    assert_eq!(asked(&configuration, "quay.io/a"), ["quay.io/a latest"]);
}

#[test]
fn mirrors_may_serve_digests_or_tags_alone() {
    let configuration = conf(
        r#"
        [[registry]]
        location = "a.example"
        mirror-by-digest-only = true
        mirror = [{ location = "m.example" }]
        [[registry]]
        location = "b.example"
        [[registry.mirror]]
        location = "tags.example"
        pull-from-mirror = "tag-only"
        [[registry.mirror]]
        location = "digests.example"
        pull-from-mirror = "digest-only"
        [[registry.mirror]]
        location = "all.example"
        pull-from-mirror = "all"
        "#,
    )
    .loaded();
    let hosts = |typed: &str| -> Vec<String> {
        asked(&configuration, typed).iter().map(|it| it.split('/').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(hosts("a.example/x:1"), ["a.example"]);
    assert_eq!(hosts(&format!("a.example/x@{DIGEST}")), ["m.example", "a.example"]);
    assert_eq!(hosts("b.example/x:1"), ["tags.example", "all.example", "b.example"]);
    assert_eq!(hosts(&format!("b.example/x@{DIGEST}")), ["digests.example", "all.example", "b.example"]);
}

#[test]
fn the_longest_prefix_counts_and_its_location_replaces_it() {
    let configuration = conf(
        r#"
        [[registry]]
        prefix = "example.com"
        location = "internal.example/all"
        [[registry]]
        prefix = "example.com/foo"
        location = "internal.example/foo-mirror/sub"
        insecure = true
        [[registry]]
        prefix = "*.cluster.example"
        location = "flat.example:5000/x"
        [[registry]]
        prefix = "*.plain.example"
        insecure = true
        "#,
    )
    .loaded();
    for (typed, expected) in [
        ("example.com/bar:1", "internal.example/all/bar 1"),
        ("example.com/foobar:1", "internal.example/all/foobar 1"),
        ("example.com/foo/bar:1", "!internal.example/foo-mirror/sub/bar 1"),
        ("example.com/foo:1", "!internal.example/foo-mirror/sub 1"),
        ("a.b.cluster.example/c/d:1", "flat.example:5000/x/c/d 1"),
        ("a.plain.example/c:1", "!a.plain.example/c 1"),
        ("plain.example/c:1", "plain.example/c 1"),
    ] {
        assert_eq!(asked(&configuration, typed), [expected], "{typed}");
    }
}

#[test]
fn blocked_registries_name_their_file() {
    let machine = conf("[[registry]]\nlocation = \"bad.example\"\nblocked = true\n");
    let reference = image_reference::parse("bad.example/x").expect("a reference");
    let error = machine.loaded().endpoints(&reference).expect_err("blocked").to_string();
    assert!(error.contains("`bad.example` is blocked in ") && error.contains("registries.conf"), "{error}");
}

#[test]
fn a_rewritten_name_that_is_none_is_refused() {
    let machine = conf("[[registry]]\nprefix = \"a.example\"\nlocation = \"b.example/UPPER\"\n");
    let reference = image_reference::parse("a.example/x").expect("a reference");
    let error = machine.loaded().endpoints(&reference).expect_err("refused").to_string();
    assert!(error.contains("b.example/UPPER/x:latest") && error.contains("uppercase"), "{error}");
}

#[test]
fn short_names_have_aliases_and_search_registries() {
    let text = r#"
        unqualified-search-registries = ["quay.io/team", "docker.io", "localhost:5000"]
        [aliases]
        "web" = "registry.example/sites/web"
        "a/b" = "b.example/c"
    "#;
    let configuration = conf(text).loaded();
    assert_eq!(candidates(&configuration, "web:2"), ["registry.example/sites/web:2"]);
    assert_eq!(candidates(&configuration, &format!("a/b@{DIGEST}")), [format!("b.example/c@{DIGEST}")]);
    assert_eq!(
        candidates(&configuration, "nginx"),
        ["quay.io/team/nginx:latest", "docker.io/library/nginx:latest", "localhost:5000/nginx:latest"]
    );
    // Complete names are looked for in no other place.
    assert_eq!(candidates(&configuration, "docker.io/web"), ["docker.io/library/web:latest"]);

    let enforcing = conf(&format!("short-name-mode = \"enforcing\"\n{text}")).loaded();
    let typed = image_reference::parse("nginx").expect("a reference");
    assert!(matches!(enforcing.candidates(&typed), Err(Refused::Ambiguous { .. })));
    let none = conf("unqualified-search-registries = []").loaded();
    assert!(matches!(none.candidates(&typed), Err(Refused::NoRegistry { .. })));
}

#[test]
fn drop_ins_and_the_users_file_replace_what_they_name() {
    let system = ("etc/containers/registries.conf", "unqualified-search-registries = [\"system.example\"]");
    let drop_in = (
        "etc/containers/registries.conf.d/50-a.conf",
        "[[registry]]\nlocation = \"x.example\"\ninsecure = true\n[aliases]\nweb = \"x.example/web\"\nold = \"x.example/o\"\n\
         \"rhel7.9\" = \"x.example/rhel7.9\"\n",
    );
    let later = (
        "home/.config/containers/registries.conf.d/a.conf",
        "[[registry]]\nlocation = \"x.example\"\n[aliases]\nold = \"\"\n",
    );
    let ignored = ("etc/containers/registries.conf.d/60-a.conf.orig", "not TOML");
    let configuration = Machine::new(&[system, drop_in, later, ignored]).loaded();
    assert_eq!(asked(&configuration, "x.example/a"), ["x.example/a latest"]);
    assert_eq!(candidates(&configuration, "web"), ["x.example/web:latest"]);
    assert_eq!(candidates(&configuration, "old"), ["system.example/old:latest"]);

    let user = ("home/.config/containers/registries.conf", "unqualified-search-registries = [\"user.example\"]");
    let configuration = Machine::new(&[system, drop_in, later, user]).loaded();
    assert_eq!(candidates(&configuration, "web"), ["user.example/web:latest"], "the system's drop-ins are not read");

    let chosen = ("chosen.conf", "unqualified-search-registries = [\"chosen.example\"]");
    let machine = Machine::new(&[system, drop_in, user, chosen]).with("CONTAINERS_REGISTRIES_CONF", "@/chosen.conf");
    assert_eq!(candidates(&machine.loaded(), "x"), ["chosen.example/x:latest"]);
    let machine = Machine::new(&[]).with("CONTAINERS_REGISTRIES_CONF", "@/none.conf");
    assert!(machine.load().expect_err("missing").to_string().contains("none.conf: does not exist"));

    let moved = ("xdg/containers/registries.conf", "unqualified-search-registries = [\"xdg.example\"]");
    let machine = Machine::new(&[moved]).with("XDG_CONFIG_HOME", "@/xdg");
    assert_eq!(candidates(&machine.loaded(), "x"), ["xdg.example/x:latest"]);
}

#[test]
fn unknown_keys_are_named_with_their_line() {
    let machine = conf(
        "additional-layer-store-auth-helper = \"x\"\n[[registry]]\nlocation = \"a.example\"\ninsecur = true\n\
         [[registry.mirror]]\nlocation = \"b.example\"\nblocked = true\n[other]\n",
    );
    let configuration = machine.load().expect("readable");
    let file = machine.path().join("etc/containers/registries.conf");
    let lines: Vec<_> = [
        (7, "registry[0].mirror[0].blocked"),
        (4, "registry[0].insecur"),
        (1, "additional-layer-store-auth-helper"),
        (8, "other"),
    ]
    .iter()
    .map(|(line, key)| format!("{}:{line}: unknown key `{key}` is ignored", file.display()))
    .collect();
    assert_eq!(configuration.warnings, lines);
}

#[test]
fn errors_name_file_and_line() {
    for (text, line, why) in [
        ("a = ", 1, "is not TOML"),
        ("\n\nx = [", 3, "is not TOML"),
        ("[registries.search]\nregistries = []", 1, "format before version 2"),
        ("unqualified-search-registries = \"docker.io\"", 1, "is not a list"),
        ("unqualified-search-registries = [\"a\",\n 1]", 2, "not a list of strings"),
        ("unqualified-search-registries = [\"https://a\"]", 1, "without a scheme"),
        ("short-name-mode = \"loose\"", 1, "enforcing, permissive"),
        ("[registry]\nlocation = \"a\"", 1, "[[registry]]"),
        ("[[registry]]\ninsecure = true", 1, "`registry[0].location` is missing"),
        ("[[registry]]\nprefix = \"a.example\"", 1, "is missing"),
        ("[[registry]]\nlocation = \"a\"\ninsecure = \"yes\"", 3, "neither true nor false"),
        ("[[registry]]\nlocation = \"*.a\"", 2, "HOST[:PORT]"),
        ("[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\ninsecure = true", 3, "registry[0].mirror[0].location"),
        (
            "[[registry]]\nlocation = \"a\"\n[[registry.mirror]]\nlocation=\"b\"\npull-from-mirror = \"x\"",
            5,
            "tag-only",
        ),
        ("[aliases]\n\"a\" = 1", 2, "is not a string"),
        ("[aliases]\n\"a:1\" = \"b.example/a\"", 2, "short name"),
        ("[aliases]\n\"c.example/a\" = \"b.example/a\"", 2, "short name"),
        ("[aliases]\n\"a\" = \"b\"", 2, "REGISTRY/REPOSITORY"),
        ("[aliases]\n\"a\" = \"b.example/c:1\"", 2, "a tag"),
    ] {
        let machine = conf(text);
        let error = machine.load().expect_err(text);
        assert_eq!(
            (error.line, error.file),
            (Some(line), machine.path().join("etc/containers/registries.conf")),
            "{text}"
        );
        assert!(error.why.contains(why), "{text}: {}", error.why);
    }
}

#[test]
fn what_is_no_file_of_a_sensible_size_is_refused() {
    let machine = Machine::new(&[("etc/containers/registries.conf/x", "")]);
    assert!(machine.load().expect_err("a directory").why.contains("not a regular file"));
    let machine = conf(&"#".repeat((4 << 20) + 1));
    assert!(machine.load().expect_err("large").why.contains("more than"));
    let machine = Machine::new(&[]);
    fs::create_dir_all(machine.path().join("etc/containers")).expect("mkdir");
    fs::write(machine.path().join("etc/containers/registries.conf"), b"\n\xff").expect("write");
    assert_eq!(machine.load().expect_err("not UTF-8").line, Some(2));
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_panic(text in "\\PC{0,200}") {
        // Most such texts are errors; what is asked is that each is one or the other.
        let _ = conf_file::parse(Path::new("x"), &text, &mut Vec::new());
    }
}
