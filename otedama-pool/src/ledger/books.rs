//! Bookings and balances.

use std::collections::BTreeMap;
use std::fmt;

use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Ledger, LedgerError, Write};
use crate::money::Amount;

/// An account of a coin.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// Where blocks' rewards come from.
    Coinbase,
    /// What a miner is owed.
    Miner(String),
    /// What the pool has earned.
    Fees,
    /// What carries the luck under pay per share.
    Reserve,
    /// Payouts under way.
    Sending,
    /// What has left the pool.
    Paid,
}

impl Account {
    pub(super) fn from_text(text: &str) -> Result<Account, LedgerError> {
        Ok(match text {
            "coinbase" => Account::Coinbase,
            "fees" => Account::Fees,
            "reserve" => Account::Reserve,
            "sending" => Account::Sending,
            "paid" => Account::Paid,
            _ => match text.strip_prefix("miner:") {
                Some(miner) => Account::Miner(miner.to_owned()),
                None => {
                    let expected = "the name of an account";
                    return Err(LedgerError::BadRow { table: "entries", value: text.to_owned(), expected });
                }
            },
        })
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Account::Coinbase => f.write_str("coinbase"),
            Account::Miner(miner) => write!(f, "miner:{miner}"),
            Account::Fees => f.write_str("fees"),
            Account::Reserve => f.write_str("reserve"),
            Account::Sending => f.write_str("sending"),
            Account::Paid => f.write_str("paid"),
        }
    }
}

/// The changes of one booking, by account.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(BTreeMap<Account, Amount>);

impl Changes {
    /// Adds to an account's change.
    pub(crate) fn add(&mut self, account: Account, amount: Amount) -> Result<(), LedgerError> {
        let sum = self.0.entry(account).or_default();
        *sum = sum.plus(amount)?;
        Ok(())
    }

    /// Takes from one account what another gets.
    pub(crate) fn move_from_to(
        &mut self,
        from: Account,
        to: Account,
        amount: Amount,
    ) -> Result<(), LedgerError> {
        self.add(from, amount.negated()?)?;
        self.add(to, amount)
    }
}

/// A balance that is not the sum of its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Of which coin.
    pub coin: String,
    /// Which account.
    pub account: Account,
    /// What the table of balances says.
    pub kept: Amount,
    /// What the entries sum to.
    pub derived: Amount,
}

impl Write<'_> {
    /// Books changes for a reason that must be new, and keeps the balances; gives the booking's number.
    pub(crate) async fn book(
        &mut self,
        coin: &str,
        reason: &'static str,
        reference: &str,
        time_ms: i64,
        changes: Changes,
    ) -> Result<i64, LedgerError> {
        let sum = Amount::sum(changes.0.values().copied())?;
        if sum != Amount::ZERO {
            return Err(LedgerError::Unbalanced { reason, reference: reference.to_owned(), sum });
        }
        let id = self.next_id().await?;
        sqlx::query(
            "INSERT INTO bookings (id, coin, reason, reference, time_ms) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(id)
        .bind(coin.to_owned())
        .bind(reason.to_owned())
        .bind(reference.to_owned())
        .bind(time_ms)
        .execute(&mut *self.transaction)
        .await?;
        for (account, amount) in changes.0 {
            if amount == Amount::ZERO {
                continue;
            }
            let account = account.to_string();
            sqlx::query("INSERT INTO entries (booking, account, amount) VALUES ($1, $2, $3)")
                .bind(id)
                .bind(account.clone())
                .bind(amount.units())
                .execute(&mut *self.transaction)
                .await?;
            // Both databases fail on a sum beyond 64 bits: PostgreSQL by itself, SQLite by the strict column.
            sqlx::query(
                "INSERT INTO balances (coin, account, amount) VALUES ($1, $2, $3)
                 ON CONFLICT (coin, account) DO UPDATE SET amount = balances.amount + excluded.amount",
            )
            .bind(coin.to_owned())
            .bind(account)
            .bind(amount.units())
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(id)
    }

    /// Books the opposite of a booking.
    pub(crate) async fn reverse(
        &mut self,
        booking: i64,
        coin: &str,
        reason: &'static str,
        reference: &str,
        time_ms: i64,
    ) -> Result<i64, LedgerError> {
        let mut opposite = Changes::default();
        for (account, amount) in self.changes(booking).await?.0 {
            opposite.add(account, amount.negated()?)?;
        }
        self.book(coin, reason, reference, time_ms, opposite).await
    }

    /// What a booking changed.
    pub(crate) async fn changes(&mut self, booking: i64) -> Result<Changes, LedgerError> {
        let rows = sqlx::query("SELECT account, amount FROM entries WHERE booking = $1")
            .bind(booking)
            .fetch_all(&mut *self.transaction)
            .await?;
        let mut changes = Changes::default();
        for row in rows {
            changes.add(Account::from_text(row.try_get(0)?)?, Amount::new(row.try_get(1)?))?;
        }
        Ok(changes)
    }

    pub(crate) async fn balance(&mut self, coin: &str, account: &Account) -> Result<Amount, LedgerError> {
        let row = sqlx::query("SELECT amount FROM balances WHERE coin = $1 AND account = $2")
            .bind(coin.to_owned())
            .bind(account.to_string())
            .fetch_optional(&mut *self.transaction)
            .await?;
        Ok(Amount::new(row.map(|row| row.try_get(0)).transpose()?.unwrap_or(0)))
    }
}

impl Ledger {
    /// All balances of a coin, as kept.
    pub async fn balances(&self, coin: &str) -> Result<BTreeMap<Account, Amount>, LedgerError> {
        let rows = sqlx::query("SELECT account, amount FROM balances WHERE coin = $1")
            .bind(coin.to_owned())
            .fetch_all(self.pool().await?)
            .await?;
        rows.iter().map(account_and_amount).collect()
    }

    /// What shares and blocks have brought each account, payouts left out.
    pub async fn earned(&self, coin: &str) -> Result<BTreeMap<Account, Amount>, LedgerError> {
        let rows = sqlx::query(
            "SELECT entries.account, CAST(SUM(entries.amount) AS BIGINT)
             FROM entries JOIN bookings ON bookings.id = entries.booking
             WHERE bookings.coin = $1 AND bookings.reason IN ('shares', 'block', 'orphan') GROUP BY entries.account",
        )
        .bind(coin.to_owned())
        .fetch_all(self.pool().await?)
        .await?;
        rows.iter().map(account_and_amount).collect()
    }

    /// Sums up all entries and names every balance that says something else, and every booking that does not
    /// sum to zero (as coin `(booking N)`). Empty: the books are right. With `repair`, the balances are set to
    /// what the entries say, in the same transaction.
    pub async fn check_balances(&self, repair: bool) -> Result<Vec<Difference>, LedgerError> {
        let mut write = self.write().await?;
        let mut sums: BTreeMap<(String, String), (i64, i64)> = BTreeMap::new();
        let derived = sqlx::query(
            "SELECT bookings.coin, entries.account, CAST(SUM(entries.amount) AS BIGINT)
             FROM entries JOIN bookings ON bookings.id = entries.booking GROUP BY bookings.coin, entries.account",
        );
        for row in derived.fetch_all(&mut *write.transaction).await? {
            sums.entry((row.try_get(0)?, row.try_get(1)?)).or_default().1 = row.try_get(2)?;
        }
        let kept = sqlx::query("SELECT coin, account, amount FROM balances");
        for row in kept.fetch_all(&mut *write.transaction).await? {
            sums.entry((row.try_get(0)?, row.try_get(1)?)).or_default().0 = row.try_get(2)?;
        }
        let mut differences = Vec::new();
        for ((coin, account), (kept, derived)) in sums {
            if kept == derived {
                continue;
            }
            if repair {
                sqlx::query(
                    "INSERT INTO balances (coin, account, amount) VALUES ($1, $2, $3)
                     ON CONFLICT (coin, account) DO UPDATE SET amount = excluded.amount",
                )
                .bind(coin.clone())
                .bind(account.clone())
                .bind(derived)
                .execute(&mut *write.transaction)
                .await?;
            }
            let (kept, derived) = (Amount::new(kept), Amount::new(derived));
            differences.push(Difference { coin, account: Account::from_text(&account)?, kept, derived });
        }
        let unbalanced = sqlx::query(
            "SELECT booking, CAST(SUM(amount) AS BIGINT) FROM entries GROUP BY booking HAVING SUM(amount) <> 0",
        );
        for row in unbalanced.fetch_all(&mut *write.transaction).await? {
            let booking: i64 = row.try_get(0)?;
            differences.push(Difference {
                coin: format!("(booking {booking})"),
                account: Account::Coinbase,
                kept: Amount::ZERO,
                derived: Amount::new(row.try_get(1)?),
            });
        }
        write.commit().await?;
        Ok(differences)
    }
}

fn account_and_amount(row: &AnyRow) -> Result<(Account, Amount), LedgerError> {
    Ok((Account::from_text(row.try_get(0)?)?, Amount::new(row.try_get(1)?)))
}
