//! Monero's block template: finding one's way in it, and the blob that is hashed.
//!
//! ```text
//! template: major minor timestamp previous nonce | miner's transaction ... reserved ... | count, ids of others
//! blob:     major minor timestamp previous nonce | root of the tree over all ids        | count of all
//! ```
//!
//! Numbers are varints. The nonce is four bytes at offset 39 in both; the reserved bytes lie in the miner's
//! transaction, so that each miner's root, and with it the blob, is another.
//! (`cryptonote_basic/cryptonote_format_utils.cpp` and `crypto/tree-hash.c` say how ids and roots are made.)

use std::ops::Range;
use std::sync::Arc;

use otedama_core::epoch::EpochKey;
use otedama_core::primitive::keccak::keccak256;
use otedama_core::target::U256;
use otedama_core::{Algorithm, Hash256, Target};
use serde::Deserialize;

use crate::coin::read_varint;
use crate::node::{TemplateError, hex_field};

/// Where miners write their nonce: five varints of the usual lengths and a hash before it.
const NONCE_OFFSET: usize = 39;

/// What a node says about the next block, beside its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The height of the block to find.
    pub height: u64,
    /// The hash of the block before it.
    pub previous: Hash256,
    /// How many hashes it takes on average.
    pub difficulty: U256,
    /// The key of RandomX for this block.
    pub seed: Hash256,
    /// The key after it, where the node knows it: it is time to build its cache.
    pub next_seed: Option<Hash256>,
    /// What the miner's transaction pays, in atomic units.
    pub expected_reward: u64,
}

/// What the next block may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    facts: Facts,
    target: Target,
    blob: Vec<u8>,
    layout: Layout,
    /// What the miner's transaction's id is folded with to give the root.
    branch: Vec<Hash256>,
}

/// Where things are in a template's blob.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    header: Range<usize>,
    miner_tx: Range<usize>,
    /// The last part of the miner's transaction, which is hashed apart; empty in version 1.
    signature_at: usize,
    reserved: Range<usize>,
    /// The number of transactions, the miner's included.
    transactions: u64,
}

/// The fields used of `get_block_template`'s result.
#[derive(Deserialize)]
pub(super) struct RawTemplate {
    blocktemplate_blob: String,
    blockhashing_blob: String,
    #[serde(default)]
    wide_difficulty: Option<String>,
    difficulty: u64,
    height: u64,
    prev_hash: String,
    reserved_offset: usize,
    #[serde(default)]
    expected_reward: u64,
    seed_hash: String,
    #[serde(default)]
    next_seed_hash: String,
}

impl Template {
    /// Reads the result of `get_block_template` with this many bytes reserved.
    ///
    /// # Errors
    /// [`TemplateError`]; also if the blob to hash comes out otherwise than the node's own: then the
    /// format has changed and nothing mined on it would be worth anything.
    pub fn from_json(json: &str, reserve_len: u8) -> Result<Template, TemplateError> {
        let raw = serde_json::from_str(json).map_err(|error| TemplateError::Shape(error.to_string()))?;
        Template::from_raw(raw, reserve_len)
    }

    pub(super) fn from_raw(raw: RawTemplate, reserve_len: u8) -> Result<Template, TemplateError> {
        let hash = |field, text: &str| {
            Hash256::from_raw_hex(text).ok_or_else(|| TemplateError::field(field, text, "64 hex digits"))
        };
        let difficulty = match raw.wide_difficulty.as_deref().map(|text| text.trim_start_matches("0x")) {
            Some(digits) => U256::from_str_radix(digits, 16)
                .map_err(|_| TemplateError::field("wide_difficulty", digits, "a number in hex"))?,
            None => U256::from(raw.difficulty),
        };
        if difficulty.is_zero() {
            return Err(TemplateError::field("difficulty", 0, "at least 1"));
        }
        let next_seed = match raw.next_seed_hash.as_str() {
            "" => None,
            text => Some(hash("next_seed_hash", text)?),
        };
        let facts = Facts {
            height: raw.height,
            previous: hash("prev_hash", &raw.prev_hash)?,
            difficulty,
            seed: hash("seed_hash", &raw.seed_hash)?,
            next_seed: next_seed.filter(|next| next.to_raw_hex() != raw.seed_hash),
            expected_reward: raw.expected_reward,
        };
        let blob = hex_field("blocktemplate_blob", &raw.blocktemplate_blob)?;
        let template = Template::new(facts, blob, raw.reserved_offset, usize::from(reserve_len))?;
        let ours = hex::encode(template.hashing_blob(&template.blob));
        if ours != raw.blockhashing_blob.to_ascii_lowercase() {
            return Err(TemplateError::field(
                "blockhashing_blob",
                raw.blockhashing_blob,
                "the blob made here",
            ));
        }
        Ok(template)
    }

    /// A template of this blob, with as many bytes reserved from there on.
    pub(in crate::node) fn new(
        facts: Facts,
        blob: Vec<u8>,
        reserved_at: usize,
        reserve_len: usize,
    ) -> Result<Template, TemplateError> {
        let (layout, others) = Layout::of(&blob, reserved_at, reserve_len)?;
        let target = Target::new(U256::MAX.checked_div(facts.difficulty).unwrap_or_default())?;
        Ok(Template { facts, target, branch: branch(others), blob, layout })
    }

    /// What the node says about the block.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What the block's hash must meet.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The number of reserved bytes.
    pub fn reserve_len(&self) -> usize {
        self.layout.reserved.len()
    }

    /// The epoch of this template, and the next where it is known: announce it to the store.
    pub fn epochs(&self, algorithm: Algorithm) -> (EpochKey, Option<EpochKey>) {
        let key = |seed: &Hash256| {
            EpochKey::bytes(algorithm, seed.as_raw()).expect("a hash is shorter than SeedBytes::MAX")
        };
        (key(&self.facts.seed), self.facts.next_seed.as_ref().map(key))
    }

    /// The blob to hash of a template's blob whose reserved bytes may have been changed.
    fn hashing_blob(&self, blob: &[u8]) -> Vec<u8> {
        let Layout { header, miner_tx, signature_at, transactions, .. } = &self.layout;
        let id = transaction_id(&blob[miner_tx.start..*signature_at], &blob[*signature_at..miner_tx.end]);
        let root = self.branch.iter().fold(id, |hash, sibling| fold(&hash, sibling));
        let mut hashed = blob[header.clone()].to_vec();
        hashed.extend_from_slice(root.as_raw());
        push_varint(&mut hashed, *transactions);
        hashed
    }
}

/// A job of one miner: a template with that miner's bytes in the reserved place.
#[derive(Clone, Debug)]
pub struct MoneroJob {
    template: Arc<Template>,
    extra_nonce: Vec<u8>,
    blob: Vec<u8>,
}

impl MoneroJob {
    /// A job with these bytes at the start of the reserved ones; `None` if they are too many. Three hashes
    /// of the miner's transaction and one for each level of the tree.
    pub fn new(template: Arc<Template>, extra_nonce: &[u8]) -> Option<MoneroJob> {
        let mut job = MoneroJob { blob: Vec::new(), extra_nonce: extra_nonce.to_vec(), template };
        job.blob = job.template.hashing_blob(&job.template_blob()?);
        Some(job)
    }

    /// What it was cut from.
    pub fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// The bytes that are hashed, with a nonce of zero at offset 39.
    pub fn hashing_blob(&self) -> &[u8] {
        &self.blob
    }

    /// The block of this nonce and its id: what [`MoneroNode`](super::MoneroNode) takes.
    pub fn block(&self, nonce: u32) -> (Vec<u8>, Hash256) {
        let mut hashed = Vec::with_capacity(self.blob.len() + 2);
        push_varint(&mut hashed, self.blob.len() as u64);
        let nonce_at = hashed.len() + NONCE_OFFSET;
        hashed.extend_from_slice(&self.blob);
        hashed[nonce_at..nonce_at + 4].copy_from_slice(&nonce.to_le_bytes());
        // The extra nonce fitted when the job was made.
        let mut block = self.template_blob().unwrap_or_default();
        block[NONCE_OFFSET..NONCE_OFFSET + 4].copy_from_slice(&nonce.to_le_bytes());
        (block, Hash256::from_raw(keccak256(&hashed)))
    }

    fn template_blob(&self) -> Option<Vec<u8>> {
        let mut blob = self.template.blob.clone();
        blob[self.template.layout.reserved.clone()]
            .get_mut(..self.extra_nonce.len())?
            .copy_from_slice(&self.extra_nonce);
        Some(blob)
    }
}

impl Layout {
    /// Reads a template's blob; also gives the ids of the transactions that are not the miner's.
    fn of(
        blob: &[u8],
        reserved_at: usize,
        reserve_len: usize,
    ) -> Result<(Layout, Vec<Hash256>), TemplateError> {
        let wrong = |what| TemplateError::field("blocktemplate_blob", "otherwise", what);
        let short = || wrong("to be longer");
        let mut rest = blob;
        for _ in 0..3 {
            read_varint(&mut rest).ok_or_else(short)?;
        }
        skip(&mut rest, 32).ok_or_else(short)?;
        if blob.len() - rest.len() != NONCE_OFFSET {
            return Err(wrong("a nonce at offset 39"));
        }
        skip(&mut rest, 4).ok_or_else(short)?;
        let header = 0..blob.len() - rest.len();

        let version = read_varint(&mut rest).ok_or_else(short)?;
        read_varint(&mut rest).ok_or_else(short)?; // unlock time
        if read_varint(&mut rest) != Some(1) || skip(&mut rest, 1) != Some(&[0xff]) {
            return Err(wrong("a miner's transaction with one input, of newly made coins"));
        }
        read_varint(&mut rest).ok_or_else(short)?; // height
        for _ in 0..read_varint(&mut rest).ok_or_else(short)? {
            read_varint(&mut rest).ok_or_else(short)?; // amount
            let key_len = match skip(&mut rest, 1) {
                Some([2]) => 32,     // a key
                Some([3]) => 32 + 1, // a key and a view tag
                _ => return Err(wrong("outputs of kind 2 or 3")),
            };
            skip(&mut rest, key_len).ok_or_else(short)?;
        }
        let extra_len = read_varint(&mut rest).and_then(|len| usize::try_from(len).ok()).ok_or_else(short)?;
        let extra_at = blob.len() - rest.len();
        skip(&mut rest, extra_len).ok_or_else(short)?;
        let signature_at = blob.len() - rest.len();
        match version {
            1 => {}
            2 if skip(&mut rest, 1) == Some(&[0]) => {}
            _ => return Err(wrong("a miner's transaction of version 1, or of 2 without signatures")),
        }
        let miner_tx = header.end..blob.len() - rest.len();
        let extra = extra_at..signature_at;
        let reserved = reserved_at..reserved_at.saturating_add(reserve_len);
        if reserved.start < extra.start || reserved.end > extra.end {
            return Err(wrong("the reserved bytes inside the miner's transaction's extra field"));
        }

        let count = read_varint(&mut rest).ok_or_else(short)?;
        let (ids, left) = rest.as_chunks::<32>();
        if ids.len() as u64 != count || !left.is_empty() {
            return Err(wrong("as many transaction ids as it says"));
        }
        let others = ids.iter().map(|id| Hash256::from_raw(*id)).collect();
        Ok((Layout { header, miner_tx, signature_at, reserved, transactions: count + 1 }, others))
    }
}

fn skip<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (skipped, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(skipped)
}

/// The id of a miner's transaction: of version 1, its hash; of version 2, the hash of three hashes: of what
/// it says, of its signature's kind (none), and of the signature's rest, which for none is zero.
fn transaction_id(said: &[u8], signature: &[u8]) -> Hash256 {
    if signature.is_empty() {
        return Hash256::from_raw(keccak256(said));
    }
    let parts = [keccak256(said), keccak256(signature), [0; 32]];
    Hash256::from_raw(keccak256(parts.as_flattened()))
}

fn fold(left: &Hash256, right: &Hash256) -> Hash256 {
    Hash256::from_raw(keccak256([*left.as_raw(), *right.as_raw()].as_flattened()))
}

/// The siblings on the way from the first leaf to the root, of the leaves other than the first.
///
/// Unlike Bitcoin's, Monero's tree evens out at the bottom: of n leaves, the last are paired until as many
/// nodes are left as the largest power of two below n; from there on it is a full tree.
fn branch(mut others: Vec<Hash256>) -> Vec<Hash256> {
    let mut branch = Vec::new();
    let count = others.len() + 1;
    let even = count.next_power_of_two() / 2;
    if count > 2 && count != even * 2 {
        // The first leaf stays, as do those before the pairs.
        let alone = 2 * even - count;
        let paired: Vec<_> = others[alone - 1..].chunks(2).map(|pair| fold(&pair[0], &pair[1])).collect();
        others.truncate(alone - 1);
        others.extend(paired);
    }
    while !others.is_empty() {
        branch.push(others[0]);
        others = others[1..].chunks(2).map(|pair| fold(&pair[0], &pair[1])).collect();
    }
    branch
}

pub(in crate::node) fn push_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A template of monerod 0.18.0.0 in regtest, at height 1, with eight bytes reserved.
    const TEMPLATE: &str = include_str!("../../../vectors/monero-template.json");

    /// The tree as `tree-hash.c` walks it: pair the tail, then halve.
    fn root(leaves: &[Hash256]) -> Hash256 {
        match leaves {
            [one] => *one,
            [left, right] => fold(left, right),
            many => {
                let mut count = 1;
                while count * 2 < many.len() {
                    count *= 2;
                }
                let kept = 2 * count - many.len();
                let mut level = many[..kept].to_vec();
                level.extend(many[kept..].chunks(2).map(|pair| fold(&pair[0], &pair[1])));
                while level.len() > 1 {
                    level = level.chunks(2).map(|pair| fold(&pair[0], &pair[1])).collect();
                }
                level[0]
            }
        }
    }

    fn folded(leaves: &[Hash256]) -> Hash256 {
        branch(leaves[1..].to_vec()).iter().fold(leaves[0], |hash, sibling| fold(&hash, sibling))
    }

    /// Monero's `tests/hash/tests-tree.txt`, its first five lines.
    #[test]
    fn the_branch_leads_to_the_published_roots() {
        for line in include_str!("../../../vectors/monero-tree-hash.txt").lines() {
            let (expected, leaves) = line.split_once(' ').unwrap();
            let leaves: Vec<_> = hex::decode(leaves)
                .unwrap()
                .as_chunks::<32>()
                .0
                .iter()
                .map(|leaf| Hash256::from_raw(*leaf))
                .collect();
            assert_eq!(folded(&leaves).to_raw_hex(), expected, "{} leaves", leaves.len());
        }
    }

    #[test]
    fn a_template_is_read_and_its_blob_is_the_node_s() {
        let template = Arc::new(Template::from_json(TEMPLATE, 8).unwrap());
        assert_eq!((template.facts.height, template.facts.difficulty), (1, U256::from(1u64)));
        assert_eq!((template.target, template.facts.next_seed), (Target::MAX, None));
        let same = MoneroJob::new(template.clone(), &[0; 8]).unwrap();
        let raw: serde_json::Value = serde_json::from_str(TEMPLATE).unwrap();
        assert_eq!(hex::encode(same.hashing_blob()), raw["blockhashing_blob"].as_str().unwrap());
        let other = MoneroJob::new(template.clone(), &[0, 0, 0, 1]).unwrap();
        assert_eq!(other.hashing_blob()[..43], same.hashing_blob()[..43]);
        assert_ne!(other.hashing_blob()[43..75], same.hashing_blob()[43..75]);
        assert!(MoneroJob::new(template.clone(), &[0; 9]).is_none());
        let (block, _) = other.block(0x4003_00d0);
        assert_eq!(block[39..43], [0xd0, 0, 3, 0x40]);
        let reserved = raw["reserved_offset"].as_u64().unwrap() as usize;
        assert_eq!(block[reserved..reserved + 8], [0, 0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let error = |from: &str, to: &str| {
            assert!(TEMPLATE.contains(from), "{from}");
            Template::from_json(&TEMPLATE.replace(from, to), 8).unwrap_err().to_string()
        };
        assert!(Template::from_json(TEMPLATE, 9).unwrap_err().to_string().contains("reserved bytes"));
        assert!(
            error("\"reserved_offset\": 126", "\"reserved_offset\": 18446744073709551615")
                .contains("reserved")
        );
        assert!(error("0x1", "0x0").contains("difficulty is 0"));
        assert!(error("0x1", "xyz").contains("wide_difficulty"));
        assert!(error("\"blockhashing_blob\": \"10", "\"blockhashing_blob\": \"11").contains("made here"));
        assert!(
            error("\"blocktemplate_blob\": \"1010", "\"blocktemplate_blob\": \"101010").contains("offset 39")
        );
        assert!(Template::from_json("[]", 8).is_err());
    }

    proptest! {
        #[test]
        fn the_branch_is_the_tree_s(leaves in proptest::collection::vec(any::<[u8; 32]>(), 1..70)) {
            let leaves: Vec<_> = leaves.into_iter().map(Hash256::from_raw).collect();
            prop_assert_eq!(folded(&leaves), root(&leaves));
        }

        #[test]
        fn no_blob_panics(blob in proptest::collection::vec(any::<u8>(), 0..300), at in any::<usize>()) {
            let _ = Layout::of(&blob, at, 8);
        }
    }
}
