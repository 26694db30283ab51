//! What stands between a front and the books: whose name may mine, which record a share becomes, and the errands
//! that follow blocks and pay miners.
//!
//! ```text
//!   front ──Counted──▶ Accounts ──ShareRecord──▶ spool ──(Consumer)──▶ ledger ◀──follow, pay── Keeper ──▶ nodes, wallet
//! ```

mod keeper;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use otedama_core::{Algorithm, Target};

use crate::coin::{Coin, Kind, Network};
use crate::config::{self, Percent, RewardSystem, Rewards};
use crate::effort::Effort;
use crate::ledger::{CoinRules, Ledger, Scheme, Verdict};
use crate::money::{Amount, Ppm};
use crate::node::{BlockRef, Submitted};
use crate::payout::{PayoutRules, bitcoin_family_outputs};
use crate::server::{Counted, ShareLog};
use crate::spool::{MAX_MINER_LEN, MAX_WORKER_LEN, ShareRecord, Spool};
use crate::wallet::MONERO_MAX_OUTPUTS;

pub use keeper::{Keeper, Kept, PayoutPlan, book_blocks};

/// How much time one row of share sums covers: what PPLNS by time is exact to.
const SLICE: Duration = Duration::from_secs(60);

/// After what pauses a ledger that is away is tried for what a node said to a block.
const NOTE: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(10), Duration::from_secs(60), Duration::from_secs(600)];

/// How many blocks' effort PPLNS looks back at most; the configured time may end it sooner.
const PPLNS_BLOCK_THOUSANDTHS: u64 = 2000;

/// The accounts of one coin.
pub struct Accounts {
    coin: &'static Coin,
    name: String,
    algorithm: Algorithm,
    spool: Arc<Spool>,
    ledger: Arc<Ledger>,
}

impl Accounts {
    /// Accounts whose shares go into this spool, and what nodes say of blocks into this ledger.
    pub fn new(coin: &'static Coin, spool: Arc<Spool>, ledger: Arc<Ledger>) -> Accounts {
        Accounts { coin, name: ledger_name(coin), algorithm: coin.algorithm, spool, ledger }
    }

    /// A share as it is kept.
    fn entry(&self, share: &Counted<'_>) -> ShareRecord {
        let Counted { credit, worth, block, time_ms } = *share;
        let (miner, worker) = split_name(&credit.worker);
        ShareRecord {
            time_ms,
            algorithm: self.algorithm,
            height: worth.height,
            credited: Effort::of(&Target::from_difficulty(self.algorithm, credit.difficulty)),
            network: worth.network,
            subsidy: worth.subsidy,
            block_value: worth.value,
            block: block.map(|block| block.id),
            coin: self.name.clone(),
            miner: self.coin.account(miner).into_owned(),
            worker: shortened(worker),
        }
    }
}

impl ShareLog for Accounts {
    /// Miners are paid at the address they log in with.
    fn may_mine(&self, username: &str) -> Result<(), String> {
        let (miner, _) = split_name(username);
        if miner.len() > MAX_MINER_LEN {
            return Err(format!(
                "'{miner:.20}...' has {} bytes: expected at most {MAX_MINER_LEN}",
                miner.len()
            ));
        }
        match self.coin.address(miner) {
            Ok(_) => Ok(()),
            Err(error) => {
                Err(format!("{error}; log in as ADDRESS.WORKER, the address is where you are paid"))
            }
        }
    }

    fn record(&self, share: &Counted<'_>) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let appending = self.spool.append_async(&self.entry(share));
        async move { appending.await.map(drop).map_err(|error| error.to_string()) }
    }

    async fn submitted(&self, block: &BlockRef, each: &[(String, Submitted)]) {
        for (label, outcome) in each {
            let (verdict, detail) = match outcome {
                Submitted::Accepted => (Verdict::Accepted, ""),
                Submitted::Rejected(why) => (Verdict::Rejected, why.as_str()),
                Submitted::Unknown(why) => (Verdict::Unknown, why.as_str()),
            };
            let time_ms = now_ms();
            let note = || self.ledger.record_verdict(&self.name, &block.id, label, verdict, detail, time_ms);
            // It is evidence for people; the chain decides. A ledger that is away is said by whoever consumes.
            for pause in NOTE {
                tokio::time::sleep(pause).await;
                if !note().await.is_err_and(|error| error.is_retryable()) {
                    break;
                }
            }
        }
    }
}

/// A coin's name in records and books: at most 16 bytes, another one for each network.
pub fn ledger_name(coin: &Coin) -> String {
    let ticker = coin.ticker.to_ascii_lowercase();
    match coin.network {
        Network::Main => ticker,
        network => format!("{ticker}-{network}"),
    }
}

/// How a coin's rewards are divided.
pub fn rules(coin: &Coin, rewards: &Rewards, fee: Percent) -> CoinRules {
    let maturity = u64::from(coin.maturity) + 1;
    CoinRules {
        coin: ledger_name(coin),
        scheme: match rewards.system {
            RewardSystem::Pplns => Scheme::Pplns {
                block_thousandths: PPLNS_BLOCK_THOUSANDTHS,
                max_age_ms: u64::try_from(rewards.window.0.as_millis()).ok(),
            },
            RewardSystem::Pps => Scheme::Pps,
            RewardSystem::Fpps => Scheme::Fpps,
            RewardSystem::Prop => Scheme::Prop,
            RewardSystem::Solo => Scheme::Solo,
        },
        // A percentage is at most the whole.
        fee: Ppm::new(fee.millionths()).unwrap_or(Ppm::ALL),
        maturity,
        watched: 2 * maturity,
        slice_ms: SLICE.as_millis() as u64,
    }
}

/// How a coin is paid out: by default from a hundredth of a coin on.
///
/// # Errors
/// In words, if the minimum has more places than the coin.
pub fn payout_rules(coin: &Coin, payout: &config::Payout) -> Result<PayoutRules, String> {
    let places = coin.decimals;
    let minimum = match &payout.minimum {
        None => Amount::new(10i64.pow(places.saturating_sub(2).min(18))),
        Some(coins) => Amount::from_decimal(&coins.0, places)
            .ok_or_else(|| format!("{coin}: payout.minimum {}: expected at most {places} places", coins.0))?,
    };
    let max_outputs = match coin.kind {
        Kind::Monero { .. } => MONERO_MAX_OUTPUTS,
        _ => bitcoin_family_outputs(MAX_VIRTUAL_SIZE, INPUTS),
    };
    let confirmations = payout.confirmations.max(1).into();
    Ok(PayoutRules { coin: ledger_name(coin), minimum, max_outputs, confirmations })
}

/// What nodes relay (Core's `MAX_STANDARD_TX_WEIGHT` is four times this).
const MAX_VIRTUAL_SIZE: usize = 100_000;

/// Inputs that payouts leave room for: blocks' rewards are few and large.
const INPUTS: usize = 300;

/// `address.worker`: whom to pay, and which of their machines.
fn split_name(username: &str) -> (&str, &str) {
    username.split_once('.').unwrap_or((username, ""))
}

/// A machine's name as far as records have room for it.
fn shortened(worker: &str) -> String {
    let mut end = worker.len().min(MAX_WORKER_LEN);
    while !worker.is_char_boundary(end) {
        end -= 1;
    }
    worker[..end].to_owned()
}

/// Milliseconds since 1970, as records and books count.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coin::COINS;
    use crate::spool::MAX_COIN_LEN;

    #[test]
    fn every_coin_has_a_name_of_its_own_that_fits() {
        let mut names: Vec<String> = COINS.iter().map(ledger_name).collect();
        assert!(names.iter().all(|name| (1..=MAX_COIN_LEN).contains(&name.len())), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), COINS.len());
    }

    #[test]
    fn names_are_split_and_held_short() {
        assert_eq!(split_name("abc.rig.1"), ("abc", "rig.1"));
        assert_eq!(split_name("abc"), ("abc", ""));
        assert_eq!(shortened(&"é".repeat(40)), "é".repeat(32));
    }
}
