//! What an image says of how it wants to run (image-spec, config.md).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use super::descriptor::MAX_DOCUMENT;
use super::digest::Digest;
use super::platform::Platform;
use crate::sys::process::signal_number;
use crate::sys::signals::SIGTERM;

/// The part of a configuration that a container takes: what the manifest does not say comes from here
/// (<https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/#notes>).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `name`, `uid`, `name:group` or `uid:gid`; empty: root.
    pub user: String,
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// In the image's order; of two with one name the later one counts.
    pub environment: Vec<(String, String)>,
    pub working_directory: PathBuf,
    /// `SIGTERM`, `15`; none: SIGTERM.
    pub stop_signal: Option<String>,
    /// Directories whose content is not to be written into the root file system.
    pub volumes: Vec<PathBuf>,
    /// `80/tcp`; only shown.
    pub exposed_ports: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

impl ImageConfig {
    /// # Errors
    /// The text of a signal that Linux does not have.
    pub fn stop_signal_number(&self) -> Result<i32, &str> {
        self.stop_signal.as_deref().map_or(Ok(SIGTERM), |text| signal_number(text).ok_or(text))
    }
}

/// A whole configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    pub platform: Platform,
    pub image: ImageConfig,
    /// Of the uncompressed layers, the lowest first.
    pub diff_ids: Vec<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration has {0} bytes, and at most {MAX_DOCUMENT} are read")]
    TooLarge(u64),
    #[error("the configuration is not valid: {0}")]
    Json(String),
    #[error("the configuration has {diff_ids} diff_ids for {layers} layers")]
    LayerCount { diff_ids: usize, layers: usize },
    #[error("the environment of the image has `{0}`, which is not NAME=VALUE")]
    Environment(String),
    #[error("the configuration has a NUL byte in `{0}`, which no program can be given")]
    NulByte(&'static str),
}

#[derive(Deserialize)]
struct Raw {
    #[serde(flatten)]
    platform: Platform,
    #[serde(default, deserialize_with = "null_is_default")]
    config: RawConfig,
    rootfs: RawRootfs,
}

#[derive(Deserialize)]
struct RawRootfs {
    #[serde(default, deserialize_with = "null_is_default")]
    diff_ids: Vec<String>,
}

/// Docker writes `null` for what is empty.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct RawConfig {
    #[serde(deserialize_with = "null_is_default")]
    user: String,
    #[serde(deserialize_with = "null_is_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    working_dir: String,
    stop_signal: Option<String>,
    #[serde(deserialize_with = "null_is_default")]
    volumes: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "null_is_default")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "null_is_default")]
    labels: BTreeMap<String, String>,
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// Parses a configuration of an image with so many layers.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8], layers: usize) -> Result<Configuration, ConfigError> {
    if bytes.len() as u64 > MAX_DOCUMENT {
        return Err(ConfigError::TooLarge(bytes.len() as u64));
    }
    let Raw { platform, config, rootfs } =
        serde_json::from_slice(bytes).map_err(|error| ConfigError::Json(error.to_string()))?;
    let diff_ids = rootfs.diff_ids.iter().map(|text| text.parse::<Digest>());
    let diff_ids = diff_ids.collect::<Result<Vec<_>, _>>().map_err(|error| ConfigError::Json(error.to_string()))?;
    if diff_ids.len() != layers {
        return Err(ConfigError::LayerCount { diff_ids: diff_ids.len(), layers });
    }
    Ok(Configuration { platform, image: image(config)?, diff_ids })
}

fn image(raw: RawConfig) -> Result<ImageConfig, ConfigError> {
    let RawConfig { user, entrypoint, cmd, env, working_dir, stop_signal, volumes, exposed_ports, labels } = raw;
    for (name, texts) in [("Entrypoint", &entrypoint), ("Cmd", &cmd), ("Env", &env)] {
        if texts.iter().any(|text| text.contains('\0')) {
            return Err(ConfigError::NulByte(name));
        }
    }
    let pair = |text: String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(ConfigError::Environment(text)),
    };
    Ok(ImageConfig {
        user,
        entrypoint,
        command: cmd,
        environment: env.into_iter().map(pair).collect::<Result<_, _>>()?,
        working_directory: if working_dir.is_empty() { PathBuf::from("/") } else { PathBuf::from(working_dir) },
        stop_signal: stop_signal.filter(|signal| !signal.is_empty()),
        volumes: volumes.into_keys().map(PathBuf::from).collect(),
        exposed_ports: exposed_ports.into_keys().collect(),
        labels,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const DIFF_ID: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn read(config: &Value, layers: usize) -> Result<Configuration, ConfigError> {
        let whole = json!({"os": "linux", "architecture": "arm64", "variant": "v8", "config": config,
            "rootfs": {"type": "layers", "diff_ids": [DIFF_ID]}, "history": [{"created_by": "x"}]});
        parse(whole.to_string().as_bytes(), layers)
    }

    #[test]
    fn what_a_container_takes() {
        let config = json!({"User": "101:0", "Entrypoint": ["/entry.sh"], "Cmd": null, "Env": ["PATH=/bin", "A=b=c"],
            "WorkingDir": "", "StopSignal": "SIGQUIT", "Volumes": {"/data": {}}, "ExposedPorts": {"80/tcp": {}},
            "Labels": {"a": "b"}, "OnBuild": null, "Healthcheck": {"Test": ["NONE"]}});
        let found = read(&config, 1).expect("valid");
        assert_eq!(found.platform.to_string(), "linux/arm64/v8");
        assert_eq!(found.diff_ids.len(), 1);
        assert_eq!(
            found.image,
            ImageConfig {
                user: "101:0".to_owned(),
                entrypoint: vec!["/entry.sh".to_owned()],
                command: Vec::new(),
                environment: vec![("PATH".to_owned(), "/bin".to_owned()), ("A".to_owned(), "b=c".to_owned())],
                working_directory: PathBuf::from("/"),
                stop_signal: Some("SIGQUIT".to_owned()),
                volumes: vec![PathBuf::from("/data")],
                exposed_ports: vec!["80/tcp".to_owned()],
                labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            }
        );
        assert_eq!(read(&Value::Null, 1).expect("valid").image.working_directory, PathBuf::from("/"));
    }

    #[test]
    fn what_no_program_can_be_given_is_refused() {
        for (config, layers, part) in [
            (json!({"Env": ["NOVALUE"]}), 1, "NOVALUE"),
            (json!({"Env": ["=x"]}), 1, "=x"),
            (json!({"Cmd": ["a\u{0}b"]}), 1, "NUL byte in `Cmd`"),
            (json!({"Entrypoint": "sh -c x"}), 1, "not valid"),
            (json!({}), 2, "1 diff_ids for 2 layers"),
        ] {
            let error = read(&config, layers).expect_err(part).to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
        let deep = "[".repeat(100_000);
        assert!(matches!(parse(deep.as_bytes(), 0), Err(ConfigError::Json(_))), "no deep recursion");
    }
}
