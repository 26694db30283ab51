//! Ravencoin: blocks of Bitcoin's kind under a header that KawPow seals.
//!
//! ```text
//! version 4 | previous 32 | merkle root 32 | time 4 | bits 4 | height 4 || nonce 8 | mix 32
//!  `-------------- hashed twice: the header hash of KawPow -----------'
//! ```
//!
//! The node is a [`BitcoinNode`](super::bitcoin::BitcoinNode): plain `getblocktemplate` and `submitblock` serve.
//! Its own header (`pprpcheader`, `pprpcsb`, with `-miningaddress`) pays one address and is for solo mining.

use otedama_core::Hash256;
use otedama_core::algo::ethash::{EpochRangeError, KAWPOW};
use otedama_core::builders::EthashBuilder;
use otedama_core::epoch::EpochKey;
use serde_json::{Value, json};

use super::bitcoin::{BitcoinJob, Template};
use super::rpc::Rpc;
use super::{BlockRef, Submitted};
use crate::coin::sha256d;

/// A header to seal: one for each extranonce, so that each connection searches its own.
#[derive(Clone, Debug)]
pub struct KawPowJob {
    header: [u8; 80],
    coinbase: Vec<u8>,
    height: u32,
}

impl KawPowJob {
    /// The header over the coinbase with this extranonce, at this time; `None` if the extranonce has another
    /// length than planned.
    pub fn new(job: &BitcoinJob, extranonce: &[u8], time: u32) -> Option<KawPowJob> {
        let Template { version, height, .. } = **job.template();
        let coinbase = job.coinbase(extranonce)?;
        let header = job.header_over(&job.merkle_root(&coinbase), version, time, height);
        Some(KawPowJob { header, coinbase, height })
    }

    /// The header hash that KawPow takes, in the order it takes it: the reverse of how it was hashed.
    pub fn header_hash(&self) -> Hash256 {
        reversed(&sha256d(&self.header))
    }

    /// The block's height.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The epoch of this header.
    ///
    /// # Errors
    /// If the height is beyond all epochs.
    pub fn epoch(&self) -> Result<EpochKey, EpochRangeError> {
        Ok(EthashBuilder::key(&KAWPOW.epoch_at(u64::from(self.height))?))
    }

    /// The block of a solution.
    pub fn block(&self, job: &BitcoinJob, nonce: u64, mix: &Hash256) -> Vec<u8> {
        let mut header = [0; 120];
        header[..80].copy_from_slice(&self.header);
        header[80..88].copy_from_slice(&nonce.to_le_bytes());
        header[88..].copy_from_slice(reversed(mix.as_raw()).as_raw());
        job.block_under(&header, &self.coinbase)
    }

    /// How a solution's block is looked up: its id is KawPow's final hash.
    pub fn reference(&self, pow: &Hash256) -> BlockRef {
        BlockRef { height: u64::from(self.height), id: reversed(pow.as_raw()) }
    }
}

/// Hands in a solution of the node's own header (`pprpcsb`), for solo mining.
pub async fn submit_to_own_header(rpc: &Rpc, header_hash: &Hash256, mix: &Hash256, nonce: u64) -> Submitted {
    let params = json!([header_hash.to_raw_hex(), mix.to_raw_hex(), format!("{nonce:016x}")]);
    match rpc.call::<Value>("pprpcsb", params).await {
        Ok(Value::Bool(true) | Value::Null) => Submitted::Accepted,
        Ok(Value::String(verdict)) => super::bitcoin::submitted(Some(&verdict)),
        Ok(other) => Submitted::Unknown(format!("unexpected verdict {other}")),
        // "Block header hash not found in block data" and "does not solve the boundary" are -8 or -22.
        Err(error) => Submitted::failed(&error, &[-8, -22, -32600, -32601, -32602]),
    }
}

fn reversed(bytes: &[u8; 32]) -> Hash256 {
    let mut bytes = *bytes;
    bytes.reverse();
    Hash256::from_raw(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::bitcoin::{CoinbasePlan, Payout, block_id};
    use otedama_core::Algorithm;
    use std::sync::Arc;

    #[test]
    fn the_header_is_laid_out_as_ravencoin_has_it() {
        let json = r#"{"version":805306368,"previousblockhash":"PREV","transactions":[],"coinbasevalue":5,
            "bits":"1e00ffff","height":1219736,"curtime":1588788000}"#
            .replace("PREV", &"1f".repeat(32));
        let template = Arc::new(Template::from_json(&json).unwrap());
        let payouts = [Payout { script: vec![0x51], value: 5 }];
        let plan = CoinbasePlan { payouts: &payouts, extranonce_len: 2, tag: b"" };
        let job = BitcoinJob::new(template, &plan).unwrap();
        let sealed = KawPowJob::new(&job, &[0xab, 0xcd], 1_588_788_001).unwrap();
        let mix = Hash256::from_raw(std::array::from_fn(|place| place as u8));
        let block = sealed.block(&job, 0x0102_0304_0506_0708, &mix);
        assert_eq!(block[..4], 0x3000_0000_u32.to_le_bytes());
        assert_eq!(block[68..72], 1_588_788_001_u32.to_le_bytes());
        assert_eq!(block[72..76], 0x1e00_ffff_u32.to_le_bytes());
        assert_eq!(block[76..80], 1_219_736_u32.to_le_bytes());
        assert_eq!(block[80..88], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!((block[88], block[119], block[120]), (31, 0, 1));
        let first: [u8; 80] = block[..80].try_into().unwrap();
        // Shown as KawPow takes it, the header hash reads like a block's id.
        assert_eq!(sealed.header_hash().to_raw_hex(), block_id(&first).to_display_hex());
        let other = KawPowJob::new(&job, &[0xab, 0xce], 1_588_788_001).unwrap();
        assert_ne!(other.header_hash(), sealed.header_hash());
        assert!(KawPowJob::new(&job, &[0xab], 1_588_788_001).is_none());
        assert_eq!(sealed.epoch().unwrap(), EpochKey::number(Algorithm::KawPow, 162));
        assert_eq!(sealed.reference(&mix).id.to_display_hex(), mix.to_raw_hex());
    }
}
