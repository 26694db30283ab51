//! The miner's end of Ethash and Etchash in any of the three dialects. Which one a pool speaks is tried
//! from outside: a refused or unanswered first call is a [`super::super::ClientError`], and the next
//! dialect wants a new connection.

use std::sync::Arc;
use std::time::Duration;

use otedama_core::algo::ethash::SeedFinder;
use otedama_core::job::NonceRange;
use otedama_core::{Algorithm, Difficulty, Hash256, SearchSpace, Share, Target};

use super::super::{ClientError, Event, Now};
use super::{Account, Client, Counts, Line, Submitted, turned};
use crate::stratum::bitcoin::Login;
use crate::stratum::ethereum::{NonceTail, STRATUM_2, eip1571, nicehash, proxy};
use crate::stratum::{Answer, BadLine, Dialect, Frame, Incoming, Message, read};
use crate::work::Task;
use crate::work::sealed::{self, Sealed};

/// How to mine.
#[derive(Clone, Debug)]
pub struct EthereumClientConfig {
    /// [`Algorithm::Ethash`] or [`Algorithm::Etchash`].
    pub algorithm: Algorithm,
    /// [`Dialect::EthProxy`], [`Dialect::NiceHash`] or [`Dialect::Eip1571`]; any other is taken for the first.
    pub dialect: Dialect,
    /// For whom.
    pub account: Account,
    /// Where to begin, over eth-proxy, of which 63 bits count: all of its miners share their nonces and had
    /// better begin anywhere.
    pub nonce_start: u64,
}

/// The state of one connection.
#[derive(Debug)]
pub struct EthereumClient {
    config: EthereumClientConfig,
    /// What the next job has.
    extranonce: Vec<u8>,
    target: Target,
    /// The token that authorizing gave (EIP-1571).
    token: String,
    job: Option<Current>,
    turn: u8,
    asked_work: Duration,
    seeds: SeedFinder,
    line: Line<Asked, HowToSubmit>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Hello,
    Subscribe,
    Login,
    ExtranonceSubscribe,
    GetWork,
    Submit,
}

/// The newest job.
#[derive(Debug)]
struct Current {
    job_id: String,
    work: Sealed,
    target: Target,
    extranonce: Vec<u8>,
    handed_out: bool,
}

/// How shares of a task are submitted.
#[derive(Debug)]
struct HowToSubmit {
    job_id: String,
    header_hash: Hash256,
    prefix_digits: usize,
}

/// How often work is asked for over eth-proxy: some pools do not push it.
const POLL: Duration = Duration::from_secs(5);

const HANDSHAKE: [(Asked, &str); 4] = [
    (Asked::Hello, "mining.hello"),
    (Asked::Subscribe, "mining.subscribe"),
    (Asked::Login, "the login"),
    (Asked::GetWork, "eth_getWork"),
];

impl EthereumClient {
    /// A connection that is about to be opened.
    pub fn new(config: EthereumClientConfig) -> EthereumClient {
        let dialect = match config.dialect {
            dialect @ (Dialect::NiceHash | Dialect::Eip1571) => dialect,
            _ => Dialect::EthProxy,
        };
        let one = Difficulty::new(1.0).expect("one is a difficulty");
        EthereumClient {
            config: EthereumClientConfig { dialect, ..config },
            extranonce: Vec::new(),
            target: sealed::nicehash_target(one),
            token: String::new(),
            job: None,
            turn: 0,
            asked_work: Duration::ZERO,
            seeds: SeedFinder::new(),
            line: Line::new(dialect),
        }
    }

    fn call(&mut self, what: Asked, message: &impl Message, now: Now, out: &mut Vec<Event>) {
        let id = self.line.ask(what, now);
        out.push(Event::Send(message.encode(Some(&id))));
    }

    fn login(&self) -> Login {
        let Account { username, password, .. } = self.config.account.clone();
        Login { username, password }
    }

    fn get_work(&mut self, now: Now, out: &mut Vec<Event>) {
        self.asked_work = now.elapsed;
        self.call(Asked::GetWork, &proxy::MinerMessage::GetWork, now, out);
    }

    fn line(&mut self, line: &str, now: Now, out: &mut Vec<Event>) -> Result<(), BadLine> {
        match (Frame::parse(line)?, self.config.dialect) {
            (Frame::Answer(answer), _) => self.answer(answer, now, out),
            (Frame::Call(call), Dialect::NiceHash) => {
                if let Incoming::Message(_, message) = read(call)? {
                    self.told_nicehash(message, now, out);
                }
            }
            (Frame::Call(call), Dialect::Eip1571) => {
                if let Incoming::Message(_, message) = read(call)? {
                    self.told_eip1571(message, now, out);
                }
            }
            // Nothing is called over eth-proxy.
            (Frame::Call(call), _) => out.push(Event::Odd(format!("unexpected call of {}", call.method))),
        }
        Ok(())
    }

    fn answer(&mut self, answer: Answer, now: Now, out: &mut Vec<Event>) {
        let pushed = answer.id.as_ref().is_none_or(|id| id.as_number() == Some(0));
        match self.line.answered(&answer, now) {
            None if pushed && self.config.dialect == Dialect::EthProxy => self.work(answer, now, out),
            None | Some(Asked::ExtranonceSubscribe) => {}
            Some(Asked::GetWork) => self.work(answer, now, out),
            Some(Asked::Submit) => self.line.settle(answer, out),
            Some(Asked::Hello) => {
                let Some(result) = self.line.granted("mining.hello", answer, out) else { return };
                match eip1571::Welcome::read(&result) {
                    Ok(_) => {
                        self.call(Asked::Subscribe, &eip1571::MinerMessage::Subscribe(None), now, out);
                    }
                    Err(error) => self.line.fail(ClientError::Answer(error.to_string()), out),
                }
            }
            Some(Asked::Subscribe) => {
                let Some(result) = self.line.granted("mining.subscribe", answer, out) else { return };
                if self.config.dialect == Dialect::Eip1571 {
                    let login = eip1571::MinerMessage::Authorize(self.login());
                    return self.call(Asked::Login, &login, now, out);
                }
                match nicehash::Subscribed::read(&result) {
                    Ok(subscribed) => self.extranonce = subscribed.extranonce,
                    Err(error) => return self.line.fail(ClientError::Answer(error.to_string()), out),
                }
                let subscribe = nicehash::MinerMessage::ExtranonceSubscribe;
                self.call(Asked::ExtranonceSubscribe, &subscribe, now, out);
                let login = nicehash::MinerMessage::Authorize(self.login());
                self.call(Asked::Login, &login, now, out);
            }
            Some(Asked::Login) => {
                let Some(result) = self.line.granted("the login", answer, out) else { return };
                self.token = result.as_str().unwrap_or_default().to_owned();
                if self.config.dialect == Dialect::EthProxy {
                    self.get_work(now, out);
                }
            }
        }
    }

    /// Work over eth-proxy. That there is none yet is no reason to leave.
    fn work(&mut self, answer: Answer, now: Now, out: &mut Vec<Event>) {
        let read = match answer.outcome {
            Ok(result) => proxy::Work::read(&result).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match read {
            Ok(work) => {
                self.target = work.target;
                let proxy::Work { header_hash, seed_hash, height, .. } = work;
                let sealed = Sealed { header_hash, seed_hash: Some(seed_hash), height };
                // Solutions of older headers count for a while, as uncles.
                self.new_job(header_hash.to_raw_hex(), sealed, false, now, out);
            }
            Err(words) => out.push(Event::Odd(words)),
        }
    }

    fn told_nicehash(&mut self, message: nicehash::PoolMessage, now: Now, out: &mut Vec<Event>) {
        match message {
            nicehash::PoolMessage::SetDifficulty(difficulty) => {
                self.target = sealed::nicehash_target(difficulty);
                out.push(Event::Difficulty(self.target.to_difficulty(self.config.algorithm)));
            }
            nicehash::PoolMessage::Notify(nicehash::Notify { job_id, seed_hash, header_hash, clean }) => {
                let sealed = Sealed { header_hash, seed_hash: Some(seed_hash), height: None };
                self.new_job(job_id, sealed, clean, now, out);
            }
            nicehash::PoolMessage::SetExtranonce(extranonce) => self.extranonce = extranonce,
        }
    }

    fn told_eip1571(&mut self, message: eip1571::PoolMessage, now: Now, out: &mut Vec<Event>) {
        match message {
            eip1571::PoolMessage::Set(set) => {
                if let Some(target) = set.target {
                    self.target = target;
                    out.push(Event::Difficulty(target.to_difficulty(self.config.algorithm)));
                }
                self.extranonce = set.extranonce.unwrap_or_else(|| std::mem::take(&mut self.extranonce));
            }
            eip1571::PoolMessage::Notify(eip1571::Notify { job_id, height, header_hash, clean }) => {
                let sealed = Sealed { header_hash, seed_hash: None, height: Some(height) };
                self.new_job(job_id, sealed, clean, now, out);
            }
            eip1571::PoolMessage::Reconnect { host, port } => {
                out.push(Event::Reconnect { host, port, wait: Duration::ZERO });
            }
            eip1571::PoolMessage::Bye => {
                out.push(Event::Reconnect { host: None, port: None, wait: Duration::ZERO });
            }
        }
    }

    fn new_job(&mut self, job_id: String, work: Sealed, clean: bool, now: Now, out: &mut Vec<Event>) {
        if let Some(old) = &self.job
            && old.work.header_hash == work.header_hash
        {
            if old.target == self.target && old.job_id == job_id {
                return; // asked again, nothing new
            }
            self.turn = self.turn.wrapping_add(1);
        }
        let extranonce = self.extranonce.clone();
        self.job = Some(Current { job_id, work, target: self.target, extranonce, handed_out: false });
        self.line.new_job(clean, now, out);
    }

    fn space(&self, job: &otedama_core::Job, prefix: &[u8]) -> SearchSpace {
        let space = if self.config.dialect == Dialect::EthProxy {
            let start = self.config.nonce_start & (u64::MAX >> 1);
            SearchSpace { nonces: NonceRange { start, count: u64::MAX - start }, ..job.space() }
        } else {
            sealed::space_after(job, prefix)
        };
        turned(space, self.turn)
    }
}

impl Client for EthereumClient {
    fn start(&mut self, now: Now, out: &mut Vec<Event>) {
        self.line.open(now);
        let Account { agent, username, password } = self.config.account.clone();
        match self.config.dialect {
            Dialect::NiceHash => {
                self.call(Asked::Subscribe, &nicehash::MinerMessage::Subscribe { agent }, now, out);
            }
            Dialect::Eip1571 => {
                let hello = eip1571::Hello { agent, protocol: STRATUM_2.to_owned() };
                self.call(Asked::Hello, &eip1571::MinerMessage::Hello(hello), now, out);
            }
            _ => {
                let login = proxy::Login { login: username, password, worker: None };
                self.call(Asked::Login, &proxy::MinerMessage::Login(login), now, out);
            }
        }
    }

    fn on_line(&mut self, line: &str, now: Now, out: &mut Vec<Event>) {
        if let Err(bad) = self.line(line, now, out) {
            out.push(Event::Odd(bad.to_string()));
        }
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<Event>) {
        let waited = now.elapsed.saturating_sub(self.asked_work);
        let idle = self.asked_work > Duration::ZERO && waited > POLL;
        if idle && !self.line.overdue(Asked::GetWork, Duration::ZERO, now) {
            self.get_work(now, out);
        }
        self.line.tick(&HANDSHAKE, (Asked::Submit, "submit"), now, out);
    }

    fn next_task(&mut self) -> Option<Task> {
        let (algorithm, seeds) = (self.config.algorithm, &mut self.seeds);
        let current = self.job.as_mut().filter(|job| !job.handed_out)?;
        let job = sealed::job(self.line.task_id(), algorithm, &current.work, current.target, seeds);
        current.handed_out = true;
        let how = HowToSubmit {
            job_id: current.job_id.clone(),
            header_hash: current.work.header_hash,
            prefix_digits: 2 * current.extranonce.len(),
        };
        let (job, prefix) = (job.ok()?, current.extranonce.clone());
        let space = self.space(&job, &prefix);
        Some(self.line.hand_out(Task { job: Arc::new(job), space }, how))
    }

    fn submit(&mut self, share: &Share, now: Now, out: &mut Vec<Event>) -> Submitted {
        let Some(how) = self.line.task_of(share) else { return Submitted::Stale };
        let (job_id, header_hash) = (how.job_id.clone(), how.header_hash);
        let nonce = NonceTail::of(share.nonce(), how.prefix_digits);
        match self.config.dialect {
            Dialect::NiceHash => {
                let username = self.config.account.username.clone();
                let submit = nicehash::Submit { username, job_id, nonce };
                self.call(Asked::Submit, &nicehash::MinerMessage::Submit(submit), now, out);
            }
            Dialect::Eip1571 => {
                let submit = eip1571::Submit { job_id, nonce, worker: self.token.clone() };
                self.call(Asked::Submit, &eip1571::MinerMessage::Submit(submit), now, out);
            }
            _ => {
                let mix_hash = share.digest().mix.unwrap_or(Hash256::from_raw([0; 32]));
                let submit = proxy::Submit { nonce: share.nonce(), header_hash, mix_hash, worker: None };
                self.call(Asked::Submit, &proxy::MinerMessage::Submit(submit), now, out);
            }
        }
        Submitted::Sent
    }

    fn counts(&self) -> &Counts {
        &self.line.counts
    }
}
