//! A block template of Bitcoin's family (BIP 22, 23, 145), checked and ready to cut jobs from.

use std::collections::HashMap;
use std::sync::Arc;

use otedama_core::{CompactBits, Hash256, Target};
use serde::Deserialize;

use crate::coin::sha256d;
use crate::node::{TemplateError, hex_field};

/// What the next block may hold. Hashes are in the order they are hashed, not the order they are shown in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// The height of the block to find.
    pub height: u32,
    /// The header's version. Taken from here and never from another block's header, which holds other
    /// people's rolled bits.
    pub version: u32,
    /// The hash of the block before it.
    pub previous: Hash256,
    /// The header's compact target.
    pub bits: CompactBits,
    /// The same target as a number.
    pub target: Target,
    /// The node's time in seconds since 1970.
    pub time: u32,
    /// The earliest time the block may carry.
    pub min_time: u32,
    /// What the coinbase may pay out, in atomic units.
    pub coinbase_value: u64,
    /// How much of that is transaction fees, as far as the node says.
    pub fees: u64,
    /// What the coinbase script must hold after the height (`coinbaseaux`).
    pub coinbase_flags: Vec<u8>,
    /// The transactions as they go into the block, in order; without the coinbase.
    pub transactions: Vec<Vec<u8>>,
    /// The output script that commits to the witnesses, if there are any to commit to.
    pub witness_commitment: Option<Vec<u8>>,
    /// Litecoin's extension block.
    pub mweb: Option<Vec<u8>>,
    /// What a long poll for the next template names.
    pub long_poll_id: Option<String>,
    /// What the coinbase's hash is folded with to give the merkle root, lowest first.
    pub branch: Arc<[Hash256]>,
}

impl Template {
    /// Reads the result of `getblocktemplate`.
    ///
    /// # Errors
    /// [`TemplateError`], naming the field.
    pub fn from_json(json: &str) -> Result<Template, TemplateError> {
        let raw: RawTemplate =
            serde_json::from_str(json).map_err(|error| TemplateError::Shape(error.to_string()))?;
        Template::try_from(raw)
    }
}

/// The fields used of `getblocktemplate`'s result.
#[derive(Deserialize)]
pub(crate) struct RawTemplate {
    version: i64,
    previousblockhash: String,
    transactions: Vec<RawTransaction>,
    coinbasevalue: u64,
    #[serde(default)]
    coinbaseaux: HashMap<String, String>,
    bits: String,
    height: u32,
    curtime: u32,
    #[serde(default)]
    mintime: Option<u32>,
    #[serde(default)]
    default_witness_commitment: Option<String>,
    #[serde(default)]
    mweb: Option<String>,
    #[serde(default)]
    longpollid: Option<String>,
}

#[derive(Deserialize)]
struct RawTransaction {
    data: String,
    /// Missing from nodes that are older than segwit: there `hash` is the same.
    txid: Option<String>,
    hash: Option<String>,
    /// Optional (BIP 22), and below zero for the MWEB's own transaction of some versions.
    fee: Option<i64>,
}

impl TryFrom<RawTemplate> for Template {
    type Error = TemplateError;

    fn try_from(raw: RawTemplate) -> Result<Template, TemplateError> {
        // Some nodes print the 32 bits as a signed number.
        let version = u32::try_from(raw.version)
            .or_else(|_| i32::try_from(raw.version).map(|signed| signed as u32))
            .map_err(|_| TemplateError::field("version", raw.version, "32 bits"))?;
        let previous = Hash256::from_display_hex(&raw.previousblockhash).ok_or_else(|| {
            TemplateError::field("previousblockhash", &raw.previousblockhash, "64 hex digits")
        })?;
        let bits = match raw.bits.len() {
            8 => u32::from_str_radix(&raw.bits, 16).ok().map(CompactBits),
            _ => None,
        };
        let bits = bits.ok_or_else(|| TemplateError::field("bits", &raw.bits, "8 hex digits"))?;
        let mut ids = Vec::with_capacity(raw.transactions.len());
        let mut transactions = Vec::with_capacity(raw.transactions.len());
        let mut fees = 0u64;
        for transaction in &raw.transactions {
            let id = transaction.txid.as_ref().or(transaction.hash.as_ref());
            let id = id.ok_or_else(|| TemplateError::field("txid", "missing", "64 hex digits"))?;
            ids.push(
                Hash256::from_display_hex(id)
                    .ok_or_else(|| TemplateError::field("txid", id, "64 hex digits"))?,
            );
            transactions.push(hex_field("transaction data", &transaction.data)?);
            fees = fees.saturating_add(transaction.fee.and_then(|fee| fee.try_into().ok()).unwrap_or(0));
        }
        let optional = |field, text: &Option<String>| {
            text.as_deref().filter(|text| !text.is_empty()).map(|text| hex_field(field, text)).transpose()
        };
        // "flags" is the one key in use; the order of others would not be known.
        let flags = raw.coinbaseaux.get("flags").map_or("", String::as_str);
        let template = Template {
            height: raw.height,
            version,
            previous,
            bits,
            target: bits.to_target()?,
            time: raw.curtime,
            min_time: raw.mintime.unwrap_or(raw.curtime),
            coinbase_value: raw.coinbasevalue,
            fees,
            coinbase_flags: hex_field("coinbaseaux", flags)?,
            transactions,
            witness_commitment: optional("default_witness_commitment", &raw.default_witness_commitment)?,
            mweb: optional("mweb", &raw.mweb)?,
            long_poll_id: raw.longpollid,
            branch: branch(ids).into(),
        };
        if template.mweb.is_some() && template.transactions.is_empty() {
            return Err(TemplateError::field(
                "transactions",
                "empty",
                "the MWEB's own transaction as the last one",
            ));
        }
        Ok(template)
    }
}

/// The siblings on the way from the first leaf, the coinbase, to the merkle root.
///
/// ```text
///            root                the coinbase's hash c is not known yet, and need not be:
///          /      \              branch = [a, H(b,d)]
///      H(c,a)    H(b,d)          root   = H(H(c, a), H(b, d))
///      /   \     /   \
///     c     a   b     d          a level of odd length counts its last node twice
/// ```
fn branch(mut level: Vec<Hash256>) -> Vec<Hash256> {
    // `level` leaves out its first node, the one above the coinbase.
    let mut branch = Vec::new();
    while !level.is_empty() {
        branch.push(level[0]);
        level = level[1..]
            .chunks(2)
            .map(|pair| match *pair {
                [left, right] => fold(&left, &right),
                _ => fold(&pair[0], &pair[0]),
            })
            .collect();
    }
    branch
}

/// The node above two others of a merkle tree.
pub(super) fn fold(left: &Hash256, right: &Hash256) -> Hash256 {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left.as_raw());
    both[32..].copy_from_slice(right.as_raw());
    Hash256::from_raw(sha256d(&both))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tree as Bitcoin's wiki describes it, every level of it.
    fn root(mut level: Vec<Hash256>) -> Hash256 {
        while level.len() > 1 {
            if level.len() % 2 == 1 {
                level.push(*level.last().unwrap());
            }
            level = level.chunks(2).map(|pair| fold(&pair[0], &pair[1])).collect();
        }
        level[0]
    }

    fn folded(coinbase: Hash256, branch: &[Hash256]) -> Hash256 {
        branch.iter().fold(coinbase, |hash, sibling| fold(&hash, sibling))
    }

    /// Block 100,000 of Bitcoin.
    #[test]
    fn the_branch_leads_to_a_known_merkle_root() {
        let ids = [
            "8c14f0db3df150123e6f3dbbf30f8b955a8249b62ac1d1ff16284aefa3d06d87",
            "fff2525b8931402dd09222c50775608f75787bd2b87e56995a7bdd30f79702c4",
            "6359f0868171b1d194cbee1af2f16ea598ae8fad666d9b012c8ed2b79a236ec4",
            "e9a66845e05d5abc0ad04ec80f774a7e585c6e8db975962d069a522137b80c1d",
        ]
        .map(|id| Hash256::from_display_hex(id).unwrap());
        let expected = "f3e94742aca4b5ef85488dc37c06c3282295ffec960994b2c0d5ac2a25a95766";
        assert_eq!(folded(ids[0], &branch(ids[1..].to_vec())).to_display_hex(), expected);
    }

    #[test]
    fn a_litecoin_template_is_read_with_its_extension_block() {
        let template = Template::from_json(crate::node::bitcoin::tests::MWEB_TEMPLATE).unwrap();
        assert_eq!((template.height, template.version), (432, 0x2000_0000));
        assert_eq!(template.coinbase_value, 1_250_005_530);
        assert_eq!(template.bits, CompactBits(0x207f_ffff));
        assert_eq!((template.transactions.len(), template.branch.len()), (2, 2));
        assert_eq!(template.mweb.as_ref().unwrap()[..2], [0x82, 0x30]);
        assert!(template.previous.to_display_hex().starts_with("c873bb4c"));
    }

    #[test]
    fn what_is_no_template_is_refused_by_the_field() {
        let good = r#"{"version":1,"previousblockhash":"PREV","transactions":[],"coinbasevalue":5,
            "bits":"207fffff","height":7,"curtime":9}"#
            .replace("PREV", &"0".repeat(64));
        let template = Template::from_json(&good).unwrap();
        assert_eq!((template.min_time, template.branch.len()), (9, 0));
        let error = |from: &str, to: &str| {
            assert!(good.contains(from));
            Template::from_json(&good.replace(from, to)).unwrap_err().to_string()
        };
        assert_eq!(error("207fffff", "207fff"), "bits is 207fff: expected 8 hex digits");
        assert_eq!(
            error("\"version\":1", "\"version\":4294967296"),
            "version is 4294967296: expected 32 bits"
        );
        assert!(error("207fffff", "00000000").contains("target is zero"));
        assert!(error("\"height\":7", "\"height\":-7").contains("invalid value"));
        assert!(error("0000000000", "00000000").contains("previousblockhash"));
        assert!(error("[]", r#"[{"data":"00"}]"#).contains("txid is missing"));
        assert!(error("[]", r#"[{"data":"zz","txid":""}]"#).contains("64 hex digits"));
        assert!(error("\"curtime\"", "\"mweb\":\"01\",\"curtime\"").contains("MWEB"));
        assert!(Template::from_json("null").is_err() && Template::from_json("{").is_err());
        let signed = good.replace("\"version\":1", "\"version\":-1");
        assert_eq!(Template::from_json(&signed).unwrap().version, u32::MAX);
    }

    proptest! {
        #[test]
        fn the_branch_is_the_tree_s(leaves in proptest::collection::vec(any::<[u8; 32]>(), 1..70)) {
            let leaves: Vec<_> = leaves.into_iter().map(Hash256::from_raw).collect();
            prop_assert_eq!(folded(leaves[0], &branch(leaves[1..].to_vec())), root(leaves));
        }
    }
}
