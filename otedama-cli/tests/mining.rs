//! A pool and a miner as a user starts them: `serve --dev` in one process, `mine` in another.

mod common;

use std::process::Command;

use common::pool::Pool;
use serde_json::Value;

/// Mines this many shares and returns the miner's events.
fn mine(algorithm: &str, address: &str, shares: u64, options: &[&str]) -> Vec<Value> {
    let output = Command::new(env!("CARGO_BIN_EXE_otedama-cli"))
        .args(["mine", "--algorithm", algorithm, "--url", &format!("stratum+tcp://{address}")])
        .args([
            "--user",
            "me.rig1",
            "--threads",
            "1",
            "--shares",
            &shares.to_string(),
            "--seconds",
            "120",
            "--json",
        ])
        .args(options)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let events = String::from_utf8(output.stdout).unwrap();
    events.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Mines at a pool of its own and checks that both ends count the same.
fn shares_are_accepted(algorithm: &str, difficulty: &str, options: &[&str]) {
    let pool = Pool::serve(algorithm, &["--difficulty", difficulty]);
    let events = mine(algorithm, &pool.address, 3, options);
    let end = events.last().unwrap();
    assert!(end["accepted"].as_u64().unwrap() >= 3, "{algorithm}: {events:?}");
    assert_eq!(end["rejected"], serde_json::json!({}), "{algorithm}: {events:?}");
    let said = pool.end();
    assert!(said["accepted"].as_u64() >= end["accepted"].as_u64(), "{algorithm}: {said}");
    assert_eq!(said["refused"], 0, "{algorithm}: {said}");
}

#[test]
fn sha256d_is_mined() {
    shares_are_accepted("sha256d", "0.001", &[]);
}

#[test]
fn scrypt_is_mined() {
    shares_are_accepted("scrypt", "0.01", &[]);
}

#[test]
fn etchash_is_mined_in_every_dialect() {
    for dialect in ["nicehash", "eth-proxy", "eip-1571"] {
        shares_are_accepted("etchash", "64", &["--mode", "light", "--dialect", dialect]);
    }
}

#[test]
fn kawpow_is_mined() {
    shares_are_accepted("kawpow", "0.00000001", &["--mode", "light"]);
}

#[test]
fn randomx_is_mined() {
    for algorithm in ["randomx", "randomx-v2"] {
        shares_are_accepted(algorithm, "16", &["--mode", "light"]);
    }
}

#[test]
fn a_miner_of_another_revision_is_told_so() {
    let pool = Pool::serve("randomx-v2", &["--difficulty", "16"]);
    let url = format!("stratum+tcp://{}", pool.address);
    let output = Command::new(env!("CARGO_BIN_EXE_otedama-cli"))
        .args(["mine", "--algorithm", "randomx", "--mode", "light", "--threads", "1"])
        .args(["--url", &url, "--user", "me", "--seconds", "3", "--json"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lost =
        said.lines().find(|line| line.contains(r#""event":"lost""#)).unwrap_or_else(|| panic!("{said}"));
    assert!(lost.contains("No compatible algorithm found"), "{lost}");
    assert_eq!(pool.end()["accepted"], 0);
}

#[test]
fn blocks_are_found_and_work_goes_on() {
    let pool = Pool::serve("sha256d", &["--difficulty", "0.001", "--block-hashes", "10000000"]);
    let events = mine("sha256d", &pool.address, 12, &[]);
    assert!(events.last().unwrap()["accepted"].as_u64().unwrap() >= 12);
    let said = pool.end();
    assert!(said["blocks"].as_u64().unwrap() >= 1, "{said}");
}

#[test]
fn a_miner_goes_to_the_backup_pool() {
    let pool = Pool::serve("sha256d", &["--difficulty", "0.001"]);
    // Nobody listens at port 1.
    let backup = format!("stratum+tcp://{}", pool.address);
    let events = mine("sha256d", "127.0.0.1:1", 1, &["--backup-url", &backup]);
    let lost = events.iter().find(|event| event["event"] == "lost").unwrap();
    assert_eq!(lost["pool"], "stratum+tcp://127.0.0.1:1");
    assert!(events.iter().any(|event| event["event"] == "accepted"), "{events:?}");
}
