//! Which kernel is the fastest here: measured once, by itself or while it mines, and remembered for the machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::algorithm::{Algorithm, EpochKind};
use crate::epoch::Epoch;
use crate::files::{cache_folder, write_whole};
use crate::job::{NonceRange, SearchSpace};
use crate::measure;
use crate::scan::{Candidates, Kernel, KernelError, Scanner, Setup, StopFlag, kernels};
use crate::target::HashRate;

pub use contest::{Contest, Outcome};

mod contest;

/// The kernel to use by default on so many threads at once: the one remembered for this machine, else the
/// fastest of a short measurement (some tens of milliseconds; a second or two with a dataset), which is then
/// remembered. A measurement that cannot be remembered is no error: it is made again next time. Where an
/// algorithm has epochs, only one with its full part can be measured with; without it, the kernel guessed to
/// be fastest is the answer.
///
/// # Errors
/// If no kernel of the algorithm runs here, or one that should fails its self-test.
pub fn best(
    algorithm: Algorithm,
    setup: &Setup,
    memory: &TuningCache,
    epoch: Option<&Arc<Epoch>>,
    threads: usize,
) -> Result<&'static Kernel, KernelError> {
    let machine = fingerprint(setup);
    let entry = entry(algorithm, threads);
    if let Some(name) = memory.recall(&machine, &entry)
        && let Ok(kernel) = crate::scan::kernel(algorithm, &name)
        && kernel.obstacle(setup).is_none()
    {
        return Ok(kernel);
    }
    if algorithm.spec().epoch != EpochKind::None && epoch.is_none_or(|epoch| epoch.full().is_none()) {
        return usable(algorithm, setup).next().ok_or(KernelError::None(algorithm));
    }
    let kernel = rank(algorithm, setup, epoch, threads)?.first().ok_or(KernelError::None(algorithm))?.0;
    // Best effort: an unwritable cache only means measuring again.
    let _ = memory.remember(&machine, &entry, kernel.name());
    Ok(kernel)
}

/// Measures the kernels that run here for a few milliseconds in turns, with their rate on all threads
/// together; the fastest comes first. The oracle takes part only where it is alone: it is slower than any
/// other by construction.
///
/// Kernels that work on a dataset are measured on as many threads as will work: machines with scratchpads of
/// 2 MiB each, two to a thread, may be the fastest on one thread and the slowest on sixteen, which share a cache.
/// Others run on one thread, which tells as much.
///
/// # Errors
/// If a kernel's memory cannot be had or its self-test fails.
pub fn rank(
    algorithm: Algorithm,
    setup: &Setup,
    epoch: Option<&Arc<Epoch>>,
    threads: usize,
) -> Result<Vec<(&'static Kernel, HashRate)>, KernelError> {
    let mut rivals: Vec<_> = usable(algorithm, setup).filter(|kernel| !kernel.is_oracle()).collect();
    if rivals.is_empty() {
        rivals.extend(kernels(algorithm).filter(|kernel| kernel.is_oracle()));
    }
    // In turns, so that a noisy moment of the machine meets all of them.
    let (rounds, time, threads) = match epoch {
        Some(_) => (5, Duration::from_millis(60), threads.max(1)),
        None => (2, Duration::from_millis(3), 1),
    };
    let mut rates = vec![Vec::with_capacity(rounds); rivals.len()];
    // One that is alone needs no measuring, only to be tried.
    for _ in 0..if rivals.len() > 1 { rounds } else { 1 } {
        for (kernel, rates) in rivals.iter().zip(&mut rates) {
            rates.push(round(kernel, setup, epoch, threads, time)?);
        }
    }
    let mut ranking: Vec<_> = rivals
        .into_iter()
        .zip(rates)
        .map(|(kernel, mut rates)| {
            rates.sort_by(f64::total_cmp);
            // What slows a kernel down that only computes is noise, and its best round counts. How much others
            // leave of caches and memory will be the same later: the middle counts.
            let at = if epoch.is_some() { rates.len() / 2 } else { rates.len() - 1 };
            (kernel, HashRate::from_hps(rates[at]))
        })
        .collect();
    ranking.sort_by(|a, b| b.1.hps().total_cmp(&a.1.hps()));
    Ok(ranking)
}

/// The hashes a second of a kernel on so many threads at once. Its memory is given back, so that all rivals find
/// the same huge pages free.
fn round(
    kernel: &'static Kernel,
    setup: &Setup,
    epoch: Option<&Arc<Epoch>>,
    threads: usize,
    time: Duration,
) -> Result<f64, KernelError> {
    let trials: Vec<_> = (0..threads).map(|_| Trial::new(kernel, setup, epoch)).collect::<Result<_, _>>()?;
    Ok(thread::scope(|scope| {
        let mut rest = trials.into_iter();
        let own = rest.next();
        let others: Vec<_> = rest.map(|trial| scope.spawn(move || trial.run(time))).collect();
        let own = own.map_or(0.0, |trial| trial.run(time));
        // A scanner that panics is not fast.
        own + others.into_iter().map(|other| other.join().unwrap_or(0.0)).sum::<f64>()
    }))
}

/// The kernels that work under this setup, in the table's order.
fn usable<'a>(algorithm: Algorithm, setup: &'a Setup) -> impl Iterator<Item = &'static Kernel> + use<'a> {
    kernels(algorithm).filter(move |kernel| kernel.obstacle(setup).is_none())
}

/// Where measurements are remembered: a small JSON file, or nowhere.
#[derive(Clone, Debug)]
pub struct TuningCache {
    path: Option<PathBuf>,
}

impl TuningCache {
    /// Remembers nothing.
    pub const fn none() -> TuningCache {
        TuningCache { path: None }
    }

    /// Remembers in this file.
    pub fn at(path: impl Into<PathBuf>) -> TuningCache {
        TuningCache { path: Some(path.into()) }
    }

    /// Remembers in the user's cache folder: `$XDG_CACHE_HOME/otedama/tuning.json`, or the same under
    /// `~/.cache`; nowhere if neither is known.
    pub fn user() -> TuningCache {
        TuningCache { path: cache_folder().map(|folder| folder.join("tuning.json")) }
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn recall(&self, machine: &str, entry: &str) -> Option<String> {
        Some(self.read()?.machines.get(machine)?.get(entry)?.clone())
    }

    fn remember(&self, machine: &str, entry: &str, kernel: &str) -> std::io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        // A file that cannot be read as ours is replaced.
        let mut file = self.read().unwrap_or_default();
        file.machines.entry(machine.to_owned()).or_default().insert(entry.to_owned(), kernel.to_owned());
        let text = serde_json::to_string_pretty(&file)?;
        write_whole(path, text.as_bytes())
    }

    fn read(&self) -> Option<TuningFile> {
        serde_json::from_slice(&fs::read(self.path.as_ref()?).ok()?).ok()
    }
}

/// Machine → algorithm and threads → kernel.
#[derive(Default, Serialize, Deserialize)]
struct TuningFile {
    machines: BTreeMap<String, BTreeMap<String, String>>,
}

/// What decides which kernel is fastest: the version of this library, the CPU, what may be used of it.
fn fingerprint(setup: &Setup) -> String {
    let isas: Vec<_> = setup.cpu.isas().into_iter().map(|isa| isa.name()).collect();
    format!("otedama {} on {} with {}", env!("CARGO_PKG_VERSION"), setup.cpu.brand(), isas.join("+"))
}

/// What an algorithm's kernel is remembered by: threads matter where they share memory.
fn entry(algorithm: Algorithm, threads: usize) -> String {
    match algorithm.spec().epoch {
        EpochKind::None => algorithm.name().to_owned(),
        _ if threads <= 1 => algorithm.name().to_owned(),
        _ => format!("{algorithm} on {threads} threads"),
    }
}

struct Trial {
    scanner: Box<dyn Scanner>,
    space: SearchSpace,
}

impl Trial {
    fn new(kernel: &'static Kernel, setup: &Setup, epoch: Option<&Arc<Epoch>>) -> Result<Trial, KernelError> {
        let mut scanner = kernel.scanner(setup)?;
        // Nobody solves this one, so the scan neither fails nor fills up.
        let job = Arc::new(measure::hopeless_job(kernel.algorithm(), epoch));
        let failed = |error| KernelError::SelfTest {
            kernel: kernel.name(),
            error: crate::selftest::SelfTestError::Scan(error),
        };
        scanner.load(&job, epoch).map_err(failed)?;
        let mut space = job.space();
        space.versions.count = space.versions.count.min(scanner.info().max_versions).min(64);
        space.nonces = NonceRange { start: 0, count: scanner.info().lanes as u64 };
        Ok(Trial { scanner, space })
    }

    /// The hashes a second.
    fn run(mut self, time: Duration) -> f64 {
        let (stop, mut found) = (StopFlag::new(), Candidates::with_capacity(64));
        let begun = Instant::now();
        let mut tried = 0;
        while begun.elapsed() < time {
            if let Ok(scanned) = self.scanner.scan(&self.space, &stop, &mut found) {
                tried += scanned.tried;
            }
            self.space.nonces.start += self.space.nonces.count;
        }
        HashRate::new(tried, begun.elapsed().as_secs_f64()).hps()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Cpu, Isa};

    /// A cache file in a folder of its own, removed in the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let folder = std::env::temp_dir().join(format!("otedama-tune-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Scratch(folder)
        }

        fn cache(&self) -> TuningCache {
            TuningCache::at(self.0.join("deep").join("tuning.json"))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    /// Only the oracles run on this one, so that nothing needs to be measured.
    fn baseline() -> Setup {
        Setup { cpu: Cpu::baseline(), ..Setup::detect() }
    }

    #[test]
    fn what_was_measured_is_recalled_for_its_machine_and_algorithm_only() {
        let scratch = Scratch::new("recall");
        let cache = scratch.cache();
        assert_eq!(cache.recall("here", "sha256d"), None);
        cache.remember("here", "sha256d", "sha256d-avx2").unwrap();
        cache.remember("here", "scrypt", "scrypt-portable").unwrap();
        cache.remember("there", "sha256d", "sha256d-portable").unwrap();
        assert_eq!(cache.recall("here", "sha256d").as_deref(), Some("sha256d-avx2"));
        assert_eq!(cache.recall("here", "scrypt").as_deref(), Some("scrypt-portable"));
        assert_eq!(cache.recall("there", "sha256d").as_deref(), Some("sha256d-portable"));
        assert_eq!(cache.recall("there", "scrypt"), None);
        assert_eq!(TuningCache::none().recall("here", "sha256d"), None);
        // No draft is left beside the file.
        let files: Vec<_> = fs::read_dir(cache.path().unwrap().parent().unwrap()).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");
    }

    #[test]
    fn readers_never_see_half_a_file_while_others_write() {
        let scratch = Scratch::new("atomic");
        let cache = scratch.cache();
        cache.remember("here", "sha256d", "sha256d-portable").unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for machine in 0..50 {
                    cache.remember(&format!("machine {machine}"), "scrypt", "scrypt-portable").unwrap();
                }
            });
            while !writer.is_finished() {
                let recalled = cache.recall("here", "sha256d");
                assert_eq!(recalled.as_deref(), Some("sha256d-portable"));
            }
        });
    }

    #[test]
    fn writers_on_several_threads_do_not_spoil_each_others_drafts() {
        let scratch = Scratch::new("writers");
        let cache = scratch.cache();
        std::thread::scope(|scope| {
            for machine in 0..4 {
                let cache = &cache;
                scope.spawn(move || {
                    for _ in 0..25 {
                        cache.remember(&machine.to_string(), "sha256d", "sha256d-portable").unwrap();
                    }
                });
            }
        });
        // Who writes last may win, but what is there can be read.
        assert!(cache.read().is_some());
    }

    #[test]
    fn a_remembered_kernel_is_used_without_measuring() {
        let scratch = Scratch::new("used");
        let (cache, setup) = (scratch.cache(), Setup::detect());
        // Never the fastest where there is any other, so it can only come from the file.
        cache.remember(&fingerprint(&setup), "sha256d", "sha256d-portable").unwrap();
        assert_eq!(best(Algorithm::Sha256d, &setup, &cache, None, 1).unwrap().name(), "sha256d-portable");
    }

    #[test]
    fn what_shares_memory_is_remembered_by_its_threads() {
        let scratch = Scratch::new("threads");
        let (cache, setup) = (scratch.cache(), Setup::detect());
        let machine = fingerprint(&setup);
        for (threads, kernel) in [(1, "randomx-jit-x2"), (16, "randomx-jit-x1"), (3, "randomx-jit-x4")] {
            cache.remember(&machine, &entry(Algorithm::RandomXV1, threads), kernel).unwrap();
        }
        if kernels(Algorithm::RandomXV1)
            .any(|kernel| !kernel.is_oracle() && kernel.obstacle(&setup).is_none())
        {
            let name = |threads| best(Algorithm::RandomXV1, &setup, &cache, None, threads).unwrap().name();
            assert_eq!([1, 3, 16].map(name), ["randomx-jit-x2", "randomx-jit-x4", "randomx-jit-x1"]);
        }
        assert_eq!(entry(Algorithm::Sha256d, 16), "sha256d");
        assert_eq!(entry(Algorithm::Ethash, 2), "ethash on 2 threads");
    }

    #[test]
    fn what_the_file_says_wrongly_is_ignored_and_replaced() {
        let scratch = Scratch::new("wrong");
        let (cache, setup) = (scratch.cache(), baseline());
        let path = cache.path().unwrap();
        let right = || cache.recall(&fingerprint(&setup), "sha256d");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        for broken in ["", "{", "[]", "{\"machines\": 7}", "\u{0}\u{1}"] {
            fs::write(path, broken).unwrap();
            assert_eq!(best(Algorithm::Sha256d, &setup, &cache, None, 1).unwrap().name(), "sha256d-portable");
            assert_eq!(right().as_deref(), Some("sha256d-portable"), "after {broken:?}");
        }
        // No kernel, another algorithm's kernel, one that this CPU cannot run.
        for name in ["sha256d-abacus", "scrypt-portable", "sha256d-avx2", ""] {
            cache.remember(&fingerprint(&setup), "sha256d", name).unwrap();
            assert_eq!(best(Algorithm::Sha256d, &setup, &cache, None, 1).unwrap().name(), "sha256d-portable");
            assert_eq!(right().as_deref(), Some("sha256d-portable"), "after {name:?}");
        }
    }

    #[test]
    fn a_cache_that_cannot_be_written_only_means_measuring_again() {
        let scratch = Scratch::new("unwritable");
        fs::create_dir_all(&scratch.0).unwrap();
        // A file where a folder should be: not even root can write below it.
        fs::write(scratch.0.join("deep"), "in the way").unwrap();
        let (cache, setup) = (scratch.cache(), baseline());
        assert!(cache.remember("here", "sha256d", "sha256d-portable").is_err());
        assert_eq!(best(Algorithm::Sha256d, &setup, &cache, None, 1).unwrap().name(), "sha256d-portable");
        // A folder where the file should be: the draft is not left behind.
        fs::remove_file(scratch.0.join("deep")).unwrap();
        fs::create_dir_all(cache.path().unwrap()).unwrap();
        assert!(cache.remember("here", "sha256d", "sha256d-portable").is_err());
        assert_eq!(fs::read_dir(scratch.0.join("deep")).unwrap().count(), 1);
    }

    #[test]
    fn taking_an_extension_away_makes_another_machine() {
        let whole = Setup::detect();
        for isa in whole.cpu.isas() {
            let less = Setup { cpu: whole.cpu.without(isa), ..whole.clone() };
            assert_ne!(fingerprint(&less), fingerprint(&whole), "without {isa}");
        }
        let avx2 = Setup { cpu: whole.cpu.only(&[Isa::Avx2]), ..whole.clone() };
        assert_eq!(fingerprint(&avx2).ends_with("with avx2"), whole.cpu.has(Isa::Avx2));
    }

    #[test]
    fn every_kernel_that_runs_here_but_the_oracle_is_ranked_fastest_first() {
        let setup = Setup::detect();
        let ranking = rank(Algorithm::Sha256d, &setup, None, 2).unwrap();
        let fast = |kernel: &&Kernel| kernel.runs_on(&setup.cpu) && !kernel.is_oracle();
        let here = kernels(Algorithm::Sha256d).filter(fast).count();
        assert_eq!(ranking.len(), here.max(1));
        let alone =
            rank(Algorithm::Sha256d, &Setup { cpu: setup.cpu.only(&[]), ..setup.clone() }, None, 1).unwrap();
        assert!(alone.len() == 1 && alone[0].0.is_oracle());
        assert!(ranking.is_sorted_by(|a, b| a.1.hps() >= b.1.hps()), "{ranking:?}");
        // Without an epoch there is nothing to measure with: the table's order decides.
        let guess = best(Algorithm::Ethash, &setup, &TuningCache::none(), None, 1).unwrap();
        assert_eq!(guess.name(), usable(Algorithm::Ethash, &setup).next().unwrap().name());
    }
}
