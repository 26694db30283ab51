//! Nodes that fail in every way they can, and what the pool makes of it.

#[allow(dead_code)]
mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::fake::{Fake, Reply, http};
use otedama_core::epoch::{EpochStore, StoreConfig};
use otedama_core::scan::{Setup, kernels};
use otedama_core::topology::Topology;
use otedama_core::{Algorithm, Hash256, Target, Verifier};
use otedama_pool::coin::{Coin, Kind, Network};
use otedama_pool::money::Amount;
use otedama_pool::node::bitcoin::BitcoinNode;
use otedama_pool::node::driver::{DriverConfig, NodeGroup, Source};
use otedama_pool::node::ethereum::{EthereumNode, Solution, block_name};
use otedama_pool::node::group::{GroupConfig, Health};
use otedama_pool::node::monero::MoneroNode;
use otedama_pool::node::rpc::{Auth, Effect, Rpc, RpcConfig, RpcError};
use otedama_pool::node::{BlockRef, ChainNode, Fate, NodeError, Submitted, ravencoin};
use otedama_pool::server::judge::Judge;
use otedama_pool::server::trade::{self, Terms};
use otedama_pool::server::{Front, FrontConfig, NoAccounts};
use otedama_pool::session::{Limits, VardiffConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const BLOCK: [u8; 4] = [1, 2, 3, 4];

fn hash(name: u64) -> Hash256 {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&name.to_le_bytes());
    Hash256::from_raw(bytes)
}

fn reference(name: u64) -> BlockRef {
    BlockRef { height: 5, id: hash(name) }
}

fn litecoin(fake: &Fake) -> BitcoinNode {
    BitcoinNode::new(fake.rpc(), Coin::find("litecoin", Network::Regtest).unwrap())
}

/// A healthy node whose tip is at `height`, with the block of this name.
fn healthy(method: &str, height: u64, name: u64) -> Reply {
    Reply::Result(match method {
        "getblockchaininfo" => json!({
            "chain": "regtest", "blocks": height, "bestblockhash": hash(name).to_display_hex(),
        }),
        "getconnectioncount" => 8.into(),
        "getblocktemplate" => json!({
            "version": 0x2000_0000, "previousblockhash": hash(name).to_display_hex(), "transactions": [],
            "coinbasevalue": 50, "bits": "207fffff", "height": height + 1, "curtime": 1_700_000_000,
        }),
        _ => Value::Null,
    })
}

fn quick() -> DriverConfig {
    DriverConfig {
        group: GroupConfig {
            grace: Duration::from_millis(200),
            return_after: Duration::from_millis(200),
            ..GroupConfig::default()
        },
        poll: Duration::from_millis(20),
        submit_retry: Duration::from_millis(10),
        ..DriverConfig::default()
    }
}

fn group(fakes: &[&Fake]) -> NodeGroup<BitcoinNode> {
    let sources = fakes.iter().map(|fake| Source { node: litecoin(fake), zmq: None }).collect();
    NodeGroup::start(sources, quick())
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn answers_that_are_none_leave_the_outcome_unknown() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"result\":null".to_vec();
    let huge = http(200, &[b"{\"result\":\"".as_slice(), &vec![b'x'; 100_000], b"\"}"].concat());
    let faults: Vec<(&str, Reply)> = vec![
        ("silence", Reply::Silence),
        ("close", Reply::Close),
        ("cut off", Reply::Raw(cut)),
        ("huge", Reply::Raw(huge)),
        ("not HTTP", Reply::Raw(b"\x16\x03\x01 garbage \xff\xfe\r\n\r\n".to_vec())),
        ("not JSON", Reply::Raw(http(200, b"<html>proxy error</html>"))),
        ("a list", Reply::Raw(http(200, b"[null]"))),
        ("wrong type", Reply::Result(json!({ "a": 1 }))),
        ("gateway", Reply::Raw(http(502, b"{\"result\":null}"))),
        ("too late", Reply::Later(Duration::from_secs(6), Box::new(Reply::Result(Value::Null)))),
        ("internal error", Reply::Error(-1, "out of memory, after the block was connected")),
        ("inconclusive", Reply::Result("inconclusive".into())),
    ];
    for (name, fault) in faults {
        let mut fault = Some(fault);
        let fake = Fake::start(move |_, _| fault.take().unwrap_or(Reply::Close)).await;
        let verdict = litecoin(&fake).submit(&BLOCK.to_vec()).await;
        assert!(matches!(verdict, Submitted::Unknown(_)), "{name}: {verdict}");
        assert_eq!(fake.calls(), ["submitblock"], "{name}");
    }
}

#[tokio::test]
async fn refusals_before_the_block_was_looked_at_and_verdicts_are_rejections() {
    for (reply, text) in [
        (Reply::Error(-22, "Block decode failed"), "rejected: node refused: Block decode failed (-22)"),
        (Reply::Result("high-hash".into()), "rejected: high-hash"),
    ] {
        let mut reply = Some(reply);
        let fake = Fake::start(move |_, _| reply.take().unwrap_or(Reply::Close)).await;
        assert_eq!(litecoin(&fake).submit(&BLOCK.to_vec()).await.to_string(), text);
    }
}

#[tokio::test]
async fn a_node_that_is_not_there_was_told_nothing() {
    let rpc =
        Rpc::new(RpcConfig::new(format!("http://127.0.0.1:{}", common::free_port()), Auth::None)).unwrap();
    let error = rpc.call::<Value>("submitblock", ["00"]).await.unwrap_err();
    assert_eq!(error.effect(), Effect::None);
    let no_cookie = Auth::Cookie("/nonexistent/.cookie".into());
    let fake = Fake::start(|_, _| Reply::Result(Value::Null)).await;
    let error = fake.rpc_with(no_cookie).call::<Value>("x", [0; 0]).await.unwrap_err();
    assert_eq!(error.effect(), Effect::None);
    assert!(error.to_string().contains("/nonexistent/.cookie"), "{error}");
    assert_eq!(fake.calls().len(), 0);
}

#[tokio::test]
async fn the_cookie_of_a_restarted_node_is_read_again() {
    let fake = Fake::start(|_, head| Reply::Result(head.clone())).await;
    let file = std::env::temp_dir().join(format!("otedama-cookie-{}", std::process::id()));
    let rpc = fake.rpc_with(Auth::Cookie(file.clone()));
    for (secret, expected) in
        [("__cookie__:one", "X19jb29raWVfXzpvbmU="), ("__cookie__:two", "X19jb29raWVfXzp0d28=")]
    {
        std::fs::write(&file, secret).unwrap();
        let head: String = rpc.call("authorization", [0; 0]).await.unwrap();
        assert!(head.contains(&format!("Basic {expected}")), "{head}");
    }
    std::fs::remove_file(file).unwrap();
    let refused = Fake::start(|_, _| Reply::Raw(http(401, b""))).await;
    let error = refused.rpc().call::<Value>("x", [0; 0]).await.unwrap_err();
    assert_eq!((error.clone(), error.is_retryable()), (RpcError::Unauthorized(401), false));
}

#[tokio::test]
async fn a_time_out_after_success_ends_as_accepted() {
    // The node takes the block, and its answer is lost.
    let mut first = true;
    let fake = Fake::start(move |method, _| match method {
        "submitblock" if std::mem::take(&mut first) => Reply::Silence,
        "submitblock" => Reply::Result("duplicate".into()),
        _ => healthy(method, 4, 4),
    })
    .await;
    let submission = group(&[&fake]).submit(BLOCK.to_vec()).await;
    assert_eq!(submission.outcome, Submitted::Accepted);
}

#[tokio::test]
async fn an_error_after_success_stays_open_and_is_settled_by_looking() {
    let fake = Fake::start(move |method, _| match method {
        "submitblock" => Reply::Error(-32603, "internal"),
        "getblockheader" => Reply::Result(json!({ "confirmations": 1 })),
        _ => healthy(method, 4, 4),
    })
    .await;
    let group = group(&[&fake]);
    let submission = group.submit(BLOCK.to_vec()).await;
    assert!(matches!(submission.outcome, Submitted::Unknown(_)), "{}", submission.outcome);
    until("healthy", || group.status()[0].health == Health::Healthy).await;
    assert_eq!(group.fate(&reference(1)).await, Ok(Fate::InChain { confirmations: 1 }));
}

#[tokio::test]
async fn a_rejection_after_a_doubt_does_not_settle_it() {
    let mut calls = 0;
    let fake = Fake::start(move |method, _| match method {
        "submitblock" => {
            calls += 1;
            if calls == 1 { Reply::Close } else { Reply::Result("duplicate-invalid".into()) }
        }
        _ => healthy(method, 4, 4),
    })
    .await;
    let submission = group(&[&fake]).submit(BLOCK.to_vec()).await;
    assert!(matches!(submission.outcome, Submitted::Unknown(_)), "{}", submission.outcome);
}

#[tokio::test]
async fn a_block_goes_to_every_node_and_one_acceptance_is_enough() {
    let refusing = Fake::start(|method, _| match method {
        "submitblock" => Reply::Result("rejected".into()),
        _ => healthy(method, 4, 4),
    })
    .await;
    let silent = Fake::start(|_, _| Reply::Silence).await;
    let taking = Fake::start(|method, _| healthy(method, 4, 4)).await;
    let submission = group(&[&refusing, &silent, &taking]).submit(BLOCK.to_vec()).await;
    assert_eq!(submission.outcome, Submitted::Accepted);
    let verdicts: Vec<_> = submission.each.iter().map(|(_, verdict, _)| verdict.clone()).collect();
    assert_eq!(verdicts[0], Submitted::Rejected("rejected".into()));
    assert!(matches!(verdicts[1], Submitted::Unknown(_)));
    assert_eq!(verdicts[2], Submitted::Accepted);
    let [.., (_, _, silence), (_, _, answer)] = &submission.each[..] else { panic!("three were asked") };
    assert!(answer < silence && *silence >= Duration::from_secs(2), "it waited for the silent one");

    let submission = group(&[&refusing, &silent]).submit(BLOCK.to_vec()).await;
    assert!(matches!(submission.outcome, Submitted::Unknown(_)));
    let submission = group(&[&refusing]).submit(BLOCK.to_vec()).await;
    assert!(matches!(submission.outcome, Submitted::Rejected(_)));
}

#[tokio::test]
async fn work_moves_from_a_failing_node_to_the_next_and_back() {
    let ill = Arc::new(AtomicU64::new(0));
    let state = ill.clone();
    let first = Fake::start(move |method, _| match state.load(SeqCst) {
        0 => healthy(method, 4, 4),
        1 => Reply::Close,
        // Stuck at its height, while the chain goes on.
        _ => healthy(method, 3, 3),
    })
    .await;
    let second = Fake::start(|method, _| healthy(method, 4, 4)).await;
    let group = group(&[&first, &second]);
    let node = || group.templates().borrow().as_ref().map(|current| current.node);
    until("work from the first", || node() == Some(0)).await;
    ill.store(1, SeqCst);
    until("work from the second", || node() == Some(1)).await;
    assert!(matches!(group.status()[0].health, Health::Down(_)));
    ill.store(0, SeqCst);
    until("work from the first again", || node() == Some(0)).await;
    ill.store(2, SeqCst);
    until("the first lags", || group.status()[0].health == Health::Lagging(1)).await;
    until("work from the second again", || node() == Some(1)).await;
    ill.store(0, SeqCst);
    until("work from the first once more", || node() == Some(0)).await;
}

#[tokio::test]
async fn without_a_healthy_node_there_is_no_work() {
    let alive = Arc::new(AtomicU64::new(1));
    let state = alive.clone();
    let fake = Fake::start(move |method, _| match state.load(SeqCst) {
        0 => Reply::Error(-28, "Loading block index"),
        _ => healthy(method, 4, 4),
    })
    .await;
    let group = group(&[&fake]);
    let mut templates = group.templates();
    templates.wait_for(Option::is_some).await.unwrap();
    alive.store(0, SeqCst);
    templates.wait_for(Option::is_none).await.unwrap();
    assert!(group.fate(&reference(1)).await.is_err());
    alive.store(1, SeqCst);
    templates.wait_for(Option::is_some).await.unwrap();
}

#[tokio::test]
async fn a_reorganization_makes_work_stale_even_at_the_same_height() {
    let name = Arc::new(AtomicU64::new(10));
    let state = name.clone();
    let fake = Fake::start(move |method, _| healthy(method, 4, state.load(SeqCst))).await;
    let group = group(&[&fake]);
    let mut templates = group.templates();
    templates.wait_for(Option::is_some).await.unwrap();
    name.store(11, SeqCst);
    let other = templates
        .wait_for(|current| current.as_ref().is_some_and(|current| current.template.previous == hash(11)))
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert!(other.new_block);
    assert_eq!(other.template.height, 5);
}

#[tokio::test]
async fn a_node_of_another_chain_gives_no_work() {
    let fake = Fake::start(|method, _| match method {
        "getblockchaininfo" => {
            Reply::Result(json!({ "chain": "main", "blocks": 1, "bestblockhash": "0".repeat(64) }))
        }
        _ => healthy(method, 4, 4),
    })
    .await;
    let error = litecoin(&fake).tip().await.unwrap_err();
    assert_eq!(error.to_string(), "node is on chain 'main': expected 'regtest'");
    let group = group(&[&fake]);
    until("down", || matches!(group.status()[0].health, Health::Down(_))).await;
    assert!(group.templates().borrow().is_none());
}

#[tokio::test]
async fn templates_that_are_damaged_are_refused() {
    let fake = Fake::start(|method, _| match method {
        "getblocktemplate" => Reply::Result(json!({
            "version": 1, "previousblockhash": "00", "transactions": [], "coinbasevalue": 50,
            "bits": "207fffff", "height": 5, "curtime": 7,
        })),
        _ => healthy(method, 4, 4),
    })
    .await;
    let error = litecoin(&fake).template().await.unwrap_err();
    assert!(matches!(error, NodeError::Template(_)), "{error}");
    // The node tells its tip as if nothing were wrong: the next one serves all the same.
    let second = Fake::start(|method, _| healthy(method, 4, 4)).await;
    let group = group(&[&fake, &second]);
    let node = || group.templates().borrow().as_ref().map(|current| current.node);
    until("work from the second", || node() == Some(1)).await;
    // Looked at afresh, it may be well until it is asked for work again.
    until("no work from the first", || matches!(group.status()[0].health, Health::Workless(_))).await;
}

#[tokio::test]
async fn monerod_s_no_is_checked_by_looking_for_the_block() {
    let known = Arc::new(Mutex::new(Reply::Error(-5, "not found")));
    let state = known.clone();
    let fake = Fake::start(move |method, _| match method {
        "submit_block" => Reply::Error(-7, "Block not accepted"),
        _ => std::mem::replace(&mut *state.lock().unwrap(), Reply::Error(-5, "not found")),
    })
    .await;
    let node = MoneroNode::new(fake.rpc(), "4...", 8);
    let block = (BLOCK.to_vec(), hash(1));
    assert!(matches!(node.submit(&block).await, Submitted::Rejected(_)));
    let header = |orphan: bool| {
        let header =
            json!({ "hash": hash(1).to_raw_hex(), "height": 5, "depth": 0, "orphan_status": orphan });
        Reply::Result(json!({ "block_header": header, "status": "OK" }))
    };
    *known.lock().unwrap() = header(false);
    assert_eq!(node.submit(&block).await, Submitted::Accepted);
    *known.lock().unwrap() = header(true);
    assert!(matches!(node.submit(&block).await, Submitted::Unknown(_)));
    *known.lock().unwrap() = Reply::Close;
    assert!(matches!(node.submit(&block).await, Submitted::Unknown(_)));
    *known.lock().unwrap() = header(true);
    assert_eq!(node.fate(&reference(1)).await, Ok(Fate::Orphaned));
}

#[tokio::test]
async fn a_block_of_ethereum_is_found_by_height_and_nonce_or_as_an_uncle() {
    let fake = Fake::start(|method, params| {
        let digits = |digit: &str| format!("0x{}", digit.repeat(64));
        Reply::Result(match (method, params[0].as_str()) {
            ("eth_getBlockByNumber", Some("latest")) => {
                json!({ "number": "0x9", "hash": digits("9"), "uncles": [] })
            }
            ("eth_getBlockByNumber", Some("0x5")) => {
                json!({ "number": "0x5", "nonce": "0x0000000000000007" })
            }
            ("eth_getBlockByNumber", Some("0x6")) => json!({ "number": "0x6", "nonce": "0x1" }),
            ("eth_getBlockByNumber", Some("0x8")) => {
                json!({ "number": "0x8", "nonce": "0x2", "uncles": [digits("a")] })
            }
            ("eth_getBlockByNumber", Some("0xa")) => Value::Null,
            ("eth_getBlockByNumber", _) => json!({ "number": "0x7", "nonce": "0x3", "uncles": [] }),
            ("eth_getUncleByBlockNumberAndIndex", _) => json!({ "number": "0x6", "nonce": "0x7" }),
            ("eth_getWork", _) => json!([digits("b"), digits("0"), "0xffff", "0xa"]),
            ("eth_syncing", _) => false.into(),
            ("eth_chainId", _) => "0x3d".into(),
            ("net_peerCount", _) => "0x19".into(),
            ("eth_submitWork", Some("0x00000000000000ff")) => true.into(),
            ("eth_submitWork", _) => false.into(),
            _ => panic!("{method}"),
        })
    })
    .await;
    let chain = |network| match &Coin::find("ethereum-classic", network).unwrap().kind {
        Kind::Ethereum(chain) => chain,
        other => panic!("{other:?}"),
    };
    let node = EthereumNode::new(fake.rpc(), chain(Network::Main));
    let fate = |height| {
        let node = node.clone();
        async move { node.fate(&BlockRef { height, id: block_name(&hash(1), 7) }).await.unwrap() }
    };
    let paid = |confirmations, gwei| Fate::Paid { confirmations, reward: Amount::new(gwei) };
    assert_eq!(fate(5).await, paid(5, 5_000_000_000));
    // Two generations late: 6/8.
    assert_eq!(fate(6).await, paid(2, 3_750_000_000));
    assert_eq!(fate(7).await, Fate::Orphaned);
    assert_eq!(fate(10).await, Fate::NotFound);
    let tip = node.tip().await.unwrap();
    assert_eq!((tip.height, tip.peers, tip.syncing), (9, Some(25), false));
    let elsewhere = EthereumNode::new(fake.rpc(), chain(Network::Test)).tip().await.unwrap_err();
    assert_eq!(elsewhere.to_string(), "node is on chain '0x3d': expected '0x3f'");
    let template = node.template().await.unwrap();
    assert_eq!(EthereumNode::parent(&template), (tip.height, tip.hash));
    let solution = Solution { nonce: 255, header_hash: template.header_hash, mix: hash(1) };
    assert_eq!(node.submit(&solution).await, Submitted::Accepted);
    assert!(matches!(node.submit(&Solution { nonce: 1, ..solution }).await, Submitted::Rejected(_)));
}

#[tokio::test]
async fn ravencoin_s_own_header_is_solved_by_its_hash() {
    let fake = Fake::start(|method, params| {
        assert_eq!(method, "pprpcsb");
        match params[2].as_str() {
            Some("00000000000000ff") => Reply::Result(true.into()),
            Some("0000000000000001") => Reply::Result("inconclusive".into()),
            _ => Reply::Error(-8, "Block header hash not found in block data"),
        }
    })
    .await;
    let submit = async |nonce| ravencoin::submit_to_own_header(&fake.rpc(), &hash(1), &hash(2), nonce).await;
    assert_eq!(submit(255).await, Submitted::Accepted);
    assert!(matches!(submit(1).await, Submitted::Unknown(_)));
    assert!(matches!(submit(2).await, Submitted::Rejected(_)));
}

#[tokio::test]
async fn miners_are_sent_away_when_no_node_has_work_for_long_and_welcome_when_one_has() {
    const ALGORITHM: Algorithm = Algorithm::Scrypt;
    let is_down = Arc::new(AtomicBool::new(false));
    let fake = Fake::start({
        let is_down = Arc::clone(&is_down);
        move |method, _| if is_down.load(SeqCst) { Reply::Close } else { healthy(method, 4, 4) }
    })
    .await;
    let terms = Terms {
        algorithm: ALGORITHM,
        limits: Limits::default(),
        vardiff: VardiffConfig::fixed(Target::MAX.to_difficulty(ALGORITHM)),
        tag: b"/test/".to_vec(),
        payout: vec![0x51],
    };
    let setup = Setup::detect();
    let kernel = kernels(ALGORITHM).find(|kernel| kernel.obstacle(&setup).is_none()).unwrap();
    let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 1 << 20));
    let judge = Judge::start(&Verifier::new(kernel, setup.clone()), ALGORITHM, &setup, store, 1).unwrap();
    let config = FrontConfig { outage: Duration::from_millis(500), ..FrontConfig::default() };
    let front = Front::new(trade::Bitcoin::new(terms), group(&[&fake]), judge, NoAccounts, config, |_| ());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { front.serve(listener).await });
    let miner = || async {
        let mut lines = BufReader::new(TcpStream::connect(address).await.unwrap());
        let hello = concat!(
            r#"{"id":1,"method":"mining.subscribe","params":["t"]}"#,
            "\n",
            r#"{"id":2,"method":"mining.authorize","params":["a.b","x"]}"#,
            "\n"
        );
        lines.get_mut().write_all(hello.as_bytes()).await.unwrap();
        lines
    };
    /// Reads until a job comes: true, or the end: false.
    async fn has_job(lines: &mut BufReader<TcpStream>) -> bool {
        let mut line = String::new();
        loop {
            line.clear();
            let read = timeout(Duration::from_secs(30), lines.read_line(&mut line)).await;
            match read.expect("something within 30 s") {
                Ok(1..) => {
                    let line: Value = serde_json::from_str(&line).unwrap();
                    if line["method"] == "mining.notify" {
                        return true;
                    }
                }
                Ok(0) | Err(_) => return false,
            }
        }
    }

    let mut lines = miner().await;
    assert!(has_job(&mut lines).await);
    is_down.store(true, SeqCst);
    while has_job(&mut lines).await {}
    // Who comes now waits for work, which comes with the node.
    let mut lines = miner().await;
    is_down.store(false, SeqCst);
    assert!(has_job(&mut lines).await);
    serving.abort();
}
