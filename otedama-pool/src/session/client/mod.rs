//! The miner's end, for each dialect.

mod bitcoin;
mod ethereum;
mod kawpow;
mod monero;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use otedama_core::{JobId, SearchSpace, Share};

use super::{ClientError, Event, Now};
use crate::stratum::{Answer, Dialect, Id, RejectReason, WireError};
use crate::work::Task;

pub use bitcoin::{BitcoinClient, BitcoinClientConfig};
pub use ethereum::{EthereumClient, EthereumClientConfig};
pub use kawpow::KawPowClient;
pub use monero::MoneroClient;

/// What every dialect's session can be told and asked.
pub trait Client: Send {
    /// The connection is open: says the first thing.
    fn start(&mut self, now: Now, out: &mut Vec<Event>);

    /// The pool sent a line.
    fn on_line(&mut self, line: &str, now: Now, out: &mut Vec<Event>);

    /// Time has passed; to be called about once a second.
    fn on_tick(&mut self, now: Now, out: &mut Vec<Event>);

    /// The next work: another piece of the newest job each time, until it is used up. `None` without one.
    fn next_task(&mut self) -> Option<Task>;

    /// Sends a proven share of one of these tasks, unless it has become worthless.
    fn submit(&mut self, share: &Share, now: Now, out: &mut Vec<Event>) -> Submitted;

    /// What became of the shares so far.
    fn counts(&self) -> &Counts;
}

/// Who mines, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The user agent, such as `otedama/0.1.0`.
    pub agent: String,
    /// `account.worker` or `address.worker`.
    pub username: String,
    /// Often `x`.
    pub password: String,
}

/// What became of a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is on its way; an event tells more.
    Sent,
    /// Its job is dead: it was counted and not sent.
    Stale,
}

/// What became of all shares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted by the pool.
    pub accepted: u64,
    /// Not sent, because their job was dead.
    pub stale: u64,
    /// Refused by the pool, by reason.
    pub rejected: BTreeMap<RejectReason, u64>,
    /// How long the pool took for its last answer, to whatever was asked.
    pub answer_time: Option<Duration>,
}

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(30);

/// How long an answer to a share is waited for while nothing else comes either: the other side may be gone without a word,
/// and what is written to it goes into a buffer.
const SHARE_ANSWER: Duration = Duration::from_secs(60);

/// How long a connection without a new job is kept.
const JOBLESS: Duration = Duration::from_secs(600);

/// How long the first job is waited for.
const FIRST_JOB: Duration = Duration::from_secs(60);

/// Answers waited for at once; the oldest are forgotten beyond that.
const MAX_ASKED: usize = 4096;

/// Tasks whose shares can still be sent.
const MAX_TASKS: usize = 4096;

/// What all dialects share: calls waiting for their answers (`Q` says what was asked), tasks handed out
/// (`T` says how to submit their shares), counts.
#[derive(Debug)]
pub(crate) struct Line<Q, T> {
    dialect: Dialect,
    asked: BTreeMap<u64, (Q, Duration)>,
    tasks: BTreeMap<u64, T>,
    next_id: u64,
    last_job: Duration,
    had_job: bool,
    /// When the pool last answered or sent a job.
    heard: Duration,
    failed: bool,
    pub(crate) counts: Counts,
}

impl<Q: Copy + PartialEq, T> Line<Q, T> {
    pub(crate) fn new(dialect: Dialect) -> Line<Q, T> {
        Line {
            dialect,
            asked: BTreeMap::new(),
            tasks: BTreeMap::new(),
            next_id: 0,
            last_job: Duration::ZERO,
            had_job: false,
            heard: Duration::ZERO,
            failed: false,
            counts: Counts::default(),
        }
    }

    /// The connection is open.
    pub(crate) fn open(&mut self, now: Now) {
        self.last_job = now.elapsed;
    }

    /// An id for a call that asks this.
    pub(crate) fn ask(&mut self, what: Q, now: Now) -> Id {
        self.next_id += 1;
        self.asked.insert(self.next_id, (what, now.elapsed));
        if self.asked.len() > MAX_ASKED {
            self.asked.pop_first();
        }
        Id::number(self.next_id)
    }

    /// What an answer is to.
    pub(crate) fn answered(&mut self, answer: &Answer, now: Now) -> Option<Q> {
        self.heard = now.elapsed;
        let number = answer.id.as_ref()?.as_number()?;
        let (what, asked) = self.asked.remove(&number)?;
        self.counts.answer_time = Some(now.elapsed.saturating_sub(asked));
        Some(what)
    }

    /// Whether this is still waited for, and has been for this long.
    pub(crate) fn overdue(&self, what: Q, limit: Duration, now: Now) -> bool {
        self.asked.values().any(|&(asked, at)| asked == what && now.elapsed.saturating_sub(at) > limit)
    }

    /// No longer waits for this.
    pub(crate) fn forget(&mut self, what: Q) {
        self.asked.retain(|_, (asked, _)| *asked != what);
    }

    /// There is a new job. A clean one makes all earlier tasks worthless.
    pub(crate) fn new_job(&mut self, clean: bool, now: Now, out: &mut Vec<Event>) {
        (self.last_job, self.had_job, self.heard) = (now.elapsed, true, now.elapsed);
        if clean {
            self.tasks.clear();
        }
        out.push(Event::Work { clean });
    }

    /// The number the next task's job is known by, unique in the process: a share found for a connection
    /// that is gone must not pass for one of its successor's.
    pub(crate) fn task_id(&self) -> JobId {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        JobId(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Remembers how a task's shares are submitted.
    pub(crate) fn hand_out(&mut self, task: Task, how: T) -> Task {
        self.tasks.insert(task.job.id().0, how);
        if self.tasks.len() > MAX_TASKS {
            self.tasks.pop_first();
        }
        task
    }

    /// How a share is submitted; `None`, and counted, if its task is dead.
    pub(crate) fn task_of(&mut self, share: &Share) -> Option<&T> {
        let how = self.tasks.get(&share.job().0);
        self.counts.stale += u64::from(how.is_none());
        how
    }

    /// The answer to a share.
    pub(crate) fn settle(&mut self, answer: Answer, out: &mut Vec<Event>) {
        let error = match answer.outcome {
            Ok(result) if result == false => WireError { code: None, message: "refused".to_owned() },
            Ok(_) => {
                self.counts.accepted += 1;
                return out.push(Event::Accepted);
            }
            Err(error) => error,
        };
        let reason = RejectReason::from_wire(self.dialect, &error);
        *self.counts.rejected.entry(reason).or_default() += 1;
        out.push(Event::Rejected { reason, words: error.to_string() });
    }

    /// Gives up, once.
    pub(crate) fn fail(&mut self, error: ClientError, out: &mut Vec<Event>) {
        if !self.failed {
            self.failed = true;
            out.push(Event::Failed(error));
        }
    }

    /// Gives up because the pool refused `what`, or answers with the result.
    pub(crate) fn granted(
        &mut self,
        what: &'static str,
        answer: Answer,
        out: &mut Vec<Event>,
    ) -> Option<serde_json::Value> {
        let words = match answer.outcome {
            Ok(result) if result == false => "no reason given".to_owned(),
            Ok(result) => return Some(result),
            Err(error) => error.to_string(),
        };
        self.fail(ClientError::Refused { what, words }, out);
        None
    }

    /// Gives up on silence: to a call of the handshake, or to a share (`submit`).
    pub(crate) fn tick(
        &mut self,
        handshake: &[(Q, &'static str)],
        submit: (Q, &'static str),
        now: Now,
        out: &mut Vec<Event>,
    ) {
        for &(what, name) in handshake {
            if self.overdue(what, ANSWER, now) {
                self.fail(ClientError::Silent { what: name, seconds: ANSWER.as_secs() }, out);
            }
        }
        let is_lost = |&(asked, at): &(Q, Duration)| {
            asked == submit.0 && at > self.heard && now.elapsed.saturating_sub(at) > SHARE_ANSWER
        };
        if self.asked.values().any(is_lost) {
            self.fail(ClientError::Silent { what: submit.1, seconds: SHARE_ANSWER.as_secs() }, out);
        }
        let jobless = if self.had_job { JOBLESS } else { FIRST_JOB };
        if now.elapsed.saturating_sub(self.last_job) > jobless {
            self.fail(ClientError::NoJobs { seconds: jobless.as_secs() }, out);
        }
    }
}

/// Another start in the same range for a job that is announced again, so that its nonces are not gone
/// through twice from the first: 256 places.
pub(crate) fn turned(mut space: SearchSpace, turn: u8) -> SearchSpace {
    let skip = space.nonces.count / 256 * u64::from(turn);
    space.nonces.start += skip;
    space.nonces.count -= skip;
    space
}
