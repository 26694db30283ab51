//! Who may ask and steer: so many requests a minute, with the key where one is set, and no page of a browser that
//! came from elsewhere.
//!
//! A page from anywhere can send requests to 127.0.0.1. It names itself in `Origin`, or comes by a name that its owner
//! made point here (DNS rebinding) and then has that name in `Host`. So a request must be for an address or
//! `localhost`, unless it shows the key, which no foreign page has; and its origin, if it has one, must be this server.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use subtle::ConstantTimeEq;

use crate::miner::plan::ApiPlan;

/// A refusal: what is answered, and in which words.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) words: String,
    /// When to come again, if that would help.
    pub(crate) after: Option<Duration>,
}

fn refuse<T>(status: StatusCode, words: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { status, words: words.into(), after: None })
}

/// What a request must have.
pub(crate) struct Guard {
    key: Option<String>,
    key_to_ask: bool,
}

impl Guard {
    pub(crate) fn new(plan: &ApiPlan) -> Guard {
        Guard { key: plan.key.clone(), key_to_ask: plan.key_to_ask }
    }

    /// Whether a request may pass.
    pub(crate) fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(host) = only(headers, &header::HOST)? else {
            return refuse(StatusCode::BAD_REQUEST, "the request has no Host header");
        };
        let shown = self.shown(headers)?;
        if !shown && !is_here(host) {
            return refuse(
                StatusCode::FORBIDDEN,
                format!("host '{}' is a name: expected an address or localhost", start(host)),
            );
        }
        if let Some(origin) = only(headers, &header::ORIGIN)?
            && !["http://", "https://"]
                .iter()
                .any(|scheme| origin.strip_prefix(scheme).is_some_and(|rest| rest.eq_ignore_ascii_case(host)))
        {
            return refuse(StatusCode::FORBIDDEN, format!("a page of '{}' may not do this", start(origin)));
        }
        // What newer browsers say even where there is no Origin.
        if let Some(site) = only(headers, &HeaderName::from_static("sec-fetch-site"))?
            && !["same-origin", "none"].contains(&site)
        {
            return refuse(StatusCode::FORBIDDEN, "a page of another site may not do this");
        }
        let asks = [Method::GET, Method::HEAD].contains(method);
        if self.key.is_some() && !shown && (self.key_to_ask || !asks) {
            return refuse(
                StatusCode::UNAUTHORIZED,
                "the key is missing: expected the header Authorization: Bearer KEY",
            );
        }
        Ok(())
    }

    /// Whether the key is shown; a wrong one is refused whatever is asked.
    fn shown(&self, headers: &HeaderMap) -> Result<bool, Refusal> {
        let (Some(key), Some(shown)) = (&self.key, only(headers, &header::AUTHORIZATION)?) else {
            return Ok(false);
        };
        let (scheme, token) = shown.split_once(' ').unwrap_or((shown, ""));
        let good = bool::from(token.trim().as_bytes().ct_eq(key.as_bytes()));
        match good && scheme.eq_ignore_ascii_case("bearer") {
            true => Ok(true),
            false => refuse(
                StatusCode::UNAUTHORIZED,
                "the key is wrong: expected the header Authorization: Bearer KEY",
            ),
        }
    }
}

/// The value of a header that may be there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().map(|value| value.to_str());
    match (value, values.next()) {
        (Some(Ok(text)), None) => Ok(Some(text)),
        (None, _) => Ok(None),
        _ => refuse(StatusCode::BAD_REQUEST, format!("header {name} is there twice, or is no text")),
    }
}

/// Whether a host is an address or `localhost`: nobody else can make these lead here.
fn is_here(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || inner.parse::<IpAddr>().is_ok()
}

/// What is enough of a text of somebody else's to recognise it.
fn start(text: &str) -> String {
    text.chars().take(80).collect()
}

/// So many requests a minute from one address; up to a minute's at once.
pub(crate) struct Buckets {
    per_minute: f64,
    /// Requests left, and as of when.
    left: HashMap<IpAddr, (f64, Instant)>,
}

/// Addresses remembered; more at once are turned away until some have been quiet for a minute.
const MAX_ADDRESSES: usize = 1024;

impl Buckets {
    pub(crate) fn new(per_minute: u32) -> Buckets {
        Buckets { per_minute: f64::from(per_minute.max(1)), left: HashMap::new() }
    }

    /// Takes one request of an address.
    pub(crate) fn take(&mut self, address: IpAddr, now: Instant) -> Result<(), Refusal> {
        let per_second = self.per_minute / 60.0;
        let full = self.per_minute;
        let refilled =
            |(left, then): (f64, Instant)| (left + (now - then).as_secs_f64() * per_second).min(full);
        let address = network(address);
        if !self.left.contains_key(&address) && self.left.len() >= MAX_ADDRESSES {
            self.left.retain(|_, &mut bucket| refilled(bucket) < full);
        }
        let left = match self.left.get(&address) {
            Some(&bucket) => refilled(bucket),
            None if self.left.len() < MAX_ADDRESSES => full,
            None => 0.0,
        };
        if left < 1.0 {
            return Err(Refusal {
                status: StatusCode::TOO_MANY_REQUESTS,
                words: format!("too many requests: expected at most {} a minute", self.per_minute),
                after: Some(Duration::from_secs_f64((1.0 - left) / per_second)),
            });
        }
        self.left.insert(address, (left - 1.0, now));
        Ok(())
    }
}

/// Who one is counted as: of IP version 6 a whole network of 64 bits belongs to one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(key: Option<&str>, key_to_ask: bool) -> Guard {
        Guard { key: key.map(str::to_owned), key_to_ask }
    }

    /// The status that a request with these headers is refused with.
    fn refused(guard: &Guard, method: Method, headers: &[(&'static str, &str)]) -> Option<u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        guard.check(&method, &map).err().map(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn requests_are_for_an_address_or_show_the_key() {
        let open = guard(None, false);
        for host in ["127.0.0.1:8080", "localhost:8080", "LocalHost", "[::1]:8080", "[::1]", "192.168.1.5"] {
            assert_eq!(refused(&open, Method::POST, &[("host", host)]), None, "{host}");
        }
        for host in
            ["evil.example", "127.0.0.1.evil.example:8080", "localhost.evil.example", "", "a b", "::1"]
        {
            assert_eq!(refused(&open, Method::GET, &[("host", host)]), Some(403), "{host}");
        }
        assert_eq!(refused(&open, Method::GET, &[]), Some(400));
        assert_eq!(refused(&open, Method::GET, &[("host", "localhost"), ("host", "localhost")]), Some(400));
        let keyed = guard(Some("secret"), false);
        let named = [("host", "rig.example"), ("authorization", "Bearer secret")];
        assert_eq!(refused(&keyed, Method::POST, &named), None);
        assert_eq!(refused(&keyed, Method::GET, &named[..1]), Some(403));
    }

    #[test]
    fn pages_from_elsewhere_are_turned_away() {
        let open = guard(None, false);
        let from = |origin| [("host", "127.0.0.1:8080"), ("origin", origin)];
        assert_eq!(refused(&open, Method::POST, &from("http://127.0.0.1:8080")), None);
        for origin in [
            "http://evil.example",
            "null",
            "http://127.0.0.1:8081",
            "http://127.0.0.1",
            "https://127.0.0.1",
            "",
        ] {
            for method in [Method::POST, Method::GET] {
                assert_eq!(refused(&open, method, &from(origin)), Some(403), "{origin}");
            }
        }
        let site = |site| [("host", "127.0.0.1:8080"), ("sec-fetch-site", site)];
        assert_eq!(refused(&open, Method::POST, &site("cross-site")), Some(403));
        assert_eq!(refused(&open, Method::POST, &site("same-site")), Some(403));
        assert_eq!(refused(&open, Method::GET, &site("none")), None);
        // The key does not help a page.
        let keyed = guard(Some("secret"), false);
        let page =
            [("host", "127.0.0.1"), ("origin", "http://evil.example"), ("authorization", "Bearer secret")];
        assert_eq!(refused(&keyed, Method::POST, &page), Some(403));
    }

    #[test]
    fn a_key_is_shown_to_steer_and_where_asked_to_look() {
        let host = ("host", "127.0.0.1");
        let with = |token| [host, ("authorization", token)];
        for (key_to_ask, to_look) in [(false, None), (true, Some(401))] {
            let guard = guard(Some("secret"), key_to_ask);
            assert_eq!(refused(&guard, Method::POST, &[host]), Some(401));
            assert_eq!(refused(&guard, Method::DELETE, &[host]), Some(401));
            assert_eq!(refused(&guard, Method::GET, &[host]), to_look);
            for wrong in ["Bearer secre", "Bearer secrets", "Bearer ", "Bearer", "Basic secret", "secret"] {
                assert_eq!(refused(&guard, Method::GET, &with(wrong)), Some(401), "{wrong}");
            }
            assert_eq!(refused(&guard, Method::POST, &with("bearer secret")), None);
        }
        // Nobody asked for one.
        assert_eq!(refused(&guard(None, false), Method::POST, &with("Bearer whatever")), None);
    }

    #[test]
    fn a_minutes_requests_may_come_at_once_and_then_one_at_a_time() {
        let (mut buckets, begun) = (Buckets::new(60), Instant::now());
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        for _ in 0..60 {
            buckets.take(one, begun).unwrap();
        }
        let refusal = buckets.take(one, begun).unwrap_err();
        assert_eq!(refusal.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refusal.after, Some(Duration::from_secs(1)));
        buckets.take("10.0.0.2".parse().unwrap(), begun).unwrap();
        let later = begun + Duration::from_millis(1001);
        buckets.take(one, later).unwrap();
        assert!(buckets.take(one, later).is_err());
    }

    #[test]
    fn addresses_remembered_are_bounded_and_the_quiet_ones_forgotten() {
        let (mut buckets, begun) = (Buckets::new(60), Instant::now());
        let nth = |n: u32| IpAddr::from(std::net::Ipv4Addr::from_bits(n));
        for n in 0..MAX_ADDRESSES as u32 {
            buckets.take(nth(n), begun).unwrap();
        }
        assert!(buckets.take(nth(5000), begun).is_err());
        assert!(buckets.take(nth(5), begun).is_ok(), "whoever is known goes on");
        buckets.take(nth(5000), begun + Duration::from_secs(3)).unwrap();
        assert_eq!(buckets.left.len(), 1);
        // A network of IP version 6 counts as one.
        let mut buckets = Buckets::new(1);
        buckets.take("2001:db8::1".parse().unwrap(), begun).unwrap();
        assert!(buckets.take("2001:db8::2".parse().unwrap(), begun).is_err());
        buckets.take("2001:db8:0:1::1".parse().unwrap(), begun).unwrap();
        buckets.take("::ffff:10.0.0.1".parse().unwrap(), begun).unwrap();
        assert!(buckets.take("10.0.0.1".parse().unwrap(), begun).is_err());
    }
}
