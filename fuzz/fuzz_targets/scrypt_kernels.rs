//! A Scrypt kernel against the general function, on a batch of headers or a run of nonces that fills
//! its lanes or does not. One kernel and one kind of work per input: instrumented scrypt is slow.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use otedama_core::algo::scrypt::{ScryptParams, scrypt};
use otedama_core::job::{NonceRange, VersionRange};
use otedama_core::scan::{Attempt, Candidates, Hasher, Scanner, Setup, StopFlag, kernels};
use otedama_core::{Algorithm, Candidate, Digest, Job, JobId, SearchSpace, Target};

/// One more than the lanes of the widest kernel.
const MOST: usize = 13;

#[derive(Arbitrary, Debug)]
struct Input {
    kernel: u8,
    work: Work,
}

#[derive(Arbitrary, Debug)]
enum Work {
    Headers(Vec<[u8; 80]>),
    Nonces {
        header: [u8; 80],
        /// Counted back from the end of the nonces, where wrapping would show.
        nonces_left: u32,
        #[arbitrary(with = |u: &mut arbitrary::Unstructured| u.int_in_range(1..=MOST))]
        nonces: usize,
        target: [u8; 32],
    },
}

thread_local! {
    static KERNELS: RefCell<Vec<(Box<dyn Scanner>, Box<dyn Hasher>)>> = RefCell::new(make());
}

fn make() -> Vec<(Box<dyn Scanner>, Box<dyn Hasher>)> {
    let setup = Setup::detect();
    let present = kernels(Algorithm::Scrypt).filter(|kernel| kernel.runs_on(&setup.cpu));
    present.map(|kernel| (kernel.scanner(&setup).unwrap(), kernel.hasher(&setup).unwrap())).collect()
}

fuzz_target!(|input: Input| {
    KERNELS.with_borrow_mut(|kernels| {
        let count = kernels.len();
        let (scanner, hasher) = &mut kernels[usize::from(input.kernel) % count];
        match input.work {
            Work::Headers(headers) => hash(hasher.as_mut(), &headers[..headers.len().min(MOST)]),
            Work::Nonces { header, nonces_left, nonces, mut target } => {
                target[31] |= 1; // never zero
                let target = Target::from_be_bytes(target).unwrap();
                let job = Job::blob(JobId(0), Algorithm::Scrypt, &header, None, target).unwrap();
                let start = u64::from(u32::MAX - nonces_left);
                let count = (nonces as u64).min((1 << 32) - start);
                scan(scanner.as_mut(), job, NonceRange { start, count });
            }
        }
    });
});

fn hash(hasher: &mut dyn Hasher, headers: &[[u8; 80]]) {
    let attempts: Vec<_> = headers.iter().map(|header| Attempt::Bytes(header)).collect();
    let expected: Vec<_> = headers.iter().map(|header| digest(header)).collect();
    let mut digests = vec![Digest::plain([0; 32]); headers.len()];
    hasher.hash_many(&attempts, None, &mut digests).unwrap();
    assert_eq!(digests, expected, "{}", hasher.kernel());
}

fn scan(scanner: &mut dyn Scanner, job: Job, nonces: NonceRange) {
    let candidates =
        (nonces.start..nonces.start + nonces.count).map(|nonce| Candidate { nonce, version: None });
    let meets = |candidate: &Candidate| {
        let mut bytes = Vec::new();
        job.append_bytes(candidate, &mut bytes);
        digest(&bytes).meets(job.algorithm(), job.target())
    };
    let expected: Vec<_> = candidates.filter(meets).collect();

    let mut found = Candidates::with_capacity(MOST);
    let space = SearchSpace { nonces, versions: VersionRange { start: 0, count: 1 } };
    scanner.load(&Arc::new(job), None).unwrap();
    let scanned = scanner.scan(&space, &StopFlag::new(), &mut found).unwrap();
    assert_eq!(scanned.tried, nonces.count);
    assert_eq!(found.as_slice(), expected, "{}", scanner.info().kernel);
}

fn digest(header: &[u8]) -> Digest {
    let mut digest = [0; 32];
    scrypt(header, header, &ScryptParams::MINING, &mut digest).expect("128 KiB can be had");
    Digest::plain(digest)
}
