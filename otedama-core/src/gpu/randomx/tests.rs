//! On the first OpenCL device there is (PoCL will do), with real keys.

use super::*;
use crate::algorithm::Algorithm;
use crate::builders::{self, ItemsBy};
use crate::epoch::{self, EpochStore, Progress, StoreConfig};
use crate::gpu::{self, Api};
use crate::hash256::Digest;
use crate::job::JobId;
use crate::scan::{self, Attempt, Setup};
use crate::target::Target;
use crate::topology::Topology;

const ALGORITHM: Algorithm = Algorithm::RandomXV1;

fn device() -> Option<Arc<dyn Gpu>> {
    let inventory = gpu::devices();
    let Some(card) = inventory.cards.iter().find(|card| card.info.id.api() == Api::OpenCl) else {
        println!("SKIPPED: no OpenCL device here ({inventory})");
        return None;
    };
    Some(gpu::open(card.info.id).unwrap())
}

#[test]
fn the_builds_for_cuda_have_these_macros() {
    for (name, params, depth) in [
        ("randomx-v1", "rx/0", Depth::Full),
        ("randomx-v2", "rx/2", Depth::Full),
        ("randomx-v1-light", "rx/0", Depth::Light),
    ] {
        let params = Params::named(params).unwrap();
        let build = otedama_kernels::BUILDS.iter().find(|build| build.name == name).unwrap();
        assert_eq!(build.defines, all_defines(params, depth, GROUP, params.dataset_items()), "{name}");
    }
}

#[test]
fn jobs_are_searched_in_both_slots_and_over_a_change_of_keys() {
    let Some(device) = device() else { return };
    let mut queue = device.queue().unwrap();
    let queue = queue.as_mut();
    let mut search = RandomX::new(&device, Params::of(ALGORITHM).unwrap(), queue).unwrap();
    let hits = device.buffer(4 + 8 * 4).unwrap();
    let batch = |first, count| Batch { first, count, hits: &hits, room: 4 };
    let granule = search.granule();
    assert!(search.max_batch() >= granule);
    let early = search.enqueue(0, queue, 0, &batch(0, granule)).unwrap_err().to_string();
    assert!(early.contains("before a job"), "{early}");

    let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 1 << 30));
    let builder = builders::builder(ALGORITHM, &Setup::detect().cpu, ItemsBy::default()).unwrap();
    for (slot, key) in [b"one key", b"another"].into_iter().enumerate() {
        let key = EpochKey::bytes(ALGORITHM, key).unwrap();
        let epoch = store.get(&builder, &key, epoch::Depth::Light, &Progress::new()).unwrap();
        let first = 0xffff_0000u64;
        let blobs: Vec<Vec<u8>> = (first..first + u64::from(granule))
            .map(|nonce| {
                let mut blob = vec![0x5a; 77];
                blob[39..43].copy_from_slice(&nonce.to_le_bytes()[..4]);
                blob
            })
            .collect();
        let attempts: Vec<Attempt<'_>> = blobs.iter().map(|blob| Attempt::Bytes(blob)).collect();
        let mut digests = vec![Digest::plain([0; 32]); blobs.len()];
        let mut hasher = scan::prover(ALGORITHM, &Setup::detect()).unwrap().hasher(&Setup::detect()).unwrap();
        hasher.hash_many(&attempts, Some(&epoch), &mut digests).unwrap();
        let best = digests.iter().map(|digest| *digest.pow.as_raw()).min_by_key(|hash| {
            let mut hash = *hash;
            hash.reverse();
            hash
        });
        let target = Target::from_le_bytes(best.unwrap()).unwrap();
        let job = Job::blob(JobId(1), ALGORITHM, &[0x5a; 77], None, target).unwrap().with_epoch(key);
        let job = Arc::new(job);
        let without = search.load(&job, None, queue, &mut |_, _| true).unwrap_err().to_string();
        assert!(without.contains("without an epoch"), "{without}");
        search.load(&job, Some(&epoch), queue, &mut |_, _| true).unwrap();
        queue.zero(&hits, 0, hits.bytes()).unwrap();
        for step in 0..search.steps() {
            search.enqueue(slot, queue, step, &batch(first, granule)).unwrap();
        }
        let mut found = [0; 12];
        queue.read(&hits, 0, &mut found).unwrap();
        let index = digests.iter().position(|digest| digest.meets(ALGORITHM, &target)).unwrap();
        assert_eq!(found[..4], [1, 0, 0, 0], "one hash is the best");
        assert_eq!(found[4..], (first + index as u64).to_le_bytes());
    }

    let foreign = Job::blob(JobId(2), Algorithm::RandomXV2, &[0; 77], None, Target::MAX).unwrap();
    let refused = search.load(&Arc::new(foreign), None, queue, &mut |_, _| true).unwrap_err().to_string();
    assert!(refused.contains("kernels of rx/0"), "{refused}");
    let many = search.max_batch() + granule;
    let refused = search.enqueue(0, queue, 0, &batch(0, many)).unwrap_err().to_string();
    assert!(refused.contains("there is memory for"), "{refused}");
}
