//! Both ends of every dialect in one process, over a wire that cuts lines anywhere; shares are found by
//! scanners at tiny difficulties and proven by verifiers.

mod support;

use std::sync::Arc;
use std::time::Duration;

use otedama_core::scan::{self, Setup};
use otedama_core::verify::Reject;
use otedama_core::{Algorithm, CompactBits, Hash256, Target, Verifier};
use otedama_pool::session::client::{
    Account, BitcoinClient, BitcoinClientConfig, EthereumClient, EthereumClientConfig, KawPowClient,
    MoneroClient, Submitted,
};
use otedama_pool::session::server::bitcoin::{BitcoinConfig, BitcoinJob};
use otedama_pool::session::server::ethereum::{EthereumConfig, EthereumJob};
use otedama_pool::session::server::kawpow::{KawPowConfig, KawPowJob};
use otedama_pool::session::server::monero::{MoneroConfig, MoneroJob};
use otedama_pool::session::server::{BitcoinServer, EthereumServer, KawPowServer, MoneroServer};
use otedama_pool::session::{
    Action, Client, ClientError, CloseReason, Duplicates, Event, Limits, Server, VardiffConfig,
};
use otedama_pool::stratum::bitcoin::{Extranonce, Notify, Reconnect};
use otedama_pool::stratum::{Dialect, RejectReason};
use serde_json::{Value, json};
use support::{Pair, at, difficulty};

fn account() -> Account {
    Account { agent: "otedama/test".to_owned(), username: "account.rig".to_owned(), password: "x".to_owned() }
}

/// A network target that nothing in these tests meets.
fn unreachable() -> Target {
    Target::new(1u64.try_into().unwrap()).unwrap()
}

// --- Bitcoin

fn bitcoin_server(algorithm: Algorithm, vardiff: VardiffConfig, mask: u32) -> BitcoinServer {
    let config = BitcoinConfig {
        algorithm,
        session: "5e55".to_owned(),
        extranonce: Extranonce { extranonce1: vec![0xab, 0xcd, 0xef, 0x01], extranonce2_size: 8 },
        version_mask: mask,
        limits: Limits::default(),
        vardiff,
    };
    BitcoinServer::new(config, at(0))
}

fn bitcoin_client(algorithm: Algorithm, mask: u32) -> BitcoinClient {
    BitcoinClient::new(BitcoinClientConfig {
        algorithm,
        account: account(),
        version_mask: mask,
        suggest: None,
    })
}

fn bitcoin_job(id: &str, clean: bool) -> Arc<BitcoinJob> {
    let tag = id.bytes().fold(0u8, u8::wrapping_add);
    Arc::new(BitcoinJob {
        notify: Notify {
            job_id: id.to_owned(),
            prev_hash: Hash256::from_raw(std::array::from_fn(|i| i as u8)),
            coinb1: vec![1, 0, 0, 0, 1, tag],
            coinb2: vec![0xff; 60],
            branch: vec![Hash256::from_raw([7; 32]), Hash256::from_raw([9; 32])],
            version: 0x2000_0000,
            bits: CompactBits(0x1703_255b),
            ntime: 1_700_000_000,
            clean,
        },
        min_time: 1_700_000_000 - 600,
    })
}

/// About one hash in 430 is a share of SHA-256d at this difficulty.
const TINY: f64 = 1e-7;

#[test]
fn shares_of_sha256d_and_scrypt_travel_from_scanner_to_credit() {
    // Scrypt's scale is 65536 times easier: about one hash in 65 is a share at a thousandth.
    for (algorithm, tiny, nonces, mask, seeds) in [
        (Algorithm::Sha256d, TINY, 8_192, 0x1fff_e000, 0..4),
        (Algorithm::Sha256d, TINY, 8_192, 0, 0..4),
        (Algorithm::Scrypt, 1e-3, 512, 0, 0..1),
    ] {
        for seed in seeds {
            let server = bitcoin_server(algorithm, VardiffConfig::fixed(difficulty(tiny)), mask);
            let mut pair = Pair::new(server, bitcoin_client(algorithm, mask), seed);
            pair.server(|server, now, out| server.set_job(bitcoin_job("a1", false), now, out));
            pair.client(|client, now, out| client.start(now, out));
            pair.assert_smooth();
            assert!(pair.events.contains(&Event::Difficulty(difficulty(tiny))), "{:?}", pair.log);
            assert!(pair.events.contains(&Event::Work { clean: true }), "the first job is clean");
            assert_eq!(pair.client.version_mask().map_or(0, |mask| mask.bits()), mask);

            let mut found = Vec::new();
            for _ in 0..3 {
                let task = pair.client.next_task().unwrap();
                assert_eq!(task.job.version_mask().is_some(), mask != 0);
                found.extend(pair.prover.search(&task, nonces));
            }
            assert!(found.len() >= 8, "{} shares of {algorithm}", found.len());
            found.iter().for_each(|share| pair.submit(share));
            pair.assert_smooth();
            assert_eq!(pair.credits(), vec![tiny; found.len()], "{:?}", pair.rejects());
            assert_eq!(pair.client.counts().accepted, found.len() as u64);
            if mask != 0 {
                let rolled = found.iter().any(|share| share.version() != Some(0x2000_0000));
                assert!(rolled, "no share with a rolled version among {}", found.len());
            }

            // The same again is told apart, whether it comes back at once or later.
            found.iter().for_each(|share| pair.submit(share));
            assert_eq!(pair.rejects(), vec!["duplicate"; found.len()]);
            let rejected = &pair.client.counts().rejected;
            assert_eq!(rejected.get(&RejectReason::Duplicate), Some(&(found.len() as u64)));

            // A job announced again under another name is not searched again, and its shares not paid again.
            let again = bitcoin_job("a1", false);
            let again =
                BitcoinJob { notify: Notify { job_id: "a2".to_owned(), ..again.notify.clone() }, ..*again };
            pair.server(|server, now, out| server.set_job(Arc::new(again), now, out));
            let task = pair.client.next_task().unwrap();
            let fresh = pair.prover.search(&task, nonces);
            fresh.iter().for_each(|share| pair.submit(share));
            assert_eq!(pair.credits().len(), found.len() + fresh.len(), "{:?}", pair.rejects());

            // A clean job makes all that worthless: the miner's end knows before it sends.
            pair.server(|server, now, out| server.set_job(bitcoin_job("b1", true), now, out));
            let mut sent = Vec::new();
            assert_eq!(pair.client.submit(&found[0], pair.now, &mut sent), Submitted::Stale);
            assert!(sent.is_empty() && pair.client.counts().stale == 1);
        }
    }
}

/// The lines and everything else a session answers to these lines, with everybody let in.
fn say(server: &mut BitcoinServer, lines: &[&str]) -> (Vec<Value>, Vec<Action>) {
    let (mut out, mut at_line) = (Vec::new(), 0);
    for line in lines {
        server.on_line(line, at(0), &mut out);
        while at_line < out.len() {
            if let Action::Authorize { ticket, .. } = out[at_line] {
                server.on_login(ticket, Ok(()), at(0), &mut out);
            }
            at_line += 1;
        }
    }
    let (mut said, mut rest) = (Vec::new(), Vec::new());
    for action in out {
        match action {
            Action::Send(line) => said.push(serde_json::from_str(&line).unwrap()),
            other => rest.push(other),
        }
    }
    (said, rest)
}

fn names(said: &[Value]) -> Vec<String> {
    said.iter().map(|line| line["method"].as_str().unwrap_or(&line["id"].to_string()).to_owned()).collect()
}

const CONFIGURE: &str = r#"{"id":1,"method":"mining.configure","params":[["version-rolling","minimum-difficulty","odd"],{"version-rolling.mask":"ffffffff","minimum-difficulty.value":2048}]}"#;
const SUBSCRIBE: &str = r#"{"id":2,"method":"mining.subscribe","params":["cgminer/4.10"]}"#;
const AUTHORIZE: &str = r#"{"id":3,"method":"mining.authorize","params":["a.b","x"]}"#;

#[test]
fn the_handshake_may_come_in_any_order_and_is_answered_in_order() {
    let orders: [&[&str]; 5] = [
        &[CONFIGURE, SUBSCRIBE, AUTHORIZE],
        &[SUBSCRIBE, CONFIGURE, AUTHORIZE],
        &[AUTHORIZE, SUBSCRIBE, CONFIGURE],
        &[SUBSCRIBE, AUTHORIZE, CONFIGURE],
        &[SUBSCRIBE, SUBSCRIBE, AUTHORIZE, AUTHORIZE],
    ];
    for order in orders {
        for job_first in [true, false] {
            let config = VardiffConfig::new(difficulty(1024.0), difficulty(1.0), difficulty(1e9));
            let mut server = bitcoin_server(Algorithm::Sha256d, config, 0x1fff_e000);
            if job_first {
                server.set_job(bitcoin_job("a", false), at(0), &mut Vec::new());
            }
            let (mut said, _) = say(&mut server, order);
            if !job_first {
                let mut out = Vec::new();
                server.set_job(bitcoin_job("a", false), at(0), &mut out);
                said.extend(out.iter().map(|action| match action {
                    Action::Send(line) => serde_json::from_str::<Value>(line).unwrap(),
                    other => panic!("{other:?}"),
                }));
            }
            // Answers in the order of the calls; difficulty, then a clean job, once, at the end of it all.
            let answered: Vec<_> =
                said.iter().filter(|line| line["method"].is_null()).map(|l| &l["id"]).collect();
            let asked: Vec<Value> =
                order.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].clone()).collect();
            assert_eq!(answered, asked.iter().collect::<Vec<_>>());
            let told: Vec<_> = said.iter().filter(|line| !line["method"].is_null()).collect();
            let jobs: Vec<_> = told.iter().filter(|line| line["method"] == "mining.notify").collect();
            assert_eq!(jobs.len(), 1, "{said:?}");
            assert_eq!(jobs[0]["params"][8], true);
            assert_eq!(told[0]["method"], "mining.set_difficulty");
            for answer in said.iter().filter(|line| line["id"] == 1) {
                assert_eq!(
                    answer["result"],
                    json!({"version-rolling": true, "version-rolling.mask": "1fffe000", "minimum-difficulty": true, "odd": false})
                );
            }
            if order.contains(&CONFIGURE) {
                let last = told.iter().rfind(|line| line["method"] == "mining.set_difficulty").unwrap();
                assert_eq!(last["params"], json!([2048]), "{order:?}");
            }
        }
    }
}

#[test]
fn odd_lines_are_answered_and_many_of_them_end_it() {
    let mut server = bitcoin_server(Algorithm::Sha256d, VardiffConfig::fixed(difficulty(1.0)), 0);
    let (said, _) = say(
        &mut server,
        &[
            r#"{"id":"s-1","method":"mining.subscribe","params":null}"#,
            r#"{"id":[1],"method":"mining.fly","params":[]}"#,
            r#"{"id":5,"method":"mining.submit","params":["a.b"]}"#,
            r#"{"id":6,"method":"mining.submit","params":["a.b","j","0000000000000000","65000000","00000000"]}"#,
            r#"{"id":7,"method":"mining.get_transactions","params":["j"]}"#,
            r#"{"id":8,"method":"mining.extranonce.subscribe"}"#,
            CONFIGURE,
        ],
    );
    assert_eq!(names(&said), ["\"s-1\"", "[1]", "5", "6", "7", "8", "1"]);
    assert_eq!(said[0]["error"], Value::Null);
    assert_eq!(said[1]["error"], json!([-3, "method 'mining.fly' is unknown here", null]));
    assert_eq!(said[2]["error"], json!([20, "mining.submit: job id is missing: expected a string", null]));
    assert_eq!(said[3]["error"][0], 24);
    assert_eq!(said[4]["result"], json!([]));
    // Without a mask to offer, none is granted.
    assert_eq!(said[6]["result"]["version-rolling"], false);
    assert!(said[6]["result"].get("version-rolling.mask").is_none());

    let (said, rest) = say(&mut server, &["no json"; 40]);
    assert!(said.is_empty(), "what has no id gets no answer");
    assert!(matches!(rest.as_slice(), [Action::Close(CloseReason::Errors)]), "{rest:?}");
}

#[test]
fn a_share_is_worth_what_was_in_force_for_its_job() {
    let vardiff = VardiffConfig::new(difficulty(TINY), difficulty(TINY / 64.0), difficulty(TINY * 64.0));
    let server = bitcoin_server(Algorithm::Sha256d, vardiff, 0);
    let mut pair = Pair::new(server, bitcoin_client(Algorithm::Sha256d, 0), 5);
    pair.client(|client, now, out| client.start(now, out));
    pair.server(|server, now, out| server.set_job(bitcoin_job("a", false), now, out));
    let old_task = pair.client.next_task().unwrap();
    let found = pair.prover.search(&old_task, 20_000);
    let (first, later) = found.split_at(20);
    // Twenty shares in no time: the difficulty rises, and the miner hears of it at once.
    first.iter().for_each(|share| pair.submit(share));
    let told = pair.events.iter().rev().find_map(|event| match event {
        Event::Difficulty(difficulty) => Some(difficulty.get()),
        _ => None,
    });
    let raised = told.unwrap();
    assert!(raised > TINY, "{raised}");
    // Shares of the old job are still good, at the old difficulty.
    later.iter().for_each(|share| pair.submit(share));
    assert_eq!(pair.credits(), vec![TINY; found.len()]);
    assert!(pair.rejects().is_empty());
    // Those of the next job count at the new one. What the estimate has risen to by now is told.
    let mut out = Vec::new();
    pair.server.set_job(bitcoin_job("b", false), pair.now, &mut out);
    pair.server(|_, _, actions| actions.append(&mut out));
    let task = pair.client.next_task().unwrap();
    let current = pair.events.iter().rev().find_map(|event| match event {
        Event::Difficulty(difficulty) => Some(difficulty.get()),
        _ => None,
    });
    let found = pair.prover.search(&task, 1 << 20);
    pair.actions.clear();
    pair.submit(&found[0]);
    assert_eq!(pair.credits(), [current.unwrap()]);
    // A miner that searches at the old target all the same is told so.
    let easy = otedama_core::Job::blob(
        task.job.id(),
        Algorithm::Sha256d,
        match task.job.work() {
            otedama_core::Work::Blob { bytes, .. } => bytes,
            otedama_core::Work::Sealed { .. } => unreachable!("a header"),
        },
        None,
        *old_task.job.target(),
    );
    let easy = otedama_pool::work::Task { job: Arc::new(easy.unwrap()), space: task.space };
    let low = pair.prover.search(&easy, 20_000);
    let low: Vec<_> =
        low.iter().filter(|share| !share.digest().meets(Algorithm::Sha256d, task.job.target())).collect();
    pair.submit(low[0]);
    assert_eq!(pair.rejects(), ["low_difficulty"]);
}

#[test]
fn a_miner_goes_on_without_what_a_pool_does_not_know() {
    let mut client = bitcoin_client(Algorithm::Sha256d, 0x1fff_e000);
    let mut out = Vec::new();
    client.start(at(0), &mut out);
    assert!(matches!(out.as_slice(), [Event::Send(line)] if line.contains("mining.configure")));
    // Refused.
    client.on_line(r#"{"id":1,"result":null,"error":[-3,"Method not found",null]}"#, at(0), &mut out);
    assert!(matches!(&out[1], Event::Send(line) if line.contains("mining.subscribe")));
    assert_eq!(client.version_mask(), None);
    // Or not answered.
    let mut client = bitcoin_client(Algorithm::Sha256d, 0x1fff_e000);
    let mut out = Vec::new();
    client.start(at(0), &mut out);
    client.on_tick(at(5), &mut out);
    assert_eq!(out.len(), 1);
    client.on_tick(at(6), &mut out);
    assert!(matches!(&out[1], Event::Send(line) if line.contains("mining.subscribe")));
    client.on_tick(at(7), &mut out);
    assert_eq!(out.len(), 2);
    // A subscription as old pools answer it, with one pair in the place of the list.
    client.on_line(
        r#"{"id":2,"result":[["mining.notify","ae68"],"08000002",4],"error":null}"#,
        at(7),
        &mut out,
    );
    assert!(matches!(&out[2], Event::Send(line) if line.contains("mining.authorize")));
    // No answer to that in half a minute is the end.
    client.on_tick(at(38), &mut out);
    let failed = Event::Failed(ClientError::Silent { what: "mining.authorize", seconds: 30 });
    assert_eq!(out.last(), Some(&failed));
    // Nor is a refused worker kept waiting.
    client.on_line(r#"{"id":3,"result":false,"error":[24,"who?",null]}"#, at(38), &mut out);
    assert_eq!(out.iter().filter(|event| matches!(event, Event::Failed(_))).count(), 1);
}

#[test]
fn a_pool_that_is_gone_without_a_word_or_has_no_work_is_left() {
    let pair = || {
        let server = bitcoin_server(Algorithm::Sha256d, VardiffConfig::fixed(difficulty(TINY)), 0);
        Pair::new(server, bitcoin_client(Algorithm::Sha256d, 0), 9)
    };
    let at_work = || {
        let mut pair = pair();
        pair.server(|server, now, out| server.set_job(bitcoin_job("a", true), now, out));
        pair.client(|client, now, out| client.start(now, out));
        let task = pair.client.next_task().unwrap();
        let share = pair.prover.search(&task, 20_000).remove(0);
        let mut sent = Vec::new();
        pair.client.submit(&share, at(5), &mut sent);
        assert!(matches!(sent.as_slice(), [Event::Send(_)]));
        pair
    };
    let failed = |client: &mut BitcoinClient, seconds| {
        let mut out = Vec::new();
        client.on_tick(at(seconds), &mut out);
        out.into_iter().find_map(|event| match event {
            Event::Failed(error) => Some(error),
            _ => None,
        })
    };
    // What is written to a machine that has lost its power goes into a buffer, and no answer comes.
    let mut silent = at_work();
    assert_eq!(failed(&mut silent.client, 65), None);
    let silence = ClientError::Silent { what: "mining.submit", seconds: 60 };
    assert_eq!(failed(&mut silent.client, 66), Some(silence));
    // One that forgets an answer but sends jobs is there.
    let mut forgetful = at_work();
    forgetful.now = at(30);
    forgetful.server(|server, now, out| server.set_job(bitcoin_job("b", false), now, out));
    assert_eq!(failed(&mut forgetful.client, 600), None);
    // A first job that does not come, and one that has no successor.
    let mut idle = pair();
    idle.client(|client, now, out| client.start(now, out));
    assert_eq!(failed(&mut idle.client, 60), None);
    assert_eq!(failed(&mut idle.client, 61), Some(ClientError::NoJobs { seconds: 60 }));
    assert_eq!(failed(&mut forgetful.client, 631), Some(ClientError::NoJobs { seconds: 600 }));
}

#[test]
fn what_a_pool_says_besides_reaches_the_miner() {
    let server = bitcoin_server(Algorithm::Sha256d, VardiffConfig::fixed(difficulty(TINY)), 0);
    let mut pair = Pair::new(server, bitcoin_client(Algorithm::Sha256d, 0), 9);
    pair.server(|server, now, out| server.set_job(bitcoin_job("a", false), now, out));
    pair.client(|client, now, out| client.start(now, out));
    let to = Reconnect { host: Some("other.example".to_owned()), port: Some(3333), wait_s: 7 };
    pair.server(|server, _, out| server.reconnect(to, out));
    let wait = Duration::from_secs(7);
    let expected = Event::Reconnect { host: Some("other.example".to_owned()), port: Some(3333), wait };
    assert!(pair.events.contains(&expected));
    // Another extranonce binds the next job, and the shares of the one before stay good.
    let old = pair.client.next_task().unwrap();
    let extranonce = Extranonce { extranonce1: vec![1, 2, 3], extranonce2_size: 5 };
    pair.server(|server, _, out| assert!(server.set_extranonce(extranonce, out)));
    let share = pair.prover.search(&old, 8_192)[0];
    pair.submit(&share);
    pair.server(|server, now, out| server.set_job(bitcoin_job("b", false), now, out));
    let new = pair.client.next_task().unwrap();
    let share = pair.prover.search(&new, 8_192)[0];
    pair.submit(&share);
    assert_eq!(pair.credits().len(), 2, "{:?}\n{}", pair.rejects(), pair.log.join("\n"));
    let mut out = Vec::new();
    pair.client.on_line(r#"{"id":"q","method":"client.get_version","params":[]}"#, at(0), &mut out);
    assert_eq!(out, [Event::Send(r#"{"id":"q","result":"otedama/test","error":null}"#.to_owned())]);
    let mut out = Vec::new();
    pair.client.on_line(r#"{"id":null,"method":"client.show_message","params":["hi"]}"#, at(0), &mut out);
    assert_eq!(out, [Event::Message("hi".to_owned())]);
}

#[test]
fn patience_ends_with_silence() {
    let close = |out: &[Action]| {
        out.iter().find_map(|action| match action {
            Action::Close(reason) => Some(*reason),
            _ => None,
        })
    };
    let mut server = bitcoin_server(Algorithm::Sha256d, VardiffConfig::fixed(difficulty(1.0)), 0);
    let mut out = Vec::new();
    server.on_tick(at(60), &mut out);
    assert_eq!(close(&out), None);
    server.on_tick(at(61), &mut out);
    assert_eq!(close(&out), Some(CloseReason::Handshake));
    let mut server = bitcoin_server(Algorithm::Sha256d, VardiffConfig::fixed(difficulty(1.0)), 0);
    say(&mut server, &[SUBSCRIBE, AUTHORIZE]);
    let mut out = Vec::new();
    server.on_tick(at(900), &mut out);
    assert_eq!(close(&out), None);
    server.on_tick(at(901), &mut out);
    assert_eq!(close(&out), Some(CloseReason::Idle));
}

#[test]
fn no_more_than_the_limits_is_kept() {
    let mut server = bitcoin_server(Algorithm::Sha256d, VardiffConfig::fixed(difficulty(TINY)), 0);
    server.set_job(bitcoin_job("a", false), at(0), &mut Vec::new());
    say(&mut server, &[SUBSCRIBE, AUTHORIZE]);
    // Nobody hashes: what is pending is counted.
    let mut out = Vec::new();
    for nonce in 0..1000u32 {
        let line = json!({ "id": 1, "method": "mining.submit",
            "params": ["a.b", "a", "0000000000000000", "6553f100", format!("{nonce:08x}")] });
        server.on_line(&line.to_string(), at(0), &mut out);
    }
    let verify = out.iter().filter(|action| matches!(action, Action::Verify(_))).count();
    let too_many =
        |action: &&Action| matches!(action, Action::Rejected { reason: RejectReason::TooMany, .. });
    assert_eq!((verify, out.iter().filter(too_many).count()), (256, 744), "{:?}", out[0]);
    // Workers too.
    let mut out = Vec::new();
    for i in 0..200 {
        let line = json!({ "id": 1, "method": "mining.authorize", "params": [format!("w{i}")] });
        server.on_line(&line.to_string(), at(0), &mut out);
    }
    let asked = out.iter().filter(|action| matches!(action, Action::Authorize { .. })).count();
    assert_eq!(asked, 63);
}

// --- Ethash

fn ethereum_server(duplicates: &Duplicates) -> EthereumServer {
    let config = EthereumConfig {
        algorithm: Algorithm::Ethash,
        session: "5e55".to_owned(),
        extranonce: vec![0xf4, 0x00],
        limits: Limits::default(),
        vardiff: VardiffConfig::fixed(difficulty(4.0)),
        duplicates: duplicates.clone(),
    };
    EthereumServer::new(config, at(0))
}

fn ethereum_job(id: &str, clean: bool) -> Arc<EthereumJob> {
    let tag = id.bytes().fold(0u8, u8::wrapping_add);
    Arc::new(EthereumJob {
        job_id: id.to_owned(),
        header_hash: Hash256::from_raw([tag; 32]),
        height: 5,
        network: unreachable(),
        clean,
    })
}

#[test]
fn shares_of_ethash_travel_in_all_three_dialects() {
    for dialect in [Dialect::EthProxy, Dialect::NiceHash, Dialect::Eip1571] {
        let duplicates = Duplicates::new();
        let config = EthereumClientConfig {
            algorithm: Algorithm::Ethash,
            dialect,
            account: account(),
            nonce_start: 0x1234_0000_0000_0000,
        };
        let client = EthereumClient::new(config.clone());
        let mut pair = Pair::new(ethereum_server(&duplicates), client, 3);
        pair.server(|server, now, out| server.set_job(ethereum_job("a", false), now, out));
        pair.client(|client, now, out| client.start(now, out));
        pair.assert_smooth();
        assert_eq!(pair.server.dialect(), Some(dialect), "{}", pair.log.join("\n"));
        let task = pair.client.next_task().unwrap_or_else(|| panic!("{}", pair.log.join("\n")));
        assert!(pair.client.next_task().is_none(), "one task a job: the nonces are plenty");
        let top = task.space.nonces.start >> 48;
        assert_eq!(top, if dialect == Dialect::EthProxy { 0x1234 } else { 0xf400 });
        let found = pair.prover.search(&task, 48);
        assert!(found.len() >= 4, "{dialect:?}: {} of 48 at difficulty 4", found.len());
        found.iter().for_each(|share| pair.submit(share));
        pair.assert_smooth();
        assert_eq!(pair.credits(), vec![4.0; found.len()], "{}", pair.log.join("\n"));
        assert_eq!(pair.client.counts().accepted, found.len() as u64);
        pair.submit(&found[0]);
        assert_eq!(pair.rejects(), ["duplicate"]);
        if dialect != Dialect::Eip1571 {
            let duplicate = pair.client.counts().rejected.get(&RejectReason::Duplicate);
            assert_eq!(duplicate, Some(&1), "{}", pair.log.join("\n"));
        }
        // The same share over another connection is the same share.
        let mut other = Pair::new(ethereum_server(&duplicates), EthereumClient::new(config), 4);
        other.server(|server, now, out| server.set_job(ethereum_job("a", false), now, out));
        other.client(|client, now, out| client.start(now, out));
        // A share of another connection's task is none of this one's; found again, it is.
        other.submit(&found[0]);
        assert_eq!(other.client.counts().stale, 1);
        let task = other.client.next_task().unwrap();
        let same = other.prover.search(&task, 48)[0];
        assert_eq!(same.nonce(), found[0].nonce());
        other.submit(&same);
        assert_eq!(other.rejects(), ["duplicate"], "{dialect:?}");
        // New work is pushed, and is work.
        pair.events.clear();
        pair.server(|server, now, out| server.set_job(ethereum_job("b", true), now, out));
        assert!(pair.events.iter().any(|event| matches!(event, Event::Work { .. })), "{:?}", pair.events);
        assert!(pair.client.next_task().is_some());
        pair.assert_smooth();
    }
}

#[test]
fn a_probe_in_the_wrong_dialect_is_answered_at_once() {
    let mut server = ethereum_server(&Duplicates::new());
    let mut out = Vec::new();
    server.on_line(r#"{"id":1,"method":"mining.subscribe","params":[]}"#, at(0), &mut out);
    assert!(matches!(&out[0], Action::Send(line) if line.contains("error")), "{out:?}");
    assert_eq!(server.dialect(), None);
    server.on_line(r#"{"id":2,"method":"eth_getWork","params":[]}"#, at(0), &mut out);
    assert!(matches!(&out[1], Action::Send(line) if line.contains("Not subscribed")), "{out:?}");
}

// --- KawPow

#[test]
fn shares_of_kawpow_travel_from_scanner_to_credit() {
    let config = KawPowConfig {
        session: "5e55".to_owned(),
        extranonce: vec![0x64, 0x29],
        limits: Limits::default(),
        // Difficulty one is 2^32 hashes here: this is about four.
        vardiff: VardiffConfig::fixed(difficulty(1e-9)),
        duplicates: Duplicates::new(),
    };
    let mut pair = Pair::new(KawPowServer::new(config, at(0)), KawPowClient::new(account()), 8);
    let job = |id: &str, clean| {
        Arc::new(KawPowJob {
            job_id: id.to_owned(),
            header_hash: Hash256::from_raw([3; 32]),
            height: 30,
            bits: CompactBits(0x1b02_ba90),
            clean,
        })
    };
    pair.client(|client, now, out| client.start(now, out));
    pair.server(|server, now, out| server.set_job(job("a", false), now, out));
    pair.assert_smooth();
    let task = pair.client.next_task().unwrap();
    assert_eq!(task.space.nonces.start, 0x6429 << 48);
    let found = pair.prover.search(&task, 64);
    assert!(found.len() >= 4, "{} of 64", found.len());
    found.iter().for_each(|share| pair.submit(share));
    assert_eq!(pair.credits(), vec![1e-9; found.len()], "{}", pair.log.join("\n"));
    pair.submit(&found[0]);
    assert_eq!(pair.rejects(), ["duplicate"]);
    // The same header under another name: the search goes on elsewhere, and old shares are no news.
    pair.server(|server, now, out| server.set_job(job("b", false), now, out));
    assert_ne!(pair.client.next_task().unwrap().space.nonces.start, task.space.nonces.start);
    pair.submit(&found[1]);
    assert_eq!(pair.rejects(), ["duplicate", "duplicate"]);
    pair.assert_smooth();
}

// --- Monero

fn blob(extra: u8) -> Vec<u8> {
    let mut blob = vec![16, 16, 0x80, 0x80, 0x80, 0x80, 6];
    blob.extend([extra; 32]);
    blob.extend([0; 4]);
    blob.extend([7; 32]);
    blob.push(3);
    blob
}

fn monero_job(id: &str, extra: u8, clean: bool) -> Arc<MoneroJob> {
    Arc::new(MoneroJob {
        job_id: id.to_owned(),
        blob: blob(extra),
        seed_hash: Hash256::from_raw([5; 32]),
        height: 3_000_000,
        network: unreachable(),
        clean,
    })
}

fn monero_config(algorithm: Algorithm) -> MoneroConfig {
    MoneroConfig {
        algorithm,
        session: "1be0".to_owned(),
        nonce_prefix: None,
        limits: Limits::default(),
        vardiff: VardiffConfig::fixed(difficulty(3.0)),
    }
}

#[test]
fn shares_of_randomx_travel_from_scanner_to_credit() {
    let one = Algorithm::RandomXV1;
    for (algorithm, nonce_prefix) in
        [(one, None), (one, Some(0)), (one, Some(0xa0)), (Algorithm::RandomXV2, None)]
    {
        let config = MoneroConfig { nonce_prefix, ..monero_config(algorithm) };
        let client = MoneroClient::new(algorithm, account());
        let mut pair = Pair::new(MoneroServer::new(config, at(0)), client, 2);
        // The login waits for the first job.
        pair.client(|client, now, out| client.start(now, out));
        assert!(pair.events.is_empty());
        pair.server(|server, now, out| server.set_job(monero_job("a", 1, true), now, out));
        pair.assert_smooth();
        let task = pair.client.next_task().unwrap_or_else(|| panic!("{}", pair.log.join("\n")));
        let expected = nonce_prefix.map_or((0, 1 << 32), |byte| (u64::from(byte) << 24, 1 << 24));
        assert_eq!((task.space.nonces.start, task.space.nonces.count), expected);
        let found = pair.prover.search(&task, 16);
        assert!(!found.is_empty());
        found.iter().for_each(|share| pair.submit(share));
        assert_eq!(pair.credits(), vec![3.0; found.len()], "{}", pair.log.join("\n"));
        pair.submit(&found[0]);
        assert_eq!(pair.rejects(), ["duplicate"]);
        assert_eq!(pair.client.counts().rejected.get(&RejectReason::Duplicate), Some(&1));
        // The same job is not sent twice; the next is pushed and, being clean, ends the first.
        let lines = pair.log.len();
        pair.server(|server, now, out| server.set_job(monero_job("a", 1, true), now, out));
        assert_eq!(pair.log.len(), lines);
        pair.server(|server, now, out| server.set_job(monero_job("b", 2, true), now, out));
        assert_eq!(pair.log.len(), lines + 1);
        pair.now = at(1);
        pair.submit(&found[0]);
        assert_eq!(pair.rejects(), ["duplicate", "stale"]);
        assert!(pair.client.next_task().is_some());
        // A minute of silence is broken.
        pair.now = at(61);
        pair.client(|client, now, out| client.on_tick(now, out));
        assert!(pair.log.last().unwrap().contains("KEEPALIVED"), "{:?}", pair.log.last());
        pair.assert_smooth();
    }
}

/// What a pool of this algorithm answers to a login with these algorithms.
fn login_at(algorithm: Algorithm, offered: &str) -> (MoneroServer, Value) {
    let mut server = MoneroServer::new(monero_config(algorithm), at(0));
    let mut out = Vec::new();
    server.set_job(monero_job("a", 1, true), at(0), &mut out);
    let line = format!(r#"{{"id":1,"method":"login","params":{{"login":"4a","pass":"x"{offered}}}}}"#);
    server.on_line(&line, at(0), &mut out);
    if let Action::Authorize { ticket, .. } = out[0] {
        out.clear();
        server.on_login(ticket, Ok(()), at(0), &mut out);
    }
    let Action::Send(line) = &out[0] else { panic!("{out:?}") };
    let answer = serde_json::from_str(line).unwrap();
    (server, answer)
}

#[test]
fn a_miner_of_both_revisions_is_told_which_one_is_mined() {
    let (one, two) = (Algorithm::RandomXV1, Algorithm::RandomXV2);
    let both = r#","algo":["cn/r","rx/0","rx/2","rx/wow"]"#;
    for (algorithm, name) in [(one, "rx/0"), (two, "rx/2")] {
        let (_, answer) = login_at(algorithm, both);
        assert_eq!(answer["result"]["job"]["algo"], name);
        assert!(answer["result"]["extensions"].as_array().unwrap().contains(&"algo".into()));
    }
    // Who does not say is taken for a miner of Monero, and told where it is not.
    assert!(login_at(one, "").1["result"]["job"].get("algo").is_none());
    assert_eq!(login_at(two, "").1["result"]["job"]["algo"], "rx/2");
    let refusal = "No compatible algorithm found";
    assert_eq!(login_at(two, r#","algo":["rx/0"]"#).1["error"]["message"], refusal);
    assert_eq!(login_at(one, r#","algo":["rx/2"]"#).1["error"]["message"], refusal);
}

#[test]
fn a_share_of_version_two_is_told_wrong_without_a_cache() {
    let (mut server, _) = login_at(Algorithm::RandomXV2, "");
    let mut share = |nonce: &str, result: &str, more: &str| {
        let line = format!(
            r#"{{"id":2,"method":"submit","params":{{"id":"1be0","job_id":"a","nonce":"{nonce}","result":"{result}"{more}}}}}"#
        );
        let mut out = Vec::new();
        server.on_line(&line, at(0), &mut out);
        out
    };
    let zeros = "00".repeat(32);
    // The hash leads to a commitment, which is not the one claimed.
    let out = share("00000000", &zeros, &format!(r#","algo":"rx/2","commitment":"{zeros}""#));
    let Action::Verify(check) = &out[0] else { panic!("{out:?}") };
    let hasher = scan::oracle(Algorithm::RandomXV2).unwrap();
    let mut worker = Verifier::new(hasher, Setup::detect()).worker().unwrap();
    let refused = worker.check(&check.claim(), None).unwrap_err();
    assert!(matches!(refused, Reject::WrongHash(_) | Reject::AboveTarget { .. }), "{refused}");
    let out = share("00000001", &zeros, r#","algo":"rx/0""#);
    assert!(matches!(out[0], Action::Rejected { reason: RejectReason::Algorithm, .. }), "{out:?}");
}

#[test]
fn a_job_of_another_algorithm_ends_the_connection_with_the_reason() {
    for (algorithm, named, words) in [
        (Algorithm::RandomXV1, "rx/2", "the job is for algorithm 'rx/2': expected 'rx/0'"),
        (Algorithm::RandomXV2, "rx/0", "the job is for algorithm 'rx/0': expected 'rx/2'"),
        (Algorithm::RandomXV2, "rx/wow", "the job is for algorithm 'rx/wow': expected 'rx/2'"),
    ] {
        let (mut client, mut events) = (MoneroClient::new(algorithm, account()), Vec::new());
        client.start(at(0), &mut events);
        events.clear();
        let job = format!(
            r#"{{"method":"job","params":{{"job_id":"a","blob":"{}","target":"b88d0600","algo":"{named}","seed_hash":"{}"}}}}"#,
            hex::encode(blob(1)),
            "05".repeat(32)
        );
        client.on_line(&job, at(0), &mut events);
        assert_eq!(events, [Event::Failed(ClientError::Answer(words.to_owned()))]);
        assert!(client.next_task().is_none());
    }
}

#[test]
fn a_login_that_cannot_be_ends_at_once() {
    let config = || monero_config(Algorithm::RandomXV1);
    let mut server = MoneroServer::new(config(), at(0));
    let mut out = Vec::new();
    let line = r#"{"id":1,"method":"login","params":{"login":"4a","pass":"x","algo":["cn/r","rx/wow"]}}"#;
    server.on_line(line, at(0), &mut out);
    assert!(matches!(&out[0], Action::Send(line) if line.contains("No compatible algorithm found")));
    assert!(matches!(out[1], Action::Close(CloseReason::Refused)));

    let mut server = MoneroServer::new(config(), at(0));
    let (mut client, mut events) = (MoneroClient::new(Algorithm::RandomXV1, account()), Vec::new());
    client.start(at(0), &mut events);
    let Event::Send(login) = events.remove(0) else { panic!("{events:?}") };
    let mut out = Vec::new();
    server.on_line(&login, at(0), &mut out);
    let Action::Authorize { ticket, .. } = out.remove(0) else { panic!("{out:?}") };
    server.on_login(ticket, Err("Invalid payment address provided".to_owned()), at(0), &mut out);
    let Action::Send(line) = &out[0] else { panic!("{out:?}") };
    client.on_line(line, at(0), &mut events);
    let words = "Invalid payment address provided (code -1)".to_owned();
    assert_eq!(events, [Event::Failed(ClientError::Refused { what: "login", words })]);
    assert!(matches!(out[1], Action::Close(CloseReason::Refused)));
}
