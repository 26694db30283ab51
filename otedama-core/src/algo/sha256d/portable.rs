//! SHA256d one nonce after the other, in plain Rust: slow, and what the fast kernels are held against.

use super::{Hit, Hits, Kernel, Midstate, Search};
use crate::primitive::sha256::{self, IV, State};

/// The kernel for any CPU.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl Kernel for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn lanes(&self) -> usize {
        1
    }

    fn search(&mut self, search: &Search, first_nonce: u32, count: u32, hits: &mut Hits) -> u32 {
        for done in 0..count {
            let nonce = first_nonce + done;
            let found_before = hits.len();
            for (version, midstate) in (0..).zip(search.midstates()) {
                let digest = header_digest(search, midstate, nonce);
                // The digest's last four bytes are its most significant, the very last one foremost.
                if digest[7].swap_bytes() <= search.top() && !hits.push(Hit { version, nonce }) {
                    hits.truncate(found_before);
                    return done;
                }
            }
        }
        count
    }

    fn hash_many(&mut self, messages: &[&[u8]], digests: &mut [[u8; 32]]) {
        assert_eq!(messages.len(), digests.len(), "one digest per message");
        for (message, digest) in messages.iter().zip(digests) {
            *digest = sha256::double_digest(message);
        }
    }
}

/// SHA256d of the header that has this midstate and this nonce, as words.
fn header_digest(search: &Search, midstate: &Midstate, nonce: u32) -> State {
    let mut first = *midstate.state();
    sha256::compress(&mut first, &search.chunk_two(nonce));
    let [w0, w1, w2, w3, w4, w5, w6, w7] = first;
    let mut second = IV;
    sha256::compress(&mut second, &[w0, w1, w2, w3, w4, w5, w6, w7, 1 << 31, 0, 0, 0, 0, 0, 0, 32 * 8]);
    second
}

#[cfg(test)]
mod tests {
    use super::super::tests::check_kernel;
    use super::Portable;

    #[test]
    fn agrees_with_hashing_whole_headers() {
        check_kernel(&mut Portable);
    }
}
