//! Which kernel is the fastest here: measured once, remembered for the machine.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::job::{NonceRange, SearchSpace};
use crate::measure;
use crate::scan::{Candidates, Kernel, KernelError, Scanner, Setup, StopFlag, kernels};
use crate::target::HashRate;

/// The kernel to use by default: the one remembered for this machine, else the fastest of a short
/// measurement (some tens of milliseconds), which is then remembered. A measurement that cannot be
/// remembered is no error: it is made again next time.
///
/// # Errors
/// If no kernel of the algorithm runs here, or one that should fails its self-test.
pub fn best(
    algorithm: Algorithm,
    setup: &Setup,
    memory: &TuningCache,
) -> Result<&'static Kernel, KernelError> {
    let machine = fingerprint(setup);
    if let Some(name) = memory.recall(&machine, algorithm)
        && let Ok(kernel) = crate::scan::kernel(algorithm, &name)
        && kernel.runs_on(&setup.cpu)
    {
        return Ok(kernel);
    }
    let kernel = rank(algorithm, setup)?.first().ok_or(KernelError::None(algorithm))?.0;
    // Best effort: an unwritable cache only means measuring again.
    let _ = memory.remember(&machine, algorithm, kernel.name());
    Ok(kernel)
}

/// Measures the kernels that run here for a few milliseconds in turns; the fastest comes first. The
/// oracle takes part only where it is alone: it is slower than any other by construction.
///
/// # Errors
/// If a kernel's memory cannot be had or its self-test fails.
pub fn rank(algorithm: Algorithm, setup: &Setup) -> Result<Vec<(&'static Kernel, HashRate)>, KernelError> {
    let mut trials = Vec::new();
    let fast = kernels(algorithm).filter(|kernel| kernel.runs_on(&setup.cpu) && !kernel.is_oracle());
    for kernel in fast {
        trials.push(Trial::new(kernel, setup)?);
    }
    if trials.is_empty() {
        for kernel in kernels(algorithm).filter(|kernel| kernel.is_oracle()) {
            trials.push(Trial::new(kernel, setup)?);
        }
    }
    // In turns, so that a noisy moment of the machine meets all of them; the best round counts,
    // because noise only ever slows down.
    if trials.len() > 1 {
        for _ in 0..2 {
            for trial in &mut trials {
                trial.run(Duration::from_millis(3));
            }
        }
    }
    let mut ranking: Vec<_> = trials.iter().map(|t| (t.kernel, HashRate::from_hps(t.best_hps))).collect();
    ranking.sort_by(|a, b| b.1.hps().total_cmp(&a.1.hps()));
    Ok(ranking)
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
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        TuningCache { path: folder.map(|folder| folder.join("otedama").join("tuning.json")) }
    }

    /// The file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn recall(&self, machine: &str, algorithm: Algorithm) -> Option<String> {
        Some(self.read()?.machines.get(machine)?.get(algorithm.name())?.clone())
    }

    fn remember(&self, machine: &str, algorithm: Algorithm, kernel: &str) -> std::io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        // A file that cannot be read as ours is replaced.
        let mut file = self.read().unwrap_or_default();
        file.machines
            .entry(machine.to_owned())
            .or_default()
            .insert(algorithm.name().to_owned(), kernel.to_owned());
        let text = serde_json::to_string_pretty(&file)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        // Written beside and renamed over, so that a reader never sees half of it.
        let draft = path.with_extension(format!("json.{}", std::process::id()));
        let written = fs::File::create(&draft)
            .and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()))
            .and_then(|()| fs::rename(&draft, path));
        if written.is_err() {
            let _ = fs::remove_file(&draft);
        }
        written
    }

    fn read(&self) -> Option<TuningFile> {
        serde_json::from_slice(&fs::read(self.path.as_ref()?).ok()?).ok()
    }
}

/// Machine → algorithm → kernel.
#[derive(Default, Serialize, Deserialize)]
struct TuningFile {
    machines: BTreeMap<String, BTreeMap<String, String>>,
}

/// What decides which kernel is fastest: the version of this library, the CPU, what may be used of it.
fn fingerprint(setup: &Setup) -> String {
    let isas: Vec<_> = setup.cpu.isas().into_iter().map(|isa| isa.name()).collect();
    format!("otedama {} on {} with {}", env!("CARGO_PKG_VERSION"), setup.cpu.brand(), isas.join("+"))
}

struct Trial {
    kernel: &'static Kernel,
    scanner: Box<dyn Scanner>,
    space: SearchSpace,
    best_hps: f64,
}

impl Trial {
    fn new(kernel: &'static Kernel, setup: &Setup) -> Result<Trial, KernelError> {
        let mut scanner = kernel.scanner(setup)?;
        // Nobody solves this one, so the scan neither fails nor fills up.
        let job = Arc::new(measure::job(kernel.algorithm(), 255, true));
        let failed = |error| KernelError::SelfTest {
            kernel: kernel.name(),
            error: crate::selftest::SelfTestError::Scan(error),
        };
        scanner.load(&job, None).map_err(failed)?;
        let mut space = job.space();
        space.versions.count = space.versions.count.min(scanner.info().max_versions).min(64);
        space.nonces = NonceRange { start: 0, count: scanner.info().lanes as u64 };
        Ok(Trial { kernel, scanner, space, best_hps: 0.0 })
    }

    fn run(&mut self, time: Duration) {
        let (stop, mut found) = (StopFlag::new(), Candidates::with_capacity(64));
        let begun = Instant::now();
        let mut tried = 0;
        while begun.elapsed() < time {
            if let Ok(scanned) = self.scanner.scan(&self.space, &stop, &mut found) {
                tried += scanned.tried;
            }
            self.space.nonces.start += self.space.nonces.count;
        }
        self.best_hps = self.best_hps.max(HashRate::new(tried, begun.elapsed().as_secs_f64()).hps());
    }
}
