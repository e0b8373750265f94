//! A pod of one container from the command line alone: `run --image host: … -- CMD`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::arguments::SingleArguments;
use crate::manifest::{
    self, Container, ContainerSecurityContext, DnsConfig, DnsPolicy, EnvValue, EnvVar, HostPathType, Image,
    ImageSource, Metadata, Pod, PodSecurityContext, PodSpec, PullPolicy, Resource, Resources, RestartPolicy, Role,
    TerminationMessagePolicy, Volume, VolumeMount, VolumeSource,
};
use crate::report::{Report, exit_code};
use crate::sys::describe_io;

/// The one container's name.
const CONTAINER: &str = "main";

fn usage(what: String) -> Report {
    Report::new(exit_code::USAGE, what)
}

/// The pod; its name is `sandpod-` and eight hexadecimal digits unless one is given.
pub(crate) fn pod(asked: &SingleArguments, name: Option<&str>) -> Result<Pod, Report> {
    let SingleArguments {
        image,
        volumes,
        env,
        workdir,
        user,
        memory,
        cpus,
        pids_limit,
        entrypoint,
        interactive,
        tty,
        command,
    } = asked;
    let name = match name {
        Some(name) => name.to_owned(),
        None => format!("sandpod-{:08x}", chance()? & 0xffff_ffff),
    };
    let (volumes, volume_mounts): (Vec<Volume>, Vec<VolumeMount>) =
        volumes.iter().enumerate().map(volume).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    check_mounts(&volume_mounts)?;
    let (run_as_user, run_as_group) = user.as_deref().map(ids).transpose()?.unwrap_or((None, None));
    if let Some(dir) = workdir.as_deref().filter(|dir| !dir.starts_with('/')) {
        return Err(usage(format!("--workdir {dir} is not absolute")).hint("it is a path inside the container"));
    }
    let image = parse_image(image.as_deref().unwrap_or_default())?;
    let (program, arguments) = words(&image, entrypoint.as_deref(), command);
    let image_pull_policy = match &image {
        Image::Stored(source) => source.default_pull_policy(),
        Image::Host | Image::Rootfs(_) => PullPolicy::Never,
    };
    let container = Container {
        name: CONTAINER.to_owned(),
        image,
        image_pull_policy,
        command: program,
        args: arguments,
        working_dir: workdir.clone(),
        env: environment(env)?
            .into_iter()
            .map(|(name, value)| EnvVar { name, value: EnvValue::Text(literal(&value)) })
            .collect(),
        stdin: *interactive,
        // As `docker run -i`: the end of our stdin is the end of its.
        stdin_once: *interactive,
        tty: *tty,
        volume_mounts,
        ports: Vec::new(),
        security_context: ContainerSecurityContext { run_as_user, run_as_group, ..Default::default() },
        resources: limits(memory.as_deref(), cpus.as_deref())?,
        termination_message_path: Container::TERMINATION_MESSAGE_PATH.to_owned(),
        termination_message_policy: TerminationMessagePolicy::File,
    };
    Ok(Pod {
        metadata: Metadata {
            name,
            generate_name: None,
            namespace: None,
            labels: BTreeMap::new(),
            annotations: annotations(pids_limit.as_deref())?,
        },
        spec: PodSpec {
            containers: vec![container],
            volumes,
            restart_policy: RestartPolicy::Never,
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
    })
}

/// `command` and `args`. CMD takes the place of an image's command and follows its entrypoint, which `--entrypoint` replaces
/// (as `docker run` does); an empty one leaves CMD alone.
fn words(image: &Image, entrypoint: Option<&str>, command: &[String]) -> (Vec<String>, Vec<String>) {
    let command = command.iter().map(|word| literal(word)).collect();
    match (image, entrypoint) {
        (Image::Stored(_), None) => (Vec::new(), command),
        (Image::Host | Image::Rootfs(_), None) | (_, Some("")) => (command, Vec::new()),
        (_, Some(program)) => (vec![literal(program)], command),
    }
}

fn limits(memory: Option<&str>, cpus: Option<&str>) -> Result<Resources, Report> {
    let mut resources = Resources::default();
    for (option, resource, typed) in [("--memory", Resource::Memory, memory), ("--cpus", Resource::Cpu, cpus)] {
        let Some(typed) = typed else { continue };
        let amount = manifest::amount(resource, Role::Limit, typed)
            .map_err(|wrong| usage(format!("{option} {typed}")).because(wrong))?;
        resources.limits.set(resource, amount);
    }
    Ok(resources)
}

fn annotations(pids_limit: Option<&str>) -> Result<BTreeMap<String, String>, Report> {
    let Some(typed) = pids_limit else { return Ok(BTreeMap::new()) };
    manifest::pids_limit(typed).map_err(|wrong| usage(format!("--pids-limit {typed}")).because(wrong))?;
    Ok(BTreeMap::from([("sandpod.dev/pids-limit".to_owned(), typed.to_owned())]))
}

/// `$(VAR)` is the manifest's language, and `$$(VAR)` how it writes those letters; on the command line the shell has done its
/// expansion already.
fn literal(text: &str) -> String {
    text.replace("$$", "$$$$").replace("$(", "$$(")
}

fn parse_image(typed: &str) -> Result<Image, Report> {
    if typed == "host:" {
        return Ok(Image::Host);
    }
    let Some(dir) = typed.strip_prefix("rootfs:") else {
        if typed == "host" {
            return Err(usage("--image host lacks its colon".to_owned()).hint("--image host:"));
        }
        if typed.starts_with("host:") {
            let what = usage(format!("--image {typed}"));
            return Err(what.because("nothing may follow `host:`, which is this machine's own system"));
        }
        return stored(typed).map(Image::Stored);
    };
    let unusable = |error| usage(format!("--image {typed}")).because(format!("{dir}: {}", describe_io(&error)));
    existing(dir).map(Image::Rootfs).map_err(unusable)
}

/// An image that is taken into the store.
pub(crate) fn stored(typed: &str) -> Result<ImageSource, Report> {
    let wrong = |why: String| usage(format!("`{typed}` is not the name of an image")).because(why);
    let source = ImageSource::parse(typed).map_err(|invalid| {
        wrong(format!("it {invalid}")).hint("`host:` is this machine's own /usr and /etc, `rootfs:DIR` a directory")
    })?;
    let Some(path) = source.path().and_then(Path::to_str).map(str::to_owned) else { return Ok(source) };
    let real = existing(&path).map_err(|error| wrong(format!("{path}: {}", describe_io(&error))))?;
    // Its canonical text is the image's name in the store.
    match real.to_str() {
        Some(text) if !text.contains(':') => Ok(source.at(real)),
        _ => Err(wrong(format!("{} cannot be written as text without `:`", real.display()))),
    }
}

/// The path of the host itself, with links and `..` resolved.
fn existing(path: &str) -> Result<PathBuf, std::io::Error> {
    std::fs::canonicalize(path)
}

fn volume((number, typed): (usize, &String)) -> Result<(Volume, VolumeMount), Report> {
    let wrong = |why: &str| {
        usage(format!("--volume {typed}")).because(why.to_owned()).hint("write SRC:DST, or SRC:DST:ro for read-only")
    };
    let parts: Vec<&str> = typed.split(':').collect();
    let (source, destination, read_only) = match parts[..] {
        [source, destination] | [source, destination, "rw"] => (source, destination, false),
        [source, destination, "ro"] => (source, destination, true),
        [_, _, _] => return Err(wrong("the third part is neither `ro` nor `rw`")),
        _ => return Err(wrong("it has not two or three parts")),
    };
    if source.is_empty() || destination.is_empty() {
        return Err(wrong("a path is empty"));
    }
    if !Path::new(destination).is_absolute() || Path::new(destination).components().any(|c| c == Component::ParentDir) {
        return Err(wrong("DST must be absolute, without `..`"));
    }
    let path = existing(source).map_err(|error| no_source(typed, source, &error))?;
    let name = format!("volume-{number}");
    let mount = VolumeMount { name: name.clone(), mount_path: destination.to_owned(), read_only };
    Ok((Volume { name, source: VolumeSource::HostPath { path, kind: HostPathType::Unchecked } }, mount))
}

/// `-v` with a source that cannot be used.
fn no_source(typed: &str, source: &str, error: &std::io::Error) -> Report {
    let report = usage(format!("--volume {typed}")).because(format!("{source}: {}", describe_io(error)));
    match error.kind() {
        std::io::ErrorKind::NotFound if source.contains('/') => report.hint(format!(
            "make it first (`mkdir -p {source}`, or `touch` for a file): sandpod makes nothing on the host for -v"
        )),
        std::io::ErrorKind::NotFound => report.hint(format!(
            "SRC is a path, here of a directory or file `{source}` in the current directory: there are no named volumes. \
             Make it first (`mkdir {source}`), or write an emptyDir into a manifest"
        )),
        _ => report,
    }
}

fn check_mounts(mounts: &[VolumeMount]) -> Result<(), Report> {
    for (index, mount) in mounts.iter().enumerate() {
        let same = |other: &&VolumeMount| Path::new(&other.mount_path) == Path::new(&mount.mount_path);
        if mounts[..index].iter().any(|other| same(&other)) {
            return Err(usage(format!("--volume: two mounts at {}", mount.mount_path)));
        }
    }
    Ok(())
}

fn ids(typed: &str) -> Result<(Option<u32>, Option<u32>), Report> {
    let number = |text: &str| {
        // The greatest number means "none" to the kernel (setresuid(2)).
        text.parse::<u32>().ok().filter(|id| *id != u32::MAX).ok_or_else(|| {
            usage(format!("--user {typed}")).because(format!("`{text}` is not an id")).hint("write UID or UID:GID")
        })
    };
    match typed.split_once(':') {
        None => Ok((Some(number(typed)?), None)),
        Some((user, group)) => Ok((Some(number(user)?), Some(number(group)?))),
    }
}

/// `NAME=VALUE`, or `NAME` from our own environment, where it must be set.
pub(crate) fn environment(typed: &[String]) -> Result<Vec<(String, String)>, Report> {
    typed
        .iter()
        .map(|entry| {
            let (name, value) = match entry.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => {
                    let value = std::env::var(entry).map_err(|error| {
                        usage(format!("--env {entry}"))
                            .because(error.to_string())
                            .hint(format!("set it here, or write `--env {entry}=VALUE`"))
                    })?;
                    (entry.as_str(), value)
                }
            };
            if name.is_empty() {
                return Err(usage(format!("--env {entry}")).because("the name is empty"));
            }
            Ok((name.to_owned(), value))
        })
        .collect()
}

/// A pod's name is a DNS-1123 subdomain.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/#dns-subdomain-names>
pub(crate) fn check_name(name: &str) -> Result<(), Report> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(|b| inner(*b))
            && bytes.last().is_some_and(|b| inner(*b))
            && bytes.iter().all(|b| inner(*b) || *b == b'-')
    };
    if name.len() <= 253 && name.split('.').all(label) {
        return Ok(());
    }
    Err(usage(format!("--name {name} is not a pod's name"))
        .because("a name is a DNS-1123 subdomain: a-z, 0-9, `-` and `.`, beginning and ending with a letter or digit")
        .hint("for example `web` or `web-1`"))
}

/// `prefix` and five letters, as the API server makes a name (`SimpleNameGenerator`): of letters that make no words, and
/// of at most 63 characters.
pub(crate) fn generated_name(prefix: &str, mut chance: u64) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    const COUNT: usize = 5;
    let mut name: String = prefix.chars().take(63 - COUNT).collect();
    for _ in 0..COUNT {
        name.push(char::from(LETTERS[(chance % LETTERS.len() as u64) as usize]));
        chance /= LETTERS.len() as u64;
    }
    name
}

/// 64 random bits.
pub(crate) fn chance() -> Result<u64, Report> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Report::new(exit_code::FAILURE, "could not read /dev/urandom").because(describe_io(&error)))?;
    Ok(u64::from_ne_bytes(bytes))
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
