//! Monero's node, `monerod`: templates with reserved bytes, hashing blobs, blocks.

mod blob;

use otedama_core::Hash256;
use serde::Deserialize;
use serde_json::json;

pub(super) use blob::push_varint;
pub use blob::{Facts, MoneroJob, Template};

use super::rpc::{Rpc, RpcError};
use super::{BlockRef, ChainNode, Fate, NodeError, Submitted, Tip};
use blob::RawTemplate;

/// "Block not accepted": it was looked at and is not in the chain now.
const NOT_ACCEPTED: i64 = -7;

/// Codes that `submit_block` fails with before it has looked at the block: the parameter is wrong, it is no
/// block, there is no such method.
const NEVER_TAKEN: [i64; 4] = [-1, -6, -32601, -32602];

/// A Monero node, and the wallet its blocks pay.
#[derive(Clone, Debug)]
pub struct MoneroNode {
    rpc: Rpc,
    wallet: String,
    reserve_len: u8,
}

impl MoneroNode {
    /// A node at `http://host:port/json_rpc` whose blocks pay this wallet (a standard address; nodes refuse
    /// others), with this many bytes (monerod's limit is
    /// 255) reserved in each template for telling miners apart.
    ///
    /// `--rpc-login` is not supported: it wants digest authentication. Bind the RPC to a private address.
    pub fn new(rpc: Rpc, wallet: impl Into<String>, reserve_len: u8) -> MoneroNode {
        MoneroNode { rpc, wallet: wallet.into(), reserve_len }
    }

    /// Its RPC, for calls that this module does not make.
    pub fn rpc(&self) -> &Rpc {
        &self.rpc
    }

    async fn header_of(&self, id: &Hash256) -> Result<BlockHeader, RpcError> {
        let found: HeaderAnswer =
            self.rpc.call("get_block_header_by_hash", json!({ "hash": id.to_raw_hex() })).await?;
        Ok(found.block_header)
    }
}

#[derive(Deserialize)]
struct HeaderAnswer {
    block_header: BlockHeader,
}

#[derive(Deserialize)]
struct BlockHeader {
    hash: String,
    height: u64,
    depth: u64,
    orphan_status: bool,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    synchronized: bool,
    #[serde(default)]
    offline: bool,
    #[serde(default)]
    incoming_connections_count: u32,
    #[serde(default)]
    outgoing_connections_count: u32,
    #[serde(default)]
    restricted: bool,
}

#[derive(Deserialize)]
struct SubmitAnswer {
    status: String,
}

impl ChainNode for MoneroNode {
    type Template = Template;
    /// The block, and its id: monerod says no to a block that it has, so it is looked up.
    type Block = (Vec<u8>, Hash256);

    const NEWS: Option<&'static str> = Some("json-minimal-chain_main");

    fn label(&self) -> &str {
        self.rpc.url()
    }

    async fn tip(&self) -> Result<Tip, NodeError> {
        let last: HeaderAnswer = self.rpc.call("get_last_block_header", json!({})).await?;
        let info: Info = self.rpc.call("get_info", json!({})).await?;
        let hash = Hash256::from_raw_hex(&last.block_header.hash)
            .ok_or_else(|| RpcError::Unreadable("a block's hash is no hash".to_owned()))?;
        let peers = info.incoming_connections_count.saturating_add(info.outgoing_connections_count);
        // A restricted node hides its connections; one that is meant to be alone has none.
        let peers = (!info.restricted && !info.offline).then_some(peers);
        Ok(Tip { height: last.block_header.height, hash, syncing: !info.synchronized, peers })
    }

    async fn template(&self) -> Result<Template, NodeError> {
        let request = json!({ "wallet_address": self.wallet, "reserve_size": self.reserve_len });
        let raw: RawTemplate = self.rpc.call("get_block_template", request).await?;
        Ok(Template::from_raw(raw, self.reserve_len)?)
    }

    async fn submit(&self, (block, id): &Self::Block) -> Submitted {
        match self.rpc.call::<SubmitAnswer>("submit_block", [hex::encode(block)]).await {
            Ok(SubmitAnswer { status }) if status == "OK" => Submitted::Accepted,
            Ok(SubmitAnswer { status }) => Submitted::Unknown(status.chars().take(300).collect()),
            Err(error) if error.code() == Some(NOT_ACCEPTED) => match self.header_of(id).await {
                Ok(header) if !header.orphan_status => Submitted::Accepted,
                Ok(_) => Submitted::Unknown("another block of this height came first".to_owned()),
                Err(RpcError::Refused { .. }) => Submitted::Rejected(error.to_string()),
                Err(_) => Submitted::Unknown(error.to_string()),
            },
            Err(error) => Submitted::failed(&error, &NEVER_TAKEN),
        }
    }

    async fn fate(&self, block: &BlockRef) -> Result<Fate, NodeError> {
        match self.header_of(&block.id).await {
            Ok(header) if header.orphan_status => Ok(Fate::Orphaned),
            Ok(header) => Ok(Fate::InChain { confirmations: header.depth.saturating_add(1) }),
            // "Internal error: can't get block by hash", -5 in all versions.
            Err(error) if error.code() == Some(-5) => Ok(Fate::NotFound),
            Err(error) => Err(error.into()),
        }
    }

    fn parent(template: &Template) -> (u64, Hash256) {
        (template.facts().height.saturating_sub(1), template.facts().previous)
    }
}
