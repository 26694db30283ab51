//! Argon2d (RFC 9106, version 0x13): memory filled so that no block can be had without the others.
//!
//! ```text
//!            slice 0      slice 1      slice 2      slice 3
//!  lane 0 | segment    | segment    | segment    | segment    |   each block is
//!  lane 1 | segment    | segment    | segment    | segment    |   G(the one before, an earlier one)
//! ```
//!
//! Which earlier block is read off the block before: that is the `d` in the name. Lanes only look at
//! what other lanes finished in earlier slices, so the lanes of a slice may be filled in any order.
//!
//! [`fill`] is all that RandomX uses; [`hash`] is the whole function. The block function G is behind
//! [`Compress`], where faster ones take its place.

#![forbid(unsafe_code)]

use std::convert::Infallible;

use super::blake2b::Blake2b;

/// A block in memory: 128 words of 64 bits, little-endian.
pub type Block = [u8; BLOCK_BYTES];

/// The size of a block.
pub const BLOCK_BYTES: usize = 1024;

/// Slices in a pass: lanes wait for each other at their ends.
const SLICES: usize = 4;

/// After how many blocks [`fill`] reports.
const REPORT_BLOCKS: usize = 2048;

/// What goes into an Argon2d besides the memory. Multiples of 1024 bytes are called KiB.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The degree of parallelism p.
    pub lanes: u32,
    /// The length of the tag in bytes, T; 0 is for [`fill`] alone.
    pub tag_bytes: u32,
    /// The memory m, of which [`Input::blocks`] are used.
    pub memory_kib: u32,
    /// The passes t over the memory.
    pub passes: u32,
    /// The message P.
    pub password: &'a [u8],
    /// The nonce S.
    pub salt: &'a [u8],
    /// The secret K.
    pub secret: &'a [u8],
    /// The associated data X.
    pub associated_data: &'a [u8],
}

impl Input<'_> {
    /// How many blocks are filled: m rounded down to whole segments.
    pub fn blocks(&self) -> usize {
        let segments = SLICES * self.lanes as usize;
        self.memory_kib as usize / segments * segments
    }

    /// The hash of everything that goes in, H0 (section 3.2, step 1).
    pub fn h0(&self) -> [u8; 64] {
        const VERSION: u32 = 0x13;
        const TYPE_D: u32 = 0;
        let mut hasher = Blake2b::new(64);
        for number in [self.lanes, self.tag_bytes, self.memory_kib, self.passes, VERSION, TYPE_D] {
            hasher.update(&number.to_le_bytes());
        }
        for text in [self.password, self.salt, self.secret, self.associated_data] {
            hasher.update(&(text.len() as u32).to_le_bytes());
            hasher.update(text);
        }
        hasher.finish()
    }
}

/// The block function G (section 3.5).
pub trait Compress {
    /// Writes G of two blocks to `out`; where `accumulate` is set, xors it into `out` instead.
    ///
    /// `upcoming` tells from the first word of `out` where the next block's reference probably lies. It may
    /// be called as soon as that word stands, to ask for that memory ahead, or not at all.
    fn compress(
        &self,
        previous: &Block,
        reference: &Block,
        out: &mut Block,
        accumulate: bool,
        upcoming: impl FnOnce(u64) -> *const Block,
    );
}

/// G in the words of the RFC.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl Compress for Portable {
    fn compress(
        &self,
        previous: &Block,
        reference: &Block,
        out: &mut Block,
        accumulate: bool,
        _: impl FnOnce(u64) -> *const Block,
    ) {
        let mut r = [0; 128];
        for (i, word) in r.iter_mut().enumerate() {
            *word = load(previous, i) ^ load(reference, i);
        }
        let mut z = r;
        // The block as a matrix of 8 x 8 registers of two words: P goes over its rows, then its columns.
        for row in z.as_chunks_mut::<16>().0 {
            permute(row);
        }
        for column in 0..8 {
            let place = |i: usize| 16 * (i / 2) + 2 * column + i % 2;
            let mut words: [u64; 16] = std::array::from_fn(|i| z[place(i)]);
            permute(&mut words);
            for (i, word) in words.into_iter().enumerate() {
                z[place(i)] = word;
            }
        }
        for (i, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
            let before = if accumulate { u64::from_le_bytes(*out) } else { 0 };
            *out = (before ^ r[i] ^ z[i]).to_le_bytes();
        }
    }
}

/// Fills `memory` with all passes. `report` hears every few thousand blocks how many were filled since
/// it last did, and stops the work by an error.
///
/// # Errors
/// What `report` answered.
///
/// # Panics
/// If `memory` has not [`Input::blocks`] blocks, or these are fewer than two to a segment.
pub fn fill<E>(
    input: &Input<'_>,
    memory: &mut [Block],
    compress: &impl Compress,
    mut report: impl FnMut(usize) -> Result<(), E>,
) -> Result<(), E> {
    assert_eq!(memory.len(), input.blocks(), "the memory must have the blocks asked for");
    let lanes = input.lanes as usize;
    let lane_blocks = memory.len() / lanes;
    assert!(lane_blocks >= 2 * SLICES, "Argon2 needs 8 blocks in each lane");
    start_lanes(input, memory, lane_blocks);

    let layout = Layout { lanes, lane_blocks, segment_blocks: lane_blocks / SLICES };
    let mut unreported = 0;
    for pass in 0..input.passes {
        for slice in 0..SLICES {
            for lane in 0..lanes {
                // The first two blocks of a lane stand already.
                let first = if pass == 0 && slice == 0 { 2 } else { 0 };
                for index in first..layout.segment_blocks {
                    let at = Position { first_pass: pass == 0, slice, lane, index };
                    fill_block(&layout, at, memory, compress);
                    unreported += 1;
                    if unreported == REPORT_BLOCKS {
                        report(std::mem::take(&mut unreported))?;
                    }
                }
            }
        }
    }
    report(unreported)
}

/// Argon2d with a tag: [`fill`] and then steps 7 and 8 of section 3.2. Allocates the memory.
///
/// # Panics
/// As [`fill`], and if `tag` has not the input's length or is empty.
pub fn hash(input: &Input<'_>, tag: &mut [u8]) {
    assert_eq!(tag.len(), input.tag_bytes as usize, "the tag's length is part of what is hashed");
    let mut memory = vec![[0; BLOCK_BYTES]; input.blocks()];
    let Ok(()) = fill(input, &mut memory, &Portable, |_| Ok::<(), Infallible>(()));
    let mut last = [0; BLOCK_BYTES];
    for lane in memory.chunks_exact(memory.len() / input.lanes as usize) {
        last.iter_mut().zip(&lane[lane.len() - 1]).for_each(|(byte, other)| *byte ^= other);
    }
    long_hash(&[&last], tag);
}

/// The hash of variable length H' (section 3.3) of `parts` one after the other.
fn long_hash(parts: &[&[u8]], out: &mut [u8]) {
    let mut hasher = Blake2b::new(out.len().min(64));
    hasher.update(&(out.len() as u32).to_le_bytes());
    parts.iter().for_each(|part| hasher.update(part));
    let mut v = hasher.finish();

    // Half of each digest, until what is left is a digest of its own length.
    let mut rest = out;
    while rest.len() > 64 {
        let (half, remaining) = rest.split_at_mut(32);
        half.copy_from_slice(&v[..32]);
        let mut hasher = Blake2b::new(remaining.len().min(64));
        hasher.update(&v);
        v = hasher.finish();
        rest = remaining;
    }
    rest.copy_from_slice(&v[..rest.len()]);
}

/// The first two blocks of each lane (section 3.2, steps 3 and 4).
fn start_lanes(input: &Input<'_>, memory: &mut [Block], lane_blocks: usize) {
    let h0 = input.h0();
    for (lane, blocks) in memory.chunks_exact_mut(lane_blocks).enumerate() {
        for (index, block) in blocks.iter_mut().take(2).enumerate() {
            long_hash(&[&h0, &(index as u32).to_le_bytes(), &(lane as u32).to_le_bytes()], block);
        }
    }
}

struct Layout {
    lanes: usize,
    lane_blocks: usize,
    segment_blocks: usize,
}

#[derive(Clone, Copy)]
struct Position {
    first_pass: bool,
    slice: usize,
    lane: usize,
    /// Within the segment.
    index: usize,
}

#[inline(always)]
fn fill_block(layout: &Layout, at: Position, memory: &mut [Block], compress: &impl Compress) {
    let column = at.slice * layout.segment_blocks + at.index;
    let lane_start = at.lane * layout.lane_blocks;
    let current = lane_start + column;
    let previous = lane_start + if column == 0 { layout.lane_blocks - 1 } else { column - 1 };
    let reference = reference_block(layout, at, load(&memory[previous], 0));

    // Wrong after the last block of a segment, where it costs a look at memory nobody needs.
    let (start, next) = (memory.as_ptr(), Position { index: at.index + 1, ..at });
    let upcoming = |first_word| start.wrapping_add(reference_block(layout, next, first_word));

    // A block is never its own reference, nor is the one before it: three different places.
    let [previous, reference, out] = memory
        .get_disjoint_mut([previous, reference, current])
        .expect("the reference is chosen among older blocks than the last");
    compress.compress(previous, reference, out, !at.first_pass, upcoming);
}

/// Where the earlier block is, given the first word of the block before (sections 3.4.1.1 and 3.4.2).
#[inline(always)]
fn reference_block(layout: &Layout, at: Position, pseudo_random: u64) -> usize {
    let lane =
        if at.first_pass && at.slice == 0 { at.lane } else { (pseudo_random >> 32) as usize % layout.lanes };
    // The window: of its own lane, all that stands but the block before; of another, its finished
    // segments, where that lane's very last block counts only once this segment has begun.
    let finished = if at.first_pass { at.slice } else { SLICES - 1 } * layout.segment_blocks;
    let window = if lane == at.lane {
        finished + at.index - 1
    } else if at.index == 0 {
        finished - 1
    } else {
        finished
    };
    // Younger blocks are likelier.
    let j1 = pseudo_random & 0xffff_ffff;
    let x = (j1 * j1) >> 32;
    let back = ((window as u64 * x) >> 32) as usize;
    let oldest = if at.first_pass { 0 } else { (at.slice + 1) * layout.segment_blocks };
    lane * layout.lane_blocks + (oldest + window - 1 - back) % layout.lane_blocks
}

/// The permutation P (section 3.6): a round of BLAKE2b on sixteen words, with products in its sums.
#[inline(always)]
fn permute(v: &mut [u64; 16]) {
    mix(v, [0, 4, 8, 12]);
    mix(v, [1, 5, 9, 13]);
    mix(v, [2, 6, 10, 14]);
    mix(v, [3, 7, 11, 15]);

    mix(v, [0, 5, 10, 15]);
    mix(v, [1, 6, 11, 12]);
    mix(v, [2, 7, 8, 13]);
    mix(v, [3, 4, 9, 14]);
}

#[inline(always)]
fn mix(v: &mut [u64; 16], [a, b, c, d]: [usize; 4]) {
    v[a] = multiply_add(v[a], v[b]);
    v[d] = (v[d] ^ v[a]).rotate_right(32);
    v[c] = multiply_add(v[c], v[d]);
    v[b] = (v[b] ^ v[c]).rotate_right(24);
    v[a] = multiply_add(v[a], v[b]);
    v[d] = (v[d] ^ v[a]).rotate_right(16);
    v[c] = multiply_add(v[c], v[d]);
    v[b] = (v[b] ^ v[c]).rotate_right(63);
}

/// `x + y + 2 trunc(x) trunc(y)` with the low halves of x and y.
#[inline(always)]
fn multiply_add(x: u64, y: u64) -> u64 {
    let product = u64::from(x as u32) * u64::from(y as u32);
    x.wrapping_add(y).wrapping_add(product.wrapping_mul(2))
}

#[inline(always)]
fn load(block: &Block, word: usize) -> u64 {
    u64::from_le_bytes(block.as_chunks().0[word])
}
