//! Keccak-f\[1600\] on vectors: a state in each lane, or, with AVX-512, one state in five vectors.
//!
//! # A state in each lane
//! [`Lanes64::COUNT`] messages at a time, 25 vectors. A round is 10 exclusive ors of three for the column
//! parities, 5 rotations, 25 more such exclusive ors, 24 rotations and 25 chis: some 90 operations for
//! eight states with AVX-512.
//!
//! # One state in five vectors
//! Nothing but the next round needs a round's result when messages form a chain, and what counts is how
//! long one state takes. Plane y, the words (0..5, y), is a vector with word x in lane x; lanes 5 to 7 are
//! of no meaning. In this form theta is vertical (two exclusive ors, two permutations by a lane) and
//! rho one rotation of each plane. Pi takes word (x, y) to (y, 2x + 3y): each plane y is permuted so that
//! the word which pi sends to row Y lies in lane Y, x = 3Y + y, and is then column y of the new state.
//!
//! ```text
//! plane y, lane x  -- permute -->  column X = y, lane Y  -- chi is vertical here -->  column X, lane Y
//!                  -- transpose -->  plane y, lane x
//! ```
//!
//! Transposing five by five is two pairs of interleavings (columns 0 with 1, 2 with 3), a permutation of
//! two vectors for each plane, and lane 4 from column 4, which takes the way through memory: the one port
//! that permutes is what the whole round waits for.

use super::dataset::Item;
use crate::cpu::Avx512;
use crate::primitive::keccak::ROTATIONS;
use crate::primitive::keccak::ROUND_CONSTANTS;
use crate::simd::Lanes64;
use crate::simd::avx512::U64x8;

/// Words of a block of Keccak-512.
const RATE_512: usize = 9;

/// Words of a block of Keccak-256.
const RATE_256: usize = 17;

/// Keccak-512 of a message of `N` words, below 9, in each lane.
#[inline(always)]
pub(super) fn keccak512<L: Lanes64, const N: usize>(token: L::Token, message: [L; N]) -> [L; 8] {
    let state = absorb::<L, N, RATE_512>(token, message);
    let (digest, _) = state.split_first_chunk().expect("a state is longer than a digest");
    *digest
}

/// Keccak-256 of a message of `N` words, below 17, in each lane.
#[inline(always)]
pub(super) fn keccak256<L: Lanes64, const N: usize>(token: L::Token, message: [L; N]) -> [L; 4] {
    let state = absorb::<L, N, RATE_256>(token, message);
    let (digest, _) = state.split_first_chunk().expect("a state is longer than a digest");
    *digest
}

#[inline(always)]
fn absorb<L: Lanes64, const N: usize, const RATE: usize>(token: L::Token, message: [L; N]) -> [L; 25] {
    let mut state = [L::splat(token, 0); 25];
    state[..N].copy_from_slice(&message);
    state[N] = L::splat(token, 1);
    state[RATE - 1] = state[RATE - 1].xor(L::splat(token, 1 << 63));
    for constant in ROUND_CONSTANTS {
        state = round(state);
        state[0] = state[0].xor(L::splat(token, constant));
    }
    state
}

/// Theta, rho, pi and chi.
#[inline(always)]
fn round<L: Lanes64>(a: [L; 25]) -> [L; 25] {
    // Spelled out: closures over arrays this long are not always inlined, and must be.
    macro_rules! columns {
        ($of:ident) => {
            [$of!(0), $of!(1), $of!(2), $of!(3), $of!(4)]
        };
    }
    macro_rules! parity {
        ($x:literal) => {
            a[$x].xor3(a[$x + 5], a[$x + 10]).xor3(a[$x + 15], a[$x + 20])
        };
    }
    let parity = columns!(parity);
    macro_rules! turned {
        ($x:literal) => {
            parity[$x].rotate_left::<1>()
        };
    }
    let turned = columns!(turned);
    // Word (x, y) after theta, turned by N.
    macro_rules! word {
        ($x:literal, $y:literal, $n:literal) => {
            a[$x + 5 * $y].xor3(parity[($x + 4) % 5], turned[($x + 1) % 5]).rotate_left::<$n>()
        };
    }
    macro_rules! chi {
        ($a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {{
            let (a, b, c, d, e) = ($a, $b, $c, $d, $e);
            [a.chi(b, c), b.chi(c, d), c.chi(d, e), d.chi(e, a), e.chi(a, b)]
        }};
    }
    // Row by row, what pi takes there.
    let [r0, r1, r2, r3, r4] = [
        chi!(word!(0, 0, 0), word!(1, 1, 44), word!(2, 2, 43), word!(3, 3, 21), word!(4, 4, 14)),
        chi!(word!(3, 0, 28), word!(4, 1, 20), word!(0, 2, 3), word!(1, 3, 45), word!(2, 4, 61)),
        chi!(word!(1, 0, 1), word!(2, 1, 6), word!(3, 2, 25), word!(4, 3, 8), word!(0, 4, 18)),
        chi!(word!(4, 0, 27), word!(0, 1, 36), word!(1, 2, 10), word!(2, 3, 15), word!(3, 4, 56)),
        chi!(word!(2, 0, 62), word!(3, 1, 55), word!(4, 2, 39), word!(0, 3, 41), word!(1, 4, 2)),
    ];
    [
        r0[0], r0[1], r0[2], r0[3], r0[4], r1[0], r1[1], r1[2], r1[3], r1[4], r2[0], r2[1], r2[2], r2[3],
        r2[4], r3[0], r3[1], r3[2], r3[3], r3[4], r4[0], r4[1], r4[2], r4[3], r4[4],
    ]
}

/// A Keccak-512 digest where it came out of the permutation: words 0 to 4 in plane 0, words 5 to 7 in
/// plane 1; the lanes after these are of no meaning.
#[derive(Clone, Copy)]
pub(super) struct Planes {
    token: Avx512,
    first: U64x8,
    second: U64x8,
}

impl Planes {
    #[inline(always)]
    pub(super) fn load(token: Avx512, item: &Item) -> Planes {
        let words = U64x8::load_bytes(token, item);
        Planes { token, first: words, second: words.permute(U64x8::load(token, &TAIL)) }
    }

    /// Writes the digest in one piece: a store of parts would reach over the next item, whose first word
    /// is about to be read.
    #[inline(always)]
    pub(super) fn store(self, item: &mut Item) {
        self.first.permute_two(self.second, U64x8::load(self.token, &JOINED)).store_bytes(item);
    }

    /// Keccak-512 of the exclusive or of this digest and an item.
    #[inline(always)]
    pub(super) fn link(self, other: &Item) -> Planes {
        let token = self.token;
        let other = Planes::load(token, other);
        // The padding, its first byte and its last, is word 8, which is (3, 1).
        let padded = U64x8::load(token, &PADDING).xor_first::<3>(other.second);
        let zero = U64x8::splat(token, 0);
        let mut planes = [self.first.xor(other.first), padded.xor_first::<3>(self.second), zero, zero, zero];
        for constant in &ROUND_CONSTANT_LANES {
            planes = round_of_planes(token, planes);
            planes[0] = planes[0].xor(U64x8::load(token, constant));
        }
        let [first, second, ..] = planes;
        Planes { token, first, second }
    }
}

/// Words 5 to 7 of eight, in front.
static TAIL: PerLane = [5, 6, 7, 0, 0, 0, 0, 0];

/// Five lanes of one vector, then three of a second (whose lanes count from 8 on).
static JOINED: PerLane = [0, 1, 2, 3, 4, 8, 9, 10];

/// Plane 1 of a message of 64 bytes, apart from the message.
static PADDING: PerLane = [0, 0, 0, 1 | 1 << 63, 0, 0, 0, 0];

/// Round constants as vectors: lane 0 of plane 0 takes them.
static ROUND_CONSTANT_LANES: [PerLane; 24] = {
    let mut lanes = [[0; 8]; 24];
    let mut round = 0;
    while round < 24 {
        lanes[round][0] = ROUND_CONSTANTS[round];
        round += 1;
    }
    lanes
};

#[repr(align(64))]
struct Column(PerLane);

/// Numbers for each lane of a vector; lanes that are of no meaning get 0.
type PerLane = [u64; 8];

/// From which lane theta takes the parity of the column to the left, and to the right.
static LEFT: PerLane = [4, 0, 1, 2, 3, 0, 0, 0];
static RIGHT: PerLane = [1, 2, 3, 4, 0, 0, 0, 0];

/// What rho turns the lanes of each plane by.
static TURNS: [PerLane; 5] = per_plane(true);

/// Pi within each plane: lane Y takes lane 3 Y + y.
static ROWS: [PerLane; 5] = per_plane(false);

/// The first four lanes of planes 0 and 1, 2 and 3, and 4, in the interleaved columns 0 and 1 (lanes
/// below 8) and 2 and 3 (from 8 on).
static PAIRS: [PerLane; 3] =
    [[0, 1, 8, 9, 0, 0, 0, 0], [2, 3, 10, 11, 0, 0, 0, 0], [4, 5, 12, 13, 0, 0, 0, 0]];

const fn per_plane(turns: bool) -> [PerLane; 5] {
    let mut numbers = [[0; 8]; 5];
    let mut word = 0;
    while word < 25 {
        let (lane, y) = (word % 5, word / 5);
        numbers[y][lane] = if turns { ROTATIONS[word] as u64 } else { (3 * lane as u64 + y as u64) % 5 };
        word += 1;
    }
    numbers
}

/// Theta, rho, pi and chi on one state.
#[inline(always)]
fn round_of_planes(token: Avx512, planes: [U64x8; 5]) -> [U64x8; 5] {
    let [a, b, c, d, e] = planes;
    let parity = a.xor3(b, c).xor3(d, e);
    let left = parity.permute(U64x8::load(token, &LEFT));
    let right = parity.rotate_left::<1>().permute(U64x8::load(token, &RIGHT));

    macro_rules! column {
        ($y:literal) => {
            planes[$y]
                .xor3(left, right)
                .rotate_left_each(U64x8::load(token, &TURNS[$y]))
                .permute(U64x8::load(token, &ROWS[$y]))
        };
    }
    let (e, a, b, c, d) = (column!(4), column!(0), column!(1), column!(2), column!(3));
    let (e, a, b, c, d) = (e.chi(a, b), a.chi(b, c), b.chi(c, d), c.chi(d, e), d.chi(e, a));

    let mut column = Column([0; 8]);
    e.store(&mut column.0);
    // Without this the compiler turns the loads into permutations.
    let Column(lane_4) = std::hint::black_box(&column);
    let (even_low, odd_low) = (a.interleave_even(b), a.interleave_odd(b));
    let (even_high, odd_high) = (c.interleave_even(d), c.interleave_odd(d));
    [
        even_low.permute_two(even_high, U64x8::load(token, &PAIRS[0])).with_lane::<4>(lane_4[0]),
        odd_low.permute_two(odd_high, U64x8::load(token, &PAIRS[0])).with_lane::<4>(lane_4[1]),
        even_low.permute_two(even_high, U64x8::load(token, &PAIRS[1])).with_lane::<4>(lane_4[2]),
        odd_low.permute_two(odd_high, U64x8::load(token, &PAIRS[1])).with_lane::<4>(lane_4[3]),
        even_low.permute_two(even_high, U64x8::load(token, &PAIRS[2])).with_lane::<4>(lane_4[4]),
    ]
}
