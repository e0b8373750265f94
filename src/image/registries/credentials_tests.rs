//! Which of several credentials a registry gets, and from whom.

use std::fs;

use base64::Engine as _;

use super::*;
use crate::manifest::image_reference;

fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// A file with `KEY=USER` entries; the password is USER too.
fn auths(entries: &[&str]) -> String {
    let entry = |entry: &&str| {
        let (key, user) = entry.split_once('=').expect("KEY=USER");
        format!("\"{key}\":{{\"auth\":\"{}\"}}", base64(&format!("{user}:{user}")))
    };
    format!("{{\"auths\":{{{}}}}}", entries.iter().map(entry).collect::<Vec<_>>().join(","))
}

struct Home(tempfile::TempDir);

impl Home {
    fn new(files: &[(&str, &str)]) -> Home {
        let home = Home(tempfile::tempdir().expect("a directory"));
        for (path, text) in files {
            home.write(path, text);
        }
        home
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        fs::write(path, text).expect("write");
    }

    fn path(&self, path: &str) -> String {
        self.0.path().join(path).to_str().expect("UTF-8").to_owned()
    }

    fn endpoint(&self, typed: &str, more: &[(&str, &str)]) -> Result<Endpoint, Refused> {
        let (home, runtime) = (self.path("home"), self.path("run"));
        let mut variables = vec![("HOME", home.as_str()), ("XDG_RUNTIME_DIR", runtime.as_str())];
        variables.extend_from_slice(more);
        let environment = Environment::new(&variables, &self.0.path().join("etc"));
        let configuration = Configuration::load(&environment)?;
        let reference = image_reference::parse(typed).expect("a reference");
        Ok(configuration.endpoints(&reference)?.remove(0))
    }

    /// The user whose credentials are used, `TOKEN` for an identity token, or nothing.
    fn user(&self, typed: &str, more: &[(&str, &str)]) -> String {
        match self.endpoint(typed, more).expect("an endpoint").credentials {
            Some(Credentials::Password { user, .. }) => user,
            Some(Credentials::IdentityToken(_)) => "TOKEN".to_owned(),
            None => String::new(),
        }
    }
}

#[test]
fn the_most_specific_key_comes_first() {
    let file = auths(&["a.example=host", "a.example/team=team", "a.example/team/app=app", "docker.io/me=me"]);
    let home = Home::new(&[("run/containers/auth.json", &file)]);
    for (typed, user) in [
        ("a.example/x", "host"),
        ("a.example/teammate/x", "host"),
        ("a.example/team/x:1", "team"),
        ("a.example/team/app", "app"),
        ("a.example/team/app/deeper", "app"),
        ("a.example:5000/x", ""),
        ("me/x", "me"),
        ("other/x", ""),
    ] {
        assert_eq!(home.user(typed, &[]), user, "{typed}");
    }
}

#[test]
fn dockers_old_keys_are_understood() {
    let file = auths(&["https://index.docker.io/v1/=hub", "http://a.example/v1/=a", "https://b.example/v2/=b"]);
    let home = Home::new(&[("home/.docker/config.json", &file)]);
    for (typed, user) in [("nginx", "hub"), ("a.example/x", "a"), ("b.example/x", "b"), ("c.example/x", "")] {
        assert_eq!(home.user(typed, &[]), user, "{typed}");
    }
}

#[test]
fn the_files_are_read_in_order() {
    let home = Home::new(&[
        ("run/containers/auth.json", &auths(&["a.example=runtime"])),
        ("home/.config/containers/auth.json", &auths(&["a.example=config", "b.example=config"])),
        ("home/.docker/config.json", &auths(&["a.example=docker", "b.example=docker", "c.example=docker"])),
        ("docker/config.json", &auths(&["c.example=moved"])),
        ("chosen.json", &auths(&["b.example=chosen"])),
    ]);
    let hosts = |more: &[(&str, &str)]| ["a", "b", "c"].map(|host| home.user(&format!("{host}.example/x"), more));
    assert_eq!(hosts(&[]), ["runtime", "config", "docker"]);
    assert_eq!(hosts(&[("DOCKER_CONFIG", &home.path("docker"))]), ["runtime", "config", "moved"]);
    assert_eq!(hosts(&[("REGISTRY_AUTH_FILE", &home.path("chosen.json"))]), ["", "chosen", ""]);
}

#[test]
fn identity_tokens_and_plain_passwords_are_read() {
    let home = Home::new(&[(
        "run/containers/auth.json",
        r#"{"auths":{"a.example":{"auth":"eDp5","identitytoken":"t"},"b.example":{"username":"u","password":"p"},
            "c.example":{}},"other":1}"#,
    )]);
    assert_eq!(["a", "b", "c"].map(|host| home.user(&format!("{host}.example/x"), &[])), ["TOKEN", "u", ""]);
    let shown = format!("{:?}", home.endpoint("b.example/x", &[]).expect("an endpoint"));
    assert!(shown.contains("Password of u") && !shown.contains("\"p\""), "{shown}");
}

#[test]
fn a_file_that_cannot_be_used_is_an_error_without_its_secrets() {
    for (text, expected) in [
        ("{\n\"auths\": \"hunter2\"}", "auth.json:2: is not JSON"),
        ("{\"auths\":{\"a.example\":{\"auth\":\"aHVudGVyMg==\"}}}", "`auths.a.example.auth` is not the base64 form"),
        ("{\"auths\":{\"a.example\":{\"auth\":\"hunter2!\"}}}", "`auths.a.example.auth` is not the base64 form"),
    ] {
        let home = Home::new(&[("run/containers/auth.json", text)]);
        let error = home.endpoint("a.example/x", &[]).expect_err(text).to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
    }
    assert_eq!(Home::new(&[("run/containers/auth.json", " \n")]).user("a.example/x", &[]), "");
}

/// Makes a program. A process of its own writes it: while another test forks, a descriptor of ours that is open for
/// writing would be open in that child too, and the program would be "text file busy".
fn helper(home: &Home, script: &str) -> std::path::PathBuf {
    let path = home.0.path().join("helper");
    let mut writer = std::process::Command::new("sh");
    writer.args(["-c", "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod 755 \"$1\"", "sh"]).arg(&path).arg(script);
    assert!(writer.status().expect("sh").success());
    path
}

#[test]
fn certificates_of_a_registry_are_read() {
    let certificate = include_str!("../../../tests/image_support/certificate.pem");
    let key = include_str!("../../../tests/image_support/key.pem");
    let home = Home::new(&[
        ("etc/containers/certs.d/a.example:5000/ca.crt", certificate),
        ("etc/containers/certs.d/a.example:5000/client.cert", certificate),
        ("etc/containers/certs.d/a.example:5000/client.key", key),
        ("etc/docker/certs.d/a.example:5000/ca.crt", "not read: the first directory counts"),
        ("etc/docker/certs.d/d.example/ca.crt", certificate),
        ("home/.config/containers/certs.d/u.example/ca.crt", certificate),
    ]);
    for (typed, authorities, has_client) in
        [("a.example:5000/x", 1, true), ("a.example/x", 0, false), ("d.example/x", 1, false), ("u.example/x", 1, false)]
    {
        let endpoint = home.endpoint(typed, &[]).expect("an endpoint");
        let Trust::Verified { authorities: found } = &endpoint.trust else { panic!("verified") };
        assert_eq!((found.len(), endpoint.client_certificate.is_some()), (authorities, has_client), "{typed}");
        // The puller gets it as JSON.
        let again: Endpoint = serde_json::from_str(&serde_json::to_string(&endpoint).expect("JSON")).expect("the same");
        assert_eq!(again, endpoint);
        crate::image::registry::Client::new(&endpoint, &[]).expect("a client");
    }
    for (file, text, why) in [
        ("ca.crt", "nothing", "ca.crt: holds no certificate"),
        ("client.cert", certificate, "client.cert: has no key"),
        ("client.key", key, "client.key: has no certificate"),
    ] {
        let home = Home::new(&[(&format!("etc/containers/certs.d/x.example/{file}"), text)]);
        let error = home.endpoint("x.example/x", &[]).expect_err(file).to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// Runs a script as a helper.
fn ask(script: &str, patience: std::time::Duration) -> Result<Option<Credentials>, CredentialProgramFailed> {
    let home = Home::new(&[]);
    super::credential_program::get_from(&helper(&home, script), "x", "a.example", patience)
}

#[test]
fn helpers_answer_have_nothing_or_fail() {
    let patience = std::time::Duration::from_secs(60);
    let found = ask("read -r it\necho \"{\\\"Username\\\":\\\"$it\\\",\\\"Secret\\\":\\\"$1\\\"}\"", patience);
    let expected = Credentials::Password { user: "a.example".to_owned(), password: "get".to_owned() };
    assert_eq!(found, Ok(Some(expected)));
    let token = ask("cat >/dev/null; echo '{\"ServerURL\":\"x\",\"Username\":\"<token>\",\"Secret\":\"s\"}'", patience);
    assert_eq!(token, Ok(Some(Credentials::IdentityToken("s".to_owned()))));
    assert_eq!(ask("echo credentials not found in native keychain; exit 1", patience), Ok(None));
    for (script, why) in [
        ("echo 'the keyring is locked'; exit 1", "failed: the keyring is locked"),
        ("echo '{\"a\":1}'", "something else than Username and Secret"),
        ("head -c 2000000 /dev/zero", "more than 1048576 bytes"),
    ] {
        let error = ask(script, patience).expect_err(script);
        assert!(error.why.contains(why), "{}", error.why);
    }
}

#[test]
fn a_helper_that_does_not_answer_is_killed() {
    for script in ["exec sleep 1000", "exec >&-; exec sleep 1000"] {
        let error = ask(script, std::time::Duration::from_millis(50)).expect_err(script);
        assert!(error.why.contains("did not answer"), "{}", error.why);
    }
}

#[test]
fn helpers_that_files_name_are_asked() {
    let home = Home::new(&[(
        "run/containers/auth.json",
        r#"{"auths":{"b.example":{"auth":"eDp5"}},"credHelpers":{"a.example":"no-such-helper"},"credsStore":"none-either"}"#,
    )]);
    let error = home.endpoint("a.example/x", &[]).expect_err("no helper").to_string();
    assert!(error.contains("auth.json: credential helper `docker-credential-no-such-helper` could not"), "{error}");
    assert_eq!(home.user("b.example/x", &[]), "x");
    let error = home.endpoint("c.example/x", &[]).expect_err("no helper").to_string();
    assert!(error.contains("docker-credential-none-either"), "{error}");
    let home = Home::new(&[("run/containers/auth.json", r#"{"credHelpers":{"a.example":"../x"}}"#)]);
    assert!(home.endpoint("a.example/x", &[]).expect_err("a path").to_string().contains("no program can have"));

    let of_conf = Home::new(&[
        ("etc/containers/registries.conf", "credential-helpers = [\"containers-auth.json\", \"no-such-helper\"]"),
        ("run/containers/auth.json", &auths(&["a.example=file"])),
    ]);
    assert_eq!(of_conf.user("a.example/x", &[]), "file");
    let error = of_conf.endpoint("b.example/x", &[]).expect_err("no helper").to_string();
    assert!(error.contains("credential-helpers: credential helper"), "{error}");
}
