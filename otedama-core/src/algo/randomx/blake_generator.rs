//! BlakeGenerator (specification 3.5): the random choices that make SuperscalarHash functions.

use super::config::MAX_KEY_BYTES;
use crate::primitive::blake2b;

/// A stream of bytes and words, the same for the same key.
#[derive(Clone, Debug)]
pub struct BlakeGenerator {
    state: [u8; 64],
    used: usize,
}

impl BlakeGenerator {
    /// The stream of `key`.
    ///
    /// # Panics
    /// If the key is longer than [`MAX_KEY_BYTES`].
    pub fn new(key: &[u8]) -> BlakeGenerator {
        assert!(
            key.len() <= MAX_KEY_BYTES,
            "a RandomX key has {} bytes: expected at most {MAX_KEY_BYTES}",
            key.len()
        );
        let mut state = [0; 64];
        state[..key.len()].copy_from_slice(key);
        BlakeGenerator { state: blake2b::digest(&state), used: 0 }
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    /// The next four bytes as a little-endian number.
    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    /// The next bytes; where too few are left, these are skipped and the state is hashed.
    fn take<const LEN: usize>(&mut self) -> [u8; LEN] {
        if self.used + LEN > self.state.len() {
            self.state = blake2b::digest(&self.state);
            self.used = 0;
        }
        self.used += LEN;
        std::array::from_fn(|i| self.state[self.used - LEN + i])
    }
}
