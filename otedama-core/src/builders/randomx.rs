//! RandomX: a key's cache by Argon2d, and from it the dataset, item by item (specification 7).

#![forbid(unsafe_code)]

#[cfg(target_arch = "x86_64")]
use crate::algo::randomx::argon2d_lanes::LaneCompress;
use crate::algo::randomx::superscalar::Program;
use crate::algo::randomx::{Dataset, Light, Params, dataset};
use crate::cpu::Cpu;
use crate::epoch::{Cancelled, Chunks, EpochBuilder, EpochKey, EpochSeed, Progress};
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::jit::ItemCode;
use crate::primitive::argon2d::{self, BLOCK_BYTES, Block, Input, Portable};

/// After how many items [`Progress`] is told: a millisecond when compiled, ten times that when not.
const REPORT_ITEMS: usize = 1024;

/// Builds caches and datasets of one variant of RandomX. Keys are bytes, at most 60.
///
/// # Panics
/// Building an epoch that has a number instead of a key does, which the store turns into
/// [`EpochError::Panicked`](crate::epoch::EpochError::Panicked).
#[derive(Clone, Debug)]
pub struct RandomXBuilder {
    params: &'static Params,
    cpu: Cpu,
    items_by: ItemsBy,
}

/// How dataset items are computed. All ways give the same items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ItemsBy {
    /// By compiled code, or by the interpreter where there is no compiler or the operating system grants
    /// no executable memory.
    #[default]
    Compiler,
    /// By the interpreter, some ten times slower: the oracle.
    Interpreter,
}

impl RandomXBuilder {
    /// The fastest way of this CPU to build epochs of a variant.
    pub fn new(params: &'static Params, cpu: &Cpu) -> RandomXBuilder {
        RandomXBuilder { params, cpu: cpu.clone(), items_by: ItemsBy::default() }
    }

    /// The same, with dataset items computed in another way.
    #[must_use]
    pub fn with_items(self, items_by: ItemsBy) -> RandomXBuilder {
        RandomXBuilder { items_by, ..self }
    }
}

impl EpochBuilder for RandomXBuilder {
    fn light_bytes(&self, _: &EpochKey) -> usize {
        self.params.cache_bytes()
    }

    fn full_bytes(&self, _: &EpochKey) -> Option<usize> {
        Some(self.params.dataset_bytes())
    }

    fn build_light(&self, key: &EpochKey, out: &mut [u8], progress: &Progress) -> Result<(), Cancelled> {
        progress.check()?;
        let input = dataset::cache_input(self.params, key_bytes(key));
        let (blocks, passes) = (out.as_chunks_mut().0, u64::from(input.passes));
        // Each pass is an equal part of the bytes. The first two blocks of each lane stand from the start.
        let mut filled = 2 * u64::from(input.lanes);
        let mut counted = 0;
        fill_cache(&self.cpu, &input, blocks, |more| {
            filled += more as u64;
            let done = filled * BLOCK_BYTES as u64 / passes;
            progress.add((done - std::mem::replace(&mut counted, done)) as usize)
        })
    }

    fn build_full(
        &self,
        key: &EpochKey,
        light: &[u8],
        chunks: &Chunks<'_>,
        progress: &Progress,
    ) -> Result<(), Cancelled> {
        let items = Items::new(self.params, key_bytes(key), self.items_by);
        while let Some(chunk) = chunks.take() {
            let mut first = (chunk.offset / 64) as u64;
            for out in chunk.bytes.as_chunks_mut().0.chunks_mut(REPORT_ITEMS) {
                items.fill(self.params, light, first, out);
                first += out.len() as u64;
                progress.add(out.as_flattened().len())?;
            }
        }
        Ok(())
    }
}

/// The dataset item functions of a key, ready to be called.
enum Items {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    Compiled(ItemCode),
    Interpreted(Vec<Program>),
}

impl Items {
    /// Generates the functions, and compiles them if that is asked and can be had.
    fn new(params: &Params, key: &[u8], by: ItemsBy) -> Items {
        let programs = Program::of_key(params, key);
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if by == ItemsBy::Compiler
            && let Ok(code) = ItemCode::compile(params, &programs)
        {
            return Items::Compiled(code);
        }
        let _ = by;
        Items::Interpreted(programs)
    }

    /// Computes items `first`, `first + 1` and so on.
    fn fill(&self, params: &Params, cache: &[u8], first: u64, out: &mut [[u8; 64]]) {
        match self {
            #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
            Items::Compiled(code) => code.fill(cache, first, out),
            Items::Interpreted(programs) => {
                let light = Light::new(params, cache, programs);
                for (out, index) in out.iter_mut().zip(first..) {
                    out.copy_from_slice(light.item(index).map(u64::to_le_bytes).as_flattened());
                }
            }
        }
    }
}

/// Argon2d by the widest vectors that the CPU has.
fn fill_cache<E>(
    cpu: &Cpu,
    input: &Input<'_>,
    blocks: &mut [Block],
    report: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    #[cfg(target_arch = "x86_64")]
    if let Some(token) = cpu.avx512() {
        return argon2d::fill(input, blocks, &LaneCompress(token), report);
    } else if let Some(token) = cpu.avx2() {
        return argon2d::fill(input, blocks, &LaneCompress(token), report);
    }
    let _ = cpu;
    argon2d::fill(input, blocks, &Portable, report)
}

fn key_bytes(key: &EpochKey) -> &[u8] {
    match &key.seed {
        EpochSeed::Bytes(bytes) => bytes,
        EpochSeed::Number(_) => panic!("{key}: RandomX has keys of bytes, not numbered epochs"),
    }
}
