//! Ethash, Etchash and KawPow: a sealed header's hash, an epoch, and a nonce whose beginning is the pool's.

use otedama_core::algo::ethash::{Params, SeedFinder};
use otedama_core::epoch::EpochKey;
use otedama_core::job::NonceRange;
use otedama_core::{Algorithm, Difficulty, Hash256, Job, JobId, SearchSpace, Target};

use super::WorkError;

/// What to hash for, as far as both dialect families name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The hash of the sealed header.
    pub header_hash: Hash256,
    /// The epoch's seed, if the pool tells.
    pub seed_hash: Option<Hash256>,
    /// The block's height, if the pool tells.
    pub height: Option<u64>,
}

/// The job of a sealed header. The epoch is that of the height; without one, that of the seed.
///
/// # Errors
/// If neither names an epoch of this algorithm, or they name different ones.
pub fn job(
    id: JobId,
    algorithm: Algorithm,
    work: &Sealed,
    target: Target,
    seeds: &mut SeedFinder,
) -> Result<Job, WorkError> {
    let params =
        Params::of(algorithm).ok_or(WorkError::Job(otedama_core::job::JobError::WrongWork { algorithm }))?;
    let seed_text = || work.seed_hash.map(|seed| seed.to_raw_hex()).unwrap_or_default();
    let (epoch, height) = match (work.height, &work.seed_hash) {
        (Some(height), seed) => {
            let epoch = params.epoch_at(height)?;
            if seed.is_some_and(|seed| seed.as_raw() != &epoch.seed()) {
                return Err(WorkError::SeedMismatch { algorithm, height, seed: seed_text() });
            }
            (epoch, height)
        }
        (None, Some(seed)) => {
            let epoch = seeds
                .find(params, seed.as_raw())
                .ok_or_else(|| WorkError::UnknownSeed { algorithm, seed: seed_text() })?;
            (epoch, u64::from(epoch.number()) * u64::from(epoch.params().epoch_blocks))
        }
        (None, None) => return Err(WorkError::NoSeed),
    };
    let key = EpochKey::number(epoch.params().algorithm, epoch.number());
    Ok(Job::sealed(id, algorithm, work.header_hash, height, target)?.with_epoch(key))
}

/// The nonces that begin with these bytes; all if there are none. At most seven bytes.
pub fn nonces_after(prefix: &[u8]) -> NonceRange {
    if prefix.is_empty() {
        // As `Job::space` has it: the last of 2^64 is left out.
        return NonceRange { start: 0, count: u64::MAX };
    }
    let bits = 8 * prefix.len().min(7);
    let number = prefix.iter().take(7).fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    NonceRange {
        start: number << (64 - bits),
        count: (1 << (64 - bits)) - u64::from(number == (1 << bits) - 1),
    }
}

/// Whether a nonce begins with these bytes.
pub fn begins_with(nonce: u64, prefix: &[u8]) -> bool {
    nonce.to_be_bytes().starts_with(prefix)
}

/// The part of a job's space whose nonces begin with these bytes.
pub fn space_after(job: &Job, prefix: &[u8]) -> SearchSpace {
    SearchSpace { nonces: nonces_after(prefix), ..job.space() }
}

/// The target of a difficulty in NiceHash's dialect: Bitcoin's scale, whatever the algorithm.
pub fn nicehash_target(difficulty: Difficulty) -> Target {
    Target::from_difficulty(Algorithm::Sha256d, difficulty)
}

/// The difficulty in NiceHash's dialect of a target.
pub fn nicehash_difficulty(target: &Target) -> Difficulty {
    target.to_difficulty(Algorithm::Sha256d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_the_high_end_of_the_nonces() {
        let range = nonces_after(&[0x50, 0x4c]);
        assert_eq!((range.start, range.count), (0x504c_0000_0000_0000, 1 << 48));
        assert!(begins_with(0x504c_0000_204b_556d, &[0x50, 0x4c, 0]) && !begins_with(0x504c << 40, &[0x50]));
        // The last range ends where the space of a job does.
        let job =
            Job::sealed(JobId(0), Algorithm::KawPow, Hash256::from_raw([0; 32]), 0, Target::MAX).unwrap();
        for prefix in [vec![], vec![0], vec![0xff], vec![0xff; 3], vec![0xff; 7], vec![0xff, 0xfe]] {
            assert_eq!(space_after(&job, &prefix).check_within(&job.space()), Ok(()), "{prefix:?}");
        }
    }

    #[test]
    fn seed_and_height_must_agree() {
        let seeds = &mut SeedFinder::new();
        let mut work = Sealed {
            header_hash: Hash256::from_raw([7; 32]),
            seed_hash: Some(Hash256::from_raw([0; 32])),
            height: Some(29_999),
        };
        let mut make = |work: &Sealed| job(JobId(0), Algorithm::Ethash, work, Target::MAX, seeds);
        assert_eq!(make(&work).unwrap().epoch(), Some(&EpochKey::number(Algorithm::Ethash, 0)));
        work.height = Some(30_000);
        assert!(matches!(make(&work), Err(WorkError::SeedMismatch { height: 30_000, .. })));
        work.height = None;
        assert_eq!(make(&work).unwrap().epoch(), Some(&EpochKey::number(Algorithm::Ethash, 0)));
        work.seed_hash = Some(Hash256::from_raw([1; 32]));
        assert!(matches!(make(&work), Err(WorkError::UnknownSeed { .. })));
        work.seed_hash = None;
        assert_eq!(make(&work), Err(WorkError::NoSeed));
    }
}
