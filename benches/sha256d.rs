//! SHA256d: every kernel through `Hasher` and `Scanner`, beside the sha2 and sha2-asm crates.
//!
//! The rivals hash whole headers one after another, as their interfaces allow; sha2-asm is given its
//! three chunks ready padded.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use otedama_benches::{attempts, checked_hasher, headers, runnable};
use otedama_core::job::{NonceRange, VersionRange};
use otedama_core::primitive::sha256::double_digest;
use otedama_core::scan::{Candidates, Kernel, Scanner, Setup, StopFlag};
use otedama_core::{Algorithm, Candidate, Digest, Job, JobId, SearchSpace, Target, VersionMask};
use sha2::{Digest as _, Sha256};

const BATCH: usize = 64;

/// Attempts in one timed scan, whatever the number of versions: under a millisecond for most kernels.
const ATTEMPTS: u64 = 1 << 14;

fn hash_many(c: &mut Criterion) {
    let setup = Setup::detect();
    let headers = headers(BATCH);
    let mut group = c.benchmark_group("sha256d/hash_many");
    group.throughput(Throughput::Elements(BATCH as u64));

    for kernel in runnable(Algorithm::Sha256d, &setup) {
        let mut hasher = checked_hasher(kernel, &setup, &headers, |header| double_digest(header));
        let (attempts, mut digests) = (attempts(&headers), vec![Digest::plain([0; 32]); BATCH]);
        group.bench_function(kernel.name(), |b| {
            b.iter(|| hasher.hash_many(black_box(&attempts), None, &mut digests));
        });
    }
    let mut rival = |name: &str, hash: fn(&[u8; 80]) -> [u8; 32]| {
        for header in &headers {
            assert_eq!(hash(header), double_digest(header), "{name} is wrong");
        }
        group.bench_function(name, |b| {
            b.iter(|| {
                for header in &headers {
                    black_box(hash(black_box(header)));
                }
            });
        });
    };
    rival("rival-sha2", |header| Sha256::digest(Sha256::digest(header)).into());
    #[cfg(target_arch = "x86_64")]
    rival("rival-sha2-asm", sha2_asm_double_digest);
    group.finish();
}

fn scan(c: &mut Criterion) {
    let setup = Setup::detect();
    for (name, versions) in [("sha256d/scan fixed version", 1), ("sha256d/scan 64 versions", 64)] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(ATTEMPTS));
        for kernel in runnable(Algorithm::Sha256d, &setup) {
            let mut scanner = checked_scanner(kernel, &setup, versions);
            // A target that nobody meets: searching is timed, not finding.
            let (job, space) = work(versions, Target::from_be_bytes(one()).expect("not zero"));
            scanner.load(&job, None).expect("a sha256d job");
            let (stop, mut found) = (StopFlag::new(), Candidates::with_capacity(versions as usize));
            group.bench_function(kernel.name(), |b| {
                b.iter(|| scanner.scan(black_box(&space), &stop, &mut found));
            });
        }
        group.finish();
    }
}

/// A kernel's scanner, after it found exactly what the oracle finds with a target met by one in 64.
fn checked_scanner(kernel: &'static Kernel, setup: &Setup, versions: u32) -> Box<dyn Scanner> {
    let (job, space) = work(versions, Target::from_be_bytes([0x03; 32]).expect("not zero"));
    let mut expected = Vec::new();
    let mut bytes = Vec::new();
    for nonce in space.nonces.start..space.nonces.start + space.nonces.count {
        for index in 0..versions {
            let version = job.version_mask().map(|mask| mask.version(job.version().unwrap_or(0), index));
            let candidate = Candidate { nonce, version };
            bytes.clear();
            job.append_bytes(&candidate, &mut bytes);
            if Digest::plain(double_digest(&bytes)).meets(job.algorithm(), job.target()) {
                expected.push(candidate);
            }
        }
    }
    let mut scanner = kernel.scanner(setup).unwrap_or_else(|error| panic!("{error}"));
    let mut found = Candidates::with_capacity(ATTEMPTS as usize);
    scanner.load(&job, None).expect("a sha256d job");
    scanner.scan(&space, &StopFlag::new(), &mut found).expect("a space of the job's");
    assert!(!expected.is_empty());
    assert_eq!(found.as_slice(), expected, "{} is wrong", kernel.name());
    scanner
}

fn work(versions: u32, target: Target) -> (Arc<Job>, SearchSpace) {
    let roll = (versions > 1).then_some(VersionMask::BIP320);
    let job = Job::blob(JobId(1), Algorithm::Sha256d, &headers(1)[0], roll, target).expect("a header");
    let nonces = NonceRange { start: 0xfff0_0000, count: ATTEMPTS / u64::from(versions) };
    (Arc::new(job), SearchSpace { nonces, versions: VersionRange { start: 0, count: versions } })
}

/// The number one, most significant byte first.
fn one() -> [u8; 32] {
    std::array::from_fn(|i| u8::from(i == 31))
}

/// SHA256d of a header with the one function that sha2-asm offers.
#[cfg(target_arch = "x86_64")]
fn sha2_asm_double_digest(header: &[u8; 80]) -> [u8; 32] {
    use otedama_core::primitive::sha256::{IV, state_to_bytes};

    let mut chunks = [[0; 64]; 2];
    chunks.as_flattened_mut()[..80].copy_from_slice(header);
    chunks[1][16] = 0x80;
    chunks[1][56..].copy_from_slice(&(80u64 * 8).to_be_bytes());
    let mut state = IV;
    sha2_asm::compress256(&mut state, &chunks);

    let mut chunk = [0; 64];
    chunk[..32].copy_from_slice(&state_to_bytes(&state));
    chunk[32] = 0x80;
    chunk[56..].copy_from_slice(&(32u64 * 8).to_be_bytes());
    state = IV;
    sha2_asm::compress256(&mut state, &[chunk]);
    state_to_bytes(&state)
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20);
    targets = hash_many, scan
}
criterion_main!(benches);
