//! The mining form with the rows of several Salsa20 matrices side by side in each vector.
//!
//! # The matrix
//! Salsa20 works on a 4 by 4 matrix of words. Written down diagonal by diagonal,
//!
//! ```text
//! a = x0  x5  x10 x15      one round:  b ^= (a + d) <<< 7
//! b = x4  x9  x14 x3                   c ^= (b + a) <<< 9
//! c = x8  x13 x2  x7                   d ^= (c + b) <<< 13
//! d = x12 x1  x6  x11                  a ^= (d + c) <<< 18
//! ```
//!
//! a round is four steps on whole quads of words, and turning b, c, d by one, two, three places makes
//! rows of the columns: b and d swap parts for the next round. A vector holds one such quad of
//! `COUNT / 4` hashes (four with AVX-512, two with AVX2), so four vectors hold the matrices of a *group*
//! of hashes. A core is 8 rounds of 12 operations and 3 turns, 4 additions and 4 exclusive ors: 128
//! operations, 32 a hash with AVX-512.
//!
//! # Hiding latency
//! The steps of a round wait for each other: a core takes at least 8 * 12 cycles, while two vector ports
//! could do its operations in 64. So two or more groups go side by side, step by step, and the processor
//! fills one's waits with another's work. What is left is the wait for the rows of V, whose numbers are
//! known only when a core ends: reading one fixed row instead ran 9 % faster. (Groups half a BlockMix apart,
//! one in the middle of a core while the other waits, were measured to be slower by 4 %. A group in its
//! second loop beside one in its first, which never waits, was slower by 1 to 2 % in each of nine orders
//! of their rounds; writing X1 only after some rounds of the next core changed nothing.) A BlockMix
//! (r = 1) is two cores, X = (X0, X1):
//!
//! ```text
//! first:  fed = X0 ^ X1;  X0' = core(fed)        in the second loop X is first xored with V[j],
//! second: fed = X0' ^ X1; X1' = core(fed)        j being the first word of X1 modulo N
//! ```
//!
//! # The scratchpad
//! Row i of hash h lies at `128 (i H + h)` bytes, for H hashes in flight: a stream of writes in the
//! first loop, and exactly two cache lines a hash and turn in the second. Writing scatters each vector's
//! quads to their hashes' rows, which takes store ports only. Reading loads whole parts of rows and
//! transposes their quads to the groups' vectors ([`Lanes::transpose_quads`]): 8 shuffles for 64 bytes
//! of each of four hashes, cheaper than fetching rows spread over more lines. The words stay in diagonal
//! order; nobody else reads them. H times 128 KiB should fit the core's L2 cache: that is what the number
//! of groups is tuned by.

use super::pbkdf2_lanes::{self, KeyLanes};
use super::{Kernel, ScryptParams, check_nonces, checked_scratchpad};
use crate::cpu::{Avx2, Avx512};
use crate::primitive::sha256;
use crate::simd::{Lanes, Token, Vectorized};

/// The number of rows, N.
const ROWS: usize = ScryptParams::MINING.n as usize;

/// A hash's row: X0 then X1, each a quad at a time.
type Row = [u8; 128];

/// The mining form on `T`'s vectors, with `GROUPS` groups of `COUNT / 4` hashes in flight.
#[derive(Clone, Debug)]
pub struct QuadsKernel<T: Token, const GROUPS: usize> {
    name: &'static str,
    token: T,
    header: [u32; 20],
    midstate: sha256::State,
    between: Vec<u32>,
}

impl QuadsKernel<Avx512, 1> {
    /// Four hashes in flight, 512 KiB.
    pub fn avx512_x4(token: Avx512) -> Self {
        Self::new("avx512-x4", token)
    }
}

impl QuadsKernel<Avx512, 2> {
    /// Eight hashes in flight, 1 MiB.
    pub fn avx512_x8(token: Avx512) -> Self {
        Self::new("avx512-x8", token)
    }
}

impl QuadsKernel<Avx512, 3> {
    /// Twelve hashes in flight, 1.5 MiB.
    pub fn avx512_x12(token: Avx512) -> Self {
        Self::new("avx512-x12", token)
    }
}

impl QuadsKernel<Avx2, 2> {
    /// Four hashes in flight, 512 KiB.
    pub fn avx2_x4(token: Avx2) -> Self {
        Self::new("avx2-x4", token)
    }
}

impl QuadsKernel<Avx2, 3> {
    /// Six hashes in flight, 768 KiB.
    pub fn avx2_x6(token: Avx2) -> Self {
        Self::new("avx2-x6", token)
    }
}

impl QuadsKernel<Avx2, 4> {
    /// Eight hashes in flight, 1 MiB.
    pub fn avx2_x8(token: Avx2) -> Self {
        Self::new("avx2-x8", token)
    }
}

impl<T: Token, const GROUPS: usize> QuadsKernel<T, GROUPS> {
    /// Hashes in flight.
    const IN_FLIGHT: usize = GROUPS * T::Lanes::COUNT / 4;

    /// Hashes worked on together: so many that SHA-256 fills its vectors (a hash per lane) and ROMix
    /// its groups, whatever their ratio.
    const BATCH: usize = least_common_multiple(T::Lanes::COUNT, Self::IN_FLIGHT);

    fn new(name: &'static str, token: T) -> Self {
        let between = vec![0; Self::BATCH * WORDS_BETWEEN];
        QuadsKernel { name, token, header: [0; 20], midstate: sha256::IV, between }
    }

    fn run(&mut self, scratchpad: &mut [u8], input: Input<'_>, digests: &mut [[u8; 32]]) {
        let scratchpad = checked_scratchpad(self.name, scratchpad, self.scratchpad_len());
        let (rows, _) = scratchpad.as_chunks_mut();
        for (number, digests) in digests.chunks_mut(Self::BATCH).enumerate() {
            let (first, between) = (number * Self::BATCH, &mut self.between[..]);
            self.token.run(Batch::<GROUPS> { input, first, between, rows, digests });
        }
    }
}

impl<T: Token, const GROUPS: usize> Kernel for QuadsKernel<T, GROUPS> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn lanes(&self) -> usize {
        Self::BATCH
    }

    fn scratchpad_len(&self) -> usize {
        Self::IN_FLIGHT * ScryptParams::MINING.scratchpad_len()
    }

    fn hash_headers(&mut self, scratchpad: &mut [u8], headers: &[[u8; 80]], digests: &mut [[u8; 32]]) {
        assert_eq!(headers.len(), digests.len(), "each header needs a place for its digest");
        self.run(scratchpad, Input::Headers(headers), digests);
    }

    fn load(&mut self, header: &[u8; 80]) {
        self.header = header_words(header);
        self.midstate = sha256::IV;
        let first = std::array::from_fn(|i| self.header[i]);
        sha256::compress(&mut self.midstate, &first);
    }

    fn hash_nonces(&mut self, scratchpad: &mut [u8], first_nonce: u32, digests: &mut [[u8; 32]]) {
        check_nonces(first_nonce, digests.len());
        let (header, midstate) = (self.header, self.midstate);
        let input = Input::Nonces { header: &header, midstate: &midstate, first_nonce };
        self.run(scratchpad, input, digests);
    }
}

/// What a call hashes.
#[derive(Clone, Copy)]
enum Input<'a> {
    Headers(&'a [[u8; 80]]),
    Nonces { header: &'a [u32; 20], midstate: &'a sha256::State, first_nonce: u32 },
}

/// At most [`QuadsKernel::BATCH`] hashes from beginning to end. Places without a digest to fill repeat
/// the last one's work.
struct Batch<'a, const GROUPS: usize> {
    input: Input<'a>,
    /// The number of the first digest among those of the call.
    first: usize,
    /// For each `COUNT` hashes, what PBKDF2 and ROMix hand each other: [`WORDS_BETWEEN`] vectors.
    between: &'a mut [u32],
    rows: &'a mut [Row],
    digests: &'a mut [[u8; 32]],
}

/// A row and an HMAC key (the state inside and the one outside) for each hash.
const WORDS_BETWEEN: usize = 32 + 8 + 8;

impl<const GROUPS: usize> Vectorized for Batch<'_, GROUPS> {
    type Output = ();

    #[inline(always)]
    fn run_on<L: Lanes>(self, token: L::Token) {
        let Batch { input, first, between, rows, digests } = self;
        let in_flight = GROUPS * L::COUNT / 4;
        let vectors = digests.len().div_ceil(L::COUNT);
        let between = &mut between
            [..(digests.len().next_multiple_of(in_flight).div_ceil(L::COUNT)) * WORDS_BETWEEN * L::COUNT];

        for (vector, between) in between.chunks_exact_mut(WORDS_BETWEEN * L::COUNT).take(vectors).enumerate()
        {
            let first = first + vector * L::COUNT;
            let (midstate, header) = input.lanes::<L>(token, first);
            let (key, row) = pbkdf2_lanes::expand(token, &midstate, &header);
            let words = row.into_iter().chain(key.inner).chain(key.outer);
            for (word, place) in words.zip(between.chunks_exact_mut(L::COUNT)) {
                word.store(place);
            }
        }
        for first in (0..digests.len()).step_by(in_flight) {
            Groups::<L, GROUPS>::gather(token, between, first).ro_mix(token, rows).scatter(between, first);
        }
        for (between, digests) in
            between.chunks_exact(WORDS_BETWEEN * L::COUNT).zip(digests.chunks_mut(L::COUNT))
        {
            let word = |i: usize| L::load(token, &between[i * L::COUNT..][..L::COUNT]);
            let key = KeyLanes {
                inner: std::array::from_fn(|i| word(32 + i)),
                outer: std::array::from_fn(|i| word(40 + i)),
            };
            let words = pbkdf2_lanes::digest(token, &key, &std::array::from_fn(word));
            for (i, word) in words.into_iter().enumerate() {
                let mut lanes = [0; 16];
                word.store(&mut lanes[..L::COUNT]);
                for (digest, lane) in digests.iter_mut().zip(lanes) {
                    digest[4 * i..][..4].copy_from_slice(&lane.to_be_bytes());
                }
            }
        }
    }
}

impl Input<'_> {
    /// The midstates and words of `COUNT` headers, `first` being the first one's number in the call.
    #[inline(always)]
    fn lanes<L: Lanes>(
        &self,
        token: L::Token,
        first: usize,
    ) -> (pbkdf2_lanes::StateLanes<L>, pbkdf2_lanes::HeaderLanes<L>) {
        match *self {
            Input::Headers(headers) => {
                let mut words = [[0; 16]; 20];
                for lane in 0..L::COUNT {
                    let header = header_words(&headers[(first + lane).min(headers.len() - 1)]);
                    for (lanes, word) in words.iter_mut().zip(header) {
                        lanes[lane] = word;
                    }
                }
                let header = words.map(|lanes| L::load(token, &lanes[..L::COUNT]));
                (pbkdf2_lanes::midstate(token, &header), header)
            }
            Input::Nonces { header, midstate, first_nonce } => {
                let mut header = header.map(|word| L::splat(token, word));
                let first = first_nonce.wrapping_add(first as u32);
                header[19] = L::from_fn(token, |lane| first.wrapping_add(lane as u32).swap_bytes());
                (midstate.map(|word| L::splat(token, word)), header)
            }
        }
    }
}

/// The body for each group's number. Not a loop, which the compiler may not unroll, nor a closure, which
/// it may compile on its own, without the instruction set: the groups must stay in registers.
macro_rules! each_group {
    ($group:ident of $groups:ident => $body:expr) => {
        each_group!($group of $groups => $body, 0 1 2 3)
    };
    ($group:ident of $groups:ident => $body:expr, $($number:literal)*) => {
        $(if $number < $groups {
            let $group: usize = $number;
            $body;
        })*
    };
}

/// The groups in flight, between BlockMixes.
struct Groups<L, const GROUPS: usize>([Group<L>; GROUPS]);

/// The row X of `COUNT / 4` hashes.
#[derive(Clone, Copy)]
struct Group<L> {
    x0: Matrix<L>,
    x1: Matrix<L>,
}

/// The quads a, b, c, d.
type Matrix<L> = [L; 4];

impl<L: Lanes, const GROUPS: usize> Groups<L, GROUPS> {
    const HASHES: usize = L::COUNT / 4;
    const IN_FLIGHT: usize = GROUPS * Self::HASHES;

    #[inline(always)]
    fn ro_mix(mut self, token: L::Token, rows: &mut [Row]) -> Self {
        let rows = &mut rows[..ROWS * Self::IN_FLIGHT];
        for row in rows.chunks_exact_mut(Self::IN_FLIGHT) {
            let fed = self.write(row);
            self.block_mix(fed);
        }
        for _ in 0..ROWS {
            let fed = self.read(token, rows);
            self.block_mix(fed);
        }
        self
    }

    /// Begins a turn of the first loop: keeps X in the rows of the hashes in flight. Answers what the
    /// first core is fed, X0 ^ X1.
    #[inline(always)]
    fn write(&self, rows: &mut [Row]) -> [Matrix<L>; GROUPS] {
        let mut fed = self.0.map(|group| group.x0);
        each_group!(group of GROUPS => {
            let Group { x0, x1 } = self.0[group];
            let rows = &mut rows[group * Self::HASHES..][..Self::HASHES];
            write_half(x0, 0, rows);
            write_half(x1, 4, rows);
            fed[group] = xor(x0, x1);
        });
        fed
    }

    /// Begins a turn of the second loop: X1 ^= V1[j], j being the first word of X1, for each hash its
    /// own. Answers what the first core is fed, X0 ^ V0[j] ^ X1 ^ V1[j]; X0 itself is of no more use.
    #[inline(always)]
    fn read(&mut self, token: L::Token, rows: &[Row]) -> [Matrix<L>; GROUPS] {
        let mut fed = self.0.map(|group| group.x0);
        each_group!(group of GROUPS => {
            let Group { x0, x1 } = &mut self.0[group];
            let numbers = x1[0].quad_heads();
            let row = |hash: usize| {
                let number = (numbers >> (16 * hash)) as usize % ROWS;
                &rows[number * Self::IN_FLIGHT + group * Self::HASHES + hash]
            };
            // With AVX2 a part of a row is 32 bytes, two of its four quads in this half.
            let half = |half: usize| {
                L::transpose_quads(std::array::from_fn(|i| {
                    let (hash, part) = (i % Self::HASHES, i / Self::HASHES);
                    L::load_bytes(token, &row(hash)[64 * half + 4 * L::COUNT * part..][..4 * L::COUNT])
                }))
            };
            let (v0, v1) = (half(0), half(1));
            *x1 = xor(*x1, v1);
            fed[group] = std::array::from_fn(|i| x0[i].xor3(v0[i], x1[i]));
        });
        fed
    }

    /// X = BlockMix(X), of which the first core is fed `fed`.
    #[inline(always)]
    fn block_mix(&mut self, fed: [Matrix<L>; GROUPS]) {
        let x0 = core(fed);
        let mut fed = x0;
        each_group!(group of GROUPS => fed[group] = xor(x0[group], self.0[group].x1));
        let x1 = core(fed);
        each_group!(group of GROUPS => self.0[group] = Group { x0: x0[group], x1: x1[group] });
    }

    /// The groups whose hashes are number `first` and on of a batch, before their first BlockMix.
    #[inline(always)]
    fn gather(token: L::Token, between: &[u32], first: usize) -> Self {
        Groups(std::array::from_fn(|group| {
            let half = |half: usize| -> Matrix<L> {
                std::array::from_fn(|row| {
                    L::from_fn(token, |lane| {
                        let hash = first + group * Self::HASHES + lane / 4;
                        between[place_between::<L>(hash, 16 * half + diagonal(row, lane % 4))]
                    })
                })
            };
            Group { x0: half(0), x1: half(1) }
        }))
    }

    /// Puts the groups' rows back where they were gathered.
    #[inline(always)]
    fn scatter(&self, between: &mut [u32], first: usize) {
        for (group, Group { x0, x1 }) in self.0.iter().enumerate() {
            for (half, quads) in [x0, x1].into_iter().enumerate() {
                for (row, quad) in quads.iter().enumerate() {
                    let mut lanes = [0; 16];
                    quad.store(&mut lanes[..L::COUNT]);
                    for (lane, &word) in lanes[..L::COUNT].iter().enumerate() {
                        let hash = first + group * Self::HASHES + lane / 4;
                        between[place_between::<L>(hash, 16 * half + diagonal(row, lane % 4))] = word;
                    }
                }
            }
        }
    }
}

/// Where word number `word` of a hash lies in [`Batch::between`].
#[inline(always)]
fn place_between<L: Lanes>(hash: usize, word: usize) -> usize {
    (hash / L::COUNT * WORDS_BETWEEN + word) * L::COUNT + hash % L::COUNT
}

/// The word of the Salsa20 matrix at place `i` of quad number `row` (see the picture above).
#[inline(always)]
fn diagonal(row: usize, i: usize) -> usize {
    (4 * row + 5 * i) % 16
}

/// Puts half a row of each hash, from quad number `first` on, in its place.
#[inline(always)]
fn write_half<L: Lanes>([a, b, c, d]: Matrix<L>, first: usize, rows: &mut [Row]) {
    a.store_quads(rows, 16 * first);
    b.store_quads(rows, 16 * (first + 1));
    c.store_quads(rows, 16 * (first + 2));
    d.store_quads(rows, 16 * (first + 3));
}

/// The Salsa20/8 cores of all groups, a double round of each in turn.
#[inline(always)]
fn core<L: Lanes, const GROUPS: usize>(fed: [Matrix<L>; GROUPS]) -> [Matrix<L>; GROUPS] {
    let mut x = fed;
    each_group!(group of GROUPS => x[group] = double_round(x[group]));
    each_group!(group of GROUPS => x[group] = double_round(x[group]));
    each_group!(group of GROUPS => x[group] = double_round(x[group]));
    each_group!(group of GROUPS => x[group] = double_round(x[group]));
    each_group!(group of GROUPS => x[group] = add(x[group], fed[group]));
    x
}

/// Columns, then rows.
#[inline(always)]
fn double_round<L: Lanes>(x: Matrix<L>) -> Matrix<L> {
    let [a, b, c, d] = round(x);
    let [a, d, c, b] = round([a, d.rotate_quads::<1>(), c.rotate_quads::<2>(), b.rotate_quads::<3>()]);
    [a, b.rotate_quads::<1>(), c.rotate_quads::<2>(), d.rotate_quads::<3>()]
}

#[inline(always)]
fn round<L: Lanes>([a, b, c, d]: Matrix<L>) -> Matrix<L> {
    let b = b.xor(a.add(d).rotate_right::<{ 32 - 7 }>());
    let c = c.xor(b.add(a).rotate_right::<{ 32 - 9 }>());
    let d = d.xor(c.add(b).rotate_right::<{ 32 - 13 }>());
    let a = a.xor(d.add(c).rotate_right::<{ 32 - 18 }>());
    [a, b, c, d]
}

#[inline(always)]
fn add<L: Lanes>(x: Matrix<L>, y: Matrix<L>) -> Matrix<L> {
    std::array::from_fn(|i| x[i].add(y[i]))
}

#[inline(always)]
fn xor<L: Lanes>(x: Matrix<L>, y: Matrix<L>) -> Matrix<L> {
    std::array::from_fn(|i| x[i].xor(y[i]))
}

/// The header's words as SHA-256 reads them.
fn header_words(header: &[u8; 80]) -> [u32; 20] {
    let (words, _) = header.as_chunks::<4>();
    std::array::from_fn(|i| u32::from_be_bytes(words[i]))
}

const fn least_common_multiple(a: usize, b: usize) -> usize {
    let mut multiple = a;
    while !multiple.is_multiple_of(b) {
        multiple += a;
    }
    multiple
}
