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
//! - A family whose batches take longer (Scrypt, RandomX) splits each into steps of that length. Both queues' batches
//!   go on step by step; a raised stop flag is seen between two steps, and the batches under way count nothing.
//! - A buffer of hits that overflows (a target nearly everything meets) makes the scanner search the column
//!   again in halves, so no hit is lost, and `Full` means what it means for a CPU.
//! - With an epoch the device first proves itself on one nonce whose hash the CPU knows (`check`).
//! - A kernel looks at the top of a target only. Its hits are hashed on the CPU: near misses are dropped here,
//!   but a hit whose top is wrong is passed on, so that the verifier refuses it and the device's fault is seen.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Attempt, Candidates, Hasher, KernelError, ScanEnd, ScanError, Scanned, Scanner, ScannerInfo, Setup,
    StopFlag, check_load, check_scan, judged, prover, watched,
};
use crate::algorithm::{Algorithm, EpochKind};
use crate::epoch::{Epoch, Progress};
use crate::gpu::watch::{self, TemperatureLimit};
use crate::gpu::{self, Batch, Buffer, DeviceId, GoOn, Gpu, GpuError, Queue, Search};
use crate::hash256::Digest;
use crate::job::{Candidate, Job, NonceRange, SearchSpace, VersionRange, Work};
use crate::selftest;
use crate::target::U256;
use check::Era;

mod check;
#[cfg(test)]
mod tests;

/// How long a launch, or a step of one, should take. Two are under way at a time, so a scan stops within some 30 ms.
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
#[derive(Clone, Debug)]
pub struct GpuOptions {
    /// Nonces per launch as a power of two, 1 to 25 and up to what the device's memory allows; `None` finds the
    /// number that makes launches of some 12 ms.
    pub intensity: Option<u8>,
    /// When an engine lets the device rest, if its temperature can be read; `None` never does.
    pub limit: Option<TemperatureLimit>,
    /// Shows how far a dataset is that is being made on the device. When it is cancelled, no more are made and
    /// [`Scanner::load`] fails with [`GpuError::Cancelled`].
    pub progress: Progress,
}

impl Default for GpuOptions {
    /// Launches of some 12 ms; a rest at 85 degrees.
    fn default() -> GpuOptions {
        GpuOptions { intensity: None, limit: Some(TemperatureLimit::default()), progress: Progress::new() }
    }
}

/// A scanner on a device, which has found the known nonces there are for its algorithm (those that need no
/// epoch). With an epoch it finds one whose hash the CPU knows, whenever it takes up another epoch or KawPow's next
/// period; otherwise [`Scanner::load`] fails with [`GpuError::Wrong`].
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
    let limit = options.limit;
    let mut scanner = GpuScanner::new(algorithm, gpu, search, prover, options)?;
    if algorithm.spec().epoch == EpochKind::None {
        selftest::scanner(&mut scanner)
            .map_err(|error| GpuError::Wrong { device: gpu.info().id, reason: error.to_string() })?;
    }
    let scanner = Box::new(scanner);
    Ok(match limit.zip(watch::sensor(gpu.info())) {
        Some((limit, sensor)) => watched(scanner, sensor, limit),
        None => scanner,
    })
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
    device: DeviceId,
    job: Option<Arc<Job>>,
    epoch: Option<Arc<Epoch>>,
    /// What the device has proven itself with.
    checked: Option<Era>,
    progress: Progress,
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
    /// What is hashed on the CPU.
    message: Vec<u8>,
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
    /// The steps that are done or under way, and all.
    step: u32,
    steps: u32,
}

/// What became of a launch.
enum Collected {
    /// Its hits are taken, if there was one.
    Taken,
    /// More hits than there is room for.
    Overflow,
    /// It was stopped between two steps and counts nothing; its nonces begin here.
    Abandoned(u64),
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
            device: gpu.info().id,
            job: None,
            epoch: None,
            checked: None,
            progress: options.progress,
            loaded: None,
            batch: 0,
            adapts: fixed.is_none(),
            hits: Vec::new(),
            bytes: vec![0; hits_bytes as usize],
            message: Vec::new(),
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

    fn take_up(
        &mut self,
        job: &Arc<Job>,
        epoch: Option<&Arc<Epoch>>,
        go_on: &mut GoOn<'_>,
    ) -> Result<(), GpuError> {
        (self.job, self.epoch, self.loaded) = (Some(Arc::clone(job)), epoch.cloned(), None);
        self.load_version(0, go_on)
    }

    fn load_version(&mut self, index: u32, go_on: &mut GoOn<'_>) -> Result<(), GpuError> {
        let Some(job) = self.job.as_ref().filter(|_| self.loaded != Some(index)) else { return Ok(()) };
        let versioned = match (job.version_mask(), job.version()) {
            (Some(mask), Some(base)) => &Arc::new(job.with_version(mask.version(base, index))),
            _ => job,
        };
        self.loaded = None;
        self.search.load(versioned, self.epoch.as_ref(), self.lines[0].queue.as_mut(), go_on)?;
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
        let (mut overflow, mut done) = (false, nonces.count);
        let mut slot = 0;
        'all: for skipped in (0..nonces.count).step_by(batch as usize) {
            let piece = NonceRange {
                start: nonces.start + skipped,
                count: u64::from(batch).min(nonces.count - skipped),
            };
            for version in versions.start..versions.start + versions.count {
                match self.collect(slot, stop)? {
                    Collected::Taken => {}
                    Collected::Overflow => {
                        overflow = true;
                        break 'all;
                    }
                    Collected::Abandoned(start) => {
                        done = done.min(start - nonces.start);
                        break 'all;
                    }
                }
                if stop.is_raised() {
                    // What is under way belongs to pieces before this one, or to this piece's first versions,
                    // which do not count: a nonce is done with all its versions.
                    done = skipped;
                    break 'all;
                }
                self.load_version(version, &mut |_, _| true)?;
                self.launch(slot, piece, version)?;
                slot = 1 - slot;
            }
        }
        // The older launch first.
        for slot in [slot, 1 - slot] {
            match self.collect(slot, stop)? {
                Collected::Taken => {}
                Collected::Overflow => overflow = true,
                Collected::Abandoned(start) => done = done.min(start - nonces.start),
            }
        }
        if overflow {
            return Ok(Column::Overflow);
        }
        self.hits.retain(|hit| hit.0 - nonces.start < done);
        self.hits.sort_unstable();
        Ok(Column::Done(done))
    }

    fn launch(&mut self, slot: usize, nonces: NonceRange, version: u32) -> Result<(), GpuError> {
        let steps = self.search.steps().max(1);
        self.lines[slot].running = Some(Launch { nonces, version, step: 0, steps });
        self.advance(slot)
    }

    /// Enqueues the next step of the launch in this slot, if it has one.
    fn advance(&mut self, slot: usize) -> Result<(), GpuError> {
        let line = &mut self.lines[slot];
        let Some(launch) = line.running.as_mut().filter(|launch| launch.step < launch.steps) else {
            return Ok(());
        };
        // A batch fits 32 bits, and so does the next multiple of the granule (`whole`).
        let count = (launch.nonces.count as u32).next_multiple_of(self.search.least().max(1));
        let batch = Batch { first: launch.nonces.start, count, hits: &line.hits, room: self.room };
        self.search.enqueue(slot, line.queue.as_mut(), launch.step, &batch)?;
        launch.step += 1;
        Ok(())
    }

    /// Drives the launch in this slot to its last step, and the other one with it. Whether it got there.
    fn drive(&mut self, slot: usize, stop: &StopFlag) -> Result<bool, GpuError> {
        let is_short = |line: &Line| line.running.is_some_and(|launch| launch.step < launch.steps);
        while is_short(&self.lines[slot]) {
            for slot in [slot, 1 - slot] {
                if stop.is_raised() {
                    return Ok(false);
                }
                if is_short(&self.lines[slot]) {
                    self.lines[slot].queue.finish()?;
                    self.advance(slot)?;
                }
            }
        }
        Ok(true)
    }

    /// Waits for the launch in this slot, if there is one, and takes its hits.
    fn collect(&mut self, slot: usize, stop: &StopFlag) -> Result<Collected, GpuError> {
        let whole = self.drive(slot, stop)?;
        let line = &mut self.lines[slot];
        let Some(Launch { nonces, version, .. }) = line.running.take() else { return Ok(Collected::Taken) };
        if !whole {
            line.queue.finish()?;
            line.queue.zero(&line.hits, 0, 4)?;
            return Ok(Collected::Abandoned(nonces.start));
        }
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
            return Ok(Collected::Taken);
        }
        line.queue.zero(&line.hits, 0, 4)?;
        if count > self.room {
            return Ok(Collected::Overflow);
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
        Ok(Collected::Taken)
    }

    /// The CPU's hash of a candidate.
    fn digest(&mut self, job: &Job, candidate: &Candidate) -> Result<Digest, ScanError> {
        self.message.clear();
        let attempt = match job.work() {
            Work::Sealed { header_hash } => {
                Attempt::Sealed { header_hash, nonce: candidate.nonce, height: job.height() }
            }
            Work::Blob { .. } => {
                job.append_bytes(candidate, &mut self.message);
                Attempt::Bytes(&self.message)
            }
        };
        let mut digest = [Digest::plain([0; 32])];
        self.prover
            .hash_many(&[attempt], self.epoch.as_ref(), &mut digest)
            .map_err(|error| ScanError::Device(format!("a nonce cannot be proven: {error}")))?;
        Ok(judged(job.algorithm(), &attempt, digest[0]))
    }

    /// Hashes the hits and keeps those that meet the target. If the candidates are full, says at which nonce: none
    /// of that nonce's candidates are kept.
    fn prove(&mut self, job: &Job, found: &mut Candidates) -> Result<Result<(), u64>, ScanError> {
        let (mut current, mut before) = (None, 0);
        for (nonce, index) in mem::take(&mut self.hits) {
            if current != Some(nonce) {
                (current, before) = (Some(nonce), found.as_slice().len());
            }
            let version = job.version_mask().zip(job.version()).map(|(mask, base)| mask.version(base, index));
            let candidate = Candidate { nonce, version };
            if is_near_miss(&self.digest(job, &candidate)?, job) {
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
            let wanted_time = LAUNCH * self.search.steps().max(1);
            let wanted = tried as f64 * wanted_time.as_secs_f64() / took.as_secs_f64().max(1e-6);
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
        self.load_unless(job, epoch, &StopFlag::new()).map(|_| ())
    }

    fn load_unless(
        &mut self,
        job: &Arc<Job>,
        epoch: Option<&Arc<Epoch>>,
        stop: &StopFlag,
    ) -> Result<bool, ScanError> {
        let expected = self.info.algorithm;
        if expected.spec().epoch != EpochKind::None {
            check_load(expected, job, epoch)?;
        } else if job.algorithm() != expected {
            return Err(ScanError::WrongAlgorithm { expected, found: job.algorithm() });
        }
        self.settle()?;
        let progress = self.progress.clone();
        let mut go_on = |done, total| {
            progress.show(done, total);
            !stop.is_raised() && !progress.is_cancelled()
        };
        let taken = self.take_up(job, epoch, &mut go_on).map_err(ScanError::from);
        let checked = taken.and_then(|()| epoch.map_or(Ok(()), |epoch| self.check(job, epoch, stop)));
        match checked {
            Ok(()) => Ok(true),
            Err(error) => {
                self.job = None;
                match error {
                    ScanError::Gpu(GpuError::Cancelled { .. }) if stop.is_raised() => Ok(false),
                    error => Err(error),
                }
            }
        }
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
