//! SHA256d (Bitcoin): `SHA-256(SHA-256(header))` of 80-byte block headers.
//!
//! A header is two 64-byte SHA-256 chunks once padded, and its fields fall on them like this:
//!
//! ```text
//! byte   0        4            36      64            68     72     76      80
//!        | version | previous    | merkle : merkle tail | time | bits | nonce | padding
//!        |-------------- chunk one -------|------------------ chunk two -------------|
//! word     W0        W1..W8        W9..15   W0            W1     W2     W3      W4..W15
//! ```
//!
//! - The nonce is in chunk two alone, so chunk one is compressed once per job: its result is the
//!   *midstate*.
//! - The version is in chunk one alone, and BIP 320 lets a miner roll sixteen of its bits. Headers that
//!   differ only in the version have different midstates and the same chunk two, so whatever depends
//!   on chunk two alone (its message schedule, a third of the compression) is done once for all of them.
//! - In chunk two, the nonce is word 3: rounds 0..2 of its compression are the same for every nonce.
//!
//! [`Search`] holds what is the same for all nonces; a [`Kernel`] tries every pair of version and nonce.
//! A kernel looks only at the digest's most significant 32 bits, of which it reports those at most the
//! target's: whoever asked hashes these few pairs again and compares in full.
//!
//! Sources: FIPS 180-4 (SHA-256), BIP 320 (version rolling), Bitcoin's block header serialisation.

/// Repeats a block for each value of a constant, so that every index and round constant in it folds.
macro_rules! unrolled {
    ($T:ident in [$($value:literal)*] $body:block) => {
        $({
            const $T: usize = $value;
            $body
        })*
    };
}

mod lanes;
mod portable;
#[cfg(target_arch = "x86_64")]
mod sha_ni;

pub use lanes::LanesKernel;
pub use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub use sha_ni::ShaNiKernel;

use crate::primitive::sha256::{self, IV, K, State};

/// One way of computing SHA256d: the same answers from every implementation, at different speeds.
pub trait Kernel: Send {
    /// `portable`, or the name of the instruction set that the kernel is written for.
    fn name(&self) -> &'static str;

    /// How many nonces, or messages of equal length, are hashed side by side: the size of a block.
    fn lanes(&self) -> usize;

    /// Tries the nonces `first_nonce .. first_nonce + count` with every version of `search` and adds
    /// to `hits` each pair whose digest's most significant 32 bits are at most [`Search::top`].
    ///
    /// Nonces are tried in blocks of [`Self::lanes`], all versions of a block before the next block;
    /// the last block may be cut short. Answers how many nonces were tried. Fewer than `count` means
    /// that the hits of the next block found no room in `hits`: none of that block's are in it.
    ///
    /// `first_nonce + count` must be at most 2^32. Allocates nothing.
    fn search(&mut self, search: &Search, first_nonce: u32, count: u32, hits: &mut Hits) -> u32;

    /// Writes the SHA256d of each message to the digest at the same place.
    ///
    /// Messages whose padded lengths are the same number of 64-byte chunks are hashed side by side.
    /// Allocates nothing.
    ///
    /// # Panics
    /// If there are not as many digests as messages.
    fn hash_many(&mut self, messages: &[&[u8]], digests: &mut [[u8; 32]]);
}

/// What a search needs of a job, prepared once: the header without its nonce, as the versions to try.
#[derive(Clone, Debug)]
pub struct Search {
    /// W0..W2 of chunk two: merkle root tail, time, bits; the header's bytes as big-endian words.
    tail: [u32; 3],
    midstates: Vec<Midstate>,
    top: u32,
}

impl Search {
    /// Prepares a search of `header` (its nonce, bytes 76..80, is ignored) under each of `versions`,
    /// which stand in for its bytes 0..4, for digests whose most significant 32 bits are at most `top`.
    ///
    /// # Panics
    /// If there is no version.
    pub fn new(header: &[u8; 80], versions: &[u32], top: u32) -> Search {
        let mut search = Search { tail: [0; 3], midstates: Vec::with_capacity(versions.len()), top };
        search.load(header, versions, top);
        search
    }

    /// Becomes the search that [`Search::new`] would make of the same arguments. Allocates only if
    /// there are more versions than there ever were.
    ///
    /// # Panics
    /// If there is no version.
    pub fn load(&mut self, header: &[u8; 80], versions: &[u32], top: u32) {
        assert!(!versions.is_empty(), "a search needs at least one version");
        let (chunks, rest) = header.as_chunks::<64>();
        let mut chunk_one = sha256::block_from_bytes(&chunks[0]);
        self.tail = std::array::from_fn(|i| word(rest, i));
        self.top = top;
        self.midstates.clear();
        self.midstates.extend(versions.iter().map(|version| {
            chunk_one[0] = version.swap_bytes();
            let mut state = IV;
            sha256::compress(&mut state, &chunk_one);
            Midstate::new(state, &self.tail)
        }));
    }

    /// One midstate for each version, in the versions' order.
    pub fn midstates(&self) -> &[Midstate] {
        &self.midstates
    }

    /// The most that the most significant 32 bits of a digest may be for a hit, the digest being read
    /// as a little-endian number of 256 bits.
    pub fn top(&self) -> u32 {
        self.top
    }

    /// The words of chunk two for a nonce.
    fn chunk_two(&self, nonce: u32) -> sha256::Block {
        let [w0, w1, w2] = self.tail;
        [w0, w1, w2, nonce.swap_bytes(), 1 << 31, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 80 * 8]
    }
}

/// What chunk one, and the part of chunk two before the nonce, left behind for one version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Midstate {
    state: State,
    after_round_2: State,
    /// The working variables after round 3 if the nonce's word is zero. That word is added to `a` and
    /// `e` alone, and only there: `a + W3` and `e + W3` are what they are for another nonce.
    after_round_3: State,
    /// `h + K[t] + W[t]` of rounds 4, 5 and 6, where `h` does not depend on the nonce yet.
    addends: [u32; 3],
}

impl Midstate {
    /// Runs the rounds of chunk two that no nonce changes on the state that chunk one left.
    fn new(state: State, tail: &[u32; 3]) -> Midstate {
        let mut working = state;
        for (k, w) in K.iter().zip(tail) {
            sha256::round(&mut working, k.wrapping_add(*w));
        }
        let after_round_2 = working;
        sha256::round(&mut working, K[3]);
        let [_, _, _, _, _, f, g, h] = working;
        let addends =
            [h.wrapping_add(K[4]).wrapping_add(1 << 31), g.wrapping_add(K[5]), f.wrapping_add(K[6])];
        Midstate { state, after_round_2, after_round_3: working, addends }
    }

    /// The chaining words after the header's first 64 bytes.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The working variables a..h after rounds 0..2 of chunk two (round 3 is the first to see the nonce).
    pub fn after_round_2(&self) -> &State {
        &self.after_round_2
    }
}

/// A pair of version and nonce that deserves to be hashed again and compared with the whole target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hit {
    /// Which of the search's versions, counted from 0.
    pub version: u32,
    /// The nonce, as the number that the header holds in little-endian order.
    pub nonce: u32,
}

/// A list of hits with a fixed capacity: it never allocates after it was made.
#[derive(Clone, Debug)]
pub struct Hits {
    hits: Vec<Hit>,
    capacity: usize,
}

impl Hits {
    /// An empty list with room for `capacity` hits. A block yields up to lanes x versions of them;
    /// with less room than that, a target that nearly everything meets can stop a search for good.
    pub fn with_capacity(capacity: usize) -> Hits {
        Hits { hits: Vec::with_capacity(capacity), capacity }
    }

    /// The hits, in the order in which they were found.
    pub fn as_slice(&self) -> &[Hit] {
        &self.hits
    }

    /// How many hits the list has room for in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all hits.
    pub fn clear(&mut self) {
        self.hits.clear();
    }

    fn len(&self) -> usize {
        self.hits.len()
    }

    /// Adds a hit, or answers `false` if there is no room.
    fn push(&mut self, hit: Hit) -> bool {
        let room = self.hits.len() < self.capacity;
        if room {
            self.hits.push(hit);
        }
        room
    }

    /// Takes back all hits but the first `len`.
    fn truncate(&mut self, len: usize) {
        self.hits.truncate(len);
    }
}

/// The most messages that any kernel hashes side by side.
const MAX_GROUP: usize = 16;

/// How many messages of a batch are looked at together when groups are formed.
const WINDOW: usize = 64;

/// Hands out every message's index once, in groups of at most `width` (itself at most [`MAX_GROUP`])
/// whose messages have equally many chunks.
fn for_each_group(messages: &[&[u8]], width: usize, mut hash: impl FnMut(&[usize])) {
    for start in (0..messages.len()).step_by(WINDOW) {
        let window = &messages[start..messages.len().min(start + WINDOW)];
        // Bit i: message i of the window waits for its group.
        let mut waiting = u64::MAX >> (WINDOW - window.len());
        while waiting != 0 {
            let chunks = padded_chunks(window[waiting.trailing_zeros() as usize].len());
            let mut group = [0; MAX_GROUP];
            let mut members = 0;
            let mut candidates = waiting;
            while candidates != 0 && members < width {
                let i = candidates.trailing_zeros() as usize;
                candidates &= candidates - 1;
                if padded_chunks(window[i].len()) == chunks {
                    waiting &= !(1 << i);
                    group[members] = start + i;
                    members += 1;
                }
            }
            hash(&group[..members]);
        }
    }
}

/// How many chunks a message of `len` bytes has once padded: a 1 bit and a 64-bit length are added.
fn padded_chunks(len: usize) -> usize {
    len / 64 + if len % 64 < 56 { 1 } else { 2 }
}

/// The bytes of chunk `index` of a message once padded.
#[inline(always)]
fn padded_chunk(message: &[u8], index: usize) -> [u8; 64] {
    let rest = message.get(64 * index..).unwrap_or_default();
    if let Some(whole) = rest.first_chunk::<64>() {
        return *whole;
    }
    let mut chunk = [0; 64];
    chunk[..rest.len()].copy_from_slice(rest);
    if message.len() >= 64 * index {
        chunk[rest.len()] = 0x80;
    }
    if index + 1 == padded_chunks(message.len()) {
        chunk[56..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    }
    chunk
}

/// Word `i` of some bytes, big-endian.
fn word(bytes: &[u8], i: usize) -> u32 {
    u32::from_be_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
}

#[cfg(test)]
mod tests;
