//! What the spool takes per second, and how long an answer takes, for 1 to 32 writers and for one that does not
//! wait: `cargo bench -p otedama-pool --bench spool`. The directory is `OTEDAMA_BENCH_DIR`, else the system's
//! temporary one; a directory in memory measures no disk.

use std::env;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use otedama_core::Algorithm;
use otedama_pool::effort::Effort;
use otedama_pool::money::Amount;
use otedama_pool::spool::{ShareRecord, Spool, SpoolConfig, SpoolError};

const TIME: Duration = Duration::from_secs(2);

fn main() {
    let parent = env::var_os("OTEDAMA_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    println!("share spool in {}, {TIME:?} each", parent.display());
    println!("{:>24} {:>8} {:>12} {:>10} {:>10}", "writers", "delay", "records/s", "p50", "p99");
    for delay_ms in [0, 2] {
        for writers in [1, 2, 4, 8, 16, 32] {
            let spool = open(&parent, delay_ms);
            let times = waiting(&spool.0, writers);
            show(&format!("{writers} waiting"), delay_ms, times);
        }
        for window in [256, 4096] {
            let spool = open(&parent, delay_ms);
            let times = streaming(&spool.0, window);
            show(&format!("1 with {window} under way"), delay_ms, times);
        }
    }
}

fn open(parent: &std::path::Path, delay_ms: u64) -> (Spool, tempfile::TempDir) {
    let dir = tempfile::tempdir_in(parent).expect("a temporary directory");
    let config = SpoolConfig { commit_delay: Duration::from_millis(delay_ms), ..SpoolConfig::new("bench") };
    (Spool::open(dir.path(), config).expect("a new spool"), dir)
}

/// Writers that wait for each answer.
fn waiting(spool: &Spool, writers: usize) -> Vec<Duration> {
    let start = Instant::now();
    let writer = || {
        let (share, mut times) = (share(), Vec::new());
        while start.elapsed() < TIME {
            let begun = Instant::now();
            spool.append(&share).expect("room on the disk");
            times.push(begun.elapsed());
        }
        times
    };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..writers).map(|_| scope.spawn(writer)).collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("a writer")).collect()
    })
}

/// One writer with so many shares under way, as an asynchronous server has them.
fn streaming(spool: &Spool, window: usize) -> Vec<Duration> {
    let (done, answers) = mpsc::channel();
    let (share, mut times, mut under_way) = (share(), Vec::new(), 0);
    let start = Instant::now();
    while start.elapsed() < TIME || under_way > 0 {
        while under_way < window && start.elapsed() < TIME {
            let (done, begun) = (done.clone(), Instant::now());
            let answer = move |outcome: Result<u64, SpoolError>| {
                outcome.expect("room on the disk");
                let _ = done.send(begun.elapsed());
            };
            spool.submit(&share, answer).expect("room in the queue");
            under_way += 1;
        }
        let answered = times.len();
        times.extend(answers.recv().ok());
        times.extend(answers.try_iter());
        under_way -= times.len() - answered;
    }
    times
}

fn show(writers: &str, delay_ms: u64, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at =
        |thousandths: usize| format!("{:.2} ms", times[times.len() * thousandths / 1000].as_secs_f64() * 1e3);
    let rate = times.len() as f64 / TIME.as_secs_f64();
    println!("{writers:>24} {:>8} {rate:>12.0} {:>10} {:>10}", format!("{delay_ms} ms"), at(500), at(990));
}

fn share() -> ShareRecord {
    ShareRecord {
        time_ms: 1_700_000_000_000,
        algorithm: Algorithm::Sha256d,
        height: 900_000,
        credited: Effort(1 << 42),
        network: Effort(1 << 79),
        subsidy: Amount::new(312_500_000),
        block_value: Amount::new(314_000_000),
        block: None,
        coin: "btc".into(),
        miner: "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4".into(),
        worker: "rig-0001".into(),
    }
}
