//! A device proves itself before it works with an epoch: what it computes, and what it keeps of the epoch, are right.
//!
//! The CPU hashes one nonce of the job. The device must find it at that hash as the target, and must not find it at
//! a target that is less by one in the bits a kernel looks at. A device that computes anything else passes once in
//! 2^64 times. Two launches of the fewest nonces there can be, and one hash of the CPU's.

use std::sync::Arc;

use super::{Column, GpuScanner};
use crate::algo::kawpow::period_of;
use crate::algorithm::Algorithm;
use crate::epoch::{Epoch, EpochKey};
use crate::gpu::GpuError;
use crate::job::{Candidate, Job, NonceRange, VersionRange};
use crate::scan::{ScanError, StopFlag};
use crate::target::{Target, U256};

/// What a device's memory and program depend on: the epoch, and KawPow's period.
pub(super) type Era = (EpochKey, u64);

/// One in the lowest of the 64 bits of a target that kernels look at.
const STEP: usize = 192;

impl GpuScanner {
    /// Checks the device with the epoch of the job that was just taken up, unless it was checked with it before. The
    /// job is taken up again afterwards.
    ///
    /// # Errors
    /// [`GpuError::Wrong`], [`GpuError::Cancelled`] when it is to stop, or the device's failure.
    pub(super) fn check(
        &mut self,
        job: &Arc<Job>,
        epoch: &Arc<Epoch>,
        stop: &StopFlag,
    ) -> Result<(), ScanError> {
        let period = if job.algorithm() == Algorithm::KawPow { period_of(job.height()) } else { 0 };
        let era = (*epoch.key(), period);
        if self.checked == Some(era) {
            return Ok(());
        }
        self.checked = None;
        // Any nonce but the first will do.
        let nonce = job.space().nonces.count / 3;
        let hash = self.digest(job, &Candidate { nonce, version: job.version() })?.pow;
        let number = hash.to_number(job.algorithm().spec().hash_order);
        let below = number.checked_sub(U256::from(1) << STEP);
        for (limit, expected) in [(Some(number), true), (below, false)] {
            // A hash of zero, or one just above it, is no target.
            let Some(target) = limit.and_then(|limit| Target::new(limit).ok()) else { continue };
            if self.finds(&Arc::new(job.with_target(target)), epoch, nonce, stop)? != expected {
                let (finds, target) =
                    if expected { ("does not find", "at its hash") } else { ("finds", "below its hash") };
                let reason =
                    format!("with {} it {finds} nonce {nonce} {target}, on the CPU {hash:?}", epoch.key());
                return Err(GpuError::Wrong { device: self.device, reason }.into());
            }
        }
        self.take_up(job, Some(epoch), &mut |_, _| true)?;
        self.checked = Some(era);
        Ok(())
    }

    /// Whether the device finds a nonce of this job.
    fn finds(
        &mut self,
        job: &Arc<Job>,
        epoch: &Arc<Epoch>,
        nonce: u64,
        stop: &StopFlag,
    ) -> Result<bool, GpuError> {
        self.take_up(job, Some(epoch), &mut |_, _| true)?;
        let nonces = NonceRange { start: nonce, count: 1 };
        let versions = VersionRange { start: 0, count: 1 };
        let column = self.column(nonces, versions, self.search.least().max(1), stop)?;
        if stop.is_raised() {
            return Err(GpuError::Cancelled { device: self.device });
        }
        // More hits than nonces are none that can be trusted.
        Ok(matches!(column, Column::Done(1)) && self.hits == [(nonce, 0)])
    }
}
