//! `mine`: work from a pool, shares back to it.
//!
//! ```text
//!   network thread: client::run ──Notice──▶ ┌───────────┐ ◀──Event── engine's workers
//!                                           │ this loop │
//!   engine ◀── replace / update / rest ──── └───────────┘ ── Status, events ──▶ lines, JSON
//!   engine's workers ── Link::next_task, Link::submit ──▶ network thread
//! ```
//!
//! Workers take further work and hand in shares without this loop; it follows what happens, sees to epochs
//! and tells people.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use otedama_core::Engine;
use otedama_core::HashRate;
use otedama_core::engine::Event;
use otedama_core::epoch::{Depth, EpochKey, Progress};
use otedama_core::tune::Contest;
use otedama_pool::client::{self, Link, Notice};
use serde_json::{Value, json};

use crate::args::{MachineArgs, MineArgs, ScanMode};
use crate::cmd;
use crate::crew::Crew;
use crate::epochs::{Aside, Epochs};
use crate::failure::{Failure, Outcome, work};
use crate::machine::Machine;
use crate::miner::api::{Api, Command, Steer};
use crate::miner::network::{Network, Tasks};
use crate::miner::plan::Plan;
use crate::miner::sensors::Sensors;
use crate::miner::status::{Building, State, Status, WorkerState};
use crate::miner::tally::Tally;
use crate::miner::terminal::{self, Input, Screen};
use crate::show;

/// How often this loop looks up at least, and the view is drawn at most.
const LOOK: Duration = Duration::from_millis(100);

/// How often people are told how fast it goes.
const REPORT: Duration = Duration::from_secs(10);

/// How often it is counted what was done.
const SAMPLE: Duration = Duration::from_secs(1);

/// How many events the network and the workers may be ahead of this loop.
const EVENTS_AHEAD: usize = 4096;

pub(crate) fn run(args: &MineArgs, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    let plan = Plan::of(args, &machine)?;
    let interrupted = cmd::interrupt_flag()?;
    let (link, end) = client::link();
    let (happen, happenings) = mpsc::sync_channel(EVENTS_AHEAD);
    let noticed = happen.clone();
    let network = Network::start(&plan, end, move |notice| {
        // Nobody listens any more once mining has ended.
        let _ = noticed.send(Happening::Network(notice));
    })?;
    let screen = happen.clone();
    let mut miner = Miner::start(&plan, &machine, link, happen, args.json)?;
    if !args.json && !args.plain && terminal::is_there() {
        // A key that finds no room is pressed again.
        let tell = move |input| drop(screen.try_send(Happening::Screen(input)));
        match Screen::open(tell) {
            Ok(screen) => miner.screen = Some(screen),
            Err(error) => eprintln!("no live view: {error}"),
        }
    }
    let outcome = miner.follow(args, &interrupted, &happenings);
    // The last words go where the view was.
    miner.screen = None;
    // Shares under way are sent before the connection closes: workers first.
    let stats = miner.stop(happenings);
    network.stop();
    stats?;
    outcome
}

/// What this loop hears of.
enum Happening {
    Network(Notice),
    Engine(Event),
    /// A share was found that the network has no room for.
    ShareLost,
    /// Something went wrong that ends nothing.
    Note(String),
    /// Somebody steers.
    Command(Command),
    /// Somebody is at the terminal.
    Screen(Input),
}

/// The engine, and what it needs to be kept going.
struct Miner {
    mode: ScanMode,
    json: bool,
    tasks: Tasks,
    link: Link,
    engine: Engine,
    sensors: Sensors,
    /// Finds the CPU's fastest kernel.
    contest: Option<Contest>,
    epochs: Option<Arc<Epochs>>,
    /// The epoch that work waits for, and its cache being built.
    cache: Option<(EpochKey, Aside)>,
    /// The dataset being built while the cache does.
    dataset: Option<Aside>,
    /// The datasets that GPUs make for themselves.
    datasets: Vec<(String, Progress)>,
    tally: Tally,
    /// Somebody told it to.
    paused: bool,
    api: Option<Api>,
    screen: Option<Screen>,
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
        let Crew { workers, members, gauges, names, config, contest } =
            Crew::gather(machine, algorithm, &plan.wanted, None)?;
        let count = workers.len();
        let tasks = Tasks::new(link.clone());
        let shares = link.clone();
        let (commands, notes) = (happen.clone(), happen.clone());
        let sink = move |event| {
            // Nobody listens any more once mining has ended.
            if let Event::Share { share, .. } = &event
                && !shares.submit(*share)
            {
                let _ = happen.send(Happening::ShareLost);
            }
            let _ = happen.send(Happening::Engine(event));
        };
        let note = move |words| drop(notes.try_send(Happening::Note(words)));
        let epochs = Epochs::of(algorithm, machine).map(|epochs| epochs.with(plan.wanted.priority, note));
        let engine = Engine::start(config, workers, tasks.clone(), sink)?;
        let mut miner = Miner {
            mode: plan.mode,
            json,
            tasks,
            link,
            engine,
            sensors: Sensors::start(gauges)?,
            contest,
            epochs: epochs.map(Arc::new),
            cache: None,
            dataset: None,
            datasets: plan.wanted.datasets(),
            tally: Tally::new(algorithm, members),
            paused: false,
            api: None,
            screen: None,
        };
        let plural = if count == 1 { "" } else { "s" };
        miner.say(
            &format!("mining {algorithm} with {names}: {count} worker{plural}"),
            json!({ "event": "start", "algorithm": algorithm.name(), "with": names, "workers": count }),
        )?;
        if let Some(plan) = &plan.api {
            let command = move |command| commands.try_send(Happening::Command(command)).is_ok();
            match Api::start(plan, miner.status(), command) {
                Ok(api) => {
                    let at = format!("http://{}", api.address);
                    miner.api = Some(api);
                    miner.say(&format!("API at {at}/api/status"), json!({ "event": "api", "url": at }))?;
                }
                Err(failure) if plan.required => return Err(failure),
                // Whoever shares a configuration with a pool on this machine may have lost the address to it.
                Err(failure) => {
                    let words = failure.to_string();
                    miner.say(&format!("no API: {words}"), json!({ "event": "no_api", "reason": words }))?;
                }
            }
        }
        Ok(miner)
    }

    /// Follows what happens until it is time to end.
    fn follow(
        &mut self,
        args: &MineArgs,
        interrupted: &AtomicBool,
        happenings: &mpsc::Receiver<Happening>,
    ) -> Outcome {
        let begun = self.tally.begun();
        let end = args.seconds.map(|seconds| begun + Duration::from_secs_f64(seconds));
        let mut sample = Instant::now();
        let mut report = begun + REPORT;
        let mut drawn = begun;
        let mut new = true;
        loop {
            if interrupted.load(Ordering::Relaxed) || end.is_some_and(|end| Instant::now() >= end) {
                return Ok(());
            }
            let happening = happenings.recv_timeout(LOOK);
            new |= happening.is_ok();
            match happening {
                Ok(Happening::Screen(input)) => match input {
                    Input::Quit => return Ok(()),
                    Input::Pause => self.pause(!self.paused)?,
                    Input::Resize => {}
                    Input::Redraw => self.screen.as_mut().map_or(Ok(()), Screen::clear)?,
                    Input::Panic(words) => self.say(&words, json!({ "event": "panic", "words": words }))?,
                },
                Ok(Happening::Network(notice)) => self.on_notice(notice)?,
                Ok(Happening::Engine(event)) => self.on_event(event)?,
                Ok(Happening::Command(Command { what, done })) => {
                    self.pause(what == Steer::Stop)?;
                    // A caller who has left is answered in vain.
                    let _ = done.send(self.status().state);
                }
                Ok(Happening::Note(words)) => self.say(&words, json!({ "event": "note", "words": words }))?,
                Ok(Happening::ShareLost) => self.say(
                    "a share is lost: the pool takes them more slowly than they are found",
                    json!({ "event": "share_lost" }),
                )?,
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                // The engine's sink holds a sender.
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(work("the engine ended early")),
            }
            if args.shares.is_some_and(|shares| self.tally.shares.accepted >= shares) {
                return Ok(());
            }
            self.look_after_epochs()?;
            self.look_after_kernels()?;
            if sample.elapsed() >= SAMPLE {
                sample = Instant::now();
                self.tally.sample(self.engine.stats(), self.link.counts(), self.sensors.last());
                self.publish();
                new = true;
            }
            if new && drawn.elapsed() >= LOOK {
                (new, drawn) = (false, Instant::now());
                self.draw()?;
            }
            if Instant::now() >= report {
                report += REPORT;
                self.report()?;
            }
        }
    }

    fn on_notice(&mut self, notice: Notice) -> Outcome {
        match notice {
            Notice::Connected(url) => {
                let url = url.to_string();
                self.tally.connected(url.clone());
                self.say(&format!("connected to {url}"), json!({ "event": "connected", "pool": url }))
            }
            Notice::Work { clean } => {
                self.tally.job();
                self.on_work(clean)
            }
            Notice::Difficulty(difficulty) => {
                if !self.tally.difficulty(difficulty) {
                    return Ok(());
                }
                self.say(
                    &format!("difficulty {difficulty}"),
                    json!({ "event": "difficulty", "difficulty": difficulty.get() }),
                )
            }
            Notice::Accepted => {
                self.tally.accepted();
                let (accepted, answered) = (self.tally.shares.accepted, self.tally.shares.answered());
                let text = format!("share accepted ({accepted} of {answered})");
                self.say(&text, json!({ "event": "accepted", "accepted": accepted }))
            }
            Notice::Rejected { reason, words } => {
                self.tally.rejected(reason.label());
                let (accepted, answered) = (self.tally.shares.accepted, self.tally.shares.answered());
                let text = format!("share rejected: {words} ({accepted} of {answered} accepted)");
                self.say(&text, json!({ "event": "rejected", "reason": reason.label(), "words": words }))
            }
            Notice::Message(words) => {
                self.say(&format!("the pool says: {words}"), json!({ "event": "message", "words": words }))
            }
            Notice::Lost { url, reason } => {
                self.tally.disconnected(true);
                self.tasks.forget();
                self.engine.rest();
                let text = format!("{url}: {reason}");
                self.say(
                    &text,
                    json!({ "event": "lost", "pool": url.to_string(), "reason": reason.to_string() }),
                )
            }
            Notice::GoingBack(url) => {
                self.tally.disconnected(false);
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
                    let words = error.to_string();
                    let text = format!("no dataset: {words}; going on in light mode");
                    self.say(&text, json!({ "event": "no_dataset", "reason": words }))?;
                }
            }
        }
        Ok(())
    }

    /// Tells which kernel is the fastest, once it is known.
    fn look_after_kernels(&mut self) -> Outcome {
        let Some(outcome) = self.contest.as_ref().and_then(Contest::take_outcome) else { return Ok(()) };
        self.contest = None;
        let Some(((fastest, rate), others)) = outcome.ranking.split_first() else { return Ok(()) };
        self.tally.kernel_is(fastest.name());
        let others: Vec<_> =
            others.iter().map(|(kernel, rate)| format!("{} {rate}", kernel.name())).collect();
        let rates: serde_json::Map<_, _> = outcome
            .ranking
            .iter()
            .map(|(kernel, rate)| (kernel.name().to_owned(), json!(rate.hps())))
            .collect();
        self.say(
            &format!("going on with {}, the fastest: {rate} (others: {})", fastest.name(), others.join(", ")),
            json!({ "event": "kernel", "kernel": fastest.name(), "hashes_per_second": rates }),
        )
    }

    fn on_event(&mut self, event: Event) -> Outcome {
        match event {
            Event::Share { worker, job, share } => {
                if self.tally.found(worker, &job, &share) {
                    let hash = share.digest().pow.to_display_hex();
                    let text = format!("worker {worker} found a block: {hash}");
                    self.say(&text, json!({ "event": "block", "worker": worker, "hash": hash }))?;
                }
                Ok(())
            }
            Event::Refused { worker, candidate, reason } => {
                let text = format!("worker {worker} claimed nonce {} wrongly: {reason}", candidate.nonce);
                self.say(&text, json!({ "event": "wrong", "worker": worker, "reason": reason.to_string() }))
            }
            Event::WorkerLost { worker, reason } => {
                self.tally.worker_is(worker, WorkerState::Lost, Some(reason.clone()));
                self.say(
                    &format!("worker {worker} is lost: {reason}"),
                    json!({ "event": "worker_lost", "worker": worker, "reason": reason }),
                )
            }
            Event::WorkerFailed { worker, reason, pause } => {
                self.tally.worker_is(worker, WorkerState::Failed, Some(reason.clone()));
                let pause = pause.as_secs_f64();
                self.say(
                    &format!("worker {worker} failed and is tried again in {pause:.0} s: {reason}"),
                    json!({ "event": "worker_failed", "worker": worker, "reason": reason, "pause": pause }),
                )
            }
            Event::WorkerBack { worker } => {
                self.tally.worker_is(worker, WorkerState::Working, None);
                self.say(
                    &format!("worker {worker} works again"),
                    json!({ "event": "worker_back", "worker": worker }),
                )
            }
            Event::WorkerHangs { worker } => {
                let reason = "its device or driver does not come back";
                self.tally.worker_is(worker, WorkerState::Hanging, Some(reason.to_owned()));
                self.say(
                    &format!("worker {worker} hangs: {reason}"),
                    json!({ "event": "worker_hangs", "worker": worker }),
                )
            }
            Event::WorkerPaused { worker, reason } => {
                self.tally.worker_is(worker, WorkerState::Resting, Some(reason.clone()));
                self.say(
                    &format!("worker {worker} rests: {reason}"),
                    json!({ "event": "worker_rests", "worker": worker, "reason": reason }),
                )
            }
            Event::WorkerResumed { worker } => {
                self.tally.worker_is(worker, WorkerState::Working, None);
                self.say(
                    &format!("worker {worker} has rested"),
                    json!({ "event": "worker_resumed", "worker": worker }),
                )
            }
            Event::AllWorkersLost => Err(work("no worker is left")),
            _ => Ok(()),
        }
    }

    /// The workers pause, or go on.
    fn pause(&mut self, paused: bool) -> Outcome {
        if self.paused == paused {
            return Ok(());
        }
        self.paused = paused;
        if paused {
            self.engine.pause();
            self.say("paused", json!({ "event": "paused" }))?;
        } else {
            self.engine.resume();
            self.say("going on", json!({ "event": "resumed" }))?;
        }
        self.publish();
        Ok(())
    }

    /// All of it as it stands.
    fn status(&self) -> Status {
        let state = match (self.paused, &self.cache) {
            (true, _) => State::Paused,
            (false, Some(_)) => State::Building,
            (false, None) => State::Mining,
        };
        let dataset = self.dataset.as_ref().map(|dataset| ("dataset", dataset));
        let first = if self.mode == ScanMode::Full { "dataset" } else { "cache" };
        let built = self.cache.as_ref().map(|(_, cache)| (first, cache)).or(dataset);
        let built = built.map(|(part, aside)| Building { part, device: None, done: aside.done() });
        let on_device = |(device, progress): &(String, Progress)| {
            Building::on_device(device, progress.done_bytes(), progress.total_bytes())
        };
        let building = built.into_iter().chain(self.datasets.iter().filter_map(on_device)).collect();
        Status { building, ..self.tally.status(state) }
    }

    /// Lets programs that ask know how things stand.
    fn publish(&self) {
        if let Some(api) = &self.api {
            api.publish(self.status());
        }
    }

    /// Shows how things stand, if anybody looks.
    fn draw(&mut self) -> Outcome {
        let status = self.screen.is_some().then(|| self.status());
        if let (Some(screen), Some(status)) = (&mut self.screen, status) {
            screen.draw(&status)?;
        }
        Ok(())
    }

    fn report(&self) -> Outcome {
        // The view shows it all the time.
        if self.screen.is_some() {
            return Ok(());
        }
        let status = self.status();
        if self.json {
            show::print_line(&status.event())?;
        } else {
            show::print_line(&status.line())?;
        }
        Ok(())
    }

    /// Brings the workers to rest; what they had found goes out.
    fn stop(self, happenings: mpsc::Receiver<Happening>) -> Outcome {
        let Miner { engine, tally, json, cache, dataset, api, .. } = self;
        drop((cache, dataset, api));
        // Workers wait where the inbox is full; reading it on lets them end.
        let stopping = thread::spawn(move || engine.stop());
        while !stopping.is_finished() {
            let _ = happenings.recv_timeout(Duration::from_millis(10));
        }
        drop(happenings);
        let stats = stopping.join().map_err(|_| work("the engine panicked while it stopped"))?;
        let (hashes, seconds) = (stats.total_hashes(), tally.begun().elapsed().as_secs_f64());
        let rate = HashRate::new(hashes, seconds);
        let (accepted, rejected) = (tally.shares.accepted, tally.shares.rejected());
        show::say(
            json,
            &format!(
                "{hashes} hashes in {seconds:.1} s, {rate}; {accepted} shares accepted, {rejected} rejected"
            ),
            json!({
                "event": "end", "hashes": hashes, "seconds": seconds, "accepted": accepted,
                "rejected": tally.shares.rejected,
            }),
        )
    }

    /// Tells what happens to everybody who wants to know.
    fn say(&mut self, text: &str, object: Value) -> Outcome {
        self.tally.told(text);
        if let Some(api) = &self.api {
            api.tell(&object);
        }
        if self.screen.is_some() {
            return Ok(());
        }
        show::say(self.json, text, object)
    }
}
