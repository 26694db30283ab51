//! The family on vectors, with enough in flight that memory is never waited for in turn.
//!
//! # Items of the dataset
//! An item is a chain of 256 (or 512) reads from the light cache, each at a place that the read before
//! decided, but items do not depend on each other: up to [`ITEMS_IN_FLIGHT`] take their steps in turn.
//! A step multiplies and xors sixteen words at once. The next place needs just one of the words, so
//! this one is computed ahead of them in general registers, the line asked for ([`prefetch`]), and the other
//! items' steps hide the wait:
//!
//! ```text
//! for j in 0..parents, for each item i in flight:
//!     line  = cache[place_i]                                     asked for one round of items ago
//!     place = fnv(i xor (j + 1), fnv(mix_i, line)[(j + 1) mod 16]) mod n;  prefetch cache[place]
//!     mix_i = fnv(mix_i, line)
//! ```
//!
//! The remainder by n is two multiplications by a number prepared once ([`Remainder`]). Keccak-512 before
//! and after works on a vector of items. A light hash does the same with the two items of each page: alone it
//! has two in flight, thirty-two hashes together sixty-four.
//!
//! # Hashing with the dataset in memory
//! The same dance with pages instead of lines and [`HASHES_IN_FLIGHT`] nonces.

use std::ops::ControlFlow;

use super::cache::{PassProgress, ROUNDS, Report, first_word, items_mut};
use super::dataset::{Full, Item, Light, Page};
use super::hash::{ACCESSES, Attempt, Outcome, fold};
use super::keccak_lanes::{Planes, keccak256, keccak512};
use super::params::ITEM_BYTES;
use super::{FNV_PRIME, Kernel, fnv};
use crate::cpu::{Avx2, Avx512};
use crate::primitive::keccak;
use crate::simd::{Lanes, Lanes64, Token, Vectorized, prefetch};

/// Items computed at a time: many more than the processor has outstanding reads for. Where this was
/// measured, with 512 parents, 32 were 10 % faster than 16 and 64 another 10 %.
const ITEMS_IN_FLIGHT: usize = 64;

/// Full hashes computed at a time.
const HASHES_IN_FLIGHT: usize = 32;

/// The family on `T`'s vectors.
#[derive(Clone, Copy, Debug)]
pub struct LanesKernel<T: Token> {
    name: &'static str,
    token: T,
}

impl LanesKernel<Avx512> {
    /// With AVX-512.
    pub fn avx512(token: Avx512) -> Self {
        LanesKernel { name: "avx512", token }
    }
}

impl LanesKernel<Avx2> {
    /// With AVX2.
    pub fn avx2(token: Avx2) -> Self {
        LanesKernel { name: "avx2", token }
    }
}

impl<T: ChainToken> Kernel for LanesKernel<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn lanes(&self) -> usize {
        HASHES_IN_FLIGHT
    }

    fn build_cache(&self, seed: &[u8; 32], cache: &mut [u8], report: Report<'_>) -> ControlFlow<()> {
        let chain =
            Chain { token: self.token, seed, items: items_mut(cache), progress: PassProgress::new(report) };
        self.token.run(chain)
    }

    fn items(&self, light: &Light<'_>, first: u32, out: &mut [Item]) {
        self.token.run(Items { light, index: |i| first.wrapping_add(i as u32), out });
    }

    fn items_at(&self, light: &Light<'_>, indices: &[u32], out: &mut [Item]) {
        assert_eq!(indices.len(), out.len(), "an item for each index");
        self.token.run(Items { light, index: |i: usize| indices[i], out });
    }

    fn hash_light(&self, light: &Light<'_>, attempts: &[Attempt], out: &mut [Outcome]) {
        assert_eq!(attempts.len(), out.len(), "an outcome for each attempt");
        self.token.run(LightHashes { light, attempts, out });
    }

    fn hash_full(&self, full: &Full<'_>, attempts: &[Attempt], out: &mut [Outcome]) {
        assert_eq!(attempts.len(), out.len(), "an outcome for each attempt");
        self.token.run(FullHashes { full, attempts, out });
    }
}

/// `x mod n` by multiplication: with `m = ceil(2^64 / n)` the low 64 bits of `m x` are the fraction of
/// `x / n`, and n times the fraction is the remainder; exact for 32-bit numbers (Lemire, Kaser, Kurz 2019).
#[derive(Clone, Copy)]
pub(crate) struct Remainder {
    n: u32,
    m: u64,
}

impl Remainder {
    /// Of division by `n`, above zero.
    pub(crate) fn by(n: u32) -> Remainder {
        Remainder { n, m: (u64::MAX / u64::from(n)).wrapping_add(1) }
    }

    #[inline(always)]
    pub(crate) fn of(self, x: u32) -> usize {
        let fraction = self.m.wrapping_mul(u64::from(x));
        ((u128::from(fraction) * u128::from(self.n)) >> 64) as usize
    }
}

/// Items by number: `out[i]` is item `index(i)`.
struct Items<'a, F> {
    light: &'a Light<'a>,
    index: F,
    out: &'a mut [Item],
}

impl<F: Fn(usize) -> u32> Vectorized for Items<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run_on<L: Lanes>(self, token: L::Token) {
        let mut batch = Batch::new(self.light);
        for (number, out) in self.out.chunks_mut(ITEMS_IN_FLIGHT).enumerate() {
            for (i, index) in batch.indices[..out.len()].iter_mut().enumerate() {
                *index = (self.index)(number * ITEMS_IN_FLIGHT + i);
            }
            batch.compute::<L>(token, out.len());
            for (out, mix) in out.iter_mut().zip(&batch.mixes) {
                *out = mix.0;
            }
        }
    }
}

/// Hashes whose pages are computed from the light cache.
struct LightHashes<'a> {
    light: &'a Light<'a>,
    attempts: &'a [Attempt],
    out: &'a mut [Outcome],
}

impl Vectorized for LightHashes<'_> {
    type Output = ();

    #[inline(always)]
    fn run_on<L: Lanes>(self, token: L::Token) {
        const HASHES: usize = ITEMS_IN_FLIGHT / 2;
        let pages = Remainder::by(super::Dataset::pages(self.light));
        let mut batch = Batch::new(self.light);
        let mut hashes = [Hash::default(); HASHES];
        for (attempts, out) in self.attempts.chunks(HASHES).zip(self.out.chunks_mut(HASHES)) {
            start::<L>(token, attempts, &mut hashes);
            let hashes = &mut hashes[..attempts.len()];
            for access in 0..ACCESSES {
                for (hash, indices) in hashes.iter().zip(batch.indices.as_chunks_mut().0) {
                    let page =
                        pages.of(hash.page_number(access, word(&hash.mix, access as usize % 32))) as u32;
                    *indices = [2 * page, 2 * page + 1];
                }
                batch.compute::<L>(token, 2 * hashes.len());
                for (hash, items) in hashes.iter_mut().zip(batch.mixes.as_chunks::<2>().0) {
                    let (halves, _) = hash.mix.as_chunks_mut::<ITEM_BYTES>();
                    for (half, item) in halves.iter_mut().zip(items) {
                        mix_in::<L>(token, half, &item.0);
                    }
                }
            }
            finish::<L>(token, hashes, out);
        }
    }
}

/// Hashes whose pages are in memory.
struct FullHashes<'a> {
    full: &'a Full<'a>,
    attempts: &'a [Attempt],
    out: &'a mut [Outcome],
}

impl Vectorized for FullHashes<'_> {
    type Output = ();

    #[inline(always)]
    fn run_on<L: Lanes>(self, token: L::Token) {
        let pages = self.full.as_pages();
        let remainder = Remainder::by(pages.len() as u32);
        let mut hashes = [Hash::default(); HASHES_IN_FLIGHT];
        let mut places = [0; HASHES_IN_FLIGHT];
        for (attempts, out) in
            self.attempts.chunks(HASHES_IN_FLIGHT).zip(self.out.chunks_mut(HASHES_IN_FLIGHT))
        {
            start::<L>(token, attempts, &mut hashes);
            let hashes = &mut hashes[..attempts.len()];
            for (hash, place) in hashes.iter().zip(&mut places) {
                *place = remainder.of(hash.page_number(0, word(&hash.mix, 0)));
                prefetch_page(&pages[*place]);
            }
            for access in 0..ACCESSES {
                let next = (access as usize + 1) % 32;
                for (hash, place) in hashes.iter_mut().zip(&mut places) {
                    let page = &pages[*place];
                    let ahead = fnv(word(&hash.mix, next), word(page, next));
                    *place = remainder.of(hash.page_number(access + 1, ahead));
                    prefetch_page(&pages[*place]);
                    mix_in::<L>(token, &mut hash.mix, page);
                }
            }
            finish::<L>(token, hashes, out);
        }
    }
}

#[inline(always)]
fn prefetch_page(page: &Page) {
    prefetch(page);
    prefetch(&page[ITEM_BYTES]);
}

/// A hash under way.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Hash {
    mix: Page,
    seed: Item,
    first_word: u32,
}

impl Default for Hash {
    fn default() -> Self {
        Hash { mix: [0; 128], seed: [0; 64], first_word: 0 }
    }
}

impl Hash {
    /// What the page of an access is the remainder of.
    #[inline(always)]
    fn page_number(&self, access: u32, word: u32) -> u32 {
        fnv(access ^ self.first_word, word)
    }
}

/// Sets hashes up to read their first pages: Keccak-512 of header hash and nonce, a vector of them at a
/// time. There are at least as many hashes as attempts.
#[inline(always)]
fn start<L: Lanes>(token: L::Token, attempts: &[Attempt], hashes: &mut [Hash]) {
    let count = <L64<L> as Lanes64>::COUNT;
    for (attempts, hashes) in attempts.chunks(count).zip(hashes.chunks_mut(count)) {
        let message = gather::<L, 5>(token, |lane, w| {
            let attempt = &attempts[lane.min(attempts.len() - 1)];
            if w < 4 { long_word(&attempt.header_hash, w) } else { attempt.nonce }
        });
        let seeds = keccak512::<L64<L>, 5>(token, message);
        scatter::<L>(&seeds, hashes.iter_mut().map(|hash| &mut hash.seed));
        for hash in hashes {
            let (halves, _) = hash.mix.as_chunks_mut();
            halves.fill(hash.seed);
            hash.first_word = word(&hash.seed, 0);
        }
    }
}

/// Folds the mixes and computes the final hashes, a vector of them at a time.
#[inline(always)]
fn finish<L: Lanes>(token: L::Token, hashes: &[Hash], out: &mut [Outcome]) {
    let count = <L64<L> as Lanes64>::COUNT;
    for (hashes, out) in hashes.chunks(count).zip(out.chunks_mut(count)) {
        for (hash, out) in hashes.iter().zip(&mut *out) {
            out.mix_hash = fold(&std::array::from_fn(|i| word(&hash.mix, i)));
        }
        let message = gather::<L, 12>(token, |lane, w| {
            let lane = lane.min(hashes.len() - 1);
            if w < 8 { long_word(&hashes[lane].seed, w) } else { long_word(&out[lane].mix_hash, w - 8) }
        });
        let finals = keccak256::<L64<L>, 12>(token, message);
        scatter::<L>(&finals, out.iter_mut().map(|out| &mut out.final_hash));
    }
}

/// Items being computed: what `indices` name ends up in `mixes`.
struct Batch<'a> {
    cache: &'a [Item],
    remainder: Remainder,
    parents: u32,
    indices: [u32; ITEMS_IN_FLIGHT],
    mixes: [Line; ITEMS_IN_FLIGHT],
}

/// An item that does not straddle cache lines.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(Item);

impl<'a> Batch<'a> {
    fn new(light: &Light<'a>) -> Batch<'a> {
        let remainder = Remainder::by(light.cache().len() as u32);
        let (cache, parents) = (light.cache(), light.parents());
        let mixes = [Line([0; ITEM_BYTES]); ITEMS_IN_FLIGHT];
        Batch { cache, remainder, parents, indices: [0; ITEMS_IN_FLIGHT], mixes }
    }

    /// Computes the first `count` items.
    #[inline(always)]
    fn compute<L: Lanes>(&mut self, token: L::Token, count: usize) {
        let Batch { cache, remainder, parents, .. } = *self;
        let (indices, mixes) = (&self.indices[..count], &mut self.mixes[..count]);
        for &index in indices {
            prefetch(&cache[remainder.of(index)]);
        }
        for (&index, mix) in indices.iter().zip(&mut *mixes) {
            mix.0 = cache[remainder.of(index)];
            let first = word(&mix.0, 0) ^ index;
            mix.0[..4].copy_from_slice(&first.to_le_bytes());
        }
        keccak512_each::<L>(token, mixes);

        let mut places = [0; ITEMS_IN_FLIGHT];
        for ((&index, mix), place) in indices.iter().zip(&*mixes).zip(&mut places) {
            *place = remainder.of(fnv(index, word(&mix.0, 0)));
            prefetch(&cache[*place]);
        }
        for j in 1..=parents {
            let next = j as usize % 16;
            for ((&index, mix), place) in indices.iter().zip(&mut *mixes).zip(&mut places) {
                let line = &cache[*place];
                let ahead = fnv(word(&mix.0, next), word(line, next));
                *place = remainder.of(fnv(index ^ j, ahead));
                prefetch(&cache[*place]);
                mix_in::<L>(token, &mut mix.0, line);
            }
        }
        keccak512_each::<L>(token, mixes);
    }
}

/// Keccak-512 of each item, in place.
#[inline(always)]
fn keccak512_each<L: Lanes>(token: L::Token, mixes: &mut [Line]) {
    for mixes in mixes.chunks_mut(<L64<L> as Lanes64>::COUNT) {
        let message = gather::<L, 8>(token, |lane, w| long_word(&mixes[lane.min(mixes.len() - 1)].0, w));
        let digests = keccak512::<L64<L>, 8>(token, message);
        scatter::<L>(&digests, mixes.iter_mut().map(|mix| &mut mix.0));
    }
}

/// `N` vectors, of which vector w has `of(lane, w)` in each lane.
#[inline(always)]
fn gather<L: Lanes, const N: usize>(token: L::Token, of: impl Fn(usize, usize) -> u64) -> [L64<L>; N] {
    let count = <L64<L> as Lanes64>::COUNT;
    let mut vectors = [L64::<L>::splat(token, 0); N];
    let mut lanes = [0; 8];
    for (w, vector) in vectors.iter_mut().enumerate() {
        for (lane, number) in lanes[..count].iter_mut().enumerate() {
            *number = of(lane, w);
        }
        *vector = L64::<L>::load(token, &lanes[..count]);
    }
    vectors
}

/// Writes lane by lane what lies word by word: lane `i` of every vector to output `i`.
#[inline(always)]
fn scatter<'a, L: Lanes>(words: &[L64<L>], out: impl Iterator<Item = impl AsMut<[u8]> + 'a>) {
    let count = <L64<L> as Lanes64>::COUNT;
    let mut lanes = [[0; 8]; 8];
    for (lanes, word) in lanes.iter_mut().zip(words) {
        word.store(&mut lanes[..count]);
    }
    for (lane, mut out) in out.enumerate() {
        for (bytes, lanes) in out.as_mut().as_chunks_mut().0.iter_mut().zip(&lanes) {
            *bytes = lanes[lane].to_le_bytes();
        }
    }
}

/// `mix = fnv(mix, other)` for all words.
#[inline(always)]
fn mix_in<L: Lanes>(token: L::Token, mix: &mut [u8], other: &[u8]) {
    let prime = L::splat(token, FNV_PRIME);
    for (mix, other) in mix.chunks_exact_mut(4 * L::COUNT).zip(other.chunks_exact(4 * L::COUNT)) {
        L::load_bytes(token, mix).mul(prime).xor(L::load_bytes(token, other)).store_bytes(mix);
    }
}

#[inline(always)]
fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_le_bytes(bytes.as_chunks().0[index])
}

#[inline(always)]
fn long_word(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes.as_chunks().0[index])
}

/// The vectors of 64-bit lanes that go with `L`.
type L64<L> = <<L as Lanes>::Token as Token>::Lanes64;

/// How an instruction set computes one Keccak-512 fastest, when the next waits for it.
trait ChainToken: Token {
    /// A digest where the next message is made of it.
    type Digest: Digest<Self>;
}

/// See [`ChainToken`].
trait Digest<T>: Copy {
    /// From the 64 bytes.
    fn load(token: T, item: &Item) -> Self;

    /// Keccak-512 of the exclusive or of this and an item.
    fn link(self, other: &Item) -> Self;

    /// To the 64 bytes.
    fn store(self, item: &mut Item);
}

impl ChainToken for Avx512 {
    type Digest = Planes;
}

impl ChainToken for Avx2 {
    type Digest = Words;
}

impl Digest<Avx512> for Planes {
    #[inline(always)]
    fn load(token: Avx512, item: &Item) -> Planes {
        Planes::load(token, item)
    }

    #[inline(always)]
    fn link(self, other: &Item) -> Planes {
        Planes::link(self, other)
    }

    #[inline(always)]
    fn store(self, item: &mut Item) {
        Planes::store(self, item);
    }
}

/// A digest in general registers: 256-bit vectors gain nothing for one state.
#[derive(Clone, Copy)]
struct Words([u64; 8]);

impl Digest<Avx2> for Words {
    #[inline(always)]
    fn load(_: Avx2, item: &Item) -> Words {
        Words(std::array::from_fn(|i| long_word(item, i)))
    }

    #[inline(always)]
    fn link(self, other: &Item) -> Words {
        let mut state = [0; 25];
        for (i, word) in self.0.into_iter().enumerate() {
            state[i] = word ^ long_word(other, i);
        }
        state[8] = 1 | 1 << 63;
        keccak::f1600(&mut state);
        Words(std::array::from_fn(|i| state[i]))
    }

    #[inline(always)]
    fn store(self, item: &mut Item) {
        for (bytes, word) in item.as_chunks_mut().0.iter_mut().zip(self.0) {
            *bytes = word.to_le_bytes();
        }
    }
}

/// The light cache. The other item of a step is known long before: its line is asked for some steps ahead.
struct Chain<'a, T> {
    token: T,
    seed: &'a [u8; 32],
    items: &'a mut [Item],
    progress: PassProgress<'a>,
}

impl<T: ChainToken> Vectorized for Chain<'_, T> {
    type Output = ControlFlow<()>;

    #[inline(always)]
    fn run_on<L: Lanes>(self, _: L::Token) -> ControlFlow<()> {
        /// Steps from asking for a line to reading it: a step takes longer than memory.
        const AHEAD: usize = 3;
        let Chain { token, seed, items, mut progress } = self;
        let n = items.len();
        let remainder = Remainder::by(n as u32);
        items[0] = keccak::keccak512(seed);
        let mut last = T::Digest::load(token, &items[0]);
        for item in &mut items[1..] {
            last = last.link(&[0; ITEM_BYTES]);
            last.store(item);
            progress.hashed()?;
        }
        for _ in 0..ROUNDS {
            for i in 0..n {
                if let Some(item) = items.get(i + AHEAD) {
                    prefetch(&items[remainder.of(first_word(item))]);
                }
                last = last.link(&items[remainder.of(first_word(&items[i]))]);
                last.store(&mut items[i]);
                progress.hashed()?;
            }
        }
        progress.finish()
    }
}
