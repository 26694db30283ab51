//! scrypt against published and constructed vectors, an independent implementation, and itself.

use otedama_core::algo::scrypt::{
    Kernel, Portable, QuadsKernel, ScryptParams, ScryptParamsError, block_mix, ro_mix, scrypt,
};
use otedama_core::cpu::{Cpu, Isa};
use otedama_core::primitive::{salsa20, sha256};
use proptest::prelude::*;
use serde_json::Value;

#[test]
fn block_headers_hash_to_their_proof_of_work() {
    let cases: Vec<Value> = [cases("block_header"), cases("auxpow_block")].concat().into_iter().collect();
    let headers: Vec<[u8; 80]> = cases.iter().map(|case| array(case, "scrypt_input")).collect();
    let expected: Vec<[u8; 32]> = cases.iter().map(|case| array(case, "pow_hash_raw")).collect();
    for (case, (header, expected)) in cases.iter().zip(headers.iter().zip(&expected)) {
        let mut displayed = *expected;
        displayed.reverse();
        assert_eq!(displayed, array::<32>(case, "pow_hash"), "{}", case["id"]);
        let own = if case["kind"] == "auxpow_block" { "parent_header" } else { "header" };
        assert_eq!(*header, array::<80>(case, own), "{}", case["id"]);
        let mut id = sha256::double_digest(&bytes(case, "header"));
        id.reverse();
        assert_eq!(id, array::<32>(case, "block_hash"), "{}", case["id"]);
        if displayed > array::<32>(case, "target") {
            panic!("{}: the proof of work misses its target", case["id"]);
        }
    }
    for mut kernel in kernels() {
        let mut digests = vec![[0; 32]; headers.len()];
        let mut scratchpad = Scratchpad::for_kernel(&*kernel);
        kernel.hash_headers(scratchpad.bytes(), &headers, &mut digests);
        for (case, (digest, expected)) in cases.iter().zip(digests.iter().zip(&expected)) {
            assert_eq!(digest, expected, "{}: {}", kernel.name(), case["id"]);
        }
    }
}

#[test]
fn key_derivations_match() {
    for case in cases("scrypt_kdf") {
        let params = params(&case).unwrap();
        let (password, salt) = (bytes(&case, "password"), bytes(&case, "salt"));
        let mut out = vec![0; number(&case, "dklen") as usize];
        scrypt(&password, &salt, &params, &mut out).unwrap();
        assert_eq!(out, bytes(&case, "output"), "{}", case["id"]);

        let mining = params == ScryptParams::MINING && password == salt && out.len() == 32;
        if let (true, Ok(header)) = (mining, <[u8; 80]>::try_from(password)) {
            for mut kernel in kernels() {
                let mut digest = [[0; 32]];
                kernel.hash_headers(Scratchpad::for_kernel(&*kernel).bytes(), &[header], &mut digest);
                assert_eq!(digest[0][..], out, "{}: {}", kernel.name(), case["id"]);
            }
        }
    }
}

#[test]
fn salsa20_8_cores_match() {
    for case in cases("salsa20_8") {
        let mut block = salsa20::block_from_bytes(&array(&case, "input"));
        salsa20::salsa20_8(&mut block);
        assert_eq!(salsa20::block_to_bytes(&block), array::<64>(&case, "output"), "{}", case["id"]);
    }
}

#[test]
fn block_mixes_match() {
    for case in cases("blockmix") {
        let input: Vec<_> =
            bytes(&case, "input").as_chunks().0.iter().map(salsa20::block_from_bytes).collect();
        assert_eq!(input.len() as u64, 2 * number(&case, "r"), "{}", case["id"]);
        let mut output = input.clone();
        block_mix(&input, &mut output);
        let output: Vec<u8> = output.iter().flat_map(salsa20::block_to_bytes).collect();
        assert_eq!(output, bytes(&case, "output"), "{}", case["id"]);
    }
}

#[test]
fn ro_mixes_match() {
    for case in cases("romix") {
        let params = ScryptParams::new(number(&case, "N") as u32, number(&case, "r") as u32, 1).unwrap();
        let mut row = bytes(&case, "input");
        ro_mix(&mut row, params.n(), &mut vec![0; params.scratchpad_len()]);
        assert_eq!(row, bytes(&case, "output"), "{}", case["id"]);
    }
}

#[test]
fn pbkdf2_matches() {
    for case in cases("pbkdf2_hmac_sha256") {
        let mut out = vec![0; number(&case, "dklen") as usize];
        let (password, salt) = (bytes(&case, "password"), bytes(&case, "salt"));
        sha256::pbkdf2(&password, &salt, number(&case, "iterations") as u32, &mut out);
        assert_eq!(out, bytes(&case, "output"), "{}", case["id"]);
    }
}

#[test]
fn every_stage_of_the_mining_form_matches() {
    for case in cases("scrypt_1024_1_1_intermediates") {
        let header: [u8; 80] = array(&case, "input");
        let mut row = [0; 128];
        sha256::pbkdf2(&header, &header, 1, &mut row);
        assert_eq!(row, array::<128>(&case, "pbkdf2_first_128"), "{}", case["id"]);
        ro_mix(&mut row, 1024, &mut vec![0; ScryptParams::MINING.scratchpad_len()]);
        assert_eq!(row, array::<128>(&case, "romix_out_128"), "{}", case["id"]);
        let mut digest = [0; 32];
        sha256::pbkdf2(&header, &row, 1, &mut digest);
        assert_eq!(digest, array::<32>(&case, "output"), "{}", case["id"]);
    }
}

#[test]
fn scans_find_every_solution_and_no_other() {
    for case in cases("nonce_scan") {
        let mut header = [0xff; 80];
        header[..76].copy_from_slice(&array::<76>(&case, "header76"));
        let (first, count) = (number(&case, "nonce_start") as u32, number(&case, "nonce_count") as usize);
        let target: [u8; 32] = array(&case, "target");
        let expected: Vec<(u32, [u8; 32])> = case["solutions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|solution| (number(solution, "nonce") as u32, array(solution, "pow_hash")))
            .collect();
        for mut kernel in kernels() {
            let mut digests = vec![[0; 32]; count];
            kernel.load(&header);
            kernel.hash_nonces(Scratchpad::for_kernel(&*kernel).bytes(), first, &mut digests);
            for digest in &mut digests {
                digest.reverse();
            }
            let found: Vec<_> = (first..).zip(digests).filter(|(_, hash)| *hash <= target).collect();
            assert_eq!(found, expected, "{}: {}", kernel.name(), case["id"]);
        }
    }
}

#[test]
fn impossible_parameters_are_refused_and_named() {
    for case in cases("scrypt_invalid_params") {
        assert!(params(&case).is_err(), "{}", case["id"]);
    }
    let refused = |n, r, p| ScryptParams::new(n, r, p).unwrap_err();
    assert_eq!(refused(0, 1, 1), ScryptParamsError::N(0));
    assert_eq!(refused(1024, 0, 1), ScryptParamsError::R);
    assert_eq!(refused(1024, 1, 0), ScryptParamsError::P);
    assert_eq!(refused(2, 1 << 15, 1 << 15), ScryptParamsError::Blocks { r: 1 << 15, p: 1 << 15 });
    assert_eq!(refused(2, u32::MAX, u32::MAX), ScryptParamsError::Blocks { r: u32::MAX, p: u32::MAX });
    assert_eq!(refused(1 << 31, 2, 1), ScryptParamsError::Memory { n: 1 << 31, r: 2 });
    assert_eq!(
        refused(1 << 31, (1 << 30) - 1, 1),
        ScryptParamsError::Memory { n: 1 << 31, r: (1 << 30) - 1 }
    );
    assert_eq!(refused(7, 8, 1).to_string(), "scrypt N is 7: expected a power of two, 2 to 2147483648");
    assert_eq!(
        refused(1 << 31, 2, 1).to_string(),
        "scrypt needs 128 * r * N = 128 * 2 * 2147483648 bytes: expected at most 274877906944 (and addressable)"
    );
    #[cfg(target_pointer_width = "64")]
    assert_eq!(ScryptParams::new(1 << 31, 1, 1).unwrap().scratchpad_len(), 1 << 38);
}

#[test]
fn batches_of_any_length_agree_with_portable() {
    let headers: Vec<[u8; 80]> = (0..64).map(random_header).collect();
    let mut oracle = Portable::new();
    let mut scratchpad = Scratchpad::for_kernel(&oracle);
    let mut expected = vec![[0; 32]; headers.len()];
    oracle.hash_headers(scratchpad.bytes(), &headers, &mut expected);

    let first = u32::MAX - 63;
    let mut expected_nonces = vec![[0; 32]; 64];
    oracle.load(&headers[0]);
    oracle.hash_nonces(scratchpad.bytes(), first, &mut expected_nonces);

    for mut kernel in kernels() {
        let lanes = kernel.lanes();
        let mut scratchpad = Scratchpad::for_kernel(&*kernel);
        for len in [0, 1, lanes - 1, lanes, lanes + 1, 31] {
            let mut digests = vec![[0; 32]; len];
            kernel.hash_headers(scratchpad.bytes(), &headers[..len], &mut digests);
            assert_eq!(digests, expected[..len], "{}: {len} headers", kernel.name());

            kernel.load(&headers[0]);
            kernel.hash_nonces(scratchpad.bytes(), first, &mut digests);
            assert_eq!(digests, expected_nonces[..len], "{}: {len} nonces", kernel.name());

            // Up to the very last nonce.
            kernel.hash_nonces(scratchpad.bytes(), first + (64 - len as u32).min(63), &mut digests);
            assert_eq!(
                digests,
                expected_nonces[(64 - len).min(63)..][..len],
                "{}: {len} last",
                kernel.name()
            );
        }
    }
}

#[test]
fn misuse_is_refused() {
    for mut kernel in kernels() {
        let name = kernel.name();
        let mut scratchpad = Scratchpad::for_kernel(&*kernel);
        let len = scratchpad.bytes().len();
        let mut attempt = |from: usize, first_nonce: u32| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                kernel.hash_nonces(&mut scratchpad.bytes()[from..], first_nonce, &mut [[0; 32]; 2]);
            }))
            .unwrap_err()
            .downcast::<String>()
            .unwrap()
        };
        assert!(attempt(64, 0).contains("needs a scratchpad of"), "{name}");
        assert!(attempt(0, u32::MAX).contains("go past 4294967295"), "{name}");
        assert!(len.is_multiple_of(128 * 1024), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_independent_implementation_agrees(
        (log_n, r, p) in (1u8..9, 1u32..9, 1u32..5),
        password in prop::collection::vec(any::<u8>(), 0..100),
        salt in prop::collection::vec(any::<u8>(), 0..100),
        len in 10usize..100,
    ) {
        // That implementation holds to RFC 7914's N < 2^(16 r).
        prop_assume!(u32::from(log_n) < 16 * r);
        let (mut ours, mut theirs) = (vec![0; len], vec![0; len]);
        scrypt(&password, &salt, &ScryptParams::new(1 << log_n, r, p).unwrap(), &mut ours).unwrap();
        let params = ::scrypt::Params::new(log_n, r, p).unwrap();
        ::scrypt::scrypt(&password, &salt, &params, &mut theirs).unwrap();
        prop_assert_eq!(ours, theirs);
    }
}

/// Every kernel this CPU can run; the others are named on standard error.
fn kernels() -> Vec<Box<dyn Kernel>> {
    let cpu = Cpu::detect();
    let mut kernels: Vec<Box<dyn Kernel>> = vec![Box::new(Portable::new())];
    match cpu.avx2() {
        Some(token) => {
            kernels.push(Box::new(QuadsKernel::avx2_x4(token)));
            kernels.push(Box::new(QuadsKernel::avx2_x6(token)));
            kernels.push(Box::new(QuadsKernel::avx2_x8(token)));
        }
        None => skipped(&["avx2-x4", "avx2-x6", "avx2-x8"], Isa::Avx2),
    }
    match cpu.avx512() {
        Some(token) => {
            kernels.push(Box::new(QuadsKernel::avx512_x4(token)));
            kernels.push(Box::new(QuadsKernel::avx512_x8(token)));
            kernels.push(Box::new(QuadsKernel::avx512_x12(token)));
        }
        None => skipped(&["avx512-x4", "avx512-x8", "avx512-x12"], Isa::Avx512),
    }
    kernels
}

fn skipped(kernels: &[&str], isa: Isa) {
    for kernel in kernels {
        eprintln!("SKIPPED: {kernel}: this CPU lacks {isa}");
    }
}

/// Memory aligned to 64 bytes, as kernels ask for.
struct Scratchpad {
    memory: Vec<u8>,
    len: usize,
}

impl Scratchpad {
    fn for_kernel(kernel: &dyn Kernel) -> Scratchpad {
        let len = kernel.scratchpad_len();
        Scratchpad { memory: vec![0xa5; len + 64], len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        let start = self.memory.as_ptr().align_offset(64);
        &mut self.memory[start..][..self.len]
    }
}

/// Header number `seed` of an arbitrary sequence.
fn random_header(seed: u32) -> [u8; 80] {
    let mut header = [0; 80];
    sha256::pbkdf2(b"header", &seed.to_be_bytes(), 1, &mut header);
    header
}

fn cases(kind: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(include_str!("../vectors/scrypt.json")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    let cases: Vec<_> = cases.iter().filter(|case| case["kind"] == kind).cloned().collect();
    assert!(!cases.is_empty(), "no case of kind {kind}");
    cases
}

fn params(case: &Value) -> Result<ScryptParams, ScryptParamsError> {
    let number = |name| number(case, name) as u32;
    ScryptParams::new(number("N"), number("r"), number("p"))
}

fn number(case: &Value, name: &str) -> u64 {
    case[name].as_u64().unwrap_or_else(|| panic!("{}: {name} is no number", case["id"]))
}

fn array<const LEN: usize>(case: &Value, name: &str) -> [u8; LEN] {
    bytes(case, name).try_into().unwrap()
}

fn bytes(case: &Value, name: &str) -> Vec<u8> {
    let text = case[name].as_str().unwrap_or_else(|| panic!("{}: {name} is no text", case["id"]));
    let digits = text.as_bytes().as_chunks::<2>().0;
    digits.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
