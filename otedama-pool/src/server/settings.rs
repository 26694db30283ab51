//! What a front may take, and where that is configured.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::guard::GuardConfig;
use super::tls::{Certificates, TlsError};
use crate::config::{Bans, Config, Mode, Stratum};

/// What a front may take.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// Connections at a time.
    pub max_connections: usize,
    /// Workers logged in at a time, one on several connections counted as often; so many are remembered.
    pub max_workers: usize,
    /// What one address may do.
    pub guard: GuardConfig,
    /// Load balancers: they must say whose connection they pass on, nobody else may, and they are exempt from
    /// what `guard` limits.
    pub proxies: Vec<IpAddr>,
    /// What miners who begin with TLS are served with; `None` if they are not.
    pub tls: Option<Arc<Certificates>>,
    /// How long a PROXY header and a TLS handshake may take together.
    pub entrance_timeout: Duration,
    /// How long the first whole line may take after that. What comes then is limited by
    /// [`Limits`](crate::session::Limits).
    pub first_line_timeout: Duration,
    /// How long a miner may take to read what it was sent.
    pub write_timeout: Duration,
    /// How long the last job is good while no node has work. Then miners are sent away: elsewhere there may be some, and
    /// shares of a dead job would be paid for.
    pub outage: Duration,
}

impl Default for FrontConfig {
    fn default() -> FrontConfig {
        FrontConfig {
            max_connections: 10_000,
            max_workers: 10_000,
            guard: GuardConfig::default(),
            proxies: Vec::new(),
            tls: None,
            entrance_timeout: Duration::from_secs(10),
            first_line_timeout: Duration::from_secs(20),
            write_timeout: Duration::from_secs(10),
            outage: Duration::from_secs(120),
        }
    }
}

impl FrontConfig {
    /// As configured. Reads the certificates.
    ///
    /// # Errors
    /// If TLS is configured and the certificate or its key are of no use.
    pub fn from_config(config: &Config) -> Result<FrontConfig, TlsError> {
        let Stratum { max_workers, max_per_address, connect_rate, ref bans, ref proxies, .. } =
            config.stratum;
        let Bans { lasts, invalid_percentage, shares, window } = *bans;
        let guard = GuardConfig {
            max_connections: max_per_address as usize,
            connect_rate,
            connect_burst: max_per_address,
            share_count: shares,
            share_window: window.0,
            bad_part: invalid_percentage,
            ban: lasts.0,
            exempt_loopback: config.app.mode == Mode::Development,
            ..GuardConfig::default()
        };
        Ok(FrontConfig {
            max_connections: config.pool.max_connections as usize,
            max_workers: max_workers as usize,
            guard,
            proxies: proxies.iter().map(IpAddr::to_canonical).collect(),
            tls: Certificates::load(&config.security)?,
            ..FrontConfig::default()
        })
    }

    /// What one address may do, balancers excepted.
    pub(super) fn guard(&self) -> GuardConfig {
        let mut guard = self.guard.clone();
        guard.exempt.extend(&self.proxies);
        guard
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Overrides, parse};

    fn read(text: &str) -> Result<FrontConfig, TlsError> {
        FrontConfig::from_config(&parse(text, Path::new("c.yaml"), &Overrides::default()).unwrap())
    }

    #[test]
    fn nothing_said_means_the_defaults_but_for_loopback() {
        let (read, default) = (read("").unwrap(), FrontConfig::default());
        assert_eq!(read.guard, GuardConfig { exempt_loopback: false, ..default.guard });
        assert_eq!(
            (read.max_connections, read.max_workers, read.tls.is_none()),
            (default.max_connections, default.max_workers, true)
        );
    }

    #[test]
    fn what_is_said_is_taken() {
        let read = read(
            "app: {mode: development}\n\
             pool: {max_connections: 7}\n\
             stratum:\n  max_workers: 5\n  max_per_address: 3\n  connect_rate: 2\n  proxies: ['::ffff:192.0.2.1']\n\
             \x20 bans: {lasts: 1m, invalid_percentage: 12.5, shares: 9, window: 2m}\n",
        )
        .unwrap();
        let guard = GuardConfig {
            max_connections: 3,
            connect_rate: 2,
            connect_burst: 3,
            share_count: 9,
            share_window: Duration::from_secs(120),
            bad_part: "12.5".parse().unwrap(),
            ban: Duration::from_secs(60),
            exempt_loopback: true,
            ..GuardConfig::default()
        };
        assert_eq!((read.max_connections, read.max_workers, &read.guard), (7, 5, &guard));
        let balancer: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!((&read.proxies[..], &read.guard().exempt[..]), (&[balancer][..], &[balancer][..]));
    }

    #[test]
    fn certificates_that_are_not_there_are_told() {
        let error = read("security: {enable_tls: true, cert_file: /no/chain.pem, key_file: /no/key.pem}\n");
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("/no/chain.pem: cannot be read"), "{error}");
    }
}
