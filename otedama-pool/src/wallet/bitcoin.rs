//! Wallets of Bitcoin's family, over the RPC of a node that holds one.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::silent;
use crate::coin::Coin;
use crate::money::Amount;
use crate::node::rpc::{Rpc, RpcError};
use crate::payout::{Broadcast, Output, Place, Sent, Signed, Wallet, WalletError};

/// The node does not know the transaction.
const UNKNOWN: i64 = -5;

/// The transaction is in the chain already.
const IN_CHAIN: i64 = -27;

/// What spends nothing that is there, breaks a rule, or is no transaction: the network will not have it.
const REFUSALS: [i64; 3] = [-25, -26, -22];

/// A node's wallet. Between signing and sending it reserves nothing: payouts follow one another, so that the next
/// transaction is made only when the wallet has seen this one. Whoever else spends from it at the same moment
/// makes one of the two transactions invalid, never a payment double.
#[derive(Clone, Debug)]
pub struct BitcoinWallet {
    rpc: Rpc,
    coin: &'static Coin,
}

impl BitcoinWallet {
    /// The wallet behind this RPC: the node's only one, or the one that the URL names (`.../wallet/NAME`).
    pub fn new(rpc: Rpc, coin: &'static Coin) -> BitcoinWallet {
        BitcoinWallet { rpc, coin }
    }

    /// Everything the wallet has sent and neither abandoned nor lost to another transaction.
    ///
    /// # Errors
    /// If it does not answer, or says an amount that is none.
    pub async fn sent(&self) -> Result<Vec<Sent>, WalletError> {
        let mut sent: BTreeMap<String, Sent> = BTreeMap::new();
        let mut seen = HashSet::new();
        for page in 0.. {
            // Pages are counted from the newest entry: what comes meanwhile makes entries appear twice, never vanish.
            let entries: Vec<Entry> =
                self.rpc.call("listtransactions", json!(["*", PAGE, page * PAGE])).await.map_err(silent)?;
            let is_last = entries.len() < PAGE;
            for entry in entries {
                let is_valid = entry.category == "send" && entry.confirmations >= 0 && !entry.abandoned;
                if is_valid && entry.vout.is_none_or(|vout| seen.insert((entry.txid.clone(), vout))) {
                    self.add(&mut sent, entry)?;
                }
            }
            if is_last {
                break;
            }
        }
        Ok(sent.into_values().collect())
    }

    fn add(&self, sent: &mut BTreeMap<String, Sent>, entry: Entry) -> Result<(), WalletError> {
        // What is spent has a minus.
        let read = |number: &RawValue| {
            Amount::from_decimal(number.get(), self.coin.decimals)
                .and_then(|amount| amount.negated().ok())
                .ok_or_else(|| WalletError(format!("listtransactions says an amount of {}", number.get())))
        };
        let network_fee = entry.fee.as_deref().map(read).transpose()?.unwrap_or_default();
        let transaction = sent.entry(entry.txid.clone()).or_insert_with(|| Sent {
            txid: entry.txid,
            outputs: Vec::new(),
            network_fee,
            time_ms: entry.time.saturating_mul(1000),
            confirmations: entry.confirmations.unsigned_abs(),
        });
        // An output without an address pays no miner.
        if let Some(address) = entry.address {
            let address = self.coin.account(&address).into_owned();
            transaction.outputs.push(Output { address, amount: read(&entry.amount)? });
        }
        Ok(())
    }
}

/// Entries of one answer, some 500 bytes each.
const PAGE: usize = 5000;

/// One output of a transaction, as `listtransactions` has it.
#[derive(Deserialize)]
struct Entry {
    category: String,
    txid: String,
    vout: Option<u32>,
    address: Option<String>,
    amount: Box<RawValue>,
    fee: Option<Box<RawValue>>,
    confirmations: i64,
    #[serde(default)]
    abandoned: bool,
    time: u64,
}

#[derive(Deserialize)]
struct Funded {
    hex: String,
    // As it was written: a number of coins must not pass through floating point.
    fee: Box<RawValue>,
}

#[derive(Deserialize)]
struct SignedAnswer {
    hex: String,
    complete: bool,
}

#[derive(Deserialize)]
struct Decoded {
    txid: String,
}

#[derive(Deserialize)]
struct Known {
    confirmations: i64,
}

impl Wallet for BitcoinWallet {
    async fn is_address(&self, address: &str) -> Result<bool, WalletError> {
        Ok(self.coin.address(address).is_ok())
    }

    async fn sign(&self, outputs: &[Output]) -> Result<Signed, WalletError> {
        let places = self.coin.decimals;
        let to: Map<String, Value> = outputs
            .iter()
            .map(|output| (output.address.clone(), output.amount.to_decimal(places).into()))
            .collect();
        if to.len() != outputs.len() {
            return Err(WalletError("an address is to be paid twice in one transaction".to_owned()));
        }
        let plain: String = self.rpc.call("createrawtransaction", json!([[], to])).await.map_err(silent)?;
        let Funded { hex, fee } = self.rpc.call("fundrawtransaction", [plain]).await.map_err(silent)?;
        let network_fee = Amount::from_decimal(fee.get(), places)
            .ok_or_else(|| WalletError(format!("fundrawtransaction says a fee of {}", fee.get())))?;
        let SignedAnswer { hex: raw, complete } =
            self.rpc.call("signrawtransactionwithwallet", [hex]).await.map_err(silent)?;
        if !complete {
            return Err(WalletError("the wallet lacks keys: is it watch-only?".to_owned()));
        }
        let Decoded { txid } = self.rpc.call("decoderawtransaction", [&raw]).await.map_err(silent)?;
        Ok(Signed { txid, raw, network_fee })
    }

    async fn broadcast(&self, raw: &str) -> Result<Broadcast, WalletError> {
        match self.rpc.call::<String>("sendrawtransaction", [raw]).await {
            Ok(_) => Ok(Broadcast::Accepted),
            Err(error) if error.code() == Some(IN_CHAIN) => Ok(Broadcast::Accepted),
            Err(error) if error.code().is_some_and(|code| REFUSALS.contains(&code)) => {
                Ok(Broadcast::Refused(error.to_string()))
            }
            Err(error) => Err(silent(error)),
        }
    }

    async fn look_up(&self, txid: &str) -> Result<Place, WalletError> {
        let unknown = |error: &RpcError| error.code() == Some(UNKNOWN);
        match self.rpc.call::<Known>("gettransaction", [txid]).await {
            Ok(Known { confirmations }) if confirmations < 0 => Ok(Place::Conflicted),
            Ok(Known { confirmations: 0 }) => match self.rpc.call::<Value>("getmempoolentry", [txid]).await {
                Ok(_) => Ok(Place::Waiting),
                Err(error) if unknown(&error) => Ok(Place::Nowhere),
                Err(error) => Err(silent(error)),
            },
            Ok(Known { confirmations }) => Ok(Place::InBlock(confirmations.unsigned_abs())),
            Err(error) if unknown(&error) => Ok(Place::Nowhere),
            Err(error) => Err(silent(error)),
        }
    }
}
