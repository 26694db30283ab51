//! A pool's money side, from spool to payout, is killed at random moments a hundred times: no acknowledged share
//! is lost or counted twice, every block is known, and nobody is paid twice.

#[path = "books/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use common::*;
use otedama_core::Hash256;
use otedama_pool::ledger::{Account, Block, BlockState, Chain, ChainError, Consumer, Ledger, Lookup};
use otedama_pool::money::Amount;
use otedama_pool::payout::{Broadcast, Output, PayoutRules, Place, Signed, Wallet, WalletError};
use otedama_pool::spool::{Spool, SpoolConfig};

const CHILD: &str = "OTEDAMA_TEST_POOL_DIR";
const ROUNDS: u64 = 100;
const MINERS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A network whose blocks are files: what was broadcast is there, whoever is killed.
struct FileNetwork(PathBuf);

impl FileNetwork {
    fn transactions(&self) -> Vec<Vec<Output>> {
        let files = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        let done = files.filter(|path| path.extension().is_none());
        done.map(|path| parse(&fs::read_to_string(path).unwrap()).1).collect()
    }
}

impl Wallet for FileNetwork {
    async fn is_address(&self, _: &str) -> Result<bool, WalletError> {
        Ok(true)
    }

    async fn sign(&self, outputs: &[Output]) -> Result<Signed, WalletError> {
        let txid = format!("tx{:x}", unique());
        let payments: Vec<String> =
            outputs.iter().map(|output| format!("{}={}", output.address, output.amount)).collect();
        let raw = format!("{txid}:{}", payments.join(","));
        Ok(Signed { txid, raw, network_fee: Amount::new(NETWORK_FEE) })
    }

    async fn broadcast(&self, raw: &str) -> Result<Broadcast, WalletError> {
        let (txid, _) = parse(raw);
        let (unfinished, done) = (self.0.join(format!("{txid}.new")), self.0.join(txid));
        fs::write(&unfinished, raw).unwrap();
        fs::rename(unfinished, done).unwrap();
        Ok(Broadcast::Accepted)
    }

    async fn look_up(&self, txid: &str) -> Result<Place, WalletError> {
        Ok(if self.0.join(txid).exists() { Place::InBlock(6) } else { Place::Nowhere })
    }
}

/// A chain that keeps about four blocks of five: the nanosecond in a block's hash decides.
struct Hashed;

impl Chain for Hashed {
    async fn look_up(&self, block: &Block) -> Result<Lookup, ChainError> {
        Ok(match block.hash.as_raw()[2] % 5 {
            0 => Lookup::Replaced { confirmations: 100 },
            _ => Lookup::OnChain { confirmations: 100, reward: None },
        })
    }
}

/// A number that no process of this test gives twice.
fn unique() -> u128 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
    (now << 16) + u128::from(COUNT.fetch_add(1, Ordering::SeqCst) % (1 << 16))
}

struct Pool {
    spool: Arc<Spool>,
    ledger: Arc<Ledger>,
    network: FileNetwork,
    rules: PayoutRules,
}

impl Pool {
    async fn open(dir: &Path) -> Pool {
        let config = SpoolConfig {
            segment_bytes: 16 << 10,
            commit_delay: Duration::ZERO,
            first_sequence: Some(1),
            ..SpoolConfig::new("n")
        };
        let network = FileNetwork(dir.join("network"));
        fs::create_dir_all(&network.0).unwrap();
        let rules = PayoutRules { minimum: Amount::new(1), ..payout_rules() };
        let ledger = Ledger::open(&format!("sqlite://{}/ledger.db", dir.display())).await.unwrap();
        Pool {
            spool: Arc::new(Spool::open(&dir.join("spool"), config).unwrap()),
            ledger: Arc::new(ledger),
            network,
            rules,
        }
    }

    fn consume(&self) -> (Arc<AtomicBool>, tokio::task::JoinHandle<()>) {
        let stop = Arc::new(AtomicBool::new(false));
        let consumer = Consumer::new(Arc::clone(&self.spool), Arc::clone(&self.ledger), [coin(PPLNS)]);
        let told = Arc::clone(&stop);
        (stop, tokio::spawn(async move { consumer.run(&told).await.unwrap() }))
    }

    async fn follow_and_pay(&self) {
        self.ledger.follow(&coin(PPLNS), &Hashed, 1).await.unwrap();
        self.ledger.pay(&self.rules, &self.network, 1).await.unwrap();
    }
}

/// Not a test: the process that is killed.
#[test]
fn child() {
    let Ok(dir) = env::var(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = Pool::open(Path::new(&dir)).await;
        let _consumer = pool.consume();
        for number in 0usize.. {
            for n in 0..10 {
                let mut share =
                    share(MINERS[(number + n * n) % 5], number as u64, 100_000, (n == 9).then_some(0));
                let mut hash = [0; 32];
                hash[..16].copy_from_slice(&unique().to_le_bytes());
                share.block = share.block.map(|_| Hash256::from_raw(hash));
                let sequence = pool.spool.append_async(&share).await.unwrap();
                println!("ack {sequence} {}", share.block.map_or("-".into(), |hash| hash.to_raw_hex()));
            }
            std::io::stdout().flush().unwrap();
            pool.follow_and_pay().await;
        }
    });
}

#[test]
fn a_pool_killed_a_hundred_times_loses_no_share_and_pays_nobody_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (mut acknowledged, mut random) = (BTreeMap::new(), 7u64);
    for _ in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = lines.by_ref().map(|line| line.unwrap()).find_map(|line| ack(&line));
        let first = first.expect("the child works until it is killed");
        assert_eq!(acknowledged.insert(first.0, first.1), None, "a sequence was given twice");
        let reader = std::thread::spawn(move || {
            lines.map_while(Result::ok).filter_map(|line| ack(&line)).collect::<Vec<_>>()
        });
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((random >> 33) % 100_000));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        for (sequence, block) in reader.join().unwrap() {
            assert_eq!(acknowledged.insert(sequence, block), None, "a sequence was given twice");
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(finish_and_check(dir.path(), &acknowledged));
}

async fn finish_and_check(dir: &Path, acknowledged: &BTreeMap<u64, String>) {
    let pool = Pool::open(dir).await;
    let (stop, consumer) = pool.consume();
    stop.store(true, Ordering::SeqCst);
    consumer.await.unwrap();
    for _ in 0..3 {
        pool.follow_and_pay().await;
    }
    // Every record once; every acknowledged one among them.
    let records = pool.spool.next_sequence() - 1;
    assert!(*acknowledged.keys().last().unwrap() <= records);
    let efforts = pool.ledger.efforts("ltc").await.unwrap();
    assert_eq!(efforts.values().map(|(shares, _)| shares).sum::<u64>(), records);
    let blocks = pool.ledger.blocks("ltc").await.unwrap();
    for hash in acknowledged.values().filter(|hash| *hash != "-") {
        assert!(blocks.iter().any(|block| block.hash.to_raw_hex() == *hash), "block {hash} is missing");
    }
    // The books against what the network has seen.
    let balances = check_books(&pool.ledger).await;
    let confirmed = blocks.iter().filter(|block| block.state == BlockState::Confirmed).count() as i64;
    assert_eq!(balances[&Account::Coinbase].units(), -confirmed * BLOCK_VALUE);
    let transactions = pool.network.transactions();
    let received: i64 = transactions.iter().flatten().map(|output| output.amount.units()).sum();
    let owed: i64 = owed(&balances).values().sum();
    let fees = NETWORK_FEE * transactions.len() as i64;
    let paid = balances[&Account::Paid].units();
    assert_eq!(
        paid + balances[&Account::Sending].units(),
        received + fees,
        "nobody was paid twice, or not at all"
    );
    assert_eq!(confirmed * BLOCK_VALUE, paid + owed + balances[&Account::Fees].units());
    assert_eq!(owed, 0);
    let states = pool.ledger.payout_states("ltc").await.unwrap();
    assert_eq!(states["confirmed"], transactions.len() as u64);
    println!(
        "{ROUNDS} kills: {} shares acknowledged of {records}, {} blocks, {confirmed} confirmed, batches {states:?}",
        acknowledged.len(),
        blocks.len(),
    );
    assert!(confirmed > 0 && !transactions.is_empty());
}

fn ack(line: &str) -> Option<(u64, String)> {
    // The test harness prints the test's name before the first line.
    let mut words = line[line.find("ack ")?..].split(' ').skip(1);
    let (sequence, block) = (words.next()?.parse().ok()?, words.next()?.to_owned());
    (block == "-" || block.len() == 64).then_some((sequence, block))
}
