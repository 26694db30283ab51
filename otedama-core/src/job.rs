//! A job and the space it may be searched in: small values, checked once when they are made.

use std::fmt;

use crate::algorithm::{Algorithm, Input, NonceSlot};
use crate::epoch::EpochKey;
use crate::hash256::Hash256;
use crate::target::Target;

/// The number a job is known by inside one process. Protocols keep their own names beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What to hash, and how small the hash must be. Made once, shared by reference, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    id: JobId,
    algorithm: Algorithm,
    work: Work,
    target: Target,
    epoch: Option<EpochKey>,
    height: u64,
}

impl Job {
    /// A job on a header or blob that contains its nonce. `roll` gives the version bits a scanner may
    /// vary (BIP 320); only 80-byte headers have them.
    ///
    /// # Errors
    /// If the algorithm takes no such input, its length in bytes is wrong, or it has no version to roll.
    pub fn blob(
        id: JobId,
        algorithm: Algorithm,
        bytes: &[u8],
        roll: Option<VersionMask>,
        target: Target,
    ) -> Result<Job, JobError> {
        let expected = match algorithm.spec().input {
            Input::Header { len, .. } if bytes.len() == len => None,
            Input::Header { len, .. } => Some((len, len)),
            Input::Blob { min_len, max_len, .. } if (min_len..=max_len).contains(&bytes.len()) => None,
            Input::Blob { min_len, max_len, .. } => Some((min_len, max_len)),
            Input::Sealed => return Err(JobError::WrongWork { algorithm }),
        };
        if let Some((min, max)) = expected {
            return Err(JobError::WrongLength { algorithm, min, max, found: bytes.len() });
        }
        if roll.is_some() && !matches!(algorithm.spec().input, Input::Header { .. }) {
            return Err(JobError::NothingToRoll { algorithm });
        }
        let work = Work::Blob { bytes: bytes.into(), roll };
        Ok(Job { id, algorithm, work, target, epoch: None, height: 0 })
    }

    /// A job on the hash of a sealed header, at a block height; the nonce travels beside it.
    ///
    /// # Errors
    /// If the algorithm hashes headers or blobs instead.
    pub fn sealed(
        id: JobId,
        algorithm: Algorithm,
        header_hash: Hash256,
        height: u64,
        target: Target,
    ) -> Result<Job, JobError> {
        match algorithm.spec().input {
            Input::Sealed => {}
            _ => return Err(JobError::WrongWork { algorithm }),
        }
        Ok(Job { id, algorithm, work: Work::Sealed { header_hash }, target, epoch: None, height })
    }

    /// The same job, in need of this epoch.
    #[must_use]
    pub fn with_epoch(self, epoch: EpochKey) -> Job {
        Job { epoch: Some(epoch), ..self }
    }

    /// The same job with another target.
    #[cfg(feature = "gpu")]
    pub(crate) fn with_target(&self, target: Target) -> Job {
        Job { target, ..self.clone() }
    }

    /// The same job with another version of its header: what a candidate of that version hashes.
    #[cfg(feature = "gpu")]
    pub(crate) fn with_version(&self, version: u32) -> Job {
        let mut job = self.clone();
        if let (Work::Blob { bytes, .. }, Input::Header { .. }) = (&mut job.work, job.algorithm.spec().input)
        {
            bytes[..4].copy_from_slice(&version.to_le_bytes());
        }
        job
    }

    /// The number it is known by.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// The function to mine.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What is hashed.
    pub fn work(&self) -> &Work {
        &self.work
    }

    /// The largest hash wanted.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The epoch whose memory the hash needs, if it needs any.
    pub fn epoch(&self) -> Option<&EpochKey> {
        self.epoch.as_ref()
    }

    /// The block height, where the algorithm depends on it; else 0.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Everything a scanner may try for this job: all nonces with all versions.
    pub fn space(&self) -> SearchSpace {
        let nonces = match self.algorithm.spec().input.nonce_slot() {
            Some(slot) if slot.width < 8 => 1u64 << (8 * slot.width),
            // The last of 2^64 nonces is left out so that counts fit; nobody will miss it.
            _ => u64::MAX,
        };
        let versions = self.version_mask().map_or(1, VersionMask::count);
        SearchSpace {
            nonces: NonceRange { start: 0, count: nonces },
            versions: VersionRange { start: 0, count: versions },
        }
    }

    /// The version bits a scanner may vary, if any.
    pub fn version_mask(&self) -> Option<VersionMask> {
        match &self.work {
            Work::Blob { roll, .. } => *roll,
            Work::Sealed { .. } => None,
        }
    }

    /// The header's version field, where the input is a header.
    pub fn version(&self) -> Option<u32> {
        match (&self.work, self.algorithm.spec().input) {
            (Work::Blob { bytes, .. }, Input::Header { .. }) => Some(version_of(bytes)),
            _ => None,
        }
    }

    /// Appends the bytes that are hashed for a candidate: the blob with the candidate's nonce and
    /// version written into the copy. Appends nothing for sealed work.
    pub fn append_bytes(&self, candidate: &Candidate, out: &mut Vec<u8>) {
        let (Work::Blob { bytes, .. }, Some(slot)) = (&self.work, self.algorithm.spec().input.nonce_slot())
        else {
            return;
        };
        let start = out.len();
        out.extend_from_slice(bytes);
        let copy = &mut out[start..];
        copy[slot.offset..slot.offset + slot.width]
            .copy_from_slice(&candidate.nonce.to_le_bytes()[..slot.width]);
        if let Some(version) = candidate.version {
            copy[..4].copy_from_slice(&version.to_le_bytes());
        }
    }

    /// Whether the job lets anyone claim this nonce and version at all.
    pub fn allows(&self, candidate: &Candidate) -> bool {
        let nonces = self.space().nonces;
        let version_fits = match (&self.work, candidate.version) {
            (_, None) => true,
            (Work::Blob { bytes, roll: Some(mask) }, Some(version)) => {
                mask.allows(version_of(bytes), version)
            }
            (Work::Blob { bytes, roll: None }, Some(version)) => {
                matches!(self.algorithm.spec().input, Input::Header { .. }) && version == version_of(bytes)
            }
            (Work::Sealed { .. }, Some(_)) => false,
        };
        candidate.nonce < nonces.count && version_fits
    }
}

impl Input {
    /// Where the nonce lies in the hashed bytes; `None` where it travels beside them.
    pub fn nonce_slot(&self) -> Option<NonceSlot> {
        match *self {
            Input::Header { nonce, .. } | Input::Blob { nonce, .. } => Some(nonce),
            Input::Sealed => None,
        }
    }
}

/// What a job hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// A header or hashing blob that contains the nonce.
    Blob {
        /// The bytes as they are hashed, nonce included (its value there does not matter).
        bytes: Box<[u8]>,
        /// The version bits a scanner may vary, if any.
        roll: Option<VersionMask>,
    },
    /// The hash of a sealed header; the nonce travels beside it (Ethash, KawPow).
    Sealed {
        /// The header's hash, in the order it is fed to the function.
        header_hash: Hash256,
    },
}

/// Why a job was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// The bytes to hash have the wrong length.
    #[error("{algorithm} input has {found} bytes: expected {expected}", expected = span(*min, *max))]
    WrongLength {
        /// The function to mine.
        algorithm: Algorithm,
        /// Shortest length accepted.
        min: usize,
        /// Longest length accepted.
        max: usize,
        /// The length given.
        found: usize,
    },
    /// Sealed work for an algorithm of blobs, or the reverse.
    #[error("{algorithm} takes {kind}", kind = if matches!(algorithm.spec().input, Input::Sealed) { "a sealed header hash, not a header" } else { "a header or blob, not a sealed header hash" })]
    WrongWork {
        /// The function to mine.
        algorithm: Algorithm,
    },
    /// Version rolling on something that has no version field.
    #[error("{algorithm} input has no version field to roll: leave the version mask out")]
    NothingToRoll {
        /// The function to mine.
        algorithm: Algorithm,
    },
    /// A version mask without bits.
    #[error("version mask is zero: expected at least one bit, such as 1fffe000 (BIP 320)")]
    EmptyMask,
    /// A range of nonces or versions that leaves its space.
    #[error("range {start} + {count} leaves the space of {space}: expected it to end at or before {space}")]
    OutsideSpace {
        /// The first number of the range.
        start: u64,
        /// How many numbers it has.
        count: u64,
        /// How many numbers there are.
        space: u64,
    },
    /// A range of nothing.
    #[error("range is empty: expected a count of at least 1")]
    EmptyRange,
}

/// The header version bits that a job lets scanners vary (BIP 320).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VersionMask(u32);

impl VersionMask {
    /// The sixteen bits that BIP 320 sets aside.
    pub const BIP320: VersionMask = VersionMask(0x1fff_e000);

    /// A mask of these bits, of which there must be at least one.
    pub fn new(bits: u32) -> Result<VersionMask, JobError> {
        if bits == 0 { Err(JobError::EmptyMask) } else { Ok(VersionMask(bits)) }
    }

    /// The bits.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// How many versions the mask allows: two to the number of its bits, less one where that is 2^32.
    pub fn count(self) -> u32 {
        1u32.checked_shl(self.0.count_ones()).unwrap_or(u32::MAX)
    }

    /// The `index`-th version: the index's bits spread over the mask's and flipped in `base`, so that
    /// index 0 is the job's own version.
    pub fn version(self, base: u32, mut index: u32) -> u32 {
        let mut version = base;
        let mut left = self.0;
        while left != 0 && index != 0 {
            let lowest = left & left.wrapping_neg();
            if index & 1 == 1 {
                version ^= lowest;
            }
            index >>= 1;
            left ^= lowest;
        }
        version
    }

    /// Whether `version` differs from `base` in this mask's bits alone.
    pub fn allows(self, base: u32, version: u32) -> bool {
        (base ^ version) & !self.0 == 0
    }
}

/// Nonces `start` to `start + count - 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceRange {
    /// The first nonce.
    pub start: u64,
    /// How many.
    pub count: u64,
}

/// Versions by their index under a job's [`VersionMask`]: `start` to `start + count - 1`. A job that
/// does not roll has one version, index 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionRange {
    /// The first index.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// A rectangle of attempts: every nonce with every version. A scan goes through it nonce by nonce
/// (all versions of one nonce before the next), so what is left of a stopped scan is a rectangle too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SearchSpace {
    /// The nonces.
    pub nonces: NonceRange,
    /// The versions.
    pub versions: VersionRange,
}

impl SearchSpace {
    /// How many attempts there are, held at 2^64 - 1.
    pub fn attempts(&self) -> u64 {
        self.nonces.count.saturating_mul(u64::from(self.versions.count))
    }

    /// Checks that this space is not empty and lies inside `whole`: no range wraps.
    pub fn check_within(&self, whole: &SearchSpace) -> Result<(), JobError> {
        let inside = |start: u64, count: u64, space: u64| match start.checked_add(count) {
            _ if count == 0 => Err(JobError::EmptyRange),
            Some(end) if end <= space => Ok(()),
            _ => Err(JobError::OutsideSpace { start, count, space }),
        };
        inside(self.nonces.start, self.nonces.count, whole.nonces.count)?;
        inside(self.versions.start.into(), self.versions.count.into(), whole.versions.count.into())
    }
}

/// A nonce that a scanner claims meets the target. Nothing is believed until a verifier has hashed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The nonce.
    pub nonce: u64,
    /// The version it was found with, where the job lets it roll.
    pub version: Option<u32>,
}

/// The version field of an 80-byte header: its first four bytes, little-endian.
pub(crate) fn version_of(header: &[u8]) -> u32 {
    u32::from_le_bytes([header[0], header[1], header[2], header[3]])
}

fn span(min: usize, max: usize) -> String {
    if min == max { min.to_string() } else { format!("{min} to {max}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn job(roll: Option<VersionMask>) -> Job {
        Job::blob(JobId(1), Algorithm::Sha256d, &[0; 80], roll, Target::MAX).unwrap()
    }

    #[test]
    fn a_header_of_the_wrong_length_is_refused_with_both_lengths() {
        let error = Job::blob(JobId(1), Algorithm::Sha256d, &[0; 79], None, Target::MAX).unwrap_err();
        assert_eq!(error.to_string(), "sha256d input has 79 bytes: expected 80");
        let error = Job::blob(JobId(1), Algorithm::RandomXV1, &[0; 42], None, Target::MAX).unwrap_err();
        assert_eq!(error.to_string(), "randomx input has 42 bytes: expected 43 to 512");
        assert!(Job::blob(JobId(1), Algorithm::Ethash, &[0; 80], None, Target::MAX).is_err());
        let hash = Hash256::from_raw([0; 32]);
        assert!(Job::sealed(JobId(1), Algorithm::Scrypt, hash, 0, Target::MAX).is_err());
        assert!(Job::sealed(JobId(1), Algorithm::KawPow, hash, 0, Target::MAX).is_ok());
    }

    #[test]
    fn versions_are_counted_and_start_with_the_jobs_own() {
        assert_eq!(VersionMask::BIP320.count(), 65_536);
        assert_eq!(VersionMask::BIP320.version(0x2000_0000, 0), 0x2000_0000);
        assert_eq!(VersionMask::BIP320.version(0x2000_0000, 1), 0x2000_2000);
        assert_eq!(VersionMask::BIP320.version(0x3fff_e000, 65_535), 0x2000_0000);
        assert_eq!(VersionMask::new(u32::MAX).unwrap().count(), u32::MAX);
        assert_eq!(VersionMask::new(0), Err(JobError::EmptyMask));
        assert_eq!(job(None).space().attempts(), 1 << 32);
        assert_eq!(job(Some(VersionMask::BIP320)).space().attempts(), 1 << 48);
    }

    #[test]
    fn ranges_that_are_empty_or_wrap_are_refused() {
        let whole = job(None).space();
        let nonces = |start, count| SearchSpace { nonces: NonceRange { start, count }, ..whole };
        assert_eq!(nonces(0, 1 << 32).check_within(&whole), Ok(()));
        assert_eq!(nonces((1 << 32) - 1, 1).check_within(&whole), Ok(()));
        assert_eq!(nonces(0, 0).check_within(&whole), Err(JobError::EmptyRange));
        assert!(nonces(1, 1 << 32).check_within(&whole).is_err());
        assert!(nonces(u64::MAX, 2).check_within(&whole).is_err());
        let error = nonces((1 << 32) - 1, 2).check_within(&whole).unwrap_err().to_string();
        assert_eq!(
            error,
            "range 4294967295 + 2 leaves the space of 4294967296: expected it to end at or before 4294967296"
        );
    }

    #[test]
    fn a_candidate_must_be_one_the_job_allows() {
        let rolling = job(Some(VersionMask::BIP320));
        let claim = |nonce, version| Candidate { nonce, version };
        assert!(rolling.allows(&claim(0, None)) && rolling.allows(&claim(u32::MAX.into(), Some(0x2000))));
        assert!(!rolling.allows(&claim(1 << 32, None)));
        assert!(!rolling.allows(&claim(0, Some(1))));
        assert!(job(None).allows(&claim(0, Some(0))));
        assert!(!job(None).allows(&claim(0, Some(0x2000))));
    }

    proptest! {
        #[test]
        fn the_index_of_a_version_is_its_bits_under_the_mask(bits in 1u32.., base: u32, a: u32, b: u32) {
            let mask = VersionMask(bits);
            let (a, b) = (a % mask.count(), b % mask.count());
            prop_assert!(mask.allows(base, mask.version(base, a)));
            prop_assert_eq!(mask.version(base, a) == mask.version(base, b), a == b);
        }
    }
}
