//! What the commands print and how they end: known answers, promised fields, signals.

mod common;

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::*;
use serde_json::Value;

const GENESIS: &str = "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d00000000";
const GENESIS_RAW: &str = "6fe28c0ab6f1b372c1a6a246ae63f74f931e8365e15a089c68d6190000000000";

#[test]
fn sha256d_digests_are_the_known_ones_one_by_one_and_in_a_batch() {
    let cases: Vec<Value> = cases("sha256d", "sha256d");
    assert!(cases.len() > 20);
    for case in cases.iter().take(5) {
        let answer = run(&["hash", "sha256d", text(case, "message")]).ok();
        assert_eq!(answer, format!("{}\n", text(case, "sha256d")), "{}", case["id"]);
    }
    let inputs: String = cases.iter().map(|case| format!("{}\n", text(case, "message"))).collect();
    let digests: String = cases.iter().map(|case| format!("{}\n", text(case, "sha256d"))).collect();
    assert_eq!(run_with(&["hash", "sha256d", "-"], &inputs).ok(), digests);
    for kernel in usable_kernels("sha256d") {
        assert_eq!(
            run_with(&["hash", "sha256d", "--kernel", &kernel, "-"], &inputs).ok(),
            digests,
            "{kernel}"
        );
    }
}

#[test]
fn scrypt_digests_are_the_known_ones_whatever_the_parameters() {
    let (mut inputs, mut digests, mut others) = (String::new(), String::new(), 0);
    for case in cases("scrypt", "scrypt_kdf") {
        let (n, r, p) = (number(&case, "N"), number(&case, "r"), number(&case, "p"));
        if number(&case, "dklen") != 32 || case["password"] != case["salt"] || n > 8192 {
            continue;
        }
        let (input, digest) = (text(&case, "password"), text(&case, "output"));
        if (n, r, p) == (1024, 1, 1) {
            inputs += &format!("{input}\n");
            digests += &format!("{digest}\n");
        } else {
            let [n, r, p] = [n, r, p].map(|number| number.to_string());
            let answer = run(&["hash", "scrypt", "--n", &n, "--r", &r, "--p", &p, input]).ok();
            assert_eq!(answer, format!("{digest}\n"), "{}", case["id"]);
            others += 1;
        }
    }
    assert!(digests.lines().count() > 10 && others > 3);
    // Headers and other lengths mixed, then headers alone, which go through the kernels.
    assert_eq!(run_with(&["hash", "scrypt", "-"], &inputs).ok(), digests);
    let headers = |lines: &str| -> String {
        let pairs = inputs.lines().zip(lines.lines());
        pairs.filter(|(input, _)| input.len() == 160).map(|(_, line)| format!("{line}\n")).collect()
    };
    for kernel in usable_kernels("scrypt") {
        let answer = run_with(&["hash", "scrypt", "--kernel", &kernel, "-"], &headers(&inputs)).ok();
        assert_eq!(answer, headers(&digests), "{kernel}");
    }
}

#[test]
fn another_salt_than_the_input_is_used() {
    let found = cases("scrypt", "scrypt_kdf").into_iter().find(|case| {
        number(case, "dklen") == 32 && case["password"] != case["salt"] && number(case, "N") == 16
    });
    let case = found.unwrap();
    let [n, r, p] = ["N", "r", "p"].map(|name| number(&case, name).to_string());
    let salt = text(&case, "salt");
    let answer =
        run(&["hash", "scrypt", "--n", &n, "--r", &r, "--p", &p, "--salt", salt, text(&case, "password")])
            .ok();
    assert_eq!(answer, format!("{}\n", text(&case, "output")));
}

#[test]
fn lines_may_end_like_windows_lines_be_empty_or_have_no_end() {
    let empty = "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456";
    let one = run(&["hash", "sha256d", "00ff"]).ok();
    let one = one.trim();
    // An empty line is the empty input: as many lines come out as went in.
    let answer = run_with(&["hash", "sha256d", "-"], "00ff\r\n\n  00FF \n\r\n00ff").ok();
    assert_eq!(answer.lines().collect::<Vec<_>>(), [one, empty, one, empty, one]);
    assert_eq!(run_with(&["hash", "sha256d", "-"], "").ok(), "");
    assert_eq!(run(&["hash", "sha256d", ""]).ok().trim(), empty);
    // More lines than one batch has.
    let many = "00ff\n".repeat(5000);
    assert_eq!(run_with(&["hash", "sha256d", "-"], &many).ok(), format!("{one}\n").repeat(5000));
}

#[test]
fn json_digests_have_exactly_the_promised_fields() {
    let one = run(&["hash", "sha256d", "--json", "00ff"]).json_lines();
    assert_eq!(fields(&one[0]), ["algorithm", "digest", "input"]);
    assert_eq!((text(&one[0], "algorithm"), text(&one[0], "input")), ("sha256d", "00ff"));
    let lines = run_with(&["hash", "scrypt", "--json", "-"], "00\r\n\n01\n").json_lines();
    let inputs: Vec<_> = lines.iter().map(|line| text(line, "input")).collect();
    assert_eq!(inputs, ["00", "", "01"]);
    assert!(lines.iter().all(|line| text(line, "algorithm") == "scrypt" && text(line, "digest").len() == 64));
}

#[test]
fn scan_finds_the_genesis_nonce() {
    let args =
        ["scan", "sha256d", GENESIS, "--difficulty", "1", "--start", "2083200000", "--count", "100000"];
    let answer = run(&args).ok();
    assert_eq!(answer, format!("nonce 2083236893  version 0x00000001  digest {GENESIS_RAW}\n"));

    let [find] = run(&[&args[..], &["--json"]].concat()).json_lines().try_into().unwrap();
    assert_eq!(fields(&find), ["digest", "nonce", "version"]);
    assert_eq!((number(&find, "nonce"), number(&find, "version")), (2_083_236_893, 1));
    assert_eq!(text(&find, "digest"), GENESIS_RAW);

    // Nothing to find is no failure.
    assert_eq!(run(&[&args[..8], &["2000"]].concat()).ok(), "");
}

#[test]
fn scan_finds_blocks_whose_version_was_rolled() {
    let mut rolled = 0;
    for case in cases("sha256d", "block_header") {
        if case["version_rolled"] != true {
            continue;
        }
        // The header as a pool would give it: the rolled bits at rest.
        let (version, nonce) = (number(&case, "version"), number(&case, "nonce"));
        let base = (version & !0x1fff_e000) as u32;
        let header = format!("{}{}", hex::encode(base.to_le_bytes()), &text(&case, "header")[8..]);
        let start = (nonce - 1).to_string();
        let args =
            ["scan", "sha256d", &header, "--target", text(&case, "target"), "--version-mask", "1fffe000"];
        let [find] = run(&[&args[..], &["--start", &start, "--count", "3", "--json"]].concat())
            .json_lines()
            .try_into()
            .unwrap();
        assert_eq!((number(&find, "nonce"), number(&find, "version")), (nonce, version), "{}", case["id"]);
        assert_eq!(text(&find, "digest"), text(&case, "hash_raw"));
        rolled += 1;
    }
    assert!(rolled > 0, "the vectors hold no rolled block");
}

#[test]
fn scan_finds_every_solution_with_every_kernel() {
    for algorithm in ["sha256d", "scrypt"] {
        let case = &cases(algorithm, "nonce_scan")[0];
        let header = format!("{}00000000", text(case, "header76"));
        let [start, count] = ["nonce_start", "nonce_count"].map(|name| number(case, name).to_string());
        let expected: Vec<_> =
            case["solutions"].as_array().unwrap().iter().map(|found| number(found, "nonce")).collect();
        for kernel in usable_kernels(algorithm) {
            let args = ["scan", algorithm, &header, "--target", text(case, "target"), "--start", &start];
            let finds = run(&[&args[..], &["--count", &count, "--kernel", &kernel, "--json"]].concat());
            let mut nonces: Vec<_> = finds.json_lines().iter().map(|find| number(find, "nonce")).collect();
            nonces.sort_unstable();
            assert_eq!(nonces, expected, "{kernel}");
        }
    }
}

#[test]
fn scan_can_stop_at_the_first_find() {
    let target = "ff".repeat(32);
    let answer = run(&["scan", "sha256d", GENESIS, "--target", &target, "--first"]).ok();
    assert_eq!(answer.lines().count(), 1);
}

#[test]
fn bench_gives_the_machine_and_every_promised_figure() {
    let answer =
        run(&["bench", "sha256d", "scrypt", "--seconds", "0.2", "--threads", "1", "--json"]).json_lines();
    let [answer] = answer.try_into().unwrap();
    assert_eq!(fields(&answer), ["epochs", "machine", "results"]);
    for name in ["cpu", "isa", "nodes", "pages", "cores"] {
        assert!(!answer["machine"][name].is_null(), "machine has no {name}");
    }
    let results = answer["results"].as_array().unwrap();
    let algorithms: Vec<_> = results.iter().map(|result| text(result, "algorithm")).collect();
    assert_eq!(algorithms, ["sha256d", "scrypt"]);
    for result in results {
        assert_eq!((text(result, "device"), number(result, "threads")), ("cpu", 1));
        assert!(usable_kernels(text(result, "algorithm")).contains(&text(result, "kernel").to_owned()));
        assert!(result["seconds"].as_f64().unwrap() >= 0.2);
        assert!(number(result, "hashes") > 0);
        let rate = number(result, "hashes") as f64 / result["seconds"].as_f64().unwrap();
        assert!((result["hashes_per_second"].as_f64().unwrap() / rate - 1.0).abs() < 1e-9);
        assert_eq!(result["verified"], true, "{result}");
    }
    let table = run(&["bench", "sha256d", "--seconds", "0.05", "--kernel", "portable"]).ok();
    for word in ["CPU", "ISA", "Pages", "sha256d-portable", "H/s", "spread", "J/hash", "yes"] {
        assert!(table.contains(word), "no {word} in\n{table}");
    }
}

#[test]
fn a_device_is_listed_measured_and_tested_like_the_cpu() {
    // Without any driver the CPU is what there is, and that is said once.
    let answer = run(&["bench", "sha256d", "--seconds", "0.05", "--device", "all", "--json"]);
    let results = answer.json_lines()[0]["results"].as_array().unwrap().clone();
    assert_eq!((answer.code, text(&results[0], "device")), (0, "cpu"), "{}", answer.stderr);
    assert_eq!(answer.stderr.lines().count(), usize::from(results.len() == 1), "{}", answer.stderr);

    let Some(id) = any_gpu() else { return };
    let devices = &run(&["devices", "--json"]).json_lines()[0];
    let device = &devices["devices"][1];
    assert!(!text(device, "name").is_empty() && number(device, "memory_bytes") > 0, "{device}");
    assert!(run(&["devices"]).ok().contains(&format!("Device {id}: {}", text(device, "name"))));

    let bench = ["bench", "sha256d", "--seconds", "0.3", "--device", &id];
    for intensity in [&[][..], &["--intensity", "12"]] {
        let answer = run(&[&bench[..], intensity, &["--json"]].concat()).json_lines();
        let [result] = answer[0]["results"].as_array().unwrap().as_slice() else { panic!("{answer:?}") };
        assert_eq!((text(result, "device"), text(result, "kernel")), (id.as_str(), "sha256d-gpu"));
        assert_eq!((&result["device_name"], number(result, "threads")), (&device["name"], 1));
        assert_eq!((&result["verified"], &result["joules_per_hash"]), (&Value::Bool(true), &Value::Null));
        assert!(number(result, "hashes") > 0);
    }
    let table = run(&bench).ok();
    assert!(table.contains(&format!("Device {id}: ")) && table.contains("sha256d-gpu"), "{table}");

    let list = format!("cpu,{id}");
    let tests = &run(&["selftest", "sha256d", "scrypt", "--device", &list, "--json"]).json_lines()[0];
    assert_eq!(number(tests, "failed"), 0, "{tests}");
    let on_device = tests["results"].as_array().unwrap().iter().filter(|row| text(row, "device") == id);
    let on_device: Vec<_> = on_device.map(|row| (text(row, "kernel"), text(row, "result"))).collect();
    assert_eq!(on_device, [("sha256d-gpu", "passed"), ("scrypt-gpu", "passed")]);
    // A CPU behind OpenCL is spared whole datasets, and that is counted.
    if device["is_cpu"] == true {
        let spared = &run(&["selftest", "ethash", "--device", &id, "--json"]).json_lines()[0];
        assert_eq!((number(spared, "passed"), number(spared, "skipped")), (0, 1), "{spared}");
        assert!(text(&spared["results"][0], "reason").contains("whole dataset"), "{spared}");
    }
}

// Only x86 has kernels that a CPU can lack.
#[cfg(target_arch = "x86_64")]
#[test]
fn bench_says_which_kernels_it_leaves_out() {
    let answer =
        run(&["bench", "sha256d", "--kernel", "all", "--isa", "none", "--seconds", "0.05", "--json"]);
    assert_eq!(answer.code, 0);
    let lines: Vec<_> = answer.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with("skipped sha256d-")), "{lines:?}");
    assert_eq!(answer.json_lines()[0]["results"].as_array().unwrap().len(), 1);
}

#[test]
fn devices_and_selftest_tell_people_and_programs_the_same() {
    let devices = run(&["devices", "--json"]).json_lines();
    assert_eq!(fields(&devices[0]), ["absent", "devices", "machine"]);
    let page = run(&["devices"]).ok();
    for kernel in usable_kernels("sha256d").iter().chain(&usable_kernels("scrypt")) {
        assert!(page.contains(kernel), "no {kernel} in\n{page}");
    }

    let tests = &run(&["selftest", "--json"]).json_lines()[0];
    assert_eq!(fields(tests), ["failed", "passed", "results", "skipped"]);
    assert_eq!(number(tests, "failed"), 0);
    let page = run(&["selftest", "sha256d", "scrypt", "ethash"]).ok();
    let shown = |result: &Value| ["sha256d", "scrypt", "ethash"].contains(&text(result, "algorithm"));
    let results = tests["results"].as_array().unwrap();
    assert!(results.iter().all(|result| page.contains(text(result, "kernel")) == shown(result)), "{page}");
    let count = |word: &str| results.iter().filter(|r| shown(r) && text(r, "result") == word).count();
    let (passed, skipped) = (count("passed"), count("skipped"));
    assert!(page.ends_with(&format!("\n{passed} passed, 0 failed, {skipped} skipped\n")), "{page}");

    let bare = &run(&["selftest", "sha256d", "scrypt", "kawpow", "--isa", "none", "--json"]).json_lines()[0];
    assert_eq!(number(bare, "passed"), 3);
    for result in bare["results"].as_array().unwrap() {
        assert_eq!(result["result"] == "skipped", result["reason"].is_string(), "{result}");
    }
}

#[test]
fn every_help_page_shows_an_example_that_this_program_takes() {
    for command in [
        &["bench"][..],
        &["hash"],
        &["hash", "sha256d"],
        &["hash", "scrypt"],
        &["hash", "randomx"],
        &["hash", "ethash"],
        &["hash", "kawpow"],
        &["verify"],
        &["dag"],
        &["dag", "build"],
        &["scan"],
        &["devices"],
        &["selftest"],
        &[],
    ] {
        let page = run(&[command, &["--help"]].concat()).ok();
        let (_, examples) = page.split_once("Example").unwrap_or_else(|| panic!("{command:?}:\n{page}"));
        assert!(examples.contains("otedama-cli "), "{command:?}:\n{page}");
    }
    assert!(run(&["--version"]).ok().starts_with("otedama-cli "));
    // The example of `scan` is the promise of the whole.
    let page = run(&["scan", "--help"]).ok();
    let (_, example) = page.rsplit_once("otedama-cli ").unwrap();
    let args: Vec<_> = example.split_whitespace().filter(|word| *word != "\\").collect();
    assert!(args.contains(&GENESIS), "{page}");
    let nearer: Vec<_> =
        args.iter().map(|&word| if word == "2000000000" { "2083230000" } else { word }).collect();
    assert!(run(&nearer).ok().starts_with("nonce 2083236893 "));
}

/// Interrupts a scan that would take hours; what it says to that.
fn interrupted(args: &[&str]) -> Answer {
    let mut child = command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let reader = read_all(child.stdout.take().unwrap());
    let errors = read_all(child.stderr.take().unwrap());
    heeds_interrupts(&child);
    std::thread::sleep(Duration::from_millis(500)); // to be scanning
    interrupt(&child);
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("{args:?} went on after an interrupt");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
    Answer { code: status.code().unwrap(), stdout: reader.join().unwrap(), stderr: errors.join().unwrap() }
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_a_long_scan_at_once() {
    let quiet = interrupted(&["scan", "sha256d", GENESIS, "--target", "1"]);
    assert_eq!((quiet.code, quiet.stdout.as_str()), (1, ""));
    assert!(quiet.stderr.ends_with("otedama-cli: interrupted\n"), "{}", quiet.stderr);
    assert!(quiet.stderr.starts_with("0 found in "), "{}", quiet.stderr);
}

#[cfg(unix)]
#[test]
fn an_interrupt_does_not_wait_for_a_flood_of_finds() {
    let flood = interrupted(&["scan", "sha256d", GENESIS, "--target", &"f".repeat(64)]);
    assert_eq!(flood.code, 1);
    assert!(flood.stderr.ends_with("otedama-cli: interrupted\n"), "{}", flood.stderr);
    // As many as it says, each on a whole line.
    let finds: usize = flood.stderr.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(flood.stdout.lines().count(), finds);
    assert!(flood.stdout.ends_with('\n'));
}

#[test]
fn a_reader_who_leaves_is_no_failure() {
    let flood = ["scan", "sha256d", GENESIS, "--target", &"f".repeat(64), "--isa", "none"];
    let mut child = command(&flood).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    drop(child.stdout.take());
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(20) {
            child.kill().unwrap();
            panic!("it goes on although nobody reads");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn the_choice_of_a_kernel_is_remembered_where_the_user_keeps_caches() {
    let folder = scratch("remembered");
    let mut child = command(&["hash", "sha256d", "-"])
        .env("XDG_CACHE_HOME", &folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"00\n").unwrap();
    assert!(child.wait().unwrap().success());
    let file = std::fs::read(folder.join("otedama").join("tuning.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    let machine = file["machines"].as_object().unwrap().values().next().unwrap();
    assert!(usable_kernels("sha256d").contains(&text(machine, "sha256d").to_owned()));
    std::fs::remove_dir_all(folder).unwrap();
}
