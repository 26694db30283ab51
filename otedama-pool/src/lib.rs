//! A mining pool: share spool, ledger, rewards and payouts.
//!
//! | module | knows | must not know |
//! | --- | --- | --- |
//! | [`effort`], [`money`] | expected hashes, amounts: whole numbers that fail instead of wrapping | coins, databases |
//! | [`rewards`] | who gets how much of what: pure functions | databases, clocks |
//! | [`spool`] | accepted shares on this node's disk, numbered for good | databases, runtimes |
//! | [`ledger`] | shares, blocks and bookings in SQLite or PostgreSQL; the consumer between spool and database | sockets, how blocks are submitted |
//! | [`payout`] | transactions that are sent once, however often they are sent | how a wallet is spoken to |
#![forbid(unsafe_code)]

pub mod effort;
pub mod ledger;
pub mod money;
pub mod payout;
pub mod rewards;
pub mod spool;
