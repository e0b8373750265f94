//! `login` and `logout` against a registry that wants a password.

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::image_support::{PASSWORD, Registry, USER};
use crate::support::cli_support::{Home, Said};
use crate::support::skip;

/// `login` with a password on stdin.
fn login(home: &Home, password: &str, words: &[&str]) -> Said {
    let mut command = home.command(&[&["login", "--username", USER, "--password-stdin"], words].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary runs");
    // A command that refuses the words does not read it.
    let _ = child.stdin.take().expect("stdin").write_all(password.as_bytes());
    Said::from(format!("{command:?}"), child.wait_with_output().expect("it ends"))
}

fn kept(home: &Home) -> serde_json::Value {
    let text = fs::read(home.path().join("run/containers/auth.json")).expect("auth.json");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn a_login_is_checked_kept_and_forgotten() {
    let Some(registry) = Registry::with_login("login") else { return };
    let (home, host) = (Home::new(), registry.host());
    registry.trusted_by(home.path());
    fs::create_dir(home.path().join("run/containers")).expect("mkdir");
    fs::write(
        home.path().join("run/containers/auth.json"),
        r#"{"auths":{"other.example":{"auth":"eDp5"}},"more":[1]}"#,
    )
    .expect("write");
    login(&home, "wrong\n", &[&host]).ends_with(125).silently().complains("refuses access").complains("does not know");
    assert_eq!(kept(&home)["auths"].as_object().expect("auths").len(), 1, "a wrong password is not kept");
    login(&home, "secret\n", &[&host]).ends_with(0).says("Login Succeeded!").complains("not encrypted");
    // What podman has written beside it stays.
    assert_eq!(
        kept(&home),
        serde_json::json!({"auths": {"other.example": {"auth": "eDp5"}, host.as_str(): {"auth": "bWU6c2VjcmV0"}}, "more": [1]})
    );
    home.run(&["login", "--get-login", &host]).ends_with(0).says("me\n");
    home.run(&["logout", &host]).ends_with(0).says("Removed the login");
    assert_eq!(kept(&home)["auths"].as_object().expect("auths").len(), 1);
    home.run(&["login", "--get-login", &host]).ends_with(125).complains("not logged in to localhost");
    home.run(&["logout", &host]).ends_with(125).complains("has no login for");
    home.run(&["logout", "--all"]).ends_with(0).says("1 registries");
}

/// The file is the user's alone from its first byte on, and another tool understands it.
#[test]
fn podman_understands_what_is_kept() {
    use std::os::unix::fs::PermissionsExt;
    let Some(registry) = Registry::with_login("login_podman") else { return };
    let (home, host) = (Home::new(), registry.host());
    registry.trusted_by(home.path());
    let file = home.path().join("kept.json");
    let file = file.to_str().expect("UTF-8");
    login(&home, PASSWORD, &["--authfile", file, &format!("https://{host}/")]).ends_with(0);
    assert_eq!(fs::metadata(file).expect("kept").permissions().mode() & 0o777, 0o600);
    assert!(!home.path().join("run/containers").exists(), "--authfile is the only place");
    if !std::path::Path::new("/usr/bin/skopeo").exists() {
        return skip("login_podman", "skopeo is missing");
    }
    let mut skopeo = Command::new("/usr/bin/skopeo");
    skopeo.args(["login", "--get-login", "--authfile", file, &host]);
    Said::by(skopeo).ends_with(0).says(USER);
}

#[test]
fn certificates_that_nothing_vouches_for_are_refused() {
    let Some(registry) = Registry::with_login("login_tls") else { return };
    let (home, host) = (Home::new(), registry.host());
    let refused = login(&home, PASSWORD, &[&host]).ends_with(125).complains("could not reach").complains("authority");
    // What helps comes before what gives the check up.
    let place = |text: &str| refused.stderr.find(text).unwrap_or_else(|| panic!("{text}: {}", refused.explain()));
    assert!(place("certs.d") < place("insecure = true"), "{}", refused.explain());
    login(&home, PASSWORD, &["--tls-verify=false", &host]).ends_with(0);
    home.run(&["logout", &host]).ends_with(0);
    let conf = home.path().join(".config/containers/registries.conf");
    fs::create_dir_all(conf.parent().expect("a parent")).expect("mkdir");
    fs::write(&conf, format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\nodd = 1\n")).expect("write");
    login(&home, PASSWORD, &[&host]).ends_with(0).complains("registries.conf:4: unknown key `registry[0].odd`");
    fs::write(&conf, format!("[[registry]]\nlocation = \"{host}\"\nblocked = true\n")).expect("write");
    login(&home, PASSWORD, &[&host]).ends_with(125).complains("is blocked in");
}

/// A registry of before anyone needed TLS.
#[test]
fn plain_http_is_spoken_with_insecure_registries_alone() {
    let Some(registry) = Registry::plain("login_http") else { return };
    let (home, host) = (Home::new(), registry.host());
    login(&home, "any", &[&host]).ends_with(125).complains("insecure = true");
    login(&home, "any", &["--tls-verify=false", &host]).ends_with(0);
}

#[test]
fn a_password_is_asked_for_and_not_shown() {
    if !std::path::Path::new("/usr/bin/script").exists() {
        return skip("login_prompt", "script is missing");
    }
    let Some(registry) = Registry::with_login("login_prompt") else { return };
    let (home, host) = (Home::new(), registry.host());
    registry.trusted_by(home.path());
    let line = format!("{} login {host}", env!("CARGO_BIN_EXE_sandpod"));
    let mut command = Command::new("/usr/bin/script");
    command.args(["-qec", &line, "/dev/null"]).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home.path());
    command.env("XDG_RUNTIME_DIR", home.path().join("run")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("script");
    let (mut stdin, mut stdout) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
    let mut shown = String::new();
    for (question, answer) in [("Username: ", "me\n"), ("Password: ", "secrer\u{7f}t\n")] {
        while !shown.ends_with(question) {
            let mut byte = [0];
            assert_eq!(stdout.read(&mut byte).expect("read"), 1, "{question} {shown}");
            shown.push(char::from(byte[0]));
        }
        stdin.write_all(answer.as_bytes()).expect("typed");
    }
    stdout.read_to_string(&mut shown).expect("read");
    assert!(child.wait().expect("it ends").success(), "{shown}");
    assert!(shown.contains("Login Succeeded!") && !shown.contains("secre"), "{shown}");
}

#[test]
fn words_that_cannot_be_a_login_are_refused() {
    let home = Home::new();
    home.run(&["login", "localhost:1"]).ends_with(2).complains("no terminal").complains("--password-stdin");
    home.run(&["login", "--password-stdin"]).ends_with(2).complains("--username");
    login(&home, "", &["localhost:1"]).ends_with(2).complains("the password is empty");
    home.run(&["login", "-u", "a:b", "-p", "x", "localhost:1"]).ends_with(2).complains("a colon");
    for wrong in ["a b", "UPPER_/x", "localhost:1/a:tag", "localhost:1@sha256", ""] {
        home.run(&["login", "-u", "a", "-p", "x", wrong]).ends_with(2).complains("is no registry");
    }
    home.run(&["login", "-u", "a", "-p", "x", "localhost:1"]).ends_with(125).complains("could not reach localhost:1");
}
