//! Searching and hashing Scrypt (1024, 1, 1) with any of its kernels.

use std::sync::Arc;

use super::{
    Attempt, Candidates, HashError, Hasher, KernelError, ScanEnd, ScanError, Scanned, Scanner, ScannerInfo,
    Setup, StopFlag, check_attempts, check_scan,
};
use crate::algo::scrypt::Kernel;
use crate::algorithm::Algorithm;
use crate::epoch::Epoch;
use crate::hash256::Digest;
use crate::job::{Candidate, Job, SearchSpace, Work, version_of};
use crate::mem::{Region, Request};

/// The most digests gathered in one call of a kernel; kernels have at most this many lanes.
const GATHER: usize = 64;

pub(super) fn scanner(
    name: &'static str,
    kernel: Box<dyn Kernel>,
    setup: &Setup,
) -> Result<Box<dyn Scanner>, KernelError> {
    let scratchpad = scratchpad(name, kernel.as_ref(), setup)?;
    let info = ScannerInfo {
        algorithm: Algorithm::Scrypt,
        kernel: name,
        device: "cpu".to_owned(),
        lanes: kernel.lanes(),
        // Headers of different versions share nothing in scrypt, so there is nothing to gain.
        max_versions: 1,
        memory: Some((scratchpad.len(), scratchpad.pages())),
    };
    Ok(Box::new(ScryptScanner { info, kernel, scratchpad, job: None, header: [0; 80], version_index: None }))
}

pub(super) fn hasher(
    name: &'static str,
    kernel: Box<dyn Kernel>,
    setup: &Setup,
) -> Result<Box<dyn Hasher>, KernelError> {
    let scratchpad = scratchpad(name, kernel.as_ref(), setup)?;
    Ok(Box::new(ScryptHasher { name, kernel, scratchpad }))
}

fn scratchpad(name: &'static str, kernel: &dyn Kernel, setup: &Setup) -> Result<Region, KernelError> {
    // Faulted in at once, so that the kind of pages reported is the kind obtained.
    let request = Request { prefault: true, ..setup.memory.clone() };
    Region::new(kernel.scratchpad_len(), &request)
        .map_err(|error| KernelError::Memory { kernel: name, error })
}

struct ScryptScanner {
    info: ScannerInfo,
    kernel: Box<dyn Kernel>,
    scratchpad: Region,
    job: Option<Arc<Job>>,
    header: [u8; 80],
    /// Which of the job's versions the kernel has loaded.
    version_index: Option<u32>,
}

impl Scanner for ScryptScanner {
    fn info(&self) -> &ScannerInfo {
        &self.info
    }

    fn load(&mut self, job: &Arc<Job>, _: Option<&Arc<Epoch>>) -> Result<(), ScanError> {
        if job.algorithm() != Algorithm::Scrypt {
            return Err(ScanError::WrongAlgorithm { expected: Algorithm::Scrypt, found: job.algorithm() });
        }
        self.job = Some(Arc::clone(job));
        self.version_index = None;
        Ok(())
    }

    fn scan(
        &mut self,
        space: &SearchSpace,
        stop: &StopFlag,
        found: &mut Candidates,
    ) -> Result<Scanned, ScanError> {
        check_scan(self.job.as_ref(), space, 1, found)?;
        let Some(job) = self.job.clone() else { return Err(ScanError::NoJob) };
        self.prepare(&job, space.versions.start);
        let rolled = job.version_mask().map(|_| version_of(&self.header));
        // The space lies within the job's 2^32 nonces, so every nonce fits 32 bits.
        let (first, count) = (space.nonces.start, space.nonces.count);
        let mut digests = [[0; 32]; GATHER];
        let mut done = 0;
        while done < count {
            if stop.is_raised() {
                return Ok(Scanned { tried: done, end: ScanEnd::Stopped });
            }
            let batch = (self.info.lanes.min(GATHER) as u64).min(count - done) as usize;
            let digests = &mut digests[..batch];
            self.kernel.hash_nonces(&mut self.scratchpad, (first + done) as u32, digests);
            for (nonce, digest) in (first + done..).zip(digests) {
                if Digest::plain(*digest).meets(Algorithm::Scrypt, job.target())
                    && found.push(Candidate { nonce, version: rolled }).is_err()
                {
                    return Ok(Scanned { tried: nonce - first, end: ScanEnd::Full });
                }
            }
            done += batch as u64;
        }
        Ok(Scanned { tried: done, end: ScanEnd::Done })
    }
}

impl ScryptScanner {
    /// Loads the kernel with the job's header under this version, unless it is loaded.
    fn prepare(&mut self, job: &Job, version_index: u32) {
        if self.version_index == Some(version_index) {
            return;
        }
        if let Work::Blob { bytes, .. } = job.work() {
            self.header.copy_from_slice(bytes);
        }
        if let Some(mask) = job.version_mask() {
            let version = mask.version(version_of(&self.header), version_index);
            self.header[..4].copy_from_slice(&version.to_le_bytes());
        }
        self.kernel.load(&self.header);
        self.version_index = Some(version_index);
    }
}

struct ScryptHasher {
    name: &'static str,
    kernel: Box<dyn Kernel>,
    scratchpad: Region,
}

impl Hasher for ScryptHasher {
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
        check_attempts(Algorithm::Scrypt, attempts, digests, |bytes| bytes.len() == 80, "80")?;
        for (attempts, digests) in attempts.chunks(GATHER).zip(digests.chunks_mut(GATHER)) {
            let mut headers = [[0; 80]; GATHER];
            let mut raw = [[0; 32]; GATHER];
            for (header, attempt) in headers.iter_mut().zip(attempts) {
                // Checked above: every attempt is 80 bytes.
                header.copy_from_slice(attempt.bytes().unwrap_or(&[0; 80]));
            }
            let count = attempts.len();
            self.kernel.hash_headers(&mut self.scratchpad, &headers[..count], &mut raw[..count]);
            for (digest, raw) in digests.iter_mut().zip(raw) {
                *digest = Digest::plain(raw);
            }
        }
        Ok(())
    }
}
