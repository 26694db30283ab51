//! A pool's front: miners connect, get jobs cut from a node's templates, and their shares are proven,
//! recorded and answered.
//!
//! ```text
//!   node group ──template──▶ Trade::cut ──▶ every connection: Trade::hand_out ──▶ lines
//!   bytes ──▶ PROXY header? TLS? (entrance) ──▶ lines
//!   lines ──▶ Server (state machine) ──Check──▶ Judge: verify threads ──Verdict──▶ Server
//!                                    ──Accepted──▶ ShareLog (durable) ──▶ the miner's answer
//!                                    ──Block──▶ Trade::block ──recorded──▶ every node at once
//! ```
//!
//! What one address may do is [`guard`]'s business, why a worker's shares did not count [`workers`]'.
//!
//! A connection is one task; what it costs is bounded: a line, the lines of one turn that are still to be
//! written, and what [`Limits`](crate::session::Limits) allows its session. Hashing happens on threads of its own ([`judge`]), never on the runtime.

pub mod guard;
pub mod judge;
pub mod settings;
pub mod tls;
pub mod trade;
pub mod workers;

mod connection;
mod entrance;
mod seat;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use otedama_core::{Algorithm, Difficulty, HashRate, Target};
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::effort::Effort;
use crate::node::driver::{Current, NodeGroup, Submission};
use crate::node::{BlockRef, ChainNode, Submitted};
use crate::session::{Credit, FoundBlock, Now};
use crate::stratum::RejectReason;

use guard::{Guard, Offence};
use judge::Judge;
use seat::Seat;
use trade::{Trade, Worth};
use workers::{RefusedShare, WorkerStats, Workers};

pub use settings::FrontConfig;

/// Who may mine, and where accepted shares are recorded before their miners hear of it.
pub trait ShareLog: Send + Sync + 'static {
    /// Whether somebody may mine under this name, which has a sane length and no control characters.
    ///
    /// # Errors
    /// In words for the miner.
    fn may_mine(&self, username: &str) -> Result<(), String> {
        let _ = username;
        Ok(())
    }

    /// Records a share: begun at once, done when it can no longer be lost.
    ///
    /// # Errors
    /// In words; the connection then ends without an answer, since the share would not be paid.
    fn record(&self, share: &Counted<'_>) -> impl Future<Output = Result<(), String>> + Send + use<Self>;

    /// Notes what each node (by its label) said to a block. May take as long as it likes.
    fn submitted(&self, block: &BlockRef, each: &[(String, Submitted)]) -> impl Future<Output = ()> + Send {
        let _ = (block, each);
        std::future::ready(())
    }
}

/// A share that counts.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'a> {
    /// Whose it is, and for how much.
    pub credit: &'a Credit,
    /// What is reckoned by, of the block it was found for.
    pub worth: Worth,
    /// The block, if it is one.
    pub block: Option<BlockRef>,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
}

/// Keeps no accounts: for trying things out.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAccounts;

impl ShareLog for NoAccounts {
    fn record(&self, _: &Counted<'_>) -> impl Future<Output = Result<(), String>> + Send + use<> {
        std::future::ready(Ok(()))
    }
}

/// What happens at the front, for logs and views. Called on the runtime: must return soon.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Happening {
    /// A miner is there.
    Joined(SocketAddr),
    /// A miner has left, or was shown out; why, if there is a reason.
    Left(SocketAddr, Option<String>),
    /// An address is not let in any more; connections it has are closed.
    Banned {
        /// The address; an IPv6 address stands for its /64.
        address: IpAddr,
        /// What it did.
        offence: Offence,
        /// How long.
        lasts: Duration,
    },
    /// A share counts.
    Share {
        /// Who found it.
        worker: String,
        /// What it is worth.
        difficulty: Difficulty,
    },
    /// A share does not count.
    Refused {
        /// Who sent it.
        worker: String,
        /// Why.
        reason: RejectReason,
    },
    /// A block was found and handed to every node.
    Block {
        /// Who found it.
        worker: String,
        /// Its height.
        height: u64,
        /// Its id, in the order it is hashed.
        id: otedama_core::Hash256,
        /// What the nodes say.
        outcome: Submitted,
    },
    /// New work went out.
    Work {
        /// The height of the block to find.
        height: u64,
        /// How many connections there are.
        connections: usize,
    },
    /// Something that concerns the operator.
    Trouble(String),
}

/// A front for one algorithm and coin. Runs until it is dropped or its future is.
pub struct Front<T: Trade, L> {
    shared: Arc<Shared<T, L>>,
    group: Arc<NodeGroup<T::Node>>,
}

/// What all connections share.
struct Shared<T: Trade, L> {
    trade: T,
    log: L,
    judge: Judge,
    config: FrontConfig,
    begun: Instant,
    happens: Box<dyn Fn(Happening) + Send + Sync>,
    /// The newest job, and whether older ones are stale.
    work: watch::Sender<Option<Arc<Job<T::Cut>>>>,
    /// Recent jobs by their number, to make blocks of.
    recent: Mutex<VecDeque<Arc<Job<T::Cut>>>>,
    guard: Mutex<Guard>,
    remembered: Mutex<Workers>,
    /// How many bans there have been, for connections to see that there is a new one.
    bans: AtomicU64,
    next_connection: AtomicU32,
    tally: Tally,
}

/// A cut template with its number.
struct Job<C> {
    id: String,
    cut: C,
}

/// How many jobs blocks may be made of: more than any session keeps.
const RECENT_JOBS: usize = 512;

/// How long a block waits for its share to be on disk at most.
const BLOCK_WAITS: Duration = Duration::from_millis(100);

/// How often a block's share is recorded that could not be.
const RECORD_AGAIN: Duration = Duration::from_secs(10);

/// Counters since the start.
#[derive(Debug, Default)]
struct Tally {
    connections: AtomicU64,
    workers: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    turned_away: AtomicU64,
    blocks: AtomicU64,
}

/// How a front is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontStats {
    /// What is mined.
    pub algorithm: Algorithm,
    /// Connections at the moment.
    pub connections: u64,
    /// Workers that are logged in at the moment, one that has several connections as often.
    pub workers: u64,
    /// Shares that counted.
    pub accepted: u64,
    /// Shares that did not.
    pub refused: u64,
    /// Connections that were not let in.
    pub turned_away: u64,
    /// Blocks found.
    pub blocks: u64,
    /// What all miners together hash, by their shares since the start.
    pub hash_rate: HashRate,
    /// Since when.
    pub uptime: Duration,
}

impl<T: Trade, L: ShareLog> Front<T, L> {
    /// A front that takes templates from these nodes. `happens` hears of everything.
    pub fn new(
        trade: T,
        group: impl Into<Arc<NodeGroup<T::Node>>>,
        judge: Judge,
        log: L,
        config: FrontConfig,
        happens: impl Fn(Happening) + Send + Sync + 'static,
    ) -> Front<T, L> {
        let shared = Shared {
            trade,
            log,
            judge,
            guard: Mutex::new(Guard::new(config.guard())),
            remembered: Mutex::new(Workers::new(config.max_workers)),
            bans: AtomicU64::new(0),
            config,
            begun: Instant::now(),
            happens: Box::new(happens),
            work: watch::Sender::new(None),
            recent: Mutex::new(VecDeque::new()),
            next_connection: AtomicU32::new(1),
            tally: Tally::default(),
        };
        Front { shared: Arc::new(shared), group: group.into() }
    }

    /// Serves miners at this listener, for ever; dropping the future closes every connection.
    ///
    /// # Errors
    /// If the listener fails for good.
    pub async fn serve(&self, listener: TcpListener) -> std::io::Result<()> {
        self.serve_all(vec![(listener, None)]).await
    }

    /// Serves miners at several listeners, as [`Front::serve`] does at one. Whoever connects to one begins with
    /// its difficulty, or with the usual one.
    ///
    /// # Errors
    /// If one of the listeners fails for good.
    pub async fn serve_all(&self, listeners: Vec<(TcpListener, Option<Difficulty>)>) -> std::io::Result<()> {
        let mut doors = JoinSet::new();
        for (listener, start) in listeners {
            doors.spawn(accept(Arc::clone(&self.shared), Arc::clone(&self.group), listener, start));
        }
        tokio::select! {
            Some(ended) = doors.join_next() => match ended {
                Ok(error) => Err(error),
                Err(panicked) => Err(std::io::Error::other(panicked)),
            },
            () = self.cut_jobs() => Ok(()),
            () = self.shared.watch_certificates() => Ok(()),
        }
    }

    /// How it is doing.
    pub fn stats(&self) -> FrontStats {
        let Tally { connections, workers, accepted, refused, turned_away, blocks } = &self.shared.tally;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let uptime = self.shared.begun.elapsed();
        FrontStats {
            algorithm: self.shared.trade.algorithm(),
            connections: get(connections),
            workers: get(workers),
            accepted: get(accepted),
            refused: get(refused),
            turned_away: get(turned_away),
            blocks: get(blocks),
            hash_rate: workers::rate(self.shared.remembered().effort(), uptime.as_secs_f64().max(1e-3)),
            uptime,
        }
    }

    /// How each worker is doing that is remembered, in no order.
    pub fn workers(&self) -> Vec<WorkerStats> {
        self.shared.remembered().stats(self.shared.now())
    }

    /// How one worker is doing, and its last refused shares, the oldest first; `None` if it is not remembered.
    pub fn worker(&self, worker: &str) -> Option<(WorkerStats, Vec<RefusedShare>)> {
        self.shared.remembered().worker(worker, self.shared.now())
    }

    /// The addresses that are banned, and how much longer; an IPv6 address stands for its /64.
    pub fn banned(&self) -> Vec<(IpAddr, Duration)> {
        self.shared.guard().banned(self.shared.begun.elapsed())
    }

    /// Cuts a job from each template and hands it to all connections.
    async fn cut_jobs(&self) {
        let mut templates = self.group.templates();
        let mut serial = 0u64;
        loop {
            let template = templates.borrow_and_update().clone();
            match template {
                Some(template) => {
                    serial += 1;
                    self.cut(&template, serial);
                }
                None if self.shared.work.borrow().is_some() => {
                    let back = templates.wait_for(Option::is_some);
                    if timeout(self.shared.config.outage, back).await.is_ok() {
                        continue;
                    }
                    // What is found for the last job would be paid for and worth nothing.
                    self.shared.work.send_replace(None);
                    let words = "no node has had work for some time: miners are sent away until one has";
                    self.shared.happen(Happening::Trouble(words.to_owned()));
                }
                None => {}
            }
            // The group lives as long as this front.
            if templates.changed().await.is_err() {
                return;
            }
        }
    }

    fn cut(&self, template: &Current<<T::Node as ChainNode>::Template>, serial: u64) {
        let shared = &self.shared;
        let id = format!("{serial:x}");
        let clean = template.new_block || serial == 1;
        match shared.trade.cut(template, &id, clean) {
            Ok(cut) => {
                shared.judge.announce(shared.trade.epochs(&cut));
                let job = Arc::new(Job { id, cut });
                let mut recent = shared.recent();
                recent.push_back(Arc::clone(&job));
                if recent.len() > RECENT_JOBS {
                    recent.pop_front();
                }
                drop(recent);
                shared.work.send_replace(Some(job));
                let connections = shared.tally.connections.load(Ordering::Relaxed) as usize;
                let (height, _) = T::Node::parent(&template.template);
                shared.happen(Happening::Work { height: height + 1, connections });
            }
            Err(reason) => {
                shared.happen(Happening::Trouble(format!("cannot make a job of a template: {reason}")))
            }
        }
    }
}

/// Takes connections, each a task that ends with this future, until the listener fails for good.
async fn accept<T: Trade, L: ShareLog>(
    shared: Arc<Shared<T, L>>,
    group: Arc<NodeGroup<T::Node>>,
    listener: TcpListener,
    start: Option<Difficulty>,
) -> std::io::Error {
    let mut tasks = JoinSet::new();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            // Out of descriptors, or a connection that was gone at once: others may do better.
            Err(error) if transient(&error) => {
                shared.happen(Happening::Trouble(format!("cannot accept a connection: {error}")));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
            Err(error) => return error,
        };
        while tasks.try_join_next().is_some() {}
        if let Some(seat) = Seat::take(&shared, guard::canonical(peer), start) {
            tasks.spawn(connection::run(Arc::clone(&shared), Arc::clone(&group), stream, seat));
        }
    }
}

fn transient(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted, WouldBlock,
    };
    // EMFILE, ENFILE, ENOBUFS, ENOMEM: the machine is full for the moment.
    let full = matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12));
    full || matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted | WouldBlock
    )
}

impl<T: Trade, L: ShareLog> Shared<T, L> {
    fn happen(&self, happening: Happening) {
        (self.happens)(happening);
    }

    fn now(&self) -> Now {
        let unix_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Now { elapsed: self.begun.elapsed(), unix_s }
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<Arc<Job<T::Cut>>>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remembered(&self) -> MutexGuard<'_, Workers> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The job a share names.
    fn job(&self, id: &str) -> Option<Arc<Job<T::Cut>>> {
        let (id, _) = trade::split_number(id);
        self.recent().iter().rev().find(|job| job.id == id).cloned()
    }

    /// Begins to record a share; done when it is safe and counted.
    ///
    /// # Errors
    /// In words, now or later, if it cannot be.
    fn record(
        self: &Arc<Self>,
        credit: Credit,
        block: Option<BlockRef>,
    ) -> Result<impl Future<Output = Result<(), String>> + Send + use<T, L>, String> {
        let job = self.job(&credit.job_id).ok_or_else(|| format!("job {} is forgotten", credit.job_id))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let worth = self.trade.worth(&job.cut);
        let recorded = self.log.record(&Counted { credit: &credit, worth, block, time_ms });
        let shared = Arc::clone(self);
        Ok(async move {
            let recorded = recorded.await;
            if let (Err(why), Some(block)) = (&recorded, block) {
                shared.record_later(credit.clone(), worth, block, time_ms, why);
            }
            recorded?;
            shared.credit(credit);
            Ok(())
        })
    }

    /// A block that goes to the nodes and is in no books yet, because its share could not be recorded: tried again as long
    /// as the pool runs, and told in full, for its reward is owed to miners.
    fn record_later(
        self: &Arc<Self>,
        credit: Credit,
        worth: Worth,
        block: BlockRef,
        time_ms: u64,
        why: &str,
    ) {
        let shared = Arc::clone(self);
        let what = format!(
            "block {} at height {} by {}, worth {} units",
            block.id.to_display_hex(),
            block.height,
            credit.worker,
            worth.value
        );
        self.happen(Happening::Trouble(format!(
            "{what}, is not in the books: {why}; it is tried again every {} s: do not end the pool",
            RECORD_AGAIN.as_secs()
        )));
        // As blocks do, this outlives the connection.
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(RECORD_AGAIN).await;
                let share = Counted { credit: &credit, worth, block: Some(block), time_ms };
                let recorded = shared.log.record(&share);
                if recorded.await.is_ok() {
                    break;
                }
            }
            shared.credit(credit);
            shared.happen(Happening::Trouble(format!("{what}, is in the books now")));
        });
    }

    fn credit(&self, credit: Credit) {
        let target = Target::from_difficulty(self.trade.algorithm(), credit.difficulty);
        self.tally.accepted.fetch_add(1, Ordering::Relaxed);
        self.remembered().accepted(&credit.worker, Effort::of(&target), self.now());
        self.happen(Happening::Share { worker: credit.worker, difficulty: credit.difficulty });
    }
}

/// A block that was found, put together.
struct Found<B> {
    block: B,
    reference: BlockRef,
    worker: String,
}

/// What is handed to the nodes of a trade.
type BlockOf<T> = <<T as Trade>::Node as ChainNode>::Block;

impl<T: Trade, L: ShareLog> Shared<T, L> {
    /// Makes a block of a find; `None`, with words to the operator, if that cannot be done.
    fn block(&self, connection: u32, found: &FoundBlock) -> Option<Found<BlockOf<T>>> {
        let made = self.job(&found.job_id).and_then(|job| self.trade.block(&job.cut, connection, found));
        let worker = found.worker.clone();
        if made.is_none() {
            let words =
                format!("the block that {worker} found for job {} cannot be put together", found.job_id);
            self.happen(Happening::Trouble(words));
        }
        made.map(|(block, reference)| Found { block, reference, worker })
    }
}

/// Hands a block to every node as soon as the books are safe to know of it: a crash in between leaves a block in the
/// books that is on no chain, which following the chain finds out, and never one on the chain that the books do not
/// know. A disk that does not answer holds no block up: `recorded` ends when its share is recorded, or never will be.
fn hand_in<T: Trade, L: ShareLog>(
    shared: &Arc<Shared<T, L>>,
    group: &Arc<NodeGroup<T::Node>>,
    found: Found<BlockOf<T>>,
    recorded: oneshot::Receiver<Infallible>,
) {
    let (shared, group) = (Arc::clone(shared), Arc::clone(group));
    let Found { block, reference, worker } = found;
    // Blocks outlive the connection that found them.
    tokio::spawn(async move {
        let _ = timeout(BLOCK_WAITS, recorded).await;
        let Submission { outcome, each } = group.submit(block).await;
        shared.tally.blocks.fetch_add(1, Ordering::Relaxed);
        let each: Vec<_> = each.into_iter().map(|(label, outcome, _)| (label, outcome)).collect();
        let (height, id) = (reference.height, reference.id);
        shared.happen(Happening::Block { worker, height, id, outcome });
        shared.log.submitted(&reference, &each).await;
    });
}
