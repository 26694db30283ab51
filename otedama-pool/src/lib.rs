//! What a mining pool is made of: Stratum, chain nodes and accounts.
//!
//! | module | knows | must not know |
//! | --- | --- | --- |
//! | [`coin`] | the coins as data: address forms, block time, maturity | nodes, miners |
//! | [`node`] | chain nodes over JSON-RPC: templates, blocks, their fate; which of several nodes to trust | miners, wire formats |

#![forbid(unsafe_code)]

pub mod coin;
pub mod node;
