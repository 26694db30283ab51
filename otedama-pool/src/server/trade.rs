//! What differs between kinds of chains: how a template becomes jobs, a connection a session, and a find a block.

use std::sync::Arc;

use otedama_core::algo::ethash::Params;
use otedama_core::builders::EthashBuilder;
use otedama_core::epoch::EpochKey;
use otedama_core::{Algorithm, Candidate, Difficulty, Target};

use crate::effort::Effort;
use crate::money::Amount;
use crate::node::bitcoin::{BitcoinJob, CoinbasePlan, Payout, Template as BitcoinTemplate, block_id};
use crate::node::driver::Current;
use crate::node::ethereum::{Solution, Template as EthereumTemplate, block_name};
use crate::node::monero::{MoneroJob, Template as MoneroTemplate};
use crate::node::ravencoin::KawPowJob;
use crate::node::{BlockRef, ChainNode};
use crate::session::server::bitcoin::{BitcoinConfig, BitcoinJob as HandedBitcoin};
use crate::session::server::ethereum::{EthereumConfig, EthereumJob as HandedEthereum};
use crate::session::server::kawpow::{KawPowConfig, KawPowJob as HandedKawPow};
use crate::session::server::monero::{MoneroConfig, MoneroJob as HandedMonero};
use crate::session::server::{BitcoinServer, EthereumServer, KawPowServer, MoneroServer, Server};
use crate::session::{Action, Duplicates, FoundBlock, Limits, Now, VardiffConfig};
use crate::stratum::bitcoin::{Extranonce, Notify};

/// One kind of chain as a front serves it.
pub trait Trade: Send + Sync + 'static {
    /// Where templates come from.
    type Node: ChainNode;
    /// One connection.
    type Session: Server + 'static;
    /// What is made of a template once, for all connections.
    type Cut: Send + Sync + 'static;

    /// What is mined.
    fn algorithm(&self) -> Algorithm;

    /// Makes of a template what all connections share.
    ///
    /// # Errors
    /// In words, if no job can be made of it.
    fn cut(
        &self,
        template: &Current<<Self::Node as ChainNode>::Template>,
        id: &str,
        clean: bool,
    ) -> Result<Self::Cut, String>;

    /// A connection that was just opened; no two that are open have the same number. It begins with the
    /// difficulty `start`, or the usual one.
    fn open(&self, connection: u32, start: Option<Difficulty>, now: Now) -> Self::Session;

    /// Gives a connection its job of a cut.
    fn hand_out(
        &self,
        session: &mut Self::Session,
        to: Seat,
        cut: &Self::Cut,
        now: Now,
        out: &mut Vec<Action>,
    );

    /// Makes a block of a find, if it is one of this cut.
    fn block(
        &self,
        cut: &Self::Cut,
        connection: u32,
        found: &FoundBlock,
    ) -> Option<(<Self::Node as ChainNode>::Block, BlockRef)>;

    /// What blocks of this cut are worth.
    fn worth(&self, cut: &Self::Cut) -> Worth;

    /// What this cut's shares are proven with, and what the next's will be where that is known.
    fn epochs(&self, cut: &Self::Cut) -> (Option<EpochKey>, Option<EpochKey>);
}

/// What a block is worth, when it is worked on: what shares of it are reckoned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worth {
    /// Its height.
    pub height: u64,
    /// What finding it takes.
    pub network: Effort,
    /// What it pays without transaction fees; where nodes do not tell them apart, with them.
    pub subsidy: Amount,
    /// What it pays in all, as far as it is known before it is found: transaction fees are not in Ethereum's family.
    pub value: Amount,
}

/// Which connection, and how often it has been given the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The connection's number.
    pub connection: u32,
    /// Jobs of the same cut it was given before.
    pub round: u32,
}

/// What all trades are told.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What is mined.
    pub algorithm: Algorithm,
    /// What sessions may cost.
    pub limits: Limits,
    /// How difficulties are chosen.
    pub vardiff: VardiffConfig,
    /// What the pool signs its blocks with.
    pub tag: Vec<u8>,
    /// The output script that the coinbase pays (Bitcoin's family).
    pub payout: Vec<u8>,
}

/// The difficulty a connection begins with unless something else is said: about a share a second of one
/// processor.
pub fn usual_difficulty(algorithm: Algorithm) -> Difficulty {
    let hashes: u64 = match algorithm {
        Algorithm::Sha256d => 1 << 26,
        Algorithm::Scrypt => 1 << 15,
        Algorithm::RandomXV1 | Algorithm::RandomXV2 => 1 << 8,
        _ => 1 << 11,
    };
    let target = otedama_core::target::U256::MAX / otedama_core::target::U256::from(hashes);
    Target::new(target).unwrap_or(Target::MAX).to_difficulty(algorithm)
}

/// The name that a session has on the wire.
fn session_name(connection: u32) -> String {
    format!("{connection:08x}")
}

/// Bytes of the extranonce: the connection's number, and as many for the miner.
const EXTRANONCE_LEN: usize = 8;

/// BIP 320's bits, where a coin leaves them to miners.
const VERSION_MASK: u32 = 0x1fff_e000;

/// SHA256d and scrypt.
#[derive(Clone, Debug)]
pub struct Bitcoin<N> {
    terms: Terms,
    node: std::marker::PhantomData<fn() -> N>,
}

impl<N> Bitcoin<N> {
    /// For [`Algorithm::Sha256d`] or [`Algorithm::Scrypt`].
    pub fn new(terms: Terms) -> Bitcoin<N> {
        Bitcoin { terms, node: std::marker::PhantomData }
    }

    fn mask(&self) -> u32 {
        if self.terms.algorithm == Algorithm::Sha256d { VERSION_MASK } else { 0 }
    }
}

/// A template of Bitcoin's kind, cut.
#[derive(Debug)]
pub struct BitcoinCut {
    job: BitcoinJob,
    fresh: Arc<HandedBitcoin>,
    again: Arc<HandedBitcoin>,
}

impl Terms {
    fn vardiff(&self, start: Option<Difficulty>) -> VardiffConfig {
        VardiffConfig { start: start.unwrap_or(self.vardiff.start), ..self.vardiff.clone() }
    }

    fn coinbase(&self, template: &BitcoinTemplate) -> Result<BitcoinJob, String> {
        let payouts = [Payout { script: self.payout.clone(), value: template.coinbase_value }];
        let plan = CoinbasePlan { payouts: &payouts, extranonce_len: EXTRANONCE_LEN, tag: &self.tag };
        BitcoinJob::new(Arc::new(template.clone()), &plan).map_err(|error| error.to_string())
    }
}

impl<N: ChainNode<Template = BitcoinTemplate, Block = Vec<u8>>> Trade for Bitcoin<N> {
    type Node = N;
    type Session = BitcoinServer;
    type Cut = BitcoinCut;

    fn algorithm(&self) -> Algorithm {
        self.terms.algorithm
    }

    fn cut(&self, current: &Current<BitcoinTemplate>, id: &str, clean: bool) -> Result<BitcoinCut, String> {
        let template = &current.template;
        let job = self.terms.coinbase(template)?;
        let handed = |clean| {
            let notify = Notify {
                job_id: id.to_owned(),
                prev_hash: template.previous,
                coinb1: job.coinb1().to_vec(),
                coinb2: job.coinb2().to_vec(),
                branch: job.branch().to_vec(),
                version: template.version & !self.mask(),
                bits: template.bits,
                ntime: template.time,
                clean,
            };
            Arc::new(HandedBitcoin { notify, min_time: template.min_time })
        };
        let (fresh, again) = (handed(clean), handed(false));
        Ok(BitcoinCut { job, fresh, again })
    }

    fn open(&self, connection: u32, start: Option<Difficulty>, now: Now) -> BitcoinServer {
        let config = BitcoinConfig {
            algorithm: self.terms.algorithm,
            session: session_name(connection),
            extranonce: Extranonce {
                extranonce1: connection.to_be_bytes().to_vec(),
                extranonce2_size: EXTRANONCE_LEN - 4,
            },
            version_mask: self.mask(),
            limits: self.terms.limits.clone(),
            vardiff: self.terms.vardiff(start),
        };
        BitcoinServer::new(config, now)
    }

    fn hand_out(
        &self,
        session: &mut BitcoinServer,
        to: Seat,
        cut: &BitcoinCut,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let job = if to.round == 0 { &cut.fresh } else { &cut.again };
        session.set_job(Arc::clone(job), now, out);
    }

    fn block(&self, cut: &BitcoinCut, _: u32, found: &FoundBlock) -> Option<(Vec<u8>, BlockRef)> {
        let candidate = Candidate { nonce: found.share.nonce(), version: found.share.version() };
        let mut header = Vec::with_capacity(80);
        found.job.append_bytes(&candidate, &mut header);
        let header: [u8; 80] = header.try_into().ok()?;
        let block = cut.job.block_under(&header, found.coinbase.as_ref()?);
        let height = u64::from(cut.job.template().height);
        Some((block, BlockRef { height, id: block_id(&header) }))
    }

    fn worth(&self, cut: &BitcoinCut) -> Worth {
        worth_of(cut.job.template())
    }

    fn epochs(&self, _: &BitcoinCut) -> (Option<EpochKey>, Option<EpochKey>) {
        (None, None)
    }
}

/// KawPow: blocks of Bitcoin's kind under a sealed header, one for each connection.
#[derive(Clone, Debug)]
pub struct KawPow<N> {
    terms: Terms,
    duplicates: Duplicates,
    node: std::marker::PhantomData<fn() -> N>,
}

impl<N> KawPow<N> {
    /// For [`Algorithm::KawPow`].
    pub fn new(terms: Terms) -> KawPow<N> {
        KawPow { terms, duplicates: Duplicates::new(), node: std::marker::PhantomData }
    }
}

/// A template of Ravencoin's kind, cut.
#[derive(Debug)]
pub struct KawPowCut {
    job: BitcoinJob,
    id: String,
    clean: bool,
}

impl KawPowCut {
    fn sealed(&self, connection: u32) -> Option<KawPowJob> {
        let extranonce = u64::from(connection).to_be_bytes();
        KawPowJob::new(&self.job, &extranonce, self.job.template().time)
    }
}

impl<N: ChainNode<Template = BitcoinTemplate, Block = Vec<u8>>> Trade for KawPow<N> {
    type Node = N;
    type Session = KawPowServer;
    type Cut = KawPowCut;

    fn algorithm(&self) -> Algorithm {
        Algorithm::KawPow
    }

    fn cut(&self, current: &Current<BitcoinTemplate>, id: &str, clean: bool) -> Result<KawPowCut, String> {
        Ok(KawPowCut { job: self.terms.coinbase(&current.template)?, id: id.to_owned(), clean })
    }

    fn open(&self, connection: u32, start: Option<Difficulty>, now: Now) -> KawPowServer {
        let config = KawPowConfig {
            session: session_name(connection),
            extranonce: connection.to_be_bytes()[2..].to_vec(),
            limits: self.terms.limits.clone(),
            vardiff: self.terms.vardiff(start),
            duplicates: self.duplicates.clone(),
        };
        KawPowServer::new(config, now)
    }

    fn hand_out(
        &self,
        session: &mut KawPowServer,
        to: Seat,
        cut: &KawPowCut,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        // The extranonce has the length that was planned.
        let Some(sealed) = cut.sealed(to.connection) else { return };
        let job = HandedKawPow {
            job_id: numbered(&cut.id, to.round),
            header_hash: sealed.header_hash(),
            height: u64::from(sealed.height()),
            bits: cut.job.bits(),
            clean: cut.clean && to.round == 0,
        };
        session.set_job(Arc::new(job), now, out);
    }

    fn block(&self, cut: &KawPowCut, connection: u32, found: &FoundBlock) -> Option<(Vec<u8>, BlockRef)> {
        let sealed = cut.sealed(connection)?;
        let (nonce, digest) = (found.share.nonce(), found.share.digest());
        let block = sealed.block(&cut.job, nonce, digest.mix.as_ref()?);
        Some((block, sealed.reference(&digest.pow)))
    }

    fn worth(&self, cut: &KawPowCut) -> Worth {
        worth_of(cut.job.template())
    }

    fn epochs(&self, cut: &KawPowCut) -> (Option<EpochKey>, Option<EpochKey>) {
        numbered_epochs(Algorithm::KawPow, u64::from(cut.job.template().height))
    }
}

/// Monero: a blob for each connection, told apart by its reserved bytes.
#[derive(Clone, Debug)]
pub struct Monero<N> {
    terms: Terms,
    node: std::marker::PhantomData<fn() -> N>,
}

impl<N> Monero<N> {
    /// For [`Algorithm::RandomXV1`] or [`Algorithm::RandomXV2`].
    pub fn new(terms: Terms) -> Monero<N> {
        Monero { terms, node: std::marker::PhantomData }
    }
}

/// A template of Monero's kind, cut.
#[derive(Debug)]
pub struct MoneroCut {
    template: Arc<MoneroTemplate>,
    id: String,
    clean: bool,
}

impl MoneroCut {
    /// The job of a connection: its number and the round fill the reserved bytes.
    fn own(&self, connection: u32, round: u32) -> Option<MoneroJob> {
        let reserved = [connection.to_be_bytes(), round.to_be_bytes()].concat();
        MoneroJob::new(Arc::clone(&self.template), &reserved)
    }
}

/// The bytes that a template must reserve for telling connections apart.
pub const MONERO_RESERVE: u8 = 8;

impl<N: ChainNode<Template = MoneroTemplate, Block = (Vec<u8>, otedama_core::Hash256)>> Trade for Monero<N> {
    type Node = N;
    type Session = MoneroServer;
    type Cut = MoneroCut;

    fn algorithm(&self) -> Algorithm {
        self.terms.algorithm
    }

    fn cut(&self, current: &Current<MoneroTemplate>, id: &str, clean: bool) -> Result<MoneroCut, String> {
        let template = Arc::new(current.template.clone());
        let found = template.reserve_len();
        if found < usize::from(MONERO_RESERVE) {
            return Err(format!("the template reserves {found} bytes: expected {MONERO_RESERVE}"));
        }
        Ok(MoneroCut { template, id: id.to_owned(), clean })
    }

    fn open(&self, connection: u32, start: Option<Difficulty>, now: Now) -> MoneroServer {
        let config = MoneroConfig {
            algorithm: self.terms.algorithm,
            session: session_name(connection),
            nonce_prefix: None,
            limits: self.terms.limits.clone(),
            vardiff: self.terms.vardiff(start),
        };
        MoneroServer::new(config, now)
    }

    fn hand_out(
        &self,
        session: &mut MoneroServer,
        to: Seat,
        cut: &MoneroCut,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        // The reserved bytes were counted when the template was cut.
        let Some(own) = cut.own(to.connection, to.round) else { return };
        let facts = cut.template.facts();
        let job = HandedMonero {
            job_id: numbered(&cut.id, to.round),
            blob: own.hashing_blob().to_vec(),
            seed_hash: facts.seed,
            height: facts.height,
            network: cut.template.target(),
            clean: cut.clean && to.round == 0,
        };
        session.set_job(Arc::new(job), now, out);
    }

    fn block(&self, cut: &MoneroCut, connection: u32, found: &FoundBlock) -> Option<(N::Block, BlockRef)> {
        let (_, round) = split_number(&found.job_id);
        let nonce = u32::try_from(found.share.nonce()).ok()?;
        let (block, id) = cut.own(connection, round)?.block(nonce);
        let reference = BlockRef { height: cut.template.facts().height, id };
        Some(((block, id), reference))
    }

    fn worth(&self, cut: &MoneroCut) -> Worth {
        let facts = cut.template.facts();
        let value = amount(facts.expected_reward);
        let network = Effort::of(&cut.template.target());
        Worth { height: facts.height, network, subsidy: value, value }
    }

    fn epochs(&self, cut: &MoneroCut) -> (Option<EpochKey>, Option<EpochKey>) {
        let (now, next) = cut.template.epochs(self.terms.algorithm);
        (Some(now), next)
    }
}

/// Ethash and Etchash: one header for all, nonces told apart by their beginning where the dialect can.
#[derive(Clone, Debug)]
pub struct Ethereum<N> {
    terms: Terms,
    duplicates: Duplicates,
    node: std::marker::PhantomData<fn() -> N>,
}

impl<N> Ethereum<N> {
    /// For [`Algorithm::Ethash`] or [`Algorithm::Etchash`].
    pub fn new(terms: Terms) -> Ethereum<N> {
        Ethereum { terms, duplicates: Duplicates::new(), node: std::marker::PhantomData }
    }
}

/// A template of Ethereum's kind, cut.
#[derive(Debug)]
pub struct EthereumCut {
    template: EthereumTemplate,
    id: String,
    clean: bool,
}

impl<N: ChainNode<Template = EthereumTemplate, Block = Solution>> Trade for Ethereum<N> {
    type Node = N;
    type Session = EthereumServer;
    type Cut = EthereumCut;

    fn algorithm(&self) -> Algorithm {
        self.terms.algorithm
    }

    fn cut(&self, current: &Current<EthereumTemplate>, id: &str, clean: bool) -> Result<EthereumCut, String> {
        Ok(EthereumCut { template: current.template.clone(), id: id.to_owned(), clean })
    }

    fn open(&self, connection: u32, start: Option<Difficulty>, now: Now) -> EthereumServer {
        let config = EthereumConfig {
            algorithm: self.terms.algorithm,
            session: session_name(connection),
            extranonce: connection.to_be_bytes()[1..].to_vec(),
            limits: self.terms.limits.clone(),
            vardiff: self.terms.vardiff(start),
            duplicates: self.duplicates.clone(),
        };
        EthereumServer::new(config, now)
    }

    fn hand_out(
        &self,
        session: &mut EthereumServer,
        to: Seat,
        cut: &EthereumCut,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let job = HandedEthereum {
            job_id: numbered(&cut.id, to.round),
            header_hash: cut.template.header_hash,
            height: cut.template.height,
            network: cut.template.target,
            clean: cut.clean && to.round == 0,
        };
        session.set_job(Arc::new(job), now, out);
    }

    fn block(&self, cut: &EthereumCut, _: u32, found: &FoundBlock) -> Option<(Solution, BlockRef)> {
        let EthereumTemplate { header_hash, height, .. } = cut.template;
        let (nonce, mix) = (found.share.nonce(), found.share.digest().mix?);
        let id = block_name(&header_hash, nonce);
        Some((Solution { nonce, header_hash, mix }, BlockRef { height, id }))
    }

    fn worth(&self, cut: &EthereumCut) -> Worth {
        let EthereumTemplate { height, target, subsidy, .. } = &cut.template;
        Worth { height: *height, network: Effort::of(target), subsidy: *subsidy, value: *subsidy }
    }

    fn epochs(&self, cut: &EthereumCut) -> (Option<EpochKey>, Option<EpochKey>) {
        numbered_epochs(self.terms.algorithm, cut.template.height)
    }
}

fn worth_of(template: &BitcoinTemplate) -> Worth {
    let value = template.coinbase_value;
    Worth {
        height: template.height.into(),
        network: Effort::of(&template.target),
        subsidy: amount(value.saturating_sub(template.fees)),
        value: amount(value),
    }
}

/// A node's amount; what no coin can have is held at the most there is.
fn amount(units: u64) -> Amount {
    i64::try_from(units).map_or(Amount::MAX, Amount::new)
}

/// The epoch of a height, and the next one when its first block is near.
fn numbered_epochs(algorithm: Algorithm, height: u64) -> (Option<EpochKey>, Option<EpochKey>) {
    let key = |height| Some(EthashBuilder::key(&Params::of(algorithm)?.epoch_at(height).ok()?));
    let now = key(height);
    (now, key(height + NEAR).filter(|next| now.as_ref() != Some(next)))
}

/// How many blocks before an epoch its cache is built.
const NEAR: u64 = 120;

/// A job's id on the wire: its cut's, and the round if it is not the first.
fn numbered(id: &str, round: u32) -> String {
    if round == 0 { id.to_owned() } else { format!("{id}.{round}") }
}

/// A cut's id and the round of a job's id on the wire.
pub(super) fn split_number(job_id: &str) -> (&str, u32) {
    match job_id.split_once('.') {
        Some((id, round)) => (id, round.parse().unwrap_or(0)),
        None => (job_id, 0),
    }
}
