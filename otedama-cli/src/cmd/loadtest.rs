//! `loadtest`: thousands of miners in one process, for measuring a pool.
//!
//! Every miner is the session that `mine` uses, so what it sends is what a miner sends. Shares are found and proven like any
//! others: against an easy target that costs next to nothing, against a hard one the report says how few were found. What the
//! generator takes of the processor is measured too: on one machine it is missing to the pool.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use otedama_core::scan::{Candidates, Scanner, StopFlag, kernels};
use otedama_core::verify::{Claim, VerifyWorker};
use otedama_core::{Algorithm, Share, Verifier};
use otedama_pool::effort::Effort;
use otedama_pool::session::client::{Account, BitcoinClient, BitcoinClientConfig, Client};
use otedama_pool::session::{Event, Now};
use otedama_pool::stratum::{LineSplitter, POOL_LINE_BYTES};
use otedama_pool::work::Task;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::args::{LoadtestArgs, MachineArgs};
use crate::cmd::usage_of::{self, Cpu};
use crate::failure::{Failure, Outcome, usage, work};
use crate::machine::Machine;
use crate::show;

/// How many connections are opened at a time: a listener's queue has an end.
const OPENING: usize = 128;

/// Shares found at a time: a search costs more than a share.
const FOUND: usize = 16;

/// Nonces tried for those: twice what they take on average, 10 ms of a core at most.
const NONCES: u64 = 1 << 18;

/// Shares handed in at once at most by a miner that is behind.
const AT_ONCE: usize = 64;

const GOLDEN_RATIO: f64 = 1.618_033_988_749_895;

/// How long a connection may take until it has work.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// How long answers are waited for after the last share.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// What all miners do at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Listening to jobs.
    Quiet,
    /// Handing in shares.
    Sharing,
    /// Listening to answers alone.
    Waiting,
    Over,
}

/// What all miners share.
struct Load {
    searcher: Mutex<Searcher>,
    begun: Instant,
    username: String,
    address: String,
    /// Between two shares of one miner.
    pause: Duration,
    connected: AtomicU64,
    sent: AtomicU64,
    accepted: AtomicU64,
    /// Why shares were refused and connections ended, and how often.
    troubles: Mutex<BTreeMap<String, u64>>,
    /// From sending a share to its answer, in microseconds.
    latencies: Mutex<Vec<u32>>,
    /// When jobs that replace all others came: the first and the last connection, in microseconds since 1970.
    jobs: Mutex<HashMap<String, Arrivals>>,
}

#[derive(Clone, Copy, Debug)]
struct Arrivals {
    first_us: u64,
    last_us: u64,
    connections: u64,
}

/// Finds and proves shares, for one miner at a time.
struct Searcher {
    scanner: Box<dyn Scanner>,
    worker: VerifyWorker,
    found: Candidates,
}

pub(crate) fn run(args: &LoadtestArgs, machine: &MachineArgs) -> Outcome {
    let Some(address) = args.url.strip_prefix("stratum+tcp://") else {
        return Err(usage(format!("'{}': expected stratum+tcp://HOST:PORT", args.url)));
    };
    usage_of::allow_files(args.connections as u64 + 64).map_err(work)?;
    let machine = Machine::detect(machine);
    let load = Arc::new(Load {
        searcher: Mutex::new(Searcher::new(&machine)?),
        begun: Instant::now(),
        username: args.user.clone(),
        address: address.to_owned(),
        pause: Duration::from_secs_f64(f64::from(args.connections) / args.rate.max(f64::MIN_POSITIVE)),
        connected: AtomicU64::new(0),
        sent: AtomicU64::new(0),
        accepted: AtomicU64::new(0),
        troubles: Mutex::default(),
        latencies: Mutex::default(),
        jobs: Mutex::default(),
    });
    Runtime::new()?.block_on(drive(args, &load))
}

async fn drive(args: &LoadtestArgs, load: &Arc<Load>) -> Outcome {
    let (tell, phase) = watch::channel(Phase::Quiet);
    let turn = Arc::new(Semaphore::new(OPENING));
    let mut miners = JoinSet::new();
    for index in 0..args.connections {
        let (load, phase, turn) = (Arc::clone(load), phase.clone(), Arc::clone(&turn));
        miners.spawn(async move {
            if let Err(why) = miner(&load, index, phase, &turn).await {
                load.trouble(why);
            }
        });
    }
    // Each miner is connected or has ended with a trouble.
    while load.connected() + load.troubles().values().sum::<u64>() < u64::from(args.connections) {
        sleep(Duration::from_millis(20)).await;
    }
    let (connected, took) = (load.connected(), load.begun.elapsed());
    show::say(
        args.json,
        &format!("{connected} of {} miners have work after {:.1} s", args.connections, took.as_secs_f64()),
        json!({ "event": "connected", "connections": connected, "seconds": took.as_secs_f64() }),
    )?;
    if connected == 0 {
        let why = load.troubles().keys().next().cloned().unwrap_or_default();
        return Err(work(format!("no miner could connect to {}: {why}", load.address)));
    }
    // What came until here was each connection's first job.
    lock(&load.jobs).clear();
    sleep(Duration::from_secs_f64(args.settle)).await;

    let (cpu, begun) = (Cpu::of_this_process(), Instant::now());
    tell.send_replace(Phase::Sharing);
    sleep(Duration::from_secs_f64(args.seconds)).await;
    let (elapsed, cpu) = (begun.elapsed(), Cpu::of_this_process().since(cpu));
    tell.send_replace(Phase::Waiting);
    sleep(LAST_ANSWERS).await;
    tell.send_replace(Phase::Over);
    while miners.join_next().await.is_some() {}
    report(args, load, elapsed, cpu)
}

fn report(args: &LoadtestArgs, load: &Load, elapsed: Duration, cpu: Duration) -> Outcome {
    let mut latencies = std::mem::take(&mut *lock(&load.latencies));
    latencies.sort_unstable();
    let at = |part: f64| {
        let last = latencies.len().saturating_sub(1);
        latencies.get((last as f64 * part).round() as usize).map_or(0.0, |us| f64::from(*us) / 1e3)
    };
    let (sent, accepted) = (load.sent.load(Ordering::Relaxed), load.accepted.load(Ordering::Relaxed));
    let seconds = elapsed.as_secs_f64();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs: Vec<Value> = {
        let jobs = lock(&load.jobs);
        let mut jobs: Vec<_> = jobs.iter().collect();
        jobs.sort_by_key(|(_, arrivals)| arrivals.first_us);
        let one = |(id, arrivals): &(&String, &Arrivals)| {
            json!({
                "job": id, "first_us": arrivals.first_us, "last_us": arrivals.last_us,
                "connections": arrivals.connections,
            })
        };
        jobs.iter().map(one).collect()
    };
    let object = json!({
        "event": "end", "connections": load.connected(), "sent": sent, "accepted": accepted,
        "accepted_per_second": accepted as f64 / seconds, "seconds": seconds,
        "answer_ms": { "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0) },
        "generator_cpu_seconds": cpu.as_secs_f64(), "cores": cores, "troubles": *load.troubles(), "jobs": jobs,
    });
    if args.json {
        return Ok(show::print_json(&object)?);
    }
    show::print_line(&format!(
        "{accepted} of {sent} shares accepted in {seconds:.1} s: {:.0}/s, {:.0} asked for",
        accepted as f64 / seconds,
        args.rate
    ))?;
    show::print_line(&format!(
        "answers after {:.1} ms (half), {:.1} ms (99 %), {:.1} ms (all)",
        at(0.5),
        at(0.99),
        at(1.0)
    ))?;
    for (trouble, count) in &*load.troubles() {
        show::print_line(&format!("{count} times: {trouble}"))?;
    }
    show::print_line(&format!(
        "the generator itself took {:.0} % of {cores} cores",
        100.0 * cpu.as_secs_f64() / seconds / cores as f64
    ))?;
    Ok(())
}

/// One miner, from connecting to the end.
async fn miner(
    load: &Load,
    index: u32,
    mut phase: watch::Receiver<Phase>,
    turn: &Semaphore,
) -> Result<(), String> {
    let opening = turn.acquire().await.map_err(|error| error.to_string())?;
    let mut stream = TcpStream::connect(&load.address).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let account = Account {
        agent: concat!("otedama-loadtest/", env!("CARGO_PKG_VERSION")).to_owned(),
        username: format!("{}.{index}", load.username),
        password: "x".to_owned(),
    };
    let mut client = BitcoinClient::new(BitcoinClientConfig {
        algorithm: Algorithm::Sha256d,
        account,
        version_mask: 0,
        suggest: None,
    });
    let mut events = Vec::new();
    let mut opening = Some(opening);
    client.start(load.now(), &mut events);
    // Everybody at another moment, spread evenly however many there are: multiples of the golden ratio are.
    let stagger = load.pause.mul_f64((f64::from(index) * GOLDEN_RATIO).fract());
    let mut due = tokio::time::Instant::now();
    let (mut ready, mut under_way) = (Vec::<Share>::new(), VecDeque::<Instant>::new());
    let mut splitter = LineSplitter::new(POOL_LINE_BYTES);
    let mut bytes = [0; 2048];
    let deadline = tokio::time::Instant::now() + HANDSHAKE;
    loop {
        let mut out = String::new();
        for event in events.drain(..) {
            match event {
                Event::Send(line) => {
                    out.push_str(&line);
                    out.push('\n');
                }
                Event::Work { clean } => {
                    if opening.take().is_some() {
                        load.connected.fetch_add(1, Ordering::Relaxed);
                    }
                    if clean {
                        ready.clear();
                    }
                }
                Event::Accepted => {
                    load.accepted.fetch_add(1, Ordering::Relaxed);
                    load.answered(&mut under_way);
                }
                Event::Rejected { reason, .. } => {
                    load.trouble(format!("refused: {}", reason.label()));
                    load.answered(&mut under_way);
                }
                Event::Failed(error) => return Err(error.to_string()),
                _ => {}
            }
        }
        if !out.is_empty() {
            stream.write_all(out.as_bytes()).await.map_err(|error| error.to_string())?;
        }
        let now = *phase.borrow();
        tokio::select! {
            read = stream.read(&mut bytes) => {
                let count = read.map_err(|error| error.to_string())?;
                if count == 0 {
                    return if now == Phase::Over { Ok(()) } else { Err("the pool closed the connection".to_owned()) };
                }
                splitter.push(&bytes[..count]);
                let at_us = unix_us();
                while let Some(line) = splitter.next_line().map_err(|error| error.to_string())? {
                    load.note_job(line, at_us);
                    client.on_line(line, load.now(), &mut events);
                }
            }
            changed = phase.changed() => {
                if changed.is_err() || *phase.borrow_and_update() == Phase::Over {
                    return Ok(());
                }
                due = tokio::time::Instant::now() + stagger;
            }
            () = sleep_until(due), if now == Phase::Sharing => {
                let now = tokio::time::Instant::now();
                for _ in 0..AT_ONCE {
                    if due > now {
                        break;
                    }
                    due += load.pause;
                    if ready.is_empty() {
                        let task = client.next_task();
                        ready = task.map_or_else(Vec::new, |task| lock(&load.searcher).find(&task));
                    }
                    if let Some(share) = ready.pop() {
                        client.submit(&share, load.now(), &mut events);
                        load.sent.fetch_add(1, Ordering::Relaxed);
                        under_way.push_back(Instant::now());
                    }
                }
            }
            () = sleep_until(deadline), if opening.is_some() => return Err("no work within a minute".to_owned()),
        }
    }
}

impl Load {
    fn now(&self) -> Now {
        Now { elapsed: self.begun.elapsed(), unix_s: unix_us() / 1_000_000 }
    }

    fn connected(&self) -> u64 {
        self.connected.load(Ordering::Relaxed)
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<String, u64>> {
        lock(&self.troubles)
    }

    fn trouble(&self, why: String) {
        *self.troubles().entry(why).or_default() += 1;
    }

    /// An answer came; they come in the order of the shares, or nearly so.
    fn answered(&self, under_way: &mut VecDeque<Instant>) {
        if let Some(sent) = under_way.pop_front() {
            lock(&self.latencies).push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }

    /// Notes when a job came that replaces all others, before anything is made of it.
    fn note_job(&self, line: &str, at_us: u64) {
        let Some((_, rest)) = line.split_once("\"mining.notify\"") else { return };
        let Some(id) = rest.split('"').nth(3).filter(|_| rest.trim_end().ends_with("true]}")) else { return };
        let mut jobs = lock(&self.jobs);
        let new = Arrivals { first_us: at_us, last_us: at_us, connections: 0 };
        let arrivals = jobs.entry(id.to_owned()).or_insert(new);
        arrivals.last_us = arrivals.last_us.max(at_us);
        arrivals.connections += 1;
    }
}

impl Searcher {
    fn new(machine: &Machine) -> Result<Searcher, Failure> {
        let kernel = kernels(Algorithm::Sha256d)
            .find(|kernel| kernel.runs_on(&machine.setup.cpu))
            .ok_or_else(|| work("no kernel for sha256d runs on this CPU"))?;
        Ok(Searcher {
            scanner: kernel.scanner(&machine.setup)?,
            worker: Verifier::new(kernel, machine.setup.clone()).worker()?,
            found: Candidates::with_capacity(FOUND),
        })
    }

    /// Some shares of a task, perhaps none.
    fn find(&mut self, task: &Task) -> Vec<Share> {
        let mut space = task.space;
        let each = Effort::of(task.job.target()).times(2 * FOUND as u64).0;
        space.nonces.count = space.nonces.count.min(u64::try_from(each).unwrap_or(NONCES).min(NONCES));
        self.found.clear();
        let scanned = self
            .scanner
            .load(&task.job, None)
            .and_then(|()| self.scanner.scan(&space, &StopFlag::new(), &mut self.found));
        if scanned.is_err() {
            return Vec::new();
        }
        let claim = |candidate| Claim { job: &task.job, candidate, mix: None, pow: None };
        let claims: Vec<_> = self.found.as_slice().iter().map(|candidate| claim(*candidate)).collect();
        let mut shares = Vec::with_capacity(claims.len());
        self.worker.check_many(&claims, None, |_, outcome| shares.extend(outcome.ok()));
        shares
    }
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done by a panic in between.
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
