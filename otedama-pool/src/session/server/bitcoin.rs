//! The pool's end of Bitcoin-style Stratum v1.
//!
//! The handshake's parts may come in any order and all at once: configure before or after subscribe,
//! authorize before subscribe. Difficulty and first job go out when there is a subscription, a worker and
//! a job. A changed difficulty is sent at once and binds jobs from the next on; shares for earlier jobs
//! are good at either and credited at the one they meet, their job's first.

use std::sync::Arc;

use otedama_core::{Algorithm, Candidate, Difficulty, Hash256};

use super::super::desk::{Attempt, Desk};
use super::super::{Action, Duplicates, Limits, Now, ShareKey, Terms, Ticket, VardiffConfig, Verdict};
use super::Server;
use crate::stratum::bitcoin::{
    Configure, Configured, Extranonce, MINIMUM_DIFFICULTY, MinerMessage, Notify, PoolMessage, Reconnect,
    SUBSCRIBE_EXTRANONCE, Submit, Subscribed, VERSION_ROLLING,
};
use crate::stratum::{Answer, Dialect, Id, Incoming, Message, RejectReason, decode};
use crate::work::bitcoin::{self as work, Rolled};

/// How a connection is served.
#[derive(Clone, Debug)]
pub struct BitcoinConfig {
    /// [`Algorithm::Sha256d`] or [`Algorithm::Scrypt`].
    pub algorithm: Algorithm,
    /// The session's name.
    pub session: String,
    /// What makes this connection's coinbases its own: no other connection to the same pool has it.
    pub extranonce: Extranonce,
    /// Version bits that may be rolled, 0 for none; jobs' versions must be zero there.
    pub version_mask: u32,
    /// Limits.
    pub limits: Limits,
    /// Difficulty.
    pub vardiff: VardiffConfig,
}

/// A job as the pool hands it out to all its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitcoinJob {
    /// What is sent.
    pub notify: Notify,
    /// The earliest time a header may have, in seconds since 1970: the template's `mintime`.
    pub min_time: u32,
}

/// The state of one connection.
#[derive(Debug)]
pub struct BitcoinServer {
    algorithm: Algorithm,
    session: String,
    extranonce: Extranonce,
    offered_mask: u32,
    /// The mask agreed on, 0 if none.
    mask: u32,
    agent: Option<String>,
    takes_extranonces: bool,
    /// The newest job, sent or waiting for the handshake.
    job: Option<Arc<BitcoinJob>>,
    started: bool,
    desk: Desk<Handed>,
}

/// A job with what was in force when it was sent.
#[derive(Clone, Debug)]
struct Handed {
    job: Arc<BitcoinJob>,
    extranonce: Extranonce,
}

impl BitcoinServer {
    /// A connection that was just opened.
    pub fn new(config: BitcoinConfig, now: Now) -> BitcoinServer {
        let BitcoinConfig { algorithm, session, extranonce, version_mask, limits, vardiff } = config;
        let terms = move |difficulty| terms(algorithm, difficulty);
        BitcoinServer {
            algorithm,
            session,
            extranonce,
            offered_mask: version_mask,
            mask: 0,
            agent: None,
            takes_extranonces: false,
            job: None,
            started: false,
            desk: Desk::new(Dialect::Bitcoin, limits, vardiff, terms, Duplicates::new(), now),
        }
    }

    /// The miner's user agent, once it has subscribed.
    pub fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// Hands out a job, now or when the handshake is done.
    pub fn set_job(&mut self, job: Arc<BitcoinJob>, now: Now, out: &mut Vec<Action>) {
        self.job = Some(job);
        if self.started {
            self.hand_out(false, now, out);
        } else {
            self.start(now, out);
        }
    }

    /// Gives the connection another extranonce from the next job on. `false` if the miner does not
    /// understand that; it must then reconnect to get one.
    pub fn set_extranonce(&mut self, extranonce: Extranonce, out: &mut Vec<Action>) -> bool {
        if self.takes_extranonces {
            self.desk.send(PoolMessage::SetExtranonce(extranonce.clone()).encode(None), out);
            self.extranonce = extranonce;
        }
        self.takes_extranonces
    }

    /// Asks the miner to connect elsewhere, or to the same place again.
    pub fn reconnect(&self, to: Reconnect, out: &mut Vec<Action>) {
        self.desk.send(PoolMessage::Reconnect(to).encode(None), out);
    }

    fn request(&mut self, id: Option<Id>, request: MinerMessage, now: Now, out: &mut Vec<Action>) {
        let yes = |desk: &Desk<Handed>, out: &mut Vec<Action>| {
            desk.send(Dialect::Bitcoin.success(id.as_ref(), &true), out);
        };
        match request {
            MinerMessage::Configure(asked) => self.configure(id.as_ref(), &asked, out),
            MinerMessage::Subscribe(subscribe) => {
                self.agent.get_or_insert(subscribe.agent);
                let result =
                    Subscribed { session: self.session.clone(), extranonce: self.extranonce.clone() };
                self.desk.send(Dialect::Bitcoin.success(id.as_ref(), &result.to_value()), out);
                self.start(now, out);
            }
            MinerMessage::Authorize(login) => self.desk.ask(id, login.username, login.password, out),
            MinerMessage::ExtranonceSubscribe => {
                self.takes_extranonces = true;
                yes(&self.desk, out);
            }
            MinerMessage::SuggestDifficulty(wish) => {
                yes(&self.desk, out);
                self.suggest(wish, out);
            }
            MinerMessage::SuggestTarget(target) => {
                yes(&self.desk, out);
                self.suggest(target.to_difficulty(self.algorithm), out);
            }
            MinerMessage::Submit(share) => self.submit(id, share, now, out),
            MinerMessage::GetTransactions(_) => {
                self.desk.send(Dialect::Bitcoin.success(id.as_ref(), &[(); 0]), out);
            }
            MinerMessage::MultiVersion => self.desk.refuse(id.as_ref(), RejectReason::NotSupported, out),
            MinerMessage::Ping => self.desk.send(Dialect::Bitcoin.success(id.as_ref(), &"pong"), out),
        }
    }

    fn configure(&mut self, id: Option<&Id>, asked: &Configure, out: &mut Vec<Action>) {
        if asked.asks(VERSION_ROLLING) {
            let mask = self.offered_mask & asked.mask.unwrap_or(u32::MAX);
            // A miner that is told of no bits, or of fewer than it needs, had better not roll.
            let enough = u64::from(mask.count_ones()) >= asked.min_bits.unwrap_or(0);
            self.mask = if enough { mask } else { 0 };
        }
        self.takes_extranonces |= asked.asks(SUBSCRIBE_EXTRANONCE);
        let min_difficulty = asked.min_difficulty.filter(|_| asked.asks(MINIMUM_DIFFICULTY));
        let result = Configured {
            mask: Some(self.mask).filter(|&mask| mask != 0),
            min_difficulty: min_difficulty.is_some(),
            subscribe_extranonce: self.takes_extranonces,
        };
        self.desk.send(Dialect::Bitcoin.success(id, &result.to_value(asked)), out);
        if let Some(Ok(least)) = min_difficulty.map(Difficulty::new) {
            let changed = self.desk.vardiff.at_least(least);
            self.retarget(changed, out);
        }
    }

    fn suggest(&mut self, wish: Difficulty, out: &mut Vec<Action>) {
        let changed = self.desk.vardiff.suggest(wish);
        self.retarget(changed, out);
    }

    /// Difficulty and first job, once everything for them is there.
    fn start(&mut self, now: Now, out: &mut Vec<Action>) {
        let ready = self.agent.is_some() && self.desk.only_worker().is_some() && self.job.is_some();
        if ready && !self.started {
            self.started = true;
            let difficulty = self.desk.vardiff.current();
            self.desk.send(PoolMessage::SetDifficulty(difficulty).encode(None), out);
            self.hand_out(true, now, out);
        }
    }

    fn hand_out(&mut self, first: bool, now: Now, out: &mut Vec<Action>) {
        let Some(job) = self.job.clone() else { return };
        let clean = first || job.notify.clean;
        let notify = Box::new(Notify { clean, ..job.notify.clone() });
        let work = work::fingerprint(&job.notify, &self.extranonce.extranonce1);
        let handed = Handed { job, extranonce: self.extranonce.clone() };
        self.desk.issue(notify.job_id.clone(), handed, work, clean, now);
        self.desk.send(PoolMessage::Notify(notify).encode(None), out);
    }

    fn submit(&mut self, id: Option<Id>, share: Submit, now: Now, out: &mut Vec<Action>) {
        match self.attempt(&share, now) {
            Err(reason) => {
                let facts = self.desk.facts(&share.job_id, share.version_bits, now);
                self.desk.reject(id.as_ref(), share.username, reason, facts, out);
            }
            Ok((header, mut attempt)) => {
                attempt.id = id;
                let algorithm = self.algorithm;
                let make = |id, target| work::job(id, algorithm, &header, None, target);
                self.desk.verify(attempt, make, now, out);
            }
        }
    }

    /// The cheap checks.
    fn attempt<'a>(&self, share: &'a Submit, now: Now) -> Result<([u8; 80], Attempt<'a>), RejectReason> {
        if self.agent.is_none() {
            return Err(RejectReason::NotSubscribed);
        }
        if !self.desk.knows(&share.username) {
            return Err(RejectReason::Unauthorized);
        }
        let issued = self.desk.find(&share.job_id, now)?;
        let Handed { job, extranonce } = &issued.job;
        if share.extranonce2.len() != extranonce.extranonce2_size {
            return Err(RejectReason::ExtranonceSize);
        }
        let latest = now.unix_s.saturating_add(self.desk.limits.ahead_s);
        if share.ntime < job.min_time || u64::from(share.ntime) > latest {
            return Err(RejectReason::TimeRange);
        }
        let bits = share.version_bits.unwrap_or(0);
        if bits & !self.mask != 0 {
            return Err(RejectReason::VersionBits);
        }
        let notify = &job.notify;
        // Without the sixth parameter nothing was rolled.
        let version = match share.version_bits {
            Some(bits) => work::rolled_version(notify.version, self.mask, bits),
            None => notify.version,
        };
        let rolled = Rolled { version, ntime: share.ntime, nonce: share.nonce };
        let coinbase = work::coinbase(notify, &extranonce.extranonce1, &share.extranonce2);
        let header = work::header(notify, &work::merkle_root(&coinbase, &notify.branch), rolled);
        let attempt = Attempt {
            id: None,
            worker: share.username.clone(),
            job_id: &share.job_id,
            terms: issued.terms,
            network: notify.bits.to_target().ok(),
            key: key(issued.work, &share.extranonce2, rolled),
            candidate: Candidate { nonce: share.nonce.into(), version: None },
            mix: None,
            pow: None,
            coinbase: Some(coinbase),
            version_bits: share.version_bits,
        };
        Ok((header, attempt))
    }

    /// A changed difficulty goes out at once; jobs have it from the next on.
    fn retarget(&mut self, changed: Option<Difficulty>, out: &mut Vec<Action>) {
        let Some(difficulty) = changed else { return };
        self.desk.terms = terms(self.algorithm, difficulty);
        if self.started {
            self.desk.send(PoolMessage::SetDifficulty(difficulty).encode(None), out);
        }
    }
}

impl Server for BitcoinServer {
    fn on_line(&mut self, line: &str, now: Now, out: &mut Vec<Action>) {
        match decode(line) {
            Ok(Incoming::Message(id, request)) => self.request(id, request, now, out),
            // The answer to a version question or a ping of ours: of no consequence.
            Ok(Incoming::Answer(Answer { .. })) => {}
            Err(bad) => self.desk.bad_line(bad, out),
        }
    }

    fn on_login(&mut self, ticket: Ticket, verdict: Result<(), String>, now: Now, out: &mut Vec<Action>) {
        let Some(login) = self.desk.asked(ticket) else { return };
        match verdict {
            Ok(()) => {
                self.desk.admit(&login.username);
                self.desk.send(Dialect::Bitcoin.success(login.id.as_ref(), &true), out);
                self.start(now, out);
            }
            Err(words) => {
                self.desk.refuse_in_words(login.id.as_ref(), RejectReason::Unauthorized, words, out);
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

fn terms(algorithm: Algorithm, difficulty: Difficulty) -> Terms {
    Terms { difficulty, target: work::lenient_target(algorithm, difficulty) }
}

fn key(work: Hash256, extranonce2: &[u8], rolled: Rolled) -> ShareKey {
    let mut choice = [0; 32];
    choice[..4].copy_from_slice(&rolled.version.to_le_bytes());
    choice[4..8].copy_from_slice(&rolled.ntime.to_le_bytes());
    choice[8..12].copy_from_slice(&rolled.nonce.to_le_bytes());
    choice[12..12 + extranonce2.len()].copy_from_slice(extranonce2);
    ShareKey { work, choice }
}
