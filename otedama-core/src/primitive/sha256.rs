//! SHA-256 (FIPS 180-4): constants, the compression function, a one-shot digest, HMAC and PBKDF2.

/// The first 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4, 4.2.2).
pub const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// The initial hash value: fractional parts of the square roots of the first 8 primes (FIPS 180-4, 5.3.3).
pub const IV: State =
    [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

/// The eight chaining words H0..H7, as numbers.
pub type State = [u32; 8];

/// The sixteen words of a 64-byte message block, as numbers (the message's bytes are big-endian words).
pub type Block = [u32; 16];

/// Compresses one block into `state` (FIPS 180-4, 6.2.2).
pub fn compress(state: &mut State, block: &Block) {
    let mut w = [0u32; 64];
    w[..16].copy_from_slice(block);
    for t in 16..64 {
        w[t] = small_sigma1(w[t - 2])
            .wrapping_add(w[t - 7])
            .wrapping_add(small_sigma0(w[t - 15]))
            .wrapping_add(w[t - 16]);
    }
    let mut working = *state;
    for t in 0..64 {
        round(&mut working, K[t].wrapping_add(w[t]));
    }
    for (word, worked) in state.iter_mut().zip(working) {
        *word = word.wrapping_add(worked);
    }
}

/// One round of the compression function on the working variables a..h; `kw` is `K[t] + W[t]`.
#[inline]
pub fn round(working: &mut State, kw: u32) {
    let [a, b, c, d, e, f, g, h] = *working;
    let t1 = h.wrapping_add(big_sigma1(e)).wrapping_add((e & f) ^ (!e & g)).wrapping_add(kw);
    let t2 = big_sigma0(a).wrapping_add((a & b) ^ (a & c) ^ (b & c));
    *working = [t1.wrapping_add(t2), a, b, c, d.wrapping_add(t1), e, f, g];
}

/// SHA-256 of a message of any length.
pub fn digest(message: &[u8]) -> [u8; 32] {
    digest_after(IV, 0, message)
}

/// The hash of a hash: `SHA-256(SHA-256(message))`.
pub fn double_digest(message: &[u8]) -> [u8; 32] {
    digest(&digest(message))
}

/// The words of a 64-byte block.
pub fn block_from_bytes(bytes: &[u8; 64]) -> Block {
    std::array::from_fn(|i| {
        u32::from_be_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]])
    })
}

/// The digest's bytes: the eight words, big-endian.
pub fn state_to_bytes(state: &State) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

/// HMAC-SHA-256 (RFC 2104) of `message` under `key`.
pub fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    HmacKey::new(key).authenticate(message)
}

/// PBKDF2-HMAC-SHA-256 (RFC 8018, 5.2) with the given number of iterations, filling `out`.
///
/// # Panics
/// If `iterations` is zero.
pub fn pbkdf2(password: &[u8], salt: &[u8], iterations: u32, out: &mut [u8]) {
    assert!(iterations > 0, "PBKDF2 needs at least one iteration");
    let key = HmacKey::new(password);
    let mut seed = salt.to_vec();
    for (index, chunk) in (1u32..).zip(out.chunks_mut(32)) {
        seed.truncate(salt.len());
        seed.extend_from_slice(&index.to_be_bytes());
        let mut u = key.authenticate(&seed);
        let mut block = u;
        for _ in 1..iterations {
            u = key.authenticate(&u);
            block.iter_mut().zip(u).for_each(|(b, u)| *b ^= u);
        }
        chunk.copy_from_slice(&block[..chunk.len()]);
    }
}

/// The two states an HMAC key leaves behind: after its inner and after its outer pad block.
struct HmacKey {
    inner: State,
    outer: State,
}

impl HmacKey {
    fn new(key: &[u8]) -> HmacKey {
        let mut padded = [0; 64];
        if key.len() > 64 {
            padded[..32].copy_from_slice(&digest(key));
        } else {
            padded[..key.len()].copy_from_slice(key);
        }
        let state_after = |pad: u8| {
            let mut state = IV;
            compress(&mut state, &block_from_bytes(&padded.map(|byte| byte ^ pad)));
            state
        };
        HmacKey { inner: state_after(0x36), outer: state_after(0x5c) }
    }

    fn authenticate(&self, message: &[u8]) -> [u8; 32] {
        digest_after(self.outer, 64, &digest_after(self.inner, 64, message))
    }
}

/// Finishes a hash whose first `already` bytes (a multiple of 64) led to `state`.
fn digest_after(mut state: State, already: u64, message: &[u8]) -> [u8; 32] {
    let (blocks, tail) = message.as_chunks::<64>();
    for block in blocks {
        compress(&mut state, &block_from_bytes(block));
    }
    let mut last = [0; 64];
    last[..tail.len()].copy_from_slice(tail);
    last[tail.len()] = 0x80;
    if tail.len() >= 56 {
        compress(&mut state, &block_from_bytes(&last));
        last = [0; 64];
    }
    let bits = (already + message.len() as u64) * 8;
    last[56..].copy_from_slice(&bits.to_be_bytes());
    compress(&mut state, &block_from_bytes(&last));
    state_to_bytes(&state)
}

fn big_sigma0(x: u32) -> u32 {
    x.rotate_right(2) ^ x.rotate_right(13) ^ x.rotate_right(22)
}

fn big_sigma1(x: u32) -> u32 {
    x.rotate_right(6) ^ x.rotate_right(11) ^ x.rotate_right(25)
}

/// FIPS 180-4's lower-case sigma 0, of the message schedule.
pub fn small_sigma0(x: u32) -> u32 {
    x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3)
}

/// FIPS 180-4's lower-case sigma 1, of the message schedule.
pub fn small_sigma1(x: u32) -> u32 {
    x.rotate_right(17) ^ x.rotate_right(19) ^ (x >> 10)
}
