//! A mining pool: share spool, ledger, rewards and payouts.
#![forbid(unsafe_code)]

pub mod effort;
pub mod ledger;
pub mod money;
pub mod payout;
pub mod rewards;
pub mod spool;
