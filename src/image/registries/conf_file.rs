//! One file in the format of containers-registries.conf(5), version 2.

use std::path::{Path, PathBuf};

use super::files::Unreadable;
use super::prefix;
use super::toml_table::{Origin, TomlTable};

/// What one file says. `None`: it says nothing of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ConfFile {
    pub(super) search: Option<Vec<String>>,
    pub(super) short_names: Option<ShortNameMode>,
    pub(super) helpers: Option<Vec<String>>,
    pub(super) registries: Vec<Registry>,
    /// A short name and what it means; an empty text takes an alias of an earlier file away.
    pub(super) aliases: Vec<(String, String)>,
}

/// What happens to a short name that could be meant for several registries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShortNameMode {
    /// It is refused: there is nobody to choose.
    Enforcing,
    /// The registries are asked in order.
    Permissive,
}

/// A `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Registry {
    pub(super) prefix: String,
    /// What replaces the prefix; empty: nothing does.
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) blocked: bool,
    pub(super) mirrors: Vec<Mirror>,
    /// For messages.
    pub(super) file: PathBuf,
}

/// A `[[registry.mirror]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mirror {
    pub(super) location: String,
    pub(super) insecure: bool,
    pub(super) serves: Serves,
}

/// Which references a mirror is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serves {
    All,
    Digests,
    Tags,
}

/// Reads the text of one file; warnings name what is ignored.
///
/// # Errors
/// The first thing that is wrong, with its line.
pub(super) fn parse(file: &Path, text: &str, warnings: &mut Vec<String>) -> Result<ConfFile, Unreadable> {
    let origin = Origin { file, text };
    let mut table = TomlTable::parse(origin)?;
    if let Some((offset, _)) = table.take("registries") {
        let why = "is the format before version 2: write unqualified-search-registries and [[registry]]";
        return Err(table.error(offset, "registries", why));
    }
    let mut search = None;
    if let Some(found) = table.texts("unqualified-search-registries")? {
        for (offset, registry) in &found {
            prefix::check_location(registry)
                .map_err(|why| table.error(*offset, "unqualified-search-registries", &why))?;
        }
        search = Some(found.into_iter().map(|(_, registry)| registry).collect());
    }
    let short_names = match table.text("short-name-mode")? {
        None => None,
        Some((offset, mode)) => Some(match mode.as_str() {
            "enforcing" => ShortNameMode::Enforcing,
            // Without a terminal to ask, the two do the same.
            "permissive" | "disabled" => ShortNameMode::Permissive,
            _ => {
                let why = format!("is `{mode}`: use enforcing, permissive or disabled");
                return Err(table.error(offset, "short-name-mode", &why));
            }
        }),
    };
    let helpers = table.texts("credential-helpers")?.map(|it| it.into_iter().map(|(_, helper)| helper).collect());
    let mut registries = Vec::new();
    for registry in table.tables("registry")? {
        registries.push(self::registry(file, registry, warnings)?);
    }
    let mut aliases = Vec::new();
    for (offset, name, meaning) in table.text_entries("aliases")? {
        check_alias(&name, &meaning).map_err(|why| table.error(offset, &format!("aliases.{name}"), why))?;
        aliases.push((name, meaning));
    }
    table.warn_of_the_rest(warnings);
    Ok(ConfFile { search, short_names, helpers, registries, aliases })
}

fn registry(file: &Path, mut table: TomlTable<'_>, warnings: &mut Vec<String>) -> Result<Registry, Unreadable> {
    let prefix = table.text("prefix")?.filter(|(_, text)| !text.is_empty());
    let location = table.text("location")?.filter(|(_, text)| !text.is_empty());
    if let Some((offset, text)) = &prefix {
        prefix::check(text).map_err(|why| table.error(*offset, "prefix", &why))?;
    }
    if let Some((offset, text)) = &location {
        prefix::check_location(text).map_err(|why| table.error(*offset, "location", &why))?;
    }
    let location = location.map(|(_, text)| text);
    let prefix = match (prefix, &location) {
        (Some((_, prefix)), None) if !prefix.starts_with("*.") => {
            return Err(table.error(
                table.offset,
                "location",
                "is missing: only a prefix like *.example.com can be without",
            ));
        }
        (Some((_, prefix)), _) => prefix,
        (None, Some(location)) => location.clone(),
        (None, None) => return Err(table.error(table.offset, "location", "is missing, and so is `prefix`")),
    };
    let (insecure, blocked) = (table.truth("insecure")?, table.truth("blocked")?);
    let digests_only = table.truth("mirror-by-digest-only")?;
    let mut mirrors = Vec::new();
    for mirror in table.tables("mirror")? {
        mirrors.push(self::mirror(mirror, digests_only, warnings)?);
    }
    table.warn_of_the_rest(warnings);
    Ok(Registry { prefix, location: location.unwrap_or_default(), insecure, blocked, mirrors, file: file.to_owned() })
}

fn mirror(mut table: TomlTable<'_>, digests_only: bool, warnings: &mut Vec<String>) -> Result<Mirror, Unreadable> {
    let Some((offset, location)) = table.text("location")? else {
        return Err(table.error(table.offset, "location", "is missing"));
    };
    prefix::check_location(&location).map_err(|why| table.error(offset, "location", &why))?;
    let insecure = table.truth("insecure")?;
    let serves = match table.text("pull-from-mirror")? {
        None if digests_only => Serves::Digests,
        None => Serves::All,
        Some((offset, _)) if digests_only => {
            let why = "cannot be used together with mirror-by-digest-only of its registry";
            return Err(table.error(offset, "pull-from-mirror", why));
        }
        Some((offset, text)) => match text.as_str() {
            "all" | "" => Serves::All,
            "digest-only" => Serves::Digests,
            "tag-only" => Serves::Tags,
            _ => {
                let why = format!("is `{text}`: use all, digest-only or tag-only");
                return Err(table.error(offset, "pull-from-mirror", &why));
            }
        },
    };
    table.warn_of_the_rest(warnings);
    Ok(Mirror { location, insecure, serves })
}

fn check_alias(name: &str, meaning: &str) -> Result<(), &'static str> {
    // A dot is that of a host only before a slash: `rhel7.9` is a short name (containers/shortnames has it).
    let host = name.split_once('/').map_or("", |(host, _)| host);
    let has_tag = name.contains('@') || name.rsplit('/').next().is_some_and(|last| last.contains(':'));
    if name.is_empty() || host.contains(['.', ':']) || host == "localhost" || has_tag {
        return Err("is not a short name: it has a registry, a tag or a digest");
    }
    let is_complete = meaning.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost");
    let has_tag = meaning.contains('@') || meaning.rsplit('/').next().is_some_and(|last| last.contains(':'));
    match meaning {
        "" => Ok(()),
        _ if !is_complete || prefix::check_location(meaning).is_err() => Err("does not mean REGISTRY/REPOSITORY"),
        _ if has_tag => Err("means a name with a tag or a digest, which an alias cannot have"),
        _ => Ok(()),
    }
}
