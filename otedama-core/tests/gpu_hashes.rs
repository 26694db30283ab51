//! SHA256d and Scrypt on every device there is (PoCL will do) against the CPU's kernels and published blocks.

use std::sync::Arc;

use otedama_core::gpu::{self, Gpu};
use otedama_core::scan::{Candidates, GpuOptions, ScanEnd, Scanner, Setup, StopFlag, gpu_scanner, kernels};
use otedama_core::target::CompactBits;
use otedama_core::{Algorithm, Job, JobId, NonceRange, SearchSpace, Target, VersionRange};

/// An algorithm with a published block's header, its nonce, and how many nonces a device gets through in a moment.
const CASES: [(Algorithm, &str, u64, u64); 2] = [
    (
        Algorithm::Sha256d,
        // Bitcoin's first block.
        "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f61\
         7fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c",
        2_083_236_893,
        100_000,
    ),
    (
        Algorithm::Scrypt,
        // Litecoin's first block.
        "010000000000000000000000000000000000000000000000000000000000000000000000d9ced4ed1130f7b7faad9be25323ffaf\
         a33232a17c3edf6cfd97bee6bafbdd97b9aa8e4ef0ff0f1ecd513f7c",
        2_084_524_493,
        400,
    ),
];

/// Every device, and a scanner on it.
fn scanners(algorithm: Algorithm) -> Vec<(String, Box<dyn Scanner>)> {
    let inventory = gpu::devices();
    if inventory.cards.is_empty() {
        println!("SKIPPED: no device for GPU kernels here ({inventory})");
    }
    inventory
        .cards
        .iter()
        .map(|card| {
            let device: Arc<dyn Gpu> =
                gpu::open(card.info.id).expect("a device that is listed can be opened");
            let scanner = gpu_scanner(algorithm, &device, GpuOptions::default(), &Setup::detect());
            println!("{algorithm} on {}: {}", card.info.id, card.info.name);
            (card.info.id.to_string(), scanner.expect("a scanner"))
        })
        .collect()
}

fn find(scanner: &mut dyn Scanner, job: &Arc<Job>, start: u64, count: u64) -> Vec<u64> {
    let space =
        SearchSpace { nonces: NonceRange { start, count }, versions: VersionRange { start: 0, count: 1 } };
    let mut found = Candidates::with_capacity(4096);
    scanner.load(job, None).expect("a job of this algorithm");
    let scanned = scanner.scan(&space, &StopFlag::new(), &mut found).expect("a scan");
    assert_eq!((scanned.tried, scanned.end), (count, ScanEnd::Done));
    found.as_slice().iter().map(|candidate| candidate.nonce).collect()
}

#[test]
fn published_blocks_are_found() {
    for (algorithm, header, nonce, count) in CASES {
        let header = hex::decode(header).expect("hexadecimal digits");
        let bits = u32::from_le_bytes([header[72], header[73], header[74], header[75]]);
        let target = CompactBits(bits).to_target().expect("the block's target");
        let job = Arc::new(Job::blob(JobId(1), algorithm, &header, None, target).expect("a job"));
        for (device, mut scanner) in scanners(algorithm) {
            assert_eq!(
                find(&mut *scanner, &job, nonce - count / 2, count),
                [nonce],
                "{algorithm} on {device}"
            );
        }
    }
}

#[test]
fn devices_find_what_the_cpu_finds() {
    let setup = Setup::detect();
    for (algorithm, _, _, count) in CASES {
        // The fastest: the oracle is the last.
        let cpu = kernels(algorithm).find(|kernel| kernel.runs_on(&setup.cpu)).expect("the oracle at least");
        let mut expected = cpu.scanner(&setup).expect("a scanner");
        for (device, mut scanner) in scanners(algorithm) {
            for seed in 1..4u8 {
                let header: Vec<u8> =
                    (0..80u8).map(|i| (i ^ seed).wrapping_mul(151).rotate_left(3)).collect();
                // About 40 nonces meet this, and its lower bits are not round.
                let mut target = [0xa5; 32];
                target[..8].copy_from_slice(&(u64::MAX / count * 40).to_be_bytes());
                let target = Target::from_be_bytes(target).expect("a target");
                let job = Arc::new(Job::blob(JobId(1), algorithm, &header, None, target).expect("a job"));
                // Nonces up to the last there is, and a number of them that fills no group.
                let (start, count) = ((1 << 32) - count, count - 13 * u64::from(seed));
                let wanted = find(&mut *expected, &job, start, count);
                assert!((10..100).contains(&wanted.len()), "{} in {count}", wanted.len());
                assert_eq!(find(&mut *scanner, &job, start, count), wanted, "{algorithm} on {device}");
            }
        }
    }
}
