//! Shares from a spool into the ledger, exactly once.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use sqlx::{AssertSqlSafe, Row};

use super::books::{Account, Changes};
use super::{CoinRules, Ledger, LedgerError, Scheme, Write, effort_text, to_i64};
use crate::effort::Effort;
use crate::rewards::pps::{self, Fine};
use crate::spool::{ShareRecord, Stored};

/// What became of a batch of records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Records that were new to the ledger.
    pub applied: u64,
    /// Records that it had consumed before.
    pub repeated: u64,
    /// Sequences that can no longer come, as the node's spool was lost and replaced.
    pub lost: u64,
    /// Blocks among the new records.
    pub blocks: u64,
    /// The sequence that the ledger now expects from the node.
    pub next_sequence: u64,
}

/// A row of share sums, but for its count.
type SumKey<'a> = (&'a str, i64, i64, bool, &'a str, Effort);

/// Whose fraction the fee's is in the table of carries; no miner's name is empty.
const FEES: &str = "";

/// Rows of one INSERT: six values each, well below any bound on parameters.
const ROWS: usize = 128;

impl Ledger {
    /// The sequence expected next from a node; `None` if nothing came from it yet.
    pub async fn position(&self, node: &str) -> Result<Option<u64>, LedgerError> {
        let row = sqlx::query("SELECT next_sequence FROM consumed WHERE node = $1")
            .bind(node.to_owned())
            .fetch_optional(self.pool().await?)
            .await?;
        Ok(row.map(|row| row.try_get::<i64, _>(0)).transpose()?.map(|next| next as u64))
    }

    /// Takes a node's records into the ledger, in one transaction with the position: all of them or none.
    /// Records that were consumed before are left out. `origin` is the first sequence the node's spool ever
    /// held: a jump to it is a new spool after a lost one, any other jump an error. What an empty ledger can no
    /// longer get, because it was consumed and removed under another ledger, is counted as lost too.
    pub async fn apply(
        &self,
        node: &str,
        origin: u64,
        records: &[Stored],
        rules: &HashMap<String, CoinRules>,
    ) -> Result<Applied, LedgerError> {
        let mut write = self.write().await?;
        let mut applied = Applied::default();
        let known = sqlx::query("SELECT next_sequence, records FROM consumed WHERE node = $1")
            .bind(node.to_owned())
            .fetch_optional(&mut *write.transaction)
            .await?;
        let is_known = known.is_some();
        let position = match known {
            Some(row) => row.try_get::<i64, _>(0)? as u64,
            None => records.first().map_or(0, |first| first.sequence),
        };
        let start = records.partition_point(|stored| stored.sequence < position);
        let new = &records[start..];
        (applied.repeated, applied.applied) = (start as u64, new.len() as u64);
        applied.next_sequence = new.last().map_or(position, |last| last.sequence + 1);
        let (Some(first), Some(last)) = (new.first(), new.last()) else { return Ok(applied) };
        // An empty ledger expects everything the spool ever held.
        let expected = if is_known { position } else { origin };
        if first.sequence > expected {
            if is_known && first.sequence != origin {
                return Err(LedgerError::Gap { node: node.to_owned(), expected, offered: first.sequence });
            }
            write.note_gap(node, expected, first.sequence).await?;
            applied.lost = first.sequence - expected;
        }

        let mut sums: BTreeMap<SumKey<'_>, i64> = BTreeMap::new();
        let mut per_share: BTreeMap<&str, BTreeMap<&str, Fine>> = BTreeMap::new();
        let mut rounds: HashMap<&str, i64> = HashMap::new();
        for Stored { sequence: _, share } in new {
            let rule = rules.get(&share.coin).ok_or_else(|| LedgerError::UnknownCoin(share.coin.clone()))?;
            let round = match rounds.get(&*share.coin) {
                Some(round) => *round,
                None => write.round(&share.coin).await?,
            };
            let slice = rule.slice_ms.max(1);
            let slice_ms = to_i64(share.time_ms / slice * slice)?;
            let pays_per_share = rule.scheme.pays_per_share();
            let key = (&*share.coin, round, slice_ms, pays_per_share, &*share.miner, share.credited);
            *sums.entry(key).or_default() += 1;
            if pays_per_share {
                let worth = if rule.scheme == Scheme::Pps { share.subsidy } else { share.block_value };
                let value = pps::value(share.credited, 1, share.network, worth)?;
                let (net, fee) = pps::take_fee(value, rule.fee);
                let values = per_share.entry(&share.coin).or_default();
                for (payee, part) in [(&*share.miner, net), (FEES, fee)] {
                    let sum = values.entry(payee).or_default();
                    *sum = sum.plus(part)?;
                }
            }
            if share.block.is_some() {
                write.insert_block(share, round, rule.scheme).await?;
                applied.blocks += 1;
            }
            rounds.insert(&share.coin, round + i64::from(share.block.is_some()));
        }
        write.add_sums(sums).await?;
        for (coin, round) in rounds {
            write.set_round(coin, round).await?;
        }
        for (coin, values) in per_share {
            // The reference names the records: they are never booked twice.
            let reference = format!("{node} {}..{}", first.sequence, last.sequence);
            write.book_per_share(coin, &reference, &last.share, values).await?;
        }
        sqlx::query(
            "INSERT INTO consumed (node, next_sequence, records) VALUES ($1, $2, $3) ON CONFLICT (node)
             DO UPDATE SET next_sequence = excluded.next_sequence, records = consumed.records + excluded.records",
        )
        .bind(node.to_owned())
        .bind(to_i64(applied.next_sequence)?)
        .bind(to_i64(applied.applied)?)
        .execute(&mut *write.transaction)
        .await?;
        write.commit().await?;
        Ok(applied)
    }

    /// Each miner's shares and effort of a coin as the ledger has summed them up, all rounds together.
    pub async fn efforts(&self, coin: &str) -> Result<BTreeMap<String, (u64, Effort)>, LedgerError> {
        let rows = sqlx::query("SELECT miner, effort, shares FROM share_sums WHERE coin = $1")
            .bind(coin.to_owned())
            .fetch_all(self.pool().await?)
            .await?;
        let mut efforts: BTreeMap<String, (u64, Effort)> = BTreeMap::new();
        for row in rows {
            let (shares, effort) =
                (row.try_get::<i64, _>(2)? as u64, super::effort_from_text(row.try_get(1)?)?);
            let sum = efforts.entry(row.try_get(0)?).or_default();
            *sum = (sum.0 + shares, sum.1.saturating_add(effort.times(shares)));
        }
        Ok(efforts)
    }
}

impl Write<'_> {
    async fn note_gap(&mut self, node: &str, from: u64, to: u64) -> Result<(), LedgerError> {
        sqlx::query("INSERT INTO spool_gaps (node, from_sequence, to_sequence) VALUES ($1, $2, $3)")
            .bind(node.to_owned())
            .bind(to_i64(from)?)
            .bind(to_i64(to)?)
            .execute(&mut *self.transaction)
            .await?;
        Ok(())
    }

    async fn round(&mut self, coin: &str) -> Result<i64, LedgerError> {
        let row = sqlx::query("SELECT round FROM rounds WHERE coin = $1")
            .bind(coin.to_owned())
            .fetch_optional(&mut *self.transaction)
            .await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
    }

    async fn set_round(&mut self, coin: &str, round: i64) -> Result<(), LedgerError> {
        sqlx::query(
            "INSERT INTO rounds (coin, round) VALUES ($1, $2)
             ON CONFLICT (coin) DO UPDATE SET round = excluded.round",
        )
        .bind(coin.to_owned())
        .bind(round)
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    async fn add_sums(&mut self, sums: BTreeMap<SumKey<'_>, i64>) -> Result<(), LedgerError> {
        let rows: Vec<(SumKey<'_>, i64)> = sums.into_iter().collect();
        for rows in rows.chunks(ROWS) {
            let mut sql =
                "INSERT INTO share_sums (coin, round, slice_ms, per_share, miner, effort, shares) VALUES "
                    .to_owned();
            for row in 0..rows.len() {
                let separator = if row == 0 { "" } else { ", " };
                let n = row * 7;
                // Writing to a string cannot fail.
                let _ = write!(
                    sql,
                    "{separator}(${}, ${}, ${}, ${}, ${}, ${}, ${})",
                    n + 1,
                    n + 2,
                    n + 3,
                    n + 4,
                    n + 5,
                    n + 6,
                    n + 7
                );
            }
            sql.push_str(
                " ON CONFLICT (coin, round, slice_ms, per_share, miner, effort)
                 DO UPDATE SET shares = share_sums.shares + excluded.shares",
            );
            // Safe: it holds nothing but numbered places. Only full chunks are worth keeping prepared.
            let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(rows.len() == ROWS);
            for ((coin, round, slice_ms, per_share, miner, effort), shares) in rows {
                query = query
                    .bind((*coin).to_owned())
                    .bind(*round)
                    .bind(*slice_ms)
                    .bind(i64::from(*per_share))
                    .bind((*miner).to_owned())
                    .bind(effort_text(*effort))
                    .bind(*shares);
            }
            query.execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    /// Credits what shares are worth by themselves (PPS, FPPS); fractions of a unit are carried.
    async fn book_per_share(
        &mut self,
        coin: &str,
        reference: &str,
        last: &ShareRecord,
        values: BTreeMap<&str, Fine>,
    ) -> Result<(), LedgerError> {
        let mut changes = Changes::default();
        for (payee, value) in values {
            let carry = Fine::from_fraction(self.carry(coin, payee).await?);
            let (units, carry) = value.plus(carry)?.split()?;
            self.set_carry(coin, payee, carry).await?;
            let account = if payee == FEES { Account::Fees } else { Account::Miner(payee.to_owned()) };
            changes.move_from_to(Account::Reserve, account, units)?;
        }
        self.book(coin, "shares", reference, to_i64(last.time_ms)?, changes).await?;
        Ok(())
    }

    async fn carry(&mut self, coin: &str, miner: &str) -> Result<u64, LedgerError> {
        let row = sqlx::query("SELECT fraction FROM carries WHERE coin = $1 AND miner = $2")
            .bind(coin.to_owned())
            .bind(miner.to_owned())
            .fetch_optional(&mut *self.transaction)
            .await?;
        let Some(row) = row else { return Ok(0) };
        let text: String = row.try_get(0)?;
        u64::from_str_radix(&text, 16).map_err(|_| LedgerError::BadRow {
            table: "carries",
            value: text,
            expected: "16 hex digits",
        })
    }

    async fn set_carry(&mut self, coin: &str, miner: &str, carry: u64) -> Result<(), LedgerError> {
        sqlx::query(
            "INSERT INTO carries (coin, miner, fraction) VALUES ($1, $2, $3)
             ON CONFLICT (coin, miner) DO UPDATE SET fraction = excluded.fraction",
        )
        .bind(coin.to_owned())
        .bind(miner.to_owned())
        .bind(format!("{carry:016x}"))
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }
}
