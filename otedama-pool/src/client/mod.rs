//! The miner's network side: one connection at a time, to the best pool that can be had.
//!
//! ```text
//!   engine threads                      Link                       one tokio task
//!     work source  ── next_task() ──▶  ┌────────┐
//!     event sink   ── submit(share) ─▶ │ session│ ◀── lines ── [`run`]: connect, TLS, read, write, wait
//!                  ◀── Notice ──────── └────────┘
//! ```
//!
//! Pools are tried in the order given. One that fails is left alone for a while, twice as long each time up
//! to a minute, with a random part so that a pool that comes back is not met by everybody at once. While a
//! lesser pool is mined at, the better ones are tried again from time to time, and gone back to.

mod connection;
mod tls;
mod url;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use otedama_core::{Difficulty, Share};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::session::client::Counts;
use crate::session::{Client, Now};
use crate::stratum::RejectReason;
use crate::work::Task;

pub use connection::LinkError;
pub use tls::{BadFingerprint, Fingerprint, Trust};
pub use url::{BadUrl, PoolUrl};

/// A pool to mine at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Where it is.
    pub url: PoolUrl,
    /// Whose certificate is good, where it speaks TLS.
    pub trust: Trust,
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patience {
    /// For a connection, TLS included.
    pub connect: Duration,
    /// For writing a batch of lines.
    pub write: Duration,
    /// The wait after a first failure; doubled with each further one.
    pub first_retry: Duration,
    /// No wait is longer than this.
    pub last_retry: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(10),
            write: Duration::from_secs(10),
            first_retry: Duration::from_secs(1),
            last_retry: Duration::from_secs(60),
        }
    }
}

/// What happens, for whoever runs the engine and for people. Called on the task that runs the connection:
/// should return soon.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Notice {
    /// Connected to this pool; nothing is said yet.
    Connected(PoolUrl),
    /// There is work to be had from [`Link::next_task`]. If clean, what is being searched is worth nothing.
    Work {
        /// Whether earlier work is dead.
        clean: bool,
    },
    /// The pool set this difficulty.
    Difficulty(Difficulty),
    /// A share counted.
    Accepted,
    /// A share did not count.
    Rejected {
        /// Why, as far as it can be told.
        reason: RejectReason,
        /// The pool's own words.
        words: String,
    },
    /// The pool has something to say to people, or said something odd.
    Message(String),
    /// The connection is gone, or never came about; what was being searched is worth nothing.
    Lost {
        /// Which pool.
        url: PoolUrl,
        /// Why.
        reason: LinkError,
    },
    /// A better pool is there again.
    GoingBack(PoolUrl),
}

/// What engine threads hold: where work comes from and shares go to. Clones are the same link.
#[derive(Clone)]
pub struct Link {
    session: Arc<Mutex<Option<Box<dyn Client>>>>,
    shares: mpsc::Sender<Share>,
}

/// The other end of a [`Link`], for [`run`].
pub struct LinkEnd {
    session: Arc<Mutex<Option<Box<dyn Client>>>>,
    shares: mpsc::Receiver<Share>,
}

/// Shares that may wait to be sent; a pool that wants more than this at once has its difficulty wrong.
const MAX_WAITING_SHARES: usize = 4096;

/// A link without a connection.
pub fn link() -> (Link, LinkEnd) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING_SHARES);
    let session = Arc::new(Mutex::new(None));
    (Link { session: Arc::clone(&session), shares: sender }, LinkEnd { session, shares: receiver })
}

impl Link {
    /// The next work, if there is any now. Takes a lock that is never held for long.
    pub fn next_task(&self) -> Option<Task> {
        lock(&self.session).as_mut()?.next_task()
    }

    /// Sends a share, unless thousands are waiting already: `false` then.
    pub fn submit(&self, share: Share) -> bool {
        self.shares.try_send(share).is_ok()
    }

    /// What became of the shares of the current connection.
    pub fn counts(&self) -> Option<Counts> {
        lock(&self.session).as_ref().map(|session| session.counts().clone())
    }
}

type Session = Mutex<Option<Box<dyn Client>>>;

fn lock(session: &Session) -> MutexGuard<'_, Option<Box<dyn Client>>> {
    // A session that panicked half way is dropped with its connection.
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a pool is doing.
#[derive(Debug)]
struct Standing {
    failures: u32,
    not_before: Instant,
    /// Where the pool itself said to connect, on the same host.
    port: Option<u16>,
}

/// Keeps a connection to the best of these pools until `stop` says true or its sender is gone. `open` makes
/// the session for a connection to the pool of this index.
pub async fn run(
    pools: &[Pool],
    patience: &Patience,
    mut end: LinkEnd,
    mut open: impl FnMut(usize) -> Box<dyn Client> + Send,
    mut notice: impl FnMut(Notice) + Send,
    mut stop: watch::Receiver<bool>,
) {
    let clock = Clock::start();
    let now = Instant::now();
    let mut standings: Vec<Standing> =
        pools.iter().map(|_| Standing { failures: 0, not_before: now, port: None }).collect();
    while !*stop.borrow() {
        let Some((index, at)) = next_pool(&standings) else { return };
        tokio::select! {
            () = sleep_until(at) => {}
            _ = stopped(&mut stop) => return,
        }
        let url = PoolUrl {
            port: standings[index].port.unwrap_or(pools[index].url.port),
            ..pools[index].url.clone()
        };
        let pool = Pool { url: url.clone(), trust: pools[index].trust };
        *lock(&end.session) = Some(open(index));
        // Shares of the connection before are worth nothing on this one.
        while end.shares.try_recv().is_ok() {}
        let mut worked = false;
        let mut tell = |told: Notice| {
            worked |= matches!(told, Notice::Work { .. });
            notice(told);
        };
        let connection = connection::serve(&pool, patience, &mut end, &clock, &mut tell);
        let outcome = tokio::select! {
            reason = connection => Some(reason),
            better = better_pool(pools, &mut standings[..index], patience) => {
                notice(Notice::GoingBack(pools[better].url.clone()));
                None
            }
            _ = stopped(&mut stop) => None,
        };
        *lock(&end.session) = None;
        let standing = &mut standings[index];
        // A pool that gave work was good: the next failure is a first one.
        standing.failures = if worked { 0 } else { standing.failures };
        if let Some(reason) = outcome {
            let wait = match &reason {
                LinkError::Moved { port, wait } => {
                    standing.port = *port;
                    (*wait).clamp(patience.first_retry.min(patience.last_retry), patience.last_retry)
                }
                // It will not think otherwise soon, and a lesser pool is disturbed by asking.
                LinkError::Session(error) if !error.is_retryable() => patience.last_retry.saturating_mul(5),
                // It is there and has no work: every attempt is a minute in which another pool gets none done.
                LinkError::Session(_) if !worked && pools.len() > 1 => patience.last_retry.saturating_mul(5),
                _ => {
                    // What the pool said about its port may have been wrong.
                    standing.port = None;
                    let wait = backoff(patience, standing.failures);
                    standing.failures = standing.failures.saturating_add(1);
                    wait
                }
            };
            standing.not_before = Instant::now() + wait;
            notice(Notice::Lost { url, reason });
        }
    }
}

/// The best pool that may be tried, and when: now if there is one, else the one whose wait ends first.
fn next_pool(standings: &[Standing]) -> Option<(usize, Instant)> {
    let now = Instant::now();
    let ready = standings.iter().position(|standing| standing.not_before <= now).map(|index| (index, now));
    ready.or_else(|| {
        standings.iter().map(|standing| standing.not_before).enumerate().min_by_key(|(_, at)| *at)
    })
}

/// Tries the pools before the current one whenever their wait is over; ends with the one that answers.
async fn better_pool(pools: &[Pool], standings: &mut [Standing], patience: &Patience) -> usize {
    loop {
        let Some((index, at)) = next_pool(standings) else { return std::future::pending().await };
        // No pool is tried more than once a second, whatever the settings.
        sleep_until(at.max(Instant::now() + Duration::from_secs(1).min(patience.first_retry))).await;
        if connection::connect(&pools[index], patience).await.is_ok() {
            standings[index].not_before = Instant::now();
            return index;
        }
        let standing = &mut standings[index];
        standing.not_before = Instant::now() + backoff(patience, standing.failures);
        standing.failures = standing.failures.saturating_add(1);
    }
}

/// The wait after this many failures before: doubled with each, the second half of it random.
fn backoff(patience: &Patience, failures: u32) -> Duration {
    let full = patience.first_retry.saturating_mul(1u32 << failures.min(16)).min(patience.last_retry);
    // The seed that the standard library gives each table: random enough to spread miners.
    let random = RandomState::new().build_hasher().finish() as u32;
    full / 2 + full.mul_f64(f64::from(random) / f64::from(u32::MAX) / 2.0)
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone will not say anything else.
    let _ = stop.wait_for(|&stop| stop).await;
}

/// The clocks that sessions are told the time of.
#[derive(Debug)]
struct Clock(Instant);

impl Clock {
    fn start() -> Clock {
        Clock(Instant::now())
    }

    fn now(&self) -> Now {
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Now { elapsed: self.0.elapsed(), unix_s }
    }
}

/// How often a session is told the time.
const TICK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_last_and_are_at_least_half() {
        let patience = Patience::default();
        for (failures, seconds) in [(0, 1.0), (1, 2.0), (5, 32.0), (6, 60.0), (u32::MAX, 60.0)] {
            for _ in 0..100 {
                let wait = backoff(&patience, failures).as_secs_f64();
                assert!(wait >= seconds / 2.0 && wait <= seconds, "{failures}: {wait}");
            }
        }
        let waits: std::collections::HashSet<_> = (0..100).map(|_| backoff(&patience, 9)).collect();
        assert!(waits.len() > 90);
    }

    #[test]
    fn the_first_pool_that_is_ready_is_taken_else_the_one_ready_first() {
        let now = Instant::now();
        let standing =
            |seconds| Standing { failures: 0, not_before: now + Duration::from_secs(seconds), port: None };
        assert_eq!(next_pool(&[standing(9), standing(0), standing(0)]).map(|next| next.0), Some(1));
        assert_eq!(next_pool(&[standing(9), standing(8)]).map(|next| next.0), Some(1));
        assert!(next_pool(&[]).is_none());
    }
}
