//! The names under which the server may be addressed.
//!
//! A page on another machine can have its own name resolved to this one (DNS rebinding): to the
//! browser it is the same origin then. The name in the header Host gives it away.

use std::net::IpAddr;

/// The names that are not addresses of this machine itself.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// The names given, besides `localhost` and loopback addresses.
    ///
    /// # Errors
    /// What is wrong with a name.
    pub fn new(names: &[String]) -> Result<Self, String> {
        let name = |name: &String| {
            let (host, port) = split(name).ok_or_else(|| unfit(name))?;
            if port.is_some() || host.is_empty() {
                return Err(unfit(name));
            }
            Ok(host.to_ascii_lowercase())
        };
        let names = names.iter().map(name).collect::<Result<_, _>>()?;
        Ok(Self { names })
    }

    /// Whether the header's value `host` names this server, which was reached at `local`.
    pub(crate) fn allow(&self, host: &str, local: IpAddr) -> bool {
        let Some((host, _)) = split(host) else {
            return false;
        };
        if let Some(address) = address(host) {
            let address = address.to_canonical();
            return address.is_loopback() || address == local.to_canonical() || self.names(host);
        }
        host.eq_ignore_ascii_case("localhost") || self.names(host)
    }

    fn names(&self, host: &str) -> bool {
        let mut names = self.names.iter();
        names.any(|name| name.eq_ignore_ascii_case(host))
    }
}

fn unfit(name: &str) -> String {
    format!("expected a host's name without a port, found {name:?}")
}

/// The address that `host` is, in the form of URLs: IPv6 in brackets.
fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?.parse().ok().map(IpAddr::V6),
        None => host.parse().ok().map(IpAddr::V4),
    }
}

/// Name and port of `host[:port]`; `None` when it is neither.
fn split(host: &str) -> Option<(&str, Option<u16>)> {
    let end = if host.starts_with('[') {
        host.find(']')? + 1
    } else {
        host.find(':').unwrap_or(host.len())
    };
    let (name, rest) = host.split_at(end);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte);
    if name.is_empty() || !name.bytes().all(fits) {
        return None;
    }
    match rest.strip_prefix(':') {
        Some(port) if !port.starts_with('+') => Some((name, Some(port.parse().ok()?))),
        Some(_) => None,
        None => rest.is_empty().then_some((name, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_server_are_allowed() {
        let names = ["box.example".to_owned(), "10.0.0.9".to_owned()];
        let hosts = Hosts::new(&names).unwrap();
        let local: IpAddr = "192.168.1.7".parse().unwrap();
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1",
            "127.9.9.9:1",
            "[::1]:8080",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "192.168.1.7:8080",
            "Box.Example:443",
            "10.0.0.9",
        ] {
            assert!(hosts.allow(host, local), "{host}");
        }
        for host in [
            "",
            ":8080",
            "evil.example",
            "localhost.",
            "localhost.evil.example",
            "localhost:port",
            "localhost:+80",
            "localhost:80:80",
            "localhost:99999",
            "localhost@evil.example",
            "user@localhost",
            "127.0.0.1.nip.io",
            "192.168.1.8",
            "0.0.0.0",
            "::1",
            "[::1",
            "[::2]",
            "[::1]x",
            "localhost, evil.example",
            "box.example/",
        ] {
            assert!(!hosts.allow(host, local), "{host}");
        }
    }

    #[test]
    fn names_are_names() {
        for name in ["", "a:80", "http://a", "a b", "*"] {
            assert!(Hosts::new(&[name.to_owned()]).is_err(), "{name}");
        }
    }
}
