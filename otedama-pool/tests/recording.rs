//! Shares on their way to the disk: who waits for them and who does not.
#![cfg(feature = "net")]

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use otedama_core::epoch::{EpochStore, StoreConfig};
use otedama_core::scan::{Setup, kernels};
use otedama_core::topology::Topology;
use otedama_core::{Algorithm, Target, Verifier};
use otedama_pool::node::driver::{DriverConfig, NodeGroup, Source};
use otedama_pool::node::template::{DevBitcoin, DevChain};
use otedama_pool::server::judge::Judge;
use otedama_pool::server::trade::{Bitcoin, Terms};
use otedama_pool::server::{Counted, Front, FrontConfig, Happening, ShareLog};
use otedama_pool::session::{Limits, VardiffConfig};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};

const ALGORITHM: Algorithm = Algorithm::Sha256d;

/// A disk that takes a share whenever it is given leave to, in the order they came.
#[derive(Clone)]
struct Disk {
    begun: Arc<AtomicUsize>,
    leave: Arc<Semaphore>,
    /// Shares that it refuses before it takes any.
    refuses: Arc<AtomicUsize>,
}

impl ShareLog for Disk {
    fn record(&self, _: &Counted<'_>) -> impl Future<Output = Result<(), String>> + Send + use<> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let leave = Arc::clone(&self.leave);
        let less = |refuses: usize| refuses.checked_sub(1);
        let refused = self.refuses.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
        async move {
            if refused {
                return Err("the disk is full".to_owned());
            }
            leave.acquire().await.map_err(|_| "the disk is gone".to_owned())?.forget();
            Ok(())
        }
    }
}

struct TestPool {
    disk: Disk,
    happenings: mpsc::UnboundedReceiver<Happening>,
    front: Arc<Front<Bitcoin<DevBitcoin>, Disk>>,
    lines: BufReader<TcpStream>,
    job: Value,
    ntime: Value,
}

/// A pool where every nonce is a share, and every so many-th a block; a miner of it.
async fn pool(hashes_a_block: u64) -> TestPool {
    let disk = Disk { begun: Arc::default(), leave: Arc::new(Semaphore::new(0)), refuses: Arc::default() };
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
    let node = DevBitcoin(DevChain::new(ALGORITHM, hashes_a_block));
    let group = NodeGroup::start(vec![Source { node, zmq: None }], DriverConfig::default());
    let (sender, happenings) = mpsc::unbounded_channel();
    let happen = move |happening| {
        let _ = sender.send(happening);
    };
    let config = FrontConfig::default();
    let front = Arc::new(Front::new(Bitcoin::new(terms), group, judge, disk.clone(), config, happen));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn({
        let front = Arc::clone(&front);
        async move { front.serve(listener).await }
    });

    let lines = BufReader::new(TcpStream::connect(address).await.unwrap());
    let mut pool = TestPool { disk, happenings, front, lines, job: Value::Null, ntime: Value::Null };
    pool.send(&[
        json!({ "id": 1, "method": "mining.subscribe", "params": ["t"] }),
        json!({ "id": 2, "method": "mining.authorize", "params": ["a.b", "x"] }),
    ])
    .await;
    loop {
        let line = pool.line().await.unwrap();
        if line["method"] == "mining.notify" {
            (pool.job, pool.ntime) = (line["params"][0].clone(), line["params"][7].clone());
            return pool;
        }
    }
}

impl TestPool {
    async fn send(&mut self, calls: &[Value]) {
        let lines: String = calls.iter().map(|call| format!("{call}\n")).collect();
        self.lines.get_mut().write_all(lines.as_bytes()).await.unwrap();
    }

    fn share(&self, id: u32) -> Value {
        let params = json!(["a.b", self.job, "00000000", self.ntime, format!("{id:08x}")]);
        json!({ "id": id, "method": "mining.submit", "params": params })
    }

    /// The next line; `None` if the connection was closed.
    async fn line(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = timeout(Duration::from_secs(20), self.lines.read_line(&mut line));
        match read.await.expect("something within 20 s") {
            Ok(1..) => Some(serde_json::from_str(&line).unwrap()),
            Ok(0) | Err(_) => None,
        }
    }

    /// Waits until so many shares are on their way to the disk.
    async fn begun(&self, count: usize) {
        let reached = timeout(Duration::from_secs(20), async {
            while self.disk.begun.load(Ordering::SeqCst) < count {
                sleep(Duration::from_millis(1)).await;
            }
        });
        reached.await.unwrap_or_else(|_| panic!("{} of {count}", self.disk.begun.load(Ordering::SeqCst)));
    }

    /// What is told next of shares and blocks, or of trouble.
    async fn hears(&mut self) -> &'static str {
        loop {
            let next = timeout(Duration::from_secs(20), self.happenings.recv()).await;
            match next.expect("something within 20 s").expect("the pool is there") {
                Happening::Share { .. } => return "share",
                Happening::Block { .. } => return "block",
                Happening::Trouble(words) => panic!("{words}"),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn shares_of_one_miner_go_to_the_disk_together_and_are_answered_when_safe() {
    const SHARES: u32 = 100;
    let mut pool = pool(1 << 50).await;
    let shares: Vec<_> = (10..10 + SHARES).map(|id| pool.share(id)).collect();
    pool.send(&shares).await;
    pool.begun(SHARES as usize).await;

    // None is safe, so none is answered; what has nothing to do with them is.
    pool.send(&[json!({ "id": 3, "method": "mining.ping", "params": [] })]).await;
    assert_eq!(pool.line().await.unwrap()["id"], 3);
    assert_eq!(pool.front.stats().accepted, 0);

    pool.disk.leave.add_permits(1);
    assert_eq!(pool.line().await.unwrap(), json!({ "id": 10, "result": true, "error": null }));
    assert_eq!(pool.front.stats().accepted, 1);

    pool.disk.leave.add_permits(SHARES as usize);
    for id in 11..10 + SHARES {
        assert_eq!(pool.line().await.unwrap()["id"], id);
    }
    assert_eq!(pool.front.stats().accepted, u64::from(SHARES));
}

#[tokio::test]
async fn a_block_is_handed_in_when_its_share_is_safe() {
    let mut pool = pool(1).await;
    pool.disk.leave.add_permits(1);
    let share = pool.share(10);
    pool.send(&[share]).await;
    assert_eq!((pool.hears().await, pool.hears().await), ("share", "block"));
}

#[tokio::test]
async fn a_disk_that_hangs_holds_no_block_up() {
    let mut pool = pool(1).await;
    let (share, begun) = (pool.share(10), Instant::now());
    pool.send(&[share]).await;
    assert_eq!(pool.hears().await, "block");
    assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
    assert_eq!(pool.front.stats().accepted, 0);
    // It counts all the same once the disk is back.
    pool.disk.leave.add_permits(1);
    assert_eq!(pool.hears().await, "share");
}

#[tokio::test]
async fn a_share_that_cannot_be_recorded_is_not_answered_and_its_block_is_handed_in() {
    let mut pool = pool(1).await;
    pool.disk.leave.close();
    let share = pool.share(10);
    pool.send(&[share]).await;
    while let Some(line) = pool.line().await {
        assert_ne!(line["id"], 10, "{line}");
    }
    let (mut trouble, mut block) = (false, false);
    while !(trouble && block) {
        let next = timeout(Duration::from_secs(20), pool.happenings.recv()).await.unwrap().unwrap();
        trouble |= matches!(&next, Happening::Trouble(words) if words.contains("the disk is gone"));
        block |= matches!(next, Happening::Block { .. });
    }
    assert_eq!(pool.front.stats().accepted, 0);
}

#[tokio::test]
async fn a_block_whose_share_cannot_be_recorded_is_told_in_full_and_recorded_when_it_can_be() {
    let mut pool = pool(1).await;
    pool.disk.refuses.store(1, Ordering::SeqCst);
    pool.disk.leave.add_permits(1);
    let share = pool.share(10);
    pool.send(&[share]).await;
    let mut troubles = Vec::new();
    let mut block = false;
    while !troubles.last().is_some_and(|words: &String| words.contains("is in the books now")) {
        match timeout(Duration::from_secs(60), pool.happenings.recv()).await.unwrap().unwrap() {
            Happening::Trouble(words) => troubles.push(words),
            Happening::Block { .. } => block = true,
            _ => {}
        }
    }
    assert!(block, "a disk that is full holds no block up");
    let first = &troubles[0];
    for words in ["block ", "at height 1 by a.b, worth ", "is not in the books: the disk is full"] {
        assert!(first.contains(words), "{words:?} is not in {first:?}");
    }
    assert_eq!(pool.front.stats().accepted, 1);
}

#[tokio::test]
async fn shares_of_a_miner_who_leaves_while_they_are_proven_count() {
    const SHARES: u32 = 200;
    let mut pool = pool(1 << 50).await;
    pool.disk.leave.add_permits(SHARES as usize);
    let shares: Vec<_> = (10..10 + SHARES).map(|id| pool.share(id)).collect();
    pool.send(&shares).await;
    pool.lines.get_mut().shutdown().await.unwrap();
    for _ in 0..SHARES {
        assert_eq!(pool.hears().await, "share");
    }
    assert_eq!(pool.front.stats().accepted, u64::from(SHARES));
}
