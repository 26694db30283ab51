//! What every kernel must do, checked against hashing whole headers with the reference in
//! [`crate::primitive::sha256`] and, for messages, against the `sha2` crate.

use super::{Hit, Hits, Kernel, Portable, Search, for_each_group, padded_chunk, padded_chunks};
use crate::cpu::Isa;
use crate::primitive::sha256;
use sha2::Digest;
use std::collections::HashSet;

/// Checks a kernel, or says that it could not be checked.
pub(super) fn check_kernel_if_present<K: Kernel>(isa: Isa, kernel: Option<K>) {
    match kernel {
        Some(mut kernel) => check_kernel(&mut kernel),
        None => eprintln!("SKIPPED: {isa}: this CPU lacks {isa}"),
    }
}

/// Everything that is asked of a kernel.
pub(super) fn check_kernel(kernel: &mut dyn Kernel) {
    finds_what_whole_headers_hash_to(kernel);
    keeps_the_order_of_blocks(kernel);
    takes_back_a_block_that_does_not_fit(kernel);
    hashes_messages_of_every_length(kernel);
    hashes_headers_in_batches_of_every_size(kernel);
}

fn finds_what_whole_headers_hash_to(kernel: &mut dyn Kernel) {
    let mut random = Random(1);
    let n = kernel.lanes() as u32;
    for count in [0, 1, n - 1, n, n + 1, 31, 3 * n + 2] {
        for version_count in [1, 2, 5] {
            let header = random.header();
            let versions: Vec<u32> = (0..version_count).map(|_| random.next() as u32).collect();
            for first in [0, random.next() as u32 >> 1, u32::MAX - count.max(1) + 1, u32::MAX - count - 5] {
                for top in [0, u32::MAX >> 3, random.next() as u32, u32::MAX] {
                    let mut hits = Hits::with_capacity(1000);
                    let search = Search::new(&header, &versions, top);
                    assert_eq!(kernel.search(&search, first, count, &mut hits), count);
                    let mut found = hits.as_slice().to_vec();
                    found.sort_unstable();
                    assert_eq!(
                        found,
                        expected(&header, &versions, top, first, count),
                        "{}: {count} nonces from {first}, {version_count} versions, top {top:#x}",
                        kernel.name(),
                    );
                }
            }
        }
    }
}

fn keeps_the_order_of_blocks(kernel: &mut dyn Kernel) {
    let mut random = Random(2);
    let (header, n) = (random.header(), kernel.lanes() as u32);
    let mut hits = Hits::with_capacity(1000);
    let search = Search::new(&header, &[1, 2, 3], u32::MAX);
    assert_eq!(kernel.search(&search, 100, 3 * n, &mut hits), 3 * n);
    let order: Vec<(u32, u32, u32)> =
        hits.as_slice().iter().map(|hit| ((hit.nonce - 100) / n, hit.version, hit.nonce)).collect();
    assert_eq!(order.len() as u32, 9 * n);
    assert!(order.is_sorted(), "{}: {order:?}", kernel.name());
}

fn takes_back_a_block_that_does_not_fit(kernel: &mut dyn Kernel) {
    let mut random = Random(3);
    let (header, n) = (random.header(), kernel.lanes() as u32);
    let search = Search::new(&header, &[7, 8], u32::MAX);
    let block = 2 * n as usize;
    for capacity in [0, 1, block - 1, block, block + 1, 2 * block - 1, 2 * block] {
        let mut hits = Hits::with_capacity(capacity);
        let blocks = capacity / block;
        assert_eq!(kernel.search(&search, 50, 5 * n, &mut hits), blocks as u32 * n);
        assert_eq!(hits.as_slice().len(), blocks * block);
        assert_eq!(hits.capacity(), capacity);
    }

    // Emptied and resumed, a search through a short list finds what a long one does at once.
    let (mut all, mut short) = (Hits::with_capacity(100 * block), Hits::with_capacity(block + 3));
    assert_eq!(kernel.search(&search, 50, 9 * n + 1, &mut all), 9 * n + 1);
    let (mut found, mut done) = (Vec::new(), 0);
    while done < 9 * n + 1 {
        done += kernel.search(&search, 50 + done, 9 * n + 1 - done, &mut short);
        found.extend_from_slice(short.as_slice());
        short.clear();
    }
    assert_eq!(found, all.as_slice());
}

fn hashes_messages_of_every_length(kernel: &mut dyn Kernel) {
    let mut random = Random(4);
    let messages: Vec<Vec<u8>> = (0..=300).map(|len| random.bytes(len)).collect();
    for message in &messages {
        check_batch(kernel, &[message]);
    }
    // Neighbours share a number of chunks; every seventh does too, but with others in between.
    let in_order: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    check_batch(kernel, &in_order);
    let mixed: Vec<&[u8]> = (0..in_order.len()).map(|i| in_order[i * 7 % in_order.len()]).collect();
    check_batch(kernel, &mixed);
}

fn hashes_headers_in_batches_of_every_size(kernel: &mut dyn Kernel) {
    let mut random = Random(5);
    let headers: Vec<[u8; 80]> = (0..130).map(|_| random.header()).collect();
    for size in (0..=40).chain([63, 64, 65, 127, 128, 129, 130]) {
        let batch: Vec<&[u8]> = headers[..size].iter().map(<[u8; 80]>::as_slice).collect();
        check_batch(kernel, &batch);
    }
}

fn check_batch(kernel: &mut dyn Kernel, messages: &[&[u8]]) {
    let mut digests = vec![[0; 32]; messages.len()];
    kernel.hash_many(messages, &mut digests);
    for (message, digest) in messages.iter().zip(digests) {
        let reference: [u8; 32] = sha2::Sha256::digest(sha2::Sha256::digest(message)).into();
        assert_eq!(digest, reference, "{}: {} bytes", kernel.name(), message.len());
    }
}

/// The hits of a search, by version and nonce, found by hashing every header in full.
fn expected(header: &[u8; 80], versions: &[u32], top: u32, first: u32, count: u32) -> Vec<Hit> {
    let mut hits = Vec::new();
    for (version, bytes) in (0..).zip(versions) {
        for nonce in (0..count).map(|i| first + i) {
            let mut header = *header;
            header[..4].copy_from_slice(&bytes.to_le_bytes());
            header[76..].copy_from_slice(&nonce.to_le_bytes());
            let digest = sha256::double_digest(&header);
            let top_of_digest = u32::from_le_bytes([digest[28], digest[29], digest[30], digest[31]]);
            if top_of_digest <= top {
                hits.push(Hit { version, nonce });
            }
        }
    }
    hits
}

#[test]
fn a_reloaded_search_is_a_new_search_and_stays_where_it_is() {
    let mut random = Random(6);
    let (one, other) = (random.header(), random.header());
    let mut search = Search::new(&one, &[1, 2, 3], 5);
    let place = search.midstates().as_ptr();
    search.load(&other, &[9, 8], 6);
    let fresh = Search::new(&other, &[9, 8], 6);
    assert_eq!(search.midstates(), fresh.midstates());
    assert_eq!((search.tail, search.top()), (fresh.tail, 6));
    assert_eq!(search.midstates().as_ptr(), place);
}

#[test]
#[should_panic(expected = "a search needs at least one version")]
fn a_search_without_versions_is_refused() {
    Search::new(&[0; 80], &[], 0);
}

#[test]
#[should_panic(expected = "one digest per message")]
fn a_missing_digest_is_refused() {
    Portable.hash_many(&[b"a"], &mut []);
}

#[test]
fn groups_hold_every_message_once_and_equal_numbers_of_chunks() {
    let mut random = Random(7);
    for count in [0, 1, 2, 63, 64, 65, 200] {
        let messages: Vec<Vec<u8>> = (0..count).map(|i| random.bytes(i * 37 % 150)).collect();
        let messages: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        for width in [1, 2, 8, 16] {
            let mut seen = HashSet::new();
            for_each_group(&messages, width, |group| {
                assert!((1..=width).contains(&group.len()));
                let chunks = padded_chunks(messages[group[0]].len());
                for &i in group {
                    assert!(seen.insert(i));
                    assert_eq!(padded_chunks(messages[i].len()), chunks);
                }
            });
            assert_eq!(seen.len(), count);
        }
    }
}

#[test]
fn padded_chunks_hash_to_the_digest() {
    let mut random = Random(8);
    for len in 0..200 {
        let message = random.bytes(len);
        let mut state = sha256::IV;
        for index in 0..padded_chunks(len) {
            sha256::compress(&mut state, &sha256::block_from_bytes(&padded_chunk(&message, index)));
        }
        assert_eq!(sha256::state_to_bytes(&state), sha256::digest(&message), "{len} bytes");
    }
}

/// Repeatable random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn header(&mut self) -> [u8; 80] {
        std::array::from_fn(|_| self.next() as u8)
    }
}
