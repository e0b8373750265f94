//! `sandpod.dev/proxy-protocol`: which published ports begin each connection with a PROXY protocol header.

use super::names::port_name;
use super::problem::excerpt;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// `v2`: every published TCP port.
    Every,
    /// `http,8080`
    Some(Vec<ChosenPort>),
}

/// A port of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChosenPort {
    Number(u16),
    Named(String),
}

impl ProxyProtocol {
    /// # Errors
    /// What is allowed, in words that follow the annotation's name.
    pub fn parse(text: &str) -> Result<ProxyProtocol, String> {
        if text == "v2" {
            return Ok(ProxyProtocol::Every);
        }
        text.split(',').map(|port| ChosenPort::parse(port.trim())).collect::<Result<_, _>>().map(ProxyProtocol::Some)
    }
}

impl ChosenPort {
    fn parse(text: &str) -> Result<ChosenPort, String> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u16>() {
            Ok(number) if digits && number > 0 => Ok(ChosenPort::Number(number)),
            _ if port_name(text).is_ok() => Ok(ChosenPort::Named(text.to_owned())),
            _ => Err(format!(
                "`{}` must be `v2`, for every published TCP port, or names or numbers of containers' ports, as `http,8080`",
                excerpt(text)
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_or_some() {
        assert_eq!(ProxyProtocol::parse("v2"), Ok(ProxyProtocol::Every));
        let some = vec![ChosenPort::Named("http".to_owned()), ChosenPort::Number(8080)];
        assert_eq!(ProxyProtocol::parse("http, 8080"), Ok(ProxyProtocol::Some(some)));
        for wrong in ["", "0", "65536", "+1", "http,", "HTTP", "http 80"] {
            assert!(ProxyProtocol::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
