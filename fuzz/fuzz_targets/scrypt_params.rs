//! Scrypt parameters: exactly those that can be computed are accepted, and small ones give what the
//! scrypt crate gives.
#![no_main]

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use otedama_core::algo::scrypt::{ScryptParams, scrypt};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    any: (u32, u32, u32),
    #[arbitrary(with = |u: &mut arbitrary::Unstructured| u.int_in_range(1..=8))]
    log_n: u8,
    #[arbitrary(with = |u: &mut arbitrary::Unstructured| u.int_in_range(1..=9))]
    r: u32,
    #[arbitrary(with = |u: &mut arbitrary::Unstructured| u.int_in_range(1..=4))]
    p: u32,
    #[arbitrary(with = |u: &mut arbitrary::Unstructured| u.int_in_range(1..=100))]
    len: usize,
    password: &'a [u8],
    salt: &'a [u8],
}

fuzz_target!(|input: Input| {
    let (n, r, p) = input.any;
    let fine = n >= 2
        && n.count_ones() == 1
        && r > 0
        && p > 0
        && u128::from(r) * u128::from(p) < 1 << 30
        && 128 * u128::from(r) * u128::from(n) <= u128::from(ScryptParams::MAX_MEMORY);
    assert_eq!(ScryptParams::new(n, r, p).is_ok(), fine, "{n} {r} {p}");

    let (mut ours, mut theirs) = (vec![0; input.len], vec![0; input.len]);
    let params = ScryptParams::new(1 << input.log_n, input.r, input.p).unwrap();
    scrypt(input.password, input.salt, &params, &mut ours).unwrap();
    let params = scrypt::Params::new(input.log_n, input.r, input.p).unwrap();
    scrypt::scrypt(input.password, input.salt, &params, &mut theirs).unwrap();
    assert_eq!(ours, theirs);
});
