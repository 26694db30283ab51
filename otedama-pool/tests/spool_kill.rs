//! A process that appends is killed at random moments, a hundred times over one spool: nothing that it was told
//! to be durable is missing, and nothing is there that it did not write.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use otedama_core::Algorithm;
use otedama_pool::effort::Effort;
use otedama_pool::money::Amount;
use otedama_pool::spool::{ShareRecord, Spool, SpoolConfig};

const CHILD: &str = "OTEDAMA_TEST_SPOOL_DIR";
const ROUNDS: u64 = 120;

/// A share of which everything follows from one number, so that a false one shows.
fn share(number: u64) -> ShareRecord {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ShareRecord {
        time_ms: number,
        algorithm: Algorithm::ALL[(mixed % 7) as usize],
        height: mixed >> 1,
        credited: Effort(u128::from(mixed) + 1),
        network: Effort(u128::from(number) + 1),
        subsidy: Amount::new((mixed >> 2) as i64),
        block_value: Amount::new((mixed >> 3) as i64),
        block: None,
        coin: "btc".into(),
        miner: format!("{mixed:x}"),
        worker: "w".repeat((mixed % 40) as usize),
    }
}

fn config() -> SpoolConfig {
    SpoolConfig {
        segment_bytes: 64 << 10,
        commit_delay: Duration::from_micros(200),
        first_sequence: Some(0),
        ..SpoolConfig::new("node-1")
    }
}

/// Not a test: the process that is killed. Four threads append and print `sequence number` once they are told.
#[test]
fn child() {
    let Ok(dir) = env::var(CHILD) else { return };
    let spool = Spool::open(Path::new(&dir), config()).unwrap();
    let out = Mutex::new(std::io::stdout());
    let base = spool.next_sequence() * 1000;
    thread::scope(|scope| {
        for thread in 0..4 {
            let (spool, out) = (&spool, &out);
            scope.spawn(move || {
                for number in (base + thread..).step_by(4) {
                    let sequence = spool.append(&share(number)).unwrap();
                    let mut out = out.lock().unwrap();
                    writeln!(out, "ack {sequence} {number}").unwrap();
                    out.flush().unwrap();
                }
            });
        }
    });
}

#[test]
fn no_acknowledged_share_is_lost_and_none_is_false_however_often_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    let (mut torn, mut random) = (0, 1u64);
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acks = Vec::new();
        // The moment counts from the first answer, or every kill would hit the start.
        while acks.is_empty() {
            acks.extend(ack(&lines.next().expect("the child works").unwrap()));
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let reader = thread::spawn(move || {
            acks.extend(lines.map_while(Result::ok).filter_map(|line| ack(&line)));
            acks
        });
        thread::sleep(Duration::from_micros((random >> 33) % 15_000));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        acknowledged.extend(reader.join().unwrap());

        let spool = Spool::open(dir.path(), config()).unwrap();
        torn += u64::from(spool.opened().torn_bytes > 0);
        if round % 10 == 9 || round < 3 {
            let stored = spool.reader(0).unwrap().read(usize::MAX).unwrap();
            for (index, stored) in (0..).zip(&stored) {
                assert_eq!(stored.sequence, index);
                assert_eq!(stored.share, share(stored.share.time_ms), "a share nobody found");
            }
            for (sequence, number) in &acknowledged {
                let stored =
                    stored.get(*sequence as usize).unwrap_or_else(|| panic!("{sequence} is missing"));
                assert_eq!(stored.share.time_ms, *number);
            }
        }
    }
    println!("{ROUNDS} kills, {} shares acknowledged, {torn} torn ends cut off", acknowledged.len());
    assert!(acknowledged.len() as u64 > ROUNDS);
}

/// A line that was cut short by the kill is none.
fn ack(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split(' ');
    // The test harness prints the test's name before the first line.
    words.find(|word| *word == "ack")?;
    let (sequence, number) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((sequence, number))
}
