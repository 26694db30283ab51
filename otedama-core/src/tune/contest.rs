//! A measurement that loses no work: kernels take turns at mining, and the fastest stays.
//!
//! Which kernel is fastest on a dataset shows only when the dataset is there and all threads work. A miner begins
//! before that, with the cache alone, and must not stop to measure. So its scanners change kernels under way:
//!
//! ```text
//!   cache alone        dataset: turns of 0.3 s on all threads at once, five rounds      for good
//!   x2 x2 x2 x2 x2 ... x2 x1 x4  x2 x1 x4  x2 x1 x4  x2 x1 x4  x2 x1 x4                  x1 x1 x1 ...
//! ```
//!
//! All threads run one kernel at a time, because what a kernel takes of a shared cache slows the others down. A
//! kernel's rate is the median of its rounds. Nonces are tried as they come, each once, whoever has the turn.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{TuningCache, entry, fingerprint, usable};
use crate::algorithm::{Algorithm, EpochKind};
use crate::epoch::{Depth, Epoch};
use crate::job::{Job, NonceRange, SearchSpace};
use crate::scan::{
    Candidates, Kernel, KernelError, ScanEnd, ScanError, Scanned, Scanner, ScannerInfo, Setup, StopFlag,
};
use crate::target::HashRate;

/// How often each kernel has its turn.
const ROUNDS: usize = 5;

/// How long a turn is, in the time of each thread.
const TURN: Duration = Duration::from_millis(300);

/// Pieces of work are made so large that they take this long at least.
const PIECE: Duration = Duration::from_millis(20);

/// Finds the fastest kernel for so many threads while they mine. Clones share everything.
#[derive(Clone)]
pub struct Contest(Arc<Shared>);

/// What a contest found.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The kernels with their rates on all threads together, the fastest first.
    pub ranking: Vec<(&'static Kernel, HashRate)>,
}

impl Contest {
    /// A contest of all kernels that work under this setup, for so many scanners. There is none where one was
    /// remembered or there is no choice: that one is the answer from the start.
    ///
    /// # Errors
    /// If no kernel of the algorithm runs here.
    pub fn new(
        algorithm: Algorithm,
        setup: &Setup,
        memory: TuningCache,
        threads: usize,
    ) -> Result<Contest, KernelError> {
        let rivals: Vec<_> = usable(algorithm, setup).collect();
        let (machine, entry) = (fingerprint(setup), entry(algorithm, threads));
        let known = memory.recall(&machine, &entry);
        let known = rivals.iter().position(|kernel| known.as_deref() == Some(kernel.name()));
        // The oracle is last, and slower than any other by construction.
        let fast = rivals.iter().filter(|kernel| !kernel.is_oracle()).count();
        let rivals = rivals[..fast.max(1).min(rivals.len())].to_vec();
        if rivals.is_empty() {
            return Err(KernelError::None(algorithm));
        }
        let alone = (rivals.len() == 1).then_some(0);
        let state = State {
            turn: 0,
            tried: 0,
            busy: Duration::ZERO,
            rates: vec![Vec::with_capacity(ROUNDS); rivals.len()],
            winner: known.filter(|&known| known < rivals.len()).or(alone),
            outcome: None,
        };
        let threads = threads.max(1) as u32;
        let state = Mutex::new(state);
        Ok(Contest(Arc::new(Shared { rivals, memory, machine, entry, threads, time: TURN, state })))
    }

    /// The kernel that works before the contest is over: the one remembered, or guessed.
    pub fn first(&self) -> &'static Kernel {
        self.0.rivals[self.0.state().winner.unwrap_or(0)]
    }

    /// A thread's scanner, to be made on that thread.
    ///
    /// # Errors
    /// If its memory cannot be had or its self-test fails.
    pub fn scanner(&self, setup: &Setup) -> Result<Box<dyn Scanner>, KernelError> {
        let state = self.0.state();
        let (at, decided) = (state.winner.unwrap_or(0), state.winner.is_some());
        drop(state);
        let scanner = self.0.rivals[at].scanner(setup)?;
        let piece = scanner.info().lanes as u64;
        let (contest, setup) = (self.clone(), setup.clone());
        Ok(Box::new(Contender { contest, setup, scanner, at, decided, piece, work: None }))
    }

    /// What was found, once, when it is.
    pub fn take_outcome(&self) -> Option<Outcome> {
        self.0.state().outcome.take()
    }
}

struct Shared {
    /// At least one.
    rivals: Vec<&'static Kernel>,
    memory: TuningCache,
    machine: String,
    entry: String,
    threads: u32,
    /// How long a turn is, in the time of each thread.
    time: Duration,
    state: Mutex<State>,
}

struct State {
    /// Turns that are over.
    turn: usize,
    /// What all threads did in the present turn.
    tried: u64,
    busy: Duration,
    /// Hashes a second and thread, for each turn of each rival.
    rates: Vec<Vec<f64>>,
    winner: Option<usize>,
    outcome: Option<Outcome>,
}

/// Whose turn it is.
enum Turn {
    /// Rival `.1`, in the turn of this number.
    Of(usize, usize),
    /// The winner's, for good.
    Won(usize),
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // The state is never left half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> Turn {
        let state = self.state();
        match state.winner {
            Some(winner) => Turn::Won(winner),
            None => Turn::Of(state.turn, state.turn % self.rivals.len()),
        }
    }

    /// A thread has done a piece of work in this turn. One that began before the present turn is nobody's.
    fn record(&self, turn: usize, tried: u64, took: Duration) {
        let mut state = self.state();
        if state.turn != turn || state.winner.is_some() {
            return;
        }
        state.tried += tried;
        state.busy += took;
        if state.busy >= self.time * self.threads {
            let rate = state.tried as f64 / state.busy.as_secs_f64();
            self.end_turn(&mut state, rate);
        }
    }

    /// Whose turn it is cannot run: it counts for nothing in this round.
    fn pass(&self, turn: usize) {
        let mut state = self.state();
        if state.turn == turn && state.winner.is_none() {
            self.end_turn(&mut state, 0.0);
        }
    }

    fn end_turn(&self, state: &mut State, rate: f64) {
        let rival = state.turn % self.rivals.len();
        state.rates[rival].push(rate);
        state.turn += 1;
        (state.tried, state.busy) = (0, Duration::ZERO);
        if state.turn < ROUNDS * self.rivals.len() {
            return;
        }
        let mut ranking: Vec<_> = state.rates.iter_mut().map(|rates| median(rates)).enumerate().collect();
        ranking.sort_by(|a, b| b.1.total_cmp(&a.1));
        let winner = ranking[0].0;
        state.winner = Some(winner);
        let rated =
            |(at, rate): (usize, f64)| (self.rivals[at], HashRate::from_hps(rate * f64::from(self.threads)));
        state.outcome = Some(Outcome { ranking: ranking.into_iter().map(rated).collect() });
        // Best effort: an unwritable cache only means another contest.
        let _ = self.memory.remember(&self.machine, &self.entry, self.rivals[winner].name());
    }
}

/// The middle one; there is one at least.
fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// One thread's part in a contest.
struct Contender {
    contest: Contest,
    setup: Setup,
    scanner: Box<dyn Scanner>,
    /// Which rival's it is.
    at: usize,
    /// Whether the contest is over and the winner's scanner here.
    decided: bool,
    /// Nonces to try between looks whose turn it is.
    piece: u64,
    work: Option<(Arc<Job>, Option<Arc<Epoch>>)>,
}

impl Contender {
    /// Whether what is loaded tells which kernel is fastest.
    fn tells(&self) -> bool {
        self.work.as_ref().is_some_and(|(job, epoch)| match epoch {
            Some(epoch) => epoch.depth() == Depth::Full,
            None => job.algorithm().spec().epoch == EpochKind::None,
        })
    }

    /// Goes on with another rival's kernel. The scratchpads of the one before are given back.
    fn take_up(&mut self, at: usize) -> Result<(), ScanError> {
        if at == self.at {
            return Ok(());
        }
        let kernel = self.contest.0.rivals[at];
        let mut scanner =
            kernel.scanner(&self.setup).map_err(|error| ScanError::Device(error.to_string()))?;
        if let Some((job, epoch)) = &self.work {
            scanner.load(job, epoch.as_ref())?;
        }
        (self.scanner, self.at) = (scanner, at);
        Ok(())
    }
}

impl Scanner for Contender {
    fn info(&self) -> &ScannerInfo {
        self.scanner.info()
    }

    fn load(&mut self, job: &Arc<Job>, epoch: Option<&Arc<Epoch>>) -> Result<(), ScanError> {
        // The old epoch goes first: whoever builds the next one may be waiting for its memory.
        self.work = None;
        self.scanner.load(job, epoch)?;
        if !self.decided {
            self.work = Some((Arc::clone(job), epoch.cloned()));
        }
        Ok(())
    }

    fn scan(
        &mut self,
        space: &SearchSpace,
        stop: &StopFlag,
        found: &mut Candidates,
    ) -> Result<Scanned, ScanError> {
        let (mut nonces, mut tried) = (0, 0);
        while !self.decided && self.tells() && nonces < space.nonces.count {
            let turn = match self.contest.0.turn() {
                Turn::Won(winner) => {
                    // Without room for the winner's memory the present kernel is good enough.
                    let _ = self.take_up(winner);
                    (self.decided, self.work) = (true, None);
                    break;
                }
                Turn::Of(turn, rival) if self.take_up(rival).is_ok() => turn,
                Turn::Of(turn, _) => {
                    self.contest.0.pass(turn);
                    continue;
                }
            };
            let start = space.nonces.start + nonces;
            let count = self.piece.min(space.nonces.count - nonces);
            let piece = SearchSpace { nonces: NonceRange { start, count }, ..*space };
            let begun = Instant::now();
            let scanned = self.scanner.scan(&piece, stop, found)?;
            let took = begun.elapsed();
            tried += scanned.tried;
            if scanned.end != ScanEnd::Done {
                return Ok(Scanned { tried, ..scanned });
            }
            nonces += count;
            self.contest.0.record(turn, scanned.tried, took);
            if took < PIECE && count == self.piece {
                self.piece = self.piece.saturating_mul(2);
            }
        }
        let (start, count) = (space.nonces.start + nonces, space.nonces.count - nonces);
        if count == 0 && tried > 0 {
            return Ok(Scanned { tried, end: ScanEnd::Done });
        }
        let rest = SearchSpace { nonces: NonceRange { start, count }, ..*space };
        let scanned = self.scanner.scan(&rest, stop, found)?;
        Ok(Scanned { tried: tried + scanned.tried, ..scanned })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobId;
    use crate::target::Target;

    fn contest(algorithm: Algorithm, memory: TuningCache, threads: usize, time: Duration) -> Contest {
        let contest = Contest::new(algorithm, &Setup::detect(), memory, threads).unwrap();
        let shared = Arc::try_unwrap(contest.0).unwrap_or_else(|_| unreachable!("nobody else has it"));
        Contest(Arc::new(Shared { time, ..shared }))
    }

    #[test]
    fn the_median_of_all_threads_wins_and_is_remembered() {
        let folder = std::env::temp_dir().join(format!("otedama-contest-{}", std::process::id()));
        let memory = TuningCache::at(folder.join("tuning.json"));
        let time = Duration::from_millis(10);
        let contest = contest(Algorithm::Sha256d, memory.clone(), 2, time);
        let rivals = contest.0.rivals.len();
        if rivals < 2 {
            println!("SKIPPED: only one kernel of sha256d runs here");
            return;
        }
        let mut turns = 0;
        while let Turn::Of(turn, rival) = contest.0.turn() {
            assert_eq!((turn, rival), (turns, turns % rivals));
            // The last is the fastest but for one round, in which somebody else used the machine; the first has one
            // round in which it flies.
            let tried = match (rival, turn / rivals) {
                (0, 2) => 1_000_000,
                (rival, 3) if rival == rivals - 1 => 1,
                (rival, _) => 1000 * (rival as u64 + 1),
            };
            // A piece of an earlier turn is nobody's; half of the threads' time is no turn yet.
            contest.0.record(turn.wrapping_sub(1), 1 << 40, time * 100);
            contest.0.record(turn, tried, time);
            assert!(matches!(contest.0.turn(), Turn::Of(same, _) if same == turn));
            contest.0.record(turn, tried, time);
            turns += 1;
        }
        assert_eq!(turns, ROUNDS * rivals);
        let outcome = contest.take_outcome().unwrap();
        assert!(contest.take_outcome().is_none());
        let (fastest, rate) = outcome.ranking[0];
        assert_eq!(fastest.name(), contest.0.rivals[rivals - 1].name());
        let expected = 2.0 * 1000.0 * rivals as f64 / time.as_secs_f64();
        assert!((rate.hps() / expected - 1.0).abs() < 1e-6, "{rate:?}, expected {expected}");
        assert_eq!(outcome.ranking.len(), rivals);
        assert_eq!(outcome.ranking[rivals - 1].0.name(), contest.0.rivals[0].name());
        // The next one is over before it begins.
        let next = Contest::new(Algorithm::Sha256d, &Setup::detect(), memory, 16).unwrap();
        assert_eq!(next.first().name(), fastest.name());
        assert!(matches!(next.0.turn(), Turn::Won(_)) && next.take_outcome().is_none());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn whoever_cannot_run_wins_nothing() {
        let contest = contest(Algorithm::Sha256d, TuningCache::none(), 1, Duration::from_millis(1));
        let rivals = contest.0.rivals.len();
        while let Turn::Of(turn, rival) = contest.0.turn() {
            match rival {
                0 => contest.0.pass(turn),
                _ => contest.0.record(turn, 1, Duration::from_millis(1)),
            }
        }
        if rivals > 1 {
            let outcome = contest.take_outcome().unwrap();
            assert_eq!(outcome.ranking[rivals - 1].0.name(), contest.0.rivals[0].name());
            assert_eq!(outcome.ranking[rivals - 1].1.hps(), 0.0);
        }
    }

    #[test]
    fn every_nonce_is_tried_once_whoever_has_the_turn() {
        // One of 64 nonces is a share.
        let target = Target::from_le_bytes(std::array::from_fn(|i| if i == 31 { 3 } else { 0xff })).unwrap();
        let job = Arc::new(Job::blob(JobId(1), Algorithm::Sha256d, &[7; 80], None, target).unwrap());
        let (stop, mut space) = (StopFlag::new(), job.space());
        let mut plain = kernels_first().scanner(&Setup::detect()).unwrap();
        plain.load(&job, None).unwrap();
        let contest = contest(Algorithm::Sha256d, TuningCache::none(), 1, Duration::from_millis(2));
        let mut scanner = contest.scanner(&Setup::detect()).unwrap();
        scanner.load(&job, None).unwrap();
        let (mut names, mut start, mut after) = (Vec::new(), 0, 0);
        while after < 3 {
            // Some too many for the room there is.
            let count = if start % 3 == 0 { 40_000 } else { 3_000 };
            space.nonces = NonceRange { start, count };
            let (mut found, mut expected) = (Candidates::with_capacity(500), Candidates::with_capacity(500));
            let scanned = scanner.scan(&space, &stop, &mut found).unwrap();
            assert_eq!(scanned.end, plain.scan(&space, &stop, &mut expected).unwrap().end);
            assert_eq!(found.as_slice(), expected.as_slice(), "from {start}");
            assert!(scanned.tried <= count && scanned.tried > 0);
            assert!(scanned.end == ScanEnd::Full || scanned.tried == count);
            start = (start + scanned.tried) % (1 << 31);
            names.push(scanner.info().kernel);
            after += u32::from(matches!(contest.0.turn(), Turn::Won(_)));
        }
        assert_eq!(scanner.info().kernel, contest.first().name());
        names.dedup();
        assert!(names.len() >= contest.0.rivals.len(), "{names:?}");
        // No range is refused as by anybody.
        space.nonces = NonceRange { start: 0, count: 0 };
        let refused = |scanner: &mut dyn Scanner| {
            scanner.scan(&space, &stop, &mut Candidates::with_capacity(1)).unwrap_err()
        };
        assert_eq!(refused(&mut *scanner).to_string(), refused(&mut *plain).to_string());
    }

    fn kernels_first() -> &'static Kernel {
        usable(Algorithm::Sha256d, &Setup::detect()).next().unwrap()
    }
}
