//! Blocks: what the chain nodes said, what the chain decides, and the reward that follows.

use std::collections::BTreeMap;
use std::future::Future;

use otedama_core::Hash256;
use sqlx::Row;
use sqlx::any::AnyRow;

use super::books::{Account, Changes};
use super::{CoinRules, Ledger, LedgerError, Scheme, Write, effort_from_text, effort_text, to_i64};
use crate::effort::Effort;
use crate::money::Amount;
use crate::rewards::{self, Slice, Split, Window};
use crate::spool::ShareRecord;

/// What a chain node said to a submitted block. It is evidence, not a decision: nodes that answer "inconclusive",
/// or nothing, or "rejected" to a block they already have, have cost pools good blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is a block.
    Accepted,
    /// It is none.
    Rejected,
    /// No answer, a lost answer, or one that says neither.
    Unknown,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Rejected => "rejected",
            Verdict::Unknown => "unknown",
        }
    }
}

/// What is known of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockState {
    /// Found; no chain node has answered yet.
    Submitted,
    /// No chain node has accepted it; the chain will decide.
    Unknown,
    /// A chain node took it, or it was seen on the chain.
    Accepted,
    /// Deep enough on the chain: its reward is booked.
    Confirmed,
    /// Another block has its place for good.
    Orphaned,
}

impl BlockState {
    const ALL: [BlockState; 5] = [
        BlockState::Submitted,
        BlockState::Unknown,
        BlockState::Accepted,
        BlockState::Confirmed,
        BlockState::Orphaned,
    ];

    fn text(self) -> &'static str {
        match self {
            BlockState::Submitted => "submitted",
            BlockState::Unknown => "unknown",
            BlockState::Accepted => "accepted",
            BlockState::Confirmed => "confirmed",
            BlockState::Orphaned => "orphaned",
        }
    }
}

impl std::fmt::Display for BlockState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.text())
    }
}

/// A block this pool found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Of which coin.
    pub coin: String,
    /// Its hash, as the share record had it.
    pub hash: Hash256,
    /// Its height.
    pub height: u64,
    /// Who found it.
    pub finder: String,
    /// When, in milliseconds since 1970.
    pub found_ms: u64,
    /// What it pays.
    pub reward: Amount,
    /// What is known of it.
    pub state: BlockState,
    /// How deep it was when last looked at.
    pub confirmations: u64,
    round: i64,
    network: Effort,
    scheme: Scheme,
    credited_by: i64,
}

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// On the best chain, as the last of so many blocks (1: it is the tip).
    OnChain {
        /// How many.
        confirmations: u64,
        /// What it really paid the pool, if the node can tell.
        reward: Option<Amount>,
    },
    /// Another block has its height on the best chain, as the last of so many.
    Replaced {
        /// How many.
        confirmations: u64,
    },
    /// The best chain has not reached its height.
    NotYet,
}

/// A chain node that can be asked where a block is.
pub trait Chain: Send + Sync {
    /// Looks the block up on the best chain.
    fn look_up(&self, block: &Block) -> impl Future<Output = Result<Lookup, ChainError>> + Send;
}

/// A chain node did not answer; nothing is concluded from that.
#[derive(Debug, thiserror::Error)]
#[error("chain node: {0}")]
pub struct ChainError(pub String);

const COLUMNS: &str = "coin, hash, height, finder, found_ms, reward, state, confirmations, round, network_effort, \
     scheme, credited_by";

impl Ledger {
    /// Notes what a chain node said. May come before the block's share has been consumed.
    pub async fn record_verdict(
        &self,
        coin: &str,
        hash: &Hash256,
        chain_node: &str,
        verdict: Verdict,
        detail: &str,
        now_ms: u64,
    ) -> Result<(), LedgerError> {
        let mut write = self.write().await?;
        let id = write.next_id().await?;
        sqlx::query(
            "INSERT INTO submissions (id, coin, hash, chain_node, verdict, detail, time_ms)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(id)
        .bind(coin.to_owned())
        .bind(hash.to_raw_hex())
        .bind(chain_node.to_owned())
        .bind(verdict.text())
        .bind(detail.to_owned())
        .bind(to_i64(now_ms)?)
        .execute(&mut *write.transaction)
        .await?;
        let state = write.state_by_verdicts(coin, hash).await?;
        sqlx::query(
            "UPDATE blocks SET state = $3
             WHERE coin = $1 AND hash = $2 AND state IN ('submitted', 'unknown', 'accepted')",
        )
        .bind(coin.to_owned())
        .bind(hash.to_raw_hex())
        .bind(state.text())
        .execute(&mut *write.transaction)
        .await?;
        write.commit().await
    }

    /// A coin's blocks, the latest first.
    pub async fn blocks(&self, coin: &str) -> Result<Vec<Block>, LedgerError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM blocks WHERE coin = $1 ORDER BY height DESC, hash"
        ));
        let rows = sqlx::query(sql).bind(coin.to_owned()).fetch_all(self.pool().await?).await?;
        rows.iter().map(block_from).collect()
    }

    /// The blocks that the chain is to be asked about: all but those that are decided, and so deep that they stay it.
    async fn unsettled(&self, rules: &CoinRules) -> Result<Vec<Block>, LedgerError> {
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM blocks
             WHERE coin = $1 AND NOT (state IN ($2, $3) AND confirmations >= $4) ORDER BY height DESC, hash"
        ));
        let rows = sqlx::query(sql)
            .bind(rules.coin.clone())
            .bind(BlockState::Confirmed.text())
            .bind(BlockState::Orphaned.text())
            .bind(to_i64(rules.watched.max(rules.maturity))?)
            .fetch_all(self.pool().await?)
            .await?;
        rows.iter().map(block_from).collect()
    }

    /// How many shares each miner of a coin has handed in.
    pub async fn share_counts(&self, coin: &str) -> Result<BTreeMap<String, u64>, LedgerError> {
        let rows = sqlx::query(
            "SELECT miner, CAST(SUM(shares) AS BIGINT) FROM share_sums WHERE coin = $1 GROUP BY miner",
        )
        .bind(coin.to_owned())
        .fetch_all(self.pool().await?)
        .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<i64, _>(1)? as u64))).collect()
    }

    /// Asks the chain about every block that is not settled, books the rewards of those that are deep enough and
    /// takes back what another chain took back. Gives how many blocks changed their state. A block about which
    /// the chain does not answer stays as it is; the first such error is returned once all others are done.
    pub async fn follow(
        &self,
        rules: &CoinRules,
        chain: &impl Chain,
        now_ms: u64,
    ) -> Result<usize, FollowError> {
        let (mut changed, mut silent) = (0, None);
        for block in self.unsettled(rules).await? {
            match chain.look_up(&block).await {
                Ok(lookup) => changed += usize::from(self.settle(rules, &block, lookup, now_ms).await?),
                Err(error) => silent = silent.or(Some(error)),
            }
        }
        match silent {
            Some(error) => Err(error.into()),
            None => Ok(changed),
        }
    }

    /// Draws the conclusion from where a block is; whether its state changed.
    async fn settle(
        &self,
        rules: &CoinRules,
        seen: &Block,
        lookup: Lookup,
        now_ms: u64,
    ) -> Result<bool, LedgerError> {
        let mut write = self.write().await?;
        // What was read before may have been changed meanwhile by another process.
        let mut block = write.block(&seen.coin, &seen.hash).await?;
        let before = block.state;
        match lookup {
            Lookup::OnChain { confirmations, reward } => {
                block.confirmations = confirmations;
                if let Some(reward) = reward.filter(|reward| *reward != block.reward) {
                    block.reward = reward;
                    // A block that became an uncle, or an uncle a block, was booked with another amount.
                    write.take_back(&mut block, now_ms).await?;
                }
                if block.credited_by == 0 && confirmations >= rules.maturity {
                    block.credited_by = write.book_reward(&block, rules, now_ms).await?;
                    block.state = BlockState::Confirmed;
                } else if block.credited_by == 0 {
                    block.state = BlockState::Accepted;
                }
            }
            Lookup::Replaced { confirmations } => {
                // As long as the other chain is short, it may yet be overtaken.
                block.confirmations = confirmations;
                if confirmations >= rules.maturity {
                    write.take_back(&mut block, now_ms).await?;
                    block.state = BlockState::Orphaned;
                } else if block.credited_by == 0 && block.state != BlockState::Orphaned {
                    block.state = BlockState::Unknown;
                }
            }
            Lookup::NotYet => {}
        }
        write.update_block(&block).await?;
        write.commit().await?;
        Ok(block.state != before)
    }
}

/// Why blocks could not be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FollowError {
    /// The chain did not answer about a block.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The ledger failed.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Write<'_> {
    pub(super) async fn insert_block(
        &mut self,
        share: &ShareRecord,
        round: i64,
        scheme: Scheme,
    ) -> Result<(), LedgerError> {
        let Some(hash) = &share.block else { return Ok(()) };
        let state = self.state_by_verdicts(&share.coin, hash).await?;
        // The same block found twice (a share replayed to two nodes) is one block.
        sqlx::query(
            "INSERT INTO blocks (coin, hash, height, finder, found_ms, round, reward, network_effort, scheme, state,
                 confirmations, credited_by)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, 0) ON CONFLICT (coin, hash) DO NOTHING",
        )
        .bind(share.coin.clone())
        .bind(hash.to_raw_hex())
        .bind(to_i64(share.height)?)
        .bind(share.miner.clone())
        .bind(to_i64(share.time_ms)?)
        .bind(round)
        .bind(share.block_value.units())
        .bind(effort_text(share.network))
        .bind(scheme.to_text())
        .bind(state.text())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    async fn state_by_verdicts(&mut self, coin: &str, hash: &Hash256) -> Result<BlockState, LedgerError> {
        let rows = sqlx::query("SELECT DISTINCT verdict FROM submissions WHERE coin = $1 AND hash = $2")
            .bind(coin.to_owned())
            .bind(hash.to_raw_hex())
            .fetch_all(&mut *self.transaction)
            .await?;
        let verdicts: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        Ok(match &verdicts[..] {
            [] => BlockState::Submitted,
            verdicts if verdicts.iter().any(|verdict| verdict == Verdict::Accepted.text()) => {
                BlockState::Accepted
            }
            _ => BlockState::Unknown,
        })
    }

    async fn block(&mut self, coin: &str, hash: &Hash256) -> Result<Block, LedgerError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM blocks WHERE coin = $1 AND hash = $2"));
        let row = sqlx::query(sql)
            .bind(coin.to_owned())
            .bind(hash.to_raw_hex())
            .fetch_one(&mut *self.transaction)
            .await?;
        block_from(&row)
    }

    async fn update_block(&mut self, block: &Block) -> Result<(), LedgerError> {
        sqlx::query(
            "UPDATE blocks SET state = $3, confirmations = $4, credited_by = $5, reward = $6
             WHERE coin = $1 AND hash = $2",
        )
        .bind(block.coin.clone())
        .bind(block.hash.to_raw_hex())
        .bind(block.state.text())
        .bind(to_i64(block.confirmations)?)
        .bind(block.credited_by)
        .bind(block.reward.units())
        .execute(&mut *self.transaction)
        .await?;
        Ok(())
    }

    /// Books a block's reward by the scheme it was found under; gives the booking.
    async fn book_reward(
        &mut self,
        block: &Block,
        rules: &CoinRules,
        now_ms: u64,
    ) -> Result<i64, LedgerError> {
        let mut changes = Changes::default();
        if block.scheme.pays_per_share() {
            changes.move_from_to(Account::Coinbase, Account::Reserve, block.reward)?;
        } else {
            let split = self.split(block, rules).await?;
            changes.move_from_to(Account::Coinbase, Account::Fees, split.fee)?;
            for (miner, amount) in split.credits {
                changes.move_from_to(Account::Coinbase, Account::Miner(miner), amount)?;
            }
        }
        let reference = self.reference(block).await?;
        self.book(&block.coin, "block", &reference, to_i64(now_ms)?, changes).await
    }

    /// Books the opposite of a block's reward, if it was booked.
    async fn take_back(&mut self, block: &mut Block, now_ms: u64) -> Result<(), LedgerError> {
        if block.credited_by != 0 {
            let reference = block.credited_by.to_string();
            self.reverse(block.credited_by, &block.coin, "orphan", &reference, to_i64(now_ms)?).await?;
            block.credited_by = 0;
        }
        Ok(())
    }

    /// A block is booked again only after it was taken back: the number of times is part of the reference.
    async fn reference(&mut self, block: &Block) -> Result<String, LedgerError> {
        let hash = block.hash.to_raw_hex();
        let row = sqlx::query(
            "SELECT COUNT(*) FROM bookings AS taken JOIN bookings AS booked
                 ON taken.reference = CAST(booked.id AS TEXT) AND taken.coin = booked.coin
             WHERE taken.coin = $1 AND taken.reason = 'orphan' AND booked.reason = 'block'
                 AND booked.reference LIKE $2",
        )
        .bind(block.coin.clone())
        .bind(format!("{hash}%"))
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok(match row.try_get::<i64, _>(0)? {
            0 => hash,
            times => format!("{hash} again {times}"),
        })
    }

    async fn split(&mut self, block: &Block, rules: &CoinRules) -> Result<Split<String>, LedgerError> {
        let efforts = match block.scheme {
            Scheme::Pplns { block_thousandths, max_age_ms } => {
                let window =
                    Window { age_ms: max_age_ms, ..Window::of_blocks(block.network, block_thousandths) };
                self.window(block, window, 0).await?
            }
            Scheme::Prop => self.window(block, Window { effort: None, age_ms: None }, block.round).await?,
            Scheme::Solo | Scheme::Pps | Scheme::Fpps => {
                return Ok(rewards::solo(block.reward, rules.fee, block.finder.clone()));
            }
        };
        Ok(rewards::proportional(block.reward, rules.fee, &efforts))
    }

    /// Each miner's effort within a window of slices from this round up to the block's, newest first. Shares
    /// that were paid by themselves do not count again.
    async fn window(
        &mut self,
        block: &Block,
        window: Window,
        first_round: i64,
    ) -> Result<BTreeMap<String, Effort>, LedgerError> {
        // A whole round is found by the key, the latest slices of all rounds by the index on time. A plus keeps a database
        // from choosing the other one: neither knows how many rounds and slices there are.
        let slices = sqlx::query(if window.age_ms.is_none() {
            "SELECT round, slice_ms FROM share_sums
             WHERE coin = $1 AND round <= $2 AND round >= $3 AND +slice_ms >= $4 AND +per_share = 0
             GROUP BY round, slice_ms ORDER BY round DESC, slice_ms DESC"
        } else {
            "SELECT round, slice_ms FROM share_sums
             WHERE coin = $1 AND +round <= $2 AND +round >= $3 AND slice_ms >= $4 AND per_share = 0
             GROUP BY round, slice_ms ORDER BY round DESC, slice_ms DESC"
        })
        .bind(block.coin.clone())
        .bind(block.round)
        .bind(first_round)
        .bind(to_i64(window.oldest_ms(block.found_ms))?)
        .fetch_all(&mut *self.transaction)
        .await?;
        let (mut wanted, mut seen) = (Vec::new(), Effort::ZERO);
        for slice in slices {
            let (round, slice_ms): (i64, i64) = (slice.try_get(0)?, slice.try_get(1)?);
            let slice = self.slice(&block.coin, round, slice_ms).await?;
            seen = seen.saturating_add(slice.efforts.values().copied().sum());
            wanted.push(slice);
            if window.effort.is_some_and(|limit| seen >= limit) {
                break;
            }
        }
        Ok(rewards::window(window, block.found_ms, wanted))
    }

    async fn slice(&mut self, coin: &str, round: i64, slice_ms: i64) -> Result<Slice<String>, LedgerError> {
        let rows = sqlx::query(
            "SELECT miner, effort, shares FROM share_sums
             WHERE coin = $1 AND round = $2 AND slice_ms = $3 AND per_share = 0",
        )
        .bind(coin.to_owned())
        .bind(round)
        .bind(slice_ms)
        .fetch_all(&mut *self.transaction)
        .await?;
        let mut efforts: BTreeMap<String, Effort> = BTreeMap::new();
        for row in rows {
            let effort = effort_from_text(row.try_get(1)?)?.times(row.try_get::<i64, _>(2)? as u64);
            let sum = efforts.entry(row.try_get(0)?).or_default();
            *sum = sum.saturating_add(effort);
        }
        Ok(Slice { start_ms: slice_ms as u64, efforts })
    }
}

fn block_from(row: &AnyRow) -> Result<Block, LedgerError> {
    let text = |column: usize| row.try_get::<String, _>(column);
    let bad = |value, expected| LedgerError::BadRow { table: "blocks", value, expected };
    let (hash, state, scheme) = (text(1)?, text(6)?, text(10)?);
    let known = BlockState::ALL.into_iter().find(|known| known.text() == state);
    Ok(Block {
        coin: text(0)?,
        hash: Hash256::from_raw_hex(&hash).ok_or_else(|| bad(hash, "64 hex digits"))?,
        height: row.try_get::<i64, _>(2)? as u64,
        finder: text(3)?,
        found_ms: row.try_get::<i64, _>(4)? as u64,
        reward: Amount::new(row.try_get(5)?),
        state: known.ok_or_else(|| bad(state, "a block's state"))?,
        confirmations: row.try_get::<i64, _>(7)? as u64,
        round: row.try_get(8)?,
        network: effort_from_text(row.try_get(9)?)?,
        scheme: Scheme::from_text(&scheme).ok_or_else(|| bad(scheme, "a reward scheme"))?,
        credited_by: row.try_get(11)?,
    })
}
