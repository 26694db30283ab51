//! Mining protocols, both ends of each: what a pool and a miner say to one another, and what they then owe
//! each other.
//!
//! | module | knows | must not know |
//! | --- | --- | --- |
//! | [`stratum`] | lines, JSON, the messages of every dialect, **the one table** of reject reasons; both ends use the same codecs | clocks, I/O, sessions |
//! | [`work`] | from a message to an [`otedama_core::Job`] and back: coinbases, merkle roots, headers, blobs, targets on the wire | sessions, who speaks |
//! | [`session`] | one connection as a state machine, driven by lines and [`session::Now`]: the pool's end and the miner's, for every dialect; vardiff, jobs kept, shares seen | sockets, threads, how a hash is computed |
//! | `client` (feature `client`, on by default) | the miner's network side: addresses, TLS, failover, waiting; tokio | dialects, engines |
//!
//! A session never hashes and never waits. It answers with [`session::Action`]s (or
//! [`session::Event`]s at the miner's end) that its owner carries out: lines to send, a share to be hashed, a
//! worker to be looked up. Everything a session keeps has a limit, see [`session::Limits`].

#![forbid(unsafe_code)]

#[cfg(feature = "client")]
pub mod client;
pub mod session;
pub mod stratum;
pub mod work;
