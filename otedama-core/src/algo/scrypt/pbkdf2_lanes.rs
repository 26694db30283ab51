//! The two PBKDF2 steps around ROMix for one header per lane, r = 1, p = 1.
//!
//! Password and salt are the header, so with `|` for concatenation and K = SHA-256(header):
//!
//! ```text
//! B      = HMAC(K, header | 1) | HMAC(K, header | 2) | HMAC(K, header | 3) | HMAC(K, header | 4)
//! digest = HMAC(K, ROMix(B) | 1)                             (the numbers are 4 bytes, big-endian)
//! ```
//!
//! Counted in compressions: K takes 2, of which the first sees only the 64 bytes that all nonces of a
//! job share; the two key pads of HMAC 1 each, kept for the second step; B 1 for the header's first 64
//! bytes, then 4 times 1 inside and 1 outside; the digest 3 inside and 1 outside. That is 17, or 16 when
//! the first is shared.

use crate::primitive::sha256;
use crate::simd::{Lanes, Token, Vectorized};

/// The eight chaining words of SHA-256, one hash per lane.
pub(super) type StateLanes<L> = [L; 8];

/// The 20 words of a header as SHA-256 reads them: big-endian.
pub(super) type HeaderLanes<L> = [L; 20];

/// The 32 words of a row of ROMix as Salsa20 reads them: little-endian.
pub(super) type RowLanes<L> = [L; 32];

/// HMAC's key after its pads: all that the second PBKDF2 step needs of the password.
#[derive(Clone, Copy)]
pub(super) struct KeyLanes<L> {
    pub(super) inner: StateLanes<L>,
    pub(super) outer: StateLanes<L>,
}

/// The state after the first 64 bytes of each header.
#[inline(always)]
pub(super) fn midstate<L: Lanes>(token: L::Token, header: &HeaderLanes<L>) -> StateLanes<L> {
    let mut state = sha256::IV.map(|word| L::splat(token, word));
    let first: [L; 16] = std::array::from_fn(|i| header[i]);
    compress(token, &mut state, &first);
    state
}

/// The first PBKDF2 step: the row that ROMix starts from, and the key for [`digest`].
#[inline(always)]
pub(super) fn expand<L: Lanes>(
    token: L::Token,
    midstate: &StateLanes<L>,
    header: &HeaderLanes<L>,
) -> (KeyLanes<L>, RowLanes<L>) {
    let tail: [L; 4] = std::array::from_fn(|i| header[16 + i]);
    let first: [L; 16] = std::array::from_fn(|i| header[i]);

    let mut password = *midstate;
    compress(token, &mut password, &last_block(token, &tail, 80));
    let key =
        KeyLanes { inner: pad(token, &password, 0x3636_3636), outer: pad(token, &password, 0x5c5c_5c5c) };

    let mut salted = key.inner;
    compress(token, &mut salted, &first);
    let mut row = [L::splat(token, 0); 32];
    for (number, words) in (1..).zip(row.chunks_exact_mut(8)) {
        let [a, b, c, d] = tail;
        let mut inner = salted;
        compress(token, &mut inner, &last_block(token, &[a, b, c, d, L::splat(token, number)], 64 + 84));
        let mut outer = key.outer;
        compress(token, &mut outer, &last_block(token, &inner, 64 + 32));
        for (word, big_endian) in words.iter_mut().zip(outer) {
            *word = big_endian.swap_bytes();
        }
    }
    (key, row)
}

/// The second PBKDF2 step: the digest's words, big-endian, from the row that ROMix ended with.
#[inline(always)]
pub(super) fn digest<L: Lanes>(token: L::Token, key: &KeyLanes<L>, row: &RowLanes<L>) -> StateLanes<L> {
    let mut inner = key.inner;
    for half in row.as_chunks::<16>().0 {
        compress(token, &mut inner, &half.map(L::swap_bytes));
    }
    compress(token, &mut inner, &last_block(token, &[L::splat(token, 1)], 64 + 132));
    let mut outer = key.outer;
    compress(token, &mut outer, &last_block(token, &inner, 64 + 32));
    outer
}

/// The state after HMAC's key block: `key` padded with zeros to 64 bytes, each word xor `pad`.
#[inline(always)]
fn pad<L: Lanes>(token: L::Token, key: &StateLanes<L>, pad: u32) -> StateLanes<L> {
    let pad = L::splat(token, pad);
    let block: [L; 16] = std::array::from_fn(|i| if i < 8 { key[i].xor(pad) } else { pad });
    let mut state = sha256::IV.map(|word| L::splat(token, word));
    compress(token, &mut state, &block);
    state
}

/// SHA-256's last block: the message's last words, a 1 bit, zeros, and the whole message's length.
#[inline(always)]
fn last_block<L: Lanes>(token: L::Token, words: &[L], message_len: u32) -> [L; 16] {
    std::array::from_fn(|i| match i {
        15 => L::splat(token, 8 * message_len),
        i if i < words.len() => words[i],
        i if i == words.len() => L::splat(token, 0x8000_0000),
        _ => L::splat(token, 0),
    })
}

/// Compresses a block into each lane's state, in a function of its own: twelve copies of it inlined
/// would not fit the instruction cache.
#[inline(always)]
fn compress<L: Lanes>(token: L::Token, state: &mut StateLanes<L>, block: &[L; 16]) {
    token.run(Compress { token, state, block });
}

/// The body for each `t` from 0 to 15, one after another: places in `w` stay registers only where the
/// compiler sees their numbers, and it does not unroll a loop this long.
macro_rules! sixteen_times {
    ($t:ident => $body:expr) => {
        sixteen_times!($t => $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($t:ident => $body:expr, $($number:literal)*) => {
        $({
            let $t: usize = $number;
            $body
        })*
    };
}

struct Compress<'a, L: Lanes> {
    token: L::Token,
    state: &'a mut StateLanes<L>,
    block: &'a [L; 16],
}

impl<L: Lanes> Vectorized for Compress<'_, L> {
    type Output = ();

    // The lanes are the caller's, `L`, which are those of the token that this was entered by.
    #[inline(always)]
    fn run_on<Entered: Lanes>(self, _: Entered::Token) {
        let Compress { token, state, block } = self;
        let mut w = *block;
        let mut working = *state;
        let (k, _) = sha256::K.as_chunks::<16>();
        sixteen_times!(t => round(&mut working, L::splat(token, k[0][t]).add(w[t])));
        for k in &k[1..] {
            sixteen_times!(t => {
                // W[t] takes the place of W[t - 16].
                w[t] = small_sigma1(w[(t + 14) % 16])
                    .add(w[(t + 9) % 16])
                    .add(small_sigma0(w[(t + 1) % 16]))
                    .add(w[t]);
                round(&mut working, L::splat(token, k[t]).add(w[t]));
            });
        }
        for (word, worked) in state.iter_mut().zip(working) {
            *word = word.add(worked);
        }
    }
}

#[inline(always)]
fn round<L: Lanes>(working: &mut StateLanes<L>, kw: L) {
    let [a, b, c, d, e, f, g, h] = *working;
    let big_sigma1 = e.rotate_right::<6>().xor3(e.rotate_right::<11>(), e.rotate_right::<25>());
    let big_sigma0 = a.rotate_right::<2>().xor3(a.rotate_right::<13>(), a.rotate_right::<22>());
    let t1 = h.add(kw).add(e.choose(f, g)).add(big_sigma1);
    let t2 = big_sigma0.add(a.majority(b, c));
    *working = [t1.add(t2), a, b, c, d.add(t1), e, f, g];
}

#[inline(always)]
fn small_sigma0<L: Lanes>(x: L) -> L {
    x.rotate_right::<7>().xor3(x.rotate_right::<18>(), x.shift_right::<3>())
}

#[inline(always)]
fn small_sigma1<L: Lanes>(x: L) -> L {
    x.rotate_right::<17>().xor3(x.rotate_right::<19>(), x.shift_right::<10>())
}
