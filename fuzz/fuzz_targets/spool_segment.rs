//! A share spool's segment from any bytes, and a good one damaged anywhere: nothing panics, no share comes out
//! that did not go in, and none is skipped.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use otedama_core::Algorithm;
use otedama_pool::effort::Effort;
use otedama_pool::money::Amount;
use otedama_pool::spool::{self, ShareRecord, Spool, SpoolConfig};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    any: &'a [u8],
    damage: Vec<(u16, u8)>,
    cut: u16,
}

/// A segment of several frames, and what is in it.
static GOOD: LazyLock<(Vec<u8>, Vec<ShareRecord>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = SpoolConfig { first_sequence: Some(1), ..SpoolConfig::new("node-1") };
    let spool = Spool::open(dir.path(), config).expect("a new spool");
    let records: Vec<ShareRecord> = (0..8).map(share).collect();
    for record in &records {
        spool.append(record).expect("room on the disk");
    }
    drop(spool);
    let segment = std::fs::read_dir(dir.path()).expect("the directory").flatten().map(|entry| entry.path());
    let segment = segment.into_iter().find(|path| path.extension().is_some_and(|suffix| suffix == "spool"));
    (std::fs::read(segment.expect("one segment")).expect("it can be read"), records)
});

fn share(number: u64) -> ShareRecord {
    ShareRecord {
        time_ms: number,
        algorithm: Algorithm::Scrypt,
        height: number,
        credited: Effort(1 + u128::from(number)),
        network: Effort(1 << 80),
        subsidy: Amount::new(1),
        block_value: Amount::new(2),
        block: None,
        coin: "ltc".into(),
        miner: format!("miner{number}"),
        worker: String::new(),
    }
}

fuzz_target!(|input: Input| {
    let _ = spool::records_of_segment(input.any);

    let (good, records) = &*GOOD;
    let mut bytes = good.clone();
    for (at, by) in input.damage.iter().take(8) {
        let at = usize::from(*at) % bytes.len();
        bytes[at] ^= by;
    }
    bytes.truncate(bytes.len() - usize::from(input.cut) % bytes.len());
    bytes.extend(input.any);
    // Either corruption is reported, or what is read is a beginning of what was written. (Bytes that happen to be
    // a right frame would need a right checksum of the fuzzer's own making, and the right sequence.)
    if let Some(read) = spool::records_of_segment(&bytes) {
        assert!(records.starts_with(&read[..read.len().min(records.len())]), "{read:?}");
    }
});
