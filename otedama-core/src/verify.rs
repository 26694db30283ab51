//! The other half of scanning: a claim becomes a [`Share`] by being hashed here, and in no other way.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::algorithm::Algorithm;
use crate::epoch::Epoch;
use crate::hash256::{Digest, Hash256};
use crate::job::{Candidate, Job, JobId, Work};
use crate::scan::{Attempt, HashError, Hasher, Kernel, KernelError, Setup, judged};

/// A proven share: someone hashed it and the hash met the job's target. Only a [`VerifyWorker`] makes one.
///
/// ```compile_fail,E0451
/// # fn forge(job: otedama_core::JobId, proven: otedama_core::Share) -> otedama_core::Share {
/// otedama_core::Share { job, ..proven } // its fields are private
/// # }
/// ```
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
    /// The mix hash claimed beside it, where the algorithm has one; RandomX v2's hash, `pow` being the commitment
    /// to it.
    pub mix: Option<&'a Hash256>,
    /// The hash claimed beside it, where the protocol sends one (Monero): if that misses the target, nothing
    /// is hashed.
    pub pow: Option<&'a Hash256>,
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
            } else if let Some(reject) =
                claim.pow.and_then(|pow| above_target(claim, Digest { pow: *pow, mix: None }))
            {
                outcome(index, Err(reject));
            } else {
                let start = self.bytes.len();
                claim.job.append_bytes(&claim.candidate, &mut self.bytes);
                if let Some(reject) = self.implausible(claim, &self.bytes[start..]) {
                    self.bytes.truncate(start);
                    outcome(index, Err(reject));
                } else {
                    plausible.push((index, start..self.bytes.len()));
                }
            }
        }
        let attempts: Vec<Attempt<'_>> = plausible
            .iter()
            .map(|(index, range)| {
                sealed(&claims[*index]).unwrap_or(Attempt::Bytes(&self.bytes[range.clone()]))
            })
            .collect();
        self.digests.clear();
        self.digests.resize(attempts.len(), Digest::plain([0; 32]));
        let hashed = self.hasher.hash_many(&attempts, epoch, &mut self.digests);
        for ((&(index, _), attempt), digest) in plausible.iter().zip(&attempts).zip(&self.digests) {
            let digest = judged(self.algorithm, attempt, *digest);
            outcome(index, hashed.clone().map_err(Reject::Hash).and_then(|()| judge(&claims[index], digest)));
        }
    }
}

impl VerifyWorker {
    /// The refusal of a claim whose own mix hash leads past the target: told without the epoch's memory. `bytes` are
    /// what would be hashed, if the work is not sealed.
    fn implausible(&self, claim: &Claim<'_>, bytes: &[u8]) -> Option<Reject> {
        let attempt = sealed(claim).unwrap_or(Attempt::Bytes(bytes));
        above_target(claim, self.hasher.claimed(&attempt, claim.mix?)?)
    }
}

/// The attempt of a claim on sealed work.
fn sealed<'a>(claim: &Claim<'a>) -> Option<Attempt<'a>> {
    match claim.job.work() {
        Work::Blob { .. } => None,
        Work::Sealed { header_hash } => {
            Some(Attempt::Sealed { header_hash, nonce: claim.candidate.nonce, height: claim.job.height() })
        }
    }
}

/// Proves claims of one algorithm and epoch on all of these workers at once, each on a thread of its own:
/// `answers[i]` is the answer to `claims[i]`. For pools whose claims pile up; takes as long as the slowest
/// worker's last batch.
pub fn check_all(
    workers: &mut [VerifyWorker],
    claims: &[Claim<'_>],
    epoch: Option<&Arc<Epoch>>,
) -> Vec<Result<Share, Reject>> {
    let lanes = workers.iter().map(VerifyWorker::lanes).max().unwrap_or(1).max(1);
    let mut answers = vec![Err(Reject::NoWorker); claims.len()];
    // Whoever is free takes the next batch: one that a busy processor holds up keeps nobody waiting.
    let batches = Mutex::new(claims.chunks(lanes).zip(answers.chunks_mut(lanes)));
    let next = || batches.lock().unwrap_or_else(PoisonError::into_inner).next();
    let next = &next;
    thread::scope(|scope| {
        for worker in workers {
            scope.spawn(move || {
                while let Some((claims, answers)) = next() {
                    worker.check_many(claims, epoch, |index, answer| answers[index] = answer);
                }
            });
        }
    });
    answers
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
    /// The hash differs from the one claimed.
    #[error("hash {hash} differs from the one claimed", hash = .0.to_raw_hex())]
    WrongHash(Box<Hash256>),
    /// The hash is above the target.
    #[error("hash {hash:064x} is above the target {target}", hash = digest.pow.to_number(algorithm.spec().hash_order))]
    AboveTarget {
        /// What the attempt hashed to.
        digest: Box<Digest>,
        /// What it should have met.
        target: crate::Target,
        /// The function, which says how the digest is read as a number.
        algorithm: Algorithm,
    },
    /// There is no worker to prove it.
    #[error("no worker to prove the claim: expected at least one")]
    NoWorker,
    /// It could not be hashed.
    #[error(transparent)]
    Hash(#[from] HashError),
}

fn judge(claim: &Claim<'_>, digest: Digest) -> Result<Share, Reject> {
    if claim.mix.is_some() && claim.mix != digest.mix.as_ref() {
        return Err(Reject::WrongMix);
    }
    if claim.pow.is_some_and(|pow| *pow != digest.pow) {
        return Err(Reject::WrongHash(Box::new(digest.pow)));
    }
    if let Some(reject) = above_target(claim, digest) {
        return Err(reject);
    }
    Ok(Share { job: claim.job.id(), candidate: claim.candidate, digest })
}

/// The refusal of a digest, claimed or computed, that misses the job's target.
fn above_target(claim: &Claim<'_>, digest: Digest) -> Option<Reject> {
    let target = *claim.job.target();
    let misses = !digest.meets(claim.job.algorithm(), &target);
    misses.then(|| Reject::AboveTarget { digest: Box::new(digest), target, algorithm: claim.job.algorithm() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::VersionMask;
    use crate::target::{CompactBits, Target};

    const GENESIS: &str = "0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c";
    const GENESIS_NONCE: u64 = 2_083_236_893;
    const GENESIS_HASH: &str = "000000000019d6689c085ae165831e934ff763ae46a2a6c172b3f1b60a8ce26f";

    fn genesis(id: u64) -> Job {
        let target = CompactBits(0x1d00_ffff).to_target().unwrap();
        Job::blob(JobId(id), Algorithm::Sha256d, &hex::decode(GENESIS).unwrap(), None, target).unwrap()
    }

    fn easy(id: u64, algorithm: Algorithm, roll: Option<VersionMask>) -> Job {
        Job::blob(JobId(id), algorithm, &[id as u8; 80], roll, Target::MAX).unwrap()
    }

    fn claim(job: &Job, nonce: u64, version: Option<u32>) -> Claim<'_> {
        Claim { job, candidate: Candidate { nonce, version }, mix: None, pow: None }
    }

    #[test]
    fn claims_of_many_jobs_are_answered_once_each_by_every_kernel() {
        let setup = Setup::detect();
        let (block, rolling) = (genesis(1), easy(2, Algorithm::Sha256d, Some(VersionMask::BIP320)));
        let (fixed, foreign) = (easy(3, Algorithm::Sha256d, None), easy(4, Algorithm::Scrypt, None));
        let claims = [
            claim(&foreign, 0, None),
            claim(&block, GENESIS_NONCE, None),
            claim(&block, GENESIS_NONCE + 1, None),
            claim(&rolling, 5, Some(0x0202_0202 ^ 0x2000)),
            claim(&rolling, 5, Some(0x0202_0202 ^ 0x1000)),
            claim(&rolling, 5, None),
            claim(&fixed, 1 << 32, None),
            claim(&fixed, 9, Some(0x0303_0303)),
            claim(&fixed, 9, Some(0x0303_0302)),
            claim(&block, GENESIS_NONCE, Some(1)),
        ];
        for kernel in crate::scan::kernels(Algorithm::Sha256d).filter(|kernel| kernel.runs_on(&setup.cpu)) {
            let mut worker = Verifier::new(kernel, setup.clone()).worker().unwrap();
            // Many times over, so that lanes are full of strangers' claims.
            let many: Vec<_> = claims.iter().cycle().take(7 * claims.len()).copied().collect();
            let mut answers: Vec<Vec<Result<Share, Reject>>> = vec![Vec::new(); many.len()];
            worker.check_many(&many, None, |index, answer| answers[index].push(answer));
            for (index, answers) in answers.iter().enumerate() {
                let [answer] = answers.as_slice() else { panic!("claim {index} got {}", answers.len()) };
                let claim = &many[index];
                match (index % claims.len(), answer) {
                    (0, Err(Reject::WrongAlgorithm { .. })) => {}
                    (2, Err(Reject::AboveTarget { target, .. })) => assert_eq!(target, block.target()),
                    (4 | 6 | 8, Err(Reject::NotAllowed)) => {}
                    (1 | 3 | 5 | 7 | 9, Ok(share)) => {
                        assert_eq!((share.job(), share.nonce()), (claim.job.id(), claim.candidate.nonce));
                        assert_eq!(share.version(), claim.candidate.version);
                        if claim.job.id() == JobId(1) {
                            assert_eq!(share.digest().pow.to_display_hex(), GENESIS_HASH);
                        }
                    }
                    (which, other) => panic!("claim {which} by {}: {other:?}", kernel.name()),
                }
                // One at a time gives the same answer.
                assert_eq!(worker.check(claim, None), *answer);
            }
        }
    }

    #[test]
    fn a_mix_hash_that_the_algorithm_does_not_make_is_refused() {
        let kernel = crate::scan::kernel(Algorithm::Sha256d, "portable").unwrap();
        let mut worker = Verifier::new(kernel, Setup::detect()).worker().unwrap();
        let (job, mix) = (genesis(1), Hash256::from_raw([0; 32]));
        let claim = Claim { mix: Some(&mix), ..claim(&job, GENESIS_NONCE, None) };
        assert_eq!(worker.check(&claim, None), Err(Reject::WrongMix));
    }

    #[test]
    fn a_claimed_hash_is_looked_at_before_and_after_hashing() {
        let block = genesis(1);
        let right = Hash256::from_display_hex(GENESIS_HASH).unwrap();
        let above = Hash256::from_raw([0xff; 32]);
        let wrong = Hash256::from_raw([0; 32]);
        let claim = |pow| Claim { pow: Some(pow), ..claim(&block, GENESIS_NONCE, None) };
        // A worker that cannot hash refuses what needs no hash all the same.
        let mut broken = VerifyWorker::new(Algorithm::Sha256d, Box::new(Broken));
        assert!(matches!(broken.check(&claim(&above), None), Err(Reject::AboveTarget { .. })));
        assert!(matches!(broken.check(&claim(&right), None), Err(Reject::Hash(_))));
        let kernel = crate::scan::kernel(Algorithm::Sha256d, "portable").unwrap();
        let mut worker = Verifier::new(kernel, Setup::detect()).worker().unwrap();
        assert_eq!(worker.check(&claim(&wrong), None), Err(Reject::WrongHash(Box::new(right))));
        assert!(worker.check(&claim(&right), None).is_ok());
    }

    #[test]
    fn many_workers_answer_as_one_does() {
        let (block, easy) = (genesis(1), easy(2, Algorithm::Sha256d, None));
        let claims: Vec<_> = (0..101)
            .map(|i| if i % 3 == 0 { claim(&block, GENESIS_NONCE + i, None) } else { claim(&easy, i, None) })
            .collect();
        let kernel = crate::scan::kernel(Algorithm::Sha256d, "portable").unwrap();
        let verifier = Verifier::new(kernel, Setup::detect());
        let mut one = verifier.worker().unwrap();
        let expected: Vec<_> = claims.iter().map(|claim| one.check(claim, None)).collect();
        assert!(expected[0].is_ok() && expected[1].is_ok() && expected[3].is_err());
        for count in [1, 2, 5] {
            let mut workers: Vec<_> = (0..count).map(|_| verifier.worker().unwrap()).collect();
            assert_eq!(check_all(&mut workers, &claims, None), expected);
        }
        assert_eq!(check_all(&mut [], &claims[..1], None), [Err(Reject::NoWorker)]);
    }

    /// Hashes nothing at all.
    struct Broken;

    impl Hasher for Broken {
        fn kernel(&self) -> &'static str {
            "broken"
        }

        fn lanes(&self) -> usize {
            1
        }

        fn hash_many(
            &mut self,
            _: &[Attempt<'_>],
            _: Option<&Arc<Epoch>>,
            _: &mut [Digest],
        ) -> Result<(), HashError> {
            Err(HashError::NoEpoch(Algorithm::Sha256d))
        }
    }

    #[test]
    fn what_could_not_be_hashed_is_no_share() {
        let mut worker = VerifyWorker::new(Algorithm::Sha256d, Box::new(Broken));
        let job = easy(1, Algorithm::Sha256d, None);
        let mut answers = Vec::new();
        worker.check_many(&[claim(&job, 0, None), claim(&job, 1 << 32, None)], None, |index, answer| {
            answers.push((index, answer.unwrap_err().to_string()));
        });
        answers.sort();
        let expected =
            ["sha256d needs an epoch: none was given", "nonce or version is not one the job allows"];
        assert_eq!(answers, [(0, expected[0].to_owned()), (1, expected[1].to_owned())]);
    }
}
