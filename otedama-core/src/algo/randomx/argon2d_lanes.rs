//! Argon2d's block function on vectors of 64-bit lanes.
//!
//! A block is a matrix of eight rows of sixteen words. P goes over its rows, and then over its columns two
//! words wide; each time the sixteen words are four quarters a, b, c, d of four words, and P is
//!
//! ```text
//!   mix(a, b, c, d)    turn b, c, d by 1, 2, 3 words    mix(a, b, c, d)    turn them back
//! ```
//!
//! with the four words of a quarter mixed beside each other. Two pieces of work are under way at once, as
//! one alone would wait for its own products:
//!
//! - Rows: a vector holds the same quarter of `COUNT / 4` rows. On AVX2 that is how it lies in memory, on
//!   AVX-512 two rows are dealt out by [`Lanes64::transpose_fours`]. The two pieces are different rows.
//! - Columns: a vector holds one row's two words of `COUNT / 2` columns, as they lie in memory. A quarter
//!   is two rows of them, which are the two pieces; turning by two words exchanges them, turning by one
//!   joins pairs.
//!
//! Counted on AVX-512, with four operations to a product and its sums and two to a rotation: 384 for the
//! mixes, 72 shuffles, about 80 loads, stores and exclusive ors of the block: 270 cycles on two ports.
//!
//! That is less than the 200 ns until the reference block begins to come from memory, and where that block
//! is depends on the first word of this one. So the columns with that word go first, the next reference is
//! asked for, and the other columns follow meanwhile: 6 % faster where it was measured than not asking.

use crate::primitive::argon2d::{BLOCK_BYTES, Block, Compress};
use crate::simd::{Lanes, Lanes64, Token, Vectorized, prefetch};

/// G on the vectors of an instruction set.
#[derive(Clone, Copy, Debug)]
pub struct LaneCompress<T>(pub T);

impl<T: Token> Compress for LaneCompress<T> {
    #[inline(always)]
    fn compress(
        &self,
        previous: &Block,
        reference: &Block,
        out: &mut Block,
        accumulate: bool,
        upcoming: impl FnOnce(u64) -> *const Block,
    ) {
        self.0.run(G { blocks: Blocks { previous, reference, out, accumulate }, upcoming });
    }
}

struct G<'a, F> {
    blocks: Blocks<'a>,
    upcoming: F,
}

/// What goes into the block function, and where it goes.
struct Blocks<'a> {
    previous: &'a Block,
    reference: &'a Block,
    out: &'a mut Block,
    accumulate: bool,
}

/// A block between rows and columns.
#[repr(align(64))]
struct Words([u64; WORDS]);

const WORDS: usize = BLOCK_BYTES / 8;

/// Words in a row.
const ROW: usize = 16;

/// The quarters a, b, c, d, each of two pieces of work.
type Quarters<L> = [[L; 2]; 4];

impl<F: FnOnce(u64) -> *const Block> Vectorized for G<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run_on<L: Lanes>(self, token: L::Token) {
        compress::<<L::Token as Token>::Lanes64>(token, self.blocks, self.upcoming);
    }
}

#[inline(always)]
fn compress<L: Lanes64>(token: L::Token, mut blocks: Blocks<'_>, upcoming: impl FnOnce(u64) -> *const Block) {
    let mut z = Words([0; WORDS]);
    for first_row in (0..8).step_by(2 * rows_in::<L>()) {
        permute_rows::<L>(token, &blocks, first_row, &mut z);
    }
    permute_columns::<L>(token, &z, 0, &mut blocks);
    let next = upcoming(u64::from_le_bytes(blocks.out.as_chunks().0[0]));
    for line in (0..BLOCK_BYTES).step_by(64) {
        prefetch(next.cast::<u8>().wrapping_add(line));
    }
    for first_word in (L::COUNT..ROW).step_by(L::COUNT) {
        permute_columns::<L>(token, &z, first_word, &mut blocks);
    }
}

/// How many rows have a quarter in one vector.
#[inline(always)]
fn rows_in<L: Lanes64>() -> usize {
    L::COUNT / 4
}

/// P over the rows that fill two vectors of each quarter, of the exclusive or of the two blocks.
#[inline(always)]
fn permute_rows<L: Lanes64>(token: L::Token, blocks: &Blocks<'_>, first_row: usize, z: &mut Words) {
    let second_row = first_row + rows_in::<L>();
    let [a, b, c, d] = load_rows::<L>(token, blocks, first_row);
    let [e, f, g, h] = load_rows::<L>(token, blocks, second_row);
    let [[a, e], [b, f], [c, g], [d, h]] = permute([[a, e], [b, f], [c, g], [d, h]], turn_rows);
    store_rows([a, b, c, d], first_row, z);
    store_rows([e, f, g, h], second_row, z);
}

/// The quarters of the rows that a vector has room for.
#[inline(always)]
fn load_rows<L: Lanes64>(token: L::Token, blocks: &Blocks<'_>, first_row: usize) -> [L; 4] {
    let mut parts = [L::splat(token, 0); 4];
    for (i, part) in parts.iter_mut().enumerate() {
        let word = place_of_part::<L>(first_row, i);
        *part = load::<L>(token, blocks.previous, word).xor(load(token, blocks.reference, word));
    }
    L::transpose_fours(parts)
}

#[inline(always)]
fn store_rows<L: Lanes64>(quarters: [L; 4], first_row: usize, z: &mut Words) {
    for (i, part) in L::transpose_fours(quarters).into_iter().enumerate() {
        let word = place_of_part::<L>(first_row, i);
        part.store(&mut z.0[word..word + L::COUNT]);
    }
}

/// Where the vectors lie that [`Lanes64::transpose_fours`] makes quarters of: first those at the start of
/// each row.
#[inline(always)]
fn place_of_part<L: Lanes64>(first_row: usize, i: usize) -> usize {
    let rows = rows_in::<L>();
    ROW * (first_row + i % rows) + L::COUNT * (i / rows)
}

/// P over the columns that have words in a vector from `first_word` of the first row on, and what the block
/// function makes of them.
#[inline(always)]
fn permute_columns<L: Lanes64>(token: L::Token, z: &Words, first_word: usize, blocks: &mut Blocks<'_>) {
    let mut quarters = [[L::splat(token, 0); 2]; 4];
    for (row, piece) in quarters.as_flattened_mut().iter_mut().enumerate() {
        let word = ROW * row + first_word;
        *piece = L::load(token, &z.0[word..word + L::COUNT]);
    }
    let quarters = permute(quarters, turn_columns);
    for (row, &piece) in quarters.as_flattened().iter().enumerate() {
        let word = ROW * row + first_word;
        let mut piece = piece.xor3(load(token, blocks.previous, word), load(token, blocks.reference, word));
        if blocks.accumulate {
            piece = piece.xor(load(token, blocks.out, word));
        }
        piece.store_bytes(&mut blocks.out[8 * word..8 * (word + L::COUNT)]);
    }
}

#[inline(always)]
fn load<L: Lanes64>(token: L::Token, block: &Block, word: usize) -> L {
    L::load_bytes(token, &block[8 * word..8 * (word + L::COUNT)])
}

/// P, given what turns a quarter: word `i` becomes what word `i + by` was.
#[inline(always)]
fn permute<L: Lanes64>(v: Quarters<L>, turn: impl Fn([L; 2], usize) -> [L; 2]) -> Quarters<L> {
    let [a, b, c, d] = mix(v);
    let [a, b, c, d] = mix([a, turn(b, 1), turn(c, 2), turn(d, 3)]);
    [a, turn(b, 3), turn(c, 2), turn(d, 1)]
}

#[inline(always)]
fn turn_rows<L: Lanes64>([first, second]: [L; 2], by: usize) -> [L; 2] {
    match by {
        1 => [first.rotate_fours::<1>(), second.rotate_fours::<1>()],
        2 => [first.rotate_fours::<2>(), second.rotate_fours::<2>()],
        _ => [first.rotate_fours::<3>(), second.rotate_fours::<3>()],
    }
}

#[inline(always)]
fn turn_columns<L: Lanes64>([low, high]: [L; 2], by: usize) -> [L; 2] {
    match by {
        1 => [low.join_pairs(high), high.join_pairs(low)],
        2 => [high, low],
        _ => [high.join_pairs(low), low.join_pairs(high)],
    }
}

#[inline(always)]
fn mix<L: Lanes64>([a, b, c, d]: Quarters<L>) -> Quarters<L> {
    let a = multiply_add(a, b);
    let d = xor_rotate::<L, 32>(d, a);
    let c = multiply_add(c, d);
    let b = xor_rotate::<L, 24>(b, c);
    let a = multiply_add(a, b);
    let d = xor_rotate::<L, 16>(d, a);
    let c = multiply_add(c, d);
    let b = xor_rotate::<L, 63>(b, c);
    [a, b, c, d]
}

/// `x + y + 2 trunc(x) trunc(y)` with the low halves of x and y.
#[inline(always)]
fn multiply_add<L: Lanes64>([x0, x1]: [L; 2], [y0, y1]: [L; 2]) -> [L; 2] {
    let (product0, product1) = (x0.mul_low(y0), x1.mul_low(y1));
    [x0.add(y0).add(product0.add(product0)), x1.add(y1).add(product1.add(product1))]
}

#[inline(always)]
fn xor_rotate<L: Lanes64, const N: u32>([x0, x1]: [L; 2], [y0, y1]: [L; 2]) -> [L; 2] {
    [x0.xor(y0).rotate_right::<N>(), x1.xor(y1).rotate_right::<N>()]
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::cpu::Cpu;
    use crate::primitive::argon2d::{Input, Portable, fill};

    /// What a kernel makes of three blocks, and the word it told of.
    fn compressed(
        kernel: &impl Compress,
        [previous, reference, before]: &[Block; 3],
        accumulate: bool,
    ) -> (Block, Option<u64>) {
        let (mut out, mut told) = (*before, None);
        kernel.compress(previous, reference, &mut out, accumulate, |word| {
            told = Some(word);
            std::ptr::null()
        });
        (out, told)
    }

    fn check(kernel: &impl Compress, blocks: &[Block; 3]) {
        for accumulate in [false, true] {
            let (expected, _) = compressed(&Portable, blocks, accumulate);
            let (found, told) = compressed(kernel, blocks, accumulate);
            assert!(found == expected, "accumulate: {accumulate}");
            assert_eq!(told, Some(u64::from_le_bytes(expected[..8].try_into().unwrap())));
        }
    }

    fn input() -> Input<'static> {
        let (password, salt, none): (&[u8], &[u8], &[u8]) = (b"some key", b"some salt", b"");
        let (secret, associated_data) = (none, none);
        Input { lanes: 1, tag_bytes: 0, memory_kib: 8, passes: 1, password, salt, secret, associated_data }
    }

    fn filled(kernel: &impl Compress, input: &Input<'_>) -> Vec<Block> {
        let mut memory = vec![[0; BLOCK_BYTES]; input.blocks()];
        let Ok(()) = fill(input, &mut memory, kernel, |_| Ok::<(), Infallible>(()));
        memory
    }

    /// Runs a check on every kernel that this CPU can run, and says which it cannot.
    macro_rules! on_every_kernel {
        ($kernel:ident => $check:expr) => {
            let cpu = Cpu::detect();
            match cpu.avx2().map(LaneCompress) {
                Some($kernel) => $check,
                None => println!("SKIPPED: no AVX2 here"),
            }
            match cpu.avx512().map(LaneCompress) {
                Some($kernel) => $check,
                None => println!("SKIPPED: no AVX-512 here"),
            }
        };
    }

    fn block() -> impl Strategy<Value = Block> {
        any::<[[u8; 32]; 32]>().prop_map(|rows| {
            let mut block = [0; BLOCK_BYTES];
            block.copy_from_slice(rows.as_flattened());
            block
        })
    }

    proptest! {
        #[test]
        fn blocks_agree_with_the_oracle(previous in block(), reference in block(), before in block()) {
            let blocks = [previous, reference, before];
            on_every_kernel!(kernel => check(&kernel, &blocks));
        }
    }

    /// The oracle, noting where it is told that its next reference lies, and whether that was right.
    #[derive(Default)]
    struct Told {
        next: Cell<Option<*const Block>>,
        right: Cell<usize>,
        wrong: Cell<usize>,
    }

    impl Compress for Told {
        fn compress(
            &self,
            previous: &Block,
            reference: &Block,
            out: &mut Block,
            accumulate: bool,
            upcoming: impl FnOnce(u64) -> *const Block,
        ) {
            Portable.compress(previous, reference, out, accumulate, |_| std::ptr::null());
            let first_word = u64::from_le_bytes(out[..8].try_into().unwrap());
            if let Some(told) = self.next.replace(Some(upcoming(first_word))) {
                let count = if std::ptr::eq(told, reference) { &self.right } else { &self.wrong };
                count.set(count.get() + 1);
            }
        }
    }

    #[test]
    fn the_next_reference_is_told_but_for_the_ends_of_segments() {
        let told = Told::default();
        let input = Input { lanes: 2, passes: 3, memory_kib: 1024, ..input() };
        filled(&told, &input);
        let (segments, blocks) = (2 * 4 * 3, 3 * 1024 - 4);
        assert_eq!(told.right.get() + told.wrong.get(), blocks - 1);
        assert!(told.wrong.get() < segments, "{} of {blocks} were wrong", told.wrong.get());
    }

    #[test]
    fn extreme_blocks_agree_with_the_oracle() {
        for blocks in [[[0; BLOCK_BYTES]; 3], [[255; BLOCK_BYTES], [0; BLOCK_BYTES], [255; BLOCK_BYTES]]] {
            on_every_kernel!(kernel => check(&kernel, &blocks));
        }
    }

    #[test]
    fn whole_fills_agree_with_the_oracle() {
        for (lanes, memory_kib, passes) in [(1, 8, 1), (1, 256, 3), (3, 100, 2), (4, 1024, 3)] {
            let input = Input { lanes, passes, memory_kib, ..input() };
            let expected = filled(&Portable, &input);
            on_every_kernel!(kernel => assert!(filled(&kernel, &input) == expected, "{input:?}"));
        }
    }
}
