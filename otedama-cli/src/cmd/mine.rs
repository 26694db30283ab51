//! `mine`: work from a pool, shares back to it.
//!
//! ```text
//!   network thread: client::run ──Notice──▶ ┌───────────┐ ◀──Event── engine's workers
//!                                           │ this loop │
//!   engine ◀── replace / update / rest ──── └───────────┘ ── lines, or JSON ──▶ standard output
//!   engine's workers ── Link::next_task, Link::submit ──▶ network thread
//! ```
//!
//! Workers take further work and hand in shares without this loop; it follows what happens, sees to epochs
//! and tells people.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use otedama_core::engine::{Assignment, Event, WorkSource};
use otedama_core::epoch::{Depth, Epoch, EpochKey};
use otedama_core::{Algorithm, Engine, HashRate};
use otedama_pool::client::{self, Link, Notice, Patience, Pool, Trust};
use otedama_pool::config::values::Secret;
use otedama_pool::session::Client;
use otedama_pool::session::client::{
    Account, BitcoinClient, BitcoinClientConfig, EthereumClient, EthereumClientConfig, KawPowClient,
    MoneroClient,
};
use otedama_pool::stratum::Dialect;
use otedama_pool::work::Task;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::args::{EthashDialect, MachineArgs, MineArgs, ScanMode};
use crate::cmd;
use crate::crew::{Crew, Wanted};
use crate::epochs::{Aside, Epochs};
use crate::failure::{Failure, Outcome, usage, work};
use crate::machine::Machine;
use crate::show;

/// How often people are told how fast it goes.
const REPORT: Duration = Duration::from_secs(10);

/// How many events the network and the workers may be ahead of this loop.
const EVENTS_AHEAD: usize = 4096;

pub(crate) fn run(args: &MineArgs, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    let plan = Plan::of(args, &machine)?;
    let interrupted = cmd::interrupt_flag()?;
    let (link, end) = client::link();
    let (happen, happenings) = mpsc::sync_channel(EVENTS_AHEAD);
    let network = Network::start(&plan, end, happen.clone())?;
    let mut miner = Miner::start(&plan, &machine, link, happen, args.json)?;
    let outcome = miner.follow(args, &interrupted, &happenings);
    // Shares under way are sent before the connection closes: workers first.
    let stats = miner.stop(happenings);
    network.stop();
    stats?;
    outcome
}

/// What was asked for, by arguments and configuration.
struct Plan {
    algorithm: Algorithm,
    pools: Vec<Pool>,
    accounts: Vec<Account>,
    dialect: Dialect,
    wanted: Wanted,
    mode: ScanMode,
}

impl Plan {
    fn of(args: &MineArgs, machine: &Machine) -> Result<Plan, Failure> {
        let config = args.config.as_deref().map(|file| cmd::config::load(file, &args.set)).transpose()?;
        if config.is_none() && !args.set.is_empty() {
            return Err(usage("--set changes a configuration: name one with --config"));
        }
        let configured = config.as_ref().and_then(|config| config.mining.algorithm).map(|name| name.0);
        let algorithm = args.algorithm.or(configured);
        let algorithm = algorithm.ok_or_else(|| usage("no algorithm: expected --algorithm NAME"))?;
        let trust = args.fingerprint.map_or(Trust::Authorities, Trust::Pinned);
        let account = |username: &str, password: String| Account {
            agent: concat!("otedama/", env!("CARGO_PKG_VERSION")).to_owned(),
            username: username.to_owned(),
            password,
        };
        let (mut pools, mut accounts) = (Vec::new(), Vec::new());
        if let (Some(url), Some(user)) = (&args.url, &args.user) {
            for url in std::iter::once(url).chain(&args.backup_url) {
                pools.push(Pool { url: url.clone(), trust });
                accounts.push(account(user, args.pass.clone()));
            }
        } else if let Some(config) = &config {
            for upstream in config.upstreams() {
                pools.push(Pool { url: upstream.url.parse().map_err(usage)?, trust });
                let password = upstream.pass.as_ref().map(Secret::reveal).transpose().map_err(usage)?;
                accounts.push(account(&upstream.user, password.unwrap_or_else(|| "x".to_owned())));
            }
        }
        if pools.is_empty() {
            return Err(usage(
                "no pool: expected --url URL --user USER, or mining.pools in the configuration",
            ));
        }
        let cpu = config.map(|config| config.mining.cpu).unwrap_or_default();
        let threads = args.threads.or((cpu.threads > 0).then_some(cpu.threads.into()));
        Ok(Plan {
            algorithm,
            pools,
            accounts,
            dialect: match args.dialect {
                EthashDialect::EthProxy => Dialect::EthProxy,
                EthashDialect::Nicehash => Dialect::NiceHash,
                EthashDialect::Eip1571 => Dialect::Eip1571,
            },
            wanted: Wanted::new(
                machine
                    .worker_cpus(threads, if args.cpus.is_empty() { &cpu.affinity } else { &args.cpus })?,
                args.kernel.clone(),
                #[cfg(feature = "gpu")]
                &args.devices,
            )?,
            mode: args.mode,
        })
    }
}

/// The miner's end of a connection.
fn session(algorithm: Algorithm, dialect: Dialect, account: Account) -> Box<dyn Client> {
    match algorithm {
        Algorithm::Ethash | Algorithm::Etchash => {
            // Miners that share their nonces begin at different ones.
            let nonce_start = u64::from(std::process::id()) << 40;
            Box::new(EthereumClient::new(EthereumClientConfig { algorithm, dialect, account, nonce_start }))
        }
        Algorithm::KawPow => Box::new(KawPowClient::new(account)),
        Algorithm::RandomXV1 | Algorithm::RandomXV2 => Box::new(MoneroClient::new(account)),
        _ => {
            let version_mask = if algorithm == Algorithm::Sha256d { 0x1fff_e000 } else { 0 };
            Box::new(BitcoinClient::new(BitcoinClientConfig {
                algorithm,
                account,
                version_mask,
                suggest: None,
            }))
        }
    }
}

/// What this loop hears of.
enum Happening {
    Network(Notice),
    Engine(Event),
}

/// The thread that speaks to pools.
struct Network {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Network {
    fn start(
        plan: &Plan,
        end: client::LinkEnd,
        happen: mpsc::SyncSender<Happening>,
    ) -> Result<Network, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let (pools, accounts) = (plan.pools.clone(), plan.accounts.clone());
        let (algorithm, dialect) = (plan.algorithm, plan.dialect);
        let speak = move || {
            let open = move |index: usize| session(algorithm, dialect, accounts[index].clone());
            let tell = move |notice| {
                // Nobody listens any more once mining has ended.
                let _ = happen.send(Happening::Network(notice));
            };
            runtime.block_on(client::run(&pools, &Patience::default(), end, open, tell, stopped));
        };
        let thread = thread::Builder::new().name("network".to_owned()).spawn(speak)?;
        Ok(Network { stop, thread })
    }

    fn stop(self) {
        // A thread that has ended already hears nothing.
        let _ = self.stop.send(true);
        let _ = self.thread.join();
    }
}

/// Tasks as they come from the pool, and the epoch that they can be done with. Shared by the engine, which asks
/// when it has used up its work, and the loop above.
#[derive(Clone)]
struct Tasks {
    link: Link,
    state: Arc<Mutex<TasksState>>,
}

#[derive(Default)]
struct TasksState {
    /// The epoch at hand.
    epoch: Option<Arc<Epoch>>,
    /// A task whose epoch is not at hand yet.
    waiting: Option<Task>,
}

impl Tasks {
    fn new(link: Link) -> Tasks {
        Tasks { link, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, TasksState> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest task, else the one that waits; `None` if there is none that can be done now.
    fn next(&self) -> Option<Assignment> {
        let mut state = self.lock();
        let task = self.link.next_task().or_else(|| state.waiting.take())?;
        let assignment = Assignment::part(Arc::clone(&task.job), task.space).ok()?;
        let Some(key) = task.job.epoch() else { return Some(assignment) };
        match state.epoch.as_ref().filter(|epoch| epoch.key() == key) {
            Some(epoch) => Some(assignment.with_epoch(Arc::clone(epoch))),
            None => {
                state.waiting = Some(task);
                None
            }
        }
    }

    /// The connection is gone, and what it gave is worth nothing.
    fn forget(&self) {
        self.lock().waiting = None;
    }

    /// The epoch that a task waits for.
    fn wanted(&self) -> Option<EpochKey> {
        self.lock().waiting.as_ref().and_then(|task| task.job.epoch().copied())
    }

    /// This is the epoch at hand from now on.
    fn provide(&self, epoch: Option<Arc<Epoch>>) {
        self.lock().epoch = epoch;
    }
}

impl WorkSource for Tasks {
    fn next(&mut self) -> Option<Assignment> {
        Tasks::next(self)
    }
}

/// The engine, and what it needs to be kept going.
struct Miner {
    algorithm: Algorithm,
    mode: ScanMode,
    json: bool,
    tasks: Tasks,
    engine: Engine,
    epochs: Option<Arc<Epochs>>,
    /// The epoch that work waits for, and its cache being built.
    cache: Option<(EpochKey, Aside)>,
    /// The dataset being built while the cache does.
    dataset: Option<Aside>,
    begun: Instant,
    rates: Rates,
    accepted: u64,
    rejected: BTreeMap<&'static str, u64>,
    refused: u64,
}

impl Miner {
    fn start(
        plan: &Plan,
        machine: &Machine,
        link: Link,
        happen: mpsc::SyncSender<Happening>,
        json: bool,
    ) -> Result<Miner, Failure> {
        let algorithm = plan.algorithm;
        let Crew { workers, names, config } = Crew::gather(machine, algorithm, &plan.wanted, None)?;
        let count = workers.len();
        let tasks = Tasks::new(link.clone());
        let shares = link;
        let sink = move |event| {
            if let Event::Share { share, .. } = &event
                && !shares.submit(*share)
            {
                eprintln!("a share is lost: the pool takes them more slowly than they are found");
            }
            // Nobody listens any more once mining has ended.
            let _ = happen.send(Happening::Engine(event));
        };
        let engine = Engine::start(config, workers, tasks.clone(), sink)?;
        let miner = Miner {
            algorithm,
            mode: plan.mode,
            json,
            tasks,
            engine,
            epochs: Epochs::of(algorithm, machine).map(Arc::new),
            cache: None,
            dataset: None,
            begun: Instant::now(),
            rates: Rates::default(),
            accepted: 0,
            rejected: BTreeMap::new(),
            refused: 0,
        };
        let plural = if count == 1 { "" } else { "s" };
        miner.say(
            &format!("mining {algorithm} with {names}: {count} worker{plural}"),
            json!({ "event": "start", "algorithm": algorithm.name(), "with": names, "workers": count }),
        )?;
        Ok(miner)
    }

    /// Follows what happens until it is time to end.
    fn follow(
        &mut self,
        args: &MineArgs,
        interrupted: &AtomicBool,
        happenings: &mpsc::Receiver<Happening>,
    ) -> Outcome {
        let end = args.seconds.map(|seconds| self.begun + Duration::from_secs_f64(seconds));
        let mut sample = Instant::now();
        let mut report = self.begun + REPORT;
        loop {
            if interrupted.load(Ordering::Relaxed) || end.is_some_and(|end| Instant::now() >= end) {
                return Ok(());
            }
            match happenings.recv_timeout(Duration::from_millis(100)) {
                Ok(Happening::Network(notice)) => self.on_notice(notice)?,
                Ok(Happening::Engine(event)) => self.on_event(event)?,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // The engine's sink holds a sender.
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(work("the engine ended early")),
            }
            if args.shares.is_some_and(|shares| self.accepted >= shares) {
                return Ok(());
            }
            self.look_after_epochs()?;
            if sample.elapsed() >= Duration::from_secs(1) {
                sample = Instant::now();
                self.rates.push(sample, self.engine.stats().total_hashes());
            }
            if Instant::now() >= report {
                report += REPORT;
                self.report()?;
            }
        }
    }

    fn on_notice(&mut self, notice: Notice) -> Outcome {
        match notice {
            Notice::Connected(url) => self.say(
                &format!("connected to {url}"),
                json!({ "event": "connected", "pool": url.to_string() }),
            ),
            Notice::Work { clean } => self.on_work(clean),
            Notice::Difficulty(difficulty) => self.say(
                &format!("difficulty {difficulty}"),
                json!({ "event": "difficulty", "difficulty": difficulty.get() }),
            ),
            Notice::Accepted => {
                self.accepted += 1;
                let text = format!("share accepted ({} of {})", self.accepted, self.answered());
                self.say(&text, json!({ "event": "accepted", "accepted": self.accepted }))
            }
            Notice::Rejected { reason, words } => {
                *self.rejected.entry(reason.label()).or_default() += 1;
                let text =
                    format!("share rejected: {words} ({} of {} accepted)", self.accepted, self.answered());
                self.say(&text, json!({ "event": "rejected", "reason": reason.label(), "words": words }))
            }
            Notice::Message(words) => {
                self.say(&format!("the pool says: {words}"), json!({ "event": "message", "words": words }))
            }
            Notice::Lost { url, reason } => {
                self.tasks.forget();
                self.engine.rest();
                let text = format!("{url}: {reason}");
                self.say(
                    &text,
                    json!({ "event": "lost", "pool": url.to_string(), "reason": reason.to_string() }),
                )
            }
            Notice::GoingBack(url) => {
                self.tasks.forget();
                self.engine.rest();
                self.say(&format!("going back to {url}"), json!({ "event": "back", "pool": url.to_string() }))
            }
            _ => Ok(()),
        }
    }

    /// There is work: begins it at once, or as soon as its epoch is there.
    fn on_work(&mut self, clean: bool) -> Outcome {
        match self.tasks.next() {
            Some(assignment) if clean => self.engine.replace(assignment),
            Some(assignment) => self.engine.update(assignment),
            None => {
                let (Some(key), Some(epochs)) = (self.tasks.wanted(), &self.epochs) else { return Ok(()) };
                self.engine.rest();
                if self.cache.as_ref().is_none_or(|(of, _)| *of != key) {
                    // The dataset of the epoch before makes room.
                    (self.cache, self.dataset) = (None, None);
                    self.tasks.provide(None);
                    let depth = if self.mode == ScanMode::Full { Depth::Full } else { Depth::Light };
                    self.cache = Some((key, epochs.build_aside(key, depth)?));
                    self.say(
                        &format!("building {key}"),
                        json!({ "event": "epoch", "key": key.to_string() }),
                    )?;
                }
            }
        }
        Ok(())
    }

    /// Takes up what was built.
    fn look_after_epochs(&mut self) -> Outcome {
        if let Some(outcome) = self.cache.as_ref().and_then(|(_, aside)| aside.outcome()) {
            let key = self.cache.take().map(|(key, _)| key);
            self.tasks.provide(Some(outcome?));
            if let (Some(key), Some(epochs), ScanMode::Auto) = (key, &self.epochs, self.mode) {
                self.dataset = Some(epochs.build_aside(key, Depth::Full)?);
            }
            self.on_work(true)?;
        }
        if let Some(outcome) = self.dataset.as_ref().and_then(Aside::outcome) {
            self.dataset = None;
            match outcome {
                Ok(epoch) => {
                    self.engine.deepen(&epoch);
                    self.tasks.provide(Some(epoch));
                    self.say("the dataset is built", json!({ "event": "dataset" }))?;
                }
                Err(error) => {
                    if let Some(epochs) = &self.epochs {
                        epochs.say_short(&error);
                    }
                }
            }
        }
        Ok(())
    }

    fn on_event(&mut self, event: Event) -> Outcome {
        match event {
            Event::Refused { worker, candidate, reason } => {
                self.refused += 1;
                let text = format!("worker {worker} claimed nonce {} wrongly: {reason}", candidate.nonce);
                self.say(&text, json!({ "event": "wrong", "worker": worker, "reason": reason.to_string() }))
            }
            Event::WorkerLost { worker, reason } => self.say(
                &format!("worker {worker} is lost: {reason}"),
                json!({ "event": "worker_lost", "worker": worker, "reason": reason }),
            ),
            Event::WorkerFailed { worker, reason, pause } => self.say(
                &format!("worker {worker} failed and is tried again in {} s: {reason}", pause.as_secs()),
                json!({ "event": "worker_failed", "worker": worker, "reason": reason, "pause": pause.as_secs_f64() }),
            ),
            Event::WorkerBack { worker } => self.say(
                &format!("worker {worker} works again"),
                json!({ "event": "worker_back", "worker": worker }),
            ),
            Event::WorkerHangs { worker } => self.say(
                &format!("worker {worker} hangs: its device or driver does not come back"),
                json!({ "event": "worker_hangs", "worker": worker }),
            ),
            Event::AllWorkersLost => Err(work("no worker is left")),
            _ => Ok(()),
        }
    }

    fn report(&self) -> Outcome {
        let rates = [10, 60, 900].map(|seconds| self.rates.over(Duration::from_secs(seconds)));
        let [short, middle, long] = rates.map(|rate| rate.map_or("-".to_owned(), |rate| rate.to_string()));
        let text = format!(
            "{short} (60 s {middle}, 15 min {long}), {} accepted, {} rejected",
            self.accepted,
            self.rejected.values().sum::<u64>()
        );
        let [short, middle, long] = rates.map(|rate| rate.map(HashRate::hps));
        self.say(
            &text,
            json!({
                "event": "rate", "algorithm": self.algorithm.name(), "hps_10s": short, "hps_60s": middle,
                "hps_15min": long, "accepted": self.accepted, "rejected": self.rejected,
            }),
        )
    }

    /// Brings the workers to rest; what they had found goes out.
    fn stop(self, happenings: mpsc::Receiver<Happening>) -> Outcome {
        let Miner { engine, begun, accepted, rejected, json, cache, dataset, .. } = self;
        drop((cache, dataset));
        // Workers wait where the inbox is full; reading it on lets them end.
        let stopping = thread::spawn(move || engine.stop());
        while !stopping.is_finished() {
            let _ = happenings.recv_timeout(Duration::from_millis(10));
        }
        drop(happenings);
        let stats = stopping.join().map_err(|_| work("the engine panicked while it stopped"))?;
        let (hashes, seconds) = (stats.total_hashes(), begun.elapsed().as_secs_f64());
        let rate = HashRate::new(hashes, seconds);
        let rejects: u64 = rejected.values().sum();
        show::say(
            json,
            &format!(
                "{hashes} hashes in {seconds:.1} s, {rate}; {accepted} shares accepted, {rejects} rejected"
            ),
            json!({
                "event": "end", "hashes": hashes, "seconds": seconds, "accepted": accepted, "rejected": rejected,
            }),
        )
    }

    fn answered(&self) -> u64 {
        self.accepted + self.rejected.values().sum::<u64>()
    }

    fn say(&self, text: &str, object: Value) -> Outcome {
        show::say(self.json, text, object)
    }
}

/// Hashes done, second by second, for a quarter of an hour.
#[derive(Default)]
struct Rates {
    samples: std::collections::VecDeque<(Instant, u64)>,
}

/// A sample a second for fifteen minutes, and the one they are counted from.
const SAMPLES: usize = 901;

impl Rates {
    fn push(&mut self, at: Instant, hashes: u64) {
        self.samples.push_back((at, hashes));
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// The rate over this long, or since the first sample.
    fn over(&self, span: Duration) -> Option<HashRate> {
        let &(now, hashes) = self.samples.back()?;
        let &(then, before) = self.samples.iter().find(|(at, _)| now - *at <= span)?;
        (now > then).then(|| HashRate::new(hashes - before, (now - then).as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_look_back_as_far_as_asked_and_no_further_than_there_are_samples() {
        let begun = Instant::now();
        let mut rates = Rates::default();
        assert!(rates.over(Duration::from_secs(10)).is_none());
        for second in 0..2000u64 {
            // A thousand a second, and ten times that in the last ten seconds.
            let hashes = 1000 * second.min(1989) + 10_000 * second.saturating_sub(1989);
            rates.push(begun + Duration::from_secs(second), hashes);
        }
        assert_eq!(rates.samples.len(), SAMPLES);
        assert_eq!(rates.over(Duration::from_secs(10)).unwrap().hps(), 10_000.0);
        assert_eq!(rates.over(Duration::from_secs(100)).unwrap().hps(), 1900.0);
        assert_eq!(rates.over(Duration::from_secs(100_000)).unwrap().hps(), 1100.0);
    }
}
