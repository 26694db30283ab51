//! Ethash, Etchash and KawPow: an epoch's light cache, one long chain, and from it the dataset, item by item.

#![forbid(unsafe_code)]

use std::ops::ControlFlow;
use std::sync::Arc;

#[cfg(target_arch = "x86_64")]
use crate::algo::ethash::LanesKernel;
use crate::algo::ethash::{EthashEpoch, Item, Kernel, Light, Params, Portable};
use crate::cpu::Cpu;
use crate::epoch::{Cancelled, Chunks, EpochBuilder, EpochFile, EpochKey, EpochSeed, Progress};

/// After how many items [`Progress`] is told: a millisecond or two when fast, thirty when not.
const REPORT_ITEMS: usize = 1024;

/// Builds caches and datasets of one algorithm of the family. Keys are numbers of epochs up to
/// [`LAST_EPOCH`](crate::algo::ethash::LAST_EPOCH); [`EthashBuilder::key`] makes them.
///
/// # Panics
/// Asked for an epoch with key bytes or a higher number it panics, which the store turns into
/// [`EpochError::Panicked`](crate::epoch::EpochError::Panicked).
pub struct EthashBuilder {
    params: &'static Params,
    kernel: Box<dyn Kernel>,
    file: Option<Arc<EpochFile>>,
}

impl EthashBuilder {
    /// The fastest way of this CPU to build epochs of a row of the family.
    pub fn new(params: &'static Params, cpu: &Cpu) -> EthashBuilder {
        EthashBuilder { params, kernel: kernel(cpu), file: None }
    }

    /// The same, with the dataset of the file's epoch read from it. What is damaged there is computed;
    /// [`EpochFile::damaged`] says afterwards whether it was.
    #[must_use]
    pub fn with_file(self, file: Arc<EpochFile>) -> EthashBuilder {
        EthashBuilder { file: Some(file), ..self }
    }

    /// The key of an epoch, for the builder of its own row's algorithm.
    pub fn key(epoch: &EthashEpoch) -> EpochKey {
        EpochKey::number(epoch.params().algorithm, epoch.number())
    }

    fn epoch(&self, key: &EpochKey) -> EthashEpoch {
        match &key.seed {
            EpochSeed::Number(number) => self.params.epoch(*number).unwrap_or_else(|error| panic!("{error}")),
            EpochSeed::Bytes(_) => {
                panic!("{key}: Ethash and its family have numbered epochs, not keys of bytes")
            }
        }
    }
}

impl EpochBuilder for EthashBuilder {
    fn light_bytes(&self, key: &EpochKey) -> usize {
        self.epoch(key).cache_bytes() as usize
    }

    fn full_bytes(&self, key: &EpochKey) -> Option<usize> {
        Some(self.epoch(key).dataset_bytes() as usize)
    }

    /// Four items: what KawPow reads at a time, and Ethash's pages twice over.
    fn item_bytes(&self) -> usize {
        4 * size_of::<Item>()
    }

    fn build_light(&self, key: &EpochKey, out: &mut [u8], progress: &Progress) -> Result<(), Cancelled> {
        progress.check()?;
        let report = &mut |bytes| match progress.add(bytes) {
            Ok(()) => ControlFlow::Continue(()),
            Err(Cancelled) => ControlFlow::Break(()),
        };
        match self.kernel.build_cache(&self.epoch(key).seed(), out, report) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Cancelled),
        }
    }

    fn build_full(
        &self,
        key: &EpochKey,
        light: &[u8],
        chunks: &Chunks<'_>,
        progress: &Progress,
    ) -> Result<(), Cancelled> {
        let bytes = self.epoch(key).dataset_bytes();
        let light = Light::new(self.params.parents, light, bytes);
        let file = self.file.as_ref().filter(|file| file.key() == key && file.bytes() as u64 == bytes);
        while let Some(chunk) = chunks.take() {
            if file.is_some_and(|file| file.read(chunk.offset, chunk.bytes).is_ok()) {
                progress.add(chunk.bytes.len())?;
                continue;
            }
            // Items are numbered by 32 bits up to the last epoch.
            let mut first = (chunk.offset / size_of::<Item>()) as u32;
            for out in chunk.bytes.as_chunks_mut().0.chunks_mut(REPORT_ITEMS) {
                self.kernel.items(&light, first, out);
                first += out.len() as u32;
                progress.add(out.as_flattened().len())?;
            }
        }
        Ok(())
    }
}

/// The kernel with the widest vectors that the CPU has.
fn kernel(cpu: &Cpu) -> Box<dyn Kernel> {
    #[cfg(target_arch = "x86_64")]
    if let Some(token) = cpu.avx512() {
        return Box::new(LanesKernel::avx512(token));
    } else if let Some(token) = cpu.avx2() {
        return Box::new(LanesKernel::avx2(token));
    }
    let _ = cpu;
    Box::new(Portable)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::algo::ethash::{ETCHASH, ETHASH, Growth, KAWPOW, build_cache};
    use crate::algorithm::{Algorithm, EpochKind};
    use crate::cpu::Isa;
    use crate::epoch::{Depth, EpochError, EpochStore, Placement, StoreConfig};
    use crate::mem::PageSet;
    use crate::topology::NodeId;

    /// Growth that makes epochs small: 127 items and 509 pages at first.
    const TINY: (Growth, Growth) =
        (Growth { first: 8 << 10, each: 1 << 10 }, Growth { first: 64 << 10, each: 8 << 10 });

    static SMALL: [Params; 3] = [
        Params { cache_size: TINY.0, dataset_size: TINY.1, ..ETHASH },
        Params { cache_size: TINY.0, dataset_size: TINY.1, ..ETCHASH },
        Params { cache_size: TINY.0, dataset_size: TINY.1, ..KAWPOW },
    ];

    fn store(byte_budget: u64) -> EpochStore {
        EpochStore::new(StoreConfig {
            byte_budget,
            placement: Placement::Replicate,
            nodes: vec![NodeId(0)],
            pages: PageSet::PLAIN,
            threads: 3,
        })
    }

    #[test]
    fn every_cpu_builds_the_oracles_bytes() {
        let cpu = Cpu::detect();
        for cpu in [Cpu::baseline(), cpu.only(&[Isa::Avx2]), cpu.only(&[Isa::Avx512])] {
            for params in &SMALL {
                for number in [0, 1, 7] {
                    let epoch = params.epoch(number).unwrap();
                    let bytes = epoch.cache_bytes() + epoch.dataset_bytes();
                    let builder: Arc<dyn EpochBuilder> = Arc::new(EthashBuilder::new(params, &cpu));
                    let progress = Progress::new();
                    let built = store(bytes)
                        .get(&builder, &EthashBuilder::key(&epoch), Depth::Full, &progress)
                        .unwrap();
                    assert_eq!((progress.done_bytes(), progress.total_bytes()), (bytes, bytes));

                    let mut cache = vec![0; epoch.cache_bytes() as usize];
                    assert!(
                        build_cache(&epoch.seed(), &mut cache, &mut |_| ControlFlow::Continue(()))
                            .is_continue()
                    );
                    assert!(built.light().view(NodeId(0)) == cache);
                    let light = Light::new(params.parents, &cache, epoch.dataset_bytes());
                    for (index, item) in (0..).zip(built.full().unwrap().view(NodeId(0)).as_chunks().0) {
                        assert_eq!(light.item(index), *item, "item {index} of {epoch:?}");
                    }
                }
            }
        }
    }

    /// The bytes of a dataset that was built with a file, and what the file had to say.
    fn built_with_file(folder: &std::path::Path, epoch: &EthashEpoch) -> (Vec<u8>, u64) {
        let (key, bytes) = (EthashBuilder::key(epoch), epoch.dataset_bytes());
        let file = Arc::new(EpochFile::open(folder, &key, bytes as usize).unwrap().unwrap());
        let builder = EthashBuilder::new(epoch.params(), &Cpu::detect()).with_file(Arc::clone(&file));
        let builder: Arc<dyn EpochBuilder> = Arc::new(builder);
        let progress = Progress::new();
        let built = store(2 * bytes).get(&builder, &key, Depth::Full, &progress).unwrap();
        assert_eq!(progress.done_bytes(), progress.total_bytes());
        (built.full().unwrap().view(NodeId(0)).to_vec(), file.damaged())
    }

    #[test]
    fn a_file_is_read_and_what_is_damaged_in_it_is_computed() {
        let folder = std::env::temp_dir().join(format!("otedama-ethash-{}", std::process::id()));
        let epoch = SMALL[0].epoch(3).unwrap();
        let key = EthashBuilder::key(&epoch);
        let builder: Arc<dyn EpochBuilder> = Arc::new(EthashBuilder::new(&SMALL[0], &Cpu::detect()));
        let built = store(1 << 20).get(&builder, &key, Depth::Full, &Progress::new()).unwrap();
        let right = built.full().unwrap().view(NodeId(0));

        // Recognisably from the file: it holds something else.
        let other: Vec<u8> = right.iter().map(|byte| !byte).collect();
        EpochFile::write(&folder, &key, &other).unwrap();
        assert!(built_with_file(&folder, &epoch) == (other, 0));

        let path = EpochFile::write(&folder, &key, right).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let (dataset, damaged) = built_with_file(&folder, &epoch);
        assert!(dataset == right && damaged > 0);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn builders_know_their_epochs_sizes() {
        for algorithm in Algorithm::ALL {
            if let EpochKind::Blocks(blocks) = algorithm.spec().epoch {
                let builder =
                    super::super::builder(algorithm, &Cpu::detect(), super::super::ItemsBy::default())
                        .unwrap();
                let key = EpochKey::number(algorithm, 2047);
                assert_eq!(builder.light_bytes(&key), 285_081_536);
                assert_eq!(builder.full_bytes(&key), Some(18_245_220_736));
                assert_eq!(Params::of(algorithm).unwrap().epoch_blocks, blocks);
            }
        }
    }

    #[test]
    fn both_parts_can_be_stopped_half_way() {
        let builder: Arc<dyn EpochBuilder> = Arc::new(EthashBuilder::new(&ETHASH, &Cpu::detect()));
        let key = EpochKey::number(Algorithm::Ethash, 0);
        let light_bytes = builder.light_bytes(&key) as u64;
        for (depth, before) in [(Depth::Light, 0), (Depth::Full, light_bytes)] {
            let (store, progress) = (store(2 << 30), Progress::new());
            thread::scope(|scope| {
                let build = scope.spawn(|| store.get(&builder, &key, depth, &progress));
                while progress.done_bytes() <= before {
                    thread::sleep(Duration::from_millis(1));
                }
                progress.cancel();
                assert_eq!(build.join().unwrap().unwrap_err(), EpochError::Cancelled(Cancelled));
            });
            assert!(progress.done_bytes() < before + light_bytes);
            assert_eq!(store.held_bytes(), before, "{depth:?}");
        }
    }

    #[test]
    fn an_epoch_with_a_key_of_bytes_is_an_error() {
        let builder: Arc<dyn EpochBuilder> = Arc::new(EthashBuilder::new(&ETHASH, &Cpu::detect()));
        let key = EpochKey::bytes(Algorithm::Ethash, b"a key").unwrap();
        let error = store(1 << 30).get(&builder, &key, Depth::Light, &Progress::new()).unwrap_err();
        assert!(matches!(error, EpochError::Panicked { .. }), "{error}");
    }
}
