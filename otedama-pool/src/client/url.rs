//! Addresses of pools.

use std::fmt;
use std::str::FromStr;

/// Where a pool listens, and whether it speaks TLS there: `stratum+tcp://host:port`,
/// `stratum+ssl://host:port` or `stratum+tls://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PoolUrl {
    /// A name or an address; without brackets if it is of IP version 6.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub tls: bool,
}

/// A text that is no address of a pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("pool address '{text}' {wrong}: expected stratum+tcp://host:port or stratum+ssl://host:port")]
pub struct BadUrl {
    text: String,
    wrong: &'static str,
}

impl FromStr for PoolUrl {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<PoolUrl, BadUrl> {
        let bad = |wrong| BadUrl { text: text.chars().take(120).collect(), wrong };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| bad("has no scheme"))?;
        let tls = match scheme {
            "stratum+tcp" => false,
            "stratum+ssl" | "stratum+tls" => true,
            _ => return Err(bad("has an unknown scheme")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains('@') {
            return Err(bad("names a user: give user and password apart"));
        }
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| bad("has no port"))?;
        let port =
            port.parse().ok().filter(|&port| port != 0).ok_or_else(|| bad("has a port that is none"))?;
        let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
            Some(Some(inner)) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            Some(_) => return Err(bad("has an address in brackets that is none")),
            None => host,
        };
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(allowed) {
            return Err(bad("has a host that is none"));
        }
        if host.contains(':') && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(bad("has a host that is none"));
        }
        Ok(PoolUrl { host: host.to_owned(), port, tls })
    }
}

impl fmt::Display for PoolUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "stratum+ssl" } else { "stratum+tcp" };
        let brackets = if self.host.contains(':') { ["[", "]"] } else { ["", ""] };
        write!(f, "{scheme}://{}{}{}:{}", brackets[0], self.host, brackets[1], self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were_written() {
        for text in
            ["stratum+tcp://pool.example:3333", "stratum+ssl://[::1]:443", "stratum+tcp://127.0.0.1:1"]
        {
            assert_eq!(text.parse::<PoolUrl>().unwrap().to_string(), text);
        }
        assert!("stratum+tls://a:1".parse::<PoolUrl>().unwrap().tls);
        assert_eq!("stratum+tcp://a:1/".parse::<PoolUrl>().unwrap().port, 1);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            ("pool.example:3333", "has no scheme"),
            ("http://a:1", "unknown scheme"),
            ("stratum+tcp://a", "has no port"),
            ("stratum+tcp://a:0", "a port that is none"),
            ("stratum+tcp://a:99999", "a port that is none"),
            ("stratum+tcp://:1", "a host that is none"),
            ("stratum+tcp://a b:1", "a host that is none"),
            ("stratum+tcp://::zz:1", "a host that is none"),
            ("stratum+tcp://[::1:1", "in brackets"),
            ("stratum+tcp://u:p@a:1", "user and password apart"),
        ] {
            let error = text.parse::<PoolUrl>().unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
