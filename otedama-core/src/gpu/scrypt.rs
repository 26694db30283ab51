//! Scrypt: how many hashes a device works on at once, the memory they take, and the order of the four kernels
//! of `kernels/scrypt.cl`.

use std::sync::Arc;

use super::{Arg, Batch, Buffer, DeviceId, DeviceInfo, GoOn, Gpu, GpuError, Kernel, OfHeader, Queue, Search};
use crate::epoch::Epoch;
use crate::job::Job;
use crate::primitive::sha256::{IV, block_from_bytes, compress};

/// The group that the kernels are written for.
const GROUP: u32 = 64;

/// Lanes that one multiprocessor holds: 80 registers each, of 65,536, in whole groups.
const LANES_PER_UNIT: u32 = 768;

/// Fewer lanes than this on a multiprocessor leave it waiting for memory: rows are computed again instead.
const FEW_PER_UNIT: u32 = 256;

/// The kernels count rows in 32 bits, 1024 a lane.
const MAX_LANES: u32 = (1 << 22) - GROUP;

/// Bytes of all of a hash's rows.
const SCRATCHPAD: u64 = 1024 * 128;

/// Bytes a lane keeps between kernels.
const STATE: u64 = 48 * 4;

/// Steps of a loop in one launch: eight launches make a batch, so a screen on the same card is served between.
const STEPS: u32 = 256;

/// Launches of one of the two loops.
const LOOP_LAUNCHES: u32 = 1024 / STEPS;

pub(super) fn search(gpu: &Arc<dyn Gpu>) -> Result<Box<dyn Search>, GpuError> {
    let mut plan = Plan::new(gpu.info());
    // Others use the card's memory as well.
    let slots = loop {
        match (plan.slot(gpu.as_ref()), plan.slot(gpu.as_ref())) {
            (Ok(first), Ok(second)) => break [first, second],
            (Err(error), _) | (_, Err(error)) => {
                let smaller = plan.halved().filter(|_| matches!(error, GpuError::Memory { .. }));
                plan = smaller.ok_or(error)?;
            }
        }
    };
    let source = otedama_kernels::SCRYPT;
    let program = gpu.compile(source.name, &source.text(), &[("OTD_GAP", plan.gap.into())])?;
    Ok(Box::new(Scrypt {
        begin: program.kernel("scrypt_begin", GROUP)?,
        fill: program.kernel("scrypt_fill", GROUP)?,
        mix: program.kernel("scrypt_mix", GROUP)?,
        end: program.kernel("scrypt_end", GROUP)?,
        lanes: plan.lanes,
        slots,
        device: gpu.info().id,
        job: OfHeader::none(),
    }))
}

struct Scrypt {
    begin: Kernel,
    fill: Kernel,
    mix: Kernel,
    end: Kernel,
    lanes: u32,
    slots: [Slot; 2],
    device: DeviceId,
    job: OfHeader<WORDS>,
}

/// A queue's own memory, for `lanes` hashes.
struct Slot {
    state: Buffer,
    rows: Buffer,
}

impl Search for Scrypt {
    fn load(
        &mut self,
        job: &Arc<Job>,
        _: Option<&Arc<Epoch>>,
        _: &mut dyn Queue,
        _: &mut GoOn<'_>,
    ) -> Result<(), GpuError> {
        self.job = OfHeader::of(job, words_of, self.device)?;
        Ok(())
    }

    fn granule(&self) -> u32 {
        GROUP
    }

    fn max_batch(&self) -> u32 {
        self.lanes
    }

    fn loads_between_launches(&self) -> bool {
        true
    }

    /// The launches of the two loops.
    fn steps(&self) -> u32 {
        2 * LOOP_LAUNCHES
    }

    fn enqueue(
        &mut self,
        slot: usize,
        queue: &mut dyn Queue,
        step: u32,
        &Batch { first, count, hits, room }: &Batch<'_>,
    ) -> Result<(), GpuError> {
        let Slot { state, rows } = &self.slots[slot];
        let groups = count.div_ceil(GROUP);
        let lanes = Arg::U32(groups * GROUP);
        // A job of Scrypt has 2^32 nonces.
        let first = Arg::U32(first as u32);

        if step == 0 {
            let mut args = [lanes; WORDS + 3];
            for (arg, word) in args.iter_mut().zip(self.job.words) {
                *arg = Arg::U32(word);
            }
            args[WORDS..].copy_from_slice(&[first, lanes, Arg::Buffer(state)]);
            queue.launch(&self.begin, groups, &args)?;
        }
        let kernel = if step < LOOP_LAUNCHES { &self.fill } else { &self.mix };
        let from = step % LOOP_LAUNCHES * STEPS;
        let steps = [Arg::U32(from), Arg::U32(from + STEPS)];
        let args = [Arg::Buffer(state), Arg::Buffer(rows), lanes, steps[0], steps[1]];
        queue.launch(kernel, groups, &args)?;
        if step + 1 < self.steps() {
            return Ok(());
        }
        let count = Arg::U32(count);
        let top = Arg::U64(self.job.target_top);
        let args = [Arg::Buffer(state), lanes, first, count, top, Arg::Buffer(hits), Arg::U32(room)];
        queue.launch(&self.end, groups, &args)
    }
}

const WORDS: usize = 8 + 19;

/// The first arguments of `scrypt_begin`: the state after the header's first 64 bytes, then its words but for
/// the nonce.
fn words_of(header: &[u8; 80]) -> [u32; WORDS] {
    let mut first = [0; 64];
    first.copy_from_slice(&header[..64]);
    let mut words = [0; WORDS];
    let mut state = IV;
    compress(&mut state, &block_from_bytes(&first));
    words[..8].copy_from_slice(&state);
    for (word, bytes) in words[8..].iter_mut().zip(header.chunks_exact(4)) {
        *word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    words
}

/// How many lanes, and every how many rows one is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    lanes: u32,
    gap: u32,
    /// Lanes below which rows are left out.
    few: u32,
}

impl Plan {
    /// What fits twice, once for each queue, into three quarters of a device's memory. Keeping half the rows adds about a
    /// quarter to the work, so that is done only where a device would otherwise be too empty.
    fn new(info: &DeviceInfo) -> Plan {
        if info.is_cpu {
            return Plan { lanes: GROUP, gap: 1, few: GROUP };
        }
        let wanted = info.units.saturating_mul(LANES_PER_UNIT).clamp(GROUP, MAX_LANES);
        let few = info.units.saturating_mul(FEW_PER_UNIT).clamp(GROUP, MAX_LANES);
        let room = (info.memory / 8 * 3).min(info.max_buffer);
        let mut gap = 1;
        let fits = |gap: u32| room / (SCRATCHPAD / u64::from(gap) + STATE);
        while fits(gap) < few.into() && gap < MAX_GAP {
            gap *= 2;
        }
        let lanes = fits(gap).min(wanted.into()) as u32 / GROUP * GROUP;
        Plan { lanes: lanes.max(GROUP), gap, few }
    }

    /// Half of the memory: half of the lanes, or of the rows if the lanes are few. `None` if there is nothing left to
    /// halve.
    fn halved(self) -> Option<Plan> {
        let lanes = self.lanes / 2 / GROUP * GROUP;
        if lanes >= self.few {
            Some(Plan { lanes, ..self })
        } else if self.gap < MAX_GAP {
            Some(Plan { gap: 2 * self.gap, ..self })
        } else {
            (lanes > 0).then_some(Plan { lanes, ..self })
        }
    }

    fn slot(self, gpu: &dyn Gpu) -> Result<Slot, GpuError> {
        let lanes = u64::from(self.lanes);
        Ok(Slot {
            state: gpu.buffer(lanes * STATE)?,
            rows: gpu.buffer(lanes * SCRATCHPAD / u64::from(self.gap))?,
        })
    }
}

/// Beyond this the work grows as fast as the memory shrinks.
const MAX_GAP: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(units: u32, memory: u64, max_buffer: u64) -> Plan {
        Plan::new(&DeviceInfo {
            id: DeviceId::Cuda(0),
            name: "a card".to_owned(),
            vendor: "somebody".to_owned(),
            driver: "1".to_owned(),
            pci: None,
            memory,
            max_buffer,
            units,
            compute: None,
            is_cpu: false,
        })
    }

    #[test]
    fn rows_are_left_out_only_where_memory_is_short() {
        let gib = |n: u64| n << 30;
        // 132 units and 141 GB; 68 and 10; 28 and 8, in buffers of a quarter of that; 10 and 1.
        assert_eq!(plan(132, gib(139), gib(139)), Plan { lanes: 132 * 768, gap: 1, few: 132 * 256 });
        assert_eq!(plan(68, gib(10), gib(10)), Plan { lanes: 30_656, gap: 1, few: 68 * 256 });
        assert_eq!(plan(28, gib(8), gib(2)), Plan { lanes: 16_320, gap: 1, few: 28 * 256 });
        assert_eq!(plan(10, gib(1), gib(1) / 4), Plan { lanes: 4_032, gap: 2, few: 2_560 });
        // Nothing fits: the driver will say so.
        assert_eq!(plan(10, 0, 0), Plan { lanes: GROUP, gap: MAX_GAP, few: 2_560 });
    }

    #[test]
    fn halving_ends() {
        let mut plan = plan(132, 139 << 30, 139 << 30);
        let mut bytes = u64::from(plan.lanes) * SCRATCHPAD / u64::from(plan.gap);
        while let Some(smaller) = plan.halved() {
            let less = u64::from(smaller.lanes) * SCRATCHPAD / u64::from(smaller.gap);
            assert!(less < bytes && smaller.lanes > 0 && smaller.lanes % GROUP == 0, "{plan:?} {smaller:?}");
            (plan, bytes) = (smaller, less);
        }
        assert_eq!((plan.lanes, plan.gap), (GROUP, MAX_GAP));
    }
}
