//! Ethereum Classic from a miner's connection to the books: blocks found at real sockets, whose node is made of paper.
#![cfg(all(feature = "net", feature = "ledger"))]

#[allow(dead_code, reason = "each test program uses a part of it")]
mod common;
#[allow(dead_code, reason = "each test program uses a part of it")]
mod miner;
mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::fake::{Fake, Reply};
use miner::{account, at, mine_as};
use otedama_core::epoch::{EpochStore, StoreConfig};
use otedama_core::scan::{Setup, kernels};
use otedama_core::topology::Topology;
use otedama_core::{Algorithm, Verifier};
use otedama_pool::accounts::{self, Accounts, book_blocks, now_ms};
use otedama_pool::client::Trust;
use otedama_pool::coin::{Coin, Kind, Network};
use otedama_pool::config::{Percent, RewardSystem, Rewards};
use otedama_pool::ledger::{Account, Block, BlockState, Consumer, Ledger};
use otedama_pool::money::Amount;
use otedama_pool::node::driver::{DriverConfig, NodeGroup, Source};
use otedama_pool::node::ethereum::EthereumNode;
use otedama_pool::node::group::GroupConfig;
use otedama_pool::server::judge::Judge;
use otedama_pool::server::trade::{Ethereum, Terms};
use otedama_pool::server::{Front, FrontConfig};
use otedama_pool::session::client::{EthereumClient, EthereumClientConfig};
use otedama_pool::session::{Limits, VardiffConfig};
use otedama_pool::spool::{Spool, SpoolConfig};
use otedama_pool::stratum::Dialect;
use serde_json::{Value, json};
use support::difficulty;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// EIP-55's first example, as a miner writes it, and as the books name it.
const MINER: &str = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
const BOOKED: &str = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed";

/// What the node says of the chain.
#[derive(Default)]
struct Paper {
    newest: u64,
    /// The nonces of blocks; of other heights it is 0.
    nonces: BTreeMap<u64, u64>,
    /// Height and nonce of the uncle that a block names.
    uncles: BTreeMap<u64, (u64, u64)>,
    /// What was handed in, with the height it was for.
    solved: Vec<(u64, u64)>,
}

impl Paper {
    fn answer(&mut self, method: &str, params: &Value) -> Value {
        let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        let hash = |height: u64| format!("0x{height:064x}");
        match method {
            "eth_chainId" => "0x3d".into(),
            "eth_syncing" => false.into(),
            "net_peerCount" => "0x19".into(),
            // Every second hash is a block.
            "eth_getWork" => {
                json!([hash(self.newest + 1), hash(0), format!("0x7{}", "f".repeat(63))])
            }
            "eth_submitWork" => {
                let nonce = number(params[0].as_str().unwrap());
                assert_eq!(params[1], hash(self.newest + 1));
                self.solved.push((self.newest + 1, nonce));
                true.into()
            }
            "eth_getBlockByNumber" => {
                let height = match params[0].as_str().unwrap() {
                    "latest" => self.newest,
                    height => number(height),
                };
                if height > self.newest {
                    return Value::Null;
                }
                let uncles: Vec<String> = self.uncles.get(&height).map(|_| hash(7)).into_iter().collect();
                let nonce = self.nonces.get(&height).copied().unwrap_or(0);
                json!({
                    "number": format!("0x{height:x}"), "hash": hash(height), "nonce": format!("0x{nonce:016x}"),
                    "uncles": uncles,
                })
            }
            "eth_getUncleByBlockNumberAndIndex" => {
                let (height, nonce) = self.uncles[&number(params[0].as_str().unwrap())];
                assert_eq!(params[1], "0x0");
                json!({ "number": format!("0x{height:x}"), "nonce": format!("0x{nonce:016x}") })
            }
            other => panic!("{other} {params}"),
        }
    }
}

async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !reached().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("not reached: {what}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_uncles_and_orphans_are_booked_for_what_they_pay() {
    let coin = Coin::find("ethereum-classic", Network::Main).unwrap();
    let Kind::Ethereum(chain) = &coin.kind else { panic!("{:?}", coin.kind) };
    let paper = Arc::new(Mutex::new(Paper { newest: 100, ..Paper::default() }));
    let told = Arc::clone(&paper);
    let fake =
        Fake::start(move |method, params| Reply::Result(told.lock().unwrap().answer(method, params))).await;
    let node = EthereumNode::new(fake.rpc(), chain);
    let driver = DriverConfig {
        group: GroupConfig { min_peers: 1, ..GroupConfig::default() },
        poll: Duration::from_millis(50),
        ..DriverConfig::default()
    };
    let group = Arc::new(NodeGroup::start(vec![Source { node, zmq: None }], driver));

    let dir = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(&dir.path().join("spool"), SpoolConfig::new("n")).unwrap());
    let url = format!("sqlite://{}/ledger.db", dir.path().display());
    let ledger = Arc::new(Ledger::open(&url).await.unwrap());
    let rewards = Rewards { system: RewardSystem::Prop, ..Rewards::default() };
    let rules = accounts::rules(coin, &rewards, Percent::from_millionths(10_000).unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let consumer = Consumer::new(Arc::clone(&spool), Arc::clone(&ledger), vec![rules.clone()]);
    let consuming = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move { consumer.run(&stop).await }
    });

    let algorithm = Algorithm::Etchash;
    let terms = Terms {
        algorithm,
        limits: Limits::default(),
        vardiff: VardiffConfig::fixed(difficulty(2.0)),
        tag: Vec::new(),
        payout: Vec::new(),
    };
    let setup = Setup::detect();
    let kernel = kernels(algorithm).find(|kernel| kernel.obstacle(&setup).is_none()).unwrap();
    let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 1 << 30));
    let judge = Judge::start(&Verifier::new(kernel, setup.clone()), algorithm, &setup, store, 1).unwrap();
    let log = Accounts::new(coin, spool, Arc::clone(&ledger));
    let front =
        Front::new(Ethereum::new(terms), Arc::clone(&group), judge, log, FrontConfig::default(), |_| {});
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { front.serve(listener).await });

    // One miner finds a block at each of three heights.
    let mut heights = Vec::new();
    for round in 0..3u64 {
        let mut miner = mine_as(vec![at(address, false, Trust::default())], move |_| {
            Box::new(EthereumClient::new(EthereumClientConfig {
                algorithm,
                dialect: Dialect::EthProxy,
                account: account(&format!("{MINER}.rig")),
                nonce_start: round << 40,
            }))
        });
        let found = paper.lock().unwrap().solved.len();
        miner.find_and_submit().await;
        until("a block at the node", async || paper.lock().unwrap().solved.len() > found).await;
        miner.finish().await;
        heights.push(paper.lock().unwrap().solved[found]);
        until("the block in the books", async || {
            ledger.blocks("etc").await.unwrap().len() == round as usize + 1
        })
        .await;
        let newest = {
            let mut paper = paper.lock().unwrap();
            paper.newest += 10;
            paper.newest
        };
        until("work on the newest block", async || {
            let templates = group.templates();
            let current = templates.borrow();
            current.as_ref().is_some_and(|current| current.template.height == newest + 1)
        })
        .await;
    }
    let [block, orphan, uncle] = heights[..] else { panic!("{heights:?}") };
    assert_eq!((block.0, orphan.0, uncle.0), (101, 111, 121));
    let blocks = async || -> BTreeMap<u64, Block> {
        ledger.blocks("etc").await.unwrap().into_iter().map(|block| (block.height, block)).collect()
    };
    for block in blocks().await.values() {
        assert_eq!((block.finder.as_str(), block.reward), (BOOKED, Amount::new(5_000_000_000)));
        assert_eq!(block.state, BlockState::Accepted);
    }

    // The first is in the chain and names somebody's uncle; the third is an uncle itself, one generation late.
    let after = async |confirmations: u64| {
        let newest = uncle.0 + confirmations;
        {
            let mut paper = paper.lock().unwrap();
            paper.nonces.insert(block.0, block.1);
            paper.uncles.insert(block.0, (100, 1));
            paper.uncles.insert(uncle.0 + 1, uncle);
            paper.newest = newest;
        }
        until("the newest block", async || group.status()[0].tip.is_some_and(|tip| tip.height == newest))
            .await;
    };
    let earned =
        async || ledger.balances("etc").await.unwrap().get(&Account::Miner(BOOKED.to_owned())).copied();
    after(400).await;
    book_blocks(&ledger, &rules, &group, now_ms()).await.unwrap();
    assert_eq!(blocks().await[&block.0].state, BlockState::Accepted);
    assert_eq!(earned().await, None);
    after(600).await;
    book_blocks(&ledger, &rules, &group, now_ms()).await.unwrap();
    let seen = blocks().await;
    let states =
        [block.0, orphan.0, uncle.0].map(|height| (seen[&height].state, seen[&height].reward.units()));
    assert_eq!(
        states,
        [
            // 5 + 5 / 32
            (BlockState::Confirmed, 5_156_250_000),
            (BlockState::Orphaned, 5_000_000_000),
            // 5 * 7 / 8
            (BlockState::Confirmed, 4_375_000_000),
        ]
    );
    let kept = i128::from(5_156_250_000u64 + 4_375_000_000) - i128::from(earned().await.unwrap().units());
    assert_eq!(kept, fee(&ledger).await, "what the miner does not get is the pool's fee");

    // The chain goes another way: what was an uncle is a block, and is booked anew.
    paper.lock().unwrap().nonces.insert(uncle.0, uncle.1);
    book_blocks(&ledger, &rules, &group, now_ms()).await.unwrap();
    assert_eq!(blocks().await[&uncle.0].reward, Amount::new(5_000_000_000));
    assert_eq!(
        i128::from(5_156_250_000u64 + 5_000_000_000) - i128::from(earned().await.unwrap().units()),
        fee(&ledger).await
    );

    stop.store(true, Ordering::SeqCst);
    consuming.await.unwrap().unwrap();
    serving.abort();
}

async fn fee(ledger: &Ledger) -> i128 {
    ledger.balances("etc").await.unwrap().get(&Account::Fees).map_or(0, |fee| fee.units().into())
}
