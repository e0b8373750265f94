//! Tokens of distribution's authentication (<https://distribution.github.io/distribution/spec/auth/token/>).

use serde::Deserialize;

use super::challenge::Challenge;

/// Bytes of an answer of a token server.
pub(super) const MAX_ANSWER: u64 = 1 << 20;

#[derive(Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// The token in an answer; both names are in use.
pub(super) fn of_answer(bytes: &[u8]) -> Option<String> {
    let Answer { token, access_token } = serde_json::from_slice(bytes).ok()?;
    let token = token.or(access_token)?;
    // It becomes a header: a line break in it would be another header.
    let harmless = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    harmless.then_some(token)
}

/// Where to ask for a token to do `actions` (`pull`) with `repository`. Whatever scope the server names, no more is asked for.
///
/// # Errors
/// A realm that must not be asked: a password or a token would cross the network in the clear.
pub(super) fn url(challenge: &Challenge, repository: &str, actions: &str, insecure: bool) -> Result<String, String> {
    let Challenge::Bearer { realm, service, scope: _ } = challenge else {
        return Err("it asks for no token".to_owned());
    };
    let (scheme, rest) = realm.split_once("://").unwrap_or_default();
    let allowed = scheme.eq_ignore_ascii_case("https") || (insecure && scheme.eq_ignore_ascii_case("http"));
    if !allowed {
        return Err(format!("its tokens come from `{realm}`, which is not https"));
    }
    if rest.split(['/', '?', '#']).next().unwrap_or_default().contains('@') {
        return Err(format!("its tokens come from `{realm}`, which has a user in its address"));
    }
    let separator = if realm.contains('?') { '&' } else { '?' };
    let service = service.iter().map(|service| format!("service={}&", escaped(service))).collect::<String>();
    Ok(format!(
        "{realm}{separator}{service}{}",
        scope(repository, actions).map_or(String::new(), |it| format!("scope={}", escaped(&it)))
    ))
}

/// Rights to a repository; without one, a token only says who the user is.
fn scope(repository: &str, actions: &str) -> Option<String> {
    (!repository.is_empty()).then(|| format!("repository:{repository}:{actions}"))
}

/// What an identity token is exchanged with (distribution, "OAuth2 token authentication"): the realm, which [`url`] has
/// approved of, and a form.
pub(super) fn refresh<'a>(
    challenge: &'a Challenge,
    repository: &str,
    actions: &str,
    identity: &str,
) -> (&'a str, Vec<(&'static str, String)>) {
    let (realm, service) = match challenge {
        Challenge::Bearer { realm, service, scope: _ } => (realm.as_str(), service.clone()),
        Challenge::Basic => ("", None),
    };
    let mut form = vec![
        ("grant_type", "refresh_token".to_owned()),
        ("service", service.unwrap_or_default()),
        ("client_id", "sandpod".to_owned()),
        ("refresh_token", identity.to_owned()),
    ];
    form.extend(scope(repository, actions).map(|scope| ("scope", scope)));
    (realm, form)
}

/// Percent-encoding for a query (RFC 3986, 2.1).
pub(super) fn escaped(text: &str) -> String {
    let harmless = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/".contains(&byte);
    text.bytes()
        .map(|byte| if harmless(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str) -> Challenge {
        let service = Some("registry & co".to_owned());
        Challenge::Bearer { realm: realm.to_owned(), service, scope: Some("registry:catalog:*".to_owned()) }
    }

    #[test]
    fn only_the_right_to_pull_is_asked_for() {
        let expected = "https://auth.example/token?service=registry%20%26%20co&scope=repository:a/b:pull";
        assert_eq!(url(&bearer("https://auth.example/token"), "a/b", "pull", false).as_deref(), Ok(expected));
        let more = url(&bearer("https://auth.example/token?x=1"), "a/b", "pull", false).expect("a url");
        assert!(more.starts_with("https://auth.example/token?x=1&service="), "{more}");
    }

    #[test]
    fn no_realm_steals_a_password() {
        for realm in ["http://auth.example/token", "ftp://x", "auth.example", "//auth.example", "https://a@b/", ""] {
            url(&bearer(realm), "a", "pull", false).expect_err(realm);
        }
        url(&bearer("http://localhost/token"), "a", "pull", true).expect("an insecure registry may");
    }

    #[test]
    fn tokens_cannot_be_headers() {
        assert_eq!(of_answer(br#"{"token":"abc"}"#).as_deref(), Some("abc"));
        assert_eq!(of_answer(br#"{"access_token":"abc","expires_in":300}"#).as_deref(), Some("abc"));
        for wrong in [&br#"{"token":""}"#[..], br#"{"token":"a\r\nX: y"}"#, br#"{"token":"a b"}"#, b"{}", b"x"] {
            assert_eq!(of_answer(wrong), None);
        }
    }
}
