//! Jobs from any bytes, spaces from any numbers: nothing panics, and what a job allows is what it says
//! it covers.
#![no_main]

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use otedama_core::algorithm::Input as Takes;
use otedama_core::job::{NonceRange, VersionRange};
use otedama_core::{Algorithm, Candidate, Hash256, Job, JobId, SearchSpace, Target, VersionMask};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    algorithm: u8,
    /// Headers are 80 bytes, which a fuzzer seldom guesses.
    header: Option<[u8; 80]>,
    bytes: &'a [u8],
    mask: Option<u32>,
    nonces: (u64, u64),
    versions: (u32, u32),
    candidate: (u64, Option<u32>),
}

fuzz_target!(|input: Input| {
    let algorithm = Algorithm::ALL[usize::from(input.algorithm) % Algorithm::ALL.len()];
    let bytes = input.header.as_ref().map_or(input.bytes, |header| header);
    let mask = input.mask.and_then(|bits| VersionMask::new(bits).ok());
    assert_eq!(input.mask.is_some_and(|bits| bits != 0), mask.is_some());

    let takes = match algorithm.spec().input {
        Takes::Header { len, .. } => bytes.len() == len,
        Takes::Blob { min_len, max_len, .. } => (min_len..=max_len).contains(&bytes.len()) && mask.is_none(),
        Takes::Sealed => false,
    };
    let job = Job::blob(JobId(0), algorithm, bytes, mask, Target::MAX);
    assert_eq!(job.is_ok(), takes, "{algorithm}: {job:?}");
    let hash = Hash256::from_raw([0; 32]);
    let sealed = Job::sealed(JobId(0), algorithm, hash, input.nonces.0, Target::MAX);
    assert_eq!(sealed.is_ok(), matches!(algorithm.spec().input, Takes::Sealed));
    let Ok(job) = job.or(sealed) else { return };

    space(&job, &input);
    let (nonce, version) = input.candidate;
    candidate(&job, &Candidate { nonce, version });
    let (base, whole) = (job.version().unwrap_or(0), job.space());
    let version = job.version_mask().map(|mask| {
        let index = input.versions.0 % whole.versions.count;
        let version = mask.version(base, index);
        assert_eq!(version, naive_version(mask.bits(), base, index));
        version
    });
    let inside = Candidate { nonce: nonce % whole.nonces.count, version };
    assert!(job.allows(&inside), "{inside:?}");
    candidate(&job, &inside);
});

/// A space lies in the job's exactly if its ends do, counted without overflow.
fn space(job: &Job, input: &Input) {
    let ((nonce, nonces), (version, versions)) = (input.nonces, input.versions);
    let space = SearchSpace {
        nonces: NonceRange { start: nonce, count: nonces },
        versions: VersionRange { start: version, count: versions },
    };
    let whole = job.space();
    let inside = nonces > 0
        && versions > 0
        && u128::from(nonce) + u128::from(nonces) <= u128::from(whole.nonces.count)
        && u64::from(version) + u64::from(versions) <= u64::from(whole.versions.count);
    assert_eq!(space.check_within(&whole).is_ok(), inside, "{space:?} in {whole:?}");
    let attempts = u128::from(nonces) * u128::from(versions);
    assert_eq!(u128::from(space.attempts()), attempts.min(u64::MAX.into()));
}

/// What is hashed for a candidate differs from the job's bytes in the nonce and the mask's bits alone.
fn candidate(job: &Job, candidate: &Candidate) {
    let mut hashed = Vec::new();
    job.append_bytes(candidate, &mut hashed);
    let Some(slot) = job.algorithm().spec().input.nonce_slot() else {
        assert!(hashed.is_empty());
        return;
    };
    if !job.allows(candidate) {
        return;
    }
    let mut nonce = [0; 8];
    nonce[..slot.width].copy_from_slice(&hashed[slot.offset..slot.offset + slot.width]);
    assert_eq!(u64::from_le_bytes(nonce), candidate.nonce);

    let mut plain = Vec::new();
    job.append_bytes(&Candidate { version: None, ..*candidate }, &mut plain);
    assert_eq!(hashed[4..], plain[4..]);
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let differing = word(&hashed) ^ word(&plain);
    assert_eq!(differing & !job.version_mask().map_or(0, VersionMask::bits), 0);
}

/// Bit by bit: the index's bits go to the mask's, lowest to lowest, and flip what is there.
fn naive_version(mask: u32, mut version: u32, index: u32) -> u32 {
    let mut next = 0;
    for bit in 0..32 {
        if mask >> bit & 1 == 1 {
            version ^= (index.checked_shr(next).unwrap_or(0) & 1) << bit;
            next += 1;
        }
    }
    version
}
