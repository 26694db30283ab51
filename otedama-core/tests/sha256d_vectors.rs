//! Every SHA256d kernel that this CPU can run, against `vectors/sha256d.json` (its `notes` say what the
//! fields mean and in which byte order, its `source` where they come from).

use otedama_core::algo::sha256d::{Hits, Kernel, Portable, Search};
use otedama_core::cpu::Isa;
use otedama_core::primitive::sha256;
use serde_json::Value;

#[test]
fn messages_and_headers_have_their_digests() {
    let file = vectors();
    let mut expected: Vec<(Vec<u8>, [u8; 32])> = Vec::new();
    for case in cases(&file, "block_header") {
        expected.push((bytes(&case["header"]), digest(&case["hash_raw"])));
    }
    for kind in ["sha256", "sha256d"] {
        for case in cases(&file, kind) {
            expected.push((bytes(&case["message"]), digest(&case["sha256d"])));
        }
    }
    for case in cases(&file, "sha256_repeat") {
        let message = bytes(&case["pattern"]).repeat(number(&case["count"]) as usize);
        expected.push((message, digest(&case["sha256d"])));
    }

    let messages: Vec<&[u8]> = expected.iter().map(|(message, _)| message.as_slice()).collect();
    for mut kernel in kernels() {
        let mut digests = vec![[0; 32]; messages.len()];
        kernel.hash_many(&messages, &mut digests);
        for ((message, expected), digest) in expected.iter().zip(&digests) {
            assert_eq!(digest, expected, "{}: {} bytes", kernel.name(), message.len());
        }
    }
}

#[test]
fn single_digests_are_sha256() {
    let file = vectors();
    for case in cases(&file, "sha256") {
        assert_eq!(sha256::digest(&bytes(&case["message"])), digest(&case["digest"]), "{}", case["id"]);
    }
    for case in cases(&file, "sha256_repeat") {
        let message = bytes(&case["pattern"]).repeat(number(&case["count"]) as usize);
        assert_eq!(sha256::digest(&message), digest(&case["digest"]), "{}", case["id"]);
    }
}

#[test]
fn midstates_are_those_of_the_vectors() {
    let file = vectors();
    for case in cases(&file, "midstate") {
        let header = header(&case["header"]);
        let midstate = Search::new(&header, &[version(&header)], 0).midstates()[0];
        assert_eq!(midstate.state(), &state(&case["midstate_words"]), "{}", case["id"]);
        let after = state(&case["state_after_3_rounds_of_second_block"]);
        assert_eq!(midstate.after_round_2(), &after, "{}", case["id"]);
    }
    for case in cases(&file, "block_header") {
        let header = header(&case["header"]);
        let midstate = Search::new(&header, &[version(&header)], 0).midstates()[0];
        assert_eq!(midstate.state(), &state(&case["midstate_words"]), "{}", case["id"]);
    }
}

#[test]
fn real_headers_are_found_among_their_neighbours() {
    let file = vectors();
    for mut kernel in kernels() {
        for case in cases(&file, "block_header") {
            let header = header(&case["header"]);
            let nonce = u32::from_le_bytes(*header.last_chunk().unwrap());
            let first = nonce.saturating_sub(37).min(u32::MAX - 99);
            // The version that was mined is the third of four.
            let mined = version(&header);
            let versions = [mined ^ 0x2000, mined ^ 0x4000, mined, mined ^ 0x6000];
            let top = top(&case["hash_raw"]);
            let mut hits = Hits::with_capacity(64);
            let search = Search::new(&header, &versions, top);
            assert_eq!(kernel.search(&search, first, 100, &mut hits), 100);
            assert!(
                hits.as_slice().iter().any(|hit| (hit.version, hit.nonce) == (2, nonce)),
                "{}: {}",
                kernel.name(),
                case["id"],
            );
        }
    }
}

#[test]
fn scans_find_every_solution_and_no_other() {
    let file = vectors();
    for mut kernel in kernels() {
        for case in cases(&file, "nonce_scan") {
            let mut header = [0; 80];
            header[..76].copy_from_slice(&bytes(&case["header76"]));
            let target = from_hex(case["target"].as_str().unwrap());
            let (start, count) = (number(&case["nonce_start"]) as u32, number(&case["nonce_count"]) as u32);
            let top = u32::from_be_bytes(*target.first_chunk().unwrap());
            let mut hits = Hits::with_capacity(4096);
            let search = Search::new(&header, &[version(&header)], top);
            assert_eq!(kernel.search(&search, start, count, &mut hits), count);

            // A kernel compares 32 bits: the rest of the target decides among what it found.
            let mut solutions: Vec<u32> = hits.as_slice().iter().map(|hit| hit.nonce).collect();
            solutions.retain(|nonce| {
                header[76..].copy_from_slice(&nonce.to_le_bytes());
                let mut number = sha256::double_digest(&header);
                number.reverse();
                number.as_slice() <= target.as_slice()
            });
            let expected: Vec<u32> = case["solutions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|solution| number(&solution["nonce"]) as u32)
                .collect();
            assert_eq!(solutions, expected, "{}: {}", kernel.name(), case["id"]);
        }
    }
}

/// Every kernel that this CPU can run; the others are named on the error output.
fn kernels() -> Vec<Box<dyn Kernel>> {
    let mut kernels: Vec<Box<dyn Kernel>> = vec![Box::new(Portable)];
    for isa in Isa::ALL {
        match kernel_for(isa) {
            Some(kernel) => kernels.push(kernel),
            None => eprintln!("SKIPPED: {isa}: this CPU lacks {isa}"),
        }
    }
    kernels
}

#[cfg(target_arch = "x86_64")]
fn kernel_for(isa: Isa) -> Option<Box<dyn Kernel>> {
    use otedama_core::algo::sha256d::{LanesKernel, ShaNiKernel};
    use otedama_core::cpu::Cpu;
    let cpu = Cpu::detect();
    match isa {
        Isa::ShaNi => cpu.sha_ni().map(|token| Box::new(ShaNiKernel::new(token)) as Box<dyn Kernel>),
        Isa::Avx2 => cpu.avx2().map(|token| Box::new(LanesKernel::new(token)) as Box<dyn Kernel>),
        Isa::Avx512 => cpu.avx512().map(|token| Box::new(LanesKernel::new(token)) as Box<dyn Kernel>),
        _ => None,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn kernel_for(_: Isa) -> Option<Box<dyn Kernel>> {
    None
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/sha256d.json")).expect("the vectors are JSON")
}

/// The cases of a kind, of which there must be some.
fn cases<'a>(file: &'a Value, kind: &str) -> Vec<&'a Value> {
    let cases: Vec<&Value> =
        file["cases"].as_array().unwrap().iter().filter(|case| case["kind"] == kind).collect();
    assert!(!cases.is_empty(), "no case of kind {kind}");
    cases
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    from_hex(value.as_str().unwrap())
}

fn digest(value: &Value) -> [u8; 32] {
    bytes(value).try_into().unwrap()
}

fn header(value: &Value) -> [u8; 80] {
    bytes(value).try_into().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn state(words: &Value) -> [u32; 8] {
    let words = words.as_array().unwrap();
    std::array::from_fn(|i| u32::from_str_radix(words[i].as_str().unwrap(), 16).unwrap())
}

fn version(header: &[u8; 80]) -> u32 {
    u32::from_le_bytes(*header.first_chunk().unwrap())
}

/// The most significant 32 bits of a raw digest.
fn top(value: &Value) -> u32 {
    u32::from_le_bytes(*digest(value).last_chunk().unwrap())
}
