//! A chain without a node, for `serve --dev`: templates that look like a node's, at a difficulty that one
//! machine meets, and a next block whenever one is found.
//!
//! Nothing here is worth anything and nothing leaves the process. A solution is taken if it builds on the
//! newest block; that it meets the target is the pool's verifier's business, as it is with real nodes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use otedama_core::algo::ethash::Params;
use otedama_core::hash256::Digest;
use otedama_core::primitive::keccak::keccak256;
use otedama_core::scan::{Attempt, Setup, oracle};
use otedama_core::target::U256;
use otedama_core::{Algorithm, Hash256, Target};
use tokio::sync::Notify;

use super::{BlockRef, ChainNode, Fate, NodeError, Submitted, Tip, bitcoin, ethereum, monero};
use crate::coin::sha256d;
use crate::money::Amount;

/// How many blocks are remembered, to say what became of them.
const REMEMBERED: usize = 1000;

/// How many bytes are reserved in templates of Monero's kind.
const RESERVE_LEN: usize = 8;

/// The reward of every block, in atomic units.
const REWARD: u64 = 50 * 100_000_000;

/// A chain in memory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DevChain(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    algorithm: Algorithm,
    target: Target,
    label: String,
    /// Height and id of each block, the newest last; never empty.
    blocks: Mutex<VecDeque<(u64, Hash256)>>,
    found: Notify,
}

impl DevChain {
    /// A chain of this algorithm, of one block. Each next one takes this many hashes on average; see
    /// [`DevChain::usual_hashes`].
    pub fn new(algorithm: Algorithm, hashes_per_block: u64) -> DevChain {
        let target = U256::MAX / U256::from(hashes_per_block.max(1));
        // Headers hold compact bits: the target is what they stand for.
        let target = Target::new(target).unwrap_or(Target::MAX);
        let target = target.to_compact().to_target().unwrap_or(target);
        let genesis = Hash256::from_raw(keccak256(algorithm.name().as_bytes()));
        DevChain(Arc::new(Shared {
            algorithm,
            target,
            label: format!("built-in {algorithm} chain"),
            blocks: Mutex::new(VecDeque::from([(0, genesis)])),
            found: Notify::new(),
        }))
    }

    /// Hashes that one processor computes in about a minute.
    pub fn usual_hashes(algorithm: Algorithm) -> u64 {
        match algorithm {
            Algorithm::Sha256d => 1 << 31,
            Algorithm::Scrypt => 1 << 20,
            Algorithm::RandomXV1 | Algorithm::RandomXV2 => 1 << 13,
            // In light mode; with a dataset it is a few seconds.
            _ => 1 << 17,
        }
    }

    /// Appends a block, as if somebody else had found it.
    pub fn advance(&self) {
        let tip = self.tip();
        let id = Hash256::from_raw(keccak256(tip.hash.as_raw()));
        // Whoever finds a block in between has done the same.
        let _ = self.append(&tip.hash, id);
    }

    fn tip(&self) -> Tip {
        let blocks = self.0.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let &(height, hash) = blocks.back().expect("a chain has its first block");
        Tip { height, hash, syncing: false, peers: None }
    }

    /// Appends a block if it builds on the newest.
    fn append(&self, previous: &Hash256, id: Hash256) -> Submitted {
        let mut blocks = self.0.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let &(height, newest) = blocks.back().expect("a chain has its first block");
        if newest == id {
            return Submitted::Accepted;
        }
        if newest != *previous {
            return Submitted::Rejected("it does not build on the newest block".to_owned());
        }
        blocks.push_back((height + 1, id));
        if blocks.len() > REMEMBERED {
            blocks.pop_front();
        }
        drop(blocks);
        self.0.found.notify_waiters();
        Submitted::Accepted
    }

    fn fate(&self, block: &BlockRef) -> Fate {
        let blocks = self.0.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let after = blocks.iter().rev().position(|(_, id)| *id == block.id);
        after.map_or(Fate::NotFound, |after| Fate::InChain { confirmations: after as u64 + 1 })
    }

    /// Waits until the newest block is another than this.
    async fn wait_past(&self, parent: (u64, Hash256)) {
        loop {
            let found = self.0.found.notified();
            let tip = self.tip();
            if (tip.height, tip.hash) != parent {
                return;
            }
            found.await;
        }
    }
}

/// The methods that every kind of chain has in common.
macro_rules! dev_chain {
    () => {
        const NEWS: Option<&'static str> = None;

        fn label(&self) -> &str {
            &self.0.0.label
        }

        async fn tip(&self) -> Result<Tip, NodeError> {
            Ok(self.0.tip())
        }

        async fn next_template(&self, after: &Self::Template) -> Result<Self::Template, NodeError> {
            self.0.wait_past(Self::parent(after)).await;
            self.template().await
        }

        async fn fate(&self, block: &BlockRef) -> Result<Fate, NodeError> {
            Ok(self.0.fate(block))
        }
    };
}

/// A built-in chain of Bitcoin's kind: SHA256d, scrypt, KawPow.
#[derive(Clone, Debug)]
pub struct DevBitcoin(pub DevChain);

impl ChainNode for DevBitcoin {
    type Template = bitcoin::Template;
    type Block = Vec<u8>;

    dev_chain!();

    async fn template(&self) -> Result<bitcoin::Template, NodeError> {
        let Shared { target, .. } = &*self.0.0;
        let tip = self.0.tip();
        let time = now() as u32;
        Ok(bitcoin::Template {
            height: tip.height as u32 + 1,
            version: 0x2000_0000,
            previous: tip.hash,
            bits: target.to_compact(),
            target: *target,
            time,
            min_time: time.saturating_sub(3600),
            coinbase_value: REWARD,
            fees: 0,
            coinbase_flags: Vec::new(),
            transactions: Vec::new(),
            witness_commitment: None,
            mweb: None,
            long_poll_id: None,
            branch: Arc::new([]),
        })
    }

    async fn submit(&self, block: &Vec<u8>) -> Submitted {
        let cut = || Submitted::Rejected("it is shorter than a header".to_owned());
        let Some(previous) = block.get(4..36).and_then(|bytes| bytes.try_into().ok()) else { return cut() };
        let id = match self.0.0.algorithm {
            Algorithm::KawPow => kawpow_id(block),
            _ => block.get(..80).map(|header| Hash256::from_raw(sha256d(header))),
        };
        let Some(id) = id else { return cut() };
        self.0.append(&Hash256::from_raw(previous), id)
    }

    fn parent(template: &bitcoin::Template) -> (u64, Hash256) {
        bitcoin::BitcoinNode::parent(template)
    }
}

/// The id of a block that KawPow sealed: the final hash that its nonce and mix lead to.
fn kawpow_id(block: &[u8]) -> Option<Hash256> {
    let header: &[u8; 120] = block.first_chunk()?;
    let mut header_hash = sha256d(&header[..80]);
    header_hash.reverse();
    let mut mix: [u8; 32] = *header.last_chunk()?;
    mix.reverse();
    let attempt = Attempt::Sealed {
        header_hash: &Hash256::from_raw(header_hash),
        nonce: u64::from_le_bytes(header[80..88].try_into().ok()?),
        height: u64::from(u32::from_le_bytes(header[76..80].try_into().ok()?)),
    };
    let hasher = oracle(Algorithm::KawPow).ok()?.hasher(&Setup::detect()).ok()?;
    let Digest { pow, .. } = hasher.claimed(&attempt, &Hash256::from_raw(mix))?;
    let mut id = *pow.as_raw();
    id.reverse();
    Some(Hash256::from_raw(id))
}

/// A built-in chain of Monero's kind.
#[derive(Clone, Debug)]
pub struct DevMonero(pub DevChain);

impl ChainNode for DevMonero {
    type Template = monero::Template;
    type Block = (Vec<u8>, Hash256);

    dev_chain!();

    async fn template(&self) -> Result<monero::Template, NodeError> {
        let Shared { target, algorithm, .. } = &*self.0.0;
        let tip = self.0.tip();
        let facts = monero::Facts {
            height: tip.height + 1,
            previous: tip.hash,
            difficulty: U256::MAX / target.to_number(),
            // One key for the whole chain: no cache is built twice.
            seed: Hash256::from_raw(keccak256(algorithm.name().as_bytes())),
            next_seed: None,
            expected_reward: REWARD,
        };
        let mut blob = vec![16, 16];
        monero::push_varint(&mut blob, now());
        blob.extend_from_slice(tip.hash.as_raw());
        blob.extend_from_slice(&[0; 4]);
        // The miner's transaction: version 2, locked for 60 blocks, new coins, one output with a view tag.
        blob.push(2);
        monero::push_varint(&mut blob, facts.height + 60);
        blob.extend_from_slice(&[1, 0xff]);
        monero::push_varint(&mut blob, facts.height);
        blob.push(1);
        monero::push_varint(&mut blob, REWARD);
        blob.push(3);
        blob.extend_from_slice(&[0x22; 33]);
        // Its extra field: a key, and the reserved bytes.
        blob.extend_from_slice(&[33 + 2 + RESERVE_LEN as u8, 1]);
        blob.extend_from_slice(&[0x33; 32]);
        blob.extend_from_slice(&[2, RESERVE_LEN as u8]);
        let reserved_at = blob.len();
        blob.extend_from_slice(&[0; RESERVE_LEN]);
        // No signature, no other transactions.
        blob.extend_from_slice(&[0, 0]);
        Ok(monero::Template::new(facts, blob, reserved_at, RESERVE_LEN)?)
    }

    async fn submit(&self, (block, id): &Self::Block) -> Submitted {
        // Two bytes of version, five of time.
        match block.get(7..39).and_then(|bytes| bytes.try_into().ok()) {
            Some(previous) => self.0.append(&Hash256::from_raw(previous), *id),
            None => Submitted::Rejected("it is shorter than a header".to_owned()),
        }
    }

    fn parent(template: &monero::Template) -> (u64, Hash256) {
        monero::MoneroNode::parent(template)
    }
}

/// A built-in chain of Ethereum's kind: Ethash, Etchash.
#[derive(Clone, Debug)]
pub struct DevEthereum(pub DevChain);

impl ChainNode for DevEthereum {
    type Template = ethereum::Template;
    type Block = ethereum::Solution;

    dev_chain!();

    async fn template(&self) -> Result<ethereum::Template, NodeError> {
        let Shared { target, algorithm, .. } = &*self.0.0;
        let tip = self.0.tip();
        let height = tip.height + 1;
        let epoch = Params::of(*algorithm).and_then(|params| params.epoch_at(height).ok());
        Ok(ethereum::Template {
            header_hash: header_over(&tip.hash),
            seed: Hash256::from_raw(epoch.map_or([0; 32], |epoch| epoch.seed())),
            target: *target,
            height,
            previous: tip.hash,
            subsidy: Amount::new(REWARD as i64),
        })
    }

    async fn submit(&self, solution: &ethereum::Solution) -> Submitted {
        let tip = self.0.tip();
        if solution.header_hash != header_over(&tip.hash) {
            return Submitted::Rejected("unknown work".to_owned());
        }
        self.0.append(&tip.hash, ethereum::block_name(&solution.header_hash, solution.nonce))
    }

    fn parent(template: &ethereum::Template) -> (u64, Hash256) {
        ethereum::EthereumNode::parent(template)
    }
}

/// The hash of the header on top of a block.
fn header_over(previous: &Hash256) -> Hash256 {
    Hash256::from_raw(keccak256(previous.as_raw()))
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::bitcoin::{BitcoinJob, CoinbasePlan, Payout, Roll, block_id};
    use crate::node::driver::{DriverConfig, NodeGroup, Source};
    use crate::node::monero::MoneroJob;
    use crate::node::ravencoin::KawPowJob;
    use otedama_core::scan::{Candidates, StopFlag, kernels};
    use otedama_core::{Job, JobId};

    fn job(template: bitcoin::Template) -> BitcoinJob {
        let payouts = [Payout { script: vec![0x51], value: template.coinbase_value }];
        let plan = CoinbasePlan { payouts: &payouts, extranonce_len: 8, tag: b"/dev/" };
        BitcoinJob::new(template.into(), &plan).unwrap()
    }

    #[tokio::test]
    async fn a_found_block_brings_the_next_template_at_once() {
        let chain = DevBitcoin(DevChain::new(Algorithm::Sha256d, 64));
        let group = NodeGroup::start(vec![Source { node: chain, zmq: None }], DriverConfig::default());
        let mut templates = group.templates();
        for height in 1..4 {
            let current = templates.wait_for(Option::is_some).await.unwrap().clone().unwrap();
            assert_eq!((current.template.height, current.new_block), (height, true));
            let job = job(current.template.clone());
            let mut roll =
                Roll { extranonce: &[7; 8], version: 0x2000_0000, time: current.template.time, nonce: 0 };
            let header = job.header(&roll).unwrap();
            let target = current.template.target;
            let work = Arc::new(Job::blob(JobId(1), Algorithm::Sha256d, &header, None, target).unwrap());
            let mut scanner = kernels(Algorithm::Sha256d)
                .find(|kernel| kernel.is_oracle())
                .unwrap()
                .scanner(&Setup::detect())
                .unwrap();
            let mut found = Candidates::with_capacity(1);
            scanner.load(&work, None).unwrap();
            scanner.scan(&work.space(), &StopFlag::new(), &mut found).unwrap();
            roll.nonce = found.as_slice()[0].nonce as u32;
            templates.mark_unchanged();
            let submission = group.submit(job.block(&roll).unwrap()).await;
            assert_eq!(submission.outcome, Submitted::Accepted);
            let id = block_id(&job.header(&roll).unwrap());
            let block = BlockRef { height: u64::from(height), id };
            assert_eq!(group.fate(&block).await, Ok(Fate::InChain { confirmations: 1 }));
            templates.changed().await.unwrap();
        }
    }

    #[tokio::test]
    async fn every_kind_of_chain_grows_and_refuses_what_is_stale() {
        let bits = DevChain::new(Algorithm::Scrypt, 1000).0.target;
        assert!(bits.expected_hashes() > 999.0 && bits.expected_hashes() < 1001.0);

        let chain = DevMonero(DevChain::new(Algorithm::RandomXV1, 10));
        let old = Arc::new(chain.template().await.unwrap());
        assert!(old.target().expected_hashes() > 9.9);
        let job = MoneroJob::new(old.clone(), b"abcdefgh").unwrap();
        assert_eq!(chain.submit(&job.block(5)).await, Submitted::Accepted);
        assert_eq!(chain.submit(&job.block(5)).await, Submitted::Accepted);
        assert!(matches!(chain.submit(&job.block(6)).await, Submitted::Rejected(_)));
        assert_eq!(chain.next_template(&old).await.unwrap().facts().height, 2);
        let work = Job::blob(JobId(1), Algorithm::RandomXV1, job.hashing_blob(), None, old.target());
        assert!(work.is_ok());

        let chain = DevEthereum(DevChain::new(Algorithm::Etchash, 10));
        let old = chain.template().await.unwrap();
        let mix = Hash256::from_raw([0; 32]);
        let solution = ethereum::Solution { nonce: 1, header_hash: old.header_hash, mix };
        assert_eq!(chain.submit(&solution).await, Submitted::Accepted);
        assert!(matches!(chain.submit(&solution).await, Submitted::Rejected(_)));
        assert_eq!(chain.template().await.unwrap().height, 2);

        let chain = DevBitcoin(DevChain::new(Algorithm::KawPow, 10));
        let old = self::job(chain.template().await.unwrap());
        let sealed = KawPowJob::new(&old, &[1; 8], old.template().time).unwrap();
        let block = sealed.block(&old, 9, &mix);
        assert_eq!(chain.submit(&block).await, Submitted::Accepted);
        // The id is the final hash that the verifier computes as well.
        let hasher = oracle(Algorithm::KawPow).unwrap().hasher(&Setup::detect()).unwrap();
        let header_hash = sealed.header_hash();
        let attempt = Attempt::Sealed { header_hash: &header_hash, nonce: 9, height: 1 };
        let pow = hasher.claimed(&attempt, &mix).unwrap().pow;
        let fate = chain.fate(&sealed.reference(&pow)).await.unwrap();
        assert_eq!(fate, Fate::InChain { confirmations: 1 });
        assert!(matches!(chain.submit(&vec![0; 79]).await, Submitted::Rejected(_)));
    }
}
