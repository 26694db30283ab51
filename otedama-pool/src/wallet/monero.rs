//! Monero's wallet, over `monero-wallet-rpc`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::silent;
use crate::coin::{Address, Coin, MoneroAddress};
use crate::money::Amount;
use crate::node::rpc::Rpc;
use crate::payout::{Broadcast, Output, Place, Sent, Signed, Wallet, WalletError};

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

    /// Everything the wallet has sent and that has not failed.
    ///
    /// # Errors
    /// If it does not answer, or does not know whom a transaction paid: one that was restored from its seed knows only
    /// what it has sent since.
    pub async fn sent(&self) -> Result<Vec<Sent>, WalletError> {
        let Tip { height: tip } = self.rpc.call("get_height", json!({})).await.map_err(silent)?;
        let mut sent = Vec::new();
        // Those in the pool have no height.
        let mut request = json!({ "pending": true });
        let mut below = 0;
        loop {
            let Transfers { pending, out } = self.rpc.call("get_transfers", request).await.map_err(silent)?;
            for transfer in pending.into_iter().chain(out) {
                sent.push(transfer.sent()?);
            }
            if below >= tip {
                return Ok(sent);
            }
            // From above the first height up to the second.
            request = json!({
                "out": true, "filter_by_height": true, "min_height": below, "max_height": below + HEIGHTS,
            });
            below += HEIGHTS;
        }
    }
}

/// Heights of one answer: two weeks, in which each of some hundred payouts a day has 2 kB.
const HEIGHTS: u64 = 10_000;

#[derive(Deserialize)]
struct Tip {
    height: u64,
}

#[derive(Deserialize)]
struct Transfers {
    #[serde(default)]
    pending: Vec<OutTransfer>,
    #[serde(default)]
    out: Vec<OutTransfer>,
}

#[derive(Deserialize)]
struct OutTransfer {
    txid: String,
    fee: u64,
    timestamp: u64,
    #[serde(default)]
    confirmations: u64,
    #[serde(default)]
    destinations: Vec<Destination>,
}

#[derive(Deserialize)]
struct Destination {
    address: String,
    amount: u64,
}

impl OutTransfer {
    fn sent(self) -> Result<Sent, WalletError> {
        let OutTransfer { txid, fee, timestamp, confirmations, destinations } = self;
        if destinations.is_empty() {
            return Err(WalletError(format!(
                "it does not know whom transaction {txid} paid (was it restored from its seed?): its payouts cannot be \
                 read from it"
            )));
        }
        let amount = |units: u64| {
            i64::try_from(units)
                .map(Amount::new)
                .map_err(|_| WalletError(format!("transaction {txid} has an amount of {units}")))
        };
        let output = |Destination { address, amount: units }| Ok(Output { address, amount: amount(units)? });
        let outputs = destinations.into_iter().map(output).collect::<Result<_, WalletError>>()?;
        let network_fee = amount(fee)?;
        Ok(Sent { txid, outputs, network_fee, time_ms: timestamp.saturating_mul(1000), confirmations })
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

    /// A transaction has room for one payment id, and the wallet refuses one beside other recipients.
    fn pays_alone(&self, address: &str) -> bool {
        matches!(self.coin.address(address), Ok(Address::Monero(MoneroAddress::Integrated)))
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
