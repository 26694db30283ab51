//! The miner's end of Monero's stratum.

use std::sync::Arc;
use std::time::Duration;

use otedama_core::{Algorithm, Share};

use super::super::{ClientError, Event, Now};
use super::{Account, Client, Counts, Line, Submitted, turned};
use crate::stratum::monero::{Job, LoggedIn, Login, MinerMessage, PoolMessage, Submit};
use crate::stratum::{Answer, Dialect, Incoming, Message, decode};
use crate::work::monero as work;
use crate::work::{Task, WorkError};

/// The state of one connection.
#[derive(Debug)]
pub struct MoneroClient {
    algorithm: Algorithm,
    account: Account,
    session: String,
    /// Whether shares name their algorithm.
    names_algorithms: bool,
    /// Whether the nonce's most significant byte is the pool's, even if it is zero.
    nicehash: bool,
    /// Whether the pool knows `keepalived`.
    keeps_alive: bool,
    job: Option<Current>,
    turn: u8,
    last_sent: Duration,
    line: Line<Asked, HowToSubmit>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Asked {
    Login,
    KeepAlive,
    Submit,
}

/// The newest job.
#[derive(Debug)]
struct Current {
    job: Job,
    handed_out: bool,
}

/// How shares of a task are submitted.
#[derive(Debug)]
struct HowToSubmit {
    job_id: String,
    algorithm: Option<String>,
}

/// How long the connection may be silent.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

const HANDSHAKE: [(Asked, &str); 2] = [(Asked::Login, "login"), (Asked::KeepAlive, "keepalived")];

impl MoneroClient {
    /// A connection that is about to be opened, to mine this revision of RandomX.
    pub fn new(algorithm: Algorithm, account: Account) -> MoneroClient {
        MoneroClient {
            algorithm,
            account,
            session: String::new(),
            names_algorithms: false,
            nicehash: false,
            keeps_alive: false,
            job: None,
            turn: 0,
            last_sent: Duration::ZERO,
            line: Line::new(Dialect::Monero),
        }
    }

    fn call(&mut self, what: Asked, message: &MinerMessage, now: Now, out: &mut Vec<Event>) {
        let id = self.line.ask(what, now);
        self.last_sent = now.elapsed;
        out.push(Event::Send(message.encode(Some(&id))));
    }

    fn answer(&mut self, answer: Answer, now: Now, out: &mut Vec<Event>) {
        match self.line.answered(&answer, now) {
            None | Some(Asked::KeepAlive) => {}
            Some(Asked::Submit) => self.line.settle(answer, out),
            Some(Asked::Login) => {
                let Some(result) = self.line.granted("login", answer, out) else { return };
                match LoggedIn::read(&result) {
                    Ok(LoggedIn { session, job, extensions }) => {
                        let has = |name: &str| extensions.iter().any(|extension| extension == name);
                        self.session = session;
                        (self.names_algorithms, self.nicehash) = (has("algo"), has("nicehash"));
                        self.keeps_alive = has("keepalive");
                        self.new_job(job, now, out);
                    }
                    Err(error) => self.line.fail(ClientError::Answer(error.to_string()), out),
                }
            }
        }
    }

    fn new_job(&mut self, job: Job, now: Now, out: &mut Vec<Event>) {
        if let Err(error) = work::check_algorithm(self.algorithm, job.algorithm.as_deref()) {
            return self.line.fail(ClientError::Answer(error.to_string()), out);
        }
        // What cannot be mined is said now, not when work is asked for.
        if let Err(error) = make(otedama_core::JobId(0), self.algorithm, &job) {
            return out.push(Event::Odd(error.to_string()));
        }
        let same = |old: &Current| old.job.blob == job.blob;
        if self.job.as_ref().is_some_and(same) {
            self.turn = self.turn.wrapping_add(1);
        }
        out.push(Event::Difficulty(job.target.difficulty()));
        self.job = Some(Current { job, handed_out: false });
        // The dialect has no flag: pools judge shares of older jobs as they like.
        self.line.new_job(false, now, out);
    }
}

fn make(id: otedama_core::JobId, algorithm: Algorithm, job: &Job) -> Result<otedama_core::Job, WorkError> {
    let seed_hash = job.seed_hash.ok_or(WorkError::NoSeed)?;
    work::job(id, algorithm, &job.blob, &seed_hash, job.target.to_target())
}

impl Client for MoneroClient {
    fn start(&mut self, now: Now, out: &mut Vec<Event>) {
        self.line.open(now);
        let Account { agent, username, password } = self.account.clone();
        let algorithms = work::name(self.algorithm).into_iter().map(str::to_owned).collect();
        let login = Login { login: username, password, agent, rig: None, algorithms };
        self.call(Asked::Login, &MinerMessage::Login(login), now, out);
    }

    fn on_line(&mut self, line: &str, now: Now, out: &mut Vec<Event>) {
        match decode(line) {
            Ok(Incoming::Message(_, PoolMessage::Job(job))) => self.new_job(job, now, out),
            Ok(Incoming::Answer(answer)) => self.answer(answer, now, out),
            Err(bad) => out.push(Event::Odd(bad.to_string())),
        }
    }

    fn on_tick(&mut self, now: Now, out: &mut Vec<Event>) {
        if self.keeps_alive && now.elapsed.saturating_sub(self.last_sent) >= KEEP_ALIVE {
            let keep = MinerMessage::KeepAlive(self.session.clone());
            self.call(Asked::KeepAlive, &keep, now, out);
        }
        self.line.tick(&HANDSHAKE, (Asked::Submit, "submit"), now, out);
    }

    fn next_task(&mut self) -> Option<Task> {
        let current = self.job.as_mut().filter(|job| !job.handed_out)?;
        current.handed_out = true;
        let job = make(self.line.task_id(), self.algorithm, &current.job).ok()?;
        let standing = work::nonce_in(&current.job.blob).ok()?;
        let prefix = (self.nicehash || standing != 0).then_some((standing >> 24) as u8);
        let space = turned(work::space_after(&job, prefix), self.turn);
        let how = HowToSubmit {
            job_id: current.job.job_id.clone(),
            algorithm: current.job.algorithm.clone().filter(|_| self.names_algorithms),
        };
        Some(self.line.hand_out(Task { job: Arc::new(job), space }, how))
    }

    fn submit(&mut self, share: &Share, now: Now, out: &mut Vec<Event>) -> Submitted {
        let Some(how) = self.line.task_of(share) else { return Submitted::Stale };
        let submit = MinerMessage::Submit(Submit {
            session: self.session.clone(),
            job_id: how.job_id.clone(),
            nonce: share.nonce() as u32,
            result: share.digest().pow,
            commitment: share.digest().mix,
            algorithm: how.algorithm.clone(),
        });
        self.call(Asked::Submit, &submit, now, out);
        Submitted::Sent
    }

    fn counts(&self) -> &Counts {
        &self.line.counts
    }
}
