//! `push`, with Debian's registry, and skopeo as the judge.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::image_support::{PASSWORD, Registry, USER, layout};
use crate::support::cli_support::Said;
use crate::support::{Home, skip};

/// skopeo with files of its own; it asks no user of this machine.
fn skopeo(home: &Path, registry: &Registry, words: &[&str]) -> Said {
    let certificates = home.join(".config/containers/certs.d").join(registry.host());
    let mut command = Command::new("/usr/bin/skopeo");
    let options = if words[0] == "inspect" { ["--cert-dir", "--creds"] } else { ["--dest-cert-dir", "--dest-creds"] };
    let login = format!("{USER}:{PASSWORD}");
    command.args(["--insecure-policy", words[0], options[0]]).arg(certificates).args([options[1], &login]);
    command.args(&words[1..]).env("HOME", home).env("XDG_RUNTIME_DIR", home.join("run"));
    Said::by(command)
}

fn make_image(home: &Home) -> String {
    let (one, two) = (home.path().join("one"), home.path().join("two"));
    for (tree, name) in [(&one, "first"), (&two, "second")] {
        fs::create_dir_all(tree.join("etc")).expect("mkdir");
        fs::write(tree.join("etc").join(name), name).expect("write");
    }
    layout::write(&home.path().join("layout"), &[&one, &two]);
    format!("oci:{}/layout:made", home.path().display())
}

#[test]
fn what_is_pushed_is_what_was_pulled() {
    let Some(home) = Home::new("push") else { return };
    let Some(registry) = Registry::with_login("push") else { return };
    if !Path::new("/usr/bin/skopeo").exists() {
        return skip("push", "skopeo is missing");
    }
    let Some(open) = Registry::plain("push") else { return };
    let host = registry.host();
    registry.trusted_by(home.path());
    let (from, to) = (format!("{host}/team/app:1"), format!("{host}/other/app:2"));
    skopeo(home.path(), &registry, &["copy", &make_image(&home), &format!("docker://{from}")]).ends_with(0);
    home.sandpod(&["pull", &from]).ends_with(125).complains("refuses access").complains("sandpod login");
    home.sandpod_given(PASSWORD.as_bytes(), &["login", "-u", USER, "--password-stdin", &host]).ends_with(0);
    home.sandpod(&["pull", &from]).ends_with(0);
    let was = skopeo(home.path(), &registry, &["inspect", "--raw", &format!("docker://{from}")]).ends_with(0).stdout;
    let digest = sandpod::image::Digest::of(was.as_bytes()).to_string();

    // The registry has the layers already, in the other repository.
    let pushed = home.sandpod(&["push", &from, &to]).ends_with(0).says(&digest);
    assert_eq!(pushed.stderr.matches("taken from another repository").count(), 3, "{}", pushed.explain());
    let again = home.sandpod(&["push", &from, &to]).ends_with(0);
    assert_eq!(again.stderr.matches("was there").count(), 3, "{}", again.explain());
    let events = home.sandpod(&["push", "--json", &from, &to]).ends_with(0).stdout;
    let events: Vec<serde_json::Value> =
        events.lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect();
    let of = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    assert_eq!((of("blob-begun").len(), of("blob-done").len(), of("done").len()), (3, 3, 1), "{events:?}");
    assert!(of("blob-done").iter().all(|event| event["how"] == "was-there" && event["size"].as_u64() > Some(0)));
    assert_eq!(of("done")[0]["manifest"], digest.as_str());
    let is = skopeo(home.path(), &registry, &["inspect", "--raw", &format!("docker://{to}")]).ends_with(0).stdout;
    assert_eq!(is, was);

    // Another registry has nothing of it; it speaks HTTP.
    let elsewhere = format!("{}/app", open.host());
    home.sandpod(&["push", &digest, &elsewhere]).ends_with(125).complains("could not reach");
    let conf = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", open.host());
    home.directory(".config/containers", 0o755);
    home.file(".config/containers/registries.conf", conf, 0o644);
    let pushed =
        home.sandpod(&["push", &digest, &elsewhere]).ends_with(0).says(&format!("{elsewhere}:latest@{digest}"));
    assert_eq!(pushed.stderr.matches(": sent").count(), 3, "{}", pushed.explain());
    let mut copy = Command::new("/usr/bin/skopeo");
    copy.args(["--insecure-policy", "copy", "--src-tls-verify=false", &format!("docker://{elsewhere}")]);
    // It compares every digest.
    Said::by({
        copy.arg(format!("dir:{}/copy", home.path().display()));
        copy
    })
    .ends_with(0);
    assert_eq!(fs::read_to_string(home.path().join("copy/manifest.json")).expect("the manifest"), was);

    // A short name gets the name of the registry that it was found in: docker.io's is another image.
    let nowhere = "[[registry]]\nlocation = \"blocked.example\"\nblocked = true\n";
    let search = format!("unqualified-search-registries = [\"{host}\", \"{}\"]\n{nowhere}", open.host());
    let conf = format!("{search}[[registry]]\nlocation = \"{}\"\ninsecure = true\n", open.host());
    home.file(".config/containers/registries.conf", conf, 0o644);
    home.sandpod(&["pull", "app"]).ends_with(0).says(&format!("{elsewhere}:latest@{digest}"));
    // And pods find it by the same short name.
    home.sandpod(&["plan", "--pull=never", "--image", "app", "--", "x"]).ends_with(0);
    home.sandpod(&["plan", "--pull=never", "--image", "docker.io/library/app", "--", "x"]).ends_with(125);
    home.sandpod(&["push", "docker.io/library/app"]).ends_with(125).complains("there is no image");
    home.sandpod(&["pull", "blocked.example/app"]).ends_with(125).complains("is blocked in");
}

#[test]
fn what_cannot_be_pushed_is_said() {
    let Some(home) = Home::new("push_nothing") else { return };
    home.sandpod(&["push", "localhost:1/none"]).ends_with(125).complains("there is no image").complains("sandpod pull");
    home.sandpod(&["push", "0123456789ab"]).ends_with(125).complains("there is no image");
}
