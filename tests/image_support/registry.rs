//! Debian's docker-registry, on a port of its own, with its storage in a directory that goes with it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::super::skip;

/// The user of a registry with logins.
pub(crate) const USER: &str = "me";
pub(crate) const PASSWORD: &str = "secret";
/// USER and PASSWORD as htpasswd(1) has them, by bcrypt.
const HTPASSWD: &str = "me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";
/// For localhost and 127.0.0.1, valid until 2126, signed by itself.
const CERTIFICATE: &str = include_str!("certificate.pem");
const KEY: &str = include_str!("key.pem");

/// A registry that runs until this is dropped.
pub(crate) struct Registry {
    child: Child,
    /// Removed when this is dropped.
    _directory: tempfile::TempDir,
    port: u16,
}

impl Registry {
    /// Plain HTTP, open to all of this machine.
    pub(crate) fn plain(test: &str) -> Option<Registry> {
        Registry::start(test, "", "")
    }

    /// TLS by [`CERTIFICATE`], and a login.
    pub(crate) fn with_login(test: &str) -> Option<Registry> {
        let tls = "  tls:\n    certificate: @/certificate.pem\n    key: @/key.pem\n";
        Registry::start(test, tls, "auth:\n  htpasswd:\n    realm: tests\n    path: @/htpasswd\n")
    }

    fn start(test: &str, tls: &str, auth: &str) -> Option<Registry> {
        let program = Path::new("/usr/bin/docker-registry");
        if !program.exists() {
            skip(test, "docker-registry is missing");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let at = directory.path().to_str().expect("UTF-8");
        for (name, text) in [("certificate.pem", CERTIFICATE), ("key.pem", KEY), ("htpasswd", HTPASSWD)] {
            fs::write(directory.path().join(name), text).expect("write");
        }
        let configuration = format!(
            "version: 0.1\nlog:\n  level: info\nstorage:\n  delete:\n    enabled: true\n  filesystem:\n    \
             rootdirectory: @/registry\nhttp:\n  addr: 127.0.0.1:0\n{tls}{auth}"
        );
        fs::write(directory.path().join("config.yml"), configuration.replace('@', at)).expect("write");
        let mut command = Command::new(program);
        command.arg("serve").arg(directory.path().join("config.yml")).env_clear();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let child_of = child.as_mut().expect("docker-registry starts");
        let mut lines = BufReader::new(child_of.stderr.take().expect("stderr")).lines().map_while(Result::ok);
        // It chooses a port itself and says which: nothing else can take it in between.
        let mut heard = String::new();
        let port = lines.by_ref().find_map(|line| {
            heard.push_str(&line);
            let (_, rest) = line.split_once("listening on 127.0.0.1:")?;
            rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
        });
        let port = port.unwrap_or_else(|| panic!("docker-registry does not listen: {heard}"));
        // A full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Registry { child: child.expect("started"), _directory: directory, port })
    }

    /// `localhost:PORT`
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Makes the certificate known to a user whose home is `home`.
    pub(crate) fn trusted_by(&self, home: &Path) {
        let directory = home.join(".config/containers/certs.d").join(self.host());
        fs::create_dir_all(&directory).expect("mkdir");
        fs::write(directory.join("ca.crt"), CERTIFICATE).expect("write");
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It has nothing to keep.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
