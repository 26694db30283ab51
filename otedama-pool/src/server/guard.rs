//! Who may connect: connections and their rate per address, bans for floods. Knows no clock and no socket.
//!
//! An IPv6 address stands for its /64, which is what one customer gets. What is kept of an address:
//!
//! ```text
//!   connections   how many are open
//!   arrivals      the time at which its allowance of new connections is full again: each one moves it on by
//!                 1/rate, none may move it further ahead than burst/rate (generic cell rate algorithm)
//!   shares        all and bad ones of the current window: at `share_count` of them they are weighed; then, or
//!                 when the window is over, counting begins anew
//!   ban           until when
//! ```

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use crate::config::HALF;
use crate::config::values::Percent;
use crate::stratum::RejectReason;

/// What one address may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardConfig {
    /// Connections at a time.
    pub max_connections: usize,
    /// New connections a minute, in the long run; 0 for any number.
    pub connect_rate: u32,
    /// New connections at once.
    pub connect_burst: u32,
    /// Shares among which the bad ones are counted; 0 for never.
    pub share_count: u32,
    /// The time within which so many must come to be weighed.
    pub share_window: Duration,
    /// Bad ones that are too many: more than this part of them.
    pub bad_part: Percent,
    /// How long a ban lasts; zero for no bans.
    pub ban: Duration,
    /// Addresses remembered besides those with connections.
    pub max_addresses: usize,
    /// Addresses that are never banned or limited: those of load balancers.
    pub exempt: Vec<IpAddr>,
    /// Whether loopback is exempt: for trying things out.
    pub exempt_loopback: bool,
}

impl Default for GuardConfig {
    fn default() -> GuardConfig {
        GuardConfig {
            max_connections: 1024,
            connect_rate: 120,
            connect_burst: 1024,
            share_count: 50,
            share_window: Duration::from_secs(600),
            bad_part: HALF,
            ban: Duration::from_secs(600),
            max_addresses: 1 << 16,
            exempt: Vec::new(),
            exempt_loopback: true,
        }
    }
}

/// Why an address is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is banned.
    Banned,
    /// It has as many connections as one may have.
    Crowded,
    /// It connects too often.
    TooOften,
}

impl Refusal {
    /// In words.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::Banned => "its address is banned",
            Refusal::Crowded => "its address has as many connections as one may have",
            Refusal::TooOften => "its address connects too often",
        }
    }
}

/// What an address did to be banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offence {
    /// Too many of its shares were bad.
    BadShares {
        /// Bad ones.
        bad: u32,
        /// Among so many.
        of: u32,
    },
    /// Lines that are no messages, again and again.
    BadLines,
    /// A line that is too long or no text.
    BadBytes,
}

impl std::fmt::Display for Offence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Offence::BadShares { bad, of } => write!(f, "{bad} of {of} shares were invalid"),
            Offence::BadLines => f.write_str("too many lines were no messages"),
            Offence::BadBytes => f.write_str("a line was too long or no text"),
        }
    }
}

/// Whether a refused share speaks against who sent it. One that is late, or that the pool has no room or work
/// for, does not.
pub fn is_blamed(reason: RejectReason) -> bool {
    !matches!(
        reason,
        RejectReason::Stale
            | RejectReason::UnknownJob
            | RejectReason::TooMany
            | RejectReason::NoWork
            | RejectReason::Internal
    )
}

/// What is kept of addresses. All times are since one fixed moment.
#[derive(Debug)]
pub struct Guard {
    config: GuardConfig,
    entries: HashMap<IpAddr, Entry>,
    /// Entries with connections.
    connected: usize,
}

#[derive(Debug, Default)]
struct Entry {
    connections: usize,
    full_again: Duration,
    shares: Shares,
    banned_until: Option<Duration>,
    /// Whether a refusal has been told since it was let in last.
    told: bool,
    seen: Duration,
}

#[derive(Clone, Copy, Debug, Default)]
struct Shares {
    since: Duration,
    all: u32,
    bad: u32,
}

impl Guard {
    /// Nobody known yet.
    pub fn new(config: GuardConfig) -> Guard {
        Guard { config, entries: HashMap::new(), connected: 0 }
    }

    /// Lets a connection in. Whether it counts: [`Guard::leave`] must follow then; it does not if it is exempt.
    ///
    /// # Errors
    /// If it is not let in: why, and whether that is worth telling; it is not if it has been told already.
    pub fn enter(&mut self, from: IpAddr, now: Duration) -> Result<bool, (Refusal, bool)> {
        let Some(key) = self.key(from) else { return Ok(false) };
        self.make_room(&key, now);
        let GuardConfig { max_connections, connect_rate, connect_burst, .. } = self.config;
        let entry = self.entries.entry(key).or_default();
        entry.seen = entry.seen.max(now);
        let per_connection = Duration::from_secs(60).checked_div(connect_rate).unwrap_or_default();
        let full_again = entry.full_again.max(now) + per_connection;
        let refusal = if entry.is_banned(now) {
            Refusal::Banned
        } else if entry.connections >= max_connections {
            Refusal::Crowded
        } else if full_again.saturating_sub(now) > per_connection.saturating_mul(connect_burst.max(1)) {
            Refusal::TooOften
        } else {
            entry.full_again = full_again;
            self.connected += usize::from(entry.connections == 0);
            entry.connections += 1;
            entry.told = false;
            return Ok(true);
        };
        let tell = !std::mem::replace(&mut entry.told, true);
        Err((refusal, tell))
    }

    /// A connection that was let in has ended.
    pub fn leave(&mut self, from: IpAddr, now: Duration) {
        let Some(key) = self.key(from) else { return };
        if let Some(entry) = self.entries.get_mut(&key) {
            self.connected -= usize::from(entry.connections == 1);
            entry.connections = entry.connections.saturating_sub(1);
            entry.seen = entry.seen.max(now);
        }
    }

    /// A share was accepted, or refused for a reason that [speaks against its sender](is_blamed). The offence,
    /// if that makes it one.
    pub fn share(&mut self, from: IpAddr, good: bool, now: Duration) -> Option<Offence> {
        if self.config.share_count == 0 {
            return None;
        }
        let key = self.key(from)?;
        let entry = self.entries.get_mut(&key)?;
        entry.seen = entry.seen.max(now);
        if now.saturating_sub(entry.shares.since) > self.config.share_window {
            entry.shares = Shares { since: now, ..Shares::default() };
        }
        entry.shares.all += 1;
        entry.shares.bad += u32::from(!good);
        let Shares { all: of, bad, .. } = entry.shares;
        if of < self.config.share_count {
            return None;
        }
        entry.shares = Shares { since: now, ..Shares::default() };
        let too_many =
            u64::from(bad) * 1_000_000 > u64::from(of) * u64::from(self.config.bad_part.millionths());
        let offence = Offence::BadShares { bad, of };
        (too_many && self.ban(from, now)).then_some(offence)
    }

    /// Bans an address; whether that is news.
    pub fn ban(&mut self, from: IpAddr, now: Duration) -> bool {
        let Some(key) = self.key(from) else { return false };
        if self.config.ban.is_zero() {
            return false;
        }
        self.make_room(&key, now);
        let entry = self.entries.entry(key).or_default();
        let news = !entry.is_banned(now);
        entry.seen = entry.seen.max(now);
        entry.banned_until = Some(now + self.config.ban);
        // The ban itself is told.
        entry.told = true;
        news
    }

    /// Whether an address is banned.
    pub fn is_banned(&self, from: IpAddr, now: Duration) -> bool {
        let entry = self.key(from).and_then(|key| self.entries.get(&key));
        entry.is_some_and(|entry| entry.is_banned(now))
    }

    /// The addresses that are banned now, and how much longer.
    pub fn banned(&self, now: Duration) -> Vec<(IpAddr, Duration)> {
        let left = |(key, entry): (&IpAddr, &Entry)| {
            let left = entry.banned_until?.checked_sub(now).filter(|left| !left.is_zero())?;
            Some((*key, left))
        };
        self.entries.iter().filter_map(left).collect()
    }

    /// What an address is kept by; `None` if it is exempt.
    fn key(&self, from: IpAddr) -> Option<IpAddr> {
        let from = from.to_canonical();
        let exempt =
            self.config.exempt.contains(&from) || (self.config.exempt_loopback && from.is_loopback());
        (!exempt).then(|| network(from))
    }

    /// Forgets others if there are too many for a new one. Those with connections stay, so that they can be
    /// counted down.
    fn make_room(&mut self, key: &IpAddr, now: Duration) {
        let max = self.config.max_addresses.max(1);
        if self.entries.len() - self.connected < max || self.entries.contains_key(key) {
            return;
        }
        self.entries.retain(|_, entry| entry.is_worth_keeping(now));
        let mut idle: Vec<(bool, Duration, IpAddr)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.connections == 0)
            .map(|(key, entry)| (entry.is_banned(now), entry.seen, *key))
            .collect();
        // Many at once, so that a flood of new addresses is not a search each; bans go last.
        idle.sort_unstable();
        let too_many = idle.len().saturating_sub(max - max.div_ceil(16));
        for (_, _, key) in &idle[..too_many] {
            self.entries.remove(key);
        }
    }
}

impl Entry {
    fn is_banned(&self, now: Duration) -> bool {
        self.banned_until.is_some_and(|until| now < until)
    }

    fn is_worth_keeping(&self, now: Duration) -> bool {
        self.connections > 0 || self.is_banned(now) || self.full_again > now
    }
}

/// What is taken for one customer: an IPv4 address, or the first 64 bits of an IPv6 address.
fn network(from: IpAddr) -> IpAddr {
    match from {
        IpAddr::V4(_) => from,
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

/// The address as it is kept and told, with its port: IPv4 written as such.
pub(super) fn canonical(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn guard(change: impl FnOnce(&mut GuardConfig)) -> Guard {
        let mut config = GuardConfig::default();
        change(&mut config);
        Guard::new(config)
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let mut guard = guard(|config| config.max_connections = 2);
        let (a, b) = (ip("192.0.2.1"), ip("192.0.2.2"));
        assert_eq!((guard.enter(a, secs(0)), guard.enter(a, secs(0))), (Ok(true), Ok(true)));
        assert_eq!(guard.enter(a, secs(0)), Err((Refusal::Crowded, true)));
        assert_eq!(guard.enter(a, secs(1)), Err((Refusal::Crowded, false)), "told once");
        assert_eq!(guard.enter(b, secs(1)), Ok(true));
        guard.leave(a, secs(2));
        assert_eq!(guard.enter(a, secs(2)), Ok(true));
        assert_eq!(guard.enter(a, secs(2)), Err((Refusal::Crowded, true)), "and again after it was let in");
    }

    #[test]
    fn connections_come_in_bursts_but_not_faster_than_the_rate() {
        let mut guard = guard(|config| (config.connect_rate, config.connect_burst) = (60, 3));
        let a = ip("192.0.2.1");
        let mut come =
            |at: u64, times: u32| (0..times).filter(|_| guard.enter(a, secs(1_000 + at)).is_ok()).count();
        assert_eq!(come(0, 10), 3);
        assert_eq!(come(1, 10), 1);
        assert_eq!(come(3, 10), 2);
        assert_eq!(come(1_000, 10), 3);
        let mut any = super::Guard::new(GuardConfig { connect_rate: 0, ..GuardConfig::default() });
        assert!((0..1_000).all(|_| any.enter(a, secs(0)).is_ok()));
    }

    #[test]
    fn a_flood_of_bad_shares_is_banned_for_its_time_and_bad_luck_is_not() {
        let mut guard = guard(|_| ());
        let a = ip("192.0.2.1");
        guard.enter(a, secs(0)).unwrap();
        // Half of them are bad: not more than 50 %.
        for i in 0..500 {
            assert_eq!(guard.share(a, false, secs(i / 100)), None);
            assert_eq!(guard.share(a, true, secs(i / 100)), None);
        }
        // Few, spread over days.
        for i in 0..200 {
            assert_eq!(guard.share(a, false, secs(1_000 + i * 60)), None, "{i}");
        }
        let begun = secs(100_000);
        for _ in 0..49 {
            assert_eq!(guard.share(a, false, begun), None);
        }
        assert_eq!(guard.share(a, false, begun), Some(Offence::BadShares { bad: 50, of: 50 }));
        assert!(guard.is_banned(a, begun) && !guard.is_banned(ip("192.0.2.2"), begun));
        assert_eq!(guard.banned(begun), [(a, secs(600))]);
        assert_eq!(guard.enter(a, begun + secs(599)), Err((Refusal::Banned, false)), "the ban was told");
        assert_eq!(guard.enter(a, begun + secs(600)), Ok(true));
        assert_eq!(guard.banned(begun + secs(600)), []);
    }

    #[test]
    fn a_ban_is_news_once() {
        let mut guard = guard(|_| ());
        let a = ip("192.0.2.1");
        assert!(guard.ban(a, secs(0)));
        assert!(!guard.ban(a, secs(1)));
        assert!(guard.ban(a, secs(700)));
        let mut never = Guard::new(GuardConfig { ban: Duration::ZERO, ..GuardConfig::default() });
        assert!(!never.ban(a, secs(0)) && never.enter(a, secs(0)).is_ok());
    }

    #[test]
    fn a_customer_s_whole_network_is_one_and_disguises_are_seen_through() {
        let mut guard = guard(|_| ());
        guard.ban(ip("2001:db8:0:1::1"), secs(0));
        assert!(guard.is_banned(ip("2001:db8:0:1:ffff::2"), secs(1)));
        assert!(!guard.is_banned(ip("2001:db8:0:2::1"), secs(1)));
        guard.ban(ip("::ffff:192.0.2.1"), secs(0));
        assert!(guard.is_banned(ip("192.0.2.1"), secs(1)));
    }

    #[test]
    fn balancers_and_loopback_are_exempt_if_so_configured() {
        let mut guard = guard(|config| {
            config.exempt = vec![ip("192.0.2.1")];
            config.max_connections = 1;
        });
        for exempt in ["192.0.2.1", "127.0.0.1", "::1"].map(ip) {
            assert!((0..10).all(|_| guard.enter(exempt, secs(0)) == Ok(false)));
            assert!(!guard.ban(exempt, secs(0)) && !guard.is_banned(exempt, secs(0)));
            guard.leave(exempt, secs(0));
        }
        assert!(guard.entries.is_empty());
        guard.config.exempt_loopback = false;
        assert!(guard.ban(ip("127.0.0.1"), secs(0)));
    }

    #[test]
    fn a_flood_of_addresses_takes_bounded_room_and_frees_no_one() {
        let mut guard = guard(|config| config.max_addresses = 64);
        let (banned, connected) = (ip("203.0.113.1"), ip("203.0.113.2"));
        guard.ban(banned, secs(0));
        guard.enter(connected, secs(0)).unwrap();
        for i in 0..10_000u32 {
            let from = IpAddr::from((0x0a00_0000 + i).to_be_bytes());
            guard.enter(from, secs(1)).unwrap();
            guard.leave(from, secs(1));
            assert!(guard.entries.len() <= 66, "{}", guard.entries.len());
        }
        assert!(guard.is_banned(banned, secs(1)));
        assert_eq!(guard.entries[&connected].connections, 1);
    }

    #[test]
    fn late_shares_are_nobody_s_fault() {
        use RejectReason::*;
        assert!([Stale, UnknownJob, TooMany, NoWork, Internal].iter().all(|&reason| !is_blamed(reason)));
        assert!([LowDifficulty, Duplicate, WrongHash, Malformed].iter().all(|&reason| is_blamed(reason)));
    }
}
