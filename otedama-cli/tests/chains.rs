//! Pool and miner on real nodes, as their users start them: blocks are found, mature and are paid out.

#[path = "../../otedama-pool/tests/common/mod.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod nodes;

#[path = "../../otedama-pool/tests/books/postgres.rs"]
#[allow(dead_code, reason = "each test program uses a part of it")]
mod postgres;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use nodes::litecoin::Litecoin;
use nodes::monero::{Monero, MoneroPurse};
use serde_json::{Value, json};

/// The longest anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A folder with a configuration and what the pool keeps; removed when it is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, configuration: &str) -> Folder {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let data = format!("app:\n  data_dir: {}\n", path.join("data").display());
        fs::write(path.join("pool.yaml"), data + configuration).unwrap();
        Folder(path)
    }

    fn configuration(&self) -> PathBuf {
        self.0.join("pool.yaml")
    }

    fn run_ledger(&self, subcommand: &str, more: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_otedama-cli"))
            .args(["ledger", subcommand, "--json", "--config"])
            .arg(self.configuration())
            .args(more)
            .output()
            .unwrap()
    }

    /// What it says last.
    fn ledger(&self, subcommand: &str, more: &[&str]) -> Value {
        let output = self.run_ledger(subcommand, more);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `serve --config` on a port of its own; killed when it is dropped.
struct Pool {
    child: Child,
    events: Receiver<Value>,
    /// What it said before it listened.
    early: Vec<Value>,
    address: String,
}

impl Pool {
    fn serve(configuration: &Path, difficulty: &str) -> Pool {
        let mut child = Command::new(env!("CARGO_BIN_EXE_otedama-cli"))
            .args(["serve", "--listen", "127.0.0.1:0", "--json", "--difficulty", difficulty, "--config"])
            .arg(configuration)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let events = read(child.stdout.take().unwrap());
        let mut pool = Pool { child, events, early: Vec::new(), address: String::new() };
        loop {
            let event = pool.events.recv_timeout(PATIENCE).expect("the pool listens");
            if event["event"] == "listening" {
                pool.address = event["address"].as_str().unwrap().to_owned();
                return pool;
            }
            pool.early.push(event);
        }
    }

    /// The next event of this name.
    fn wait(&self, name: &str) -> Value {
        self.wait_until(name, |_| true)
    }

    fn wait_until(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else { panic!("no '{name}' came: {seen:#?}") };
            if event["event"] == name && wanted(&event) {
                return event;
            }
            seen.push(event);
        }
    }

    /// Asks it to end as Ctrl-C does.
    fn end(mut self) -> Value {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let last = self.wait("end");
        assert!(self.child.wait().unwrap().success());
        last
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The events a program prints, as they come.
fn read(out: ChildStdout) -> Receiver<Value> {
    let (tell, events) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            // What a killed program wrote last may be cut short.
            let Ok(event) = serde_json::from_str(&line) else { continue };
            if tell.send(event).is_err() {
                return;
            }
        }
    });
    events
}

fn miner(algorithm: &str, address: &str, user: &str, options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_otedama-cli"));
    command
        .args([
            "mine",
            "--algorithm",
            algorithm,
            "--url",
            &format!("stratum+tcp://{address}"),
            "--user",
            user,
        ])
        .args(["--threads", "1", "--json"])
        .args(options)
        .stdout(Stdio::piped());
    command
}

/// Mines this many shares; how many were accepted.
fn mine(algorithm: &str, address: &str, user: &str, shares: u32) -> u64 {
    let shares = shares.to_string();
    let light = if algorithm == "randomx" { &["--mode", "light"][..] } else { &[] };
    let options = [&["--shares", &shares, "--seconds", "120"], light].concat();
    let output = miner(algorithm, address, user, &options).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let end: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    end["accepted"].as_u64().unwrap()
}

/// A coin's books.
struct Books(Value);

impl Books {
    fn of(folder: &Folder) -> Books {
        Books(folder.ledger("show", &[])["coins"][0].take())
    }

    fn balance(&self, account: &str) -> i64 {
        self.0["balances"][account].as_i64().unwrap_or(0)
    }

    fn shares(&self, miner: &str) -> u64 {
        self.0["shares"][miner].as_u64().unwrap_or(0)
    }

    /// What blocks that are booked have paid the pool.
    fn rewards(&self) -> i64 {
        self.booked().sum()
    }

    /// What of that is a miner's who is alone: all but the fee of 1 %, rounded in the miner's favour. The network's fee
    /// is the pool's.
    fn due(&self) -> i64 {
        self.booked().map(|reward| reward - reward / 100).sum()
    }

    fn booked(&self) -> impl Iterator<Item = i64> {
        let booked = |block: &&Value| block["state"] == "confirmed";
        self.0["blocks"]
            .as_array()
            .unwrap()
            .iter()
            .filter(booked)
            .map(|block| block["reward"].as_i64().unwrap())
    }

    /// Whether the books kept now say the same.
    fn are_those_of(&self, folder: &Folder) {
        let now = Books::of(folder);
        for key in ["balances", "shares"] {
            assert_eq!(now.0[key], self.0[key], "{key}");
        }
        assert_eq!(now.settled_blocks(), self.settled_blocks());
        assert_eq!(now.payouts()["confirmed"], self.payouts()["confirmed"]);
        assert_eq!(now.transactions(), self.transactions());
        assert_eq!(folder.ledger("check", &[])["differences"], 0);
    }

    /// The ids of all transactions that paid.
    fn transactions(&self) -> BTreeSet<&str> {
        let payouts = self.0["payouts"].as_array().unwrap().iter();
        payouts
            .filter(|payout| payout["state"] == "confirmed")
            .map(|payout| payout["txid"].as_str().unwrap())
            .collect()
    }

    /// Each block's hash, what became of it and what it pays.
    fn settled_blocks(&self) -> BTreeSet<(&str, &str, i64)> {
        let blocks = self.0["blocks"].as_array().unwrap().iter();
        blocks
            .map(|block| {
                let [hash, state] = ["hash", "state"].map(|key| block[key].as_str().unwrap());
                (hash, state, block["reward"].as_i64().unwrap())
            })
            .collect()
    }

    /// What has been sent, by state of the payout.
    fn payouts(&self) -> BTreeMap<&str, i64> {
        let mut sums = BTreeMap::new();
        for payout in self.0["payouts"].as_array().unwrap() {
            *sums.entry(payout["state"].as_str().unwrap()).or_default() += payout["amount"].as_i64().unwrap();
        }
        sums
    }
}

fn litecoin_configuration(first: &Litecoin, pool_address: &str) -> String {
    let (url, cookie) = (first.rpc.url(), first.cookie().display().to_string());
    format!(
        "coins:
  - coin: litecoin
    network: regtest
    address: {pool_address}
    nodes:
      - url: {url}
        cookie: {cookie}
    wallet:
      url: {url}
      cookie: {cookie}
    payout:
      minimum: 0.01
      every: 1s
      confirmations: 2
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn litecoin_is_mined_and_paid_out() {
    let Some((first, _second)) = Litecoin::pair().await else { return };
    let (pool_address, address) = (first.address("bech32").await, first.address("bech32").await);
    let folder = Folder::new("litecoin", &litecoin_configuration(&first, &pool_address));
    let pool = Pool::serve(&folder.configuration(), "0.001");

    // Names that are no addresses do not get in.
    let refused = miner("scrypt", &pool.address, "somebody.rig", &["--seconds", "5"]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stdout).contains("is no address of litecoin regtest"));

    // On this chain every share is a block.
    let user = format!("{address}.rig1");
    let accepted = mine("scrypt", &pool.address, &user, 3);
    assert!(accepted >= 3);
    for _ in 0..3 {
        let block = pool.wait("block");
        assert_eq!((block["worker"].as_str(), block["outcome"].as_str()), (Some(&*user), Some("accepted")));
    }
    first.generate(102).await;
    pool.wait_until("payouts", |event| event["sent"] == 1);
    first.generate(3).await;
    pool.wait_until("payouts", |event| event["confirmed"] == 1);
    let end = pool.end();
    assert!(end["accepted"].as_u64().unwrap() >= accepted);

    let books = Books::of(&folder);
    assert_eq!(books.shares(&address), end["accepted"].as_u64().unwrap());
    let rewards = books.rewards();
    // Two shares in the same moment are two blocks of one height, of which the chain takes one.
    assert!(rewards >= 5_000_000_000, "{}", books.0);
    let due = books.due();
    assert_eq!(books.balance(&format!("miner:{address}")), 0, "{}", books.0);
    assert_eq!(books.payouts(), BTreeMap::from([("confirmed", due)]), "{}", books.0);
    assert_eq!(books.balance("fees") + books.balance("paid"), rewards);
    let received = first.call("getreceivedbyaddress", json!([address])).await;
    assert_eq!((received.as_f64().unwrap() * 1e8).round() as i64, due);

    assert_eq!(folder.ledger("check", &[])["differences"], 0);
    the_books_are_rebuilt(&folder, &books);
}

/// From spool, chain and the ledger in use; then from spool, chain and wallet, that ledger being lost.
fn the_books_are_rebuilt(folder: &Folder, books: &Books) {
    let rebuilt = folder.0.join("rebuilt.db");
    let into = format!("sqlite://{}", rebuilt.display());
    assert_eq!(folder.ledger("rebuild", &["--into", &into])["differences"], 0);
    // A ledger that is there is left alone.
    let refused = folder.run_ledger("rebuild", &["--into", &into]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && why.contains("holds a ledger already"), "{why}");

    let in_use = folder.0.join("data/ledger.db");
    fs::remove_file(&in_use).unwrap();
    let refused = folder.run_ledger("rebuild", &["--into", &format!("{into}.2")]);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && why.contains("--payouts wallet"), "{why}");

    fs::copy(&rebuilt, &in_use).unwrap();
    books.are_those_of(folder);
    fs::remove_file(&in_use).unwrap();
    let into = format!("sqlite://{}", in_use.display());
    assert_eq!(folder.ledger("rebuild", &["--into", &into, "--payouts", "wallet"])["event"], "rebuilt");
    books.are_those_of(folder);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monero_is_mined_and_paid_out() {
    let Some(node) = Monero::start(2) else { return };
    let Some(purse) = MoneroPurse::open(&node).await else { return };
    let Some(miner) = MoneroPurse::open(&node).await else { return };
    let url = node.rpc.url();
    let configuration = format!(
        "coins:
  - coin: monero
    network: regtest
    address: {}
    nodes:
      - url: {url}
        zmq: {}
    wallet:
      url: {}
    payout:
      minimum: 0.1
      every: 1s
      confirmations: 2
",
        purse.address,
        node.zmq,
        purse.rpc.url()
    );
    let folder = Folder::new("monero", &configuration);
    let pool = Pool::serve(&folder.configuration(), "4");
    let accepted = mine("randomx", &pool.address, &format!("{}.rig1", miner.address), 3);
    assert!(accepted >= 3);
    for _ in 0..3 {
        assert_eq!(pool.wait("block")["outcome"], "accepted");
    }
    // Rewards unlock after sixty blocks, and transactions hide among sixteen outputs that are unlocked.
    node.generate(90, &purse.address).await;
    assert!(purse.balance().await > 0);
    pool.wait_until("payouts", |event| event["sent"] == 1);
    node.generate(3, &purse.address).await;
    purse.balance().await;
    pool.wait_until("payouts", |event| event["confirmed"] == 1);
    pool.end();

    let books = Books::of(&folder);
    let due: i64 = books.payouts()["confirmed"];
    assert!(due > 0 && books.balance(&format!("miner:{}", miner.address)) == 0, "{}", books.0);
    assert_eq!(miner.balance().await, due as u64);
    assert_eq!(books.balance("fees") + books.balance("paid"), books.rewards());
    the_books_are_rebuilt(&folder, &books);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_starts_before_its_database_pays_like_any_other() {
    let mut database = match postgres::Server::make() {
        Ok(server) => server,
        Err(why) => return println!("SKIPPED a_pool_that_starts_before_its_database: {why}"),
    };
    let Some((first, _second)) = Litecoin::pair().await else { return };
    let (pool_address, address) = (first.address("bech32").await, first.address("bech32").await);
    let configuration = litecoin_configuration(&first, &pool_address)
        + &format!("pool:\n  ledger: \"{}\"\n", database.usual());
    let folder = Folder::new("late", &configuration);
    let pool = Pool::serve(&folder.configuration(), "0.001");
    let early = pool.early.iter().find(|event| event["event"] == "ledger").cloned();
    let away = early.unwrap_or_else(|| pool.wait("ledger"));
    assert_eq!(away["reached"], false);
    assert!(away["why"].as_str().unwrap().contains("No such file or directory"), "{away}");

    let accepted = mine("scrypt", &pool.address, &format!("{address}.rig1"), 3);
    assert!(accepted >= 3);
    database.run().unwrap();
    pool.wait_until("ledger", |event| event["reached"] == true);
    let books = paid_in_full(&first, &folder, &address).await;
    let end = pool.end();
    assert_eq!(books.shares(&address), end["accepted"].as_u64().unwrap());
    assert_eq!(books.payouts()["confirmed"], books.due(), "{}", books.0);
    assert_eq!(folder.ledger("check", &[])["differences"], 0);
}

/// Buries what was found, and goes on until everything is paid. Blocks mature one by one: there may be several payouts.
async fn paid_in_full(node: &Litecoin, folder: &Folder, address: &str) -> Books {
    let deadline = Instant::now() + PATIENCE;
    node.generate(102).await;
    loop {
        node.generate(1).await;
        std::thread::sleep(Duration::from_secs(3));
        let books = Books::of(folder);
        let open = books.payouts().keys().any(|state| !["confirmed", "cancelled"].contains(state));
        if books.rewards() > 0 && books.balance(&format!("miner:{address}")) == 0 && !open {
            return books;
        }
        assert!(Instant::now() < deadline, "{}", books.0);
    }
}

/// A few shares a second, each of them a block: this chain must stay below height 432, where its MWEB begins.
const DIFFICULTY: &str = "0.2";

/// How often the pool is killed.
fn kill_rounds() -> u32 {
    std::env::var("OTEDAMA_KILL_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(6)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_killed_loses_no_share_and_pays_nobody_twice() {
    let Some((first, _second)) = Litecoin::pair().await else { return };
    let (pool_address, address) = (first.address("bech32").await, first.address("bech32").await);
    let folder = Folder::new("killed", &litecoin_configuration(&first, &pool_address));
    let user = format!("{address}.rig1");
    // Any moment will do; a fixed seed makes the moments the same from run to run, as far as a machine can.
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut told = 0;
    for round in 0..kill_rounds() {
        let mut pool = Pool::serve(&folder.configuration(), DIFFICULTY);
        let mut mining = miner("scrypt", &pool.address, &user, &["--seconds", "120"]).spawn().unwrap();
        let events = read(mining.stdout.take().unwrap());
        // From the second round on there is something to book and to pay while shares come in.
        if round > 0 {
            first.generate(if round == 1 { 102 } else { 3 }).await;
        }
        std::thread::sleep(Duration::from_millis(500 + random(2000)));
        pool.child.kill().unwrap();
        pool.child.wait().unwrap();
        mining.kill().unwrap();
        mining.wait().unwrap();
        told += events.iter().filter(|event| event["event"] == "accepted").count() as u64;
    }
    assert!(told > 0);

    // Now it is left alone until everything is paid. Blocks that nobody else builds on may need another look.
    let pool = Pool::serve(&folder.configuration(), DIFFICULTY);
    let books = paid_in_full(&first, &folder, &address).await;
    let paid = books.payouts()["confirmed"];
    pool.end();
    assert!(books.shares(&address) >= told, "{} shares of {told}", books.shares(&address));
    let received = first.call("getreceivedbyaddress", json!([address])).await;
    assert_eq!((received.as_f64().unwrap() * 1e8).round() as i64, paid, "{}", books.0);
    assert_eq!(paid, books.due(), "{}", books.0);
}
