//! The miner's network side against a pool made of [`BitcoinServer`]s on this machine's loopback.
#![cfg(feature = "net")]

mod miner;
mod support;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use miner::{at, mine};
use otedama_core::primitive::sha256;
use otedama_core::{Algorithm, CompactBits, Hash256};
use otedama_pool::client::{Fingerprint, LinkError, Notice, Pool, Trust};
use otedama_pool::session::server::BitcoinServer;
use otedama_pool::session::server::bitcoin::{BitcoinConfig, BitcoinJob};
use otedama_pool::session::{Action, Limits, Now, Server, VardiffConfig};
use otedama_pool::stratum::bitcoin::{Extranonce, Notify, Reconnect};
use otedama_pool::stratum::{LineSplitter, MINER_LINE_BYTES};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use support::{Prover, difficulty};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Now { elapsed: unix, unix_s: unix.as_secs() }
}

/// A pool of one connection at a time, with one job. Tells its miner to reconnect `after` it has worked.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, reconnect: Option<Reconnect>) {
    let config = BitcoinConfig {
        algorithm: Algorithm::Sha256d,
        session: "s".to_owned(),
        extranonce: Extranonce { extranonce1: vec![1, 2, 3, 4], extranonce2_size: 4 },
        version_mask: 0,
        limits: Limits::default(),
        vardiff: VardiffConfig::fixed(difficulty(1e-7)),
    };
    let notify = Notify {
        job_id: "a".to_owned(),
        prev_hash: Hash256::from_raw([1; 32]),
        coinb1: vec![1; 40],
        coinb2: vec![2; 40],
        branch: Vec::new(),
        version: 0x2000_0000,
        bits: CompactBits(0x1703_255b),
        ntime: now().unix_s as u32,
        clean: true,
    };
    let (mut server, mut out) = (BitcoinServer::new(config, now()), Vec::new());
    let min_time = notify.ntime - 60;
    server.set_job(Arc::new(BitcoinJob { notify, min_time }), now(), &mut out);
    let (mut splitter, mut prover) = (LineSplitter::new(MINER_LINE_BYTES), Prover::new());
    let (mut piece, mut reconnect) = (vec![0; 1024], reconnect);
    loop {
        let Ok(len @ 1..) = stream.read(&mut piece).await else { return };
        splitter.push(&piece[..len]);
        while let Some(line) = splitter.next_line().unwrap() {
            server.on_line(line, now(), &mut out);
        }
        let (mut at, mut lines) = (0, String::new());
        while at < out.len() {
            match out[at].clone() {
                Action::Authorize { ticket, .. } => server.on_login(ticket, Ok(()), now(), &mut out),
                Action::Verify(check) => {
                    let verdict = prover.verdict(&check);
                    server.on_verdict(check.ticket, verdict, now(), &mut out);
                    if let Some(to) = reconnect.take() {
                        server.reconnect(to, &mut out);
                    }
                }
                Action::Send(line) | Action::Accepted { answer: Some(line), .. } => lines += &(line + "\n"),
                _ => {}
            }
            at += 1;
        }
        out.clear();
        if stream.write_all(lines.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn listen(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).await.unwrap()
}

fn plain_pool(listener: TcpListener, reconnect: Option<Reconnect>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut reconnect = reconnect;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, reconnect.take()));
        }
    })
}

#[tokio::test]
async fn a_share_goes_to_a_pool_and_is_accepted() {
    let listener = listen(0).await;
    let mut miner = mine(vec![at(listener.local_addr().unwrap(), false, Trust::default())]);
    plain_pool(listener, None);
    miner.find_and_submit().await;
    assert_eq!(miner.link.counts().unwrap().accepted, 1);
    miner.finish().await;
}

#[tokio::test]
async fn a_lesser_pool_is_used_until_the_better_one_is_there() {
    let (first, second) = (listen(0).await, listen(0).await);
    let pools = vec![
        at(first.local_addr().unwrap(), false, Trust::default()),
        at(second.local_addr().unwrap(), false, Trust::default()),
    ];
    let (url, port) = (pools[0].url.clone(), pools[0].url.port);
    drop(first); // nobody listens there now
    plain_pool(second, None);
    let mut miner = mine(pools.clone());
    let lost = miner.wait("failure", |notice| matches!(notice, Notice::Lost { .. })).await;
    assert!(matches!(lost, Notice::Lost { reason: LinkError::Connect(_), .. }), "{lost:?}");
    miner.wait("the second", |notice| *notice == Notice::Connected(pools[1].url.clone())).await;
    miner.find_and_submit().await;
    plain_pool(listen(port).await, None);
    miner.wait("going back", |notice| *notice == Notice::GoingBack(url.clone())).await;
    miner.wait("the first", |notice| *notice == Notice::Connected(url.clone())).await;
    miner.find_and_submit().await;
    miner.finish().await;
}

#[tokio::test]
async fn a_reconnection_is_made_to_the_same_host_and_to_no_other() {
    for (host, obeyed) in [(None, true), (Some("127.0.0.1"), true), (Some("evil.example"), false)] {
        let listener = listen(0).await;
        let pool = at(listener.local_addr().unwrap(), false, Trust::default());
        let port = Some(pool.url.port);
        let to = Reconnect { host: host.map(str::to_owned), port, wait_s: 0 };
        plain_pool(listener, Some(to));
        let mut miner = mine(vec![pool]);
        miner.find_and_submit().await;
        if obeyed {
            let moved =
                |notice: &Notice| matches!(notice, Notice::Lost { reason: LinkError::Moved { .. }, .. });
            miner.wait("moving", moved).await;
            miner.find_and_submit().await;
        } else {
            let ignored =
                |notice: &Notice| matches!(notice, Notice::Message(words) if words.contains("another host"));
            miner.wait("refusal", ignored).await;
        }
        miner.finish().await;
    }
}

#[tokio::test]
async fn a_certificate_is_known_by_its_fingerprint_or_not_at_all() {
    let made = rcgen::generate_simple_self_signed(vec!["pool.example".to_owned()]).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
    let listener = listen(0).await;
    let right = Fingerprint(sha256::digest(&certificate));
    let text = right.to_string();
    assert_eq!(text.parse(), Ok(right));
    let pool = at(listener.local_addr().unwrap(), true, Trust::Pinned(right));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serve(stream, None));
            }
        }
    });
    let mut miner = mine(vec![pool.clone()]);
    miner.find_and_submit().await;
    miner.finish().await;
    for trust in [Trust::Authorities, Trust::Pinned(Fingerprint([0; 32]))] {
        let mut miner = mine(vec![Pool { trust, ..pool.clone() }]);
        let lost = miner.wait("refusal", |notice| matches!(notice, Notice::Lost { .. })).await;
        let Notice::Lost { reason: LinkError::Connect(words), .. } = lost else { panic!("{lost:?}") };
        assert!(words.contains("certificate"), "{words}");
        miner.finish().await;
    }
}
