//! Chain nodes: where templates come from and where blocks go.
//!
//! | module | what it does |
//! | --- | --- |
//! | [`rpc`] | JSON-RPC over HTTP, exact about what a failure means |
//! | [`bitcoin`] | Bitcoin's family: templates, coinbase, jobs, blocks |
//! | [`ravencoin`] | the same with KawPow's header |
//! | [`monero`] | templates with reserved bytes, hashing blobs |
//! | [`ethereum`] | `eth_getWork` and `eth_submitWork` |
//! | [`notify`] | ZMQ: a node's word that its tip changed |
//! | [`group`] | several nodes of one coin: which of them to trust (a state machine, without I/O) |
//! | [`driver`] | what keeps a group running on tokio |
//! | [`template`] | a chain without a node, for trying things out |
//!
//! What reads templates and builds blocks does no I/O; only [`rpc`], [`notify`] and [`driver`] do.

pub mod bitcoin;
pub mod driver;
pub mod ethereum;
pub mod group;
pub mod monero;
pub mod notify;
pub mod ravencoin;
pub mod rpc;
pub mod template;

use std::fmt;
use std::future::Future;

use otedama_core::Hash256;
use otedama_core::target::TargetError;

use crate::money::Amount;
use rpc::{Effect, RpcError};

/// A node of some chain, as a [`group`] needs it.
pub trait ChainNode: Send + Sync + 'static {
    /// What jobs are cut from.
    type Template: Send + Sync + 'static;
    /// What is handed in when a job is solved.
    type Block: Send + Sync + 'static;

    /// The topic under which it publishes new blocks over ZMQ, if it can.
    const NEWS: Option<&'static str>;

    /// A name for logs: its URL.
    fn label(&self) -> &str;

    /// Its newest block, and whether it thinks it has caught up with the network.
    fn tip(&self) -> impl Future<Output = Result<Tip, NodeError>> + Send;

    /// A fresh template.
    fn template(&self) -> impl Future<Output = Result<Self::Template, NodeError>> + Send;

    /// The template after this one, as soon as the node has it (long poll). Never comes back from nodes that
    /// offer no such thing.
    fn next_template(
        &self,
        after: &Self::Template,
    ) -> impl Future<Output = Result<Self::Template, NodeError>> + Send {
        let _ = after;
        std::future::pending()
    }

    /// Hands in a block. Doing so twice does no harm.
    fn submit(&self, block: &Self::Block) -> impl Future<Output = Submitted> + Send;

    /// What became of a block.
    fn fate(&self, block: &BlockRef) -> impl Future<Output = Result<Fate, NodeError>> + Send;

    /// The block that a template builds on, and its height: the next template is stale when that changes.
    fn parent(template: &Self::Template) -> (u64, Hash256);
}

/// A node's newest block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height.
    pub height: u64,
    /// Its hash, in the order it is hashed (Bitcoin's family shows it reversed).
    pub hash: Hash256,
    /// Whether the node says that it is still catching up.
    pub syncing: bool,
    /// How many peers it has, if it says so.
    pub peers: Option<u32>,
}

/// A block that may be looked up later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRef {
    /// Its height.
    pub height: u64,
    /// What the node knows it by, in the order it is hashed. Ethereum's nodes seal blocks themselves, whose hash is
    /// then not known here: see [`ethereum::block_name`].
    pub id: Hash256,
}

/// What became of handing in a block. There are three answers, not two: a node that timed out may have taken it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The node has it and holds it for valid.
    Accepted,
    /// The node has looked at it and will not have it.
    Rejected(String),
    /// Nobody knows: hand it in again, and look it up later.
    Unknown(String),
}

impl Submitted {
    /// The outcome of a call that failed: a rejection only if the node answered with one of these codes,
    /// which it gives before it does anything.
    pub(crate) fn failed(error: &RpcError, rejections: &[i64]) -> Submitted {
        match error.effect() {
            Effect::Refused if error.code().is_some_and(|code| rejections.contains(&code)) => {
                Submitted::Rejected(error.to_string())
            }
            _ => Submitted::Unknown(error.to_string()),
        }
    }

    /// The outcome for the pool, of the outcomes at each node: accepted if any has it, rejected only if all
    /// that were asked refuse it.
    pub fn of_all<'a>(each: impl IntoIterator<Item = &'a Submitted>) -> Submitted {
        let mut rejected = None;
        let mut unknown = None;
        for outcome in each {
            match outcome {
                Submitted::Accepted => return Submitted::Accepted,
                Submitted::Rejected(why) => rejected = rejected.or(Some(why)),
                Submitted::Unknown(why) => unknown = unknown.or(Some(why)),
            }
        }
        match (unknown, rejected) {
            (Some(why), _) => Submitted::Unknown(why.clone()),
            (None, Some(why)) => Submitted::Rejected(why.clone()),
            (None, None) => Submitted::Unknown("no node to hand it to".to_owned()),
        }
    }
}

impl fmt::Display for Submitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Submitted::Accepted => f.write_str("accepted"),
            Submitted::Rejected(why) => write!(f, "rejected: {why}"),
            Submitted::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// What the chain says about a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// In the chain, with this many blocks on top of it and itself.
    InChain {
        /// 1 for the newest block.
        confirmations: u64,
    },
    /// Known, but the chain went another way. May change until it is buried.
    Orphaned,
    /// In the chain, itself or as an uncle, and so much it paid as the chain tells (Ethereum Classic).
    Paid {
        /// As above; of an uncle, those of the block that names it.
        confirmations: u64,
        /// Transaction fees left out.
        reward: Amount,
    },
    /// The node has never seen it.
    NotFound,
}

/// Why a node could not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The call failed.
    #[error(transparent)]
    Rpc(#[from] RpcError),
    /// What it gave cannot be used.
    #[error("node's template cannot be used: {0}")]
    Template(#[from] TemplateError),
    /// It serves another chain.
    #[error("node is on chain '{found}': expected '{expected}'")]
    WrongChain {
        /// The chain it is on.
        found: String,
        /// The chain it should be on.
        expected: String,
    },
}

/// What is wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// It is not JSON of the right shape.
    #[error("{0}")]
    Shape(String),
    /// A field that holds something else than it should.
    #[error("{field} is {found}: expected {expected}")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds, shortened.
        found: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// Its target is not one.
    #[error(transparent)]
    Target(#[from] TargetError),
}

impl TemplateError {
    pub(crate) fn field(field: &'static str, found: impl fmt::Display, expected: &'static str) -> Self {
        TemplateError::Field { field, found: found.to_string().chars().take(80).collect(), expected }
    }
}

/// The bytes of a hexadecimal field.
pub(crate) fn hex_field(field: &'static str, text: &str) -> Result<Vec<u8>, TemplateError> {
    hex::decode(text).map_err(|_| TemplateError::field(field, format!("'{text:.60}'"), "hexadecimal bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_acceptance_counts_and_one_doubt_forbids_a_rejection() {
        let (yes, no) = (Submitted::Accepted, Submitted::Rejected("high-hash".into()));
        let perhaps = Submitted::Unknown("timed out".into());
        assert_eq!(Submitted::of_all([&no, &perhaps, &yes]), yes);
        assert_eq!(Submitted::of_all([&no, &perhaps]), perhaps);
        assert_eq!(Submitted::of_all([&no, &no]), no);
        assert!(matches!(Submitted::of_all([]), Submitted::Unknown(_)));
    }

    #[test]
    fn an_error_is_a_rejection_only_where_the_node_cannot_have_acted() {
        let refused = |code| RpcError::Refused { code, message: "x".into() };
        assert!(matches!(Submitted::failed(&refused(-22), &[-22]), Submitted::Rejected(_)));
        assert!(matches!(Submitted::failed(&refused(-1), &[-22]), Submitted::Unknown(_)));
        let silent = RpcError::NoAnswer("timed out".into());
        assert!(matches!(Submitted::failed(&silent, &[-22]), Submitted::Unknown(_)));
    }
}
