//! `WWW-Authenticate` (RFC 9110, 11.6.1): how a registry wants to be asked. Pure.

/// What a registry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    /// distribution's token authentication: a token from `realm`, for `service`.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// Longest header that is looked at, in bytes.
const MAX_HEADER: usize = 8192;

/// The challenge that can be met; Bearer before Basic, since a token is worth less to a thief.
pub(super) fn parse(header: &str) -> Option<Challenge> {
    if header.len() > MAX_HEADER {
        return None;
    }
    let mut found = None;
    let mut rest = header;
    while let Some((scheme, parameters, next)) = next_challenge(rest) {
        if scheme.eq_ignore_ascii_case("bearer") {
            let value = |name: &str| {
                parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
            };
            if let Some(realm) = value("realm") {
                return Some(Challenge::Bearer { realm, service: value("service"), scope: value("scope") });
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            found = Some(Challenge::Basic);
        }
        rest = next;
    }
    found
}

type Parameters = Vec<(String, String)>;

/// A scheme, its parameters, and what follows them.
fn next_challenge(text: &str) -> Option<(&str, Parameters, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
    let (scheme, mut rest) = text.split_at(end);
    if scheme.is_empty() {
        return None;
    }
    let mut parameters = Vec::new();
    while let Some((key, value, next)) = parameter(rest) {
        parameters.push((key.to_owned(), value));
        rest = next;
    }
    Some((scheme, parameters, rest))
}

/// `key=token` or `key="quoted \" text"`; `None`: another scheme begins here, or the header ends.
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let equals = text.find('=')?;
    let key = text[..equals].trim_end();
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        return None;
    }
    let rest = text[equals + 1..].trim_start_matches([' ', '\t']);
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find([' ', '\t', ',']).unwrap_or(rest.len());
        return Some((key, rest[..end].to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((key, value, &quoted[at + 1..])),
            '\\' => value.push(letters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer { realm: realm.to_owned(), service: owned(service), scope: owned(scope) })
    }

    #[test]
    fn challenges_of_real_registries() {
        for (header, expected) in [
            (
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#,
                bearer("https://auth.docker.io/token", Some("registry.docker.io"), Some("repository:a/b:pull,push")),
            ),
            (r#"Basic realm="Registry Realm""#, Some(Challenge::Basic)),
            (r#"basic realm="x", bearer REALM = "https://t" , service=s"#, bearer("https://t", Some("s"), None)),
            (r#"Bearer realm="https://t/?a=\"b\"""#, bearer("https://t/?a=\"b\"", None, None)),
            ("Negotiate", None),
            ("Negotiate, Basic", Some(Challenge::Basic)),
            ("Bearer service=x", None),
            (r#"Bearer realm="unterminated"#, None),
            ("", None),
        ] {
            assert_eq!(parse(header), expected, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(header in "\\PC{0,200}") {
            let _ = parse(&header);
        }
    }
}
