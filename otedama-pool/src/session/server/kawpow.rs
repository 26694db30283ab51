//! The pool's end of Ravencoin's stratum. A job may have a header of this connection's own (the coinbase
//! holds its extranonce too), or one that all share, where the nonce's prefix alone keeps them apart.

use std::sync::Arc;

use otedama_core::algo::ethash::Params;
use otedama_core::{Algorithm, Candidate, CompactBits, Difficulty, Hash256, Target};

use super::super::desk::{Attempt, Desk};
use super::super::{Action, Duplicates, Limits, Now, Terms, Ticket, VardiffConfig, Verdict};
use super::Server;
use super::ethereum::key;
use crate::stratum::kawpow::{MinerMessage, Notify, PoolMessage, Submit, Subscribed};
use crate::stratum::{Dialect, Id, Incoming, Message, RejectReason, decode};
use crate::work::sealed;

/// How a connection is served.
#[derive(Clone, Debug)]
pub struct KawPowConfig {
    /// The session's name.
    pub session: String,
    /// What every nonce of this connection begins with: at most 4 bytes, usually 2.
    pub extranonce: Vec<u8>,
    /// Limits.
    pub limits: Limits,
    /// Difficulty; 1 is the target 00000000ff00....
    pub vardiff: VardiffConfig,
    /// Shares seen by all connections that hash the same headers.
    pub duplicates: Duplicates,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KawPowJob {
    /// What shares name it by.
    pub job_id: String,
    /// The hash of the sealed header, in the order it is fed to the function.
    pub header_hash: Hash256,
    /// The block's height.
    pub height: u64,
    /// The network's target.
    pub bits: CompactBits,
    /// Whether shares of all earlier jobs are worthless.
    pub clean: bool,
}

/// The state of one connection.
#[derive(Debug)]
pub struct KawPowServer {
    session: String,
    extranonce: Vec<u8>,
    subscribed: bool,
    job: Option<Arc<KawPowJob>>,
    started: bool,
    desk: Desk<Arc<KawPowJob>>,
}

const ALGORITHM: Algorithm = Algorithm::KawPow;

impl KawPowServer {
    /// A connection that was just opened.
    pub fn new(config: KawPowConfig, now: Now) -> KawPowServer {
        let KawPowConfig { session, extranonce, limits, vardiff, duplicates } = config;
        KawPowServer {
            session,
            extranonce,
            subscribed: false,
            job: None,
            started: false,
            desk: Desk::new(Dialect::KawPow, limits, vardiff, terms, duplicates, now),
        }
    }

    /// Hands out a job, now or when the handshake is done.
    pub fn set_job(&mut self, job: Arc<KawPowJob>, now: Now, out: &mut Vec<Action>) {
        self.job = Some(job);
        if self.started {
            self.hand_out(false, now, out);
        } else {
            self.start(now, out);
        }
    }

    fn request(&mut self, id: Option<Id>, request: MinerMessage, now: Now, out: &mut Vec<Action>) {
        let dialect = Dialect::KawPow;
        match request {
            MinerMessage::Subscribe(_) => {
                let session = Some(self.session.clone());
                let result = Subscribed { session, extranonce: self.extranonce.clone() };
                self.desk.send(dialect.success(id.as_ref(), &result.to_value()), out);
                self.subscribed = true;
                self.start(now, out);
            }
            MinerMessage::Authorize(login) => self.desk.ask(id, login.username, login.password, out),
            MinerMessage::ExtranonceSubscribe => self.desk.send(dialect.success(id.as_ref(), &true), out),
            MinerMessage::Hashrate(rate) => {
                out.push(Action::Hashrate(rate));
                self.desk.send(dialect.success(id.as_ref(), &true), out);
            }
            MinerMessage::Submit(share) => match self.attempt(&share, now) {
                Err(reason) => {
                    self.desk.turn_away(id.as_ref(), share.username, &share.job_id, reason, now, out);
                }
                Ok((job, mut attempt)) => {
                    attempt.id = id;
                    let header = (job.header_hash, job.height);
                    self.desk.verify_sealed(attempt, ALGORITHM, header, now, out);
                }
            },
        }
    }

    /// Target and first job, once everything for them is there.
    fn start(&mut self, now: Now, out: &mut Vec<Action>) {
        let ready = self.subscribed && self.desk.only_worker().is_some() && self.job.is_some();
        if ready && !self.started {
            self.started = true;
            self.hand_out(true, now, out);
        }
    }

    fn hand_out(&mut self, first: bool, now: Now, out: &mut Vec<Action>) {
        let Some(job) = self.job.clone() else { return };
        let Some(epoch) = Params::of(ALGORITHM).and_then(|params| params.epoch_at(job.height).ok()) else {
            return;
        };
        let (target, clean) = (self.desk.terms.target, first || job.clean);
        // Some miners read the one, some the other, some both.
        self.desk.send(PoolMessage::SetTarget(target).encode(None), out);
        let notify = Notify {
            job_id: job.job_id.clone(),
            header_hash: job.header_hash,
            seed_hash: Hash256::from_raw(epoch.seed()),
            target,
            clean,
            height: job.height,
            bits: Some(job.bits),
        };
        self.desk.send(PoolMessage::Notify(notify).encode(None), out);
        self.desk.issue(job.job_id.clone(), Arc::clone(&job), job.header_hash, clean, now);
    }

    /// The cheap checks.
    fn attempt<'a>(
        &self,
        share: &'a Submit,
        now: Now,
    ) -> Result<(Arc<KawPowJob>, Attempt<'a>), RejectReason> {
        if !self.subscribed {
            return Err(RejectReason::NotSubscribed);
        }
        if !self.desk.knows(&share.username) {
            return Err(RejectReason::Unauthorized);
        }
        let issued = self.desk.find(&share.job_id, now)?;
        let job = Arc::clone(&issued.job);
        if share.header_hash != job.header_hash {
            return Err(RejectReason::WrongHeader);
        }
        if !sealed::begins_with(share.nonce, &self.extranonce) {
            return Err(RejectReason::NoncePrefix);
        }
        let attempt = Attempt {
            id: None,
            worker: share.username.clone(),
            job_id: &share.job_id,
            terms: issued.terms,
            network: network(&job),
            key: key(issued.work, share.nonce),
            candidate: Candidate { nonce: share.nonce, version: None },
            mix: Some(share.mix_hash),
            pow: None,
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

impl Server for KawPowServer {
    fn on_line(&mut self, line: &str, now: Now, out: &mut Vec<Action>) {
        match decode(line) {
            Ok(Incoming::Message(id, request)) => self.request(id, request, now, out),
            Ok(Incoming::Answer(_)) => {}
            Err(bad) => self.desk.bad_line(bad, out),
        }
    }

    fn on_login(&mut self, ticket: Ticket, verdict: Result<(), String>, now: Now, out: &mut Vec<Action>) {
        let Some(login) = self.desk.asked(ticket) else { return };
        let id = login.id.as_ref();
        match verdict {
            Ok(()) => {
                self.desk.admit(&login.username);
                self.desk.send(Dialect::KawPow.success(id, &true), out);
                self.start(now, out);
            }
            Err(words) => self.desk.refuse_in_words(id, RejectReason::Unauthorized, words, out),
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

fn terms(difficulty: Difficulty) -> Terms {
    Terms { difficulty, target: Target::from_difficulty(ALGORITHM, difficulty) }
}

fn network(job: &KawPowJob) -> Option<Target> {
    job.bits.to_target().ok()
}
