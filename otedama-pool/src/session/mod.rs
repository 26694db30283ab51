//! One connection as a state machine, at either end, driven by lines and by time.
//!
//! ```text
//!   pool:   line, tick, job, verdict ──▶ Server ──▶ Action: send, authorize, verify, accepted, close ...
//!   miner:  line, tick, share        ──▶ Client ──▶ Event:  send, new work, accepted, reconnect ...
//! ```
//!
//! A submitted share passes the cheap checks first: shape, session, job, times and sizes, duplicates. What
//! is left comes out as [`Action::Verify`]; its owner hashes it, away from the connection, and gives the
//! [`Verdict`] back. Shares refused take no memory, shares being looked at are counted against a limit.
//!
//! Actions are meant to be carried out in order. [`Action::Accepted`] brings the line that tells the miner along:
//! whoever must not lose a share records it before that line leaves, and others need not wait for it. Lines of one
//! batch are best written in one write; each needs a line feed.

pub mod client;
mod desk;
pub mod server;
pub mod vardiff;
mod window;

use std::sync::Arc;
use std::time::Duration;

use otedama_core::verify::{Claim, Reject};
use otedama_core::{Candidate, Difficulty, Hash256, Job, Share};

use crate::stratum::RejectReason;

pub use client::Client;
pub use server::Server;
pub use vardiff::{Vardiff, VardiffConfig};
pub use window::{Duplicates, ShareKey, Terms};

/// The time, as a session is told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Now {
    /// Since a fixed moment, the same for all sessions. If it steps back, it counts as standing still.
    pub elapsed: Duration,
    /// Seconds since 1970, to judge the times in headers by.
    pub unix_s: u64,
}

/// What a connection may cost and how long it may take, at the pool's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Workers that may be authorized or asked about on one connection.
    pub max_workers: usize,
    /// Shares that may be looked at at once.
    pub max_pending: usize,
    /// Jobs kept, whatever their age.
    pub max_jobs: usize,
    /// Accepted shares remembered for one work.
    pub max_shares: usize,
    /// Lines that are no messages before the connection is closed.
    pub max_errors: u32,
    /// How long a job's shares count after the next job came without making it worthless.
    pub job_age: Duration,
    /// How long shares of a job still count after one came that made it worthless.
    pub late_grace: Duration,
    /// How far ahead of the clock a header's time may be, in seconds.
    pub ahead_s: u64,
    /// How long the handshake may take.
    pub handshake: Duration,
    /// How long a connection without an accepted share is kept.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_workers: 64,
            max_pending: 256,
            max_jobs: 256,
            max_shares: 1 << 16,
            max_errors: 32,
            job_age: Duration::from_secs(300),
            late_grace: Duration::ZERO,
            ahead_s: 7_000,
            handshake: Duration::from_secs(60),
            idle: Duration::from_secs(900),
        }
    }
}

/// Names something a session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What a pool's end wants done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Action {
    /// Send this line.
    Send(String),
    /// Find out whether this worker may mine, then call [`Server::on_login`]. Answers keep their order if
    /// that happens before the next line is given.
    Authorize {
        /// What the answer is for.
        ticket: Ticket,
        /// `account.worker` or `address.worker`.
        username: String,
        /// Often options, such as `d=1024`.
        password: String,
    },
    /// Hash this, then call [`Server::on_verdict`].
    Verify(Box<Check>),
    /// A share that is a block. The share itself comes next: accepted, or rejected if blocks are easier than it had
    /// to be.
    Block(Box<FoundBlock>),
    /// A share counts.
    Accepted {
        /// For what.
        credit: Credit,
        /// The line that says so to the miner, if it wants one: not to leave before the share is safe. It may
        /// leave after lines that came later.
        answer: Option<String>,
    },
    /// A share does not count.
    Rejected {
        /// Who sent it.
        worker: String,
        /// Why.
        reason: RejectReason,
        /// What is known of it.
        facts: ShareFacts,
    },
    /// The session wants a job with work of its own, because its difficulty changed.
    NeedJob,
    /// The miner says how fast it is, in hashes per second. Not to be believed.
    Hashrate(u64),
    /// Close the connection after sending what was to be sent.
    Close(CloseReason),
}

/// Why the pool's end closes a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Nobody was authorized in time.
    Handshake,
    /// No share counted for too long.
    Idle,
    /// Too many lines were no messages.
    Errors,
    /// The miner said goodbye.
    Left,
    /// The miner may not mine here, and its dialect does not ask twice.
    Refused,
}

/// A share to be hashed.
#[derive(Clone, Debug)]
pub struct Check {
    /// What the verdict is for.
    pub ticket: Ticket,
    /// The job, with the easiest target that is of any use.
    pub job: Arc<Job>,
    /// What the miner chose.
    pub candidate: Candidate,
    /// The mix hash it claims, where the dialect has one.
    pub mix: Option<Hash256>,
    /// The hash it claims, where the dialect has one.
    pub pow: Option<Hash256>,
}

impl Check {
    /// The claim for [`otedama_core::verify::VerifyWorker::check_many`].
    pub fn claim(&self) -> Claim<'_> {
        Claim { job: &self.job, candidate: self.candidate, mix: self.mix.as_ref(), pow: self.pow.as_ref() }
    }
}

/// What hashing a [`Check`] led to.
pub type Verdict = Result<Share, Reject>;

/// A share that counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Credit {
    /// Who found it.
    pub worker: String,
    /// The job it is for.
    pub job_id: String,
    /// What it is worth: the difficulty in force for its job.
    pub difficulty: Difficulty,
    /// The proof.
    pub share: Share,
}

/// What is known of a share that does not count, as far as it got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShareFacts {
    /// The job it names.
    pub job_id: String,
    /// How long ago that job was handed out; `None` if it is not known (any more).
    pub job_age: Option<Duration>,
    /// The difficulty it should have met; `None` if the job is not known.
    pub expected: Option<Difficulty>,
    /// The difficulty it does meet; `None` if it was not hashed.
    pub found: Option<Difficulty>,
    /// The version bits it rolled, where it says so.
    pub version_bits: Option<u32>,
}

/// A share that meets the network's target.
#[derive(Clone, Debug)]
pub struct FoundBlock {
    /// Who found it.
    pub worker: String,
    /// The job it is for.
    pub job_id: String,
    /// What was hashed, all but the nonce ([`Job::append_bytes`] makes the header of the Bitcoin kind).
    pub job: Arc<Job>,
    /// The proof: nonce, and the mix hash where there is one.
    pub share: Share,
    /// The coinbase transaction without its witness (Bitcoin kind).
    pub coinbase: Option<Vec<u8>>,
}

/// What a miner's end wants done, or tells.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Send this line.
    Send(String),
    /// There is work: ask [`Client::next_task`]. If clean, what is being searched is worth nothing any more.
    Work {
        /// Whether earlier work is dead.
        clean: bool,
    },
    /// The pool set this difficulty or target, as a difficulty of the algorithm.
    Difficulty(Difficulty),
    /// A share counted.
    Accepted,
    /// A share did not count.
    Rejected {
        /// Why, as far as it can be told.
        reason: RejectReason,
        /// The pool's own words.
        words: String,
    },
    /// The pool has something to say to people.
    Message(String),
    /// The pool wants the miner elsewhere; nothing means the same place. Only to be obeyed if it is the same
    /// host or one its owner trusts: on a plain connection anybody in between could have said it.
    Reconnect {
        /// The host.
        host: Option<String>,
        /// The port.
        port: Option<u16>,
        /// How long to wait before.
        wait: Duration,
    },
    /// A line that could not be used, in words; the session goes on.
    Odd(String),
    /// The connection is of no more use.
    Failed(ClientError),
}

/// Why a miner's end gives up a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The pool refused something without which nothing goes.
    #[error("the pool refused {what}: {words}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Its words.
        words: String,
    },
    /// An answer that cannot be used.
    #[error("the pool's answer cannot be used: {0}")]
    Answer(String),
    /// No answer in time.
    #[error("no answer to {what} within {seconds} s")]
    Silent {
        /// What was asked.
        what: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// No job for too long.
    #[error("no job for {seconds} s")]
    NoJobs {
        /// How long.
        seconds: u64,
    },
}

impl ClientError {
    /// Whether trying the same pool again may help.
    pub fn is_retryable(&self) -> bool {
        !matches!(self, ClientError::Refused { .. })
    }
}
