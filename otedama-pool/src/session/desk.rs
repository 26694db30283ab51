//! What the pool's ends of all dialects share: workers, jobs kept, shares looked at, difficulty, patience.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use otedama_core::algo::ethash::SeedFinder;
use otedama_core::verify::Reject;
use otedama_core::{Algorithm, Candidate, Difficulty, Hash256, Job, JobId, Target};

use super::vardiff::{Vardiff, VardiffConfig};
use super::window::{Duplicates, Issued, JobWindow, ShareKey, Terms};
use super::{Action, Check, CloseReason, Credit, FoundBlock, Limits, Now, ShareFacts, Ticket, Verdict};
use crate::stratum::{BadLine, Dialect, Id, RejectReason, WireError};
use crate::work::WorkError;
use crate::work::sealed::{self, Sealed};

/// The common part of a session; `J` is what its dialect calls a job.
#[derive(Debug)]
pub(crate) struct Desk<J> {
    pub(crate) dialect: Dialect,
    pub(crate) limits: Limits,
    pub(crate) vardiff: Vardiff,
    pub(crate) jobs: JobWindow<J>,
    /// What the next job's shares are judged by.
    pub(crate) terms: Terms,
    duplicates: Duplicates,
    workers: Vec<String>,
    logins: Vec<Login>,
    pending: BTreeMap<Ticket, Pending>,
    next_ticket: u64,
    errors: u32,
    opened: Duration,
    last_share: Duration,
    closed: bool,
}

/// A worker that was asked about.
#[derive(Debug)]
pub(crate) struct Login {
    ticket: Ticket,
    pub(crate) id: Option<Id>,
    pub(crate) username: String,
}

/// A share that passed the cheap checks.
pub(crate) struct Attempt<'a> {
    pub(crate) id: Option<Id>,
    pub(crate) worker: String,
    pub(crate) job_id: &'a str,
    pub(crate) terms: Terms,
    pub(crate) network: Option<Target>,
    pub(crate) key: ShareKey,
    pub(crate) candidate: Candidate,
    pub(crate) mix: Option<Hash256>,
    pub(crate) pow: Option<Hash256>,
    pub(crate) coinbase: Option<Vec<u8>>,
    pub(crate) version_bits: Option<u32>,
}

/// A share being hashed.
#[derive(Debug)]
struct Pending {
    id: Option<Id>,
    worker: String,
    job_id: String,
    /// What it may be judged by: its job's terms, and those in force when it came.
    terms: [Terms; 2],
    network: Option<Target>,
    key: ShareKey,
    job: Arc<Job>,
    coinbase: Option<Vec<u8>>,
    version_bits: Option<u32>,
}

impl<J> Desk<J> {
    pub(crate) fn new(
        dialect: Dialect,
        limits: Limits,
        vardiff: VardiffConfig,
        terms: impl Fn(Difficulty) -> Terms,
        duplicates: Duplicates,
        now: Now,
    ) -> Desk<J> {
        let vardiff = Vardiff::new(vardiff, now.elapsed);
        Desk {
            dialect,
            terms: terms(vardiff.current()),
            jobs: JobWindow::new(limits.max_jobs, limits.job_age, limits.late_grace),
            limits,
            vardiff,
            duplicates,
            workers: Vec::new(),
            logins: Vec::new(),
            pending: BTreeMap::new(),
            next_ticket: 0,
            errors: 0,
            opened: now.elapsed,
            last_share: now.elapsed,
            closed: false,
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    // --- Workers

    /// Asks the owner about a worker; one that is authorized already is not asked about twice.
    pub(crate) fn ask(&mut self, id: Option<Id>, username: String, password: String, out: &mut Vec<Action>) {
        if self.logins.len() + self.workers.len() >= self.limits.max_workers {
            return self.refuse(id.as_ref(), RejectReason::TooMany, out);
        }
        let ticket = self.ticket();
        self.logins.push(Login { ticket, id, username: username.clone() });
        out.push(Action::Authorize { ticket, username, password });
    }

    /// The worker a ticket asked about.
    pub(crate) fn asked(&mut self, ticket: Ticket) -> Option<Login> {
        let at = self.logins.iter().position(|login| login.ticket == ticket)?;
        Some(self.logins.remove(at))
    }

    /// Lets a worker mine.
    pub(crate) fn admit(&mut self, username: &str) {
        if !self.knows(username) {
            self.workers.push(username.to_owned());
        }
    }

    /// Whether a worker may mine.
    pub(crate) fn knows(&self, username: &str) -> bool {
        self.workers.iter().any(|worker| worker == username)
    }

    /// The worker, where the dialect has one per connection.
    pub(crate) fn only_worker(&self) -> Option<&str> {
        self.workers.first().map(String::as_str)
    }

    // --- Answers

    pub(crate) fn send(&self, line: String, out: &mut Vec<Action>) {
        out.push(Action::Send(line));
    }

    /// Answers a call with an error, if it wants an answer.
    pub(crate) fn refuse(&self, id: Option<&Id>, reason: RejectReason, out: &mut Vec<Action>) {
        self.refuse_in_words(id, reason, reason.text().to_owned(), out);
    }

    /// Answers with an error of other words.
    pub(crate) fn refuse_in_words(
        &self,
        id: Option<&Id>,
        reason: RejectReason,
        message: String,
        out: &mut Vec<Action>,
    ) {
        if id.is_some() {
            let error = WireError { code: Some(reason.code(self.dialect)), message };
            out.push(Action::Send(self.dialect.failure(id, &error)));
        }
    }

    /// Answers a share that does not count.
    pub(crate) fn reject(
        &self,
        id: Option<&Id>,
        worker: String,
        reason: RejectReason,
        facts: ShareFacts,
        out: &mut Vec<Action>,
    ) {
        out.push(Action::Rejected { worker, reason, facts });
        self.refuse(id, reason, out);
    }

    /// Answers a share that failed a session's cheap checks.
    pub(crate) fn turn_away(
        &self,
        id: Option<&Id>,
        worker: String,
        job_id: &str,
        reason: RejectReason,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        self.reject(id, worker, reason, self.facts(job_id, None, now), out);
    }

    /// What is known of a share before it is hashed.
    pub(crate) fn facts(&self, job_id: &str, version_bits: Option<u32>, now: Now) -> ShareFacts {
        let issued = self.jobs.known(job_id);
        ShareFacts {
            job_id: job_id.to_owned(),
            job_age: issued.map(|issued| now.elapsed.saturating_sub(issued.at)),
            expected: issued.map(|issued| issued.terms.difficulty),
            found: None,
            version_bits,
        }
    }

    /// Answers a line that is no message, and loses patience in the end.
    pub(crate) fn bad_line(&mut self, bad: BadLine, out: &mut Vec<Action>) {
        self.refuse_in_words(bad.id.as_ref(), bad.error.reason(), bad.error.to_string(), out);
        self.errors = self.errors.saturating_add(1);
        if self.errors > self.limits.max_errors {
            self.close(CloseReason::Errors, out);
        }
    }

    /// Asks for the end, once.
    pub(crate) fn close(&mut self, reason: CloseReason, out: &mut Vec<Action>) {
        if !self.closed {
            self.closed = true;
            out.push(Action::Close(reason));
        }
    }

    // --- Jobs and shares

    /// Notes a job that was handed out under the current terms.
    pub(crate) fn issue(&mut self, id: String, job: J, work: Hash256, clean: bool, now: Now) {
        if self.jobs.current().is_none() {
            self.vardiff.begin(now.elapsed);
        }
        self.jobs.add(id, job, self.terms, work, clean, now.elapsed);
    }

    /// The job of this id.
    pub(crate) fn find(&self, job_id: &str, now: Now) -> Result<&Issued<J>, RejectReason> {
        self.jobs.find(job_id, now.elapsed)
    }

    /// The last cheap checks, then the work for whoever hashes. `make` makes the job for a target.
    pub(crate) fn verify(
        &mut self,
        attempt: Attempt<'_>,
        make: impl FnOnce(JobId, Target) -> Result<Job, WorkError>,
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let Attempt { id, worker, job_id, terms, network, key, candidate, mix, pow, coinbase, version_bits } =
            attempt;
        let held = if self.pending.len() >= self.limits.max_pending {
            Err(RejectReason::TooMany)
        } else {
            self.duplicates.hold(&key, self.limits.max_shares, now.elapsed)
        };
        if let Err(reason) = held {
            return self.reject(id.as_ref(), worker, reason, self.facts(job_id, version_bits, now), out);
        }
        // Many miners apply a new difficulty to the job they have: what is easier will do.
        let easiest = terms.target.max(self.terms.target).max(network.unwrap_or(terms.target));
        let ticket = self.ticket();
        let job = match make(JobId(ticket.0), easiest) {
            Ok(job) => Arc::new(job),
            Err(_) => {
                self.duplicates.settle(&key, false);
                let facts = self.facts(job_id, version_bits, now);
                return self.reject(id.as_ref(), worker, RejectReason::Internal, facts, out);
            }
        };
        out.push(Action::Verify(Box::new(Check { ticket, job: Arc::clone(&job), candidate, mix, pow })));
        let terms = [terms, self.terms];
        let job_id = job_id.to_owned();
        let pending = Pending { id, worker, job_id, terms, network, key, job, coinbase, version_bits };
        self.pending.insert(ticket, pending);
    }

    /// The same for a share of a sealed header. The height settles the epoch: nobody looks for a seed.
    pub(crate) fn verify_sealed(
        &mut self,
        attempt: Attempt<'_>,
        algorithm: Algorithm,
        (header_hash, height): (Hash256, u64),
        now: Now,
        out: &mut Vec<Action>,
    ) {
        let work = Sealed { header_hash, seed_hash: None, height: Some(height) };
        let make = |id, target| sealed::job(id, algorithm, &work, target, &mut SeedFinder::new());
        self.verify(attempt, make, now, out);
    }

    /// Takes up the terms of a changed difficulty where the target is part of the job: a connection that has one needs
    /// another.
    pub(crate) fn retarget(&mut self, terms: Terms, has_job: bool, out: &mut Vec<Action>) {
        self.terms = terms;
        if has_job {
            out.push(Action::NeedJob);
        }
    }

    /// What hashing led to. The new difficulty, if it changes.
    pub(crate) fn judge(
        &mut self,
        ticket: Ticket,
        verdict: Verdict,
        now: Now,
        out: &mut Vec<Action>,
    ) -> Option<Difficulty> {
        let pending = self.pending.remove(&ticket)?;
        let Pending { id, worker, job_id, terms, network, key, job, coinbase, version_bits } = pending;
        let id = id.as_ref();
        let easiest = if terms[0].target >= terms[1].target { &terms[0] } else { &terms[1] };
        let facts = |found| ShareFacts {
            expected: Some(easiest.difficulty),
            found,
            ..self.facts(&job_id, version_bits, now)
        };
        let share = match verdict {
            Ok(share) => share,
            Err(reject) => {
                self.duplicates.settle(&key, false);
                let found = match &reject {
                    Reject::AboveTarget { digest, algorithm, .. } => met(&digest.pow, *algorithm),
                    _ => None,
                };
                self.reject(id, worker, reason_of(&reject), facts(found), out);
                return None;
            }
        };
        let meets = |target: &Target| share.digest().meets(job.algorithm(), target);
        let is_block = network.as_ref().is_some_and(meets);
        if is_block {
            let (worker, job_id) = (worker.clone(), job_id.clone());
            out.push(Action::Block(Box::new(FoundBlock {
                worker,
                job_id,
                job: Arc::clone(&job),
                share,
                coinbase,
            })));
        }
        let Some(difficulty) = terms.iter().find(|terms| meets(&terms.target)).map(|terms| terms.difficulty)
        else {
            // A block that is easier than a share is no share, but is found only once.
            self.duplicates.settle(&key, is_block);
            let found = met(&share.digest().pow, job.algorithm());
            self.reject(id, worker, RejectReason::LowDifficulty, facts(found), out);
            return None;
        };
        self.duplicates.settle(&key, true);
        self.last_share = self.last_share.max(now.elapsed);
        let answer = id.is_some().then(|| self.dialect.accepted(id));
        out.push(Action::Accepted { credit: Credit { worker, job_id, difficulty, share }, answer });
        self.vardiff.on_share(difficulty, now.elapsed)
    }

    /// Time has passed. The new difficulty, if it changes.
    pub(crate) fn tick(&mut self, now: Now, out: &mut Vec<Action>) -> Option<Difficulty> {
        self.jobs.prune(now.elapsed);
        self.duplicates.keep(self.jobs.works(), self.limits.job_age, now.elapsed);
        let passed = |since: Duration| now.elapsed.saturating_sub(since);
        if self.workers.is_empty() {
            if passed(self.opened) > self.limits.handshake {
                self.close(CloseReason::Handshake, out);
            }
            return None;
        }
        if passed(self.last_share) > self.limits.idle {
            self.close(CloseReason::Idle, out);
        }
        // Without a job nobody can find a share: silence means nothing.
        self.jobs.current()?;
        self.vardiff.on_tick(now.elapsed)
    }
}

impl<J> Drop for Desk<J> {
    /// What is still being hashed will not be credited: whoever finds it again may have it.
    fn drop(&mut self) {
        for pending in self.pending.values() {
            self.duplicates.settle(&pending.key, false);
        }
    }
}

/// The greatest difficulty that a hash meets.
fn met(pow: &Hash256, algorithm: Algorithm) -> Option<Difficulty> {
    let target = Target::new(pow.to_number(algorithm.spec().hash_order)).ok()?;
    Some(target.to_difficulty(algorithm))
}

fn reason_of(reject: &Reject) -> RejectReason {
    match reject {
        Reject::AboveTarget { .. } => RejectReason::LowDifficulty,
        Reject::WrongMix | Reject::WrongHash(_) => RejectReason::WrongHash,
        Reject::NotAllowed => RejectReason::Malformed,
        _ => RejectReason::Internal,
    }
}
