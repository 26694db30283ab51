//! `bench pool`: how many miners and shares a pool takes on this machine, with the generator on the same one.
//!
//! The pool is the one that `serve --config` runs: verify threads, a spool that is synced to disk before a share is answered, and
//! a ledger that follows it; only the chain is built in. The generator is `loadtest` in a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use otedama_core::{Algorithm, Target};
use otedama_pool::accounts::{self, Accounts};
use otedama_pool::coin::{Coin, Network};
use otedama_pool::config::Config;
use otedama_pool::ledger::{self, Consumer, Ledger};
use otedama_pool::node::driver::{DriverConfig, NodeGroup, Source};
use otedama_pool::node::template::{DevBitcoin, DevChain};
use otedama_pool::server::trade::{self, Terms};
use otedama_pool::server::{Front, FrontConfig};
use otedama_pool::session::{Limits, VardiffConfig};
use otedama_pool::spool::{Spool, SpoolConfig};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::args::{BenchArgs, MachineArgs};
use crate::cmd::serve::judge;
use crate::cmd::usage_of::{self, Cpu};
use crate::failure::{Failure, Outcome, work};
use crate::machine::Machine;
use crate::show;

/// How long a pool without miners is watched.
const IDLE: Duration = Duration::from_secs(3);

/// Blocks that are sent to all miners, and the time between them.
const BLOCKS: usize = 3;
const BETWEEN_BLOCKS: Duration = Duration::from_secs(2);

/// An address of Bitcoin's private chains, from BIP 173's test vectors under another prefix.
const USER: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// A folder that goes when this does.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A process that goes when this does.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn run(args: &BenchArgs, machine: &MachineArgs) -> Outcome {
    usage_of::allow_files(u64::from(args.connections) + 256).map_err(work)?;
    let machine = Machine::detect(machine);
    let starts = (0..3).map(|_| time_to_listen()).collect::<Result<Vec<_>, _>>()?;
    let start_ms = starts.iter().copied().fold(f64::INFINITY, f64::min);

    // Where the user stands: a folder in memory would make syncing free.
    let folder = Scratch(std::env::current_dir()?.join(format!("otedama-bench-pool-{}", std::process::id())));
    fs::create_dir(&folder.0)?;
    let runtime = Runtime::new()?;
    let _inside = runtime.enter();
    let coin = Coin::find("bitcoin", Network::Regtest).map_err(work)?;
    let spool = Arc::new(Spool::open(&folder.0.join("spool"), SpoolConfig::new("bench")).map_err(work)?);
    let ledger = ledger::sqlite_url(&folder.0.join("ledger.db"));
    let ledger = Arc::new(runtime.block_on(Ledger::open(&ledger)).map_err(work)?);
    let defaults = Config::default();
    let rules = accounts::rules(coin, &defaults.pool.rewards, defaults.pool.fee_percentage);
    let consumer = Consumer::new(Arc::clone(&spool), Arc::clone(&ledger), [rules]);
    let consumed = consumer.progress();
    let stop = Arc::new(AtomicBool::new(false));
    let consuming = runtime.spawn({
        let stop = Arc::clone(&stop);
        async move { consumer.run(&stop).await }
    });

    // The easiest target there is, and blocks that nobody finds.
    let easiest = Target::MAX.to_difficulty(Algorithm::Sha256d);
    let terms = Terms {
        algorithm: Algorithm::Sha256d,
        limits: Limits { idle: Duration::from_secs(86_400), ..Limits::default() },
        vardiff: VardiffConfig::fixed(easiest),
        tag: b"/otedama/".to_vec(),
        payout: vec![0x51],
    };
    let chain = DevChain::new(Algorithm::Sha256d, u64::MAX);
    let group = NodeGroup::start(
        vec![Source { node: DevBitcoin(chain.clone()), zmq: None }],
        DriverConfig { refresh: Duration::from_secs(86_400), ..DriverConfig::default() },
    );
    let limits = args.connections as usize + 16;
    let front = Arc::new(Front::new(
        trade::Bitcoin::new(terms),
        group,
        judge(Algorithm::Sha256d, &machine, 1)?,
        Accounts::new(coin, Arc::clone(&spool), Arc::clone(&ledger)),
        // All miners come from one address, which is exempt from limits: loopback.
        FrontConfig { max_connections: limits, max_workers: limits, ..FrontConfig::default() },
        |_| (),
    ));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
    let address = listener.local_addr()?;
    let serving = Arc::clone(&front);
    runtime.spawn(async move { serving.serve(listener).await });

    std::thread::sleep(Duration::from_millis(500));
    let (cpu, begun) = (Cpu::of_this_process(), Instant::now());
    std::thread::sleep(IDLE);
    let idle_cpu = Cpu::of_this_process().since(cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let idle_bytes = usage_of::resident_bytes();

    let settle = BETWEEN_BLOCKS.as_secs_f64() * (BLOCKS + 1) as f64;
    let mut generator = Command::new(std::env::current_exe()?)
        .args(["loadtest", "--json", "--url", &format!("stratum+tcp://{address}"), "--user", USER])
        .args(["--connections", &args.connections.to_string(), "--rate", &args.rate.to_string()])
        .args(["--seconds", &args.seconds.to_string(), "--settle", &settle.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = lines(generator.stdout.take());
    let _generator = Running(generator);
    let connected = next(&mut said, "connected")?;
    let full_bytes = usage_of::resident_bytes();
    let mut found_us = Vec::new();
    for _ in 0..BLOCKS {
        std::thread::sleep(BETWEEN_BLOCKS);
        found_us.push(unix_us());
        chain.advance();
    }
    std::thread::sleep(BETWEEN_BLOCKS);
    let (cpu, begun) = (Cpu::of_this_process(), Instant::now());
    std::thread::sleep(Duration::from_secs_f64(args.seconds));
    let pool_cpu = Cpu::of_this_process().since(cpu).as_secs_f64() / begun.elapsed().as_secs_f64();
    let peak_bytes = usage_of::resident_bytes();
    let end = next(&mut said, "end")?;

    stop.store(true, Ordering::SeqCst);
    runtime.block_on(consuming).map_err(work)?.map_err(work)?;
    let stats = front.stats();
    let in_ledger = consumed.records.load(Ordering::SeqCst);
    // What was answered is on disk and in the ledger, or this figure is worth nothing.
    if in_ledger != stats.accepted || end["accepted"].as_u64() > Some(stats.accepted) {
        return Err(work(format!(
            "the ledger has {in_ledger} shares, the pool accepted {}, miners were told of {}",
            stats.accepted, end["accepted"]
        )));
    }
    let jobs = end["jobs"].as_array().cloned().unwrap_or_default();
    let reached: Vec<(f64, u64)> = found_us
        .iter()
        .zip(&jobs)
        .map(|(found, job)| {
            let last = job["last_us"].as_u64().unwrap_or(u64::MAX);
            (last.saturating_sub(*found) as f64 / 1e3, job["connections"].as_u64().unwrap_or(0))
        })
        .collect();
    let block_ms = reached.iter().map(|(ms, _)| *ms).fold(0.0, f64::max);
    let reached_all = reached.iter().map(|(_, connections)| *connections).min().unwrap_or(0);
    let generator_cpu =
        end["generator_cpu_seconds"].as_f64().unwrap_or(0.0) / end["seconds"].as_f64().unwrap_or(f64::NAN);

    let object = json!({
        "cpu": machine.setup.cpu.brand(), "cores": end["cores"], "start_to_listening_ms": starts,
        "idle": { "bytes": idle_bytes, "cores": idle_cpu },
        "connections": connected["connections"], "connect_seconds": connected["seconds"],
        "bytes_connected": full_bytes, "bytes_sharing": peak_bytes,
        "block_to_last_miner_ms": reached.iter().map(|(ms, _)| *ms).collect::<Vec<_>>(),
        "block_reached": reached_all,
        "shares_per_second": end["accepted_per_second"], "asked_per_second": args.rate, "answer_ms": end["answer_ms"],
        "troubles": end["troubles"], "pool_cores": pool_cpu, "generator_cores": generator_cpu, "in_ledger": in_ledger,
        "verified": true,
    });
    if args.json {
        return Ok(show::print_json(&object)?);
    }
    let mebibytes = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let mut table = show::table(&["pool", "measured"]);
    table.add_row(["start to listening", &format!("{start_ms:.0} ms")]);
    table.add_row([
        "without miners",
        &format!("{}, {:.2} % of a core", mebibytes(idle_bytes), 100.0 * idle_cpu),
    ]);
    table.add_row([
        "miners connected",
        &format!(
            "{} in {:.1} s, {}",
            connected["connections"],
            connected["seconds"].as_f64().unwrap_or(0.0),
            mebibytes(full_bytes)
        ),
    ]);
    table.add_row([
        "a block to the last of them",
        &format!("{block_ms:.0} ms ({reached_all} reached, the worst of {BLOCKS})"),
    ]);
    table.add_row([
        "shares proven and on disk",
        &format!("{:.0}/s ({:.0} asked for)", end["accepted_per_second"].as_f64().unwrap_or(0.0), args.rate),
    ]);
    table.add_row([
        "answers",
        &format!(
            "{:.1} ms (half), {:.1} ms (99 %)",
            end["answer_ms"]["p50"].as_f64().unwrap_or(0.0),
            end["answer_ms"]["p99"].as_f64().unwrap_or(0.0)
        ),
    ]);
    table.add_row([
        "cores used",
        &format!("pool {pool_cpu:.2}, generator {generator_cpu:.2} of {}", end["cores"]),
    ]);
    table.add_row(["checked", &format!("all {in_ledger} shares are in the ledger, once")]);
    show::print_table(&table)?;
    for (trouble, count) in end["troubles"].as_object().into_iter().flatten() {
        show::print_line(&format!("{count} times: {trouble}"))?;
    }
    Ok(())
}

/// How long a pool takes from its start until miners can connect, in milliseconds.
fn time_to_listen() -> Result<f64, Failure> {
    let begun = Instant::now();
    let mut pool = Command::new(std::env::current_exe()?)
        .args(["serve", "--dev", "sha256d", "--listen", "127.0.0.1:0", "--json"])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = lines(pool.stdout.take());
    let _pool = Running(pool);
    next(&mut said, "listening")?;
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}

type Lines = Box<dyn Iterator<Item = String>>;

fn lines(out: Option<ChildStdout>) -> Lines {
    Box::new(out.into_iter().flat_map(|out| BufReader::new(out).lines().map_while(Result::ok)))
}

/// The next event of this name.
fn next(said: &mut Lines, event: &str) -> Result<Value, Failure> {
    said.filter_map(|line| serde_json::from_str::<Value>(&line).ok())
        .find(|value| value["event"] == event)
        .ok_or_else(|| work(format!("a process that was started ended without saying '{event}'")))
}

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
