//! Proxies from the environment, by the rules of Go's `golang.org/x/net/http/httpproxy`, which docker and podman use.

use std::net::IpAddr;

use super::endpoint::Proxies;
use super::environment::Environment;

impl Proxies {
    /// `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`, or the same in lower case.
    pub(super) fn of(environment: &Environment) -> Proxies {
        let either = |name: &str| environment.variable(name).or(environment.variable(&name.to_lowercase()));
        let with_scheme = |proxy: &str| {
            if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") }
        };
        let none = either("NO_PROXY").unwrap_or_default();
        Proxies {
            https: either("HTTPS_PROXY").map(with_scheme),
            http: either("HTTP_PROXY").map(with_scheme),
            none: none.split(',').map(|it| it.trim().to_lowercase()).filter(|it| !it.is_empty()).collect(),
        }
    }

    /// The proxy for an address; `None`: it is asked directly.
    #[must_use]
    pub fn for_url(&self, url: &str) -> Option<&str> {
        let (scheme, rest) = url.split_once("://")?;
        let (proxy, default_port) = match scheme {
            "https" => (self.https.as_deref()?, "443"),
            _ => (self.http.as_deref()?, "80"),
        };
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, port) = split_port(authority.rsplit('@').next().unwrap_or_default());
        let host = host.trim_end_matches('.').to_lowercase();
        let address = host.parse::<IpAddr>().ok();
        // A proxy has another loopback interface than this machine.
        let is_local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let port = port.unwrap_or(default_port);
        let is_excepted = self.none.iter().any(|entry| excepts(entry, &host, address, port));
        (!is_local && !is_excepted).then_some(proxy)
    }
}

/// Whether an entry of `NO_PROXY` stands for a host.
fn excepts(entry: &str, host: &str, address: Option<IpAddr>, port: &str) -> bool {
    if entry == "*" {
        return true;
    }
    if let Some((network, length)) = entry.split_once('/') {
        let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
        return address.is_some_and(|address| is_within(address, network, length));
    }
    let (name, wanted_port) = split_port(entry);
    if wanted_port.is_some_and(|wanted| wanted != port) {
        return false;
    }
    if let (Ok(wanted), Some(address)) = (name.parse::<IpAddr>(), address) {
        return wanted == address;
    }
    // `*.example.com` and `.example.com` are the hosts below, `example.com` is the host itself too.
    let name = name.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(name);
    match name.strip_prefix('.') {
        Some(_) => host.ends_with(name),
        None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
    }
}

/// `host:port`, `[address]:port`, or an address without a port.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (address, port.strip_prefix(':'));
    }
    match text.split_once(':') {
        // More than one colon is an IPv6 address.
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

fn is_within(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    let ((address, width), (network, network_width)) = (bits(address), bits(network));
    let differ = (address ^ network).checked_shr(128_u32.saturating_sub(length)).unwrap_or(0);
    width == network_width && length <= width && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(none: &str) -> Proxies {
        let variables =
            [("HTTPS_PROXY", "proxy.example:3128"), ("http_proxy", "http://plain.example"), ("no_proxy", none)];
        Proxies::of(&Environment::new(&variables, std::path::Path::new("/etc")))
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let proxies = proxies("");
        assert_eq!(proxies.for_url("https://quay.io/v2/"), Some("http://proxy.example:3128"));
        assert_eq!(proxies.for_url("http://quay.io/v2/"), Some("http://plain.example"));
        for local in ["http://localhost:5000/v2/", "https://127.0.0.9/", "https://[::1]:5000/"] {
            assert_eq!(proxies.for_url(local), None, "{local}");
        }
        let upper = [("HTTPS_PROXY", "a"), ("https_proxy", "b"), ("NO_PROXY", ""), ("no_proxy", "x.y")];
        let upper = Proxies::of(&Environment::new(&upper, std::path::Path::new("/etc")));
        assert_eq!((upper.https.as_deref(), upper.none.as_slice()), (Some("http://a"), &["x.y".to_owned()][..]));
        assert_eq!(Proxies::default().for_url("https://quay.io"), None);
    }

    /// The cases of httpproxy's own tests (`UseProxyTests`, `cacheKeysTests`).
    #[test]
    fn some_hosts_are_asked_directly() {
        for (none, url, direct) in [
            ("*", "https://a.example", true),
            ("example.com", "https://example.com/x", true),
            ("example.com", "https://a.example.com/x", true),
            ("example.com", "https://notexample.com/x", false),
            (".example.com", "https://example.com", false),
            (".example.com", "https://a.example.com", true),
            ("*.example.com", "https://a.example.com", true),
            ("*.example.com", "https://example.com", false),
            ("EXAMPLE.com ", "https://Example.COM.", true),
            ("example.com:443", "https://example.com", true),
            ("example.com:443", "https://example.com:5000", false),
            ("a, 10.0.0.0/8", "https://10.1.2.3", true),
            ("10.0.0.0/8", "https://11.1.2.3", false),
            ("10.0.0.0/0", "https://11.1.2.3", true),
            ("10.0.0.0/8", "https://10.example", false),
            ("10.0.0.1", "https://10.0.0.1:5000", true),
            ("2001:db8::/32", "https://[2001:db8::5]/", true),
            ("[2001:db8::5]:443", "https://[2001:db8::5]/", true),
            ("10.0.0.0/99", "https://10.0.0.1", false),
        ] {
            assert_eq!(proxies(none).for_url(url).is_none(), direct, "{none} {url}");
        }
    }
}
