//! Searching and hashing Ethash, Etchash and KawPow: a sealed header's hash with a nonce beside it, and pages
//! from a dataset or computed from a light cache.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{
    Attempt, Candidates, HashError, Hasher, KernelError, ScanEnd, ScanError, Scanned, Scanner, ScannerInfo,
    Setup, StopFlag, check_lengths, check_load, check_scan,
};
use crate::algo::ethash::{self, EthashEpoch, Full, Light, Outcome, Params};
use crate::algo::kawpow::{self, L1Cache};
use crate::algorithm::Algorithm;
use crate::epoch::{Depth, Epoch, EpochKey, EpochSeed};
use crate::hash256::{Digest, Hash256};
use crate::job::{Candidate, Job, SearchSpace, Work};
use crate::selftest::SelfTestError;
use crate::topology::NodeId;

/// How many hashes are begun with a dataset before the stop flag is looked at again: a millisecond's worth.
const BATCH: usize = 256;

/// What the two functions have in common, a thread's worth of either.
pub(super) trait Function: Send {
    /// How many attempts it likes to get at a time.
    fn lanes(&self) -> usize;

    /// Keeps what it needs of an epoch beside the epoch's own memory. Comes before hashing.
    fn take_up(&mut self, _light: &Light<'_>) {}

    /// Gets ready for blocks of this height and the next.
    fn prepare(&mut self, _height: u64) {}

    /// Hashes attempts with pages computed from the light cache.
    fn hash_light(&mut self, light: &Light<'_>, attempts: &[Sealed], out: &mut [Outcome]);

    /// Hashes attempts with pages from memory.
    fn hash_full(&mut self, full: &Full<'_>, attempts: &[Sealed], out: &mut [Outcome]);

    /// The final hash that a claimed mix hash leads to.
    fn final_hash(&self, attempt: &Sealed, mix: &[u8; 32]) -> [u8; 32];

    /// The same hash as the oracle computes it.
    fn oracle(&self, full: &Full<'_>, attempt: &Sealed) -> Outcome;
}

/// One header with one nonce: what KawPow takes. Ethash does not ask for the height.
type Sealed = kawpow::Attempt;

pub(super) fn scanner(
    algorithm: Algorithm,
    name: &'static str,
    function: Box<dyn Function>,
    setup: &Setup,
) -> Result<Box<dyn Scanner>, KernelError> {
    let machine = Machine::new(name, function, setup)?;
    let info = ScannerInfo {
        algorithm,
        kernel: name,
        device: "cpu".to_owned(),
        lanes: machine.function.lanes(),
        max_versions: 1,
        memory: None,
    };
    Ok(Box::new(SealedScanner { info, machine, loaded: None }))
}

pub(super) fn hasher(
    algorithm: Algorithm,
    name: &'static str,
    function: Box<dyn Function>,
    setup: &Setup,
) -> Result<Box<dyn Hasher>, KernelError> {
    Ok(Box::new(SealedHasher { algorithm, name, machine: Machine::new(name, function, setup)? }))
}

struct SealedScanner {
    info: ScannerInfo,
    machine: Machine,
    loaded: Option<(Arc<Job>, Arc<Epoch>)>,
}

impl Scanner for SealedScanner {
    fn info(&self) -> &ScannerInfo {
        &self.info
    }

    fn load(&mut self, job: &Arc<Job>, epoch: Option<&Arc<Epoch>>) -> Result<(), ScanError> {
        let epoch = check_load(self.info.algorithm, job, epoch)?;
        // The old epoch goes first: whoever builds the next one may be waiting for its memory.
        self.loaded = None;
        self.machine.take_up(epoch).map_err(ScanError::Device)?;
        self.machine.function.prepare(job.height());
        self.loaded = Some((Arc::clone(job), Arc::clone(epoch)));
        Ok(())
    }

    fn scan(
        &mut self,
        space: &SearchSpace,
        stop: &StopFlag,
        found: &mut Candidates,
    ) -> Result<Scanned, ScanError> {
        check_scan(self.loaded.as_ref().map(|(job, _)| job), space, 1, found)?;
        let Some((job, epoch)) = &self.loaded else { return Err(ScanError::NoJob) };
        let Work::Sealed { header_hash } = job.work() else { return Err(ScanError::NoJob) };
        let sealed = |nonce| Sealed { header_hash: *header_hash.as_raw(), height: job.height(), nonce };
        let (first, count) = (space.nonces.start, space.nonces.count);
        let mut attempts = [sealed(0); BATCH];
        let mut outcomes = [Outcome::default(); BATCH];
        let mut done = 0;
        while done < count {
            if stop.is_raised() {
                return Ok(Scanned { tried: done, end: ScanEnd::Stopped });
            }
            let batch = (self.machine.batch(epoch.depth()) as u64).min(count - done) as usize;
            for (attempt, nonce) in attempts[..batch].iter_mut().zip(first + done..) {
                attempt.nonce = nonce;
            }
            self.machine.hash(epoch, &attempts[..batch], &mut outcomes[..batch]);
            for (nonce, outcome) in (first + done..).zip(&outcomes[..batch]) {
                if digest(outcome).meets(job.algorithm(), job.target())
                    && found.push(Candidate { nonce, version: None }).is_err()
                {
                    return Ok(Scanned { tried: nonce - first, end: ScanEnd::Full });
                }
            }
            done += batch as u64;
        }
        Ok(Scanned { tried: done, end: ScanEnd::Done })
    }
}

struct SealedHasher {
    algorithm: Algorithm,
    name: &'static str,
    machine: Machine,
}

impl Hasher for SealedHasher {
    fn kernel(&self) -> &'static str {
        self.name
    }

    fn lanes(&self) -> usize {
        self.machine.function.lanes()
    }

    fn hash_many(
        &mut self,
        attempts: &[Attempt<'_>],
        epoch: Option<&Arc<Epoch>>,
        digests: &mut [Digest],
    ) -> Result<(), HashError> {
        check_lengths(attempts, digests)?;
        let mut inputs = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            inputs.push(sealed(attempt).ok_or_else(|| HashError::WrongInput {
                algorithm: self.algorithm,
                found: attempt.bytes().map_or(32, <[u8]>::len),
                expected: "a sealed header's hash with nonce and height",
            })?);
        }
        let epoch = epoch.ok_or(HashError::NoEpoch(self.algorithm))?;
        // Etchash's first epochs are Ethash's.
        let early = (self.algorithm, epoch.key().algorithm) == (Algorithm::Etchash, Algorithm::Ethash);
        if epoch.key().algorithm != self.algorithm && !early {
            return Err(HashError::WrongEpoch { algorithm: self.algorithm, found: Box::new(*epoch.key()) });
        }
        self.machine.take_up(epoch).map_err(HashError::Device)?;
        let mut outcomes = vec![Outcome::default(); inputs.len()];
        self.machine.hash(epoch, &inputs, &mut outcomes);
        for (out, outcome) in digests.iter_mut().zip(&outcomes) {
            *out = digest(outcome);
        }
        Ok(())
    }

    fn claimed(&self, attempt: &Attempt<'_>, mix: &Hash256) -> Option<Digest> {
        let pow = self.machine.function.final_hash(&sealed(attempt)?, mix.as_raw());
        Some(Digest { pow: Hash256::from_raw(pow), mix: Some(*mix) })
    }
}

fn sealed(attempt: &Attempt<'_>) -> Option<Sealed> {
    match *attempt {
        Attempt::Sealed { header_hash, nonce, height } => {
            Some(Sealed { header_hash: *header_hash.as_raw(), height, nonce })
        }
        Attempt::Bytes(_) => None,
    }
}

fn digest(outcome: &Outcome) -> Digest {
    let mix = Some(Hash256::from_raw(outcome.mix_hash));
    Digest { pow: Hash256::from_raw(outcome.final_hash), mix }
}

/// A function, and what it keeps of an epoch beside the epoch's own memory.
struct Machine {
    function: Box<dyn Function>,
    node: NodeId,
    taken_up: Option<(EpochKey, Shape)>,
}

/// What must be known of an epoch to read its memory.
#[derive(Clone, Copy)]
struct Shape {
    parents: u32,
    dataset_bytes: u64,
}

impl Machine {
    fn new(name: &'static str, function: Box<dyn Function>, setup: &Setup) -> Result<Machine, KernelError> {
        let mut machine = Machine { function, node: setup.node, taken_up: None };
        machine.agree_with_oracle().map_err(|error| KernelError::SelfTest { kernel: name, error })?;
        Ok(machine)
    }

    /// How many attempts to give the function at a time: with the light cache alone a hash takes so long that
    /// no more is begun than there are lanes.
    fn batch(&self, depth: Depth) -> usize {
        let lanes = self.function.lanes().clamp(1, BATCH);
        match depth {
            Depth::Light => lanes,
            Depth::Full => BATCH / lanes * lanes,
        }
    }

    /// Prepares for an epoch, unless the last one was the same.
    fn take_up(&mut self, epoch: &Epoch) -> Result<(), String> {
        if self.taken_up.as_ref().is_some_and(|(key, _)| key == epoch.key()) {
            return Ok(());
        }
        self.taken_up = None;
        let shape = shape(epoch.key())?;
        let light = Light::new(shape.parents, epoch.light().view(self.node), shape.dataset_bytes);
        self.function.take_up(&light);
        self.taken_up = Some((*epoch.key(), shape));
        Ok(())
    }

    /// Hashes with the epoch that was taken up.
    fn hash(&mut self, epoch: &Epoch, attempts: &[Sealed], outcomes: &mut [Outcome]) {
        let Some((_, shape)) = self.taken_up else { unreachable!("hashing follows taking up") };
        match epoch.full() {
            Some(full) => {
                let full = Full::new(full.view(self.node));
                self.function.hash_full(&full, attempts, outcomes);
            }
            None => {
                let light = epoch.light().view(self.node);
                let light = Light::new(shape.parents, light, shape.dataset_bytes);
                self.function.hash_light(&light, attempts, outcomes);
            }
        }
    }

    /// Whether a light cache of 127 items and a dataset of 16 KiB give the hashes that the oracle finds, on
    /// this very processor: full lanes and a remainder, in some milliseconds.
    fn agree_with_oracle(&mut self) -> Result<(), SelfTestError> {
        const PARENTS: u32 = 64;
        let mut cache = vec![0; 127 * ethash::ITEM_BYTES];
        let _ = ethash::build_cache(&[7; 32], &mut cache, &mut |_| std::ops::ControlFlow::Continue(()));
        let light = Light::new(PARENTS, &cache, 16 << 10);
        let memory: Vec<u8> = (0..256).flat_map(|index| light.item(index)).collect();
        let full = Full::new(&memory);
        self.function.take_up(&light);
        let attempts: Vec<Sealed> = (0..self.function.lanes() as u64 + 1)
            .map(|i| Sealed { header_hash: [0x3c; 32], height: 2 + i / 8, nonce: i << 60 | i })
            .collect();
        let mut from_light = vec![Outcome::default(); attempts.len()];
        let mut from_full = from_light.clone();
        self.function.hash_light(&light, &attempts, &mut from_light);
        self.function.hash_full(&full, &attempts, &mut from_full);
        for (i, attempt) in attempts.iter().enumerate() {
            let expected = self.function.oracle(&full, attempt);
            let claimed = self.function.final_hash(attempt, &expected.mix_hash);
            let claimed = Outcome { final_hash: claimed, mix_hash: expected.mix_hash };
            for found in [from_light[i], from_full[i], claimed] {
                if found != expected {
                    return Err(SelfTestError::Disagrees {
                        expected: Hash256::from_raw(expected.final_hash),
                        found: Hash256::from_raw(found.final_hash),
                    });
                }
            }
        }
        Ok(())
    }
}

fn shape(key: &EpochKey) -> Result<Shape, String> {
    let EpochSeed::Number(number) = key.seed else {
        return Err(format!("{key} has no number: expected an epoch's number"));
    };
    let params = Params::of(key.algorithm).ok_or_else(|| format!("{key} is of another family"))?;
    let epoch: EthashEpoch = params.epoch(number).map_err(|error| error.to_string())?;
    Ok(Shape { parents: params.parents, dataset_bytes: epoch.dataset_bytes() })
}

/// Ethash and Etchash by one of their kernels.
pub(super) struct Ethash(pub(super) Box<dyn ethash::Kernel>);

impl Ethash {
    /// Hashes batch by batch, without asking for heights.
    fn hash(
        attempts: &[Sealed],
        out: &mut [Outcome],
        mut hash: impl FnMut(&[ethash::Attempt], &mut [Outcome]),
    ) {
        for (attempts, out) in attempts.chunks(BATCH).zip(out.chunks_mut(BATCH)) {
            let mut inputs = [ethash::Attempt { header_hash: [0; 32], nonce: 0 }; BATCH];
            for (input, attempt) in inputs.iter_mut().zip(attempts) {
                *input = plain(attempt);
            }
            hash(&inputs[..attempts.len()], out);
        }
    }
}

fn plain(attempt: &Sealed) -> ethash::Attempt {
    ethash::Attempt { header_hash: attempt.header_hash, nonce: attempt.nonce }
}

impl Function for Ethash {
    fn lanes(&self) -> usize {
        self.0.lanes()
    }

    fn hash_light(&mut self, light: &Light<'_>, attempts: &[Sealed], out: &mut [Outcome]) {
        Ethash::hash(attempts, out, |attempts, out| self.0.hash_light(light, attempts, out));
    }

    fn hash_full(&mut self, full: &Full<'_>, attempts: &[Sealed], out: &mut [Outcome]) {
        Ethash::hash(attempts, out, |attempts, out| self.0.hash_full(full, attempts, out));
    }

    fn final_hash(&self, attempt: &Sealed, mix: &[u8; 32]) -> [u8; 32] {
        ethash::final_hash(&plain(attempt), mix)
    }

    fn oracle(&self, full: &Full<'_>, attempt: &Sealed) -> Outcome {
        ethash::hash(full, &plain(attempt))
    }
}

/// KawPow by one of its kernels.
pub(super) struct KawPow {
    kernel: Box<dyn kawpow::Kernel>,
    /// The beginning of the dataset that was taken up last.
    l1: Option<Box<L1Cache>>,
}

impl KawPow {
    pub(super) fn new(kernel: Box<dyn kawpow::Kernel>) -> KawPow {
        KawPow { kernel, l1: None }
    }
}

const TAKEN_UP: &str = "an epoch is taken up before anything is hashed";

impl Function for KawPow {
    fn lanes(&self) -> usize {
        self.kernel.lanes()
    }

    fn take_up(&mut self, light: &Light<'_>) {
        self.l1 = Some(L1Cache::of(light));
    }

    fn prepare(&mut self, height: u64) {
        let period = kawpow::period_of(height);
        self.kernel.prepare(period + 1);
        self.kernel.prepare(period);
    }

    fn hash_light(&mut self, light: &Light<'_>, attempts: &[Sealed], out: &mut [Outcome]) {
        self.kernel.hash_light(light, self.l1.as_ref().expect(TAKEN_UP), attempts, out);
    }

    fn hash_full(&mut self, full: &Full<'_>, attempts: &[Sealed], out: &mut [Outcome]) {
        self.kernel.hash_full(full, self.l1.as_ref().expect(TAKEN_UP), attempts, out);
    }

    fn final_hash(&self, attempt: &Sealed, mix: &[u8; 32]) -> [u8; 32] {
        kawpow::final_hash(attempt, mix)
    }

    fn oracle(&self, full: &Full<'_>, attempt: &Sealed) -> Outcome {
        kawpow::hash(full, self.l1.as_ref().expect(TAKEN_UP), attempt)
    }
}
