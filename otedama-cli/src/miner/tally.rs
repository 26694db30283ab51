//! Counts, samples and clocks: what a [`Status`] is made of.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use otedama_core::engine::EngineStats;
use otedama_core::job::Work;
use otedama_core::target::CompactBits;
use otedama_core::{Algorithm, Difficulty, HashRate, Job, Share};
use otedama_pool::session::client::Counts;

use crate::crew::{Kind, Member};
use crate::miner::sensors::Readings;
use crate::miner::status::{
    PoolStatus, Power, Rates, Shares, State, Status, Told, WorkerState, WorkerStatus,
};

/// Events that are kept to be shown.
const EVENTS: usize = 100;

/// Seconds of history that are shown.
const HISTORY: usize = 120;

/// Counts what a [`Status`] is made of.
pub(crate) struct Tally {
    algorithm: Algorithm,
    begun: Instant,
    pub(crate) shares: Shares,
    pool: PoolStatus,
    connected_at: Option<Instant>,
    job_at: Option<Instant>,
    accepted_at: Option<Instant>,
    /// Stale shares of connections that ended, and of the current one.
    stale: (u64, u64),
    workers: Vec<WorkerTally>,
    samples: Samples,
    stats: EngineStats,
    readings: Readings,
    events: VecDeque<Told>,
}

struct WorkerTally {
    member: Member,
    state: WorkerState,
    reason: Option<String>,
    shares: u64,
}

impl Tally {
    pub(crate) fn new(algorithm: Algorithm, members: Vec<Member>) -> Tally {
        let workers = members.into_iter().map(|member| WorkerTally {
            member,
            state: WorkerState::default(),
            reason: None,
            shares: 0,
        });
        Tally {
            algorithm,
            begun: Instant::now(),
            shares: Shares { blocks: tells_blocks(algorithm).then_some(0), ..Shares::default() },
            pool: PoolStatus::default(),
            connected_at: None,
            job_at: None,
            accepted_at: None,
            stale: (0, 0),
            workers: workers.collect(),
            samples: Samples::default(),
            stats: EngineStats::default(),
            readings: Readings::default(),
            events: VecDeque::new(),
        }
    }

    /// When the miner began.
    pub(crate) fn begun(&self) -> Instant {
        self.begun
    }

    pub(crate) fn connected(&mut self, url: String) {
        let elsewhere = self.pool.url.as_ref().is_some_and(|before| *before != url);
        self.pool.failovers += u64::from(elsewhere);
        self.pool.url = Some(url);
        self.connected_at = Some(Instant::now());
    }

    /// The connection is gone, whether it broke or was left for a better pool.
    pub(crate) fn disconnected(&mut self, broke: bool) {
        self.pool.lost += u64::from(broke);
        self.pool.difficulty = None;
        self.pool.answer_s = None;
        (self.connected_at, self.job_at) = (None, None);
        self.stale = (self.stale.0 + self.stale.1, 0);
    }

    /// Whether that is news: some pools say it with every job.
    pub(crate) fn difficulty(&mut self, difficulty: Difficulty) -> bool {
        let now = Some(difficulty.get());
        std::mem::replace(&mut self.pool.difficulty, now) != now
    }

    pub(crate) fn job(&mut self) {
        self.job_at = Some(Instant::now());
    }

    pub(crate) fn accepted(&mut self) {
        self.shares.accepted += 1;
        self.accepted_at = Some(Instant::now());
    }

    pub(crate) fn rejected(&mut self, reason: &'static str) {
        *self.shares.rejected.entry(reason).or_default() += 1;
    }

    /// A worker found a share; `true` if it solves a block.
    pub(crate) fn found(&mut self, worker: usize, job: &Job, share: &Share) -> bool {
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.shares += 1;
        }
        let block = solves_block(job, share);
        if let Some(blocks) = self.shares.blocks.as_mut().filter(|_| block) {
            *blocks += 1;
        }
        block
    }

    pub(crate) fn worker_is(&mut self, worker: usize, state: WorkerState, reason: Option<String>) {
        if let Some(worker) = self.workers.get_mut(worker) {
            (worker.state, worker.reason) = (state, reason);
        }
    }

    /// The CPU's threads go on with this kernel.
    pub(crate) fn kernel_is(&mut self, kernel: &'static str) {
        for worker in self.workers.iter_mut().filter(|worker| worker.member.kind == Kind::Cpu) {
            worker.member.kernel = Some(kernel);
        }
    }

    /// Something happened that people may want to read of.
    pub(crate) fn told(&mut self, text: &str) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Told { at_s: self.begun.elapsed().as_secs_f64(), text: text.to_owned() });
    }

    /// What is counted elsewhere; to be called once a second.
    pub(crate) fn sample(&mut self, stats: EngineStats, counts: Option<Counts>, readings: Readings) {
        self.samples.push(Instant::now(), &stats.hashes);
        for (worker, (now, before)) in
            self.workers.iter_mut().zip(stats.hashes.iter().zip(&self.stats.hashes))
        {
            // Nobody says when one comes back from its device.
            if worker.state == WorkerState::Hanging && now > before {
                (worker.state, worker.reason) = (WorkerState::Working, None);
            }
        }
        if let Some(counts) = counts {
            self.stale.1 = counts.stale;
            self.pool.answer_s = counts.answer_time.map(|time| time.as_secs_f64());
        }
        (self.stats, self.readings) = (stats, readings);
    }

    /// All of it as it stands. `state` is what the connection does not tell: [`State::Mining`] if there is nothing
    /// to tell.
    pub(crate) fn status(&self, state: State) -> Status {
        let now = Instant::now();
        let since = |then: Option<Instant>| then.map(|then| now.duration_since(then).as_secs_f64());
        let rates = self.samples.rates(None);
        let workers: Vec<_> =
            self.workers.iter().enumerate().map(|(index, worker)| self.worker(index, worker)).collect();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            algorithm: self.algorithm.name(),
            state: match state {
                State::Paused => State::Paused,
                _ if self.connected_at.is_none() => State::Connecting,
                State::Mining if self.job_at.is_none() => State::Waiting,
                state => state,
            },
            building: Vec::new(),
            uptime_s: now.duration_since(self.begun).as_secs_f64(),
            pool: PoolStatus {
                connected: self.connected_at.is_some(),
                connected_s: since(self.connected_at),
                last_job_s: since(self.job_at),
                ..self.pool.clone()
            },
            hashes: self.stats.total_hashes(),
            rates,
            shares: Shares {
                stale: self.stats.stale + self.stale.0 + self.stale.1,
                wrong: self.stats.refused,
                last_accepted_s: since(self.accepted_at),
                ..self.shares.clone()
            },
            power: power(&workers, rates.hps_10s, self.readings.cpu_watts),
            workers,
            history_hps: self.samples.history(HISTORY),
            events: self.events.iter().cloned().collect(),
        }
    }

    fn worker(&self, index: usize, worker: &WorkerTally) -> WorkerStatus {
        let rates = self.samples.rates(Some(index));
        let reading = self.readings.workers.get(index).copied().unwrap_or_default();
        WorkerStatus {
            worker: index,
            member: worker.member.clone(),
            state: worker.state,
            reason: worker.reason.clone(),
            hashes: self.stats.hashes.get(index).copied().unwrap_or(0),
            rates,
            shares: worker.shares,
            reading,
            hps_per_watt: per_watt(rates.hps_10s, reading.watts),
        }
    }
}

/// The sum of what is known; nothing of a kind of which one is not.
fn power(workers: &[WorkerStatus], hps: Option<f64>, cpu_watts: Option<f64>) -> Power {
    let cpu = workers.iter().any(|worker| worker.member.kind == Kind::Cpu);
    let gpus = || workers.iter().filter(|worker| worker.member.kind == Kind::Gpu);
    let gpu_watts = gpus().next().and_then(|_| gpus().map(|gpu| gpu.reading.watts).sum::<Option<f64>>());
    let cpu_watts = cpu_watts.filter(|_| cpu);
    let all = (!cpu || cpu_watts.is_some()) && (gpus().next().is_none() || gpu_watts.is_some());
    let watts = cpu_watts.unwrap_or(0.0) + gpu_watts.unwrap_or(0.0);
    Power { cpu_watts, gpu_watts, hps_per_watt: per_watt(hps, all.then_some(watts)) }
}

fn per_watt(hps: Option<f64>, watts: Option<f64>) -> Option<f64> {
    let (hps, watts) = (hps?, watts?);
    (watts > 0.0).then(|| hps / watts)
}

/// Whether an algorithm's jobs tell what a block takes.
fn tells_blocks(algorithm: Algorithm) -> bool {
    matches!(algorithm, Algorithm::Sha256d | Algorithm::Scrypt)
}

/// Whether a share is a block: a header of Bitcoin's kind holds the network's target in its bytes 72 to 75.
fn solves_block(job: &Job, share: &Share) -> bool {
    let Work::Blob { bytes, .. } = job.work() else { return false };
    let bits = bytes.get(72..76).filter(|_| tells_blocks(job.algorithm()));
    let bits = bits.and_then(|bits| Some(CompactBits(u32::from_le_bytes(bits.try_into().ok()?))));
    let target = bits.and_then(|bits| bits.to_target().ok());
    target.is_some_and(|target| share.digest().meets(job.algorithm(), &target))
}

/// Hashes done by each worker, second by second, for a quarter of an hour.
#[derive(Default)]
struct Samples {
    samples: VecDeque<Sample>,
}

struct Sample {
    at: Instant,
    total: u64,
    each: Box<[u64]>,
}

/// A sample a second for fifteen minutes, and the one they are counted from.
const SAMPLES: usize = 901;

impl Samples {
    fn push(&mut self, at: Instant, each: &[u64]) {
        self.samples.push_back(Sample { at, total: each.iter().sum(), each: each.into() });
        if self.samples.len() > SAMPLES {
            self.samples.pop_front();
        }
    }

    /// The rates of one worker, or of all.
    fn rates(&self, worker: Option<usize>) -> Rates {
        let over = |seconds| self.over(worker, Duration::from_secs(seconds)).map(HashRate::hps);
        Rates { hps_10s: over(10), hps_60s: over(60), hps_15min: over(900) }
    }

    /// The rate over this long, or since the first sample.
    fn over(&self, worker: Option<usize>, span: Duration) -> Option<HashRate> {
        let last = self.samples.back()?;
        // Samples are in the order of time.
        let first = self.samples.partition_point(|sample| last.at - sample.at > span);
        rate(&self.samples[first], last, worker)
    }

    /// The rate of all in each of the last seconds.
    fn history(&self, seconds: usize) -> Vec<f64> {
        let skipped = self.samples.len().saturating_sub(seconds + 1);
        let pairs = self.samples.iter().skip(skipped).zip(self.samples.iter().skip(skipped + 1));
        pairs.filter_map(|(before, after)| rate(before, after, None)).map(HashRate::hps).collect()
    }
}

fn rate(before: &Sample, after: &Sample, worker: Option<usize>) -> Option<HashRate> {
    let hashes = |sample: &Sample| match worker {
        Some(worker) => sample.each.get(worker).copied().unwrap_or(0),
        None => sample.total,
    };
    let seconds = (after.at - before.at).as_secs_f64();
    (seconds > 0.0).then(|| HashRate::new(hashes(after).saturating_sub(hashes(before)), seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::miner::sensors::Reading;

    #[test]
    fn rates_look_back_as_far_as_asked_and_no_further_than_there_are_samples() {
        let begun = Instant::now();
        let mut samples = Samples::default();
        assert!(samples.over(None, Duration::from_secs(10)).is_none());
        assert!(samples.history(5).is_empty());
        for second in 0..2000u64 {
            // A thousand a second, and ten times that in the last ten seconds; a fifth of it by the second worker.
            let fifths = 200 * second.min(1989) + 2000 * second.saturating_sub(1989);
            samples.push(begun + Duration::from_secs(second), &[4 * fifths, fifths]);
        }
        assert_eq!(samples.samples.len(), SAMPLES);
        let over = |worker, seconds| samples.over(worker, Duration::from_secs(seconds)).unwrap().hps();
        assert_eq!(over(None, 10), 10_000.0);
        assert_eq!(over(None, 100), 1900.0);
        assert_eq!(over(None, 100_000), 1100.0);
        assert_eq!((over(Some(0), 10), over(Some(1), 10)), (8000.0, 2000.0));
        let history = samples.history(12);
        assert_eq!(history, [&[1000.0; 2][..], &[10_000.0; 10]].concat());
    }

    fn member(kind: Kind) -> Member {
        Member { name: "one".to_owned(), kind, device: None, kernel: None }
    }

    fn stats(hashes: &[u64]) -> EngineStats {
        EngineStats { hashes: hashes.to_vec(), stale: 2, refused: 3, ..EngineStats::default() }
    }

    #[test]
    fn power_is_told_only_where_all_of_it_is_known() {
        let watts = |watts| Reading { watts, ..Reading::default() };
        let told = |kinds: &[Kind], workers: Vec<Reading>, cpu_watts| {
            let members = kinds.iter().map(|&kind| member(kind)).collect();
            let mut tally = Tally::new(Algorithm::Sha256d, members);
            let begun = Instant::now();
            tally.samples.push(begun, &vec![0; kinds.len()]);
            tally.samples.push(begun + Duration::from_secs(1), &vec![3000; kinds.len()]);
            tally.readings = Readings { cpu_watts, workers };
            tally.status(State::Mining)
        };
        let both = [Kind::Gpu, Kind::Cpu];
        let all = told(&both, vec![watts(Some(20.0))], Some(10.0));
        assert_eq!(all.power.hps_per_watt, Some(200.0));
        assert_eq!((all.power.cpu_watts, all.power.gpu_watts), (Some(10.0), Some(20.0)));
        assert_eq!((all.workers[0].hps_per_watt, all.workers[1].hps_per_watt), (Some(150.0), None));
        let no_cpu = told(&both, vec![watts(Some(20.0))], None);
        assert_eq!((no_cpu.power.hps_per_watt, no_cpu.workers[0].hps_per_watt), (None, Some(150.0)));
        assert_eq!(told(&both, vec![], Some(10.0)).power.hps_per_watt, None);
        let gpus = [Kind::Gpu, Kind::Gpu];
        let one_silent = told(&gpus, vec![watts(Some(20.0)), watts(None)], Some(10.0));
        assert_eq!(one_silent.power, Power::default(), "the CPU does not mine, one card does not tell");
        assert_eq!(told(&[Kind::Cpu], vec![], Some(0.0)).power.hps_per_watt, None);
    }

    #[test]
    fn a_connection_is_followed_from_pool_to_pool() {
        let mut tally = Tally::new(Algorithm::KawPow, vec![member(Kind::Cpu)]);
        assert_eq!(tally.status(State::Mining).state, State::Connecting);
        tally.disconnected(true);
        tally.connected("a".to_owned());
        assert_eq!(tally.status(State::Mining).state, State::Waiting);
        tally.job();
        tally.difficulty(Difficulty::new(8.0).unwrap());
        let counts =
            |stale| Some(Counts { stale, answer_time: Some(Duration::from_millis(20)), ..Counts::default() });
        tally.sample(stats(&[5]), counts(4), Readings::default());
        let status = tally.status(State::Mining);
        assert_eq!((status.state, status.pool.difficulty), (State::Mining, Some(8.0)));
        assert_eq!((status.pool.answer_s, status.pool.failovers, status.pool.lost), (Some(0.02), 0, 1));
        assert_eq!((status.shares.stale, status.shares.wrong, status.shares.blocks), (2 + 4, 3, None));
        assert_eq!((status.hashes, status.workers[0].hashes), (5, 5));
        assert_eq!(tally.status(State::Building).state, State::Building);
        tally.disconnected(false);
        assert_eq!(tally.status(State::Building).state, State::Connecting);
        assert_eq!(tally.status(State::Paused).state, State::Paused);
        tally.connected("b".to_owned());
        tally.sample(stats(&[5]), counts(1), Readings::default());
        let status = tally.status(State::Mining);
        assert_eq!((status.shares.stale, status.pool.failovers, status.pool.lost), (2 + 5, 1, 1));
        tally.accepted();
        tally.rejected("stale");
        let shares = tally.status(State::Mining).shares;
        assert_eq!((shares.accepted, shares.rejected(), shares.answered()), (1, 1, 2));
        assert!(shares.last_accepted_s.is_some());
    }

    #[test]
    fn a_worker_that_hung_works_once_it_hashes_again() {
        let mut tally = Tally::new(Algorithm::Sha256d, vec![member(Kind::Cpu), member(Kind::Gpu)]);
        tally.sample(stats(&[5, 7]), None, Readings::default());
        for worker in 0..2 {
            tally.worker_is(worker, WorkerState::Hanging, Some("driver".to_owned()));
        }
        tally.sample(stats(&[5, 8]), None, Readings::default());
        let workers = tally.status(State::Mining).workers;
        assert_eq!((workers[0].state, workers[0].reason.as_deref()), (WorkerState::Hanging, Some("driver")));
        assert_eq!((workers[1].state, workers[1].reason.as_deref()), (WorkerState::Working, None));
    }

    #[test]
    fn the_last_events_are_kept() {
        let mut tally = Tally::new(Algorithm::Sha256d, vec![member(Kind::Cpu)]);
        for number in 0..2 * EVENTS {
            tally.told(&number.to_string());
        }
        let events = tally.status(State::Mining).events;
        assert_eq!((events.len(), events[0].text.as_str()), (EVENTS, "100"));
    }

    #[test]
    fn a_share_below_the_headers_own_target_is_a_block() {
        // Bitcoin's genesis block at a share target far above its own, and the same header with a harder one.
        let header = concat!(
            "01000000",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "3ba3edfd7a7b12b27ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a",
            "29ab5f49",
            "ffff001d",
            "1dac2b7c"
        );
        let header = hex::decode(header).unwrap();
        let share = |header: &[u8]| {
            let target = otedama_core::Target::MAX;
            let job = Job::blob(otedama_core::JobId(1), Algorithm::Sha256d, header, None, target).unwrap();
            let setup = otedama_core::scan::Setup::detect();
            let prover = otedama_core::scan::prover(Algorithm::Sha256d, &setup).unwrap();
            let mut verifier = otedama_core::Verifier::new(prover, setup).worker().unwrap();
            let candidate = otedama_core::Candidate { nonce: 2_083_236_893, version: None };
            let claim = otedama_core::verify::Claim { job: &job, candidate, mix: None, pow: None };
            (verifier.check(&claim, None).unwrap(), job)
        };
        let (genesis, job) = share(&header);
        let mut tally = Tally::new(Algorithm::Sha256d, vec![member(Kind::Cpu)]);
        assert!(tally.found(0, &job, &genesis));
        let mut harder = header;
        harder[75] = 0x17;
        let (other, job) = share(&harder);
        assert!(!tally.found(0, &job, &other));
        let status = tally.status(State::Mining);
        assert_eq!((status.shares.blocks, status.workers[0].shares), (Some(1), 2));
    }
}
