//! Searching and hashing SHA256d with any of its kernels.

use std::sync::{Arc, OnceLock};

use super::{
    Attempt, Candidates, HashError, Hasher, ScanEnd, ScanError, Scanned, Scanner, ScannerInfo, StopFlag,
    check_attempts, check_scan,
};
#[cfg(target_arch = "x86_64")]
use crate::algo::sha256d::ShaNiKernel;
use crate::algo::sha256d::{Hits, Kernel, Search};
use crate::algorithm::Algorithm;
use crate::cpu::Cpu;
use crate::epoch::Epoch;
use crate::hash256::Digest;
use crate::job::{Candidate, Job, SearchSpace, VersionRange, Work, version_of};
use crate::primitive::sha256;

/// The most versions one scan may cover: their midstates (some 100 bytes each) stay in the L1 cache.
const MAX_VERSIONS: u32 = 128;

/// The most a kernel tries at a time: stop checks are this far apart, well under a millisecond for
/// vector kernels.
const ATTEMPTS_PER_CALL: u32 = 1 << 14;

/// How many messages are gathered on the stack for one call of a kernel.
const GATHER: usize = 64;

/// SHA256d of one message, by the SHA extensions where this CPU has them: for what a share costs besides its own hash,
/// the coinbase and the way up to the merkle root. A fifth of the time of [`sha256::double_digest`], which it equals.
pub fn double_digest(message: &[u8]) -> [u8; 32] {
    #[cfg(target_arch = "x86_64")]
    {
        static SHA_NI: OnceLock<Option<ShaNiKernel>> = OnceLock::new();
        let kernel = SHA_NI.get_or_init(|| Cpu::detect().sha_ni().map(ShaNiKernel::new));
        if let Some(mut kernel) = *kernel {
            let mut digest = [[0; 32]];
            kernel.hash_many(&[message], &mut digest);
            return digest[0];
        }
    }
    sha256::double_digest(message)
}

pub(super) fn scanner(name: &'static str, kernel: Box<dyn Kernel>) -> Box<dyn Scanner> {
    let lanes = kernel.lanes();
    let info = ScannerInfo {
        algorithm: Algorithm::Sha256d,
        kernel: name,
        device: "cpu".to_owned(),
        lanes,
        max_versions: MAX_VERSIONS,
        memory: None,
    };
    Box::new(Sha256dScanner {
        info,
        kernel,
        job: None,
        header: [0; 80],
        versions: Vec::with_capacity(MAX_VERSIONS as usize),
        prepared: VersionRange { start: 0, count: 0 },
        search: Search::new(&[0; 80], &[0; MAX_VERSIONS as usize], 0),
        // One block of nonces with every version always fits.
        hits: Hits::with_capacity(lanes * MAX_VERSIONS as usize),
        sorted: Vec::with_capacity(lanes * MAX_VERSIONS as usize),
    })
}

pub(super) fn hasher(name: &'static str, kernel: Box<dyn Kernel>) -> Box<dyn Hasher> {
    Box::new(Sha256dHasher { name, kernel })
}

struct Sha256dScanner {
    info: ScannerInfo,
    kernel: Box<dyn Kernel>,
    job: Option<Arc<Job>>,
    header: [u8; 80],
    /// The versions that `search` is prepared for: their numbers, and which of the job's they are.
    versions: Vec<u32>,
    prepared: VersionRange,
    search: Search,
    hits: Hits,
    /// Hits in order of their nonces: (nonce, index into `versions`).
    sorted: Vec<(u32, u32)>,
}

impl Scanner for Sha256dScanner {
    fn info(&self) -> &ScannerInfo {
        &self.info
    }

    fn load(&mut self, job: &Arc<Job>, _: Option<&Arc<Epoch>>) -> Result<(), ScanError> {
        if job.algorithm() != Algorithm::Sha256d {
            return Err(ScanError::WrongAlgorithm { expected: Algorithm::Sha256d, found: job.algorithm() });
        }
        if let Work::Blob { bytes, .. } = job.work() {
            self.header.copy_from_slice(bytes);
        }
        self.job = Some(Arc::clone(job));
        self.prepared = VersionRange { start: 0, count: 0 };
        Ok(())
    }

    fn scan(
        &mut self,
        space: &SearchSpace,
        stop: &StopFlag,
        found: &mut Candidates,
    ) -> Result<Scanned, ScanError> {
        let versions = check_scan(self.job.as_ref(), space, MAX_VERSIONS, found)?;
        self.prepare(space.versions);
        // The space lies within the job's 2^32 nonces, so every nonce fits 32 bits.
        let (first, count) = (space.nonces.start, space.nonces.count);
        let stride = (ATTEMPTS_PER_CALL / versions).max(1).next_multiple_of(self.info.lanes as u32);
        let mut done = 0;
        let scanned = |done: u64, end| Ok(Scanned { tried: done * u64::from(versions), end });
        while done < count {
            if stop.is_raised() {
                return scanned(done, ScanEnd::Stopped);
            }
            let nonces = u64::from(stride).min(count - done) as u32;
            self.hits.clear();
            let tried = self.kernel.search(&self.search, (first + done) as u32, nonces, &mut self.hits);
            debug_assert!(tried > 0, "the hits have room for a whole block");
            if let Err(nonce) = self.collect(found) {
                return scanned(nonce - first, ScanEnd::Full);
            }
            done += u64::from(tried);
        }
        scanned(done, ScanEnd::Done)
    }
}

impl Sha256dScanner {
    /// Readies the midstates of these versions, unless they are ready.
    fn prepare(&mut self, range: VersionRange) {
        let Some(job) = &self.job else { return };
        if self.prepared == range {
            return;
        }
        let base = version_of(&self.header);
        self.versions.clear();
        self.versions.extend((range.start..range.start + range.count).map(
            |index| match job.version_mask() {
                Some(mask) => mask.version(base, index),
                None => base,
            },
        ));
        self.search.load(&self.header, &self.versions, job.target().top_word());
        self.prepared = range;
    }

    /// Hashes the hits in full and keeps those that meet the target, in order of their nonces. If the
    /// candidates are full, says at which nonce: none of that nonce's candidates are kept.
    fn collect(&mut self, found: &mut Candidates) -> Result<(), u64> {
        let Some(job) = &self.job else { return Ok(()) };
        self.sorted.clear();
        self.sorted.extend(self.hits.as_slice().iter().map(|hit| (hit.nonce, hit.version)));
        self.sorted.sort_unstable();
        let rolls = job.version_mask().is_some();
        // The nonce in hand, and how many candidates there were before it: some may be of the same
        // nonce, from an earlier scan of other versions.
        let (mut current, mut before) = (None, 0);
        for &(nonce, index) in &self.sorted {
            if current != Some(nonce) {
                (current, before) = (Some(nonce), found.as_slice().len());
            }
            let version = self.versions[index as usize];
            let mut header = self.header;
            header[76..].copy_from_slice(&nonce.to_le_bytes());
            header[..4].copy_from_slice(&version.to_le_bytes());
            let digest = Digest::plain(sha256::double_digest(&header));
            if digest.meets(Algorithm::Sha256d, job.target()) {
                let candidate = Candidate { nonce: nonce.into(), version: rolls.then_some(version) };
                if found.push(candidate).is_err() {
                    found.take_back(before);
                    return Err(candidate.nonce);
                }
            }
        }
        Ok(())
    }
}

struct Sha256dHasher {
    name: &'static str,
    kernel: Box<dyn Kernel>,
}

impl Hasher for Sha256dHasher {
    fn kernel(&self) -> &'static str {
        self.name
    }

    fn lanes(&self) -> usize {
        self.kernel.lanes()
    }

    fn hash_many(
        &mut self,
        attempts: &[Attempt<'_>],
        _: Option<&Arc<Epoch>>,
        digests: &mut [Digest],
    ) -> Result<(), HashError> {
        check_attempts(Algorithm::Sha256d, attempts, digests, |_| true, "a message of any length")?;
        for (attempts, digests) in attempts.chunks(GATHER).zip(digests.chunks_mut(GATHER)) {
            let mut messages: [&[u8]; GATHER] = [&[]; GATHER];
            let mut raw = [[0; 32]; GATHER];
            for (message, attempt) in messages.iter_mut().zip(attempts) {
                *message = attempt.bytes().unwrap_or_default();
            }
            self.kernel.hash_many(&messages[..attempts.len()], &mut raw[..attempts.len()]);
            for (digest, raw) in digests.iter_mut().zip(raw) {
                *digest = Digest::plain(raw);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_hashes_to_the_double_digest() {
        let message: Vec<u8> = (0..300_u32).map(|i| ((i * 167) >> 3) as u8).collect();
        for len in 0..message.len() {
            assert_eq!(double_digest(&message[..len]), sha256::double_digest(&message[..len]), "{len} bytes");
        }
    }
}
