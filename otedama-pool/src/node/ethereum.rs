//! Nodes of Ethereum Classic's kind, such as core-geth: `eth_getWork` and `eth_submitWork`.
//!
//! The node makes the block, so it must run with `--mine --miner.threads 0 --miner.etherbase=<the pool's
//! account>`; a pool only gets the hash of its sealed header. Which block a solution became is known by height
//! and nonce, and it may be in the chain as an uncle. What it pays follows from the heights ([`crate::emission`]),
//! transaction fees excepted, which only the finished block tells.

use otedama_core::algo::ethash::{EpochRangeError, Params};
use otedama_core::builders::EthashBuilder;
use otedama_core::epoch::EpochKey;
use otedama_core::{Algorithm, Hash256, Target};
use serde::Deserialize;
use serde_json::{Value, json};

use super::rpc::{Rpc, RpcError};
use super::{BlockRef, ChainNode, Fate, NodeError, Submitted, TemplateError, Tip};
use crate::coin::EthereumKind;
use crate::emission::Emission;
use crate::money::Amount;

/// A block may name uncles up to this many generations back.
const UNCLE_DEPTH: u64 = 7;

/// Codes that `eth_submitWork` fails with before it has looked at the solution.
const NEVER_TAKEN: [i64; 3] = [-32600, -32601, -32602];

/// Work for miners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The hash of the header to seal.
    pub header_hash: Hash256,
    /// The seed of the epoch's cache.
    pub seed: Hash256,
    /// The boundary: what the hash must meet.
    pub target: Target,
    /// The height of the block to find.
    pub height: u64,
    /// The hash of the block before it.
    pub previous: Hash256,
    /// What the block pays, transaction fees left out.
    pub subsidy: Amount,
}

impl Template {
    /// Reads the result of `eth_getWork`, asked of a node whose newest block was at this height, on a chain that pays
    /// so.
    ///
    /// # Errors
    /// [`TemplateError`], naming the field.
    pub fn from_work(
        work: &[String],
        newest: u64,
        previous: Hash256,
        emission: Emission,
    ) -> Result<Template, TemplateError> {
        let [header, seed, boundary, rest @ ..] = work else {
            return Err(TemplateError::field(
                "eth_getWork",
                format!("{} strings", work.len()),
                "3 or 4 strings",
            ));
        };
        let height = match rest.first() {
            Some(number) => quantity(number).ok_or_else(|| {
                TemplateError::field("eth_getWork: block number", number, "a number in hex")
            })?,
            None => newest.saturating_add(1),
        };
        Ok(Template {
            header_hash: hash("eth_getWork: header hash", header)?,
            seed: hash("eth_getWork: seed hash", seed)?,
            target: boundary.parse()?,
            height,
            previous,
            subsidy: emission.block(height, 0),
        })
    }

    /// The epoch of this work.
    ///
    /// # Errors
    /// If the height is beyond all epochs.
    pub fn epoch(&self, algorithm: Algorithm) -> Result<EpochKey, EpochRangeError> {
        let epoch = Params::of(algorithm)
            .ok_or(EpochRangeError::Height { algorithm, height: self.height })?
            .epoch_at(self.height)?;
        Ok(EthashBuilder::key(&epoch))
    }
}

/// A solution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Solution {
    /// The nonce.
    pub nonce: u64,
    /// The hash of the header it seals.
    pub header_hash: Hash256,
    /// The mix that leads to the final hash.
    pub mix: Hash256,
}

/// What a solution's block is called here: the header hash it seals, with the nonce in place of the last eight bytes
/// (big-endian). The nonce is what finds it again, for its hash is the node's to make.
pub fn block_name(header_hash: &Hash256, nonce: u64) -> Hash256 {
    let mut name = *header_hash.as_raw();
    name[24..].copy_from_slice(&nonce.to_be_bytes());
    Hash256::from_raw(name)
}

/// A node of Ethereum Classic's kind.
#[derive(Clone, Debug)]
pub struct EthereumNode {
    rpc: Rpc,
    chain: &'static EthereumKind,
}

impl EthereumNode {
    /// A node of this chain at this RPC.
    pub fn new(rpc: Rpc, chain: &'static EthereumKind) -> EthereumNode {
        EthereumNode { rpc, chain }
    }

    /// Its RPC, for calls that this module does not make.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    async fn block(&self, which: Value) -> Result<Option<Block>, RpcError> {
        self.rpc.call("eth_getBlockByNumber", json!([which, false])).await
    }

    /// Height and hash of the newest block.
    async fn newest(&self) -> Result<(u64, Hash256), RpcError> {
        let block = self.block("latest".into()).await?;
        block
            .and_then(|block| Some((quantity(&block.number?)?, hash("hash", &block.hash?).ok()?)))
            .ok_or_else(|| RpcError::Unreadable("the latest block has no number or hash".to_owned()))
    }
}

#[derive(Deserialize)]
struct Block {
    number: Option<String>,
    hash: Option<String>,
    nonce: Option<String>,
    #[serde(default)]
    uncles: Vec<String>,
}

impl Block {
    fn is(&self, block: &BlockRef) -> bool {
        let [.., a, b, c, d, e, f, g, h] = *block.id.as_raw();
        let nonce = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        self.nonce.as_deref().and_then(quantity) == Some(nonce)
            && self.number.as_deref().and_then(quantity) == Some(block.height)
    }
}

impl ChainNode for EthereumNode {
    type Template = Template;
    type Block = Solution;

    const NEWS: Option<&'static str> = None;

    fn label(&self) -> &str {
        self.rpc.url()
    }

    async fn tip(&self) -> Result<Tip, NodeError> {
        let found: String = self.rpc.call("eth_chainId", json!([])).await?;
        let expected = self.chain.chain_id;
        if quantity(&found) != Some(expected) {
            let found = found.chars().take(40).collect();
            return Err(NodeError::WrongChain { found, expected: format!("0x{expected:x}") });
        }
        let (height, hash) = self.newest().await?;
        // `false`, or an object that says how far it is.
        let syncing: Value = self.rpc.call("eth_syncing", json!([])).await?;
        let peers: String = self.rpc.call("net_peerCount", json!([])).await?;
        let peers = quantity(&peers).map(|peers| u32::try_from(peers).unwrap_or(u32::MAX));
        Ok(Tip { height, hash, syncing: syncing != Value::Bool(false), peers })
    }

    async fn template(&self) -> Result<Template, NodeError> {
        // The work does not name the block it builds on: ask before. If the tip moves in between, the work is
        // one block higher, and the next look at the tip brings another.
        let (newest, previous) = self.newest().await?;
        let work: Vec<String> = self.rpc.call("eth_getWork", json!([])).await?;
        Ok(Template::from_work(&work, newest, previous, self.chain.emission)?)
    }

    async fn submit(&self, solution: &Solution) -> Submitted {
        let Solution { nonce, header_hash, mix } = solution;
        let params = [
            format!("0x{nonce:016x}"),
            format!("0x{}", header_hash.to_raw_hex()),
            format!("0x{}", mix.to_raw_hex()),
        ];
        match self.rpc.call::<bool>("eth_submitWork", params).await {
            Ok(true) => Submitted::Accepted,
            Ok(false) => Submitted::Rejected("unknown work or invalid solution".to_owned()),
            Err(error) => Submitted::failed(&error, &NEVER_TAKEN),
        }
    }

    async fn fate(&self, block: &BlockRef) -> Result<Fate, NodeError> {
        let (newest, _) = self.newest().await?;
        let Some(there) = self.block(format!("0x{:x}", block.height).into()).await? else {
            return Ok(Fate::NotFound);
        };
        let emission = self.chain.emission;
        let confirmations = |height| newest.saturating_sub(height) + 1;
        if there.is(block) {
            let reward = emission.block(block.height, there.uncles.len() as u64);
            return Ok(Fate::Paid { confirmations: confirmations(block.height), reward });
        }
        let last = newest.min(block.height.saturating_add(UNCLE_DEPTH));
        for included_at in block.height.saturating_add(1)..=last {
            let number = format!("0x{included_at:x}");
            let Some(nephew) = self.block(number.clone().into()).await? else { break };
            for index in 0..nephew.uncles.len().min(2) {
                let params = json!([number, format!("0x{index:x}")]);
                let uncle: Option<Block> = self.rpc.call("eth_getUncleByBlockNumberAndIndex", params).await?;
                if uncle.is_some_and(|uncle| uncle.is(block)) {
                    let reward = emission.uncle(block.height, included_at);
                    return Ok(Fate::Paid { confirmations: confirmations(included_at), reward });
                }
            }
        }
        Ok(Fate::Orphaned)
    }

    fn parent(template: &Template) -> (u64, Hash256) {
        (template.height.saturating_sub(1), template.previous)
    }
}

/// A number as Ethereum writes it: `0x` and hex digits.
fn quantity(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then_some(digits)?;
    u64::from_str_radix(digits, 16).ok()
}

fn hash(field: &'static str, text: &str) -> Result<Hash256, TemplateError> {
    text.strip_prefix("0x")
        .and_then(Hash256::from_raw_hex)
        .ok_or_else(|| TemplateError::field(field, text, "0x and 64 hex digits"))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    const MAIN: Emission = Emission { era_blocks: NonZeroU64::new(5_000_000).unwrap() };

    #[test]
    fn work_is_read_with_and_without_its_height() {
        let hash = |digit: &str| format!("0x{}", digit.repeat(64));
        let boundary = "0x112e0be826d694b2e62d01511f12a6061fbaec8bc02357593e70e52ba".to_owned();
        let previous = Hash256::from_raw([9; 32]);
        let mut work = vec![hash("a"), hash("0"), boundary, "0xb21dd5".to_owned()];
        let template = Template::from_work(&work, 5, previous, MAIN).unwrap();
        assert_eq!(template.height, 11_673_045);
        assert_eq!(template.subsidy, Amount::new(3_200_000_000));
        // The target of four billion hashes, whose leading zero the node left out.
        let digits = "0000000112e0be826d694b2e62d01511f12a6061fbaec8bc02357593e70e52ba";
        assert_eq!(template.target.to_string(), digits);
        let epoch = |height| Template { height, ..template.clone() }.epoch(Algorithm::Etchash).unwrap();
        assert_eq!(epoch(11_699_999), EpochKey::number(Algorithm::Ethash, 389));
        assert_eq!(epoch(11_700_000), EpochKey::number(Algorithm::Etchash, 195));
        assert!(Template { height: u64::MAX, ..template.clone() }.epoch(Algorithm::Etchash).is_err());
        assert!(template.epoch(Algorithm::Scrypt).is_err());

        work.pop();
        assert_eq!(Template::from_work(&work, 5, previous, MAIN).unwrap().height, 6);
        assert!(Template::from_work(&work[..2], 5, previous, MAIN).is_err());
        for (field, bad) in [(0, "0xabc"), (1, "aa"), (2, "0x0"), (2, "nonsense")] {
            let mut work = work.clone();
            work[field] = bad.to_owned();
            assert!(Template::from_work(&work, 5, previous, MAIN).is_err(), "{bad}");
        }
        work.push("11".to_owned());
        assert!(Template::from_work(&work, 5, previous, MAIN).is_err());
    }
}
