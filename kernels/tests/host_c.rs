//! Kernels without barriers, compiled as C with warnings as errors and under AddressSanitizer and
//! UndefinedBehaviorSanitizer, on published vectors. Each compiler there is takes its turn.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn sha256d_reports_the_nonces_that_published_scans_found() {
    let scans = Scan::all("sha256d.json", |scan| scan.count <= 70_000);
    // The kernel looks at 32 bits: what it reports beyond the solutions shares their upper half.
    check_scans("sha256d", &[], &scans, |found, scan| {
        found.iter().all(|nonce| scan.solutions.contains(nonce))
    });
}

#[test]
fn sha256d_finds_every_published_block() {
    let blocks = cases("sha256d.json", "block_header");
    assert!(blocks.len() >= 20, "only {} blocks", blocks.len());
    let mut input = String::new();
    let mut nonces = Vec::new();
    for block in &blocks {
        let nonce = block["nonce"].as_u64().unwrap();
        let hash = hex::decode(text(block, "hash")).unwrap();
        let top = u64::from_be_bytes(hash[..8].try_into().unwrap());
        // Right before, at and right after the end of the range; a bad hash would be below no such target.
        writeln!(input, "{} {nonce} 1 {top}", text(block, "header")).unwrap();
        writeln!(input, "{} {} 5 {top}", text(block, "header"), nonce.saturating_sub(2)).unwrap();
        writeln!(input, "{} {} 1 {top}", text(block, "header"), nonce ^ 1).unwrap();
        nonces.push(nonce);
    }
    with_each_compiler("sha256d", &[], &input, |lines| {
        for (lines, nonce) in lines.chunks(3).zip(&nonces) {
            let [alone, among, beside] = lines else { panic!("three answers a block") };
            assert_eq!((alone.as_slice(), among.as_slice()), ([*nonce].as_slice(), [*nonce].as_slice()));
            assert!(beside.is_empty(), "{nonce}: its neighbour was reported");
        }
        assert_eq!(lines.len(), 3 * nonces.len());
    });
}

#[test]
fn scrypt_reports_what_published_scans_found() {
    let mut scans = Scan::all("scrypt.json", |_| true);
    for scan in &mut scans {
        // A sanitizer makes Scrypt slow: a part of the range, with a solution near its middle.
        scan.start = scan.start.max(scan.solutions[0].saturating_sub(50));
        scan.count = 100;
        scan.solutions.retain(|nonce| (scan.start..scan.start + 100).contains(nonce));
    }
    // All 64 bits are looked at, and the targets end in ones: not one more may be reported.
    check_scans("scrypt", &[], &scans, |found, scan| found == scan.solutions);
    check_scans("scrypt", &["-DOTD_GAP=4"], &scans, |found, scan| found == scan.solutions);
}

#[test]
fn scrypt_finds_every_published_block() {
    let blocks = cases("scrypt.json", "block_header");
    assert!(blocks.len() >= 10, "only {} blocks", blocks.len());
    let mut input = String::new();
    for block in &blocks {
        let hash = hex::decode(text(block, "pow_hash")).unwrap();
        let top = u64::from_be_bytes(hash[..8].try_into().unwrap());
        // At the target's top and just under it.
        writeln!(input, "{} {} 1 {top}", text(block, "scrypt_input"), block["nonce"]).unwrap();
        writeln!(input, "{} {} 1 {}", text(block, "scrypt_input"), block["nonce"], top - 1).unwrap();
    }
    with_each_compiler("scrypt", &[], &input, |lines| {
        assert_eq!(lines.len(), 2 * blocks.len());
        for (lines, block) in lines.chunks(2).zip(&blocks) {
            assert_eq!(lines, [vec![block["nonce"].as_u64().unwrap()], vec![]], "{}", text(block, "coin"));
        }
    });
}

/// A published scan of a range of nonces.
struct Scan {
    header: String,
    start: u64,
    count: u64,
    target_top: u64,
    solutions: Vec<u64>,
}

impl Scan {
    fn all(file: &str, wanted: impl Fn(&Scan) -> bool) -> Vec<Scan> {
        let scans: Vec<Scan> = cases(file, "nonce_scan")
            .iter()
            .map(|case| Scan {
                header: text(case, "header76").to_owned() + "00000000",
                start: case["nonce_start"].as_u64().unwrap(),
                count: case["nonce_count"].as_u64().unwrap(),
                target_top: u64::from_str_radix(&text(case, "target")[..16], 16).unwrap(),
                solutions: case["solutions"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|solution| solution["nonce"].as_u64().unwrap())
                    .collect(),
            })
            .filter(wanted)
            .collect();
        assert!(!scans.is_empty(), "no scans in {file}");
        scans
    }
}

fn check_scans(family: &str, defines: &[&str], scans: &[Scan], no_more: impl Fn(&[u64], &Scan) -> bool) {
    let input: String = scans
        .iter()
        .map(|scan| format!("{} {} {} {}\n", scan.header, scan.start, scan.count, scan.target_top))
        .collect();
    with_each_compiler(family, defines, &input, |lines| {
        assert_eq!(lines.len(), scans.len());
        for (found, scan) in lines.iter().zip(scans) {
            assert!(scan.solutions.iter().all(|nonce| found.contains(nonce)), "{}: {found:?}", scan.header);
            assert!(no_more(found, scan), "{}: {found:?}", scan.header);
        }
    });
}

/// Builds `host/<family>.c` with each compiler, feeds it the input and hands on the nonces in each line of the
/// answer.
fn with_each_compiler(family: &str, defines: &[&str], input: &str, check: impl Fn(&[Vec<u64>])) {
    let mut ran = 0;
    for compiler in ["gcc", "clang"] {
        let Some(program) = build(compiler, family, defines) else {
            println!("SKIPPED: {family} as host C: there is no {compiler}");
            continue;
        };
        check(&run(&program, input).lines().map(nonces_of).collect::<Vec<_>>());
        ran += 1;
    }
    println!("{family}: {ran} compilers");
}

/// A line of `print_hits`: how many there were, then as many as there was room for.
fn nonces_of(line: &str) -> Vec<u64> {
    let mut numbers = line.split(' ').map(|number| number.parse().expect("a number"));
    let count: u64 = numbers.next().expect("a count");
    let nonces: Vec<u64> = numbers.collect();
    assert_eq!(nonces.len() as u64, count.min(64), "{line}");
    nonces
}

fn build(compiler: &str, family: &str, defines: &[&str]) -> Option<PathBuf> {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!(
        "{family}-{compiler}{}-{:?}",
        defines.concat(),
        std::thread::current().id()
    ));
    let built = Command::new(compiler)
        .args(["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"])
        .args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
        .args(defines)
        .arg("-o")
        .arg(&program)
        .arg(format!("{}/host/{family}.c", env!("CARGO_MANIFEST_DIR")))
        .arg("-lm")
        .output();
    match built {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{compiler}: {error}"),
        Ok(output) => {
            assert!(output.status.success(), "{compiler}: {}", String::from_utf8_lossy(&output.stderr));
            Some(program)
        }
    }
}

fn run(program: &Path, input: &str) -> String {
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "{}: {}", program.display(), output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The cases of one kind in a file of vectors.
fn cases(file: &str, kind: &str) -> Vec<Value> {
    let path = format!("{}/../otedama-core/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    let all: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    all["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == kind).cloned().collect()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap()
}
