//! Wallets that sign first and send later: what [`crate::payout`] needs to pay exactly once.

mod bitcoin;
mod monero;

pub use bitcoin::BitcoinWallet;
pub use monero::{MAX_OUTPUTS as MONERO_MAX_OUTPUTS, MoneroWallet};

use crate::node::rpc::RpcError;
use crate::payout::WalletError;

/// A call that failed before anything could happen, or whose failure says nothing.
fn silent(error: RpcError) -> WalletError {
    WalletError(error.to_string())
}
