//! Payouts, exactly once.
//!
//! ```text
//! intent ──sign──> signed ──broadcast──> broadcast ──confirmations──> confirmed
//!    │                └──────── refused, or conflicted ────────> frozen ──operator──> cancelled
//!    │                                                             └──mined after all──> confirmed
//!    └── anything goes wrong ──> cancelled
//! ```
//!
//! - **intent**: the batch and its payouts are written down. Nothing is debited and nothing is signed, so after
//!   a crash it is simply cancelled.
//! - **signed**: one database transaction debits the miners and stores the signed transaction with its id.
//!   Before it commits, nobody else has seen the signed transaction; what a crash leaves of it is never used.
//! - **broadcast**: the stored bytes are sent, as often as need be. Sending them twice is sending them once: it
//!   is one transaction with one id. An answer that was lost changes nothing, the batch is sent again.
//! - **frozen**: the network will not have it. It is never signed anew by itself, because what is not seen today
//!   may be mined tomorrow: then it is confirmed like any other. Else an operator looks and calls
//!   [`Ledger::give_back`]. Other batches go on.
//!
//! The network's fee is the pool's cost: it is taken from the account `fees`, which may go below zero.

mod recover;
mod rules;

use std::collections::BTreeMap;
use std::future::Future;

use sqlx::Row;

use crate::ledger::books::{Account, Changes};
use crate::ledger::{Ledger, LedgerError, Write, to_i64};
use crate::money::Amount;

pub use recover::Sent;
pub use rules::{PayoutRules, bitcoin_family_outputs};

/// One recipient of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The coin's address; also the miner's name.
    pub address: String,
    /// How much it gets.
    pub amount: Amount,
}

/// A transaction that can be sent as it is, as often as need be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Its id on the network.
    pub txid: String,
    /// What [`Wallet::broadcast`] takes: the raw transaction in hex, or a wallet's own form of it (Monero's
    /// `tx_metadata`).
    pub raw: String,
    /// What the network takes beyond the outputs.
    pub network_fee: Amount,
}

/// What the network said to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broadcast {
    /// Taken, now or earlier.
    Accepted,
    /// Not taken, for this reason.
    Refused(String),
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Neither in a block nor waiting for one.
    Nowhere,
    /// Waiting for a block.
    Waiting,
    /// In a block with so many confirmations, at least 1.
    InBlock(u64),
    /// What it spends was spent by another transaction that is in a block.
    Conflicted,
}

/// A wallet that can sign without sending. That is what all coins' wallets offer: Bitcoin's family by
/// `fundrawtransaction` and `signrawtransactionwithwallet`, Monero by `do_not_relay`, Ether's by `eth_signTransaction`.
pub trait Wallet: Send + Sync {
    /// Whether this is an address of the coin.
    fn is_address(&self, address: &str) -> impl Future<Output = Result<bool, WalletError>> + Send;
    /// Whether this address must be the only one of a transaction: a payment id in it is said for the whole.
    fn pays_alone(&self, address: &str) -> bool {
        let _ = address;
        false
    }
    /// Makes and signs one transaction of all these outputs and sends it to nobody.
    fn sign(&self, outputs: &[Output]) -> impl Future<Output = Result<Signed, WalletError>> + Send;
    /// Sends a signed transaction. May be called again with the same bytes at any time.
    fn broadcast(&self, raw: &str) -> impl Future<Output = Result<Broadcast, WalletError>> + Send;
    /// Looks a transaction up in blocks and among those that wait.
    fn look_up(&self, txid: &str) -> impl Future<Output = Result<Place, WalletError>> + Send;
}

/// The wallet did not answer, or its answer was lost: nothing is concluded from that.
#[derive(Debug, Clone, thiserror::Error)]
#[error("wallet: {0}")]
pub struct WalletError(pub String);

/// What a round of payouts did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PayoutReport {
    /// Batches begun and sent.
    pub sent: usize,
    /// Batches that reached their confirmations.
    pub confirmed: usize,
    /// Batches sent again, because the network did not know them or an answer was lost.
    pub resent: usize,
    /// Intents of a run that crashed, cancelled.
    pub cancelled: usize,
    /// Batches frozen in this round: tell the operator.
    pub frozen: Vec<i64>,
    /// Miners above the minimum whose name is no address: tell the operator.
    pub not_addresses: Vec<String>,
    /// Batches that the wallet would not sign, and why: nobody in them was paid.
    pub unsigned: Vec<(i64, String)>,
    /// Whether nothing new was begun because an earlier batch has not reached the network yet.
    pub is_waiting: bool,
}

/// Why payouts stopped. What was begun is taken up by the next round.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PayoutError {
    /// The wallet did not answer.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A batch was not in the state it had to be in: another process pays too, or it was resolved meanwhile.
    #[error("payout batch {batch} is no longer '{expected}': is another process paying too?")]
    NotInState {
        /// Which batch.
        batch: i64,
        /// What it should have been.
        expected: &'static str,
    },
    /// What a wallet sent may still come to nothing.
    #[error(
        "transaction {txid} pays miners and has {confirmations} confirmations: expected {expected}; wait for them, or \
         abandon it in the wallet"
    )]
    Unconfirmed {
        /// Which transaction.
        txid: String,
        /// How many it has.
        confirmations: u64,
        /// How many a payout must have to be done.
        expected: u64,
    },
}

/// A payout, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchInfo {
    /// Its number.
    pub id: i64,
    /// Where it is: see the module.
    pub state: String,
    /// The transaction's id, once it is signed.
    pub txid: String,
    /// What its recipients get.
    pub amount: Amount,
    /// How many they are.
    pub recipients: u64,
    /// What the network takes.
    pub network_fee: Amount,
    /// Why it is where it is, if there is something to say.
    pub detail: String,
}

/// Batches of one round that the wallet may refuse to sign before the rest waits for the next: it is the wallet, then.
const MAX_UNSIGNED: usize = 3;

/// What is unfinished of a batch.
struct Batch {
    id: i64,
    state: String,
    txid: String,
    raw: String,
}

impl Ledger {
    /// Brings every unfinished batch forward. Call it at start and every minute or so; [`Ledger::pay`] begins
    /// with it.
    pub async fn reconcile(
        &self,
        rules: &PayoutRules,
        wallet: &impl Wallet,
        now_ms: u64,
    ) -> Result<PayoutReport, PayoutError> {
        let mut report = PayoutReport::default();
        for batch in self.unfinished(&rules.coin).await? {
            match self.bring_forward(&batch, rules, wallet, now_ms, &mut report).await {
                // What was frozen is told but once; the next round meets the error again.
                Err(_) if !report.frozen.is_empty() => break,
                outcome => outcome?,
            }
        }
        Ok(report)
    }

    async fn bring_forward(
        &self,
        batch: &Batch,
        rules: &PayoutRules,
        wallet: &impl Wallet,
        now_ms: u64,
        report: &mut PayoutReport,
    ) -> Result<(), PayoutError> {
        match &*batch.state {
            "intent" => {
                self.cancel_intent(batch.id, "left by a run that ended").await?;
                report.cancelled += 1;
                Ok(())
            }
            "signed" => self.send(batch, wallet, report).await,
            "frozen" => self.look_again(batch, rules, wallet, now_ms, report).await,
            _ => self.watch(batch, rules, wallet, now_ms, report).await,
        }
    }

    /// Pays every miner who is owed the minimum or more, in as many transactions as their size asks for.
    pub async fn pay(
        &self,
        rules: &PayoutRules,
        wallet: &impl Wallet,
        now_ms: u64,
    ) -> Result<PayoutReport, PayoutError> {
        let mut report = self.reconcile(rules, wallet, now_ms).await?;
        let mut due = Vec::new();
        for (account, amount) in self.balances(&rules.coin).await? {
            let Account::Miner(address) = account else { continue };
            if amount < rules.minimum.max(Amount::new(1)) {
                continue;
            }
            if wallet.is_address(&address).await? {
                due.push(Output { address, amount });
            } else {
                report.not_addresses.push(address);
            }
        }
        let (alone, together): (Vec<_>, Vec<_>) =
            due.into_iter().partition(|output| wallet.pays_alone(&output.address));
        for outputs in together.chunks(rules.max_outputs.max(1)).chain(alone.chunks(1)) {
            // A wallet might spend the same coins twice before the network has seen the first transaction.
            if self.unfinished(&rules.coin).await?.iter().any(|batch| batch.state == "signed") {
                report.is_waiting = true;
                break;
            }
            self.pay_batch(rules, wallet, outputs, now_ms, &mut report).await?;
            if report.unsigned.len() >= MAX_UNSIGNED {
                break;
            }
        }
        Ok(report)
    }

    /// An operator's word that a frozen batch was never paid and never will be: its debits are booked back.
    pub async fn give_back(&self, batch: i64, now_ms: u64) -> Result<(), PayoutError> {
        let mut write = self.write().await?;
        write.change_state(batch, "frozen", "cancelled", "given back").await?;
        let row = sqlx::query(
            "SELECT bookings.id, bookings.coin FROM bookings JOIN payout_batches ON payout_batches.id = $1
             WHERE bookings.coin = payout_batches.coin AND reason = 'payout' AND reference = $2",
        )
        .bind(batch)
        .bind(batch.to_string())
        .fetch_one(&mut *write.transaction)
        .await
        .map_err(LedgerError::from)?;
        let booking: i64 = row.try_get(0).map_err(LedgerError::from)?;
        let coin: String = row.try_get(1).map_err(LedgerError::from)?;
        write.reverse(booking, &coin, "given back", &batch.to_string(), to_i64(now_ms)?).await?;
        Ok(write.commit().await?)
    }

    async fn pay_batch(
        &self,
        rules: &PayoutRules,
        wallet: &impl Wallet,
        outputs: &[Output],
        now_ms: u64,
        report: &mut PayoutReport,
    ) -> Result<(), PayoutError> {
        let id = self.write_intent(&rules.coin, outputs, now_ms).await?;
        let signed = match wallet.sign(outputs).await {
            Ok(signed) => signed,
            // Perhaps it is one recipient that the wallet will not have: the others have no part in that.
            Err(error) => {
                self.cancel_intent(id, &error.to_string()).await?;
                report.unsigned.push((id, error.to_string()));
                return Ok(());
            }
        };
        if !self.debit(&rules.coin, id, outputs, &signed, now_ms).await? {
            report.cancelled += 1;
            return Ok(());
        }
        let Signed { txid, raw, .. } = signed;
        self.send(&Batch { id, state: "signed".to_owned(), txid, raw }, wallet, report).await?;
        report.sent += 1;
        Ok(())
    }

    async fn write_intent(&self, coin: &str, outputs: &[Output], now_ms: u64) -> Result<i64, LedgerError> {
        let mut write = self.write().await?;
        let id = write.next_id().await?;
        let batch = BatchRow {
            coin: coin.to_owned(),
            state: "intent".to_owned(),
            created_ms: to_i64(now_ms)?,
            ..BatchRow::default()
        };
        write.insert_batch(id, batch, outputs).await?;
        write.commit().await?;
        Ok(id)
    }

    async fn cancel_intent(&self, batch: i64, why: &str) -> Result<(), PayoutError> {
        let mut write = self.write().await?;
        write.change_state(batch, "intent", "cancelled", why).await?;
        Ok(write.commit().await?)
    }

    /// Debits the miners and stores the signed transaction, both or neither. `false` if a balance has become
    /// too small meanwhile (a block was taken back, another process paid): then the batch is cancelled, and
    /// the signed transaction forgotten unseen.
    async fn debit(
        &self,
        coin: &str,
        batch: i64,
        outputs: &[Output],
        signed: &Signed,
        now_ms: u64,
    ) -> Result<bool, PayoutError> {
        let mut write = self.write().await?;
        for Output { address, amount } in outputs {
            if write.balance(coin, &Account::Miner(address.clone())).await? < *amount {
                write.change_state(batch, "intent", "cancelled", "a balance became too small").await?;
                write.commit().await?;
                return Ok(false);
            }
        }
        let changes = debits(outputs, signed.network_fee)?;
        write.change_state(batch, "intent", "signed", "").await?;
        sqlx::query("UPDATE payout_batches SET txid = $2, raw = $3, network_fee = $4 WHERE id = $1")
            .bind(batch)
            .bind(signed.txid.clone())
            .bind(signed.raw.clone())
            .bind(signed.network_fee.units())
            .execute(&mut *write.transaction)
            .await
            .map_err(LedgerError::from)?;
        write.book(coin, "payout", &batch.to_string(), to_i64(now_ms)?, changes).await?;
        write.commit().await?;
        Ok(true)
    }

    /// Sends a batch's stored bytes. A lost answer is an error, after which they are sent again.
    async fn send(
        &self,
        batch: &Batch,
        wallet: &impl Wallet,
        report: &mut PayoutReport,
    ) -> Result<(), PayoutError> {
        let refused = match wallet.broadcast(&batch.raw).await? {
            Broadcast::Accepted => None,
            // Nodes refuse, too, what is in a block already.
            Broadcast::Refused(why) => match wallet.look_up(&batch.txid).await? {
                Place::Waiting | Place::InBlock(_) => None,
                Place::Nowhere | Place::Conflicted => Some(why),
            },
        };
        let mut write = self.write().await?;
        match refused {
            None => write.change_state(batch.id, "signed", "broadcast", "").await?,
            Some(why) => {
                write.change_state(batch.id, "signed", "frozen", &why).await?;
                report.frozen.push(batch.id);
            }
        }
        Ok(write.commit().await?)
    }

    /// Sees how a batch that was sent is doing.
    async fn watch(
        &self,
        batch: &Batch,
        rules: &PayoutRules,
        wallet: &impl Wallet,
        now_ms: u64,
        report: &mut PayoutReport,
    ) -> Result<(), PayoutError> {
        match wallet.look_up(&batch.txid).await? {
            Place::InBlock(confirmations) if confirmations >= rules.confirmations => {
                self.settle_payout(&rules.coin, batch, now_ms).await?;
                report.confirmed += 1;
            }
            Place::InBlock(_) | Place::Waiting => {}
            Place::Nowhere => {
                // Forgotten by the network: nodes drop what waits too long.
                report.resent += 1;
                if let Broadcast::Refused(why) = wallet.broadcast(&batch.raw).await? {
                    self.freeze(batch.id, &why, report).await?;
                }
            }
            Place::Conflicted => {
                self.freeze(batch.id, "what it spends was spent by another transaction", report).await?;
            }
        }
        Ok(())
    }

    /// Sees whether a frozen batch was mined after all: whoever kept the transaction may have sent it on. It is never
    /// sent again from here.
    async fn look_again(
        &self,
        batch: &Batch,
        rules: &PayoutRules,
        wallet: &impl Wallet,
        now_ms: u64,
        report: &mut PayoutReport,
    ) -> Result<(), PayoutError> {
        if let Place::InBlock(confirmations) = wallet.look_up(&batch.txid).await?
            && confirmations >= rules.confirmations
        {
            self.settle_payout(&rules.coin, batch, now_ms).await?;
            report.confirmed += 1;
        }
        Ok(())
    }

    async fn freeze(&self, batch: i64, why: &str, report: &mut PayoutReport) -> Result<(), PayoutError> {
        let mut write = self.write().await?;
        write.change_state(batch, "broadcast", "frozen", why).await?;
        report.frozen.push(batch);
        Ok(write.commit().await?)
    }

    async fn settle_payout(&self, coin: &str, batch: &Batch, now_ms: u64) -> Result<(), PayoutError> {
        let from = if batch.state == "frozen" { "frozen" } else { "broadcast" };
        let mut write = self.write().await?;
        write.change_state(batch.id, from, "confirmed", "").await?;
        write.book_settled(coin, batch.id, to_i64(now_ms)?).await?;
        Ok(write.commit().await?)
    }

    async fn unfinished(&self, coin: &str) -> Result<Vec<Batch>, LedgerError> {
        let rows = sqlx::query(
            "SELECT id, state, txid, raw FROM payout_batches
             WHERE coin = $1 AND state IN ('intent', 'signed', 'broadcast', 'frozen') ORDER BY id",
        )
        .bind(coin.to_owned())
        .fetch_all(self.pool().await?)
        .await?;
        let batch = |row: &sqlx::any::AnyRow| {
            Ok(Batch {
                id: row.try_get(0)?,
                state: row.try_get(1)?,
                txid: row.try_get(2)?,
                raw: row.try_get(3)?,
            })
        };
        rows.iter().map(batch).collect()
    }

    /// A coin's payouts, the latest first.
    pub async fn payout_batches(&self, coin: &str) -> Result<Vec<BatchInfo>, LedgerError> {
        let rows = sqlx::query(
            "SELECT payout_batches.id, MAX(state), MAX(txid), CAST(SUM(payouts.amount) AS BIGINT), COUNT(*),
                 MAX(network_fee), MAX(detail)
             FROM payout_batches JOIN payouts ON payouts.batch = payout_batches.id
             WHERE coin = $1 GROUP BY payout_batches.id ORDER BY payout_batches.id DESC",
        )
        .bind(coin.to_owned())
        .fetch_all(self.pool().await?)
        .await?;
        let batch = |row: &sqlx::any::AnyRow| {
            Ok(BatchInfo {
                id: row.try_get(0)?,
                state: row.try_get(1)?,
                txid: row.try_get(2)?,
                amount: Amount::new(row.try_get(3)?),
                recipients: row.try_get::<i64, _>(4)? as u64,
                network_fee: Amount::new(row.try_get(5)?),
                detail: row.try_get(6)?,
            })
        };
        rows.iter().map(batch).collect()
    }

    /// How many batches of a coin are in each state.
    pub async fn payout_states(&self, coin: &str) -> Result<BTreeMap<String, u64>, LedgerError> {
        let rows = sqlx::query("SELECT state, COUNT(*) FROM payout_batches WHERE coin = $1 GROUP BY state")
            .bind(coin.to_owned())
            .fetch_all(self.pool().await?)
            .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)? as u64))).collect()
    }
}

/// What a payout takes from its miners, and its network fee from the pool.
fn debits(outputs: &[Output], network_fee: Amount) -> Result<Changes, LedgerError> {
    let mut changes = Changes::default();
    for Output { address, amount } in outputs {
        changes.move_from_to(Account::Miner(address.clone()), Account::Sending, *amount)?;
    }
    changes.move_from_to(Account::Fees, Account::Sending, network_fee)?;
    Ok(changes)
}

/// A batch's row, but for its number.
#[derive(Default)]
struct BatchRow {
    coin: String,
    state: String,
    txid: String,
    raw: String,
    network_fee: i64,
    created_ms: i64,
    detail: String,
}

impl Write<'_> {
    async fn insert_batch(
        &mut self,
        id: i64,
        batch: BatchRow,
        outputs: &[Output],
    ) -> Result<(), LedgerError> {
        sqlx::query(
            "INSERT INTO payout_batches (id, coin, state, txid, raw, network_fee, created_ms, detail)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        )
        .bind(id)
        .bind(batch.coin)
        .bind(batch.state)
        .bind(batch.txid)
        .bind(batch.raw)
        .bind(batch.network_fee)
        .bind(batch.created_ms)
        .bind(batch.detail)
        .execute(&mut *self.transaction)
        .await?;
        for output in outputs {
            sqlx::query("INSERT INTO payouts (batch, miner, amount) VALUES ($1, $2, $3)")
                .bind(id)
                .bind(output.address.clone())
                .bind(output.amount.units())
                .execute(&mut *self.transaction)
                .await?;
        }
        Ok(())
    }

    /// A batch and its recipients.
    async fn batch(&mut self, id: i64) -> Result<(BatchRow, Vec<Output>), LedgerError> {
        let row = sqlx::query(
            "SELECT coin, state, txid, raw, network_fee, created_ms, detail FROM payout_batches WHERE id = $1",
        )
        .bind(id)
        .fetch_one(&mut *self.transaction)
        .await?;
        let batch = BatchRow {
            coin: row.try_get(0)?,
            state: row.try_get(1)?,
            txid: row.try_get(2)?,
            raw: row.try_get(3)?,
            network_fee: row.try_get(4)?,
            created_ms: row.try_get(5)?,
            detail: row.try_get(6)?,
        };
        let rows = sqlx::query("SELECT miner, amount FROM payouts WHERE batch = $1")
            .bind(id)
            .fetch_all(&mut *self.transaction)
            .await?;
        let output = |row: &sqlx::any::AnyRow| {
            Ok(Output { address: row.try_get(0)?, amount: Amount::new(row.try_get(1)?) })
        };
        Ok((batch, rows.iter().map(output).collect::<Result<_, LedgerError>>()?))
    }

    async fn has_payout(&mut self, coin: &str, txid: &str) -> Result<bool, LedgerError> {
        let row = sqlx::query("SELECT COUNT(*) FROM payout_batches WHERE coin = $1 AND txid = $2")
            .bind(coin.to_owned())
            .bind(txid.to_owned())
            .fetch_one(&mut *self.transaction)
            .await?;
        Ok(row.try_get::<i64, _>(0)? > 0)
    }

    /// Books that what a batch took has left the pool, network fee included.
    async fn book_settled(&mut self, coin: &str, batch: i64, time_ms: i64) -> Result<(), LedgerError> {
        let row = sqlx::query(
            "SELECT CAST(SUM(payouts.amount) AS BIGINT), MAX(payout_batches.network_fee)
             FROM payouts JOIN payout_batches ON payout_batches.id = payouts.batch WHERE payouts.batch = $1",
        )
        .bind(batch)
        .fetch_one(&mut *self.transaction)
        .await?;
        let total = Amount::new(row.try_get(0)?).plus(Amount::new(row.try_get(1)?))?;
        let mut changes = Changes::default();
        changes.move_from_to(Account::Sending, Account::Paid, total)?;
        self.book(coin, "settled", &batch.to_string(), time_ms, changes).await?;
        Ok(())
    }

    async fn change_state(
        &mut self,
        batch: i64,
        from: &'static str,
        to: &'static str,
        detail: &str,
    ) -> Result<(), PayoutError> {
        let done =
            sqlx::query("UPDATE payout_batches SET state = $3, detail = $4 WHERE id = $1 AND state = $2")
                .bind(batch)
                .bind(from.to_owned())
                .bind(to.to_owned())
                .bind(detail.to_owned())
                .execute(&mut *self.transaction)
                .await
                .map_err(LedgerError::from)?;
        match done.rows_affected() {
            1 => Ok(()),
            _ => Err(PayoutError::NotInState { batch, expected: from }),
        }
    }
}
