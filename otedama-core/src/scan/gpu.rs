//! Searching with a graphics processor: the same scanner for every family of kernels.
//!
//! A scan goes in *columns*: some nonces with all versions of the space. A column is a handful of launches, in
//! turns on two queues, each with a buffer for hits:
//!
//! ```text
//!   queue 0   |launch 0 |launch 2 |launch 4 |
//!   queue 1        |launch 1 |launch 3 |         the host reads the hits of one while the other runs
//! ```
//!
//! - A launch takes some [`LAUNCH`], so a raised stop flag is seen in time; how many nonces that are is
//!   measured while scanning, unless the intensity is fixed.
//! - A buffer of hits that overflows (a target nearly everything meets) makes the scanner search the column
//!   again in halves, so no hit is lost, and `Full` means what it means for a CPU.
//! - A kernel looks at the top of a target only. Its hits are hashed on the CPU: near misses are dropped here,
//!   but a hit whose top is wrong is passed on, so that the verifier refuses it and the device's fault is seen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Attempt, Candidates, Hasher, KernelError, ScanEnd, ScanError, Scanned, Scanner, ScannerInfo, Setup,
    StopFlag, check_load, check_scan, prover,
};
use crate::algorithm::{Algorithm, EpochKind};
use crate::epoch::Epoch;
use crate::gpu::{self, Buffer, Gpu, GpuError, Queue, Search};
use crate::hash256::Digest;
use crate::job::{Candidate, Job, NonceRange, SearchSpace, VersionRange, Work};
use crate::selftest;
use crate::target::U256;

/// How long a launch should take. Two are under way at a time, so a scan stops within some 30 ms.
const LAUNCH: Duration = Duration::from_millis(12);

/// How long an engine's slice should be: enough launches that the pauses between slices do not count.
const SLICE: Duration = Duration::from_millis(250);

/// The launches of a column with one version.
const PIECES: u32 = 4;

/// The most versions one scan may cover, where changing them costs nothing.
const MAX_VERSIONS: u32 = 64;

/// Hits a buffer has room for, unless a launch cannot be so small.
const ROOM: u32 = 1024;

/// How a device is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Nonces per launch as a power of two, 1 to 25 and up to what the device's memory allows; `None` finds the
    /// number that makes launches of some 12 ms.
    pub intensity: Option<u8>,
}

/// A scanner on a device, which has found the known nonces there are for its algorithm (those that need no
/// epoch).
///
/// # Errors
/// If there is no kernel for the algorithm, it does not compile, or it computes wrongly: [`KernelError::Device`].
pub fn gpu_scanner(
    algorithm: Algorithm,
    gpu: &Arc<dyn Gpu>,
    options: GpuOptions,
    setup: &Setup,
) -> Result<Box<dyn Scanner>, KernelError> {
    let search = gpu::search(algorithm, gpu)?;
    let prover = prover(algorithm, setup)?.hasher(setup)?;
    let mut scanner = GpuScanner::new(algorithm, gpu, search, prover, options)?;
    if algorithm.spec().epoch == EpochKind::None {
        selftest::scanner(&mut scanner)
            .map_err(|error| GpuError::Wrong { device: gpu.info().id, reason: error.to_string() })?;
    }
    Ok(Box::new(scanner))
}

/// The kernel's name in reports: there is one family for each function, whichever API runs it.
fn name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Sha256d => "sha256d-gpu",
        Algorithm::Scrypt => "scrypt-gpu",
        Algorithm::Ethash => "ethash-gpu",
        Algorithm::Etchash => "etchash-gpu",
        Algorithm::KawPow => "kawpow-gpu",
        Algorithm::RandomXV1 => "randomx-gpu",
        Algorithm::RandomXV2 => "randomx-v2-gpu",
    }
}

struct GpuScanner {
    info: ScannerInfo,
    search: Box<dyn Search>,
    lines: [Line; 2],
    room: u32,
    prover: Box<dyn Hasher>,
    job: Option<Arc<Job>>,
    epoch: Option<Arc<Epoch>>,
    /// The index of the version that the search has loaded.
    loaded: Option<u32>,
    /// Nonces per launch: a multiple of the granule.
    batch: u32,
    /// Whether the batch follows the time launches take.
    adapts: bool,
    /// Hits of a column: (nonce, index of the version).
    hits: Vec<(u64, u32)>,
    /// Read from a buffer of hits.
    bytes: Vec<u8>,
}

/// A queue with its buffer for hits, and the launch that is under way in it.
struct Line {
    queue: Box<dyn Queue>,
    hits: Buffer,
    running: Option<Launch>,
}

#[derive(Clone, Copy)]
struct Launch {
    nonces: NonceRange,
    version: u32,
}

/// What became of a column.
enum Column {
    /// Every launch is done, of the first so many nonces.
    Done(u64),
    /// More hits in one launch than there is room for: nothing of the column counts.
    Overflow,
}

impl GpuScanner {
    fn new(
        algorithm: Algorithm,
        gpu: &Arc<dyn Gpu>,
        search: Box<dyn Search>,
        prover: Box<dyn Hasher>,
        options: GpuOptions,
    ) -> Result<GpuScanner, GpuError> {
        let granule = search.granule().max(1);
        let room = ROOM.max(granule);
        let hits_bytes = hits_bytes(room);
        let line = || -> Result<Line, GpuError> {
            Ok(Line { queue: gpu.queue()?, hits: gpu.buffer(hits_bytes)?, running: None })
        };
        let info = ScannerInfo {
            algorithm,
            kernel: name(algorithm),
            device: gpu.info().id.to_string(),
            lanes: granule as usize,
            max_versions: if search.loads_between_launches() { MAX_VERSIONS } else { 1 },
            memory: None,
        };
        let fixed = options.intensity.map(|log2| 1u32 << log2.min(31));
        let mut scanner = GpuScanner {
            info,
            lines: [line()?, line()?],
            room,
            prover,
            job: None,
            epoch: None,
            loaded: None,
            batch: 0,
            adapts: fixed.is_none(),
            hits: Vec::new(),
            bytes: vec![0; hits_bytes as usize],
            search,
        };
        scanner.batch = scanner.whole(fixed.unwrap_or(granule).into());
        for line in &mut scanner.lines {
            line.queue.zero(&line.hits, 0, hits_bytes)?;
        }
        Ok(scanner)
    }

    /// The number of nonces nearest to this that a launch can have.
    fn whole(&self, nonces: u64) -> u32 {
        let granule = self.search.granule().max(1);
        let most = (self.search.max_batch() / granule).max(1);
        (nonces / u64::from(granule)).clamp(1, most.into()) as u32 * granule
    }

    fn load_version(&mut self, index: u32) -> Result<(), GpuError> {
        let Some(job) = self.job.as_ref().filter(|_| self.loaded != Some(index)) else { return Ok(()) };
        let versioned = match (job.version_mask(), job.version()) {
            (Some(mask), Some(base)) => &Arc::new(job.with_version(mask.version(base, index))),
            _ => job,
        };
        self.loaded = None;
        self.search.load(versioned, self.epoch.as_ref(), self.lines[0].queue.as_mut())?;
        self.loaded = Some(index);
        Ok(())
    }

    /// Forgets what an earlier scan left under way when it failed.
    fn settle(&mut self) -> Result<(), GpuError> {
        for line in &mut self.lines {
            if line.running.take().is_some() {
                line.queue.zero(&line.hits, 0, 4)?;
                line.queue.finish()?;
            }
        }
        Ok(())
    }

    /// Searches some nonces with all the versions in launches of at most `batch`.
    fn column(
        &mut self,
        nonces: NonceRange,
        versions: VersionRange,
        batch: u32,
        stop: &StopFlag,
    ) -> Result<Column, GpuError> {
        self.hits.clear();
        let (mut overflow, mut stopped) = (false, None);
        let mut slot = 0;
        'all: for skipped in (0..nonces.count).step_by(batch as usize) {
            let piece = NonceRange {
                start: nonces.start + skipped,
                count: u64::from(batch).min(nonces.count - skipped),
            };
            for version in versions.start..versions.start + versions.count {
                overflow |= self.collect(slot)?;
                if overflow {
                    break 'all;
                }
                if stop.is_raised() {
                    // What is under way belongs to pieces before this one, or to this piece's first versions,
                    // which do not count: a nonce is done with all its versions.
                    stopped = Some(skipped);
                    break 'all;
                }
                self.load_version(version)?;
                self.launch(slot, Launch { nonces: piece, version })?;
                slot = 1 - slot;
            }
        }
        // The older launch first.
        overflow |= self.collect(slot)?;
        overflow |= self.collect(1 - slot)?;
        if overflow {
            return Ok(Column::Overflow);
        }
        let done = stopped.unwrap_or(nonces.count);
        self.hits.retain(|hit| hit.0 - nonces.start < done);
        self.hits.sort_unstable();
        Ok(Column::Done(done))
    }

    fn launch(&mut self, slot: usize, launch: Launch) -> Result<(), GpuError> {
        let line = &mut self.lines[slot];
        // A batch fits 32 bits, and so does the next multiple of the granule (`whole`).
        let count = (launch.nonces.count as u32).next_multiple_of(self.search.granule().max(1));
        self.search.enqueue(slot, line.queue.as_mut(), launch.nonces.start, count, &line.hits, self.room)?;
        line.running = Some(launch);
        Ok(())
    }

    /// Waits for the launch in this slot, if there is one, and takes its hits. Whether there were more than
    /// there is room for.
    fn collect(&mut self, slot: usize) -> Result<bool, GpuError> {
        let line = &mut self.lines[slot];
        let Some(Launch { nonces, version }) = line.running.take() else { return Ok(false) };
        let word = |bytes: &[u8], index: usize| {
            u32::from_le_bytes([
                bytes[4 * index],
                bytes[4 * index + 1],
                bytes[4 * index + 2],
                bytes[4 * index + 3],
            ])
        };
        line.queue.read(&line.hits, 0, &mut self.bytes[..4])?;
        let count = word(&self.bytes, 0);
        if count == 0 {
            return Ok(false);
        }
        line.queue.zero(&line.hits, 0, 4)?;
        if count > self.room {
            return Ok(true);
        }
        let bytes = hits_bytes(count) as usize;
        line.queue.read(&line.hits, 0, &mut self.bytes[..bytes])?;
        for index in 0..count as usize {
            let [low, high] = [1, 2].map(|half| u64::from(word(&self.bytes, 2 * index + half)));
            let nonce = high << 32 | low;
            // The last launch of a range goes on to the end of its granule.
            if nonce.wrapping_sub(nonces.start) < nonces.count {
                self.hits.push((nonce, version));
            }
        }
        Ok(false)
    }

    /// Hashes the hits and keeps those that meet the target. If the candidates are full, says at which nonce: none
    /// of that nonce's candidates are kept.
    fn prove(&mut self, job: &Job, found: &mut Candidates) -> Result<Result<(), u64>, ScanError> {
        let (mut current, mut before) = (None, 0);
        let mut message = Vec::new();
        for &(nonce, index) in &self.hits {
            if current != Some(nonce) {
                (current, before) = (Some(nonce), found.as_slice().len());
            }
            let version = job.version_mask().zip(job.version()).map(|(mask, base)| mask.version(base, index));
            let candidate = Candidate { nonce, version };
            let attempt = match job.work() {
                Work::Sealed { header_hash } => Attempt::Sealed { header_hash, nonce, height: job.height() },
                Work::Blob { .. } => {
                    message.clear();
                    job.append_bytes(&candidate, &mut message);
                    Attempt::Bytes(&message)
                }
            };
            let mut digest = [Digest::plain([0; 32])];
            self.prover
                .hash_many(&[attempt], self.epoch.as_ref(), &mut digest)
                .map_err(|error| ScanError::Device(format!("a hit cannot be proven: {error}")))?;
            if is_near_miss(&digest[0], job) {
                continue;
            }
            if found.push(candidate).is_err() {
                found.take_back(before);
                return Ok(Err(nonce));
            }
        }
        Ok(Ok(()))
    }

    /// Follows the time that launches take; growing fourfold at most, for the first are tiny.
    fn adapt(&mut self, tried: u64, launches: u64, took: Duration) {
        if self.adapts && launches > 0 {
            let wanted = tried as f64 * LAUNCH.as_secs_f64() / took.as_secs_f64().max(1e-6);
            let batch = f64::from(self.batch);
            self.batch = self.whole(wanted.clamp(batch / 4.0, batch * 4.0) as u64);
        }
    }
}

/// Whether a digest misses the target, but not in the bits that a kernel looks at (the top 32 at least).
fn is_near_miss(digest: &Digest, job: &Job) -> bool {
    let algorithm = job.algorithm();
    let top = digest.pow.to_number(algorithm.spec().hash_order) >> 224;
    !digest.meets(algorithm, job.target()) && top <= U256::from(job.target().top_word())
}

/// Bytes of a buffer with room for so many hits.
fn hits_bytes(room: u32) -> u64 {
    4 + 8 * u64::from(room)
}

impl Scanner for GpuScanner {
    fn info(&self) -> &ScannerInfo {
        &self.info
    }

    fn slice(&self) -> Option<Duration> {
        Some(SLICE)
    }

    fn load(&mut self, job: &Arc<Job>, epoch: Option<&Arc<Epoch>>) -> Result<(), ScanError> {
        let expected = self.info.algorithm;
        if expected.spec().epoch != EpochKind::None {
            check_load(expected, job, epoch)?;
        } else if job.algorithm() != expected {
            return Err(ScanError::WrongAlgorithm { expected, found: job.algorithm() });
        }
        (self.job, self.epoch, self.loaded) = (Some(Arc::clone(job)), epoch.cloned(), None);
        Ok(self.load_version(0)?)
    }

    fn scan(
        &mut self,
        space: &SearchSpace,
        stop: &StopFlag,
        found: &mut Candidates,
    ) -> Result<Scanned, ScanError> {
        let versions = check_scan(self.job.as_ref(), space, self.info.max_versions, found)?;
        let Some(job) = self.job.clone() else { return Err(ScanError::NoJob) };
        let NonceRange { start, count } = space.nonces;
        self.settle()?;
        let scanned = |done: u64, end| Ok(Scanned { tried: done * u64::from(versions), end });
        // A column has at least as many launches as this; with many versions the nonces of each are fewer.
        let pieces = if versions == 1 { PIECES } else { 1 };
        let mut shrunk = 0u32;
        let mut done = 0;
        while done < count {
            if stop.is_raised() {
                return scanned(done, ScanEnd::Stopped);
            }
            let batch = self.whole((u64::from(self.batch) * 4 / u64::from(versions.max(4))) >> shrunk);
            let nonces = NonceRange {
                start: start + done,
                count: (u64::from(batch) * u64::from(pieces)).min(count - done),
            };
            let begun = Instant::now();
            match self.column(nonces, space.versions, batch, stop)? {
                Column::Overflow if batch > self.search.granule() => shrunk += 1,
                Column::Overflow => {
                    let reason = format!("more hits than nonces: expected at most {batch}");
                    return Err(ScanError::Device(format!("{} reports {reason}", self.info.device)));
                }
                Column::Done(nonces_done) => {
                    if let Err(nonce) = self.prove(&job, found)? {
                        return scanned(nonce - start, ScanEnd::Full);
                    }
                    let launches = nonces_done / u64::from(batch);
                    self.adapt(nonces_done * u64::from(versions), launches, begun.elapsed());
                    done += nonces_done;
                    if nonces_done < nonces.count {
                        return scanned(done, ScanEnd::Stopped);
                    }
                    shrunk = shrunk.saturating_sub(1);
                }
            }
        }
        scanned(done, ScanEnd::Done)
    }
}
