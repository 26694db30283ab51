//! Payouts of a ledger that is rebuilt: no spool knows them. They come from the ledger in use or, if that is lost,
//! from the wallets that made them.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row;

use super::{BatchRow, Output, PayoutError, PayoutRules, debits};
use crate::ledger::{Ledger, LedgerError, to_i64};
use crate::money::Amount;

/// Everything that is booked for a payout, in the order in which it comes.
const REASONS: [&str; 3] = ["payout", "settled", "given back"];

/// A transaction that a wallet made and that is not known to have failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its id on the network.
    pub txid: String,
    /// Whom it paid, change left out.
    pub outputs: Vec<Output>,
    /// What the network took.
    pub network_fee: Amount,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// In how many blocks it is, counted from its own to the tip; 0 while it waits.
    pub confirmations: u64,
}

impl Ledger {
    /// Whether nothing was ever written to it.
    pub async fn is_empty(&self) -> Result<bool, LedgerError> {
        let row = sqlx::query("SELECT last_id, (SELECT COUNT(*) FROM consumed) FROM guard WHERE id = 1")
            .fetch_one(self.pool().await?)
            .await?;
        Ok((row.try_get::<i64, _>(0)?, row.try_get::<i64, _>(1)?) == (0, 0))
    }

    /// Takes over all payouts of another ledger, with their numbers and bookings, in one transaction; gives how many there
    /// are. This ledger must be empty ([`Ledger::is_empty`]): miners are below zero until their shares are replayed.
    ///
    /// # Errors
    /// If either ledger fails.
    pub async fn take_payouts(&self, from: &Ledger) -> Result<u64, LedgerError> {
        // A writing transaction that writes nothing: the other ledger stands still meanwhile.
        let mut source = from.write().await?;
        let mut write = self.write().await?;
        let row =
            sqlx::query("SELECT last_id FROM guard WHERE id = 1").fetch_one(&mut *source.transaction).await?;
        // The numbers of batches stay what operators know them by, and are never given again.
        sqlx::query("UPDATE guard SET last_id = $1 WHERE id = 1")
            .bind(row.try_get::<i64, _>(0)?)
            .execute(&mut *write.transaction)
            .await?;
        let ids = sqlx::query("SELECT id FROM payout_batches ORDER BY id")
            .fetch_all(&mut *source.transaction)
            .await?;
        for row in &ids {
            let id: i64 = row.try_get(0)?;
            let (batch, outputs) = source.batch(id).await?;
            for reason in REASONS {
                let booking = sqlx::query(
                    "SELECT id, time_ms FROM bookings WHERE coin = $1 AND reason = $2 AND reference = $3",
                )
                .bind(batch.coin.clone())
                .bind(reason)
                .bind(id.to_string())
                .fetch_optional(&mut *source.transaction)
                .await?;
                let Some(booking) = booking else { continue };
                let changes = source.changes(booking.try_get(0)?).await?;
                write.book(&batch.coin, reason, &id.to_string(), booking.try_get(1)?, changes).await?;
            }
            write.insert_batch(id, batch, &outputs).await?;
        }
        write.commit().await?;
        Ok(ids.len() as u64)
    }

    /// Books what a wallet has sent to miners of this coin as payouts that are done; gives how many. Transactions that pay
    /// no miner, and those that the ledger has, are left out.
    ///
    /// # Errors
    /// [`PayoutError::Unconfirmed`] if a transaction has too few confirmations yet, and if the ledger fails.
    /// Nothing was booked then.
    pub async fn book_sent(&self, rules: &PayoutRules, sent: Vec<Sent>) -> Result<u64, PayoutError> {
        let miners: BTreeSet<String> = self.share_counts(&rules.coin).await?.into_keys().collect();
        let mut write = self.write().await?;
        let mut booked = 0;
        for Sent { txid, outputs, network_fee, time_ms, confirmations } in sent {
            let mut paid: BTreeMap<String, Amount> = BTreeMap::new();
            for Output { address, amount } in outputs {
                if miners.contains(&address) {
                    let sum = paid.entry(address).or_default();
                    *sum = sum.plus(amount).map_err(LedgerError::from)?;
                }
            }
            if paid.is_empty() || write.has_payout(&rules.coin, &txid).await? {
                continue;
            }
            if confirmations < rules.confirmations {
                return Err(PayoutError::Unconfirmed { txid, confirmations, expected: rules.confirmations });
            }
            let outputs: Vec<Output> =
                paid.into_iter().map(|(address, amount)| Output { address, amount }).collect();
            let id = write.next_id().await?;
            let changes = debits(&outputs, network_fee)?;
            let time_ms = to_i64(time_ms)?;
            write.book(&rules.coin, "payout", &id.to_string(), time_ms, changes).await?;
            let batch = BatchRow {
                coin: rules.coin.clone(),
                state: "confirmed".to_owned(),
                txid,
                raw: String::new(),
                network_fee: network_fee.units(),
                created_ms: time_ms,
                detail: "read from the wallet".to_owned(),
            };
            write.insert_batch(id, batch, &outputs).await?;
            write.book_settled(&rules.coin, id, time_ms).await?;
            booked += 1;
        }
        write.commit().await?;
        Ok(booked)
    }
}
