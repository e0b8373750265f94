//! Options of `run` that stand over a manifest, or in its place, as the pod itself sees them.

use crate::support::{Home, once, sh};
use serde_json::json;

const SEEN: &str = "hostname; grep nameserver /etc/resolv.conf; echo $TIER";

#[test]
fn hostname_servers_and_labels_stand_over_the_manifest() {
    let Some(home) = Home::new("over_the_manifest") else { return };
    let mut container = sh("main", SEEN);
    container["env"] =
        json!([{ "name": "TIER", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['tier']" } } }]);
    let mut spec = once([container]);
    spec["hostname"] = json!("written");
    let typed = ["--hostname", "typed", "--dns", "192.0.2.53", "--dns", "192.0.2.54", "--label", "tier=front"];
    let said = home.run_with(&spec, &typed).ends_with(0);
    assert_eq!(said.stdout, "typed\nnameserver 192.0.2.53\nnameserver 192.0.2.54\nfront\n", "{}", said.explain());
    home.run_with(&spec, &["--entrypoint", "ls"]).ends_with(2).silently().complains("cannot be used with");
}

#[test]
fn without_a_manifest_there_is_an_entrypoint_too() {
    let Some(home) = Home::new("entrypoint") else { return };
    let options = ["run", "--rm", "-q", "--image", "host:", "--entrypoint", "echo", "--hostname", "typed", "-l", "a"];
    let said = home.sandpod(&[&options[..], &["--", "$(HOSTNAME)", "b"]].concat()).ends_with(0);
    assert_eq!(said.stdout, "$(HOSTNAME) b\n");
}

#[test]
fn what_they_refuse() {
    let Some(home) = Home::new("run_options_refused") else { return };
    let plan = |words: &[&str]| home.sandpod(&[&["plan", "--image", "host:"], words].concat()).ends_with(2).silently();
    plan(&["--hostname", "web.example.org"]).complains("spec.setHostnameAsFQDN");
    plan(&["--dns", "dns.example.org"]).complains("invalid IP address");
    plan(&["--label", "a b"]).complains("error: --label a b\n  its key must ");
}

#[test]
fn a_name_is_a_manifest_where_it_is_a_file_and_an_image_otherwise() {
    let Some(home) = Home::new("image_or_file") else { return };
    let said = home.sandpod(&["run", "--rm", "host:", "echo", "--rm", "-q"]).ends_with(0);
    assert_eq!(said.stdout, "--rm -q\n");
    let manifest = home.manifest(&once([sh("main", "echo of the manifest")]));
    std::fs::copy(manifest, home.path().join("web")).expect("copy");
    home.give(&home.path().join("web"), 0o644);
    let said =
        home.sandpod(&["run", "web", "--rm"]).ends_with(0).complains("`web` is a file here, and so the manifest");
    assert_eq!(said.stdout, "of the manifest\n");
    let said = home.sandpod(&["run", "--rm", "./web"]).ends_with(0);
    assert!(!said.stderr.contains("is a file"), "{}", said.explain());
    home.sandpod(&["run", "absent.yaml"]).ends_with(2).complains("could not read the manifest absent.yaml");
    home.sandpod(&["run", "--pull=never", "absent"]).ends_with(125).complains("is not in the store");
    home.sandpod(&["plan", "--offline", "absent"]).ends_with(0).says("docker.io/library/absent:latest");
}
