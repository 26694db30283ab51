//! The miner's end of Ravencoin's stratum.

use std::sync::Arc;

use otedama_core::algo::ethash::SeedFinder;
use otedama_core::{Algorithm, Hash256, Share, Target};

use super::super::{ClientError, Event, Now};
use super::{Account, Client, Counts, Line, Submitted, turned};
use crate::stratum::bitcoin::Login;
use crate::stratum::kawpow::{MinerMessage, Notify, PoolMessage, Submit, Subscribed};
use crate::stratum::{Answer, Dialect, Incoming, Message, decode};
use crate::work::Task;
use crate::work::sealed::{self, Sealed};

/// The state of one connection.
#[derive(Debug)]
pub struct KawPowClient {
    account: Account,
    /// What the next job has.
    extranonce: Vec<u8>,
    target: Option<Target>,
    job: Option<Current>,
    turn: u8,
    seeds: SeedFinder,
    line: Line<Asked, HowToSubmit>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Subscribe,
    Authorize,
    ExtranonceSubscribe,
    Submit,
}

/// The newest job.
#[derive(Debug)]
struct Current {
    notify: Notify,
    extranonce: Vec<u8>,
    handed_out: bool,
}

/// How shares of a task are submitted.
#[derive(Debug)]
struct HowToSubmit {
    job_id: String,
    header_hash: Hash256,
}

const HANDSHAKE: [(Asked, &str); 2] =
    [(Asked::Subscribe, "mining.subscribe"), (Asked::Authorize, "mining.authorize")];

impl KawPowClient {
    /// A connection that is about to be opened.
    pub fn new(account: Account) -> KawPowClient {
        KawPowClient {
            account,
            extranonce: Vec::new(),
            target: None,
            job: None,
            turn: 0,
            seeds: SeedFinder::new(),
            line: Line::new(Dialect::KawPow),
        }
    }

    fn call(&mut self, what: Asked, message: &MinerMessage, now: Now, out: &mut Vec<Event>) {
        let id = self.line.ask(what, now);
        out.push(Event::Send(message.encode(Some(&id))));
    }

    fn answer(&mut self, answer: Answer, now: Now, out: &mut Vec<Event>) {
        match self.line.answered(&answer, now) {
            None | Some(Asked::ExtranonceSubscribe) => {}
            Some(Asked::Submit) => self.line.settle(answer, out),
            Some(Asked::Authorize) => {
                self.line.granted("mining.authorize", answer, out);
            }
            Some(Asked::Subscribe) => {
                let Some(result) = self.line.granted("mining.subscribe", answer, out) else { return };
                match Subscribed::read(&result) {
                    Ok(subscribed) => self.extranonce = subscribed.extranonce,
                    Err(error) => return self.line.fail(ClientError::Answer(error.to_string()), out),
                }
                self.call(Asked::ExtranonceSubscribe, &MinerMessage::ExtranonceSubscribe, now, out);
                let Account { username, password, .. } = self.account.clone();
                let login = MinerMessage::Authorize(Login { username, password });
                self.call(Asked::Authorize, &login, now, out);
            }
        }
    }

    fn told(&mut self, message: PoolMessage, now: Now, out: &mut Vec<Event>) {
        match message {
            // Every job brings its own target; this one is news for people.
            PoolMessage::SetTarget(target) => {
                if self.target.replace(target) != Some(target) {
                    out.push(Event::Difficulty(target.to_difficulty(Algorithm::KawPow)));
                }
            }
            PoolMessage::SetExtranonce(extranonce) => self.extranonce = extranonce,
            PoolMessage::Notify(notify) => {
                let same = |old: &Current| old.notify.header_hash == notify.header_hash;
                if self.job.as_ref().is_some_and(same) {
                    self.turn = self.turn.wrapping_add(1);
                }
                let clean = notify.clean;
                self.job = Some(Current { notify, extranonce: self.extranonce.clone(), handed_out: false });
                self.line.new_job(clean, now, out);
            }
        }
    }
}

impl Client for KawPowClient {
    fn start(&mut self, now: Now, out: &mut Vec<Event>) {
        self.line.open(now);
        let agent = self.account.agent.clone();
        self.call(Asked::Subscribe, &MinerMessage::Subscribe(agent), now, out);
    }

    fn on_line(&mut self, line: &str, now: Now, out: &mut Vec<Event>) {
        match decode(line) {
            Ok(Incoming::Message(_, message)) => self.told(message, now, out),
            Ok(Incoming::Answer(answer)) => self.answer(answer, now, out),
            Err(bad) => out.push(Event::Odd(bad.to_string())),
        }
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<Event>) {
        self.line.tick(&HANDSHAKE, (Asked::Submit, "mining.submit"), now, out);
    }

    fn next_task(&mut self) -> Option<Task> {
        let current = self.job.as_mut().filter(|job| !job.handed_out)?;
        current.handed_out = true;
        let Notify { header_hash, seed_hash, target, height, .. } = current.notify;
        let work = Sealed { header_hash, seed_hash: Some(seed_hash), height: Some(height) };
        let id = self.line.task_id();
        let job = sealed::job(id, Algorithm::KawPow, &work, target, &mut self.seeds).ok()?;
        let space = turned(sealed::space_after(&job, &current.extranonce), self.turn);
        let how = HowToSubmit { job_id: current.notify.job_id.clone(), header_hash };
        Some(self.line.hand_out(Task { job: Arc::new(job), space }, how))
    }

    fn submit(&mut self, share: &Share, now: Now, out: &mut Vec<Event>) -> Submitted {
        let Some(how) = self.line.task_of(share) else { return Submitted::Stale };
        let submit = MinerMessage::Submit(Submit {
            username: self.account.username.clone(),
            job_id: how.job_id.clone(),
            nonce: share.nonce(),
            header_hash: how.header_hash,
            mix_hash: share.digest().mix.unwrap_or(Hash256::from_raw([0; 32])),
        });
        self.call(Asked::Submit, &submit, now, out);
        Submitted::Sent
    }

    fn counts(&self) -> &Counts {
        &self.line.counts
    }
}
