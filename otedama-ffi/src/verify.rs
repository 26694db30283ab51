//! Proving claims.

use std::ffi::c_char;

use otedama_core::scan::prover;
use otedama_core::verify::{Claim, VerifyWorker};
use otedama_core::{Algorithm, Candidate, Hash256, Share, Verifier};

use crate::boundary::{guard, out, record, text, value};
use crate::devices::{self, Allowed, flag};
use crate::scan::{make_job, otedama_candidate, otedama_job};
use crate::status::otedama_status;
use crate::{handle, otedama_epoch, otedama_setup, otedama_verifier};

/// A proven share.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct otedama_share {
    /// The job's id.
    pub job_id: u64,
    /// The nonce.
    pub nonce: u64,
    /// The header's version it was found with, if has_version.
    pub version: u32,
    /// 1 if the job lets the version roll, else 0.
    pub has_version: u32,
    /// 1 if the algorithm has a mix hash (Ethash, KawPow; RandomX v2, see mix), else 0.
    pub has_mix: u32,
    /// 0.
    pub reserved: u32,
    /// The hash, in the order the function outputs it.
    pub pow: [u8; 32],
    /// The mix hash, if has_mix; else zeros. RandomX v2 has the function's hash here, and pow is the commitment to it.
    pub mix: [u8; 32],
}

/// A verify worker.
pub(crate) struct Worker(VerifyWorker);

/// Makes a verifier: `out_verifier` receives it; free it with otedama_verifier_free(). `kernel` NULL is the one that
/// proves single claims best; `setup` may be NULL. Any thread. Errors: as otedama_hasher_new().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_verifier_new(
    algorithm: u32,
    kernel: *const c_char,
    setup: *const otedama_setup,
    out_verifier: *mut *mut otedama_verifier,
) -> otedama_status {
    guard(|| {
        let algorithm: Algorithm = devices::algorithm(algorithm)?;
        let kernel = text!(kernel);
        let setup = Allowed::new(&record!(setup or default))?;
        let mut out = out!(out_verifier);
        let kernel = match kernel {
            Some(name) => setup.kernel(algorithm, Some(name), None, 1)?,
            None => prover(algorithm, &setup.setup)?,
        };
        out.put(handle::own(Worker(Verifier::new(kernel, setup.setup).worker()?))?);
        Ok(())
    })
}

/// Frees a verifier. NULL is fine. Errors: OTEDAMA_BAD_HANDLE, OTEDAMA_BUSY while another call uses it; then nothing
/// is freed.
#[unsafe(no_mangle)]
pub extern "C" fn otedama_verifier_free(verifier: *mut otedama_verifier) -> otedama_status {
    guard(|| handle::disown(verifier, "verifier"))
}

/// Proves that a candidate meets its job's target: `out_share` receives the share. `epoch` is the memory the job
/// needs, or NULL. `claimed_pow` and `claimed_mix` are the hashes that someone sent with it, or NULL; a claimed_pow
/// above the target, or a claimed_mix that leads there, is refused before anything is hashed. One thread at a time per verifier.
///
/// Errors: OTEDAMA_ABOVE_TARGET, OTEDAMA_WRONG_HASH, OTEDAMA_WRONG_MIX, OTEDAMA_NOT_ALLOWED if it is no share;
/// OTEDAMA_BAD_JOB, OTEDAMA_BAD_TARGET, OTEDAMA_NO_EPOCH, OTEDAMA_WRONG_EPOCH, OTEDAMA_BUSY, and those of its
/// arguments.
///
/// cbindgen:ptrs-as-arrays=[[claimed_pow; 32], [claimed_mix; 32]]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn otedama_verifier_check(
    verifier: *mut otedama_verifier,
    job: *const otedama_job,
    epoch: *const otedama_epoch,
    candidate: *const otedama_candidate,
    claimed_pow: *const u8,
    claimed_mix: *const u8,
    out_share: *mut otedama_share,
) -> otedama_status {
    guard(|| {
        let epoch = handle::shared_or_none(epoch, "epoch")?;
        let job = make_job(&record!(job), epoch.as_deref())?;
        let candidate: otedama_candidate = value!(candidate);
        let rolled = flag(candidate.has_version, "candidate->has_version")?;
        let candidate = Candidate { nonce: candidate.nonce, version: rolled.then_some(candidate.version) };
        let (claimed_pow, claimed_mix) = (claimed_pow.cast::<[u8; 32]>(), claimed_mix.cast::<[u8; 32]>());
        let pow = value!(claimed_pow or none).map(Hash256::from_raw);
        let mix = value!(claimed_mix or none).map(Hash256::from_raw);
        let mut out = out!(out_share);
        let claim = Claim { job: &job, candidate, mix: mix.as_ref(), pow: pow.as_ref() };
        let share =
            handle::with(verifier, "verifier", |worker| Ok(worker.0.check(&claim, epoch.as_ref())?))?;
        out.put(share_out(&share));
        Ok(())
    })
}

pub(crate) fn share_out(share: &Share) -> otedama_share {
    let digest = share.digest();
    otedama_share {
        job_id: share.job().0,
        nonce: share.nonce(),
        version: share.version().unwrap_or(0),
        has_version: share.version().is_some().into(),
        has_mix: digest.mix.is_some().into(),
        reserved: 0,
        pow: *digest.pow.as_raw(),
        mix: digest.mix.map_or([0; 32], |mix| *mix.as_raw()),
    }
}
