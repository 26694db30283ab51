//! Nodes of Bitcoin's family: Bitcoin, Litecoin, Dogecoin, Ravencoin and their like.

mod job;
mod template;

use std::time::Duration;

use otedama_core::Hash256;
use serde::Deserialize;
use serde_json::{Value, json};

pub use job::{BitcoinJob, CoinbaseError, CoinbasePlan, Payout, Roll, block_id};
pub use template::Template;

use super::rpc::{Rpc, RpcError};
use super::{BlockRef, ChainNode, Fate, NodeError, Submitted, Tip};
use crate::coin::{Coin, Kind, Network};
use template::RawTemplate;

/// Core answers a long poll at the next block, or from a minute on once the mempool has changed. Giving up earlier would leave
/// one of its RPC threads waiting for nobody.
const LONG_POLL: Duration = Duration::from_secs(1800);

/// RPC codes that `submitblock` fails with before it has looked at the block: it could not be decoded, a
/// parameter is wrong, there is no such method.
const NEVER_TAKEN: [i64; 5] = [-22, -8, -32600, -32601, -32602];

/// The code for a block or transaction that is not known.
const NOT_FOUND: i64 = -5;

/// A node of Bitcoin's family.
#[derive(Clone, Debug)]
pub struct BitcoinNode {
    rpc: Rpc,
    coin: &'static Coin,
}

impl BitcoinNode {
    /// A node of this coin.
    pub fn new(rpc: Rpc, coin: &'static Coin) -> BitcoinNode {
        BitcoinNode { rpc, coin }
    }

    /// Its RPC, for calls that this module does not make.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    /// Asks whether a block would be valid if only its proof of work were there (BIP 23); the node's reason if
    /// not.
    ///
    /// # Errors
    /// If the node cannot be asked.
    pub async fn propose(&self, block: &[u8]) -> Result<Option<String>, NodeError> {
        let request = json!([{ "mode": "proposal", "data": hex::encode(block), "rules": self.rules() }]);
        Ok(self.rpc.call("getblocktemplate", request).await?)
    }

    fn rules(&self) -> &'static [&'static str] {
        match &self.coin.kind {
            Kind::Bitcoin(kind) => kind.rules,
            _ => &[],
        }
    }

    fn template_request(&self, long_poll_id: Option<&str>) -> Value {
        let mut request = json!({
            "rules": self.rules(),
            "capabilities": ["coinbasevalue", "longpoll"],
        });
        if let Some(id) = long_poll_id {
            request["longpollid"] = id.into();
        }
        json!([request])
    }
}

#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
    blocks: u64,
    bestblockhash: String,
    // Nodes older than Core 0.16 do not say.
    #[serde(default)]
    initialblockdownload: bool,
}

#[derive(Deserialize)]
struct BlockHeader {
    confirmations: i64,
}

impl ChainNode for BitcoinNode {
    type Template = Template;
    type Block = Vec<u8>;

    const NEWS: Option<&'static str> = Some("hashblock");

    fn label(&self) -> &str {
        self.rpc.url()
    }

    async fn tip(&self) -> Result<Tip, NodeError> {
        let info: ChainInfo = self.rpc.call("getblockchaininfo", json!([])).await?;
        let expected = self.coin.network;
        let fits = match info.chain.as_str() {
            "main" => expected == Network::Main,
            "regtest" => expected == Network::Regtest,
            _ => expected == Network::Test,
        };
        if !fits {
            return Err(NodeError::WrongChain { found: info.chain, expected: expected.to_string() });
        }
        let hash = Hash256::from_display_hex(&info.bestblockhash)
            .ok_or_else(|| RpcError::Unreadable("bestblockhash is no hash".to_owned()))?;
        let peers = self.rpc.call("getconnectioncount", json!([])).await?;
        Ok(Tip { height: info.blocks, hash, syncing: info.initialblockdownload, peers: Some(peers) })
    }

    async fn template(&self) -> Result<Template, NodeError> {
        let raw: RawTemplate = self.rpc.call("getblocktemplate", self.template_request(None)).await?;
        Ok(raw.try_into()?)
    }

    async fn next_template(&self, after: &Template) -> Result<Template, NodeError> {
        let Some(id) = &after.long_poll_id else { return std::future::pending().await };
        let request = self.template_request(Some(id));
        let raw: RawTemplate = self.rpc.call_within(LONG_POLL, "getblocktemplate", request).await?;
        Ok(raw.try_into()?)
    }

    async fn submit(&self, block: &Vec<u8>) -> Submitted {
        match self.rpc.call::<Option<String>>("submitblock", [hex::encode(block)]).await {
            Ok(verdict) => submitted(verdict.as_deref()),
            Err(error) => Submitted::failed(&error, &NEVER_TAKEN),
        }
    }

    async fn fate(&self, block: &BlockRef) -> Result<Fate, NodeError> {
        let request = [block.id.to_display_hex()];
        match self.rpc.call::<BlockHeader>("getblockheader", request).await {
            Ok(BlockHeader { confirmations }) => Ok(match u64::try_from(confirmations) {
                Ok(confirmations) if confirmations > 0 => Fate::InChain { confirmations },
                _ => Fate::Orphaned,
            }),
            Err(error) if error.code() == Some(NOT_FOUND) => Ok(Fate::NotFound),
            Err(error) => Err(error.into()),
        }
    }

    fn parent(template: &Template) -> (u64, Hash256) {
        (u64::from(template.height).saturating_sub(1), template.previous)
    }
}

/// What `submitblock` says (BIP 22): nothing if the block is now the newest.
pub(super) fn submitted(verdict: Option<&str>) -> Submitted {
    match verdict {
        // A duplicate is one the node had already, and found valid.
        None | Some("duplicate") => Submitted::Accepted,
        // Valid as far as it was looked at, but not the newest: a race between two blocks, or a node that
        // lacks its parent.
        Some(verdict @ ("inconclusive" | "duplicate-inconclusive")) => Submitted::Unknown(verdict.to_owned()),
        Some(verdict) => Submitted::Rejected(verdict.chars().take(300).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The template of a litecoind 0.21.2.1 in regtest, at the height where its MWEB begins, with one
    /// transaction that pays into it.
    pub(crate) const MWEB_TEMPLATE: &str = include_str!("../../../vectors/litecoin-mweb-template.json");

    #[test]
    fn verdicts_have_three_values() {
        assert_eq!(submitted(None), Submitted::Accepted);
        assert_eq!(submitted(Some("duplicate")), Submitted::Accepted);
        for verdict in ["inconclusive", "duplicate-inconclusive"] {
            assert_eq!(submitted(Some(verdict)), Submitted::Unknown(verdict.into()));
        }
        for verdict in ["high-hash", "duplicate-invalid", "bad-txnmrklroot", "mweb-missing", "rejected"] {
            assert_eq!(submitted(Some(verdict)), Submitted::Rejected(verdict.into()));
        }
    }
}
