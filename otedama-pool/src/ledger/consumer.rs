//! From the live end of a spool into the ledger, through any outage of the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task;
use tokio::time::Instant;

use super::{Applied, CoinRules, Ledger, LedgerError};
use crate::spool::{Reader, Spool, SpoolError};

/// Most records of one transaction.
const BATCH: usize = 8192;
/// How long the consumer sleeps at most while the spool does not grow.
const IDLE: Duration = Duration::from_millis(100);
/// How long it lets shares gather after a transaction: the database's commits wait for the same disk as the spool's.
const GATHER: Duration = Duration::from_millis(50);
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(10);

/// What the consumer has done so far; read by whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Records taken into the ledger.
    pub records: AtomicU64,
    /// Blocks among them.
    pub blocks: AtomicU64,
    /// Sequences lost with a spool that was replaced.
    pub lost: AtomicU64,
    /// Transactions that failed and were tried again.
    pub retries: AtomicU64,
    /// The sequence the ledger expects next.
    pub next_sequence: AtomicU64,
}

/// How a consumer gets on with its database.
#[derive(Debug)]
pub enum Contact<'a> {
    /// It is away, for this reason; the spool grows meanwhile.
    Lost(&'a LedgerError),
    /// It is there again.
    Found,
}

/// Feeds one spool to a ledger.
pub struct Consumer {
    spool: Arc<Spool>,
    ledger: Arc<Ledger>,
    rules: HashMap<String, CoinRules>,
    progress: Arc<Progress>,
    keeps_segments: bool,
    tell: Box<dyn Fn(Contact<'_>) + Send + Sync>,
}

/// Why a consumer gave up. What is in the spool stays there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerError {
    /// The spool cannot be read.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The ledger refuses, and will refuse again.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A spool from which a ledger is to be rebuilt no longer has all it once held.
    #[error("the spool lacks its first {lost} shares: what they earned cannot be rebuilt from it")]
    Incomplete {
        /// How many are missing.
        lost: u64,
    },
}

impl Consumer {
    /// A consumer of these coins' shares.
    pub fn new(
        spool: Arc<Spool>,
        ledger: Arc<Ledger>,
        rules: impl IntoIterator<Item = CoinRules>,
    ) -> Consumer {
        let rules = rules.into_iter().map(|rules| (rules.coin.clone(), rules)).collect();
        Consumer {
            spool,
            ledger,
            rules,
            progress: Arc::default(),
            keeps_segments: false,
            tell: Box::new(|_| ()),
        }
    }

    /// Removes no segment, so that the ledger can be rebuilt from the spool ([`Ledger::replay`]) as long as somebody
    /// finds room for it: about 150 bytes a share.
    pub fn keeping_segments(self) -> Consumer {
        Consumer { keeps_segments: true, ..self }
    }

    /// Tells when the database goes away, once for each time, and when it is back.
    pub fn telling(self, tell: impl Fn(Contact<'_>) + Send + Sync + 'static) -> Consumer {
        Consumer { tell: Box::new(tell), ..self }
    }

    /// What it has done, as it goes on.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Consumes until `stop` is set and everything durable is consumed, removing segments as the ledger is done
    /// with them. A database that is away is tried again after 50 ms, then twice as long each time up to 10 s.
    ///
    /// # Errors
    /// If the database is away when `stop` is set, and at once if anything else fails. Nothing is half done.
    pub async fn run(&self, stop: &AtomicBool) -> Result<(), ConsumerError> {
        let mut reader = self.start(stop).await?;
        let origin = reader.origin();
        loop {
            let stopping = stop.load(Ordering::SeqCst);
            let read;
            (reader, read) = in_background(reader, move |reader| {
                reader.wait(if stopping { Duration::ZERO } else { IDLE });
                reader.read(BATCH)
            })
            .await?;
            if read.is_empty() {
                if stopping {
                    return Ok(());
                }
                continue;
            }
            let apply = || self.ledger.apply(self.spool.node(), origin, &read, &self.rules);
            let applied = self.until_it_works(stop, apply).await?;
            self.note(applied);
            if !self.keeps_segments {
                self.spool.release(applied.next_sequence)?;
            }
            if read.len() < BATCH && !stopping {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    /// A reader where the ledger left off.
    async fn start(&self, stop: &AtomicBool) -> Result<Reader, ConsumerError> {
        let node = self.spool.node();
        let position = self.until_it_works(stop, || self.ledger.position(node)).await?;
        let oldest = self.spool.oldest_sequence();
        // A spool that begins later than the ledger expects is looked at record by record, in `apply`.
        let from = position.unwrap_or(oldest).max(oldest);
        self.progress.next_sequence.store(from, Ordering::SeqCst);
        Ok(self.spool.reader(from)?)
    }

    async fn until_it_works<T, F: Future<Output = Result<T, LedgerError>>>(
        &self,
        stop: &AtomicBool,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, ConsumerError> {
        let (mut pause, mut is_lost) = (FIRST_RETRY, false);
        loop {
            match attempt().await {
                Ok(done) => {
                    if is_lost {
                        (self.tell)(Contact::Found);
                    }
                    return Ok(done);
                }
                Err(error) if !error.is_retryable() || stop.load(Ordering::SeqCst) => {
                    return Err(error.into());
                }
                Err(error) => {
                    if !is_lost {
                        (self.tell)(Contact::Lost(&error));
                    }
                    is_lost = true;
                }
            }
            self.progress.retries.fetch_add(1, Ordering::SeqCst);
            let again = Instant::now() + pause;
            while Instant::now() < again && !stop.load(Ordering::SeqCst) {
                tokio::time::sleep(pause.min(IDLE)).await;
            }
            pause = (pause * 2).min(LAST_RETRY);
        }
    }

    fn note(&self, applied: Applied) {
        let progress = &self.progress;
        progress.records.fetch_add(applied.applied, Ordering::SeqCst);
        progress.blocks.fetch_add(applied.blocks, Ordering::SeqCst);
        progress.lost.fetch_add(applied.lost, Ordering::SeqCst);
        progress.next_sequence.store(applied.next_sequence, Ordering::SeqCst);
    }
}

impl Ledger {
    /// Consumes all of a spool that nobody writes to ([`crate::spool::read_closed`]); gives the number of new
    /// records. Into an empty ledger this rebuilds what the spool's shares earned: with [`Ledger::follow`] for the
    /// blocks, [`Ledger::earned`] must then be what it is in the ledger that is in doubt, if the rules are still those under
    /// which it was earned.
    ///
    /// # Errors
    /// [`ConsumerError::Incomplete`] if the spool does not begin with its first share, and if either fails.
    pub async fn replay(
        &self,
        reader: Reader,
        rules: &HashMap<String, CoinRules>,
    ) -> Result<u64, ConsumerError> {
        let (node, origin) = (reader.node().to_owned(), reader.origin());
        let (mut reader, mut new) = (reader, 0);
        loop {
            let read;
            (reader, read) = in_background(reader, |reader| reader.read(BATCH)).await?;
            if read.is_empty() {
                return Ok(new);
            }
            let applied = self.apply(&node, origin, &read, rules).await?;
            if applied.lost > 0 {
                return Err(ConsumerError::Incomplete { lost: applied.lost });
            }
            new += applied.applied;
        }
    }
}

/// Reads on a thread where waiting for the disk holds nobody up.
async fn in_background<T: Send + 'static>(
    mut reader: Reader,
    read: impl FnOnce(&mut Reader) -> Result<T, SpoolError> + Send + 'static,
) -> Result<(Reader, T), SpoolError> {
    let done = task::spawn_blocking(move || {
        let read = read(&mut reader);
        (reader, read)
    });
    match done.await {
        Ok((reader, read)) => Ok((reader, read?)),
        // The closure does not panic; what is left is a runtime that shuts down.
        Err(_) => Err(SpoolError::Closed),
    }
}
