//! BLAKE2b (RFC 7693) without a key: digests of 1 to 64 bytes.

#![forbid(unsafe_code)]

/// What the state starts from: the same words as SHA-512's (RFC 7693, section 2.6).
const IV: [u64; 8] = [
    0x6a09e667f3bcc908,
    0xbb67ae8584caa73b,
    0x3c6ef372fe94f82b,
    0xa54ff53a5f1d36f1,
    0x510e527fade682d1,
    0x9b05688c2b3e6c1f,
    0x1f83d9abfb41bd6b,
    0x5be0cd19137e2179,
];

/// In which order a round takes the words of the message (section 2.7). Rounds 10 and 11 are 0 and 1.
const SIGMA: [[usize; 16]; 10] = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
    [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
    [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
    [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
    [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
    [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

/// BLAKE2b of `message` with a digest of `LEN` bytes, which is part of what is hashed: a short digest is
/// not the start of a longer one.
pub fn digest<const LEN: usize>(message: &[u8]) -> [u8; LEN] {
    let mut hasher = Blake2b::new(LEN);
    hasher.update(message);
    let mut digest = [0; LEN];
    digest.copy_from_slice(&hasher.finish()[..LEN]);
    digest
}

/// BLAKE2b of a message that comes in parts.
#[derive(Clone, Debug)]
pub struct Blake2b {
    state: [u64; 8],
    /// The last 1 to 128 bytes so far; only what follows them tells whether they are the final chunk.
    chunk: [u8; 128],
    chunk_len: usize,
    /// How many bytes were compressed.
    compressed: u128,
}

impl Blake2b {
    /// Nothing hashed yet, for a digest of `len` bytes.
    ///
    /// # Panics
    /// If `len` is 0 or more than 64.
    pub fn new(len: usize) -> Blake2b {
        assert!((1..=64).contains(&len), "a BLAKE2b digest has 1 to 64 bytes, not {len}");
        let mut state = IV;
        // The parameter block (section 2.5): digest length, no key, fanout and depth 1.
        state[0] ^= 0x0101_0000 ^ len as u64;
        Blake2b { state, chunk: [0; 128], chunk_len: 0, compressed: 0 }
    }

    /// Takes the next part of the message.
    pub fn update(&mut self, mut part: &[u8]) {
        while !part.is_empty() {
            if self.chunk_len == 128 {
                self.compressed += 128;
                compress(&mut self.state, &self.chunk, self.compressed, false);
                self.chunk_len = 0;
            }
            let (now, later) = part.split_at(part.len().min(128 - self.chunk_len));
            self.chunk[self.chunk_len..][..now.len()].copy_from_slice(now);
            self.chunk_len += now.len();
            part = later;
        }
    }

    /// The digest in the first bytes; what follows them belongs to no digest.
    pub fn finish(mut self) -> [u8; 64] {
        self.chunk[self.chunk_len..].fill(0);
        let len = self.compressed + self.chunk_len as u128;
        compress(&mut self.state, &self.chunk, len, true);
        let mut bytes = [0; 64];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_le_bytes();
        }
        bytes
    }
}

/// The compression function F (section 3.2). `len` counts the message's bytes up to the chunk's end.
fn compress(state: &mut [u64; 8], chunk: &[u8; 128], len: u128, last: bool) {
    let message: [u64; 16] = std::array::from_fn(|i| u64::from_le_bytes(chunk.as_chunks().0[i]));
    let mut v = [0; 16];
    v[..8].copy_from_slice(state);
    v[8..].copy_from_slice(&IV);
    v[12] ^= len as u64;
    v[13] ^= (len >> 64) as u64;
    if last {
        v[14] = !v[14];
    }
    for round in 0..12 {
        let m = SIGMA[round % 10].map(|i| message[i]);
        mix(&mut v, [0, 4, 8, 12], m[0], m[1]);
        mix(&mut v, [1, 5, 9, 13], m[2], m[3]);
        mix(&mut v, [2, 6, 10, 14], m[4], m[5]);
        mix(&mut v, [3, 7, 11, 15], m[6], m[7]);

        mix(&mut v, [0, 5, 10, 15], m[8], m[9]);
        mix(&mut v, [1, 6, 11, 12], m[10], m[11]);
        mix(&mut v, [2, 7, 8, 13], m[12], m[13]);
        mix(&mut v, [3, 4, 9, 14], m[14], m[15]);
    }
    for (i, word) in state.iter_mut().enumerate() {
        *word ^= v[i] ^ v[i + 8];
    }
}

/// The mixing function G (section 3.1).
#[inline(always)]
fn mix(v: &mut [u64; 16], [a, b, c, d]: [usize; 4], x: u64, y: u64) {
    v[a] = v[a].wrapping_add(v[b]).wrapping_add(x);
    v[d] = (v[d] ^ v[a]).rotate_right(32);
    v[c] = v[c].wrapping_add(v[d]);
    v[b] = (v[b] ^ v[c]).rotate_right(24);
    v[a] = v[a].wrapping_add(v[b]).wrapping_add(y);
    v[d] = (v[d] ^ v[a]).rotate_right(16);
    v[c] = v[c].wrapping_add(v[d]);
    v[b] = (v[b] ^ v[c]).rotate_right(63);
}
