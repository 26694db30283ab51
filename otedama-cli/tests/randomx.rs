//! RandomX on the command line: published hashes, searching, and everything that may be wrong with a key, a
//! blob or the memory.

mod common;

use common::{command, interrupt, run, run_with};
use serde_json::Value;

const KEY: &str = "74657374206b657920303030"; // "test key 000"
const INPUT: &str = "5468697320697320612074657374"; // "This is a test"
const V1: &str = "639183aae1bf4c9a35884cb46b09cad9175f04efd7684e7262a0ac1c2f0b4e3f";
const V2: &str = "22ec6b861b3eb23686b2efbad69513c967ecfce80983df66c9c5b4fbfb4cdb6f";
const BLOB: &str = "0b0b98bea7e805e0010a2126d287a2a0cc833d312cb786385a7c2f9de69d25537f584a9bc9977b00000000666fd8753bf61a8631f12984e3fd44f4014eca629276817b56f32e9b68bd82f416";

fn refused(args: &[&str], words: &[&str]) {
    let answer = run(args);
    assert_eq!((answer.code, answer.stdout.as_str()), (2, ""), "{args:?}: {}", answer.stderr);
    assert_eq!(answer.stderr.lines().count(), 1, "{}", answer.stderr);
    for word in words {
        assert!(answer.stderr.contains(word), "{args:?}: {} says nothing of {word}", answer.stderr);
    }
}

#[test]
fn published_hashes_come_out_whatever_computes_them() {
    let hash = |more: &[&str]| {
        let args = [&["hash", "randomx", "--key", KEY][..], more, &[INPUT]].concat();
        run(&args).ok()
    };
    assert_eq!(hash(&[]), format!("{V1}\n"));
    assert_eq!(hash(&["--variant", "v1", "--kernel", "jit-x4"]), format!("{V1}\n"));
    assert_eq!(hash(&["--variant", "v2"]), format!("{V2}\n"));
    assert_eq!(hash(&["--no-jit", "--pages", "plain"]), format!("{V1}\n"));
    assert_eq!(hash(&["--isa", "none"]), format!("{V1}\n"));

    let lines = format!("{INPUT}\n\n{INPUT}\n");
    let answer = run_with(&["hash", "randomx", "--key", KEY, "--json", "-"], &lines).json_lines();
    let digests: Vec<_> = answer.iter().map(|line| line["digest"].as_str().unwrap()).collect();
    assert_eq!((digests.len(), digests[0], digests[2]), (3, V1, V1));
    assert_ne!(digests[1], V1);
}

#[test]
fn a_search_finds_what_hashing_confirms() {
    let key = "74657374206b657920303031";
    let found = run(&[
        "scan",
        "randomx",
        "--mode",
        "light",
        "--key",
        key,
        "--difficulty",
        "4",
        "--count",
        "16",
        "--json",
        BLOB,
    ])
    .json_lines();
    assert!(!found.is_empty());
    for find in &found {
        let nonce = find["nonce"].as_u64().unwrap() as u32;
        assert_eq!(find["version"], Value::Null);
        let blob = format!("{}{}{}", &BLOB[..78], hex::encode(nonce.to_le_bytes()), &BLOB[86..]);
        let digest = run(&["hash", "randomx", "--key", key, &blob]).ok();
        assert_eq!(digest.trim(), find["digest"].as_str().unwrap());
    }
}

#[test]
fn what_is_wrong_with_a_key_or_a_blob_is_said_at_once() {
    let expected = "expected 1 to 60 bytes in hex";
    refused(&["hash", "randomx", "--key", "", INPUT], &["key is empty", expected]);
    refused(&["hash", "randomx", "--key", "0g", INPUT], &["'0g'", expected]);
    refused(&["hash", "randomx", "--key", "012", INPUT], &["'012'", expected]);
    refused(&["hash", "randomx", "--key", &"00".repeat(61), INPUT], &["61 bytes", expected]);
    refused(&["hash", "randomx", INPUT], &["--key"]);
    refused(&["hash", "randomx", "--key", KEY, "0x12"], &["'x'", "expected hex digits"]);
    refused(&["hash", "randomx", "--key", KEY, "--variant", "v3", INPUT], &["'v3'", "v1", "v2"]);
    refused(&["hash", "randomx", "--key", KEY, "--kernel", "x9", INPUT], &["'x9'", "randomx-jit-x2"]);
    refused(
        &["hash", "randomx", "--key", KEY, "--no-jit", "--kernel", "jit-x2", INPUT],
        &["--no-jit forbids"],
    );
    refused(&["hash", "randomx", "--key", KEY, "--isa", "none", "--kernel", "jit-x2", INPUT], &["aes-ni"]);

    let scan = |key: &[&str], blob: &str, words: &[&str]| {
        refused(&[&["scan", "randomx", "--difficulty", "1"][..], key, &[blob]].concat(), words);
    };
    scan(&[], BLOB, &["randomx needs --key HEX", expected]);
    scan(&["--key", KEY], &"00".repeat(42), &["42 bytes", "expected 43 to 512"]);
    scan(&["--key", KEY], &"00".repeat(513), &["513 bytes", "expected 43 to 512"]);
    scan(&["--key", KEY], "123", &["3 digits", "expected 86 to 1024"]);
    scan(&["--key", KEY, "--version-mask", "1fffe000"], BLOB, &["no version field"]);
    refused(
        &["scan", "sha256d", "--key", KEY, "--difficulty", "1", &"00".repeat(80)],
        &["sha256d takes no key"],
    );
    refused(&["bench", "sha256d", "--variant", "v2"], &["sha256d has no variants"]);
    refused(&["bench", "randomx", "--mode", "heavy"], &["'heavy'", "light", "full"]);
}

#[test]
fn without_memory_for_the_dataset_light_mode_goes_on() {
    // 1.5 GiB of addresses: room for a cache, none for a dataset.
    let program = env!("CARGO_BIN_EXE_otedama-cli");
    let line = format!(
        "ulimit -v 1500000; exec {program} bench randomx --pages plain --threads 1 --seconds 0.1 --json --kernel jit-x1"
    );
    let mut shell = std::process::Command::new("sh");
    let answer = shell.args(["-c", &line]).output().unwrap();
    let stderr = String::from_utf8(answer.stderr).unwrap();
    assert!(answer.status.success(), "{stderr}");
    assert!(stderr.contains("no dataset for randomx: ") && stderr.contains("light mode"), "{stderr}");
    assert!(stderr.contains("2181038016 bytes"), "{stderr}");
    let report: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(
        (&report["epochs"][0]["mode"], &report["results"][0]["mode"]),
        (&"light".into(), &"light".into())
    );
    assert_eq!(report["results"][0]["verified"], true);
}

#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_ends_the_building_of_a_dataset() {
    use std::time::{Duration, Instant};
    let mut child = command(&["bench", "randomx", "--pages", "plain", "--seconds", "60"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(2500));
    interrupt(&child);
    let begun = Instant::now();
    let status = child.wait().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(status.code(), Some(1));
}
