//! The pool's end, for each dialect.

pub mod bitcoin;
pub mod ethereum;
pub mod kawpow;
pub mod monero;

use super::{Action, Now, Ticket, Verdict};

pub use bitcoin::BitcoinServer;
pub use ethereum::EthereumServer;
pub use kawpow::KawPowServer;
pub use monero::MoneroServer;

/// What every dialect's session can be told. New jobs come through each session's own `set_job`, since
/// jobs differ.
pub trait Server: Send {
    /// The miner sent a line.
    fn on_line(&mut self, line: &str, now: Now, out: &mut Vec<Action>);

    /// Whether the worker of an [`Action::Authorize`] may mine; if not, in words for the miner. Tickets that
    /// are no longer waited for are ignored.
    fn on_login(&mut self, ticket: Ticket, verdict: Result<(), String>, now: Now, out: &mut Vec<Action>);

    /// What the share of an [`Action::Verify`] hashed to. Tickets that are no longer waited for are ignored.
    fn on_verdict(&mut self, ticket: Ticket, verdict: Verdict, now: Now, out: &mut Vec<Action>);

    /// Time has passed; to be called about once a second.
    fn on_tick(&mut self, now: Now, out: &mut Vec<Action>);

    /// What the miner's next connection is best begun with, once it has shown what it can do.
    fn estimate(&self) -> Option<otedama_core::Difficulty>;
}
