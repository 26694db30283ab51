//! Searching and hashing RandomX, on compiled machines or interpreted ones, with a dataset or a cache.

#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{
    Attempt, Candidates, HashError, Hasher, KernelError, ScanEnd, ScanError, Scanned, Scanner, ScannerInfo,
    Setup, StopFlag, check_attempts, check_load, check_scan, judged,
};
use crate::algo::randomx::interpret::Machine;
use crate::algo::randomx::superscalar::Program;
use crate::algo::randomx::{self, Params};
use crate::algorithm::Algorithm;
use crate::epoch::{Depth, Epoch, EpochKey, EpochSeed};
use crate::hash256::{Digest, Hash256};
use crate::job::{Candidate, Job, SearchSpace, Work};
use crate::mem::PageKind;
use crate::topology::NodeId;

/// How many inputs machines are given at a time with a dataset, rounded down to whole rounds of machines.
/// Within a batch the pass that fingerprints a scratchpad fills it for the next input as well (2 to 6 % of
/// the time); a batch takes some 40 ms, and that is how late a scan stops.
const BATCH: usize = 16;

/// Which machines a kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machinery {
    /// One that interprets programs.
    Interpreted,
    /// So many in turn, each with compiled programs.
    Compiled(usize),
}

impl Machinery {
    /// Makes the machines. Compiled ones have hashed something small as the oracle does.
    fn make(
        self,
        name: &'static str,
        params: &'static Params,
        setup: &Setup,
    ) -> Result<Box<dyn Machines>, KernelError> {
        match self {
            Machinery::Interpreted => {
                Ok(Box::new(Interpreted { machine: Machine::new(params), items: None }))
            }
            Machinery::Compiled(count) => compiled::make(name, params, count, setup),
        }
    }
}

pub(super) fn scanner(
    algorithm: Algorithm,
    name: &'static str,
    machinery: Machinery,
    setup: &Setup,
) -> Result<Box<dyn Scanner>, KernelError> {
    let machines = machinery.make(name, params(algorithm)?, setup)?;
    let info = ScannerInfo {
        algorithm,
        kernel: name,
        device: "cpu".to_owned(),
        lanes: machines.lanes(),
        max_versions: 1,
        memory: machines.memory(),
    };
    let blobs = vec![Vec::new(); machines.batch(Depth::Full)];
    Ok(Box::new(RandomXScanner { info, machines, node: setup.node, loaded: None, blobs }))
}

pub(super) fn hasher(
    algorithm: Algorithm,
    name: &'static str,
    machinery: Machinery,
    setup: &Setup,
) -> Result<Box<dyn Hasher>, KernelError> {
    let machines = machinery.make(name, params(algorithm)?, setup)?;
    Ok(Box::new(RandomXHasher { algorithm, name, machines, node: setup.node }))
}

fn params(algorithm: Algorithm) -> Result<&'static Params, KernelError> {
    Params::of(algorithm).ok_or(KernelError::None(algorithm))
}

/// A thread's machines, of one kind.
trait Machines: Send {
    /// How many there are.
    fn count(&self) -> usize;

    /// How many nonces a slice of work should have a multiple of.
    fn lanes(&self) -> usize {
        self.batch(Depth::Full)
    }

    /// How many inputs to give them at a time: with the cache alone a hash takes so long that no more is
    /// begun than there are machines.
    fn batch(&self, depth: Depth) -> usize {
        match depth {
            Depth::Light => self.count(),
            Depth::Full => (BATCH / self.count()).max(1) * self.count(),
        }
    }

    /// The memory of all scratchpads, where its kind is known.
    fn memory(&self) -> Option<(usize, PageKind)>;

    /// Prepares what an epoch's key asks for, unless the last one was the same.
    fn prepare(&mut self, epoch: &Epoch) -> Result<(), String>;

    /// Hashes inputs with the epoch prepared for.
    fn hash(&mut self, epoch: &Epoch, node: NodeId, inputs: &[&[u8]], hashes: &mut [[u8; 32]]);
}

struct RandomXScanner {
    info: ScannerInfo,
    machines: Box<dyn Machines>,
    node: NodeId,
    loaded: Option<(Arc<Job>, Arc<Epoch>)>,
    /// The job's blob once for each input of a batch, to write nonces into.
    blobs: Vec<Vec<u8>>,
}

impl Scanner for RandomXScanner {
    fn info(&self) -> &ScannerInfo {
        &self.info
    }

    fn load(&mut self, job: &Arc<Job>, epoch: Option<&Arc<Epoch>>) -> Result<(), ScanError> {
        let epoch = check_load(self.info.algorithm, job, epoch)?;
        // The old epoch goes first: whoever builds the next one may be waiting for its memory.
        self.loaded = None;
        self.machines.prepare(epoch).map_err(ScanError::Device)?;
        if let Work::Blob { bytes, .. } = job.work() {
            for blob in &mut self.blobs {
                blob.clear();
                blob.extend_from_slice(bytes);
            }
        }
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
        let Some(slot) = job.algorithm().spec().input.nonce_slot() else { return Err(ScanError::NoJob) };
        let (first, count) = (space.nonces.start, space.nonces.count);
        let mut done = 0;
        while done < count {
            if stop.is_raised() {
                return Ok(Scanned { tried: done, end: ScanEnd::Stopped });
            }
            let batch = (self.machines.batch(epoch.depth()) as u64).min(count - done) as usize;
            for (nonce, blob) in (first + done..).zip(&mut self.blobs[..batch]) {
                blob[slot.offset..][..slot.width].copy_from_slice(&nonce.to_le_bytes()[..slot.width]);
            }
            let mut inputs: [&[u8]; BATCH] = [&[]; BATCH];
            for (input, blob) in inputs.iter_mut().zip(&self.blobs) {
                *input = blob;
            }
            let mut hashes = [[0; 32]; BATCH];
            self.machines.hash(epoch, self.node, &inputs[..batch], &mut hashes[..batch]);
            for (nonce, (input, hash)) in (first + done..).zip(inputs.iter().zip(&hashes[..batch])) {
                let digest = judged(job.algorithm(), &Attempt::Bytes(input), Digest::plain(*hash));
                if digest.meets(job.algorithm(), job.target())
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

struct RandomXHasher {
    algorithm: Algorithm,
    name: &'static str,
    machines: Box<dyn Machines>,
    node: NodeId,
}

impl Hasher for RandomXHasher {
    fn kernel(&self) -> &'static str {
        self.name
    }

    fn lanes(&self) -> usize {
        self.machines.count()
    }

    fn hash_many(
        &mut self,
        attempts: &[Attempt<'_>],
        epoch: Option<&Arc<Epoch>>,
        digests: &mut [Digest],
    ) -> Result<(), HashError> {
        check_attempts(self.algorithm, attempts, digests, |_| true, "bytes, not sealed work")?;
        let epoch = epoch.ok_or(HashError::NoEpoch(self.algorithm))?;
        if epoch.key().algorithm != self.algorithm {
            return Err(HashError::WrongEpoch { algorithm: self.algorithm, found: Box::new(*epoch.key()) });
        }
        self.machines.prepare(epoch).map_err(HashError::Device)?;
        for (attempts, digests) in attempts.chunks(BATCH).zip(digests.chunks_mut(BATCH)) {
            let mut inputs: [&[u8]; BATCH] = [&[]; BATCH];
            for (input, attempt) in inputs.iter_mut().zip(attempts) {
                // Checked above: every attempt is bytes.
                *input = attempt.bytes().unwrap_or_default();
            }
            let mut hashes = [[0; 32]; BATCH];
            let hashes = &mut hashes[..attempts.len()];
            self.machines.hash(epoch, self.node, &inputs[..attempts.len()], hashes);
            for (digest, hash) in digests.iter_mut().zip(hashes) {
                *digest = Digest::plain(*hash);
            }
        }
        Ok(())
    }

    fn claimed(&self, attempt: &Attempt<'_>, hash: &Hash256) -> Option<Digest> {
        let digest = judged(self.algorithm, attempt, Digest::plain(*hash.as_raw()));
        digest.mix.is_some().then_some(digest)
    }
}

/// The key bytes of an epoch. Builders of RandomX make no others.
fn key_bytes(epoch: &Epoch) -> Result<&[u8], String> {
    match &epoch.key().seed {
        EpochSeed::Bytes(bytes) => Ok(bytes),
        EpochSeed::Number(number) => Err(format!("epoch {number} has no key: expected key bytes")),
    }
}

pub(super) use compiled::obstacle;

/// The oracle.
struct Interpreted {
    machine: Machine<'static>,
    /// The dataset item functions of the last key.
    items: Option<(EpochKey, Vec<Program>)>,
}

impl Machines for Interpreted {
    fn count(&self) -> usize {
        1
    }

    fn batch(&self, _: Depth) -> usize {
        1
    }

    fn memory(&self) -> Option<(usize, PageKind)> {
        None
    }

    fn prepare(&mut self, epoch: &Epoch) -> Result<(), String> {
        if self.items.as_ref().is_none_or(|(key, _)| key != epoch.key()) {
            let programs = Program::of_key(self.machine.params(), key_bytes(epoch)?);
            self.items = Some((*epoch.key(), programs));
        }
        Ok(())
    }

    fn hash(&mut self, epoch: &Epoch, node: NodeId, inputs: &[&[u8]], hashes: &mut [[u8; 32]]) {
        let params = self.machine.params();
        for (input, hash) in inputs.iter().zip(hashes) {
            *hash = match (epoch.full(), &self.items) {
                (Some(full), _) => {
                    let dataset = randomx::Full::new(params, full.view(node));
                    randomx::hash_on(&mut self.machine, &dataset, input)
                }
                (None, Some((_, programs))) => {
                    let dataset = randomx::Light::new(params, epoch.light().view(node), programs);
                    randomx::hash_on(&mut self.machine, &dataset, input)
                }
                (None, None) => unreachable!("hashing follows preparing"),
            };
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod compiled {
    use super::{
        Epoch, EpochKey, KernelError, Machines, NodeId, PageKind, Params, Program, Setup, key_bytes,
    };
    use crate::algo::randomx::interpret::Machine;
    use crate::algo::randomx::{self};
    use crate::hash256::Hash256;
    use crate::jit::{self, DatasetSource, ItemCode, MachinesError};
    use crate::mem::Request;
    use crate::mem::exec::CodeMemory;
    use crate::selftest::SelfTestError;

    /// Why no program can be compiled here, if so.
    pub(in crate::scan) fn obstacle() -> Option<String> {
        CodeMemory::new(1).err().map(|error| error.to_string())
    }

    pub(super) fn make(
        name: &'static str,
        params: &'static Params,
        count: usize,
        setup: &Setup,
    ) -> Result<Box<dyn Machines>, KernelError> {
        let aes =
            setup.cpu.aes_ni().ok_or(KernelError::Missing { kernel: name, isa: crate::cpu::Isa::AesNi })?;
        let failed = |error| match error {
            MachinesError::Scratchpad(error) => KernelError::Memory { kernel: name, error },
            MachinesError::Code(error) => KernelError::Code { kernel: name, reason: error.to_string() },
        };
        // Faulted in at once, so that the kind of pages reported is the kind obtained.
        let request = Request { prefault: true, ..setup.memory.clone() };
        let machines =
            |params, request: &Request| jit::Machines::new(params, count, request, aes).map_err(failed);
        agree_with_oracle(machines(params.sample(), &Request::default())?)
            .map_err(|error| KernelError::SelfTest { kernel: name, error })?;
        Ok(Box::new(Compiled { machines: machines(params, &request)?, items: None }))
    }

    /// Compiled machines.
    struct Compiled {
        machines: jit::Machines<'static>,
        /// The dataset item functions of the last key, compiled.
        items: Option<(EpochKey, ItemCode)>,
    }

    impl Machines for Compiled {
        fn count(&self) -> usize {
            self.machines.count()
        }

        fn memory(&self) -> Option<(usize, PageKind)> {
            let first = self.machines.scratchpads().next()?;
            Some((self.machines.scratchpads().map(|region| region.len()).sum(), first.pages()))
        }

        fn prepare(&mut self, epoch: &Epoch) -> Result<(), String> {
            // With a dataset the functions are not needed.
            if epoch.full().is_none() && self.items.as_ref().is_none_or(|(key, _)| key != epoch.key()) {
                let params = self.machines.params();
                let programs = Program::of_key(params, key_bytes(epoch)?);
                let code = ItemCode::compile(params, &programs).map_err(|error| error.to_string())?;
                self.items = Some((*epoch.key(), code));
            }
            Ok(())
        }

        fn hash(&mut self, epoch: &Epoch, node: NodeId, inputs: &[&[u8]], hashes: &mut [[u8; 32]]) {
            let dataset = match (epoch.full(), &self.items) {
                (Some(full), _) => DatasetSource::Full(full.view(node)),
                (None, Some((_, items))) => DatasetSource::Light { cache: epoch.light().view(node), items },
                (None, None) => unreachable!("hashing follows preparing"),
            };
            self.machines.hash(dataset, inputs, hashes);
        }
    }

    /// Whether compiled machines of a small variant hash as the oracle does: every opcode, all rounding
    /// modes and the AES instructions on this very processor, in a millisecond or two and without a cache.
    fn agree_with_oracle(mut machines: jit::Machines<'_>) -> Result<(), SelfTestError> {
        let params = machines.params();
        // Any bytes do for a dataset, as long as they differ from line to line.
        let mut memory = vec![0; params.dataset_bytes()];
        for (i, word) in memory.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        }
        let inputs: Vec<[u8; 1]> = (0..machines.count() as u8).map(|i| [i]).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(|input| &input[..]).collect();
        let mut hashes = vec![[0; 32]; inputs.len()];
        machines.hash(DatasetSource::Full(&memory), &inputs, &mut hashes);
        let mut oracle = Machine::new(params);
        for (input, found) in inputs.iter().zip(hashes) {
            let expected = randomx::hash_on(&mut oracle, &randomx::Full::new(params, &memory), input);
            if found != expected {
                return Err(SelfTestError::Disagrees {
                    expected: Hash256::from_raw(expected),
                    found: Hash256::from_raw(found),
                });
            }
        }
        Ok(())
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod compiled {
    use super::{KernelError, Machines, Params, Setup};

    pub(in crate::scan) fn obstacle() -> Option<String> {
        Some("this version compiles for Linux on x86-64 only".to_owned())
    }

    pub(super) fn make(
        name: &'static str,
        _: &'static Params,
        _: usize,
        _: &Setup,
    ) -> Result<Box<dyn Machines>, KernelError> {
        Err(KernelError::Code { kernel: name, reason: obstacle().unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::{Cancelled, Chunks, EpochBuilder, EpochStore, Progress, StoreConfig};
    use crate::job::{JobId, NonceRange, VersionRange};
    use crate::scan::{KernelError, kernel, kernels, prover};
    use crate::target::Target;
    use crate::topology::Topology;

    /// Epochs with names and no contents: enough to be refused.
    struct Empty;

    impl EpochBuilder for Empty {
        fn light_bytes(&self, _: &EpochKey) -> usize {
            64
        }

        fn full_bytes(&self, _: &EpochKey) -> Option<usize> {
            None
        }

        fn build_light(&self, _: &EpochKey, _: &mut [u8], _: &Progress) -> Result<(), Cancelled> {
            Ok(())
        }

        fn build_full(&self, _: &EpochKey, _: &[u8], _: &Chunks<'_>, _: &Progress) -> Result<(), Cancelled> {
            Ok(())
        }
    }

    fn epoch(key: EpochKey) -> Arc<Epoch> {
        let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 1 << 20));
        let builder: Arc<dyn EpochBuilder> = Arc::new(Empty);
        store.get(&builder, &key, Depth::Light, &Progress::new()).unwrap()
    }

    fn job(key: Option<EpochKey>) -> Arc<Job> {
        let job = Job::blob(JobId(0), Algorithm::RandomXV1, &[0; 76], None, Target::MAX).unwrap();
        Arc::new(match key {
            Some(key) => job.with_epoch(key),
            None => job,
        })
    }

    #[test]
    fn a_job_without_its_epoch_is_refused_by_every_kernel() {
        let setup = Setup::detect();
        let key = |algorithm, bytes: &[u8]| EpochKey::bytes(algorithm, bytes).unwrap();
        let mine = key(Algorithm::RandomXV1, b"mine");
        for row in kernels(Algorithm::RandomXV1).filter(|row| row.obstacle(&setup).is_none()) {
            let mut scanner = row.scanner(&setup).unwrap();
            let mut refused = |job: &Arc<Job>, epoch: Option<&Arc<Epoch>>| {
                scanner.load(job, epoch).unwrap_err().to_string()
            };
            assert_eq!(
                refused(&job(Some(mine)), None),
                "randomx needs the epoch its job names: none was given"
            );
            let other = epoch(key(Algorithm::RandomXV1, b"other"));
            assert_eq!(
                refused(&job(Some(mine)), Some(&other)),
                "job needs randomx key 6d696e65: randomx key 6f74686572 was given"
            );
            let foreign = epoch(key(Algorithm::RandomXV2, b"mine"));
            assert!(refused(&job(None), Some(&foreign)).contains("needs the epoch"));
            let numbered = epoch(EpochKey::number(Algorithm::RandomXV1, 3));
            let refusal = refused(&job(None), Some(&numbered));
            assert!(refusal.contains("epoch 3 has no key"), "{refusal}");

            let space = SearchSpace {
                nonces: NonceRange { start: 0, count: 1 },
                versions: VersionRange { start: 0, count: 1 },
            };
            let scanned = scanner.scan(&space, &StopFlag::new(), &mut Candidates::with_capacity(1));
            assert!(matches!(scanned, Err(ScanError::NoJob)), "{scanned:?}");

            let mut hasher = row.hasher(&setup).unwrap();
            let mut hash = |epoch| {
                let mut digests = [Digest::plain([0; 32])];
                hasher.hash_many(&[Attempt::Bytes(b"")], epoch, &mut digests).unwrap_err().to_string()
            };
            assert_eq!(hash(None), "randomx needs an epoch: none was given");
            let refusal = hash(Some(&foreign));
            assert!(refusal.contains("randomx-v2 key 6d696e65 was given"), "{refusal}");
        }
    }

    #[test]
    fn where_nothing_may_be_compiled_the_interpreter_proves() {
        let forbidden = Setup { compile: false, ..Setup::detect() };
        for algorithm in [Algorithm::RandomXV1, Algorithm::RandomXV2] {
            for row in kernels(algorithm).filter(|row| !row.is_oracle() && row.runs_on(&forbidden.cpu)) {
                assert!(matches!(row.scanner(&forbidden), Err(KernelError::Code { .. })));
                assert!(matches!(row.hasher(&forbidden), Err(KernelError::Code { .. })));
            }
            assert!(prover(algorithm, &forbidden).unwrap().is_oracle());
            let best = crate::tune::best(algorithm, &forbidden, &crate::tune::TuningCache::none(), None, 1);
            assert!(best.unwrap().is_oracle());
        }
        assert!(kernel(Algorithm::RandomXV1, "jit-x2").is_ok());
    }
}
