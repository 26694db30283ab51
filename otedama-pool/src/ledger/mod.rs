//! The ledger: who is owed what, in SQLite or PostgreSQL.
//!
//! Double entry: a booking's entries sum to zero, and no reason is booked twice (a unique key says so, not
//! only the code). Accounts of a coin:
//!
//! | account | its balance |
//! | --- | --- |
//! | `coinbase` | minus everything blocks have paid |
//! | `miner:NAME` | what that miner is owed; below zero after a block that was already paid out is reversed |
//! | `fees` | what the pool has earned |
//! | `reserve` | under pay per share: blocks' rewards less shares' credits |
//! | `sending` | payouts that are signed and not yet confirmed |
//! | `paid` | what has left the pool, network fees included |
//!
//! So at all times credited = owed + sending + paid + fees + reserve, where credited is minus `coinbase`.
//!
//! Every writing transaction first changes the one row of `guard`: writers come one after another on either
//! database, and none works on what another is about to change.

mod apply;
mod blocks;
pub(crate) mod books;
mod consumer;

use std::borrow::Cow;
use std::io;
use std::path::{self, Path};
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Any, AnyConnection, AnyPool, ConnectOptions, Connection, Executor, Row, SqlSafeStr, Transaction};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::effort::Effort;
use crate::money::{Amount, Overflow, Ppm};

pub use apply::Applied;
pub use blocks::{Block, BlockState, Chain, ChainError, FollowError, Lookup, Verdict};
pub use books::{Account, Difference};
pub use consumer::{Consumer, ConsumerError, Contact, Progress};

/// How rewards are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The last shares before a block, up to so many thousandths of a block's effort, and no older than that.
    Pplns {
        /// 2000 is twice a block's effort.
        block_thousandths: u64,
        /// Shares older than this many milliseconds do not count.
        max_age_ms: Option<u64>,
    },
    /// The shares of the block's round.
    Prop,
    /// All to the finder.
    Solo,
    /// Each share's part of the subsidy.
    Pps,
    /// Each share's part of the block's whole value, fees included.
    Fpps,
}

impl Scheme {
    fn pays_per_share(self) -> bool {
        matches!(self, Scheme::Pps | Scheme::Fpps)
    }

    /// As kept with each block, so that a later change of the rules does not touch blocks already found.
    fn to_text(self) -> String {
        match self {
            Scheme::Pplns { block_thousandths, max_age_ms: None } => format!("pplns {block_thousandths}"),
            Scheme::Pplns { block_thousandths, max_age_ms: Some(age) } => {
                format!("pplns {block_thousandths} {age}")
            }
            Scheme::Prop => "prop".to_owned(),
            Scheme::Solo => "solo".to_owned(),
            Scheme::Pps => "pps".to_owned(),
            Scheme::Fpps => "fpps".to_owned(),
        }
    }

    fn from_text(text: &str) -> Option<Scheme> {
        let mut words = text.split(' ');
        Some(match (words.next()?, words.next(), words.next()) {
            ("pplns", Some(thousandths), age) => Scheme::Pplns {
                block_thousandths: thousandths.parse().ok()?,
                max_age_ms: age.map(str::parse).transpose().ok()?,
            },
            ("prop", None, None) => Scheme::Prop,
            ("solo", None, None) => Scheme::Solo,
            ("pps", None, None) => Scheme::Pps,
            ("fpps", None, None) => Scheme::Fpps,
            _ => return None,
        })
    }
}

/// A coin's rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoinRules {
    /// The coin's name, as in its share records.
    pub coin: String,
    /// How rewards are divided.
    pub scheme: Scheme,
    /// The pool's part.
    pub fee: Ppm,
    /// After how many confirmations a block's reward is booked (Bitcoin's family 100, Monero 60).
    pub maturity: u64,
    /// Up to how many confirmations a booked block is still watched for a reorganisation; at least `maturity`.
    pub watched: u64,
    /// How much time one row of share sums covers, in milliseconds; at least 1.
    pub slice_ms: u64,
}

/// Why the ledger could not do what was asked. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The database failed or could not be reached.
    #[error("ledger: {0}")]
    Database(#[from] sqlx::Error),
    /// The URL names no database that a ledger can be in.
    #[error("ledger: {0}: expected sqlite://PATH{or_postgres}", or_postgres = OR_POSTGRES)]
    Url(String),
    /// The file cannot be opened.
    #[error("ledger: {path}: {error}: expected a ledger's file, or a folder in which one can be made")]
    File {
        /// Which one.
        path: String,
        /// Why not.
        error: sqlx::Error,
    },
    /// The tables could not be brought up to date.
    #[error("ledger: migration failed: {0}")]
    Migration(MigrateError),
    /// The tables are those of a program newer than this one.
    #[error(
        "ledger: its tables are at version {version}, this program knows versions up to {TABLES}: use the newer program"
    )]
    Newer {
        /// The version of the tables.
        version: i64,
    },
    /// An amount left its range.
    #[error("ledger: {0}")]
    Overflow(#[from] Overflow),
    /// Records are missing between what was consumed and what the spool offers.
    #[error(
        "spool of node '{node}' continues at {offered}, but the ledger expects {expected}: records are missing. \
         If the spool was restored from an older copy, restore the newer one"
    )]
    Gap {
        /// Which node.
        node: String,
        /// What the ledger expects.
        expected: u64,
        /// What the spool offers.
        offered: u64,
    },
    /// There are no rules for a coin.
    #[error("no rules for coin '{0}': configure it, or its shares cannot be consumed")]
    UnknownCoin(String),
    /// A row says something impossible.
    #[error("ledger: {table} holds '{value}': expected {expected}")]
    BadRow {
        /// In which table.
        table: &'static str,
        /// What is there.
        value: String,
        /// What should be.
        expected: &'static str,
    },
    /// A booking does not sum to zero: a fault of the program, and nothing was written.
    #[error("booking '{reason} {reference}' sums to {sum}: expected 0")]
    Unbalanced {
        /// What was to be booked.
        reason: &'static str,
        /// For what.
        reference: String,
        /// What it sums to.
        sum: Amount,
    },
}

impl LedgerError {
    /// Whether the same call may succeed later: the database is away, locked, or chose this transaction to fail.
    pub fn is_retryable(&self) -> bool {
        let (LedgerError::Database(error)
        | LedgerError::Migration(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _))) =
            self
        else {
            return false;
        };
        match error {
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(error) => error.code().is_some_and(|code| {
                // SQLite: busy, locked, disk full, cannot open, i/o error (extended codes keep these low bytes).
                let sqlite =
                    code.parse::<u32>().is_ok_and(|code| [5, 6, 10, 13, 14].contains(&(code & 0xff)));
                // PostgreSQL: connection, resources, operator intervention, serialization, system error.
                let classes = ["08", "53", "57", "40", "58"];
                if code.len() == 5 { classes.iter().any(|class| code.starts_with(class)) } else { sqlite }
            }),
            _ => false,
        }
    }
}

impl From<MigrateError> for LedgerError {
    fn from(error: MigrateError) -> LedgerError {
        match error {
            MigrateError::VersionMissing(version) => LedgerError::Newer { version },
            error => LedgerError::Migration(error),
        }
    }
}

/// What a ledger may be in besides a file.
const OR_POSTGRES: &str = if cfg!(feature = "postgres") { " or postgres://USER@HOST/DATABASE" } else { "" };

/// The version of the tables that [`migrator`] makes.
const TABLES: i64 = 2;

/// How long it may take to connect.
const CONNECT: Duration = Duration::from_secs(10);

/// The URL of a ledger in this file: absolute, for a relative path's first folder would be the URL's host, and with what
/// has a meaning in URLs as a percentage.
pub fn sqlite_url(file: &Path) -> String {
    let file = path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let mut url = "sqlite://".to_owned();
    for byte in file.to_string_lossy().bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                url.push(byte.into())
            }
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url
}

/// The ledger's database.
pub struct Ledger {
    options: AnyConnectOptions,
    pool: AnyPool,
    is_sqlite: bool,
    /// Set once the tables are up to date.
    ready: OnceCell<()>,
    /// Writers of this process queue here; those of others at the row `guard`.
    turn: Mutex<()>,
}

impl Ledger {
    /// Opens the database and brings its tables up to date: `sqlite://path` (created if absent) or, with the
    /// feature `postgres`, `postgres://...`.
    pub async fn open(url: &str) -> Result<Ledger, LedgerError> {
        let ledger = Ledger::at(url)?;
        ledger.pool().await?;
        Ok(ledger)
    }

    /// As [`Ledger::open`], but a database server may be away. Then every use tries to reach it and to bring its tables up
    /// to date, and fails with an error that is retryable until that has worked once. What can never work is an
    /// error here, and so is a file that cannot be opened.
    pub async fn open_even_if_away(url: &str) -> Result<Ledger, LedgerError> {
        let ledger = Ledger::at(url)?;
        match ledger.pool().await {
            Err(error) if ledger.is_sqlite || !error.is_retryable() => Err(error),
            _ => Ok(ledger),
        }
    }

    /// The ledger behind a URL, which is connected to and brought up to date at its first use. Call it within a runtime.
    pub fn at(url: &str) -> Result<Ledger, LedgerError> {
        sqlx::any::install_default_drivers();
        let scheme = url.split_once(':').map_or("", |(scheme, _)| scheme);
        let is_sqlite = match scheme {
            "sqlite" => true,
            "postgres" | "postgresql" if cfg!(feature = "postgres") => false,
            // Never the whole URL: it may hold a password.
            "" => return Err(LedgerError::Url("its URL has no scheme".to_owned())),
            _ => return Err(LedgerError::Url(format!("its URL begins with '{scheme}:'"))),
        };
        let url = match url.split_once('?') {
            None if is_sqlite => Cow::from(format!("{url}?mode=rwc")),
            _ => Cow::from(url),
        };
        let options = AnyConnectOptions::from_str(&url)?;
        let pool = AnyPoolOptions::new()
            .max_connections(4)
            .acquire_timeout(CONNECT)
            .after_connect(move |connection, _| Box::pin(set_up(connection, is_sqlite)))
            .connect_lazy_with(options.clone());
        Ok(Ledger { options, pool, is_sqlite, ready: OnceCell::new(), turn: Mutex::new(()) })
    }

    /// The database's connections, its tables being up to date.
    pub(crate) async fn pool(&self) -> Result<&AnyPool, LedgerError> {
        self.ready.get_or_try_init(|| self.prepare()).await?;
        Ok(&self.pool)
    }

    /// Brings the tables up to date, over a connection of its own: the pool would try one that is refused again and
    /// again, and then say no more than that time is up.
    async fn prepare(&self) -> Result<(), LedgerError> {
        let connected = tokio::time::timeout(CONNECT, self.options.connect()).await;
        let late = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s"));
        let mut connection =
            connected.unwrap_or_else(|_| Err(late())).map_err(|error| self.not_opened(error))?;
        set_up(&mut connection, self.is_sqlite).await.map_err(|error| self.not_opened(error))?;
        // `run` is this, behind a generic parameter of which the compiler cannot see that it may cross threads.
        migrator(self.is_sqlite).run_direct(None, &mut connection, false).await?;
        // One that can only be read is of no use.
        connection.execute(TAKE_GUARD).await?;
        Ok(connection.close().await?)
    }

    fn not_opened(&self, error: sqlx::Error) -> LedgerError {
        if self.is_sqlite {
            let url = self.options.database_url.as_str();
            let path = url.strip_prefix("sqlite://").unwrap_or(url);
            LedgerError::File { path: path.split('?').next().unwrap_or(path).to_owned(), error }
        } else {
            error.into()
        }
    }

    /// Closes all connections and waits until they are.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Begins a writing transaction that no other can overtake. Dropping it takes everything back.
    pub(crate) async fn write(&self) -> Result<Write<'_>, LedgerError> {
        let turn = self.turn.lock().await;
        let begin = if self.is_sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" };
        let mut transaction = self.pool().await?.begin_with(begin).await?;
        // The row lock, on PostgreSQL; on SQLite the database is locked already.
        sqlx::query(TAKE_GUARD).execute(&mut *transaction).await?;
        Ok(Write { transaction, _turn: turn })
    }
}

/// What every writing transaction begins with.
const TAKE_GUARD: &str = "UPDATE guard SET last_id = last_id WHERE id = 1";

/// Makes a new connection what the ledger expects.
async fn set_up(connection: &mut AnyConnection, is_sqlite: bool) -> Result<(), sqlx::Error> {
    if is_sqlite {
        // NORMAL would lose the last commits in a power cut.
        connection.execute("PRAGMA journal_mode = WAL").await?;
        connection.execute("PRAGMA synchronous = FULL").await?;
        connection.execute("PRAGMA foreign_keys = ON").await?;
        connection.execute("PRAGMA busy_timeout = 10000").await?;
    }
    Ok(())
}

/// A writing transaction, and this process's turn to have one.
pub(crate) struct Write<'a> {
    pub(crate) transaction: Transaction<'static, Any>,
    _turn: MutexGuard<'a, ()>,
}

impl Write<'_> {
    /// A number never used before, for a booking, a batch or a submission.
    pub(crate) async fn next_id(&mut self) -> Result<i64, LedgerError> {
        let row = sqlx::query("UPDATE guard SET last_id = last_id + 1 WHERE id = 1 RETURNING last_id")
            .fetch_one(&mut *self.transaction)
            .await?;
        Ok(row.try_get(0)?)
    }

    pub(crate) async fn commit(self) -> Result<(), LedgerError> {
        Ok(self.transaction.commit().await?)
    }
}

fn migrator(is_sqlite: bool) -> Migrator {
    let steps: [(&'static str, &'static str); TABLES as usize] = if is_sqlite {
        [
            ("ledger", include_str!("../../migrations/sqlite/0001_ledger.sql")),
            ("years", include_str!("../../migrations/sqlite/0002_years.sql")),
        ]
    } else {
        [
            ("ledger", include_str!("../../migrations/postgres/0001_ledger.sql")),
            ("years", include_str!("../../migrations/postgres/0002_years.sql")),
        ]
    };
    let migration = |(version, (name, sql)): (i64, (&'static str, &'static str))| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations((1..).zip(steps).map(migration).collect())
}

/// 32 hex digits: sorts as text as the number does.
fn effort_text(effort: Effort) -> String {
    format!("{:032x}", effort.0)
}

fn effort_from_text(text: &str) -> Result<Effort, LedgerError> {
    let bad =
        || LedgerError::BadRow { table: "share_sums", value: text.to_owned(), expected: "32 hex digits" };
    u128::from_str_radix(text, 16).map(Effort).map_err(|_| bad())
}

/// A number that share records hold below 2^63.
pub(crate) fn to_i64(number: u64) -> Result<i64, LedgerError> {
    i64::try_from(number).map_err(|_| LedgerError::Overflow(Overflow))
}
