//! Every SHA256d kernel of this CPU against one hash after another: batches of messages, and scans of
//! ranges that end anywhere, with any versions, target and room for candidates.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use otedama_core::job::{NonceRange, VersionRange};
use otedama_core::primitive::sha256::double_digest;
use otedama_core::scan::{Attempt, Candidates, Hasher, ScanEnd, Scanner, Setup, StopFlag, kernels};
use otedama_core::{Algorithm, Candidate, Digest, Job, JobId, SearchSpace, Target, VersionMask};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    header: [u8; 80],
    mask: u32,
    first_version: u32,
    #[arbitrary(with = |u: &mut arbitrary::Unstructured| u.int_in_range(1..=9))]
    versions: u32,
    /// Counted back from the end of the nonces, where wrapping would show.
    nonces_left: u32,
    #[arbitrary(with = |u: &mut arbitrary::Unstructured| u.int_in_range(1..=70))]
    nonces: u64,
    target: [u8; 32],
    #[arbitrary(with = |u: &mut arbitrary::Unstructured| u.int_in_range(0..=3))]
    target_zeros: usize,
    room: u8,
    messages: Vec<&'a [u8]>,
}

thread_local! {
    static KERNELS: RefCell<Vec<(Box<dyn Scanner>, Box<dyn Hasher>)>> = RefCell::new(make());
}

fn make() -> Vec<(Box<dyn Scanner>, Box<dyn Hasher>)> {
    let setup = Setup::detect();
    let present = kernels(Algorithm::Sha256d).filter(|kernel| kernel.runs_on(&setup.cpu));
    present.map(|kernel| (kernel.scanner(&setup).unwrap(), kernel.hasher(&setup).unwrap())).collect()
}

fuzz_target!(|input: Input| {
    KERNELS.with_borrow_mut(|kernels| {
        let (scanners, hashers): (Vec<_>, Vec<_>) = kernels.iter_mut().map(|(s, h)| (s, h)).unzip();
        hash(&input, hashers);
        scan(&input, scanners);
    });
});

fn hash(input: &Input, hashers: Vec<&mut Box<dyn Hasher>>) {
    let messages = input.messages.iter().take(70);
    let attempts: Vec<_> = messages.clone().map(|message| Attempt::Bytes(message)).collect();
    let expected: Vec<_> = messages.map(|message| Digest::plain(double_digest(message))).collect();
    for hasher in hashers {
        let mut digests = vec![Digest::plain([0; 32]); attempts.len()];
        hasher.hash_many(&attempts, None, &mut digests).unwrap();
        assert_eq!(digests, expected, "{}", hasher.kernel());
    }
}

fn scan(input: &Input, scanners: Vec<&mut Box<dyn Scanner>>) {
    let mut target = input.target;
    target[..input.target_zeros].fill(0);
    target[31] |= 1; // never zero
    let target = Target::from_be_bytes(target).unwrap();
    let mask = VersionMask::new(input.mask).ok();
    let job = Arc::new(Job::blob(JobId(0), Algorithm::Sha256d, &input.header, mask, target).unwrap());

    let whole = job.space();
    let start = whole.nonces.count - 1 - u64::from(input.nonces_left);
    let count = input.nonces.min(whole.nonces.count - start);
    let first_version = input.first_version % whole.versions.count;
    let versions = input.versions.min(whole.versions.count - first_version);
    let space = SearchSpace {
        nonces: NonceRange { start, count },
        versions: VersionRange { start: first_version, count: versions },
    };
    let room = usize::from(input.room).max(versions as usize);
    let expected = oracle(&job, &space);
    for scanner in scanners {
        scanner.load(&job, None).unwrap();
        assert_eq!(in_parts(scanner.as_mut(), &space, room), expected, "{}", scanner.info().kernel);
    }
}

fn oracle(job: &Job, space: &SearchSpace) -> Vec<Candidate> {
    let mut found = Vec::new();
    let base = job.version().expect("a header has a version");
    for nonce in space.nonces.start..space.nonces.start + space.nonces.count {
        for index in space.versions.start..space.versions.start + space.versions.count {
            let version = job.version_mask().map(|mask| mask.version(base, index));
            let candidate = Candidate { nonce, version };
            let mut bytes = Vec::new();
            job.append_bytes(&candidate, &mut bytes);
            if Digest::plain(double_digest(&bytes)).meets(job.algorithm(), job.target()) {
                found.push(candidate);
            }
        }
    }
    found
}

/// Scans with little room for candidates and goes on behind the last nonce done until all are.
fn in_parts(scanner: &mut dyn Scanner, space: &SearchSpace, room: usize) -> Vec<Candidate> {
    let mut all = Vec::new();
    let mut found = Candidates::with_capacity(room);
    let mut left = *space;
    loop {
        found.clear();
        let scanned = scanner.scan(&left, &StopFlag::new(), &mut found).unwrap();
        all.extend_from_slice(found.as_slice());
        let done = scanned.tried / u64::from(left.versions.count);
        assert_eq!(scanned.tried, done * u64::from(left.versions.count), "a nonce is done whole");
        match scanned.end {
            ScanEnd::Done => {
                assert_eq!(scanned.tried, left.attempts());
                return all;
            }
            ScanEnd::Full => assert!(done > 0, "there was room for one nonce's versions"),
            ScanEnd::Stopped => panic!("nobody asked it to stop"),
        }
        left.nonces.start += done;
        left.nonces.count -= done;
    }
}
