//! Targets, jobs, and searching them on the calling thread.

use std::ffi::c_char;
use std::sync::Arc;

use otedama_core::algorithm::{EpochKind, Input};
use otedama_core::epoch::Epoch;
use otedama_core::job::VersionRange;
use otedama_core::scan::{Candidates, ScanEnd, ScanError, Scanner, StopFlag};
use otedama_core::target::Difficulty;
use otedama_core::{
    Candidate, CompactBits, Hash256, Job, JobId, NonceRange, SearchSpace, Target, VersionMask,
};

use crate::boundary::{Answer, Failure, Out, bytes, check_apart, guard, out, record, text, value};
use crate::devices::{self, Allowed, reserved};
use crate::status::{
    OTEDAMA_BAD_JOB, OTEDAMA_BAD_VALUE, OTEDAMA_NO_EPOCH, OTEDAMA_WRONG_EPOCH, otedama_status,
};
use crate::{handle, otedama_epoch, otedama_scanner, otedama_setup, otedama_stop};

/// The space is done.
pub const OTEDAMA_END_DONE: u32 = 0;
/// The stop flag was raised.
pub const OTEDAMA_END_STOPPED: u32 = 1;
/// The room for candidates is full: go on after the nonces that were tried.
pub const OTEDAMA_END_FULL: u32 = 2;

/// What to hash, and how small the hash must be. Borrowed for the call; what is needed later is copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_job {
    /// sizeof(otedama_job).
    pub struct_size: u32,
    /// An OTEDAMA_ number.
    pub algorithm: u32,
    /// A number of yours; shares bring it back.
    pub id: u64,
    /// The header or blob as it is hashed (what is in the place of its nonce does not matter), or for Ethash and
    /// KawPow the hash of the sealed header, in the order it is fed to the function.
    pub input: *const u8,
    /// Its length in bytes: SHA256d, scrypt 80; RandomX 43 to 512; Ethash, KawPow 32.
    pub input_len: usize,
    /// The block's height, where the hash depends on it (KawPow); else 0.
    pub height: u64,
    /// The bits of the header's version that may vary (BIP 320: 0x1fffe000), or 0.
    pub version_mask: u32,
    /// 0.
    pub reserved: u32,
    /// The largest hash wanted, a number of 256 bits, least significant byte first.
    pub target_le: [u8; 32],
}

/// A part of a job's space: every nonce with every version. A scan takes all versions of a nonce before the next
/// nonce.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_space {
    /// sizeof(otedama_space).
    pub struct_size: u32,
    /// The first version, by its index under the job's mask; 0 is the job's own.
    pub version_start: u32,
    /// How many versions; 0 means 1.
    pub version_count: u32,
    /// 0.
    pub reserved: u32,
    /// The first nonce.
    pub nonce_start: u64,
    /// How many nonces; 0 means all from the first one on.
    pub nonce_count: u64,
}

/// A nonce that a scanner claims meets the target. Prove it with otedama_verifier_check().
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_candidate {
    /// The nonce.
    pub nonce: u64,
    /// The header's version it was found with, if has_version.
    pub version: u32,
    /// 1 if the job lets the version roll, else 0.
    pub has_version: u32,
}

/// What a scanner is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_scanner_info {
    /// Its kernel's name: a static string.
    pub kernel: *const c_char,
    /// How many nonces it tries at once; ranges of a multiple waste nothing.
    pub lanes: u64,
    /// Bytes of memory it has obtained for itself.
    pub memory_bytes: u64,
    /// The most versions one scan may cover.
    pub max_versions: u32,
    /// 0.
    pub reserved: u32,
}

/// A scanner and where it puts candidates.
pub(crate) struct BoundScanner {
    scanner: Box<dyn Scanner>,
    /// The job loaded here; what the self-test left in the scanner does not count.
    job: Option<Arc<Job>>,
    found: Candidates,
}

/// The target that a header's compact `bits` stand for: `out_target_le` receives it, least significant byte first.
/// Any thread. Errors: OTEDAMA_BAD_TARGET for zero, negative or overflowing bits, OTEDAMA_NULL_ARGUMENT.
///
/// cbindgen:ptrs-as-arrays=[[out_target_le; 32]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_target_from_bits(bits: u32, out_target_le: *mut u8) -> otedama_status {
    guard(|| {
        let out_target_le = out_target_le.cast();
        let mut out: Out<[u8; 32]> = out!(out_target_le);
        out.put(CompactBits(bits).to_target()?.to_le_bytes());
        Ok(())
    })
}

/// The target of a difficulty as pools of this algorithm count it: `out_target_le` receives it, least significant byte
/// first. Any thread. Errors: OTEDAMA_BAD_VALUE unless it is positive and finite, OTEDAMA_UNKNOWN_ALGORITHM,
/// OTEDAMA_NULL_ARGUMENT.
///
/// cbindgen:ptrs-as-arrays=[[out_target_le; 32]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_target_from_difficulty(
    algorithm: u32,
    difficulty: f64,
    out_target_le: *mut u8,
) -> otedama_status {
    guard(|| {
        let algorithm = devices::algorithm(algorithm)?;
        let out_target_le = out_target_le.cast();
        let mut out: Out<[u8; 32]> = out!(out_target_le);
        out.put(Target::from_difficulty(algorithm, Difficulty::new(difficulty)?).to_le_bytes());
        Ok(())
    })
}

/// The difficulty of a target, as pools of this algorithm count it: `out_difficulty` receives it. Any thread.
/// Errors: OTEDAMA_BAD_TARGET for zero, OTEDAMA_UNKNOWN_ALGORITHM, OTEDAMA_NULL_ARGUMENT.
///
/// cbindgen:ptrs-as-arrays=[[target_le; 32]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_target_to_difficulty(
    algorithm: u32,
    target_le: *const u8,
    out_difficulty: *mut f64,
) -> otedama_status {
    guard(|| {
        let algorithm = devices::algorithm(algorithm)?;
        let target_le = target_le.cast::<[u8; 32]>();
        let target = Target::from_le_bytes(value!(target_le))?;
        let mut out = out!(out_difficulty);
        out.put(target.to_difficulty(algorithm).get());
        Ok(())
    })
}

/// Makes a scanner: a kernel that has passed its self-test, with the memory it needs. Arguments as in
/// otedama_hasher_new(), but here `epoch` only helps to choose the fastest kernel, and `kernel` NULL is the fastest at
/// searching. `out_scanner` receives it; free it with otedama_scanner_free(). Any thread; memory comes from near the
/// thread that calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_scanner_new(
    algorithm: u32,
    kernel: *const c_char,
    epoch: *const otedama_epoch,
    setup: *const otedama_setup,
    out_scanner: *mut *mut otedama_scanner,
) -> otedama_status {
    guard(|| {
        let algorithm = devices::algorithm(algorithm)?;
        let (kernel, epoch) = (text!(kernel), handle::shared_or_none(epoch, "epoch")?);
        let setup = Allowed::new(&record!(setup or default))?;
        let mut out = out!(out_scanner);
        let scanner = setup.kernel(algorithm, kernel, epoch.as_ref(), 1)?.scanner(&setup.setup)?;
        out.put(handle::own(BoundScanner { scanner, job: None, found: Candidates::with_capacity(0) })?);
        Ok(())
    })
}

/// Frees a scanner. NULL is fine. Errors: OTEDAMA_BAD_HANDLE, OTEDAMA_BUSY while another call uses it; then nothing
/// is freed.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_scanner_free(scanner: *mut otedama_scanner) -> otedama_status {
    guard(|| handle::disown(scanner, "scanner"))
}

/// What a scanner is: `out_info` receives it. One thread at a time per scanner.
/// Errors: OTEDAMA_NULL_ARGUMENT, OTEDAMA_BAD_HANDLE, OTEDAMA_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_scanner_describe(
    scanner: *mut otedama_scanner,
    out_info: *mut otedama_scanner_info,
) -> otedama_status {
    guard(|| {
        let mut out = out!(out_info);
        handle::with(scanner, "scanner", |scanner| {
            let info = scanner.scanner.info();
            out.put(otedama_scanner_info {
                kernel: devices::kernel_name(info.kernel),
                lanes: info.lanes as u64,
                memory_bytes: info.memory.map_or(0, |(bytes, _)| bytes as u64),
                max_versions: info.max_versions,
                reserved: 0,
            });
            Ok(())
        })
    })
}

/// Gives a scanner its job, and the epoch it needs, if any; both are copied or kept. One thread at a time per scanner.
///
/// Errors: OTEDAMA_BAD_JOB, OTEDAMA_BAD_TARGET, OTEDAMA_NO_EPOCH, OTEDAMA_WRONG_EPOCH, OTEDAMA_BUSY, and those of its
/// arguments. Unless it is an argument's, the scanner then has no job.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_scanner_load(
    scanner: *mut otedama_scanner,
    job: *const otedama_job,
    epoch: *const otedama_epoch,
) -> otedama_status {
    guard(|| {
        let epoch = handle::shared_or_none(epoch, "epoch")?;
        let job = Arc::new(make_job(&record!(job), epoch.as_deref())?);
        handle::with(scanner, "scanner", |scanner| {
            scanner.job = None;
            scanner.scanner.load(&job, epoch.as_ref())?;
            scanner.job = Some(job);
            Ok(())
        })
    })
}

/// Searches a part of the loaded job's space on this thread. `out_candidates` has room for `capacity` candidates, in
/// order of their nonces; `out_count` receives how many there are, `out_tried` how many attempts were made (nonces
/// times versions, exact: a scan that ended early goes on at nonce_start + tried / version_count), `out_end` why it
/// ended: an OTEDAMA_END_ number. `space` NULL is every nonce with the job's own version; `stop` may be NULL; raised, it
/// ends the scan within about a millisecond. One thread at a time per scanner.
///
/// Errors: OTEDAMA_NO_JOB, OTEDAMA_BAD_SPACE, OTEDAMA_BUFFER_TOO_SMALL for a capacity of less than one nonce's
/// versions, OTEDAMA_BAD_VALUE for one of more than 1,048,576, OTEDAMA_BUSY, and those of its arguments.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_scanner_scan(
    scanner: *mut otedama_scanner,
    space: *const otedama_space,
    stop: *const otedama_stop,
    out_candidates: *mut otedama_candidate,
    capacity: usize,
    out_count: *mut usize,
    out_tried: *mut u64,
    out_end: *mut u32,
) -> otedama_status {
    guard(|| {
        let space = record!(space or default);
        let stop = handle::shared_or_none(stop, "stop")?;
        let mut list = out!(out_candidates, capacity);
        let (mut count, mut tried, mut end) = (out!(out_count), out!(out_tried), out!(out_end));
        check_apart(&list.span(), &[count.span(), tried.span(), end.span()])?;
        handle::with(scanner, "scanner", |scanner| {
            let space = search_space(&space, scanner.job.as_deref().ok_or(ScanError::NoJob)?)?;
            scanner.make_room(capacity)?;
            let never = StopFlag::new();
            let stop = stop.as_deref().unwrap_or(&never);
            let scanned = scanner.scanner.scan(&space, stop, &mut scanner.found)?;
            for (index, found) in scanner.found.as_slice().iter().enumerate() {
                list.put_at(index, candidate_out(found));
            }
            count.put(scanner.found.as_slice().len());
            tried.put(scanned.tried);
            end.put(match scanned.end {
                ScanEnd::Done => OTEDAMA_END_DONE,
                ScanEnd::Stopped => OTEDAMA_END_STOPPED,
                ScanEnd::Full => OTEDAMA_END_FULL,
            });
            Ok(())
        })
    })
}

impl BoundScanner {
    /// Empties the candidates and sees to it that as many fit as the caller has room for.
    fn make_room(&mut self, capacity: usize) -> Answer<()> {
        /// More than any target that is worth searching for fills.
        const MOST: usize = 1 << 20;
        if capacity > MOST {
            let message = format!("capacity is {capacity}: expected at most {MOST}");
            return Err(Failure::new(OTEDAMA_BAD_VALUE, message));
        }
        self.found.clear();
        if self.found.room() != capacity {
            self.found = Candidates::with_capacity(capacity);
        }
        Ok(())
    }
}

/// A job as the core takes it, on this epoch, which must be there if the algorithm needs one.
pub(crate) fn make_job(job: &otedama_job, epoch: Option<&Epoch>) -> Answer<Job> {
    reserved(job.reserved, "job->reserved")?;
    let algorithm = devices::algorithm(job.algorithm)?;
    let input = bytes!(job.input, job.input_len).bytes;
    let (id, target) = (JobId(job.id), Target::from_le_bytes(job.target_le)?);
    let made = if let Input::Sealed = algorithm.spec().input {
        let wrong = |_| {
            let message =
                format!("{algorithm} input has {} bytes: expected the 32 of a header's hash", input.len());
            Failure::new(OTEDAMA_BAD_JOB, message)
        };
        if job.version_mask != 0 {
            let message = format!("{algorithm} has no version to roll: expected version_mask 0");
            return Err(Failure::new(OTEDAMA_BAD_JOB, message));
        }
        let hash = Hash256::from_raw(input.try_into().map_err(wrong)?);
        Job::sealed(id, algorithm, hash, job.height, target)?
    } else {
        let mask = if job.version_mask == 0 { None } else { Some(VersionMask::new(job.version_mask)?) };
        Job::blob(id, algorithm, input, mask, target)?
    };
    match epoch {
        Some(epoch) if epoch.key().algorithm != algorithm => {
            let message = format!("{algorithm} hashes with an epoch of its own: {} was given", epoch.key());
            Err(Failure::new(OTEDAMA_WRONG_EPOCH, message))
        }
        Some(epoch) => Ok(made.with_epoch(*epoch.key())),
        None if algorithm.spec().epoch != EpochKind::None => {
            Err(Failure::new(OTEDAMA_NO_EPOCH, format!("{algorithm} needs an epoch: epoch is NULL")))
        }
        None => Ok(made),
    }
}

/// A space as the core takes it; zeros stand for everything of the job.
pub(crate) fn search_space(space: &otedama_space, job: &Job) -> Answer<SearchSpace> {
    reserved(space.reserved, "space->reserved")?;
    let all = job.space().nonces.count;
    let count =
        if space.nonce_count == 0 { all.saturating_sub(space.nonce_start) } else { space.nonce_count };
    Ok(SearchSpace {
        nonces: NonceRange { start: space.nonce_start, count },
        versions: VersionRange { start: space.version_start, count: space.version_count.max(1) },
    })
}

pub(crate) fn candidate_out(candidate: &Candidate) -> otedama_candidate {
    otedama_candidate {
        nonce: candidate.nonce,
        version: candidate.version.unwrap_or(0),
        has_version: candidate.version.is_some().into(),
    }
}
