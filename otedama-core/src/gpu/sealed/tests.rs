//! On the first OpenCL device there is (PoCL will do), with epochs of a megabyte.

use super::*;
use crate::algo::ethash::{self, Full, Growth};
use crate::algo::kawpow::{self, L1Cache};
use crate::epoch::{Depth, EpochStore, StoreConfig};
use crate::gpu::{self, Api};
use crate::hash256::Hash256;
use crate::job::JobId;
use crate::target::Target;
use crate::topology::Topology;

const CACHE_SIZE: Growth = Growth { first: 1 << 16, each: 1 << 12 };
const DATASET_SIZE: Growth = Growth { first: 1 << 18, each: 1 << 14 };
pub(crate) static ETHASH: Params =
    Params { epoch_blocks: 200, cache_size: CACHE_SIZE, dataset_size: DATASET_SIZE, ..ethash::ETHASH };
pub(crate) static KAWPOW: Params =
    Params { epoch_blocks: 200, cache_size: CACHE_SIZE, dataset_size: DATASET_SIZE, ..ethash::KAWPOW };

/// The search of a family of kernels for small epochs.
pub(crate) fn search_of(params: &'static Params, gpu: &Arc<dyn Gpu>) -> Box<dyn Search> {
    Box::new(Sealed::new(params, gpu, gpu.info().max_buffer).expect("the kernels compile"))
}

const HEADER: [u8; 32] = *b"a header's hash, sealed 32 bytes";

pub(crate) fn device() -> Option<Arc<dyn Gpu>> {
    let inventory = gpu::devices();
    let Some(card) = inventory.cards.iter().find(|card| card.info.id.api() == Api::OpenCl) else {
        println!("SKIPPED: no OpenCL device here ({inventory})");
        return None;
    };
    Some(gpu::open(card.info.id).expect("a device that is listed can be opened"))
}

/// An epoch with its dataset, for the oracle.
pub(crate) fn epoch(params: &'static Params, number: u32) -> Arc<Epoch> {
    let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 1 << 30));
    let builder: Arc<dyn EpochBuilder> = Arc::new(EthashBuilder::new(params, &Cpu::detect()));
    store.get(&builder, &EpochKey::number(params.algorithm, number), Depth::Full, &Progress::new()).unwrap()
}

pub(crate) fn job(epoch: &Epoch, height: u64, target: [u8; 32]) -> Arc<Job> {
    let (algorithm, header) = (epoch.key().algorithm, Hash256::from_raw(HEADER));
    let target = Target::from_be_bytes(target).unwrap();
    Arc::new(Job::sealed(JobId(1), algorithm, header, height, target).unwrap().with_epoch(*epoch.key()))
}

/// The final hash of a nonce, as the oracle finds it.
pub(crate) fn final_hash(epoch: &Epoch, height: u64, nonce: u64) -> [u8; 32] {
    let full = Full::new(epoch.full().unwrap().view(NodeId(0)));
    let outcome = match epoch.key().algorithm {
        Algorithm::KawPow => {
            let attempt = kawpow::Attempt { header_hash: HEADER, height, nonce };
            kawpow::hash(&full, &L1Cache::of(&full), &attempt)
        }
        _ => ethash::hash(&full, &ethash::Attempt { header_hash: HEADER, nonce }),
    };
    outcome.final_hash
}

/// The first 64 bits of the final hashes of some nonces.
fn tops(epoch: &Epoch, height: u64, nonces: impl Iterator<Item = u64>) -> Vec<(u64, u64)> {
    let top = |nonce| u64::from_be_bytes(*final_hash(epoch, height, nonce).first_chunk().unwrap());
    nonces.map(|nonce| (nonce, top(nonce))).collect()
}

/// Searches and compares with the oracle: exactly the nonces whose hash meets a target that a fifth of them meets.
fn agrees(sealed: &mut Sealed, queue: &mut dyn Queue, epoch: &Arc<Epoch>, height: u64) {
    agrees_after(sealed, queue, epoch, height, &mut |_, _| true);
}

fn agrees_after(
    sealed: &mut Sealed,
    queue: &mut dyn Queue,
    epoch: &Arc<Epoch>,
    height: u64,
    go_on: &mut GoOn<'_>,
) {
    const FIRST: u64 = 0x1234_5678_ffff_ff80;
    const ROOM: u32 = 512;
    let nonces = 2 * GRANULE;
    let tops = tops(epoch, height, FIRST..FIRST + u64::from(nonces));
    let mut sorted: Vec<u64> = tops.iter().map(|(_, top)| *top).collect();
    sorted.sort_unstable();
    let limit = sorted[nonces as usize / 5];
    let mut target = [0xff; 32];
    target[..8].copy_from_slice(&limit.to_be_bytes());

    sealed.load(&job(epoch, height, target), Some(epoch), queue, go_on).unwrap();
    let hits = sealed.gpu.buffer(4 + 8 * u64::from(ROOM)).unwrap();
    queue.zero(&hits, 0, hits.bytes()).unwrap();
    sealed.enqueue(0, queue, 0, &Batch { first: FIRST, count: nonces, hits: &hits, room: ROOM }).unwrap();
    let mut bytes = vec![0; hits.bytes() as usize];
    queue.read(&hits, 0, &mut bytes).unwrap();
    let words: Vec<u32> = bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect();
    let found = words[1..][..2 * words[0] as usize]
        .chunks(2)
        .map(|pair| u64::from(pair[1]) << 32 | u64::from(pair[0]));
    let mut found: Vec<u64> = found.collect();
    found.sort_unstable();
    let expected: Vec<u64> = tops.iter().filter(|(_, top)| *top <= limit).map(|(nonce, _)| *nonce).collect();
    assert!(expected.len() >= 100);
    assert_eq!(found, expected, "{} at height {height}", epoch.key());
}

#[test]
fn ethash_finds_what_the_oracle_finds_in_one_buffer_and_in_four() {
    let Some(gpu) = device() else { return };
    let mut queue = gpu.queue().unwrap();
    let epoch = epoch(&ETHASH, 3);
    let bytes = epoch.full().unwrap().view(NodeId(0)).len() as u64;
    for (max_buffer, parts) in [(bytes, 1), (bytes / 2 + 128, 2), (bytes / 3, 4)] {
        let mut sealed = Sealed::new(&ETHASH, &gpu, max_buffer).unwrap();
        agrees(&mut sealed, queue.as_mut(), &epoch, 700);
        assert_eq!(sealed.dag.as_ref().unwrap().layout.parts, parts);
    }
    let mut sealed = Sealed::new(&ETHASH, &gpu, bytes / 5).unwrap();
    let refused = sealed
        .load(&job(&epoch, 700, [0xff; 32]), Some(&epoch), queue.as_mut(), &mut |_, _| true)
        .unwrap_err();
    assert!(
        refused.to_string().contains(&format!("a dataset of {bytes} bytes does not fit four buffers")),
        "{refused}"
    );
}

#[test]
fn kawpow_finds_what_the_oracle_finds_period_by_period() {
    let Some(gpu) = device() else { return };
    let mut queue = gpu.queue().unwrap();
    let epoch = epoch(&KAWPOW, 0);
    let bytes = epoch.full().unwrap().view(NodeId(0)).len() as u64;
    let mut sealed = Sealed::new(&KAWPOW, &gpu, bytes).unwrap();
    // One period, the next one, which was compiled meanwhile, and one far off; more with the long tests.
    let long = std::env::var_os("OTEDAMA_LONG_TESTS").is_some_and(|value| value == "1");
    let heights = if long { (0..135).step_by(3).collect() } else { vec![0, 2, 3, 120] };
    if !long {
        println!("SKIPPED: 41 more periods of KawPow: set OTEDAMA_LONG_TESTS=1");
    }
    for height in heights {
        agrees(&mut sealed, queue.as_mut(), &epoch, height);
    }
    let mut sealed = Sealed::new(&KAWPOW, &gpu, bytes / 3).unwrap();
    agrees(&mut sealed, queue.as_mut(), &epoch, 7);
}

#[test]
fn the_next_epoch_is_made_ahead_and_taken_over() {
    let Some(gpu) = device() else { return };
    let mut queue = gpu.queue().unwrap();
    let (present, next) = (epoch(&ETHASH, 0), epoch(&ETHASH, 1));
    let mut sealed = Sealed::new(&ETHASH, &gpu, 1 << 30).unwrap();
    let ahead = |sealed: &Sealed| sealed.ahead.as_ref().map(|ahead| ahead.key);
    sealed.load(&job(&present, 100, [0xff; 32]), Some(&present), queue.as_mut(), &mut |_, _| true).unwrap();
    assert_eq!(ahead(&sealed), None);
    for height in [136, 199] {
        agrees(&mut sealed, queue.as_mut(), &present, height);
        assert_eq!(ahead(&sealed), Some(*next.key()));
    }
    // Made ahead, or the making would show the launches of a second dataset.
    let mut told = Vec::new();
    agrees_after(&mut sealed, queue.as_mut(), &next, 200, &mut |_, _| true);
    assert_eq!(ahead(&sealed), None);
    // And back, which nobody made ahead.
    agrees_after(&mut sealed, queue.as_mut(), &present, 100, &mut |done, total| {
        told.push((done, total));
        true
    });
    let bytes = sealed.dag.as_ref().unwrap().layout.bytes();
    assert!(told.is_sorted() && told.len() > 3, "{told:?}");
    assert_eq!((told.first(), told.last()), (Some(&(0, bytes)), Some(&(bytes, bytes))));
}

#[test]
fn making_is_given_up_within_a_launch_and_gone_on_with() {
    let Some(gpu) = device() else { return };
    let mut queue = gpu.queue().unwrap();
    let (epoch, other) = (epoch(&ETHASH, 0), epoch(&ETHASH, 1));
    let mut sealed = Sealed::new(&ETHASH, &gpu, 1 << 30).unwrap();
    let easy = job(&epoch, 0, [0xff; 32]);
    let cancelled = Err(GpuError::Cancelled { device: gpu.info().id });
    let mut most = 0;
    // Each time a few launches more.
    for launches in [0, 1, 2] {
        let mut left = launches;
        let given_up = sealed.load(&easy, Some(&epoch), queue.as_mut(), &mut |done, total| {
            assert!(done >= most && done < total, "it goes on where it was: {done} {most} {total}");
            most = done;
            left -= 1;
            left >= 0
        });
        assert_eq!(given_up, cancelled);
        assert!(sealed.making.is_some() && sealed.dag.is_none() && sealed.work.is_none());
    }
    assert!(most > 0);
    agrees(&mut sealed, queue.as_mut(), &epoch, 0);
    assert!(sealed.making.is_none());
    // What is begun of one epoch goes when another's is wanted.
    let unwanted = job(&other, 200, [0xff; 32]);
    assert_eq!(sealed.load(&unwanted, Some(&other), queue.as_mut(), &mut |_, _| false), cancelled);
    assert!(sealed.making.is_some());
    agrees(&mut sealed, queue.as_mut(), &epoch, 0);
    assert!(sealed.making.is_none());
}

#[test]
fn a_wrong_item_is_found_and_named() {
    let Some(gpu) = device() else { return };
    let mut queue = gpu.queue().unwrap();
    let epoch = epoch(&ETHASH, 0);
    let mut sealed = Sealed::new(&ETHASH, &gpu, 1 << 30).unwrap();
    sealed.load(&job(&epoch, 0, [0xff; 32]), Some(&epoch), queue.as_mut(), &mut |_, _| true).unwrap();
    let dag = sealed.dag.as_ref().unwrap();
    let (full, light) = (epoch.full().unwrap().view(NodeId(0)), epoch.light().view(NodeId(0)));
    let mut made = vec![0; full.len()];
    queue.read(&dag.parts[0], 0, &mut made).unwrap();
    assert!(made == full, "every item is the CPU's");

    let light = Light::new(256, light, full.len() as u64);
    dag.check(gpu.as_ref(), &light, queue.as_mut()).unwrap();
    let last = full.len() - 1;
    queue.write(&dag.parts[0], last as u64, &[!full[last]]).unwrap();
    let wrong = dag.check(gpu.as_ref(), &light, queue.as_mut()).unwrap_err().to_string();
    let items = full.len() / 64;
    assert!(wrong.contains(&format!("item {} of {items}", items - 1)), "{wrong}");
}

#[test]
fn what_cannot_be_done_is_said() {
    let Some(gpu) = device() else { return };
    let mut queue = gpu.queue().unwrap();
    let epoch = epoch(&ETHASH, 0);
    let mut sealed = Sealed::new(&ETHASH, &gpu, 1 << 30).unwrap();
    let easy = job(&epoch, 0, [0xff; 32]);
    let hits = gpu.buffer(4).unwrap();
    let batch = Batch { first: 0, count: GRANULE, hits: &hits, room: 0 };
    assert!(sealed.enqueue(0, queue.as_mut(), 0, &batch).is_err(), "no job is loaded");
    assert!(matches!(
        sealed.load(&easy, None, queue.as_mut(), &mut |_, _| true),
        Err(GpuError::Unsuited { .. })
    ));
    // A dataset larger than the device's memory, in buffers that it would allow.
    static HUGE: Params = Params { dataset_size: Growth { first: 1 << 38, each: 0 }, ..ethash::ETHASH };
    let mut huge = Sealed::new(&HUGE, &gpu, u64::MAX).unwrap();
    let memory = huge.load(&easy, Some(&epoch), queue.as_mut(), &mut |_, _| true).unwrap_err();
    assert!(matches!(memory, GpuError::Memory { wanted, .. } if wanted > 1 << 37), "{memory}");
    assert!(search(Algorithm::Scrypt, &gpu).is_err());
}
