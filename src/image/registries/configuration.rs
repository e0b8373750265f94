//! All files of registries.conf(5) as one, and what they mean for a reference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::certificates::{self, Certificates};
use super::conf_file::{self, ConfFile, Registry, Serves, ShortNameMode};
use super::credentials::{self, CredentialsError};
use super::endpoint::{Endpoint, Proxies, Trust};
use super::environment::Environment;
use super::files::{self, Unreadable};
use super::prefix;
use crate::manifest::image_reference::{self, DEFAULT_REGISTRY, DEFAULT_TAG, ImageReference};

/// What the files say, later ones over earlier ones.
#[derive(Debug)]
pub struct Configuration {
    environment: Environment,
    search: Vec<String>,
    short_names: ShortNameMode,
    helpers: Vec<String>,
    registries: BTreeMap<String, Registry>,
    aliases: BTreeMap<String, String>,
    /// What was ignored, with file and line.
    pub warnings: Vec<String>,
}

/// Why a reference may not be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("{0}")]
    Unreadable(#[from] Unreadable),
    #[error("{0}")]
    Credentials(#[from] CredentialsError),
    #[error("registry `{prefix}` is blocked in {}", file.display())]
    Blocked { prefix: String, file: PathBuf },
    /// What a location and the rest of a reference make together.
    #[error("{} rewrites {reference} to `{rewritten}`, which {why}", file.display())]
    Rewritten { reference: String, rewritten: String, file: PathBuf, why: String },
    #[error("short name `{name}` could be of any of these registries: {}", registries.join(", "))]
    Ambiguous { name: String, registries: Vec<String> },
    #[error("short name `{name}` is of no registry: unqualified-search-registries of registries.conf is empty")]
    NoRegistry { name: String },
}

impl Configuration {
    /// Reads all files; none has to exist.
    ///
    /// # Errors
    /// The first file that cannot be read or understood.
    pub fn load(environment: &Environment) -> Result<Configuration, Unreadable> {
        let mut configuration = Configuration {
            environment: environment.clone(),
            // Kubernetes knows no other; containers-registries.conf(5) leaves it to the distribution.
            search: vec![DEFAULT_REGISTRY.to_owned()],
            short_names: ShortNameMode::Permissive,
            helpers: Vec::new(),
            registries: BTreeMap::new(),
            aliases: BTreeMap::new(),
            warnings: Vec::new(),
        };
        for file in sources(environment)? {
            if let Some(text) = files::read_text(&file)? {
                let read = conf_file::parse(&file, &text, &mut configuration.warnings)?;
                configuration.lay_over(read);
            }
        }
        Ok(configuration)
    }

    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    fn lay_over(&mut self, read: ConfFile) {
        let ConfFile { search, short_names, helpers, registries, aliases } = read;
        self.search = search.unwrap_or_else(|| std::mem::take(&mut self.search));
        self.short_names = short_names.unwrap_or(self.short_names);
        self.helpers = helpers.unwrap_or_else(|| std::mem::take(&mut self.helpers));
        self.registries.extend(registries.into_iter().map(|registry| (registry.prefix.clone(), registry)));
        for (name, meaning) in aliases {
            if meaning.is_empty() {
                self.aliases.remove(&name)
            } else {
                self.aliases.insert(name, meaning)
            };
        }
    }

    /// What a name may mean, in the order to try: one reference, but for a short name (`nginx`), which has an alias or is
    /// looked for in `unqualified-search-registries`.
    ///
    /// # Errors
    /// A short name that cannot be resolved.
    pub fn candidates(&self, typed: &ImageReference) -> Result<Vec<ImageReference>, Refused> {
        let Some(name) = &typed.short_name else { return Ok(vec![typed.clone()]) };
        let name = name.clone();
        let (tag, digest) = (typed.tag.clone(), typed.digest.clone());
        let completed = |name: &str| {
            let found = image_reference::parse(name).ok()?;
            Some(ImageReference { tag: tag.clone(), digest: digest.clone(), ..found })
        };
        if let Some(meaning) = self.aliases.get(&name) {
            let meant = completed(meaning).map(|meant| vec![meant]);
            return meant.ok_or(Refused::NoRegistry { name });
        }
        if self.search.is_empty() {
            return Err(Refused::NoRegistry { name });
        }
        if self.short_names == ShortNameMode::Enforcing && self.search.len() > 1 {
            return Err(Refused::Ambiguous { name, registries: self.search.clone() });
        }
        let mut seen = BTreeSet::new();
        let found = self.search.iter().filter_map(|registry| completed(&format!("{registry}/{name}")));
        Ok(found.filter(|reference| seen.insert(reference.to_string())).collect())
    }

    /// Where a reference is asked for, in order.
    ///
    /// # Errors
    /// A blocked registry, a location that makes no reference, or credentials and certificates that cannot be read.
    pub fn endpoints(&self, reference: &ImageReference) -> Result<Vec<Endpoint>, Refused> {
        let text = reference.to_string();
        let Some((registry, length)) = self.registry(&text) else {
            return Ok(vec![self.endpoint(reference, false)?]);
        };
        if registry.blocked {
            return Err(Refused::Blocked { prefix: registry.prefix.clone(), file: registry.file.clone() });
        }
        let is_by_digest = reference.digest.is_some();
        let serves = |serves| match serves {
            Serves::All => true,
            Serves::Digests => is_by_digest,
            Serves::Tags => !is_by_digest,
        };
        let mirrors = registry.mirrors.iter().filter(|mirror| serves(mirror.serves));
        let mut places: Vec<(&str, bool)> = mirrors.map(|it| (it.location.as_str(), it.insecure)).collect();
        places.push((&registry.location, registry.insecure));
        let mut endpoints = Vec::new();
        for (location, insecure) in places {
            let rewritten = if location.is_empty() { text.clone() } else { format!("{location}{}", &text[length..]) };
            let parsed = image_reference::parse(&rewritten).map_err(|wrong| Refused::Rewritten {
                reference: text.clone(),
                rewritten: rewritten.clone(),
                file: registry.file.clone(),
                why: wrong.to_string(),
            })?;
            endpoints.push(self.endpoint(&parsed, insecure)?);
        }
        Ok(endpoints)
    }

    /// Where to push to: the registry itself, by its location; mirrors only serve pulls.
    ///
    /// # Errors
    /// As [`endpoints`](Self::endpoints).
    pub fn destination(&self, reference: &ImageReference) -> Result<Endpoint, Refused> {
        let mut endpoints = self.endpoints(reference)?;
        endpoints.pop().ok_or_else(|| Refused::NoRegistry { name: reference.to_string() })
    }

    /// The `[[registry]]` with the longest prefix that stands for a reference, and the bytes that it replaces.
    fn registry(&self, reference: &str) -> Option<(&Registry, usize)> {
        let matching = self.registries.values();
        let matching = matching.filter_map(|it| prefix::matches(reference, &it.prefix).map(|length| (it, length)));
        matching.max_by_key(|(registry, _)| registry.prefix.len())
    }

    fn endpoint(&self, reference: &ImageReference, insecure: bool) -> Result<Endpoint, Refused> {
        let ImageReference { registry, repository, tag, digest, short_name: _ } = reference.clone();
        let reference = digest.or(tag).unwrap_or_else(|| DEFAULT_TAG.to_owned());
        self.place(registry, repository, reference, insecure)
    }

    /// All that is known of a registry itself, or of a namespace of it, for a login.
    ///
    /// # Errors
    /// As [`endpoints`](Self::endpoints).
    pub fn registry_alone(&self, host: &str, namespace: &str) -> Result<Endpoint, Refused> {
        let registry = self.registry(host).map(|(registry, _)| registry);
        if let Some(Registry { prefix, file, .. }) = registry.filter(|registry| registry.blocked) {
            return Err(Refused::Blocked { prefix: prefix.clone(), file: file.clone() });
        }
        self.place(host.to_owned(), namespace.to_owned(), String::new(), registry.is_some_and(|it| it.insecure))
    }

    fn place(&self, host: String, repository: String, reference: String, insecure: bool) -> Result<Endpoint, Refused> {
        let Certificates { authorities, client } = certificates::of_host(&self.environment, &host)?;
        let credentials = credentials::find(&self.environment, &self.helpers, &host, &repository)?;
        Ok(Endpoint {
            host,
            repository,
            reference,
            trust: if insecure { Trust::Insecure } else { Trust::Verified { authorities } },
            client_certificate: client,
            proxies: Proxies::of(&self.environment),
            credentials,
        })
    }
}

/// The files in the order in which they are read (containers-registries.conf(5), FILES, and `newConfigWrapper` of
/// containers/image): a user's own registries.conf replaces the system's together with its drop-ins.
fn sources(environment: &Environment) -> Result<Vec<PathBuf>, Unreadable> {
    let system = environment.etc().join("containers");
    let user = environment.containers();
    let chosen = environment.path("CONTAINERS_REGISTRIES_CONF");
    let chosen_drop_ins = environment.path("CONTAINERS_REGISTRIES_CONF_DIR");
    let of_user = user.as_ref().map(|it| it.join("registries.conf")).filter(|file| file.exists());
    let is_of_user = chosen.is_none() && of_user.is_some();
    if let Some(file) = chosen.as_ref().filter(|file| !file.exists()) {
        return Err(Unreadable::new(file, "does not exist, and CONTAINERS_REGISTRIES_CONF names it"));
    }
    let mut found = vec![chosen.or(of_user).unwrap_or_else(|| system.join("registries.conf"))];
    let drop_ins = match (chosen_drop_ins, is_of_user) {
        (Some(chosen), _) => vec![chosen],
        (None, true) => user.iter().map(|it| it.join("registries.conf.d")).collect(),
        (None, false) => [Some(system), user].into_iter().flatten().map(|it| it.join("registries.conf.d")).collect(),
    };
    for directory in drop_ins {
        found.extend(files::with_extension(&directory, "conf")?);
    }
    Ok(found)
}
