//! A pool's front: miners connect, get jobs cut from a node's templates, and their shares are proven,
//! recorded and answered.
//!
//! ```text
//!   node group ──template──▶ Trade::cut ──▶ every connection: Trade::hand_out ──▶ lines
//!   lines ──▶ Server (state machine) ──Check──▶ Judge: verify threads ──Verdict──▶ Server
//!                                    ──Accepted──▶ ShareLog (durable) ──▶ the miner's answer
//!                                    ──Block──▶ Trade::block ──▶ every node at once
//! ```
//!
//! A connection is one task; what it costs is bounded: a line, the lines of one turn that are still to be
//! written, and what [`Limits`](crate::session::Limits) allows its session. Hashing happens on threads of its own ([`judge`]), never on the runtime.

pub mod judge;
pub mod trade;

mod connection;

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use otedama_core::{Algorithm, Difficulty, HashRate, Target};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::node::driver::{Current, NodeGroup, Submission};
use crate::node::{BlockRef, ChainNode, Submitted};
use crate::session::{Credit, FoundBlock, Now};
use crate::stratum::RejectReason;

use judge::Judge;
use trade::{Trade, Worth};

/// What a front may take.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// Connections at a time.
    pub max_connections: usize,
    /// Connections at a time from one address.
    pub max_per_address: usize,
    /// How long a miner may take to read what it was sent.
    pub write_timeout: Duration,
}

impl Default for FrontConfig {
    fn default() -> FrontConfig {
        FrontConfig { max_connections: 10_000, max_per_address: 1024, write_timeout: Duration::from_secs(10) }
    }
}

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

    /// Records a share; done when it can no longer be lost.
    ///
    /// # Errors
    /// In words; the connection then ends without an answer, since the share would not be paid.
    fn record(&self, share: &Counted<'_>) -> impl Future<Output = Result<(), String>> + Send;

    /// Notes what each node (by its label) said to a block.
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
    async fn record(&self, _: &Counted<'_>) -> Result<(), String> {
        Ok(())
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
    addresses: Mutex<HashMap<IpAddr, usize>>,
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

/// Counters since the start.
#[derive(Debug, Default)]
struct Tally {
    connections: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    blocks: AtomicU64,
    /// Hashes that the accepted shares stand for.
    hashes: AtomicU64,
}

/// How a front is doing.
#[derive(Clone, Debug, PartialEq)]
pub struct FrontStats {
    /// What is mined.
    pub algorithm: Algorithm,
    /// Connections at the moment.
    pub connections: u64,
    /// Shares that counted.
    pub accepted: u64,
    /// Shares that did not.
    pub refused: u64,
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
            config,
            begun: Instant::now(),
            happens: Box::new(happens),
            work: watch::Sender::new(None),
            recent: Mutex::new(VecDeque::new()),
            addresses: Mutex::new(HashMap::new()),
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
        let mut tasks = JoinSet::new();
        let work = self.cut_jobs();
        let accept = async {
            loop {
                let (stream, peer) = match listener.accept().await {
                    Ok(accepted) => accepted,
                    // Out of descriptors, or a connection that was gone at once: others may do better.
                    Err(error) if transient(&error) => {
                        self.shared
                            .happen(Happening::Trouble(format!("cannot accept a connection: {error}")));
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                while tasks.try_join_next().is_some() {}
                if let Some(seat) = Seat::take(&self.shared, peer) {
                    tasks.spawn(self.connection(stream, seat));
                }
            }
        };
        tokio::select! {
            outcome = accept => outcome,
            () = work => Ok(()),
        }
    }

    /// How it is doing.
    pub fn stats(&self) -> FrontStats {
        let Tally { connections, accepted, refused, blocks, hashes } = &self.shared.tally;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let uptime = self.shared.begun.elapsed();
        FrontStats {
            algorithm: self.shared.trade.algorithm(),
            connections: get(connections),
            accepted: get(accepted),
            refused: get(refused),
            blocks: get(blocks),
            hash_rate: HashRate::new(get(hashes), uptime.as_secs_f64().max(1e-3)),
            uptime,
        }
    }

    fn connection(&self, stream: TcpStream, seat: Seat<T, L>) -> impl Future<Output = ()> + Send + 'static {
        connection::run(Arc::clone(&self.shared), Arc::clone(&self.group), stream, seat)
    }

    /// Cuts a job from each template and hands it to all connections.
    async fn cut_jobs(&self) {
        let mut templates = self.group.templates();
        let mut serial = 0u64;
        loop {
            let template = templates.borrow_and_update().clone();
            if let Some(template) = template {
                serial += 1;
                self.cut(&template, serial);
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

    /// The job a share names.
    fn job(&self, id: &str) -> Option<Arc<Job<T::Cut>>> {
        let (id, _) = trade::split_number(id);
        self.recent().iter().rev().find(|job| job.id == id).cloned()
    }

    /// Records a share; done when it is safe.
    async fn record(&self, credit: &Credit, block: Option<BlockRef>) -> Result<(), String> {
        let job = self.job(&credit.job_id).ok_or_else(|| format!("job {} is forgotten", credit.job_id))?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let share = Counted { credit, worth: self.trade.worth(&job.cut), block, time_ms };
        self.log.record(&share).await?;
        self.credit(credit);
        Ok(())
    }

    fn credit(&self, credit: &Credit) {
        let target = Target::from_difficulty(self.trade.algorithm(), credit.difficulty);
        self.tally.accepted.fetch_add(1, Ordering::Relaxed);
        self.tally.hashes.fetch_add(target.expected_hashes() as u64, Ordering::Relaxed);
        self.happen(Happening::Share { worker: credit.worker.clone(), difficulty: credit.difficulty });
    }
}

/// Makes a block of a find and hands it to every node; which block it is.
fn hand_in<T: Trade, L: ShareLog>(
    shared: &Arc<Shared<T, L>>,
    group: &Arc<NodeGroup<T::Node>>,
    connection: u32,
    found: &FoundBlock,
) -> Option<BlockRef> {
    let made = shared.job(&found.job_id).and_then(|job| shared.trade.block(&job.cut, connection, found));
    let Some((block, reference)) = made else {
        let words =
            format!("the block that {} found for job {} cannot be put together", found.worker, found.job_id);
        shared.happen(Happening::Trouble(words));
        return None;
    };
    let (shared, group, worker) = (Arc::clone(shared), Arc::clone(group), found.worker.clone());
    // Blocks outlive the connection that found them.
    tokio::spawn(async move {
        let Submission { outcome, each } = group.submit(block).await;
        shared.tally.blocks.fetch_add(1, Ordering::Relaxed);
        let each: Vec<_> = each.into_iter().map(|(label, outcome, _)| (label, outcome)).collect();
        shared.log.submitted(&reference, &each).await;
        let (height, id) = (reference.height, reference.id);
        shared.happen(Happening::Block { worker, height, id, outcome });
    });
    Some(reference)
}

/// A connection's place, given back when it is dropped.
struct Seat<T: Trade, L> {
    shared: Arc<Shared<T, L>>,
    peer: SocketAddr,
    number: u32,
}

impl<T: Trade, L: ShareLog> Seat<T, L> {
    /// A place for this miner; `None` if all are taken, or all that one address may have.
    fn take(shared: &Arc<Shared<T, L>>, peer: SocketAddr) -> Option<Seat<T, L>> {
        let FrontConfig { max_connections, max_per_address, .. } = shared.config;
        let mut addresses = shared.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = addresses.values().sum();
        let here = addresses.entry(peer.ip()).or_default();
        if all >= max_connections || *here >= max_per_address {
            if *here == 0 {
                addresses.remove(&peer.ip());
            }
            drop(addresses);
            shared.happen(Happening::Left(peer, Some("no place left".to_owned())));
            return None;
        }
        *here += 1;
        drop(addresses);
        shared.tally.connections.fetch_add(1, Ordering::Relaxed);
        let number = shared.next_connection.fetch_add(1, Ordering::Relaxed);
        Some(Seat { shared: Arc::clone(shared), peer, number })
    }
}

impl<T: Trade, L> Drop for Seat<T, L> {
    fn drop(&mut self) {
        let mut addresses = self.shared.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = addresses.get_mut(&self.peer.ip()) {
            *here -= 1;
            if *here == 0 {
                addresses.remove(&self.peer.ip());
            }
        }
        drop(addresses);
        self.shared.tally.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
