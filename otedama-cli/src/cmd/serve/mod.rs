//! `serve`: a pool, on a built-in chain or on real ones.

pub(in crate::cmd) mod chains;
mod tell;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use otedama_core::epoch::{EpochStore, StoreConfig};
use otedama_core::{Algorithm, Target, Verifier, scan, tune};
use otedama_pool::node::ChainNode;
use otedama_pool::node::driver::{DriverConfig, NodeGroup, Source};
use otedama_pool::node::template::{DevBitcoin, DevChain, DevEthereum, DevMonero};
use otedama_pool::server::judge::Judge;
use otedama_pool::server::trade::{self, Terms, Trade, usual_difficulty};
use otedama_pool::server::{Front, FrontConfig, FrontStats, NoAccounts};
use otedama_pool::session::{Limits, VardiffConfig};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::args::{MachineArgs, ServeArgs};
use crate::cmd;
use crate::failure::{Failure, Outcome, usage, work};
use crate::machine::Machine;
use crate::show;

/// How often it is looked whether to end.
const LOOK: Duration = Duration::from_millis(100);

/// What the pool signs its blocks with.
const TAG: &[u8] = b"/otedama/";

pub(crate) fn run(args: &ServeArgs, machine: &MachineArgs) -> Outcome {
    let machine = Machine::detect(machine);
    match (args.dev, &args.config) {
        (Some(algorithm), _) => dev(args, &machine, algorithm),
        (None, Some(file)) => chains::run(args, &machine, file),
        (None, None) => Err(usage("no chain: expected --config FILE or --dev ALGORITHM")),
    }
}

fn dev(args: &ServeArgs, machine: &Machine, algorithm: Algorithm) -> Outcome {
    let start = args.difficulty.unwrap_or_else(|| usual_difficulty(algorithm));
    let least = Target::MAX.to_difficulty(algorithm);
    let hardest = otedama_core::Difficulty::new(1e15).map_err(usage)?;
    let terms = Terms {
        algorithm,
        limits: Limits::default(),
        vardiff: VardiffConfig::new(start, least, hardest),
        tag: TAG.to_vec(),
        // OP_TRUE: the built-in chain's coins belong to nobody.
        payout: vec![0x51],
    };
    let hashes = args.block_hashes.unwrap_or_else(|| DevChain::usual_hashes(algorithm));
    let chain = DevChain::new(algorithm, hashes);
    match algorithm {
        Algorithm::Sha256d | Algorithm::Scrypt => {
            serve_dev(args, machine, trade::Bitcoin::new(terms), DevBitcoin(chain))
        }
        Algorithm::KawPow => serve_dev(args, machine, trade::KawPow::new(terms), DevBitcoin(chain)),
        Algorithm::RandomXV1 | Algorithm::RandomXV2 => {
            serve_dev(args, machine, trade::Monero::new(terms), DevMonero(chain))
        }
        Algorithm::Ethash | Algorithm::Etchash => {
            serve_dev(args, machine, trade::Ethereum::new(terms), DevEthereum(chain))
        }
        other => Err(usage(format!(
            "no pool speaks {other} yet: expected sha256d, scrypt, randomx, randomx-v2, ethash, etchash or kawpow"
        ))),
    }
}

fn serve_dev<T, N>(args: &ServeArgs, machine: &Machine, trade: T, node: N) -> Outcome
where
    T: Trade<Node = N>,
    N: ChainNode,
{
    let algorithm = trade.algorithm();
    let runtime = Runtime::new()?;
    let listen = args.listen.unwrap_or(DEV_ADDRESS);
    let listener = bind(&runtime, listen, "--listen")?;
    let listening = listener.local_addr()?;
    let json = args.json;
    let _inside = runtime.enter();
    let group = NodeGroup::start(vec![Source { node, zmq: None }], DriverConfig::default());
    let front = Arc::new(Front::new(
        trade,
        group,
        judge(algorithm, machine, 1)?,
        NoAccounts,
        FrontConfig::default(),
        move |happening| tell::happening(json, None, &happening),
    ));
    show::say(
        json,
        &format!("a pool for {algorithm} at stratum+tcp://{listening}; its coins are worth nothing"),
        json!({ "event": "listening", "algorithm": algorithm.name(), "address": listening.to_string() }),
    )?;
    let serving = Arc::clone(&front);
    until_interrupted(&runtime, async move { serving.serve(listener).await })?;
    end(json, None, &front.stats())
}

/// Where the pool for trying things out listens.
const DEV_ADDRESS: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3333);

fn bind(runtime: &Runtime, address: std::net::SocketAddr, setting: &str) -> Result<TcpListener, Failure> {
    runtime.block_on(TcpListener::bind(address)).map_err(|error| {
        work(format!("cannot listen at {address}: {error}; name another address with {setting}"))
    })
}

/// Runs this until it ends by itself, which is a failure, or Ctrl-C ends it.
fn until_interrupted(
    runtime: &Runtime,
    serving: impl Future<Output = std::io::Result<()>> + Send + 'static,
) -> Outcome {
    let interrupted = cmd::interrupt_flag()?;
    let serving = runtime.spawn(serving);
    while !interrupted.load(Ordering::Relaxed) && !serving.is_finished() {
        std::thread::sleep(LOOK);
    }
    if serving.is_finished() {
        let outcome = runtime.block_on(serving).map_err(work)?;
        return outcome.map_err(|error| work(format!("the listener failed: {error}")));
    }
    serving.abort();
    Ok(())
}

/// The last words about a front.
fn end(json: bool, coin: Option<&str>, stats: &FrontStats) -> Outcome {
    let whose = coin.map_or(String::new(), |coin| format!("{coin}: "));
    show::say(
        json,
        &format!(
            "{whose}{} shares accepted, {} refused, {} blocks, {} on average",
            stats.accepted, stats.refused, stats.blocks, stats.hash_rate
        ),
        json!({
            "event": "end", "coin": coin, "accepted": stats.accepted, "refused": stats.refused,
            "blocks": stats.blocks, "hps": stats.hash_rate.hps(),
        }),
    )
}

/// Half of the machine's cores prove shares, divided among so many coins; a miner on the same machine gets the others.
pub(in crate::cmd) fn judge(algorithm: Algorithm, machine: &Machine, coins: usize) -> Result<Judge, Failure> {
    let threads = (machine.topology.pins(None).len() / 2 / coins).max(1);
    let kernel = match scan::prover(algorithm, &machine.setup)? {
        // One that proves a single share soonest beats one that wants many at a time.
        prover if !prover.is_oracle() => prover,
        _ => tune::best(algorithm, &machine.setup, &tune::TuningCache::user(), None, 1)?,
    };
    let verifier = Verifier::new(kernel, machine.setup.clone());
    let store = EpochStore::new(StoreConfig {
        pages: machine.setup.memory.pages,
        ..StoreConfig::for_machine(&machine.topology, u64::MAX)
    });
    Judge::start(&verifier, algorithm, &machine.setup, store, threads).map_err(work)
}
