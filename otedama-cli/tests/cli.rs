//! The binary as its users meet it: what it prints, where, and how it leaves.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const GENESIS: &str = "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c";

/// Runs the binary with these arguments and this standard input.
fn run_with_input(arguments: &[&str], input: &str) -> Output {
    let mut child = command(arguments).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn run(arguments: &[&str]) -> Output {
    run_with_input(arguments, "")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_otedama-cli"));
    command.args(arguments).env("XDG_CACHE_HOME", PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cache"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Standard output of a run that must succeed.
fn stdout(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(output: Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap()
}

fn vectors(file: &str) -> Vec<Value> {
    let path = format!("{}/../otedama-core/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let mut all: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    all["cases"].as_array_mut().unwrap().drain(..).collect()
}

fn fields(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn sha256d_digests_are_the_published_ones_singly_and_in_lines() {
    let cases = vectors("sha256d");
    let messages = cases.iter().filter(|case| case["kind"] == "sha256d");
    let headers = cases.iter().filter(|case| case["kind"] == "block_header");
    let (mut lines, mut expected) = (String::new(), String::new());
    for (input, digest) in messages
        .map(|case| (case["message"].as_str().unwrap(), case["sha256d"].as_str().unwrap()))
        .chain(headers.map(|case| (case["header"].as_str().unwrap(), case["hash_raw"].as_str().unwrap())))
    {
        lines += &format!("{input}\n");
        expected += &format!("{digest}\n");
    }
    assert_eq!(stdout(run_with_input(&["hash", "sha256d", "-"], &lines)), expected);
    let genesis = stdout(run(&["hash", "sha256d", GENESIS]));
    assert_eq!(genesis, "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000\n");
    let upper = stdout(run(&["hash", "sha256d", &GENESIS.to_uppercase()]));
    assert_eq!(upper, genesis);
}

#[test]
fn scrypt_digests_are_the_published_ones_whatever_the_parameters() {
    for case in vectors("scrypt").iter().filter(|case| case["kind"] == "scrypt_kdf" && case["dklen"] == 32) {
        let number = |name: &str| case[name].to_string();
        if case["N"].as_u64().unwrap() * case["r"].as_u64().unwrap() > 1 << 17 {
            continue; // 16 MiB and more: the library's own tests have them
        }
        let text = |name: &str| case[name].as_str().unwrap();
        let arguments = [
            "hash",
            "scrypt",
            "--n",
            &number("N"),
            "--r",
            &number("r"),
            "--p",
            &number("p"),
            "--salt",
            text("salt"),
            text("password"),
        ];
        assert_eq!(stdout(run(&arguments)).trim(), text("output"), "{}", case["id"]);
    }
    let (mut lines, mut expected) = (String::new(), String::new());
    for case in vectors("scrypt").iter().filter(|case| case["kind"] == "block_header") {
        lines += &format!("{}\r\n", case["header"].as_str().unwrap());
        expected += &format!("{}\n", case["pow_hash_raw"].as_str().unwrap());
    }
    assert_eq!(stdout(run_with_input(&["hash", "scrypt", "-"], &lines)), expected);
}

#[test]
fn hash_as_json_gives_algorithm_input_and_digest() {
    let object = json(run(&["hash", "sha256d", "00ff", "--json"]));
    assert_eq!(fields(&object), ["algorithm", "input", "digest"]);
    assert_eq!((object["algorithm"].as_str(), object["input"].as_str()), (Some("sha256d"), Some("00ff")));
    assert_eq!(object["digest"].as_str().unwrap().len(), 64);
}

#[test]
fn scan_finds_the_genesis_nonce_on_every_kernel() {
    let devices = json(run(&["devices", "--json"]));
    let kernels = devices["devices"][0]["kernels"].as_array().unwrap().clone();
    let mut ran = 0;
    for kernel in kernels.iter().map(|name| name.as_str().unwrap()).filter(|name| name.starts_with("sha256d"))
    {
        let range = ["--start", "2083236000", "--count", "2000", "--kernel", kernel, "--json"];
        let found = json(run(&[&["scan", "sha256d", GENESIS, "--difficulty", "1"][..], &range].concat()));
        assert_eq!(fields(&found), ["nonce", "version", "digest"], "{kernel}");
        assert_eq!((found["nonce"].as_u64(), found["version"].as_u64()), (Some(2_083_236_893), Some(1)));
        assert!(found["digest"].as_str().unwrap().ends_with("d6190000000000"), "{kernel}");
        ran += 1;
    }
    assert!(ran > 0, "devices lists no sha256d kernel");
}

#[test]
fn scan_finds_blocks_whose_version_was_rolled() {
    let rolled: Vec<_> = vectors("sha256d")
        .into_iter()
        .filter(|case| case["kind"] == "block_header" && case["version_rolled"] == true)
        .collect();
    assert!(!rolled.is_empty());
    for case in rolled.iter().take(3) {
        let nonce = case["nonce"].as_u64().unwrap();
        let version = case["version"].as_u64().unwrap() as u32;
        // Only the three lowest bits in which the version may differ, so that the search is short.
        let base = version ^ 0x0000_a000;
        let header = format!("{}{}", hex::encode(base.to_le_bytes()), &case["header"].as_str().unwrap()[8..]);
        let (start, target) = (nonce.saturating_sub(100).to_string(), case["target"].as_str().unwrap());
        let arguments = ["--target", target, "--start", &start, "--count", "200", "--version-mask", "e000"];
        let line = stdout(run(&[&["scan", "sha256d", &header][..], &arguments].concat()));
        assert!(line.starts_with(&format!("nonce {nonce}  version {version:#010x}  digest ")), "{line}");
        assert_eq!(line.lines().count(), 1);
    }
}

#[test]
fn scan_prints_every_find_once() {
    let case = vectors("sha256d").into_iter().find(|case| case["kind"] == "nonce_scan").unwrap();
    let header = format!("{}00000000", case["header76"].as_str().unwrap());
    let (start, count) = (case["nonce_start"].to_string(), case["nonce_count"].to_string());
    let target = case["target"].as_str().unwrap();
    let output = run(&[
        "scan", "sha256d", &header, "--target", target, "--start", &start, "--count", &count, "--json",
    ]);
    let mut found: Vec<u64> = stdout(output)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["nonce"].as_u64().unwrap())
        .collect();
    found.sort_unstable();
    let solutions = case["solutions"].as_array().unwrap();
    assert_eq!(found, solutions.iter().map(|s| s["nonce"].as_u64().unwrap()).collect::<Vec<_>>());
}

#[test]
fn bench_as_json_describes_the_machine_and_verifies_its_results() {
    let report = json(run(&["bench", "--seconds", "0.2", "--threads", "1", "--json"]));
    assert_eq!(fields(&report), ["machine", "results"]);
    for field in ["cpu", "isa", "pages", "nodes"] {
        assert!(!report["machine"][field].is_null(), "machine.{field}");
    }
    let results = report["results"].as_array().unwrap();
    let algorithms: Vec<_> = results.iter().map(|result| result["algorithm"].as_str().unwrap()).collect();
    assert_eq!(algorithms, ["sha256d", "scrypt"]);
    for result in results {
        for field in ["kernel", "device", "threads", "seconds", "hashes", "hashes_per_second"] {
            assert!(!result[field].is_null(), "results.{field}");
        }
        assert_eq!(result["verified"], true, "{result}");
        let rate = result["hashes"].as_f64().unwrap() / result["seconds"].as_f64().unwrap();
        assert!((rate / result["hashes_per_second"].as_f64().unwrap() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn selftest_counts_what_ran_and_says_what_is_absent() {
    let report = json(run(&["selftest", "--json", "--isa", "none"]));
    assert_eq!(report["failed"], 0);
    assert_eq!(report["passed"], 2, "the two oracles run anywhere");
    for result in report["results"].as_array().unwrap() {
        assert_eq!(result["result"] == "skipped", result["reason"].is_string(), "{result}");
    }
    assert!(stdout(run(&["selftest"])).contains("sha256d-portable"));
}

#[test]
fn every_command_explains_itself_with_an_example() {
    for command in [
        &["bench"][..],
        &["hash"],
        &["hash", "sha256d"],
        &["hash", "scrypt"],
        &["scan"],
        &["devices"],
        &["selftest"],
    ] {
        let help = stdout(run(&[command, &["--help"]].concat()));
        assert!(help.contains("Example") && help.contains("otedama-cli"), "{command:?}");
    }
}

#[test]
fn bad_usage_is_one_line_that_names_the_value_and_exit_code_2() {
    let header = "00".repeat(80);
    let scan = |rest: &[&str]| {
        [&["scan", "sha256d", &header][..], rest].concat().iter().map(|s| s.to_string()).collect::<Vec<_>>()
    };
    let plain = |arguments: &[&str]| arguments.iter().map(|s| s.to_string()).collect::<Vec<_>>();
    let overlong = "f".repeat(65);
    let cases: Vec<(Vec<String>, &[&str])> = vec![
        (plain(&["hash", "sha256d", "abc"]), &["'abc'", "3 digits", "even"]),
        (plain(&["hash", "sha256d", "0x"]), &["'0x'", "'x'", "hex"]),
        (plain(&["hash", "sha256d", "é"]), &["'é'", "hex"]),
        (plain(&["hash", "scrypt", "--n", "1000", "00"]), &["1000", "power of two"]),
        (plain(&["hash", "scrypt", "--n", "0", "00"]), &["N is 0", "power of two"]),
        (plain(&["hash", "scrypt", "--r", "0", "00"]), &["r is 0", "at least 1"]),
        (plain(&["hash", "sha256d", "00", "--kernel", "foo"]), &["'foo'", "sha256d-portable"]),
        (plain(&["scan", "sha256d", "00", "--target", "ff"]), &["1 bytes", "expected 80"]),
        (plain(&["scan", "sha256d", "0", "--target", "ff"]), &["1 digits", "160"]),
        (plain(&["scan", "ethash", &header, "--target", "ff"]), &["ethash", "no kernel"]),
        (scan(&["--target", "0"]), &["zero", "1 to 2^256"]),
        (scan(&["--target", &overlong]), &["65", "at most 64"]),
        (scan(&["--target", "xyz"]), &["'xyz'", "hex"]),
        (scan(&["--difficulty", "nan"]), &["'nan'", "positive"]),
        (scan(&["--difficulty", "0"]), &["'0'", "positive"]),
        (scan(&[]), &["--target", "--difficulty"]),
        (scan(&["--difficulty", "1", "--target", "ff"]), &["--target", "--difficulty"]),
        (
            scan(&["--difficulty", "1", "--start", "4294967290", "--count", "10"]),
            &["4294967290 + 10", "4294967296"],
        ),
        (
            scan(&["--difficulty", "1", "--start", "18446744073709551615", "--count", "2"]),
            &["18446744073709551615 + 2"],
        ),
        (scan(&["--difficulty", "1", "--count", "0"]), &["empty", "at least 1"]),
        (scan(&["--difficulty", "1", "--version-mask", "0"]), &["zero", "1fffe000"]),
        (scan(&["--difficulty", "1", "--threads", "0"]), &["'0'", "1..=4096"]),
        (scan(&["--difficulty", "1", "--cpus", "4000"]), &["4000", "expected one of"]),
        (plain(&["bench", "--threads", "0"]), &["'0'", "1..=4096"]),
        (plain(&["bench", "--seconds", "0"]), &["'0'", "0.05"]),
        (plain(&["bench", "sha256", "--seconds", "1"]), &["'sha256'", "sha256d, scrypt"]),
        (plain(&["bench", "ethash"]), &["ethash", "no kernel"]),
        (plain(&["bench", "sha256d", "--kernel", "foo"]), &["'foo'", "sha256d-portable"]),
        (plain(&["bench", "sha256d", "--isa", "none", "--kernel", "avx2"]), &["sha256d-avx2", "--isa"]),
        (plain(&["bench", "--isa", "avx3"]), &["'avx3'", "sha-ni, aes-ni, avx2, avx512"]),
        (plain(&["bench", "--device", "cuda:0"]), &["'cuda:0'", "cpu"]),
        (plain(&["bench", "--cpus", "4000"]), &["4000", "expected one of"]),
        (plain(&["frobnicate"]), &["'frobnicate'"]),
    ];
    for (arguments, expected) in cases {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = run(&arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        assert!(output.stdout.is_empty(), "{arguments:?} printed something");
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
        for word in expected {
            assert!(error.contains(word), "{arguments:?}: '{word}' is not in: {error}");
        }
    }
}

#[test]
fn a_bad_line_of_standard_input_is_named_and_nothing_is_half_done() {
    let output = run_with_input(&["hash", "sha256d", "-"], "00\nzz\n11\n");
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("line 2: input 'zz'"));
}

#[test]
fn memory_that_cannot_be_had_is_a_failure_of_the_work() {
    let output = run(&["hash", "scrypt", "--n", "2147483648", "00"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_scan_ends_promptly_and_says_so() {
    let child =
        command(&["scan", "sha256d", &"00".repeat(80), "--target", "1", "--threads", "1"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    let asked = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5), "took {:?}", asked.elapsed());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("interrupted"));
}
