//! The readable form: programs interpreted, lane by lane.

use super::program::{
    DAG_WORDS, FNV_OFFSET, Kiss99, L1_WORDS, LANES, LOOPS, Program, REGISTERS, Step, fnv1a,
};
use crate::algo::ethash::{Dataset, PAGE_BYTES, Page};

/// What a hash works on: word `lane` of register `r` is `self.0[r][lane]`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Mix(pub [[u32; LANES]; REGISTERS]);

/// The first 16 KiB of the DAG as little-endian words, which programs read at random.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct L1Cache([u32; L1_WORDS]);

/// A row of the DAG: 256 bytes, little-endian words, two of Ethash's pages.
pub type Row = [Page; 2];

/// Words of a page.
const PAGE_WORDS: usize = PAGE_BYTES / 4;

impl L1Cache {
    /// Reads it from the dataset; the light one computes 256 items for that.
    ///
    /// # Panics
    /// If the dataset has not even 16 KiB.
    pub fn of(dataset: &impl Dataset) -> Box<L1Cache> {
        assert!(dataset.pages() as usize >= L1_WORDS / PAGE_WORDS, "a dataset of less than 16 KiB");
        let mut cache = Box::new(L1Cache([0; L1_WORDS]));
        for (index, words) in cache.0.chunks_exact_mut(PAGE_WORDS).enumerate() {
            for (word, bytes) in words.iter_mut().zip(dataset.page(index as u32).as_chunks().0) {
                *word = u32::from_le_bytes(*bytes);
            }
        }
        cache
    }

    /// The words.
    #[inline(always)]
    pub fn words(&self) -> &[u32; L1_WORDS] {
        &self.0
    }
}

/// Row `index`, which is below half the number of pages.
pub fn row(dataset: &impl Dataset, index: u32) -> Row {
    [2 * index, 2 * index + 1].map(|page| dataset.page(page))
}

impl Mix {
    /// Nothing but zeros.
    pub(super) const ZERO: Mix = Mix([[0; LANES]; REGISTERS]);

    /// The first contents of all registers, from the seed of a hash.
    #[inline(always)]
    pub fn of_seed(seed: [u32; 2]) -> Mix {
        // Field by field, so that lanes become vectors.
        let random: [Kiss99; LANES] = std::array::from_fn(|lane| Kiss99::of_lane(seed, lane as u32));
        let (mut z, mut w) = (random.map(|random| random.z), random.map(|random| random.w));
        let (mut jsr, mut jcong) = (random.map(|random| random.jsr), random.map(|random| random.jcong));
        let mut mix = Mix::ZERO;
        for register in &mut mix.0 {
            for lane in 0..LANES {
                let mut random = Kiss99 { z: z[lane], w: w[lane], jsr: jsr[lane], jcong: jcong[lane] };
                register[lane] = random.next();
                (z[lane], w[lane], jsr[lane], jcong[lane]) = (random.z, random.w, random.jsr, random.jcong);
            }
        }
        mix
    }

    /// The row of the DAG that loop `number` reads, of a number of rows: the lanes choose in turn.
    #[inline(always)]
    pub fn row_index(&self, number: usize, rows: u32) -> u32 {
        self.0[0][number % LANES] % rows
    }

    /// Runs the program once. Loop `number` hands the row out to the lanes so that lane `l` gets its words
    /// from `4 (l xor number)` on, modulo 16.
    pub fn run(&mut self, program: &Program, l1: &L1Cache, row: &Row, number: usize) {
        let registers = &mut self.0;
        for step in &program.steps {
            let register = |number: u8| registers[usize::from(number)];
            let (data, dst, merge) = match *step {
                Step::Cache { src, dst, merge } => {
                    (register(src).map(|word| l1.0[word as usize % L1_WORDS]), dst, merge)
                }
                Step::Math { a, b, op, dst, merge } => {
                    let (a, b) = (register(a), register(b));
                    (std::array::from_fn(|lane| op.apply(a[lane], b[lane])), dst, merge)
                }
            };
            for (old, data) in registers[usize::from(dst)].iter_mut().zip(data) {
                *old = merge.apply(*old, data);
            }
        }
        let (words, _) = row.as_flattened().as_chunks();
        for (word, &(dst, merge)) in program.dag.iter().enumerate() {
            for (lane, old) in registers[usize::from(dst)].iter_mut().enumerate() {
                let data = u32::from_le_bytes(words[(lane ^ number) % LANES * DAG_WORDS + word]);
                *old = merge.apply(*old, data);
            }
        }
    }

    /// All registers in 32 bytes, the mix hash: each lane hashed to a word, two lanes folded to one.
    #[inline(always)]
    pub fn fold(&self) -> [u32; 8] {
        let mut lanes = [FNV_OFFSET; LANES];
        for register in &self.0 {
            for (hash, &word) in lanes.iter_mut().zip(register) {
                *hash = fnv1a(*hash, word);
            }
        }
        std::array::from_fn(|i| fnv1a(fnv1a(FNV_OFFSET, lanes[i]), lanes[i + 8]))
    }
}

/// The mix hash that a program makes of a seed: [`LOOPS`] rows.
pub fn mix_hash(program: &Program, dataset: &impl Dataset, l1: &L1Cache, seed: [u32; 2]) -> [u32; 8] {
    let mut mix = Mix::of_seed(seed);
    for number in 0..LOOPS {
        let index = mix.row_index(number, dataset.pages() / 2);
        mix.run(program, l1, &row(dataset, index), number);
    }
    mix.fold()
}
