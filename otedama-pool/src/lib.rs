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
//! | [`emission`] | what blocks and uncles of Ethereum Classic pay, by height | nodes |
//! | `node` | chain nodes over JSON-RPC: templates, blocks, their fate; which of several nodes to trust | miners, wire formats |
//! | `server` | sockets: miners' connections, verify threads, from templates to jobs and from finds to blocks | rewards |
//! | [`proxy`] | the header by which a load balancer says whose connection it passes on | whom to believe |
//! | [`effort`], [`money`] | expected hashes, amounts: whole numbers that fail instead of wrapping | coins, databases |
//! | [`rewards`] | who gets how much of what: pure functions | databases, clocks |
//! | [`spool`] | accepted shares on this node's disk, numbered for good | databases, runtimes |
//! | `ledger` | shares, blocks and bookings in SQLite or PostgreSQL; the consumer between spool and database | sockets, how blocks are submitted |
//! | `accounts` | from a share that counts to its record; following blocks and paying, as long as the pool runs | how a share is proven |
//! | `wallet` | wallets of real nodes, which sign first and send later | what is owed |
//! | `payout` | transactions that are sent once, however often they are sent | how a wallet is spoken to |
//!
//! `ledger`, `payout`, `wallet` and `accounts` come with the feature `ledger`, PostgreSQL with `postgres`. `client`, `node` and `server` come with the feature `net`, which is on by default.
//!
//! A session never hashes and never waits. It answers with [`session::Action`]s (or
//! [`session::Event`]s at the miner's end) that its owner carries out: lines to send, a share to be hashed, a
//! worker to be looked up. Everything a session keeps has a limit, see [`session::Limits`].

#![forbid(unsafe_code)]

#[cfg(all(feature = "net", feature = "ledger"))]
pub mod accounts;
#[cfg(feature = "net")]
pub mod client;
pub mod coin;
pub mod config;
pub mod effort;
pub mod emission;
#[cfg(feature = "ledger")]
pub mod ledger;
pub mod money;
#[cfg(feature = "net")]
pub mod node;
#[cfg(feature = "ledger")]
pub mod payout;
pub mod proxy;
pub mod rewards;
#[cfg(feature = "net")]
pub mod server;
pub mod session;
pub mod spool;
pub mod stratum;
#[cfg(all(feature = "net", feature = "ledger"))]
pub mod wallet;
pub mod work;
