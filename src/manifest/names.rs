//! Kubernetes' rules for names, as its `k8s.io/apimachinery/pkg/util/validation` states them.
//!
//! Each check answers with the rule that is broken, as the rest of a sentence that starts with "must".

pub(crate) type Rule = Result<(), &'static str>;

/// A container, volume, namespace or host name.
pub(crate) fn dns_label(name: &str) -> Rule {
    if name.len() > 63 {
        return Err("be at most 63 characters long");
    }
    if is_dns_label(name) {
        return Ok(());
    }
    Err("be a DNS-1123 label: lower-case letters, digits and `-`, starting and ending with a letter or digit")
}

/// A Pod's name.
pub(crate) fn dns_subdomain(name: &str) -> Rule {
    if name.len() > 253 {
        return Err("be at most 253 characters long");
    }
    if name.split('.').all(is_dns_label) {
        return Ok(());
    }
    Err(
        "be a DNS-1123 subdomain: lower-case letters, digits, `-` and `.`, each part starting and ending with a letter or digit",
    )
}

/// The beginning of a Pod's name, which may end in `-` (`NameIsDNSSubdomain` for a prefix).
pub(super) fn name_prefix(prefix: &str) -> Rule {
    match prefix.strip_suffix('-') {
        Some(start) if !start.is_empty() => dns_subdomain(&format!("{start}a")),
        _ => dns_subdomain(prefix),
    }
}

fn is_dns_label(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.bytes().all(inside) && !name.starts_with('-') && !name.ends_with('-')
}

/// A domain to search in, as Kubernetes allows it since 1.33 (KEP-4427): with `_`, a dot at its end, or the root alone.
pub(super) fn search_domain(domain: &str) -> Rule {
    if domain == "." || dns_subdomain(&domain.strip_suffix('.').unwrap_or(domain).replace('_', "a")).is_ok() {
        return Ok(());
    }
    Err("be a domain of at most 253 characters: lower-case letters, digits, `-`, `_` and `.`")
}

/// One word of a line of resolv.conf(5): with a space or a line's end in it, it would be another line there.
pub(super) fn resolver_word(word: &str) -> Rule {
    if !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    Err("be one word of printable ASCII")
}

/// A port's name: an IANA service name, RFC 6335 section 5.1.
pub(super) fn port_name(name: &str) -> Rule {
    if name.is_empty() || name.len() > 15 {
        return Err("be 1 to 15 characters long");
    }
    if !name.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err("hold at least one letter (lower case)");
    }
    if name.contains("--") || !is_dns_label(name) {
        return Err("be lower-case letters, digits and single `-`, starting and ending with a letter or digit");
    }
    Ok(())
}

/// Since Kubernetes 1.30 (KEP-4369) any printable ASCII but `=`.
pub(super) fn env_name(name: &str) -> Rule {
    if !name.is_empty() && name.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        return Ok(());
    }
    Err("be one or more printable ASCII characters other than `=`")
}

/// The key of a label: `[prefix/]name`.
pub(crate) fn label_key(key: &str) -> Rule {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if prefix.is_some_and(|prefix| dns_subdomain(prefix).is_err()) {
        return Err("have a DNS-1123 subdomain before its `/`");
    }
    if name.is_empty() || name.len() > 63 {
        return Err("have a name of 1 to 63 characters (after the `/`, where there is one)");
    }
    if !is_qualified(name) {
        return Err("be letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit");
    }
    Ok(())
}

/// As a label's, but the prefix may have capitals: Kubernetes lower-cases the key of an annotation first.
pub(super) fn annotation_key(key: &str) -> Rule {
    label_key(&key.to_ascii_lowercase())
}

pub(crate) fn label_value(value: &str) -> Rule {
    if value.len() > 63 {
        return Err("be at most 63 characters long");
    }
    if !value.is_empty() && !is_qualified(value) {
        return Err("be empty, or letters, digits, `-`, `_` and `.`, starting and ending with a letter or digit");
    }
    Ok(())
}

fn is_qualified(name: &str) -> bool {
    let edge = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    name.bytes().all(inside) && edge(name.bytes().next()) && edge(name.bytes().last())
}

/// `PATH_MAX` of linux/limits.h without its NUL.
const MAX_PATH_BYTES: usize = 4095;

/// A path inside a container or on the host that means the same wherever it is looked at.
pub(super) fn absolute_path(path: &str) -> Rule {
    if !path.starts_with('/') {
        return Err("be an absolute path, starting with `/`");
    }
    if path.split('/').any(|part| part == "..") {
        return Err("not contain `..`");
    }
    if path.len() > MAX_PATH_BYTES || path.split('/').any(|part| part.len() > 255) {
        return Err("be at most 4095 bytes long, and each part of it at most 255");
    }
    Ok(())
}

/// Without empty parts, `.` and a slash at the end, so that two spellings of one place are equal.
pub(super) fn normalized_path(absolute: &str) -> String {
    let parts: Vec<&str> = absolute.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dns_names() {
        let longest = "a".repeat(63);
        for name in ["a", "0", "web-1", "a--b", &longest] {
            assert_eq!(dns_label(name), Ok(()), "{name}");
        }
        let too_long = "a".repeat(64);
        for name in ["", "-a", "a-", "A", "a.b", "a_b", "ä", "a\n", " a", &too_long] {
            assert!(dns_label(name).is_err(), "{name:?}");
        }
        assert_eq!(dns_subdomain("a.b-c.d0"), Ok(()));
        for name in ["", ".", "a.", ".a", "a..b", "a.-b", &"a".repeat(254)] {
            assert!(dns_subdomain(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn words_of_a_resolvers_configuration() {
        for domain in [".", "a", "a.b.", "_tcp.a_b.example.org"] {
            assert_eq!(search_domain(domain), Ok(()), "{domain}");
        }
        for domain in ["", "..", "a..", "A", "a b", "a\nnameserver 192.0.2.1", &"a".repeat(254)] {
            assert!(search_domain(domain).is_err(), "{domain:?}");
        }
        assert_eq!(resolver_word("ndots"), Ok(()));
        for word in ["", " ", "a b", "a\nb", "ä"] {
            assert!(resolver_word(word).is_err(), "{word:?}");
        }
    }

    #[test]
    fn port_names() {
        for name in ["http", "a", "1a", "a-b-c", "metrics-port-15"] {
            assert_eq!(port_name(name), Ok(()), "{name}");
        }
        for name in ["", "80", "a--b", "-a", "a-", "Http", "http_1", "metrics-port-016"] {
            assert!(port_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn labels() {
        for key in ["app", "app.kubernetes.io/name", "A_b-c.d", "a.b/C"] {
            assert_eq!(label_key(key), Ok(()), "{key}");
        }
        for key in ["", "/a", "a/", "a/b/c", "-a", "A.b/c", "a b", &"a".repeat(64)] {
            assert!(label_key(key).is_err(), "{key:?}");
        }
        assert_eq!(annotation_key("A.b/c"), Ok(()));
        assert_eq!(label_value(""), Ok(()));
        assert!(label_value("-").is_err());
        assert!(label_value("a b").is_err());
    }

    #[test]
    fn env_names() {
        for name in ["PATH", "a.b-c", "1", "my var", "%"] {
            assert_eq!(env_name(name), Ok(()), "{name}");
        }
        for name in ["", "A=B", "A\tB", "ä", "\0"] {
            assert!(env_name(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn one_place_has_one_spelling() {
        for spelling in ["/a/b", "//a//b/", "/a/./b", "/./a/b/."] {
            assert_eq!(normalized_path(spelling), "/a/b");
        }
        assert_eq!(normalized_path("/"), "/");
        assert!(absolute_path("a/b").is_err());
        assert!(absolute_path("/a/../b").is_err());
        assert_eq!(absolute_path("/a/..b"), Ok(()));
    }

    proptest! {
        #[test]
        fn labels_follow_the_regular_expression(name in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?") {
            prop_assert_eq!(dns_label(&name), Ok(()));
            prop_assert_eq!(dns_subdomain(&format!("{name}.{name}")), Ok(()));
            prop_assert_eq!(label_value(&name), Ok(()));
        }

        #[test]
        fn one_bad_character_is_enough(name in "[a-z0-9]{1,20}", bad in "[^-a-z0-9]", tail in "[a-z0-9]{1,20}") {
            let broken = format!("{name}{bad}{tail}");
            prop_assert!(dns_label(&broken).is_err());
        }

        #[test]
        fn normalizing_twice_changes_nothing(path in "/[a./]{0,30}") {
            let once = normalized_path(&path);
            prop_assert_eq!(normalized_path(&once), once);
        }
    }
}
