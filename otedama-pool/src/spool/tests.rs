//! The spool as a whole, with disks that fail on demand.

use std::fs;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::thread;

use otedama_core::Algorithm;
use proptest::prelude::*;
use tempfile::TempDir;

use super::record::tests::any_record;
use super::*;
use crate::effort::Effort;
use crate::money::Amount;

fn share(number: u64) -> ShareRecord {
    ShareRecord {
        time_ms: 1_700_000_000_000 + number,
        algorithm: Algorithm::Sha256d,
        height: number,
        credited: Effort(u128::from(number) + 1),
        network: Effort(1 << 70),
        subsidy: Amount::new(312_500_000),
        block_value: Amount::new(314_000_000),
        block: None,
        coin: "btc".into(),
        miner: format!("bc1q{number}"),
        worker: "rig".into(),
    }
}

/// Small segments, no waiting for company.
fn config() -> SpoolConfig {
    SpoolConfig {
        segment_bytes: 4096,
        commit_delay: Duration::ZERO,
        first_sequence: Some(1000),
        ..SpoolConfig::new("node-1")
    }
}

fn all(spool: &Spool, from: u64) -> Vec<Stored> {
    spool.reader(from).unwrap().read(usize::MAX).unwrap()
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn what_was_appended_is_read_back_after_reopening_and_numbers_go_on() {
    let dir = dir();
    for round in 0..3 {
        let spool = Spool::open(dir.path(), config()).unwrap();
        assert_eq!(*spool.opened(), Opened { is_new: round == 0, ..Opened::default() });
        for number in 0..100 {
            assert_eq!(spool.append(&share(number)).unwrap(), 1000 + round * 100 + number);
        }
        let stored = all(&spool, 1000);
        assert_eq!(stored.len() as u64, (round + 1) * 100);
        for (index, stored) in (0..).zip(&stored) {
            assert_eq!((stored.sequence, &stored.share), (1000 + index, &share(index % 100)));
        }
        assert!(spool.durable.lock().firsts.len() >= 3, "segments of 4 KiB");
    }
    assert_eq!(read_closed(dir.path(), "node-1").unwrap().read(usize::MAX).unwrap().len(), 300);
    assert!(matches!(Spool::open(dir.path(), SpoolConfig::new("other")), Err(SpoolError::OtherNode { .. })));
}

#[test]
fn a_second_writer_is_refused() {
    let dir = dir();
    let spool = Spool::open(dir.path(), config()).unwrap();
    assert!(matches!(Spool::open(dir.path(), config()), Err(SpoolError::InUse { .. })));
    assert!(matches!(read_closed(dir.path(), "node-1"), Err(SpoolError::InUse { .. })));
    drop(spool);
    Spool::open(dir.path(), config()).unwrap();
}

#[test]
fn a_new_spool_begins_above_one_that_was_lost() {
    let (a, b) = (dir(), dir());
    let lost = Spool::open(a.path(), SpoolConfig::new("n")).unwrap();
    lost.append(&share(0)).unwrap();
    let next = Spool::open(b.path(), SpoolConfig::new("n")).unwrap();
    assert!(next.next_sequence() > lost.next_sequence());
    assert_eq!(next.reader(next.next_sequence()).unwrap().origin(), next.next_sequence());
}

#[test]
fn shares_that_come_together_share_an_fdatasync() {
    let dir = dir();
    // The last of them wait that long where the writer took more than 64 at a time.
    let config =
        SpoolConfig { commit_delay: Duration::from_secs(5), commit_records: 64, ..SpoolConfig::new("n") };
    let spool = Spool::open(dir.path(), config).unwrap();
    let before = spool.faults.syncs.load(SeqCst);
    let (done, answers) = mpsc::channel();
    for number in 0..256 {
        let done = done.clone();
        spool.submit(&share(number), move |outcome| done.send(outcome.unwrap()).unwrap()).unwrap();
    }
    let sequences: Vec<u64> = answers.iter().take(256).collect();
    assert!(sequences.is_sorted());
    assert!(spool.faults.syncs.load(SeqCst) - before <= 4);
}

#[test]
fn a_few_shares_do_not_wait_for_company_for_long() {
    let dir = dir();
    let config = SpoolConfig { commit_delay: Duration::from_millis(20), ..SpoolConfig::new("n") };
    let spool = Spool::open(dir.path(), config).unwrap();
    let start = std::time::Instant::now();
    spool.append(&share(0)).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[tokio::test]
async fn the_future_is_ready_when_the_share_is_durable() {
    let dir = dir();
    let spool = Spool::open(dir.path(), config()).unwrap();
    let sequence = spool.append_async(&share(0)).await.unwrap();
    assert_eq!(sequence, 1000);
    assert_eq!(spool.next_sequence(), 1001);
    let bad = ShareRecord { miner: String::new(), ..share(0) };
    assert!(matches!(spool.append_async(&bad).await, Err(SpoolError::Record(_))));
}

#[test]
fn a_failed_fsync_stops_the_spool_for_good_and_is_never_retried() {
    let dir = dir();
    let spool = Spool::open(dir.path(), config()).unwrap();
    spool.append(&share(0)).unwrap();
    spool.faults.fail_sync.store(true, SeqCst);
    let error = spool.append(&share(1)).unwrap_err();
    assert!(matches!(error, SpoolError::Stopped { .. }) && !error.is_retryable(), "{error}");
    let syncs = spool.faults.syncs.load(SeqCst);
    for _ in 0..3 {
        assert!(matches!(spool.append(&share(2)), Err(SpoolError::Stopped { .. })));
    }
    assert_eq!(all(&spool, 1000).len(), 1, "readers see only what was durable");
    let faults = Arc::clone(&spool.faults);
    drop(spool);
    assert_eq!(faults.syncs.load(SeqCst), syncs, "no further fsync, not even at the close");
    // What the unacknowledged share became is known after reopening; either is right.
    assert!((1001..=1002).contains(&Spool::open(dir.path(), config()).unwrap().next_sequence()));
}

#[test]
fn a_full_disk_refuses_shares_and_takes_them_again_when_there_is_room() {
    for room in 0..200 {
        let dir = dir();
        let spool = Spool::open(dir.path(), config()).unwrap();
        spool.append(&share(0)).unwrap();
        // The next frame's first `room` bytes fit.
        spool.faults.room.store(room + 1, SeqCst);
        match spool.append(&share(1)) {
            Ok(_) => break, // everything fits from here on
            Err(error) => {
                assert!(matches!(error, SpoolError::DiskFull { .. }) && error.is_retryable(), "{error}")
            }
        }
        spool.faults.room.store(0, SeqCst);
        assert_eq!(spool.append(&share(2)).unwrap(), 1001, "no number was used up");
        drop(spool);
        let spool = Spool::open(dir.path(), config()).unwrap();
        assert_eq!(spool.opened().torn_bytes, 0);
        let shares: Vec<ShareRecord> = all(&spool, 1000).into_iter().map(|stored| stored.share).collect();
        assert_eq!(shares, [share(0), share(2)]);
        assert!(room < 199, "the loop ends because the frame fits");
    }
}

#[test]
fn a_panicking_callback_harms_nobody_else() {
    let dir = dir();
    let spool =
        Spool::open(dir.path(), SpoolConfig { commit_delay: Duration::from_millis(20), ..config() }).unwrap();
    spool.submit(&share(0), |_| panic!("a callback's fault, part of the test")).unwrap();
    // In the same frame, and in a later one.
    assert_eq!(spool.append(&share(1)).unwrap(), 1001);
    assert_eq!(spool.append(&share(2)).unwrap(), 1002);
}

#[test]
fn a_full_queue_refuses_the_quick_and_holds_the_patient() {
    let dir = dir();
    let config = SpoolConfig { commit_records: 1, queue_records: 1, ..config() };
    let spool = Spool::open(dir.path(), config).unwrap();
    let (gate, gated) = mpsc::channel::<()>();
    spool.submit(&share(0), move |_| gated.recv().unwrap()).unwrap();
    // The writer is held up in the callback; one more share waits, the next is refused.
    while spool.submit(&share(1), |_| {}).is_err() {}
    assert!(matches!(spool.submit(&share(2), |_| {}), Err(SpoolError::QueueFull { capacity: 1 })));
    thread::scope(|scope| {
        let patient = scope.spawn(|| spool.append(&share(3)));
        gate.send(()).unwrap();
        assert_eq!(patient.join().unwrap().unwrap(), 1002);
    });
}

#[test]
fn a_torn_end_is_cut_off_and_reported() {
    let dir = dir();
    let spool = Spool::open(dir.path(), config()).unwrap();
    spool.append(&share(0)).unwrap();
    let file = files::path(dir.path(), 1000);
    let after_first = spool.durable.lock().end;
    spool.append(&share(1)).unwrap();
    drop(spool);
    // As a crash in the middle of the second commit leaves it.
    fs::File::options().write(true).open(&file).unwrap().set_len(after_first + 30).unwrap();
    let spool = Spool::open(dir.path(), config()).unwrap();
    assert_eq!(*spool.opened(), Opened { torn_bytes: 30, torn_file: Some(file), is_new: false });
    assert_eq!(spool.append(&share(2)).unwrap(), 1001);
    let shares: Vec<ShareRecord> = all(&spool, 1000).into_iter().map(|stored| stored.share).collect();
    assert_eq!(shares, [share(0), share(2)]);
}

#[test]
fn damage_in_any_segment_is_named_and_never_skipped() {
    let dir = dir();
    let spool = Spool::open(dir.path(), config()).unwrap();
    for number in 0..100 {
        spool.append(&share(number)).unwrap();
    }
    let firsts = spool.durable.lock().firsts.clone();
    drop(spool);
    for first in &firsts {
        let path = files::path(dir.path(), *first);
        let good = fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(97) {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(&path, bad).unwrap();
            let outcome =
                Spool::open(dir.path(), config()).and_then(|spool| spool.reader(1000)?.read(usize::MAX));
            match outcome {
                Err(SpoolError::Corrupt { file, offset, .. }) => {
                    assert_eq!(file, path);
                    assert!(offset as usize <= at);
                }
                other => panic!("byte {at} of {}: {other:?}", path.display()),
            }
        }
        fs::write(&path, good).unwrap();
    }
}

#[test]
fn a_reader_follows_the_live_end_from_anywhere() {
    let dir = dir();
    let spool = Spool::open(dir.path(), config()).unwrap();
    assert!(matches!(spool.reader(999), Err(SpoolError::Gone { wanted: 999, oldest: 1000 })));
    assert!(matches!(spool.reader(1001), Err(SpoolError::Beyond { wanted: 1001, next: 1000 })));
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..300 {
                spool.append(&share(number)).unwrap();
            }
        });
        let mut reader = spool.reader(1000).unwrap();
        let mut seen = 0;
        while seen < 300 {
            assert!(reader.wait(Duration::from_secs(30)));
            for stored in reader.read(7).unwrap() {
                assert_eq!((stored.sequence, stored.share), (1000 + seen, share(seen)));
                seen += 1;
            }
            assert_eq!(reader.position(), 1000 + seen);
        }
        assert!(!reader.wait(Duration::from_millis(1)));
    });
    for from in [1000, 1001, 1150, 1299, 1300] {
        let sequences: Vec<u64> = all(&spool, from).iter().map(|stored| stored.sequence).collect();
        assert_eq!(sequences, (from..1300).collect::<Vec<u64>>());
    }
}

#[test]
fn only_consumed_segments_are_removed_and_never_the_last() {
    let dir = dir();
    let spool = Spool::open(dir.path(), config()).unwrap();
    for number in 0..100 {
        spool.append(&share(number)).unwrap();
    }
    let firsts = spool.durable.lock().firsts.clone();
    assert_eq!(spool.release(firsts[1] - 1).unwrap(), 0);
    assert_eq!(spool.release(firsts[1]).unwrap(), 1);
    assert_eq!(spool.oldest_sequence(), firsts[1]);
    assert!(matches!(spool.reader(1000), Err(SpoolError::Gone { .. })));
    assert_eq!(all(&spool, firsts[1]).len() as u64, 1100 - firsts[1]);
    spool.release(u64::MAX).unwrap();
    drop(spool);
    // Even with everything consumed the numbering goes on.
    assert_eq!(Spool::open(dir.path(), config()).unwrap().append(&share(0)).unwrap(), 1100);
}

#[test]
fn the_weaker_mode_answers_first_and_syncs_within_its_window() {
    let dir = dir();
    let window = Duration::from_millis(300);
    let config = SpoolConfig { durability: Durability::LosesAtMost(window), ..config() };
    let spool = Spool::open(dir.path(), config).unwrap();
    let syncs = spool.faults.syncs.load(SeqCst);
    for number in 0..10 {
        spool.append(&share(number)).unwrap();
    }
    assert_eq!(spool.faults.syncs.load(SeqCst), syncs, "ten answers within the window, no fdatasync");
    let mut reader = spool.reader(1000).unwrap();
    assert!(reader.wait(Duration::from_secs(30)), "the window's end makes them durable");
    assert_eq!(reader.read(usize::MAX).unwrap().len(), 10);
}

#[test]
fn settings_that_cannot_work_are_named() {
    let dir = dir();
    let error = |config: SpoolConfig| Spool::open(dir.path(), config).err().unwrap().to_string();
    assert!(error(SpoolConfig::new("No Way")).contains("node"));
    assert!(error(SpoolConfig { segment_bytes: 1, ..config() }).contains("segment_bytes"));
    assert!(error(SpoolConfig { commit_records: 0, ..config() }).contains("commit_records"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any records, in any groups, closed and torn at any place past what is durable, are what is read.
    #[test]
    fn acknowledged_records_survive_any_torn_end(
        groups in proptest::collection::vec(proptest::collection::vec(any_record(), 1..6), 1..6),
        junk in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let dir = dir();
        let mut expected = Vec::new();
        for group in groups {
            let spool = Spool::open(dir.path(), config()).unwrap();
            thread::scope(|scope| {
                for record in &group {
                    scope.spawn(|| spool.append(record).unwrap());
                }
            });
            let (last, end) = {
                let state = spool.durable.lock();
                (*state.firsts.last().unwrap(), state.end)
            };
            let stored = all(&spool, 1000);
            prop_assert_eq!(stored.len(), expected.len() + group.len());
            prop_assert_eq!(&stored[..expected.len()], &expected[..]);
            for record in &group {
                prop_assert!(stored[expected.len()..].iter().any(|stored| stored.share == *record));
            }
            expected = stored;
            drop(spool);
            // The power goes while a further frame is being written.
            let path = files::path(dir.path(), last);
            let mut bytes = fs::read(&path).unwrap();
            bytes.truncate(end as usize);
            bytes.extend(&junk);
            fs::write(&path, bytes).unwrap();
        }
        let spool = Spool::open(dir.path(), config()).unwrap();
        prop_assert_eq!(spool.opened().torn_bytes, junk.len() as u64);
        prop_assert_eq!(all(&spool, 1000), expected);
    }
}
