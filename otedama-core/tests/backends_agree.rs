//! Every kernel of the table against its algorithm's oracle, through the traits that callers use, and
//! both against crates written by others.
//!
//! A kernel that this CPU cannot run is printed as skipped and counted, on a standard error that the
//! test harness does not capture. `OTEDAMA_EXPECT_KERNELS`, a comma list of kernel names, makes the
//! absence of one of those a failure.

use std::io::Write;
use std::sync::Arc;

use otedama_core::hash256::Digest;
use otedama_core::scan::{
    Attempt, Candidates, HashError, Hasher, Kernel, ScanEnd, ScanError, Scanned, Scanner, Setup, StopFlag,
    kernels,
};
use otedama_core::target::U256;
use otedama_core::{
    Algorithm, Candidate, Hash256, Job, JobId, NonceRange, SearchSpace, Target, VersionMask, VersionRange,
};

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256d, Algorithm::Scrypt];

/// A small generator (SplitMix64): the same numbers in every run.
struct Random(u64);

impl Random {
    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.number() as u8).collect()
    }

    /// A target that about one hash in `odds` meets, with nothing round about it.
    fn target(&mut self, odds: u64) -> Target {
        let mut bytes: [u8; 32] = self.bytes(32).try_into().unwrap();
        bytes[..8].copy_from_slice(&(u64::MAX / odds - (self.number() >> 12)).to_be_bytes());
        Target::from_be_bytes(bytes).unwrap()
    }
}

fn job(algorithm: Algorithm, header: &[u8], roll: Option<VersionMask>, target: Target) -> Arc<Job> {
    Arc::new(Job::blob(JobId(1), algorithm, header, roll, target).unwrap())
}

fn space(nonce: u64, nonces: u64, version: u32, versions: u32) -> SearchSpace {
    SearchSpace {
        nonces: NonceRange { start: nonce, count: nonces },
        versions: VersionRange { start: version, count: versions },
    }
}

/// The kernels that run here. Those that do not are said by `every_kernel_finds_what_the_oracle_finds`.
fn present(algorithm: Algorithm) -> impl Iterator<Item = &'static Kernel> {
    let cpu = Setup::detect().cpu;
    kernels(algorithm).filter(move |kernel| kernel.runs_on(&cpu))
}

fn scanner(kernel: &'static Kernel) -> Box<dyn Scanner> {
    kernel.scanner(&Setup::detect()).unwrap()
}

fn hasher(kernel: &'static Kernel) -> Box<dyn Hasher> {
    kernel.hasher(&Setup::detect()).unwrap()
}

fn oracle(algorithm: Algorithm) -> &'static Kernel {
    kernels(algorithm).find(|kernel| kernel.is_oracle()).unwrap()
}

/// A digest by a crate that shares no code with this one.
fn stranger(algorithm: Algorithm, input: &[u8]) -> [u8; 32] {
    match algorithm {
        Algorithm::Sha256d => {
            use sha2::Digest as _;
            sha2::Sha256::digest(sha2::Sha256::digest(input)).into()
        }
        _ => {
            let mut digest = [0; 32];
            scrypt::scrypt(input, input, &scrypt::Params::new(10, 1, 1).unwrap(), &mut digest).unwrap();
            digest
        }
    }
}

/// Loads and scans in one go, into plenty of room.
fn find(scanner: &mut dyn Scanner, job: &Arc<Job>, space: &SearchSpace) -> (Scanned, Vec<Candidate>) {
    let mut found = Candidates::with_capacity(1 << 17);
    scanner.load(job, None).unwrap();
    let scanned = scanner.scan(space, &StopFlag::new(), &mut found).unwrap();
    (scanned, found.as_slice().to_vec())
}

/// What is there to find, by the stranger's hash and nothing else of the scanners' code.
fn brute_force(job: &Job, space: &SearchSpace) -> Vec<Candidate> {
    let base = job.version().unwrap();
    let (nonces, versions) = (space.nonces, space.versions);
    let mut found = Vec::new();
    for nonce in nonces.start..nonces.start + nonces.count {
        for index in versions.start..versions.start + versions.count {
            let version = job.version_mask().map(|mask| mask.version(base, index));
            let (candidate, mut bytes) = (Candidate { nonce, version }, Vec::new());
            job.append_bytes(&candidate, &mut bytes);
            let hash = U256::from_le_bytes(stranger(job.algorithm(), &bytes));
            if hash <= job.target().to_number() {
                found.push(candidate);
            }
        }
    }
    found
}

/// Jobs and spaces that go wrong first: around the lane count, up to the last nonce, several versions.
fn trials(algorithm: Algorithm, lanes: u64, random: &mut Random) -> Vec<(Arc<Job>, SearchSpace)> {
    let mut trials = Vec::new();
    for count in [1, lanes - 1, lanes, lanes + 1, 31] {
        let count = count.max(1);
        let target = random.target(3);
        let fixed = job(algorithm, &random.bytes(80), None, target);
        let anywhere = random.number() % ((1 << 32) - count);
        trials.push((Arc::clone(&fixed), space(anywhere, count, 0, 1)));
        trials.push((fixed, space((1 << 32) - count, count, 0, 1)));

        let mask = VersionMask::new(random.number() as u32 | 0x8000_0080).unwrap();
        let rolling = job(algorithm, &random.bytes(80), Some(mask), target);
        let many: &[u32] = if algorithm == Algorithm::Sha256d { &[1, 2, 7, 64, 128] } else { &[1] };
        for &versions in many {
            let first = (random.number() % u64::from(mask.count().saturating_sub(versions).max(1))) as u32;
            trials.push((Arc::clone(&rolling), space(anywhere, count, first, versions.min(mask.count()))));
            let last = mask.count().saturating_sub(versions);
            let at_the_end = space((1 << 32) - count, count, last, versions.min(mask.count()));
            trials.push((Arc::clone(&rolling), at_the_end));
        }
    }
    trials
}

#[test]
fn every_kernel_finds_what_the_oracle_finds() {
    let (mut ran, mut skipped) = (Vec::new(), 0);
    // Not captured by the test harness, unlike eprintln: a skip must be seen.
    let mut err = std::io::stderr();
    for algorithm in ALGORITHMS {
        let mut judge = scanner(oracle(algorithm));
        for kernel in kernels(algorithm) {
            let cpu = Setup::detect().cpu;
            if let Some(isa) = kernel.needs().filter(|&isa| !cpu.has(isa)) {
                writeln!(err, "SKIPPED: {}: this CPU lacks {isa}", kernel.name()).unwrap();
                skipped += 1;
                continue;
            }
            let mut scanner = scanner(kernel);
            let lanes = scanner.info().lanes as u64;
            for (job, space) in trials(algorithm, lanes, &mut Random(7)) {
                let what = format!("{}: {space:?} of {job:?}", kernel.name());
                let (scanned, found) = find(scanner.as_mut(), &job, &space);
                let expected = find(judge.as_mut(), &job, &space).1;
                assert_eq!(found, expected, "{what}");
                assert_eq!(scanned, Scanned { tried: space.attempts(), end: ScanEnd::Done }, "{what}");
                // Once is enough: what the others find was just found equal.
                if kernel.is_oracle() {
                    assert_eq!(found, brute_force(&job, &space), "{what}");
                }
            }
            ran.push(kernel.name());
        }
    }
    writeln!(err, "backends: {} ran, {skipped} skipped", ran.len()).unwrap();
    let expected = std::env::var("OTEDAMA_EXPECT_KERNELS").unwrap_or_default();
    for name in expected.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        assert!(ran.contains(&name), "OTEDAMA_EXPECT_KERNELS names {name}: only {} ran", ran.join(", "));
    }
}

#[test]
fn a_long_range_is_searched_without_gaps_at_the_seams_of_its_batches() {
    let mut random = Random(11);
    let header = random.bytes(80);
    for (roll, versions) in [(None, 1), (Some(VersionMask::BIP320), 3)] {
        let job = job(Algorithm::Sha256d, &header, roll, random.target(200));
        let space = space((1 << 32) - 40_003, 40_003, 0, versions);
        let (_, expected) = find(scanner(oracle(Algorithm::Sha256d)).as_mut(), &job, &space);
        assert!(expected.len() > 100);
        for kernel in present(Algorithm::Sha256d) {
            let (scanned, found) = find(scanner(kernel).as_mut(), &job, &space);
            assert_eq!(scanned.tried, space.attempts(), "{}", kernel.name());
            assert_eq!(found, expected, "{}", kernel.name());
        }
    }
}

#[test]
fn a_hash_equal_to_the_target_is_found_and_one_above_it_is_not() {
    let mut random = Random(13);
    for algorithm in ALGORITHMS {
        let header = random.bytes(80);
        let nonce = random.number() % (1 << 32);
        let candidate = Candidate { nonce, version: None };
        let mut bytes = Vec::new();
        job(algorithm, &header, None, Target::MAX).append_bytes(&candidate, &mut bytes);
        let hash = U256::from_le_bytes(stranger(algorithm, &bytes));
        let at_least = job(algorithm, &header, None, Target::new(hash).unwrap());
        let too_much = job(algorithm, &header, None, Target::new(hash - U256::from(1)).unwrap());
        let only = space(nonce, 1, 0, 1);
        for kernel in present(algorithm) {
            let mut scanner = scanner(kernel);
            assert_eq!(find(scanner.as_mut(), &at_least, &only).1, [candidate], "{}", kernel.name());
            assert_eq!(find(scanner.as_mut(), &too_much, &only).1, [], "{}", kernel.name());
        }
    }
}

#[test]
fn a_scan_that_fills_up_is_resumed_without_losing_or_repeating_anything() {
    let mut random = Random(17);
    for algorithm in ALGORITHMS {
        let header = random.bytes(80);
        let rolling = algorithm == Algorithm::Sha256d;
        let roll = rolling.then_some(VersionMask::BIP320);
        // From nearly everything to a rare find: where it fills up differs.
        for (target, capacity) in [(Target::MAX, 5), (random.target(2), 5), (random.target(9), 7)] {
            let job = job(algorithm, &header, roll, target);
            let versions = if rolling { 5 } else { 1 };
            let whole = space((1 << 32) - 83, 83, 0, versions);
            let (_, expected) = find(scanner(oracle(algorithm)).as_mut(), &job, &whole);
            for kernel in present(algorithm) {
                let mut scanner = scanner(kernel);
                scanner.load(&job, None).unwrap();
                let (mut left, mut all, mut tried) = (whole, Vec::new(), 0);
                let mut found = Candidates::with_capacity(capacity);
                loop {
                    let scanned = scanner.scan(&left, &StopFlag::new(), &mut found).unwrap();
                    all.extend_from_slice(found.as_slice());
                    found.clear();
                    tried += scanned.tried;
                    assert_eq!(scanned.tried % u64::from(versions), 0, "{}", kernel.name());
                    if scanned.end == ScanEnd::Done {
                        break;
                    }
                    assert_eq!(scanned.end, ScanEnd::Full, "{}", kernel.name());
                    assert!(scanned.tried > 0, "{} comes no further", kernel.name());
                    let nonces = scanned.tried / u64::from(versions);
                    left.nonces.start += nonces;
                    left.nonces.count -= nonces;
                }
                assert_eq!(tried, whole.attempts(), "{}", kernel.name());
                assert_eq!(all, expected, "{}", kernel.name());
            }
        }
    }
}

#[test]
fn a_scan_that_fills_up_keeps_what_earlier_scans_found_at_the_same_nonce() {
    let header = [0x33; 80];
    let job = job(Algorithm::Sha256d, &header, Some(VersionMask::BIP320), Target::MAX);
    for kernel in present(Algorithm::Sha256d) {
        let mut scanner = scanner(kernel);
        scanner.load(&job, None).unwrap();
        let mut found = Candidates::with_capacity(6);
        let stop = StopFlag::new();
        scanner.scan(&space(9, 1, 0, 4), &stop, &mut found).unwrap();
        let earlier = found.as_slice().to_vec();
        assert_eq!(earlier.len(), 4);
        // Four more of nonce 9 do not fit beside the four there are.
        let scanned = scanner.scan(&space(9, 1, 4, 4), &stop, &mut found).unwrap();
        assert_eq!(scanned, Scanned { tried: 0, end: ScanEnd::Full }, "{}", kernel.name());
        assert_eq!(found.as_slice(), earlier, "{}", kernel.name());
    }
}

#[test]
fn a_raised_flag_stops_a_scan_before_it_tries_anything() {
    for algorithm in ALGORITHMS {
        let job = job(algorithm, &[1; 80], None, Target::MAX);
        for kernel in present(algorithm) {
            let (mut scanner, stop) = (scanner(kernel), StopFlag::new());
            scanner.load(&job, None).unwrap();
            stop.raise();
            let mut found = Candidates::with_capacity(4);
            let scanned = scanner.scan(&job.space(), &stop, &mut found).unwrap();
            assert_eq!(scanned, Scanned { tried: 0, end: ScanEnd::Stopped }, "{}", kernel.name());
            assert!(found.as_slice().is_empty(), "{}", kernel.name());
        }
    }
}

#[test]
fn a_flag_raised_during_a_scan_stops_it_at_an_exact_count() {
    for algorithm in ALGORITHMS {
        let job = job(algorithm, &[2; 80], None, Target::new(U256::from(1)).unwrap());
        for kernel in present(algorithm) {
            let (mut scanner, stop) = (scanner(kernel), StopFlag::new());
            scanner.load(&job, None).unwrap();
            let mut found = Candidates::with_capacity(4);
            let scanned = std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    stop.raise();
                });
                scanner.scan(&job.space(), &stop, &mut found).unwrap()
            });
            assert_eq!(scanned.end, ScanEnd::Stopped, "{}", kernel.name());
            assert_eq!(scanned.tried % scanner.info().lanes as u64, 0, "{}", kernel.name());
        }
    }
}

#[test]
fn scans_that_cannot_be_done_are_refused_with_a_reason() {
    let other = |algorithm| match algorithm {
        Algorithm::Sha256d => Algorithm::Scrypt,
        _ => Algorithm::Sha256d,
    };
    for algorithm in ALGORITHMS {
        let rolling = job(algorithm, &[3; 80], Some(VersionMask::BIP320), Target::MAX);
        let foreign = job(other(algorithm), &[3; 80], None, Target::MAX);
        for kernel in present(algorithm) {
            let mut scanner = scanner(kernel);
            let most = scanner.info().max_versions;
            scanner.load(&rolling, None).unwrap();
            let mut refused = |space: SearchSpace, room: usize| {
                let mut found = Candidates::with_capacity(room);
                let error = scanner.scan(&space, &StopFlag::new(), &mut found).unwrap_err();
                assert!(found.as_slice().is_empty());
                error.to_string()
            };
            assert_eq!(
                refused(space((1 << 32) - 1, 2, 0, 1), 8),
                "range 4294967295 + 2 leaves the space of 4294967296: expected it to end at or before 4294967296"
            );
            assert_eq!(refused(space(0, 0, 0, 1), 8), "range is empty: expected a count of at least 1");
            assert_eq!(refused(space(0, 1, 0, 0), 8), "range is empty: expected a count of at least 1");
            assert!(refused(space(0, 1, 65_536, 1), 8).contains("leaves the space of 65536"));
            assert_eq!(
                refused(space(0, 1, 0, most + 1), 1024),
                format!("scan covers {} versions: expected at most {most}", most + 1)
            );
            assert_eq!(
                refused(space(0, 1, 0, most), most as usize - 1),
                format!(
                    "room for {} candidates: expected room for at least one nonce's {most} versions",
                    most - 1
                )
            );
            let error = scanner.load(&foreign, None).unwrap_err();
            assert!(matches!(error, ScanError::WrongAlgorithm { .. }), "{error}");
        }
    }
}

#[test]
fn digests_of_mixed_batches_are_the_oracles_and_other_peoples() {
    let mut random = Random(19);
    for algorithm in ALGORITHMS {
        for count in [1, 15, 16, 17, 100] {
            let inputs: Vec<Vec<u8>> = (0..count)
                .map(|_| match algorithm {
                    // Around every boundary of a 64-byte chunk, and headers among them.
                    Algorithm::Sha256d if random.number().is_multiple_of(3) => random.bytes(80),
                    Algorithm::Sha256d => {
                        let len = random.number() % 200;
                        random.bytes(len as usize)
                    }
                    _ => random.bytes(80),
                })
                .collect();
            let expected: Vec<[u8; 32]> = inputs.iter().map(|input| stranger(algorithm, input)).collect();
            let attempts: Vec<_> = inputs.iter().map(|input| Attempt::Bytes(input)).collect();
            for kernel in present(algorithm) {
                let mut digests = vec![Digest::plain([0xee; 32]); count];
                hasher(kernel).hash_many(&attempts, None, &mut digests).unwrap();
                let digests: Vec<_> = digests.iter().map(|digest| digest.pow).collect();
                let expected: Vec<_> = expected.iter().map(|&raw| Hash256::from_raw(raw)).collect();
                assert_eq!(digests, expected, "{}: {count} inputs", kernel.name());
            }
        }
    }
}

#[test]
fn batches_that_cannot_be_hashed_are_refused_whole() {
    let header_hash = Hash256::from_raw([0; 32]);
    let sealed = Attempt::Sealed { header_hash: &header_hash, nonce: 0, height: 0 };
    for algorithm in ALGORITHMS {
        for kernel in present(algorithm) {
            let mut hasher = hasher(kernel);
            let untouched = Digest::plain([0xee; 32]);
            let mut digests = [untouched; 2];
            let good = Attempt::Bytes(&[0; 80]);
            assert_eq!(
                hasher.hash_many(&[good], None, &mut digests),
                Err(HashError::Lengths { inputs: 1, digests: 2 })
            );
            let error = hasher.hash_many(&[good, sealed], None, &mut digests).unwrap_err();
            assert!(matches!(error, HashError::WrongInput { found: 32, .. }), "{error}");
            if algorithm == Algorithm::Scrypt {
                let short = Attempt::Bytes(&[0; 79]);
                let error = hasher.hash_many(&[good, short], None, &mut digests).unwrap_err();
                assert_eq!(error.to_string(), "scrypt input has 79 bytes: expected 80");
            }
            assert_eq!(digests, [untouched; 2], "{}", kernel.name());
            assert_eq!(hasher.hash_many(&[], None, &mut []), Ok(()));
        }
    }
}
