//! Coinbase, merkle root and header of Bitcoin's family.
//!
//! ```text
//!   coinbase = coinb1 | extranonce1 | extranonce2 | coinb2
//!   root     = sha256d(..sha256d(sha256d(coinbase) | branch[0]).. | branch[n])
//!   header   = version | previous hash | root | time | bits | nonce        numbers little-endian, 80 bytes
//!   version  = (job's version & !mask) | (version bits & mask)             BIP 310
//! ```

use otedama_core::scan::double_digest;
use otedama_core::{Algorithm, Difficulty, Hash256, Job, JobId, Target, VersionMask};

use super::WorkError;
use crate::stratum::bitcoin::Notify;

/// The fields of a header that a share settles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rolled {
    /// The version, whole.
    pub version: u32,
    /// The time, in seconds since 1970.
    pub ntime: u32,
    /// The nonce.
    pub nonce: u32,
}

/// The coinbase transaction, without its witness.
pub fn coinbase(job: &Notify, extranonce1: &[u8], extranonce2: &[u8]) -> Vec<u8> {
    [job.coinb1.as_slice(), extranonce1, extranonce2, &job.coinb2].concat()
}

/// The merkle root over a coinbase and its siblings, in the hash's output order, as it lies in the header.
pub fn merkle_root(coinbase: &[u8], branch: &[Hash256]) -> Hash256 {
    let leaf = double_digest(coinbase);
    Hash256::from_raw(branch.iter().fold(leaf, |node, sibling| pair(&node, sibling.as_raw())))
}

/// The siblings of the coinbase on the way to the merkle root, lowest first, from the ids of all other
/// transactions in block order (in the hash's output order). Costs one hash per transaction.
pub fn merkle_branch(txids: &[Hash256]) -> Vec<Hash256> {
    let mut branch = Vec::new();
    // The level without its first entry, which is the coinbase's and unknown.
    let mut level: Vec<[u8; 32]> = txids.iter().map(|id| *id.as_raw()).collect();
    while let Some((sibling, rest)) = level.split_first() {
        branch.push(Hash256::from_raw(*sibling));
        // An odd one out is paired with itself.
        level = rest.chunks(2).map(|two| pair(&two[0], two.last().unwrap_or(&two[0]))).collect();
    }
    branch
}

fn pair(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut both = [0; 64];
    both[..32].copy_from_slice(left);
    both[32..].copy_from_slice(right);
    double_digest(&both)
}

/// The header of a share.
pub fn header(job: &Notify, merkle_root: &Hash256, rolled: Rolled) -> [u8; 80] {
    let mut header = [0; 80];
    header[..4].copy_from_slice(&rolled.version.to_le_bytes());
    header[4..36].copy_from_slice(job.prev_hash.as_raw());
    header[36..68].copy_from_slice(merkle_root.as_raw());
    header[68..72].copy_from_slice(&rolled.ntime.to_le_bytes());
    header[72..76].copy_from_slice(&job.bits.0.to_le_bytes());
    header[76..].copy_from_slice(&rolled.nonce.to_le_bytes());
    header
}

/// The version of a share: the job's, with the bits under the mask replaced.
pub fn rolled_version(version: u32, mask: u32, bits: u32) -> u32 {
    (version & !mask) | (bits & mask)
}

/// The job of one coinbase.
///
/// # Errors
/// If the algorithm hashes no 80-byte headers.
pub fn job(
    id: JobId,
    algorithm: Algorithm,
    header: &[u8; 80],
    mask: Option<VersionMask>,
    target: Target,
) -> Result<Job, WorkError> {
    Ok(Job::blob(id, algorithm, header, mask, target)?)
}

/// What a job's work is known by, whatever its id: two jobs with the same fingerprint lead to the same
/// headers. Of the version, the time and the clean flag it says nothing.
pub fn fingerprint(job: &Notify, extranonce1: &[u8]) -> Hash256 {
    let mut bytes = Vec::with_capacity(job.coinb1.len() + job.coinb2.len() + 128);
    bytes.extend_from_slice(job.prev_hash.as_raw());
    bytes.extend_from_slice(&job.bits.0.to_le_bytes());
    // The lengths keep neighbours apart.
    for part in [job.coinb1.as_slice(), extranonce1, &job.coinb2] {
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    job.branch.iter().for_each(|sibling| bytes.extend_from_slice(sibling.as_raw()));
    Hash256::from_raw(double_digest(&bytes))
}

/// What a pool accepts at a difficulty: the exact target and 2^-32 of it more, because many miners
/// compute theirs in floating point and land a little above.
pub fn lenient_target(algorithm: Algorithm, difficulty: Difficulty) -> Target {
    let exact = Target::from_difficulty(algorithm, difficulty).to_number();
    Target::new(exact.saturating_add(exact >> 32)).expect("not below the exact target, which is not zero")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The root of a whole tree, as a node computes it: level by level, the odd one out paired with itself.
    fn naive_root(mut level: Vec<[u8; 32]>) -> [u8; 32] {
        while level.len() > 1 {
            if level.len() % 2 == 1 {
                level.push(level[level.len() - 1]);
            }
            level = level.chunks(2).map(|two| pair(&two[0], &two[1])).collect();
        }
        level[0]
    }

    #[test]
    fn the_branch_leads_to_the_root_of_the_whole_tree() {
        let coinbase = b"a coinbase";
        for count in 0..40u8 {
            let ids: Vec<_> = (1..=count).map(|i| Hash256::from_raw([i; 32])).collect();
            let branch = merkle_branch(&ids);
            let mut leaves = vec![double_digest(coinbase)];
            leaves.extend(ids.iter().map(|id| *id.as_raw()));
            assert_eq!(merkle_root(coinbase, &branch).as_raw(), &naive_root(leaves), "{count} transactions");
        }
    }

    #[test]
    fn version_bits_replace_what_is_under_the_mask() {
        assert_eq!(rolled_version(0x2000_0000, 0x1fff_e000, 0x083a_c000), 0x283a_c000);
        assert_eq!(rolled_version(0x3000_0004, 0x1fff_e000, 0), 0x2000_0004);
    }
}
