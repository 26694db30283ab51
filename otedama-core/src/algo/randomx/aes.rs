//! AesGenerator1R, AesGenerator4R and AesHash1R (specification 3.2 to 3.4).
//!
//! All three keep four columns of 16 bytes. The generators decrypt columns 0 and 2 and encrypt columns 1
//! and 3; the hash does the reverse. The columns never meet: four AES units work side by side.

use super::config::Params;
use crate::primitive::aes::{decrypt_round, encrypt_round};

/// Four columns, each a little-endian number.
pub type State = [u128; 4];

/// The columns of 64 bytes.
pub fn state_from_bytes(bytes: &[u8; 64]) -> State {
    std::array::from_fn(|i| u128::from_le_bytes(bytes.as_chunks().0[i]))
}

/// The bytes of the columns.
pub fn state_to_bytes(state: &State) -> [u8; 64] {
    let mut bytes = [0; 64];
    for (bytes, column) in bytes.as_chunks_mut().0.iter_mut().zip(state) {
        *bytes = column.to_le_bytes();
    }
    bytes
}

/// AesGenerator1R: fills `out` and leaves `state` for whoever comes next.
///
/// # Panics
/// If `out` is not a multiple of 64 bytes.
pub fn fill_1r(state: &mut State, out: &mut [u8]) {
    for line in lines_mut(out) {
        generator_round(state, &GENERATOR_1R_KEYS);
        *line = state_to_bytes(state);
    }
}

/// AesGenerator4R with a variant's keys: fills `out` and leaves `state` for whoever comes next.
///
/// # Panics
/// If `out` is not a multiple of 64 bytes.
pub fn fill_4r(params: &Params, state: &mut State, out: &mut [u8]) {
    let [left, right] = params.generator_4r_keys;
    for line in lines_mut(out) {
        for (left, right) in left.into_iter().zip(right) {
            generator_round(state, &[left, left, right, right]);
        }
        *line = state_to_bytes(state);
    }
}

/// AesHash1R: the fingerprint of `input`.
///
/// # Panics
/// If `input` is not a multiple of 64 bytes.
pub fn hash_1r(input: &[u8]) -> [u8; 64] {
    let (lines, rest) = input.as_chunks::<64>();
    assert!(rest.is_empty(), "AesHash1R takes whole lines of 64 bytes");
    let mut state = HASH_1R_STATE;
    for line in lines {
        hash_round(&mut state, &state_from_bytes(line));
    }
    for key in HASH_1R_EXTRA_KEYS {
        hash_round(&mut state, &[key; 4]);
    }
    state_to_bytes(&state)
}

fn generator_round(state: &mut State, keys: &State) {
    state[0] = decrypt_round(state[0], keys[0]);
    state[1] = encrypt_round(state[1], keys[1]);
    state[2] = decrypt_round(state[2], keys[2]);
    state[3] = encrypt_round(state[3], keys[3]);
}

fn hash_round(state: &mut State, keys: &State) {
    state[0] = encrypt_round(state[0], keys[0]);
    state[1] = decrypt_round(state[1], keys[1]);
    state[2] = encrypt_round(state[2], keys[2]);
    state[3] = decrypt_round(state[3], keys[3]);
}

fn lines_mut(out: &mut [u8]) -> &mut [[u8; 64]] {
    let (lines, rest) = out.as_chunks_mut::<64>();
    assert!(rest.is_empty(), "the AES generators make whole lines of 64 bytes");
    lines
}

/// `Hash512("RandomX AesGenerator1R keys")`.
pub const GENERATOR_1R_KEYS: State = [
    0x53a5ac6d_09667162_2b55b5db_1749f4b4_u128.swap_bytes(),
    0x07af7c6d_0d716a84_78d32517_4edca10d_u128.swap_bytes(),
    0xf162123f_c67e949f_4f79c0f4_45e3203e_u128.swap_bytes(),
    0x3581ef6a_7c31bab1_884c3116_54911649_u128.swap_bytes(),
];

/// `Hash512("RandomX AesHash1R state")`.
pub const HASH_1R_STATE: State = [
    0x0d2cb592_de56a89f_47db82cc_ad3a98d7_u128.swap_bytes(),
    0x6e998d33_98b7c715_5a129ef5_5780e7ac_u128.swap_bytes(),
    0x1700776a_d0c762ae_6b507950_e47ca0e8_u128.swap_bytes(),
    0x0c240a63_8d82ad07_0500a179_4849997e_u128.swap_bytes(),
];

/// `Hash256("RandomX AesHash1R xkeys")`.
pub const HASH_1R_EXTRA_KEYS: [u128; 2] = [
    0x8983faf6_9f94248b_bf56dc90_01028906_u128.swap_bytes(),
    0xd163b261_3ce0f451_c64310ee_9bf918ed_u128.swap_bytes(),
];
