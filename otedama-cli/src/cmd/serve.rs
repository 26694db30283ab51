//! `serve`: a pool.

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
use otedama_pool::server::{Front, FrontConfig, Happening, NoAccounts};
use otedama_pool::session::{Limits, VardiffConfig};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::args::{MachineArgs, ServeArgs};
use crate::cmd;
use crate::failure::{Outcome, usage, work};
use crate::machine::Machine;
use crate::show;

/// How often it is looked whether to end.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) fn run(args: &ServeArgs, machine: &MachineArgs) -> Outcome {
    // Clap demands it.
    let Some(algorithm) = args.dev else { return Err(usage("no chain: expected --dev ALGORITHM")) };
    let machine = Machine::detect(machine);
    let start = args.difficulty.unwrap_or_else(|| usual_difficulty(algorithm));
    let least = Target::MAX.to_difficulty(algorithm);
    let hardest = otedama_core::Difficulty::new(1e15).map_err(usage)?;
    let terms = Terms {
        algorithm,
        limits: Limits::default(),
        vardiff: VardiffConfig::new(start, least, hardest),
        tag: b"/otedama/".to_vec(),
        // OP_TRUE: the built-in chain's coins belong to nobody.
        payout: vec![0x51],
    };
    let hashes = args.block_hashes.unwrap_or_else(|| DevChain::usual_hashes(algorithm));
    let chain = DevChain::new(algorithm, hashes);
    match algorithm {
        Algorithm::Sha256d | Algorithm::Scrypt => {
            serve(args, &machine, trade::Bitcoin::new(terms), DevBitcoin(chain))
        }
        Algorithm::KawPow => serve(args, &machine, trade::KawPow::new(terms), DevBitcoin(chain)),
        Algorithm::RandomXV1 => serve(args, &machine, trade::Monero::new(terms), DevMonero(chain)),
        Algorithm::Ethash | Algorithm::Etchash => {
            serve(args, &machine, trade::Ethereum::new(terms), DevEthereum(chain))
        }
        other => Err(usage(format!(
            "no pool speaks {other} yet: expected sha256d, scrypt, randomx, ethash, etchash or kawpow"
        ))),
    }
}

fn serve<T, N>(args: &ServeArgs, machine: &Machine, trade: T, node: N) -> Outcome
where
    T: Trade<Node = N>,
    N: ChainNode,
{
    let interrupted = cmd::interrupt_flag()?;
    let algorithm = trade.algorithm();
    let runtime = Runtime::new()?;
    let listener = runtime.block_on(TcpListener::bind(args.listen)).map_err(|error| {
        work(format!("cannot listen at {}: {error}; name another address with --listen", args.listen))
    })?;
    let listening = listener.local_addr()?;
    let json = args.json;
    let _inside = runtime.enter();
    let group = NodeGroup::start(vec![Source { node, zmq: None }], DriverConfig::default());
    let front = Arc::new(Front::new(
        trade,
        group,
        judge(algorithm, machine)?,
        NoAccounts,
        FrontConfig::default(),
        move |happening| tell(json, &happening),
    ));
    show::say(
        json,
        &format!("a pool for {algorithm} at stratum+tcp://{listening}; its coins are worth nothing"),
        json!({ "event": "listening", "algorithm": algorithm.name(), "address": listening.to_string() }),
    )?;
    let serving = runtime.spawn({
        let front = Arc::clone(&front);
        async move { front.serve(listener).await }
    });
    while !interrupted.load(Ordering::Relaxed) && !serving.is_finished() {
        std::thread::sleep(LOOK);
    }
    if serving.is_finished() {
        let outcome = runtime.block_on(serving).map_err(work)?;
        return outcome.map_err(|error| work(format!("the listener failed: {error}")));
    }
    serving.abort();
    let stats = front.stats();
    show::say(
        json,
        &format!(
            "{} shares accepted, {} refused, {} blocks, {} on average",
            stats.accepted, stats.refused, stats.blocks, stats.hash_rate
        ),
        json!({
            "event": "end", "accepted": stats.accepted, "refused": stats.refused, "blocks": stats.blocks,
            "hps": stats.hash_rate.hps(),
        }),
    )
}

/// Half of the machine's cores prove shares; a miner on the same machine gets the others.
fn judge(algorithm: Algorithm, machine: &Machine) -> Result<Judge, crate::failure::Failure> {
    let threads = (machine.topology.pins(None).len() / 2).max(1);
    let kernel = match scan::prover(algorithm, &machine.setup)? {
        // One that proves a single share soonest beats one that wants many at a time.
        prover if !prover.is_oracle() => prover,
        _ => tune::best(algorithm, &machine.setup, &tune::TuningCache::user(), None)?,
    };
    let verifier = Verifier::new(kernel, machine.setup.clone());
    let store = EpochStore::new(StoreConfig {
        pages: machine.setup.memory.pages,
        ..StoreConfig::for_machine(&machine.topology, u64::MAX)
    });
    Judge::start(&verifier, algorithm, &machine.setup, store, threads).map_err(work)
}

/// What happens, as a line or an object.
fn tell(json: bool, happening: &Happening) {
    let (text, object) = match happening {
        Happening::Joined(peer) => {
            (format!("{peer} joined"), json!({ "event": "joined", "peer": peer.to_string() }))
        }
        Happening::Left(peer, why) => {
            let because = why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            (
                format!("{peer} left{because}"),
                json!({ "event": "left", "peer": peer.to_string(), "why": why }),
            )
        }
        Happening::Share { worker, difficulty } => (
            format!("share of {worker}, difficulty {difficulty}"),
            json!({ "event": "share", "worker": worker, "difficulty": difficulty.get() }),
        ),
        Happening::Refused { worker, reason } => (
            format!("share of {worker} refused: {}", reason.label()),
            json!({ "event": "refused", "worker": worker, "reason": reason.label() }),
        ),
        Happening::Block { worker, height, id, outcome } => (
            format!("block {height} found by {worker}: {outcome:?}"),
            json!({ "event": "block", "worker": worker, "height": height, "id": id.to_display_hex(), "outcome": format!("{outcome:?}") }),
        ),
        Happening::Work { height, connections } => (
            format!("work for block {height} to {connections} connections"),
            json!({ "event": "work", "height": height, "connections": connections }),
        ),
        Happening::Trouble(words) => (words.clone(), json!({ "event": "trouble", "words": words })),
        _ => return,
    };
    // A reader who left is no reason to stop serving.
    let _ = show::say(json, &text, object);
}
