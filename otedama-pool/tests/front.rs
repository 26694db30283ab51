//! The pool's front at real sockets: plain and TLS on one port, balancers, floods, slow miners, ports.
#![cfg(feature = "net")]

mod miner;
mod support;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use miner::{at, mine};
use otedama_core::epoch::{EpochStore, StoreConfig};
use otedama_core::primitive::sha256;
use otedama_core::scan::{Setup, kernels};
use otedama_core::topology::Topology;
use otedama_core::{Algorithm, Difficulty, Verifier};
use otedama_pool::client::{Fingerprint, Trust};
use otedama_pool::node::driver::{DriverConfig, NodeGroup, Source};
use otedama_pool::node::template::{DevBitcoin, DevChain};
use otedama_pool::proxy::V2_SIGNATURE;
use otedama_pool::server::guard::{GuardConfig, Offence};
use otedama_pool::server::judge::Judge;
use otedama_pool::server::tls::Certificates;
use otedama_pool::server::trade::{Bitcoin, Terms};
use otedama_pool::server::{Front, FrontConfig, Happening, NoAccounts};
use otedama_pool::session::{Limits, VardiffConfig};
use otedama_pool::stratum::RejectReason;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use support::difficulty;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

const ALGORITHM: Algorithm = Algorithm::Sha256d;

/// A balancer's address: all of 127.0.0.0/8 is this machine.
const BALANCER: &str = "127.0.0.2";

type DevFront = Front<Bitcoin<DevBitcoin>, NoAccounts>;

struct TestPool {
    front: Arc<DevFront>,
    addresses: Vec<SocketAddr>,
    happenings: mpsc::UnboundedReceiver<Happening>,
    serving: JoinHandle<std::io::Result<()>>,
}

/// A pool at two ports, whose second begins with a difficulty of 2.
async fn pool(config: FrontConfig, start: f64) -> TestPool {
    let terms = Terms {
        algorithm: ALGORITHM,
        limits: Limits::default(),
        vardiff: VardiffConfig::new(difficulty(start), difficulty(1e-9), difficulty(1e9)),
        tag: b"/test/".to_vec(),
        payout: vec![0x51],
    };
    let setup = Setup::detect();
    let kernel = kernels(ALGORITHM).find(|kernel| kernel.obstacle(&setup).is_none()).unwrap();
    let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 1 << 20));
    let judge = Judge::start(&Verifier::new(kernel, setup.clone()), ALGORITHM, &setup, store, 1).unwrap();
    let node = DevBitcoin(DevChain::new(ALGORITHM, 1 << 50));
    let group = NodeGroup::start(vec![Source { node, zmq: None }], DriverConfig::default());
    let (sender, happenings) = mpsc::unbounded_channel();
    let happen = move |happening| {
        let _ = sender.send(happening);
    };
    let front = Arc::new(Front::new(Bitcoin::new(terms), group, judge, NoAccounts, config, happen));
    let mut listeners = Vec::new();
    for start in [None, Some(difficulty(2.0))] {
        listeners.push((TcpListener::bind("127.0.0.1:0").await.unwrap(), start));
    }
    let addresses = listeners.iter().map(|(listener, _)| listener.local_addr().unwrap()).collect();
    let serving = tokio::spawn({
        let front = Arc::clone(&front);
        async move { front.serve_all(listeners).await }
    });
    TestPool { front, addresses, happenings, serving }
}

impl TestPool {
    /// What is told next that fits; the rest is passed over.
    async fn hears<R>(&mut self, what: &str, fits: impl Fn(&Happening) -> Option<R>) -> R {
        let mut passed = Vec::new();
        let found = timeout(Duration::from_secs(20), async {
            while let Some(happening) = self.happenings.recv().await {
                match fits(&happening) {
                    Some(found) => return Some(found),
                    None => passed.push(happening),
                }
            }
            None
        });
        found.await.ok().flatten().unwrap_or_else(|| panic!("not heard of {what}, but {passed:?}"))
    }

    async fn joined(&mut self) -> SocketAddr {
        self.hears("joining", |happening| match happening {
            Happening::Joined(peer) => Some(*peer),
            _ => None,
        })
        .await
    }

    /// Waits until one has left for a reason with these words; who it was.
    async fn left(&mut self, words: &str) -> SocketAddr {
        self.hears(words, |happening| match happening {
            Happening::Left(peer, Some(why)) if why.contains(words) => Some(*peer),
            _ => None,
        })
        .await
    }

    async fn banned(&mut self) -> (IpAddr, Offence) {
        self.hears("a ban", |happening| match happening {
            Happening::Banned { address, offence, .. } => Some((*address, *offence)),
            _ => None,
        })
        .await
    }

    async fn connect(&self) -> Raw<TcpStream> {
        Raw::new(TcpStream::connect(self.addresses[0]).await.unwrap())
    }

    /// A connection from the balancer's address.
    async fn connect_from_balancer(&self) -> Raw<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(ip(BALANCER), 0)).unwrap();
        Raw::new(socket.connect(self.addresses[0]).await.unwrap())
    }
}

impl Drop for TestPool {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A connection on which lines are written by hand.
struct Raw<S> {
    stream: S,
    read: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    fn new(stream: S) -> Raw<S> {
        Raw { stream, read: Vec::new() }
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    async fn call(&mut self, id: u32, method: &str, params: Value) {
        let line = json!({ "id": id, "method": method, "params": params });
        self.send(format!("{line}\n").as_bytes()).await;
    }

    /// The next line; `None` if the connection has been closed.
    async fn line(&mut self) -> Option<Value> {
        let mut piece = [0; 1024];
        loop {
            if let Some(end) = self.read.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let read = timeout(Duration::from_secs(20), self.stream.read(&mut piece));
            match read.await.expect("something within 20 s") {
                Ok(count @ 1..) => self.read.extend_from_slice(&piece[..count]),
                // Closed with bytes unread, it is a reset.
                Ok(0) | Err(_) => return None,
            }
        }
    }

    async fn answer(&mut self, id: u32) -> Value {
        loop {
            let line = self.line().await.expect("an answer, not the end");
            if line["id"] == id {
                return line;
            }
        }
    }

    async fn told(&mut self, method: &str) -> Value {
        loop {
            let line = self.line().await.expect("a notification, not the end");
            if line["method"] == method {
                return line["params"].clone();
            }
        }
    }

    async fn is_closed(&mut self) {
        while self.line().await.is_some() {}
    }

    /// Subscribes and logs in.
    async fn log_in(&mut self, worker: &str) -> Value {
        self.call(1, "mining.subscribe", json!(["t"])).await;
        self.answer(1).await;
        self.call(2, "mining.authorize", json!([worker, "x"])).await;
        self.answer(2).await
    }

    /// Sends shares whose hashes are nearly all too high, without waiting for what is said of them.
    async fn send_bad_shares(&mut self, worker: &str, job: &str, ntime: &str, count: u32) {
        for nonce in 0..count {
            let params = json!([worker, job, "00000000", ntime, format!("{nonce:08x}")]);
            self.call(100 + nonce, "mining.submit", params).await;
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Loopback as everybody else, bans of two seconds.
fn strict() -> FrontConfig {
    let guard = GuardConfig { exempt_loopback: false, ban: Duration::from_secs(2), ..GuardConfig::default() };
    FrontConfig { guard, ..FrontConfig::default() }
}

fn behind_balancer() -> FrontConfig {
    FrontConfig { proxies: vec![ip(BALANCER)], ..strict() }
}

struct Tls {
    dir: tempfile::TempDir,
    certificates: Arc<Certificates>,
    der: CertificateDer<'static>,
}

fn tls() -> Tls {
    let dir = tempfile::tempdir().unwrap();
    let der = certify(dir.path());
    let certificates = Certificates::open(dir.path().join("chain.pem"), dir.path().join("key.pem"));
    Tls { dir, certificates: Arc::new(certificates.unwrap()), der }
}

/// Writes a new certificate and its key.
fn certify(dir: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["pool.example".to_owned()]).unwrap();
    fs::write(dir.join("chain.pem"), made.cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn pinned(der: &CertificateDer<'_>) -> Trust {
    Trust::Pinned(Fingerprint(sha256::digest(der)))
}

#[tokio::test]
async fn plain_and_tls_miners_share_one_port() {
    let tls = tls();
    let config = FrontConfig { tls: Some(Arc::clone(&tls.certificates)), ..FrontConfig::default() };
    let pool = pool(config, 1e-7).await;
    let address = pool.addresses[0];
    let plain = Trust::default();
    for (encrypted, trust) in [(false, plain), (true, pinned(&tls.der)), (false, plain)] {
        let mut miner = mine(vec![at(address, encrypted, trust)]);
        miner.find_and_submit().await;
        miner.finish().await;
    }
    assert_eq!(pool.front.stats().accepted, 3);
    let workers = pool.front.workers();
    assert_eq!((workers.len(), workers[0].worker.as_str(), workers[0].accepted), (1, "a.b", 3));
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on() {
    let tls = tls();
    let config = FrontConfig { tls: Some(Arc::clone(&tls.certificates)), ..FrontConfig::default() };
    let pool = pool(config, 1e-7).await;
    let mut before = mine(vec![at(pool.addresses[0], true, pinned(&tls.der))]);
    before.find_and_submit().await;
    let renewed = certify(tls.dir.path());
    assert!(tls.certificates.reload().unwrap());
    let mut after = mine(vec![at(pool.addresses[0], true, pinned(&renewed))]);
    after.find_and_submit().await;
    assert_eq!((before.link.counts().unwrap().accepted, pool.front.stats().connections), (1, 2));
    before.finish().await;
    after.finish().await;
}

#[tokio::test]
async fn tls_where_there_is_none_is_refused_at_once() {
    let mut pool = pool(FrontConfig::default(), 1.0).await;
    let mut raw = pool.connect().await;
    raw.send(&[0x16, 3, 1, 0, 200]).await;
    pool.left("security.enable_tls is not set").await;
    raw.is_closed().await;
}

#[tokio::test]
async fn what_is_no_tls_after_its_first_byte_is_refused() {
    let config = FrontConfig { tls: Some(tls().certificates), ..FrontConfig::default() };
    let mut pool = pool(config, 1.0).await;
    let mut raw = pool.connect().await;
    raw.send(b"\x16{\"id\":1,\"method\":\"mining.subscribe\"}\n").await;
    pool.left("TLS: ").await;
    raw.is_closed().await;
}

fn v2(source: [u8; 4]) -> Vec<u8> {
    let mut header = V2_SIGNATURE.to_vec();
    header.extend([0x21, 0x11, 0, 12]);
    header.extend(source);
    header.extend([127, 0, 0, 1, 0x30, 0x39, 0x0d, 0x05]);
    header
}

#[tokio::test]
async fn a_balancer_says_whose_connection_it_is_in_either_version() {
    let tls = tls();
    let config = FrontConfig { tls: Some(Arc::clone(&tls.certificates)), ..behind_balancer() };
    let mut pool = pool(config, 1.0).await;

    let mut first = pool.connect_from_balancer().await;
    // In pieces, and with the first line at its heels.
    for piece in [&b"PRO"[..], b"XY TCP4 192.0.2.7 127.0.0.1 5", b"6324 3333\r"] {
        first.send(piece).await;
        sleep(Duration::from_millis(50)).await;
    }
    first.send(b"\n{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").await;
    first.answer(1).await;
    assert_eq!(pool.joined().await, "192.0.2.7:56324".parse().unwrap());

    let mut second = pool.connect_from_balancer().await;
    second.send(&v2([192, 0, 2, 8])).await;
    second.log_in("a.1").await;
    assert_eq!(pool.joined().await, "192.0.2.8:12345".parse().unwrap());

    // TLS behind the header.
    let mut roots = rustls::RootCertStore::empty();
    roots.add(tls.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut third = pool.connect_from_balancer().await;
    third.send(&v2([192, 0, 2, 9])).await;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let name = ServerName::try_from("pool.example").unwrap();
    let mut third = Raw::new(connector.connect(name, third.stream).await.unwrap());
    third.log_in("a.2").await;
    assert_eq!(pool.joined().await, "192.0.2.9:12345".parse().unwrap());

    // A health check speaks for the balancer itself.
    let mut fourth = pool.connect_from_balancer().await;
    fourth.send(&[V2_SIGNATURE.as_slice(), &[0x20, 0, 0, 0]].concat()).await;
    fourth.log_in("a.3").await;
    assert_eq!(pool.joined().await.ip(), ip(BALANCER));
}

#[tokio::test]
async fn a_balancer_must_say_it_and_nobody_else_may() {
    let mut pool = pool(behind_balancer(), 1.0).await;
    let mut silent = pool.connect_from_balancer().await;
    silent.send(b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").await;
    assert_eq!(pool.left("no PROXY header").await.ip(), ip(BALANCER));
    silent.is_closed().await;

    let v1 = b"PROXY TCP4 192.0.2.7 127.0.0.1 56324 3333\r\n".to_vec();
    for header in [v1, v2([192, 0, 2, 7])] {
        let mut foreign = pool.connect().await;
        foreign.send(&header).await;
        assert_eq!(pool.left("not among stratum.proxies").await.ip(), ip("127.0.0.1"));
        foreign.is_closed().await;
    }
    assert_eq!(pool.front.banned(), [], "a balancer that is not configured is no attacker");
    pool.connect().await.log_in("a.1").await;
}

#[tokio::test]
async fn a_ban_strikes_the_address_behind_the_balancer() {
    let mut pool = pool(behind_balancer(), 1.0).await;
    let mut bad = pool.connect_from_balancer().await;
    bad.send(&v2([192, 0, 2, 7])).await;
    bad.send(&[b'x'; 20_000]).await;
    assert_eq!(pool.banned().await, (ip("192.0.2.7"), Offence::BadBytes));
    bad.is_closed().await;
    let mut again = pool.connect_from_balancer().await;
    again.send(&v2([192, 0, 2, 7])).await;
    again.is_closed().await;
    let mut other = pool.connect_from_balancer().await;
    other.send(&v2([192, 0, 2, 8])).await;
    assert_eq!(other.log_in("a.1").await["result"], true);
}

#[tokio::test]
async fn who_takes_too_long_is_dropped() {
    let config = FrontConfig {
        entrance_timeout: Duration::from_millis(500),
        first_line_timeout: Duration::from_millis(500),
        tls: Some(tls().certificates),
        ..behind_balancer()
    };
    let mut pool = pool(config, 1.0).await;
    // Says nothing; half a header; half a handshake.
    let mut silent = pool.connect().await;
    let mut balancer = pool.connect_from_balancer().await;
    balancer.send(b"PROXY TCP4 192.0.2.7").await;
    let mut handshake = pool.connect().await;
    handshake.send(&[0x16, 3, 1, 0, 200, 1]).await;
    for _ in 0..3 {
        pool.left("too long to begin").await;
    }
    for raw in [&mut silent, &mut balancer, &mut handshake] {
        raw.is_closed().await;
    }
    // A byte now and then, and never a whole line.
    let mut loris = pool.connect().await;
    let dribble = async {
        while loris.stream.write_all(b"{").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let (_, dropped) = tokio::join!(dribble, pool.left("has not sent a line"));
    assert_eq!(dropped.ip(), ip("127.0.0.1"));
    assert_eq!(pool.front.banned(), []);
}

#[tokio::test]
async fn an_oversize_line_is_banned_and_served_again_when_that_is_over() {
    let mut pool = pool(strict(), 1.0).await;
    let mut bad = pool.connect().await;
    bad.send(&[b'x'; 20_000]).await;
    assert_eq!(pool.banned().await, (ip("127.0.0.1"), Offence::BadBytes));
    bad.is_closed().await;
    for _ in 0..5 {
        pool.connect().await.is_closed().await;
    }
    assert_eq!(pool.front.stats().turned_away, 5);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(pool.connect().await.log_in("a.1").await["result"], true);
    while let Ok(happening) = pool.happenings.try_recv() {
        assert!(!matches!(&happening, Happening::Left(_, Some(why)) if why.contains("banned")), "told once");
    }
}

#[tokio::test]
async fn a_flood_of_invalid_shares_is_banned_with_all_its_connections_and_late_shares_are_not() {
    let mut pool = pool(strict(), 1.0).await;
    let mut bystander = pool.connect().await;
    assert_eq!(bystander.log_in("a.2").await["result"], true);
    let mut flood = pool.connect().await;
    flood.call(1, "mining.subscribe", json!(["t"])).await;
    flood.call(2, "mining.authorize", json!(["a.1", "x"])).await;
    let job = flood.told("mining.notify").await;
    let (job, ntime) = (job[0].as_str().unwrap(), job[7].as_str().unwrap());

    flood.send_bad_shares("a.1", "no such job", ntime, 60).await;
    assert_eq!(flood.answer(159).await["error"][0], 21);
    flood.send_bad_shares("somebody else", job, ntime, 1).await;
    assert_eq!(flood.answer(100).await["error"][0], 24);
    let rolled = json!(["a.1", job, "00000000", ntime, "00000000", "00002000"]);
    flood.call(99, "mining.submit", rolled).await;
    assert_eq!(flood.answer(99).await["error"][0], 20);
    let (_, last) = pool.front.worker("a.1").unwrap();
    let facts = &last[15].facts;
    assert_eq!((last[15].reason, facts.version_bits), (RejectReason::VersionBits, Some(0x2000)));
    assert_eq!(pool.front.banned(), []);

    flood.send_bad_shares("a.1", job, ntime, 60).await;
    let (address, offence) = pool.banned().await;
    assert_eq!((address, offence), (ip("127.0.0.1"), Offence::BadShares { bad: 50, of: 50 }));
    flood.is_closed().await;
    bystander.is_closed().await;
    pool.connect().await.is_closed().await;

    // What went wrong is remembered for who was logged in, and for nobody else.
    let (stats, last) = pool.front.worker("a.1").unwrap();
    assert_eq!(stats.refused[0], (RejectReason::UnknownJob, 60));
    let (reason, low) = stats.refused[1];
    assert!(reason == RejectReason::LowDifficulty && (48..=60).contains(&low), "{stats:?}");
    assert_eq!(stats.refused[2..], [(RejectReason::VersionBits, 1)]);
    assert!(last.len() == 16 && pool.front.worker("somebody else").is_none());
    let facts = &last[15].facts;
    assert_eq!((facts.job_id.as_str(), facts.expected), (job, Some(difficulty(1.0))));
    assert!(facts.found.is_some_and(|found: Difficulty| found.get() < 1.0), "{facts:?}");
    assert!(facts.job_age.is_some_and(|age| age < Duration::from_secs(60)));

    sleep(Duration::from_secs(2)).await;
    assert_eq!(pool.connect().await.log_in("a.1").await["result"], true);
}

#[tokio::test]
async fn lines_that_are_no_messages_end_in_a_ban() {
    let mut pool = pool(strict(), 1.0).await;
    let mut bad = pool.connect().await;
    bad.send("what\n".repeat(40).as_bytes()).await;
    assert_eq!(pool.banned().await, (ip("127.0.0.1"), Offence::BadLines));
    bad.is_closed().await;
}

#[tokio::test]
async fn an_address_may_not_connect_too_often() {
    let guard = GuardConfig { connect_rate: 60, connect_burst: 3, ..strict().guard };
    let mut pool = pool(FrontConfig { guard, ..strict() }, 1.0).await;
    let mut kept = Vec::new();
    for _ in 0..3 {
        let mut raw = pool.connect().await;
        raw.log_in("a.1").await;
        kept.push(raw);
    }
    pool.connect().await.is_closed().await;
    pool.left("connects too often").await;
    sleep(Duration::from_millis(1_100)).await;
    pool.connect().await.log_in("a.1").await;
}

#[tokio::test]
async fn each_port_begins_with_its_difficulty() {
    let pool = pool(FrontConfig::default(), 0.5).await;
    for (address, expected) in pool.addresses.iter().zip([0.5, 2.0]) {
        let mut raw = Raw::new(TcpStream::connect(address).await.unwrap());
        raw.call(1, "mining.subscribe", json!(["t"])).await;
        raw.call(2, "mining.authorize", json!(["a.1", "x"])).await;
        assert_eq!(raw.told("mining.set_difficulty").await[0].as_f64(), Some(expected));
    }
}

#[tokio::test]
async fn so_many_workers_are_let_in_and_no_more() {
    let mut pool = pool(FrontConfig { max_workers: 2, ..FrontConfig::default() }, 1.0).await;
    let (mut first, mut second) = (pool.connect().await, pool.connect().await);
    assert_eq!(first.log_in("a.1").await["result"], true);
    assert_eq!(second.log_in("a.2").await["result"], true);
    // The same again takes no more room.
    first.call(3, "mining.authorize", json!(["a.1", "x"])).await;
    assert_eq!(first.answer(3).await["result"], true);
    first.call(4, "mining.authorize", json!(["a.3", "x"])).await;
    let refused = first.answer(4).await;
    assert!(refused["error"][1].as_str().unwrap().contains("2 workers"), "{refused}");
    assert_eq!(pool.front.stats().workers, 2);
    drop(second);
    pool.hears("leaving", |happening| matches!(happening, Happening::Left(..)).then_some(())).await;
    assert_eq!(pool.connect().await.log_in("a.3").await["result"], true);
}
