//! RandomX from key to share, the way callers come to it: epoch store, table of kernels, scanner, hasher,
//! verifier, engine, with the real cache of 256 MiB. The dataset of 2 GiB takes part with
//! OTEDAMA_LONG_TESTS=1; otherwise its absence is printed.

#[allow(dead_code)]
mod common;

use std::io::Write;
use std::sync::Arc;

use common::{is_idle, mailbox, wait_for};
use otedama_core::builders::{self, ItemsBy};
use otedama_core::engine::{Assignment, Engine, EngineConfig, Event, NoMoreWork, WorkerConfig};
use otedama_core::epoch::{Depth, Epoch, EpochBuilder, EpochStore, Progress, StoreConfig};
use otedama_core::hash256::Digest;
use otedama_core::scan::{Attempt, Kernel, Setup, kernel, kernels};
use otedama_core::target::U256;
use otedama_core::topology::Topology;
use otedama_core::tune::{Contest, TuningCache};
use otedama_core::verify::{self, Claim, Reject};
use otedama_core::{
    Algorithm, Candidate, Hash256, Job, JobId, NonceRange, SearchSpace, Target, Verifier, VersionRange, scan,
    selftest,
};

const VERSIONS: [Algorithm; 2] = [Algorithm::RandomXV1, Algorithm::RandomXV2];

fn store() -> EpochStore {
    EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 4 << 30))
}

fn builder(algorithm: Algorithm) -> Arc<dyn EpochBuilder> {
    builders::builder(algorithm, &Setup::detect().cpu, ItemsBy::default()).unwrap()
}

/// The epoch that known answers are for.
fn epoch(store: &EpochStore, algorithm: Algorithm, depth: Depth) -> Arc<Epoch> {
    let key = selftest::epoch(algorithm).unwrap();
    store.get(&builder(algorithm), &key, depth, &Progress::new()).unwrap()
}

fn present(algorithm: Algorithm) -> impl Iterator<Item = &'static Kernel> {
    let setup = Setup::detect();
    kernels(algorithm).filter(move |kernel| match kernel.obstacle(&setup) {
        None => true,
        Some(error) => {
            let _ = writeln!(std::io::stderr(), "SKIPPED: {}: {error}", kernel.name());
            false
        }
    })
}

/// Hashes that the fastest kernel computes, for others to agree with.
fn hashes(kernel: &'static Kernel, epoch: &Arc<Epoch>, blobs: &[Vec<u8>]) -> Vec<Digest> {
    let mut digests = vec![Digest::plain([0; 32]); blobs.len()];
    let attempts: Vec<_> = blobs.iter().map(|blob| Attempt::Bytes(blob)).collect();
    kernel.hasher(&Setup::detect()).unwrap().hash_many(&attempts, Some(epoch), &mut digests).unwrap();
    digests
}

fn job(algorithm: Algorithm, epoch: &Epoch, target: Target) -> Arc<Job> {
    let job = Job::blob(JobId(5), algorithm, &[0x21; 76], None, target).unwrap();
    Arc::new(job.with_epoch(*epoch.key()))
}

fn one_in(odds: u64) -> Target {
    Target::new(U256::MAX / U256::from(odds)).unwrap()
}

fn every_kernel_knows_the_answers(depth: Depth) {
    let setup = Setup::detect();
    for algorithm in VERSIONS {
        let store = store();
        let epoch = epoch(&store, algorithm, depth);
        for kernel in present(algorithm) {
            selftest::scanner_in(kernel.scanner(&setup).unwrap().as_mut(), &epoch).unwrap();
            selftest::hasher_in(algorithm, kernel.hasher(&setup).unwrap().as_mut(), &epoch).unwrap();
        }
        // Lanes that are not full, and more inputs than lanes: the kernels agree on all of them.
        let blobs: Vec<Vec<u8>> = (0..7).map(|i| vec![i; 43 + usize::from(i) * 13]).collect();
        let oracle = scan::oracle(algorithm).unwrap();
        let expected = hashes(oracle, &epoch, &blobs[..3]);
        for kernel in present(algorithm).filter(|kernel| !kernel.is_oracle()) {
            let found = hashes(kernel, &epoch, &blobs);
            assert_eq!(found[..3], expected, "{}", kernel.name());
            assert_eq!(found, hashes(present(algorithm).next().unwrap(), &epoch, &blobs));
        }
    }
}

#[test]
fn every_kernel_knows_the_answers_with_the_cache_alone() {
    every_kernel_knows_the_answers(Depth::Light);
}

#[test]
fn every_kernel_knows_the_answers_with_the_dataset() {
    if long_tests("every_kernel_knows_the_answers_with_the_dataset") {
        every_kernel_knows_the_answers(Depth::Full);
    }
}

#[test]
fn claims_are_proven_in_batches_on_several_threads() {
    let algorithm = Algorithm::RandomXV1;
    let store = store();
    let epoch = epoch(&store, algorithm, Depth::Light);
    let setup = Setup::detect();
    let job = job(algorithm, &epoch, one_in(2));
    let verifier = Verifier::new(scan::prover(algorithm, &setup).unwrap(), setup.clone());
    let mut workers: Vec<_> = (0..2).map(|_| verifier.worker().unwrap()).collect();
    let nonce = |nonce| Candidate { nonce, version: None };
    let claims: Vec<_> =
        (0..12).map(|n| Claim { job: &job, candidate: nonce(n), mix: None, pow: None }).collect();
    let answers = verify::check_all(&mut workers, &claims, Some(&epoch));
    let hash = |answer: &Result<_, Reject>| match answer {
        Ok(share) => *otedama_core::Share::digest(share),
        Err(Reject::AboveTarget { digest, .. }) => **digest,
        Err(other) => panic!("{other}"),
    };
    let found: Vec<Digest> = answers.iter().map(hash).collect();
    let blobs: Vec<Vec<u8>> = (0..12u32)
        .map(|n| {
            let mut blob = vec![0x21; 76];
            blob[39..43].copy_from_slice(&n.to_le_bytes());
            blob
        })
        .collect();
    assert_eq!(found, hashes(present(algorithm).next().unwrap(), &epoch, &blobs));
    for (answer, digest) in answers.iter().zip(&found) {
        assert_eq!(answer.is_ok(), digest.meets(algorithm, job.target()));
    }
    // A hash claimed beside the nonce is believed by nobody.
    let wrong = Hash256::from_raw([0; 32]);
    let lie = Claim { pow: Some(&wrong), ..claims[0] };
    assert_eq!(workers[0].check(&lie, Some(&epoch)), Err(Reject::WrongHash(Box::new(found[0].pow))));
    assert_eq!(
        workers[0].check(&claims[0], None).unwrap_err().to_string(),
        "randomx needs an epoch: none was given"
    );
}

#[test]
fn mining_starts_light_and_moves_over_to_the_dataset_without_losing_an_attempt() {
    if !long_tests("mining_starts_light_and_moves_over_to_the_dataset_without_losing_an_attempt") {
        return;
    }
    let algorithm = Algorithm::RandomXV1;
    let store = store();
    let light = epoch(&store, algorithm, Depth::Light);
    let setup = Setup::detect();
    let row = kernel(algorithm, "jit-x2").unwrap();
    let contest = Contest::new(algorithm, &setup, TuningCache::none(), 2).unwrap();
    let workers = (0..2).map(|_| {
        let (setup, contest) = (setup.clone(), contest.clone());
        let verifier = Verifier::new(scan::prover(algorithm, &setup).unwrap(), setup.clone());
        WorkerConfig { cpu: None, make: Box::new(move || Ok((contest.scanner(&setup)?, verifier.worker()?))) }
    });
    let (sink, events) = mailbox();
    let engine = Engine::start(EngineConfig::default(), workers.collect(), NoMoreWork, sink).unwrap();
    let job = job(algorithm, &light, one_in(64));
    let space = SearchSpace {
        nonces: NonceRange { start: 0, count: 8000 },
        versions: VersionRange { start: 0, count: 1 },
    };
    engine.replace(Assignment::part(Arc::clone(&job), space).unwrap().with_epoch(light));
    let full = epoch(&store, algorithm, Depth::Full);
    let before = engine.stats().total_hashes();
    engine.deepen(&full);
    let shares: Vec<_> = wait_for(&events, is_idle)
        .into_iter()
        .filter_map(|event| match event {
            Event::Share { share, .. } => Some((share.nonce(), *share.digest())),
            Event::Idle => None,
            other => panic!("{other:?}"),
        })
        .collect();
    let stats = engine.stop();
    assert_eq!((stats.total_hashes(), stats.refused, stats.stale, stats.abandoned), (8000, 0, 0, 0));
    assert!(0 < before && before < 8000, "{before} attempts were made before the dataset was there");
    // Meanwhile all kernels had their turns.
    let ranking = contest.take_outcome().expect("five rounds are over").ranking;
    println!("{before} hashes with the cache, then: {ranking:?}");
    assert_eq!(ranking.len(), 3);
    assert!(ranking.iter().all(|(_, rate)| rate.hps() > 1.0));
    assert_eq!(ranking[0].0.name(), contest.first().name());
    // One pass with the dataset finds the same.
    let mut scanner = row.scanner(&setup).unwrap();
    let mut found = scan::Candidates::with_capacity(8000);
    scanner.load(&job, Some(&full)).unwrap();
    scanner.scan(&space, &scan::StopFlag::new(), &mut found).unwrap();
    let mut nonces: Vec<_> = shares.iter().map(|(nonce, _)| *nonce).collect();
    nonces.sort_unstable();
    assert!(nonces.into_iter().eq(found.as_slice().iter().map(|candidate| candidate.nonce)));
}

/// Whether tests that take minutes or gigabytes were asked for; says so where not.
fn long_tests(name: &str) -> bool {
    let asked = std::env::var_os("OTEDAMA_LONG_TESTS").is_some_and(|value| value == "1");
    if !asked {
        let _ = writeln!(std::io::stderr(), "SKIPPED: {name}: set OTEDAMA_LONG_TESTS=1");
    }
    asked
}
