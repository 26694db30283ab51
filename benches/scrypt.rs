//! Scrypt (1024, 1, 1): every kernel on one batch of its lanes, beside the scrypt crate.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use otedama_benches::{attempts, checked_hasher, headers, runnable};
use otedama_core::algo::scrypt::{ScryptParams, scrypt};
use otedama_core::scan::Setup;
use otedama_core::{Algorithm, Digest};

fn hash_many(c: &mut Criterion) {
    let setup = Setup::detect();
    let mut group = c.benchmark_group("scrypt/hash_many");

    for kernel in runnable(Algorithm::Scrypt, &setup) {
        let lanes = kernel.hasher(&setup).unwrap_or_else(|error| panic!("{error}")).lanes();
        let headers = headers(lanes);
        let mut hasher = checked_hasher(kernel, &setup, &headers, oracle);
        let (attempts, mut digests) = (attempts(&headers), vec![Digest::plain([0; 32]); lanes]);
        group.throughput(Throughput::Elements(lanes as u64));
        group.bench_function(kernel.name(), |b| {
            b.iter(|| hasher.hash_many(black_box(&attempts), None, &mut digests));
        });
    }

    let header = headers(1)[0];
    assert_eq!(rival(&header), oracle(&header), "the scrypt crate is wrong");
    group.throughput(Throughput::Elements(1));
    group.bench_function("rival-scrypt", |b| b.iter(|| rival(black_box(&header))));
    group.finish();
}

fn oracle(header: &[u8; 80]) -> [u8; 32] {
    let mut digest = [0; 32];
    scrypt(header, header, &ScryptParams::MINING, &mut digest).expect("128 KiB can be had");
    digest
}

fn rival(header: &[u8; 80]) -> [u8; 32] {
    let params = scrypt::Params::new(10, 1, 1).expect("the parameters of mining");
    let mut digest = [0; 32];
    scrypt::scrypt(header, header, &params, &mut digest).expect("32 bytes are a fine length");
    digest
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(10);
    targets = hash_many
}
criterion_main!(benches);
