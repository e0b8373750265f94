//! `sandpod login` and `sandpod logout`

use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use super::arguments::{LoginArguments, LogoutArguments};
use super::{Outcome, print};
use crate::engine::images;
use crate::image::registries::{Configuration, Credentials, Environment, KeptIn, LoginFile, Trust};
use crate::report::{Report, exit_code};
use crate::sys::terminal::RawMode;

/// Bytes of a password.
const MAX_PASSWORD: u64 = 64 * 1024;

pub(crate) fn login(asked: &LoginArguments) -> Outcome {
    let key = key(&asked.registry)?;
    let (host, repository) = key.split_once('/').unwrap_or((&key, ""));
    let failed = |why: String| Report::new(exit_code::FAILURE, format!("could not log in to {key}")).because(why);
    let environment = environment(asked.authfile.as_deref());
    let configuration = Configuration::load(&environment).map_err(|error| failed(error.to_string()))?;
    configuration.warnings.iter().for_each(|warning| print::notice("warning", warning));
    let mut endpoint = configuration.registry_alone(host, repository).map_err(|error| failed(error.to_string()))?;
    if asked.get_login {
        return match &endpoint.credentials {
            Some(Credentials::Password { user, .. }) => say(user),
            Some(Credentials::IdentityToken(_)) => say("<token>"),
            None => Err(Report::new(exit_code::FAILURE, format!("not logged in to {key}")).into()),
        };
    }
    let (user, password) = ask(asked, &key)?;
    endpoint.credentials = Some(Credentials::Password { user: user.clone(), password: password.clone() });
    if !asked.tls_verify {
        endpoint.trust = Trust::Insecure;
    }
    images::check_login(&endpoint)?;
    let file = LoginFile::find(&environment, asked.authfile.as_deref()).map_err(|error| failed(error.to_string()))?;
    match file.keep(&key, &user, &password).map_err(|error| failed(error.to_string()))? {
        KeptIn::Helper(_) => {}
        // As docker says it: base64 looks like more than it is.
        KeptIn::File(file) => print::notice("warning", &format!("the password is not encrypted in {}", file.display())),
    }
    say("Login Succeeded!")
}

pub(crate) fn logout(asked: &LogoutArguments) -> Outcome {
    let environment = environment(asked.authfile.as_deref());
    let failed = |why: String| Report::new(exit_code::FAILURE, "could not log out").because(why);
    let file = LoginFile::find(&environment, asked.authfile.as_deref()).map_err(|error| failed(error.to_string()))?;
    if asked.all {
        let forgotten = file.forget_all().map_err(|error| failed(error.to_string()))?;
        return say(&format!("Removed the logins of {} registries", forgotten.len()));
    }
    let key = key(&asked.registry)?;
    let was_there = file.forget(&key).map_err(|error| failed(error.to_string()))?;
    let configuration = Configuration::load(&environment).map_err(|error| failed(error.to_string()))?;
    let (host, repository) = key.split_once('/').unwrap_or((&key, ""));
    let left = configuration.registry_alone(host, repository).map_err(|error| failed(error.to_string()))?.credentials;
    match (was_there, left.is_some()) {
        (true, false) => say(&format!("Removed the login of {key}")),
        (true, true) => {
            print::notice("warning", &format!("another file or helper still has a login for {key}"));
            say(&format!("Removed the login of {key} from {}", file.path().display()))
        }
        (false, has_other) => {
            let report = failed(format!("{} has no login for {key}", file.path().display()));
            let hint =
                "its login comes from another file or helper: log out with what made it, such as `docker logout`";
            Err(if has_other { report.hint(hint) } else { report }.into())
        }
    }
}

/// `--authfile` counts as podman's variable of the same meaning.
fn environment(authfile: Option<&Path>) -> Environment {
    let environment = Environment::of_process();
    match authfile {
        Some(file) => environment.with("REGISTRY_AUTH_FILE", &file.to_string_lossy()),
        None => environment,
    }
}

/// `docker.io` of `https://docker.io/`, which docker takes too.
fn key(typed: &str) -> Result<String, Report> {
    let bare = typed.strip_prefix("https://").or_else(|| typed.strip_prefix("http://")).unwrap_or(typed);
    let key = bare.trim_end_matches('/');
    let host = key.split('/').next().unwrap_or_default();
    let key = if ["index.docker.io", "registry-1.docker.io"].contains(&host) { "docker.io" } else { key };
    // The grammar of references, with a repository that ends it.
    let name = if key.contains('/') { key.to_owned() } else { format!("{key}/x") };
    let known = crate::manifest::image_reference::parse(&name).is_ok_and(|it| name.starts_with(&it.registry));
    let is_wrong =
        !known || key.contains('@') || key.rsplit('/').next().is_some_and(|it| key.contains('/') && it.contains(':'));
    if is_wrong {
        return Err(Report::new(exit_code::USAGE, format!("`{typed}` is no registry"))
            .hint("a registry is HOST, HOST:PORT or HOST/NAMESPACE, such as quay.io or localhost:5000"));
    }
    Ok(key.to_owned())
}

fn say(line: &str) -> Outcome {
    writeln!(io::stdout(), "{line}")?;
    Ok(0)
}

/// User and password, from the command line, stdin or the terminal.
fn ask(asked: &LoginArguments, key: &str) -> Result<(String, String), Report> {
    let on_terminal = io::stdin().is_terminal();
    let no_terminal = || {
        Report::new(exit_code::USAGE, format!("there is no terminal to ask for the login of {key}"))
            .hint("use --username NAME and --password-stdin")
    };
    let user = match &asked.username {
        Some(user) => user.clone(),
        None if on_terminal => line("Username: ")?,
        None => return Err(no_terminal()),
    };
    let password = match &asked.password {
        Some(password) => password.clone(),
        None if asked.password_stdin => from_stdin()?,
        None if on_terminal => hidden_line("Password: ")?,
        None => return Err(no_terminal()),
    };
    if user.is_empty() || password.is_empty() {
        let what = if user.is_empty() { "user" } else { "password" };
        return Err(Report::new(exit_code::USAGE, format!("the {what} is empty")));
    }
    // A colon would end the user in what is kept and sent (RFC 7617, 2).
    if user.contains(':') {
        return Err(Report::new(exit_code::USAGE, "the user has a colon, which no user of a registry can have"));
    }
    Ok((user, password))
}

fn from_stdin() -> Result<String, Report> {
    let mut password = String::new();
    io::stdin().lock().take(MAX_PASSWORD + 1).read_to_string(&mut password).map_err(|error| unread(&error))?;
    if password.len() as u64 > MAX_PASSWORD {
        return Err(Report::new(exit_code::USAGE, format!("the password has more than {MAX_PASSWORD} bytes")));
    }
    // `echo` and editors end a line.
    let text = password.strip_suffix('\n').unwrap_or(&password);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

fn line(question: &str) -> Result<String, Report> {
    let _ = write!(io::stderr(), "{question}");
    let mut text = String::new();
    io::stdin().lock().take(MAX_PASSWORD).read_line(&mut text).map_err(|error| unread(&error))?;
    Ok(text.trim().to_owned())
}

/// A line that is not echoed. In raw mode Ctrl-C is a byte, so that the terminal is always put back.
fn hidden_line(question: &str) -> Result<String, Report> {
    let mut stdin = io::stdin().lock();
    let raw = RawMode::enter(io::stdin().as_fd()).map_err(|error| unread(&error))?;
    // Only now: what is typed at once must not be echoed either.
    let _ = write!(io::stderr(), "{question}");
    let mut text = Vec::new();
    let ended = loop {
        let mut byte = [0];
        match stdin.read(&mut byte) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break Err(unread(&error)),
        }
        match byte[0] {
            b'\r' | b'\n' | 0x04 => break Ok(()),
            0x03 | 0x1c => break Err(Report::new(130, "interrupted")),
            0x7f | 0x08 => drop(text.pop()),
            0x15 => text.clear(),
            other if text.len() as u64 <= MAX_PASSWORD => text.push(other),
            _ => {}
        }
    };
    drop(raw);
    let _ = writeln!(io::stderr());
    ended?;
    String::from_utf8(text).map_err(|_| Report::new(exit_code::USAGE, "the password is not UTF-8"))
}

fn unread(error: &dyn std::fmt::Display) -> Report {
    Report::new(exit_code::FAILURE, "could not read the login").because(error.to_string())
}
