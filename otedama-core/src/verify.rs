//! The other half of scanning: a claim becomes a [`Share`] by being hashed here, and in no other way.

use std::sync::Arc;

use crate::algorithm::Algorithm;
use crate::epoch::Epoch;
use crate::hash256::{Digest, Hash256};
use crate::job::{Candidate, Job, JobId, Work};
use crate::scan::{Attempt, HashError, Hasher, Kernel, KernelError, Setup};

/// A proven share: someone hashed it and the hash met the job's target. Only a [`VerifyWorker`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    job: JobId,
    candidate: Candidate,
    digest: Digest,
}

impl Share {
    /// The job it is for.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// The nonce.
    pub fn nonce(&self) -> u64 {
        self.candidate.nonce
    }

    /// The version it was found with, where the job lets it roll.
    pub fn version(&self) -> Option<u32> {
        self.candidate.version
    }

    /// What the attempt hashed to.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

/// What someone claims.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The job it is for.
    pub job: &'a Job,
    /// The nonce, and the version where it was rolled.
    pub candidate: Candidate,
    /// The mix hash claimed beside it, where the algorithm has one.
    pub mix: Option<&'a Hash256>,
}

/// Makes verify workers for one algorithm: the same kernel for each, private memory for each.
#[derive(Clone, Debug)]
pub struct Verifier {
    kernel: &'static Kernel,
    setup: Setup,
}

impl Verifier {
    /// A verifier that hashes with this kernel.
    pub fn new(kernel: &'static Kernel, setup: Setup) -> Verifier {
        Verifier { kernel, setup }
    }

    /// A worker with its own scratchpad, for one thread.
    ///
    /// # Errors
    /// If this CPU lacks the kernel, its memory cannot be had or its self-test fails.
    pub fn worker(&self) -> Result<VerifyWorker, KernelError> {
        Ok(VerifyWorker::new(self.kernel.algorithm(), self.kernel.hasher(&self.setup)?))
    }
}

/// Proves claims, one thread's worth.
pub struct VerifyWorker {
    algorithm: Algorithm,
    hasher: Box<dyn Hasher>,
    bytes: Vec<u8>,
    digests: Vec<Digest>,
}

impl VerifyWorker {
    /// A worker that hashes with this hasher.
    pub(crate) fn new(algorithm: Algorithm, hasher: Box<dyn Hasher>) -> VerifyWorker {
        VerifyWorker { algorithm, hasher, bytes: Vec::new(), digests: Vec::new() }
    }

    /// How many claims it likes to get at a time; any number is correct.
    pub fn lanes(&self) -> usize {
        self.hasher.lanes()
    }

    /// Proves one claim.
    ///
    /// # Errors
    /// The reason why it is no share.
    pub fn check(&mut self, claim: &Claim<'_>, epoch: Option<&Arc<Epoch>>) -> Result<Share, Reject> {
        let mut outcome = Err(Reject::NotAllowed);
        self.check_many(std::slice::from_ref(claim), epoch, |_, result| outcome = result);
        outcome
    }

    /// Proves claims of any jobs of one algorithm and epoch, filling the hasher's lanes with
    /// strangers' headers. Calls `outcome(index, result)` once for each claim, in no promised order.
    pub fn check_many(
        &mut self,
        claims: &[Claim<'_>],
        epoch: Option<&Arc<Epoch>>,
        mut outcome: impl FnMut(usize, Result<Share, Reject>),
    ) {
        // Cheap reasons first: they cost no hash.
        let mut plausible = Vec::with_capacity(claims.len());
        self.bytes.clear();
        for (index, claim) in claims.iter().enumerate() {
            if claim.job.algorithm() != self.algorithm {
                outcome(
                    index,
                    Err(Reject::WrongAlgorithm { expected: self.algorithm, found: claim.job.algorithm() }),
                );
            } else if !claim.job.allows(&claim.candidate) {
                outcome(index, Err(Reject::NotAllowed));
            } else {
                let start = self.bytes.len();
                claim.job.append_bytes(&claim.candidate, &mut self.bytes);
                plausible.push((index, start..self.bytes.len()));
            }
        }
        let attempts: Vec<Attempt<'_>> = plausible
            .iter()
            .map(|(index, range)| match claims[*index].job.work() {
                Work::Blob { .. } => Attempt::Bytes(&self.bytes[range.clone()]),
                Work::Sealed { header_hash } => Attempt::Sealed {
                    header_hash,
                    nonce: claims[*index].candidate.nonce,
                    height: claims[*index].job.height(),
                },
            })
            .collect();
        self.digests.clear();
        self.digests.resize(attempts.len(), Digest::plain([0; 32]));
        let hashed = self.hasher.hash_many(&attempts, epoch, &mut self.digests);
        for ((index, _), digest) in plausible.iter().zip(&self.digests) {
            outcome(
                *index,
                hashed.clone().map_err(Reject::Hash).and_then(|()| judge(&claims[*index], *digest)),
            );
        }
    }
}

/// Why a claim is no share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// The job is of another algorithm.
    #[error("claim is for {found}: this verifier proves {expected}")]
    WrongAlgorithm {
        /// What the verifier proves.
        expected: Algorithm,
        /// What the claim's job asks for.
        found: Algorithm,
    },
    /// The nonce is too wide for the job, or the version differs outside the job's mask.
    #[error("nonce or version is not one the job allows")]
    NotAllowed,
    /// The mix hash differs from the one claimed.
    #[error("mix hash differs from the one claimed")]
    WrongMix,
    /// The hash is above the target.
    #[error("hash {hash} is above the target {target}", hash = digest.pow.to_display_hex())]
    AboveTarget {
        /// What the attempt hashed to.
        digest: Box<Digest>,
        /// What it should have met.
        target: crate::Target,
    },
    /// It could not be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

fn judge(claim: &Claim<'_>, digest: Digest) -> Result<Share, Reject> {
    if claim.mix.is_some() && claim.mix != digest.mix.as_ref() {
        return Err(Reject::WrongMix);
    }
    if !digest.meets(claim.job.algorithm(), claim.job.target()) {
        return Err(Reject::AboveTarget { digest: Box::new(digest), target: *claim.job.target() });
    }
    Ok(Share { job: claim.job.id(), candidate: claim.candidate, digest })
}
