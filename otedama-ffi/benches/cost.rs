//! What the edge costs: SHA256d of a million headers of 80 bytes, and of one, through the core and through the C
//! calls, in turns. `cargo bench -p otedama-ffi --bench cost`; with `-- --test` it compares the digests and measures
//! little.
//!
//! Bounds: the batch within 3 % of the core's, the single call within 60 ns. They are printed, and checked when
//! measuring (not with `--test`: a busy machine would fail it).

use std::ptr;
use std::time::Instant;

use otedama::{
    OTEDAMA_OK, OTEDAMA_SHA256D, otedama_hasher, otedama_hasher_free, otedama_hasher_hash,
    otedama_hasher_hash_many, otedama_hasher_new,
};
use otedama_core::scan::{Attempt, Hasher, Setup, kernels};
use otedama_core::{Algorithm, Digest};

const HEADER: usize = 80;

fn main() {
    let test = std::env::args().any(|argument| argument == "--test");
    let (headers, rounds) = if test { (10_000, 1) } else { (1_000_000, 9) };
    let inputs: Vec<u8> = (0..headers * HEADER).map(|i| (i as u64).wrapping_mul(0x9e37_79b9) as u8).collect();
    let setup = Setup::detect();
    let mut worst = (0.0f64, 0.0f64);
    for kernel in kernels(Algorithm::Sha256d).filter(|kernel| kernel.obstacle(&setup).is_none()) {
        let mut core = kernel.hasher(&setup).expect("it is usable");
        let c = CHasher::new(kernel.name());
        let mut digests = vec![Digest::plain([0; 32]); headers];
        let attempts: Vec<Attempt<'_>> =
            inputs.as_chunks::<HEADER>().0.iter().map(|header| Attempt::Bytes(header)).collect();
        let mut out = vec![0; 32 * headers];

        let (mut core_batch, mut c_batch) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            core_batch.push(seconds(|| core.hash_many(&attempts, None, &mut digests).expect("headers")));
            c_batch.push(seconds(|| c.hash_many(&inputs, headers, &mut out)));
        }
        assert!(digests.iter().zip(out.as_chunks::<32>().0).all(|(core, c)| core.pow.as_raw() == c));

        let singles = headers / 10;
        let (mut core_single, mut c_single) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            core_single.push(seconds(|| single(core.as_mut(), &attempts[..singles], &mut digests)));
            c_single.push(seconds(|| c.hash_each(&inputs, singles, &mut out)));
        }
        let batch = 100.0 * (median(c_batch) / median(core_batch.clone()) - 1.0);
        let extra = 1e9 * (median(c_single) - median(core_single)) / singles as f64;
        println!(
            "{:20} {:6.1} ns a header in batches; C: {batch:+.2} % in batches, {extra:+.1} ns a single call",
            kernel.name(),
            1e9 * median(core_batch) / headers as f64
        );
        worst = (worst.0.max(batch), worst.1.max(extra));
    }
    if !test {
        assert!(worst.0 <= 3.0 && worst.1 <= 60.0, "the edge costs too much");
    }
}

fn seconds(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn single(hasher: &mut dyn Hasher, attempts: &[Attempt<'_>], digests: &mut [Digest]) {
    for (attempt, digest) in attempts.iter().zip(digests.chunks_mut(1)) {
        hasher.hash_many(std::slice::from_ref(attempt), None, digest).expect("headers");
    }
}

/// A hasher as C has it.
struct CHasher(*mut otedama_hasher);

impl CHasher {
    fn new(kernel: &str) -> CHasher {
        let (name, mut hasher) = (std::ffi::CString::new(kernel).expect("no NUL"), ptr::null_mut());
        // SAFETY: a string that ends in NUL, and room for a handle.
        let status = unsafe {
            otedama_hasher_new(OTEDAMA_SHA256D, name.as_ptr(), ptr::null(), ptr::null(), &mut hasher)
        };
        assert_eq!(status, OTEDAMA_OK);
        CHasher(hasher)
    }

    fn hash_many(&self, inputs: &[u8], count: usize, out: &mut [u8]) {
        // SAFETY: `count` headers lie in `inputs`, and `out` is as long as it is said to be.
        let status = unsafe {
            otedama_hasher_hash_many(self.0, inputs.as_ptr(), HEADER, count, out.as_mut_ptr(), out.len())
        };
        assert_eq!(status, OTEDAMA_OK);
    }

    fn hash_each(&self, inputs: &[u8], count: usize, out: &mut [u8]) {
        for (input, out) in inputs.chunks_exact(HEADER).take(count).zip(out.chunks_exact_mut(32)) {
            // SAFETY: both are as long as the call needs.
            let status = unsafe { otedama_hasher_hash(self.0, input.as_ptr(), HEADER, out.as_mut_ptr()) };
            assert_eq!(status, OTEDAMA_OK);
        }
    }
}

impl Drop for CHasher {
    fn drop(&mut self) {
        assert_eq!(otedama_hasher_free(self.0), OTEDAMA_OK);
    }
}
