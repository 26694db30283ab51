//! Monero's hashing blob: where its nonce lies, and whose nonces are whose.
//!
//! ```text
//!   varint major | varint minor | varint timestamp | previous id 32 | nonce 4 | tree root 32 | varint count
//! ```

use otedama_core::epoch::EpochKey;
use otedama_core::job::NonceRange;
use otedama_core::{Algorithm, Hash256, Job, JobId, SearchSpace, Target};

use super::WorkError;

/// What this dialect calls an algorithm: the names that XMRig gave them, RandomX v2's in version 6.26
/// (`src/base/crypto/Algorithm.cpp`, pull request 3769). `None` for what is not mined in it.
pub fn name(algorithm: Algorithm) -> Option<&'static str> {
    match algorithm {
        Algorithm::RandomXV1 => Some("rx/0"),
        Algorithm::RandomXV2 => Some("rx/2"),
        _ => None,
    }
}

/// The algorithm behind a name, other names that XMRig takes included; `None` if it is none of these.
pub fn algorithm(name: &str) -> Option<Algorithm> {
    match name.to_ascii_lowercase().as_str() {
        "rx/0" | "rx" | "randomx" | "randomx/0" => Some(Algorithm::RandomXV1),
        "rx/2" | "rx/v2" | "randomx/v2" => Some(Algorithm::RandomXV2),
        _ => None,
    }
}

/// Checks that a job is for what is mined; one that does not say is taken to be.
///
/// # Errors
/// [`WorkError::OtherAlgorithm`] otherwise.
pub fn check_algorithm(mined: Algorithm, named: Option<&str>) -> Result<(), WorkError> {
    match named.filter(|name| !name.is_empty()) {
        Some(found) if algorithm(found) != Some(mined) => Err(WorkError::OtherAlgorithm {
            found: found.to_owned(),
            expected: name(mined).unwrap_or(mined.name()),
        }),
        _ => Ok(()),
    }
}

/// The job of a blob.
///
/// # Errors
/// If the blob has the wrong length or its nonce does not lie at byte 39.
pub fn job(
    id: JobId,
    algorithm: Algorithm,
    blob: &[u8],
    seed_hash: &Hash256,
    target: Target,
) -> Result<Job, WorkError> {
    match nonce_offset(blob)? {
        39 => {}
        found => return Err(WorkError::NonceOffset { found }),
    }
    let key =
        EpochKey::bytes(algorithm, seed_hash.as_raw()).expect("32 bytes are no more than a key may have");
    Ok(Job::blob(id, algorithm, blob, None, target)?.with_epoch(key))
}

/// Where the nonce of a blob lies: after three varints and a hash.
///
/// # Errors
/// If the blob ends before.
pub fn nonce_offset(blob: &[u8]) -> Result<usize, WorkError> {
    let mut rest = blob.iter();
    for _ in 0..3 {
        rest.by_ref().find(|&&byte| byte < 0x80);
    }
    let offset = blob.len() - rest.len() + 32;
    if offset + 4 <= blob.len() { Ok(offset) } else { Err(WorkError::ShortBlob { bytes: blob.len() }) }
}

/// The nonce that stands in a blob; the nonce of a pool's job is zero unless its last byte is the pool's.
///
/// # Errors
/// If the blob ends before it.
pub fn nonce_in(blob: &[u8]) -> Result<u32, WorkError> {
    let at = nonce_offset(blob)?;
    let bytes = blob[at..at + 4].try_into().expect("a slice of 4 bytes");
    Ok(u32::from_le_bytes(bytes))
}

/// The part of a job's space whose nonces have this most significant byte; all of it if there is none.
pub fn space_after(job: &Job, prefix: Option<u8>) -> SearchSpace {
    match prefix {
        None => job.space(),
        Some(byte) => {
            SearchSpace { nonces: NonceRange { start: u64::from(byte) << 24, count: 1 << 24 }, ..job.space() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nonce_is_found_behind_three_varints_and_a_hash() {
        let mut blob = vec![16, 16, 0x80, 0x80, 0x80, 0x80, 1];
        blob.extend([7; 32]);
        blob.extend([1, 2, 3, 0xa0]);
        assert_eq!(nonce_offset(&blob), Ok(39));
        assert_eq!(nonce_in(&blob), Ok(0xa003_0201));
        blob.pop();
        assert_eq!(nonce_offset(&blob), Err(WorkError::ShortBlob { bytes: 42 }));
        blob.insert(0, 0x80);
        blob.push(9);
        assert_eq!(nonce_offset(&blob), Ok(40));
        let seed = Hash256::from_raw([0; 32]);
        let refused = job(JobId(0), Algorithm::RandomXV1, &blob, &seed, Target::MAX);
        assert_eq!(refused, Err(WorkError::NonceOffset { found: 40 }));
        assert!(nonce_offset(&[]).is_err() && nonce_offset(&[0xff; 60]).is_err());
    }

    #[test]
    fn jobs_of_other_revisions_are_refused() {
        for mined in [Algorithm::RandomXV1, Algorithm::RandomXV2] {
            assert_eq!(algorithm(name(mined).unwrap()), Some(mined));
            for named in [None, Some(""), name(mined)] {
                assert_eq!(check_algorithm(mined, named), Ok(()));
            }
        }
        assert_eq!(algorithm("RandomX/V2"), Some(Algorithm::RandomXV2));
        let refused = |mined, named| check_algorithm(mined, Some(named)).unwrap_err().to_string();
        assert_eq!(refused(Algorithm::RandomXV1, "rx/2"), "the job is for algorithm 'rx/2': expected 'rx/0'");
        assert_eq!(
            refused(Algorithm::RandomXV2, "rx/wow"),
            "the job is for algorithm 'rx/wow': expected 'rx/2'"
        );
        assert_eq!(name(Algorithm::Sha256d), None);
    }
}
