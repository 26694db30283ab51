//! The pool's end of Ethash and Etchash: the first message settles which of the three dialects it is.
//!
//! Difficulty is counted in hashes here; NiceHash's dialect shows it on Bitcoin's scale. Over eth-proxy all
//! connections search the same nonces, so all sessions of a pool share one [`Duplicates`].

use std::sync::Arc;

use otedama_core::algo::ethash::Params;
use otedama_core::{Algorithm, Candidate, Difficulty, Hash256, Target};
use serde_json::Value;

use super::super::desk::{Attempt, Desk};
use super::super::{
    Action, CloseReason, Duplicates, Limits, Now, ShareKey, Terms, Ticket, VardiffConfig, Verdict,
};
use super::Server;
use crate::stratum::ethereum::{NonceTail, detect, eip1571, nicehash, proxy};
use crate::stratum::{BadLine, Dialect, Frame, Id, Incoming, Message, RejectReason, read};
use crate::work::sealed;

/// How a connection is served.
#[derive(Clone, Debug)]
pub struct EthereumConfig {
    /// [`Algorithm::Ethash`] or [`Algorithm::Etchash`].
    pub algorithm: Algorithm,
    /// The session's name.
    pub session: String,
    /// What every nonce of this connection begins with, where the dialect has that: at most 3 bytes.
    pub extranonce: Vec<u8>,
    /// Limits.
    pub limits: Limits,
    /// Difficulty, in hashes.
    pub vardiff: VardiffConfig,
    /// Shares seen by all connections.
    pub duplicates: Duplicates,
}

/// A job as the pool hands it out to all its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EthereumJob {
    /// What shares name it by, except over eth-proxy.
    pub job_id: String,
    /// The hash of the sealed header.
    pub header_hash: Hash256,
    /// The block's height.
    pub height: u64,
    /// The network's target.
    pub network: Target,
    /// Whether shares of all earlier jobs are worthless.
    pub clean: bool,
}

/// The state of one connection.
#[derive(Debug)]
pub struct EthereumServer {
    algorithm: Algorithm,
    session: String,
    extranonce: Vec<u8>,
    /// Settled by the first message.
    dialect: Option<Dialect>,
    subscribed: bool,
    job: Option<Arc<EthereumJob>>,
    started: bool,
    /// What was last set in EIP-1571's dialect.
    set: eip1571::Set,
    desk: Desk<Handed>,
}

/// A job with what was in force when it was sent.
#[derive(Clone, Debug)]
struct Handed {
    job: Arc<EthereumJob>,
    extranonce: Vec<u8>,
}

/// A share of any of the dialects.
struct Claimed<'a> {
    worker: String,
    job_id: &'a str,
    tail: &'a NonceTail,
    mix: Option<Hash256>,
}

impl EthereumServer {
    /// A connection that was just opened.
    pub fn new(config: EthereumConfig, now: Now) -> EthereumServer {
        let EthereumConfig { algorithm, session, extranonce, limits, vardiff, duplicates } = config;
        let dialect = Dialect::EthProxy;
        let terms = move |difficulty| terms(algorithm, dialect, difficulty);
        EthereumServer {
            algorithm,
            session,
            extranonce,
            dialect: None,
            subscribed: false,
            job: None,
            started: false,
            set: eip1571::Set::default(),
            desk: Desk::new(dialect, limits, vardiff, terms, duplicates, now),
        }
    }

    /// Which dialect it is, once something was said.
    pub fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// Hands out a job, now or when the handshake is done.
    pub fn set_job(&mut self, job: Arc<EthereumJob>, now: Now, out: &mut Vec<Action>) {
        self.job = Some(job);
        if self.started {
            self.hand_out(None, false, now, out);
        } else {
            self.start(now, out);
        }
    }

    fn first(&mut self, dialect: Dialect) {
        self.dialect = Some(dialect);
        self.desk.dialect = dialect;
        // eth-proxy has no subscription.
        self.subscribed = dialect == Dialect::EthProxy;
        self.desk.terms = terms(self.algorithm, dialect, self.desk.vardiff.current());
    }

    fn line(&mut self, line: &str, now: Now, out: &mut Vec<Action>) -> Result<(), BadLine> {
        let Frame::Call(call) = Frame::parse(line)? else { return Ok(()) };
        if self.dialect.is_none() {
            let detected = detect(&call).map_err(|error| BadLine { id: call.id.clone(), error })?;
            self.first(detected);
        }
        match self.dialect {
            Some(Dialect::NiceHash) => {
                if let Incoming::Message(id, request) = read(call)? {
                    self.nicehash(id, request, now, out);
                }
            }
            Some(Dialect::Eip1571) => {
                if let Incoming::Message(id, request) = read(call)? {
                    self.eip1571(id, request, now, out);
                }
            }
            _ => {
                if let Incoming::Message(id, request) = read(call)? {
                    self.proxy(id, request, now, out);
                }
            }
        }
        Ok(())
    }

    fn proxy(&mut self, id: Option<Id>, request: proxy::MinerMessage, now: Now, out: &mut Vec<Action>) {
        match request {
            proxy::MinerMessage::Login(proxy::Login { login, password, worker }) => {
                let username = match worker {
                    Some(worker) if !worker.is_empty() && !login.contains('.') => format!("{login}.{worker}"),
                    _ => login,
                };
                self.desk.ask(id, username, password, out);
            }
            proxy::MinerMessage::GetWork => {
                if self.desk.only_worker().is_none() {
                    self.desk.refuse(id.as_ref(), RejectReason::NotSubscribed, out);
                } else if self.job.is_none() {
                    self.desk.refuse(id.as_ref(), RejectReason::NoWork, out);
                } else {
                    self.started = true;
                    self.hand_out(id, false, now, out);
                }
            }
            proxy::MinerMessage::Submit(share) => {
                let nonce = NonceTail::of(share.nonce, 0);
                let worker = self.desk.only_worker().unwrap_or_default().to_owned();
                let job_id = share.header_hash.to_raw_hex();
                let claimed = Claimed { worker, job_id: &job_id, tail: &nonce, mix: Some(share.mix_hash) };
                self.submit(id, claimed, now, out);
            }
            proxy::MinerMessage::Hashrate(rate) => self.hashrate(id, rate, out),
        }
    }

    fn nicehash(&mut self, id: Option<Id>, request: nicehash::MinerMessage, now: Now, out: &mut Vec<Action>) {
        match request {
            nicehash::MinerMessage::Subscribe { .. } => {
                let result = nicehash::Subscribed {
                    session: self.session.clone(),
                    extranonce: self.extranonce.clone(),
                };
                self.succeed(id.as_ref(), &result.to_value(), out);
                self.subscribed = true;
                self.start(now, out);
            }
            nicehash::MinerMessage::ExtranonceSubscribe => self.succeed(id.as_ref(), &true.into(), out),
            nicehash::MinerMessage::Authorize(login) => {
                self.desk.ask(id, login.username, login.password, out);
            }
            nicehash::MinerMessage::Submit(nicehash::Submit { username, job_id, nonce }) => {
                let claimed = Claimed { worker: username, job_id: &job_id, tail: &nonce, mix: None };
                self.submit(id, claimed, now, out);
            }
            nicehash::MinerMessage::Hashrate(rate) => self.hashrate(id, rate, out),
        }
    }

    fn eip1571(&mut self, id: Option<Id>, request: eip1571::MinerMessage, now: Now, out: &mut Vec<Action>) {
        match request {
            eip1571::MinerMessage::Hello(_) => {
                let welcome = eip1571::Welcome {
                    timeout_s: self.desk.limits.idle.as_secs(),
                    max_errors: self.desk.limits.max_errors.into(),
                    node: "otedama".to_owned(),
                };
                self.succeed(id.as_ref(), &welcome.to_value(), out);
            }
            eip1571::MinerMessage::Subscribe(_) => {
                self.subscribed = true;
                self.succeed(id.as_ref(), &self.session.as_str().into(), out);
                self.start(now, out);
            }
            eip1571::MinerMessage::Authorize(login) => {
                self.desk.ask(id, login.username, login.password, out);
            }
            eip1571::MinerMessage::Submit(eip1571::Submit { job_id, nonce, worker }) => {
                let claimed = Claimed { worker, job_id: &job_id, tail: &nonce, mix: None };
                self.submit(id, claimed, now, out);
            }
            eip1571::MinerMessage::Hashrate(rate) => self.hashrate(id, rate, out),
            eip1571::MinerMessage::Noop => self.succeed(id.as_ref(), &true.into(), out),
            eip1571::MinerMessage::Bye => self.desk.close(CloseReason::Left, out),
        }
    }

    fn succeed(&self, id: Option<&Id>, result: &Value, out: &mut Vec<Action>) {
        self.desk.send(self.desk.dialect.success(id, result), out);
    }

    fn hashrate(&self, id: Option<Id>, rate: u64, out: &mut Vec<Action>) {
        out.push(Action::Hashrate(rate));
        self.succeed(id.as_ref(), &true.into(), out);
    }

    /// Difficulty and first job, once everything for them is there.
    fn start(&mut self, now: Now, out: &mut Vec<Action>) {
        let ready = self.subscribed && self.desk.only_worker().is_some() && self.job.is_some();
        // A client of eth-proxy asks for its first work itself.
        if ready && !self.started && self.dialect != Some(Dialect::EthProxy) {
            self.started = true;
            if self.dialect == Some(Dialect::NiceHash) {
                self.tell_nicehash(out);
            }
            self.hand_out(None, true, now, out);
        }
    }

    fn tell_nicehash(&self, out: &mut Vec<Action>) {
        let difficulty = sealed::nicehash_difficulty(&exact(self.algorithm, self.desk.vardiff.current()));
        self.desk.send(nicehash::PoolMessage::SetDifficulty(difficulty).encode(None), out);
    }

    /// Sends the newest job; over eth-proxy as the answer to a question, or to none.
    fn hand_out(&mut self, question: Option<Id>, first: bool, now: Now, out: &mut Vec<Action>) {
        let Some(job) = self.job.clone() else { return };
        let Some(epoch) = Params::of(self.algorithm).and_then(|params| params.epoch_at(job.height).ok())
        else {
            return self.desk.refuse(question.as_ref(), RejectReason::Internal, out);
        };
        let (header_hash, clean) = (job.header_hash, first || job.clean);
        let seed_hash = Hash256::from_raw(epoch.seed());
        let mut job_id = job.job_id.clone();
        match self.desk.dialect {
            Dialect::NiceHash => {
                let notify = nicehash::Notify { job_id: job_id.clone(), seed_hash, header_hash, clean };
                self.desk.send(nicehash::PoolMessage::Notify(notify).encode(None), out);
            }
            Dialect::Eip1571 => {
                let set = eip1571::Set {
                    epoch: Some(epoch.number()),
                    target: Some(self.desk.terms.target),
                    algorithm: Some(self.algorithm.name().to_owned()),
                    extranonce: Some(self.extranonce.clone()),
                };
                if set != self.set {
                    self.desk.send(eip1571::PoolMessage::Set(set.clone()).encode(None), out);
                    self.set = set;
                }
                let (job_id, height) = (job_id.clone(), job.height);
                let notify = eip1571::Notify { job_id, height, header_hash, clean };
                self.desk.send(eip1571::PoolMessage::Notify(notify).encode(None), out);
            }
            dialect => {
                job_id = header_hash.to_raw_hex();
                let target = self.desk.terms.target;
                let work = proxy::Work { header_hash, seed_hash, target, height: Some(job.height) };
                let id = question.unwrap_or_else(|| Id::number(0));
                self.desk.send(dialect.success(Some(&id), &work.to_value()), out);
                // Asked again: nothing new.
                let current = self.desk.jobs.current();
                if current.is_some_and(|issued| issued.id == job_id && issued.terms == self.desk.terms) {
                    return;
                }
            }
        }
        let handed = Handed { job, extranonce: self.extranonce.clone() };
        self.desk.issue(job_id, handed, header_hash, clean, now);
    }

    fn submit(&mut self, id: Option<Id>, claimed: Claimed<'_>, now: Now, out: &mut Vec<Action>) {
        match self.attempt(&claimed, now) {
            Err(reason) => {
                self.desk.turn_away(id.as_ref(), claimed.worker, claimed.job_id, reason, now, out);
            }
            Ok((job, attempt)) => {
                // eth-proxy names jobs by their header hash; from here on each has the id it was cut under.
                let attempt = Attempt { id, job_id: &job.job_id, ..attempt };
                self.desk.verify_sealed(attempt, self.algorithm, (job.header_hash, job.height), now, out);
            }
        }
    }

    /// The cheap checks.
    fn attempt<'a>(
        &self,
        claimed: &Claimed<'a>,
        now: Now,
    ) -> Result<(Arc<EthereumJob>, Attempt<'a>), RejectReason> {
        if !self.subscribed {
            return Err(RejectReason::NotSubscribed);
        }
        if !self.desk.knows(&claimed.worker) {
            return Err(RejectReason::Unauthorized);
        }
        let issued = self.desk.find(claimed.job_id, now)?;
        let prefix = match self.desk.dialect {
            Dialect::EthProxy => String::new(),
            _ => hex::encode(&issued.job.extranonce),
        };
        let nonce = claimed.tail.after(&prefix).ok_or(RejectReason::NoncePrefix)?;
        let job = Arc::clone(&issued.job.job);
        let attempt = Attempt {
            id: None,
            worker: claimed.worker.clone(),
            job_id: claimed.job_id,
            terms: issued.terms,
            network: Some(job.network),
            key: key(issued.work, nonce),
            candidate: Candidate { nonce, version: None },
            mix: claimed.mix,
            pow: None,
            coinbase: None,
            version_bits: None,
        };
        Ok((job, attempt))
    }

    /// A changed difficulty is told where the dialect has a message for it; the next job has it in any case.
    fn retarget(&mut self, changed: Option<Difficulty>, out: &mut Vec<Action>) {
        let Some(difficulty) = changed else { return };
        self.desk.terms = terms(self.algorithm, self.desk.dialect, difficulty);
        if self.started && self.dialect == Some(Dialect::NiceHash) {
            self.tell_nicehash(out);
        }
    }
}

impl Server for EthereumServer {
    fn on_line(&mut self, line: &str, now: Now, out: &mut Vec<Action>) {
        if let Err(bad) = self.line(line, now, out) {
            self.desk.bad_line(bad, out);
        }
    }

    fn on_login(&mut self, ticket: Ticket, verdict: Result<(), String>, now: Now, out: &mut Vec<Action>) {
        let Some(login) = self.desk.asked(ticket) else { return };
        let id = login.id.as_ref();
        match verdict {
            Ok(()) => {
                self.desk.admit(&login.username);
                // EIP-1571 wants a token that shares name the worker by; the name will do.
                let token = Value::from(login.username.as_str());
                let result = if self.dialect == Some(Dialect::Eip1571) { token } else { true.into() };
                self.succeed(id, &result, out);
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

fn exact(algorithm: Algorithm, difficulty: Difficulty) -> Target {
    Target::from_difficulty(algorithm, difficulty)
}

/// A NiceHash target is that of the number on the wire, which is a double.
fn terms(algorithm: Algorithm, dialect: Dialect, difficulty: Difficulty) -> Terms {
    let target = exact(algorithm, difficulty);
    let target = match dialect {
        Dialect::NiceHash => sealed::nicehash_target(sealed::nicehash_difficulty(&target)),
        _ => target,
    };
    Terms { difficulty, target }
}

/// What tells shares of sealed headers apart.
pub(crate) fn key(work: Hash256, nonce: u64) -> ShareKey {
    let mut choice = [0; 32];
    choice[..8].copy_from_slice(&nonce.to_be_bytes());
    ShareKey { work, choice }
}
