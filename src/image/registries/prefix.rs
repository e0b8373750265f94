//! Matching and rewriting of references by the prefixes of registries.conf(5). Pure.

/// Bytes at the beginning of `reference` (`HOST/REPOSITORY[:TAG][@DIGEST]`) that `prefix` stands for: `host[:port]`,
/// a namespace, a repository or a reference below it, or with `*.example.com` every host below that domain.
pub(super) fn matches(reference: &str, prefix: &str) -> Option<usize> {
    if let Some(domain) = prefix.strip_prefix('*') {
        let host = reference.split('/').next().unwrap_or_default();
        // `*.example.com` does not stand for example.com itself.
        return (host.len() > domain.len() && host.ends_with(domain)).then_some(host.len());
    }
    let rest = reference.strip_prefix(prefix)?;
    // A prefix ends where a part of a reference ends: `example.com/foo` does not stand for `example.com/foobar`.
    (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some(prefix.len())
}

/// `HOST[:PORT][/PATH][:TAG][@DIGEST]` with a host that can be one.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_location(text: &str) -> Result<(), String> {
    if text.contains("://") {
        return Err(format!("is `{text}`: write it without a scheme, as HOST[:PORT][/PATH]"));
    }
    let host = text.split('/').next().unwrap_or_default();
    let forbidden = |letter: char| letter.is_whitespace() || letter.is_control() || "@?#\\\"'<>`*".contains(letter);
    let wrong_host = host.is_empty() || host.contains(forbidden);
    if wrong_host || text.ends_with('/') || text.contains("//") || text.contains(char::is_whitespace) {
        return Err(format!("is `{text}`, which is not HOST[:PORT][/PATH]"));
    }
    Ok(())
}

/// As [`check_location`], and `*.DOMAIN`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(text: &str) -> Result<(), String> {
    let Some(domain) = text.strip_prefix("*.") else { return check_location(text) };
    if domain.contains(['/', ':', '@']) {
        return Err(format!("is `{text}`: a wildcard stands for hosts and has no path, tag or digest"));
    }
    check_location(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cases of containers/image, pkg/sysregistriesv2 (TestRefMatchingPrefix, TestRefMatchingSubdomainPrefix).
    #[test]
    fn prefixes_end_where_parts_end() {
        for (reference, prefix, expected) in [
            ("docker.io", "docker.io", Some(9)),
            ("docker.io", "example.com", None),
            ("docker.io/foo", "docker.io", Some(9)),
            ("docker.io/foobar", "docker.io/foo", None),
            ("docker.io/foo", "docker.io/foobar", None),
            ("docker.io/foo/bar", "docker.io/foo", Some(13)),
            ("example.com:5000/foo", "example.com", Some(11)),
            ("example.com:5000/foo", "example.com:50", None),
            ("example.com/foo:latest", "example.com/foo", Some(15)),
            ("example.com/foo@sha256:ab", "example.com/foo", Some(15)),
            ("docker.io", "*.example.com", None),
            ("example.com/foo", "*.example.com", None),
            ("a.example.com/foo", "*.example.com", Some(13)),
            ("a.b.example.com:5000/foo", "*.example.com", None),
            ("a.b.example.com/foo", "*.example.com", Some(15)),
            ("notexample.com/foo", "*.example.com", None),
            ("other.com/a.example.com", "*.example.com", None),
        ] {
            assert_eq!(matches(reference, prefix), expected, "{reference} {prefix}");
        }
    }

    #[test]
    fn locations_are_hosts_with_a_path() {
        for right in ["docker.io", "localhost:5000", "[::1]:5000/a", "example.com/a/b", "example.com/a:tag"] {
            assert_eq!(check_location(right), Ok(()), "{right}");
        }
        for wrong in ["", "/a", "http://x", "a b", "x/", "x//y", "user@x", "*.x", "x?y"] {
            check_location(wrong).expect_err(wrong);
        }
        assert_eq!(check("*.example.com"), Ok(()));
        check("*.example.com/a").expect_err("a path");
        check("a.*.com").expect_err("in the middle");
    }
}
