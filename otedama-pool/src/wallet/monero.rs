//! Monero's wallet, over `monero-wallet-rpc`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::silent;
use crate::coin::Coin;
use crate::money::Amount;
use crate::node::rpc::Rpc;
use crate::payout::{Broadcast, Output, Place, Signed, Wallet, WalletError};

/// The most recipients of one transaction: 16 outputs, one of which is the change.
pub const MAX_OUTPUTS: usize = 15;

/// The wallet does not know the transaction.
const WRONG_TXID: i64 = -8;

/// "Failed to commit tx.", for whatever reason.
const NOT_SENT: i64 = -4;

/// A wallet with one account. It is made with `do_not_relay`, whose `tx_metadata` is what is kept and sent: it holds the
/// whole signed transaction, and sending it twice is sending one transaction.
#[derive(Clone, Debug)]
pub struct MoneroWallet {
    rpc: Rpc,
    coin: &'static Coin,
}

impl MoneroWallet {
    /// The wallet that is open behind `http://host:port/json_rpc`. Logins are not supported, as with monerod: start
    /// it with `--disable-rpc-login` on a private address.
    pub fn new(rpc: Rpc, coin: &'static Coin) -> MoneroWallet {
        MoneroWallet { rpc, coin }
    }
}

#[derive(Deserialize)]
struct Transfer {
    tx_hash: String,
    tx_metadata: String,
    fee: u64,
}

#[derive(Deserialize)]
struct Found {
    transfer: Kept,
}

#[derive(Deserialize)]
struct Kept {
    r#type: String,
    #[serde(default)]
    confirmations: u64,
}

impl Wallet for MoneroWallet {
    async fn is_address(&self, address: &str) -> Result<bool, WalletError> {
        Ok(self.coin.address(address).is_ok())
    }

    async fn sign(&self, outputs: &[Output]) -> Result<Signed, WalletError> {
        let destinations: Vec<Value> = outputs
            .iter()
            .map(|output| json!({ "address": output.address, "amount": output.amount.units() }))
            .collect();
        let request = json!({ "destinations": destinations, "do_not_relay": true, "get_tx_metadata": true });
        let Transfer { tx_hash, tx_metadata, fee } =
            self.rpc.call("transfer", request).await.map_err(silent)?;
        let fee = i64::try_from(fee).map_err(|_| WalletError(format!("transfer says a fee of {fee}")))?;
        Ok(Signed { txid: tx_hash, raw: tx_metadata, network_fee: Amount::new(fee) })
    }

    async fn broadcast(&self, raw: &str) -> Result<Broadcast, WalletError> {
        let error = match self.rpc.call::<Value>("relay_tx", json!({ "hex": raw })).await {
            Ok(_) => return Ok(Broadcast::Accepted),
            Err(error) => error,
        };
        if error.code() != Some(NOT_SENT) {
            return Err(silent(error));
        }
        // A node that is away and one that refuses get the same words. Only with one that answers is it a refusal.
        self.rpc.call::<Value>("refresh", json!({})).await.map_err(silent)?;
        Ok(Broadcast::Refused(error.to_string()))
    }

    async fn look_up(&self, txid: &str) -> Result<Place, WalletError> {
        match self.rpc.call::<Found>("get_transfer_by_txid", json!({ "txid": txid })).await {
            Ok(Found { transfer: Kept { r#type, confirmations } }) => Ok(match &*r#type {
                "pending" | "pool" => Place::Waiting,
                "failed" => Place::Nowhere,
                _ => Place::InBlock(confirmations.max(1)),
            }),
            Err(error) if error.code() == Some(WRONG_TXID) => Ok(Place::Nowhere),
            Err(error) => Err(silent(error)),
        }
    }
}
