//! The miner's end of Bitcoin-style Stratum v1.
//!
//! Configure is asked first and alone, where version rolling is wanted; a pool that refuses it, or does
//! not answer in five seconds, is gone on with without. Difficulty and extranonce bind the next job.

use std::sync::Arc;
use std::time::Duration;

use otedama_core::{Algorithm, Difficulty, Share, Target, VersionMask};

use super::super::{ClientError, Event, Now};
use super::{Account, Client, Counts, Line, Submitted};
use crate::stratum::bitcoin::{
    Configure, Configured, Extranonce, Login, MinerMessage, Notify, PoolMessage, Submit, Subscribe,
    Subscribed, VERSION_ROLLING,
};
use crate::stratum::{Answer, Dialect, Id, Incoming, Message, decode};
use crate::work::Task;
use crate::work::bitcoin::{self as work, Rolled};

/// How to mine.
#[derive(Clone, Debug)]
pub struct BitcoinClientConfig {
    /// [`Algorithm::Sha256d`] or [`Algorithm::Scrypt`].
    pub algorithm: Algorithm,
    /// For whom.
    pub account: Account,
    /// Version bits to ask for; 0 asks for none, for pools that do not bear the question.
    pub version_mask: u32,
    /// The difficulty to ask for.
    pub suggest: Option<Difficulty>,
}

/// The state of one connection.
#[derive(Debug)]
pub struct BitcoinClient {
    config: BitcoinClientConfig,
    /// The mask agreed on, 0 if none.
    mask: u32,
    /// What the next job has.
    extranonce: Option<Extranonce>,
    difficulty: Difficulty,
    job: Option<Current>,
    /// Extranonce2 goes on from job to job: one that is announced again is not searched again.
    counter: u64,
    line: Line<Asked, HowToSubmit>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Configure,
    Subscribe,
    Authorize,
    ExtranonceSubscribe,
    Suggest,
    Submit,
}

/// The newest job.
#[derive(Debug)]
struct Current {
    notify: Arc<Notify>,
    extranonce: Extranonce,
    target: Target,
    /// How many tasks were made of it.
    used: u64,
}

/// How shares of a task are submitted.
#[derive(Debug)]
struct HowToSubmit {
    notify: Arc<Notify>,
    extranonce2: Vec<u8>,
    ntime: u32,
    mask: u32,
}

/// How long a pool may think about `mining.configure`.
const CONFIGURE: Duration = Duration::from_secs(5);

/// How far a header's time is rolled ahead when extranonce2 is used up, in seconds.
const MAX_TIME_ROLL: u64 = 600;

const HANDSHAKE: [(Asked, &str); 2] =
    [(Asked::Subscribe, "mining.subscribe"), (Asked::Authorize, "mining.authorize")];

impl BitcoinClient {
    /// A connection that is about to be opened.
    pub fn new(config: BitcoinClientConfig) -> BitcoinClient {
        BitcoinClient {
            config,
            mask: 0,
            extranonce: None,
            difficulty: Difficulty::new(1.0).expect("one is a difficulty"),
            job: None,
            counter: 0,
            line: Line::new(Dialect::Bitcoin),
        }
    }

    /// The version bits agreed on, if any.
    pub fn version_mask(&self) -> Option<VersionMask> {
        VersionMask::new(self.mask).ok()
    }

    fn call(&mut self, what: Asked, message: &MinerMessage, now: Now, out: &mut Vec<Event>) {
        let id = self.line.ask(what, now);
        out.push(Event::Send(message.encode(Some(&id))));
    }

    fn subscribe(&mut self, now: Now, out: &mut Vec<Event>) {
        let agent = self.config.account.agent.clone();
        let subscribe = MinerMessage::Subscribe(Subscribe { agent, session: None });
        self.call(Asked::Subscribe, &subscribe, now, out);
    }

    fn answer(&mut self, answer: Answer, now: Now, out: &mut Vec<Event>) {
        match self.line.answered(&answer, now) {
            None | Some(Asked::ExtranonceSubscribe | Asked::Suggest) => {}
            Some(Asked::Submit) => self.line.settle(answer, out),
            Some(Asked::Configure) => {
                // An error, or an answer of another shape: a pool without version rolling.
                let configured = answer.outcome.ok().and_then(|result| Configured::read(&result).ok());
                let granted = configured.and_then(|configured| configured.mask).unwrap_or(0);
                self.mask = granted & self.config.version_mask;
                self.subscribe(now, out);
            }
            Some(Asked::Subscribe) => {
                let Some(result) = self.line.granted("mining.subscribe", answer, out) else { return };
                match Subscribed::read(&result) {
                    Ok(subscribed) => self.extranonce = Some(subscribed.extranonce),
                    Err(error) => return self.line.fail(ClientError::Answer(error.to_string()), out),
                }
                let Account { username, password, .. } = self.config.account.clone();
                let login = MinerMessage::Authorize(Login { username, password });
                self.call(Asked::Authorize, &login, now, out);
                self.call(Asked::ExtranonceSubscribe, &MinerMessage::ExtranonceSubscribe, now, out);
                if let Some(wish) = self.config.suggest {
                    self.call(Asked::Suggest, &MinerMessage::SuggestDifficulty(wish), now, out);
                }
            }
            Some(Asked::Authorize) => {
                self.line.granted("mining.authorize", answer, out);
            }
        }
    }

    fn told(&mut self, id: Option<Id>, message: PoolMessage, now: Now, out: &mut Vec<Event>) {
        match message {
            PoolMessage::SetDifficulty(difficulty) => {
                self.difficulty = difficulty;
                out.push(Event::Difficulty(difficulty));
            }
            PoolMessage::Notify(notify) => {
                let Some(extranonce) = self.extranonce.clone() else {
                    return out
                        .push(Event::Odd("mining.notify before mining.subscribe was answered".to_owned()));
                };
                let target = Target::from_difficulty(self.config.algorithm, self.difficulty);
                let clean = notify.clean;
                self.job = Some(Current { notify: Arc::from(notify), extranonce, target, used: 0 });
                self.line.new_job(clean, now, out);
            }
            PoolMessage::SetExtranonce(extranonce) => self.extranonce = Some(extranonce),
            PoolMessage::SetVersionMask(mask) => {
                self.mask = mask & self.config.version_mask;
                if self.job.is_some() {
                    out.push(Event::Work { clean: false });
                }
            }
            PoolMessage::Reconnect(to) => out.push(Event::Reconnect {
                host: to.host,
                port: to.port,
                wait: Duration::from_secs(to.wait_s),
            }),
            PoolMessage::ShowMessage(text) => out.push(Event::Message(text)),
            PoolMessage::GetVersion => {
                let agent = self.config.account.agent.as_str();
                out.push(Event::Send(Dialect::Bitcoin.success(id.as_ref(), &agent)));
            }
            PoolMessage::Ping => {
                out.push(Event::Send(Dialect::Bitcoin.success(id.as_ref(), &"pong")));
            }
        }
    }
}

impl Client for BitcoinClient {
    fn start(&mut self, now: Now, out: &mut Vec<Event>) {
        self.line.open(now);
        if self.config.version_mask == 0 {
            return self.subscribe(now, out);
        }
        let configure = MinerMessage::Configure(Configure {
            extensions: vec![VERSION_ROLLING.to_owned()],
            mask: Some(self.config.version_mask),
            min_bits: Some(2),
            min_difficulty: None,
        });
        self.call(Asked::Configure, &configure, now, out);
    }

    fn on_line(&mut self, line: &str, now: Now, out: &mut Vec<Event>) {
        match decode(line) {
            Ok(Incoming::Message(id, message)) => self.told(id, message, now, out),
            Ok(Incoming::Answer(answer)) => self.answer(answer, now, out),
            Err(bad) => out.push(Event::Odd(bad.to_string())),
        }
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<Event>) {
        if self.line.overdue(Asked::Configure, CONFIGURE, now) {
            self.line.forget(Asked::Configure);
            self.subscribe(now, out);
        }
        self.line.tick(&HANDSHAKE, (Asked::Submit, "mining.submit"), now, out);
    }

    fn next_task(&mut self) -> Option<Task> {
        let job = self.job.as_mut()?;
        let size = job.extranonce.extranonce2_size;
        // So many values has extranonce2; once through, the time moves on a second.
        let values = 1u64.checked_shl(8 * size as u32).filter(|_| size < 8).unwrap_or(u64::MAX);
        let time_roll = job.used / values;
        if time_roll > MAX_TIME_ROLL {
            return None;
        }
        let mut extranonce2 = vec![0; size];
        let counted = (self.counter % values).to_be_bytes();
        let (digits, room) = (counted.len().min(size), size.saturating_sub(counted.len()));
        extranonce2[room..].copy_from_slice(&counted[counted.len() - digits..]);
        self.counter = self.counter.wrapping_add(1);
        job.used += 1;

        let notify = Arc::clone(&job.notify);
        let coinbase = work::coinbase(&notify, &job.extranonce.extranonce1, &extranonce2);
        let root = work::merkle_root(&coinbase, &notify.branch);
        let ntime = notify.ntime.wrapping_add(time_roll as u32);
        let header = work::header(&notify, &root, Rolled { version: notify.version, ntime, nonce: 0 });
        let (target, mask) = (job.target, VersionMask::new(self.mask).ok());
        let job = work::job(self.line.task_id(), self.config.algorithm, &header, mask, target).ok()?;
        let space = job.space();
        let how = HowToSubmit { notify, extranonce2, ntime, mask: self.mask };
        Some(self.line.hand_out(Task { job: Arc::new(job), space }, how))
    }

    fn submit(&mut self, share: &Share, now: Now, out: &mut Vec<Event>) -> Submitted {
        let Some(how) = self.line.task_of(share) else { return Submitted::Stale };
        let version = share.version().unwrap_or(how.notify.version);
        let submit = MinerMessage::Submit(Submit {
            username: self.config.account.username.clone(),
            job_id: how.notify.job_id.clone(),
            extranonce2: how.extranonce2.clone(),
            ntime: how.ntime,
            nonce: share.nonce() as u32,
            version_bits: (how.mask != 0).then_some(version & how.mask),
        });
        self.call(Asked::Submit, &submit, now, out);
        Submitted::Sent
    }

    fn counts(&self) -> &Counts {
        &self.line.counts
    }
}
