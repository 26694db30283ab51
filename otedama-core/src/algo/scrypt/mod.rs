//! scrypt (RFC 7914): a key derivation function that must remember what it computed, as proof of work.
//!
//! ```text
//! B = PBKDF2-HMAC-SHA-256(password, salt, 1, 128 r p bytes)
//! each 128 r bytes of B go through ROMix:
//!     X = those bytes
//!     for i in 0..N:  V[i] = X;                 X = BlockMix(X)
//!     for i in 0..N:  j = Integerify(X) mod N;  X = BlockMix(X xor V[j])
//! out = PBKDF2-HMAC-SHA-256(password, B, 1, length of out)
//! ```
//!
//! BlockMix chains Salsa20/8 cores over the 2r half blocks of 64 bytes. [`scrypt`] is the general
//! function, portable and readable, the oracle of all else. Litecoin and its relatives mine with
//! N = 1024, r = 1, p = 1 ([`ScryptParams::MINING`]), the 80-byte block header as both password and
//! salt, and 32 bytes of output: that form is a [`Kernel`].

mod pbkdf2_lanes;
mod portable;
mod quads;

pub use portable::{NoScratchpad, Portable, block_mix, ro_mix, scrypt};
pub use quads::QuadsKernel;

/// N, r and p, checked to be something that can be computed.
///
/// RFC 7914 also asks for N < 2^(16 r). Chains with a large N and r = 1 ignore that, and so does this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ScryptParams {
    n: u32,
    r: u32,
    p: u32,
}

/// Parameters that no scrypt can be computed with, or that this one refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScryptParamsError {
    /// N counts rows and is used as a mask.
    #[error("scrypt N is {0}: expected a power of two, 2 to 2147483648")]
    N(u32),
    /// r counts pairs of 64-byte blocks in a row.
    #[error("scrypt r is 0: expected at least 1")]
    R,
    /// p counts independent passes.
    #[error("scrypt p is 0: expected at least 1")]
    P,
    /// PBKDF2 cannot number more blocks than this.
    #[error("scrypt r * p is {r} * {p}: expected less than 1073741824")]
    Blocks {
        /// The r given.
        r: u32,
        /// The p given.
        p: u32,
    },
    /// The rows would not fit the limit, or this machine's addresses.
    #[error(
        "scrypt needs 128 * r * N = 128 * {r} * {n} bytes: expected at most {} (and addressable)",
        ScryptParams::MAX_MEMORY
    )]
    Memory {
        /// The N given.
        n: u32,
        /// The r given.
        r: u32,
    },
}

impl ScryptParams {
    /// The most memory that one ROMix may take: 2^38 bytes, which is N = 2^31 with r = 1.
    pub const MAX_MEMORY: u64 = 1 << 38;

    /// What Litecoin and its relatives mine with: N = 1024, r = 1, p = 1.
    pub const MINING: ScryptParams = ScryptParams { n: 1024, r: 1, p: 1 };

    /// Checks the three numbers.
    pub fn new(n: u32, r: u32, p: u32) -> Result<ScryptParams, ScryptParamsError> {
        if n < 2 || !n.is_power_of_two() {
            return Err(ScryptParamsError::N(n));
        }
        if r == 0 {
            return Err(ScryptParamsError::R);
        }
        if p == 0 {
            return Err(ScryptParamsError::P);
        }
        if u64::from(r) * u64::from(p) >= 1 << 30 {
            return Err(ScryptParamsError::Blocks { r, p });
        }
        // Below 2^7 * 2^30 * 2^31 = 2^68: may exceed a u64.
        let memory = 128 * u128::from(r) * u128::from(n);
        if memory > u128::from(Self::MAX_MEMORY) || memory > isize::MAX as u128 {
            return Err(ScryptParamsError::Memory { n, r });
        }
        Ok(ScryptParams { n, r, p })
    }

    /// The number of rows, a power of two.
    pub fn n(&self) -> u32 {
        self.n
    }

    /// Half the number of 64-byte blocks in a row.
    pub fn r(&self) -> u32 {
        self.r
    }

    /// The number of independent passes.
    pub fn p(&self) -> u32 {
        self.p
    }

    /// The memory of one ROMix in bytes, `128 r N`.
    pub fn scratchpad_len(&self) -> usize {
        self.row_len() * self.n as usize
    }

    /// The length of a row in bytes, `128 r`.
    pub fn row_len(&self) -> usize {
        128 * self.r as usize
    }
}

/// The mining form of scrypt: digests of 80-byte block headers, each header its own password and salt.
///
/// The memory-hard part works in a scratchpad that the caller owns and hands in at every call: at least
/// [`Self::scratchpad_len`] bytes, aligned to 64, contents of no meaning before or after. Huge pages and
/// first use on the thread that hashes are what make it fast; nothing else depends on where it lies.
/// The vector kernels allocate nothing in these calls. Digests are in the order scrypt puts them out, which as a number is little-endian.
pub trait Kernel: Send {
    /// The name in reports and arguments: instruction set and number of hashes in flight.
    fn name(&self) -> &'static str;

    /// Calls work on this many digests at a time: any other count is right, multiples of it are fast.
    fn lanes(&self) -> usize;

    /// The scratchpad's length in bytes.
    fn scratchpad_len(&self) -> usize;

    /// Hashes each header into the digest beside it.
    ///
    /// # Panics
    /// If there are more or fewer digests than headers, or the scratchpad is short or not aligned.
    fn hash_headers(&mut self, scratchpad: &mut [u8], headers: &[[u8; 80]], digests: &mut [[u8; 32]]);

    /// Sets the header that [`Self::hash_nonces`] varies, and does the work that its nonces share. The
    /// nonce in it, bytes 76 to 79, is of no meaning.
    fn load(&mut self, header: &[u8; 80]);

    /// Hashes the loaded header with `first_nonce`, `first_nonce + 1` and so on, a digest each. The
    /// nonce is written little-endian at byte 76.
    ///
    /// # Panics
    /// If the nonces would go past 2^32 - 1, or the scratchpad is short or not aligned.
    fn hash_nonces(&mut self, scratchpad: &mut [u8], first_nonce: u32, digests: &mut [[u8; 32]]);
}

/// The scratchpad cut to the length a kernel needs.
///
/// # Panics
/// If it is shorter, or not aligned to 64 bytes.
fn checked_scratchpad<'a>(name: &str, scratchpad: &'a mut [u8], needed: usize) -> &'a mut [u8] {
    let (len, address) = (scratchpad.len(), scratchpad.as_ptr() as usize);
    assert!(len >= needed, "scrypt {name} needs a scratchpad of {needed} bytes, not {len}");
    assert!(address.is_multiple_of(64), "scrypt {name} needs a scratchpad aligned to 64 bytes");
    &mut scratchpad[..needed]
}

/// # Panics
/// If `count` nonces from `first_nonce` on go past 2^32 - 1.
fn check_nonces(first_nonce: u32, count: usize) {
    assert!(
        count as u64 <= (1 << 32) - u64::from(first_nonce),
        "{count} nonces from {first_nonce} on go past 4294967295"
    );
}
