//! Monero's hashing blob: where its nonce lies, and whose nonces are whose.
//!
//! ```text
//!   varint major | varint minor | varint timestamp | previous id 32 | nonce 4 | tree root 32 | varint count
//! ```

use otedama_core::epoch::EpochKey;
use otedama_core::job::NonceRange;
use otedama_core::{Algorithm, Hash256, Job, JobId, SearchSpace, Target};

use super::WorkError;

/// The algorithm behind a name in this dialect; jobs without one are Monero's.
///
/// # Errors
/// If this version cannot mine it.
pub fn algorithm(name: Option<&str>) -> Result<Algorithm, WorkError> {
    match name {
        None | Some("rx/0" | "rx" | "randomx" | "RandomX" | "RandomX/0" | "") => Ok(Algorithm::RandomXV1),
        Some(other) => Err(WorkError::UnknownAlgorithm(other.to_owned())),
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
    fn names_of_other_revisions_are_refused() {
        assert_eq!(algorithm(None), Ok(Algorithm::RandomXV1));
        assert_eq!(algorithm(Some("rx/0")), Ok(Algorithm::RandomXV1));
        assert!(algorithm(Some("rx/2")).is_err());
    }
}
