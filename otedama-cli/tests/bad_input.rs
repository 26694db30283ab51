//! Everything a caller can get wrong: exit code 2, nothing on standard output, and one line that names
//! the value and what was expected instead.

mod common;

use common::*;

fn header() -> String {
    "00".repeat(80)
}

/// A scan of a good header with these arguments besides.
fn refused_scan(args: &[&str], words: &[&str]) {
    refused(&[&["scan", "sha256d", &header()], args].concat(), words);
}

#[test]
fn input_to_hash_must_be_hex_of_even_length() {
    refused(&["hash", "sha256d", "00f"], &["'00f'", "3 digits", "expected an even number"]);
    refused(&["hash", "sha256d", "00zz"], &["'00zz'", "'z'", "position 3", "expected hex digits"]);
    refused(&["hash", "sha256d", "0x00"], &["'x'", "expected hex digits"]);
    refused(&["hash", "sha256d", "00é0"], &["expected"]);
    refused(&["hash", "scrypt", "0"], &["'0'", "expected an even number"]);
    refused(&["hash", "scrypt", "--salt", "0", "00"], &["'0'", "expected an even number"]);
    // A long input is named by its beginning.
    refused(&["hash", "sha256d", &"0".repeat(5001)], &["'0000", "...'", "5001 digits"]);
}

#[test]
fn a_bad_line_is_named_by_its_number_and_keeps_the_others_from_being_hashed() {
    refused_with(&["hash", "sha256d", "-"], "00\n\n0g\n", &["line 3", "'0g'", "expected hex digits"]);
    refused_with(&["hash", "sha256d", "-", "--json"], "00\n0", &["line 2", "expected an even number"]);
    let long = "0".repeat((2 << 20) + 5000);
    refused_with(&["hash", "sha256d", "-"], &long, &["line 1", "longer", "expected at most 1048576"]);
}

#[test]
fn scrypt_parameters_must_be_possible() {
    refused(&["hash", "scrypt", "--n", "1000", "00"], &["N is 1000", "expected a power of two"]);
    refused(&["hash", "scrypt", "--n", "0", "00"], &["N is 0", "expected a power of two"]);
    refused(&["hash", "scrypt", "--n", "1", "00"], &["N is 1", "expected a power of two"]);
    refused(&["hash", "scrypt", "--r", "0", "00"], &["r is 0", "expected at least 1"]);
    refused(&["hash", "scrypt", "--p", "0", "00"], &["p is 0", "expected at least 1"]);
    refused(&["hash", "scrypt", "--n", "many", "00"], &["'many'", "--n"]);
    refused(&["hash", "scrypt", "--r", "9999", "--p", "999999", "00"], &["9999 * 999999", "expected less"]);
    refused(&["hash", "scrypt", "--n", "2147483648", "--r", "9", "00"], &["expected at most"]);
    // What the kernels cannot do is not done by something else under their name.
    refused(&["hash", "scrypt", "--kernel", "portable", "--n", "16", "00"], &["'portable'", "N 1024"]);
    refused(&["hash", "scrypt", "--kernel", "portable", "00"], &["1 bytes", "expected 80"]);
}

#[test]
fn headers_must_be_80_bytes_of_hex() {
    for algorithm in ["sha256d", "scrypt"] {
        let scan = |header: &str, words: &[&str]| {
            refused(&["scan", algorithm, header, "--difficulty", "1"], words);
        };
        scan(&header()[1..], &["159 digits", "expected 160"]);
        scan(&header()[2..], &["79 bytes", "expected 80"]);
        scan(&format!("{}00", header()), &["81 bytes", "expected 80"]);
        scan("", &["0 bytes", "expected 80"]);
        scan(&header().replacen("00", "0g", 1), &["'g'", "expected 160 hex digits"]);
    }
}

#[test]
fn targets_and_difficulties_must_be_positive_and_fit() {
    refused_scan(&["--target", "0"], &["'0'", "target is zero", "expected a number from 1"]);
    refused_scan(&["--target", &"0".repeat(64)], &["target is zero", "expected"]);
    refused_scan(&["--target", &"f".repeat(65)], &["65 hex digits", "expected at most 64"]);
    refused_scan(&["--target", "xyz"], &["'xyz'", "expected 1 to 64 hex digits"]);
    refused_scan(&["--target", ""], &["--target"]);
    for bad in ["NaN", "inf", "0", "-1", "ten"] {
        refused_scan(&[&format!("--difficulty={bad}")], &[bad, "expected a positive, finite number"]);
    }
    refused_scan(&[], &["--target"]);
    refused_scan(&["--target", "ff", "--difficulty", "1"], &["--target", "--difficulty"]);
}

#[test]
fn ranges_must_not_be_empty_or_wrap() {
    let scan = |args: &[&str], words: &[&str]| refused_scan(&[&["--difficulty", "1"], args].concat(), words);
    scan(
        &["--start", "4294967295", "--count", "2"],
        &["4294967295 + 2", "expected it to end at or before 4294967296"],
    );
    scan(&["--start", "4294967296"], &["4294967296", "expected it to end at or before 4294967296"]);
    scan(&["--start", "18446744073709551615", "--count", "2"], &["18446744073709551615 + 2", "expected"]);
    scan(&["--count", "4294967297"], &["0 + 4294967297", "expected"]);
    scan(&["--count", "0"], &["empty", "expected a count of at least 1"]);
    scan(&["--start", "-1"], &["-1"]);
    scan(&["--start", "18446744073709551616"], &["18446744073709551616", "--start"]);
}

#[test]
fn version_masks_must_have_bits_and_fit() {
    let scan = |mask: &str, words: &[&str]| {
        refused_scan(&["--difficulty", "1", "--version-mask", mask], words);
    };
    scan("0", &["'0'", "expected at least one bit"]);
    scan("00000000", &["expected at least one bit"]);
    scan("1fffe0000", &["'1fffe0000'", "expected 1 to 8 hex digits"]);
    scan("+1", &["'+1'", "expected 1 to 8 hex digits"]);
    scan("", &["--version-mask"]);
}

#[test]
fn threads_and_cpus_must_exist() {
    for command in [&["bench"][..], &["scan", "sha256d", &header(), "--difficulty", "1"]] {
        let refused = |args: &[&str], words: &[&str]| refused(&[command, args].concat(), words);
        refused(&["--threads", "0"], &["'0'", "--threads", "1..=4096"]);
        refused(&["--threads", "4097"], &["'4097'", "1..=4096"]);
        refused(&["--threads", "two"], &["'two'", "--threads"]);
        refused(&["--cpus", "99999"], &["CPU 99999", "expected one of 0"]);
        refused(&["--cpus", "0,99999"], &["CPU 99999", "expected one of 0"]);
        refused(&["--cpus", "a"], &["'a'", "--cpus"]);
        refused(&["--cpus", "0", "--threads", "1"], &["--cpus", "--threads"]);
    }
    refused(&["bench", "--seconds", "0"], &["'0'", "expected a number of seconds"]);
    refused(&["bench", "--seconds", "NaN"], &["'NaN'", "expected a number of seconds"]);
}

#[test]
fn devices_must_be_there_and_options_must_fit_them() {
    let header = header();
    let scan = ["scan", "sha256d", &header, "--difficulty", "1"];
    for command in [&["bench", "sha256d"][..], &scan, &["selftest", "sha256d"]] {
        let refused = |list: &str, words: &[&str]| {
            refused(&[command, &["--device", list]].concat(), words);
        };
        for bad in ["gpu", "cuda", "cuda:-1", "opencl:0", "cpu,gpu"] {
            let name = bad.rsplit(',').next().unwrap();
            refused(bad, &[&format!("'{name}'"), "expected", "cuda:0", "opencl:all"]);
        }
        for absent in ["cuda:99", "opencl:99.0", "cpu,opencl:0.99"] {
            let name = absent.rsplit(',').next().unwrap();
            refused(absent, &[&format!("no device {name} here: there ")]);
        }
    }
    for command in [&["bench", "sha256d"][..], &scan] {
        let refused = |args: &[&str], words: &[&str]| refused(&[command, args].concat(), words);
        refused(&["--intensity", "26"], &["'26'", "--intensity", "1..=25"]);
        refused(&["--intensity", "0"], &["'0'", "1..=25"]);
        refused(&["--intensity", "20"], &["--intensity 20 is for GPUs", "--device"]);
        if let Some(device) = any_gpu() {
            let both = ["--device", &device, "--kernel", "portable"];
            refused(&both, &["--kernel portable is for the CPU", &device, "leave one of the two out"]);
        }
    }
}

// Only x86 has kernels that a CPU can lack.
#[cfg(target_arch = "x86_64")]
#[test]
fn kernels_must_exist_and_be_runnable() {
    for (algorithm, lacking, isa) in
        [("sha256d", "avx2", "avx2"), ("sha256d", "sha-ni", "sha-ni"), ("scrypt", "avx512-x8", "avx512")]
    {
        let full = format!("{algorithm}-{lacking}");
        let header = header();
        let scan = ["scan", algorithm, &header, "--difficulty", "1"];
        for command in [&["bench", algorithm][..], &scan, &["hash", algorithm, &header]] {
            let kernel = |name| [command, &["--isa", "none", "--kernel", name]].concat();
            refused(&kernel("abacus"), &["'abacus'", "expected", &format!("{algorithm}-portable")]);
            for name in [lacking, full.as_str()] {
                let oracle = format!("expected one of {algorithm}-portable");
                refused(&kernel(name), &[&full, &format!("needs {isa}"), &oracle]);
            }
        }
    }
    refused(&["bench", "--isa", "avx1024"], &["'avx1024'", "expected one of sha-ni, aes-ni, avx2, avx512"]);
    refused(&["bench", "--pages", "giant"], &["'giant'", "huge"]);
}

#[test]
fn algorithms_must_be_known() {
    for command in [&["bench"][..], &["scan"]] {
        refused(&[command, &["sha257d"]].concat(), &["'sha257d'", "expected one of sha256d, scrypt"]);
    }
    refused(&["hash", "sha257d", "00"], &["'sha257d'"]);
}

#[test]
fn commands_and_arguments_must_be_known_and_complete() {
    refused(&["dig"], &["'dig'"]);
    refused(&["devices", "--fast"], &["'--fast'"]);
    refused(&["scan", "sha256d", "--difficulty", "1"], &["HEADER_HEX"]);
    refused(&["hash", "sha256d"], &["HEX"]);
    refused(&["hash", "sha256d", "00", "01"], &["'01'"]);
}

#[test]
fn nothing_asked_for_is_answered_with_the_page_that_says_what_may_be() {
    let answer = run(&[]);
    assert_eq!((answer.code, answer.stdout.as_str()), (2, ""));
    assert!(answer.stderr.contains("Usage:") && answer.stderr.contains("bench"), "{}", answer.stderr);
}

#[test]
fn more_memory_than_there_is_fails_in_one_line() {
    // 256 GiB. Where the machine would promise them, nothing is tried.
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let promised = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    let total = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    if promised.trim() == "1" || total.is_none_or(|kib| kib >> 20 > 100) {
        use std::io::Write;
        writeln!(std::io::stderr(), "SKIPPED: memory: this machine promises more than it should").unwrap();
        return;
    }
    let answer = run(&["hash", "scrypt", "--n", "2147483648", "00"]);
    assert_eq!((answer.code, answer.stdout.as_str()), (1, ""), "{}", answer.stderr);
    assert_eq!(
        answer.stderr,
        "otedama-cli: scrypt needs 274877906944 bytes at once: this machine does not give as many; expected a smaller N, r or p\n"
    );
}

#[test]
fn what_a_miner_is_asked_for_must_be_possible() {
    let at = ["mine", "--algorithm", "sha256d", "--user", "me", "--url"];
    let mine = |url: &str, words: &[&str]| refused(&[&at[..], &[url]].concat(), words);
    mine("127.0.0.1:3333", &["'127.0.0.1:3333'", "expected stratum+tcp://host:port"]);
    mine("http://pool.example:3333", &["'http://pool.example:3333'", "expected stratum+tcp://host:port"]);
    mine("stratum+tcp://pool.example", &["has no port"]);
    mine("stratum+tcp://me@pool.example:3333", &["names a user"]);
    refused(&["mine"], &["no algorithm", "--algorithm"]);
    refused(&["mine", "--algorithm", "sha256d"], &["no pool", "--url"]);
    refused(&["mine", "--algorithm", "sha256", "--user", "x"], &["'sha256'", "expected one of"]);
    refused(&["mine", "--algorithm", "sha256d", "--url", "stratum+tcp://h:1"], &["--user"]);
    refused(&["mine", "--config", "/no/such/file"], &["/no/such/file", "cannot be read"]);
}

#[test]
fn what_a_pool_is_asked_for_must_be_possible() {
    refused(&["serve"], &["--dev"]);
    refused(&["serve", "--dev", "sha256"], &["'sha256'", "expected one of"]);
    refused(&["serve", "--dev", "randomx-v3"], &["'randomx-v3'", "randomx-v2"]);
    refused(&["serve", "--dev", "sha256d", "--listen", "here"], &["'here'"]);
    refused(&["serve", "--dev", "sha256d", "--block-hashes", "0"], &["'0'", "1.."]);
}

#[test]
fn a_configuration_is_refused_with_the_place_of_what_is_wrong() {
    let path = std::env::temp_dir().join(format!("otedama-bad-config-{}.yaml", std::process::id()));
    std::fs::write(&path, "pool:\n  fee_percent: 1\n").unwrap();
    let file = path.to_str().unwrap();
    refused(&["config", "check", file], &[":2:3:", "'fee_percent'", "did you mean 'fee_percentage'?"]);
    std::fs::write(&path, "pool:\n  fee_percentage: 1\n").unwrap();
    refused(&["config", "check", file, "--set", "pool"], &["--set pool", "expected KEY=VALUE"]);
    refused(&["config", "check", file, "--set", "pool.fee_percentage=200"], &["--set", "'200'", "0 to 100"]);
    // What a coin cannot be served with is no surprise at the start.
    let address = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    let check = |coin: &str, expected: &[&str]| {
        let nodes = "[{url: 'http://127.0.0.1:8545'}]";
        std::fs::write(&path, format!("coins:\n  - {{nodes: {nodes}, {coin}}}\n")).unwrap();
        refused(&["config", "check", file], expected);
    };
    check("coin: doge, address: x", &["unknown coin 'doge'", "expected"]);
    check(
        &format!("coin: ethereum-classic, address: '{address}', wallet: {{url: 'http://h'}}"),
        &["`wallet`", "http://h"],
    );
    std::fs::remove_file(&path).unwrap();
}
