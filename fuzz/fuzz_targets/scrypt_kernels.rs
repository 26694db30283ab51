//! Every Scrypt kernel of this CPU against the general function: batches of headers and runs of nonces
//! that fill the lanes or do not.
#![no_main]

use std::cell::RefCell;
use std::sync::Arc;

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use otedama_core::algo::scrypt::{ScryptParams, scrypt};
use otedama_core::job::{NonceRange, VersionRange};
use otedama_core::scan::{Attempt, Candidates, Hasher, Scanner, Setup, StopFlag, kernels};
use otedama_core::{Algorithm, Candidate, Digest, Job, JobId, SearchSpace, Target};

#[derive(Arbitrary, Debug)]
struct Input {
    header: [u8; 80],
    nonces_left: u32,
    #[arbitrary(with = |u: &mut arbitrary::Unstructured| u.int_in_range(1..=13))]
    nonces: u64,
    target: [u8; 32],
    headers: Vec<[u8; 80]>,
}

thread_local! {
    static KERNELS: RefCell<Vec<(Box<dyn Scanner>, Box<dyn Hasher>)>> = RefCell::new(make());
}

fn make() -> Vec<(Box<dyn Scanner>, Box<dyn Hasher>)> {
    let setup = Setup::detect();
    // The oracle is left out: it is what the others are compared with.
    let fast = kernels(Algorithm::Scrypt).filter(|k| k.runs_on(&setup.cpu) && !k.is_oracle());
    fast.map(|kernel| (kernel.scanner(&setup).unwrap(), kernel.hasher(&setup).unwrap())).collect()
}

fuzz_target!(|input: Input| {
    KERNELS.with_borrow_mut(|kernels| {
        let headers = input.headers.iter().take(13);
        let attempts: Vec<_> = headers.clone().map(|header| Attempt::Bytes(header)).collect();
        let expected: Vec<_> = headers.map(|header| digest(header)).collect();
        let (job, space) = work(&input);
        let candidates = oracle(&job, &space);
        for (scanner, hasher) in kernels {
            let mut digests = vec![Digest::plain([0; 32]); attempts.len()];
            hasher.hash_many(&attempts, None, &mut digests).unwrap();
            assert_eq!(digests, expected, "{}", hasher.kernel());
            let mut found = Candidates::with_capacity(13);
            scanner.load(&job, None).unwrap();
            let scanned = scanner.scan(&space, &StopFlag::new(), &mut found).unwrap();
            assert_eq!(scanned.tried, space.attempts());
            assert_eq!(found.as_slice(), candidates, "{}", scanner.info().kernel);
        }
    });
});

fn work(input: &Input) -> (Arc<Job>, SearchSpace) {
    let mut target = input.target;
    target[31] |= 1; // never zero
    let target = Target::from_be_bytes(target).unwrap();
    let job = Job::blob(JobId(0), Algorithm::Scrypt, &input.header, None, target).unwrap();
    let start = u64::from(u32::MAX - input.nonces_left);
    let nonces = NonceRange { start, count: input.nonces.min((1 << 32) - start) };
    (Arc::new(job), SearchSpace { nonces, versions: VersionRange { start: 0, count: 1 } })
}

fn oracle(job: &Job, space: &SearchSpace) -> Vec<Candidate> {
    let nonces = space.nonces.start..space.nonces.start + space.nonces.count;
    let candidates = nonces.map(|nonce| Candidate { nonce, version: None });
    let meets = |candidate: &Candidate| {
        let mut bytes = Vec::new();
        job.append_bytes(candidate, &mut bytes);
        digest(&bytes).meets(Algorithm::Scrypt, job.target())
    };
    candidates.filter(meets).collect()
}

fn digest(header: &[u8]) -> Digest {
    let mut digest = [0; 32];
    scrypt(header, header, &ScryptParams::MINING, &mut digest).expect("128 KiB can be had");
    Digest::plain(digest)
}
