//! A mining pool and the miner's side of it.
//!
//! | module | knows | must not know |
//! | --- | --- | --- |
//! | [`config`] | what may be configured, and the place of everything that is wrong | what it is used for |
//! | [`stratum`] | lines, JSON, the messages of every dialect, **the one table** of reject reasons; both ends use the same codecs | clocks, I/O, sessions |
//! | [`work`] | from a message to an [`otedama_core::Job`] and back: coinbases, merkle roots, headers, blobs, targets on the wire | sessions, who speaks |
//! | [`session`] | one connection as a state machine, driven by lines and [`session::Now`]: the pool's end and the miner's, for every dialect; vardiff, jobs kept, shares seen | sockets, threads, how a hash is computed |
//! | `client` | the miner's network side: addresses, TLS, failover, waiting | dialects, engines |
//! | [`coin`] | the coins as data: address forms, block time, maturity | nodes, miners |
//! | `node` | chain nodes over JSON-RPC: templates, blocks, their fate; which of several nodes to trust | miners, wire formats |
//! | `server` | sockets: miners' connections, verify threads, from templates to jobs and from finds to blocks | rewards |
//!
//! `client`, `node` and `server` come with the feature `net`, which is on by default.
//!
//! A session never hashes and never waits. It answers with [`session::Action`]s (or
//! [`session::Event`]s at the miner's end) that its owner carries out: lines to send, a share to be hashed, a
//! worker to be looked up. Everything a session keeps has a limit, see [`session::Limits`].

#![forbid(unsafe_code)]

#[cfg(feature = "net")]
pub mod client;
pub mod coin;
pub mod config;
#[cfg(feature = "net")]
pub mod node;
#[cfg(feature = "net")]
pub mod server;
pub mod session;
pub mod stratum;
pub mod work;
