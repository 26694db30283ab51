//! Which proof of work a job asks for.

/// A proof-of-work algorithm, revision included: two revisions that hash differently are two algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// SHA-256 twice over an 80-byte header.
    Sha256d,
    /// scrypt.
    Scrypt,
    /// Ethash.
    Ethash,
    /// Ethash with epochs of twice the length.
    Etchash,
    /// KawPow.
    KawPow,
    /// RandomX, first version.
    RandomXV1,
    /// RandomX, second version.
    RandomXV2,
}
