//! Operations on 64-bit lanes against the same on plain numbers, lane by lane. Those on 32-bit lanes are
//! tested by the kernels made of them.

use proptest::prelude::*;

use super::*;
use crate::cpu::Cpu;

/// Runs a body on every instruction set that is here, and says which are not.
fn on_every_token<B: Vectorized<Output = ()> + Copy>(body: B) {
    let cpu = Cpu::detect();
    match cpu.avx2() {
        Some(token) => token.run(body),
        None => println!("SKIPPED: no AVX2 here"),
    }
    match cpu.avx512() {
        Some(token) => token.run(body),
        None => println!("SKIPPED: no AVX-512 here"),
    }
}

/// Checks every operation on vectors made of the first lanes of these.
#[derive(Clone, Copy)]
struct Check {
    rows: [[u64; 8]; 4],
}

impl Vectorized for Check {
    type Output = ();

    #[inline(always)]
    fn run_on<L: Lanes>(self, token: L::Token) {
        check_lanes::<<L::Token as Token>::Lanes64>(token, &self.rows);
    }
}

#[inline(always)]
fn check_lanes<L: Lanes64>(token: L::Token, rows: &[[u64; 8]; 4]) {
    let n = L::COUNT;
    let [a, b, c, d] = rows.map(|row| L::load(token, &row[..n]));
    let [x, y, z, _] = rows;
    expect(L::splat(token, x[0]), |_| x[0]);
    expect(L::from_fn(token, |i| y[i]), |i| y[i]);
    // At an odd address.
    let mut bytes = [0; 3 + 64];
    a.store_bytes(&mut bytes[3..3 + 8 * n]);
    let words: Vec<u64> =
        bytes[3..3 + 8 * n].as_chunks().0.iter().map(|&word| u64::from_ne_bytes(word)).collect();
    assert_eq!(words, x[..n]);
    expect(L::load_bytes(token, &bytes[3..3 + 8 * n]), |i| x[i]);

    expect(a.add(b), |i| x[i].wrapping_add(y[i]));
    expect(a.mul_low(b), |i| u64::from(x[i] as u32) * u64::from(y[i] as u32));
    expect(a.xor(b), |i| x[i] ^ y[i]);
    expect(a.xor3(b, c), |i| x[i] ^ y[i] ^ z[i]);
    expect(a.chi(b, c), |i| x[i] ^ (!y[i] & z[i]));

    macro_rules! rotations {
        ($($count:literal)*) => {$(
            expect(a.rotate_left::<$count>(), |i| x[i].rotate_left($count));
            expect(a.rotate_right::<$count>(), |i| x[i].rotate_right($count));
        )*};
    }
    rotations!(0 1 2 3 6 8 10 14 15 16 18 20 21 24 25 27 28 32 36 39 40 41 43 44 45 48 55 56 61 62 63);

    expect(a.rotate_fours::<0>(), |i| x[i]);
    expect(a.rotate_fours::<1>(), |i| x[i / 4 * 4 + (i + 1) % 4]);
    expect(a.rotate_fours::<2>(), |i| x[i / 4 * 4 + (i + 2) % 4]);
    expect(a.rotate_fours::<3>(), |i| x[i / 4 * 4 + (i + 3) % 4]);
    expect(a.join_pairs(b), |i| if i % 2 == 0 { x[i + 1] } else { y[i - 1] });
    let side = n / 4;
    for (row, transposed) in L::transpose_fours([a, b, c, d]).into_iter().enumerate() {
        expect(transposed, |i| rows[row / side * side + i / 4][row % side * 4 + i % 4]);
    }
}

#[inline(always)]
fn expect<L: Lanes64>(found: L, expected: impl FnMut(usize) -> u64) {
    let mut lanes = [0; 8];
    found.store(&mut lanes[..L::COUNT]);
    assert_eq!(lanes[..L::COUNT], (0..L::COUNT).map(expected).collect::<Vec<_>>());
}

proptest! {
    #[test]
    fn every_operation_on_64_bit_lanes_is_the_scalar_one(rows: [[u64; 8]; 4]) {
        on_every_token(Check { rows });
    }
}

#[test]
fn extreme_lanes_are_treated_like_others() {
    let extremes = [0, u64::MAX, 1 << 63, (1 << 63) - 1, u64::from(u32::MAX), 1 << 32, 1, !1];
    on_every_token(Check {
        rows: [0, 1, 3, 5].map(|by| {
            let mut row = extremes;
            row.rotate_left(by);
            row
        }),
    });
}

#[test]
fn any_address_may_be_prefetched() {
    prefetch(&1);
    prefetch(std::ptr::null::<u8>());
    prefetch(std::ptr::without_provenance::<u8>(usize::MAX));
}
