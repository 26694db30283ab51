//! Known answers from real chains that every kernel must give before it may work.

use std::sync::Arc;

use crate::algorithm::Algorithm;
use crate::epoch::{Epoch, EpochKey};
use crate::hash256::{Digest, Hash256};
use crate::job::{
    Candidate, Job, JobError, JobId, NonceRange, SearchSpace, VersionMask, VersionRange, version_of,
};
use crate::scan::{Attempt, Candidates, HashError, Hasher, ScanError, Scanner, StopFlag, judged};
use crate::target::{CompactBits, Target, U256};

/// Lets a scanner find the nonces of known blocks among their neighbours.
///
/// # Errors
/// If it finds anything else than exactly the known nonce.
pub fn scanner(scanner: &mut dyn Scanner) -> Result<(), SelfTestError> {
    let algorithm = scanner.info().algorithm;
    let max_versions = scanner.info().max_versions;
    let mut tested = false;
    for block in known_blocks(algorithm) {
        // A neighbourhood that no lane width divides, with the known nonce away from its edges.
        let nonce = u64::from(block.nonce());
        let nonces = NonceRange { start: nonce - 22, count: 37 };
        let rolls: &[Option<VersionMask>] =
            if algorithm == Algorithm::Sha256d { &[None, Some(VersionMask::BIP320)] } else { &[None] };
        for &roll in rolls {
            let job = Arc::new(block.job(algorithm, roll)?);
            let versions =
                VersionRange { start: 0, count: job.space().versions.count.min(max_versions).min(5) };
            let mut found = Candidates::with_capacity(8);
            scanner.load(&job, None)?;
            scanner.scan(&SearchSpace { nonces, versions }, &StopFlag::new(), &mut found)?;
            let expected = Candidate { nonce, version: roll.map(|_| version_of(&block.header)) };
            if found.as_slice() != [expected] {
                return Err(SelfTestError::Found {
                    block: block.name,
                    expected,
                    found: found.as_slice().to_vec(),
                });
            }
        }
        tested = true;
    }
    if tested { Ok(()) } else { Err(SelfTestError::NoAnswer(algorithm)) }
}

/// Lets a hasher hash known blocks, each in every lane's place.
///
/// # Errors
/// If a digest differs from the chain's.
pub fn hasher(algorithm: Algorithm, hasher: &mut dyn Hasher) -> Result<(), SelfTestError> {
    let blocks: Vec<Block> = known_blocks(algorithm).collect();
    if blocks.is_empty() {
        return Err(SelfTestError::NoAnswer(algorithm));
    }
    // One more than the lanes, so that a full batch and a remainder are both seen.
    let count = hasher.lanes() + 1;
    let attempts: Vec<Attempt<'_>> =
        blocks.iter().cycle().take(count).map(|block| Attempt::Bytes(&block.header)).collect();
    let mut digests = vec![Digest::plain([0; 32]); count];
    hasher.hash_many(&attempts, None, &mut digests)?;
    for (digest, block) in digests.iter().zip(blocks.iter().cycle()) {
        if digest.pow != block.hash {
            return Err(SelfTestError::Hashed { block: block.name, expected: block.hash, found: digest.pow });
        }
    }
    Ok(())
}

/// The epoch of which [`scanner_in`] and [`hasher_in`] know answers, for algorithms that have epochs. Building
/// its light part takes up to a second, too long for every start: before a kernel of such an algorithm may
/// work it computes something small as its oracle does, and the known answers are for whoever asks.
pub fn epoch(algorithm: Algorithm) -> Option<EpochKey> {
    let answer = IN_EPOCH.iter().find(|answer| answer.algorithm == algorithm)?;
    match answer.epoch {
        Era::Key(key) => EpochKey::bytes(algorithm, key).ok(),
        Era::Number(number) => Some(EpochKey::number(algorithm, number)),
    }
}

/// Lets a scanner find a known hash's nonce with the epoch of [`epoch`], at the hash itself as the target but
/// not one below it.
///
/// # Errors
/// If it misses the one or claims the other.
pub fn scanner_in(scanner: &mut dyn Scanner, epoch: &Arc<Epoch>) -> Result<(), SelfTestError> {
    let algorithm = scanner.info().algorithm;
    for answer in IN_EPOCH.iter().filter(|answer| answer.algorithm == algorithm) {
        let known = answer.decode()?;
        let nonce = known.nonce(algorithm);
        // The scanner's lanes and one more, the known nonce not the first.
        let start = nonce.saturating_sub(1);
        let nonces = NonceRange { start, count: scanner.info().lanes as u64 + 1 };
        let digest = judged(algorithm, &known.attempt(), Digest { pow: known.hash, mix: known.mix });
        let number = digest.pow.to_number(algorithm.spec().hash_order);
        for (limit, expected) in [(number, true), (number - U256::from(1), false)] {
            let unusable =
                |error: &dyn std::fmt::Display| SelfTestError::Answer(format!("{}: {error}", answer.name));
            let target = Target::new(limit).map_err(|e| unusable(&e))?;
            let job = known.job(algorithm, target).map_err(|e| unusable(&e))?;
            let job = Arc::new(job.with_epoch(*epoch.key()));
            let mut found = Candidates::with_capacity(64);
            scanner.load(&job, Some(epoch))?;
            let space = SearchSpace { nonces, versions: job.space().versions };
            scanner.scan(&space, &StopFlag::new(), &mut found)?;
            let candidate = Candidate { nonce, version: None };
            if found.as_slice().contains(&candidate) != expected {
                return Err(SelfTestError::Found {
                    block: answer.name,
                    expected: candidate,
                    found: found.as_slice().to_vec(),
                });
            }
        }
    }
    Ok(())
}

/// Lets a hasher hash the known inputs of the epoch of [`epoch`].
///
/// # Errors
/// If a digest or a mix hash differs from the published one.
pub fn hasher_in(
    algorithm: Algorithm,
    hasher: &mut dyn Hasher,
    epoch: &Arc<Epoch>,
) -> Result<(), SelfTestError> {
    for answer in IN_EPOCH.iter().filter(|answer| answer.algorithm == algorithm) {
        let known = answer.decode()?;
        let count = hasher.lanes() + 1;
        let mut digests = vec![Digest::plain([0; 32]); count];
        hasher.hash_many(&vec![known.attempt(); count], Some(epoch), &mut digests)?;
        for digest in digests {
            let mixes = [digest.mix, known.mix].map(|mix| mix.unwrap_or(known.hash));
            for (found, expected) in [(digest.pow, known.hash), (mixes[0], mixes[1])] {
                if found != expected {
                    return Err(SelfTestError::Hashed { block: answer.name, expected, found });
                }
            }
        }
    }
    Ok(())
}

/// What a kernel got wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SelfTestError {
    /// A scan found something else than the known nonce.
    #[error("scanning {block} found {found:?}: expected exactly {expected:?}")]
    Found {
        /// Which block.
        block: &'static str,
        /// What is there to find.
        expected: Candidate,
        /// What was found.
        found: Vec<Candidate>,
    },
    /// A digest came out wrong.
    #[error("hashing {block} gave {found:?}: expected {expected:?}")]
    Hashed {
        /// Which block.
        block: &'static str,
        /// Its hash.
        expected: Hash256,
        /// What came out.
        found: Hash256,
    },
    /// A digest of a made-up input is not the oracle's.
    #[error("hashing a sample gave {found:?}: the oracle says {expected:?}")]
    Disagrees {
        /// The oracle's digest.
        expected: Hash256,
        /// What came out.
        found: Hash256,
    },
    /// There is nothing to test with, so nothing may run.
    #[error("no known answer for {0}")]
    NoAnswer(Algorithm),
    /// The scan itself failed.
    #[error(transparent)]
    Scan(#[from] ScanError),
    /// Hashing itself failed.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The job itself is not one.
    #[error("known answer is unusable: {0}")]
    Answer(String),
}

/// A block of a real chain.
struct Block {
    name: &'static str,
    header: [u8; 80],
    hash: Hash256,
}

impl Block {
    fn nonce(&self) -> u32 {
        u32::from_le_bytes([self.header[76], self.header[77], self.header[78], self.header[79]])
    }

    fn bits(&self) -> CompactBits {
        CompactBits(u32::from_le_bytes([self.header[72], self.header[73], self.header[74], self.header[75]]))
    }

    fn job(&self, algorithm: Algorithm, roll: Option<VersionMask>) -> Result<Job, SelfTestError> {
        let unusable =
            |error: &dyn std::fmt::Display| SelfTestError::Answer(format!("{}: {error}", self.name));
        let target = self.bits().to_target().map_err(|e| unusable(&e))?;
        Job::blob(JobId(0), algorithm, &self.header, roll, target).map_err(|e| unusable(&e))
    }
}

/// Name, header and hash (as displayed) of known blocks; facts of the chains named.
const BLOCKS: &[(Algorithm, &str, &str, &str)] = &[
    (
        Algorithm::Sha256d,
        "Bitcoin's genesis block",
        "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c",
        "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f",
    ),
    (
        Algorithm::Sha256d,
        "Bitcoin's block 170",
        "0100000055bd840a78798ad0da853f68974f3d183e2bd1db6a842c1feecf222a00000000ff104ccb05421ab93e63f8c3ce5c2c2e9dbb37de2764b3a3175c8166562cac7d51b96a49ffff001d283e9e70",
        "00000000d1145790a8694403d4063f323d499e655c83426834d4ce2f8dd4a2ee",
    ),
    (
        Algorithm::Scrypt,
        "Litecoin's genesis block",
        "010000000000000000000000000000000000000000000000000000000000000000000000d9ced4ed1130f7b7faad9be25323ffafa33232a17c3edf6cfd97bee6bafbdd97b9aa8e4ef0ff0f1ecd513f7c",
        "0000050c34a64b415b6b15b37f2216634b5b1669cb9a2e38d76f7213b0671e00",
    ),
];

/// A known hash that needs an epoch.
struct InEpoch {
    algorithm: Algorithm,
    name: &'static str,
    epoch: Era,
    input: Input,
    /// In the order the function outputs it.
    hash: &'static str,
}

/// Which epoch.
enum Era {
    Key(&'static [u8]),
    Number(u32),
}

/// What is hashed, in hex.
enum Input {
    Blob(&'static str),
    Sealed { header_hash: &'static str, nonce: u64, height: u64, mix: &'static str },
}

/// A known hash, read.
struct Known {
    work: KnownWork,
    hash: Hash256,
    mix: Option<Hash256>,
}

enum KnownWork {
    Blob(Vec<u8>),
    Sealed { header_hash: Hash256, nonce: u64, height: u64 },
}

impl InEpoch {
    fn decode(&self) -> Result<Known, SelfTestError> {
        let unreadable = || SelfTestError::Answer(format!("{} is unreadable", self.name));
        let hash = |digits| Hash256::from_raw_hex(digits).ok_or_else(unreadable);
        let (work, mix) = match self.input {
            Input::Blob(blob) => (KnownWork::Blob(hex::decode(blob).map_err(|_| unreadable())?), None),
            Input::Sealed { header_hash, nonce, height, mix } => {
                (KnownWork::Sealed { header_hash: hash(header_hash)?, nonce, height }, Some(hash(mix)?))
            }
        };
        Ok(Known { work, hash: hash(self.hash)?, mix })
    }
}

impl Known {
    fn attempt(&self) -> Attempt<'_> {
        match &self.work {
            KnownWork::Blob(blob) => Attempt::Bytes(blob),
            &KnownWork::Sealed { ref header_hash, nonce, height } => {
                Attempt::Sealed { header_hash, nonce, height }
            }
        }
    }

    fn job(&self, algorithm: Algorithm, target: Target) -> Result<Job, JobError> {
        match &self.work {
            KnownWork::Blob(blob) => Job::blob(JobId(0), algorithm, blob, None, target),
            &KnownWork::Sealed { header_hash, height, .. } => {
                Job::sealed(JobId(0), algorithm, header_hash, height, target)
            }
        }
    }

    fn nonce(&self, algorithm: Algorithm) -> u64 {
        match (&self.work, algorithm.spec().input.nonce_slot()) {
            (KnownWork::Sealed { nonce, .. }, _) => *nonce,
            (KnownWork::Blob(blob), Some(slot)) => {
                let mut nonce = [0; 8];
                nonce[..slot.width].copy_from_slice(&blob[slot.offset..][..slot.width]);
                u64::from_le_bytes(nonce)
            }
            (KnownWork::Blob(_), None) => 0,
        }
    }
}

/// Test 1e of the reference (tevador/RandomX, `src/tests/tests.cpp`): a Monero blob.
const REFERENCE_1E: &str = "0b0b98bea7e805e0010a2126d287a2a0cc833d312cb786385a7c2f9de69d25537f584a9bc9977b00000000666fd8753bf61a8631f12984e3fd44f4014eca629276817b56f32e9b68bd82f416";

const IN_EPOCH: &[InEpoch] = &[
    InEpoch {
        algorithm: Algorithm::RandomXV1,
        name: "the reference's test 1e",
        epoch: Era::Key(b"test key 001"),
        input: Input::Blob(REFERENCE_1E),
        hash: "c56414121acda1713c2f2a819d8ae38aed7c80c35c2a769298d34f03833cd5f1",
    },
    InEpoch {
        algorithm: Algorithm::RandomXV2,
        name: "the reference's test 1e of version 2",
        epoch: Era::Key(b"test key 001"),
        input: Input::Blob(REFERENCE_1E),
        hash: "c8e92c5f7c1946fecf06bc382b92e3111da38ee3e6a5ad90704e1a9d8aaf6e76",
    },
    InEpoch {
        algorithm: Algorithm::Ethash,
        name: "block 22 of Ethereum's test network PoC 9",
        epoch: Era::Number(0),
        input: Input::Sealed {
            header_hash: "372eca2454ead349c3df0ab5d00b0b706b23e49d469387db91811cee0358fc6d",
            nonce: 0x4957_32e0_ed7a_801c,
            height: 22,
            mix: "2f74cdeb198af0b9abe65d22d372e22fb2d474371774a9583c1cc427a07939f5",
        },
        hash: "00000b184f1fdd88bfd94c86c39e65db0c36144d5e43f745f722196e730cb614",
    },
    InEpoch {
        algorithm: Algorithm::Etchash,
        name: "Ethereum Classic's block 12500000",
        epoch: Era::Number(208),
        input: Input::Sealed {
            header_hash: "1d225541aeda9d1110b9e61c0c6c81f12376e9b4111472351196b9d557ba83d8",
            nonce: 0x431d_9c18_3983_8ea1,
            height: 12_500_000,
            mix: "c280665934366eb1ac3fcf5e6f4e37945e05d764acf2a8106a982826078b613c",
        },
        hash: "00000000000069bdf3a3bf3bab6529869d8419e477e53898d6c123d023386b20",
    },
    InEpoch {
        algorithm: Algorithm::KawPow,
        name: "a test vector of Ravencoin",
        epoch: Era::Number(0),
        input: Input::Sealed {
            header_hash: "0000000000000000000000000000000000000000000000000000000000000000",
            nonce: 0,
            height: 0,
            mix: "6e97b47b134fda0c7888802988e1a373affeb28bcd813b6e9a0fc669c935d03a",
        },
        hash: "e601a7257a70dc48fccc97a7330d704d776047623b92883d77111fb36870f3d1",
    },
];

fn known_blocks(algorithm: Algorithm) -> impl Iterator<Item = Block> {
    BLOCKS.iter().filter(move |row| row.0 == algorithm).filter_map(|&(_, name, header, hash)| {
        let mut bytes = [0; 80];
        hex::decode_to_slice(header, &mut bytes).ok()?;
        Some(Block { name, header: bytes, hash: Hash256::from_display_hex(hash)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{Scanned, ScannerInfo, Setup, kernel};

    /// A good kernel whose answers are tampered with.
    struct Tampered<F> {
        scanner: Box<dyn Scanner>,
        tamper: F,
    }

    impl<F: FnMut(&mut SearchSpace, &mut Candidates) + Send> Scanner for Tampered<F> {
        fn info(&self) -> &ScannerInfo {
            self.scanner.info()
        }

        fn load(&mut self, job: &Arc<Job>, epoch: Option<&Arc<Epoch>>) -> Result<(), ScanError> {
            self.scanner.load(job, epoch)
        }

        fn scan(
            &mut self,
            space: &SearchSpace,
            stop: &StopFlag,
            found: &mut Candidates,
        ) -> Result<Scanned, ScanError> {
            let mut space = *space;
            (self.tamper)(&mut space, &mut Candidates::with_capacity(0));
            let scanned = self.scanner.scan(&space, stop, found)?;
            (self.tamper)(&mut space, found);
            Ok(scanned)
        }
    }

    fn tampered(
        algorithm: Algorithm,
        tamper: impl FnMut(&mut SearchSpace, &mut Candidates) + Send + 'static,
    ) -> Result<(), SelfTestError> {
        let scanner = kernel(algorithm, "portable").unwrap().scanner(&Setup::detect()).unwrap();
        super::scanner(&mut Tampered { scanner, tamper })
    }

    #[test]
    fn a_scanner_that_misses_invents_or_misplaces_a_candidate_is_refused() {
        for algorithm in [Algorithm::Sha256d, Algorithm::Scrypt] {
            tampered(algorithm, |_, _| ()).unwrap();
            let misses = tampered(algorithm, |_, found| found.clear());
            let invents = tampered(algorithm, |_, found| {
                let _ = found.push(Candidate { nonce: 1, version: None });
            });
            let misplaces = tampered(algorithm, |_, found| {
                if let &[Candidate { nonce, version }] = found.as_slice() {
                    found.clear();
                    found.push(Candidate { nonce: nonce ^ 1, version }).unwrap();
                }
            });
            let stops_early = tampered(algorithm, |space, _| space.nonces.count = 16);
            for wrong in [misses, invents, misplaces, stops_early] {
                assert!(matches!(wrong, Err(SelfTestError::Found { .. })), "{wrong:?}");
            }
        }
    }

    #[test]
    fn a_scanner_that_rolls_no_version_is_refused() {
        let wrong = tampered(Algorithm::Sha256d, |_, found| {
            if let &[Candidate { nonce, version: Some(_) }] = found.as_slice() {
                found.clear();
                found.push(Candidate { nonce, version: None }).unwrap();
            }
        });
        assert!(matches!(wrong, Err(SelfTestError::Found { .. })), "{wrong:?}");
    }

    /// A good kernel of which one lane in 16 gives a digest with a flipped bit.
    struct OneBadLane(Box<dyn Hasher>);

    impl Hasher for OneBadLane {
        fn kernel(&self) -> &'static str {
            "one-bad-lane"
        }

        fn lanes(&self) -> usize {
            16
        }

        fn hash_many(
            &mut self,
            attempts: &[Attempt<'_>],
            epoch: Option<&Arc<Epoch>>,
            digests: &mut [Digest],
        ) -> Result<(), HashError> {
            self.0.hash_many(attempts, epoch, digests)?;
            for digest in digests.iter_mut().skip(15).step_by(16) {
                let mut raw = *digest.pow.as_raw();
                raw[31] ^= 1;
                *digest = Digest::plain(raw);
            }
            Ok(())
        }
    }

    #[test]
    fn a_hasher_with_one_bad_lane_is_refused() {
        for algorithm in [Algorithm::Sha256d, Algorithm::Scrypt] {
            let good = || kernel(algorithm, "portable").unwrap().hasher(&Setup::detect()).unwrap();
            super::hasher(algorithm, good().as_mut()).unwrap();
            let wrong = super::hasher(algorithm, &mut OneBadLane(good()));
            assert!(matches!(wrong, Err(SelfTestError::Hashed { .. })), "{wrong:?}");
        }
    }

    #[test]
    fn what_has_no_known_answer_may_not_run() {
        let mut hasher = kernel(Algorithm::Scrypt, "portable").unwrap().hasher(&Setup::detect()).unwrap();
        let refused = super::hasher(Algorithm::KawPow, hasher.as_mut());
        assert!(matches!(refused, Err(SelfTestError::NoAnswer(Algorithm::KawPow))), "{refused:?}");
    }

    #[test]
    fn every_known_block_can_be_read_and_meets_its_own_target() {
        for &(algorithm, name, _, _) in BLOCKS {
            assert!(known_blocks(algorithm).any(|block| block.name == name), "{name} is unreadable");
        }
        for algorithm in [Algorithm::Sha256d, Algorithm::Scrypt] {
            for block in known_blocks(algorithm) {
                let digest = Digest { pow: block.hash, mix: None };
                assert!(digest.meets(algorithm, block.job(algorithm, None).unwrap().target()));
            }
        }
    }
}
