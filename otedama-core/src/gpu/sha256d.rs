//! SHA256d: what `kernels/sha256d.cl` needs of a header, as its arguments. Nothing is kept on the device.

use std::sync::Arc;

use super::{Arg, Batch, DeviceId, GoOn, Gpu, GpuError, Kernel, OfHeader, Queue, Search};
use crate::epoch::Epoch;
use crate::job::Job;
use crate::primitive::sha256::{IV, K, block_from_bytes, compress, round, small_sigma0, small_sigma1};

/// The group that `sha256d_search` is written for.
const GROUP: u32 = 256;

/// What stands in the padded last 16 bytes of a header: the bit that ends the message, and the length in bits.
const END: u32 = 1 << 31;
const BITS: u32 = 80 * 8;

pub(super) fn search(gpu: &Arc<dyn Gpu>) -> Result<Box<dyn Search>, GpuError> {
    let source = otedama_kernels::SHA256D;
    let kernel = gpu.compile(source.name, &source.text(), &[])?.kernel("sha256d_search", GROUP)?;
    Ok(Box::new(Sha256d { kernel, device: gpu.info().id, job: OfHeader::none() }))
}

struct Sha256d {
    kernel: Kernel,
    device: DeviceId,
    job: OfHeader<WORDS>,
}

impl Search for Sha256d {
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
        1 << 31
    }

    fn loads_between_launches(&self) -> bool {
        true
    }

    fn enqueue(
        &mut self,
        _: usize,
        queue: &mut dyn Queue,
        _: u32,
        &Batch { first, count, hits, room }: &Batch<'_>,
    ) -> Result<(), GpuError> {
        let mut args = [Arg::U32(0); WORDS + 5];
        for (arg, word) in args.iter_mut().zip(self.job.words) {
            *arg = Arg::U32(word);
        }
        // A job of SHA256d has 2^32 nonces.
        let rest = [
            Arg::U32(first as u32),
            Arg::U32(count),
            Arg::U64(self.job.target_top),
            Arg::Buffer(hits),
            Arg::U32(room),
        ];
        args[WORDS..].copy_from_slice(&rest);
        queue.launch(&self.kernel, count.div_ceil(GROUP), &args)
    }
}

const WORDS: usize = 23;

/// The kernel's first arguments, in its order and by its names: what does not depend on the nonce.
fn words_of(header: &[u8; 80]) -> [u32; WORDS] {
    let mut first = [0; 64];
    first.copy_from_slice(&header[..64]);
    let mut m = IV;
    compress(&mut m, &block_from_bytes(&first));
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let tail = [word(64), word(68), word(72)];
    let mut v = m;
    for (k, w) in K.iter().zip(tail) {
        round(&mut v, k.wrapping_add(w));
    }
    let [a3, b3, c3, _, e3, f3, g3, _] = v;
    // Round 3 with W[3] = 0.
    round(&mut v, K[3]);
    let [a4, _, _, _, e4, ..] = v;
    let h4 = g3.wrapping_add(K[4]).wrapping_add(END);
    let w16 = small_sigma0(tail[1]).wrapping_add(tail[0]);
    let w17 = small_sigma1(BITS).wrapping_add(small_sigma0(tail[2])).wrapping_add(tail[1]);
    let w18 = small_sigma1(w16).wrapping_add(tail[2]);
    let w19 = small_sigma1(w17).wrapping_add(small_sigma0(END));
    let w31 = small_sigma0(w16).wrapping_add(BITS);
    let w32 = small_sigma0(w17).wrapping_add(w16);
    let [m0, m1, m2, m3, m4, m5, m6, m7] = m;
    let one = 1;
    [m0, m1, m2, m3, m4, m5, m6, m7, a3, b3, c3, e3, f3, h4, a4, e4, w16, w17, w18, w19, w31, w32, one]
}
