//! Ethash, Etchash and KawPow from epoch to share, the way callers come to them: epoch store, table of kernels,
//! scanner, hasher, verifier. Real light caches; whole datasets (1 GiB each) with OTEDAMA_LONG_TESTS=1,
//! otherwise their absence is printed.

use std::io::Write;
use std::sync::Arc;

use otedama_core::builders::{self, ItemsBy};
use otedama_core::epoch::{Depth, Epoch, EpochKey, EpochStore, Progress, StoreConfig};
use otedama_core::scan::{Kernel, Setup, kernels};
use otedama_core::topology::Topology;
use otedama_core::verify::{Claim, Reject};
use otedama_core::{Algorithm, Candidate, Hash256, Job, JobId, Target, Verifier, scan, selftest};

fn epoch(algorithm: Algorithm, depth: Depth) -> Arc<Epoch> {
    let store = EpochStore::new(StoreConfig::for_machine(&Topology::detect(), 4 << 30));
    let builder = builders::builder(algorithm, &Setup::detect().cpu, ItemsBy::default()).unwrap();
    store.get(&builder, &selftest::epoch(algorithm).unwrap(), depth, &Progress::new()).unwrap()
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

fn every_kernel_knows_the_answers(algorithm: Algorithm, depth: Depth) {
    let setup = Setup::detect();
    let epoch = epoch(algorithm, depth);
    for kernel in present(algorithm) {
        selftest::scanner_in(kernel.scanner(&setup).unwrap().as_mut(), &epoch).unwrap();
        selftest::hasher_in(algorithm, kernel.hasher(&setup).unwrap().as_mut(), &epoch).unwrap();
    }
}

#[test]
fn every_kernel_knows_blocks_of_real_chains_with_the_light_cache() {
    for algorithm in [Algorithm::Ethash, Algorithm::Etchash, Algorithm::KawPow] {
        every_kernel_knows_the_answers(algorithm, Depth::Light);
    }
}

#[test]
fn every_kernel_knows_blocks_of_real_chains_with_the_dataset() {
    if std::env::var_os("OTEDAMA_LONG_TESTS").is_none_or(|value| value != "1") {
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: every_kernel_knows_blocks_of_real_chains_with_the_dataset: set OTEDAMA_LONG_TESTS=1"
        );
        return;
    }
    for algorithm in [Algorithm::Ethash, Algorithm::KawPow] {
        every_kernel_knows_the_answers(algorithm, Depth::Full);
    }
}

#[test]
fn a_wrong_mix_is_refused_without_an_epoch_and_a_plausible_one_by_hashing() {
    let setup = Setup::detect();
    for algorithm in [Algorithm::Ethash, Algorithm::KawPow] {
        let mut worker =
            Verifier::new(scan::prover(algorithm, &setup).unwrap(), setup.clone()).worker().unwrap();
        let header_hash = Hash256::from_raw([0x3c; 32]);
        let mix = Hash256::from_raw([0x77; 32]);
        let job = |target| {
            let job = Job::sealed(JobId(1), algorithm, header_hash, 5, target).unwrap();
            job.with_epoch(EpochKey::number(algorithm, 0))
        };
        let candidate = Candidate { nonce: 9, version: None };
        let hard = job(Target::from_be_bytes([1; 32]).unwrap());
        let claim = Claim { job: &hard, candidate, mix: Some(&mix), pow: None };
        assert!(matches!(worker.check(&claim, None), Err(Reject::AboveTarget { .. })));
        // Where any hash will do, only the dataset tells.
        let easy = job(Target::MAX);
        let claim = Claim { job: &easy, candidate, mix: Some(&mix), pow: None };
        assert!(matches!(worker.check(&claim, None), Err(Reject::Hash(_))));
        let epoch = epoch_zero(algorithm);
        assert_eq!(worker.check(&claim, Some(&epoch)), Err(Reject::WrongMix));
        let share = worker.check(&Claim { mix: None, ..claim }, Some(&epoch)).unwrap();
        let right = share.digest().mix.unwrap();
        assert_eq!(worker.check(&Claim { mix: Some(&right), ..claim }, Some(&epoch)), Ok(share));
    }
}

/// The light cache of epoch 0.
fn epoch_zero(algorithm: Algorithm) -> Arc<Epoch> {
    assert_eq!(selftest::epoch(algorithm), Some(EpochKey::number(algorithm, 0)));
    epoch(algorithm, Depth::Light)
}
