//! Published hashes on compiled machines, from a cache and from a whole dataset.

use otedama_core::algo::randomx::config::Params;
use otedama_core::algo::randomx::superscalar;
use otedama_core::cpu::{AesNi, Cpu};
use otedama_core::jit::{DatasetSource, ItemCode, Machines};
use otedama_core::mem::{Region, Request};

/// A hash that was published for a key.
pub(super) struct Published {
    pub(super) params: &'static Params,
    pub(super) input: Vec<u8>,
    pub(super) hash: [u8; 32],
}

/// Compares the hashes of one key with those of machines that compute dataset items from its cache.
pub(super) fn check_light(cache: &[u8], programs: &[superscalar::Program], published: &[Published]) {
    let (Some(first), Some(aes)) = (published.first(), aes()) else { return };
    let items = ItemCode::compile(first.params, programs).unwrap();
    check(DatasetSource::Light { cache, items: &items }, aes, published);
}

/// Builds the dataset of one key and compares its hashes with those of machines that have it in memory.
/// Takes 2 GiB and tens of seconds.
pub(super) fn check_full(cache: &[u8], programs: &[superscalar::Program], published: &[Published]) {
    let (Some(first), Some(aes)) = (published.first(), aes()) else { return };
    let items = ItemCode::compile(first.params, programs).unwrap();
    let mut dataset = Region::new(first.params.dataset_bytes(), &Request::default()).unwrap();
    let (lines, _) = dataset.as_chunks_mut();
    let (left, right) = lines.split_at_mut(lines.len() / 2);
    let start_of_right = left.len() as u64;
    std::thread::scope(|scope| {
        scope.spawn(|| items.fill(cache, 0, left));
        scope.spawn(|| items.fill(cache, start_of_right, right));
    });
    check(DatasetSource::Full(&dataset), aes, published);
}

fn check(source: DatasetSource<'_>, aes: AesNi, published: &[Published]) {
    for k in [1, 2, 4] {
        for of_params in published.chunk_by(|a, b| a.params.name == b.params.name) {
            let params = of_params[0].params;
            let inputs: Vec<&[u8]> = of_params.iter().map(|published| &published.input[..]).collect();
            let expected: Vec<_> = of_params.iter().map(|published| published.hash).collect();
            let mut hashes = vec![[0; 32]; inputs.len()];
            let mut machines = Machines::new(params, k, &Request::default(), aes).unwrap();
            machines.hash(source, &inputs, &mut hashes);
            assert_eq!(hashes, expected, "{} on {k} machines", params.name);
        }
    }
}

fn aes() -> Option<AesNi> {
    let token = Cpu::detect().aes_ni();
    if token.is_none() {
        println!("SKIPPED: no AES-NI here");
    }
    token
}
