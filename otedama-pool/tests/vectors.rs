//! Published and recorded shares and messages (`vectors/stratum_shares.json`) through codecs, sessions and
//! verifier. Each case names its source in the file.

mod support;

use std::sync::Arc;
use std::time::Instant;

use otedama_core::algo::ethash::SeedFinder;
use otedama_core::verify::Claim;
use otedama_core::{Algorithm, Candidate, CompactBits, Hash256, JobId, Target};
use otedama_pool::session::server::bitcoin::{BitcoinConfig, BitcoinJob};
use otedama_pool::session::server::kawpow::{KawPowConfig, KawPowJob};
use otedama_pool::session::server::monero::{MoneroConfig, MoneroJob};
use otedama_pool::session::server::{BitcoinServer, KawPowServer, MoneroServer};
use otedama_pool::session::{Action, Duplicates, Limits, Now, Server, VardiffConfig};
use otedama_pool::stratum::bitcoin::{self, Extranonce};
use otedama_pool::stratum::ethereum::{nicehash, proxy};
use otedama_pool::stratum::{Dialect, Id, Incoming, Message, RejectReason, decode, kawpow, monero};
use otedama_pool::work;
use otedama_pool::work::sealed::Sealed;
use serde_json::{Value, json};
use support::{Prover, difficulty};

fn cases(kind: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../vectors/stratum_shares.json")).unwrap();
    let all = file["cases"].as_array().unwrap().iter();
    let cases: Vec<Value> = all.filter(|case| case["kind"] == kind).cloned().collect();
    assert!(!cases.is_empty(), "no case of kind {kind}");
    cases
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} in {value}"))
}

fn message<M: Message>(method: &str, params: &Value) -> M {
    let line = json!({ "id": 7, "method": method, "params": params }).to_string();
    match decode(&line) {
        Ok(Incoming::Message(_, message)) => message,
        other => panic!("{line}: {:?}", other.err()),
    }
}

fn bytes(value: &Value, field: &str) -> Vec<u8> {
    hex::decode(text(value, field)).unwrap()
}

/// What came back for a call, and what was decided about its share.
fn answer(out: &[Action]) -> Value {
    let line = out.iter().rev().find_map(|action| match action {
        Action::Send(line) | Action::Accepted { answer: Some(line), .. } => Some(line),
        _ => None,
    });
    serde_json::from_str(line.expect("an answer")).unwrap()
}

/// Gives a line to a session, lets everybody in and hashes what is asked.
fn say(server: &mut dyn Server, prover: &mut Prover, line: &str, now: Now) -> Vec<Action> {
    let mut out = Vec::new();
    server.on_line(line, now, &mut out);
    let mut at = 0;
    while at < out.len() {
        match out[at].clone() {
            Action::Authorize { ticket, .. } => server.on_login(ticket, Ok(()), now, &mut out),
            Action::Verify(check) => {
                let verdict = prover.verdict(&check);
                server.on_verdict(check.ticket, verdict, now, &mut out);
            }
            _ => {}
        }
        at += 1;
    }
    out
}

fn call(method: &str, params: Value) -> String {
    json!({ "id": "x", "method": method, "params": params }).to_string()
}

struct BitcoinCase {
    server: BitcoinServer,
    notify: bitcoin::Notify,
    now: Now,
}

/// A session that has been through the handshake of a case and has its job.
fn bitcoin_case(case: &Value, algorithm: Algorithm, prover: &mut Prover) -> BitcoinCase {
    let bitcoin::PoolMessage::Notify(notify) = message("mining.notify", &case["notify"]) else { panic!() };
    let now = Now { unix_s: u64::from(notify.ntime), ..Now::default() };
    let config = BitcoinConfig {
        algorithm,
        session: "s".to_owned(),
        extranonce: Extranonce {
            extranonce1: bytes(&case["subscribe"], "extranonce1"),
            extranonce2_size: case["subscribe"]["extranonce2_size"].as_u64().unwrap() as usize,
        },
        version_mask: 0x1fff_e000,
        limits: Limits::default(),
        vardiff: VardiffConfig::fixed(difficulty(case["set_difficulty"].as_f64().unwrap())),
    };
    let mut server = BitcoinServer::new(config, now);
    if let Some(mask) = case["configure"]["version_rolling_mask"].as_str() {
        let line = call("mining.configure", json!([["version-rolling"], { "version-rolling.mask": mask }]));
        assert_eq!(answer(&say(&mut server, prover, &line, now))["result"]["version-rolling.mask"], mask);
    }
    let out = say(&mut server, prover, &call("mining.subscribe", json!([])), now);
    assert_eq!(answer(&out)["result"][1], case["subscribe"]["extranonce1"]);
    say(&mut server, prover, &call("mining.authorize", json!([case["submit"][0], "x"])), now);
    let mut out = Vec::new();
    let job = BitcoinJob { notify: (*notify).clone(), min_time: notify.ntime };
    server.set_job(Arc::new(job), now, &mut out);
    // What goes out is the job as it was recorded, but for the flag of a first job.
    let mut expected = case["notify"].clone();
    expected[8] = true.into();
    assert_eq!(answer(&out)["params"], expected);
    BitcoinCase { server, notify: *notify, now }
}

#[test]
fn recorded_shares_of_bitcoin_and_litecoin_are_accepted_and_their_blocks_found() {
    let prover = &mut Prover::new();
    let mut blocks = 0;
    for (kind, algorithm) in [("bitcoin_share", Algorithm::Sha256d), ("scrypt_share", Algorithm::Scrypt)] {
        for case in cases(kind) {
            let BitcoinCase { mut server, notify, now } = bitcoin_case(&case, algorithm, prover);
            let (name, expected) = (text(&case, "name"), &case["expected"]);
            let line = call("mining.submit", case["submit"].clone());
            let out = say(&mut server, prover, &line, now);
            assert_eq!(answer(&out), json!({ "id": "x", "result": true, "error": null }), "{name}");
            let found = out.iter().find_map(|action| match action {
                Action::Block(block) => Some(block),
                _ => None,
            });
            assert_eq!(found.is_some(), expected["is_block"] == true, "{name}");
            blocks += usize::from(found.is_some());
            let credit = out.iter().find_map(|action| match action {
                Action::Accepted { credit, .. } => Some(credit),
                _ => None,
            });
            let credit = credit.unwrap();
            assert_eq!(credit.share.digest().pow.to_display_hex(), text(expected, "pow_hash"), "{name}");
            if let Some(block) = found {
                let mut header = Vec::new();
                let candidate = Candidate { nonce: block.share.nonce(), version: None };
                block.job.append_bytes(&candidate, &mut header);
                assert_eq!(hex::encode(header), text(expected, "header"), "{name}");
                let coinbase = block.coinbase.as_ref().unwrap();
                assert_eq!(hex::encode(coinbase), text(expected, "coinbase_tx"), "{name}");
                let root = work::bitcoin::merkle_root(coinbase, &notify.branch);
                assert_eq!(root.to_raw_hex(), text(expected, "merkle_root_raw"), "{name}");
            }
            let target = notify.bits.to_target().unwrap().to_string();
            assert_eq!(target, text(expected, "network_target"), "{name}");
            let share =
                Target::new(credit.share.digest().pow.to_number(algorithm.spec().hash_order)).unwrap();
            let ratio = share.to_difficulty(algorithm).get() / expected["share_difficulty"].as_f64().unwrap();
            assert!((ratio - 1.0).abs() < 1e-9, "{name}: {ratio}");
            // Once more, whatever the case of its letters.
            let mut upper = case["submit"].clone();
            for hex in upper.as_array_mut().unwrap().iter_mut().skip(2) {
                *hex = hex.as_str().unwrap().to_uppercase().into();
            }
            let again = say(&mut server, prover, &call("mining.submit", upper), now);
            assert_eq!(answer(&again)["error"][0], 22, "{name}: {again:?}");
        }
    }
    assert!(blocks >= 10, "{blocks} blocks");
}

#[test]
fn shares_that_must_be_refused_are_refused_with_the_published_codes() {
    let prover = &mut Prover::new();
    for case in cases("bitcoin_reject") {
        let BitcoinCase { mut server, now, .. } = bitcoin_case(&case, Algorithm::Sha256d, prover);
        for earlier in case["previous_submits"].as_array().into_iter().flatten() {
            let out = say(&mut server, prover, &call("mining.submit", earlier.clone()), now);
            assert_eq!(answer(&out)["result"], true);
        }
        let out = say(&mut server, prover, &call("mining.submit", case["submit"].clone()), now);
        let error = &answer(&out)["error"];
        assert_eq!(error[0], case["expected"]["error_code"], "{}: {error}", text(&case, "name"));
        assert!(error.as_array().unwrap().len() == 3 && error[2].is_null());
    }
}

#[test]
fn published_bitcoin_messages_are_read_and_written_as_they_stand() {
    for case in cases("sv1_messages") {
        let name = text(&case, "name");
        if !name.starts_with("BIP310") {
            continue;
        }
        let mut asked = None;
        for said in case["messages"].as_array().unwrap() {
            let line = said.to_string();
            let written = match said["method"].as_str() {
                Some("mining.configure") => {
                    let Ok(Incoming::Message(id, message)) = decode::<bitcoin::MinerMessage>(&line) else {
                        panic!("{line}")
                    };
                    let bitcoin::MinerMessage::Configure(configure) = &message else { panic!("{line}") };
                    asked = Some(configure.clone());
                    message.encode(id.as_ref())
                }
                Some(_) => {
                    let Ok(Incoming::Message(id, message)) = decode::<bitcoin::PoolMessage>(&line) else {
                        panic!("{line}")
                    };
                    message.encode(id.as_ref())
                }
                None => {
                    let configured = bitcoin::Configured::read(&said["result"]).unwrap();
                    let asked = asked.as_ref().unwrap();
                    Dialect::Bitcoin.success(Some(&Id::number(1)), &configured.to_value(asked))
                }
            };
            assert_same(&written, said);
        }
    }
}

/// Numbers count as equal if their values are: 2048 and 2048.0.
fn assert_same(written: &str, expected: &Value) {
    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Object(a), Value::Object(b)) => {
                a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
            }
            (a, b) => a == b,
        }
    }
    let written: Value = serde_json::from_str(written).unwrap();
    assert!(same(&written, expected), "written {written}\nexpected {expected}");
}

#[test]
fn published_messages_of_nicehash_and_monero_are_read_and_written_as_they_stand() {
    let mut seen = 0;
    for case in cases("sv1_messages") {
        let name = text(&case, "name");
        for said in case["messages"].as_array().unwrap() {
            let method = said["method"].as_str().unwrap_or_default();
            let number = said["id"].as_u64().map(Id::number);
            let id = number.as_ref();
            let result = &said["result"];
            let written = if name == "NiceHash EthereumStratum 1.0.0" {
                match method {
                    "mining.subscribe" | "mining.authorize" | "mining.submit" => {
                        let message: nicehash::MinerMessage = message(method, &said["params"]);
                        // The user agent is all that differs, and it is kept.
                        message.encode(id)
                    }
                    "" if result.is_array() => {
                        let subscribed = nicehash::Subscribed::read(result).unwrap();
                        Dialect::NiceHash.success(id, &subscribed.to_value())
                    }
                    "" => Dialect::NiceHash.accepted(id),
                    _ => message::<nicehash::PoolMessage>(method, &said["params"]).encode(None),
                }
            } else if name == "NiceHash KawPow 1.0" {
                match method {
                    "" => {
                        let subscribed = kawpow::Subscribed::read(result).unwrap();
                        assert_eq!(subscribed.extranonce, [0x64, 0x29, 0x0b]);
                        Dialect::KawPow.success(id, &subscribed.to_value())
                    }
                    _ => {
                        let message: kawpow::MinerMessage = message(method, &said["params"]);
                        assert_eq!(message, kawpow::MinerMessage::Subscribe("GMiner/2.09".to_owned()));
                        continue; // host and port are not kept
                    }
                }
            } else if name.contains("Monero") || name.contains("CryptoNight") {
                match method {
                    "job" => message::<monero::PoolMessage>(method, &said["params"]).encode(None),
                    "" if result["job"].is_object() => {
                        let logged_in = monero::LoggedIn::read(result).unwrap();
                        assert_eq!(logged_in.job.target.difficulty().get(), 10_000.0);
                        let mut value = logged_in.to_value();
                        value.as_object_mut().unwrap().remove("extensions");
                        Dialect::Monero.success(id, &value)
                    }
                    "" if result["status"] == "OK" => Dialect::Monero.accepted(id),
                    "" => Dialect::Monero.success(id, &monero::Status::KEPT_ALIVE),
                    _ => {
                        let message: monero::MinerMessage = message(method, &said["params"]);
                        let mut written: Value = serde_json::from_str(&message.encode(id)).unwrap();
                        // Old examples leave the version out.
                        if said["jsonrpc"].is_null() {
                            written.as_object_mut().unwrap().remove("jsonrpc");
                        }
                        written.to_string()
                    }
                }
            } else {
                continue;
            };
            seen += 1;
            assert_same(&written, said);
        }
    }
    assert!(seen >= 20, "{seen} messages");
}

#[test]
fn monero_targets_are_what_xmrig_makes_of_them() {
    let read = |hex: &str| {
        let job = json!({ "job_id": "1", "blob": "00".repeat(76), "target": hex });
        let monero::PoolMessage::Job(job) = message("job", &job) else { panic!() };
        job.target
    };
    for case in cases("monero_target") {
        let target = read(text(&case, "target"));
        assert_eq!(format!("{:016x}", target.target64()), text(&case, "target64"));
        assert_eq!(target.difficulty().get(), case["difficulty"].as_f64().unwrap());
    }
    // Reference, 8.4.
    for (difficulty, hex, effective) in [
        (1_000, "37894100", 1_000),
        (5_000, "711b0d00", 5_000),
        (300_000, "ec370000", 300_011),
        (4_000_000, "31040000", 4_002_765),
    ] {
        let target = monero::ShareTarget::of(std::num::NonZeroU64::new(difficulty).unwrap());
        assert_eq!(target, read(hex));
        assert_eq!(target.difficulty().get(), f64::from(effective));
    }
    let large = std::num::NonZeroU64::new(1 << 40).unwrap();
    assert_eq!(monero::ShareTarget::of(large), read("0000000100000000"));
    let published = format!("00068db8bac710ca{}", "f".repeat(48));
    assert_eq!(read("b88d0600").to_target().to_string(), published);
}

#[test]
fn recorded_shares_of_ethereum_are_proven_in_both_dialects() {
    let (prover, seeds, begun) = (&mut Prover::new(), &mut SeedFinder::new(), Instant::now());
    let long = std::env::var_os("OTEDAMA_LONG_TESTS").is_some_and(|value| value == "1");
    if !long {
        println!("SKIPPED: shares of Ethash's larger light caches: set OTEDAMA_LONG_TESTS=1");
    }
    // Six light caches take some 40 s of one core; one of each algorithm will do otherwise.
    let short = ["stratum-0059", "stratum-0045", "stratum-0046", "stratum-0060"];
    for case in cases("ethash_share") {
        if !long && !short.contains(&text(&case, "id")) {
            continue;
        }
        let (name, expected) = (text(&case, "name"), &case["expected"]);
        let algorithm = if expected["etchash"] == true { Algorithm::Etchash } else { Algorithm::Ethash };
        let (work, target, nonce, mix) = if case["get_work_result"].is_array() {
            let work = proxy::Work::read(&case["get_work_result"]).unwrap();
            assert_eq!(work.to_value(), case["get_work_result"], "{name}");
            let proxy::MinerMessage::Submit(share) = message("eth_submitWork", &case["submit"]) else {
                panic!()
            };
            let proxy::Work { header_hash, seed_hash, target, height } = work;
            assert_eq!(share.header_hash, header_hash, "{name}");
            let sealed = Sealed { header_hash, seed_hash: Some(seed_hash), height };
            (sealed, target, share.nonce, Some(share.mix_hash))
        } else {
            let nicehash::PoolMessage::Notify(notify) = message("mining.notify", &case["notify"]) else {
                panic!()
            };
            let nicehash::MinerMessage::Submit(share) = message("mining.submit", &case["submit"]) else {
                panic!()
            };
            let nicehash::Notify { seed_hash, header_hash, .. } = notify;
            let target = work::sealed::nicehash_target(difficulty(case["set_difficulty"].as_f64().unwrap()));
            let nonce = share.nonce.after(text(&case["subscribe"], "extranonce")).unwrap();
            assert_eq!(format!("{nonce:016x}"), text(expected, "nonce"), "{name}");
            (Sealed { header_hash, seed_hash: Some(seed_hash), height: None }, target, nonce, None)
        };
        let job = work::sealed::job(JobId(1), algorithm, &work, target, seeds).unwrap();
        let candidate = Candidate { nonce, version: None };
        let claim = Claim { job: &job, candidate, mix: mix.as_ref(), pow: None };
        let share = prover.check(&claim).unwrap_or_else(|reject| panic!("{name}: {reject}"));
        assert_eq!(share.digest().pow.to_raw_hex(), text(expected, "final_hash"), "{name}");
        assert_eq!(share.digest().mix.unwrap().to_raw_hex(), text(expected, "mix_hash"), "{name}");
        if let Some(published) = expected["share_difficulty"].as_f64() {
            let hash = Target::from_be_bytes(*share.digest().pow.as_raw()).unwrap();
            let ratio = work::sealed::nicehash_difficulty(&hash).get() / published;
            assert!((ratio - 1.0).abs() < 1e-9, "{name}: {ratio}");
        }
    }
    println!("light caches and shares of Ethash: {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
fn a_block_of_ravencoin_is_found_and_its_forgeries_refused() {
    let (prover, now, begun) = (&mut Prover::new(), Now::default(), Instant::now());
    for case in cases("kawpow_share").into_iter().chain(cases("kawpow_reject")) {
        let name = text(&case, "name");
        let kawpow::PoolMessage::Notify(notify) = message("mining.notify", &case["notify"]) else { panic!() };
        assert_eq!(notify.bits, Some(CompactBits(0x1b02_ba90)));
        let config = KawPowConfig {
            session: "s".to_owned(),
            extranonce: bytes(&case["subscribe"], "extranonce"),
            limits: Limits::default(),
            vardiff: VardiffConfig::fixed(notify.target.to_difficulty(Algorithm::KawPow)),
            duplicates: Duplicates::new(),
        };
        let mut server = KawPowServer::new(config, now);
        say(&mut server, prover, &call("mining.subscribe", json!(["m"])), now);
        say(&mut server, prover, &call("mining.authorize", json!(["worker", "x"])), now);
        let job = KawPowJob {
            job_id: notify.job_id.clone(),
            header_hash: notify.header_hash,
            height: notify.height,
            bits: CompactBits(0x1b02_ba90),
            clean: true,
        };
        let mut out = Vec::new();
        server.set_job(Arc::new(job), now, &mut out);
        let mut sent = answer(&out)["params"].clone();
        sent[3] = case["notify"][3].clone(); // the target went through a double
        assert_eq!(sent, case["notify"], "{name}");
        let out = say(&mut server, prover, &call("mining.submit", case["submit"].clone()), now);
        if case["expected"]["valid"] == true {
            assert_eq!(answer(&out)["result"], true, "{name}: {out:?}");
            let Some(Action::Block(block)) = out.iter().find(|action| matches!(action, Action::Block(_)))
            else {
                panic!("{name}: {out:?}")
            };
            let digest = block.share.digest();
            assert_eq!(digest.pow.to_raw_hex(), text(&case["expected"], "final_hash"));
            assert_eq!(digest.mix.unwrap().to_raw_hex(), text(&case["expected"], "mix_hash"));
        } else {
            let reason = if name.contains("mix") { "low_difficulty" } else { "wrong_header" };
            let label = out.iter().find_map(|action| match action {
                Action::Rejected { reason, .. } => Some(reason.label()),
                _ => None,
            });
            // A mix of zeros leads to another hash, which already says enough.
            assert_eq!(label, Some(reason), "{name}");
        }
    }
    println!("light cache and shares of KawPow: {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
fn shares_of_monero_are_hashed_only_if_their_claim_meets_the_target() {
    let (prover, now, begun) = (&mut Prover::new(), Now::default(), Instant::now());
    for case in cases("monero_share").into_iter().chain(cases("monero_reject")) {
        let result = &case["login_result"];
        let recorded = monero::LoggedIn::read(result).unwrap().job;
        let config = MoneroConfig {
            algorithm: Algorithm::RandomXV1,
            session: text(result, "id").to_owned(),
            nonce_prefix: None,
            limits: Limits::default(),
            vardiff: VardiffConfig::fixed(recorded.target.difficulty()),
        };
        let mut server = MoneroServer::new(config, now);
        let job = MoneroJob {
            job_id: recorded.job_id.clone(),
            blob: recorded.blob.clone(),
            seed_hash: recorded.seed_hash.unwrap(),
            height: 0,
            network: Target::new(1u64.try_into().unwrap()).unwrap(),
            clean: true,
        };
        server.set_job(Arc::new(job), now, &mut Vec::new());
        let login = json!({ "login": "4address", "pass": "x", "agent": "a", "algo": ["cn/r", "rx/0"] });
        let out = say(&mut server, prover, &call("login", login), now);
        assert_eq!(answer(&out)["result"]["job"]["target"], result["job"]["target"]);
        assert_eq!(answer(&out)["result"]["job"]["algo"], "rx/0");
        let out = say(&mut server, prover, &call("submit", case["submit"].clone()), now);
        if case["expected"]["valid"] == true {
            assert_eq!(answer(&out)["result"]["status"], "OK");
            let mut forged = case["submit"].clone();
            forged["nonce"] = "01000000".into();
            let out = say(&mut server, prover, &call("submit", forged), now);
            assert_eq!(answer(&out)["error"]["message"], RejectReason::WrongHash.text());
        } else {
            assert_eq!(answer(&out)["error"], json!({ "code": -1, "message": "Low difficulty share" }));
        }
    }
    println!("light cache and shares of RandomX: {:.1} s", begun.elapsed().as_secs_f64());
}

#[test]
fn the_reference_examples_hold() {
    // Reference, 8.2: Litecoin's genesis block.
    let prover = &mut Prover::new();
    let header = concat!(
        "010000000000000000000000000000000000000000000000000000000000000000000000d9ced4ed1130f7b7faad9be25323",
        "ffafa33232a17c3edf6cfd97bee6bafbdd97b9aa8e4ef0ff0f1ecd513f7c"
    );
    let header: [u8; 80] = hex::decode(header).unwrap().try_into().unwrap();
    let target = Target::from_difficulty(Algorithm::Scrypt, difficulty(50.0));
    let job = work::bitcoin::job(JobId(1), Algorithm::Scrypt, &header, None, target).unwrap();
    let nonce = u32::from_le_bytes(header[76..].try_into().unwrap());
    let candidate = Candidate { nonce: nonce.into(), version: None };
    let share = prover.check(&Claim { job: &job, candidate, mix: None, pow: None }).unwrap();
    let hash = "0000050c34a64b415b6b15b37f2216634b5b1669cb9a2e38d76f7213b0671e00";
    assert_eq!(share.digest().pow, Hash256::from_display_hex(hash).unwrap());

    // Reference, 8.3.
    let target = |algorithm, d| Target::from_difficulty(algorithm, difficulty(d)).to_string();
    assert!(target(Algorithm::Sha256d, 2048.0).starts_with("00000000001fffe0000"));
    assert!(target(Algorithm::Scrypt, 1.0).starts_with("0000ffff000"));
    assert!(target(Algorithm::Scrypt, 512.0).starts_with("0000007fff8000"));
    let ethash = "0000000112e0be826d694b2e62d01511f12a6061fbaec8bc02357593e70e52ba";
    assert_eq!(target(Algorithm::Ethash, 4e9), ethash);
}
