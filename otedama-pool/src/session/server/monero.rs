//! The pool's end of Monero's stratum. Each connection needs blobs of its own (another extra nonce in the
//! miner transaction), or a nonce byte of its own.

use std::num::NonZeroU64;
use std::sync::Arc;

use otedama_core::primitive::sha256;
use otedama_core::{Algorithm, Candidate, Difficulty, Hash256, Target};

use super::super::desk::{Attempt, Desk};
use super::super::{
    Action, CloseReason, Duplicates, Limits, Now, ShareKey, Terms, Ticket, VardiffConfig, Verdict,
};
use super::Server;
use crate::stratum::monero::{Job, LoggedIn, Login, MinerMessage, PoolMessage, ShareTarget, Status, Submit};
use crate::stratum::{Dialect, Id, Incoming, Message, RejectReason, decode};
use crate::work::monero as work;

/// How a connection is served.
#[derive(Clone, Debug)]
pub struct MoneroConfig {
    /// What is mined: a revision of RandomX.
    pub algorithm: Algorithm,
    /// The session's name, which every call repeats.
    pub session: String,
    /// The nonce's most significant byte, where connections share blobs (NiceHash's way).
    pub nonce_prefix: Option<u8>,
    /// Limits.
    pub limits: Limits,
    /// Difficulty, in hashes.
    pub vardiff: VardiffConfig,
}

/// A job of this connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoneroJob {
    /// What shares name it by.
    pub job_id: String,
    /// The hashing blob.
    pub blob: Vec<u8>,
    /// What the cache is grown from.
    pub seed_hash: Hash256,
    /// The block's height.
    pub height: u64,
    /// The network's target.
    pub network: Target,
    /// Whether shares of all earlier jobs are worthless.
    pub clean: bool,
}

/// The state of one connection.
#[derive(Debug)]
pub struct MoneroServer {
    algorithm: Algorithm,
    session: String,
    nonce_prefix: Option<u8>,
    /// Whether jobs name their algorithm: if the miner named its own, or would take them for Monero's.
    names_algorithms: bool,
    /// A login that was granted and waits for the first job.
    waiting: Option<Option<Id>>,
    started: bool,
    job: Option<Arc<MoneroJob>>,
    desk: Desk<Arc<MoneroJob>>,
}

impl MoneroServer {
    /// A connection that was just opened.
    pub fn new(config: MoneroConfig, now: Now) -> MoneroServer {
        let MoneroConfig { algorithm, session, nonce_prefix, limits, vardiff } = config;
        MoneroServer {
            algorithm,
            session,
            nonce_prefix,
            names_algorithms: false,
            waiting: None,
            started: false,
            job: None,
            desk: Desk::new(Dialect::Monero, limits, vardiff, terms, Duplicates::new(), now),
        }
    }

    /// Hands out a job, now or when the login is done. The same job twice is sent once: miners leave when
    /// they see one again.
    pub fn set_job(&mut self, job: Arc<MoneroJob>, now: Now, out: &mut Vec<Action>) {
        let again = self.job.as_ref().is_some_and(|old| old.job_id == job.job_id || old.blob == job.blob);
        self.job = Some(job);
        if !self.started {
            self.start(now, out);
        } else if !again && let Some(job) = self.hand_out(now) {
            self.desk.send(PoolMessage::Job(job).encode(None), out);
        }
    }

    fn request(&mut self, id: Option<Id>, request: MinerMessage, now: Now, out: &mut Vec<Action>) {
        match request {
            MinerMessage::Login(login) => self.login(id, login, out),
            MinerMessage::GetJob(session) => {
                let job = self.own(&session).and_then(|()| self.hand_out(now).ok_or(RejectReason::NoWork));
                match job {
                    Ok(job) => self.desk.send(Dialect::Monero.success(id.as_ref(), &job.to_value()), out),
                    Err(reason) => self.desk.refuse(id.as_ref(), reason, out),
                }
            }
            MinerMessage::KeepAlive(_) => {
                self.desk.send(Dialect::Monero.success(id.as_ref(), &Status::KEPT_ALIVE), out);
            }
            MinerMessage::Submit(share) => {
                let worker = self.desk.only_worker().unwrap_or_default().to_owned();
                match self.attempt(&share, &worker, now) {
                    Err(reason) => {
                        self.desk.turn_away(id.as_ref(), worker, &share.job_id, reason, now, out);
                    }
                    Ok((job, mut attempt)) => {
                        attempt.id = id;
                        let algorithm = self.algorithm;
                        let make = |id, target| work::job(id, algorithm, &job.blob, &job.seed_hash, target);
                        self.desk.verify(attempt, make, now, out);
                    }
                }
            }
        }
    }

    fn login(&mut self, id: Option<Id>, login: Login, out: &mut Vec<Action>) {
        let mined = |name: &String| work::algorithm(name) == Some(self.algorithm);
        if !login.algorithms.is_empty() && !login.algorithms.iter().any(mined) {
            self.desk.refuse(id.as_ref(), RejectReason::Algorithm, out);
            return self.desk.close(CloseReason::Refused, out);
        }
        self.names_algorithms = !login.algorithms.is_empty() || self.algorithm != Algorithm::RandomXV1;
        self.desk.ask(id, login.login, login.password, out);
    }

    /// The login's answer carries the first job: it waits until there is one.
    fn start(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.job.is_none() {
            return;
        }
        let Some(id) = self.waiting.take() else { return };
        let Some(job) = self.hand_out(now) else { return };
        self.started = true;
        let mut extensions = vec!["keepalive".to_owned()];
        extensions.extend(self.names_algorithms.then(|| "algo".to_owned()));
        extensions.extend(self.nonce_prefix.map(|_| "nicehash".to_owned()));
        let result = LoggedIn { session: self.session.clone(), job, extensions };
        self.desk.send(Dialect::Monero.success(id.as_ref(), &result.to_value()), out);
    }

    /// Notes the newest job as handed out, unless it is already, and makes the message of it.
    fn hand_out(&mut self, now: Now) -> Option<Job> {
        let job = self.job.clone()?;
        let mut blob = job.blob.clone();
        if let (Some(prefix), Ok(at)) = (self.nonce_prefix, work::nonce_offset(&blob)) {
            blob[at..at + 4].copy_from_slice(&[0, 0, 0, prefix]);
        }
        let current = self.desk.jobs.current();
        if current.is_none_or(|issued| issued.id != job.job_id || issued.terms != self.desk.terms) {
            let work = Hash256::from_raw(sha256::digest(&blob));
            let handed = MoneroJob { blob: blob.clone(), ..MoneroJob::clone(&job) };
            self.desk.issue(job.job_id.clone(), Arc::new(handed), work, job.clean, now);
        }
        Some(Job {
            job_id: job.job_id.clone(),
            blob,
            target: share_target(self.desk.vardiff.current()),
            algorithm: work::name(self.algorithm).filter(|_| self.names_algorithms).map(str::to_owned),
            height: Some(job.height),
            seed_hash: Some(job.seed_hash),
        })
    }

    fn own(&self, session: &str) -> Result<(), RejectReason> {
        if session == self.session && self.desk.only_worker().is_some() {
            Ok(())
        } else {
            Err(RejectReason::Unauthorized)
        }
    }

    /// The cheap checks. The claimed hash is compared with the target before anything is hashed.
    fn attempt<'a>(
        &self,
        share: &'a Submit,
        worker: &str,
        now: Now,
    ) -> Result<(Arc<MoneroJob>, Attempt<'a>), RejectReason> {
        self.own(&share.session)?;
        let issued = self.desk.find(&share.job_id, now)?;
        if work::check_algorithm(self.algorithm, share.algorithm.as_deref()).is_err() {
            return Err(RejectReason::Algorithm);
        }
        if self.nonce_prefix.is_some_and(|prefix| share.nonce >> 24 != u32::from(prefix)) {
            return Err(RejectReason::NoncePrefix);
        }
        let job = Arc::clone(&issued.job);
        let mut choice = [0; 32];
        choice[..4].copy_from_slice(&share.nonce.to_le_bytes());
        let attempt = Attempt {
            id: None,
            worker: worker.to_owned(),
            job_id: &share.job_id,
            terms: issued.terms,
            network: Some(job.network),
            key: ShareKey { work: issued.work, choice },
            candidate: Candidate { nonce: share.nonce.into(), version: None },
            mix: share.commitment.filter(|_| self.algorithm == Algorithm::RandomXV2),
            pow: Some(share.result),
            coinbase: None,
            version_bits: None,
        };
        Ok((job, attempt))
    }

    fn retarget(&mut self, changed: Option<Difficulty>, out: &mut Vec<Action>) {
        if let Some(difficulty) = changed {
            self.desk.retarget(terms(difficulty), self.started, out);
        }
    }
}

impl Server for MoneroServer {
    fn on_line(&mut self, line: &str, now: Now, out: &mut Vec<Action>) {
        match decode(line) {
            Ok(Incoming::Message(id, request)) => self.request(id, request, now, out),
            Ok(Incoming::Answer(_)) => {}
            Err(bad) => self.desk.bad_line(bad, out),
        }
    }

    fn on_login(&mut self, ticket: Ticket, verdict: Result<(), String>, now: Now, out: &mut Vec<Action>) {
        let Some(login) = self.desk.asked(ticket) else { return };
        match verdict {
            Ok(()) => {
                self.desk.admit(&login.username);
                self.waiting = Some(login.id);
                self.start(now, out);
            }
            Err(words) => {
                self.desk.refuse_in_words(login.id.as_ref(), RejectReason::Unauthorized, words, out);
                self.desk.close(CloseReason::Refused, out);
            }
        }
    }

    fn on_verdict(&mut self, ticket: Ticket, verdict: Verdict, now: Now, out: &mut Vec<Action>) {
        let changed = self.desk.judge(ticket, verdict, now, out);
        self.retarget(changed, out);
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<Action>) {
        let changed = self.desk.tick(now, out);
        self.retarget(changed, out);
    }

    fn estimate(&self) -> Option<Difficulty> {
        self.desk.vardiff.estimate()
    }
}

fn share_target(difficulty: Difficulty) -> ShareTarget {
    // A conversion of a double to an integer saturates.
    ShareTarget::of(NonZeroU64::new(difficulty.get().round() as u64).unwrap_or(NonZeroU64::MIN))
}

/// Shares are judged by the target as it was sent, rounding included.
fn terms(difficulty: Difficulty) -> Terms {
    Terms { difficulty, target: share_target(difficulty).to_target() }
}
